"""Staging speed: against a plain COPY of the same rows, and into tables that are full already."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

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


def stage_pages(database: Database, connection: Connection, pages: list[list[Record]] | Iterator[list[Record]]) -> dict[str, Any]:
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
