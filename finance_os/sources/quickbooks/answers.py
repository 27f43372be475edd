"""What QuickBooks is asked, in its query language, and what its answers must look like to be believed.

https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api/data-queries
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from finance_os.evidence.extraction import Record
from finance_os.sources.quickbooks.client import Answer, QuickBooksReader
from finance_os.sources.quickbooks.faults import Unreadable, refuse_fault
from finance_os.sources.quickbooks.objects import Entity

BY_CHANGE = "MetaData.LastUpdatedTime ASC, Id ASC"
BY_ID = "Id ASC"

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Row:
    """An object with what it says of itself. The times of lists that are always read whole may be missing."""

    id: str
    version: int
    created: datetime | None
    updated: datetime | None
    body: dict[str, Any]

    @property
    def second(self) -> int:
        """When it changed last, in whole Unix seconds, as QuickBooks compares and shows it."""
        assert self.updated is not None
        return int(self.updated.timestamp() // 1)

    def record(self, day: date, source_id: str | None = None) -> Record:
        """The object as evidence of `day`."""
        return Record(source_id or self.id, self.body, day, self.version, self.created, self.updated)


@dataclass(frozen=True, slots=True)
class Deleted:
    """A deleted object; `second` is when, in Unix seconds, where QuickBooks says so."""

    id: str
    second: int | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What change data capture tells: how many objects changed, and those of them that were deleted."""

    objects: int
    deleted: tuple[Deleted, ...]


def moment(second: int) -> str:
    """A Unix second as QuickBooks reads it."""
    return datetime.fromtimestamp(second, UTC).isoformat(timespec="seconds")


def within(start: int, end: int) -> list[str]:
    """The condition that an object changed last at `start <= second < end`."""
    return [f"MetaData.LastUpdatedTime >= '{moment(start)}'", f"MetaData.LastUpdatedTime < '{moment(end)}'"]


def among(ids: Iterable[str]) -> list[str]:
    """The condition that an object has one of the IDs, which are letters, digits and signs without a quote."""
    return ["Id IN ({})".format(", ".join(f"'{each}'" for each in ids))]


def select(
    reader: QuickBooksReader,
    entity: Entity,
    where: Sequence[str],
    now: Now,
    *,
    order: str,
    start: int = 1,
    size: int,
    span: tuple[int, int] | None = None,
) -> Answer[list[Row]]:
    """One page of what fits `where`, from the `start`-th on.

    With `span`, half-open Unix seconds, each object must have changed last in it, and be in the order of that.
    """
    what = f"query of {entity.name}"

    def read(body: dict[str, Any]) -> list[Row]:
        rows = [_row(item, what) for item in _items(_response(body, what), entity.name, what)]
        if len({row.id for row in rows}) != len(rows):
            raise Unreadable(what, "the page holds an object twice")
        if span is None:
            return rows
        if any(row.updated is None for row in rows):
            raise Unreadable(what, "an object does not say when it changed")
        seconds = [row.second for row in rows]
        if any(later < earlier for earlier, later in itertools.pairwise(seconds)):
            raise Unreadable(what, "the page is not in the order of changes")
        if rows and not span[0] <= min(seconds) <= max(seconds) < span[1]:
            raise Unreadable(what, "an object changed outside the window that was asked for")
        return rows

    statement = f"SELECT * FROM {entity.name}{_where(entity, where)} ORDERBY {order} STARTPOSITION {start} "  # noqa: S608
    return reader.get("query", {"query": f"{statement}MAXRESULTS {size}"}, what, now, read)


def count(reader: QuickBooksReader, entity: Entity, where: Sequence[str], now: Now) -> int:
    """How many objects fit `where`, as QuickBooks counts them."""
    what = f"count of {entity.name}"

    def read(body: dict[str, Any]) -> int:
        counted = _response(body, what).get("totalCount")
        if type(counted) is not int or counted < 0:
            raise Unreadable(what, "the answer is not a count")
        return counted

    statement = f"SELECT COUNT(*) FROM {entity.name}{_where(entity, where)}"  # noqa: S608  no SQL; made of literals and IDs
    return reader.get("query", {"query": statement}, what, now, read).value


def changes(reader: QuickBooksReader, entity: Entity, since: int, now: Now) -> Answer[Changes]:
    """What change data capture tells of `entity` from the Unix second `since` on."""
    what = f"change data capture of {entity.name}"

    def read(body: dict[str, Any]) -> Changes:
        outer = body.get("CDCResponse")
        if type(outer) is not list or not outer:
            raise Unreadable(what, "the answer is not one of change data capture")
        objects = 0
        deleted: list[Deleted] = []
        for part in outer:
            inner = part.get("QueryResponse") if isinstance(part, dict) else None
            for response in inner if type(inner) is list else [None]:
                if not isinstance(response, dict):
                    raise Unreadable(what, "the answer is not one of change data capture")
                refuse_fault(what, response)
                items = _items(response, entity.name, what)
                objects += len(items)
                deleted += [_deleted(item, what) for item in items if item.get("status") == "Deleted"]
        return Changes(objects, tuple(deleted))

    return reader.get("cdc", {"entities": entity.name, "changedSince": moment(since)}, what, now, read)


def single(reader: QuickBooksReader, entity: Entity, now: Now) -> Answer[Row]:
    """The one object of its kind that there is in the company."""

    def read(body: dict[str, Any]) -> Row:
        item = body.get(entity.name)
        if type(item) is not dict:
            raise Unreadable(entity.name, "the answer does not hold it")
        return _row(item, entity.name)

    return reader.get(entity.path.format(realm=reader.realm), {}, entity.name, now, read)


def rate(reader: QuickBooksReader, code: str, day: date, now: Now) -> Answer[tuple[dict[str, Any], datetime | None]]:
    """The exchange rate of a currency on a day, and when it was set where QuickBooks says so.

    The single read, as queries for rates give only those that were set for that very day.
    https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/exchangerate
    """
    what = f"exchange rate of {code}"

    def read(body: dict[str, Any]) -> tuple[dict[str, Any], datetime | None]:
        item = body.get("ExchangeRate")
        if type(item) is not dict or item.get("SourceCurrencyCode") != code or "Rate" not in item:
            raise Unreadable(what, "the answer does not hold it")
        updated = _meta(item).get("LastUpdatedTime")
        return item, None if updated is None else _time(updated, what)

    params = {"sourcecurrencycode": code, "asofdate": day.isoformat()}
    return reader.get("exchangerate", params, what, now, read)


def _where(entity: Entity, conditions: Sequence[str]) -> str:
    # Inactive ones are left out of every query that does not ask for them.
    asked = [*conditions, "Active IN (true, false)"] if entity.has_inactive else conditions
    return f" WHERE {' AND '.join(asked)}" if asked else ""


def _response(body: dict[str, Any], what: str) -> dict[str, Any]:
    response = body.get("QueryResponse")
    if type(response) is not dict:
        raise Unreadable(what, "the answer is not one to a query")
    return response


def _items(response: dict[str, Any], name: str, what: str) -> list[dict[str, Any]]:
    """The objects of one kind; a response without any leaves them out."""
    if any(isinstance(value, list) for key, value in response.items() if key != name):
        raise Unreadable(what, "the answer holds other objects than were asked for")
    items = response.get(name, [])
    if type(items) is not list or not all(type(item) is dict for item in items):
        raise Unreadable(what, "the answer holds something else than objects")
    return items


def _row(item: dict[str, Any], what: str) -> Row:
    meta = _meta(item)
    source_id, token = item.get("Id"), item.get("SyncToken")
    if type(source_id) is not str or not source_id:
        raise Unreadable(what, "an object has no ID")
    if type(token) is not str or not (token.isascii() and token.isdigit()):
        raise Unreadable(what, "an object has no SyncToken")
    created, updated = (_time(meta[name], what) if name in meta else None for name in ("CreateTime", "LastUpdatedTime"))
    return Row(source_id, int(token), created, updated, item)


def _deleted(item: dict[str, Any], what: str) -> Deleted:
    """Intuit's reference shows the time of a deletion; answers without it have been seen."""
    source_id, updated = item.get("Id"), _meta(item).get("LastUpdatedTime")
    if type(source_id) is not str or not source_id:
        raise Unreadable(what, "an object has no ID")
    return Deleted(source_id, None if updated is None else int(_time(updated, what).timestamp() // 1))


def _meta(item: dict[str, Any]) -> dict[str, Any]:
    meta = item.get("MetaData")
    return meta if isinstance(meta, dict) else {}


def _time(value: Any, what: str) -> datetime:
    """A moment with an offset, in UTC."""
    try:
        parsed = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise Unreadable(what, "a time cannot be read") from None
    if parsed.tzinfo is None:
        raise Unreadable(what, "a time has no offset from UTC")
    return parsed.astimezone(UTC)
