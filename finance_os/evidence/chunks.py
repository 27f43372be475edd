"""Chunks: what is committed at a time, made ready without the database.

A chunk holds whole pages, so that a crash always leaves the run at the end of a page. Within it, a *part* holds each
source ID in one state only; a page that shows one object twice in different states makes a second part.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from finance_os.evidence.canonical import Uncanonical, canonical_json, without_fields
from finance_os.evidence.extraction import Item, Page, Record, SourceError
from finance_os.evidence.windows import Days

CHUNK_BYTES = 8 * 1024 * 1024
"""A chunk is closed after the page that brings its payloads to this many bytes."""

CHUNK_SECONDS = 5.0
"""A chunk is closed after the first page that arrives this long after it was opened: a slow source loses little."""

MAX_SOURCE_ID = 1_000
"""Longest source ID in bytes of UTF-8: it must fit into an index entry beside the rest of the key."""

DIGEST_MODULUS = 1 << 256


@dataclass(slots=True)
class Sighting:
    """Consecutive records of one page and one day: positions `start` to `end` of the part's lists."""

    day: date
    requested_at: datetime
    start: int
    end: int
    page_provenance: dict[str, Any] | None
    record_provenance: list[int | str | None] = field(default_factory=list)


@dataclass(slots=True)
class Part:
    """Records in the order seen, as parallel lists; `removed` are source IDs that the source no longer has."""

    source_ids: list[str] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    requested_at: list[datetime] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    removed: dict[str, tuple[date, datetime]] = field(default_factory=dict)
    states: dict[str, bytes | None] = field(default_factory=dict)


@dataclass(slots=True)
class Chunk:
    """Whole pages, to be committed in one transaction with the checkpoint after the last of them."""

    parts: list[Part]
    resume: Mapping[str, Any] | None
    pages: int
    rows: int
    opened: float


class Unstageable(SourceError):
    """A record that cannot be kept losslessly; nothing of its chunk is committed."""

    def __init__(self, object_type: str, source_id: str, reason: str) -> None:
        super().__init__("record_refused", f"{object_type} {source_id!r} {reason}", permanent=True)


def digest_of(hashes: Iterable[bytes]) -> int:
    """What sightings add to a batch hash: the sum of their payload hashes, read as integers, modulo 2^256."""
    return sum(map(int.from_bytes, hashes)) % DIGEST_MODULUS


def batch_hash(rows: int, digest: int) -> bytes:
    """SHA-256 over the number of sightings (8 bytes) and their digest (32 bytes); the order seen does not matter."""
    return hashlib.sha256(rows.to_bytes(8) + (digest % DIGEST_MODULUS).to_bytes(32)).digest()


def chunks(
    items: Iterable[Item],
    *,
    object_type: str,
    volatile: tuple[tuple[str, ...], ...],
    days: Days,
    chunk_rows: int,
) -> Iterator[Chunk | Item]:
    """Gather pages into chunks of at least `chunk_rows` records; pass on everything that is not a page in its place.

    Raises `Unstageable` for a record that cannot be kept, and `SourceError` for one whose day was not asked for.
    """
    chunk: Chunk | None = None
    size = 0
    for item in items:
        if not isinstance(item, Page):
            yield item
            continue
        if chunk is None:
            chunk, size = Chunk([Part()], None, 0, 0, time.monotonic()), 0
        size += _add_page(chunk, item, object_type, volatile, days)
        if chunk.rows >= chunk_rows or size >= CHUNK_BYTES or time.monotonic() - chunk.opened >= CHUNK_SECONDS:
            yield chunk
            chunk = None
    if chunk is not None:
        yield chunk


def _add_page(chunk: Chunk, page: Page, object_type: str, volatile: tuple[tuple[str, ...], ...], days: Days) -> int:
    part = chunk.parts[-1]
    sighting: Sighting | None = None
    size = 0
    sha256 = hashlib.sha256
    for record in page.records:
        source_id = record.source_id
        if record.day not in days:
            raise SourceError(
                "outside_window",
                f"{object_type} {source_id!r} belongs to {record.day}, which is not in {days}",
                permanent=True,
            )
        payload = record.payload
        if payload is None:
            state = None
            canonical = b""
        else:
            try:
                canonical = canonical_json(without_fields(payload, volatile) if volatile else payload)
            except Uncanonical as error:
                raise Unstageable(object_type, source_id, str(error)) from None
            state = sha256(canonical).digest()
        known = part.states.setdefault(source_id, state)
        if known is state:
            _refuse_unusable_id(object_type, source_id)
        elif known != state:
            part = Part()
            chunk.parts.append(part)
            part.states[source_id] = state
            sighting = None
        if state is None:
            part.removed[source_id] = (record.day, page.requested_at)
            continue
        position = len(part.source_ids)
        if sighting is None or sighting.day != record.day:
            sighting = Sighting(record.day, page.requested_at, position, position, page.provenance)
            part.sightings.append(sighting)
        part.source_ids.append(source_id)
        part.hashes.append(state)
        part.payloads.append(canonical)
        part.records.append(record)
        part.requested_at.append(page.requested_at)
        sighting.end = position + 1
        sighting.record_provenance.append(record.provenance)
        size += len(canonical)
    chunk.pages += 1
    chunk.rows += len(page.records)
    chunk.resume = page.resume
    return size


def _refuse_unusable_id(object_type: str, source_id: str) -> None:
    if not source_id:
        raise Unstageable(object_type, source_id, "has no source ID")
    if not source_id.isprintable():
        raise Unstageable(object_type, source_id, "has a source ID with characters that cannot be printed")
    if len(source_id) > MAX_SOURCE_ID // 4 and len(source_id.encode()) > MAX_SOURCE_ID:
        raise Unstageable(object_type, source_id[:40] + "…", f"has a source ID of more than {MAX_SOURCE_ID} bytes")
