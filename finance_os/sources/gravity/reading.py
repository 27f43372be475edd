"""Reading a query in one transaction with one snapshot: its count, its rows as pages, and what is gone."""

from collections import Counter
from collections.abc import Iterator
from datetime import date

from finance_os.evidence.extraction import Extraction, Item, Kind, Page, Record, RemoteCount, Request, SourceError
from finance_os.sources.gravity.failures import explained
from finance_os.sources.gravity.reader import GravityConnection, GravityReader
from finance_os.sources.gravity.rows import record_maker, utc_text
from finance_os.sources.gravity.selection import Selection, select
from finance_os.sources.source import SourceObject
from finance_os.sources.sql_queries import SqlQuery

ROWS_PER_PAGE = 5_000


def extract(gravity: GravityReader, obj: SourceObject[SqlQuery], request: Request) -> Extraction:
    """All rows of `obj` as they are now, those last changed in the request's window, or those with given IDs.

    One transaction, one snapshot: the count is exact, and a read that failed begins anew. A targeted row that is
    not there is a removal.
    """
    before = Counter(gravity.sent())
    return Extraction(
        _read(gravity, obj.detail, request),
        requested=lambda: dict(Counter(gravity.sent()) - before),
        query_name=obj.detail.name,
        query_version=str(obj.detail.version),
    )


def _read(gravity: GravityReader, query: SqlQuery, request: Request) -> Iterator[Item]:
    reading = select(query, request)
    with explained(gravity, query), gravity.transaction() as connection:
        requested_at = request.now()
        gravity.count_select()
        yield _count(connection, query, reading)
        gravity.count_select()
        found: set[str] = set()
        provenance = {
            "query": query.name,
            "version": query.version,
            "extracted_at": utc_text(requested_at),
        }
        for records in _records(connection, query, reading):
            if request.kind is Kind.TARGETED:
                found.update(record.source_id for record in records)
            yield Page(records, requested_at, provenance=provenance)
    if request.kind is Kind.TARGETED and (gone := [target for target in request.targets if target not in found]):
        removals = [Record(source_id, None, request.days.last) for source_id in dict.fromkeys(gone)]
        yield Page(removals, requested_at, provenance=provenance)


def _count(connection: GravityConnection, query: SqlQuery, reading: Selection) -> RemoteCount:
    """Rows by day. Raises `SourceError` where a row has no key, or no updated time, as no window would ever hold it."""
    undated = f"q.{query.updated} IS NULL"
    nameless = " OR ".join(f"q.{column} IS NULL" for column in query.key)
    statement = query.select(
        f"{reading.bucket}, count(*), min({query.source_id}) FILTER (WHERE {undated}), bool_or({nameless})",
        where=reading.where and f"({reading.where}) OR {undated}",
        group_by="1",
    )
    by_day: dict[date, int] = {}
    for bucket, rows, without_time, without_key in connection.execute(statement.encode(), reading.parameters):
        if without_key:
            key = ", ".join(query.key)
            raise SourceError(
                "unidentified_row", f"{query.name} version {query.version}: a row has no {key}", permanent=True
            )
        if without_time is not None:
            raise SourceError(
                "undated_row",
                f"{query.name} version {query.version}: row {without_time} has no {query.updated}",
                permanent=True,
            )
        by_day[reading.days[bucket - 1]] = rows
    return RemoteCount(by_day)


def _records(connection: GravityConnection, query: SqlQuery, reading: Selection) -> Iterator[list[Record]]:
    with connection.cursor("finance_os") as cursor:
        cursor.execute(query.select(where=reading.where, order_by=reading.order_by).encode(), reading.parameters)
        record_of = record_maker(cursor, query, reading)
        last: str | None = None
        while rows := cursor.fetchmany(ROWS_PER_PAGE):
            records = [record_of(row) for row in rows]
            for record in records:
                if record.source_id == last:
                    raise SourceError(
                        "duplicate_row",
                        f"{query.name} version {query.version} gives row {last} twice: its key is not unique",
                        permanent=True,
                    )
                last = record.source_id
            yield records
