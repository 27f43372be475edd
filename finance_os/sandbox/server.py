"""The sandbox as one server: Stripe under `/v1`, each company's other vendors under `/c0/<vendor>`, and the
switchboard of tests and demos under `/_sandbox`.

Admin endpoints take and give JSON. With two companies, `account` (0 or 1) says which; the default is 0.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from . import baseline, rho
from . import gravity as product
from .currency import EXPONENTS
from .faults import Faults, Rule
from .ids import letters
from .rooms import Room, Tells
from .states import Record
from .stripe import PERMISSIONS, Key, StripeApp
from .stripe_faults import stripe_fault
from .webhooks import Endpoint
from .world import World

# The event that tells of a change; kinds that Stripe logs no event for change silently.
_UPDATED = {
    "customer": "customer.updated",
    "invoice": "invoice.updated",
    "charge": "charge.updated",
    "credit_note": "credit_note.updated",
    "refund": "refund.updated",
    "payout": "payout.updated",
    "dispute": "charge.dispute.updated",
}


@dataclass(slots=True)
class Company:
    """One synthetic company and what it is served with."""

    world: World
    api_key: str
    webhook: Endpoint | None = None
    gravity: product.Gravity | None = None
    drops: Path | None = None
    baselines: Path | None = None
    rooms: Sequence[Room] = ()


def api_key(world: World) -> str:
    """The restricted key of a world's account."""
    return "rk_test_" + letters(f"key:{world.stripe.account}", 32)


def company(
    world: World,
    *,
    webhook_url: str | None = None,
    admin_url: str | None = None,
    database: str = "gravity",
    drops: Path | None = None,
    baselines: Path | None = None,
    rooms: Sequence[Room] = (),
) -> Company:
    """Serve a world: events go to `webhook_url`, product tables to PostgreSQL.

    Bank exports are written to `drops`, finance's workbooks to `baselines`.
    """
    webhook = None
    if webhook_url is not None:
        webhook = Endpoint(webhook_url, "whsec_" + letters(f"webhook:{world.stripe.account}", 32))
        world.stripe.listeners.append(lambda event: webhook.waiting.append(event))
    return Company(
        world,
        api_key(world),
        webhook,
        product.create(admin_url, world, database=database) if admin_url else None,
        drops,
        baselines,
        rooms,
    )


class _Refused(Exception):
    """An admin request that makes no sense; the text says why."""


class _Move(msgspec.Struct, forbid_unknown_fields=True):
    now: str
    account: int | None = None


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    action: str
    kind: str | None = None
    id: str | None = None
    values: dict[str, Any] = {}
    amount: int | None = None
    silent: bool = False
    account: int = 0


class _Workbook(msgspec.Struct, forbid_unknown_fields=True):
    """Which workbook of finance's to write; `mended` are the kinds of disagreement that it has no longer."""

    first: date
    last: date
    name: str
    mended: list[str] = []
    account: int = 0


class _Export(msgspec.Struct, forbid_unknown_fields=True):
    first: date
    last: date
    name: str | None = None
    fault: rho.Fault | None = None
    amended: bool = False
    account: int = 0


class _Limit(msgspec.Struct, forbid_unknown_fields=True):
    requests_per_second: float | None


class _Grant(msgspec.Struct, forbid_unknown_fields=True):
    permissions: list[str]
    account: int = 0


class Sandbox:
    """The server's state. `app` is what uvicorn runs."""

    def __init__(self, companies: list[Company], *, per_second: float | None = None) -> None:
        self.companies = companies
        self.stripe = StripeApp([Key(each.api_key, each.world.stripe, PERMISSIONS) for each in companies], per_second)
        self.faults = Faults(self.stripe, stripe_fault)
        self._rooms = Starlette(
            routes=[
                Mount(f"/c{number}/{room.name}", app=room.app)
                for number, each in enumerate(companies)
                for room in each.rooms
            ]
        )
        self._faulty = {
            f"/c{number}/{room.name}/": Faults(self._rooms, room.fault, self.faults)
            for number, each in enumerate(companies)
            for room in each.rooms
        }
        self._admin = Starlette(
            routes=[
                Mount(
                    "/_sandbox",
                    routes=[
                        Route("/health", _endpoint(self._health)),
                        Route("/clock", _endpoint(self._clock), methods=["POST"]),
                        Route("/faults", _endpoint(self._faults), methods=["GET", "POST", "DELETE"]),
                        Route("/requests", _endpoint(self._requests), methods=["GET", "DELETE"]),
                        Route("/objects", _endpoint(self._objects), methods=["POST"]),
                        Route("/keys", _endpoint(self._keys), methods=["POST"]),
                        Route("/rate-limit", _endpoint(self._rate_limit), methods=["POST"]),
                        Route("/drops", _endpoint(self._drops), methods=["POST"]),
                        Route("/workbooks", _endpoint(self._workbooks), methods=["POST"]),
                        Route("/planted", _endpoint(self._planted)),
                        Route("/rooms/{name}", _endpoint(self._room), methods=["POST"]),
                    ],
                )
            ]
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.startswith("/_sandbox/"):
            await self._admin(scope, receive, send)
            return
        room = "/".join(path.split("/")[:3]) + "/"
        await self._faulty.get(room, self.faults)(scope, receive, send)

    def _company(self, number: int) -> Company:
        if not 0 <= number < len(self.companies):
            raise _Refused(f"there is no account {number}: this sandbox has {len(self.companies)}")
        return self.companies[number]

    async def _health(self, _: Request) -> Any:
        return {
            "status": "ok",
            "accounts": [
                {
                    "account": each.world.stripe.account,
                    "now": each.world.when.isoformat(),
                    "objects": {kind: len(table.rows) for kind, table in each.world.stripe.tables.items()},
                    "webhook": each.webhook and {"delivered": each.webhook.delivered, "failed": each.webhook.failed},
                }
                for each in self.companies
            ],
        }

    async def _clock(self, request: Request) -> Any:
        """Move every company (or one) to a time; answers when Gravity has followed and webhooks were sent."""
        move = msgspec.json.decode(await request.body(), type=_Move)
        moment = datetime.fromisoformat(move.now)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        chosen = self.companies if move.account is None else [self._company(move.account)]
        for each in chosen:
            if moment.timestamp() < each.world.now:
                raise _Refused(f"the clock stands at {each.world.when.isoformat()} and does not go back")
        for each in chosen:
            each.world.advance_to(moment)
            await self._follow(each)
        return {"now": moment.isoformat()}

    async def _follow(self, company: Company) -> None:
        for room in company.rooms:
            room.follow()
        if company.gravity is not None:
            product.advance(company.gravity, company.world)
        if company.webhook is not None:
            await company.webhook.deliver()
        for room in company.rooms:
            if isinstance(room, Tells):
                await room.deliver()

    async def _faults(self, request: Request) -> Any:
        if request.method == "POST":
            self.faults.script(msgspec.json.decode(await request.body(), type=list[Rule]))
        elif request.method == "DELETE":
            self.faults.clear()
        return {"faults": self.faults.rules}

    async def _requests(self, request: Request) -> Any:
        """What the Stripe side was asked, since the start or the last DELETE."""
        counted = [
            {"method": method, "path": path, "count": count}
            for (method, path), count in sorted(self.faults.requests.items())
        ]
        if request.method == "DELETE":
            self.faults.requests.clear()
        writes = sum(each["count"] for each in counted if each["method"] not in ("GET", "HEAD"))
        return {"total": sum(each["count"] for each in counted), "writes": writes, "requests": counted}

    async def _objects(self, request: Request) -> Any:
        change = msgspec.json.decode(await request.body(), type=_Change)
        chosen = self._company(change.account)
        record = _apply(chosen.world, change)
        await self._follow(chosen)
        return msgspec.Raw(chosen.world.stripe.blob(record))

    async def _keys(self, request: Request) -> Any:
        """Another restricted key with just these read permissions (`customer`, `invoice`, `charge`, …)."""
        grant = msgspec.json.decode(await request.body(), type=_Grant)
        unknown = set(grant.permissions) - PERMISSIONS
        if unknown:
            raise _Refused(f"unknown permissions {sorted(unknown)}; there are {sorted(PERMISSIONS)}")
        ledger = self._company(grant.account).world.stripe
        secret = "rk_test_" + letters(f"key:{ledger.account}:{','.join(sorted(grant.permissions))}", 32)
        self.stripe.keys[secret] = Key(secret, ledger, frozenset(grant.permissions))
        return {"api_key": secret}

    async def _rate_limit(self, request: Request) -> Any:
        limit = msgspec.json.decode(await request.body(), type=_Limit)
        for each in self.stripe.limits.values():
            each.set(limit.requests_per_second)
        return {"requests_per_second": limit.requests_per_second}

    async def _drops(self, request: Request) -> Any:
        """Write one bank export into the drop folder; `amended` is the bank's correction of it."""
        asked = msgspec.json.decode(await request.body(), type=_Export)
        chosen = self._company(asked.account)
        if chosen.drops is None:
            raise _Refused("this sandbox was started without a drop folder")
        bank = rho.amended(chosen.world.bank) if asked.amended else chosen.world.bank
        path = rho.export(bank, chosen.drops, asked.first, asked.last, name=asked.name, fault=asked.fault)
        return {"path": str(path), "lines": len(rho.lines_between(bank, asked.first, asked.last))}

    async def _workbooks(self, request: Request) -> Any:
        """Write one of finance's workbooks into its drop folder."""
        asked = msgspec.json.decode(await request.body(), type=_Workbook)
        chosen = self._company(asked.account)
        if chosen.baselines is None:
            raise _Refused("this sandbox was started without a folder for workbooks")
        rows, _ = baseline.plant(baseline.economics(chosen.world), asked.mended)
        path = baseline.export(rows, chosen.baselines, asked.first, asked.last, name=asked.name)
        return {"path": str(path), "rows": len(baseline.between(rows, asked.first, asked.last))}

    async def _room(self, request: Request) -> Any:
        """Have a vendor's room change something: `{"action": …}` and whatever the room wants to know."""
        what = msgspec.json.decode(await request.body(), type=dict[str, Any])
        chosen = self._company(what.pop("account", 0))
        name, action = request.path_params["name"], what.pop("action", None)
        for room in chosen.rooms:
            if room.name == name and isinstance(action, str):
                return await room.change(action, what)
        raise _Refused(f"there is no room {name!r}, or no action; there are {[room.name for room in chosen.rooms]}")

    async def _planted(self, _: Request) -> Any:
        """Every deliberate disagreement, by company."""
        return {
            "planted": [
                [*each.world.planted, *(planted for room in each.rooms for planted in room.planted())]
                for each in self.companies
            ]
        }

    def close(self) -> None:
        """Let every room give back what it holds."""
        for each in self.companies:
            for room in each.rooms:
                room.close()


def _endpoint(work: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    """JSON out; a request that cannot be carried out is a 400 that says why."""

    async def answer(request: Request) -> Response:
        try:
            body, status = msgspec.json.encode(await work(request)), 200
        except (_Refused, ValueError, msgspec.MsgspecError) as error:
            body, status = msgspec.json.encode({"error": str(error)}), 400
        return Response(body, status, media_type="application/json")

    return answer


def _apply(world: World, change: _Change) -> Record:
    """Change one object at the present clock, with the event that Stripe would log unless it is to be silent.

    `create` (a customer), `touch` (an event, nothing else), `update` (set `values`), `credit` (move a customer's
    balance by `amount`), `delete` (a customer or a draft invoice).
    """
    books = world.books
    if change.action == "create":
        if change.kind not in (None, "customer"):
            raise _Refused(f"only customers can be created, not {change.kind}")
        name, currency = (
            str(change.values.get("name", "New Signup")),
            str(change.values.get("currency", "usd")),
        )
        if currency not in EXPONENTS:
            raise _Refused(f"unknown currency {currency}; there are {sorted(EXPONENTS)}")
        return books.create_customer(world.rng("admin", str(world.now)), name, currency, None)
    record = _find(world, change.id)
    event = None if change.silent else _UPDATED.get(record.KIND)
    match change.action:
        case "touch":
            record.blob = None
            if event is not None:
                world.stripe.emit(event, record, {})
        case "update":
            _update(world, record, change.values, event)
        case "credit" if record.KIND == "customer" and change.amount:
            books.move_balance(record, change.amount, "adjustment", "Sandbox adjustment")  # pyright: ignore[reportArgumentType]
        case "delete" if record.KIND == "customer":
            books.delete_customer(record)  # pyright: ignore[reportArgumentType]
        case "delete" if record.KIND == "invoice":
            if not world.billing.delete_draft(record):  # pyright: ignore[reportArgumentType]
                raise _Refused("only draft invoices can be deleted")
        case _:
            raise _Refused(f"cannot {change.action} a {record.KIND}")
    return record


def _find(world: World, key: str | None) -> Record:
    for kind in world.stripe.tables:
        record = world.stripe.find(kind, key or "")
        if record is not None and kind != "event":
            return record
    raise _Refused(f"no object {key}")


def _update(world: World, record: Record, values: dict[str, Any], event: str | None) -> None:
    """Set JSON fields. Those that the record keeps itself change it; any other is laid over its JSON."""
    body = world.stripe.render(record)
    unknown = set(values) - set(body)
    if unknown:
        raise _Refused(f"a {record.KIND} has no {sorted(unknown)}")
    previous = {name: body[name] for name, value in values.items() if body[name] != value}
    for name in previous:
        with suppress(AttributeError):
            if isinstance(getattr(record, name), (str, int, dict, type(None))):
                setattr(record, name, values[name])
                continue
        record.overlay = {**(record.overlay or {}), name: values[name]}
    record.blob = None
    if event is not None and previous:
        world.stripe.emit(event, record, previous)
