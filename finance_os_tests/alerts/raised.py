"""Words for tests of alerts: verdicts, sync runs that fail, and what is open afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from finance_os.alerts.ledger import Alert, open_alerts
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Item, Kind, Request, SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.readiness import verdicts
from finance_os.readiness.verdicts import Status, Verdict
from finance_os_tests.evidence.staged import DAY, OBJECT, read_of

READY = Verdict("acme", "stripe", OBJECT, "trace", DAY, Status.READY, None, None, "aaaaaaaaaaaa", {})
BLOCKED = replace(
    READY, status=Status.BLOCKED, blocker="trace_counts_disagree", remedy="Look.", evidence_hash="bbbbbbbbbbbb"
)
FRESH = replace(READY, check="freshness", day=None)
STALE = replace(FRESH, status=Status.STALE, blocker="freshness_sla_exceeded", remedy="Materialize today.")


def blocked(database: Database, business_id: str = "acme", day: date = DAY, **more: Any) -> None:
    """A blocked check."""
    verdicts.record(database, [replace(BLOCKED, business_id=business_id, day=day, **more)])


def ready(database: Database, business_id: str = "acme", day: date = DAY, **more: Any) -> None:
    """The same check, ready."""
    verdicts.record(database, [replace(READY, business_id=business_id, day=day, **more)])


def read(
    database: Database,
    connection: Connection,
    *items: Item,
    error: str | None = None,
    object_type: str = OBJECT,
    kind: Kind = Kind.WINDOW,
    run_id: str | None = None,
) -> None:
    """A sync run that stages `items`, or fails with the code `error`."""

    def pages(_: Request) -> Iterator[Item]:
        yield from items
        if error:
            raise SourceError(error, "a test", permanent=True)

    asked = read_of(connection, pages, kind=kind, object_type=object_type, days=Days(DAY, DAY))
    origin = Origin(Trigger.MANUAL, run_id)
    if error is None:
        perform(database, asked, origin, chunk_rows=100)
        return
    with pytest.raises(SourceError, match=error):
        perform(database, asked, origin, chunk_rows=100)


def keys(found: list[Alert]) -> list[tuple[str, str, int]]:
    """Business, key and count of alerts."""
    return sorted((alert.business_id, alert.key, alert.count) for alert in found)


def open_keys(database: Database, business_id: str | None = None) -> list[tuple[str, str, int]]:
    """The same of what is open."""
    return keys(open_alerts(database, business_id))


@contextmanager
def held(database: Database) -> Iterator[Any]:
    """A connection in an open transaction of the application, for a test to commit or roll back."""
    with database.connection() as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT set_config('role', %s, true)", (database.role,))
        yield connection


def insert_blocked(connection: Any, check: str) -> None:
    """A blocked verdict in a transaction that is open."""
    connection.execute(
        """
        INSERT INTO finance_os.check_results
            (business_id, source_system, object_type, check_name, partition_day, status, blocker, evidence_hash,
             details)
        VALUES ('acme', 'stripe', 'stripe_invoice', %s, %s, 'blocked', 'because', 'cccccccccccc', '{}')
        """,
        (check, DAY),
    )
