"""What a source is: the declaration from which assets, checks, schedules, docs and plans are derived.

To add a vendor, write a module beside this one that ends in a `Source`, and name it in `registry.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar

from finance_os.evidence.canonical import parse_path
from finance_os.evidence.extraction import DayState, Extraction, Request
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import Judge
from finance_os.sources.guard import Get, Post, Query, Take

IDEMPOTENCY_KEY = "source_system + object_type + source_id + payload_hash"
"""The key of the raw-record contract, within a business. The same for every source."""


Detail = TypeVar("Detail")


class Cadence(StrEnum):
    """daily: read by the daily schedule; manual: read when somebody hands something in."""

    DAILY = "daily"
    MANUAL = "manual"


class Reads(StrEnum):
    """How a day of an object is read.

    window: the vendor tells what was created or changed in it; snapshot: the vendor only knows now, so a day is
    complete when it is read on that day; updated: as snapshot, and a past day is read by the updated time of what
    is still there; drop: a day is what files say of it.
    """

    WINDOW = "window"
    SNAPSHOT = "snapshot"
    UPDATED = "updated"
    DROP = "drop"


@dataclass(frozen=True)
class Column:
    """One documented field of a payload, for people and for the UI's column schema."""

    name: str
    type: str
    description: str = ""


@dataclass(frozen=True)
class SourceObject(Generic[Detail]):
    """One object type of a source.

    `label` is its short name in the plan's list of a connector's objects; one without is not listed there.
    `dated_by_drop` says that a file's rows belong to the day on which it was handed in, whatever they speak of: that
    day is whole as soon as the file is there.
    `columns` documents the fields that people look for (a payload may hold more). `shown` names those that may
    be printed: no names, no addresses, no free text. `volatile` fields change from read to read and say nothing:
    they are not kept (`"lines.data.*.url"` walks over a list). `settles` is a field and the value that it
    loses without any event; current records that still have it are read again. `changes_known_for` is how long the
    source tells what changed in a window; of older days it tells what `beyond` says. `detail` is the source's own.
    """

    object_type: str
    description: str
    detail: Detail
    label: str = ""
    reads: Reads = Reads.WINDOW
    columns: tuple[Column, ...] = ()
    shown: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    settles: tuple[str, str] | None = None
    changes_known_for: timedelta | None = None
    beyond: DayState = DayState.CREATED
    dated_by_drop: bool = False

    @property
    def volatile_paths(self) -> tuple[tuple[str, ...], ...]:
        """`volatile` as paths for `canonical.without_fields`."""
        return tuple(parse_path(path) for path in self.volatile)


@dataclass(frozen=True)
class EvidenceSource:
    """What readiness speaks of as one source of evidence: object types that are fresh together or not at all.

    `place` orders the list of all of them.
    """

    name: str
    title: str
    object_types: tuple[str, ...]
    place: int = 100


@dataclass(frozen=True)
class Source:
    """One source system.

    `order` is its place among the planned connectors; `None` for a source that is none. `read_scope` says in a
    sentence what it is allowed to see. `trailing_days` is how many past days the daily run reads again beside today.
    `credentials` are the names of the secrets that it cannot work without, `options` those of settings that it
    can, `feature_flag` the one of those that has to be on. `reads` is the whole of what it may ask for. `open` makes
    a guarded client from credentials; `extract` reads what a request asks for with it, lazily, and raises
    `SourceError`. A source that takes files also has `judge`, its verdict on one. `evidence` says what readiness
    counts as one source of evidence each; all its objects together, if nothing is said.
    """

    system: str
    title: str
    order: int | None
    description: str
    cadence: Cadence
    sla: timedelta
    credentials: tuple[str, ...]
    reads: tuple[Get | Post | Query | Take, ...]
    cursor_strategy: str
    evidence_policy: str
    objects: tuple[SourceObject[Any], ...]
    open: Callable[[Credentials], AbstractContextManager[Any]]
    extract: Callable[[Any, SourceObject[Any], Request], Extraction]
    options: tuple[str, ...] = ()
    feature_flag: str | None = None
    judge: Judge | None = None
    api_version: str | None = None
    kinds: tuple[str, ...] = ()
    read_scope: str = ""
    trailing_days: int = 1
    write_boundary: str = "Finance database only"
    evidence: tuple[EvidenceSource, ...] = ()

    @property
    def evidence_sources(self) -> tuple[EvidenceSource, ...]:
        """What readiness counts: as declared, else all objects together under the name of the first."""
        together = EvidenceSource(self.objects[0].object_type, self.title, tuple(obj.object_type for obj in self))
        return self.evidence or (together,)

    def __iter__(self) -> Iterator[SourceObject[Any]]:
        return iter(self.objects)

    def object(self, object_type: str) -> SourceObject[Any]:
        """The declaration of `object_type`; `KeyError` with the known ones if there is none."""
        for candidate in self.objects:
            if candidate.object_type == object_type:
                return candidate
        known = ", ".join(candidate.object_type for candidate in self.objects)
        raise KeyError(f"{self.system} has no object type {object_type!r}; it has {known}")
