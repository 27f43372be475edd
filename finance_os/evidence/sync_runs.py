"""Sync runs: one row for each extraction, begun before anything is read, so that a crash leaves a trace.

A run that crashed is gone on with from its checkpoint by the next read of the same thing. Only its *worker* may
write to a run; who takes a run over becomes its worker, so a process that was only thought dead is stopped at its
next commit instead of staging twice.
"""

import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

import psutil
from psycopg.types.json import Jsonb

from finance_os.evidence import audit
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.extraction import DayState, Extraction, Kind, Request, SourceError
from finance_os.evidence.windows import Days, Window

RESUMABLE_FOR = timedelta(hours=24)
"""A crashed run that progressed within this time is gone on with; an older one is begun anew."""

SILENT_FOR = timedelta(minutes=10)
"""A running run on another machine that has not progressed for this long is taken for dead."""


_DIED = "the process that read it died"

_at_work: set[uuid.UUID] = set()
"""Workers of this process that have not left their run. Its process ID alone says nothing of a run that this process
could not end, or that another process had begun which had the same ID."""


class Trigger(StrEnum):
    """What asked for a sync run."""

    SCHEDULE = "schedule"
    BACKFILL = "backfill"
    WEBHOOK = "webhook"
    DROP = "drop"
    MANUAL = "manual"
    PROBE = "probe"


@dataclass(frozen=True)
class Origin:
    """Where a sync run comes from, for its row."""

    trigger: Trigger
    dagster_run_id: str | None = None
    scheduled_sync_id: str | None = None


@dataclass(frozen=True)
class Read:
    """What one sync run is to stage: an object of a connection, over `days`.

    `states` says how much of each day the read can see. `extract` opens the source for a request; it is called
    once the run has begun, and not at all for days that cannot be observed any more.
    """

    connection: Connection
    object_type: str
    kind: Kind
    days: Days
    window: Window
    states: Mapping[date, DayState]
    extract: Callable[[Request], AbstractContextManager[Extraction]] | None
    volatile: tuple[tuple[str, ...], ...] = ()
    targets: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class SyncRun:
    """A run that this process is the worker of."""

    sync_run_id: int
    worker: uuid.UUID
    read: Read
    origin: Origin
    resume: Mapping[str, Any] | None = None
    chunks: int = 0
    requested_before: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """Business, source system and object type."""
        return _key(self.read)

    def requested_in_all(self, requested: Mapping[str, int]) -> dict[str, int]:
        """What this attempt has asked of the vendor, added to what earlier ones had."""
        return dict(Counter(self.requested_before) + Counter(requested))


def _key(read: Read) -> tuple[str, str, str]:
    return read.connection.business_id, read.connection.source_system, read.object_type


class TakenOver(SourceError):
    """Another worker goes on with this run."""

    def __init__(self, sync_run_id: int) -> None:
        super().__init__(
            "taken_over",
            f"sync run {sync_run_id} is being gone on with by another process; this one stops without staging more",
            permanent=True,
        )


class AnotherQuery(SourceError):
    """A crashed run would be gone on with by another query than the one that it began with."""

    def __init__(self, sync_run_id: int, before: str, now: str) -> None:
        super().__init__(
            "another_query",
            f"sync run {sync_run_id} began with {before}, and would be gone on with by {now}; the next one begins anew",
        )


def begin(database: Database, connection: DatabaseConnection, read: Read, origin: Origin) -> SyncRun:
    """Record that a read begins, in a transaction of its own; or take over the run of the same read that crashed.

    Whoever begins a run calls `leave` when it is done with it, however that went.
    """
    worker = uuid.uuid4()
    _at_work.add(worker)
    try:
        with database.transaction(connection):
            latest, running = _runs_of(connection, read)
            abandoned = [row for row in running if _abandoned(row)]
            if latest is not None and (latest in abandoned or latest["status"] != "running") and _can_go_on(latest):
                run = _take_over(connection, latest, read, origin, worker)
            else:
                run = SyncRun(_insert(connection, read, origin, worker), worker, read, origin)
            for row in abandoned:
                if row["sync_run_id"] != run.sync_run_id:
                    _end(connection, _key(read), row["sync_run_id"], None, "failed", "interrupted", _DIED)
            return run
    except BaseException:
        _at_work.discard(worker)
        raise


def leave(run: SyncRun) -> None:
    """Say that this process no longer works at `run`: where it is still running, it may be gone on with."""
    _at_work.discard(run.worker)


def describe(database: Database, connection: DatabaseConnection, run: SyncRun, extraction: Extraction) -> None:
    """Record which API or query version a run reads with. Raises `AnotherQuery` where it has read with another query:
    what a run stages is of one query, or of one company, as its name says."""
    with database.transaction(connection):
        if run.resume is not None:
            row = connection.execute(
                "SELECT query_name, query_version FROM finance_os.source_sync_runs WHERE sync_run_id = %s",
                (run.sync_run_id,),
            ).fetchone()
            before = None if row is None else _query(row["query_name"], row["query_version"])
            now = _query(extraction.query_name, extraction.query_version)
            if before is not None and before != now:
                raise AnotherQuery(run.sync_run_id, before, str(now))
        connection.execute(
            """
            UPDATE finance_os.source_sync_runs
            SET api_version = %(api_version)s, query_name = %(query_name)s, query_version = %(query_version)s
            WHERE sync_run_id = %(sync_run_id)s AND worker = %(worker)s
            """,
            {
                "api_version": extraction.api_version,
                "query_name": extraction.query_name,
                "query_version": extraction.query_version,
                "sync_run_id": run.sync_run_id,
                "worker": run.worker,
            },
        )


def _query(name: str | None, version: str | None) -> str | None:
    return name if version is None else f"{name}, version {version}"


def fail(
    database: Database,
    connection: DatabaseConnection,
    run: SyncRun,
    code: str,
    message: str,
    requested: Mapping[str, int] | None = None,
    *,
    anew: bool = False,
) -> None:
    """End a run as failed. What it committed stays.

    The next read of the same thing goes on from there, or begins `anew`.
    """
    with database.transaction(connection):
        _end(connection, run.key, run.sync_run_id, run, "failed", code, message, requested or {}, anew=anew)


def end_abandoned(database: Database) -> list[int]:
    """End every run that is running without a process that runs it, as failed; their IDs.

    The next read of the same thing does so too, but it may never come. Those with a checkpoint can still be gone on
    with.
    """
    ended: list[int] = []
    for row in database.fetch("SELECT sync_run_id FROM finance_os.source_sync_runs WHERE status = 'running'"):
        with database.transaction() as connection:
            run = connection.execute(
                """
                SELECT *, clock_timestamp() AS now FROM finance_os.source_sync_runs
                WHERE sync_run_id = %(sync_run_id)s AND status = 'running' FOR UPDATE
                """,
                row,
            ).fetchone()
            if run is not None and _abandoned(run):
                key = run["business_id"], run["source_system"], run["object_type"]
                _end(connection, key, run["sync_run_id"], None, "failed", "interrupted", _DIED)
                ended.append(run["sync_run_id"])
    return ended


def skip(database: Database, connection: DatabaseConnection, run: SyncRun, code: str, message: str) -> None:
    """End a run as skipped: it could not even be tried."""
    with database.transaction(connection):
        _end(connection, run.key, run.sync_run_id, run, "skipped", code, message)


def sync_run(database: Database, sync_run_id: int) -> dict[str, Any]:
    """The row of one sync run; `LookupError` if there is none."""
    rows = database.fetch("SELECT * FROM finance_os.source_sync_runs WHERE sync_run_id = %s", (sync_run_id,))
    if not rows:
        raise LookupError(f"there is no sync run {sync_run_id}: `finance-os runs list` shows the latest")
    return rows[0]


def latest_sync_runs(database: Database, business_id: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
    """The rows of the latest sync runs, newest first; of one business if given."""
    return database.fetch(
        """
        SELECT * FROM finance_os.source_sync_runs
        WHERE %(business_id)s::text IS NULL OR business_id = %(business_id)s
        ORDER BY sync_run_id DESC LIMIT %(limit)s
        """,
        {"business_id": business_id, "limit": limit},
    )


def _insert(connection: DatabaseConnection, read: Read, origin: Origin, worker: uuid.UUID) -> int:
    """Record a new run; its ID."""
    row = connection.execute(
        """
        INSERT INTO finance_os.source_sync_runs
            (business_id, source_system, object_type, connection_id, kind, trigger, window_start, window_end,
             first_day, last_day, scheduled_sync_id, dagster_run_id, targets, notices,
             worker, worker_host, worker_process)
        VALUES
            (%(business_id)s, %(source_system)s, %(object_type)s, %(connection_id)s, %(kind)s, %(trigger)s,
             %(window_start)s, %(window_end)s, %(first_day)s, %(last_day)s, %(scheduled_sync_id)s,
             %(dagster_run_id)s, %(targets)s, %(notices)s, %(worker)s, %(worker_host)s, %(worker_process)s)
        RETURNING sync_run_id
        """,
        {
            "business_id": read.connection.business_id,
            "source_system": read.connection.source_system,
            "object_type": read.object_type,
            "connection_id": read.connection.connection_id,
            "kind": read.kind,
            "trigger": origin.trigger,
            "window_start": read.window.start,
            "window_end": read.window.end,
            "first_day": read.days.first,
            "last_day": read.days.last,
            "scheduled_sync_id": origin.scheduled_sync_id,
            "dagster_run_id": origin.dagster_run_id,
            "targets": list(read.targets),
            "notices": list(read.notices),
            "worker": worker,
            "worker_host": socket.gethostname(),
            "worker_process": os.getpid(),
        },
    ).fetchone()
    assert row is not None
    return row["sync_run_id"]


def _runs_of(connection: DatabaseConnection, read: Read) -> tuple[Mapping[str, Any] | None, list[Mapping[str, Any]]]:
    """The latest run of the same read, and all of them that are running; locked."""
    rows = connection.execute(
        """
        WITH same AS MATERIALIZED (
            SELECT sync_run_id, status FROM finance_os.source_sync_runs
            WHERE business_id = %(business_id)s AND source_system = %(source_system)s
              AND object_type = %(object_type)s AND connection_id = %(connection_id)s AND kind = %(kind)s
              AND first_day = %(first_day)s AND last_day = %(last_day)s AND targets = %(targets)s
        )
        SELECT sync_run_id, status, checkpoint, chunks, requested, worker, worker_host, worker_process,
               progressed_at, clock_timestamp() AS now
        FROM finance_os.source_sync_runs
        WHERE sync_run_id IN (
            SELECT sync_run_id FROM same WHERE status = 'running' UNION SELECT max(sync_run_id) FROM same)
        ORDER BY sync_run_id DESC FOR UPDATE
        """,
        {
            "business_id": read.connection.business_id,
            "source_system": read.connection.source_system,
            "object_type": read.object_type,
            "connection_id": read.connection.connection_id,
            "kind": read.kind,
            "first_day": read.days.first,
            "last_day": read.days.last,
            "targets": list(read.targets),
        },
    ).fetchall()
    return rows[0] if rows else None, [row for row in rows if row["status"] == "running"]


def _abandoned(row: Mapping[str, Any]) -> bool:
    """Whether a run is running without a process that runs it.

    A process that is younger than the run's last progress has inherited its ID. Both ages are measured, each by one
    clock: this machine's and the database's may disagree.
    """
    silent = row["now"] - row["progressed_at"]
    if row["worker_host"] != socket.gethostname():
        return silent > SILENT_FOR
    if row["worker_process"] == os.getpid():
        return row["worker"] not in _at_work
    try:
        process = psutil.Process(row["worker_process"])
        age = time.time() - process.create_time()
        return process.status() == psutil.STATUS_ZOMBIE or age + 1 < silent.total_seconds()
    except psutil.NoSuchProcess:
        return True


def _can_go_on(row: Mapping[str, Any]) -> bool:
    return row["checkpoint"] is not None and row["now"] - row["progressed_at"] < RESUMABLE_FOR


def _take_over(
    connection: DatabaseConnection, row: Mapping[str, Any], read: Read, origin: Origin, worker: uuid.UUID
) -> SyncRun:
    connection.execute(
        """
        UPDATE finance_os.source_sync_runs
        SET status = 'running', completed_at = NULL, error_code = NULL, error_message = NULL,
            attempts = attempts + 1, worker = %(worker)s, worker_host = %(worker_host)s,
            worker_process = %(worker_process)s, progressed_at = clock_timestamp(),
            window_start = %(window_start)s, window_end = %(window_end)s,
            trigger = %(trigger)s, dagster_run_id = %(dagster_run_id)s,
            scheduled_sync_id = coalesce(%(scheduled_sync_id)s, scheduled_sync_id)
        WHERE sync_run_id = %(sync_run_id)s
        """,
        {
            "sync_run_id": row["sync_run_id"],
            "worker": worker,
            "worker_host": socket.gethostname(),
            "worker_process": os.getpid(),
            "window_start": read.window.start,
            "window_end": read.window.end,
            "trigger": origin.trigger,
            "dagster_run_id": origin.dagster_run_id,
            "scheduled_sync_id": origin.scheduled_sync_id,
        },
    )
    return SyncRun(row["sync_run_id"], worker, read, origin, row["checkpoint"], row["chunks"], row["requested"])


def _end(
    connection: DatabaseConnection,
    key: tuple[str, str, str],
    sync_run_id: int,
    run: SyncRun | None,
    status: str,
    code: str,
    message: str,
    requested: Mapping[str, int] | None = None,
    *,
    anew: bool = False,
) -> None:
    """End a run, and say so in the audit chain; nothing if it has ended, or if it is not `run`'s worker's any more."""
    ended = connection.execute(
        """
        UPDATE finance_os.source_sync_runs
        SET status = %(status)s, error_code = %(code)s, error_message = %(message)s,
            completed_at = clock_timestamp(), requested = coalesce(%(requested)s, requested),
            checkpoint = CASE WHEN %(anew)s THEN NULL ELSE checkpoint END
        WHERE sync_run_id = %(sync_run_id)s AND status = 'running'
          AND (%(worker)s::uuid IS NULL OR worker = %(worker)s)
        """,
        {
            "sync_run_id": sync_run_id,
            "status": status,
            "code": code,
            "message": message,
            "requested": Jsonb(run.requested_in_all(requested)) if run and requested else None,
            "anew": anew,
            "worker": run and run.worker,
        },
    )
    if ended.rowcount:
        business_id, source_system, object_type = key
        audit.append(
            connection,
            business_id,
            f"sync_run.{status}",
            f"sync_run:{sync_run_id}",
            {"source_system": source_system, "object_type": object_type, "error_code": code},
        )


def require_worker(connection: DatabaseConnection, run: SyncRun) -> None:
    """Raise `TakenOver` if another worker has the run.

    Asked before anything is written under the lock of the run's objects: what the other has committed since would be
    in the way of it.
    """
    mine = connection.execute(
        """
        SELECT FROM finance_os.source_sync_runs
        WHERE sync_run_id = %(sync_run_id)s AND worker = %(worker)s AND status = 'running'
        """,
        {"sync_run_id": run.sync_run_id, "worker": run.worker},
    )
    if not mine.rowcount:
        raise TakenOver(run.sync_run_id)


def record_progress(
    connection: DatabaseConnection,
    run: SyncRun,
    counts: Mapping[str, int],
    resume: Mapping[str, Any] | None,
    requested: Mapping[str, int],
) -> None:
    """Add a chunk's counts to its run and move the checkpoint, in the caller's transaction.

    Raises `TakenOver` if another worker has the run.
    """
    updated = connection.execute(
        """
        UPDATE finance_os.source_sync_runs
        SET rows_extracted = rows_extracted + %(extracted)s, rows_new = rows_new + %(new)s,
            rows_changed = rows_changed + %(changed)s, rows_unchanged = rows_unchanged + %(unchanged)s,
            rows_stale = rows_stale + %(stale)s, rows_removed = rows_removed + %(removed)s,
            chunks = chunks + 1, checkpoint = %(checkpoint)s, requested = %(requested)s,
            progressed_at = clock_timestamp()
        WHERE sync_run_id = %(sync_run_id)s AND worker = %(worker)s AND status = 'running'
        """,
        {
            **counts,
            "checkpoint": None if resume is None else Jsonb(dict(resume)),
            "requested": Jsonb(run.requested_in_all(requested)),
            "sync_run_id": run.sync_run_id,
            "worker": run.worker,
        },
    )
    if updated.rowcount != 1:
        raise TakenOver(run.sync_run_id)
