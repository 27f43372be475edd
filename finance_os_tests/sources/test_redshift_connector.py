"""Redshift over its wire protocol: read by Amazon's own driver, never written, row by row."""

import gc
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import psutil
import pytest
import redshift_connector

from finance_os.evidence.extraction import Page, SourceError
from finance_os.evidence.windows import Window
from finance_os.sources.credentials import Credentials
from finance_os.sources.redshift import QUERIES, REDSHIFT, URL, connector, events, extract, reader_of
from finance_os.sources.redshift.connector import ClusterReader
from finance_os.sources.redshift.snapshot import rows_of
from finance_os.sources.redshift.statements import BEGIN, ForbiddenStatement, Form, VersionedStatements, statement
from finance_os.sources.sql_queries import SqlQuery
from finance_os_tests.sources.redshift_served import NOW, Served, a_request, records, served

DAY = date(2026, 3, 10)
WHOLE = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def site(server_url: str) -> Iterator[Served]:
    with served(server_url) as site:
        yield site


def a_query(text: str, **changes: Any) -> SqlQuery:
    """Any SELECT as a versioned query for events."""
    text = f"SELECT * FROM ({text}) AS t WHERE CAST(:start AS timestamp) < CAST(:end AS timestamp)"
    query = SqlQuery("thing", 3, "Things", text, ("id",), "at", None, ("start", "end"))
    return replace(query, **changes)


def reader(site: Served, *queries: SqlQuery, **changes: str) -> ClusterReader:
    """A reader; `user`, `password` and `database` may be others than the room's."""
    warehouse, port = site.room.warehouse, site.room.front_door.port
    given = {"user": warehouse.reader, "password": warehouse.password, "database": warehouse.database, **changes}
    url = "redshift://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable".format(port=port, **given)
    made = reader_of(Credentials({URL: url}), VersionedStatements([*QUERIES.values(), *queries]))
    assert isinstance(made, ClusterReader)
    return made


def select(site: Served, query: SqlQuery) -> list[dict[str, Any]]:
    """The rows of a query."""
    with reader(site, query).snapshot(lambda: NOW) as snapshot:
        return [row for batch in snapshot.read(statement(query, Form.EVENTS, [WHOLE])) for row in batch]


def failure(site: Served, text: str = "SELECT 1 AS id, 2 AS at", **changes: str) -> SourceError:
    """What a SELECT fails with; it tells no secret."""
    query = a_query(text)
    with pytest.raises(SourceError) as refused, reader(site, query, **changes).snapshot(lambda: NOW) as snapshot:
        list(snapshot.read(statement(query, Form.EVENTS, [WHOLE])))
    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value)
    for secret in (site.room.warehouse.password, "wrong-password", site.room.warehouse.reader):
        assert secret not in shown
    return refused.value


WRITES = [
    "INSERT INTO ad_clicks SELECT * FROM ad_clicks",
    "UPDATE ad_impressions SET price = 0",
    "DELETE FROM engine_events",
    "CREATE TABLE mine (x int)",
    "TRUNCATE ad_clicks",
]


@pytest.mark.parametrize("write", WRITES)
def test_its_transaction_cannot_write(site: Served, write: str) -> None:
    """Beneath the versioned statements: with the driver itself, in the transaction of the source's own client."""
    with reader(site).snapshot(lambda: NOW) as snapshot, pytest.raises(redshift_connector.ProgrammingError) as refused:
        snapshot.connection.cursor().execute(write)
    assert refused.value.args[0]["C"] == "25006"


@pytest.mark.parametrize("write", WRITES)
def test_a_login_that_could_write_cannot(site: Served, write: str) -> None:
    site.room.front_door.logins = {**site.room.front_door.logins, site.owner().info.user: "owner's"}
    client = reader(site, user=site.owner().info.user, password="owner%27s")
    with client.snapshot(lambda: NOW) as snapshot, pytest.raises(redshift_connector.ProgrammingError) as refused:
        snapshot.connection.cursor().execute(write)
    assert refused.value.args[0]["C"] == "25006"


def test_a_transaction_cannot_be_made_writable(site: Served) -> None:
    with reader(site).snapshot(lambda: NOW) as snapshot:
        cursor = snapshot.connection.cursor()
        cursor.execute("SELECT 1")
        with pytest.raises(redshift_connector.ProgrammingError) as refused:
            cursor.execute("SET TRANSACTION READ WRITE")
    assert refused.value.args[0]["C"] == "25001"


def test_what_is_no_versioned_query_is_not_sent(site: Served) -> None:
    sent = site.room.front_door.statements
    with reader(site).snapshot(lambda: NOW) as snapshot:
        sent.clear()
        with pytest.raises(ForbiddenStatement):
            list(snapshot.read(statement(a_query("SELECT 1 AS id, 2 AS at"), Form.EVENTS, [WHOLE])))
        other = replace(QUERIES["ad_clicks"], text="DELETE FROM ad_clicks -- :start :end")
        with pytest.raises(ForbiddenStatement):
            list(snapshot.read(statement(other, Form.EVENTS, [WHOLE])))
    assert list(sent) == []


def test_only_statements_of_its_own_are_sent(site: Served) -> None:
    sent = site.room.front_door.statements
    sent.clear()
    for obj in REDSHIFT:
        list(extract(reader(site), obj, a_request(date(2026, 3, 9), DAY)))
    kinds = {text.split()[0] for text in sent}
    assert kinds == {"SET", "BEGIN", "DECLARE", "FETCH", "CLOSE"}
    assert {text for text in sent if text.startswith("BEGIN")} == {BEGIN}
    assert sum(text.startswith("BEGIN") for text in sent) == len(REDSHIFT.objects)


def test_a_read_that_is_abandoned_leaves_no_connection(site: Served) -> None:
    items = extract(reader(site), REDSHIFT.object("ad_clicks"), a_request(DAY)).items
    assert isinstance(items, Iterator)
    next(items)
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'finance-os'"
    )
    with site.owner() as owner:
        assert owner.execute(others).fetchone() == (1,)
        items.close()  # pyright: ignore[reportAttributeAccessIssue]
        for _ in range(100):
            if owner.execute(others).fetchone() == (0,):
                return
            time.sleep(0.05)
    pytest.fail("the connection is still open")


def test_rows_come_a_few_at_a_time(site: Served) -> None:
    site.room.warehouse.add_rows("engine_events", 2_500, date(2026, 2, 1))
    whole = Window(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC))
    with reader(site).snapshot(lambda: NOW) as snapshot:
        told = statement(QUERIES["engine_events"], Form.EVENTS, [whole])
        assert [len(batch) for batch in snapshot.read(told)] == [1_000, 1_000, 500]
        # Another query in the same connection: other columns.
        counts = statement(QUERIES["ad_clicks"], Form.COUNTS, [whole, WHOLE])
        (rows,) = snapshot.read(counts)
        assert [row["day_number"] for row in rows] == [0, 1]
        assert [len(batch) for batch in snapshot.read(told)] == [1_000, 1_000, 500]


def test_memory_stays_flat_and_reading_is_quick(site: Served) -> None:
    rows, day = 100_000, date(2026, 2, 10)
    site.room.warehouse.add_rows("ad_clicks", rows, day)
    obj, process, client = REDSHIFT.object("ad_clicks"), psutil.Process(), reader(site)
    list(extract(client, obj, a_request(DAY)))
    gc.collect()
    before, peak, seen = process.memory_info().rss, 0, 0
    began = time.perf_counter()
    for item in extract(client, obj, a_request(date(2026, 2, 9), day)):
        if isinstance(item, Page):
            seen += len(item.records)
            peak = max(peak, process.memory_info().rss)
    took = time.perf_counter() - began
    assert seen == rows
    assert peak - before < 30e6, f"{(peak - before) / 1e6:.0f} MB more for {rows:,} rows"
    assert rows / took > 10_000, f"{rows / took:,.0f} rows/s"


def test_a_day_of_many_rows_is_read_in_spans(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    request = a_request(DAY)
    whole = records(extract(reader(site), REDSHIFT.object("engine_events"), request))
    monkeypatch.setattr(events, "ROWS_PER_STATEMENT", 10)
    monkeypatch.setattr(events, "ROWS_PER_PAGE", 4)
    extraction = extract(reader(site), REDSHIFT.object("engine_events"), request)
    pages = [item for item in extraction if isinstance(item, Page)]
    assert [record for page in pages for record in page.records] == whole
    assert max(len(page.records) for page in pages) == 4
    spans = {(page.provenance or {})["window"]["start"]: (page.provenance or {})["window"]["end"] for page in pages}
    assert len(spans) > len(whole) // 10
    assert extraction.requested()["SELECT 127.0.0.1"] >= 1 + len(spans)
    for page in pages:
        told = (page.provenance or {})["window"]
        for record in page.records:
            assert told["start"] <= (record.payload or {})["occurred_at"] < told["end"]


# --- values


def test_values_are_exact_or_refused(site: Served) -> None:
    (row,) = select(
        site, a_query("SELECT 'a' AS id, '20260101000000000000' AS at, CAST(NULL AS int) AS none, true AS yes")
    )
    assert row == {"id": "a", "at": "20260101000000000000", "none": None, "yes": True}
    for column in ("1.50", "CAST(1 AS float8)", "CAST('2026-01-01' AS date)", "CAST('2026-01-01' AS timestamp)"):
        with pytest.raises(SourceError) as refused:
            select(site, a_query(f"SELECT 1 AS id, 2 AS at, {column} AS x"))
        assert (refused.value.code, refused.value.permanent) == ("unsupported_column", True)
        assert "column x" in refused.value.message
    with pytest.raises(SourceError, match="x is there twice"):
        select(site, a_query("SELECT 1 AS id, 2 AS at, 3 AS x, 4 AS x"))
    with pytest.raises(ValueError, match=r"zip|argument"):
        rows_of(("a",), [[1, 2]], "something")


@pytest.mark.parametrize("text", ["infinity", "12026-01-01 00:00:00"])
def test_times_that_no_calendar_has_are_refused(site: Served, text: str) -> None:
    with pytest.raises(SourceError, match="unreadable_value"):
        events._moment(text, QUERIES["ad_clicks"])


# --- failures


def test_failures_have_codes_and_tell_no_secrets(site: Served) -> None:
    wrong = failure(site, password="wrong-password")
    assert (wrong.code, wrong.permanent) == ("unauthorized", True)
    unknown = failure(site, database="nowhere")
    assert (unknown.code, unknown.permanent) == ("unknown_database", True)
    assert "127.0.0.1" in unknown.message
    denied = failure(site, "SELECT rolpassword AS id, 1 AS at FROM pg_authid")
    assert (denied.code, denied.permanent) == ("permission_denied", True)
    assert "may not read pg_authid" in denied.message
    missing = failure(site, "SELECT id, at FROM nowhere")
    assert (missing.code, missing.permanent) == ("query_failed", True)
    assert "42P01" in missing.message
    division = failure(site, "SELECT 1 / 0 AS id, 1 AS at")
    assert (division.code, division.permanent) == ("query_failed", False)
    lacking = failure(site, "SELECT generate_series(1, 2) AS id, 1 AS at")
    assert (lacking.code, lacking.permanent) == ("query_failed", True)


def test_a_redshift_that_is_not_there(site: Served) -> None:
    gone = Credentials({URL: "redshift://u:hunter2@127.0.0.1:1/d?sslmode=disable"})
    client = reader_of(gone, VersionedStatements(QUERIES.values()))
    with pytest.raises(SourceError) as refused:
        list(extract(client, REDSHIFT.object("ad_clicks"), a_request(DAY)))
    assert (refused.value.code, refused.value.permanent) == ("unreachable", False)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value)) + repr(client)


def test_a_redshift_without_tls_is_not_trusted(site: Served) -> None:
    url = site.credentials("connector")[URL].replace("sslmode=disable", "sslmode=verify-full")
    client = reader_of(Credentials({URL: url}), VersionedStatements(QUERIES.values()))
    with pytest.raises(SourceError, match="unreachable: no TLS connection"):
        list(extract(client, REDSHIFT.object("ad_clicks"), a_request(DAY)))
    assert isinstance(client, ClusterReader)
    assert client.sent() == {}


def test_a_query_that_takes_too_long(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "SETTINGS", ("SET statement_timeout TO 100",))
    slow = failure(site, "SELECT COUNT(*) AS id, 1 AS at FROM ad_impressions a, ad_impressions b, ad_impressions c")
    assert (slow.code, slow.permanent) == ("timeout", False)


def slowly(items: Iterator[Any]) -> Iterator[Any]:
    for item in items:
        time.sleep(0.05)
        yield item


@pytest.mark.parametrize("after", [0.0, 0.05])
def test_a_connection_that_breaks(site: Served, after: float) -> None:
    items = iter(extract(reader(site), REDSHIFT.object("engine_events"), a_request(date(2026, 2, 1), DAY)))
    next(items)
    breaking = threading.Timer(after, site.room.front_door.drop_connections)
    breaking.start()
    with pytest.raises(SourceError) as broken:
        list(slowly(items))
    breaking.join()
    assert (broken.value.code, broken.value.permanent) == ("unreachable", False)


def test_a_server_that_hangs_up_in_the_middle_of_a_message(site: Served) -> None:
    """As a proxy does that is restarted."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            visitor, _ = listener.accept()
            visitor.recv(1_000)
            visitor.sendall(b"R\0\0\0")
            visitor.close()

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        gone = Credentials({URL: f"redshift://u:hunter2@127.0.0.1:{port}/d?sslmode=disable"})
        with pytest.raises(SourceError, match="unreachable"):
            list(extract(reader_of(gone, VersionedStatements([])), REDSHIFT.object("ad_clicks"), a_request(DAY)))
        thread.join()
