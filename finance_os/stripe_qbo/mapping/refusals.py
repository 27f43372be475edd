"""What keeps one object from being booked."""

from finance_os.evidence.extraction import Severity


class NotBooked(Exception):
    """Raised by a rule for one object; the plan goes on without it and says so in a finding.

    `code` is machine-readable, `detail` a sentence without personal data.
    """

    def __init__(self, code: str, detail: str, severity: Severity = Severity.HIGH) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.severity = severity
