"""What a day of Plaid holds, read over a socket from the sandbox room with Plaid's own library.

What is expected comes from what the room itself holds. `serving` puts one behind scripted faults; the other Plaid
tests use it too.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from finance_os.evidence.canonical import canonical_json, payload_hash
from finance_os.evidence.extraction import Item, Kind, Notice, Page, Record, RemoteCount, Request, SourceError
from finance_os.evidence.windows import Days, window_of
from finance_os.sandbox.faults import Faults, Rule
from finance_os.sandbox.faults import Kind as Fault
from finance_os.sandbox.plaid import PlaidRoom, resources
from finance_os.sandbox.world import World
from finance_os.sources.credentials import Credentials
from finance_os.sources.plaid import PLAID
from finance_os.sources.plaid.client import Patience, PlaidReader, connect
from finance_os.sources.plaid.settings import read_settings
from finance_os.sources.source import Reads
from finance_os_tests.sandbox.test_plaid import PREFIX, START, UNTIL, Served, small_world
from finance_os_tests.sources.kept import MemorySecrets

UTC_ZONE = ZoneInfo("UTC")
TODAY = UNTIL.date()
WHOLE = Days(START - timedelta(days=1), TODAY)
EVER = Days(date.min, date.max)
PAST = Days(WHOLE.first, TODAY - timedelta(days=1))
QUICK = Patience(connect=2, read=5, attempts=3, first_wait=0.01, longest_wait=0.05, throttled=0.02, not_ready=0.02)
IMPATIENT = Patience(connect=2, read=0.3, attempts=3, first_wait=0.01, longest_wait=0.05)
TRANSACTION = "plaid_transaction"


@dataclass
class Held:
    """What is staged, as the finance database would tell it: by the latest record of each source ID."""

    payloads: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def stage(self, records: Iterable[Record]) -> None:
        for record in records:
            self.payloads.pop(record.source_id, None)
            if record.payload is not None:
                self.payloads[record.source_id] = record.payload

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:
        (name,) = path
        texts = {key: str(payload[name]).lower() for key, payload in self.payloads.items()}
        return sorted(key for key, text in texts.items() if text == value)

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:
        (name,) = path
        return sorted(key for key, payload in self.payloads.items() if first <= payload[name] <= last)

    def ids_read_since(self, moment: datetime) -> list[str]:
        raise AssertionError(f"a read of Plaid does not ask what was read since {moment}")

    def requests_since(self, moment: datetime) -> int:
        raise AssertionError(f"a read of Plaid does not ask what was sent since {moment}")


@dataclass
class Bank(Served):
    """A served room behind scripted faults, and how it is read.

    `asked` are the paths in the order they were asked for; `meddle` is called with their number before each answer.
    """

    faults: Faults
    asked: list[str] = field(default_factory=list)
    meddle: Callable[[int, str], None] | None = None
    held: Held = field(default_factory=Held)
    kept: MemorySecrets = field(default_factory=MemorySecrets)
    options: dict[str, str] = field(default_factory=dict)
    cursor: Mapping[str, Any] | None = None
    patience: Patience = QUICK
    page_size: int = 500
    sent: Mapping[str, int] = field(default_factory=dict)

    @contextmanager
    def reader(self) -> Iterator[PlaidReader]:
        given = {**self.env, "FINANCE_OS_PLAID_RATE_LIMIT": "1000000", **self.options}
        with connect(read_settings(Credentials(given)), self.kept, self.patience) as reader:
            reader.page_size = self.page_size
            yield reader

    def items(
        self, days: Days, object_type: str = TRANSACTION, *, kind: Kind | None = None, targets: tuple[str, ...] = ()
    ) -> Iterator[Item]:
        obj = PLAID.object(object_type)
        ticks = itertools.count()
        request = Request(
            kind=kind or (Kind.SNAPSHOT if obj.reads is Reads.SNAPSHOT else Kind.WINDOW),
            days=days,
            window=window_of(days, UTC_ZONE).until(self.world.when),
            zone=UTC_ZONE,
            now=lambda: self.world.when + timedelta(milliseconds=next(ticks)),
            held=self.held,
            targets=targets,
            cursor=self.cursor,
        )
        with self.reader() as reader:
            extraction = PLAID.extract(reader, obj, request)
            assert extraction.api_version == "2020-09-14"
            try:
                yield from extraction
            finally:
                self.sent = extraction.requested()

    def pages(self, days: Days, object_type: str = TRANSACTION, **how: Any) -> list[Page]:
        return [item for item in self.items(days, object_type, **how) if isinstance(item, Page)]

    def records(self, days: Days, object_type: str = TRANSACTION, **how: Any) -> list[Record]:
        return [record for page in self.pages(days, object_type, **how) for record in page.records]

    def stage(self, days: Days) -> list[Record]:
        """Read and keep, with the cursor that is left, as the finance database would."""
        pages = self.pages(days)
        records = [record for page in pages for record in page.records]
        self.held.stage(records)
        for page in pages:
            self.cursor = page.cursor or self.cursor
        return records

    def notices(self, days: Days, object_type: str = TRANSACTION) -> list[str]:
        return [item.text for item in self.items(days, object_type) if isinstance(item, Notice)]

    def truth(self, days: Days = EVER) -> dict[str, dict[str, Any]]:
        """Transactions of some days as the room holds them."""
        return {
            each.id: resources.transaction(self.room.account_id, each, original=True)
            for each in self.room.feed.present.values()
            if each.day in days
        }

    def calm(self) -> None:
        self.faults.clear()
        self.asked.clear()
        self.meddle, self.cursor, self.patience, self.page_size = None, None, QUICK, 500
        self.held, self.kept, self.options = Held(), MemorySecrets(), {}


@contextmanager
def serving(world: World) -> Iterator[Bank]:
    """A room of `world` on a free port, with faults before it."""
    room = PlaidRoom(world)
    faults = Faults(Starlette(routes=[Mount(PREFIX, app=room.app)]), room.fault)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(PREFIX)
        bank.asked.append(path)
        if bank.meddle is not None:
            bank.meddle(len(bank.asked), path)
        await faults(scope, receive, send)

    how: dict[str, Any] = {"interface": "asgi3", "lifespan": "off", "log_level": "critical", "access_log": False}
    server = uvicorn.Server(uvicorn.Config(app, port=0, **how))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    limit = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the server ended"
        assert time.monotonic() < limit, "the server did not start"
        time.sleep(0.005)
    bank = Bank(room, world, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{PREFIX}", faults)
    try:
        yield bank
    finally:
        server.should_exit = True
        thread.join(10)
        room.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Bank]:
    with serving(small_world()) as bank:
        yield bank


@pytest.fixture
def bank(shared: Bank) -> Iterator[Bank]:
    """A room that no test changes."""
    yield shared
    shared.calm()


@pytest.fixture
def own() -> Iterator[Bank]:
    """A room of the test's own, to be moved and changed."""
    with serving(small_world()) as bank:
        yield bank


def payloads(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """Source ID → payload; nothing may be given to a day twice, nor in two ways."""
    shown = [record for record in records if record.payload is not None]
    assert len({(record.source_id, record.day) for record in shown}) == len(shown), "something is there twice"
    found = {record.source_id: record.payload for record in shown if record.payload is not None}
    assert all(found[record.source_id] == record.payload for record in shown)
    return found


def removals(records: Iterable[Record]) -> list[tuple[str, date]]:
    return [(record.source_id, record.day) for record in records if record.payload is None]


def by_date(truth: Mapping[str, Mapping[str, Any]]) -> Counter[date]:
    return Counter(date.fromisoformat(each["date"]) for each in truth.values())


def posted_on(bank: Bank, day: date) -> str:
    """A posted transaction of a day that has one."""
    return min(each.id for each in bank.room.feed.present.values() if each.day == day and not each.pending)


def some_days(bank: Bank, count: int, before: date = TODAY) -> list[date]:
    """The last days with posted transactions before a day, the latest first."""
    found = {each.day for each in bank.room.feed.present.values() if not each.pending and each.day < before}
    return sorted(found, reverse=True)[:count]


# --- what a day holds


def test_a_day_holds_the_transactions_that_are_dated_on_it(bank: Bank) -> None:
    records = bank.records(PAST)
    assert payloads(records) == bank.truth(PAST)
    assert len(records) > 15
    for record in records:
        assert record.payload is not None
        assert record.day == date.fromisoformat(record.payload["date"])
        assert canonical_json(record.payload) == canonical_json(bank.truth()[record.source_id])
    (counted,) = [item for item in bank.items(PAST) if isinstance(item, RemoteCount)]
    assert counted.by_day == by_date(bank.truth(PAST))
    assert bank.sent == {"POST 127.0.0.1": 3}  # whether the history is there, and two months
    assert set(bank.asked) == {"/transactions/sync", "/transactions/get"}
    assert not any(page.cursor for page in bank.pages(PAST)), "the past has no cursor"


def test_amounts_are_exact(bank: Bank) -> None:
    amounts = [payload["amount"] for payload in payloads(bank.records(PAST)).values()]
    assert {type(amount) for amount in amounts} == {Decimal}
    assert all(amount.as_tuple().exponent == -2 for amount in amounts)
    assert Decimal("15.00") in amounts


def test_a_backfill_gives_what_its_days_give_one_by_one(bank: Bank) -> None:
    singly = [record for day in PAST for record in bank.records(Days(day, day))]
    assert payloads(singly) == payloads(bank.records(PAST))
    assert {(record.source_id, record.day) for record in singly} == {
        (record.source_id, record.day) for record in bank.records(PAST)
    }


def test_days_without_transactions_are_proved_empty(bank: Bank) -> None:
    long_ago = Days(date(2020, 1, 1), date(2020, 1, 5))
    assert [item for item in bank.items(long_ago) if not isinstance(item, Page)] == [RemoteCount({})]
    assert bank.records(long_ago) == []


@pytest.mark.parametrize("size", [2, 3, 7, 18])
def test_pages_are_one_list(bank: Bank, size: int) -> None:
    whole = bank.records(WHOLE)
    bank.page_size = size
    before = len(bank.asked)
    paged = bank.records(WHOLE)
    assert payloads(paged) == payloads(whole) == bank.truth()
    assert len(bank.asked) - before > 4


def test_the_present_goes_on_from_the_cursor(bank: Bank) -> None:
    records = bank.records(WHOLE)
    assert payloads(records) == bank.truth()
    (cursor,) = [page.cursor for page in bank.pages(WHOLE) if page.cursor]
    assert set(cursor) == {"item", "cursor"}
    assert bank.room.item_id not in str(cursor)
    bank.cursor = cursor
    again = bank.pages(WHOLE)
    records = [record for page in again for record in page.records]
    assert payloads(records) == bank.truth()
    assert len(records) == len(bank.truth())
    assert again[-1] == Page([], again[-1].requested_at, cursor=cursor)
    counts = [item for item in bank.items(WHOLE) if isinstance(item, RemoteCount)]
    assert counts == [RemoteCount(dict(by_date(bank.truth())))]


def test_the_present_day_is_the_same_whatever_is_read_along_with_it(bank: Bank) -> None:
    alone = [record for record in bank.records(Days(TODAY, TODAY)) if record.day == TODAY]
    among = [record for record in bank.records(WHOLE) if record.day == TODAY]
    assert sorted(alone, key=lambda each: each.source_id) == sorted(among, key=lambda each: each.source_id)


def test_a_first_read_of_the_present_finds_the_whole_history(bank: Bank) -> None:
    today = Days(TODAY, TODAY)
    records = bank.records(today)
    assert payloads(records) == bank.truth()
    assert {record.day for record in records} == {TODAY}
    counts = [item for item in bank.items(today) if isinstance(item, RemoteCount)]
    assert counts == [RemoteCount({TODAY: len(records)})]


# --- what changes


def test_what_moves_between_two_pages_makes_the_days_be_read_again(own: Bank) -> None:
    own.page_size = 3
    day = some_days(own, 1)[0]

    def meddle(number: int, path: str) -> None:
        if number == 4:
            own.room.feed.add(day, 123, "LATE")

    own.meddle = meddle
    records = own.records(PAST)
    assert payloads(records) == own.truth(PAST)
    assert "LATE" in [payload["name"] for payload in payloads(records).values()]


def test_days_that_never_stop_moving_are_an_error(own: Bank) -> None:
    own.page_size = 3
    day = some_days(own, 1)[0]

    def meddle(number: int, path: str) -> None:
        own.room.feed.add(day, number, f"AGAIN {path}")

    own.meddle = meddle
    with pytest.raises(SourceError) as failed:
        own.records(PAST)
    assert (failed.value.code, failed.value.permanent) == ("incomplete", False)


def test_a_move_that_leaves_the_count_alone_removes_nothing(own: Bank) -> None:
    """One transaction goes from a page that was read, another comes to one that was not: something slips between."""
    own.stage(PAST)
    before = own.truth(PAST)
    october = sorted((each for each in own.room.feed.present.values() if each.day.month == 10), key=lambda e: e.day)
    own.page_size = 3
    newest, oldest = october[-1], october[0]

    def meddle(number: int, path: str) -> None:
        if number == moment:
            own.room.feed.remove(newest)
            own.room.feed.add(oldest.day - timedelta(days=1), 5, "EARLIER")

    days = Days(date(2026, 9, 30), date(2026, 10, 30))
    assert newest.day in days
    own.asked.clear()
    moment, own.meddle = 3, meddle
    records = own.records(days)
    assert removals(records) == [(newest.id, newest.day)]
    assert payloads(records).keys() >= {each for each in before if before[each]["date"] < "2026-10-30"} - {newest.id}
    assert payloads(records) == own.truth(days)


def test_what_is_gone_from_a_day_is_removed_on_it(own: Bank) -> None:
    own.stage(PAST)
    first, second = some_days(own, 2)
    gone = [posted_on(own, first), posted_on(own, second)]
    for each in gone:
        own.change("remove_transaction", id=each)
    changed = own.change("modify_transaction", id=posted_on(own, some_days(own, 3)[2]), amount="77.01")["id"]
    late = own.change("add_transaction", date=str(START), amount="1.10", name="LATE")["id"]
    records = own.records(PAST)
    assert sorted(removals(records)) == sorted(zip(gone, (first, second), strict=True))
    assert payloads(records) == own.truth(PAST)
    assert payloads(records)[changed]["amount"] == Decimal("77.01")
    assert next(record.day for record in records if record.source_id == late) == START
    singly = [record for day in PAST for record in own.records(Days(day, day))]
    assert sorted(removals(singly)) == sorted(removals(records))


def test_an_update_tells_what_changed_on_any_day(own: Bank) -> None:
    today = Days(TODAY, TODAY)
    own.stage(today)
    first, second = some_days(own, 2)
    gone, changed = posted_on(own, first), posted_on(own, second)
    own.change("remove_transaction", id=gone)
    own.change("modify_transaction", id=changed, amount="12.34")
    late = own.change("add_transaction", date="2026-10-02", amount="3.21", name="LATE")["id"]
    own.advance(minutes=5)
    records = own.stage(today)
    assert removals(records) == [(gone, TODAY)]
    assert payloads(records).keys() == {changed, late} | own.truth(today).keys()
    assert {record.day for record in records} == {TODAY}
    assert own.held.payloads == own.truth()
    (counted,) = [item for item in own.items(today) if isinstance(item, RemoteCount)]
    assert counted.by_day == by_date(own.truth(today)), "it was told once"


def test_updates_of_one_page_are_updates_of_many(own: Bank) -> None:
    own.stage(Days(TODAY, TODAY))
    days = some_days(own, 5)
    for day in days[:3]:
        own.change("remove_transaction", id=posted_on(own, day))
    for day in days[3:]:
        own.change("modify_transaction", id=posted_on(own, day), name="OTHER")
    own.change("add_transaction", date="2026-10-02", amount="3.21", name="LATE")
    own.advance(minutes=5)
    whole = own.pages(Days(TODAY, TODAY))
    own.page_size = 2
    paged = own.pages(Days(TODAY, TODAY))

    def told(page: Page) -> list[tuple[str, Any]]:
        return sorted((record.source_id, record.payload and record.payload["name"]) for record in page.records)

    assert told(whole[-1]) == told(paged[-1])
    assert len(whole[-1].records) == 6
    assert whole[-1].cursor == paged[-1].cursor
    assert [page.cursor for page in paged[:-1]] == [None] * (len(paged) - 1)


def test_a_pending_transaction_becomes_a_posted_one(own: Bank) -> None:
    own.stage(WHOLE)
    (pending,) = [key for key, payload in own.held.payloads.items() if payload["pending"]]
    own.advance(hours=3)
    records = own.stage(WHOLE)
    (posted,) = [key for key, payload in own.held.payloads.items() if payload["pending_transaction_id"] == pending]
    assert removals(records) == [(pending, TODAY), (pending, TODAY)], "by the day's list, and by the update"
    assert own.held.payloads[posted]["pending"] is False
    assert own.held.payloads == own.truth()


def test_the_day_of_a_posted_transaction_removes_its_pending_one_of_another_day(own: Bank) -> None:
    pending, posted = next(
        (each.pending_id, each)
        for each in own.room.feed.present.values()
        if each.pending_id and each.authorized < each.day < TODAY
    )
    old = resources.transaction(own.room.account_id, posted, original=True)
    old |= {"transaction_id": pending, "pending": True, "pending_transaction_id": None}
    old |= {"date": posted.authorized.isoformat()}
    assert pending
    own.held.payloads[pending] = old
    records = own.records(Days(posted.day, posted.day))
    assert removals(records) == [(pending, posted.day)]
    own.held.payloads[pending] = {**old, "pending": False}
    assert removals(own.records(Days(posted.day, posted.day))) == []


def test_a_first_update_removes_what_went_away_after_a_backfill(own: Bank) -> None:
    own.stage(PAST)
    gone = posted_on(own, some_days(own, 4)[3])
    own.change("remove_transaction", id=gone)
    before = dict(next(iter(own.held.payloads.values()))) | {"transaction_id": "ancient", "date": "2024-01-01"}
    own.held.payloads["ancient"] = before
    records = own.stage(Days(TODAY, TODAY))
    assert removals(records) == [(gone, TODAY)]
    assert own.held.payloads == {**own.truth(), "ancient": before}, "what lies before the history is left alone"


def test_a_backfill_after_the_first_update_gives_the_same(own: Bank) -> None:
    own.stage(Days(TODAY, TODAY))
    gone = posted_on(own, some_days(own, 4)[3])
    own.change("remove_transaction", id=gone)
    own.stage(PAST)
    assert gone not in own.held.payloads
    own.advance(minutes=1)
    own.stage(Days(TODAY, TODAY))
    assert own.held.payloads == own.truth()


@pytest.mark.parametrize("times", [1, 3])
def test_an_update_that_changes_under_way_is_begun_again(own: Bank, times: int) -> None:
    own.page_size = 4
    own.change("mutate_during_pagination", times=times)
    records = own.stage(Days(TODAY, TODAY))
    assert payloads(records) == own.truth()
    assert own.room.feed.forced_mutations == 0


def test_an_update_that_always_changes_under_way_is_an_error_without_a_cursor(own: Bank) -> None:
    own.page_size = 4
    own.change("mutate_during_pagination", times=1_000)
    seen: list[Item] = []
    with pytest.raises(SourceError) as failed:
        seen += own.items(Days(TODAY, TODAY))
    assert (failed.value.code, failed.value.permanent) == ("incomplete", False)
    assert not any(isinstance(item, Page) and item.cursor for item in seen)


def test_nothing_of_an_abandoned_update_is_given(own: Bank) -> None:
    """It is added and shown on the first page, gone before the second, and then never told of."""
    today = Days(TODAY, TODAY)
    own.stage(today)
    brief = own.room.feed.add(date(2026, 10, 2), 999, "BRIEF")
    own.change("modify_transaction", id=posted_on(own, some_days(own, 1)[0]), amount="5.00")
    own.change("modify_transaction", id=posted_on(own, some_days(own, 2)[1]), amount="6.00")
    own.page_size = 2
    own.asked.clear()

    def meddle(number: int, path: str) -> None:
        if number == 4:  # ready?, today, first page of the update, second
            own.room.feed.remove(brief)

    own.meddle = meddle
    records = own.stage(today)
    assert own.asked.count("/transactions/sync") == 1 + 2 + 1
    assert brief.id not in {record.source_id for record in records}
    assert own.held.payloads == own.truth()


def test_a_cursor_that_plaid_does_not_know_begins_at_the_history(own: Bank) -> None:
    own.stage(WHOLE)
    assert own.cursor
    gone = posted_on(own, some_days(own, 4)[3])
    own.change("remove_transaction", id=gone)
    own.cursor = {**own.cursor, "cursor": "bm9uc2Vuc2U="}
    records = own.stage(Days(TODAY, TODAY))
    assert payloads(records) == own.truth()
    assert removals(records) == [(gone, TODAY)]
    own.cursor = {**own.cursor, "cursor": "bm9uc2Vuc2U="}
    assert own.notices(Days(TODAY, TODAY)) == [
        "Plaid does not know the saved cursor any more: its history was read from the beginning."
    ]


def test_another_items_cursor_is_dropped_and_its_transactions_with_it(bank: Bank) -> None:
    with serving(small_world(seed=6)) as other:
        other.stage(WHOLE)
        bank.cursor, bank.held = other.cursor, other.held
        theirs = set(other.held.payloads)
        bank.asked.clear()
        records = bank.stage(WHOLE)
    assert bank.cursor != other.cursor
    assert payloads(records) == bank.truth()
    assert {key for key, _ in removals(records)} == theirs
    assert bank.asked.count("/transactions/sync") == 2, "the foreign cursor was not even sent"
    bank.cursor = other.cursor
    assert "another item's" in bank.notices(WHOLE)[0]


def test_a_window_that_was_over_is_not_updated(own: Bank) -> None:
    """Planned before midnight or after: what counts is whether the window was cut off."""
    own.advance(days=1)
    assert not any(page.cursor for page in own.pages(Days(TODAY, TODAY)))
    assert any(page.cursor for page in own.pages(Days(TODAY, TODAY + timedelta(days=1))))


# --- snapshots


def test_snapshots_show_the_item_its_accounts_and_its_bank(bank: Bank) -> None:
    today = Days(TODAY, TODAY)
    (item,) = bank.records(today, "plaid_item")
    (account,) = bank.records(today, "plaid_account")
    (institution,) = bank.records(today, "plaid_institution")
    assert (item.source_id, account.source_id) == (bank.room.item_id, bank.room.account_id)
    assert item.payload
    assert account.payload
    assert institution.payload
    assert item.payload["status"]["transactions"]["last_successful_update"]
    assert institution.source_id == item.payload["institution_id"]
    assert account.payload["balances"]["current"] == Decimal(250_000) - sum(
        each["amount"] for each in bank.truth().values() if not each["pending"]
    )
    assert {record.day for record in (item, account, institution)} == {TODAY}
    for object_type in ("plaid_item", "plaid_account", "plaid_institution"):
        assert bank.notices(today, object_type) == []


def test_a_snapshot_after_midnight_stands_for_the_day_that_was_asked_for(bank: Bank) -> None:
    yesterday = Days(TODAY - timedelta(days=1), TODAY - timedelta(days=1))
    for object_type in ("plaid_item", "plaid_account", "plaid_institution"):
        assert [record.day for record in bank.records(yesterday, object_type)] == [yesterday.last]
        assert "after midnight" in bank.notices(yesterday, object_type)[0]


def test_an_item_with_an_error_is_shown_with_it(own: Bank) -> None:
    own.change("item_error", on=True)
    today = Days(TODAY, TODAY)
    first, second = (own.records(today, "plaid_item")[0].payload for _ in range(2))
    assert first
    assert second
    assert first["error"]["error_code"] == "ITEM_LOGIN_REQUIRED"
    volatile = PLAID.object("plaid_item").volatile
    assert volatile == ("error.request_id",)
    assert first != second
    for each in (first, second):
        del each["error"]["request_id"]
    assert payload_hash(first) == payload_hash(second)
    assert len(own.notices(today, "plaid_item")) == 1
    with pytest.raises(SourceError) as failed:
        own.records(today)
    assert (failed.value.code, failed.value.permanent) == ("authorization_expired", True)


def test_targets_are_looked_up_where_plaid_can(bank: Bank) -> None:
    today = Days(TODAY, TODAY)
    targets = (bank.room.account_id, "unknown")
    found, gone = bank.records(today, "plaid_account", kind=Kind.TARGETED, targets=targets)
    assert (found.source_id, gone.source_id, gone.payload) == (*targets, None)
    assert found.payload
    with pytest.raises(SourceError, match="no single transactions"):
        bank.records(today, kind=Kind.TARGETED, targets=("x",))


# --- faults at every request


@pytest.mark.parametrize("kind", ["429", "500", "timeout", "truncated", "drop_connection", "duplicate_page"])
def test_a_fault_at_any_request_changes_nothing(bank: Bank, kind: Any) -> None:
    bank.patience = IMPATIENT if kind == "timeout" else QUICK
    bank.page_size = 9
    expected = {(record.source_id, record.day): record.payload for record in bank.records(WHOLE)}
    for position in range(1, bank.sent["POST 127.0.0.1"] + 1):
        bank.faults.script([Rule("*/plaid/*", kind, on=position)])
        records = bank.records(WHOLE)
        assert {(record.source_id, record.day): record.payload for record in records} == expected, position
        assert bank.faults.rules[0].seen >= position, "it struck"
        bank.faults.clear()


def test_a_fault_that_stays_is_an_error_at_any_request(bank: Bank) -> None:
    bank.page_size = 9
    bank.records(WHOLE)
    requests = bank.sent["POST 127.0.0.1"]
    expected: tuple[tuple[Fault, str, bool], ...] = (
        ("429", "rate_limited", False),
        ("500", "vendor_error", False),
        ("403", "forbidden", True),
        ("truncated", "unreadable_answer", False),
        ("drop_connection", "unreadable_answer", False),
    )
    for kind, code, permanent in expected:
        for position in range(1, requests + 1):
            bank.faults.script([Rule("*/plaid/*", kind, on=position, times=1_000)])
            with pytest.raises(SourceError) as failed:
                bank.records(WHOLE)
            assert (failed.value.code, failed.value.permanent) == (code, permanent)
            bank.faults.clear()


def test_the_declaration_says_what_the_plan_shows() -> None:
    assert (PLAID.system, PLAID.title, PLAID.order, PLAID.sla) == ("plaid", "Plaid sandbox", 4, timedelta(days=7))
    assert [obj.object_type for obj in PLAID] == [
        "plaid_item",
        "plaid_account",
        "plaid_transaction",
        "plaid_institution",
    ]
    assert [obj.label for obj in PLAID] == ["", "accounts", "transactions", "institutions"]
    for obj in PLAID:
        assert {column.name for column in obj.columns} >= set(obj.shown)
        assert not {"name", "mask", "original_description", "payment_meta", "error"} & set(obj.shown)
