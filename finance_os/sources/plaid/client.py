"""The guarded Plaid client: reads through Plaid's own library, paced, tried again, and parsed exactly.

The library's models cost milliseconds for each transaction and turn amounts into floats, so answers are taken raw.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import plaid
import pyrate_limiter
import stamina
import urllib3
from plaid.api.plaid_api import PlaidApi

from finance_os.evidence.canonical import Uncanonical, decode
from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import KeptSecrets
from finance_os.sources.guard import ReadOnlyGuard
from finance_os.sources.plaid.failures import PlaidFailure, Unreadable, failure_of
from finance_os.sources.plaid.objects import READS
from finance_os.sources.plaid.policy import Approved, nothing_approved, require_allowed
from finance_os.sources.plaid.settings import PlaidSettings
from finance_os.sources.plaid.tokens import access_token
from finance_os.sources.plaid.transport import GuardedPools

PAGE_SIZE = 500
"""The most transactions that an answer holds: https://plaid.com/docs/api/products/transactions/#transactionsget"""

Value = TypeVar("Value")

_pacing = threading.Lock()
_limiters: dict[tuple[str, str, int], pyrate_limiter.Limiter] = {}


@dataclass(frozen=True)
class Patience:
    """How long to wait for Plaid, in seconds, and how often to ask again.

    `throttled` is the wait after a refusal for want of rate, whose limits are by the minute; `not_ready` the wait while
    Plaid still fetches from the bank. `longest_wait` bounds what a Retry-After header may ask for, too.
    """

    connect: float = 10.0
    read: float = 60.0
    attempts: int = 7
    first_wait: float = 0.5
    longest_wait: float = 120.0
    throttled: float = 30.0
    not_ready: float = 15.0


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """What Plaid answered, read, and when it was asked."""

    value: Value
    requested_at: datetime


class PlaidReader:
    """Reads one item. Made by `connect`. `page_size` (two or more) is how many transactions are asked for at a time."""

    def __init__(
        self,
        api: PlaidApi,
        guard: ReadOnlyGuard,
        limiter: pyrate_limiter.Limiter,
        access_token: str,
        patience: Patience,
    ) -> None:
        self.api = api
        self.access_token = access_token
        self.page_size = PAGE_SIZE
        self._guard = guard
        self._limiter = limiter
        self._patience = patience

    def sent(self) -> dict[str, int]:
        """How many requests were sent so far, by `"METHOD host"`."""
        return self._guard.sent()

    def ask(
        self,
        call: Callable[..., Any],
        request: Any,
        what: str,
        now: Callable[[], datetime],
        read: Callable[[dict[str, Any]], Value],
    ) -> Answer[Value]:
        """What `read` makes of the JSON object that `call`, a method of `api`, gets for `request`.

        `what` is named in errors. An answer that `read` raises a `PlaidFailure` for is asked for again, unless that is
        permanent. Raises `SourceError`; whatever may pass was tried `Patience.attempts` times before.
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
                self._limiter.try_acquire("plaid")
                requested_at = now()
                content = self._send(call, request, what)
                try:
                    body = decode(content)
                except Uncanonical:
                    body = None
                if type(body) is not dict:
                    raise Unreadable(what, "the answer is not a JSON object")
                return Answer(read(body), requested_at)
        raise AssertionError("stamina gives up by raising")

    def _send(self, call: Callable[..., Any], request: Any, what: str) -> bytes:
        timeout = self._patience.connect, self._patience.read
        failure: SourceError
        try:
            response = call(request, _preload_content=False, _request_timeout=timeout)
            try:
                return response.data
            finally:
                response.close()
        except plaid.ApiException as error:
            failure = failure_of(what, error.status or 0, error.headers or {}, error.body or "")
        except UnicodeDecodeError:
            failure = Unreadable(what, "the answer is not text")
        except urllib3.exceptions.NewConnectionError:
            failure = PlaidFailure("unreachable", f"{what}: there was no connection to Plaid")
        except urllib3.exceptions.TimeoutError:
            failure = PlaidFailure("timeout", f"{what}: no answer in time")
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError):
            failure = Unreadable(what, "the connection ended before the answer did")
        except urllib3.exceptions.HTTPError:
            failure = PlaidFailure("unreachable", f"{what}: there was no connection to Plaid")
        # Raised out here, so that the library's exception, which holds Plaid's whole answer, does not travel along.
        raise failure from None

    def _wait_before_next(self, error: Exception) -> bool | float:
        if not isinstance(error, PlaidFailure) or error.permanent:
            return False
        if error.retry_after is not None:
            return min(error.retry_after, self._patience.longest_wait)
        waits = {"rate_limited": self._patience.throttled, "not_ready": self._patience.not_ready}
        return waits.get(error.code, True)


@contextmanager
def connect(
    settings: PlaidSettings,
    kept: KeptSecrets,
    patience: Patience | None = None,
    approved: Approved = nothing_approved,
) -> Iterator[PlaidReader]:
    """A reader of the item that the access token belongs to; closed at the end of the block. Sends nothing yet.

    Raises `SourceError` where the token cannot be kept, or leads to real accounts that `approved` does not cover.
    """
    token = access_token(kept, settings.given_token)
    require_allowed(settings.api_base, token, approved)
    guard = ReadOnlyGuard(READS, settings.api_base)
    pools = GuardedPools(guard)
    keys = {"clientId": settings.client_id, "secret": settings.secret}
    client = plaid.ApiClient(plaid.Configuration(host=settings.api_base, api_key=keys))
    client.rest_client.pool_manager = pools
    try:
        limiter = _limiter(settings.api_base, token, settings.requests_a_minute)
        yield PlaidReader(PlaidApi(client), guard, limiter, token, patience or Patience())
    finally:
        pools.clear()
        client.close()


def _limiter(base: str, token: str, a_minute: int) -> pyrate_limiter.Limiter:
    """The one limiter of this process for an item: one object is read after the other, each by a new client."""
    key = base, hashlib.sha256(token.encode()).hexdigest(), a_minute
    with _pacing:
        found = _limiters.get(key)
        if found is None:
            rate = pyrate_limiter.Rate(a_minute, pyrate_limiter.Duration.MINUTE)
            found = _limiters[key] = pyrate_limiter.Limiter(rate, buffer_ms=5)
        return found
