"""The client that writes to one QuickBooks company: with credentials, a guard and counters of its own.

Apart from the reading side, whose client can send no write: this one has another app's client ID and secret and that
app's refresh token, and can send only the writes that `lookup.ENTITIES` declares, to one realm, each with a
`requestid`, and the queries that look them up. Both apps need the scope `com.intuit.quickbooks.accounting`, the only
one that Intuit has for the books:
https://developer.intuit.com/app/developer/qbo/docs/learn/scopes
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import httpx
import pyrate_limiter
import stamina

from finance_os.evidence.canonical import Uncanonical, canonical_json, decode
from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials, KeptSecret, KeptSecrets
from finance_os.sources.guard import Get, Post, ReadOnlyGuard
from finance_os.sources.quickbooks.client import API_BASE, DISCOVERY_URL, REQUESTS_A_MINUTE, Patience
from finance_os.sources.quickbooks.faults import QuickBooksFailure, Unreadable, failure_of
from finance_os.sources.quickbooks.oauth import IntuitOAuth, discovery_base, token_origin
from finance_os.sources.quickbooks.objects import (
    API_BASE_OPTION,
    DISCOVERY_URL_OPTION,
    MINOR_VERSION,
    RATE_LIMIT_OPTION,
)
from finance_os.sources.quickbooks.tokens import Granted, Tokens
from finance_os.stripe_qbo.guard import BATCH, VOID_PARAMETERS, GuardedTransport, WriteGuard
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.lookup import Entity

CLIENT_ID = "FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_ID"
CLIENT_SECRET = "FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_SECRET"  # noqa: S105  the name of one
REFRESH_TOKEN = "FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN"  # noqa: S105  the name of one
NEEDED = (CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN)
OPTIONS = (API_BASE_OPTION, DISCOVERY_URL_OPTION, RATE_LIMIT_OPTION)

PAGE_SIZE = 1_000
"""The most that a query gives at a time:
https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api/data-queries"""

BATCHES_A_MINUTE = 40
"""For one company and app, beside the limit of requests, in which each batch counts as one:
https://developer.intuit.com/app/developer/qbo/docs/learn/limits-and-throttles"""

LONGEST_REQUEST = 120.0
"""Seconds after which Intuit ends whatever request is not done (the same page)."""

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_pacing = threading.Lock()
_paces: dict[tuple[str, str, int], "Pace"] = {}


class NotSent(QuickBooksFailure):
    """There was no connection: nothing can have been written."""


class UnknownAnswer(QuickBooksFailure):
    """A write was sent, and whether it was done is not known: look before it is sent again."""


class Refused(QuickBooksFailure):
    """QuickBooks did not do it. `fault` is its own code, such as 5010 or 6140; `intuit_tid` its ID of the exchange."""

    def __init__(self, message: str, fault: str, intuit_tid: str) -> None:
        super().__init__("refused", message, permanent=True)
        self.fault, self.intuit_tid = fault, intuit_tid


@dataclass(frozen=True)
class Written:
    """The object that a write answered with, and Intuit's ID of the exchange."""

    held: Mapping[str, Any]
    intuit_tid: str


@dataclass(frozen=True)
class _Apart:
    """Kept secrets of the connection beside those of its reading side."""

    kept: KeptSecrets

    def read(self, name: str) -> str | None:
        return self.kept.read(f"write_{name}")

    def exclusive(self, name: str) -> AbstractContextManager[KeptSecret]:
        return self.kept.exclusive(f"write_{name}")


@dataclass(frozen=True)
class Pace:
    """What keeps requests, and batches among them, within QuickBooks' limits."""

    requests: pyrate_limiter.Limiter
    batches: pyrate_limiter.Limiter


class QuickBooksWriter:
    """Writes to the company `realm`. Made by `connect`; several threads may use it at once.

    `longest_request` is how many seconds after it was sent a request may still be carried out.
    """

    def __init__(
        self,
        http: httpx.Client,
        guard: WriteGuard,
        pace: Pace,
        tokens: Tokens,
        realm: str,
        patience: Patience,
    ) -> None:
        self.http = http
        self.realm = realm
        self.patience = patience
        self._guard = guard
        self.longest_request = LONGEST_REQUEST
        self._pace = pace
        self._tokens = tokens
        self._renewing = threading.Lock()

    def sent(self) -> dict[str, int]:
        """How many requests were sent so far, by `"METHOD entity"`; apart from what the source connectors count."""
        return self._guard.sent()

    def write(self, entity: Entity, operation: Operation, body: Mapping[str, Any], requestid: str) -> Written:
        """Send one write, once as far as anyone can know: only what was certainly not done is sent again.

        Waits as told after a 429. Raises `Refused`, `UnknownAnswer`, `NotSent`, or another `QuickBooksFailure` that
        says why nothing was written (`rate_limited`, `unauthorized`, `authorization_expired`, `forbidden`).
        """
        what = f"{operation.value} of {entity.name}"
        params = {"requestid": requestid, **(VOID_PARAMETERS[entity.name] if operation is Operation.VOID else {})}
        content = canonical_json(body)
        for attempt in self._attempts(_wait_if_not_done):
            with attempt:
                response = self._send("POST", entity.path, params, content, what)
                return self._written(entity, response, what)
        raise AssertionError("stamina gives up by raising")

    def create_together(
        self, objects: Sequence[tuple[Entity, Mapping[str, Any]]], requestid: str
    ) -> list[Written | Refused | UnknownAnswer]:
        """Send up to 30 creates as one batch; what became of each, in the same order.

        None may refer to another one: QuickBooks shows them nothing of one another. `requestid` has at most 36
        characters. Raises as `write` does where that is so of all of them.
        https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/batch
        """
        what = f"batch of {len(objects)}"
        items = [
            {"bId": str(place), "operation": "create", entity.name: body}
            for place, (entity, body) in enumerate(objects)
        ]
        content = canonical_json({"BatchItemRequest": items})
        for attempt in self._attempts(_wait_if_not_done):
            with attempt:
                response = self._send("POST", BATCH, {"requestid": requestid}, content, what)
                answers = self._answers(response, what)
                return [
                    self._answer(f"create of {entity.name}", entity, answers.get(str(place)), _tid(response))
                    for place, (entity, _) in enumerate(objects)
                ]
        raise AssertionError("stamina gives up by raising")

    def read(self, entity: Entity, qbo_id: str) -> dict[str, Any] | None:
        """One object as QuickBooks holds it; `None` if there is none. Raises `QuickBooksFailure`."""
        what = f"read of {entity.name}"
        for attempt in self._attempts(_wait_if_it_may_pass):
            with attempt:
                try:
                    body = self._ask(f"{entity.path}/{qbo_id}", {}, what)
                except QuickBooksFailure as failure:
                    if failure.code == "missing":
                        return None
                    raise
                held = body.get(entity.name)
                if type(held) is not dict:
                    raise Unreadable(what, "the answer does not hold it")
                return held
        raise AssertionError("stamina gives up by raising")

    def query(self, entity: Entity, equals: Mapping[str, str]) -> list[dict[str, Any]]:
        """Every object of `entity` whose properties equal these, all pages of them. Raises `QuickBooksFailure`."""
        return self._select(entity, [f"{name} = {_quoted(value)}" for name, value in equals.items()])

    def among(self, entity: Entity, ids: list[str]) -> list[dict[str, Any]]:
        """Those objects of `entity` that have one of the IDs. Raises `QuickBooksFailure`."""
        return self._select(entity, [f"Id IN ({', '.join(map(_quoted, ids))})"])

    def _select(self, entity: Entity, conditions: list[str]) -> list[dict[str, Any]]:
        asked = [*conditions, "Active IN (true, false)"] if entity.has_inactive else conditions
        where = " AND ".join(asked)
        found: list[dict[str, Any]] = []
        while True:
            page = self._page(
                entity,
                f"SELECT * FROM {entity.name} WHERE {where} "  # noqa: S608  no SQL; values are quoted
                f"ORDERBY Id STARTPOSITION {len(found) + 1} MAXRESULTS {PAGE_SIZE}",
            )
            found += page
            if len(page) < PAGE_SIZE:
                return found

    def _page(self, entity: Entity, statement: str) -> list[dict[str, Any]]:
        what = f"query of {entity.name}"
        for attempt in self._attempts(_wait_if_it_may_pass):
            with attempt:
                response = self._ask("query", {"query": statement}, what).get("QueryResponse")
                items = response.get(entity.name, []) if isinstance(response, dict) else None
                if not isinstance(items, list) or not all(type(item) is dict for item in items):
                    raise Unreadable(what, "the answer is not one to a query")
                return items
        raise AssertionError("stamina gives up by raising")

    def _ask(self, path: str, params: Mapping[str, str], what: str) -> dict[str, Any]:
        response = self._send("GET", path, params, None, what)
        if response.status_code != 200:
            raise failure_of(what, response.status_code, response.headers, response.content)
        body = _object(response.content)
        if body is None or _fault(body) is not None:
            raise Unreadable(what, "the answer is not what was asked for")
        return body

    def _written(self, entity: Entity, response: httpx.Response, what: str) -> Written:
        body = _object(response.content)
        held = None if body is None else body.get(entity.name)
        if response.status_code == 200 and body is not None and _fault(body) is None and _is_written(held):
            return Written(held, _tid(response))
        raise _failure(response, body, what)

    def _answers(self, response: httpx.Response, what: str) -> dict[str, Mapping[str, Any]]:
        """What a batch answered, by `bId`; in any order, and of one that is there twice, nothing."""
        body = _object(response.content)
        if response.status_code != 200 or body is None or _fault(body) is not None:
            raise _failure(response, body, what)
        items = body.get("BatchItemResponse")
        if not isinstance(items, list):
            raise UnknownAnswer("unknown_answer", f"{what}: the answer is not one to a batch", permanent=True)
        found: dict[str, Mapping[str, Any]] = {}
        for item in items:
            if isinstance(item, Mapping) and isinstance(bid := item.get("bId"), str):
                found[bid] = {} if bid in found else item
        return found

    def _answer(
        self, what: str, entity: Entity, item: Mapping[str, Any] | None, tid: str
    ) -> Written | Refused | UnknownAnswer:
        held = (item or {}).get(entity.name)
        fault = _fault(item or {})
        if fault is None and _is_written(held):
            return Written(held, tid)
        if fault is not None and fault[1] != "SystemFault":
            named = f", fault {fault[0]}" if fault[0] else ""
            return Refused(f"{what}: QuickBooks refused it in a batch{named}, intuit_tid {tid}", fault[0], tid)
        return UnknownAnswer("unknown_answer", f"{what}: a batch did not tell: it may have been done", permanent=True)

    def _send(
        self, method: str, path: str, params: Mapping[str, str], content: bytes | None, what: str
    ) -> httpx.Response:
        token = self._access()
        response = self._exchange(method, path, params, content, what, token)
        if response.status_code == 401:
            # Refused before anything was done: revoked or forgotten before its time.
            response = self._exchange(method, path, params, content, what, self._access(refused=token))
        return response

    def _access(self, refused: str | None = None) -> str:
        with self._renewing:
            try:
                return self._tokens.access(refused)
            except QuickBooksFailure as failure:
                message = failure.message
                for name in NEEDED:  # the reading side's client names its own variables
                    message = message.replace(name.replace("_WRITE_", "_"), name)
                again = QuickBooksFailure(
                    failure.code, message, permanent=failure.permanent, retry_after=failure.retry_after
                )
        raise again from None

    def _exchange(
        self, method: str, path: str, params: Mapping[str, str], content: bytes | None, what: str, token: str
    ) -> httpx.Response:
        if path == BATCH:
            self._pace.batches.try_acquire("quickbooks")
        self._pace.requests.try_acquire("quickbooks")
        headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
        if content is not None:
            headers["content-type"] = "application/json"
        try:
            return self.http.request(
                method,
                f"/v3/company/{self.realm}/{path}",
                params={**params, "minorversion": MINOR_VERSION},
                headers=headers,
                content=content,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            failure = NotSent("unreachable", f"{what}: there was no connection to QuickBooks")
        except httpx.HTTPError as error:
            why = "no answer in time" if isinstance(error, httpx.TimeoutException) else "the connection ended before it"
            if method == "GET":
                failure = Unreadable(what, why)
            else:
                failure = UnknownAnswer("unknown_answer", f"{what}: {why}: it may have been done", permanent=True)
        # Raised out here: the exceptions of httpx hold the request, and with it the token.
        raise failure from None

    def _attempts(self, wait: Any) -> Iterator[stamina.Attempt]:
        patience = self.patience
        return iter(
            stamina.retry_context(
                on=lambda error: wait(error, patience),
                attempts=patience.attempts,
                timeout=None,
                wait_initial=patience.first_wait,
                wait_max=patience.longest_wait,
                wait_jitter=patience.first_wait,
            )
        )


@contextmanager
def connect(credentials: Credentials, realm: str, patience: Patience | None = None) -> Iterator[QuickBooksWriter]:
    """A writer for `realm`; closed at the end of the block. Sends nothing yet.

    Raises `SourceError`, code `invalid_setting`, for a URL, a realm or a number that is none.
    """
    patience = patience or Patience()
    base = (credentials.get(API_BASE_OPTION) or API_BASE).rstrip("/")
    discovery_url = credentials.get(DISCOVERY_URL_OPTION) or DISCOVERY_URL
    a_minute = credentials.get(RATE_LIMIT_OPTION) or str(REQUESTS_A_MINUTE)
    _require_settings(base, discovery_url, realm, a_minute)
    guard = WriteGuard(base, realm)
    sign_in = ReadOnlyGuard(
        (Get("/.well-known/*", at="discovery"), Post("/oauth2/v1/tokens/bearer", at="oauth")),
        {"discovery": discovery_base(discovery_url), "oauth": token_origin(discovery_url)},
    )
    oauth = IntuitOAuth(
        credentials[CLIENT_ID],
        credentials[CLIENT_SECRET],
        discovery_url,
        sign_in,
        (patience.connect, patience.read),
    )

    def renew(refresh_token: str) -> Granted:
        return oauth.renew(refresh_token)

    tokens = Tokens(_Apart(credentials.kept), credentials[REFRESH_TOKEN], renew)
    with httpx.Client(
        base_url=base,
        transport=GuardedTransport(guard),
        timeout=httpx.Timeout(patience.read, connect=patience.connect),
        trust_env=False,
    ) as http:
        yield QuickBooksWriter(http, guard, _pace(base, realm, int(a_minute)), tokens, realm, patience)


def _pace(base: str, realm: str, a_minute: int) -> Pace:
    """The one pace of this process for a company: 500 requests a minute and 10 a second, 40 of a minute's requests
    batches, unless set otherwise.

    What is counted here is when a request leaves, and there, when it arrives. So that one which was long on its way
    and the next, which was not, do not come too soon after one another, a minute is taken a little longer, and a
    second as much as costs nothing: a minute's limit is what holds.
    """
    with _pacing:
        found = _paces.get((base, realm, a_minute))
        if found is None:
            second, minute = 1_150, 61_000
            rates = [pyrate_limiter.Rate(max(1, a_minute // 50), second), pyrate_limiter.Rate(a_minute, minute)]
            batches = [pyrate_limiter.Rate(max(1, a_minute * BATCHES_A_MINUTE // REQUESTS_A_MINUTE), minute)]
            found = _paces[base, realm, a_minute] = Pace(
                pyrate_limiter.Limiter(rates, buffer_ms=5), pyrate_limiter.Limiter(batches, buffer_ms=5)
            )
        return found


def _require_settings(base: str, discovery_url: str, realm: str, a_minute: str) -> None:
    if not re.fullmatch(r"https?://[^\s?#@]+", base):
        raise _invalid(API_BASE_OPTION, "is not a URL of scheme, host and path")
    if not re.fullmatch(r"https?://[^\s?#@]+/\.well-known/[^\s?#@]+", discovery_url):
        raise _invalid(DISCOVERY_URL_OPTION, "is not a URL of a document below /.well-known/")
    host = urlsplit(discovery_url).hostname or ""
    intuit = host == "intuit.com" or host.endswith(".intuit.com")
    if intuit and not (base.startswith("https://") and discovery_url.startswith("https://")):
        raise _invalid(API_BASE_OPTION, f"and {DISCOVERY_URL_OPTION} must be https for Intuit's own tokens")
    if not re.fullmatch(r"[0-9]{1,20}", realm):
        raise SourceError("invalid_setting", "the realm is the company's ID, a number", permanent=True)
    if not re.fullmatch(r"[1-9][0-9]{0,8}", a_minute):
        raise _invalid(RATE_LIMIT_OPTION, "is a whole number above zero")


def _invalid(option: str, fault: str) -> SourceError:
    return SourceError("invalid_setting", f"{option} {fault}", permanent=True)


def _wait_if_not_done(error: Exception, patience: Patience) -> bool | float:
    """A write is sent again only where it was certainly not done."""
    if isinstance(error, QuickBooksFailure) and error.code == "rate_limited":
        return min(patience.throttled if error.retry_after is None else error.retry_after, patience.longest_wait)
    return isinstance(error, NotSent) or (
        # Of the sign-in before it.
        isinstance(error, QuickBooksFailure) and not error.permanent and not isinstance(error, UnknownAnswer | Refused)
    )


def _wait_if_it_may_pass(error: Exception, patience: Patience) -> bool | float:
    """A read is sent again whenever it may work out."""
    if not isinstance(error, QuickBooksFailure) or error.permanent:
        return False
    if error.code == "rate_limited" or error.retry_after is not None:
        return min(patience.throttled if error.retry_after is None else error.retry_after, patience.longest_wait)
    return True


def _quoted(value: str) -> str:
    """A text in a query: in single quotes, with a backslash before each quote and backslash in it."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        body = decode(content)
    except Uncanonical:
        return None
    return body if type(body) is dict else None


def _is_written(held: Any) -> TypeGuard[dict[str, Any]]:
    return type(held) is dict and isinstance(held.get("Id"), str) and isinstance(held.get("SyncToken"), str)


def _failure(response: httpx.Response, body: Mapping[str, Any] | None, what: str) -> QuickBooksFailure:
    """What an answer to a write means that does not hold what was written."""
    failure = failure_of(what, response.status_code, response.headers, response.content)
    if failure.code in ("unauthorized", "forbidden", "rate_limited"):
        return failure
    fault = None if body is None else _fault(body)
    if response.status_code < 500 and fault is not None and fault[1] != "SystemFault":
        return Refused(failure.message, fault[0], _tid(response))
    return UnknownAnswer("unknown_answer", f"{failure.message}: it may have been done", permanent=True)


def _fault(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """Code and type of the first error in an answer; `None` where it holds none."""
    fault = body.get("Fault") or body.get("fault")
    if not isinstance(fault, Mapping):
        return None
    errors = fault.get("Error") or fault.get("error")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], Mapping) else {}
    return _word(first.get("code")), _word(fault.get("type"))


def _tid(response: httpx.Response) -> str:
    return _word(response.headers.get("intuit_tid"))


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""
