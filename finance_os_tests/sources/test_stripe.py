"""What a day of Stripe holds, read with the real SDK from the sandbox over a socket.

What is expected is worked out here anew, from plain lists that httpx walks through.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.canonical import payload_hash, without_fields
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import DayState, Extraction, Item, Kind, Notice, Page, Record, Request, SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days, start_of_day, window_of
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.sources.credentials import Credentials
from finance_os.sources.planning import plan_reads
from finance_os.sources.source import Reads
from finance_os.sources.stripe import STRIPE, objects, reading
from finance_os.sources.stripe.client import Patience, connect

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
BUSY = datetime(2026, 11, 16, 21, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
TOKYO = ZoneInfo("Asia/Tokyo")
LAST_MONTH = Days(date(2026, 10, 22), date(2026, 11, 20))
WINDOW_OBJECTS = [obj.object_type for obj in STRIPE if obj.reads is Reads.WINDOW]
QUICK = Patience(connect=2, read=0.5, attempts=3, first_wait=0.01, longest_wait=0.05)


@dataclass
class Held:
    """What is staged, as the finance database would tell it: by the latest record of each source ID."""

    payloads: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def stage(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.payload is not None:
                self.payloads[record.source_id] = record.payload

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:
        raise NotImplementedError

    def ids_read_since(self, moment: datetime) -> list[str]:
        raise NotImplementedError

    def requests_since(self, moment: datetime) -> int:
        raise NotImplementedError

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:
        (name,) = path
        return sorted(source_id for source_id, payload in self.payloads.items() if payload.get(name) == value)


@dataclass
class Account:
    """One account of a sandbox, and how it is read."""

    env: Mapping[str, str]
    now: datetime = NOW
    zone: ZoneInfo = NEW_YORK
    held: Held = field(default_factory=Held)
    sent: Mapping[str, int] = field(default_factory=dict)

    @property
    def credentials(self) -> Credentials:
        return Credentials({**self.env, "FINANCE_OS_STRIPE_RATE_LIMIT": "10000"})

    def items(
        self,
        object_type: str,
        days: Days,
        *,
        kind: Kind = Kind.WINDOW,
        resume: Mapping[str, Any] | None = None,
        targets: tuple[str, ...] = (),
        patience: Patience | None = None,
    ) -> Iterator[Item]:
        window = window_of(days, self.zone).until(self.now)
        request = Request(kind, days, window, self.zone, lambda: self.now, self.held, resume, targets)
        with connect(self.credentials, patience) as stripe:
            extraction = STRIPE.extract(stripe, STRIPE.object(object_type), request)
            assert extraction.api_version == "2026-10-28.endive"
            try:
                yield from extraction
            finally:
                self.sent = extraction.requested()

    def pages(self, object_type: str, days: Days, **how: Any) -> list[Page]:
        return [item for item in self.items(object_type, days, **how) if isinstance(item, Page)]

    def records(self, object_type: str, days: Days, **how: Any) -> list[Record]:
        return [record for page in self.pages(object_type, days, **how) for record in page.records]

    def notices(self, object_type: str, days: Days, **how: Any) -> list[str]:
        return [item.text for item in self.items(object_type, days, **how) if isinstance(item, Notice)]

    def plain(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """A whole list by httpx, ten at a time."""
        found: list[dict[str, Any]] = []
        headers = {"authorization": f"Bearer {self.env['FINANCE_OS_STRIPE_API_KEY']}"}
        with httpx.Client(base_url=self.env["FINANCE_OS_STRIPE_API_BASE"], headers=headers, trust_env=False) as client:
            while True:
                cursor = {"starting_after": found[-1]["id"]} if found else {}
                answer = client.get(path, params={**params, **cursor, "limit": 100}).raise_for_status().json()
                found += answer["data"]
                if not answer["has_more"]:
                    return found


def day_in(zone: ZoneInfo, seconds: int) -> date:
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone).date()


def pairs(records: Iterable[Record]) -> list[tuple[str, date]]:
    return [(record.source_id, record.day) for record in records]


def without_volatile(object_type: str, payload: Mapping[str, Any] | None) -> bytes:
    assert payload is not None
    return payload_hash(without_fields(payload, STRIPE.object(object_type).volatile_paths))


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """A sandbox that no test changes: two companies, ninety days."""
    with running_sandbox(until=NOW, days=90, size=12, accounts=2) as sandbox:
        yield sandbox


@pytest.fixture
def acme(shared: Running) -> Iterator[Account]:
    yield Account(shared.env)
    shared.clear_faults()


@pytest.fixture
def globex(shared: Running) -> Account:
    return Account(shared.others[0], zone=TOKYO)


@pytest.fixture
def sandbox() -> Iterator[Running]:
    """A small sandbox of the test's own."""
    with running_sandbox(until=NOW, days=12, size=4) as sandbox:
        yield sandbox


@pytest.fixture
def busy() -> Iterator[Running]:
    """A sandbox of the test's own in which much is pending."""
    with running_sandbox(until=BUSY, days=20, size=30) as sandbox:
        yield sandbox


@pytest.fixture
def account(sandbox: Running) -> Account:
    return Account(sandbox.env)


# --- what a day holds


# What an event about one object says about others: kind in the event -> field that names the other.
NAMED = {
    "stripe_invoice": {"invoice_payment": "invoice", "credit_note": "invoice"},
    "stripe_charge": {"refund": "charge", "dispute": "charge"},
    "stripe_customer": {"discount": "customer"},
}


def expected_pairs(account: Account, object_type: str, days: Days) -> set[tuple[str, date]]:
    endpoint: objects.Endpoint = STRIPE.object(object_type).detail
    expected = {
        (item["id"], day_in(account.zone, item["created"]))
        for item in account.plain(endpoint.path)
        if day_in(account.zone, item["created"]) in days
    }
    for event in account.plain("/v1/events"):
        item, day = event["data"]["object"], day_in(account.zone, event["created"])
        if day not in days:
            continue
        if item["object"] == endpoint.kind:
            expected.add((item["id"], day))
        elif (name := NAMED.get(object_type, {}).get(item["object"])) and item[name]:
            expected.add((item[name], day))
    return expected


@pytest.mark.parametrize("zone", [NEW_YORK, TOKYO], ids=str)
@pytest.mark.parametrize(
    "object_type",
    [
        name
        for name in WINDOW_OBJECTS
        if name not in ("stripe_customer_balance_transaction", "stripe_payout_balance_transaction")
    ],
)
def test_a_day_holds_what_was_created_in_it_and_what_its_events_say_changed(
    acme: Account, object_type: str, zone: ZoneInfo
) -> None:
    acme.zone = zone
    days = Days(date(2026, 11, 1), date(2026, 11, 19))
    expected = expected_pairs(acme, object_type, days)
    assert len(expected) >= 1
    found = pairs(acme.records(object_type, days))
    assert sorted(found) == sorted(expected)
    assert acme.sent.keys() == {"GET 127.0.0.1"}
    for day in (date(2026, 11, 2), date(2026, 11, 19)):
        single = pairs(acme.records(object_type, Days(day, day)))
        assert sorted(single) == sorted(pair for pair in expected if pair[1] == day)


def test_customer_balance_transactions_are_found_by_events_and_by_walking(acme: Account) -> None:
    expected = {
        (item["id"], day_in(NEW_YORK, item["created"]))
        for customer in acme.plain("/v1/customers")
        for item in acme.plain(f"/v1/customers/{customer['id']}/balance_transactions")
    }
    whole = Days(date(2026, 8, 1), date(2026, 11, 20))
    assert sorted(pairs(acme.records("stripe_customer_balance_transaction", whole))) == sorted(expected)
    asked = sum(acme.sent.values())
    recent = Days(date(2026, 10, 22), date(2026, 11, 20))
    assert sorted(pairs(acme.records("stripe_customer_balance_transaction", recent))) == sorted(
        pair for pair in expected if pair[1] in recent
    )
    quiet = Days(date(2026, 11, 15), date(2026, 11, 15))
    assert sorted(pairs(acme.records("stripe_customer_balance_transaction", quiet))) == sorted(
        pair for pair in expected if pair[1] in quiet
    )
    assert sum(acme.sent.values()) < asked / 3, "a quiet day walks over all customers"


@pytest.mark.parametrize("zone", [NEW_YORK, TOKYO], ids=str)
def test_what_a_payout_paid_out_belongs_to_the_days_on_which_it_was_made_and_reconciled(
    acme: Account, zone: ZoneInfo
) -> None:
    acme.zone, object_type = zone, "stripe_payout_balance_transaction"
    days = Days(date(2026, 11, 1), date(2026, 11, 19))
    expected: set[tuple[str, date]] = set()
    for event in acme.plain("/v1/events", type="payout.reconciliation_completed"):
        payout = event["data"]["object"]
        of_it = {day_in(zone, payout["created"]), day_in(zone, event["created"])}
        for item in acme.plain("/v1/balance_transactions", payout=payout["id"]):
            expected |= {(f"{payout['id']}/{item['id']}", day) for day in of_it if day in days}
    assert len({source_id.partition("/")[0] for source_id, _ in expected}) > 5
    records = acme.records(object_type, days)
    assert sorted(pairs(records)) == sorted(expected)
    assert all(record.payload and record.source_id.endswith(f"/{record.payload['id']}") for record in records)
    nets: dict[str, dict[str, int]] = {}
    for record in records:
        assert record.payload is not None
        nets.setdefault(record.source_id.partition("/")[0], {})[record.source_id] = record.payload["net"]
    assert {sum(of_it.values()) for of_it in nets.values()} == {0}
    for day in (date(2026, 11, 3), date(2026, 11, 19)):
        single = pairs(acme.records(object_type, Days(day, day)))
        assert sorted(single) == sorted(pair for pair in expected if pair[1] == day)


def test_every_list_is_read_to_its_end_newest_first(acme: Account) -> None:
    whole = Days(date(2026, 8, 1), date(2026, 11, 20))
    for object_type in ("stripe_balance_transaction", "stripe_event"):
        path = STRIPE.object(object_type).detail.path
        expected = [item["id"] for item in acme.plain(path)]
        assert len(expected) > 100
        pages = acme.pages(object_type, whole)
        assert [record.source_id for page in pages for record in page.records] == expected
        assert [len(page.records) for page in pages[:-1]] == [100] * (len(pages) - 1)


def test_pages_are_read_only_when_they_are_drawn(shared: Running, acme: Account) -> None:
    shared.call("DELETE", "/requests")
    items = acme.items("stripe_balance_transaction", Days(date(2026, 8, 1), date(2026, 11, 20)))
    next(items)
    assert shared.call("GET", "/requests")["total"] == 1


def test_payloads_are_what_stripe_wrote_and_hash_alike_on_every_read(acme: Account) -> None:
    day = Days(date(2026, 11, 1), date(2026, 11, 19))
    for object_type in WINDOW_OBJECTS:
        first = {
            pair: without_volatile(object_type, r.payload)
            for r in acme.records(object_type, day)
            for pair in pairs([r])
        }
        again = {
            pair: without_volatile(object_type, r.payload)
            for r in acme.records(object_type, day)
            for pair in pairs([r])
        }
        assert first == again, object_type
    invoice = next(iter(acme.records("stripe_invoice", day)))
    assert invoice.payload is not None
    other = next(r for r in acme.records("stripe_invoice", day) if r.source_id == invoice.source_id)
    assert other.payload != invoice.payload, "the sandbox gives volatile fields anew on every read"
    assert invoice.created_at is not None
    assert int(invoice.created_at.timestamp()) == invoice.payload["created"]


def test_an_object_goes_to_its_business_day_at_the_very_second(sandbox: Running, account: Account) -> None:
    account.zone = TOKYO
    midnight = start_of_day(date(2026, 11, 22), TOKYO)
    sandbox.advance_to(midnight - timedelta(seconds=1))
    before = sandbox.change("create", values={"name": "Before"})["id"]
    sandbox.advance_to(midnight)
    after = sandbox.change("create", values={"name": "After"})["id"]
    account.now = midnight + timedelta(hours=30)
    sandbox.advance_to(account.now)
    for name, day in ((before, date(2026, 11, 21)), (after, date(2026, 11, 22))):
        assert name in {r.source_id for r in account.records("stripe_customer", Days(day, day))}
    both = pairs(account.records("stripe_customer", Days(date(2026, 11, 20), date(2026, 11, 23))))
    assert {(before, date(2026, 11, 21)), (after, date(2026, 11, 22))} <= set(both)
    assert len(set(both)) == len(both)


def test_changes_in_one_second_and_in_the_last_second_of_a_day_are_all_seen(sandbox: Running, account: Account) -> None:
    customers = [sandbox.change("create")["id"] for _ in range(3)]
    midnight = start_of_day(date(2026, 11, 22), NEW_YORK)
    for moment in (midnight - timedelta(seconds=1), midnight):
        sandbox.advance_to(moment)
        for number, customer in enumerate(customers):
            sandbox.change("update", id=customer, values={"metadata": {"n": f"{moment.timestamp()}{number}"}})
            sandbox.change("touch", id=customer)
    account.now = midnight + timedelta(hours=1)
    sandbox.advance_to(account.now)
    for day in (date(2026, 11, 21), date(2026, 11, 22)):
        found = pairs(account.records("stripe_customer", Days(day, day)))
        assert [found.count((customer, day)) for customer in customers] == [1, 1, 1]


def test_what_changed_is_asked_for_once_and_given_to_each_of_its_days(sandbox: Running, account: Account) -> None:
    customer = account.plain("/v1/customers")[-1]["id"]
    for day in (21, 22, 22):
        sandbox.advance_to(max(account.now, datetime(2026, 11, day, 15, tzinfo=UTC)))
        account.now = datetime(2026, 11, day, 15, tzinfo=UTC)
        sandbox.change("update", id=customer, values={"name": f"Name {day} {account.now}"})
        sandbox.change("touch", id=customer)
    account.now = datetime(2026, 11, 23, 15, tzinfo=UTC)
    sandbox.advance_to(account.now)
    sandbox.call("DELETE", "/requests")
    found = account.records("stripe_customer", Days(date(2026, 11, 21), date(2026, 11, 22)))
    mine = [record for record in found if record.source_id == customer]
    assert pairs(mine) == [(customer, date(2026, 11, 21)), (customer, date(2026, 11, 22))]
    assert mine[0].payload is not None
    assert mine[0].payload["name"].startswith("Name 22")
    asked = {each["path"]: each["count"] for each in sandbox.call("GET", "/requests")["requests"]}
    assert asked[f"/v1/customers/{customer}"] == 1


def test_deleted_objects_are_removals(sandbox: Running, account: Account) -> None:
    sandbox.advance_to(datetime(2026, 11, 21, 15, tzinfo=UTC))
    fresh = sandbox.change("create")["id"]
    old = account.plain("/v1/customers")[-1]["id"]
    sandbox.change("update", id=old, values={"name": "Not for long"})
    account.now = datetime(2026, 11, 22, 15, tzinfo=UTC)
    sandbox.advance_to(account.now)
    sandbox.change("delete", id=fresh)
    sandbox.change("delete", id=old)
    account.now = datetime(2026, 11, 24, 15, tzinfo=UTC)
    sandbox.advance_to(account.now)
    days = Days(date(2026, 11, 21), date(2026, 11, 22))
    mine = [record for record in account.records("stripe_customer", days) if record.source_id in (fresh, old)]
    assert sorted(pairs(mine)) == sorted((name, day) for name in (fresh, old) for day in days)
    assert [record.payload for record in mine] == [None] * 4
    # The day before the deletion knows of a change only; that the object is gone is said, not passed over.
    day_before = Days(days.first, days.first)
    mine = [record for record in account.records("stripe_customer", day_before) if record.source_id in (fresh, old)]
    assert [(record.source_id, record.payload) for record in mine] == [(old, None)]
    assert any("have been deleted since" in text for text in account.notices("stripe_customer", day_before))


def test_a_deleted_draft_invoice_is_a_removal(sandbox: Running, account: Account) -> None:
    moment = NOW
    while not (drafts := account.plain("/v1/invoices", status="draft")):
        moment += timedelta(hours=1)
        sandbox.advance_to(moment)
        assert moment < NOW + timedelta(days=40), "the sandbox never drafts an invoice"
    draft = drafts[0]
    sandbox.change("delete", id=draft["id"])
    day = day_in(NEW_YORK, int(moment.timestamp()))
    account.now = moment + timedelta(days=1)
    sandbox.advance_to(account.now)
    gone = [r for r in account.records("stripe_invoice", Days(day, day)) if r.source_id == draft["id"]]
    assert [(record.day, record.payload) for record in gone] == [(day, None)]


def test_transactions_of_deleted_customers_do_not_stop_the_read(sandbox: Running, account: Account) -> None:
    gone, stays = (item["id"] for item in account.plain("/v1/customers")[:2])
    sandbox.advance_to(datetime(2026, 11, 21, 15, tzinfo=UTC))
    for customer in (gone, stays):
        sandbox.change("credit", id=customer, amount=-500)
    account.now = datetime(2026, 11, 22, 15, tzinfo=UTC)
    sandbox.advance_to(account.now)
    sandbox.change("delete", id=gone)
    day = Days(date(2026, 11, 21), date(2026, 11, 21))
    found = account.records("stripe_customer_balance_transaction", day)
    assert {gone, stays} <= {record.payload["customer"] for record in found if record.payload}


def test_nested_lists_are_read_to_their_end(acme: Account) -> None:
    whole = Days(date(2026, 8, 1), date(2026, 11, 20))
    records = acme.records("stripe_invoice", whole)
    lines = {r.source_id: [line["id"] for line in r.payload["lines"]["data"]] for r in records if r.payload}
    assert max(map(len, lines.values())) == 250
    longest = max(lines, key=lambda name: len(lines[name]))
    assert lines[longest] == [line["id"] for line in acme.plain(f"/v1/invoices/{longest}/lines")]
    assert not any(r.payload["lines"]["has_more"] for r in records if r.payload)
    refunded = [r.payload for r in acme.records("stripe_charge", whole) if r.payload and r.payload["amount_refunded"]]
    assert refunded
    assert all(sum(each["amount"] for each in charge["refunds"]["data"]) > 0 for charge in refunded)


def test_long_nested_lists_cut_pages_short_and_the_read_goes_on_there(
    acme: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Days(date(2026, 8, 1), date(2026, 10, 20))
    undisturbed = acme.pages("stripe_invoice", whole)
    monkeypatch.setattr(reading, "_FETCHED_ITEMS_PER_PAGE", 200)
    pieces = acme.pages("stripe_invoice", whole)
    assert len(pieces) > len(undisturbed)
    sequence = [pair for page in undisturbed for pair in pairs(page.records)]
    assert [pair for page in pieces for pair in pairs(page.records)] == sequence
    rest = acme.records("stripe_invoice", whole, resume=pieces[0].resume)
    assert pairs(pieces[0].records) + pairs(rest) == sequence


def test_events_keep_the_lists_that_stripe_recorded(acme: Account) -> None:
    records = acme.records("stripe_event", LAST_MONTH)
    kept = [r.payload for r in records if r.payload and r.payload["data"]["object"]["object"] == "invoice"]
    assert any(event["data"]["object"]["lines"]["has_more"] for event in kept)


def test_pending_balance_transactions_are_read_until_they_are_settled(busy: Running) -> None:
    account = Account(busy.env, now=BUSY)
    first = Days(date(2026, 11, 1), date(2026, 11, 16))
    account.held.stage(account.records("stripe_balance_transaction", first))
    pending = {name: p for name, p in account.held.payloads.items() if p["status"] == "pending"}
    assert len(pending) > 5
    for day in range(17, 26):
        account.now = datetime(2026, 11, day + 1, 6, tzinfo=UTC)
        busy.advance_to(account.now)
        today = date(2026, 11, day)
        found = account.records("stripe_balance_transaction", Days(today, today))
        assert len(pairs(found)) == len(set(pairs(found)))
        for record in found:
            if record.source_id in pending and record.payload and record.payload["status"] == "available":
                available = pending[record.source_id]["available_on"]
                assert record.day == day_in(NEW_YORK, available)
        account.held.stage(found)
    assert not [name for name in pending if account.held.payloads[name]["status"] == "pending"]


def test_what_is_pending_is_not_asked_for_one_by_one(busy: Running) -> None:
    account = Account(busy.env, now=BUSY)
    days = Days(date(2026, 11, 1), date(2026, 11, 16))
    account.held.stage(account.records("stripe_balance_transaction", days))
    pending = account.held.ids_where(("status",), "pending")
    assert len(pending) > 5
    account.records("stripe_balance_transaction", days)
    in_the_window = sum(account.sent.values())
    account.now = datetime(2026, 11, 19, 15, tzinfo=UTC)
    busy.advance_to(account.now)
    account.records("stripe_balance_transaction", Days(date(2026, 11, 18), date(2026, 11, 19)))
    before_the_window = sum(account.sent.values())
    assert in_the_window + before_the_window < len(pending)


def test_a_settlement_that_no_run_saw_goes_to_the_first_day_read(busy: Running) -> None:
    account = Account(busy.env, now=BUSY)
    account.held.stage(account.records("stripe_balance_transaction", Days(date(2026, 11, 1), date(2026, 11, 16))))
    pending = set(account.held.ids_where(("status",), "pending"))
    account.now = datetime(2026, 12, 10, 15, tzinfo=UTC)
    busy.advance_to(account.now)
    busy.call("DELETE", "/requests")
    days = Days(date(2026, 12, 9), date(2026, 12, 10))
    found = [r for r in account.records("stripe_balance_transaction", days) if r.source_id in pending]
    assert set(pairs(found)) == {(name, days.first) for name in pending}
    long_past = Days(date(2026, 12, 1), date(2026, 12, 2))
    assert not [r for r in account.records("stripe_balance_transaction", long_past) if r.source_id in pending]


def test_a_canceled_invoice_payment_is_found_without_an_event(sandbox: Running, account: Account) -> None:
    payment = account.plain("/v1/invoice_payments")[0]
    account.held.payloads = {payment["id"]: {**payment, "status": "open"}}
    account.now = datetime(2026, 11, 24, 15, tzinfo=UTC)
    sandbox.advance_to(account.now)
    canceled = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
    sandbox.change(
        "update",
        id=payment["id"],
        values={"status": "canceled", "status_transitions": {"canceled_at": canceled, "paid_at": None}},
    )
    days = Days(date(2026, 11, 22), date(2026, 11, 24))
    assert (payment["id"], date(2026, 11, 23)) in pairs(account.records("stripe_invoice_payment", days))


def test_what_an_event_and_its_own_state_both_tell_is_given_once(busy: Running) -> None:
    account = Account(busy.env, now=BUSY)
    account.held.stage(account.records("stripe_invoice_payment", Days(date(2026, 11, 1), date(2026, 11, 16))))
    waiting = set(account.held.ids_where(("status",), "open"))
    account.now = datetime(2026, 11, 23, 15, tzinfo=UTC)
    busy.advance_to(account.now)
    found = pairs(account.records("stripe_invoice_payment", Days(date(2026, 11, 17), date(2026, 11, 23))))
    assert waiting & {name for name, _ in found}
    assert len(found) == len(set(found))


def test_the_balance_is_one_record_of_the_present_day(acme: Account) -> None:
    today = date(2026, 11, 20)
    (record,) = acme.records("stripe_balance", Days(today, today), kind=Kind.SNAPSHOT)
    assert (record.source_id, record.day) == ("balance", today)
    assert record.payload is not None
    assert record.payload["object"] == "balance"
    assert acme.notices("stripe_balance", Days(today, today), kind=Kind.SNAPSHOT) == []


def test_a_balance_that_midnight_overtook_stands_for_the_day_before(acme: Account, database: Database) -> None:
    yesterday = Days(date(2026, 11, 19), date(2026, 11, 19))
    (record,) = acme.records("stripe_balance", yesterday, kind=Kind.SNAPSHOT)
    assert (record.source_id, record.day) == ("balance", yesterday.last)
    assert record.payload is not None
    (notice,) = acme.notices("stripe_balance", yesterday, kind=Kind.SNAPSHOT)
    assert "after midnight" in notice
    assert yesterday.last.isoformat() in notice

    ensure_business(database, "acme", "Acme", NEW_YORK.key)
    connection = ensure_connection(database, "acme", "stripe")
    obj = STRIPE.object("stripe_balance")
    before_midnight = start_of_day(date(2026, 11, 20), NEW_YORK) - timedelta(seconds=1)
    for moment in (before_midnight, NOW):

        @contextmanager
        def opened(request: Request, moment: datetime = moment) -> Iterator[Extraction]:
            with connect(acme.credentials) as reader:
                yield STRIPE.extract(reader, obj, replace(request, now=lambda: moment))

        (read,) = plan_reads(STRIPE, obj, connection, yesterday, before_midnight)
        assert read.kind is Kind.SNAPSHOT
        run = perform(database, replace(read, extract=opened), Origin(Trigger.MANUAL), chunk_rows=50)
        assert run["rows_removed"] == 0
        heads = database.fetch("SELECT source_id, removed FROM finance_os.raw_record_heads")
        assert heads == [{"source_id": "balance", "removed": False}]


def test_targeted_reads_ask_by_id_for_today(acme: Account) -> None:
    yesterday, today = date(2026, 11, 19), date(2026, 11, 20)
    invoices = tuple(item["id"] for item in acme.plain("/v1/invoices"))[-3:]
    pages = acme.pages("stripe_invoice", Days(yesterday, today), kind=Kind.TARGETED, targets=invoices)
    assert pairs(r for page in pages for r in page.records) == [(name, today) for name in invoices]
    assert acme.sent == {"GET 127.0.0.1": 3}
    rest = acme.pages(
        "stripe_invoice",
        Days(today, today),
        kind=Kind.TARGETED,
        targets=invoices,
        resume=pages[0].resume,
    )
    assert [page.records[0].source_id for page in rest] == list(invoices[1:])
    (gone,) = acme.records("stripe_invoice", Days(today, today), kind=Kind.TARGETED, targets=("in_none",))
    assert (gone.source_id, gone.payload) == ("in_none", None)
    (late,) = acme.records("stripe_invoice", Days(yesterday, yesterday), kind=Kind.TARGETED, targets=invoices[:1])
    assert late.day == yesterday, "asked for just before midnight"
    (item,) = [
        item
        for customer in acme.plain("/v1/customers")
        for item in acme.plain(f"/v1/customers/{customer['id']}/balance_transactions")
    ][:1]
    owned = "stripe_customer_balance_transaction"
    target = f"{item['customer']}/{item['id']}"
    (record,) = acme.records(owned, Days(today, today), kind=Kind.TARGETED, targets=(target,))
    assert (record.source_id, record.payload) == (item["id"], item)
    with pytest.raises(SourceError, match="asked for as cus_"):
        acme.records(owned, Days(today, today), kind=Kind.TARGETED, targets=(item["id"],))


def test_pages_are_dated_before_they_are_asked_for(acme: Account) -> None:
    ticks = iter(range(1_000_000))
    request = Request(
        Kind.WINDOW,
        LAST_MONTH,
        window_of(LAST_MONTH, NEW_YORK).until(NOW),
        NEW_YORK,
        lambda: NOW + timedelta(microseconds=next(ticks)),
        Held(),
    )
    with connect(acme.credentials) as stripe:
        extraction = STRIPE.extract(stripe, STRIPE.object("stripe_invoice"), request)
        times = [item.requested_at for item in extraction if isinstance(item, Page)]
    assert len(times) > 2
    assert times == sorted(set(times)), "each answer has a time of its own, in the order of asking"


# --- what it says about itself


def test_windows_older_than_the_event_log_say_so(acme: Account) -> None:
    old = Days(date(2026, 9, 1), date(2026, 9, 30))
    assert acme.notices("stripe_invoice", old) == [
        "Changes before 2026-10-21 are not in Stripe's event log any more: days before hold what was created in them."
    ]
    asked = sum(acme.sent.values())
    acme.records("stripe_balance_transaction", old)
    assert asked > 0
    assert any("not there any more" in text for text in acme.notices("stripe_event", old))
    assert any("were walked" in text for text in acme.notices("stripe_customer_balance_transaction", old))
    yesterday = Days(date(2026, 11, 19), date(2026, 11, 19))
    for object_type in WINDOW_OBJECTS:
        assert acme.notices(object_type, yesterday) == []


def test_a_window_that_ends_now_says_that_the_event_log_lags(acme: Account) -> None:
    today = Days(date(2026, 11, 20), date(2026, 11, 20))
    (text,) = acme.notices("stripe_invoice", today)
    assert "2026-11-20 11:59:00Z" in text


def test_declarations_name_no_personal_data_as_printable() -> None:
    personal = {"name", "email", "phone", "address", "description", "billing_details", "shipping", "receipt_email"}
    for obj in STRIPE:
        assert obj.description
        assert len(obj.detail.changed_by) <= 20, "Stripe takes at most 20 event types at once"
        assert not personal & set(obj.shown), obj.object_type
        assert set(obj.shown) <= {column.name for column in obj.columns}, obj.object_type
    assert [obj.object_type for obj in STRIPE] == [
        "stripe_customer",
        "stripe_invoice",
        "stripe_charge",
        "stripe_payment_intent",
        "stripe_balance_transaction",
        "stripe_credit_note",
        "stripe_customer_balance_transaction",
        "stripe_refund",
        "stripe_payout",
        "stripe_payout_balance_transaction",
        "stripe_dispute",
        "stripe_invoice_payment",
        "stripe_event",
        "stripe_balance",
    ]


def test_documented_columns_are_fields_that_stripe_gives(acme: Account) -> None:
    whole = Days(date(2026, 8, 1), date(2026, 11, 20))
    for obj in STRIPE:
        found = acme.records(obj.object_type, whole)
        assert found, obj.object_type
        fields = set().union(*(record.payload or {} for record in found))
        assert {column.name for column in obj.columns} <= fields, obj.object_type


# --- resuming


def test_a_read_resumed_behind_any_page_gives_exactly_the_rest(acme: Account) -> None:
    whole = Days(date(2026, 8, 24), date(2026, 11, 20))
    for object_type, days in [*((name, LAST_MONTH) for name in WINDOW_OBJECTS), (WINDOW_OBJECTS[6], whole)]:
        undisturbed = acme.pages(object_type, days)
        sequence = [pair for page in undisturbed for pair in pairs(page.records)]
        assert sequence
        step = max(1, len(undisturbed) // 6)
        places = sorted({*range(0, len(undisturbed), step), len(undisturbed) - 1})
        for place in places:
            head = [pair for page in undisturbed[: place + 1] for pair in pairs(page.records)]
            rest = pairs(acme.records(object_type, days, resume=undisturbed[place].resume))
            assert head + rest == sequence, (object_type, place)


def test_resuming_the_settled_phase_gives_exactly_the_rest(busy: Running) -> None:
    account = Account(busy.env, now=BUSY)
    account.held.stage(account.records("stripe_balance_transaction", Days(date(2026, 11, 1), date(2026, 11, 16))))
    staged = dict(account.held.payloads)
    account.now = datetime(2026, 11, 30, 15, tzinfo=UTC)
    busy.advance_to(account.now)
    days = Days(date(2026, 11, 29), date(2026, 11, 30))
    undisturbed = account.pages("stripe_balance_transaction", days)
    assert {page.resume["phase"] for page in undisturbed if page.resume} == {"created", "settled"}
    sequence = [pair for page in undisturbed for pair in pairs(page.records)]
    for place, page in enumerate(undisturbed):
        account.held.payloads = dict(staged)
        head = [record for page in undisturbed[: place + 1] for record in page.records]
        account.held.stage(head)
        rest = pairs(account.records("stripe_balance_transaction", days, resume=page.resume))
        assert pairs(head) + rest == sequence, place


def test_a_customer_with_many_transactions_is_read_to_the_end_also_when_resumed(
    sandbox: Running, account: Account
) -> None:
    sandbox.advance_to(datetime(2026, 11, 21, 15, tzinfo=UTC))
    customer = sandbox.change("create")["id"]
    for _ in range(120):
        sandbox.change("credit", id=customer, amount=-1)
    account.now = datetime(2026, 11, 22, 15, tzinfo=UTC)
    sandbox.advance_to(account.now)
    for days in (Days(date(2026, 11, 21), date(2026, 11, 21)), Days(date(2026, 10, 1), date(2026, 11, 21))):
        pages = account.pages("stripe_customer_balance_transaction", days)
        sequence = [pair for page in pages for pair in pairs(page.records)]
        assert len(sequence) == len(set(sequence)) >= 120
        for place, page in enumerate(pages):
            head = [pair for page in pages[: place + 1] for pair in pairs(page.records)]
            rest = pairs(account.records("stripe_customer_balance_transaction", days, resume=page.resume))
            assert head + rest == sequence, place


def test_a_read_resumed_later_reads_what_time_has_passed_since(sandbox: Running, account: Account) -> None:
    today = Days(date(2026, 11, 20), date(2026, 11, 20))
    known = account.plain("/v1/customers")[0]["id"]
    sandbox.change("update", id=known, values={"name": "Known"})
    account.now = NOW + timedelta(seconds=1)
    sandbox.advance_to(account.now)
    first = account.pages("stripe_customer", today)
    account.now = NOW + timedelta(hours=30)
    sandbox.advance_to(NOW + timedelta(hours=6))
    fresh = sandbox.change("create")["id"]
    sandbox.change("update", id=known, values={"name": "Later"})
    sandbox.advance_to(account.now)
    rest = account.records("stripe_customer", today, resume=first[-1].resume)
    assert {fresh, known} <= {record.source_id for record in rest}
    assert [r.payload["name"] for r in rest if r.source_id == known and r.payload] == ["Later"]


def test_a_place_whose_object_was_deleted_meanwhile_is_found_again(sandbox: Running, account: Account) -> None:
    sandbox.advance_to(NOW + timedelta(seconds=10))
    names = [sandbox.change("create")["id"] for _ in range(5)]  # all in one second
    sandbox.advance_to(NOW + timedelta(seconds=20))
    names.append(sandbox.change("create")["id"])
    account.now = NOW + timedelta(hours=1)
    sandbox.advance_to(account.now)
    today = Days(date(2026, 11, 20), date(2026, 11, 20))
    (whole,) = account.pages("stripe_customer", today)
    assert whole.resume is not None
    order = [record.source_id for record in whole.records]
    at = order.index(names[-1])
    place = {**whole.resume, "after": order[at], "second": whole.records[at].payload["created"]}  # pyright: ignore
    sandbox.change("delete", id=order[at])
    rest = [r.source_id for r in account.records("stripe_customer", today, resume=place) if r.payload is not None]
    assert rest == order[at + 1 :]


# --- faults


@pytest.mark.parametrize("fault", ["429", "500", "timeout", "truncated", "duplicate_page", "drop_connection", "slow"])
@pytest.mark.parametrize("object_type", ["stripe_balance_transaction", "stripe_payment_intent"])
def test_a_fault_at_any_page_changes_nothing(shared: Running, acme: Account, object_type: str, fault: str) -> None:
    path = STRIPE.object(object_type).detail.path
    whole = Days(date(2026, 8, 24), date(2026, 11, 20))
    undisturbed = pairs(acme.records(object_type, whole))
    pages = 1 + sum(page.resume["phase"] == "created" for page in acme.pages(object_type, whole) if page.resume)
    assert pages >= 3
    # The first page repeats nothing, and no page of the same list can be told from it.
    for number in range(2 if fault == "duplicate_page" else 1, pages):
        shared.clear_faults()
        shared.script({"path": path, "kind": fault, "on": number, "delay": 0.02 if fault == "slow" else 1})
        assert pairs(acme.records(object_type, whole, patience=QUICK)) == undisturbed, number
    shared.clear_faults()
    if object_type == "stripe_payment_intent":
        shared.script({"path": "/v1/events", "kind": fault, "on": 1}, {"path": f"{path}/*", "kind": fault, "on": 2})
        assert pairs(acme.records(object_type, whole, patience=QUICK)) == undisturbed


@pytest.mark.parametrize(
    ("fault", "code", "permanent"),
    [
        ("429", "rate_limited", False),
        ("500", "vendor_error", False),
        ("timeout", "timeout", False),
        ("truncated", "unreadable_answer", False),
        ("drop_connection", "unreachable", False),
        ("403", "forbidden", True),
    ],
)
def test_a_fault_that_lasts_ends_the_read(
    shared: Running, acme: Account, fault: str, code: str, permanent: bool
) -> None:
    shared.call("DELETE", "/requests")
    shared.script({"path": "/v1/balance_transactions", "kind": fault, "on": 2, "times": 99, "delay": 1})
    with pytest.raises(SourceError) as caught:
        acme.records("stripe_balance_transaction", Days(date(2026, 8, 24), date(2026, 11, 20)), patience=QUICK)
    assert (caught.value.code, caught.value.permanent) == (code, permanent)
    assert "/v1/balance_transactions" in caught.value.message
    asked = shared.call("GET", "/requests")["total"]
    assert asked == 1 + (1 if permanent else QUICK.attempts)


def test_a_page_that_keeps_repeating_ends_the_read(shared: Running, acme: Account) -> None:
    shared.script({"path": "/v1/balance_transactions", "kind": "duplicate_page", "on": 2, "times": 99})
    items = acme.items("stripe_balance_transaction", Days(date(2026, 8, 24), date(2026, 11, 20)), patience=QUICK)
    seen = [
        record.source_id for item in itertools.islice(items, 1) if isinstance(item, Page) for record in item.records
    ]
    with pytest.raises(SourceError, match="repeats objects of an earlier page") as caught:
        next(items)
    assert caught.value.code == "unreadable_answer"
    assert len(seen) == len(set(seen)) == 100


def test_a_key_without_a_permission_names_what_it_may_not_read(shared: Running, acme: Account) -> None:
    narrow = shared.call("POST", "/keys", {"permissions": ["customer"]})["api_key"]
    acme.env = {**acme.env, "FINANCE_OS_STRIPE_API_KEY": narrow}
    with pytest.raises(SourceError) as caught:
        acme.records("stripe_payout", LAST_MONTH)
    assert (caught.value.code, caught.value.permanent) == ("forbidden", True)
    assert "/v1/" in caught.value.message


def test_the_rate_limit_is_kept(shared: Running, acme: Account) -> None:
    shared.call("POST", "/rate-limit", {"requests_per_second": 25})
    shared.call("DELETE", "/requests")
    try:
        days = Days(date(2026, 11, 10), date(2026, 11, 19))
        request = Request(Kind.WINDOW, days, window_of(days, NEW_YORK), NEW_YORK, lambda: NOW, Held())
        with connect(Credentials({**acme.env, "FINANCE_OS_STRIPE_RATE_LIMIT": "20"})) as stripe:
            extraction = STRIPE.extract(stripe, STRIPE.object("stripe_invoice"), request)
            list(extraction)
        assert shared.call("GET", "/requests")["total"] == sum(extraction.requested().values())
    finally:
        shared.call("POST", "/rate-limit", {"requests_per_second": None})


# --- two businesses


def test_staged_again_nothing_is_new_for_either_business(
    database: Database, shared: Running, acme: Account, globex: Account
) -> None:
    days = Days(date(2026, 11, 10), date(2026, 11, 19))
    connections = []
    for name, zone in (("acme", NEW_YORK), ("globex", TOKYO)):
        ensure_business(database, name, name.title(), zone.key)
        connections.append(ensure_connection(database, name, "stripe"))
    counts: dict[tuple[str, str], list[int]] = {}
    for _ in range(2):
        for connection, account in zip(connections, (acme, globex), strict=True):
            for object_type in WINDOW_OBJECTS:
                obj = STRIPE.object(object_type)

                @contextmanager
                def opened(request: Request, obj: Any = obj, account: Account = account) -> Iterator[Extraction]:
                    with connect(account.credentials) as reader:
                        yield STRIPE.extract(reader, obj, replace(request, now=lambda: NOW))

                read = Read(
                    connection,
                    object_type,
                    Kind.WINDOW,
                    days,
                    window_of(days, account.zone),
                    dict.fromkeys(days, DayState.WHOLE),
                    opened,
                    obj.volatile_paths,
                )
                run = perform(database, read, Origin(Trigger.MANUAL), chunk_rows=50)
                assert run["status"] == "succeeded"
                counts.setdefault((connection.business_id, object_type), []).append(run["rows_new"])
                if object_type == "stripe_invoice":
                    assert run["rows_extracted"] > 0
    assert {name for name, (_, again) in counts.items() if again} == set()
    assert sum(first for first, _ in counts.values()) > 50


def test_two_businesses_read_their_own_account_only(acme: Account, globex: Account) -> None:
    whole = Days(date(2026, 8, 24), date(2026, 11, 20))
    ours = {r.source_id: r.payload for r in acme.records("stripe_invoice", whole)}
    theirs = {r.source_id: r.payload for r in globex.records("stripe_invoice", whole)}
    same = {name for name in ours.keys() & theirs.keys() if ours[name] and theirs[name]}
    assert len(same) > 10, "external IDs are the same"
    assert all(
        without_volatile("stripe_invoice", ours[n]) != without_volatile("stripe_invoice", theirs[n]) for n in same
    )
    present = sorted(name for name, payload in theirs.items() if payload is not None)
    assert present == sorted(item["id"] for item in globex.plain("/v1/invoices"))
