"""The transactions dated on some days: page by page, proved by Plaid's count, and what is gone from those days.

Days are read a month at a time, and nothing of a month is given before the whole of it is there. Plaid counts
afresh for every page, and a page begins with the last transaction of the one before: where the count or that
transaction is another, something has moved between the pages and the month is read from its first page again.
Plaid's order does not change by itself (https://plaid.com/docs/api/products/transactions/#transactionsget).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from finance_os.evidence.extraction import Held, Item, Page, SourceError
from finance_os.evidence.windows import Days
from finance_os.sources.plaid.answers import Now, Row, days_page
from finance_os.sources.plaid.client import PlaidReader
from finance_os.sources.plaid.told import Asked, Told

TRIES = 5
"""How often days are read before they are given up as incomplete."""

MONTH = 31


@dataclass(frozen=True, slots=True)
class _Whole:
    """All transactions of some days, as they were from `requested_at` on."""

    pages: list[Asked]
    ids: set[str]
    item_id: str
    requested_at: datetime

    def rows(self) -> Iterator[Row]:
        return (row for page in self.pages for row in page.rows)


def dated(reader: PlaidReader, told: Told) -> Iterator[Item]:
    """The transactions of all days of the read, then removals of those that are held of them and no longer there."""
    request = told.request
    for days in _months(request.days):
        whole = _read(reader, days, request.now)
        if told.item_id not in ("", whole.item_id):
            raise SourceError("incomplete", "Plaid showed another item while it was being read")
        told.item_id = whole.item_id
        gone = _gone(request.held, days, whole.ids)
        gone |= {each: day for each, day in told.outlived(whole.rows()).items() if each not in whole.ids}
        for page in whole.pages:
            yield told.page(page.rows, page.requested_at)
        if gone:
            yield Page(told.removals(gone), whole.requested_at)


def _months(days: Days) -> Iterator[Days]:
    first = days.first
    while first <= days.last:
        last = min(days.last, first + timedelta(days=MONTH - 1))
        yield Days(first, last)
        first = last + timedelta(days=1)


def _read(reader: PlaidReader, days: Days, now: Now) -> _Whole:
    """All of `days`; `SourceError`, `incomplete`, where they keep moving."""
    for _ in range(TRIES):
        whole = _attempt(reader, days, now)
        if whole is not None:
            return whole
    raise SourceError(
        "incomplete", f"transactions of {days}: Plaid shows others than it counts, {TRIES} times in a row"
    )


def _attempt(reader: PlaidReader, days: Days, now: Now) -> _Whole | None:
    """All of `days`; `None` where something moved while they were read."""
    answer = days_page(reader, days, 0, now)
    total, item_id = answer.value.total, answer.value.item_id
    whole = _Whole([], set(), item_id, answer.requested_at)
    rows = answer.value.rows
    while True:
        if not whole.ids.isdisjoint(row.id for row in rows) or (not rows and len(whole.ids) < total):
            return None
        whole.ids.update(row.id for row in rows)
        whole.pages.append(Asked(rows, answer.requested_at))
        if len(whole.ids) >= total:
            return whole
        answer = days_page(reader, days, len(whole.ids) - 1, now)
        if (answer.value.total, answer.value.item_id) != (total, item_id):
            return None
        if not answer.value.rows or answer.value.rows[0].id != rows[-1].id:
            return None
        rows = answer.value.rows[1:]


def _gone(held: Held, days: Days, ids: set[str]) -> dict[str, date]:
    """Transactions that are held with a date in `days` and are none of `ids`, with that date."""

    def missing(first: date, last: date) -> set[str]:
        return set(held.ids_between(("date",), first.isoformat(), last.isoformat())) - ids

    if not missing(days.first, days.last):
        return {}
    return {each: day for day in days for each in missing(day, day)}
