"""Current records as Arrow tables: what downstream assets compute with."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from psycopg.rows import tuple_row

from finance_os.evidence.database import Database
from finance_os.evidence.partitions import RUNS_OF_DAYS
from finance_os.evidence.windows import Days

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
        WITH run AS ({RUNS_OF_DAYS}),
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
