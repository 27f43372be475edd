"""Raising alerts: what has happened since the last look becomes alerts, and recoveries resolve them.

Events only tell where to look; whether an alert is open follows from the latest verdict, run or exception. So an
event that is read late, or one that has been overtaken, leaves the same alerts as any other order would.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from finance_os.alerts import feeds
from finance_os.alerts.check_alerts import read_verdicts
from finance_os.alerts.feeds import Feed
from finance_os.alerts.ledger import Alert, AlertKind, Identity, Ledger
from finance_os.alerts.run_alerts import RunOutcome, businesses_of, read_sync_runs, take_outcomes
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.extraction import Severity

BATCH = 1_000
"""How many events of a feed one transaction takes at most."""

PASSES = 50
"""How many transactions one call makes at most: the next call goes on."""

_EXCEPTIONS = Feed(
    feeds.EXCEPTIONS,
    after="""
    SELECT exception_id AS id, * FROM finance_os.finance_exceptions
    WHERE exception_id > %(position)s ORDER BY exception_id LIMIT %(limit)s
    """,
    between="""
    SELECT exception_id AS id, found.* FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS span (first, last)
    JOIN finance_os.finance_exceptions AS found ON exception_id BETWEEN span.first AND span.last
    ORDER BY exception_id
    """,
)


def dagster_position(database: Database) -> int:
    """The storage ID up to which Dagster's events were taken for good: those after it are to be given again."""
    with database.transaction() as connection:
        return feeds.read_cursor(connection, feeds.DAGSTER).position


def raise_alerts(
    database: Database, outcomes: Sequence[RunOutcome] = (), settled: int = 0, *, batch: int = BATCH
) -> list[Alert]:
    """Read what has happened since the last call; the alerts that were opened, counted again or resolved, in order.

    `outcomes` are Dagster runs that ended, those after `dagster_position`; up to the storage ID `settled` no other
    event will turn up any more. A failed run that left a failed sync run or a blocked verdict is spoken of by that
    one's alert and raises none of its own.
    """
    changed: dict[int, Alert] = {}
    for number in range(PASSES):
        with database.transaction() as connection:
            ledger = Ledger.read(connection)
            more = [read_verdicts(connection, ledger, batch), _exceptions(connection, ledger, batch)]
            more += [read_sync_runs(connection, ledger, each, batch) for each in businesses_of(connection, None)]
            if number == 0:
                take_outcomes(connection, ledger, outcomes, settled)
            _disconnected(connection, ledger)
            changed |= {alert.alert_id: alert for alert in ledger.write(connection)}
        if not any(more):
            break
    return [changed[alert_id] for alert_id in sorted(changed)]


def _exceptions(connection: DatabaseConnection, ledger: Ledger, batch: int) -> bool:
    """New exceptions of a high or critical severity; and which of those that alerts speak of are open no more."""
    rows, more = _EXCEPTIONS.read(connection, batch)
    for row in rows:
        if Severity(row["severity"]) in (Severity.HIGH, Severity.CRITICAL):
            ledger.fail(
                _of_exception(ledger, row),
                str(row["exception_id"]),
                row["opened_at"],
                row["evidence_hash"],
                {"detail": row["detail"], "severity": row["severity"]},
            )
    entries = {int(member): entry for entry in ledger.open(AlertKind.EXCEPTION) for member in entry.failing}
    resolved = connection.execute(
        """
        SELECT exception_id, resolved_at FROM finance_os.finance_exceptions
        WHERE exception_id = ANY (%s) AND status = 'resolved' ORDER BY resolved_at, exception_id
        """,
        (list(entries),),
    ).fetchall()
    for row in resolved:
        ledger.recover(entries[row["exception_id"]], str(row["exception_id"]), row["resolved_at"])
    return more


def _of_exception(ledger: Ledger, row: Mapping[str, Any]) -> Identity:
    """The alert of an exception: as grave as the gravest that is open under its key."""
    key = f"exception:{row['source_system']}/{row['object_type']}:{row['code']}:{row['subject']}"
    entry = ledger.find(row["business_id"], key)
    others = [known["severity"] for known in entry.failing.values()] if entry else []
    severity = Severity.CRITICAL if Severity.CRITICAL.value in (row["severity"], *others) else Severity.HIGH
    return Identity(
        row["business_id"],
        key,
        AlertKind.EXCEPTION,
        severity,
        row["subject"],
        row["code"],
        row["source_system"],
        row["object_type"],
    )


def _disconnected(connection: DatabaseConnection, ledger: Ledger) -> None:
    """Nothing is read any more through a connection that is not active: nothing fails there either.

    Checks of what has no connection at all, such as checkpoints, are left alone.
    """
    kinds = (AlertKind.CHECK, AlertKind.FRESHNESS, AlertKind.RUN)
    entries = [entry for kind in kinds for entry in ledger.open(kind) if entry.identity.source_system]
    if not entries:
        return
    rows = connection.execute(
        """
        SELECT connection_id, business_id, source_system, active, clock_timestamp() AS now FROM finance_os.connections
        """
    ).fetchall()
    connected = {(row["business_id"], row["source_system"]) for row in rows if row["active"]}
    left = {(row["business_id"], row["source_system"]) for row in rows} - connected
    inactive = {row["connection_id"] for row in rows if not row["active"]}
    for entry in entries:
        no_more = (entry.identity.business_id, entry.identity.source_system) in left
        for member in [name for name, known in entry.failing.items() if no_more or known.get("connection") in inactive]:
            ledger.recover(entry, member, rows[0]["now"])
