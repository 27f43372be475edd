"""A connection's inbox: where it is, which of the files in it are drops, and which of them have settled."""

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from finance_os.evidence.businesses import Connection
from finance_os.sources.drops.stores import Folder, Stamp, open_store
from finance_os.sources.guard import Get, Post, Query, Take

MAX_BYTES = 32 * 1024 * 1024
"""Largest file that is read, unless the caller says otherwise."""

EMPTY_PATIENCE = 12
"""A file without a byte must have stayed so this many times as long as another: `> file.csv` makes one at once."""

_PLAIN_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

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
            ignored.append(Ignored(printable(name), reason))
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


def printable(name: str) -> str:
    """`name` with a mark for each character that cannot be printed."""
    return "".join(character if character.isprintable() else "�" for character in name)
