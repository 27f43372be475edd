"""Staging: pages become versions, sightings, heads and changes, a chunk at a time, each chunk in one transaction.

Pages are drawn and hashed in a thread of their own while the chunk before is being committed; at most one chunk waits,
so memory stays flat however much is read.

A head moves to a record that was read later, or whose own version is higher. Nothing else moves it: an older read is
kept as a version only. While a chunk is committed its object type is locked for its business, so two sync runs at
the same moment end as one after the other.
"""

import itertools
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, TypeAlias

import psycopg
from psycopg.rows import tuple_row

from finance_os.evidence.canonical import canonical_json
from finance_os.evidence.chunks import Chunk, Part, Unstageable, chunks, digest_of
from finance_os.evidence.database import Database, DatabaseConnection, lock_objects
from finance_os.evidence.extraction import Extraction, Item, Kind, Notice, RemoteCount
from finance_os.evidence.sync_runs import SyncRun, record_progress, require_worker

_ID_BLOCK = 1_000  # INCREMENT BY of finance_os.record_ids
_COPY_BLOCK = 256
_SWITCH_SECONDS = 0.0001
_LEAVE_SECONDS = 60.0
_SEPARATOR = "\x1f"  # never in a source ID: those are printable

_counting = threading.Lock()
_staging = 0
_usual_interval = 0.0


@dataclass
class Tally:
    """What a run said beside its records: remote counts by day, notices, and what was asked of the vendor."""

    remote: dict[date, int] | None = None
    notices: list[str] = field(default_factory=list)


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
                    counts = _commit(connection, run, run.chunks + committed, item, expect_fresh=expect_fresh)
                    record_progress(connection, run, counts, item.resume, extraction.requested())
                expect_fresh = counts["new"] == counts["extracted"]
                committed += 1
                rows += counts["extracted"]
                progress(rows, committed)
            elif isinstance(item, RemoteCount):
                tally.remote = {**(tally.remote or {}), **item.by_day}
            elif isinstance(item, Notice):
                tally.notices.append(item.text)
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
    with _switching_quickly():
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
def _switching_quickly() -> Iterator[None]:
    """Let threads take turns more often for as long as anything is being staged in this process.

    COPY waits for the server's socket hundreds of times a second; each time, getting the interpreter back from a
    busy extraction costs a switch interval, while the server idles.
    """
    global _staging, _usual_interval
    with _counting:
        if not _staging:
            _usual_interval = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual_interval, _SWITCH_SECONDS))
        _staging += 1
    try:
        yield
    finally:
        with _counting:
            _staging -= 1
            if not _staging:
                sys.setswitchinterval(_usual_interval)


@dataclass(frozen=True, slots=True)
class _Head:
    record_id: int
    payload_hash: bytes
    connection_id: int
    source_version: int | None
    requested_at: datetime
    removed: bool


_Change: TypeAlias = tuple[str, str, int, int | None, date]
"""Source ID, what happened, the version, the version before, and the day: a row of raw_record_changes."""


@dataclass(slots=True)
class _Writes:
    """What a part adds.

    `inserted` are positions of new versions with their IDs; `added` are those of them that get a head of their own.
    `moved` and `changes` say how other heads move.
    """

    record_ids: list[int]
    outcomes: list[str]
    inserted: list[tuple[int, int]] = field(default_factory=list)
    added: list[tuple[int, int]] = field(default_factory=list)
    moved: list[tuple[str, int, bytes, int | None, datetime, bool]] = field(default_factory=list)
    changes: list[_Change] = field(default_factory=list)


def _commit(
    connection: DatabaseConnection, run: SyncRun, number: int, chunk: Chunk, *, expect_fresh: bool
) -> Counter[str]:
    """Write one chunk; its counts by outcome.

    The commit is not waited for to reach the disk: a chunk that a power cut takes away takes its checkpoint along, and
    the run's completion does wait.
    """
    connection.execute("SELECT set_config('synchronous_commit', 'off', true)")
    counts: Counter[str] = Counter(extracted=0, new=0, changed=0, unchanged=0, stale=0, removed=0)
    lock_objects(connection, *run.key)
    require_worker(connection, run)
    ordinal = 0
    for part in chunk.parts:
        writes = _assume_fresh(connection, run, part) if expect_fresh else None
        if writes is None:
            writes = _decide(connection, run, part)
            _add_heads(connection, run, part, writes)
        _insert(connection, run, part, writes)
        counts["removed"] += _remove(connection, run, part) + _remove_outdated(connection, run, part, writes)
        _sight(connection, run, number, ordinal, part, writes)
        ordinal += len(part.sightings)
        counts["extracted"] += len(part.source_ids)
        counts.update(writes.outcomes)
    return counts


def _assume_fresh(connection: DatabaseConnection, run: SyncRun, part: Part) -> _Writes | None:
    """Add a head for every record without looking first; `None`, and nothing done, if any has one already.

    After a chunk in which everything was new the next one most likely is, and looking every key up would cost more
    than finding out by the primary key.
    """
    count = len(part.source_ids)
    if not count or len(part.states) != count:
        return None
    inserted = list(enumerate(_new_ids(connection, count)))
    writes = _Writes([record_id for _, record_id in inserted], ["new"] * count, inserted, added=inserted)
    try:
        with connection.transaction():
            _add_heads(connection, run, part, writes)
    except psycopg.errors.UniqueViolation:
        return None
    return writes


def _decide(connection: DatabaseConnection, run: SyncRun, part: Part) -> _Writes:
    """Which versions are new, and which heads move."""
    count = len(part.source_ids)
    writes = _Writes(record_ids=[0] * count, outcomes=["new"] * count)
    if not count:
        return writes
    repeats = len(part.states) - len(part.removed) < count
    first_at: dict[str, int] = {}
    if repeats:
        for position, source_id in enumerate(part.source_ids):
            first_at.setdefault(source_id, position)
    unique: Sequence[int] = list(first_at.values()) if repeats else range(count)
    heads = _probe(connection, run, part, unique)
    if any(heads):
        fresh = [position for position, head in zip(unique, heads, strict=True) if not head]
        differing = [position for position, head in zip(unique, heads, strict=True) if head < 0]
        for position, head in zip(unique, heads, strict=True):
            if head > 0:
                writes.record_ids[position] = head
                writes.outcomes[position] = "unchanged"
    else:
        fresh, differing = unique, []
    other = _differing_heads(connection, run, part, differing) if differing else {}
    for position in (same := [position for position, head in other.items() if _is_same(part, position, head)]):
        writes.record_ids[position] = other.pop(position).record_id
        writes.outcomes[position] = "unchanged"
    if same:
        differing = list(other)
    known = _known_versions(connection, run, part, differing) if differing else {}
    unknown = [position for position in differing if position not in known]
    new_ids = _new_ids(connection, len(fresh) + len(unknown))
    writes.added = list(zip(fresh, new_ids, strict=False))
    writes.inserted = list(zip([*fresh, *unknown], new_ids, strict=True))
    for position, record_id in itertools.chain(writes.inserted, known.items()):
        writes.record_ids[position] = record_id
    if other:
        _move(connection, run, part, other, writes)
    for position, source_id in enumerate(part.source_ids if repeats else ()):
        if first_at[source_id] != position:
            writes.record_ids[position] = writes.record_ids[first_at[source_id]]
            writes.outcomes[position] = "unchanged"
    return writes


def _differing_heads(
    connection: DatabaseConnection, run: SyncRun, part: Part, positions: Sequence[int]
) -> dict[int, _Head]:
    """The heads of records that differ from them, or that were staged through another connection.

    Refuses those that differ from what another connection in use has staged. What one out of use has staged without
    a difference goes over to the run's connection, so that its snapshots find out when it is removed.
    """
    found = _heads(connection, run, [part.source_ids[position] for position in positions])
    heads = {position: found[part.source_ids[position]] for position in positions}
    ours = run.read.connection.connection_id
    others = {head.connection_id for head in found.values()} - {ours}
    if not others:
        return heads
    in_use = {
        row["connection_id"]
        for row in connection.execute(
            "SELECT connection_id FROM finance_os.connections WHERE active AND connection_id = ANY (%s)",
            (list(others),),
        )
    }
    orphans: list[str] = []
    for position, head in heads.items():
        same = _is_same(part, position, head)
        if head.connection_id in in_use and not same:
            raise Unstageable(
                run.read.object_type,
                part.source_ids[position],
                f"is staged through connection {head.connection_id} with other contents: two accounts of one "
                "business may not share source IDs; make one of them inactive or a business of its own",
            )
        if head.connection_id in others - in_use and same:
            orphans.append(part.source_ids[position])
    if orphans:
        connection.execute(
            """
            UPDATE finance_os.raw_record_heads SET connection_id = %(connection_id)s
            WHERE business_id = %(business_id)s AND source_system = %(source_system)s
              AND object_type = %(object_type)s AND source_id = ANY (%(source_ids)s)
            """,
            {**_key(run), "connection_id": ours, "source_ids": orphans},
        )
    return heads


def _is_same(part: Part, position: int, head: _Head) -> bool:
    """Whether a head is what was read."""
    return not head.removed and head.payload_hash == part.hashes[position]


def _probe(connection: DatabaseConnection, run: SyncRun, part: Part, positions: Sequence[int]) -> list[int]:
    """The head of each position: its record ID if it is what was read, minus that if not, 0 if there is none.

    LATERAL with LIMIT makes each lookup one of the whole key in the index, however little the planner knows of a
    table that has just been filled. IDs and hashes go as one string each: arrays cost more to write than to look up.
    """
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        cursor.execute(
            """
            SELECT array_agg(coalesce(head.record_id, 0) ORDER BY given.ord)
            FROM unnest(string_to_array(%(source_ids)s, E'\\x1f')) WITH ORDINALITY AS given (source_id, ord)
            LEFT JOIN LATERAL (
                SELECT CASE WHEN NOT removed AND connection_id = %(connection_id)s
                             AND payload_hash = substr(%(hashes)s, (given.ord::int - 1) * 32 + 1, 32)
                       THEN record_id ELSE -record_id END AS record_id
                FROM finance_os.raw_record_heads
                WHERE business_id = %(business_id)s AND source_system = %(source_system)s
                  AND object_type = %(object_type)s AND source_id = given.source_id
                LIMIT 1
            ) AS head ON true
            """,
            {
                **_key(run),
                "connection_id": run.read.connection.connection_id,
                "source_ids": _SEPARATOR.join([part.source_ids[position] for position in positions]),
                "hashes": b"".join([part.hashes[position] for position in positions]),
            },
        )
        row = cursor.fetchone()
        assert row is not None
        return row[0]


def _heads(connection: DatabaseConnection, run: SyncRun, source_ids: list[str]) -> dict[str, _Head]:
    """The heads of `source_ids`, removed ones too."""
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        cursor.execute(
            """
            SELECT head.*
            FROM unnest(%(source_ids)s::text[]) AS given (source_id)
            CROSS JOIN LATERAL (
                SELECT source_id, record_id, payload_hash, connection_id, source_version, requested_at, removed
                FROM finance_os.raw_record_heads
                WHERE business_id = %(business_id)s AND source_system = %(source_system)s
                  AND object_type = %(object_type)s AND source_id = given.source_id
                LIMIT 1
            ) AS head
            """,
            {**_key(run), "source_ids": source_ids},
        )
        return {source_id: _Head(*rest) for source_id, *rest in cursor.fetchall()}


def _known_versions(
    connection: DatabaseConnection, run: SyncRun, part: Part, positions: Sequence[int]
) -> dict[int, int]:
    """Versions among `positions` that were seen before (position → record ID)."""
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        cursor.execute(
            """
            SELECT given.position, record.record_id
            FROM unnest(%(positions)s::int[], %(source_ids)s::text[], %(hashes)s::bytea[])
                 AS given (position, source_id, payload_hash)
            CROSS JOIN LATERAL (
                SELECT record_id FROM finance_os.raw_source_records
                WHERE business_id = %(business_id)s AND source_system = %(source_system)s
                  AND object_type = %(object_type)s AND source_id = given.source_id
                  AND payload_hash = given.payload_hash
                LIMIT 1
            ) AS record
            """,
            {
                **_key(run),
                "positions": list(positions),
                "source_ids": [part.source_ids[position] for position in positions],
                "hashes": [part.hashes[position] for position in positions],
            },
        )
        return dict(cursor.fetchall())


def _move(
    connection: DatabaseConnection, run: SyncRun, part: Part, other: Mapping[int, _Head], writes: _Writes
) -> None:
    """Decide for each record that differs from its head whether the head moves to it.

    A snapshot shows all that there is at its time: a later one is believed even where the source's own version went
    down (a joined row vanished, a backup was restored).
    """
    snapshot = run.read.kind is Kind.SNAPSHOT
    candidates = {
        position: head
        for position, head in other.items()
        if _is_newer(None if snapshot else part.versions[position], part.requested_at[position], head)
    }
    confirmed = _confirmed_later(
        connection, run, {head.record_id: part.requested_at[position] for position, head in candidates.items()}
    )
    for position, head in other.items():
        record_id, source_id = writes.record_ids[position], part.source_ids[position]
        version, requested_at = part.versions[position], part.requested_at[position]
        overtakes = (
            not snapshot and version is not None and head.source_version is not None and version > head.source_version
        )
        if position not in candidates or (head.record_id in confirmed and not overtakes):
            writes.outcomes[position] = "stale"
            continue
        writes.outcomes[position] = "changed"
        writes.moved.append((source_id, record_id, part.hashes[position], version, requested_at, False))
        change = "restored" if head.removed else "changed"
        writes.changes.append((source_id, change, record_id, head.record_id, part.days[position]))


def _is_newer(version: int | None, requested_at: datetime, head: _Head) -> bool:
    """Whether a record that differs from its head comes after it; ties go by arrival, except against a removal."""
    if head.removed:
        return requested_at > head.requested_at
    if version is not None and head.source_version is not None and version != head.source_version:
        return version > head.source_version
    return requested_at >= head.requested_at


def _confirmed_later(connection: DatabaseConnection, run: SyncRun, read_at: Mapping[int, datetime]) -> set[int]:
    """Versions among `read_at` that some page asked for later than the given time showed again."""
    if not read_at:
        return set()
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            """
            SELECT DISTINCT given.record_id
            FROM finance_os.source_sync_sightings AS sighting
            JOIN unnest(%(record_ids)s::bigint[], %(read_at)s::timestamptz[]) AS given (record_id, read_at)
              ON sighting.requested_at > given.read_at AND given.record_id = ANY (sighting.record_ids)
            WHERE sighting.business_id = %(business_id)s AND sighting.source_system = %(source_system)s
              AND sighting.object_type = %(object_type)s AND sighting.requested_at > %(earliest)s
            """,
            {
                **_key(run),
                "record_ids": list(read_at),
                "read_at": list(read_at.values()),
                "earliest": min(read_at.values()),
            },
        )
        return {record_id for (record_id,) in cursor.fetchall()}


def _new_ids(connection: DatabaseConnection, count: int) -> list[int]:
    """`count` IDs that no record and no change has, in order."""
    if not count:
        return []
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute("SELECT nextval('finance_os.record_ids') FROM generate_series(1, %s)", (-(-count // _ID_BLOCK),))
        blocks = sorted(first for (first,) in cursor.fetchall())
    return [record_id for first in blocks for record_id in range(first, first + _ID_BLOCK)][:count]


def _add_heads(connection: DatabaseConnection, run: SyncRun, part: Part, writes: _Writes) -> None:
    """Write the heads of source IDs that had none."""
    if not writes.added:
        return
    key = "\t".join(run.key).encode()
    run_id = str(run.sync_run_id).encode()
    connection_id = str(run.read.connection.connection_id).encode()
    with connection.cursor().copy(
        """
        COPY finance_os.raw_record_heads
            (business_id, source_system, object_type, source_id, record_id, payload_hash, connection_id,
             source_version, requested_at, sync_run_id) FROM STDIN
        """
    ) as copy:
        for start in range(0, len(writes.added), _COPY_BLOCK):
            lines = bytearray()
            for position, record_id in writes.added[start : start + _COPY_BLOCK]:
                lines += b"%b\t%b\t%d\t\\\\x%b\t%b\t%b\t%b\t%b\n" % (
                    key,
                    _text(part.source_ids[position]),
                    record_id,
                    part.hashes[position].hex().encode(),
                    connection_id,
                    _or_null(part.versions[position]),
                    _or_null(part.requested_at[position]),
                    run_id,
                )
            copy.write(lines)


def _insert(connection: DatabaseConnection, run: SyncRun, part: Part, writes: _Writes) -> None:
    """Write new versions, moved heads and changes. COPY's text format is built by hand here: it is the hot path."""
    key = "\t".join(run.key).encode()
    run_id = str(run.sync_run_id).encode()
    if writes.inserted:
        with connection.cursor().copy(
            """
            COPY finance_os.raw_source_records
                (record_id, business_id, source_system, object_type, source_id, payload_hash, payload,
                 source_version, source_created_at, source_updated_at, first_sync_run_id) FROM STDIN
            """
        ) as copy:
            for start in range(0, len(writes.inserted), _COPY_BLOCK):
                lines = bytearray()
                for position, record_id in writes.inserted[start : start + _COPY_BLOCK]:
                    created_at, updated_at = part.times[position]
                    lines += b"%d\t%b\t%b\t\\\\x%b\t%b\t%b\t%b\t%b\t%b\n" % (
                        record_id,
                        key,
                        _text(part.source_ids[position]),
                        part.hashes[position].hex().encode(),
                        part.payloads[position].replace(b"\\", b"\\\\"),
                        _or_null(part.versions[position]),
                        _or_null(created_at),
                        _or_null(updated_at),
                        run_id,
                    )
                copy.write(lines)
    if writes.moved:
        _move_heads(connection, run, writes.moved)
    _record_changes(
        connection,
        run,
        itertools.chain(
            (
                (part.source_ids[position], "added", record_id, None, part.days[position])
                for position, record_id in writes.added
            ),
            writes.changes,
        ),
        len(writes.added) + len(writes.changes),
    )


def _move_heads(
    connection: DatabaseConnection, run: SyncRun, moved: Sequence[tuple[str, int, bytes, int | None, datetime, bool]]
) -> None:
    connection.execute(
        """
        UPDATE finance_os.raw_record_heads AS head
        SET record_id = given.record_id, payload_hash = given.payload_hash, source_version = given.source_version,
            requested_at = given.requested_at, removed = given.removed,
            connection_id = %(connection_id)s, sync_run_id = %(sync_run_id)s
        FROM unnest(%(source_ids)s::text[], %(record_ids)s::bigint[], %(hashes)s::bytea[], %(versions)s::bigint[],
                    %(times)s::timestamptz[], %(removed)s::boolean[])
             AS given (source_id, record_id, payload_hash, source_version, requested_at, removed)
        CROSS JOIN LATERAL (
            SELECT ctid FROM finance_os.raw_record_heads
            WHERE business_id = %(business_id)s AND source_system = %(source_system)s
              AND object_type = %(object_type)s AND source_id = given.source_id
            LIMIT 1
        ) AS row
        WHERE head.ctid = row.ctid
        """,
        {
            **_key(run),
            "connection_id": run.read.connection.connection_id,
            "sync_run_id": run.sync_run_id,
            "source_ids": [row[0] for row in moved],
            "record_ids": [row[1] for row in moved],
            "hashes": [row[2] for row in moved],
            "versions": [row[3] for row in moved],
            "times": [row[4] for row in moved],
            "removed": [row[5] for row in moved],
        },
    )


def _record_changes(connection: DatabaseConnection, run: SyncRun, changes: Iterable[_Change], count: int) -> None:
    if not count:
        return
    key = "\t".join(run.key).encode()
    run_id = str(run.sync_run_id).encode()
    numbered = zip(_new_ids(connection, count), changes, strict=True)
    with connection.cursor().copy(
        """
        COPY finance_os.raw_record_changes
            (change_id, business_id, source_system, object_type, source_id, change, record_id, previous_record_id,
             sync_run_id, partition_day) FROM STDIN
        """
    ) as copy:
        while block := list(itertools.islice(numbered, _COPY_BLOCK)):
            lines = bytearray()
            for change_id, (source_id, change, record_id, previous, day) in block:
                lines += b"%d\t%b\t%b\t%b\t%d\t%b\t%b\t%b\n" % (
                    change_id,
                    key,
                    _text(source_id),
                    change.encode(),
                    record_id,
                    _or_null(previous),
                    run_id,
                    day.isoformat().encode(),
                )
            copy.write(lines)


def _remove(connection: DatabaseConnection, run: SyncRun, part: Part) -> int:
    """Record removals that the source told of; how many heads they moved.

    A later removal of what is removed already only says until when it was gone.
    """
    if not part.removed:
        return 0
    heads = _heads(connection, run, list(part.removed))
    confirmed = _confirmed_later(
        connection, run, {head.record_id: part.removed[source_id][1] for source_id, head in heads.items()}
    )
    moved: list[tuple[str, int, bytes, int | None, datetime, bool]] = []
    changes: list[_Change] = []
    for source_id, (day, requested_at) in part.removed.items():
        head = heads.get(source_id)
        if head is None or requested_at < head.requested_at or head.record_id in confirmed:
            continue
        moved.append((source_id, head.record_id, head.payload_hash, head.source_version, requested_at, True))
        if not head.removed:
            changes.append((source_id, "removed", head.record_id, head.record_id, day))
    if moved:
        _move_heads(connection, run, moved)
        _record_changes(connection, run, changes, len(changes))
    return len(changes)


def _remove_outdated(connection: DatabaseConnection, run: SyncRun, part: Part, writes: _Writes) -> int:
    """Remove again what only now got a head, though a snapshot that was taken later did not show it; how many.

    The snapshot ended before this chunk came, and found nothing to remove.
    """
    shown = list(writes.added)
    restored = {source_id for source_id, change, *_ in writes.changes if change == "restored"}
    if restored:
        shown += [
            (position, record_id)
            for position, record_id in enumerate(writes.record_ids)
            if part.source_ids[position] in restored
        ]
    if not shown:
        return 0
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            """
            SELECT max(coalesce(
                (SELECT min(requested_at) FROM finance_os.source_sync_sightings AS sighting
                 WHERE sighting.sync_run_id = day.sync_run_id), run.started_at))
            FROM finance_os.source_sync_partitions AS day
            JOIN finance_os.source_sync_runs AS run USING (sync_run_id)
            WHERE day.business_id = %(business_id)s AND day.source_system = %(source_system)s
              AND day.object_type = %(object_type)s AND day.partition_day >= %(since)s
              AND day.kind = 'snapshot' AND day.connection_id = %(connection_id)s
              AND day.sync_run_id <> %(sync_run_id)s
            """,
            {
                **_key(run),
                # A snapshot bears the business day on which it was taken, wherever on earth that is.
                "since": min(part.requested_at).date() - timedelta(days=2),
                "connection_id": run.read.connection.connection_id,
                "sync_run_id": run.sync_run_id,
            },
        )
        row = cursor.fetchone()
        assert row is not None
    taken: datetime | None = row[0]
    if taken is None:
        return 0
    gone = {
        part.source_ids[position]: (position, record_id)
        for position, record_id in shown
        if part.requested_at[position] <= taken
    }
    if gone:
        _move_heads(
            connection,
            run,
            [
                (source_id, record_id, part.hashes[position], part.versions[position], taken, True)
                for source_id, (position, record_id) in gone.items()
            ],
        )
        _record_changes(
            connection,
            run,
            [
                (source_id, "removed", record_id, record_id, part.days[position])
                for source_id, (position, record_id) in gone.items()
            ],
            len(gone),
        )
    return len(gone)


def _sight(
    connection: DatabaseConnection, run: SyncRun, number: int, ordinal: int, part: Part, writes: _Writes
) -> None:
    """Write which versions were seen, in the order seen."""
    if not part.sightings:
        return
    key = "\t".join(run.key)
    with connection.cursor().copy(
        """
        COPY finance_os.source_sync_sightings
            (sync_run_id, chunk, ordinal, business_id, source_system, object_type, partition_day, requested_at,
             record_ids, rows_new, rows_changed, rows_unchanged, rows_stale, digest, provenance) FROM STDIN
        """
    ) as copy:
        for position, sighting in enumerate(part.sightings, start=ordinal):
            seen = slice(sighting.start, sighting.end)
            outcomes = Counter(writes.outcomes[seen])
            counts = (outcomes[name] for name in ("new", "changed", "unchanged", "stale"))
            fields = (
                *(run.sync_run_id, number, position, key, sighting.day, sighting.requested_at),
                "{" + ",".join(map(str, writes.record_ids[seen])) + "}",
                *counts,
                "\\\\x" + digest_of(part.hashes[seen]).to_bytes(32).hex(),
                _provenance(sighting.page_provenance, sighting.record_provenance),
            )
            copy.write("\t".join(map(str, fields)) + "\n")


def _provenance(page: dict[str, Any] | None, records: list[int | str | None]) -> str:
    """Provenance as COPY reads it."""
    given = any(record is not None for record in records)
    if page is None and not given:
        return "\\N"
    text = canonical_json({"page": page, "records": records if given else None}).decode()
    return text.replace("\\", "\\\\")


def _key(run: SyncRun) -> dict[str, str]:
    business_id, source_system, object_type = run.key
    return {"business_id": business_id, "source_system": source_system, "object_type": object_type}


def _text(text: str) -> bytes:
    return text.replace("\\", "\\\\").encode()


def _or_null(value: Any) -> bytes:
    return b"\\N" if value is None else str(value).encode()
