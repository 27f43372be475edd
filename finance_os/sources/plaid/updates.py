"""What changed since the saved cursor, whatever its date: given when the update is whole, with the cursor behind it.

All of it belongs to the day on which Plaid told it, the last of the read, also where its own date is read too: what a
day holds must not depend on which other days are read along with it.

An update that goes on from a cursor is one page, so that its transactions, its removals and its cursor are committed
together or not at all. The first update, and one whose cursor is of no use any more, begins at the item's history: it
is given page by page, and then shows what is gone too, because what it does not tell of is not there. That holds from
the earliest date that it tells of on; of what is held from before Plaid's history it says nothing.
https://plaid.com/docs/transactions/sync-migration/
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from finance_os.evidence.extraction import Item, Notice, Page, SourceError
from finance_os.sources.plaid.answers import Now, Row, update_page
from finance_os.sources.plaid.client import PlaidReader
from finance_os.sources.plaid.failures import INVALID_FIELD, MUTATION, PlaidFailure
from finance_os.sources.plaid.told import Asked, Told

TRIES = 5
"""How often an update is begun before it is given up."""

_FOREVER = "9999-12-31"


@dataclass(frozen=True, slots=True)
class _Update:
    """A whole update. `present` are the transactions that its pages show, `removed` those that it says are gone."""

    pages: list[Asked]
    present: set[str]
    removed: set[str]
    cursor: str
    requested_at: datetime

    def rows(self) -> Iterator[Row]:
        return (row for page in self.pages for row in page.rows)


def updates(reader: PlaidReader, told: Told) -> Iterator[Item]:
    """What changed since the request's cursor, given to the last day of the read. `told` knows the item."""
    request = told.request
    # The item's ID alone: a token may be replaced, and the cursor stays the item's.
    item = hashlib.sha256(told.item_id.encode()).hexdigest()
    saved = request.cursor or {}
    start = saved.get("cursor") if saved.get("item") == item else ""
    if request.cursor and not start:
        yield Notice("The saved cursor was another item's: its history was read from the beginning.")
    update, refused = _whole(reader, start if isinstance(start, str) else "", request.now)
    if refused:
        yield Notice("Plaid does not know the saved cursor any more: its history was read from the beginning.")
    day = request.days.last
    gone = update.removed | (told.outlived(update.rows()).keys() - update.present)
    following = {"item": item, "cursor": update.cursor}
    if start and not refused:
        page = told.page(update.rows(), update.requested_at, day)
        records = [*page.records, *told.removals(dict.fromkeys(gone, day))]
        yield Page(records, update.requested_at, cursor=following)
        return
    gone |= _unseen(told, update)
    for asked in update.pages:
        yield told.page(asked.rows, asked.requested_at, day)
    yield Page(told.removals(dict.fromkeys(gone, day)), update.requested_at, cursor=following)


def _unseen(told: Told, update: _Update) -> set[str]:
    """Of an update from the beginning: what is held, or was just given, and not told of by it."""
    if not update.present:
        return set()
    first = min(row.day for row in update.rows()).isoformat()
    held = told.request.held.ids_between(("date",), first, _FOREVER)
    return {*held, *told.states} - update.present


def _whole(reader: PlaidReader, start: str, now: Now) -> tuple[_Update, bool]:
    """The update from `start`, and whether Plaid refused that and it is from the beginning instead.

    Transactions that change while an update is read make Plaid refuse the rest of it; it is then begun again from its
    first cursor, not from the one that was refused:
    https://plaid.com/docs/errors/transactions/#transactions_sync_mutation_during_pagination
    """
    refused = False
    for _ in range(TRIES):
        try:
            return _drained(reader, start, now), refused
        except PlaidFailure as failure:
            if failure.reason == INVALID_FIELD and start:
                start, refused = "", True
            elif failure.reason != MUTATION:
                raise
    raise SourceError("incomplete", f"update of transactions: they changed while it was read, {TRIES} times in a row")


def _drained(reader: PlaidReader, start: str, now: Now) -> _Update:
    pages: list[Asked] = []
    present: set[str] = set()
    removed: set[str] = set()
    passed = {start}
    cursor, more = start, True
    while more:
        answer = update_page(reader, cursor, now)
        page = answer.value
        cursor, more = page.cursor, page.has_more
        if more and cursor in passed:
            raise SourceError("incomplete", "update of transactions: Plaid's cursors lead in a circle")
        passed.add(cursor)
        pages.append(Asked(page.rows, answer.requested_at))
        shown = {row.id for row in page.rows}
        present = (present | shown) - set(page.removed)
        removed = (removed - shown) | set(page.removed)
    for asked in pages:
        asked.rows = [row for row in asked.rows if row.id in present]
    return _Update(pages, present, removed, cursor, pages[0].requested_at)
