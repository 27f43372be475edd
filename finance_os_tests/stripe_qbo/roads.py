"""The roads by which Stripe's objects come to be staged, and what is booked of them at their end.

A road is one business with a receiver of its own: deliveries go to the real receiver over a socket, the inbox is walked
and settled as the sensor does it, windows are read as the daily sync does it; both ask the sandbox's Stripe over a
socket. What a road ends in is its plan, and the QuickBooks company that the plan was written to.
"""

import hashlib
import hmac
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sandbox.ledger import EVENT_DAYS
from finance_os.sandbox.stripe import Key, StripeApp
from finance_os.sandbox.world import World
from finance_os.settings import Settings
from finance_os.sources.planning import plan_reads, targeted_read
from finance_os.sources.source import Reads
from finance_os.sources.stripe import STRIPE
from finance_os.stripe_qbo import stripe_evidence
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.keeping import keep
from finance_os.stripe_qbo.links import links
from finance_os.stripe_qbo.planning import Plan, plan_of
from finance_os.stripe_qbo.states import booked
from finance_os.stripe_qbo.verify import verify
from finance_os.stripe_qbo.written import written
from finance_os.web.app import create_app
from finance_os.webhooks import gaps
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.settling import settle
from finance_os.webhooks.walk import request_reads
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.sandbox.test_quickbooks import Client
from finance_os_tests.stripe_qbo.books import Books, books, served
from finance_os_tests.stripe_qbo.mapping.worlds import START, Company, rules
from finance_os_tests.web.conftest import served as served_app

SECRET = "whsec_road"
KEY = "sk_test_" + "r" * 24
WINDOWED = tuple(obj for obj in STRIPE if obj.reads is Reads.WINDOW)

_numbers = itertools.count(1)


def life(days: int, size: int, seed: int, fees: Iterable[int] = ()) -> tuple[World, list[bytes]]:
    """A company's life from `START` on, and every event of it in order, as Stripe sends them.

    On each day of `fees`, counted from 0, Stripe takes a fee of its own at noon: of that no event tells.
    """
    world = World(seed=seed, start=START, size=size)
    events: list[bytes] = []
    world.stripe.listeners.append(events.append)
    for number in fees:
        world.at(midnight(number) + 43_200, _take_a_fee, world)
    for number in range(1, days + 1):
        world.advance_to(midnight(number))
    return world, events


def midnight(number: int) -> int:
    """The second at which a day of the company's life begins, counted from 0."""
    return int(datetime.combine(day(number), datetime.min.time(), UTC).timestamp())


def _take_a_fee(world: World) -> None:
    source: Any = None
    world.books.book(amount=-700, kind="stripe_fee", reporting_category="fee", source=source, description="Billing")


@dataclass
class Town:
    """Where roads lead through: one Stripe account, one receiver, one database."""

    database: Database
    world: World
    address: str
    receiver: httpx.Client
    monkeypatch: pytest.MonkeyPatch
    settings: WebhookSettings = field(default_factory=lambda: WebhookSettings(batch_events=40, retry_seconds=0))

    def road(self) -> "Road":
        """A business of its own, to which nothing has come yet."""
        number = next(_numbers)
        business_id, prefix = f"road{number}", f"ROAD{number}_"
        for name, value in {
            "FINANCE_OS_STRIPE_API_KEY": KEY,
            "FINANCE_OS_STRIPE_API_BASE": self.address,
            "FINANCE_OS_STRIPE_RATE_LIMIT": "100000",
            "FINANCE_OS_STRIPE_WEBHOOK_SECRET": SECRET,
        }.items():
            self.monkeypatch.setenv(prefix + name, value)
        ensure_business(self.database, business_id, business_id, "UTC")
        stripe = ensure_connection(self.database, business_id, "stripe", secret_reference=f"env:{prefix}")
        return Road(self, stripe)


@contextmanager
def town(database: Database, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """A Stripe that says what `world` says, and a receiver, both served."""
    with ExitStack() as stack:
        address, _ = stack.enter_context(served(lambda: StripeApp([Key(KEY, world.stripe)])))
        receiver = stack.enter_context(served_app(create_app(database, Settings())))
        client = stack.enter_context(httpx.Client(base_url=receiver, timeout=30, trust_env=False))
        yield Town(database, world, address, client, monkeypatch)


@dataclass
class Road:
    """One business, and how its evidence comes."""

    town: Town
    stripe: Connection

    @property
    def business_id(self) -> str:
        return self.stripe.business_id

    @property
    def days(self) -> Days:
        """All days of the company's life."""
        return Days(START, self.town.world.today)

    # --- by webhooks

    def deliver(self, events: Iterable[bytes]) -> None:
        """Send signed events to the receiver, one after the other; each has to be taken."""
        place = f"/webhooks/{self.business_id}/stripe/{self.stripe.connection_id}"
        for body in events:
            at = int(time.time())
            digest = hmac.digest(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hex()
            answer = self.town.receiver.post(place, content=body, headers={"stripe-signature": f"t={at},v1={digest}"})
            assert answer.status_code == 200, answer.text

    def walk(self) -> None:
        """Read what the events that wait ask for, until none waits; as the sensor and its runs do it."""
        database, settings = self.town.database, self.town.settings
        while requests := request_reads(database, settings):
            for request in requests:
                run_id = f"run-{request.request_id}"
                for object_type, targets in request.reads.items():
                    obj, now = STRIPE.object(object_type), datetime.now(UTC)
                    today = Days(now.date(), now.date())
                    if targets is None:
                        [read] = plan_reads(STRIPE, obj, request.connection, today, now)
                    else:
                        read = targeted_read(STRIPE, obj, request.connection, today, now, targets)
                    perform(database, read, Origin(Trigger.WEBHOOK, dagster_run_id=run_id), chunk_rows=500)
                settled = settle(database, request, [run_id], settings)
                assert (settled.again, settled.poisoned) == (0, 0)

    # --- by the daily read, or a backfill

    def expect_webhooks(self) -> None:
        """From the beginning of the company's life on, as the sensor does it of every connection with a secret."""
        database = self.town.database
        assert gaps.check(database, self.stripe, self.town.settings) is None
        with database.connection() as owner:
            owner.execute(
                "UPDATE finance_os.webhook_gap_checks SET since = %s WHERE connection_id = %s",
                (START, self.stripe.connection_id),
            )

    def sync_events(self) -> int:
        """Read Stripe's event log, of which it keeps `EVENT_DAYS`, as the daily sync does; how many of its events had
        never come, and wait in the inbox now."""
        today = self.town.world.today
        days = Days(max(START, today - timedelta(days=EVENT_DAYS - 1)), today)
        self.read_days(days, ["stripe_event"])
        return gaps.check(self.town.database, self.stripe, self.town.settings) or 0

    def read_days(self, days: Days | None = None, object_types: Iterable[str] = ()) -> None:
        """Read windows of all object types, or of some."""
        chosen = [STRIPE.object(name) for name in object_types] or WINDOWED
        for obj in chosen:
            for read in plan_reads(STRIPE, obj, self.stripe, days or self.days, datetime.now(UTC)):
                perform(self.town.database, read, Origin(Trigger.BACKFILL), chunk_rows=500)

    # --- what it ends in

    def plan(self, company: Company, realm: str) -> Plan:
        """The plan of what is staged, for a company."""
        database = self.town.database
        with database.transaction() as connection:
            evidence = stripe_evidence.load(connection, self.business_id)
            before = written(connection, self.business_id, realm)
        return plan_of(evidence, company.books(), rules(), booked(database, self.business_id, realm), written=before)


def told(plan: Plan) -> list[tuple[Any, ...]]:
    """What a plan says, without the hashes of the evidence that it was made from: those tell when it was read."""
    intents = [
        (str(each.key), each.operation.value, each.entity, each.payload, each.dated, each.marker, each.corrects)
        for each in plan.intents
    ]
    findings = [(each.code, each.subject, each.day, each.detail) for each in plan.findings]
    adopted = [(str(key), each.entity, each.qbo_id) for key, each in plan.adoptions.items()]
    return [*intents, *findings, *adopted]


@dataclass
class Mirror:
    """A QuickBooks company that one road is written to."""

    road: Road
    served: Books
    company: Company

    def __post_init__(self) -> None:
        self._held = self._balances()  # what is in its books beside Stripe

    def _balances(self) -> dict[str, Any]:
        return {entry.name: entry.body()["CurrentBalance"] for entry in self.served.room.realm.all("Account")}

    def plan(self) -> Plan:
        return self.road.plan(self.company, self.served.realm)

    def write(self) -> Plan:
        """Plan, keep, apply and verify; all of it has to succeed."""
        database, business_id, realm = self.road.town.database, self.road.business_id, self.served.realm
        plan = self.plan()
        keep(database, business_id, realm, plan)
        with self.served.writer() as writer:
            applied = apply(database, writer, business_id, realm)
            assert (applied.finished, applied.not_as_planned, applied.stopped) == (True, 0, None), applied
            assert verify(database, writer, business_id, realm).findings == []
        return plan

    def objects(self) -> dict[str, dict[str, Any]]:
        """By the text of its link's key, every linked object: without what tells in which order it was written."""
        return objects_of(self.road.town.database, self.road.business_id, self.served)

    def books(self) -> dict[str, dict[str, Any]]:
        """What the objects come to: what was moved on each account, each invoice's total and what is open of it by its
        number, and what is left of each customer's credit by its Stripe ID and currency."""
        realm = self.served.room.realm
        linked = links(self.road.town.database, self.road.business_id, self.served.realm)
        customers = {
            link.qbo_id: f"{key.stripe_id} {key.role}" for key, link in linked.items() if link.entity == "Customer"
        }
        left: dict[str, Any] = dict.fromkeys(customers.values(), 0)
        for memo in (entry.body() for entry in realm.all("CreditMemo")):
            left[customers[memo["CustomerRef"]["value"]]] += memo["RemainingCredit"]
        invoices = [entry.body() for entry in realm.all("Invoice")]
        return {
            "accounts": {name: balance - self._held.get(name, 0) for name, balance in self._balances().items()},
            "invoices": {body["DocNumber"]: (body["TotalAmt"], body["Balance"]) for body in invoices},
            "credits": left,
        }

    def strangers(self) -> int:
        """How many objects bear a marker of the export and are not linked."""
        return strangers_of(self.road.town.database, self.road.business_id, self.served)


@contextmanager
def mirror(road: Road) -> Iterator[Mirror]:
    """A company in which nobody has mirrored Stripe, for one road; its export is approved."""
    with books(road.town.world, START - timedelta(days=1)) as held:
        client = Client(held.room, held.base)
        client.sign_in()
        approve_policy(road.town.database, road.business_id, QBO_EXPORT.key, scope=held.realm)
        yield Mirror(road, held, Company(client))
        client.http.close()


def objects_of(database: Database, business_id: str, served: Books) -> dict[str, dict[str, Any]]:
    """What of a company is linked for a business, as `Mirror.objects` gives it."""
    linked = links(database, business_id, served.realm)
    keys = {(link.entity, link.qbo_id): str(key) for key, link in linked.items()}
    held = {
        (entity, body["Id"]): body
        for entity in {entity for entity, _ in keys}
        for body in (entry.body() for entry in served.room.realm.all(entity))
    }
    return {
        str(key): {
            "entity": link.entity,
            "origin": link.origin,
            **_unnumbered(held[link.entity, link.qbo_id], keys),
        }
        for key, link in linked.items()
    }


def strangers_of(database: Database, business_id: str, served: Books) -> int:
    """How many objects of a company bear a marker of the export and are not linked for a business."""
    linked = links(database, business_id, served.realm)
    marked = [
        entry.body()["Id"]
        for entity in {link.entity for link in linked.values()}
        for entry in served.room.realm.all(entity)
        if "stripe:" in str([entry.body().get(name) for name in ("Notes", "PrivateNote", "Sku", "Description")])
    ]
    return len(marked) - len(linked)


_OF_WRITING = ("Id", "SyncToken", "MetaData", "sparse", "domain")


def _unnumbered(body: Mapping[str, Any], keys: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """A body whose references to linked objects are their keys."""

    def walked(value: Any, name: str = "") -> Any:
        if isinstance(value, Mapping):
            if "TxnId" in value and "TxnType" in value:
                return {**value, "TxnId": keys.get((str(value["TxnType"]), str(value["TxnId"])), value["TxnId"])}
            if name in ("CustomerRef", "EntityRef") and "value" in value:
                return {**value, "value": keys.get(("Customer", str(value["value"])), value["value"])}
            return {each: walked(inner, each) for each, inner in value.items()}
        return [walked(each, name) for each in value] if isinstance(value, list) else value

    found = {name: walked(value, name) for name, value in body.items() if name not in _OF_WRITING}
    if isinstance(found.get("LinkedTxn"), list):
        found["LinkedTxn"] = sorted(found["LinkedTxn"], key=repr)
    return found


def day(number: int) -> date:
    """A day of the company's life, from 0."""
    return START + timedelta(days=number)
