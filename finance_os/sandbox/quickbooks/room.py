"""The room of QuickBooks Online in the sandbox: a company derived from the world, its API, and tests' controls."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from typing_extensions import override

from ..company import Planted
from ..ids import letters
from ..world import World
from . import chart
from .app import THROTTLED, QuickBooksApp, Throttle
from .bookkeeper import Bookkeeper
from .entities import KINDS
from .faults import Fault, fault_body, gateway_body, system_failure
from .formats import answer_time
from .journal import Asked, Change, Journal
from .oauth import Connection, OAuthError
from .realm import Realm
from .webhooks import Telling, Webhooks

_OF_USERS = ("create", "update", "delete", "void", "close_books")
"""Actions that change what the company holds."""

_LIMITS = ("per_minute", "per_second", "batches_per_minute")


class TwoApps(Connection):
    """The connection of the app that reads and, once a user has connected it too, that of another app that writes.

    Each has its own client and tokens; the company answers to both alike.
    """

    def __init__(self, seed: str, clock: Callable[[], float]) -> None:
        self.writer: Connection | None = None
        super().__init__(seed, clock)

    def connect_writer(self) -> Connection:
        """A user connects the writing app (again)."""
        if self.writer is None:
            self.writer = Connection(f"{self._seed}:writer", self._clock)
        else:
            self.writer.connect()
        return self.writer

    @override
    def check_client(self, header: str) -> None:
        if not self._is_writer(header):
            super().check_client(header)

    @override
    def token(self, form: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, Any]:
        if self.writer is not None and self._is_writer(headers.get("authorization", "")):
            return self.writer.token(form, headers)
        return super().token(form, headers)

    @override
    def check_access(self, header: str) -> str | None:
        if self.writer is not None and self.writer.check_access(header) is None:
            return None
        return super().check_access(header)

    @override
    def expire_access_tokens(self) -> int:
        return super().expire_access_tokens() + (self.writer.expire_access_tokens() if self.writer else 0)

    def _is_writer(self, header: str) -> bool:
        if self.writer is None:
            return False
        try:
            self.writer.check_client(header)
        except OAuthError:
            return False
        return True


class QuickBooksRoom:
    """One QuickBooks sandbox company.

    `books_until` is the last day whose Stripe events a bookkeeper has mirrored by hand (default: 30 days after the
    world's start); what happened at Stripe later is not in QuickBooks. `clock` gives real seconds, by which tokens and
    rate limits live; everything else lives by the world's clock. What was changed in the company is kept in `journal`,
    and what stands in it already is done again first, each at its moment. ValueError where that is later than the
    world's.
    """

    name = "quickbooks"

    def __init__(
        self,
        world: World,
        *,
        books_until: date | None = None,
        clock: Callable[[], float] = time.time,
        journal: Path | None = None,
    ) -> None:
        self.world = world
        self.books_until = books_until or world.start + timedelta(days=30)
        seed = f"quickbooks:{world.stripe.account}"
        digits = int.from_bytes(letters(f"realm:{seed}", 12).encode(), "big") % 10**15
        self.realm_id = f"9{digits:015d}"
        self.connection = TwoApps(seed, clock)
        self.realm = Realm(world.stripe.created)
        self._quickbooks = QuickBooksApp(self.realm, self.realm_id, self.connection, self._set_clock, clock)
        self.app = Telling(self._quickbooks.starlette)
        chart.found(self.realm, world.stripe.company, world.start)
        self.bookkeeper = Bookkeeper(world, self.realm, self.books_until)
        self._journal = None if journal is None else self._played_again(Journal(journal))
        if self._journal is not None:
            self._quickbooks.keep = self._keep_request
        self.follow()

    def _played_again(self, journal: Journal) -> Journal:
        for change in journal.changes():
            if change.now > self.world.now:
                raise ValueError(f"the journal of company {self.realm_id} is ahead of the clock, {self.world.when}")
            self.bookkeeper.work_until(change.now)
            self.realm.now = change.now
            # What was refused then is refused again.
            with suppress(Fault, ValueError):
                if change.asked is not None:
                    self._quickbooks.answer(change.asked)
                else:
                    self._change(change.action, change.what)
        return journal

    def _keep_request(self, asked: Asked) -> None:
        assert self._journal is not None
        self._journal.keep(Change(self.realm.now, asked))

    def env(self, base: str) -> dict[str, str]:
        """The variables that point a process at this company; the refresh token is the newest one.

        What its webhooks are verified with is among them once they are sent anywhere.
        """
        base = base.rstrip("/")
        signed = self.app.webhooks
        return ({"FINANCE_OS_QUICKBOOKS_WEBHOOK_VERIFIER": signed.verifier} if signed else {}) | {
            "FINANCE_OS_QUICKBOOKS_CLIENT_ID": self.connection.client_id,
            "FINANCE_OS_QUICKBOOKS_CLIENT_SECRET": self.connection.client_secret,
            "FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN": self.connection.refresh_token,
            "FINANCE_OS_QUICKBOOKS_REALM_ID": self.realm_id,
            "FINANCE_OS_QUICKBOOKS_API_BASE": base,
            "FINANCE_OS_QUICKBOOKS_DISCOVERY_URL": f"{base}/.well-known/openid_sandbox_configuration",
        }

    def tell(self, webhooks: Webhooks | None) -> None:
        """Have an app's webhooks tell of this company's changes from now on, or nobody's."""
        self.app.webhooks = webhooks
        if webhooks is not None:
            webhooks.watch(self.realm_id, self.realm)

    async def deliver(self) -> None:
        """Send the webhooks of what has changed."""
        if self.app.webhooks is not None:
            await self.app.webhooks.deliver()

    def follow(self) -> None:
        """Let the bookkeeper do everything that was due until the world's present moment."""
        self.bookkeeper.work_until(self.world.now)
        self._set_clock()

    def _set_clock(self) -> None:
        self.realm.now = self.world.now

    def planted(self) -> list[Planted]:
        return list(self.bookkeeper.planted)

    def fault(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        """An error answer as QuickBooks would give it: `429`, `500` or `403`."""
        headers = {"content-type": "application/json;charset=UTF-8", "intuit_tid": "1-sandboxfault"}
        match kind:
            case "429":
                return 429, headers, gateway_body(429, THROTTLED, self.world.now)
            case "403":
                return 403, headers, gateway_body(403, None, self.world.now)
            case "500":
                return 500, headers, fault_body(system_failure(), answer_time(self.world.now))
        raise ValueError(f"QuickBooks has no fault {kind}; there are 429, 500 and 403")

    async def change(self, action: str, what: dict[str, Any]) -> Any:
        """What a test or a user of QuickBooks itself does.

        `create`, `update`, `delete`, `void` with `entity` and `body` (an update or delete without a SyncToken takes
        the present one, updates are sparse); `rate_limits` with `per_minute`, `per_second`, `batches_per_minute`;
        `revoke` the connection, `reconnect` (gives the new refresh token), `expire_access_tokens`; `connect_writer`
        connects another app, which is to write, and gives its `client_id`, `client_secret` and `refresh_token`, and
        until when somebody has kept the books by hand;
        `forget_requests`: every `requestid` is forgotten, as after a while; `close_books` with `date` (None opens them
        again); `subscribe` with `url` and `form` (cloudevents or notifications) sends webhooks there and gives the
        `verifier` token. ValueError for anything else, or where QuickBooks would not allow it. Webhooks of what was
        changed have been sent when it answers.
        """
        self._set_clock()
        if self._journal is not None and action in _OF_USERS:
            self._journal.keep(Change(self.realm.now, action=action, what=what))
        answer = self._change(action, what)
        await self.deliver()
        return answer

    def _change(self, action: str, what: dict[str, Any]) -> Any:
        match action:
            case "subscribe":
                return self._subscribe(**what)
            case "create" | "update" | "delete" | "void":
                return self._as_user(action, what)
            case "rate_limits":
                unknown = what.keys() - set(_LIMITS)
                if unknown:
                    raise ValueError(f"unknown limits {sorted(unknown)}; there are {', '.join(_LIMITS)}")
                self._quickbooks.throttle = Throttle(**what)
                return {name: what.get(name) for name in _LIMITS}
            case "revoke":
                self.connection.revoke()
                return {"connected": False}
            case "reconnect":
                return {"refresh_token": self.connection.connect()}
            case "expire_access_tokens":
                return {"expired": self.connection.expire_access_tokens()}
            case "connect_writer":
                writer = self.connection.connect_writer()
                return {
                    "client_id": writer.client_id,
                    "client_secret": writer.client_secret,
                    "refresh_token": writer.refresh_token,
                    "books_until": self.books_until.isoformat(),
                }
            case "forget_requests":
                forgotten = len(self._quickbooks._answered)
                self._quickbooks._answered.clear()
                return {"forgotten": forgotten}
            case "close_books":
                return self._close_books(what.get("date"))
        raise ValueError(f"QuickBooks cannot {action}")

    def _subscribe(self, url: str | None = None, form: str = "cloudevents") -> dict[str, str | None]:
        if form not in ("cloudevents", "notifications"):
            raise ValueError(f"webhooks come as cloudevents or notifications, not as {form}")
        self.tell(Webhooks(url, form=form) if url else None)
        return {"url": url, "verifier": self.app.webhooks.verifier if self.app.webhooks else None}

    def _as_user(self, action: str, what: dict[str, Any]) -> Any:
        entity, body = str(what.get("entity")), what.get("body")
        if entity not in KINDS or not isinstance(body, dict):
            raise ValueError(f"{action} needs an entity ({', '.join(KINDS)}) and a body")
        if action not in KINDS[entity].operations or entity == "ExchangeRate":
            raise ValueError(f"a user cannot {action} a {entity} here")
        body = _exact(body)
        if action != "create":
            found = self.realm.find(entity, str(body.get("Id", "1")))
            if found is None:
                raise ValueError(f"there is no {entity} {body.get('Id')}")
            body = {"SyncToken": str(found.sync), "sparse": action == "update", **body}
        try:
            made = getattr(self.realm, action)(entity, body, free=True)
        except Fault as fault:
            raise ValueError(str(fault)) from fault
        return made.body()

    def _close_books(self, day: Any) -> Any:
        preferences = self.realm.one("Preferences", "1")
        settings = {k: v for k, v in preferences.fields["AccountingInfoPrefs"].items() if k != "BookCloseDate"}
        if day is not None:
            try:
                settings["BookCloseDate"] = date.fromisoformat(str(day)).isoformat()
            except ValueError:
                raise ValueError(f"{day} is not a date such as 2026-06-30") from None
        self.realm.update(
            "Preferences",
            {"SyncToken": str(preferences.sync), "sparse": True, "AccountingInfoPrefs": settings},
        )
        return {"closed_until": self.realm.closed_until or None}

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()


def _exact(value: Any) -> Any:
    """A JSON value with its numbers exact."""
    if isinstance(value, float):
        return Decimal(str(value))
    if isinstance(value, dict):
        return {name: _exact(each) for name, each in value.items()}
    return [_exact(each) for each in value] if isinstance(value, list) else value
