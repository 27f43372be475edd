"""What the demo raises when something did not go as it should."""


class DemoFailed(RuntimeError):
    """The demo's job did not end as it should; the text says what did not."""
