"""The audit chain: what happened, one hash chain a business, and the proof that nobody changed it afterwards.

Each event's hash covers its canonical JSON, in which its predecessor's hash stands. The canonical bytes are stored
beside the columns, so that a hash can be recomputed by anyone with `sha256(canonical)`.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row, tuple_row

from finance_os.evidence.anchors import Anchor
from finance_os.evidence.canonical import Uncanonical, canonical_json, decode
from finance_os.evidence.database import Database

NO_PREDECESSOR = bytes(32)
"""What the first event of a chain names as its predecessor's hash."""

_PAGE = 1_000

# UTC whatever the session's time zone, always with microseconds.
_TIME = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'

# Each pattern is anchored at a character that is rare, so that long texts are searched in linear time.
_UNFIT = {
    "an e-mail address": re.compile(r"[^\s@]@[^\s@]+\.[A-Za-z]{2}"),
    "a secret key": re.compile(r"(?<![A-Za-z0-9])(?:[rs]k|whsec)_\w{6}|(?<![A-Z0-9])A(?:K|S)IA[A-Z0-9]{16}"),
    "an address with a password": re.compile(r"://[^\s/@:]*:[^\s@]+@"),
}


class UnfitForAudit(ValueError):
    """A detail that looks like personal data or a secret. Nothing was recorded."""


@dataclass(frozen=True)
class AuditEvent:
    """One link of a business's chain. `sequence` counts from 1; the hashes are 32 bytes."""

    business_id: str
    sequence: int
    event_type: str
    subject: str
    actor: str
    details: Mapping[str, Any]
    occurred_at: datetime
    previous_hash: bytes
    event_hash: bytes


class Fault(StrEnum):
    """What is wrong with an event.

    edited: it is not what was recorded; dropped: it is missing; swapped: it stands in another's place; inserted: it
    was put between others; forked: two events follow the same one; rewritten: another event stood here when the
    chain was anchored; cut off: the chain was longer when it was anchored.
    """

    EDITED = "edited"
    DROPPED = "dropped"
    SWAPPED = "swapped"
    INSERTED = "inserted"
    FORKED = "forked"
    REWRITTEN = "rewritten"
    CUT_OFF = "cut off"


@dataclass(frozen=True)
class Break:
    """The first event of a chain that cannot be trusted, and why."""

    sequence: int
    fault: Fault
    reason: str


@dataclass(frozen=True)
class Verification:
    """How far a business's chain is sound: its first `events` events, the last with the hash `head` (hex)."""

    business_id: str
    events: int
    head: str
    broken: Break | None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with the whole chain."""
        return self.broken is None


def append(
    connection: psycopg.Connection[Any],
    business_id: str,
    event_type: str,
    subject: str,
    details: Mapping[str, Any],
    actor: str = "finance-os",
) -> AuditEvent:
    """Record an event at the end of the business's chain, in the transaction that is open on `connection`.

    The event exists when the caller's transaction commits; until then other events of the same business wait, so
    append late. `details` are JSON values (`canonical_json`) and hold external IDs and counts, no personal data:
    what looks like an e-mail address or a secret raises `UnfitForAudit`. The transaction must be READ COMMITTED;
    at a stricter level an append that had to wait fails with a unique violation rather than forking the chain.
    """
    recorded = {"event_type": event_type, "subject": subject, "actor": actor, "details": dict(details)}
    _refuse_unfit(recorded, "event")
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"finance_os/audit/{business_id}",))
        # A statement of its own: its snapshot has to be taken after the lock was granted.
        cursor.execute(
            """
            SELECT coalesce(last.sequence, 0) + 1, coalesce(last.event_hash, %(none)s),
                   to_char(clock_timestamp() AT TIME ZONE 'UTC', %(time)s)
            FROM (VALUES (true)) AS one LEFT JOIN (
                SELECT sequence, event_hash FROM finance_os.finance_audit_events
                WHERE business_id = %(business_id)s ORDER BY sequence DESC LIMIT 1
            ) AS last ON true
            """,
            {"none": NO_PREDECESSOR, "time": _TIME, "business_id": business_id},
        )
        row = cursor.fetchone()
        assert row is not None
        sequence, previous_hash, occurred_at = row
        canonical = _canonical(
            recorded | {"business_id": business_id, "sequence": sequence, "occurred_at": occurred_at}, previous_hash
        )
        event_hash = hashlib.sha256(canonical).digest()
        cursor.execute(
            """
            INSERT INTO finance_os.finance_audit_events
                (business_id, sequence, event_type, subject, actor, details, occurred_at,
                 canonical, previous_hash, event_hash)
            VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s::timestamptz, %s, %s, %s)
            """,
            (
                business_id,
                sequence,
                event_type,
                subject,
                actor,
                canonical_json(recorded["details"]).decode(),
                occurred_at,
                canonical,
                previous_hash,
                event_hash,
            ),
        )
    return AuditEvent(
        business_id,
        sequence,
        event_type,
        subject,
        actor,
        recorded["details"],
        datetime.fromisoformat(occurred_at),
        previous_hash,
        event_hash,
    )


def actor_of(login: str) -> str:
    """What the chain calls a login: where people log in by e-mail address, which it must not keep, a hash of it."""
    return f"login:{hashlib.sha256(login.encode()).hexdigest()[:12]}" if "@" in login else login


def current_anchor(database: Database, business_id: str) -> Anchor:
    """The business's chain as it stands, committed events only; of no events, if nothing was recorded yet."""
    (row,) = database.fetch(
        """
        SELECT clock_timestamp() AS now, last.sequence, encode(last.event_hash, 'hex') AS head
        FROM (VALUES (true)) AS one LEFT JOIN (
            SELECT sequence, event_hash FROM finance_os.finance_audit_events
            WHERE business_id = %s ORDER BY sequence DESC LIMIT 1
        ) AS last ON true
        """,
        (business_id,),
    )
    head = row["head"] or NO_PREDECESSOR.hex()
    return Anchor(business_id, row["sequence"] or 0, head, row["now"].astimezone(UTC))


def verify(database: Database, business_id: str, anchors: Iterable[Anchor] = ()) -> Verification:
    """Recompute the whole chain of a business, and name the first event that cannot be trusted.

    `anchors` must have been read before the call; without them a tail that was cut off, or a chain that was written
    anew from some event on, cannot be told from a genuine one. Memory does not grow with the chain.
    """
    anchored: dict[int, set[str]] = {}
    for anchor in anchors:
        if anchor.business_id != business_id:
            raise ValueError(f"an anchor of business {anchor.business_id!r} says nothing about {business_id!r}")
        anchored.setdefault(anchor.count, set()).add(anchor.head)
    with (
        database.transaction() as connection,
        connection.cursor("audit_events", row_factory=class_row(_Stored)) as rows,
    ):
        rows.itersize = _PAGE
        rows.execute(
            """
            SELECT business_id, sequence, event_type, subject, actor, details::text AS details,
                   to_char(occurred_at AT TIME ZONE 'UTC', %s) AS occurred_at,
                   canonical, previous_hash, event_hash
            FROM finance_os.finance_audit_events WHERE business_id = %s ORDER BY sequence
            """,
            (_TIME, business_id),
        )
        return _walk(rows, _Chain(connection, business_id), anchored)


@dataclass(frozen=True)
class _Stored:
    """A row as it stands: `details` as JSON text, `occurred_at` as text in UTC."""

    business_id: str
    sequence: int
    event_type: str
    subject: str
    actor: str
    details: str
    occurred_at: str | None
    canonical: bytes
    previous_hash: bytes
    event_hash: bytes


@dataclass(frozen=True)
class _Chain:
    """Look-ups that explain a break."""

    connection: psycopg.Connection[Any]
    business_id: str

    def place_of(self, event_hash: bytes) -> int | None:
        """Where the first event with this hash stands."""
        return self._one(
            "SELECT min(sequence) FROM finance_os.finance_audit_events WHERE business_id = %s AND event_hash = %s",
            event_hash,
        )

    def hash_at(self, sequence: int) -> bytes | None:
        """The hash of the event that stands at `sequence`."""
        if sequence == 0:
            return NO_PREDECESSOR
        return self._one(
            "SELECT event_hash FROM finance_os.finance_audit_events WHERE business_id = %s AND sequence = %s LIMIT 1",
            sequence,
        )

    def _one(self, query: LiteralString, value: Any) -> Any:
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(query, (self.business_id, value)).fetchone()
        return None if row is None else row[0]


def _walk(rows: Iterable[_Stored], chain: _Chain, anchored: Mapping[int, set[str]]) -> Verification:
    count, head, vouched = 0, NO_PREDECESSOR, 0
    for stored in rows:
        found = _break_before(stored, count) or _edit(stored) or _wrong_place(stored, chain)
        if found is None and stored.previous_hash != head:
            found = _wrong_link(stored, chain, vouched)
        heads = anchored.get(stored.sequence)
        if found is None and heads and heads != {stored.event_hash.hex()}:
            found = Break(
                stored.sequence,
                Fault.REWRITTEN,
                f"event {stored.sequence} was another one when the chain was anchored there: "
                f"it was written anew from some event after event {vouched} on",
            )
        if found is not None:
            sound = found.sequence - 1
            return Verification(chain.business_id, sound, (chain.hash_at(sound) or head).hex(), found)
        count, head = stored.sequence, stored.event_hash
        vouched = count if heads else vouched
    longest = max(anchored, default=0)
    cut = None
    if longest > count:
        reason = f"event {count + 1} is missing: the chain had {longest} when it was anchored, and ends at {count}"
        cut = Break(count + 1, Fault.CUT_OFF, reason)
    return Verification(chain.business_id, count, head.hex(), cut)


def _break_before(stored: _Stored, count: int) -> Break | None:
    """Whether events are missing before this one, or a second one stands in the same place."""
    if stored.sequence == count + 1:
        return None
    if stored.sequence <= count:
        return Break(stored.sequence, Fault.FORKED, f"there are two events {stored.sequence}")
    missing = (
        f"event {count + 1} is" if stored.sequence == count + 2 else f"events {count + 1} to {stored.sequence - 1} are"
    )
    return Break(count + 1, Fault.DROPPED, f"{missing} missing before event {stored.sequence}")


def _edit(stored: _Stored) -> Break | None:
    """Whether the event's hash, canonical bytes and columns disagree in more than its place."""
    if hashlib.sha256(stored.canonical).digest() != stored.event_hash:
        return Break(
            stored.sequence, Fault.EDITED, f"event {stored.sequence} does not have the hash of its canonical bytes"
        )
    differing = [name for name in _differing(stored) if name != "sequence"]
    if differing:
        reason = f"event {stored.sequence} differs from its canonical bytes in {', '.join(differing)}"
        return Break(stored.sequence, Fault.EDITED, reason)
    return None


def _wrong_place(stored: _Stored, chain: _Chain) -> Break | None:
    """Whether an event that is genuine in itself was recorded at another place of the chain."""
    recorded = decode(stored.canonical)["sequence"]
    if recorded == stored.sequence:
        return None
    if type(recorded) is not int:
        return Break(stored.sequence, Fault.EDITED, f"event {stored.sequence} has no number in its canonical bytes")
    reason = f"event {stored.sequence} was recorded as event {recorded}"
    if recorded < stored.sequence and chain.hash_at(recorded - 1) == stored.previous_hash:
        return Break(recorded, Fault.INSERTED, f"{reason}: what stands from event {recorded} on was put before it")
    if recorded > stored.sequence and chain.place_of(stored.previous_hash) is None:
        return Break(stored.sequence, Fault.DROPPED, f"{reason}: what stood before it is missing")
    return Break(stored.sequence, Fault.SWAPPED, reason)


def _wrong_link(stored: _Stored, chain: _Chain, vouched: int) -> Break:
    """Why an event that is genuine in itself does not follow the one before it; those up to `vouched` are anchored."""
    sequence, before = stored.sequence, stored.sequence - 1
    followed = 0 if stored.previous_hash == NO_PREDECESSOR else chain.place_of(stored.previous_hash)
    if followed is not None:
        after = f"event {followed}" if followed else "nothing"
        return Break(sequence, Fault.FORKED, f"event {sequence} follows {after} instead of event {before}")
    if before > vouched:
        reason = f"event {sequence} was recorded after another event {before} than the one that stands here"
        return Break(before, Fault.EDITED, reason)
    return Break(sequence, Fault.EDITED, f"event {sequence} was recorded after an event that never was event {before}")


def _canonical(recorded: Mapping[str, Any], previous_hash: bytes) -> bytes:
    return canonical_json({**recorded, "previous_hash": previous_hash.hex()})


def _differing(stored: _Stored) -> list[str]:
    """The columns that disagree with the canonical bytes; `["canonical"]` if those are not an event's."""
    columns = {
        "business_id": stored.business_id,
        "sequence": stored.sequence,
        "event_type": stored.event_type,
        "subject": stored.subject,
        "actor": stored.actor,
        "occurred_at": stored.occurred_at,
    }
    try:
        details = decode(stored.details)
        if _canonical({**columns, "details": details}, stored.previous_hash) == stored.canonical:
            return []
        columns |= {"details": details, "previous_hash": stored.previous_hash.hex()}
        recorded = decode(stored.canonical)
    except Uncanonical:
        return ["canonical"]
    if not isinstance(recorded, dict) or set(recorded) != set(columns):
        return ["canonical"]
    differing = [name for name in sorted(columns) if canonical_json(columns[name]) != canonical_json(recorded[name])]
    return differing or ["canonical"]


def _refuse_unfit(value: Any, path: str) -> None:
    for where, text in _texts(value, path):
        for what, pattern in _UNFIT.items():
            if pattern.search(text):
                raise UnfitForAudit(f"{where} looks like {what}: audit events hold external IDs and counts only")


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text in `value`, keys too, with where it stands."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"a key of {path}", str(key)
            yield from _texts(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for n, item in enumerate(value):
            yield from _texts(item, f"{path}[{n}]")
