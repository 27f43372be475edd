"""Replay: exactly what a past sync run saw, in the order seen, and proof that staging it again would add nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from psycopg.rows import tuple_row

from finance_os.evidence.canonical import Uncanonical, canonical_json, decode, payload_hash
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.windows import Days

_IDS_AT_A_TIME = 2_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One record as a sync run saw it. `payload` is JSON text; `None` if the version is not in the database."""

    partition_day: date
    requested_at: datetime
    record_id: int
    source_id: str | None
    payload_hash: bytes | None
    payload: str | None
    provenance: Any
    belongs: bool

    def as_json_line(self, position: int) -> bytes:
        """This record as one line of JSON, the `position`th that the run saw; every number as it is stored."""
        return (
            canonical_json(
                {
                    "position": position,
                    "partition_day": str(self.partition_day),
                    "requested_at": self.requested_at.isoformat(),
                    "record_id": self.record_id,
                    "source_id": self.source_id,
                    "payload_hash": self.payload_hash.hex() if self.payload_hash else None,
                    "provenance": self.provenance,
                    "payload": None if self.payload is None else decode(self.payload),
                }
            )
            + b"\n"
        )


@dataclass
class DayReplay:
    """What replaying one day of a run would do. `would_add` and `lost` name records; both empty is a pass.

    `digest` is the sum of the payload hashes as recomputed, for `chunks.batch_hash`.
    """

    replayed: int = 0
    digest: int = 0
    would_add: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def run_records(database: Database, sync_run_id: int, days: Days | None = None) -> Iterator[Seen]:
    """The records that a run saw, in the order seen, each as often as it was seen; of some days only, if given.

    Volatile fields are not part of a version and so not of a replay. Streams; memory does not grow with the run.
    """
    with database.transaction() as connection, connection.cursor("sightings", row_factory=tuple_row) as sightings:
        sightings.itersize = 50
        sightings.execute(
            """
            SELECT partition_day, requested_at, record_ids, provenance, business_id, source_system, object_type
            FROM finance_os.source_sync_sightings
            WHERE sync_run_id = %(sync_run_id)s
              AND (%(first)s::date IS NULL OR partition_day BETWEEN %(first)s AND %(last)s)
            ORDER BY chunk, ordinal
            """,
            {
                "sync_run_id": sync_run_id,
                "first": days.first if days else None,
                "last": days.last if days else None,
            },
        )
        for day, requested_at, record_ids, provenance, *key in sightings:
            page = (provenance or {}).get("page")
            rows = (provenance or {}).get("records") or [None] * len(record_ids)
            for start in range(0, len(record_ids), _IDS_AT_A_TIME):
                wanted = record_ids[start : start + _IDS_AT_A_TIME]
                versions = _versions(connection, wanted)
                for record_id, row in zip(wanted, rows[start : start + _IDS_AT_A_TIME], strict=True):
                    source_id, stored_hash, payload, *stored_key = versions.get(record_id, (None, None, None, *key))
                    yield Seen(
                        day,
                        requested_at,
                        record_id,
                        source_id,
                        stored_hash,
                        payload,
                        page if row is None else {**(page or {}), "row": row},
                        stored_key == key,
                    )


def replay(database: Database, sync_run_id: int, days: Days | None = None) -> dict[date, DayReplay]:
    """Stage a run's records once more without writing: by day, which of them would make a new version.

    Each stored payload is hashed anew and its idempotency key looked up, as staging would; a version that is gone, or
    belongs to another object or business, is `lost`.
    """
    by_day: dict[date, DayReplay] = {}
    suspects: list[tuple[date, str, bytes]] = []
    for seen in run_records(database, sync_run_id, days):
        day = by_day.setdefault(seen.partition_day, DayReplay())
        day.replayed += 1
        if seen.payload is None or seen.source_id is None or not seen.belongs:
            day.lost.append(f"record {seen.record_id}")
            continue
        try:
            recomputed = payload_hash(decode(seen.payload))
        except Uncanonical:
            day.would_add.append(seen.source_id)
            continue
        day.digest += int.from_bytes(recomputed)
        if recomputed != seen.payload_hash:
            suspects.append((seen.partition_day, seen.source_id, recomputed))
    if suspects:
        known = _known_keys(database, sync_run_id, suspects)
        for day, source_id, recomputed in suspects:
            if (source_id, recomputed) not in known:
                by_day[day].would_add.append(source_id)
    return by_day


def _versions(connection: DatabaseConnection, record_ids: list[int]) -> dict[int, tuple[Any, ...]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            """
            SELECT record_id, source_id, payload_hash, payload::text, business_id, source_system, object_type
            FROM finance_os.raw_source_records WHERE record_id = ANY (%s)
            """,
            (record_ids,),
        )
        return {record_id: tuple(rest) for record_id, *rest in cursor.fetchall()}


def _known_keys(
    database: Database, sync_run_id: int, suspects: list[tuple[date, str, bytes]]
) -> set[tuple[str, bytes]]:
    """Which of the recomputed keys exist as versions of the run's object."""
    rows = database.fetch(
        """
        SELECT record.source_id, record.payload_hash
        FROM finance_os.source_sync_runs AS run
        CROSS JOIN unnest(%(source_ids)s::text[], %(hashes)s::bytea[]) AS given (source_id, payload_hash)
        JOIN finance_os.raw_source_records AS record USING (business_id, source_system, object_type)
        WHERE run.sync_run_id = %(sync_run_id)s
          AND record.source_id = given.source_id AND record.payload_hash = given.payload_hash
        """,
        {
            "sync_run_id": sync_run_id,
            "source_ids": [source_id for _, source_id, _ in suspects],
            "hashes": [recomputed for _, _, recomputed in suspects],
        },
    )
    return {(row["source_id"], bytes(row["payload_hash"])) for row in rows}
