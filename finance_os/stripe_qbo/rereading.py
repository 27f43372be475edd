"""Reading again from Stripe what a plan is made from: days with their checks, or single objects."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial

from finance_os.evidence.businesses import Connection, active_connections
from finance_os.evidence.clock import DatabaseClock
from finance_os.evidence.database import Database
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days, day_of
from finance_os.readiness import verdicts
from finance_os.readiness.source_checks import SOURCE_CHECKS, Subject
from finance_os.sources.approvals import ConnectionApprovals
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.planning import plan_reads, targeted_read
from finance_os.sources.registry import source_named
from finance_os.sources.stripe.belonging import is_listed
from finance_os.sources.stripe.objects import PAYOUT
from finance_os.stripe_qbo.stripe_evidence import OBJECT_TYPES

SYSTEM = "stripe"
_ORIGIN = Origin(Trigger.MANUAL)
_PAYOUT, _PAID_OUT = "stripe_payout", "stripe_payout_balance_transaction"
_LISTED = frozenset(("stripe_customer_balance_transaction", _PAID_OUT))
"""What is read as a list of something else, and not by its own ID."""


def read_days(database: Database, business_id: str, days: Days, chunk_rows: int) -> Iterator[str]:
    """Read days of every object type that a plan reads, and check them anew; what was read, as it is done.

    Raises `SourceError`, `CredentialsMissing` and `LookupError`.
    """
    source = source_named(SYSTEM)
    connections = _connections(database, business_id)
    now = _now(database)
    for object_type in OBJECT_TYPES:
        obj = source.object(object_type)
        for connection in connections:
            for read in plan_reads(
                source,
                obj,
                connection,
                days,
                now,
                kept=partial(ConnectionSecrets, database),
                approvals=partial(ConnectionApprovals, database),
            ):
                run = perform(database, read, _ORIGIN, chunk_rows=chunk_rows)
                yield (
                    f"{object_type} of {read.days}: {run['rows_extracted']:,} read, {run['rows_new']:,} new, "
                    f"{run['rows_changed']:,} changed"
                )
        # A day that was read again is unproved until it is checked again.
        subject = Subject.of(source, obj)
        for check in SOURCE_CHECKS:
            verdicts.record(database, check.evaluate(database, subject, days))


def read_objects(database: Database, business_id: str, objects: Sequence[str], chunk_rows: int) -> Iterator[str]:
    """Read single objects, named as `invoice:in_1`; what was read, as it is done. Raises as `read_days` does."""
    source = source_named(SYSTEM)
    now = _now(database)
    for name in objects:
        kind, _, source_id = name.partition(":")
        object_type = f"{SYSTEM}_{kind}"
        if object_type not in OBJECT_TYPES or object_type in _LISTED:
            raise LookupError(f"{name} cannot be read by itself: leave --read out, or name its days")
        connection = _connection_of(database, business_id, object_type, source_id)
        today = day_of(now, connection.zone)
        for of_type, target in _targets(database, connection, object_type, source_id):
            read = targeted_read(
                source,
                source.object(of_type),
                connection,
                Days(today, today),
                now,
                [target],
                kept=partial(ConnectionSecrets, database),
                approvals=partial(ConnectionApprovals, database),
            )
            run = perform(database, read, _ORIGIN, chunk_rows=chunk_rows)
            told = f"{run['rows_new']:,} new, {run['rows_changed']:,} changed, {run['rows_removed']:,} removed"
            yield f"{name if of_type == object_type else of_type}: {told}"


def _targets(database: Database, connection: Connection, object_type: str, source_id: str) -> Iterator[tuple[str, str]]:
    """What is read for an object: itself, and then what a payout paid out, where Stripe lists it by now."""
    yield object_type, source_id
    if object_type != _PAYOUT:
        return
    rows = database.fetch(
        """
        SELECT record.payload
        FROM finance_os.raw_record_heads AS head
        JOIN finance_os.raw_source_records AS record USING (record_id)
        WHERE head.business_id = %s AND head.source_system = %s AND head.object_type = %s AND head.source_id = %s
          AND head.connection_id = %s AND NOT head.removed
        """,
        (connection.business_id, SYSTEM, object_type, source_id, connection.connection_id),
    )
    if any(is_listed(row["payload"]) for row in rows):
        yield _PAID_OUT, f"{PAYOUT}:{source_id}"


def _connection_of(database: Database, business_id: str, object_type: str, source_id: str) -> Connection:
    """The account that an object is of: where it is gone from another one it must not be looked for."""
    connections = _connections(database, business_id)
    if len(connections) == 1:
        return connections[0]
    rows = database.fetch(
        """
        SELECT connection_id FROM finance_os.raw_record_heads
        WHERE business_id = %s AND source_system = %s AND object_type = %s AND source_id = %s
        """,
        (business_id, SYSTEM, object_type, source_id),
    )
    found = [each for each in connections if rows and each.connection_id == rows[0]["connection_id"]]
    if not found:
        raise LookupError(f"{source_id} is not staged, and {business_id} has several Stripe accounts: read its day")
    return found[0]


def _connections(database: Database, business_id: str) -> list[Connection]:
    found = [each for each in active_connections(database, SYSTEM) if each.business_id == business_id]
    if not found:
        raise LookupError(f"{business_id} has no active connection to Stripe")
    return found


def _now(database: Database) -> datetime:
    with database.connection() as opened:
        return DatabaseClock.read(opened).now()
