"""Where failures are read from: append-only rows in the order of their IDs, each once, none left out.

A position is saved in the transaction that writes what was made of the rows up to it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from finance_os.evidence.database import DatabaseConnection

GIVEN_UP_AFTER = timedelta(minutes=10)
"""An ID that was missing for so long, and longer than every transaction of that time, was rolled back."""

CHECKS = "check_results"
EXCEPTIONS = "finance_exceptions"
AUDIT = "finance_audit_events"
DAGSTER = "dagster_runs"


@dataclass(frozen=True)
class Missing:
    """IDs from `first` to `last` that were not there at a time when transactions up to `horizon` had begun."""

    first: int
    last: int
    missed_at: datetime
    horizon: int


@dataclass(frozen=True)
class Cursor:
    """Up to which ID a feed was read, and which IDs below that may still turn up.

    Where nobody can say which IDs are missing, the position lags behind, and `taken` are those above it that were read.
    """

    position: int = 0
    missing: tuple[Missing, ...] = ()
    taken: frozenset[int] = frozenset()


def read_cursor(connection: DatabaseConnection, feed: str, business_id: str | None = None) -> Cursor:
    """Where to go on reading a feed; from its beginning if it was never read."""
    row = connection.execute(
        """
        SELECT position, missing, taken FROM finance_os.alert_cursors
        WHERE feed = %s AND business_id IS NOT DISTINCT FROM %s::text
        """,
        (feed, business_id),
    ).fetchone()
    if row is None:
        return Cursor()
    return Cursor(
        row["position"],
        tuple(
            Missing(first, last, datetime.fromisoformat(missed_at), horizon)
            for first, last, missed_at, horizon in row["missing"]
        ),
        frozenset(row["taken"]),
    )


def save_cursor(connection: DatabaseConnection, feed: str, cursor: Cursor, business_id: str | None = None) -> None:
    """Move a feed's cursor, in the transaction that is open on `connection`."""
    missing = [[each.first, each.last, each.missed_at.isoformat(), each.horizon] for each in cursor.missing]
    connection.execute(
        """
        INSERT INTO finance_os.alert_cursors (feed, business_id, position, missing, taken) VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (feed, business_id) DO UPDATE
        SET position = excluded.position, missing = excluded.missing, taken = excluded.taken,
            moved_at = clock_timestamp()
        """,
        (feed, business_id, cursor.position, Jsonb(missing), Jsonb(sorted(cursor.taken))),
    )


@dataclass(frozen=True)
class Feed:
    """A table whose rows are numbered when they are written and seen when they are committed: not in that order.

    `after` selects rows by `%(position)s` and `%(limit)s`, `between` by the arrays `%(firsts)s` and `%(lasts)s`; both
    give the number as `id`, in its order.
    """

    name: str
    after: LiteralString
    between: LiteralString

    def read(self, connection: DatabaseConnection, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """The next rows, at most `limit` new ones, and those that have turned up late; whether there may be more.

        The cursor moves with the transaction that is open on `connection`.
        """
        cursor = read_cursor(connection, self.name)
        [clock] = connection.execute(
            """
            SELECT clock_timestamp() AS now, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest
            """
        ).fetchall()
        late = self._late(connection, cursor.missing)
        rows = connection.execute(self.after, {"position": cursor.position, "limit": limit}).fetchall()
        position = rows[-1]["id"] if rows else cursor.position
        found = {row["id"] for row in late}
        missing = [
            Missing(first, last, each.missed_at, each.horizon)
            for each in cursor.missing
            if clock["now"] - each.missed_at < GIVEN_UP_AFTER or clock["oldest"] < each.horizon
            for first, last in _without(each.first, each.last, found)
        ]
        if gaps := _without(cursor.position + 1, position, (row["id"] for row in rows)):
            now, horizon = clock["now"].astimezone(UTC), _next_transaction(connection)
            missing += [Missing(first, last, now, horizon) for first, last in gaps]
        following = Cursor(position, tuple(missing))
        if following != cursor:
            save_cursor(connection, self.name, following)
        return [*late, *rows], len(rows) == limit

    def _late(self, connection: DatabaseConnection, missing: Iterable[Missing]) -> list[dict[str, Any]]:
        bounds = [(each.first, each.last) for each in missing]
        if not bounds:
            return []
        return connection.execute(
            self.between, {"firsts": [first for first, _ in bounds], "lasts": [last for _, last in bounds]}
        ).fetchall()


def _next_transaction(connection: DatabaseConnection) -> int:
    [row] = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next").fetchall()
    return row["next"]


def _without(first: int, last: int, found: Iterable[int]) -> list[tuple[int, int]]:
    """What is left of the numbers from `first` to `last` without those found, as spans."""
    spans: list[tuple[int, int]] = []
    for number in sorted(number for number in found if first <= number <= last):
        if number > first:
            spans.append((first, number - 1))
        first = number + 1
    if first <= last:
        spans.append((first, last))
    return spans


def read_audit(
    connection: DatabaseConnection, business_id: str, limit: int, wanted: Callable[[Mapping[str, Any]], bool]
) -> tuple[list[dict[str, Any]], bool]:
    """The next events of a business's audit chain that are `wanted`; whether there may be more.

    Its numbers have no gaps and are given in the order of the commits.
    """
    cursor = read_cursor(connection, AUDIT, business_id)
    rows = connection.execute(
        """
        SELECT sequence, event_type, subject, details, occurred_at FROM finance_os.finance_audit_events
        WHERE business_id = %s AND sequence > %s ORDER BY sequence LIMIT %s
        """,
        (business_id, cursor.position, limit),
    ).fetchall()
    if rows:
        save_cursor(connection, AUDIT, Cursor(rows[-1]["sequence"]), business_id)
    return [row for row in rows if wanted(row)], len(rows) == limit
