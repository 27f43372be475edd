"""One sync run from its beginning to its end: begin, extract, stage, complete; or fail with a code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from finance_os.evidence import sync_runs
from finance_os.evidence.clock import DatabaseClock
from finance_os.evidence.completion import complete
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Request, SourceError
from finance_os.evidence.staging import Tally, stage
from finance_os.evidence.sync_runs import Origin, Read


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
        connection = self.read.connection
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
            {
                "business_id": connection.business_id,
                "source_system": connection.source_system,
                "object_type": self.read.object_type,
                "connection_id": connection.connection_id,
                "path": list(path),
                "value": value,
            },
        )
        return [row["source_id"] for row in rows]


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
    a defect: it is recorded as `internal_error` and raised as it is.
    """
    with database.connection() as connection:
        run = sync_runs.begin(database, connection, read, origin)
        clock = DatabaseClock.read(connection)
        sent: dict[str, int] = {}
        try:
            if read.extract is None:
                tally = Tally()
            else:
                request = Request(
                    kind=read.kind,
                    days=read.days,
                    window=read.window,
                    zone=read.connection.zone,
                    now=clock.now,
                    held=HeldEvidence(database, read),
                    resume=run.resume,
                    targets=read.targets,
                )
                with read.extract(request) as extraction:
                    sync_runs.describe(database, connection, run, extraction)
                    tally = stage(database, connection, run, extraction, chunk_rows=chunk_rows, progress=progress)
                    sent = dict(extraction.requested())
            return complete(database, connection, run, tally, sent)
        except CannotTry as error:
            sync_runs.skip(database, connection, run, error.code, error.message)
            raise
        except SourceError as error:
            sync_runs.fail(database, connection, run, error.code, error.message)
            raise
        except Exception as error:
            with _original(error):
                sync_runs.fail(database, connection, run, "internal_error", type(error).__name__)
            raise


@contextmanager
def _original(error: Exception) -> Iterator[None]:
    """Let `error` win over the failure to record it: a lost database is the news, not the bookkeeping."""
    try:
        yield
    except Exception as second:
        error.add_note(f"and the sync run could not be marked as failed: {type(second).__name__}")
