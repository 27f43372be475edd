"""The client that writes to one QuickBooks company: each write once, the queries that look it up, and nothing else.

Apart from the reading side, whose client can send no write: this one can send only the writes that `lookup.ENTITIES`
declares, to one realm, each with a `requestid`. `connecting` makes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import stamina

from finance_os.evidence.canonical import canonical_json
from finance_os.sources.quickbooks.faults import QuickBooksFailure, Unreadable, failure_of
from finance_os.sources.quickbooks.objects import MINOR_VERSION
from finance_os.stripe_qbo import answers
from finance_os.stripe_qbo.answers import NotSent, Refused, UnknownAnswer, Written
from finance_os.stripe_qbo.authorization import Authorization
from finance_os.stripe_qbo.guard import BATCH, VOID_PARAMETERS, WriteGuard
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.lookup import Entity

if TYPE_CHECKING:
    import httpx

    from finance_os.sources.quickbooks.client import Patience
    from finance_os.stripe_qbo.pacing import Pace

PAGE_SIZE = 1_000
"""The most that a query gives at a time:
https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api/data-queries"""

LONGEST_REQUEST = 120.0
"""Seconds after which Intuit ends whatever request is not done:
https://developer.intuit.com/app/developer/qbo/docs/learn/limits-and-throttles"""


class QuickBooksWriter:
    """Writes to the company `realm`. Made by `connecting.connect`; several threads may use it at once.

    `longest_request` is how many seconds after it was sent a request may still be carried out.
    """

    def __init__(
        self,
        http: "httpx.Client",
        guard: WriteGuard,
        pace: "Pace",
        authorization: Authorization,
        realm: str,
        patience: "Patience",
    ) -> None:
        self.http = http
        self.realm = realm
        self.patience = patience
        self._guard = guard
        self.longest_request = LONGEST_REQUEST
        self._pace = pace
        self._authorization = authorization

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
                return answers.written(entity, response, what)
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
        wanted = [
            {"bId": str(place), "operation": "create", entity.name: body}
            for place, (entity, body) in enumerate(objects)
        ]
        content = canonical_json({"BatchItemRequest": wanted})
        for attempt in self._attempts(_wait_if_not_done):
            with attempt:
                response = self._send("POST", BATCH, {"requestid": requestid}, content, what)
                items, tid = answers.batch_items(response, what), answers.intuit_tid(response)
                return [
                    answers.written_together(entity, items.get(str(place)), tid, f"create of {entity.name}")
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
        body = answers.object_of(response.content)
        if body is None or answers.fault_of(body) is not None:
            raise Unreadable(what, "the answer is not what was asked for")
        return body

    def _send(
        self, method: str, path: str, params: Mapping[str, str], content: bytes | None, what: str
    ) -> "httpx.Response":
        token = self._authorization.access()
        response = self._exchange(method, path, params, content, what, token)
        if response.status_code == 401:
            # Refused before anything was done: revoked or forgotten before its time.
            response = self._exchange(method, path, params, content, what, self._authorization.access(refused=token))
        return response

    def _exchange(
        self, method: str, path: str, params: Mapping[str, str], content: bytes | None, what: str, token: str
    ) -> "httpx.Response":
        import httpx

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


def _wait_if_not_done(error: Exception, patience: "Patience") -> bool | float:
    """A write is sent again only where it was certainly not done."""
    if isinstance(error, QuickBooksFailure) and error.code == "rate_limited":
        return min(patience.throttled if error.retry_after is None else error.retry_after, patience.longest_wait)
    return isinstance(error, NotSent) or (
        # Of the sign-in before it.
        isinstance(error, QuickBooksFailure) and not error.permanent and not isinstance(error, UnknownAnswer | Refused)
    )


def _wait_if_it_may_pass(error: Exception, patience: "Patience") -> bool | float:
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
