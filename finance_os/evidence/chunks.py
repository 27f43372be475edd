"""Chunks: what is committed at a time, made ready without the database.

A chunk holds whole pages, so that a crash always leaves the run at the end of a page. Within it, a *part* holds each
source ID in one state, read at one time; an object that is shown again in another state or later makes a second part.
"""

import hashlib
import itertools
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from operator import attrgetter
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
    record_provenance: list[int | str | None]


@dataclass(slots=True)
class Part:
    """Records in the order seen, as parallel lists; `removed` are source IDs that the source no longer has.

    The payloads are canonical JSON already: what the source gave is let go of, or memory would grow with the chunk.
    `states` maps each source ID to its payload hash, `None` if it is removed.
    """

    source_ids: list[str] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    days: list[date] = field(default_factory=list)
    versions: list[int | None] = field(default_factory=list)
    times: list[tuple[datetime | None, datetime | None]] = field(default_factory=list)
    requested_at: list[datetime] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    removed: dict[str, tuple[date, datetime]] = field(default_factory=dict)
    states: dict[str, bytes | None] = field(default_factory=dict)


@dataclass(slots=True)
class Chunk:
    """Whole pages, to be committed in one transaction with the checkpoint after the last of them."""

    parts: list[Part]
    resume: Mapping[str, Any] | None
    cursor: Mapping[str, Any] | None
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
) -> Generator[Chunk | Item]:
    """Gather pages into chunks of at least `chunk_rows` records; pass on everything that is not a page in its place.

    Raises `Unstageable` for a record that cannot be kept, and `SourceError` for one whose day was not asked for.
    However it ends, `items` is closed, if it is a generator.
    """
    chunk: Chunk | None = None
    size = 0
    drawn = iter(items)
    try:
        for item in drawn:
            if not isinstance(item, Page):
                yield item
                continue
            if chunk is None:
                chunk, size = Chunk([Part()], None, None, 0, 0, time.monotonic()), 0
            size += _add_page(chunk, item, object_type, volatile, days)
            if chunk.rows >= chunk_rows or size >= CHUNK_BYTES or time.monotonic() - chunk.opened >= CHUNK_SECONDS:
                yield chunk
                chunk = None
    finally:
        if isinstance(drawn, Generator):
            drawn.close()
    if chunk is not None:
        yield chunk


def _add_page(chunk: Chunk, page: Page, object_type: str, volatile: tuple[tuple[str, ...], ...], days: Days) -> int:
    """Add a page to a chunk; the bytes of its payloads. What is done for each record runs at C speed where it can."""
    records = page.records
    source_ids = [record.source_id for record in records]
    if not (all(source_ids) and "".join(source_ids).isprintable() and max(map(len, source_ids), default=0) <= 250):
        for source_id in source_ids:
            _refuse_unusable_id(object_type, source_id)
    for day in {record.day for record in records}:
        if day not in days:
            _refuse_day(object_type, records, day, days)
    payloads = [_canonical(record, object_type, volatile) for record in records]
    hashes = [None if payload is None else hashlib.sha256(payload).digest() for payload in payloads]
    start = 0
    for end in _ends_of_parts(chunk.parts[-1], page.requested_at, source_ids, hashes):
        if start:
            chunk.parts.append(Part())
        elif end == 0:
            chunk.parts.append(Part())
            continue
        _extend(chunk.parts[-1], page, source_ids, hashes, payloads, start, end)
        start = end
    chunk.pages += 1
    chunk.rows += len(records)
    chunk.resume = page.resume
    chunk.cursor = page.cursor or chunk.cursor
    return sum(len(payload) for payload in payloads if payload is not None)


def _ends_of_parts(part: Part, requested_at: datetime, source_ids: list[str], states: list[bytes | None]) -> list[int]:
    """Where a page is to be cut so that no part holds a source ID in two states: the ends of its pieces, in order.

    Nor is what `part` holds already read again later by the same part: only the later of two equal reads may be newer
    than a head that lies between them. A first end of 0 says that not even the first record fits into `part`.
    """
    known = part.states
    count = len(source_ids)
    if known.keys().isdisjoint(source_ids) and len(set(source_ids)) == count:
        return [count]
    ends: list[int] = []
    seen = dict(known)
    times = itertools.chain(part.requested_at, (time for _, time in part.removed.values()))
    earlier = known if min(times, default=requested_at) < requested_at else {}
    for position, (source_id, state) in enumerate(zip(source_ids, states, strict=True)):
        if source_id in earlier or seen.setdefault(source_id, state) != state:
            ends.append(position)
            earlier = {}
            seen = {source_id: state}
    return [*ends, count]


def _extend(
    part: Part,
    page: Page,
    source_ids: list[str],
    hashes: list[bytes | None],
    payloads: list[bytes | None],
    start: int,
    end: int,
) -> None:
    """Add the records of `page` from `start` to `end` to a part."""
    records = page.records[start:end]
    part.states.update(zip(source_ids[start:end], hashes[start:end], strict=True))
    if None in hashes[start:end]:
        for record in records:
            if record.payload is None:
                part.removed[record.source_id] = (record.day, page.requested_at)
        records = [record for record in records if record.payload is not None]
    position = len(part.source_ids)
    for day, group in itertools.groupby(records, key=attrgetter("day")):
        provenance = [record.provenance for record in group]
        part.sightings.append(
            Sighting(day, page.requested_at, position, position + len(provenance), page.provenance, provenance)
        )
        position += len(provenance)
    part.source_ids += [record.source_id for record in records]
    part.hashes += [state for state in hashes[start:end] if state is not None]
    part.payloads += [payload for payload in payloads[start:end] if payload is not None]
    part.days += [record.day for record in records]
    part.versions += [record.version for record in records]
    part.times += [(record.created_at, record.updated_at) for record in records]
    part.requested_at += [page.requested_at] * len(records)


def _canonical(record: Record, object_type: str, volatile: tuple[tuple[str, ...], ...]) -> bytes | None:
    if record.payload is None:
        return None
    try:
        return canonical_json(without_fields(record.payload, volatile) if volatile else record.payload)
    except Uncanonical as error:
        raise Unstageable(object_type, record.source_id, str(error)) from None


def _refuse_unusable_id(object_type: str, source_id: str) -> None:
    if not source_id:
        raise Unstageable(object_type, source_id, "has no source ID")
    if not source_id.isprintable():
        raise Unstageable(object_type, source_id, "has a source ID with characters that cannot be printed")
    if len(source_id.encode()) > MAX_SOURCE_ID:
        raise Unstageable(object_type, source_id[:40] + "…", f"has a source ID of more than {MAX_SOURCE_ID} bytes")


def _refuse_day(object_type: str, records: list[Record], day: date, days: Days) -> None:
    source_id = next(record.source_id for record in records if record.day == day)
    raise SourceError(
        "outside_window", f"{object_type} {source_id!r} belongs to {day}, which is not in {days}", permanent=True
    )
