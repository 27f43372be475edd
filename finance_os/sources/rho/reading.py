"""Judging an export, and reading the kept ones as records."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from finance_os.evidence.extraction import Extraction, Item, Page, Record, RemoteCount, Request, SourceError
from finance_os.settings import settings
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import Accepted, Judged, Quarantined, Target, read_kept
from finance_os.sources.rho.columns import COLUMNS_SETTING, Columns
from finance_os.sources.rho.identity import identify
from finance_os.sources.rho.problems import Problems
from finance_os.sources.rho.rows import read_rows
from finance_os.sources.source import SourceObject

PAGE_ROWS = 1_000


@dataclass(frozen=True)
class RhoReader:
    """Reads kept drops from `location`, and counts them."""

    location: str
    columns: Columns
    reads: Counter[str] = field(default_factory=Counter)

    def drop(self, content_hash: str) -> bytes:
        """The bytes of a drop; raises as `drops.read_kept`."""
        self.reads["READ drops"] += 1
        return read_kept(self.location, content_hash)


@contextmanager
def open_reader(credentials: Credentials) -> Iterator[RhoReader]:
    """A reader of the installation's drops with the column map in force."""
    yield RhoReader(settings().drops_location, Columns.read(credentials.get(COLUMNS_SETTING)))


def judge(data: bytes, file_name: str, zone: ZoneInfo, credentials: Credentials) -> Judged:  # noqa: ARG001
    """Rho's verdict on a file: accepted as a whole, or every reason against it.

    Days lie between the setting FINANCE_OS_START_DATE and tomorrow, in `zone`. Raises `SourceError`
    (`setting_invalid`) if the column map is not one.
    """
    columns = Columns.read(credentials.get(COLUMNS_SETTING))
    problems = Problems()
    limits = (settings().start_date, datetime.now(zone).date() + timedelta(days=1))
    keys = [key for key, _ in read_rows(data, columns, zone, problems, limits)]
    source_ids = identify(keys, problems)
    if problems.count:
        return Quarantined(tuple(problems.listed), problems.count)
    days = [key.day for key, source_id in zip(keys, source_ids, strict=True) if source_id is not None]
    return Accepted(len(days), min(days, default=None), max(days, default=None))


def extract(reader: RhoReader, obj: SourceObject[None], request: Request) -> Extraction:  # noqa: ARG001
    """The transactions of the drops in `request.targets` whose day is one of `request.days`.

    A target is a content hash, or a `drops.Target`. A page bears the time its drop was received, where the target
    says so: a drop that is read again never overtakes one that came after it. Raises `SourceError`:
    `kept_drop_missing`, `kept_drop_altered`, `drops_unreachable`, `drop_not_readable`.
    """
    return Extraction(_items(reader, request), requested=lambda: dict(reader.reads))


def _items(reader: RhoReader, request: Request) -> Iterator[Item]:
    counted: Counter[date] = Counter()
    for target in map(Target.parse, request.targets):
        data = reader.drop(target.drop)
        requested_at = target.received_at or request.now()
        provenance = {"drop": target.drop} | ({"file_name": target.file_name} if target.file_name else {})
        page: list[Record] = []
        for record in _records(data, reader.columns, request, target.drop):
            counted[record.day] += 1
            page.append(record)
            if len(page) == PAGE_ROWS:
                yield Page(page, requested_at, provenance=provenance)
                page = []
        if page:
            yield Page(page, requested_at, provenance=provenance)
    yield RemoteCount(dict(counted))


def _records(data: bytes, columns: Columns, request: Request, content_hash: str) -> Iterator[Record]:
    """The records of an accepted file on the days that are asked for. It is read twice, to keep memory flat."""
    problems = Problems()
    keys = [key for key, _ in read_rows(data, columns, request.zone, problems)]
    source_ids = identify(keys, problems)
    if problems.count:
        first = problems.listed[0]
        where = f"row {first.row}, " if first.row is not None else ""
        raise SourceError(
            "drop_not_readable",
            f"drop {content_hash[:12]} was accepted and cannot be read any more ({where}{first.code}): "
            f"{COLUMNS_SETTING} has changed since; set it so that this file can be read too",
            permanent=True,
        )
    for (key, payload), source_id in zip(read_rows(data, columns, request.zone, problems), source_ids, strict=True):
        if source_id is not None and key.day in request.days:
            yield Record(source_id, payload, key.day, provenance=key.line)
