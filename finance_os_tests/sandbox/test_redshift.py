"""Redshift's wire protocol: Amazon's own driver at the front door of a real PostgreSQL, as a reader only."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redshift_connector

from finance_os.sandbox.redshift import RedshiftRoom
from finance_os.sandbox.redshift.content import AdServer
from finance_os.sandbox.redshift.dialect import Dialect
from finance_os.sandbox.redshift.warehouse import COLUMNS
from finance_os_tests.sources.redshift_served import START, Served, a_world, served


@pytest.fixture(scope="module")
def site(server_url: str) -> Iterator[Served]:
    with served(server_url) as site:
        yield site


def connect(site: Served, **changes: Any) -> redshift_connector.Connection:
    """Amazon's driver, unmodified."""
    parts = urlsplit(site.room.env(site.base)["FINANCE_OS_REDSHIFT_URL"])
    given: dict[str, Any] = {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": site.room.warehouse.password,
        "database": parts.path[1:],
        "ssl": False,
        "timeout": 20,
    }
    return redshift_connector.connect(**{**given, **changes})


def rows(connection: redshift_connector.Connection, statement: str, *values: Any) -> list[list[Any]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall())


def change(room: RedshiftRoom, action: str, **what: Any) -> Any:
    return asyncio.run(room.change(action, what))


def test_the_driver_finds_a_redshift(site: Served) -> None:
    with connect(site) as connection:
        assert (b"server_version", b"8.0.2") in connection.parameter_statuses
        told = rows(connection, "SELECT COUNT(*) FROM ad_impressions WHERE price > %s", 0)
        assert told[0][0] > 1_000
        with connection.cursor() as cursor:
            cursor.execute("SELECT publisher_id, SUM(price) AS spend FROM ad_impressions GROUP BY publisher_id")
            frame = cursor.fetch_dataframe()
        assert list(frame.columns) == ["publisher_id", "spend"]
        assert len(frame) == len(site.room.world.publishers)


def test_a_result_of_many_rows_comes_whole(site: Served) -> None:
    with connect(site) as connection:
        connection.autocommit = True
        told = rows(connection, "SELECT impression_id FROM ad_impressions")
    with site.owner() as owner:
        assert owner.execute("SELECT count(*) FROM ad_impressions").fetchone() == (len(told),)


def test_only_the_password_opens(site: Served) -> None:
    for changes in ({"password": "wrong"}, {"user": "stranger"}):
        with pytest.raises(redshift_connector.InterfaceError) as refused:
            connect(site, **changes)
        assert refused.value.args[0]["C"] == "28000"
    with pytest.raises(redshift_connector.ProgrammingError) as unknown:
        connect(site, database="nowhere")
    assert unknown.value.args[0]["C"] == "3D000"
    with pytest.raises(redshift_connector.InterfaceError, match="refuses SSL"):
        connect(site, ssl=True, sslmode="verify-ca")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ad_clicks SELECT * FROM ad_clicks",
        "UPDATE ad_impressions SET price = 0",
        "DELETE FROM engine_events",
        "TRUNCATE ad_clicks",
        "DROP TABLE ad_clicks",
        "CREATE TABLE mine (x int)",
    ],
)
def test_the_reader_cannot_write(site: Served, statement: str) -> None:
    with connect(site) as connection, pytest.raises(redshift_connector.ProgrammingError) as refused:
        rows(connection, statement)
    assert refused.value.args[0]["C"] == "42501"


LACKING = [
    "SELECT COUNT(*) FILTER (WHERE price > 0) FROM ad_impressions",
    "SELECT * FROM (VALUES (1), (2)) AS days",
    "SELECT DISTINCT ON (publisher_id) * FROM ad_impressions",
    "SELECT * FROM ad_impressions WHERE publisher_id = ANY(ARRAY['a'])",
    "SELECT generate_series(1, 3)",
    "SELECT width_bucket(1, 2, 3, 4)",
    "SELECT string_agg(publisher_id, ',') FROM ad_impressions",
    "SELECT pg_sleep(1)",
    "SELECT 1 IS DISTINCT FROM 2",
    "SELECT '1'::jsonb",
    "DECLARE c CURSOR FOR SELECT 1; FETCH FORWARD 1001 FROM c",
]


@pytest.mark.parametrize("statement", LACKING)
def test_what_redshift_lacks_is_refused(site: Served, statement: str) -> None:
    *before, last = statement.split("; ")
    with connect(site) as connection:
        for part in before:
            connection.cursor().execute(part)
        with pytest.raises(redshift_connector.ProgrammingError) as refused:
            connection.cursor().execute(last)
    assert refused.value.args[0]["C"] == "42601"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'FILTER (' AS word, \"values\" FROM t /* ARRAY[1] */ -- LATERAL",
        "INSERT INTO t VALUES (1)",
        "SELECT TO_CHAR(clicked_at, 'YYYYMMDDHH24MISSUS') AS clicked_at FROM ad_clicks",
        "SELECT * FROM t WHERE a = ANY (SELECT b FROM u)",
        "FETCH FORWARD 1000 FROM c",
        "SELECT CAST(x AS varchar(64)) AS format FROM t",
    ],
)
def test_what_redshift_has_is_not(statement: str) -> None:
    assert Dialect().complaint(statement) is None


def test_one_cursor_at_a_time(site: Served) -> None:
    with connect(site) as connection:
        rows_of = "SELECT click_id FROM ad_clicks ORDER BY click_id"
        with connection.cursor() as cursor:
            cursor.execute(f"DECLARE one CURSOR FOR {rows_of}")
            cursor.execute("FETCH FORWARD 2 FROM one")
            first = cursor.fetchall()
            cursor.execute("CLOSE one")
            cursor.execute(f"DECLARE two CURSOR FOR {rows_of}")
            cursor.execute("FETCH FORWARD 2 FROM two")
            assert cursor.fetchall() == first
            with pytest.raises(redshift_connector.ProgrammingError) as refused:
                cursor.execute(f"DECLARE three CURSOR FOR {rows_of}")
    assert refused.value.args[0]["C"] == "42601"


def test_statements_are_written_down(site: Served) -> None:
    site.room.front_door.statements.clear()
    with connect(site) as connection:
        connection.autocommit = True
        rows(connection, "SELECT 1")
        rows(connection, "SELECT 1")
    assert list(site.room.front_door.statements) == ["SELECT 1", "SELECT 1"]


def test_connections_can_be_dropped(site: Served) -> None:
    with connect(site) as connection:
        rows(connection, "SELECT 1")
        assert change(site.room, "drop_connections")["dropped"] >= 1
        with pytest.raises((redshift_connector.Error, OSError)):
            rows(connection, "SELECT 2")


def test_a_gone_client_leaves_no_connection(site: Served) -> None:
    for _ in range(3):
        with connect(site, application_name="short visit") as connection:
            rows(connection, "SELECT 1")
    open_ones = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'short visit'"
    waited = threading.Event()
    for _ in range(100):
        with site.owner() as owner:
            if owner.execute(open_ones).fetchone() == (0,):
                return
        waited.wait(0.05)
    pytest.fail("a connection is still open")


# --- the warehouse follows the world


@pytest.fixture
def young(server_url: str) -> Iterator[Served]:
    """A room of the test's own, three days after the world's start."""
    with served(server_url, a_world(until=datetime(2026, 3, 4, 12, tzinfo=UTC))) as site:
        yield site


def key_of(table: str) -> str:
    return next(iter(COLUMNS[table]))


def stored(site: Served) -> dict[str, list[object]]:
    with site.owner() as owner:
        return {
            table: [row[0] for row in owner.execute(f"SELECT {key_of(table)} FROM {table} ORDER BY 1".encode())]
            for table in COLUMNS
        }


def test_tables_follow_the_clock(young: Served) -> None:
    before = stored(young)
    young.room.follow()
    assert stored(young) == before
    for days in (1, 9):
        young.room.world.advance_to(datetime(2026, 3, 4, 12, tzinfo=UTC) + timedelta(days=days))
        young.room.follow()
    found = stored(young)
    whole = AdServer(young.room.world).arrivals()
    assert found["ad_impressions"] == sorted(each.id for each in whole.impressions)
    assert found["ad_clicks"] == sorted(each.id for each in whole.clicks)
    assert found["engine_events"] == sorted(each.id for each in whole.events)
    assert all(len(found[table]) > len(before[table]) for table in COLUMNS)
    assert [each.kind for each in young.room.planted()] == ["redshift_hour_lost", "redshift_impressions_twice"]


def test_late_rows_come_and_rows_go(young: Served) -> None:
    total = (
        "SELECT count(*), sum(price) FROM ad_impressions WHERE publisher_id = 'pub_00001' AND occurred_at::date = %s"
    )
    with young.owner() as owner:
        (before,) = owner.execute(total, (START,)).fetchall()
        told = change(
            young.room, "late_impressions", day=str(START), publisher="pub_00001", count=3, microdollars=1_500_000
        )
        assert told == {"added": 3, "microdollars": 4_500_000}
        (after,) = owner.execute(total, (START,)).fetchall()
        assert (after[0] - before[0], float(after[1] - before[1])) == (3, 4.5)  # pyright: ignore[reportOperatorIssue]
        assert change(young.room, "delete_rows", day=str(START), publisher="pub_00001") == {"deleted": after[0]}
        assert owner.execute(total, (START,)).fetchall() == [(0, None)]


@pytest.mark.parametrize("table", list(COLUMNS))
def test_synthetic_rows_for_benchmarks(young: Served, table: str) -> None:
    held = len(stored(young)[table])
    change(young.room, "add_rows", table=table, count=2_000, day="2026-03-02", days=2)
    assert len(stored(young)[table]) == held + 2_000
    time = "clicked_at" if table == "ad_clicks" else "occurred_at"
    with young.owner() as owner:
        days = owner.execute(
            f"SELECT {time}::date, count(*) FROM {table} WHERE {key_of(table)} LIKE '%bench%' "
            "GROUP BY 1 ORDER BY 1".encode()
        ).fetchall()
    assert days == [(date(2026, 3, 2), 1_000), (date(2026, 3, 3), 1_000)]


@pytest.mark.parametrize(
    ("action", "what"),
    [
        ("explode", {}),
        ("late_impressions", {"day": "someday", "publisher": "pub_00001"}),
        ("late_impressions", {"publisher": "pub_00001"}),
        ("delete_rows", {"day": "2026-03-01", "publisher": "pub_00001", "table": "secrets"}),
        ("add_rows", {"count": 1, "table": "secrets"}),
        ("page_rows", {"rows": "many"}),
        ("page_rows", {}),
        ("statement_delay", {"seconds": -1}),
    ],
)
def test_nonsense_is_refused(site: Served, action: str, what: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        change(site.room, action, **what)


def test_creating_again_is_the_same(server_url: str) -> None:
    world = a_world(until=datetime(2026, 3, 3, tzinfo=UTC))
    with served(server_url, world) as site:
        before = stored(site)
        again = RedshiftRoom(world, server_url, database=site.room.warehouse.database, password="given")
        try:
            assert stored(site) == before
            with psycopg.connect(again.warehouse.reading) as reader:
                assert reader.execute("SELECT count(*) FROM ad_clicks").fetchone()
        finally:
            again.close()


def test_the_world_is_left_alone(server_url: str) -> None:
    untouched, used = (a_world(until=datetime(2026, 3, 6, tzinfo=UTC)) for _ in range(2))
    with served(server_url, used) as site:
        site.room.follow()
    for world in (untouched, used):
        world.advance_to(datetime(2026, 3, 12, tzinfo=UTC))
    assert used.gravity.rows == untouched.gravity.rows
    assert used.bank == untouched.bank
    assert used.planted == untouched.planted
