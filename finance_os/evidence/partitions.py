"""What a partition is: the last complete read of its day, and every targeted read and drop since.

Reads here are by day and business, through `source_sync_partitions`; their cost does not grow with older history.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
from psycopg.rows import tuple_row

from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days

# The runs that make up each day. An unobservable day never hides what was read while it could be.
_RUNS_OF_DAYS = """
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
            AND later.sync_run_id > day.sync_run_id)
"""

CURRENT_SCHEMA = pa.schema(
    [
        pa.field("business_id", pa.string(), nullable=False),
        pa.field("partition_day", pa.date32(), nullable=False),
        pa.field("source_id", pa.string(), nullable=False),
        pa.field("payload", pa.string(), nullable=False),
        pa.field("payload_hash", pa.string(), nullable=False),
        pa.field("record_id", pa.int64(), nullable=False),
        pa.field("first_sync_run_id", pa.int64(), nullable=False),
        pa.field("source_created_at", pa.timestamp("us", "UTC")),
        pa.field("source_updated_at", pa.timestamp("us", "UTC")),
    ]
)
"""Columns of `current_records`. `payload` is JSON text, so that every number stays exact."""


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
        _RUNS_OF_DAYS + " ORDER BY day.sync_run_id",  # pyright: ignore[reportArgumentType]  both are literals
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


def current_records(
    database: Database,
    source_system: str,
    object_type: str,
    days: Days,
    business_id: str | None = None,
    *,
    batch_rows: int = 20_000,
) -> Iterator[pa.RecordBatch]:
    """The current version of every record that the partitions of `days` hold, removed ones left out.

    One row a source record (`CURRENT_SCHEMA`), with the last of the asked days that it was seen on, ordered by
    business and source ID. Of all businesses unless one is given.
    """
    query = f"""
        WITH run AS ({_RUNS_OF_DAYS}),
        seen AS (
            SELECT run.business_id, record.source_id, max(run.partition_day) AS partition_day
            FROM run
            JOIN finance_os.source_sync_sightings AS sighting USING (sync_run_id, partition_day)
            CROSS JOIN LATERAL unnest(sighting.record_ids) AS shown (record_id)
            JOIN finance_os.raw_source_records AS record ON record.record_id = shown.record_id
            GROUP BY run.business_id, record.source_id
        )
        SELECT seen.business_id, seen.partition_day, seen.source_id, record.payload::text,
               encode(record.payload_hash, 'hex'), record.record_id, record.first_sync_run_id,
               record.source_created_at, record.source_updated_at
        FROM seen
        JOIN finance_os.raw_record_heads AS head
          ON head.business_id = seen.business_id AND head.source_system = %(source_system)s
         AND head.object_type = %(object_type)s AND head.source_id = seen.source_id AND NOT head.removed
        JOIN finance_os.raw_source_records AS record ON record.record_id = head.record_id
        ORDER BY seen.business_id, seen.source_id
    """  # noqa: S608  made of literals
    parameters: dict[str, Any] = {
        "source_system": source_system,
        "object_type": object_type,
        "first": days.first,
        "last": days.last,
        "business_id": business_id,
    }
    with (
        database.transaction() as connection,
        connection.cursor("current_records", row_factory=tuple_row) as cursor,
    ):
        cursor.itersize = batch_rows
        cursor.execute(query, parameters)  # pyright: ignore[reportArgumentType]
        while rows := cursor.fetchmany(batch_rows):
            columns = zip(*rows, strict=True)
            yield pa.RecordBatch.from_arrays(
                [pa.array(column, field.type) for column, field in zip(columns, CURRENT_SCHEMA, strict=True)],
                schema=CURRENT_SCHEMA,
            )


def current_table(
    database: Database, source_system: str, object_type: str, days: Days, business_id: str | None = None
) -> pa.Table:
    """`current_records` as one table."""
    batches = current_records(database, source_system, object_type, days, business_id)
    return pa.Table.from_batches(batches, schema=CURRENT_SCHEMA)
