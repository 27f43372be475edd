"""Clicks and engine events: rows of partitioned windows of their own time, keyed by their ID.

A day is read in spans of about the same number of rows, so that no statement's result is larger than the Data API
hands out (500 MB) or a cursor should hold. A day whose rows are all there, as their count proves, shows all of its
events: what is held of it and not shown has been deleted, and is a removal.

Redshift enforces no key (https://docs.aws.amazon.com/redshift/latest/dg/t_Defining_constraints.html), so a load that
ran twice gives events twice. Such a day is read twice too, first for the IDs that are repeated; while that lasts,
memory holds the IDs of the day. Rows of an event that are the same are one record; of others the one that Redshift got
last is, and rows that differ without one being the last are refused.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from finance_os.evidence.extraction import (
    Finding,
    Item,
    Kind,
    Page,
    Record,
    RemoteCount,
    Request,
    Severity,
    SourceError,
)
from finance_os.evidence.windows import Window
from finance_os.sources.redshift.days import DayWindow, day_windows, in_parts, provenance, utc_text
from finance_os.sources.redshift.snapshot import RedshiftReader, Row, Snapshot
from finance_os.sources.redshift.statements import DAYS_PER_STATEMENT, Form, statement
from finance_os.sources.sql_queries import SqlQuery

ROWS_PER_PAGE = 5_000
ROWS_PER_STATEMENT = 200_000

DUPLICATE_EVENT = "redshift_duplicate_event"
MOST_FINDINGS = 100
"""Most events of a day that are named as having several rows: a load that ran twice has as many as the day."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class EventQuery:
    """A query for events: its key is their ID, `created` their time, `updated` when Redshift got them."""

    query: SqlQuery


@dataclass(frozen=True)
class DayCount:
    """How many rows a day has, and how many different IDs they have."""

    rows: int
    events: int


def read_events(reader: RedshiftReader, events: EventQuery, request: Request) -> Iterator[Item]:
    """The events of each day in the request, in order of time, as pages of one span each; then what is gone.

    Events that have several rows come in pages of their own behind their day, and are findings.
    """
    if request.kind is not Kind.WINDOW:
        raise ValueError(f"a {request.kind} is not read from Redshift")
    with reader.snapshot(request.now) as snapshot:
        yield from _Reading(snapshot, events.query, request).items()


class _Reading:
    """One read: what is held and was not shown so far, with the day that it is held on."""

    def __init__(self, snapshot: Snapshot, query: SqlQuery, request: Request) -> None:
        self.snapshot = snapshot
        self.query = query
        self.held = request.held
        self.days = day_windows(request)
        self.gone: dict[str, date] = {}

    def items(self) -> Iterator[Item]:
        counted = _counted(self.snapshot, self.query, self.days)
        yield RemoteCount({day: count.events for day, count in counted.items() if count.rows})
        for each in self.days:
            yield from self._day(each, counted[each.day])
        self._keep_what_moved(counted)
        told = {"query": self.query.name, "version": self.query.version}
        for ids in in_parts(sorted(self.gone), ROWS_PER_PAGE):
            removals = [Record(source_id, None, self.gone[source_id]) for source_id in ids]
            yield Page(removals, self.snapshot.requested_at, provenance=told)

    def _day(self, each: DayWindow, count: DayCount) -> Iterator[Item]:
        repeated = _repeated(self.snapshot, self.query, each, count) if count.events != count.rows else frozenset()
        several: defaultdict[str, list[Record]] = defaultdict(list)
        received = 0
        for window in _spans(each.window, max(1, count.rows)):
            missing = self._held_in(window)
            for records in _records(self.snapshot, self.query, window, each.day) if count.rows else ():
                received += len(records)
                shown = [record.source_id for record in records]
                missing.difference_update(shown)
                if self.gone:
                    for source_id in shown:
                        self.gone.pop(source_id, None)
                if repeated:
                    for record in records:
                        if record.source_id in repeated:
                            several[record.source_id].append(record)
                    records = [record for record in records if record.source_id not in repeated]
                if records:
                    yield self._page(records, window)
            self.gone.update(dict.fromkeys(missing, each.day))
        if received != count.rows:
            raise SourceError(
                "incomplete_read",
                f"{self.query.name} version {self.query.version}: {received} rows of {each.day} came, "
                f"{count.rows} were counted",
            )
        kept = [_one_of(self.query, each.day, several[source_id]) for source_id in sorted(several)]
        for records in in_parts(kept, ROWS_PER_PAGE):
            yield self._page(records, each.window)
        yield from _findings(self.query, each.day, several)

    def _held_in(self, window: Window) -> set[str]:
        """What is held of a span. It is asked before the span is shown, as what is shown may be staged at once."""
        last = window.end - timedelta(microseconds=1)
        return set(self.held.ids_between((self.query.created or "",), utc_text(window.start), utc_text(last)))

    def _keep_what_moved(self, counted: Mapping[date, DayCount]) -> None:
        """Take what an earlier span showed from what is gone: its time was corrected, and it is still there.

        The spans are read once more, as to remember all that they showed would take memory in every read.
        """
        for each in self.days:
            if not self.gone or each.day > max(self.gone.values()):
                return
            for window in _spans(each.window, counted[each.day].rows):
                for source_id in _ids(self.snapshot, self.query, window, each.day):
                    self.gone.pop(source_id, None)

    def _page(self, records: Sequence[Record], window: Window) -> Page:
        told = provenance(self.query, window, (record.payload for record in records), len(records))
        return Page(list(records), self.snapshot.requested_at, provenance=told)


def _counted(snapshot: Snapshot, query: SqlQuery, days: Sequence[DayWindow]) -> dict[date, DayCount]:
    """Rows and events by day."""
    counted: dict[date, DayCount] = {}
    for part in in_parts(days, DAYS_PER_STATEMENT):
        for batch in snapshot.read(statement(query, Form.COUNTS, [each.window for each in part])):
            for row in batch:
                counted[part[row["day_number"]].day] = DayCount(row["row_count"], row["key_count"])
    if len(counted) != len(days):
        raise SourceError("incomplete_read", f"{query.name} version {query.version} gave no count for some days")
    return counted


def _repeated(snapshot: Snapshot, query: SqlQuery, each: DayWindow, count: DayCount) -> frozenset[str]:
    """IDs that several rows of a day have. Raises `SourceError` for a row without one."""
    seen: set[str] = set()
    repeated: set[str] = set()
    for window in _spans(each.window, count.rows):
        for source_id in _ids(snapshot, query, window, each.day):
            if source_id in seen:
                repeated.add(source_id)
            seen.add(source_id)
    return frozenset(repeated)


def _one_of(query: SqlQuery, day: date, records: Sequence[Record]) -> Record:
    """The one of an event's rows that stands. Raises `SourceError` where they do not say which."""
    if all(record.payload == records[0].payload for record in records):
        return records[0]
    versions = [record.version for record in records if record.version is not None]
    latest = [record for record in records if record.version == max(versions, default=None)]
    if len(versions) < len(records) or any(record.payload != latest[0].payload for record in latest):
        raise SourceError(
            "duplicate_row",
            f"{query.name} version {query.version}: {len(records)} rows of {day} have the {query.key[0]} "
            f"{records[0].source_id} and differ, and {query.updated} does not say which is the last",
            permanent=True,
        )
    return latest[0]


def _findings(query: SqlQuery, day: date, several: Mapping[str, Sequence[Record]]) -> Iterator[Finding]:
    """Each event that has several rows, up to `MOST_FINDINGS` a day in the order of IDs; the rest in one."""
    named = sorted(several)[:MOST_FINDINGS]
    for source_id in named:
        records = several[source_id]
        if all(record.payload == records[0].payload for record in records):
            detail = f"{len(records)} rows have this ID and are the same: one of them was kept."
        else:
            detail = f"{len(records)} rows have this ID and differ: the one with the latest {query.updated} was kept."
        yield Finding(DUPLICATE_EVENT, Severity.MEDIUM, source_id, day, detail)
    if rest := len(several) - len(named):
        detail = f"{rest} more events of this day have several rows: one row of each was kept."
        yield Finding(DUPLICATE_EVENT, Severity.MEDIUM, f"{query.name}:{day}", day, detail)


def _spans(window: Window, rows: int) -> Iterator[Window]:
    """A day's window in equal spans, as many as its rows are worth; none where it has none."""
    spans = math.ceil(rows / ROWS_PER_STATEMENT)
    bounds = [window.start + (window.end - window.start) * number // spans for number in range(spans)]
    return itertools.starmap(Window, itertools.pairwise([*bounds, window.end]))


def _records(snapshot: Snapshot, query: SqlQuery, window: Window, day: date) -> Iterator[list[Record]]:
    """The records of a span, as many at a time as make a page."""
    rows = _rows(snapshot, query, window)
    while page := [_record(query, row, day) for row in itertools.islice(rows, ROWS_PER_PAGE)]:
        yield page


def _ids(snapshot: Snapshot, query: SqlQuery, window: Window, day: date) -> Iterator[str]:
    return (_id(query, row, day) for row in _rows(snapshot, query, window))


def _rows(snapshot: Snapshot, query: SqlQuery, window: Window) -> Iterator[Row]:
    return itertools.chain.from_iterable(snapshot.read(statement(query, Form.EVENTS, [window])))


def _id(query: SqlQuery, row: Row, day: date) -> str:
    if row[query.key[0]] is None:
        raise SourceError(
            "unidentified_row",
            f"{query.name} version {query.version}: a row of {day} has no {query.key[0]}",
            permanent=True,
        )
    return str(row[query.key[0]])


def _record(query: SqlQuery, row: Row, day: date) -> Record:
    created = query.created or ""
    happened = _moment(row[created], query)
    ingested = None
    row[created] = utc_text(happened)
    if query.updated and row[query.updated] is not None:
        ingested = _moment(row[query.updated], query)
        row[query.updated] = utc_text(ingested)
    return Record(
        source_id=_id(query, row, day),
        payload=row,
        day=day,
        version=ingested and (ingested - _EPOCH) // timedelta(microseconds=1),
        created_at=happened,
        updated_at=ingested,
    )


def _moment(text: str, query: SqlQuery) -> datetime:
    """A time as the queries print it: `YYYYMMDDHH24MISSUS`, in UTC."""
    try:
        year, month, day, hour, minute = (
            int(text[:4]),
            int(text[4:6]),
            int(text[6:8]),
            int(text[8:10]),
            int(text[10:12]),
        )
        return datetime(year, month, day, hour, minute, int(text[12:14]), int(text[14:]), UTC)
    except (ValueError, TypeError):
        raise SourceError(
            "unreadable_value",
            f"{query.name} version {query.version}: a time is not one of the years 1 to 9999",
            permanent=True,
        ) from None
