"""Deletions in QuickBooks: told by change data capture, exhausted where it is full, and silent after 30 days."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from finance_os.evidence.extraction import DayState, Kind, Notice, Page, Record
from finance_os.evidence.windows import Days, start_of_day
from finance_os.sandbox.quickbooks import entries, reads
from finance_os.sources.quickbooks import QUICKBOOKS
from finance_os.sources.quickbooks.client import CHANGES_SIZE
from finance_os_tests.sources.test_quickbooks import (
    TOKYO,
    UNTIL,
    WHOLE,
    Company,
    company,
    pairs,
    removals,
    shown,
)

FULL = 8
"""What change data capture is made to hold here, so that a small company fills it."""

SPARE = "to be deleted"


@pytest.fixture
def own() -> Iterator[Company]:
    """A company of the test's own, all of whose payments are held, six of them with nothing booked on them."""
    with company(size=3, until=UNTIL - timedelta(hours=1)) as served:
        customer = next(iter(served.room.realm.all("Payment"))).fields["CustomerRef"]
        for _ in range(6):
            body = {"CustomerRef": customer, "TotalAmt": 10, "PrivateNote": SPARE}
            served.change("create", entity="Payment", body=body)
        served.advance_to(UNTIL)
        served.held.stage(served.records("quickbooks_payment", WHOLE))
        yield served


@pytest.fixture
def cramped(own: Company, monkeypatch: pytest.MonkeyPatch) -> Company:
    """The same, where change data capture holds little."""
    assert reads.CDC_OBJECTS == CHANGES_SIZE
    monkeypatch.setattr(reads, "CDC_OBJECTS", FULL)
    return own


def spare(served: Company) -> list[str]:
    return [entry.id for entry in served.room.realm.all("Payment") if entry.fields.get("PrivateNote") == SPARE]


def delete(served: Company, moment: datetime) -> str:
    """Delete a payment at a moment."""
    served.advance_to(moment)
    payment = spare(served)[0]
    served.change("delete", entity="Payment", body={"Id": payment})
    return payment


def touch(served: Company, moment: datetime, number: int) -> list[str]:
    """Change so many payments at a moment."""
    served.advance_to(moment)
    ids = [key for key in served.ids("Payment") if key not in spare(served)][:number]
    assert len(ids) == number
    for key in ids:
        served.edit("Payment", {"Id": key, "PrivateNote": str(moment)})
    return ids


def told(served: Company, days: Days, **how: Any) -> tuple[list[tuple[str, date]], list[str]]:
    """Removals of payments and notices of a read, which must not show what it removes."""
    items = list(served.items("quickbooks_payment", days, **how))
    records = [record for item in items if isinstance(item, Page) for record in item.records]
    gone = removals(records)
    assert not {source_id for source_id, _ in gone} & {source_id for source_id, _ in pairs(records)}
    return gone, [item.text for item in items if isinstance(item, Notice)]


def test_a_deletion_belongs_to_its_day_at_the_very_second(own: Company) -> None:
    own.zone = TOKYO
    midnight = start_of_day(date(2026, 7, 21), TOKYO)
    last = delete(own, midnight - timedelta(seconds=1))
    first = delete(own, midnight)
    own.advance_to(midnight + timedelta(hours=30))
    for payment, day in ((last, date(2026, 7, 20)), (first, date(2026, 7, 21))):
        assert told(own, Days(day, day)) == ([(payment, day)], [])
    assert told(own, Days(date(2026, 7, 19), date(2026, 7, 19))) == ([], [])
    assert told(own, Days(date(2026, 7, 20), date(2026, 7, 22)))[0] == [
        (last, date(2026, 7, 20)),
        (first, date(2026, 7, 21)),
    ]


def test_what_is_deleted_while_it_is_read_is_shown_and_then_removed_by_the_next_read(own: Company) -> None:
    payment = spare(own)[0]

    def meddle(at: int) -> None:
        if at == 4:  # count, page, count and then change data capture
            own.room.world.advance_to(UNTIL + timedelta(seconds=30))
            entry = own.room.realm.one("Payment", payment)
            own.room.realm.now = own.room.world.now
            own.room.realm.delete("Payment", {"Id": payment, "SyncToken": str(entry.sync)}, free=True)

    own.asked.clear()
    own.meddle = meddle
    first = own.records("quickbooks_payment", WHOLE)
    assert payment in {source_id for source_id, _ in pairs(first)}
    assert removals(first) == []
    own.advance_to(UNTIL + timedelta(minutes=1))
    assert told(own, Days(UNTIL.date(), UNTIL.date()))[0] == [(payment, UNTIL.date())]


def test_deletions_are_told_for_thirty_days(own: Company) -> None:
    payment = delete(own, UNTIL + timedelta(hours=1))
    day = Days(own.now.date(), own.now.date())
    own.advance_to(UNTIL + timedelta(days=29))
    assert told(own, day) == ([(payment, day.first)], [])
    own.advance_to(UNTIL + timedelta(days=32))
    own.asked.clear()
    since = own.now - timedelta(days=30) + timedelta(minutes=1)
    notice = (
        f"QuickBooks tells of deletions for 30 days: those before {since:%Y-%m-%d %H:%M:%SZ} are not told any more."
    )
    assert told(own, day) == ([], [notice])
    assert "cdc" not in own.asked, "QuickBooks would refuse"
    # A window that reaches into the memory is told the part of it that is remembered.
    recent = delete(own, UNTIL + timedelta(days=33))
    own.advance_to(UNTIL + timedelta(days=34))
    long = Days(day.first, own.now.date())
    gone, notices = told(own, long)
    assert gone == [(recent, date(2026, 8, 21))]
    assert len(notices) == 1
    assert QUICKBOOKS.object("quickbooks_payment").beyond is DayState.CREATED


def test_a_deletion_without_a_time_is_placed_on_its_day(own: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    written = entries.Gone.body
    days = Days(date(2026, 7, 20), date(2026, 7, 23))
    expected: list[tuple[str, date]] = []
    for hours in (24, 26, 50, 100, 130):
        moment = UNTIL + timedelta(hours=hours)
        payment = delete(own, moment)
        if moment.date() in days:
            expected.append((payment, moment.date()))
    own.advance_to(UNTIL + timedelta(days=8))
    assert len(expected) == 4
    assert sorted(told(own, days)[0]) == sorted(expected)
    monkeypatch.setattr(
        entries.Gone, "body", lambda gone: {name: part for name, part in written(gone).items() if name != "MetaData"}
    )
    own.asked.clear()
    assert sorted(told(own, days)[0]) == sorted(expected)
    assert own.asked.count("cdc") <= 2 + len(days)
    by_day = [gone for day in days for gone in told(own, Days(day, day))[0]]
    assert sorted(by_day) == sorted(expected)
    today = Days(own.now.date(), own.now.date())
    assert told(own, today) == ([], [])


def test_a_full_answer_is_no_answer(cramped: Company) -> None:
    early = delete(cramped, UNTIL + timedelta(hours=1))
    touch(cramped, UNTIL + timedelta(hours=20), FULL)
    late = delete(cramped, UNTIL + timedelta(hours=30))
    cramped.advance_to(UNTIL + timedelta(hours=40))
    days = Days(date(2026, 7, 19), date(2026, 7, 21))
    # Believed, a full answer hides the deletions.
    assert told(cramped, days, changes_size=FULL + 1) == ([], [])
    gone, notices = told(cramped, days, changes_size=FULL)
    # The late one with its time; of the early one, that it was before the answers became full.
    assert gone == [(late, date(2026, 7, 20)), (early, date(2026, 7, 20))]
    assert len(notices) == 1
    assert f"of {len(cramped.held.payloads) - 1} objects that are held, 1 are not there any more" in notices[0]
    cramped.held.stage([Record(early, None, days.last), Record(late, None, days.last)])
    assert told(cramped, days, changes_size=FULL)[0] == [(late, date(2026, 7, 20))]


def test_a_full_answer_of_an_old_window_removes_nothing_that_was_deleted_after_it(cramped: Company) -> None:
    old = delete(cramped, UNTIL + timedelta(hours=1))
    cramped.advance_to(UNTIL + timedelta(days=3))
    later = delete(cramped, UNTIL + timedelta(days=3))
    touch(cramped, UNTIL + timedelta(days=3, minutes=5), FULL - 2)
    cramped.advance_to(UNTIL + timedelta(days=4))
    day = Days(date(2026, 7, 19), date(2026, 7, 19))
    gone, _ = told(cramped, day, changes_size=FULL)
    assert gone == [(old, day.first)]
    assert later in cramped.held.payloads


def test_what_an_old_window_cannot_be_told_is_given_to_its_last_day(cramped: Company) -> None:
    old = delete(cramped, UNTIL + timedelta(hours=1))
    touch(cramped, UNTIL + timedelta(days=3), FULL)
    cramped.advance_to(UNTIL + timedelta(days=4))
    days = Days(date(2026, 7, 18), date(2026, 7, 20))
    assert told(cramped, days, changes_size=FULL)[0] == [(old, days.last)]


def test_when_every_answer_is_full_what_is_held_is_asked_for_by_id(cramped: Company) -> None:
    payment = delete(cramped, UNTIL + timedelta(hours=1))
    touch(cramped, UNTIL + timedelta(hours=2), FULL)
    cramped.now += timedelta(seconds=1)
    days = Days(cramped.now.date(), cramped.now.date())
    gone, notices = told(cramped, days, changes_size=FULL)
    assert gone == [(payment, days.last)]
    assert len(notices) == 1


def test_what_is_held_is_asked_for_in_batches_until_all_are_known(
    cramped: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finance_os.sources.quickbooks.deleted.IDS_A_QUERY", 4)
    expected = sorted(delete(cramped, UNTIL + timedelta(minutes=number)) for number in range(1, 4))
    touch(cramped, UNTIL + timedelta(hours=2), FULL)
    cramped.now += timedelta(seconds=1)
    days = Days(cramped.now.date(), cramped.now.date())
    gone, _ = told(cramped, days, changes_size=FULL)
    assert sorted(gone) == [(payment, days.last) for payment in expected]
    assert {payment for payment, _ in gone} == set(cramped.held.payloads) - set(cramped.ids("Payment"))


def test_inactive_names_are_not_taken_for_deleted(own: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    own.held.payloads.clear()
    own.held.stage(own.records("quickbooks_customer", WHOLE))
    own.edit("Customer", {"Id": own.ids("Customer")[-1], "Active": False})
    own.advance_to(UNTIL + timedelta(hours=2))
    for customer in own.ids("Customer")[:2]:
        own.edit("Customer", {"Id": customer, "Notes": "changed"})
    own.now += timedelta(seconds=1)
    monkeypatch.setattr(reads, "CDC_OBJECTS", 2)
    today = Days(own.now.date(), own.now.date())
    found = own.records("quickbooks_customer", today, changes_size=2)
    assert len(found) == 3
    assert removals(found) == []


def test_a_read_of_deletions_that_goes_on_gives_them_again(own: Company) -> None:
    payment = delete(own, UNTIL + timedelta(hours=1))
    own.advance_to(UNTIL + timedelta(hours=2))
    pages = own.pages("quickbooks_payment", WHOLE)
    assert removals(pages[-1].records) == [(payment, UNTIL.date())]
    again = own.pages("quickbooks_payment", WHOLE, resume=pages[-1].resume)
    assert shown(again[-1].records) == shown(pages[-1].records)
    assert len(again) == 1


def test_a_targeted_read_removes_what_is_not_there(own: Company) -> None:
    payment = delete(own, UNTIL + timedelta(hours=1))
    there = own.ids("Payment")[0]
    today = Days(own.now.date(), own.now.date())
    found = own.records("quickbooks_payment", today, kind=Kind.TARGETED, targets=(there, payment))
    assert pairs(found) == [(there, today.first)]
    assert removals(found) == [(payment, today.first)]
