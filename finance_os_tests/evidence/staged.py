"""Words for tests that stage: pages at a chosen time, reads, and what the evidence tables hold afterwards."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Extraction, Item, Kind, Page, Record, Request
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days, window_of

DAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
OBJECT = "stripe_invoice"

ItemsOf = Callable[[Request], Iterable[Item]]


def record(source_id: str, content: Any = "a", *, day: date = DAY, version: int | None = None) -> Record:
    """A record whose payload holds `content`; `None` is a removal."""
    payload = None if content is None else {"id": source_id, "content": content}
    return Record(source_id, payload, day, version)


def page(*records: Record, minute: int | None = None, resume: dict[str, Any] | None = None) -> Page:
    """A page asked for at `minute` past noon; `None` means at the start of it all."""
    return Page(list(records), NOON + timedelta(minutes=minute or 0), resume)


def read_of(
    connection: Connection,
    items: Sequence[Item] | ItemsOf,
    *,
    kind: Kind = Kind.WINDOW,
    days: Days | None = None,
    object_type: str = OBJECT,
    volatile: tuple[tuple[str, ...], ...] = (),
) -> Read:
    """A read that yields `items`."""
    days = days or Days(DAY, DAY)

    @contextmanager
    def extract(request: Request) -> Iterator[Extraction]:
        yield Extraction(items(request) if callable(items) else items)

    return Read(connection, object_type, kind, days, window_of(days, connection.zone), {}, extract, volatile)


def stage(
    database: Database, connection: Connection, *items: Item, chunk_rows: int = 1_000, **of_read: Any
) -> dict[str, Any]:
    """Stage `items` as one sync run; its row."""
    return perform(database, read_of(connection, items, **of_read), Origin(Trigger.MANUAL), chunk_rows=chunk_rows)


def heads(database: Database, business_id: str = "acme", object_type: str = OBJECT) -> dict[str, Any]:
    """Source ID → content of the current version, `None` where it is removed."""
    return {
        row["source_id"]: None if row["removed"] else row["content"]
        for row in database.fetch(
            """
            SELECT source_id, removed, payload -> 'content' AS content
            FROM finance_os.raw_record_heads AS head
            JOIN finance_os.raw_source_records AS record USING (record_id, business_id, source_id)
            WHERE business_id = %s AND head.object_type = %s
            """,
            (business_id, object_type),
        )
    }


def changes(database: Database, source_id: str, business_id: str = "acme") -> list[tuple[str, Any]]:
    """What happened to the head of a source ID, in order."""
    return [
        (row["change"], row["content"])
        for row in database.fetch(
            """
            SELECT change, payload -> 'content' AS content
            FROM finance_os.raw_record_changes AS change
            JOIN finance_os.raw_source_records AS record USING (record_id)
            WHERE change.source_id = %s AND change.business_id = %s ORDER BY change_id
            """,
            (source_id, business_id),
        )
    ]


def evidence_state(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """What the evidence tables say, without IDs and times that differ between two equal histories."""
    queries: dict[str, LiteralString] = {
        "records": """
            SELECT business_id, source_system, object_type, source_id, encode(payload_hash, 'hex') AS hash,
                   payload::text
            FROM finance_os.raw_source_records""",
        "heads": """
            SELECT business_id, source_system, object_type, source_id, encode(payload_hash, 'hex') AS hash, removed
            FROM finance_os.raw_record_heads""",
        "changes": """
            SELECT change.business_id, change.object_type, change.source_id, change.change, change.partition_day,
                   encode(record.payload_hash, 'hex') AS hash
            FROM finance_os.raw_record_changes AS change
            JOIN finance_os.raw_source_records AS record USING (record_id)""",
        "partitions": """
            SELECT DISTINCT ON (business_id, source_system, object_type, partition_day, kind)
                   business_id, source_system, object_type, partition_day, kind, state, rows_extracted,
                   encode(batch_hash, 'hex') AS hash
            FROM finance_os.source_sync_partitions
            ORDER BY business_id, source_system, object_type, partition_day, kind, sync_run_id DESC""",
    }
    require_counts(database)
    return {name: sorted(tuple(row.values()) for row in database.fetch(query)) for name, query in queries.items()}


def require_counts(database: Database) -> None:
    """The counts that are kept are those that counting gives."""
    kept = database.fetch(
        "SELECT business_id, source_system, object_type, versions, current FROM finance_os.raw_record_counts"
        " WHERE versions > 0 ORDER BY 1, 2, 3"
    )
    counted = database.fetch(
        """
        SELECT business_id, source_system, object_type, count(*) AS versions,
               (SELECT count(*) FROM finance_os.raw_record_heads AS head
                WHERE (head.business_id, head.source_system, head.object_type)
                    = (record.business_id, record.source_system, record.object_type)
                  AND NOT head.removed) AS current
        FROM finance_os.raw_source_records AS record GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """
    )
    assert kept == counted
