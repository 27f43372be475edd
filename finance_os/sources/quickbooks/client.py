"""The guarded QuickBooks client: GET requests with a current access token, paced, metered and tried again."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import httpx
import pyrate_limiter
import stamina

from finance_os.evidence.canonical import Uncanonical, decode
from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import ReadOnlyGuard
from finance_os.sources.quickbooks.addresses import invalid, require_addresses
from finance_os.sources.quickbooks.faults import QuickBooksFailure, Unreadable, failure_of, refuse_fault
from finance_os.sources.quickbooks.oauth import IntuitOAuth, discovery_base, token_origin
from finance_os.sources.quickbooks.objects import (
    API_BASE_OPTION,
    CLIENT_ID,
    CLIENT_SECRET,
    DISCOVERY_URL_OPTION,
    MINOR_VERSION,
    MONTHLY_CALLS_OPTION,
    RATE_LIMIT_OPTION,
    READS,
    REALM_ID,
    REFRESH_TOKEN,
)
from finance_os.sources.quickbooks.tokens import Tokens
from finance_os.sources.transports import GuardedTransport

API_BASE = "https://sandbox-quickbooks.api.intuit.com"
DISCOVERY_URL = "https://developer.api.intuit.com/.well-known/openid_sandbox_configuration"

PAGE_SIZE = 1_000
"""The most that a query gives at a time:
https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api/data-queries"""

CHANGES_SIZE = 1_000
"""The most that change data capture gives at a time, and there is no second page."""

REQUESTS_A_MINUTE = 500
"""For one company, and a fiftieth of it in a second:
https://developer.intuit.com/app/developer/qbo/docs/learn/rest-api-features#limits-and-throttles"""

MONTHLY_CALLS = 400_000
"""Of the 500,000 reads a month that Intuit's lowest tier includes; the rest is left to others who use the app."""

Value = TypeVar("Value")

_pacing = threading.Lock()
_limiters: dict[tuple[str, str, int], pyrate_limiter.Limiter] = {}


@dataclass(frozen=True)
class Patience:
    """How long to wait for QuickBooks, in seconds, and how often to ask again.

    `throttled` is the wait after a 429 that does not say how long (Intuit asks for 60 seconds); `longest_wait` bounds
    what a Retry-After header may ask for, too.
    """

    connect: float = 10.0
    read: float = 60.0
    attempts: int = 7
    first_wait: float = 0.5
    longest_wait: float = 120.0
    throttled: float = 60.0


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """What QuickBooks answered, read, and when it was asked."""

    value: Value
    requested_at: datetime


class QuickBooksReader:
    """Reads one company. Made by `connect`. `page_size` and `changes_size` are the most that an answer holds."""

    def __init__(
        self,
        http: httpx.Client,
        guard: ReadOnlyGuard,
        limiter: pyrate_limiter.Limiter,
        tokens: Tokens,
        realm: str,
        patience: Patience,
        monthly_calls: int,
    ) -> None:
        self.http = http
        self.realm = realm
        self.monthly_calls = monthly_calls
        self.page_size = PAGE_SIZE
        self.changes_size = CHANGES_SIZE
        self._guard = guard
        self._limiter = limiter
        self._tokens = tokens
        self._patience = patience
        self._calls_before = 0

    def sent(self) -> dict[str, int]:
        """How many requests were sent so far, by `"METHOD host"`."""
        return self._guard.sent()

    def meter(self, calls_before: int) -> None:
        """Say how many requests this month had seen for the connection before this client's first one."""
        self._calls_before = calls_before

    def calls(self) -> int:
        """This month's requests so far."""
        return self._calls_before + sum(self.sent().values())

    def get(
        self,
        path: str,
        params: Mapping[str, str],
        what: str,
        now: Callable[[], datetime],
        read: Callable[[dict[str, Any]], Value],
    ) -> Answer[Value]:
        """What `read` makes of the JSON object at `path` below the company; `what` is named in errors.

        An answer that `read` raises `Unreadable` for is asked for again. Raises `SourceError`; whatever may pass was
        tried `Patience.attempts` times before.
        """
        patience = self._patience
        for attempt in stamina.retry_context(
            on=self._wait_before_next,
            attempts=patience.attempts,
            timeout=None,
            wait_initial=patience.first_wait,
            wait_max=patience.longest_wait,
            wait_jitter=patience.first_wait,
        ):
            with attempt:
                body, requested_at = self._ask(path, params, what, now)
                return Answer(read(body), requested_at)
        raise AssertionError("stamina gives up by raising")

    def _ask(
        self, path: str, params: Mapping[str, str], what: str, now: Callable[[], datetime]
    ) -> tuple[dict[str, Any], datetime]:
        self._require_budget()
        token = self._tokens.access()
        response, requested_at = self._send(path, params, what, token, now)
        if response.status_code == 401:
            # Revoked or forgotten before its time. Another process may have a new one already.
            token = self._tokens.access(refused=token)
            response, requested_at = self._send(path, params, what, token, now)
        if response.status_code != 200:
            raise failure_of(what, response.status_code, response.headers, response.content)
        try:
            body = decode(response.content)
        except Uncanonical:
            body = None
        if type(body) is not dict:
            raise Unreadable(what, "the answer is not a JSON object")
        refuse_fault(what, body)
        return body, requested_at

    def _send(
        self, path: str, params: Mapping[str, str], what: str, token: str, now: Callable[[], datetime]
    ) -> tuple[httpx.Response, datetime]:
        self._require_budget()
        self._limiter.try_acquire("quickbooks")
        requested_at = now()
        try:
            response = self.http.get(
                f"/v3/company/{self.realm}/{path}",
                params={**params, "minorversion": MINOR_VERSION},
                headers={"authorization": f"Bearer {token}", "accept": "application/json"},
            )
            return response, requested_at
        except httpx.TimeoutException:
            failure = QuickBooksFailure("timeout", f"{what}: no answer in time")
        except (httpx.RemoteProtocolError, httpx.DecodingError):
            failure = Unreadable(what, "the connection ended before the answer did")
        except httpx.HTTPError:
            failure = QuickBooksFailure("unreachable", f"{what}: there was no connection to QuickBooks")
        # Raised out here: the exceptions of httpx hold the request, and with it the token.
        raise failure from None

    def _require_budget(self) -> None:
        if self.calls() >= self.monthly_calls:
            raise SourceError(
                "call_budget_exhausted",
                f"{self.calls():,} requests were sent this month, and {MONTHLY_CALLS_OPTION} allows "
                f"{self.monthly_calls:,}: raise it, or wait for the next month (UTC)",
                permanent=True,
            )

    def _wait_before_next(self, error: Exception) -> bool | float:
        if not isinstance(error, QuickBooksFailure) or error.permanent:
            return False
        if error.retry_after is not None:
            return min(error.retry_after, self._patience.longest_wait)
        return self._patience.throttled if error.code == "rate_limited" else True


@contextmanager
def connect(credentials: Credentials, patience: Patience | None = None) -> Iterator[QuickBooksReader]:
    """A reader of the company that the credentials belong to; closed at the end of the block. Sends nothing yet.

    Raises `SourceError`, code `invalid_setting`, for a URL, a realm or a number that is none.
    """
    patience = patience or Patience()
    base = (credentials.get(API_BASE_OPTION) or API_BASE).rstrip("/")
    discovery_url = credentials.get(DISCOVERY_URL_OPTION) or DISCOVERY_URL
    realm = credentials[REALM_ID]
    require_addresses(base, discovery_url)
    if not re.fullmatch(r"[0-9]{1,20}", realm):
        raise invalid(REALM_ID, "is the company's ID, a number")
    a_minute = _whole(credentials, RATE_LIMIT_OPTION, REQUESTS_A_MINUTE)
    monthly_calls = _whole(credentials, MONTHLY_CALLS_OPTION, MONTHLY_CALLS)
    guard = ReadOnlyGuard(
        READS, {"api": base, "discovery": discovery_base(discovery_url), "oauth": token_origin(discovery_url)}
    )
    oauth = IntuitOAuth(
        credentials[CLIENT_ID],
        credentials[CLIENT_SECRET],
        discovery_url,
        guard,
        (patience.connect, patience.read),
    )
    tokens = Tokens(credentials.kept, credentials[REFRESH_TOKEN], oauth.renew)
    with httpx.Client(
        base_url=base,
        transport=GuardedTransport(guard),
        timeout=httpx.Timeout(patience.read, connect=patience.connect),
        trust_env=False,
    ) as http:
        yield QuickBooksReader(http, guard, _limiter(base, realm, a_minute), tokens, realm, patience, monthly_calls)


def _limiter(base: str, realm: str, a_minute: int) -> pyrate_limiter.Limiter:
    """The one limiter of this process for a company: one object is read after the other, each by a new client."""
    with _pacing:
        found = _limiters.get((base, realm, a_minute))
        if found is None:
            rates = [
                pyrate_limiter.Rate(max(1, a_minute // 50), pyrate_limiter.Duration.SECOND),
                pyrate_limiter.Rate(a_minute, pyrate_limiter.Duration.MINUTE),
            ]
            found = _limiters[base, realm, a_minute] = pyrate_limiter.Limiter(rates, buffer_ms=5)
        return found


def _whole(credentials: Credentials, option: str, default: int) -> int:
    setting = credentials.get(option)
    if setting is None:
        return default
    if not re.fullmatch(r"[1-9][0-9]{0,8}", setting):
        raise invalid(option, "is a whole number above zero")
    return int(setting)
