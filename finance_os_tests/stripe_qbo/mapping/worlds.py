"""Words for tests of the mapping: evidence taken from a sandbox world, books read from a sandbox realm over a socket,
and a plain applier that posts a plan there. Nothing here shares code with the mapping.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from finance_os.evidence.canonical import payload_hash
from finance_os.sandbox import money_objects
from finance_os.sandbox.billing_objects import credit_note_line, invoice_line
from finance_os.sandbox.quickbooks import QuickBooksRoom
from finance_os.sandbox.world import World, build
from finance_os.stripe_qbo.books import OBJECT_TYPES, Books, books_of
from finance_os.stripe_qbo.intent import REFERENCE, Operation
from finance_os.stripe_qbo.planning import Plan
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence, evidence_of
from finance_os_tests.sandbox.test_quickbooks import Client

START = date(2026, 6, 1)
PAID_OUT = "payout_balance_transaction"
"""What each payout paid out: a balance transaction under the name of its payout."""

KINDS = (
    "customer",
    "invoice",
    "invoice_payment",
    "charge",
    "balance_transaction",
    "refund",
    "credit_note",
    "customer_balance_transaction",
    "payout",
    PAID_OUT,
)
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode


OUTSIDE = "Undeposited Funds"
"""Where the worlds that have them pay credits back from that are settled outside of Stripe."""


def living(days: int, size: int, seed: int, *, outside_credits: bool = False, minimum_balance: int = 0) -> World:
    until = datetime.combine(START, datetime.min.time(), UTC) + timedelta(days=days)
    return build(
        seed=seed,
        start=START,
        until=until,
        size=size,
        outside_credits=outside_credits,
        minimum_balance=minimum_balance,
    )


def bodies(world: World, kind: str) -> list[dict[str, Any]]:
    """Every object of a kind as Stripe writes it, with all of its lines."""
    found: list[dict[str, Any]] = []
    for record in world.stripe.rows(kind):
        body = world.stripe.render(record)
        if kind in ("invoice", "credit_note"):
            write = invoice_line if kind == "invoice" else credit_note_line
            lines = [write(line, record) for line in record.lines]  # pyright: ignore[reportArgumentType]
            body["lines"] = {**body["lines"], "data": lines, "has_more": False}
        found.append(body)
    return found


def balance_of(world: World) -> dict[str, Any]:
    """What Stripe says that the account holds."""
    return money_objects.balance(*world.stripe.balance())


def shown(world: World, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Every object of a kind with its source ID, as it is staged."""
    if kind != PAID_OUT:
        return [(each["id"], each) for each in bodies(world, kind)]
    return [
        (f"{payout.id}/{each.id}", world.stripe.render(each))
        for payout in world.stripe.rows("payout")
        if payout.reconciliation_status == "completed"
        for each in world.stripe.rows("balance_transaction", payout=payout.id)
    ]


def stripe_of(objects: Mapping[str, list[tuple[str, dict[str, Any]]]]) -> StripeEvidence:
    """Evidence of Stripe's objects, by kind, each with its source ID."""
    return evidence_of(
        {
            kind: [(source_id, _ENCODE(each), payload_hash(each).hex()) for source_id, each in held]
            for kind, held in objects.items()
        }
    )


def evidence(world: World) -> StripeEvidence:
    return stripe_of({kind: shown(world, kind) for kind in KINDS})


def rules(**more: Any) -> Rules:
    return Rules(**{"balance_date": START, "time_zone": "UTC", **more})


@dataclass
class Company:
    """A realm over its HTTP API. `ids` are the QuickBooks IDs of what was linked, by the text of the key."""

    client: Client
    ids: dict[str, str] = field(default_factory=dict)

    def all(self, entity: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        inactive = " where Active in (true, false)" if entity in ("Account", "Customer", "Vendor", "Item") else ""
        while True:
            page = self.client.query(
                f"select * from {entity}{inactive} startposition {len(found) + 1} maxresults 1000"
            ).get(entity, [])
            found += page
            if len(page) < 1000:
                return found

    def books(self, days: int = 45) -> Books:
        """What the API shows, as it would be staged."""
        records: dict[str, list[tuple[str, bytes]]] = {}
        for entity in OBJECT_TYPES:
            if entity == "ExchangeRate":
                continue
            objects = [self.client.get("preferences")[entity]] if entity == "Preferences" else self.all(entity)
            records[entity] = [(each["Id"], _ENCODE(each)) for each in objects]
        records["ExchangeRate"] = [
            (f"{code}:{day}", _ENCODE(rate)) for code in ("EUR", "JPY", "BHD") for day, rate in self._rates(code, days)
        ]
        return books_of(records)

    def _rates(self, code: str, days: int) -> Iterator[tuple[str, dict[str, Any]]]:
        for day in (0, days):
            asked = (START + timedelta(days=day)).isoformat()
            answer = self.client.get("exchangerate", sourcecurrencycode=code, asofdate=asked)
            yield asked, answer["ExchangeRate"]

    def apply(self, plan: Plan) -> None:
        """Post a plan in its order, each intent once, with IDs in place of references."""
        for key, adopted in plan.adoptions.items():
            self.ids[str(key)] = adopted.qbo_id
        for intent in plan.intents:
            body = self._resolved(intent.payload)
            if intent.operation is Operation.CREATE:
                assert str(intent.key) not in self.ids, intent.key
                self.ids[str(intent.key)] = self.client.write(intent.entity, body)["Id"]
            else:
                qbo_id = self.ids[str(intent.key)]
                token = self.client.get(f"{intent.entity.lower()}/{qbo_id}")[intent.entity]["SyncToken"]
                body |= {"Id": qbo_id, "SyncToken": token, "sparse": True}
                self.client.write(intent.entity, body, operation=intent.operation.value)

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            if set(value) == {REFERENCE}:
                return self.ids[value[REFERENCE]]
            return {name: self._resolved(each) for name, each in value.items()}
        return [self._resolved(each) for each in value] if isinstance(value, list | tuple) else value

    def balance(self, account: str) -> Decimal:
        (found,) = [each for each in self.all("Account") if each["Name"] == account]
        return Decimal(found["CurrentBalance"])

    def trial_balance(self) -> int:
        realm = self.client.room.realm
        return sum(realm.balances.home(each.id) for each in realm.all("Account"))


@contextmanager
def company(world: World, books_until: date | None = None) -> Iterator[Company]:
    """A realm of the world's company; without `books_until` nobody has mirrored Stripe in it."""
    room = QuickBooksRoom(world, books_until=books_until or START - timedelta(days=1))
    app, root = _server()
    place = f"/room{len(app.router.routes)}"
    app.router.routes.append(Mount(place, app=room.app))
    client = Client(room, root + place)
    client.sign_in()
    yield Company(client)
    client.http.close()


def close(realm: Company, day: str | None) -> None:
    """Close the books until a day; `None` opens them."""
    asyncio.run(realm.client.room.change("close_books", {"date": day}))


@cache
def _server() -> tuple[Starlette, str]:
    """One server for all rooms of the session, for each takes its time to start and to stop; and its URL."""
    app = Starlette()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off", access_log=False))
    threading.Thread(target=server.run, daemon=True).start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start in time"
        time.sleep(0.005)
    return app, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
