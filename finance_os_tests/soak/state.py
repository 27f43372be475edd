"""What a finance database holds after a backfill, without IDs and times that differ between two equal ends."""

from dataclasses import dataclass
from typing import Any

from finance_os.evidence import audit
from finance_os.evidence.database import Database
from finance_os.evidence.replay import replay
from finance_os.evidence.tables import current_table
from finance_os.evidence.windows import Days
from finance_os_tests.evidence.staged import evidence_state
from finance_os_tests.soak.worker import OBJECTS

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class State:
    """The evidence tables; what the last finished run of each read saw, in order; and what downstream would load."""

    evidence: dict[str, Rows]
    sightings: dict[tuple[Any, ...], Rows]
    tables: dict[tuple[Any, ...], Rows]


def state_of(database: Database) -> State:
    """The state of a database in which nothing is running any more."""
    evidence = evidence_state(database)
    # A change bears the day of whichever read showed it first; two reads may show the same, and come in any order.
    evidence["changes"] = sorted((*row[:4], row[5]) for row in evidence["changes"])
    return State(evidence, _sightings(database), _tables(database))


def _sightings(database: Database) -> dict[tuple[Any, ...], Rows]:
    found: dict[tuple[Any, ...], Rows] = {}
    for row in database.fetch(
        """
        WITH last AS (
            SELECT DISTINCT ON (business_id, source_system, object_type, kind, first_day, last_day) *
            FROM finance_os.source_sync_runs WHERE status = 'succeeded'
            ORDER BY business_id, source_system, object_type, kind, first_day, last_day, sync_run_id DESC
        )
        SELECT last.business_id, last.source_system, last.object_type, last.kind, last.first_day, last.last_day,
               last.window_end, last.rows_extracted, last.remote_count, encode(last.batch_hash, 'hex') AS batch_hash,
               sighting.partition_day, record.source_id, encode(record.payload_hash, 'hex') AS payload_hash,
               (sighting.provenance -> 'page' ->> 'drop') AS drop,
               sighting.provenance -> 'records' ->> (shown.position - 1)::int AS row
        FROM last
        LEFT JOIN finance_os.source_sync_sightings AS sighting USING (sync_run_id)
        LEFT JOIN LATERAL unnest(sighting.record_ids) WITH ORDINALITY AS shown (record_id, position) ON true
        LEFT JOIN finance_os.raw_source_records AS record ON record.record_id = shown.record_id
        ORDER BY last.sync_run_id, sighting.chunk, sighting.ordinal, shown.position
        """
    ):
        values = tuple(row.values())
        found.setdefault(values[:10], []).append(values[10:])
    return found


def _tables(database: Database) -> dict[tuple[Any, ...], Rows]:
    bounds = database.fetch(
        "SELECT min(partition_day) AS first, max(partition_day) AS last FROM finance_os.source_sync_partitions"
    )[0]
    found: dict[tuple[Any, ...], Rows] = {}
    names = ["business_id", "partition_day", "source_id", "payload", "payload_hash"]
    for system, object_type in OBJECTS:
        whole = Days(bounds["first"], bounds["last"])
        for days in (whole, *(Days(day, day) for day in whole)):
            table = current_table(database, system, object_type, days).select(names)
            found[system, object_type, str(days)] = [tuple(row.values()) for row in table.to_pylist()]
    return found


def contradictions(database: Database) -> list[str]:
    """What the tables of one database say against each other, whatever happened to the runs."""
    found = [
        f"{row['what']}: {row['told']} told, {row['found']} found"
        for row in database.fetch(
            """
            WITH run AS (
                SELECT sum(rows_new) AS new, sum(rows_changed) AS changed, sum(rows_removed) AS removed,
                       sum(rows_extracted) AS extracted FROM finance_os.source_sync_runs
            ), change AS (
                SELECT count(*) FILTER (WHERE change = 'added') AS added,
                       count(*) FILTER (WHERE change IN ('changed', 'restored')) AS changed,
                       count(*) FILTER (WHERE change = 'removed') AS removed FROM finance_os.raw_record_changes
            ), sighting AS (
                SELECT coalesce(sum(cardinality(record_ids)), 0) AS seen FROM finance_os.source_sync_sightings
            )
            SELECT what, told, found FROM run, change, sighting, LATERAL (VALUES
                ('new records', run.new, change.added),
                ('changed records', run.changed, change.changed),
                ('removed records', run.removed, change.removed),
                ('sightings', run.extracted, sighting.seen)
            ) AS claim (what, told, found)
            WHERE told IS DISTINCT FROM found
            UNION ALL
            SELECT 'sightings of run ' || run.sync_run_id, run.rows_extracted, coalesce(seen.seen, 0)
            FROM finance_os.source_sync_runs AS run
            LEFT JOIN (SELECT sync_run_id, sum(cardinality(record_ids)) AS seen
                       FROM finance_os.source_sync_sightings GROUP BY sync_run_id) AS seen USING (sync_run_id)
            WHERE run.rows_extracted <> coalesce(seen.seen, 0)
            UNION ALL
            SELECT 'heads without their version', 0, count(*)
            FROM finance_os.raw_record_heads AS head
            LEFT JOIN finance_os.raw_source_records AS record USING (record_id, business_id, source_id, payload_hash)
            WHERE record.record_id IS NULL HAVING count(*) > 0
            UNION ALL
            SELECT 'heads that are not what changed last', 0, count(*)
            FROM finance_os.raw_record_heads AS head
            CROSS JOIN LATERAL (
                SELECT record_id, change FROM finance_os.raw_record_changes AS change
                WHERE change.business_id = head.business_id AND change.source_system = head.source_system
                  AND change.object_type = head.object_type AND change.source_id = head.source_id
                ORDER BY change_id DESC LIMIT 1
            ) AS last
            WHERE (last.record_id, last.change = 'removed') IS DISTINCT FROM (head.record_id, head.removed)
            HAVING count(*) > 0
            UNION ALL
            SELECT 'changes that their run did not see on their day', 0, count(*)
            FROM finance_os.raw_record_changes AS change
            WHERE change.change <> 'removed' AND NOT EXISTS (
                SELECT FROM finance_os.source_sync_sightings AS sighting
                WHERE sighting.sync_run_id = change.sync_run_id AND sighting.partition_day = change.partition_day
                  AND change.record_id = ANY (sighting.record_ids))
            HAVING count(*) > 0
            UNION ALL
            SELECT 'runs that are still running', 0, count(*)
            FROM finance_os.source_sync_runs WHERE status = 'running' HAVING count(*) > 0
            UNION ALL
            SELECT 'chunks of run ' || run.sync_run_id, run.chunks, coalesce(seen.chunks, 0)
            FROM finance_os.source_sync_runs AS run
            LEFT JOIN (SELECT sync_run_id, max(chunk) + 1 AS chunks
                       FROM finance_os.source_sync_sightings GROUP BY sync_run_id) AS seen USING (sync_run_id)
            WHERE run.chunks < coalesce(seen.chunks, 0)
            """
        )
    ]
    for row in database.fetch("SELECT sync_run_id, status FROM finance_os.source_sync_runs ORDER BY sync_run_id"):
        for day, result in replay(database, row["sync_run_id"]).items():
            if result.would_add or result.lost:
                found.append(f"run {row['sync_run_id']} on {day}: {result.would_add} {result.lost}")
    for business in database.fetch("SELECT business_id FROM finance_os.businesses"):
        verified = audit.verify(database, business["business_id"])
        if not verified.sound:
            found.append(f"audit chain of {business['business_id']}: {verified.broken}")
    return found
