"""Drops: files that are handed in, found once they have settled, kept by their content, judged, and cleared away.

Each connection has an inbox of its own in the drop location, which is a folder or an `s3://bucket/prefix`:

    main/rho/                     of business "main" at "rho", account "default"
    main/rho/quarantined/         what was refused, each file with a report beside it
    main/rho@savings/             of another account
    .kept/4f/4f53cda18c2b…        every file that was ever read, named by the SHA-256 of its bytes

`take` keeps a copy, records the verdict in `finance_os.drops`, and only then clears the inbox. Wherever it stops,
taking the file again ends in the same state: a drop is known by its bytes, and nothing is removed that has changed
since it was read.
"""

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TypeAlias
from zoneinfo import ZoneInfo

import msgspec
from psycopg.types.json import Jsonb

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.evidence.windows import Days
from finance_os.sources.credentials import Credentials
from finance_os.sources.drop_stores import Folder, Stamp, Store, open_store
from finance_os.sources.guard import Get, Post, Query, Take

MAX_BYTES = 32 * 1024 * 1024
"""Largest file that is read, unless the caller says otherwise."""

MAX_PROBLEMS = 100
"""Most problems of one file that are listed; the rest is counted."""

EMPTY_PATIENCE = 12
"""A file without a byte must have stayed so this many times as long as another: `> file.csv` makes one at once."""

_PLAIN_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CONTENT_HASH = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".download", ".swp", "~")


@dataclass(frozen=True)
class DropFile:
    """A file in an inbox, as it was listed."""

    name: str
    stamp: Stamp

    @property
    def modified_at(self) -> datetime:
        """When the file says it was last written, in UTC."""
        return datetime.fromtimestamp(self.stamp.mtime_ns / 1e9, UTC)


@dataclass(frozen=True)
class Ignored:
    """Something in an inbox that is not going to be taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Inbox:
    """What lies in one connection's inbox: files in the order in which they were written, and what is no drop."""

    place: str
    waiting: tuple[DropFile, ...]
    ignored: tuple[Ignored, ...]


Observations: TypeAlias = dict[str, list[int | float | str]]
"""Name → size, modification time (ns), identity, and since when (Unix seconds) they are the same. Plain JSON."""


@dataclass(frozen=True)
class Problem:
    """One reason to refuse a file: where it is, a code, and in `message` what is wrong and what to do.

    `value` is shown in the file's report only, and is set for dates and amounts only: everything else in a
    finance file may be personal data.
    """

    code: str
    message: str
    row: int | None = None
    column: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class Accepted:
    """A file that can be staged: how many records it holds, and the first and last of their days."""

    rows: int
    first_day: date | None = None
    last_day: date | None = None


@dataclass(frozen=True)
class Quarantined:
    """A file that is refused as a whole: the first `MAX_PROBLEMS` problems, and how many there are."""

    problems: tuple[Problem, ...]
    count: int


Judged: TypeAlias = Accepted | Quarantined

Judge: TypeAlias = Callable[[bytes, str, ZoneInfo, Credentials], Judged]
"""A source's own verdict on a file: its bytes and name, the connection's time zone and credentials."""


class Verdict(StrEnum):
    """What was decided about a drop."""

    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Drop:
    """A row of `finance_os.drops`. `content_hash` is the SHA-256 of the file in hex."""

    business_id: str
    source_system: str
    connection_id: int
    content_hash: str
    file_name: str
    size_bytes: int
    verdict: Verdict
    row_count: int
    first_day: date | None
    last_day: date | None
    received_at: datetime
    judged_at: datetime

    @property
    def target(self) -> str:
        """This drop as one of a request's targets: see `Target`."""
        target = Target(self.content_hash, self.file_name, self.received_at)
        return msgspec.json.encode(target).decode()


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """A drop that is to be read. `received_at` orders what several drops say of one record."""

    drop: str
    file_name: str | None = None
    received_at: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> "Target":
        """A target from `Drop.target`, or from a content hash alone; `SourceError` (`bad_target`) for anything else."""
        try:
            target = cls(text) if _CONTENT_HASH.fullmatch(text) else msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError:
            target = None
        if target is None or not _CONTENT_HASH.fullmatch(target.drop):
            raise SourceError("bad_target", "a drop is named by the 64 hex digits of its SHA-256", permanent=True)
        return target


class Outcome(StrEnum):
    """What became of a file that was to be taken.

    accepted: it can be staged; quarantined: refused, see its report; duplicate: the same bytes were accepted
    before; changed: it is not what was listed any more and waits for the next look; gone: somebody else took it.
    """

    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True)
class Taken:
    """The end of one `take`. `report` is where a refused file's report lies."""

    outcome: Outcome
    file_name: str
    drop: Drop | None = None
    problems: tuple[Problem, ...] = ()
    report: str | None = None


def inbox_name(connection: Connection) -> str:
    """The inbox of a connection, below the drop location. No two connections have the same one."""
    account = connection.external_account
    if account == "default":
        suffix = ""
    elif _PLAIN_ACCOUNT.fullmatch(account):
        suffix = f"@{account}"
    else:  # readable, and different for accounts that differ in case or in what a folder cannot be called
        slug = re.sub(r"[^a-z0-9]+", "-", account.lower()).strip("-")[:40]
        suffix = f"@{slug}~{hashlib.sha256(account.encode()).hexdigest()[:12]}"
    return f"{connection.business_id}/{connection.source_system}{suffix}"


def prepare_inbox(location: str, connection: Connection) -> str:
    """Make the inbox of a connection, where that is a folder; its path or URL."""
    store = open_store(location)
    name = inbox_name(connection)
    if isinstance(store, Folder):
        store.make_folder(name)
    return store.shown(name)


def look(
    location: str, connection: Connection, reads: Sequence[Get | Post | Query | Take], *, max_bytes: int = MAX_BYTES
) -> Inbox:
    """What lies in the inbox of a connection, whose source takes what `reads` names.

    Raises `SourceError` (`drops_unreachable`) if S3 does not answer.
    """
    store = open_store(location)
    inbox = inbox_name(connection)
    patterns = [read.pattern for read in reads if isinstance(read, Take)]
    waiting: list[DropFile] = []
    ignored: list[Ignored] = []
    for name, stamp in store.entries(inbox):
        if stamp is None and name == "quarantined":
            continue
        reason = _why_not(name, stamp, patterns, max_bytes)
        if reason is None and stamp is not None:
            waiting.append(DropFile(name, stamp))
        elif reason is not None:
            ignored.append(Ignored(_printable(name), reason))
    waiting.sort(key=lambda file: (file.stamp.mtime_ns, file.name))
    ignored.sort(key=lambda item: item.name)
    return Inbox(store.shown(inbox), tuple(waiting), tuple(ignored))


def observe(files: Iterable[DropFile], now: datetime, previous: Observations | None = None) -> Observations:
    """What to remember of `files` until the next look: since when each has been the same."""
    observations: Observations = {}
    for file in files:
        seen = [file.stamp.size, file.stamp.mtime_ns, file.stamp.identity]
        before = (previous or {}).get(file.name)
        since = before[3] if before is not None and before[:3] == seen else now.timestamp()
        observations[file.name] = [*seen, since]
    return observations


def is_settled(file: DropFile, now: datetime, settle_seconds: float, observations: Observations | None = None) -> bool:
    """Whether a file has stayed the same for `settle_seconds`.

    By its modification time alone; with `observations` (of this look, from `observe`) also by what was seen of it,
    so that a file which is still growing waits whatever time it bears, and one from a clock that is ahead does not
    wait for its time to come.
    """
    present = now.timestamp()
    same_since = file.stamp.mtime_ns / 1e9
    if observations is not None:
        size, mtime_ns, identity, since = observations[file.name]
        if [size, mtime_ns, identity] != [file.stamp.size, file.stamp.mtime_ns, file.stamp.identity]:
            return False
        seen_since = float(since)
        same_since = seen_since if same_since > present else max(same_since, seen_since)
    patience = settle_seconds if file.stamp.size else settle_seconds * EMPTY_PATIENCE
    return present - same_since >= patience


def take(
    database: Database,
    connection: Connection,
    judge: Judge,
    file: DropFile,
    *,
    location: str,
    credentials: Credentials,
    max_bytes: int = MAX_BYTES,
) -> Taken:
    """Take one file out of the inbox of `connection`: keep it, judge it, record the verdict, clear the inbox.

    Raises what `judge` raises (a setting that is wrong is not the file's fault: the file stays), `SourceError`
    (`drops_unreachable`, `drop_too_large`), and database errors. The file is then taken again at the next look.
    """
    store = open_store(location)
    inbox = inbox_name(connection)
    key = f"{inbox}/{file.name}"
    try:
        data, stamp = store.read(key, max_bytes)
    except FileNotFoundError:
        return Taken(Outcome.GONE, file.name)
    if stamp != file.stamp:
        return Taken(Outcome.CHANGED, file.name)
    content_hash = hashlib.sha256(data).hexdigest()
    _keep(store, content_hash, data)
    if known := _accepted(database, connection, content_hash=content_hash):
        return _finish(store, inbox, file, Taken(Outcome.DUPLICATE, file.name, known[0]))
    judged = judge(data, file.name, connection.zone, credentials)
    drop = _record(database, connection, file, content_hash, judged)
    if drop is None:  # another process accepted it in this moment
        known = _accepted(database, connection, content_hash=content_hash)
        return _finish(store, inbox, file, Taken(Outcome.DUPLICATE, file.name, known[0]))
    if isinstance(judged, Accepted):
        return _finish(store, inbox, file, Taken(Outcome.ACCEPTED, file.name, drop))
    name = _quarantined_name(store, inbox, file.name, content_hash, data)
    report = f"{inbox}/quarantined/{name}.report.txt"
    store.write(report, _report(drop, connection, judged, store.shown(inbox)).encode())
    store.move(key, stamp, f"{inbox}/quarantined/{name}", data)
    return Taken(Outcome.QUARANTINED, file.name, drop, judged.problems, store.shown(report))


def read_kept(location: str, content_hash: str) -> bytes:
    """The bytes of a kept file, proved by their SHA-256 (`content_hash`, in hex).

    Raises `SourceError`: `kept_drop_missing`, `kept_drop_altered`, or `drops_unreachable`.
    """
    if not _CONTENT_HASH.fullmatch(content_hash):
        raise ValueError("a drop is named by the 64 hex digits of its SHA-256")
    store = open_store(location)
    try:
        data, _ = store.read(kept_as(content_hash), None)
    except FileNotFoundError:
        message = f"drop {content_hash[:12]} is not among the kept files: drop the file again, or restore .kept"
        raise SourceError("kept_drop_missing", message, permanent=True) from None
    if hashlib.sha256(data).hexdigest() != content_hash:
        message = f"the kept file of drop {content_hash[:12]} is not what was dropped: drop the file again"
        raise SourceError("kept_drop_altered", message, permanent=True)
    return data


def kept_as(content_hash: str) -> str:
    """Where the file with this SHA-256 (hex) is kept, below the drop location."""
    return f".kept/{content_hash[:2]}/{content_hash}"


def accepted_drops(
    database: Database, connection: Connection, *, days: Days | None = None, judged_since: datetime | None = None
) -> list[Drop]:
    """The accepted drops of a connection in the order received: all, those that touch `days`, or the latest ones."""
    drops = _accepted(database, connection, days=days, judged_since=judged_since)
    return [drop for drop in drops if drop.connection_id == connection.connection_id]


def _why_not(name: str, stamp: Stamp | None, patterns: Sequence[str], max_bytes: int) -> str | None:
    """Why something in an inbox is not a drop; `None` if it is one."""
    if not name.isprintable():
        return "its name has characters that cannot be printed: rename it"
    if name.startswith((".", "~")) or name.lower().endswith(_UNFINISHED):
        return "its name says that it is hidden or not finished"
    if stamp is None:
        return "it is not a plain file"
    if not any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns):
        return f"its name does not match {' or '.join(patterns)}"
    if stamp.size > max_bytes:
        return f"it is {stamp.size:,} bytes; the most that is read is {max_bytes:,}: split it"
    return None


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in name)


def _keep(store: Store, content_hash: str, data: bytes) -> None:
    """Keep `data` by its hash; a copy that was cut off or altered is replaced."""
    key = kept_as(content_hash)
    with suppress(FileNotFoundError):
        kept, _ = store.read(key, None)
        if kept == data:
            return
    store.write(key, data)


def _finish(store: Store, inbox: str, file: DropFile, taken: Taken) -> Taken:
    """Clear away an accepted file, and what is left of an earlier refusal of the same bytes."""
    assert taken.drop is not None
    content_hash = taken.drop.content_hash
    for name in _quarantined_names(file.name, content_hash):
        refused = f"{inbox}/quarantined/{name}"
        with suppress(FileNotFoundError):
            text, stamp = store.read(f"{refused}.report.txt", None)
            if content_hash.encode() in text:
                store.remove(f"{refused}.report.txt", stamp)
        with suppress(FileNotFoundError):
            data, stamp = store.read(refused, None)
            if hashlib.sha256(data).hexdigest() == content_hash:
                store.remove(refused, stamp)
    store.remove(f"{inbox}/{file.name}", file.stamp)
    return taken


def _quarantined_names(name: str, content_hash: str) -> tuple[str, str]:
    """What a refused file is called: as it was, or with its hash where another of that name lies already."""
    path = PurePosixPath(name)
    return name, f"{path.stem}.{content_hash[:12]}{path.suffix}"


def _quarantined_name(store: Store, inbox: str, name: str, content_hash: str, data: bytes) -> str:
    plain, distinct = _quarantined_names(name, content_hash)
    try:
        lying, _ = store.read(f"{inbox}/quarantined/{plain}", None)
    except FileNotFoundError:
        return plain
    return plain if lying == data else distinct


def _accepted(
    database: Database,
    connection: Connection,
    *,
    content_hash: str | None = None,
    days: Days | None = None,
    judged_since: datetime | None = None,
) -> list[Drop]:
    """Accepted drops of the connection's business at its source, whichever connection they came through."""
    rows = database.fetch(
        """
        SELECT business_id, source_system, connection_id, encode(content_hash, 'hex') AS content_hash, file_name,
               size_bytes, verdict, row_count, first_day, last_day, received_at, judged_at
        FROM finance_os.drops
        WHERE business_id = %(business_id)s AND source_system = %(source_system)s AND verdict = 'accepted'
          AND (%(content_hash)s::bytea IS NULL OR content_hash = %(content_hash)s)
          AND (%(first)s::date IS NULL OR first_day <= %(last)s::date AND last_day >= %(first)s)
          AND (%(judged_since)s::timestamptz IS NULL OR judged_at >= %(judged_since)s)
        ORDER BY received_at, content_hash
        """,
        {
            "business_id": connection.business_id,
            "source_system": connection.source_system,
            "content_hash": bytes.fromhex(content_hash) if content_hash else None,
            "first": days.first if days else None,
            "last": days.last if days else None,
            "judged_since": judged_since,
        },
    )
    return [Drop(**{**row, "verdict": Verdict(row["verdict"])}) for row in rows]


def _record(
    database: Database, connection: Connection, file: DropFile, content_hash: str, judged: Judged
) -> Drop | None:
    """Write the verdict; `None` if the drop was accepted meanwhile, which stands."""
    accepted = judged if isinstance(judged, Accepted) else Accepted(0)
    refused = judged if isinstance(judged, Quarantined) else Quarantined((), 0)
    verdict = Verdict.ACCEPTED if accepted is judged else Verdict.QUARANTINED
    report = {
        "problem_count": refused.count,
        "problems": [{"row": item.row, "column": item.column, "code": item.code} for item in refused.problems],
    }
    with database.transaction() as transaction:
        row = transaction.execute(
            """
            INSERT INTO finance_os.drops AS known
                (business_id, source_system, content_hash, connection_id, file_name, size_bytes, kept_as, verdict,
                 report, row_count, first_day, last_day)
            VALUES (%(business_id)s, %(source_system)s, %(content_hash)s, %(connection_id)s, %(file_name)s,
                    %(size_bytes)s, %(kept_as)s, %(verdict)s, %(report)s, %(row_count)s, %(first_day)s, %(last_day)s)
            ON CONFLICT (business_id, source_system, content_hash) DO UPDATE
            SET connection_id = excluded.connection_id, file_name = excluded.file_name, verdict = excluded.verdict,
                report = excluded.report, row_count = excluded.row_count, first_day = excluded.first_day,
                last_day = excluded.last_day, judged_at = now()
            WHERE known.verdict = 'quarantined'
            RETURNING received_at, judged_at
            """,
            {
                "business_id": connection.business_id,
                "source_system": connection.source_system,
                "content_hash": bytes.fromhex(content_hash),
                "connection_id": connection.connection_id,
                "file_name": file.name,
                "size_bytes": file.stamp.size,
                "kept_as": kept_as(content_hash),
                "verdict": verdict,
                "report": Jsonb(report),
                "row_count": accepted.rows,
                "first_day": accepted.first_day,
                "last_day": accepted.last_day,
            },
        ).fetchone()
    if row is None:
        return None
    return Drop(
        business_id=connection.business_id,
        source_system=connection.source_system,
        connection_id=connection.connection_id,
        content_hash=content_hash,
        file_name=file.name,
        size_bytes=file.stamp.size,
        verdict=verdict,
        row_count=accepted.rows,
        first_day=accepted.first_day,
        last_day=accepted.last_day,
        received_at=row["received_at"],
        judged_at=row["judged_at"],
    )


def _report(drop: Drop, connection: Connection, judged: Quarantined, inbox: str) -> str:
    """Why a file was refused, for the person who handed it in."""
    lines = [
        "This file was refused. Nothing in it was staged.",
        "",
        f"File       {drop.file_name}",
        f"Source     {connection.source_system}, account {connection.external_account}, of {connection.business_id}",
        f"SHA-256    {drop.content_hash}",
        f"Received   {drop.received_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "",
        f"Problems   {judged.count}"
        + (f", of which the first {len(judged.problems)}" if judged.count > len(judged.problems) else ""),
        "",
    ]
    for problem in judged.problems:
        where = [f"row {problem.row}"] if problem.row is not None else []
        where += [f'column "{problem.column}"'] if problem.column is not None else []
        shown = f" ({problem.value[:40]!r})" if problem.value is not None else ""
        lines.append(f"  {', '.join(where) or 'the file'}{shown}: {problem.message} [{problem.code}]")
    lines += [
        "",
        "What to do",
        f"  Correct the file, or export it again, and drop it into {inbox}",
        "  If the file is right and the names of its columns or its date format are not those that are expected,",
        "  correct the source's setting and move this file back to where it was dropped.",
        "",
    ]
    return "\n".join(lines)
