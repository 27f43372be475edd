"""One sync run from its beginning to its end: begin, extract, stage, complete; or fail with a code."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from finance_os.evidence import sync_runs
from finance_os.evidence.clock import DatabaseClock
from finance_os.evidence.completion import complete
from finance_os.evidence.cursors import saved_cursor
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.extraction import Request, SourceError
from finance_os.evidence.staging import Tally, stage
from finance_os.evidence.sync_runs import Origin, Read, SyncRun
from finance_os.observability import happened


class CannotTry(SourceError):
    """A read that could not even be tried (its credentials are missing): its run is skipped, not failed."""


@dataclass(frozen=True)
class PendingReads:
    """Reads of one object that have not begun: what a source asset hands to the IO manager that stages them."""

    reads: tuple[Read, ...]
    origin: Origin


@dataclass(frozen=True)
class HeldEvidence:
    """Current records of one object of one connection, for sources that must look again."""

    database: Database
    read: Read

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:
        """Source IDs of current records whose payload has `value` at `path`, in order."""
        rows = self.database.fetch(
            """
            SELECT head.source_id
            FROM finance_os.raw_record_heads AS head
            JOIN finance_os.raw_source_records AS record USING (record_id)
            WHERE head.business_id = %(business_id)s AND head.source_system = %(source_system)s
              AND head.object_type = %(object_type)s AND head.connection_id = %(connection_id)s
              AND NOT head.removed AND record.payload #>> %(path)s = %(value)s
            ORDER BY head.source_id
            """,
            {**self._key(), "path": list(path), "value": value},
        )
        return [row["source_id"] for row in rows]

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:
        """Source IDs of current records whose payload's text at `path` lies in `first`..`last`, in order."""
        rows = self.database.fetch(
            """
            SELECT head.source_id
            FROM finance_os.raw_record_heads AS head
            JOIN finance_os.raw_source_records AS record USING (record_id)
            WHERE head.business_id = %(business_id)s AND head.source_system = %(source_system)s
              AND head.object_type = %(object_type)s AND head.connection_id = %(connection_id)s
              AND NOT head.removed
              AND (record.payload #>> %(path)s) COLLATE "C" BETWEEN %(first)s AND %(last)s
            ORDER BY head.source_id
            """,
            {**self._key(), "path": list(path), "first": first, "last": last},
        )
        return [row["source_id"] for row in rows]

    def ids_read_since(self, moment: datetime) -> list[str]:
        """Source IDs that pages asked for after `moment` showed (files: received after it), in order.

        Those that have been removed since are among them. Heads do not tell: one stays as it was where a later page
        shows the same.
        """
        rows = self.database.fetch(
            """
            SELECT DISTINCT record.source_id
            FROM finance_os.source_sync_sightings AS sighting
            JOIN finance_os.source_sync_runs AS run USING (sync_run_id)
            CROSS JOIN LATERAL unnest(sighting.record_ids) AS shown (record_id)
            JOIN finance_os.raw_source_records AS record ON record.record_id = shown.record_id
            WHERE sighting.business_id = %(business_id)s AND sighting.source_system = %(source_system)s
              AND sighting.object_type = %(object_type)s AND sighting.requested_at > %(moment)s
              AND run.connection_id = %(connection_id)s
            ORDER BY record.source_id
            """,
            {**self._key(), "moment": moment},
        )
        return [row["source_id"] for row in rows]

    def requests_since(self, moment: datetime) -> int:
        """How many requests sync runs that progressed since `moment` have sent through this connection."""
        rows = self.database.fetch(
            """
            SELECT coalesce(sum(sent.count::bigint), 0)::bigint AS sent
            FROM finance_os.source_sync_runs AS run
            CROSS JOIN LATERAL jsonb_each_text(run.requested) AS sent (target, count)
            WHERE run.connection_id = %(connection_id)s AND run.progressed_at >= %(moment)s
            """,
            {"connection_id": self.read.connection.connection_id, "moment": moment},
        )
        return rows[0]["sent"]

    def _key(self) -> dict[str, Any]:
        connection = self.read.connection
        return {
            "business_id": connection.business_id,
            "source_system": connection.source_system,
            "object_type": self.read.object_type,
            "connection_id": connection.connection_id,
        }


@dataclass(frozen=True)
class FailedRead:
    """A read that failed. `cause` is the defect, where it was not something that a source reported."""

    read: Read
    error: SourceError
    cause: Exception | None = None


def perform_all(
    database: Database,
    pending: PendingReads,
    *,
    chunk_rows: int,
    progress: Callable[[Read, int, int], None] = lambda _read, _rows, _chunks: None,
) -> tuple[list[dict[str, Any]], list[FailedRead]]:
    """Stage every read, each as a sync run of its own: the rows of the runs, and what failed.

    One read's failure, even by a defect, does not keep the others from being staged.
    """
    finished: list[dict[str, Any]] = []
    failures: list[FailedRead] = []
    for read in pending.reads:
        try:
            finished.append(
                perform(database, read, pending.origin, chunk_rows=chunk_rows, progress=partial(progress, read))
            )
        except SourceError as error:
            failures.append(FailedRead(read, error))
        except Exception as defect:
            error = SourceError("internal_error", f"{type(defect).__name__}: this is a defect; the log shows where")
            failures.append(FailedRead(read, error, defect))
    return finished, failures


def perform(
    database: Database,
    read: Read,
    origin: Origin,
    *,
    chunk_rows: int,
    progress: Callable[[int, int], None] = lambda _rows, _chunks: None,
) -> dict[str, Any]:
    """Stage `read` as one sync run; the run's row.

    Raises `SourceError`, after the run was recorded as failed (or skipped, for `CannotTry`). Any other exception is
    a defect: it is recorded as `internal_error` and raised as it is. What stops the process from outside (Ctrl-C, a
    cancelled Dagster run) is recorded as `interrupted`.
    """
    with database.connection() as connection:
        run = sync_runs.begin(database, connection, read, origin)
        committed = 0
        requested: Callable[[], Mapping[str, int]] = dict

        def told(rows: int, chunks: int) -> None:
            nonlocal committed
            committed = chunks
            progress(rows, chunks)

        try:
            clock = DatabaseClock.read(connection)
            tally = Tally()
            cover = "days"
            if read.extract is not None:
                request = Request(
                    kind=read.kind,
                    days=read.days,
                    window=read.window,
                    zone=read.connection.zone,
                    now=clock.now,
                    held=HeldEvidence(database, read),
                    resume=run.resume,
                    targets=read.targets,
                    cursor=saved_cursor(database, connection, read),
                )
                with read.extract(request) as extraction:
                    requested = extraction.requested
                    sync_runs.describe(database, connection, run, extraction)
                    tally = stage(database, connection, run, extraction, chunk_rows=chunk_rows, progress=told)
                    requested = dict(requested()).copy  # the source may forget it when it is closed
                    cover = extraction.findings_cover
            row = complete(database, connection, run, tally, requested(), findings_cover=cover)
            happened.sync_run_succeeded(row)
            return row
        except BaseException as error:
            with _original(error), _usable(database, connection) as usable:
                _record_failure(database, usable, run, error, requested, committed)
            raise
        finally:
            sync_runs.leave(run)


def _record_failure(
    database: Database,
    connection: DatabaseConnection,
    run: SyncRun,
    error: BaseException,
    requested: Callable[[], Mapping[str, int]],
    committed: int,
) -> None:
    """End a run as what `error` makes of it."""
    code = error.code if isinstance(error, SourceError) else "internal_error"
    code = code if isinstance(error, Exception) else "interrupted"
    happened.sync_run_ended(run.key, run.read.kind, "skipped" if isinstance(error, CannotTry) else "failed", code)
    if isinstance(error, CannotTry):
        sync_runs.skip(database, connection, run, error.code, error.message)
    elif isinstance(error, SourceError):
        anew = isinstance(error, sync_runs.AnotherQuery)
        sync_runs.fail(database, connection, run, error.code, error.message, requested(), anew=anew)
    elif isinstance(error, Exception):
        # A checkpoint that the source stumbles over would stop every attempt at the same place.
        stuck = run.resume is not None and not committed and not isinstance(error, psycopg.OperationalError)
        sync_runs.fail(database, connection, run, "internal_error", type(error).__name__, requested(), anew=stuck)
    else:
        sync_runs.fail(database, connection, run, "interrupted", "the read was stopped from outside", requested())


@contextmanager
def _usable(database: Database, connection: DatabaseConnection) -> Iterator[DatabaseConnection]:
    """`connection`, or another one where it was lost or stopped in the middle of something."""
    if connection.info.transaction_status is TransactionStatus.IDLE:
        yield connection
    else:
        with database.connection() as another:
            yield another


@contextmanager
def _original(error: BaseException) -> Iterator[None]:
    """Let `error` win over the failure to record it: a lost database is the news, not the bookkeeping."""
    try:
        yield
    except Exception as second:
        error.add_note(f"and the sync run could not be marked as failed: {type(second).__name__}")
