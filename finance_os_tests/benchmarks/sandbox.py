"""The sandbox's speed: how fast it answers pages of Stripe's lists, so that it is not what other figures measure."""

import httpx

from finance_os.sandbox.process import running_sandbox
from finance_os_tests.benchmarks.figures import Figure, seconds, side_by_side

PATHS = ("/v1/charges", "/v1/balance_transactions")
PAGE = 100
PAGES = 20


def pages_of_a_hundred(rounds: int) -> list[Figure]:
    """Objects a second of each list, one request at a time on one connection."""
    with running_sandbox(days=60, size=20) as sandbox:
        api, key = sandbox.env["FINANCE_OS_STRIPE_API_BASE"], sandbox.env["FINANCE_OS_STRIPE_API_KEY"]
        with httpx.Client(base_url=api, headers={"authorization": f"Bearer {key}"}, trust_env=False) as client:

            def read(path: str) -> float:
                return seconds(lambda: [_page(client, path) for _ in range(PAGES)])

            for path in PATHS:
                _page(client, path)
            taken = side_by_side(rounds, *(lambda path=path: read(path) for path in PATHS))
    return [
        Figure(f"the sandbox's pages of {PAGE}, {path}", PAGE * PAGES / each, "objects/s", at_least=20_000)
        for path, each in zip(PATHS, taken, strict=True)
    ]


def _page(client: httpx.Client, path: str) -> None:
    answer = client.get(path, params={"limit": PAGE}).raise_for_status()
    assert len(answer.json()["data"]) == PAGE
