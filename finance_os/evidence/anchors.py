"""Audit anchors: how long each business's audit chain was, and its head, kept outside the database.

A chain alone cannot tell that its tail was cut off, or that it was written anew from some event on. An anchor can.
In a folder, a business's anchors are the lines of one file; under an `s3://` prefix each is an object of its own.
"""

import fcntl
import os
import re
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finance_os.evidence.canonical import Uncanonical, canonical_json, decode

if TYPE_CHECKING:
    from cloudpathlib import CloudPath

_BUSINESS = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_HEAD = re.compile(r"[0-9a-f]{64}")


class DamagedAnchor(ValueError):
    """Something stands where an anchor should be that no anchor was ever written as."""


@dataclass(frozen=True)
class Anchor:
    """A business's audit chain at a moment: `count` events, the last of which has the hash `head` (64 hex digits)."""

    business_id: str
    count: int
    head: str
    at: datetime

    def __post_init__(self) -> None:
        if not _BUSINESS.fullmatch(self.business_id):
            raise ValueError(f"{self.business_id!r} is not a business ID")
        if type(self.count) is not int or self.count < 0:
            raise ValueError(f"an anchor counts events, not {self.count!r}")
        if not _HEAD.fullmatch(self.head):
            raise ValueError(f"an anchor's head is 64 hex digits, not {self.head!r}")
        if self.at.tzinfo is None:
            raise ValueError("an anchor's time needs a time zone")


@dataclass(frozen=True)
class Anchors:
    """What was read: a business's anchors in the order written, and what a reader should know about them."""

    anchors: tuple[Anchor, ...]
    notices: tuple[str, ...] = ()


def write(location: str, anchor: Anchor) -> None:
    """Keep `anchor` in the folder or under the `s3://` prefix `location`; on disk when this returns.

    On S3 an anchor of the same count and head is kept once, and nothing is ever overwritten.
    """
    if cloud := _cloud(location):
        kept = cloud / anchor.business_id / f"{anchor.count:020}-{anchor.head}.json"
        if not kept.exists():
            kept.write_bytes(_line(anchor))
    else:
        _append(Path(location) / f"{anchor.business_id}.jsonl", _line(anchor))


def read(location: str, business_id: str) -> Anchors:
    """The anchors of a business in `location`; none where nothing was written.

    A line that a crash cut short was never acknowledged: it is left out, with a notice. Anything else that is no
    anchor of this business raises `DamagedAnchor`.
    """
    if not _BUSINESS.fullmatch(business_id):
        raise ValueError(f"{business_id!r} is not a business ID")
    if cloud := _cloud(location):
        kept = sorted((cloud / business_id).glob("*.json"), key=lambda path: path.name)
        return Anchors(tuple(_parsed(path.read_bytes(), business_id, str(path)) for path in kept))
    path = Path(location) / f"{business_id}.jsonl"
    if not path.exists():
        return Anchors(())
    *lines, torn = path.read_bytes().split(b"\n")
    anchors = tuple(_parsed(line, business_id, f"{path} line {n}") for n, line in enumerate(lines, start=1))
    notice = f"{path} ends in the middle of a line, which was left out: a crash cut it short"
    return Anchors(anchors, (notice,) if torn else ())


def _cloud(location: str) -> "CloudPath | None":
    """`location` as a prefix of an object store; `None` if it is a folder."""
    if "://" not in location:
        return None
    from cloudpathlib import AnyPath, CloudPath  # half a second that nobody needs who keeps anchors in a folder

    place = AnyPath(location)
    assert isinstance(place, CloudPath)
    return place


def _line(anchor: Anchor) -> bytes:
    at = anchor.at.astimezone(UTC).isoformat(timespec="microseconds")
    return canonical_json({**asdict(anchor), "at": at})


def _parsed(line: bytes, business_id: str, where: str) -> Anchor:
    try:
        value: Any = decode(line)
        if not isinstance(value, dict) or set(value) != {field.name for field in fields(Anchor)}:
            raise DamagedAnchor(f"{where} is not an anchor")
        anchor = Anchor(**{**value, "at": datetime.fromisoformat(value["at"])})
    except (Uncanonical, TypeError, ValueError) as error:
        raise DamagedAnchor(f"{where} is not an anchor") from error
    if anchor.business_id != business_id:
        raise DamagedAnchor(f"{where} is an anchor of business {anchor.business_id!r}, not of {business_id!r}")
    return anchor


def _append(path: Path, line: bytes) -> None:
    """Add a line, alone in the file, taking off first what a crash left of another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.write(line + b"\n")
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
