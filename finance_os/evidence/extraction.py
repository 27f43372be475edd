"""What a source hands over to be staged: pages of records, counts that prove them complete, and notices.

A source's `extract` yields these lazily. Nothing here knows a vendor or the database.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

import msgspec

from finance_os.evidence.windows import Days, Window


class Kind(StrEnum):
    """How a sync run reads.

    window: what was created or changed in the window; snapshot: all there is now, so that removals are found;
    targeted: single objects, asked for by ID; drop: a file that was handed in.
    """

    WINDOW = "window"
    SNAPSHOT = "snapshot"
    TARGETED = "targeted"
    DROP = "drop"


class DayState(StrEnum):
    """How much of a day a read could see.

    whole: the day was over; created: likewise, but the source only tells what was created in it, not what changed;
    partial: the day was not over; unobservable: the source no longer tells.
    """

    WHOLE = "whole"
    CREATED = "created"
    PARTIAL = "partial"
    UNOBSERVABLE = "unobservable"


class Record(msgspec.Struct, frozen=True, gc=False):
    """One object as the source gave it.

    `payload` holds JSON values only, with `Decimal` for fractions; `None` says that the source has removed the
    object. `day` is the partition it belongs to. `version` is the source's own order of versions (a counter, or
    its updated time in microseconds); without one, versions are ordered by when their page was requested.
    """

    source_id: str
    payload: dict[str, Any] | None
    day: date
    version: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    provenance: int | str | None = None


class Page(msgspec.Struct, frozen=True):
    """Records of one answer, in the source's order.

    `requested_at` is when the answer was asked for, on the database's clock (`Request.now`); for a file that was
    handed in, when it was received. `resume` is where a
    crashed read can go on after this page, any JSON; `None` where the read must begin anew. `cursor` is where the
    next read of the same object goes on, for vendors that tell what changed since: any JSON, saved with the page.
    `provenance` is what the page's records have in common (a file, a query).
    """

    records: list[Record]
    requested_at: datetime
    resume: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None
    cursor: dict[str, Any] | None = None


class RemoteCount(msgspec.Struct, frozen=True):
    """How many records the source itself says there are, by day; days that are not named have none."""

    by_day: dict[date, int]


class Notice(msgspec.Struct, frozen=True):
    """Something a reader of this evidence should know, in one sentence without personal data."""

    text: str


class Severity(StrEnum):
    """How much a finding matters: an open `high` or `critical` one keeps gates shut."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Finding(msgspec.Struct, frozen=True):
    """Something wrong in what was read, kept as a finance exception until a later read no longer finds it.

    `code` is machine-readable, `subject` is made of external IDs, `day` is a partition of the read, `detail` is a
    sentence without personal data.
    """

    code: str
    severity: Severity
    subject: str
    day: date
    detail: str


Item = Page | RemoteCount | Notice | Finding


class Held(Protocol):
    """What is already staged of the object that is being read, for sources that must look again."""

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:
        """Source IDs of current records whose payload has `value` at `path`, in order."""
        ...

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:
        """Source IDs of current records whose payload's text at `path` lies in `first`..`last`, in order."""
        ...

    def ids_read_since(self, moment: datetime) -> list[str]:
        """Source IDs that pages asked for after `moment` showed (files: received after it), in order."""
        ...

    def requests_since(self, moment: datetime) -> int:
        """How many requests sync runs that progressed since `moment` have sent through this connection."""
        ...


@dataclass(frozen=True)
class Request:
    """What one sync run is to read.

    `window` are the bounds of `days` in `zone`, cut off at the present. `resume` is the checkpoint of a crashed
    read of the same thing, if there is one. `cursor` is what the last committed page of this connection and object
    left as its cursor. `now` gives the time on the database's clock. `targets` are source
    IDs for a targeted read, or drops (`sources.drops.Target`).
    """

    kind: Kind
    days: Days
    window: Window
    zone: ZoneInfo
    now: Callable[[], datetime]
    held: Held
    resume: Mapping[str, Any] | None = None
    targets: tuple[str, ...] = ()
    cursor: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Extraction:
    """A lazy read: `items` are drawn while they are staged; `requested` counts what was sent to the vendor.

    `findings_cover` says what an earlier finding must lie in to count as gone when it is not found again: the days of
    this read, or the whole object.
    """

    items: Iterable[Item]
    requested: Callable[[], Mapping[str, int]] = field(default=dict)
    api_version: str | None = None
    query_name: str | None = None
    query_version: str | None = None
    findings_cover: Literal["days", "object"] = "days"

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


class SourceError(Exception):
    """A read that failed, with a code to act on and a sentence without secrets or personal data.

    `permanent` failures (a wrong key, a missing scope) are not tried again.
    """

    def __init__(self, code: str, message: str, *, permanent: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.permanent = permanent
