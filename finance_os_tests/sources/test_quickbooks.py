"""What a day of QuickBooks holds, read over a socket from the sandbox company.

What is expected is worked out here anew, from plain lists and from what the sandbox's books themselves hold.
`company` serves one behind scripted faults; the other QuickBooks tests use it too.
"""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from finance_os.evidence.canonical import canonical_json
from finance_os.evidence.extraction import Item, Kind, Notice, Page, Record, RemoteCount, Request, SourceError
from finance_os.evidence.windows import Days, start_of_day, window_of
from finance_os.sandbox.faults import Faults, Rule
from finance_os.sandbox.quickbooks import QuickBooksRoom
from finance_os.sandbox.world import build
from finance_os.sources.credentials import Credentials
from finance_os.sources.quickbooks import QUICKBOOKS
from finance_os.sources.quickbooks.client import Patience, QuickBooksReader, connect
from finance_os.sources.quickbooks.objects import Way
from finance_os.sources.source import Reads
from finance_os_tests.sources.kept import MemorySecrets

START = date(2026, 6, 9)
UNTIL = datetime(2026, 7, 19, 12, 30, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
TOKYO = ZoneInfo("Asia/Tokyo")
WHOLE = Days(START - timedelta(days=1), date(2026, 7, 19))
QUICK = Patience(connect=2, read=0.3, attempts=3, first_wait=0.01, longest_wait=0.05, throttled=0.02)
CHANGING = [obj.object_type for obj in QUICKBOOKS if obj.detail.way is Way.CHANGES]


@dataclass
class Held:
    """What is staged, as the finance database would tell it: by the latest record of each source ID."""

    payloads: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    requests: int = 0
    since: datetime | None = None

    def stage(self, records: Iterable[Record]) -> None:
        for record in records:
            self.payloads.pop(record.source_id, None)
            if record.payload is not None:
                self.payloads[record.source_id] = record.payload

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:
        raise AssertionError(f"a read of QuickBooks does not ask for {value} at {path}")

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:
        def text(payload: Any) -> str:
            for name in path:
                payload = payload[name]
            return payload

        return sorted(key for key, payload in self.payloads.items() if first <= text(payload) <= last)

    def ids_read_since(self, moment: datetime) -> list[str]:
        raise AssertionError(f"a read of QuickBooks asks what was read since {moment}")

    def requests_since(self, moment: datetime) -> int:
        self.since = moment
        return self.requests


@dataclass
class Company:
    """One served company, and how it is read."""

    room: QuickBooksRoom
    prefix: str
    base: str
    faults: Faults
    now: datetime = UNTIL
    zone: ZoneInfo = NEW_YORK
    held: Held = field(default_factory=Held)
    kept: MemorySecrets = field(default_factory=MemorySecrets)
    options: dict[str, str] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    meddle: Callable[[int], None] | None = None
    asked: list[str] = field(default_factory=list)
    refresh_token: str = ""

    def __post_init__(self) -> None:
        self.refresh_token = self.room.connection.refresh_token

    @property
    def credentials(self) -> Credentials:
        env = self.room.env(self.base) | {"FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN": self.refresh_token}
        return Credentials({**env, "FINANCE_OS_QUICKBOOKS_RATE_LIMIT": "1000000", **self.options}, self.kept)

    @contextmanager
    def reader(
        self, page_size: int | None = None, changes_size: int | None = None, patience: Patience = QUICK
    ) -> Iterator[QuickBooksReader]:
        with connect(self.credentials, patience) as reader:
            reader.page_size = page_size or reader.page_size
            reader.changes_size = changes_size or reader.changes_size
            yield reader

    def items(
        self,
        object_type: str,
        days: Days,
        *,
        kind: Kind | None = None,
        resume: Mapping[str, Any] | None = None,
        targets: tuple[str, ...] = (),
        **how: Any,
    ) -> Iterator[Item]:
        obj = QUICKBOOKS.object(object_type)
        usual = Kind.SNAPSHOT if obj.reads is Reads.SNAPSHOT else Kind.WINDOW
        window = window_of(days, self.zone).until(self.now)
        request = Request(
            kind=kind or usual,
            days=days,
            window=window,
            zone=self.zone,
            now=lambda: self.now,
            held=self.held,
            resume=resume,
            targets=targets,
        )
        with self.reader(**how) as reader:
            extraction = QUICKBOOKS.extract(reader, obj, request)
            assert extraction.api_version == "75"
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

    def change(self, action: str, **what: Any) -> Any:
        """What a user of QuickBooks does, at the company's clock."""
        return asyncio.run(self.room.change(action, what))

    def edit(self, entity: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.change("update", entity=entity, body=dict(body))

    def advance_to(self, moment: datetime) -> None:
        """Move the company's clock; and, with it, that of the database."""
        self.room.world.advance_to(moment)
        self.room.follow()
        self.now = moment

    def script(self, *rules: Rule) -> None:
        self.faults.script(list(rules))

    def ids(self, entity: str) -> list[str]:
        return [entry.id for entry in self.room.realm.all(entity)]


class Listening:
    """One server for all companies of a test session; it ends with the process."""

    def __init__(self) -> None:
        self.companies: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {}
        how: dict[str, Any] = {"interface": "asgi3", "lifespan": "off", "log_level": "warning", "access_log": False}
        server = uvicorn.Server(uvicorn.Config(self.answer, port=0, **how))
        thread = threading.Thread(target=server.run, name="companies", daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(0.005)
        self.address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.companies[scope["path"].split("/")[1]](scope, receive, send)


listening = cache(Listening)
numbers = itertools.count()


@contextmanager
def company(*, size: int = 4, seed: int = 7, start: date = START, until: datetime = UNTIL) -> Iterator[Company]:
    """A company behind a socket, as the sandbox mounts it, with faults before it."""
    number = f"c{next(numbers)}"
    prefix = f"/{number}/quickbooks"
    room = QuickBooksRoom(build(seed=seed, start=start, until=until, size=size))
    faults = Faults(Starlette(routes=[Mount(prefix, app=room.app)]), room.fault)
    served = Company(room, prefix, listening().address + prefix, faults, until)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(prefix)
        if path.startswith("/v3/"):
            served.asked.append(path.rpartition("/")[2])
            if served.meddle is not None:
                served.meddle(len(served.asked))
        await faults(scope, receive, send)

    listening().companies[number] = answer
    yield served
    del listening().companies[number]


@pytest.fixture(scope="module")
def shared() -> Iterator[Company]:
    """A company that no test changes, in which users have deleted something on three days."""
    with company(until=UNTIL - timedelta(days=8)) as served:
        for hours in (8 * 24, 7 * 24, 1):
            served.advance_to(UNTIL - timedelta(hours=hours))
            for entity in ("Payment", "BillPayment"):
                served.change("delete", entity=entity, body={"Id": free(served, entity)})
        served.advance_to(UNTIL)
        yield served


@pytest.fixture
def books(shared: Company) -> Iterator[Company]:
    yield shared
    shared.faults.clear()
    shared.zone, shared.held, shared.options, shared.meddle = NEW_YORK, Held(), {}, None


@pytest.fixture
def own() -> Iterator[Company]:
    """A small company of the test's own, to be changed."""
    with company(size=2) as served:
        yield served


def free(served: Company, entity: str) -> str:
    """An object that nothing keeps from being deleted."""
    links = served.room.realm.links
    return next(entry.id for entry in served.room.realm.all(entity) if links.deposit_of(entry.id) is None)


def pairs(records: Iterable[Record]) -> list[tuple[str, date]]:
    return [(record.source_id, record.day) for record in records if record.payload is not None]


def removals(records: Iterable[Record]) -> list[tuple[str, date]]:
    return [(record.source_id, record.day) for record in records if record.payload is None]


def day_in(zone: ZoneInfo, second: int) -> date:
    return datetime.fromtimestamp(second, UTC).astimezone(zone).date()


def shown(records: Iterable[Record]) -> list[tuple[Any, ...]]:
    """Records as something to compare, in an order of their own."""
    return sorted(
        (r.source_id, r.day, r.version or 0, b"" if r.payload is None else canonical_json(r.payload)) for r in records
    )


def plain(served: Company, entity: str) -> list[dict[str, Any]]:
    """All objects of an entity, as the books themselves hold them."""
    return [entry.body() for entry in served.room.realm.all(entity)]


# --- what a day holds


@pytest.mark.parametrize("zone", [NEW_YORK, TOKYO], ids=str)
@pytest.mark.parametrize("object_type", CHANGING)
def test_a_day_holds_what_changed_last_in_it_and_what_was_deleted_in_it(
    books: Company, object_type: str, zone: ZoneInfo
) -> None:
    books.zone = zone
    entity = QUICKBOOKS.object(object_type).detail.name
    expected = [(entry.id, day_in(zone, entry.updated)) for entry in books.room.realm.all(entity)]
    assert expected
    gone = [(each.id, day_in(zone, each.at)) for each in books.room.realm.gone if each.kind.name == entity]
    found = books.records(object_type, WHOLE)
    assert sorted(pairs(found)) == sorted(expected)
    assert sorted(removals(found)) == sorted(gone)
    counted = [item for item in books.items(object_type, WHOLE) if isinstance(item, RemoteCount)]
    assert counted == [RemoteCount(dict(Counter(day for _, day in expected)))]
    assert books.sent.keys() == {"GET 127.0.0.1"}


@pytest.mark.parametrize("zone", [NEW_YORK, TOKYO], ids=str)
@pytest.mark.parametrize("object_type", ["quickbooks_payment", "quickbooks_customer"])
def test_a_backfill_gives_what_its_days_give_one_by_one(books: Company, object_type: str, zone: ZoneInfo) -> None:
    books.zone = zone
    days = Days(date(2026, 7, 2), date(2026, 7, 19))
    whole = books.records(object_type, days)
    assert len({record.day for record in whole}) > 2
    assert len({day for _, day in removals(whole)}) == (3 if object_type == "quickbooks_payment" else 0)
    by_day = [record for day in days for record in books.records(object_type, Days(day, day))]
    assert shown(by_day) == shown(whole)


def test_records_are_what_quickbooks_wrote_with_its_versions_and_times(books: Company) -> None:
    for object_type in CHANGING:
        bodies = {body["Id"]: body for body in plain(books, QUICKBOOKS.object(object_type).detail.name)}
        found = [record for record in books.records(object_type, WHOLE) if record.payload is not None]
        assert len(found) == len(bodies)
        for record in found:
            body = bodies[record.source_id]
            assert record.payload == body
            assert canonical_json(record.payload) == canonical_json(body)
            assert record.version == int(body["SyncToken"])
            assert record.created_at == datetime.fromisoformat(body["MetaData"]["CreateTime"])
            assert record.updated_at == datetime.fromisoformat(body["MetaData"]["LastUpdatedTime"])
    amounts = [record.payload["TotalAmt"] for record in books.records("quickbooks_payment", WHOLE) if record.payload]
    assert {Decimal, int} >= {type(amount) for amount in amounts}
    assert any(isinstance(amount, Decimal) for amount in amounts)


def test_a_second_read_is_identical(books: Company) -> None:
    for obj in QUICKBOOKS:
        days = Days(date(2026, 7, 18), date(2026, 7, 19)) if obj.detail.way is Way.RATES else WHOLE
        first = books.records(obj.object_type, days)
        assert first, obj.object_type
        assert shown(books.records(obj.object_type, days)) == shown(first), obj.object_type


@pytest.mark.parametrize("page_size", [1, 2, 3, 7])
@pytest.mark.parametrize("object_type", ["quickbooks_account", "quickbooks_payment"])
def test_small_pages_give_the_same_as_large_ones(books: Company, object_type: str, page_size: int) -> None:
    # Thirteen accounts were made in one second: no page of these holds them.
    seconds = Counter(entry.updated for entry in books.room.realm.all("Account"))
    assert max(seconds.values()) > 7
    large = books.records(object_type, WHOLE)
    pages = books.pages(object_type, WHOLE, page_size=page_size)
    assert len(pages) > 2
    assert shown(record for page in pages for record in page.records) == shown(large)
    assert len(pairs(large)) == len({source_id for source_id, _ in pairs(large)})


def test_an_empty_window_holds_nothing_and_costs_two_requests(books: Company) -> None:
    books.records("quickbooks_deposit", Days(WHOLE.first, WHOLE.first))
    books.asked.clear()
    day = Days(date(2026, 7, 18), date(2026, 7, 18))
    assert list(books.items("quickbooks_deposit", day)) == [RemoteCount({})]
    assert books.asked == ["query", "cdc"]


def test_a_window_that_has_not_begun_is_not_asked_for(books: Company) -> None:
    books.asked.clear()
    tomorrow = Days(date(2026, 7, 20), date(2026, 7, 20))
    assert list(books.items("quickbooks_deposit", tomorrow)) == [RemoteCount({})]
    assert books.asked == []


# --- bounds


def test_a_change_at_midnight_belongs_to_the_day_that_begins(own: Company) -> None:
    own.zone = TOKYO
    customer, vendor = own.ids("Customer")[0], own.ids("Vendor")[0]
    midnight = start_of_day(date(2026, 7, 21), TOKYO)
    own.advance_to(midnight - timedelta(seconds=1))
    own.edit("Customer", {"Id": customer, "Notes": "last second"})
    own.advance_to(midnight)
    own.edit("Vendor", {"Id": vendor, "AcctNum": "first second"})
    own.advance_to(midnight + timedelta(hours=30))
    for object_type, source_id, day in (
        ("quickbooks_customer", customer, date(2026, 7, 20)),
        ("quickbooks_vendor", vendor, date(2026, 7, 21)),
    ):
        assert (source_id, day) in pairs(own.records(object_type, Days(day, day)))
        for other in (day - timedelta(days=1), day + timedelta(days=1)):
            assert source_id not in {source_id for source_id, _ in pairs(own.records(object_type, Days(other, other)))}


def test_a_window_that_ends_now_takes_in_the_second_that_has_begun(own: Company) -> None:
    invoice = own.ids("Invoice")[0]
    own.edit("Invoice", {"Id": invoice, "PrivateNote": "just now"})
    today = Days(date(2026, 7, 19), date(2026, 7, 19))
    assert invoice not in {source_id for source_id, _ in pairs(own.records("quickbooks_invoice", today))}
    own.now = UNTIL + timedelta(microseconds=1)
    assert invoice in {source_id for source_id, _ in pairs(own.records("quickbooks_invoice", today))}


def test_inactive_names_are_read_too(own: Company) -> None:
    today = Days(date(2026, 7, 19), date(2026, 7, 20))
    own.change("create", entity="Account", body={"Name": "Old Account", "AccountType": "Expense"})
    for object_type, entity in (
        ("quickbooks_customer", "Customer"),
        ("quickbooks_vendor", "Vendor"),
        ("quickbooks_item", "Item"),
        ("quickbooks_account", "Account"),
    ):
        inactive = own.ids(entity)[-1]
        own.edit(entity, {"Id": inactive, "Active": False})
        own.now += timedelta(seconds=1)
        (found,) = [record for record in own.records(object_type, today) if record.source_id == inactive]
        assert found.payload is not None
        assert found.payload["Active"] is False


def test_a_late_change_of_a_day_is_found_when_the_day_is_read_again(own: Company) -> None:
    day = Days(date(2026, 7, 19), date(2026, 7, 19))
    assert own.records("quickbooks_purchase", day) == []
    own.advance_to(UNTIL + timedelta(hours=1))
    purchase = own.ids("Purchase")[0]
    own.edit("Purchase", {"Id": purchase, "TxnDate": "2026-06-30"})
    own.advance_to(UNTIL + timedelta(days=1))
    (found,) = own.records("quickbooks_purchase", day)
    assert (found.source_id, found.day) == (purchase, date(2026, 7, 19))
    assert found.payload is not None
    assert found.payload["TxnDate"] == "2026-06-30", "its accounting date is not when it changed"


def test_a_changed_object_is_shown_with_its_new_version_on_its_new_day(own: Company) -> None:
    invoice = own.ids("Invoice")[0]
    (before,) = [record for record in own.records("quickbooks_invoice", WHOLE) if record.source_id == invoice]
    own.edit("Invoice", {"Id": invoice, "PrivateNote": "changed"})
    own.advance_to(UNTIL + timedelta(hours=1))
    (after,) = [record for record in own.records("quickbooks_invoice", WHOLE) if record.source_id == invoice]
    assert before.version is not None
    assert (after.day, after.version) == (date(2026, 7, 19), before.version + 1)
    assert after.payload is not None
    assert after.payload["PrivateNote"] == "changed"
    assert own.records("quickbooks_invoice", Days(before.day, before.day)) == []


# --- faults


FAULTS = ("429", "500", "timeout", "truncated", "drop_connection", "duplicate_page")


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_at_any_request_changes_nothing(books: Company, kind: Any) -> None:
    days = Days(date(2026, 7, 6), date(2026, 7, 19))
    expected = shown(books.records("quickbooks_payment", days, page_size=5))
    books.asked.clear()
    assert shown(books.records("quickbooks_payment", days, page_size=5)) == expected
    requests = len(books.asked)
    assert requests > 6
    for number in range(1, requests + 1):
        books.script(Rule("*/v3/company/*", kind, on=number))
        found = list(books.items("quickbooks_payment", days, page_size=5))
        records = [record for item in found if isinstance(item, Page) for record in item.records]
        assert shown(records) == expected, f"{kind} at request {number}"
        assert RemoteCount(dict(Counter(day for _, day in pairs(records)))) in found
        books.faults.clear()


@pytest.mark.parametrize(
    ("kind", "code", "permanent"),
    [
        ("429", "rate_limited", False),
        ("500", "vendor_error", False),
        ("403", "forbidden", True),
        ("timeout", "timeout", False),
        ("truncated", "unreadable_answer", False),
        ("drop_connection", "unreadable_answer", False),
    ],
)
def test_a_fault_that_stays_fails_the_read(books: Company, kind: Any, code: str, permanent: bool) -> None:
    for path in ("*/query", "*/cdc"):
        books.asked.clear()
        books.script(Rule(path, kind, times=100))
        with pytest.raises(SourceError) as failed:
            books.records("quickbooks_payment", WHOLE)
        assert (failed.value.code, failed.value.permanent) == (code, permanent)
        assert books.asked.count(path[2:]) == (1 if permanent else QUICK.attempts)
        books.faults.clear()


def test_what_is_forbidden_of_one_object_leaves_the_others_alone(books: Company) -> None:
    books.script(Rule("*/preferences", "403", times=100))
    with pytest.raises(SourceError, match="forbidden: Preferences: QuickBooks answered 403, fault 3100"):
        books.records("quickbooks_preferences", Days(UNTIL.date(), UNTIL.date()))
    assert books.records("quickbooks_company_info", Days(UNTIL.date(), UNTIL.date()))
    assert books.records("quickbooks_invoice", WHOLE)


# --- a read that goes on


def split(items: Iterator[Item], pages: int) -> tuple[list[Record], Mapping[str, Any] | None]:
    """What a read has given when it stops after so many pages, and where it goes on."""
    records: list[Record] = []
    resume = None
    for item in items:
        if isinstance(item, Page):
            records += item.records
            resume = item.resume
            pages -= 1
            if not pages:
                break
    return records, resume


def test_a_crashed_read_goes_on_behind_any_page(books: Company) -> None:
    for object_type, size in (("quickbooks_payment", 3), ("quickbooks_account", 4)):
        whole = list(books.items(object_type, WHOLE, page_size=size))
        pages = [item for item in whole if isinstance(item, Page)]
        expected = shown(record for page in pages for record in page.records)
        for number in range(1, len(pages) + 1):
            first, resume = split(books.items(object_type, WHOLE, page_size=size), number)
            assert resume is not None
            rest = list(books.items(object_type, WHOLE, page_size=size, resume=resume))
            records = [record for item in rest if isinstance(item, Page) for record in item.records]
            repeated = [record for record in first if record.payload is None]
            assert shown([*first, *records]) == sorted([*expected, *shown(repeated)])
            assert [item for item in rest if isinstance(item, RemoteCount)] == [
                item for item in whole if isinstance(item, RemoteCount)
            ]


def test_a_read_that_goes_on_later_takes_in_what_happened_meanwhile() -> None:
    with company(size=3) as served:
        first, resume = split(served.items("quickbooks_payment", WHOLE, page_size=3), 2)
        given, waiting = (
            first[0].source_id,
            [
                entry.id
                for entry in sorted(served.room.realm.all("Payment"), key=lambda entry: entry.updated)
                if entry.id not in {record.source_id for record in first}
            ],
        )
        served.edit("Payment", {"Id": given, "PrivateNote": "again"})
        served.edit("Payment", {"Id": waiting[0], "PrivateNote": "instead"})
        served.advance_to(UNTIL + timedelta(hours=2))
        rest = list(served.items("quickbooks_payment", WHOLE, page_size=3, resume=resume))
        records = [record for item in rest if isinstance(item, Page) for record in item.records]
        assert {given, *waiting} <= {source_id for source_id, _ in pairs(records)}
        by_id = Counter(source_id for source_id, _ in pairs([*first, *records]))
        assert by_id.pop(given) == 2, "once as it was, once as it is"
        assert set(by_id.values()) == {1}
        assert set(by_id) | {given} == set(served.ids("Payment"))
        days = Counter(day for _, day in pairs([*first, *records]))
        assert [item for item in rest if isinstance(item, RemoteCount)] == [RemoteCount(dict(days))]


# --- while it is being changed


def put(served: Company, entity: str, key: str, moment: datetime) -> None:
    """Let an object have changed at a moment, as QuickBooks' own books say from now on."""
    entry = served.room.realm.one(entity, key)
    entry.updated, entry.sync = int(moment.timestamp()), entry.sync + 1


@pytest.mark.parametrize("position", [0, 5, -1])
def test_what_changes_while_it_is_read_leaves_the_others_whole(position: int) -> None:
    with company(size=3) as served:
        ordered = sorted(served.room.realm.all("Payment"), key=lambda entry: entry.updated)
        leaver, updated, sync = ordered[position].id, ordered[position].updated, ordered[position].sync
        served.records("quickbooks_payment", WHOLE, page_size=3)
        requests = len(served.asked)
        for number in range(1, requests + 1):
            served.room.realm.one("Payment", leaver).updated = updated
            served.room.realm.one("Payment", leaver).sync = sync
            served.asked.clear()

            def meddle(at: int, number: int = number) -> None:
                if at == number:
                    put(served, "Payment", leaver, UNTIL + timedelta(minutes=1))

            served.meddle = meddle
            found = list(served.items("quickbooks_payment", WHOLE, page_size=3))
            records = [record for item in found if isinstance(item, Page) for record in item.records]
            by_id = Counter(source_id for source_id, _ in pairs(records))
            by_id.pop(leaver, None)
            assert by_id == dict.fromkeys(set(served.ids("Payment")) - {leaver}, 1), f"at request {number}"
            counted = RemoteCount(dict(Counter(day for _, day in pairs(records))))
            assert [item for item in found if isinstance(item, RemoteCount)] == [counted]


def test_what_comes_into_a_window_late_is_found_before_the_read_ends() -> None:
    days = Days(date(2026, 7, 1), date(2026, 7, 18))
    with company(size=3) as served:
        ordered = sorted(served.room.realm.all("Payment"), key=lambda entry: entry.updated)
        late, updated, sync = ordered[0].id, ordered[0].updated, ordered[0].sync
        assert day_in(NEW_YORK, updated) < days.first
        expected = shown(served.records("quickbooks_payment", days, page_size=3))
        requests = len(served.asked)
        for number in range(1, requests):  # the last is about deletions
            served.room.realm.one("Payment", late).updated = updated
            served.room.realm.one("Payment", late).sync = sync
            served.asked.clear()

            def meddle(at: int, number: int = number) -> None:
                if at == number:
                    put(served, "Payment", late, start_of_day(days.first, NEW_YORK))

            served.meddle = meddle
            found = list(served.items("quickbooks_payment", days, page_size=3))
            records = [record for item in found if isinstance(item, Page) for record in item.records]
            assert (late, days.first) in pairs(records), f"at request {number}"
            assert shown(record for record in records if record.source_id != late) == expected
            counted = RemoteCount(dict(Counter(day for _, day in pairs(records))))
            assert [item for item in found if isinstance(item, RemoteCount)] == [counted]


def test_books_that_never_come_to_rest_are_incomplete(own: Company) -> None:
    payment = own.ids("Payment")[0]
    inside, outside = UNTIL - timedelta(hours=3), UNTIL + timedelta(hours=3)
    own.meddle = lambda at: put(own, "Payment", payment, inside if at % 2 else outside)
    with pytest.raises(SourceError) as failed:
        own.records("quickbooks_payment", WHOLE)
    assert (failed.value.code, failed.value.permanent) == ("incomplete", False)
