"""What a partition is: the last complete read of its day, and every targeted read and drop since.

Reads here are by day and business, through `source_sync_partitions`; their cost does not grow with older history.
"""

from dataclasses import dataclass
from datetime import date

from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days

# The runs that make up each day. A read that could see less of it (nothing, or not what changed) never hides one that
# saw more. A day that was read
# whole is later than one that was not over, also where its run began first (and crashed, and was gone on with).
RUNS_OF_DAYS = """
    SELECT day.business_id, day.partition_day, day.sync_run_id, day.kind
    FROM finance_os.source_sync_partitions AS day
    WHERE day.source_system = %(source_system)s AND day.object_type = %(object_type)s
      AND day.partition_day BETWEEN %(first)s AND %(last)s
      AND (%(business_id)s::text IS NULL OR day.business_id = %(business_id)s)
      AND NOT EXISTS (
          SELECT FROM finance_os.source_sync_partitions AS later
          WHERE later.business_id = day.business_id AND later.source_system = day.source_system
            AND later.object_type = day.object_type AND later.partition_day = day.partition_day
            AND later.connection_id = day.connection_id
            AND later.kind IN ('window', 'snapshot') AND later.state <> 'unobservable'
            AND CASE WHEN day.kind IN ('window', 'snapshot') AND (day.state, later.state) IN
                              (('partial', 'whole'), ('whole', 'partial'))
                     THEN later.state = 'whole' ELSE later.sync_run_id > day.sync_run_id END
            AND NOT (later.state = 'created' AND day.state = 'whole'))
"""


@dataclass(frozen=True)
class DayOfRun:
    """What one sync run says of one day: a row of `source_sync_partitions`."""

    business_id: str
    partition_day: date
    sync_run_id: int
    kind: str
    state: str
    rows_extracted: int
    rows_new: int
    rows_changed: int
    rows_unchanged: int
    rows_stale: int
    rows_removed: int
    remote_count: int | None
    batch_hash: bytes


def days_of_run(database: Database, sync_run_id: int) -> list[DayOfRun]:
    """What a finished run says of each day it covered, in order."""
    rows = database.fetch(
        """
        SELECT business_id, partition_day, sync_run_id, kind, state, rows_extracted, rows_new, rows_changed,
               rows_unchanged, rows_stale, rows_removed, remote_count, batch_hash
        FROM finance_os.source_sync_partitions WHERE sync_run_id = %s ORDER BY partition_day
        """,
        (sync_run_id,),
    )
    return [DayOfRun(**row) for row in rows]


def runs_of_days(
    database: Database, source_system: str, object_type: str, days: Days, business_id: str | None = None
) -> dict[tuple[str, date], list[int]]:
    """Business and day → the sync runs that make up that partition, oldest first."""
    found: dict[tuple[str, date], list[int]] = {}
    for row in database.fetch(
        RUNS_OF_DAYS + " ORDER BY day.sync_run_id",  # pyright: ignore[reportArgumentType]  both are literals
        {
            "source_system": source_system,
            "object_type": object_type,
            "first": days.first,
            "last": days.last,
            "business_id": business_id,
        },
    ):
        found.setdefault((row["business_id"], row["partition_day"]), []).append(row["sync_run_id"])
    return found


def held_snapshots(database: Database, connection_id: int, object_type: str, days: Days) -> dict[date, int]:
    """Days of a connection that a snapshot was taken on → its sync run."""
    return {
        row["partition_day"]: row["sync_run_id"]
        for row in database.fetch(
            """
            SELECT day.partition_day, max(day.sync_run_id) AS sync_run_id
            FROM finance_os.connections
            JOIN finance_os.source_sync_partitions AS day USING (business_id, source_system, connection_id)
            WHERE connection_id = %(connection_id)s AND day.object_type = %(object_type)s
              AND day.partition_day BETWEEN %(first)s AND %(last)s AND day.kind = 'snapshot' AND day.state = 'whole'
            GROUP BY day.partition_day
            """,
            {"connection_id": connection_id, "object_type": object_type, "first": days.first, "last": days.last},
        )
    }


def first_records(database: Database, sync_run_id: int, per_day: int = 5) -> dict[date, list[tuple[str, str]]]:
    """The first few records that a run saw on each day: source ID and payload as JSON text."""
    found: dict[date, list[tuple[str, str]]] = {}
    for row in database.fetch(
        """
        WITH first AS (
            SELECT DISTINCT ON (partition_day) partition_day, record_ids[1:%(per_day)s] AS record_ids
            FROM finance_os.source_sync_sightings
            WHERE sync_run_id = %(sync_run_id)s ORDER BY partition_day, chunk, ordinal
        )
        SELECT first.partition_day, record.source_id, record.payload::text AS payload
        FROM first
        CROSS JOIN LATERAL unnest(first.record_ids) WITH ORDINALITY AS shown (record_id, position)
        JOIN finance_os.raw_source_records AS record ON record.record_id = shown.record_id
        ORDER BY first.partition_day, shown.position
        """,
        {"sync_run_id": sync_run_id, "per_day": per_day},
    ):
        found.setdefault(row["partition_day"], []).append((row["source_id"], row["payload"]))
    return found
