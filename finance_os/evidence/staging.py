"""Staging: pages become versions, sightings, heads and changes, a chunk at a time, each chunk in one transaction.

Pages are drawn and hashed in a thread of their own while the chunk before is being committed; at most one chunk waits,
so memory stays flat however much is read.

`decisions` says what a chunk changes, `commit` writes it.
"""

import gc
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date

from finance_os.evidence.chunks import Chunk, chunks
from finance_os.evidence.commit import commit_chunk
from finance_os.evidence.cursors import save_cursor
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.extraction import Extraction, Finding, Item, Notice, RemoteCount
from finance_os.evidence.sync_runs import SyncRun, record_progress

_SWITCH_SECONDS = 0.0001
_LEAVE_SECONDS = 60.0

_counting = threading.Lock()
_staging = 0
_usual_interval = 0.0


@dataclass
class Tally:
    """What a run said beside its records: remote counts by day, notices and findings."""

    remote: dict[date, int] | None = None
    notices: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def stage(
    database: Database,
    connection: DatabaseConnection,
    run: SyncRun,
    extraction: Extraction,
    *,
    chunk_rows: int,
    progress: Callable[[int, int], None] = lambda _rows, _chunks: None,
) -> Tally:
    """Stage everything that `extraction` yields as evidence of `run`.

    `progress` is told the rows and chunks committed so far by this call. Raises what the extraction raises, after
    the chunks before were committed; a chunk is committed whole or not at all.
    """
    tally = Tally()
    rows = 0
    expect_fresh = False
    gathered = chunks(
        extraction,
        object_type=run.read.object_type,
        volatile=run.read.volatile,
        days=run.read.days,
        chunk_rows=chunk_rows,
    )
    committed = 0
    with closing(_ahead(gathered)) as items:
        for item in items:
            if isinstance(item, Chunk):
                with database.transaction(connection):
                    counts = commit_chunk(connection, run, run.chunks + committed, item, expect_fresh=expect_fresh)
                    save_cursor(connection, run, item.cursor)
                    record_progress(connection, run, counts, item.resume, extraction.requested())
                expect_fresh = counts["new"] == counts["extracted"]
                committed += 1
                rows += counts["extracted"]
                progress(rows, committed)
            elif isinstance(item, RemoteCount):
                tally.remote = {**(tally.remote or {}), **item.by_day}
            elif isinstance(item, Notice):
                tally.notices.append(item.text)
            elif isinstance(item, Finding):
                tally.findings.append(item)
    return tally


def _ahead(items: Generator[Chunk | Item]) -> Generator[Chunk | Item]:
    """`items`, drawn in another thread that stays at most one ahead; its exception is raised here.

    The thread closes the generator, which closes what the source has open. When staging has failed, a source that
    does not answer is waited for `_LEAVE_SECONDS` and then left to itself.
    """
    waiting: queue.Queue[tuple[Chunk | Item | None, BaseException | None]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: Chunk | Item | None, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return

    def draw() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
            items.close()
            put(None)
        except BaseException as error:
            put(None, error)

    thread = threading.Thread(target=draw, name="extraction", daemon=True)
    with _undisturbed():
        thread.start()
        try:
            while True:
                item, error = waiting.get()
                if error is not None:
                    raise error
                if item is None:
                    return
                yield item
        finally:
            stopped.set()
            thread.join(_LEAVE_SECONDS)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let threads take turns more often, and the collector pass over what was there before, while anything is staged.

    COPY waits for the server's socket hundreds of times a second; each time, getting the interpreter back from a
    busy extraction costs a switch interval, while the server idles. And the many new objects of a page make the
    collector walk, again and again, through all that a process with Dagster in it holds.
    """
    global _staging, _usual_interval
    with _counting:
        if not _staging:
            _usual_interval = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual_interval, _SWITCH_SECONDS))
            gc.freeze()
        _staging += 1
    try:
        yield
    finally:
        with _counting:
            _staging -= 1
            if not _staging:
                sys.setswitchinterval(_usual_interval)
                gc.unfreeze()
