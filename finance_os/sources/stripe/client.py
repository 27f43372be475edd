"""The guarded Stripe client: GET requests through the real SDK, paced, tried again, and proven page by page.

The SDK signs and sends; payloads are taken from its raw body, so that numbers stay exact. Errors carry the path, the
status, Stripe's error code and its request ID, and nothing else of what Stripe wrote.
"""

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyrate_limiter
import requests
import stamina
import stripe
import urllib3.exceptions

from finance_os.evidence.canonical import decode
from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import ReadOnlyGuard
from finance_os.sources.stripe.objects import API_BASE_OPTION, API_KEY, API_VERSION, RATE_LIMIT_OPTION, READS
from finance_os.sources.transports import GuardedAdapter

API_BASE = "https://api.stripe.com"

PAGE_SIZE = 100
"""The most that Stripe puts on a page: https://docs.stripe.com/api/pagination"""

DEFAULT_RATE_LIMIT = 20
"""Requests a second. Stripe allows 25 on one endpoint, and 25 in all in a sandbox (100 live); the rest is left to
others who use the account: https://docs.stripe.com/rate-limits"""

_READABLE_KEY = re.compile(r"(rk_(test|live)|sk_test)_\w+", re.ASCII)
_CODE = re.compile(r"[a-z0-9_]{1,64}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MORE = re.compile(r'"has_more"\s*:\s*true')
_REMEMBERED_IDS = 10_000

# The SDK logs what Stripe writes in error messages (INFO) and whole bodies (DEBUG); both may hold personal data.
logging.getLogger("stripe").addFilter(lambda record: record.levelno >= logging.WARNING)


@dataclass(frozen=True)
class Patience:
    """How long to wait for Stripe, in seconds, and how often to ask again.

    `longest_wait` bounds what a Retry-After header may ask for, too.
    """

    connect: float = 10.0
    read: float = 60.0
    attempts: int = 7
    first_wait: float = 0.5
    longest_wait: float = 60.0


class StripeFailure(SourceError):
    """What Stripe, or the way to it, answered instead of data.

    Codes: `rate_limited`, `vendor_error`, `timeout`, `unreachable`, `unreadable_answer`, and permanent ones:
    `unauthorized`, `forbidden`, `invalid_request`, `missing` (there is no such object).
    """

    def __init__(self, code: str, message: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(code, message, permanent=permanent)
        self.retry_after = retry_after


class Unreadable(StripeFailure):
    """An answer that is not what was asked for: cut off, repeated, or of another shape."""

    def __init__(self, path: str, fault: str) -> None:
        super().__init__("unreadable_answer", f"GET {path}: {fault}")


@dataclass(frozen=True)
class Answer:
    """One JSON object from Stripe; `unfinished` says that a list nested in it has more than it shows."""

    body: dict[str, Any]
    requested_at: datetime
    unfinished: bool


@dataclass(frozen=True)
class Listing:
    """A page of a list, newest first; `unfinished` says that a list nested in an item has more than it shows."""

    items: list[dict[str, Any]]
    requested_at: datetime
    unfinished: bool


class StripeReader:
    """Reads one Stripe account. Made by `connect`."""

    def __init__(
        self, client: stripe.StripeClient, guard: ReadOnlyGuard, limiter: pyrate_limiter.Limiter, patience: Patience
    ) -> None:
        self.client = client
        self._guard = guard
        self._limiter = limiter
        self._patience = patience

    def sent(self) -> dict[str, int]:
        """How many requests were sent so far, by `"METHOD host"`."""
        return self._guard.sent()

    def get(
        self,
        path: str,
        params: Mapping[str, Any],
        now: Callable[[], datetime],
        prove: Callable[[dict[str, Any]], None] | None = None,
    ) -> Answer:
        """The JSON object at `path`. An answer that `prove` raises `Unreadable` for is asked for again.

        Raises `SourceError`; whatever may pass was tried `Patience.attempts` times before.
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
                answer = self._ask(path, params, now)
                if prove is not None:
                    prove(answer.body)
                return answer
        raise AssertionError("stamina gives up by raising")

    def pages(
        self,
        path: str,
        params: Mapping[str, Any],
        now: Callable[[], datetime],
        *,
        kind: str | None = None,
        after: str | None = None,
        second: int | None = None,
        known: tuple[str, ...] = (),
    ) -> Iterator[Listing]:
        """All pages of a list, from its newest object or from that after the ID `after`.

        Each page proves itself: it is a list of `kind`, whose IDs have not been there before, whose creation times
        lie in `params["created"]` and do not jump back to newer ones. `known` are IDs that may not come again.
        Where the object `after` has been deleted meanwhile, Stripe no longer knows the place; the list is then
        taken up at `second`, when it was created. https://docs.stripe.com/api/pagination
        """
        proof = _Proof(path, kind, params.get("created"), known if after is None else (*known, after))
        asked = {**params, "limit": PAGE_SIZE}
        while True:
            cursor = {} if after is None else {"starting_after": after}
            try:
                answer = self.get(path, asked | cursor, now, proof)
            except StripeFailure as failure:
                if failure.code != "missing" or after is None or second is None:
                    raise
                after = None
                asked["created"] = {**asked.get("created", {}), "lt": second + 1}
                proof.skip_known = True
                continue
            items, more = answer.body["data"], answer.body["has_more"]
            fresh = [item for item in items if item["id"] not in proof.known] if proof.skip_known else items
            proof.accept(fresh)
            if fresh:
                yield Listing(fresh, answer.requested_at, answer.unfinished)
            if not more:
                return
            if items[-1]["id"] == after:
                raise Unreadable(path, "the list does not go on behind its last object")
            after = items[-1]["id"]
            second = items[-1].get("created")

    def complete(self, payload: Any, now: Callable[[], datetime]) -> int:
        """Fetch what lists nested in `payload` leave out, and put it into them; how many items that were.

        Such a list is `{"object": "list", "has_more": true, "url": …}`, wherever it stands.
        """
        fetched = 0
        waiting = [payload]
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting.extend(value)
            elif isinstance(value, dict):
                if value.get("object") == "list" and value.get("has_more") is True:
                    fetched += self._complete_list(value, now)
                waiting.extend(value.values())
        return fetched

    def _complete_list(self, nested: dict[str, Any], now: Callable[[], datetime]) -> int:
        url, items = nested.get("url"), nested.get("data")
        if type(url) is not str or not url.startswith("/v1/") or type(items) is not list:
            raise Unreadable("of a nested list", "it has no items, or goes on at a place outside the API")
        before = len(items)
        known = tuple(item["id"] for item in items)
        for page in self.pages(url, {}, now, after=known[-1] if known else None, known=known):
            items.extend(page.items)
        nested["has_more"] = False
        return len(items) - before

    def _ask(self, path: str, params: Mapping[str, Any], now: Callable[[], datetime]) -> Answer:
        self._limiter.try_acquire("stripe")
        requested_at = now()
        try:
            response = self.client.raw_request("get", path, **params)
            body = decode(response.body)
        except stripe.StripeError as error:
            failure = _failure(error, path)
        except (ValueError, RecursionError, TypeError, AttributeError, LookupError):
            # The SDK stumbles over errors that are not in Stripe's form.
            failure = Unreadable(path, "the answer is not JSON in Stripe's form")
        else:
            if type(body) is dict:
                shown = len(_MORE.findall(response.body))
                return Answer(body, requested_at, shown > (body.get("has_more") is True))
            failure = Unreadable(path, "the answer is not a JSON object")
        # Raised out here so that the SDK's exception, which holds what Stripe wrote, does not travel along.
        raise failure from None

    def _wait_before_next(self, error: Exception) -> bool | float:
        if not isinstance(error, StripeFailure) or error.permanent:
            return False
        if error.retry_after is None:
            return True
        return min(error.retry_after, self._patience.longest_wait)


@contextmanager
def connect(credentials: Credentials, patience: Patience | None = None) -> Iterator[StripeReader]:
    """A reader of the account that the key belongs to; closed at the end of the block.

    Raises `SourceError`, code `key_refused`, unless the key is a restricted one (`rk_…`) or a test one
    (`sk_test_…`), and `invalid_setting` for a rate limit that is not a whole number above zero, or a base URL
    that is none. https://docs.stripe.com/keys#limit-access
    """
    patience = patience or Patience()
    key = credentials[API_KEY]
    base = (credentials.get(API_BASE_OPTION) or API_BASE).rstrip("/")
    _require_read_key(key)
    if not re.fullmatch(r"https?://[^\s/?#@]+", base):
        raise SourceError("invalid_setting", f"{API_BASE_OPTION} is not a URL of scheme and host", permanent=True)
    if key.startswith("rk_live_") and not base.startswith("https://"):
        raise SourceError("invalid_setting", f"{API_BASE_OPTION} must be https for a live key", permanent=True)
    rate = pyrate_limiter.Rate(_rate_limit(credentials.get(RATE_LIMIT_OPTION)), pyrate_limiter.Duration.SECOND)
    guard = ReadOnlyGuard(READS, base)
    stripe.enable_telemetry = False
    with requests.Session() as session, pyrate_limiter.Limiter(rate, buffer_ms=5) as limiter:
        session.auth = _keep_authorization
        session.mount("https://", GuardedAdapter(guard))
        session.mount("http://", GuardedAdapter(guard))
        client = stripe.StripeClient(
            key,
            stripe_version=API_VERSION,
            base_addresses={"api": base, "files": base, "connect": base, "meter_events": base},
            http_client=stripe.RequestsClient(timeout=(patience.connect, patience.read), session=session),
            # Asked again above, where 429 counts and each attempt is paced; the SDK leaves 429 out.
            max_network_retries=0,
        )
        yield StripeReader(client, guard, limiter, patience)


class _Proof:
    """What the pages of one list must keep to; called with each page, before it is accepted."""

    def __init__(self, path: str, kind: str | None, created: Mapping[str, int] | None, known: tuple[str, ...]) -> None:
        self.known = set(known)
        self.skip_known = False
        self._path = path
        self._kind = kind
        self._from = (created or {}).get("gte", 0)
        self._to = (created or {}).get("lt")
        self._order: deque[str] = deque(known)
        self._newest: int | None = None

    def __call__(self, body: dict[str, Any]) -> None:
        items, more = body.get("data"), body.get("has_more")
        if body.get("object") != "list" or type(items) is not list or type(more) is not bool:
            raise Unreadable(self._path, "the answer is not a list")
        if not items:
            if more:
                raise Unreadable(self._path, "the page is empty, yet there are said to be more")
            return
        try:
            ids = {item["id"] for item in items}
            kinds = {item["object"] for item in items}
            times = [item["created"] for item in items] if self._kind else []
        except (KeyError, TypeError):
            raise Unreadable(self._path, "an item lacks its ID, kind or creation time") from None
        if set(map(type, ids)) != {str} or set(map(type, times)) - {int}:
            raise Unreadable(self._path, "an ID is not text or a creation time is not a number")
        if self._kind and kinds != {self._kind}:
            raise Unreadable(self._path, f"an item is not of kind {self._kind}")
        if len(ids) != len(items):
            raise Unreadable(self._path, "the page holds an object twice")
        if not self.skip_known and not ids.isdisjoint(self.known):
            raise Unreadable(self._path, "the page repeats objects of an earlier page")
        if times:
            if min(times) < self._from or (self._to is not None and max(times) >= self._to):
                raise Unreadable(self._path, "an item was created outside the window that was asked for")
            if self._newest is not None and min(times) > self._newest:
                raise Unreadable(self._path, "the page jumps back to newer objects")

    def accept(self, items: list[dict[str, Any]]) -> None:
        """Remember a proven page."""
        for item in items:
            self._order.append(item["id"])
            self.known.add(item["id"])
        while len(self._order) > _REMEMBERED_IDS:
            self.known.discard(self._order.popleft())
        if items:
            self.skip_known = False
            if self._kind:
                self._newest = max(item["created"] for item in items)


def _keep_authorization(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """The SDK has set the header; without this, `requests` would replace it by an entry of ~/.netrc."""
    return request


def _require_read_key(key: str) -> None:
    if key.startswith("sk_live_"):
        fault = (
            f"{API_KEY} holds a live secret key, which can write: make a restricted key with read permissions only "
            "(Stripe Dashboard, Developers, API keys) and set that"
        )
    elif not _READABLE_KEY.fullmatch(key):
        fault = f"{API_KEY} holds no restricted key: it begins with rk_live_ or rk_test_ (or is a test key, sk_test_)"
    else:
        return
    raise SourceError("key_refused", fault, permanent=True)


def _rate_limit(setting: str | None) -> int:
    if setting is None:
        return DEFAULT_RATE_LIMIT
    if not re.fullmatch(r"[1-9][0-9]{0,5}", setting):
        raise SourceError(
            "invalid_setting", f"{RATE_LIMIT_OPTION} is a whole number of requests a second, above zero", permanent=True
        )
    return int(setting)


def _failure(error: stripe.StripeError, path: str) -> SourceError:
    """What an error of the SDK means. https://docs.stripe.com/error-low-level"""
    if isinstance(error, stripe.APIConnectionError):
        return _connection_failure(error.__cause__, path)
    status, headers = error.http_status or 0, error.headers or {}
    code = error.json_body.get("error", {}).get("code") if isinstance(error.json_body, dict) else None
    parts = [f"GET {path}: Stripe answered {status}"]
    if isinstance(code, str) and _CODE.fullmatch(code):
        parts.append(f"code {code}")
    if error.request_id and _REQUEST_ID.fullmatch(error.request_id):
        parts.append(f"request {error.request_id}")
    text = ", ".join(parts)
    if status == 429 or code == "rate_limit":
        return StripeFailure("rate_limited", text, retry_after=_seconds(headers.get("Retry-After")))
    if status == 409 or status >= 500:
        return StripeFailure("vendor_error", text, retry_after=_seconds(headers.get("Retry-After")))
    if 200 <= status < 300:
        return Unreadable(path, "the answer is not JSON")
    if status == 401:
        return StripeFailure("unauthorized", f"{text}: the key is wrong, expired or revoked", permanent=True)
    if status == 403:
        return StripeFailure("forbidden", f"{text}: the key lacks the permission to read it", permanent=True)
    if code == "resource_missing":
        return StripeFailure("missing", text, permanent=True)
    return StripeFailure("invalid_request", text, permanent=True)


def _connection_failure(cause: BaseException | None, path: str) -> SourceError:
    if isinstance(cause, SourceError):
        return cause
    reason = cause.args[0] if isinstance(cause, requests.ConnectionError) and cause.args else None
    if isinstance(cause, requests.Timeout) or isinstance(reason, urllib3.exceptions.ReadTimeoutError):
        return StripeFailure("timeout", f"GET {path}: no answer in time")
    if isinstance(cause, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return Unreadable(path, "the answer was cut off")
    return StripeFailure("unreachable", f"GET {path}: there was no connection to Stripe")


def _seconds(header: str | None) -> float | None:
    """A Retry-After header, which Stripe gives in whole seconds."""
    return float(header) if header is not None and re.fullmatch(r"[0-9]{1,6}", header) else None
