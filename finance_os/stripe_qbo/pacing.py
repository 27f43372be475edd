"""The pace of writing: requests, and batches among them, within what QuickBooks lets one app do to one company."""

import threading
from dataclasses import dataclass

import pyrate_limiter

from finance_os.sources.quickbooks.client import REQUESTS_A_MINUTE

BATCHES_A_MINUTE = 40
"""For one company and app, beside the limit of requests, in which each batch counts as one:
https://developer.intuit.com/app/developer/qbo/docs/learn/limits-and-throttles"""

_making = threading.Lock()
_paces: dict[tuple[str, str, int], "Pace"] = {}


@dataclass(frozen=True)
class Pace:
    """What keeps requests, and batches among them, within QuickBooks' limits."""

    requests: pyrate_limiter.Limiter
    batches: pyrate_limiter.Limiter


def pace_of(base: str, realm: str, a_minute: int) -> Pace:
    """The one pace of this process for a company: 500 requests a minute and 10 a second, 40 of a minute's requests
    batches, unless set otherwise.

    What is counted here is when a request leaves, and there, when it arrives. So that one which was long on its way
    and the next, which was not, do not come too soon after one another, a minute is taken a little longer, and a
    second as much as costs nothing: a minute's limit is what holds.
    """
    with _making:
        found = _paces.get((base, realm, a_minute))
        if found is None:
            second, minute = 1_150, 61_000
            rates = [pyrate_limiter.Rate(max(1, a_minute // 50), second), pyrate_limiter.Rate(a_minute, minute)]
            batches = [pyrate_limiter.Rate(max(1, a_minute * BATCHES_A_MINUTE // REQUESTS_A_MINUTE), minute)]
            found = _paces[base, realm, a_minute] = Pace(
                pyrate_limiter.Limiter(rates, buffer_ms=5), pyrate_limiter.Limiter(batches, buffer_ms=5)
            )
        return found
