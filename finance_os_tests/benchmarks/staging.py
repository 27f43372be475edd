"""Staging speed: against a plain COPY of the same rows, against dlt, and into tables that are full already."""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psycopg

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Extraction, Kind, Page, Record, Request
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days, window_of
from finance_os.settings import Settings
from finance_os_tests.benchmarks.figures import Figure, seconds, side_by_side

DAY = date(2026, 1, 1)
DAYS = Days(DAY, DAY)
PAGE_ROWS = 1_000
TABLES = ("raw_source_records", "raw_record_heads", "raw_record_changes", "source_sync_sightings")


def payload(number: int, padding: int) -> dict[str, Any]:
    """An invoice-like payload: nested, of about 470 bytes of canonical JSON and `padding`."""
    lines = [
        {"id": f"il_{number}_{line}", "amount": line * 100, "description": "impressions", "discount": None}
        for line in range(3)
    ]
    return {
        "id": source_id(number),
        "object": "invoice",
        "amount_due": number,
        "currency": "usd",
        "customer": f"cus_{number % 1000:08d}",
        "lines": {"object": "list", "data": lines, "has_more": False},
        "metadata": {"campaign": f"cmp_{number % 77}"},
        "created": 1_790_000_000 + number,
        "livemode": False,
        "status": "paid",
        "tax": None,
        "number": f"ACME-{number:08d}",
        "statement_descriptor": "x" * padding,
    }


def source_id(number: int) -> str:
    """An ID in an order that has nothing to do with `number`, as vendors' IDs are."""
    return f"in_{number * 2_654_435_761 % 2**32:08x}{number:010d}"


def records(numbers: range, padding: int) -> Iterator[list[Record]]:
    """Pages of records, made as they are asked for."""
    for start in range(numbers.start, numbers.stop, PAGE_ROWS):
        page = range(start, min(start + PAGE_ROWS, numbers.stop))
        yield [Record(source_id(number), payload(number, padding), DAY) for number in page]


def stage_pages(
    database: Database, connection: Connection, pages: list[list[Record]] | Iterator[list[Record]]
) -> dict[str, Any]:
    """Stage ready pages as one sync run."""

    @contextmanager
    def extract(request: Request) -> Iterator[Extraction]:
        yield Extraction(Page(page, request.now(), {"page": number}) for number, page in enumerate(pages))

    read = Read(connection, "stripe_invoice", Kind.WINDOW, DAYS, window_of(DAYS, connection.zone), {}, extract)
    return perform(database, read, Origin(Trigger.MANUAL), chunk_rows=Settings().chunk_rows)


def empty(database: Database) -> None:
    """Empty the evidence tables, as their owner."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        for table in TABLES:
            connection.execute(f"ALTER TABLE finance_os.{table} DISABLE TRIGGER USER")  # pyright: ignore
        connection.execute(", ".join(f"finance_os.{table}" for table in TABLES).join(("TRUNCATE ", "")))  # pyright: ignore
        connection.execute("CHECKPOINT")


def dump(database: Database, sync_run_id: int) -> dict[str, bytes]:
    """The rows that a sync run wrote, as COPY reads them."""
    rows: dict[str, bytes] = {}
    with psycopg.connect(database.url) as connection:
        for table in TABLES:
            run = "first_sync_run_id" if table == "raw_source_records" else "sync_run_id"
            order = "chunk, ordinal" if table == "source_sync_sightings" else "record_id"
            query = f"COPY (SELECT * FROM finance_os.{table} WHERE {run} = {sync_run_id} ORDER BY {order}) TO STDOUT"
            with connection.cursor().copy(query) as copy:  # pyright: ignore
                rows[table] = b"".join(copy)
    return rows


def plain_copy(database: Database, rows: dict[str, bytes]) -> None:
    """Load ready-made rows: one COPY a table, one transaction."""
    with psycopg.connect(database.url) as connection:
        for table, text in rows.items():
            with connection.cursor().copy(f"COPY finance_os.{table} FROM STDIN") as copy:  # pyright: ignore
                for start in range(0, len(text), 1 << 18):
                    copy.write(text[start : start + (1 << 18)])


def against_copy(database: Database, count: int, padding: int, label: str, rounds: int) -> list[Figure]:
    """Fresh and unchanged staging as multiples of the speed of a plain COPY."""
    ensure_business(database, "bench", "Bench", "UTC")
    connection = ensure_connection(database, "bench", "stripe")
    pages = list(records(range(count), padding))
    empty(database)
    run = stage_pages(database, connection, pages)
    assert run["rows_new"] == count
    rows = dump(database, run["sync_run_id"])

    def fresh() -> float:
        empty(database)
        return seconds(lambda: stage_pages(database, connection, pages))

    def unchanged() -> float:
        return seconds(lambda: stage_pages(database, connection, pages))

    def copy() -> float:
        empty(database)
        return seconds(lambda: plain_copy(database, rows))

    def fresh_then_unchanged() -> float:
        taken.append(fresh())
        return unchanged()

    taken: list[float] = []
    copied, again = side_by_side(rounds, copy, fresh_then_unchanged)
    first = sorted(taken)[len(taken) // 2]
    return [
        Figure(f"plain COPY, {label}", count / copied, "rows/s"),
        Figure(f"staging fresh, {label}", count / first, "rows/s"),
        Figure(f"staging fresh / plain COPY, {label}", copied / first, "×", at_least=0.85),
        Figure(f"staging unchanged / plain COPY, {label}", copied / again, "×", at_least=2.0),
    ]


def against_dlt(database: Database, count: int, label: str, rounds: int) -> list[Figure]:
    """Fresh and unchanged staging as multiples of the speed of dlt's merge on the same key.

    dlt is given the objects as a source yields them and does what it does by default: a column a field, a table a
    nested list. Given the payload as one JSON column, which is less than dlt is for, it is faster: that figure is
    shown beside, without a target.
    """
    ensure_business(database, "bench", "Bench", "UTC")
    connection = ensure_connection(database, "bench", "stripe")
    pages = list(records(range(count), 160))
    objects = [record.payload or {} for page in pages for record in page]
    columns = [{"id": record.source_id, "payload": record.payload} for page in pages for record in page]

    def fresh() -> float:
        empty(database)
        return seconds(lambda: stage_pages(database, connection, pages))

    def unchanged() -> float:
        return seconds(lambda: stage_pages(database, connection, pages))

    first, again = side_by_side(rounds, fresh)[0], side_by_side(rounds, unchanged)[0]
    with dlt_merge(database, "objects") as merge:
        dlt_first, dlt_again = seconds(lambda: merge(objects)), seconds(lambda: merge(objects))
    with dlt_merge(database, "documents", columns={"payload": {"data_type": "json"}}, max_table_nesting=0) as merge:
        json_first, json_again = seconds(lambda: merge(columns)), seconds(lambda: merge(columns))
    return [
        Figure(f"dlt merge fresh, {label}", count / dlt_first, "rows/s"),
        Figure(f"staging fresh / dlt merge, {label}", dlt_first / first, "×", at_least=8),
        Figure(f"staging unchanged / dlt merge, {label}", dlt_again / again, "×", at_least=15),
        Figure(f"staging fresh / dlt merge of one JSON column, {label}", json_first / first, "×"),
        Figure(f"staging unchanged / dlt merge of one JSON column, {label}", json_again / again, "×"),
    ]


@contextmanager
def dlt_merge(database: Database, name: str, **hints: Any) -> Iterator[Callable[[list[dict[str, Any]]], object]]:
    """Merging rows by `id` with a dlt pipeline into the same database; its files go with the block."""
    import dlt
    from dlt.destinations import postgres

    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            name, pipelines_dir=folder, destination=postgres(with_host(database.url)), dataset_name=f"dlt_{name}"
        )

        def merge(rows: list[dict[str, Any]]) -> object:
            return pipeline.run(
                dlt.resource(rows, name="invoices", primary_key="id", write_disposition="merge", **hints)
            )

        yield merge


def with_host(url: str) -> str:
    """A URL whose socket folder stands where dlt looks for the host."""
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host", [parts.hostname])[0] or ""
    return f"postgresql://{parts.username}:none@{quote(host, safe='')}{parts.path}"


def into_full_tables(database: Database, held: int, count: int, rounds: int) -> list[Figure]:
    """Staging fresh records into tables that hold `held` records already, against empty ones.

    A plain COPY of ready-made rows is timed the same way beside it: what the server itself loses in larger indexes.
    """
    ensure_business(database, "bench", "Bench", "UTC")
    connection = ensure_connection(database, "bench", "stripe")
    pages = [list(records(range(start, start + count), 160)) for start in range(0, 2 * rounds * count, count)]
    staged, copied = pages[:rounds], pages[rounds:]
    ready: list[dict[str, bytes]] = []
    staging: dict[str, list[float]] = {"empty": [], "full": []}
    copying: dict[str, list[float]] = {"empty": [], "full": []}
    for batch, other in zip(staged, copied, strict=True):
        empty(database)
        staging["empty"].append(seconds(lambda batch=batch: stage_pages(database, connection, batch)))
        empty(database)
        ready.append(dump(database, stage_pages(database, connection, other)["sync_run_id"]))
        empty(database)
        copying["empty"].append(seconds(lambda: plain_copy(database, ready[-1])))
    empty(database)
    fill(database, connection, held)
    for batch, rows in zip(staged, ready, strict=True):
        staging["full"].append(seconds(lambda batch=batch: stage_pages(database, connection, batch)))
        copying["full"].append(seconds(lambda rows=rows: plain_copy(database, rows)))
    empty(database)
    ours, theirs = ({into: statistics.median(times) for into, times in each.items()} for each in (staging, copying))
    return [
        Figure(f"staging into tables of {held:,} / into empty ones", ours["empty"] / ours["full"], "×", at_least=0.8),
        Figure(f"plain COPY into tables of {held:,} / into empty ones", theirs["empty"] / theirs["full"], "×"),
        Figure(f"staging / plain COPY, into tables of {held:,}", theirs["full"] / ours["full"], "×", at_least=0.85),
    ]


def fill(database: Database, connection: Connection, count: int) -> None:
    """Fill the evidence tables with `count` records by SQL, with IDs spread as vendors' are."""
    with psycopg.connect(database.url, autocommit=True) as owner:
        parameters = {"count": count, "connection_id": connection.connection_id, "filler": "x" * 400}
        owner.execute(
            """
            INSERT INTO finance_os.raw_source_records
                (record_id, business_id, source_system, object_type, source_id, payload_hash, payload,
                 first_sync_run_id)
            SELECT -n, 'bench', 'stripe', 'stripe_invoice', 'in_' || md5(n::text), sha256(n::text::bytea),
                   jsonb_build_object('id', 'in_' || md5(n::text), 'amount', n, 'text', %(filler)s::text), 0
            FROM generate_series(1, %(count)s::bigint) AS n
            """,
            parameters,
        )
        owner.execute(
            """
            INSERT INTO finance_os.raw_record_heads
                (business_id, source_system, object_type, source_id, record_id, payload_hash, connection_id,
                 requested_at, sync_run_id)
            SELECT business_id, source_system, object_type, source_id, record_id, payload_hash,
                   %(connection_id)s::bigint, now(), 0
            FROM finance_os.raw_source_records
            """,
            parameters,
        )
        owner.execute(
            """
            INSERT INTO finance_os.raw_record_changes
                (change_id, business_id, source_system, object_type, source_id, change, record_id, sync_run_id,
                 partition_day)
            SELECT record_id, business_id, source_system, object_type, source_id, 'added', record_id, 0,
                   '2026-01-01'
            FROM finance_os.raw_source_records
            """
        )
        owner.execute("VACUUM ANALYZE")
        owner.execute("CHECKPOINT")
