"""Committing a chunk: versions, heads, changes and sightings, written in the caller's transaction.

While a chunk is committed its object type is locked for its business, so two sync runs at the same moment end as one
after the other.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from finance_os.evidence.canonical import canonical_json
from finance_os.evidence.chunks import Chunk, Part, digest_of
from finance_os.evidence.counts import count
from finance_os.evidence.database import DatabaseConnection, lock_objects
from finance_os.evidence.decisions import Change, Writes, confirmed_later, decide, heads_of, key_of, new_ids
from finance_os.evidence.sync_runs import SyncRun, require_worker

_COPY_BLOCK = 256


def commit_chunk(
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
    ordinal = versions = shown = 0
    for part in chunk.parts:
        writes = _assume_fresh(connection, run, part) if expect_fresh else None
        if writes is None:
            writes = decide(connection, run, part)
            _add_heads(connection, run, part, writes)
        _insert(connection, run, part, writes)
        counts["removed"] += _remove(connection, run, part) + _remove_outdated(connection, run, part, writes)
        _sight(connection, run, number, ordinal, part, writes)
        ordinal += len(part.sightings)
        counts["extracted"] += len(part.source_ids)
        counts.update(writes.outcomes)
        versions += len(writes.inserted)
        shown += len(writes.added) + sum(change == "restored" for _, change, *_ in writes.changes)
    count(connection, run.key, versions=versions, current=shown - counts["removed"])
    return counts


def _assume_fresh(connection: DatabaseConnection, run: SyncRun, part: Part) -> Writes | None:
    """Add a head for every record without looking first; `None`, and nothing done, if any has one already.

    After a chunk in which everything was new the next one most likely is, and looking every key up would cost more
    than finding out by the primary key.
    """
    rows = len(part.source_ids)
    if not rows or len(part.states) != rows:
        return None
    inserted = list(enumerate(new_ids(connection, rows)))
    writes = Writes([record_id for _, record_id in inserted], ["new"] * rows, inserted, added=inserted)
    try:
        with connection.transaction():
            _add_heads(connection, run, part, writes)
    except psycopg.errors.UniqueViolation:
        return None
    return writes


def _add_heads(connection: DatabaseConnection, run: SyncRun, part: Part, writes: Writes) -> None:
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


def _insert(connection: DatabaseConnection, run: SyncRun, part: Part, writes: Writes) -> None:
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
            **key_of(run),
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


def _record_changes(connection: DatabaseConnection, run: SyncRun, changes: Iterable[Change], count: int) -> None:
    if not count:
        return
    key = "\t".join(run.key).encode()
    run_id = str(run.sync_run_id).encode()
    numbered = zip(new_ids(connection, count), changes, strict=True)
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
    heads = heads_of(connection, run, list(part.removed))
    confirmed = confirmed_later(
        connection, run, {head.record_id: part.removed[source_id][1] for source_id, head in heads.items()}
    )
    moved: list[tuple[str, int, bytes, int | None, datetime, bool]] = []
    changes: list[Change] = []
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


def _remove_outdated(connection: DatabaseConnection, run: SyncRun, part: Part, writes: Writes) -> int:
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
                **key_of(run),
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


def _sight(connection: DatabaseConnection, run: SyncRun, number: int, ordinal: int, part: Part, writes: Writes) -> None:
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


def _text(text: str) -> bytes:
    return text.replace("\\", "\\\\").encode()


def _or_null(value: Any) -> bytes:
    return b"\\N" if value is None else str(value).encode()
