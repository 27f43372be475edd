"""The end of a sync run: removals of a snapshot, what it says of each day, and its success, in one transaction."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from finance_os.evidence import audit
from finance_os.evidence.canonical import decode
from finance_os.evidence.chunks import batch_hash
from finance_os.evidence.counts import count
from finance_os.evidence.database import Database, DatabaseConnection, lock_objects
from finance_os.evidence.exceptions import settle_findings
from finance_os.evidence.extraction import DayState, Kind
from finance_os.evidence.staging import Tally
from finance_os.evidence.sync_runs import SyncRun, TakenOver, require_worker


def complete(
    database: Database,
    connection: DatabaseConnection,
    run: SyncRun,
    tally: Tally,
    requested: Mapping[str, int],
    *,
    findings_cover: Literal["days", "object"] = "days",
) -> dict[str, Any]:
    """End `run` as succeeded; its row. `requested` is what this attempt has asked of the vendor.

    A snapshot removes what it did not see: every head of its connection that was not shown by it, and not by any
    page asked for after it.
    """
    with database.transaction(connection):
        lock_objects(connection, *run.key)
        require_worker(connection, run)
        removed = _remove_unseen(connection, run) if run.read.kind is Kind.SNAPSHOT else 0
        count(connection, run.key, versions=0, current=-removed)
        days = _days(connection, run)
        _write_days(connection, run, days, tally)
        if run.read.extract is not None:
            settle_findings(connection, run, tally.findings, cover=findings_cover)
        rows = sum(totals["rows"] for totals in days.values())
        digest = sum(totals["digest"] for totals in days.values())
        row = connection.execute(
            """
            UPDATE finance_os.source_sync_runs
            SET status = 'succeeded', completed_at = clock_timestamp(), progressed_at = clock_timestamp(),
                checkpoint = NULL, rows_removed = rows_removed + %(removed)s, batch_hash = %(batch_hash)s,
                remote_count = %(remote_count)s, notices = notices || %(notices)s::text[], requested = %(requested)s,
                reaches_to = CASE WHEN NOT %(observed)s THEN NULL
                                  WHEN kind = 'drop' THEN coalesce(%(received_at)s, clock_timestamp())
                                  ELSE least(window_end, clock_timestamp()) END
            WHERE sync_run_id = %(sync_run_id)s AND worker = %(worker)s AND status = 'running'
            RETURNING *
            """,
            {
                "removed": removed,
                "batch_hash": batch_hash(rows, digest),
                "remote_count": None if tally.remote is None else sum(tally.remote.values()),
                "notices": tally.notices,
                "requested": Jsonb(run.requested_in_all(requested)),
                "observed": _observes(run),
                "received_at": _received_at(run),
                "sync_run_id": run.sync_run_id,
                "worker": run.worker,
            },
        ).fetchone()
        if row is None:
            raise TakenOver(run.sync_run_id)
        audit.append(
            connection,
            run.read.connection.business_id,
            "sync_run.succeeded",
            f"sync_run:{run.sync_run_id}",
            {
                "source_system": row["source_system"],
                "object_type": row["object_type"],
                "kind": row["kind"],
                "first_day": str(row["first_day"]),
                "last_day": str(row["last_day"]),
                "rows_extracted": row["rows_extracted"],
                "rows_new": row["rows_new"],
                "rows_changed": row["rows_changed"],
                "rows_removed": row["rows_removed"],
                "batch_hash": row["batch_hash"].hex(),
                "requested": row["requested"],
            },
        )
    return row


def _observes(run: SyncRun) -> bool:
    """Whether a read says what the source held: a targeted one says nothing of the other objects."""
    read = run.read
    if read.kind is Kind.TARGETED or not read.window.start < read.window.end:
        return False
    return any(read.states.get(day, DayState.WHOLE) is not DayState.UNOBSERVABLE for day in read.days)


def _received_at(run: SyncRun) -> datetime | None:
    """When the newest of the files that a run read was received; reading an old one again makes nothing fresh."""
    if run.read.kind is not Kind.DROP:
        return None
    times = [decode(target).get("received_at") for target in run.read.targets if target.startswith("{")]
    return max((datetime.fromisoformat(time) for time in times if time), default=None)


def _days(connection: DatabaseConnection, run: SyncRun) -> dict[date, dict[str, int]]:
    """Totals of the run's sightings by day."""
    days: dict[date, dict[str, int]] = {}
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            """
            SELECT partition_day, cardinality(record_ids), rows_new, rows_changed, rows_unchanged, rows_stale, digest
            FROM finance_os.source_sync_sightings WHERE sync_run_id = %s
            """,
            (run.sync_run_id,),
        )
        for day, rows, new, changed, unchanged, stale, digest in cursor:
            totals = days.setdefault(day, {"rows": 0, "new": 0, "changed": 0, "unchanged": 0, "stale": 0, "digest": 0})
            totals["rows"] += rows
            totals["new"] += new
            totals["changed"] += changed
            totals["unchanged"] += unchanged
            totals["stale"] += stale
            totals["digest"] += int.from_bytes(digest)
    return days


def _write_days(connection: DatabaseConnection, run: SyncRun, days: dict[date, dict[str, int]], tally: Tally) -> None:
    """One row for each day that the run covered, the empty ones too."""
    removed = {
        row["partition_day"]: row["removed"]
        for row in connection.execute(
            """
            SELECT partition_day, count(*) AS removed FROM finance_os.raw_record_changes
            WHERE sync_run_id = %s AND change = 'removed' GROUP BY partition_day
            """,
            (run.sync_run_id,),
        )
    }
    empty = {"rows": 0, "new": 0, "changed": 0, "unchanged": 0, "stale": 0, "digest": 0}
    business_id, source_system, object_type = run.key
    with connection.cursor().copy(
        """
        COPY finance_os.source_sync_partitions
            (business_id, source_system, object_type, partition_day, sync_run_id, connection_id, kind, state,
             rows_extracted, rows_new, rows_changed, rows_unchanged, rows_stale, rows_removed, remote_count,
             batch_hash) FROM STDIN
        """
    ) as copy:
        for day in run.read.days:
            totals = days.get(day, empty)
            copy.write_row(
                (
                    business_id,
                    source_system,
                    object_type,
                    day,
                    run.sync_run_id,
                    run.read.connection.connection_id,
                    run.read.kind,
                    run.read.states.get(day, DayState.WHOLE),
                    totals["rows"],
                    totals["new"],
                    totals["changed"],
                    totals["unchanged"],
                    totals["stale"],
                    removed.get(day, 0),
                    None if tally.remote is None else tally.remote.get(day, 0),
                    batch_hash(totals["rows"], totals["digest"]),
                )
            )


def _remove_unseen(connection: DatabaseConnection, run: SyncRun) -> int:
    """Mark as removed what a snapshot did not show; how many.

    The snapshot speaks of the moment its first page was asked for. An object that some page showed later, or whose
    head moved later, is not touched.
    """
    row = connection.execute(
        """
        WITH taken AS (
            SELECT coalesce(
                (SELECT min(requested_at) FROM finance_os.source_sync_sightings WHERE sync_run_id = %(run)s),
                (SELECT started_at FROM finance_os.source_sync_runs WHERE sync_run_id = %(run)s)
            ) AS at
        ), seen AS (
            SELECT DISTINCT unnest(record_ids) AS record_id
            FROM finance_os.source_sync_sightings WHERE sync_run_id = %(run)s
        ), unseen AS (
            SELECT head.source_id, head.record_id
            FROM finance_os.raw_record_heads AS head, taken
            WHERE head.business_id = %(business_id)s AND head.source_system = %(source_system)s
              AND head.object_type = %(object_type)s AND head.connection_id = %(connection_id)s
              AND NOT head.removed AND head.requested_at <= taken.at
              AND NOT EXISTS (SELECT FROM seen WHERE seen.record_id = head.record_id)
        ), shown_otherwise AS (
            SELECT record.source_id
            FROM seen JOIN finance_os.raw_source_records AS record USING (record_id)
            WHERE EXISTS (SELECT FROM unseen)
              AND record.source_id IN (SELECT source_id FROM unseen)
        ), shown_later AS (
            SELECT record.source_id
            FROM finance_os.source_sync_sightings AS sighting
            CROSS JOIN taken
            CROSS JOIN LATERAL unnest(sighting.record_ids) AS shown (record_id)
            JOIN finance_os.raw_source_records AS record USING (record_id)
            WHERE EXISTS (SELECT FROM unseen)
              AND sighting.business_id = %(business_id)s AND sighting.source_system = %(source_system)s
              AND sighting.object_type = %(object_type)s AND sighting.requested_at > taken.at
              AND sighting.sync_run_id <> %(run)s
              AND record.source_id IN (SELECT source_id FROM unseen)
        ), removed AS (
            UPDATE finance_os.raw_record_heads AS head
            SET removed = true, requested_at = taken.at, sync_run_id = %(run)s
            FROM unseen, taken
            WHERE head.business_id = %(business_id)s AND head.source_system = %(source_system)s
              AND head.object_type = %(object_type)s AND head.source_id = unseen.source_id
              AND unseen.source_id NOT IN (SELECT source_id FROM shown_otherwise)
              AND unseen.source_id NOT IN (SELECT source_id FROM shown_later)
            RETURNING head.source_id, head.record_id
        ), written AS (
            INSERT INTO finance_os.raw_record_changes
                (change_id, business_id, source_system, object_type, source_id, change, record_id,
                 previous_record_id, sync_run_id, partition_day)
            SELECT nextval('finance_os.record_ids'), %(business_id)s, %(source_system)s, %(object_type)s, source_id,
                   'removed', record_id, record_id, %(run)s, %(day)s
            FROM removed ORDER BY source_id
            RETURNING 1
        )
        SELECT count(*) AS removed FROM written
        """,
        {
            "run": run.sync_run_id,
            "business_id": run.key[0],
            "source_system": run.key[1],
            "object_type": run.key[2],
            "connection_id": run.read.connection.connection_id,
            "day": run.read.days.last,
        },
    ).fetchone()
    assert row is not None
    return row["removed"]
