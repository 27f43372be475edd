"""Deciding what a part of a chunk changes: which versions are new, and which heads move.

A head moves to a record that was read later, or whose own version is higher. Nothing else moves it: an older read is
kept as a version only. The caller holds the heads' lock.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TypeAlias

from psycopg.rows import tuple_row

from finance_os.evidence.chunks import Part, Unstageable
from finance_os.evidence.database import DatabaseConnection
from finance_os.evidence.extraction import Kind
from finance_os.evidence.sync_runs import SyncRun

_ID_BLOCK = 1_000  # INCREMENT BY of finance_os.record_ids
_SEPARATOR = "\x1f"  # never in a source ID: those are printable


@dataclass(frozen=True, slots=True)
class Head:
    record_id: int
    payload_hash: bytes
    connection_id: int
    source_version: int | None
    requested_at: datetime
    removed: bool


Change: TypeAlias = tuple[str, str, int, int | None, date]
"""Source ID, what happened, the version, the version before, and the day: a row of raw_record_changes."""


@dataclass(slots=True)
class Writes:
    """What a part adds.

    `inserted` are positions of new versions with their IDs; `added` are those of them that get a head of their own.
    `moved` and `changes` say how other heads move.
    """

    record_ids: list[int]
    outcomes: list[str]
    inserted: list[tuple[int, int]] = field(default_factory=list)
    added: list[tuple[int, int]] = field(default_factory=list)
    moved: list[tuple[str, int, bytes, int | None, datetime, bool]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def decide(connection: DatabaseConnection, run: SyncRun, part: Part) -> Writes:
    """Which versions are new, and which heads move."""
    count = len(part.source_ids)
    writes = Writes(record_ids=[0] * count, outcomes=["new"] * count)
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
    ids = new_ids(connection, len(fresh) + len(unknown))
    writes.added = list(zip(fresh, ids, strict=False))
    writes.inserted = list(zip([*fresh, *unknown], ids, strict=True))
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
) -> dict[int, Head]:
    """The heads of records that differ from them, or that were staged through another connection.

    Refuses those that differ from what another connection in use has staged. What one out of use has staged without
    a difference goes over to the run's connection, so that its snapshots find out when it is removed.
    """
    found = heads_of(connection, run, [part.source_ids[position] for position in positions])
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
            {**key_of(run), "connection_id": ours, "source_ids": orphans},
        )
    return heads


def _is_same(part: Part, position: int, head: Head) -> bool:
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
                **key_of(run),
                "connection_id": run.read.connection.connection_id,
                "source_ids": _SEPARATOR.join([part.source_ids[position] for position in positions]),
                "hashes": b"".join([part.hashes[position] for position in positions]),
            },
        )
        row = cursor.fetchone()
        assert row is not None
        return row[0]


def heads_of(connection: DatabaseConnection, run: SyncRun, source_ids: list[str]) -> dict[str, Head]:
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
            {**key_of(run), "source_ids": source_ids},
        )
        return {source_id: Head(*rest) for source_id, *rest in cursor.fetchall()}


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
                **key_of(run),
                "positions": list(positions),
                "source_ids": [part.source_ids[position] for position in positions],
                "hashes": [part.hashes[position] for position in positions],
            },
        )
        return dict(cursor.fetchall())


def _move(connection: DatabaseConnection, run: SyncRun, part: Part, other: Mapping[int, Head], writes: Writes) -> None:
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
    confirmed = confirmed_later(
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


def _is_newer(version: int | None, requested_at: datetime, head: Head) -> bool:
    """Whether a record that differs from its head comes after it; ties go by arrival, except against a removal."""
    if head.removed:
        return requested_at > head.requested_at
    if version is not None and head.source_version is not None and version != head.source_version:
        return version > head.source_version
    return requested_at >= head.requested_at


def confirmed_later(connection: DatabaseConnection, run: SyncRun, read_at: Mapping[int, datetime]) -> set[int]:
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
                **key_of(run),
                "record_ids": list(read_at),
                "read_at": list(read_at.values()),
                "earliest": min(read_at.values()),
            },
        )
        return {record_id for (record_id,) in cursor.fetchall()}


def new_ids(connection: DatabaseConnection, count: int) -> list[int]:
    """`count` IDs that no record and no change has, in order."""
    if not count:
        return []
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute("SELECT nextval('finance_os.record_ids') FROM generate_series(1, %s)", (-(-count // _ID_BLOCK),))
        blocks = sorted(first for (first,) in cursor.fetchall())
    return [record_id for first in blocks for record_id in range(first, first + _ID_BLOCK)][:count]


def key_of(run: SyncRun) -> dict[str, str]:
    business_id, source_system, object_type = run.key
    return {"business_id": business_id, "source_system": source_system, "object_type": object_type}
