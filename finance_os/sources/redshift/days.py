"""The days of a request as half-open UTC windows, computed here: Redshift's time zone data has no say in them."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from finance_os.evidence.canonical import canonical_json
from finance_os.evidence.extraction import Request
from finance_os.evidence.windows import Window, start_of_day
from finance_os.sources.sql_queries import SqlQuery

Part = TypeVar("Part")


@dataclass(frozen=True)
class DayWindow:
    """A business day and the part of it that has passed."""

    day: date
    window: Window


def day_windows(request: Request) -> list[DayWindow]:
    """The days of a request that have begun and are not empty, in order."""
    windows = (
        DayWindow(
            day,
            Window(
                start_of_day(day, request.zone),
                min(start_of_day(day + timedelta(days=1), request.zone), request.window.end),
            ),
        )
        for day in request.days
    )
    return [each for each in windows if each.window.start < each.window.end]


def in_parts(items: Sequence[Part], size: int) -> Iterator[Sequence[Part]]:
    """`items` cut into pieces of `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def utc_text(moment: datetime) -> str:
    """A moment as payloads and provenance hold it, with microseconds: text that compares as the moments do."""
    return f"{moment.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"


def provenance(query: SqlQuery, window: Window, payloads: Iterable[Any], rows: int) -> dict[str, Any]:
    """How a page's records came about: the query, its bounds, and how many rows with which hash it gave.

    `aggregate_hash` is the SHA-256 over the canonical JSON of the payloads in the page's order, one a line.
    """
    digest = hashlib.sha256()
    for payload in payloads:
        digest.update(canonical_json(payload) + b"\n")
    return {
        "query": query.name,
        "version": query.version,
        "checksum": query.checksum,
        "window": {"start": utc_text(window.start), "end": utc_text(window.end)},
        "rows": rows,
        "aggregate_hash": digest.hexdigest(),
    }
