"""Clicks and engine events: rows of partitioned windows of their own time, keyed by their ID.

A day is read in spans of about the same number of rows, so that no statement's result is larger than the Data API
hands out (500 MB) or a cursor should hold. Events are only ever added, also late: a day that is read again shows what
has come since, and what had been deleted there meanwhile would still be held.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from finance_os.evidence.extraction import Item, Kind, Page, Record, RemoteCount, Request, SourceError
from finance_os.evidence.windows import Window
from finance_os.sources.redshift.days import DayWindow, day_windows, in_parts, provenance, utc_text
from finance_os.sources.redshift.snapshot import RedshiftReader, Row, Snapshot
from finance_os.sources.redshift.statements import DAYS_PER_STATEMENT, Form, statement
from finance_os.sources.sql_queries import SqlQuery

ROWS_PER_PAGE = 5_000
ROWS_PER_STATEMENT = 200_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class EventQuery:
    """A query for events: its key is their ID, `created` their time, `updated` when Redshift got them."""

    query: SqlQuery


def read_events(reader: RedshiftReader, events: EventQuery, request: Request) -> Iterator[Item]:
    """The events of each day in the request, in order of time, as pages of one span each."""
    if request.kind is not Kind.WINDOW:
        raise ValueError(f"a {request.kind} is not read from Redshift")
    query, days = events.query, day_windows(request)
    with reader.snapshot(request.now) as snapshot:
        counted = _counted(snapshot, query, days)
        yield RemoteCount({day: rows for day, rows in counted.items() if rows})
        for each in days:
            received = 0
            for window in _spans(each.window, counted[each.day]):
                for records in _records(snapshot, query, window, each.day):
                    received += len(records)
                    told = provenance(query, window, (record.payload for record in records), len(records))
                    yield Page(records, snapshot.requested_at, provenance=told)
            if received != counted[each.day]:
                raise SourceError(
                    "incomplete_read",
                    f"{query.name} version {query.version}: {received} rows of {each.day} came, "
                    f"{counted[each.day]} were counted",
                )


def _counted(snapshot: Snapshot, query: SqlQuery, days: Sequence[DayWindow]) -> dict[date, int]:
    """Rows by day. Raises `SourceError` for a day on which they do not have an ID each: Redshift enforces none."""
    counted: dict[date, int] = {}
    for part in in_parts(days, DAYS_PER_STATEMENT):
        for batch in snapshot.read(statement(query, Form.COUNTS, [each.window for each in part])):
            for row in batch:
                day = part[row["day_number"]].day
                if row["key_count"] != row["row_count"]:
                    raise SourceError(
                        "duplicate_row",
                        f"{query.name} version {query.version}: the {row['row_count']} rows of {day} have "
                        f"{row['key_count']} different {query.key[0]}s",
                        permanent=True,
                    )
                counted[day] = row["row_count"]
    if len(counted) != len(days):
        raise SourceError("incomplete_read", f"{query.name} version {query.version} gave no count for some days")
    return counted


def _spans(window: Window, rows: int) -> Iterator[Window]:
    """A day's window in equal spans, as many as its rows are worth; none where it has none."""
    spans = math.ceil(rows / ROWS_PER_STATEMENT)
    bounds = [window.start + (window.end - window.start) * number // spans for number in range(spans)]
    return itertools.starmap(Window, itertools.pairwise([*bounds, window.end]))


def _records(snapshot: Snapshot, query: SqlQuery, window: Window, day: date) -> Iterator[list[Record]]:
    """The records of a span, as many at a time as make a page."""
    batches = snapshot.read(statement(query, Form.EVENTS, [window]))
    rows = itertools.chain.from_iterable(batches)
    while page := [_record(query, row, day) for row in itertools.islice(rows, ROWS_PER_PAGE)]:
        yield page


def _record(query: SqlQuery, row: Row, day: date) -> Record:
    created = query.created or ""
    happened = _moment(row[created], query)
    ingested = None
    row[created] = utc_text(happened)
    if query.updated and row[query.updated] is not None:
        ingested = _moment(row[query.updated], query)
        row[query.updated] = utc_text(ingested)
    return Record(
        source_id=str(row[query.key[0]]),
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
