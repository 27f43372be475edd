"""Daily spend: the sums of what impressions cost, proven against each other before one of them is handed over.

Publishers, campaigns and everything are summed by three queries in one snapshot; on every day the three must be the
same amount and the same number of impressions. Sums are exact: prices are `numeric` and stay so. Microdollars are
integers only where the sum is a whole number of them. Any other sum is refused: rounded, the parts would no longer add
up to the whole, and a payload with sometimes an integer and sometimes a fraction has no unit to rely on.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

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
from finance_os.sources.redshift.days import DayWindow, day_windows, in_parts, provenance
from finance_os.sources.redshift.snapshot import RedshiftReader, Row, Snapshot
from finance_os.sources.redshift.statements import DAYS_PER_STATEMENT, Form, statement
from finance_os.sources.sql_queries import SqlQuery

_NUMERIC = re.compile(r"(-?)(\d+)(?:\.(\d*))?")


@dataclass(frozen=True)
class SpendQuery:
    """A query for spend by some key, and those whose sums it must agree with."""

    query: SqlQuery
    others: tuple[SqlQuery, ...]


@dataclass(frozen=True)
class DaySum:
    """What a query sums up to on a day, and how many rows it has for that."""

    spend: int
    impressions: int
    rows: int


def read_spend(reader: RedshiftReader, spend: SpendQuery, request: Request) -> Iterator[Item]:
    """The spend of each day in the request, a page a day, and removals of what an earlier read still saw there."""
    if request.kind is not Kind.WINDOW:
        raise ValueError(f"a {request.kind} is not read from Redshift")
    query, days = spend.query, day_windows(request)
    seen: set[str] = set()
    with reader.snapshot(request.now) as snapshot:
        sums = _agreed(snapshot, spend, days)
        yield RemoteCount({day: total.rows for day, total in sums.items() if total.rows})
        for each, rows in _rows_by_day(snapshot, query, days):
            records = sorted((_record(query, row, each.day) for row in rows), key=lambda record: record.source_id)
            _check(query, each.day, records, sums[each.day])
            seen.update(record.source_id for record in records)
            yield from _unpriced(query, rows, each.day)
            told = provenance(query, each.window, (record.payload for record in records), len(records))
            yield Page(records, snapshot.requested_at, provenance=told)
        requested_at = snapshot.requested_at
    if gone := _gone(request, {each.day for each in days}, seen):
        yield Page(gone, requested_at, provenance={"query": query.name, "version": query.version})


def _agreed(snapshot: Snapshot, spend: SpendQuery, days: Sequence[DayWindow]) -> dict[date, DaySum]:
    """What the query sums up to on each day. Raises `SourceError` for a day on which another one disagrees."""
    mine = _sums(snapshot, spend.query, days)
    for other in spend.others:
        for day, theirs in _sums(snapshot, other, days).items():
            if (theirs.spend, theirs.impressions) != (mine[day].spend, mine[day].impressions):
                raise SourceError(
                    "aggregate_mismatch",
                    f"{day}: {spend.query.name} sums up to {mine[day].spend} microdollars of {mine[day].impressions} "
                    f"impressions, {other.name} to {theirs.spend} of {theirs.impressions}",
                )
    return mine


def _sums(snapshot: Snapshot, query: SqlQuery, days: Sequence[DayWindow]) -> dict[date, DaySum]:
    found: dict[date, DaySum] = {}
    for part in in_parts(days, DAYS_PER_STATEMENT):
        for batch in snapshot.read(statement(query, Form.SUMS, [each.window for each in part])):
            for row in batch:
                day = part[row["day_number"]].day
                spent = microdollars(row["spend"], query, f"the sum of {day}")
                found[day] = DaySum(spent, row["impressions"], row["row_count"])
    if len(found) != len(days):
        raise SourceError("incomplete_read", f"{query.name} version {query.version} gave no sum for some days")
    return found


def _rows_by_day(
    snapshot: Snapshot, query: SqlQuery, days: Sequence[DayWindow]
) -> Iterator[tuple[DayWindow, list[Row]]]:
    """Each day that has rows with all of them: memory holds a day."""
    for part in in_parts(days, DAYS_PER_STATEMENT):
        batches = snapshot.read(statement(query, Form.ROWS, [each.window for each in part]))
        rows = itertools.chain.from_iterable(batches)
        for number, group in itertools.groupby(rows, key=lambda row: row["day_number"]):
            yield part[number], list(group)


def _record(query: SqlQuery, row: Row, day: date) -> Record:
    keys = [row[column] for column in query.key]
    if not all(keys):
        missing = next(column for column in query.key if not row[column])
        raise SourceError(
            "unidentified_row",
            f"{query.name} version {query.version}: impressions of {day} have no {missing}",
            permanent=True,
        )
    source_id = ":".join([*keys, day.isoformat()])
    if any(":" in key for key in keys):
        raise SourceError(
            "ambiguous_id",
            f"{query.name} version {query.version}: {source_id} could be told from others only without its colons",
            permanent=True,
        )
    payload: dict[str, Any] = {
        **dict(zip(query.key, keys, strict=True)),
        "spend_date": day.isoformat(),
        "spend_microdollars": microdollars(row["spend"], query, source_id),
        "impressions": row["impressions"],
        "currency": row["currency"],
    }
    return Record(source_id, payload, day)


def _check(query: SqlQuery, day: date, records: Sequence[Record], total: DaySum) -> None:
    """Hold what was received against what the same query summed up to. Raises `SourceError`."""
    payloads = [record.payload or {} for record in records]
    received = DaySum(
        sum(payload["spend_microdollars"] for payload in payloads),
        sum(payload["impressions"] for payload in payloads),
        len({record.source_id for record in records}),
    )
    if received != total:
        raise SourceError(
            "aggregate_mismatch",
            f"{day}: the {received.rows} rows of {query.name} add up to {received.spend} microdollars, "
            f"its {total.rows} rows were summed up to {total.spend}",
        )


def _unpriced(query: SqlQuery, rows: Sequence[Row], day: date) -> Iterator[Finding]:
    for row in rows:
        if row["unpriced"]:
            subject = ":".join([*(row[column] for column in query.key), day.isoformat()])
            detail = (
                f"{row['unpriced']} of {row['impressions']} impressions have no price and add nothing to the spend."
            )
            yield Finding("unpriced_impressions", Severity.MEDIUM, subject, day, detail)


def _gone(request: Request, days: set[date], seen: set[str]) -> list[Record]:
    """Removals of records of these days that are staged, but no longer there."""
    held = request.held.ids_between(("spend_date",), request.days.first.isoformat(), request.days.last.isoformat())
    gone = (
        (source_id, date.fromisoformat(source_id.rpartition(":")[2])) for source_id in held if source_id not in seen
    )
    return [Record(source_id, None, day) for source_id, day in gone if day in days]


def microdollars(amount: str, query: SqlQuery, what: str) -> int:
    """Dollars as Redshift prints a `numeric`, in microdollars. Raises `SourceError` if they are no whole number."""
    found = _NUMERIC.fullmatch(amount)
    if found is None:
        raise SourceError(
            "unreadable_value",
            f"{query.name} version {query.version}: the spend of {what} is not a number",
            permanent=True,
        )
    sign, whole, fraction = found[1], found[2], found[3] or ""
    if fraction[6:].strip("0"):
        raise SourceError(
            "inexact_spend",
            f"{query.name} version {query.version}: the prices of {what} add up to no whole number of microdollars",
            permanent=True,
        )
    return int(sign + whole + fraction[:6].ljust(6, "0"))
