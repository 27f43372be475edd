"""Judging a workbook, and reading the kept ones as records."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from finance_os.evidence.extraction import Extraction, Item, Notice, Page, Record, RemoteCount, Request, SourceError
from finance_os.evidence.windows import Days, day_of
from finance_os.settings import settings
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import Accepted, Judged, Quarantined, Target, read_kept
from finance_os.sources.source import SourceObject
from finance_os.sources.xlsx.baseline import Baseline, read_baseline
from finance_os.sources.xlsx.columns import AMOUNTS, COLUMNS_SETTING, Columns
from finance_os.sources.xlsx.doubts import Doubts, Named, named
from finance_os.sources.xlsx.problems import Problems

PAGE_ROWS = 1_000

FIRST_MONTH = date(2000, 1, 1)
"""Earlier months are typing errors. Months may be older than the first day that is kept: they are history."""


@dataclass(frozen=True)
class XlsxReader:
    """Reads kept drops from `location`, and counts them."""

    location: str
    columns: Columns
    reads: Counter[str] = field(default_factory=Counter)

    def drop(self, content_hash: str) -> bytes:
        """The bytes of a drop; raises as `drops.read_kept`."""
        self.reads["READ drops"] += 1
        return read_kept(self.location, content_hash)


@contextmanager
def open_reader(credentials: Credentials) -> Iterator[XlsxReader]:
    """A reader of the installation's drops with the column map in force."""
    yield XlsxReader(settings().drops_location, Columns.read(credentials.get(COLUMNS_SETTING)))


def judge(data: bytes, file_name: str, zone: ZoneInfo, credentials: Credentials) -> Judged:  # noqa: ARG001
    """The verdict on a workbook: accepted as a whole on the present day in `zone`, or every reason against it.

    Months lie between `FIRST_MONTH` and the end of next year. Raises `SourceError` (`setting_invalid`) if the column
    map is not one.
    """
    columns = Columns.read(credentials.get(COLUMNS_SETTING))
    today = day_of(datetime.now(UTC), zone)
    problems = Problems()
    baseline = read_baseline(data, columns, problems, (FIRST_MONTH, date(today.year + 1, 12, 1)))
    if problems.count:
        return Quarantined(tuple(problems.listed), problems.count)
    return Accepted(len(baseline.rows), today, today)


def extract(reader: XlsxReader, obj: SourceObject[None], request: Request) -> Extraction:  # noqa: ARG001
    """The baselines of the drops in `request.targets`, on the day each was accepted, the oldest drop first.

    A target is a content hash, or a `drops.Target`. A page bears the time its drop was received: a drop that is read
    again never overtakes one that came after it. Raises `SourceError`: `kept_drop_missing`, `kept_drop_altered`,
    `drops_unreachable`, `drop_not_readable`.
    """
    return Extraction(_items(reader, request), requested=lambda: dict(reader.reads), findings_cover="object")


def _items(reader: XlsxReader, request: Request) -> Iterator[Item]:
    now = request.now()
    targets = sorted(
        ((target.received_at or now, target) for target in map(Target.parse, request.targets)),
        key=lambda pair: (pair[0], pair[1].drop),
    )
    doubts = Doubts(request.held)
    counted: Counter[date] = Counter()
    day = request.days.last
    for received_at, target in targets:
        baseline = _kept_baseline(reader, target)
        day = _day_of(target, received_at, request)
        rows = named(baseline.rows)
        counted[day] += len(rows)
        yield from _pages(rows, doubts, target, received_at, day)
        if gone := doubts.pass_over(rows, target.drop, received_at):
            yield Page([Record(source_id, None, day) for source_id in gone], received_at)
        yield from (Notice(f"Drop {target.drop[:12]}: {notice}") for notice in baseline.notices)
    yield from doubts.findings(day)
    yield RemoteCount(dict(counted))


def _day_of(target: Target, received_at: datetime, request: Request) -> date:
    """The partition of a drop: the day of its verdict, which may be long after it came; or the nearest that is read.

    A target that does not tell the verdict's day stands on the day it was received.
    """
    days: Days = request.days
    return min(max(target.first_day or day_of(received_at, request.zone), days.first), days.last)


def _kept_baseline(reader: XlsxReader, target: Target) -> Baseline:
    problems = Problems()
    baseline = read_baseline(reader.drop(target.drop), reader.columns, problems)
    if problems.count:
        first = problems.listed[0]
        where = f"row {first.row}, " if first.row is not None else ""
        raise SourceError(
            "drop_not_readable",
            f"drop {target.drop[:12]} was accepted and cannot be read any more ({where}{first.code}): "
            f"{COLUMNS_SETTING} has changed since; set it so that this file can be read too",
            permanent=True,
        )
    return baseline


def _pages(rows: list[Named], doubts: Doubts, target: Target, received_at: datetime, day: date) -> Iterator[Page]:
    """Pages of one sheet each: a row's number says where on it."""
    start = 0
    while start < len(rows):
        sheet = rows[start].row.sheet
        end = start + 1
        while end < len(rows) and rows[end].row.sheet is sheet and end - start < PAGE_ROWS:
            end += 1
        provenance = {"drop": target.drop} | ({"file_name": target.file_name} if target.file_name else {})
        records = [
            Record(each.source_id, _payload(each, doubts, received_at), day, provenance=each.row.row)
            for each in rows[start:end]
        ]
        yield Page(records, received_at, provenance={**provenance, "sheet": sheet.name})
        start = end


def _payload(each: Named, doubts: Doubts, received_at: datetime) -> dict[str, Any]:
    row = each.row
    return {
        "period": row.period,
        "publisher_key": row.key,
        "publisher_id": row.publisher_id,
        "publisher": row.publisher,
        **{f"baseline_{name}_microdollars": row.amounts.get(name) for name in AMOUNTS},
        "raw": row.raw,
        "sheet": row.sheet.name,
        "row": row.row,
        **doubts.payload(each, received_at),
    }
