"""Gravity: exact rows of a real PostgreSQL, read and never written."""

import gc
import re
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo

import psutil
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from finance_os.evidence.canonical import canonical_json, decode
from finance_os.evidence.extraction import Extraction, Kind, Page, Record, RemoteCount, Request, SourceError
from finance_os.evidence.windows import Days, day_of, window_of
from finance_os.sandbox import gravity as sandbox
from finance_os.sandbox.world import World
from finance_os.sources import gravity, sql_queries
from finance_os.sources.credentials import Credentials
from finance_os.sources.gravity import GRAVITY, URL, GravityReader
from finance_os.sources.gravity import reader as gravity_reader
from finance_os.sources.gravity import reading as gravity_reading
from finance_os.sources.source import Reads, SourceObject
from finance_os.sources.sql_queries import MalformedQuery, SqlQuery, load_queries, load_query
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.pgbouncer import pgbouncer, pooled_url

CHECKSUMS = {
    ("gravity_advertiser_billing", 1): "f3d6efb212f5d86fccf45e6385e482b97251547c0cef7adca160d1321b663709",
    ("gravity_billing_adjustment", 1): "6bc624352e2dc27559c8cdc4a9b4b782a2bf41d5d971f475d6a65e395d97056f",
    ("gravity_campaign_advertiser", 1): "445b2e178af24f7149283e01058a90dc9bd2c05705d593706f3e2712455d8b07",
    ("gravity_canonical_entities", 1): "3b2c8a933109a2c72f79588bf6f976610cd17861ae2c9a7ffc2a0964e8c88a38",
}

NEW_YORK = ZoneInfo("America/New_York")
TODAY = date(2026, 3, 10)
NOW = datetime(2026, 3, 10, 18, 0, tzinfo=UTC)


class NothingHeld:
    """No evidence is staged yet."""

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:
        raise NotImplementedError

    def ids_read_since(self, moment: datetime) -> list[str]:
        raise NotImplementedError

    def requests_since(self, moment: datetime) -> int:
        raise NotImplementedError

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:
        raise AssertionError(f"Gravity looks for {path} {value} in what is staged")


def a_request(kind: Kind, days: Days | None = None, *targets: str, zone: ZoneInfo = NEW_YORK) -> Request:
    days = days or Days(TODAY, TODAY)
    window = window_of(days, zone).until(NOW)
    return Request(kind, days, window, zone, lambda: NOW, NothingHeld(), targets=targets)


def pages(extraction: Extraction) -> list[Page]:
    return [item for item in extraction if isinstance(item, Page)]


def records(extraction: Extraction) -> list[Record]:
    return [record for page in pages(extraction) for record in page.records]


def counted(extraction: Extraction) -> dict[date, int]:
    (count,) = [item for item in extraction if isinstance(item, RemoteCount)]
    return count.by_day


def reader(url: str) -> GravityReader:
    return GravityReader(url)


def an_object(text: str, key: str = "id", **changes: Any) -> SourceObject[SqlQuery]:
    query = SqlQuery("thing", 3, "Things", text, tuple(key.split(",")), "created_at", "updated_at")
    return SourceObject("thing", "Things.", replace(query, **changes), reads=Reads.UPDATED)


THINGS = an_object("SELECT * FROM things")


@pytest.fixture(scope="module")
def product(server_url: str) -> Iterator[str]:
    """Superuser URL of a product database of our own."""
    name = f"product_{uuid.uuid4().hex[:12]}"
    url = create_database(server_url, name)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE ROLE product_reader LOGIN PASSWORD 'hunter2'" if _is_new(connection) else "SELECT 1")
        connection.execute("GRANT USAGE ON SCHEMA public TO product_reader")
    yield url
    drop_database(server_url, name)


def _is_new(connection: psycopg.Connection[Any]) -> bool:
    return not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'product_reader'").fetchone()


@pytest.fixture
def things(product: str) -> Iterator[psycopg.Connection[Any]]:
    """An empty table `things (id, created_at, updated_at)`, on a connection that may change it."""
    with psycopg.connect(product, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS things")
        connection.execute("CREATE TABLE things (id int PRIMARY KEY, created_at timestamptz, updated_at timestamptz)")
        yield connection


def put(connection: psycopg.Connection[Any], **times: str) -> None:
    for n, moment in enumerate(times.values(), start=1):
        connection.execute("INSERT INTO things VALUES (%s, %s, %s)", (n, "2026-01-01T00:00Z", moment))


@pytest.fixture(scope="module")
def company(server_url: str) -> Iterator[sandbox.Gravity]:
    """The sandbox's product database."""
    name = f"gravity_{uuid.uuid4().hex[:12]}"
    world = World(seed=7, start=date(2026, 1, 5))
    world.advance_to(datetime(2026, 2, 20, tzinfo=UTC))
    yield sandbox.create(server_url, world, database=name)
    drop_database(server_url, name)


def test_the_declaration_is_whole() -> None:
    assert [obj.object_type for obj in GRAVITY] == [
        "gravity_canonical_entities",
        "gravity_campaign_advertiser",
        "gravity_billing_adjustment",
        "gravity_advertiser_billing",
    ]
    assert GRAVITY.object("gravity_billing_adjustment").reads is Reads.UPDATED
    assert (GRAVITY.order, GRAVITY.title) == (6, "Gravity prod database")


@pytest.mark.parametrize("obj", GRAVITY.objects, ids=lambda obj: obj.object_type)
def test_every_column_of_the_company_is_read_and_documented(
    company: sandbox.Gravity, obj: SourceObject[SqlQuery]
) -> None:
    extraction = gravity.extract(reader(company.url), obj, a_request(Kind.SNAPSHOT))
    (count, *read) = extraction
    assert isinstance(count, RemoteCount)
    found = [record for page in read if isinstance(page, Page) for record in page.records]
    assert found
    assert count.by_day == {TODAY: len(found)}
    documented = [column.name for column in obj.columns]
    assert list(found[0].payload or {}) == documented
    assert set(obj.shown) <= set(documented)
    for record in found:
        assert record.payload is not None
        assert canonical_json(decode(canonical_json(record.payload))) == canonical_json(record.payload)
        assert "@" not in canonical_json(record.payload).decode()
    host = conninfo_to_dict(company.url).get("host") or ""
    place = "local socket" if str(host).startswith("/") else host
    assert extraction.requested() == {f"SELECT {place}": 2, f"READ-ONLY-SESSION {place}": 1}


def test_the_company_is_read_as_it_is(company: sandbox.Gravity) -> None:
    with psycopg.connect(company.owner_url) as connection:
        rows = connection.execute(
            "SELECT campaign_id, a.stripe_customer_id, greatest(c.updated_at, a.updated_at) FROM campaigns c "
            "LEFT JOIN advertisers a USING (advertiser_id) ORDER BY campaign_id"
        ).fetchall()
    obj = GRAVITY.object("gravity_campaign_advertiser")
    found = records(gravity.extract(reader(company.url), obj, a_request(Kind.SNAPSHOT)))
    assert [(r.source_id, (r.payload or {})["advertiser_stripe_customer_id"], r.updated_at) for r in found] == rows


@pytest.mark.parametrize("obj", GRAVITY.objects, ids=lambda obj: obj.object_type)
def test_the_windows_of_all_days_are_the_snapshot(company: sandbox.Gravity, obj: SourceObject[SqlQuery]) -> None:
    everything = records(gravity.extract(reader(company.url), obj, a_request(Kind.SNAPSHOT)))
    moments = [record.updated_at for record in everything if record.updated_at]
    days = Days(day_of(min(moments), NEW_YORK), day_of(max(moments), NEW_YORK))
    request = replace(a_request(Kind.WINDOW, days), window=window_of(days, NEW_YORK))
    windowed = records(gravity.extract(reader(company.url), obj, request))
    assert sorted(record.source_id for record in windowed) == sorted(record.source_id for record in everything)
    by_day: dict[date, int] = {}
    for record in windowed:
        assert record.updated_at
        assert record.day == day_of(record.updated_at, NEW_YORK)
        by_day[record.day] = by_day.get(record.day, 0) + 1
    assert list(by_day) == sorted(by_day)
    assert counted(gravity.extract(reader(company.url), obj, request)) == by_day


def test_a_window_is_half_open_and_ends_at_the_present(things: psycopg.Connection[Any], product: str) -> None:
    put(
        things,
        a="2026-03-08T04:59:59.999999Z",
        first="2026-03-08T05:00:00Z",
        last="2026-03-09T03:59:59.999999Z",
        monday="2026-03-09T04:00:00Z",
        present="2026-03-10T17:59:59.999999Z",
        later="2026-03-10T18:00:00Z",
    )
    # The clocks of New York went forward on the 8th: a day of 23 hours.
    request = a_request(Kind.WINDOW, Days(date(2026, 3, 8), TODAY))
    found = records(gravity.extract(reader(product), THINGS, request))
    eighth, ninth = date(2026, 3, 8), date(2026, 3, 9)
    assert [(r.source_id, r.day) for r in found] == [("2", eighth), ("3", eighth), ("4", ninth), ("5", TODAY)]
    assert counted(gravity.extract(reader(product), THINGS, request)) == {eighth: 2, ninth: 1, TODAY: 1}


def test_a_skipped_day_holds_nothing(things: psycopg.Connection[Any], product: str) -> None:
    apia, days = ZoneInfo("Pacific/Apia"), Days(date(2011, 12, 29), date(2011, 12, 31))
    put(things, before="2011-12-30T09:59:59Z", after="2011-12-30T10:00:00Z")
    request = a_request(Kind.WINDOW, days, zone=apia)
    found = records(gravity.extract(reader(product), THINGS, request))
    assert [record.day for record in found] == [days.first, days.last]
    assert counted(gravity.extract(reader(product), THINGS, request)) == {days.first: 1, days.last: 1}


def test_days_and_counts_agree_where_the_clock_goes_back_past_midnight(
    things: psycopg.Connection[Any], product: str
) -> None:
    zone, days = ZoneInfo("America/St_Johns"), Days(date(2006, 10, 28), date(2006, 10, 30))
    window = window_of(days, zone)
    things.execute(
        "INSERT INTO things SELECT n, %(at)s, %(at)s + n * interval '7 minutes' FROM generate_series(0, 620) n",
        {"at": window.start},
    )
    request = a_request(Kind.WINDOW, days, zone=zone)
    found = records(gravity.extract(reader(product), THINGS, request))
    by_day = {day: sum(record.day == day for record in found) for day in days}
    assert counted(gravity.extract(reader(product), THINGS, request)) == by_day
    assert all(record.updated_at and record.day == day_of(record.updated_at, zone) for record in found)
    assert sum(by_day.values()) == 621


def test_an_empty_table_is_counted_too(things: psycopg.Connection[Any], product: str) -> None:
    for kind in (Kind.SNAPSHOT, Kind.WINDOW, Kind.TARGETED):
        assert list(gravity.extract(reader(product), THINGS, a_request(kind))) == [RemoteCount({})]


def test_targets_are_found_or_removed(things: psycopg.Connection[Any], product: str) -> None:
    put(things, a="2026-03-01T00:00Z", b="2026-03-02T00:00Z")
    request = a_request(Kind.TARGETED, None, "2", "7", "x'; DROP TABLE things; --")
    found = records(gravity.extract(reader(product), THINGS, request))
    assert [(r.source_id, r.payload is None, r.day) for r in found] == [
        ("2", False, TODAY),
        ("7", True, TODAY),
        ("x'; DROP TABLE things; --", True, TODAY),
    ]
    assert counted(gravity.extract(reader(product), THINGS, request)) == {TODAY: 1}


def test_a_composite_key_is_joined(things: psycopg.Connection[Any], product: str) -> None:
    put(things, a="2026-03-01T00:00Z", b="2026-03-02T00:00Z")
    obj = an_object("SELECT 'x' || id AS side, * FROM things", key="side,id")
    assert [r.source_id for r in records(gravity.extract(reader(product), obj, a_request(Kind.SNAPSHOT)))] == [
        "x1:1",
        "x2:2",
    ]
    found = records(gravity.extract(reader(product), obj, a_request(Kind.TARGETED, None, "x2:2", "x2:1")))
    assert [(r.source_id, r.payload is None) for r in found] == [("x2:2", False), ("x2:1", True)]


def test_one_snapshot_whatever_happens_meanwhile(
    things: psycopg.Connection[Any], product: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gravity_reading, "ROWS_PER_PAGE", 10)
    things.execute("INSERT INTO things SELECT n, now(), '2026-03-10T12:00Z' FROM generate_series(1, 95) n")
    asked: list[datetime] = []

    def now() -> datetime:
        asked.append(NOW)
        return NOW

    extraction = gravity.extract(reader(product), THINGS, replace(a_request(Kind.SNAPSHOT), now=now))
    items = iter(extraction)
    assert next(items) == RemoteCount({TODAY: 95})
    things.execute("DELETE FROM things WHERE id > 50")
    things.execute("UPDATE things SET updated_at = now() WHERE id < 20")
    read = [item for item in items if isinstance(item, Page)]
    assert [len(page.records) for page in read] == [10] * 9 + [5]
    assert {record.version for page in read for record in page.records} == {1_773_144_000_000_000}
    assert asked == [NOW]
    assert {(page.requested_at, page.resume) for page in read} == {(NOW, None)}
    provenance = {"query": "thing", "version": 3, "extracted_at": "2026-03-10T18:00:00.000000Z"}
    assert all(page.provenance == provenance for page in read)
    assert (extraction.query_name, extraction.query_version) == ("thing", "3")


def test_a_read_that_is_abandoned_leaves_no_connection(things: psycopg.Connection[Any], product: str) -> None:
    put(things, a="2026-03-01T00:00Z")
    items = gravity.extract(reader(product), THINGS, a_request(Kind.SNAPSHOT)).items
    assert isinstance(items, Iterator)
    next(items)
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert things.execute(others).fetchone() == (1,)
    items.close()  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(50):
        if things.execute(others).fetchone() == (0,):
            return
        time.sleep(0.05)
    pytest.fail("the connection is still open")


EVERY_TYPE = """
    SELECT 1 AS id, timestamptz '2026-01-02 03:04:05.6+02' AS created_at,
        timestamptz '2026-01-02 03:04:05Z' AS updated_at,
        true AS "bool", 32767::int2 AS "int2", -2147483648 AS "int4", 9223372036854775807 AS "int8",
        1234567890123456789012345.6700 AS "numeric", 0.1::float4 AS "float4", 1e22::float8 AS "float8",
        100000::float8 AS "whole", 5e-324::float8 AS "tiny", '-0'::float8 AS "negative_zero",
        'a"b' AS "text", 'v'::varchar(3) AS "varchar", 'c'::char(3) AS "bpchar", 'n'::name AS "name",
        '6BA7B810-9dad-11d1-80b4-00c04fd430c8'::uuid AS "uuid", date '2026-02-28' AS "date", NULL::date AS "nothing",
        timestamp '2026-01-02 03:04:05' AS "timestamp", '\\xDEADbeef'::bytea AS "bytea",
        '{"a": 1.10, "b": [1e3, 12345678901234567890, null]}'::json AS "json", '{"a": 1.10}'::jsonb AS "jsonb",
        'null'::jsonb AS "json_null", '"text"'::jsonb AS "json_text",
        ARRAY[1.50, NULL] AS "numerics", ARRAY[['a', 'b'], ['c', NULL]] AS "texts", '{}'::int[] AS "none",
        ARRAY[timestamptz '2026-01-02 03:04:05Z', NULL] AS "times", ARRAY[0.1::float4] AS "floats",
        ARRAY['\\x00'::bytea] AS "byteas", ARRAY['6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid] AS "uuids"
"""


def test_every_type_has_an_exact_form(product: str) -> None:
    (record,) = records(gravity.extract(reader(product), an_object(EVERY_TYPE), a_request(Kind.SNAPSHOT)))
    assert record.payload is not None
    expected = {
        "id": "1",
        "created_at": '"2026-01-02T01:04:05.600000Z"',
        "updated_at": '"2026-01-02T03:04:05.000000Z"',
        "bool": "true",
        "int2": "32767",
        "int4": "-2147483648",
        "int8": "9223372036854775807",
        "numeric": "1234567890123456789012345.6700",
        "float4": "0.1",
        "float8": "10000000000000000000000",
        "whole": "100000",
        "tiny": "0." + "0" * 323 + "5",
        "negative_zero": "0",
        "text": '"a\\"b"',
        "varchar": '"v"',
        "bpchar": '"c  "',
        "name": '"n"',
        "uuid": '"6ba7b810-9dad-11d1-80b4-00c04fd430c8"',
        "date": '"2026-02-28"',
        "nothing": "null",
        "timestamp": '"2026-01-02T03:04:05.000000"',
        "bytea": '"deadbeef"',
        "json": '{"a":1.10,"b":[1000,12345678901234567890,null]}',
        "jsonb": '{"a":1.10}',
        "json_null": "null",
        "json_text": '"text"',
        "numerics": "[1.50,null]",
        "texts": '[["a","b"],["c",null]]',
        "none": "[]",
        "times": '["2026-01-02T03:04:05.000000Z",null]',
        "floats": "[0.1]",
        "byteas": '["00"]',
        "uuids": '["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]',
    }
    assert {name: canonical_json(value).decode() for name, value in record.payload.items()} == expected
    assert record.created_at == datetime(2026, 1, 2, 1, 4, 5, 600_000, UTC)
    assert record.version == 1_767_323_045_000_000


@settings(max_examples=20)
@given(st.lists(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), min_size=1, max_size=5))
def test_times_survive_to_the_microsecond(product: str, moments: list[datetime]) -> None:
    text = " UNION ALL ".join(
        f"SELECT {n} AS id, timestamptz '{moment.isoformat()}Z' AS created_at, "
        f"timestamptz '{moment.isoformat()}Z' AS updated_at"
        for n, moment in enumerate(moments)
    )
    # The server's own time zone must not matter.
    url = f"{product}{'&' if '?' in product else '?'}options=-c%20TimeZone%3DAsia/Kathmandu"
    found = records(gravity.extract(reader(url), an_object(text), a_request(Kind.SNAPSHOT)))
    for record, moment in zip(found, moments, strict=True):
        assert (record.payload or {})["updated_at"] == moment.isoformat(timespec="microseconds") + "Z"
        assert record.updated_at == moment.replace(tzinfo=UTC)
        assert record.version is not None
        assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=record.version) == record.updated_at


TIMES = "now() AS created_at, now() AS updated_at"


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        (f"SELECT 1 AS id, {TIMES}, interval '1 day' AS delay", "unsupported_column", "delay"),
        (f"SELECT 1 AS id, {TIMES}, ARRAY['1.2.3.4'::inet] AS hosts", "unsupported_column", "hosts"),
        (f"SELECT 1 AS id, {TIMES}, 'x'::mood AS feeling", "unsupported_column", "feeling"),
        (f"SELECT 1 AS id, {TIMES}, 2 AS twice, 3 AS twice", "unsupported_column", "twice"),
        (f"SELECT 1.5 AS id, {TIMES}", "unsupported_column", "id"),
        ("SELECT 1 AS id, now() AS created_at, now()::timestamp AS updated_at", "unsupported_column", "updated_at"),
        ("SELECT 7 AS id, now() AS created_at, NULL::timestamptz AS updated_at", "undated_row", "row 7"),
        (f"SELECT NULL::int AS id, {TIMES}", "unidentified_row", "has no id"),
        (f"SELECT 7 AS id, {TIMES} FROM generate_series(1, 2)", "duplicate_row", "row 7"),
        (f"SELECT 7 AS id, {TIMES}, 1 / 0 AS broken", "query_failed", "22012"),
        (f"SELECT 7 AS id, {TIMES}, timestamptz 'infinity' AS never", "unreadable_value", "infinite"),
        ("SELECT * FROM nowhere", "query_failed", "42P01"),
    ],
)
def test_what_cannot_be_read_exactly_is_refused(product: str, text: str, code: str, named: str) -> None:
    with psycopg.connect(product) as connection:
        connection.execute("DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ('x')")
    with pytest.raises(SourceError) as refusal:
        list(gravity.extract(reader(product), an_object(text), a_request(Kind.SNAPSHOT)))
    assert refusal.value.code == code
    assert named in refusal.value.message
    assert "thing version 3" in refusal.value.message
    assert refusal.value.permanent == (named != "22012")


def test_a_row_without_updated_time_is_refused_in_any_window(things: psycopg.Connection[Any], product: str) -> None:
    put(things, a="2026-03-09T12:00Z")
    things.execute("INSERT INTO things VALUES (41, now(), NULL)")
    with pytest.raises(SourceError, match="row 41 has no updated_at"):
        list(gravity.extract(reader(product), THINGS, a_request(Kind.WINDOW)))


def test_a_drop_is_not_read(product: str) -> None:
    with pytest.raises(ValueError, match="drop"):
        list(gravity.extract(reader(product), THINGS, a_request(Kind.DROP)))


WRITES = ["INSERT INTO things VALUES (1)", "CREATE TABLE more ()", "SELECT nextval('counter')", "TRUNCATE things"]


@pytest.mark.parametrize("write", WRITES)
def test_a_login_that_could_write_cannot(things: psycopg.Connection[Any], product: str, write: str) -> None:
    things.execute("CREATE SEQUENCE IF NOT EXISTS counter")
    client = reader(product)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as refusal, client.transaction() as connection:
        connection.execute(write.encode())
    assert refusal.value.sqlstate == "25006"
    with client.transaction() as connection:  # from beneath: libpq itself
        result = connection.pgconn.exec_(write.encode())
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"25006"
    obj = an_object(f"WITH w AS ({write} RETURNING 1) SELECT 1 AS id, {TIMES} FROM w")
    if write.startswith("INSERT"):
        with pytest.raises(SourceError, match=r"0A000|25006"):
            list(gravity.extract(client, obj, a_request(Kind.SNAPSHOT)))
    assert things.execute("SELECT count(*) FROM things").fetchone() == (0,)


def test_a_transaction_cannot_be_made_writable(things: psycopg.Connection[Any], product: str) -> None:
    with reader(product).transaction() as connection:
        connection.execute("SELECT 1")
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            connection.execute("SET TRANSACTION READ WRITE")


# Behind a socket, with a password.


@pytest.fixture
def pooled(product: str, things: psycopg.Connection[Any]) -> Iterator[str]:
    """The product database over TCP, through a pooler in transaction mode, as a login that may read `things` only."""
    things.execute("GRANT SELECT ON things TO product_reader")
    things.execute("CREATE TABLE IF NOT EXISTS secrets (id int, created_at timestamptz, updated_at timestamptz)")
    things.execute("REVOKE ALL ON secrets FROM product_reader")
    with pgbouncer(product, {"product_reader": "hunter2"}) as address:
        yield pooled_url(address, product, "product_reader", "hunter2")


def test_it_reads_over_tcp_through_a_pooler(things: psycopg.Connection[Any], pooled: str) -> None:
    things.execute("INSERT INTO things SELECT n, now(), '2026-03-10T12:00Z' FROM generate_series(1, 12000) n")
    extraction = gravity.extract(reader(f"{pooled}?sslmode=prefer"), THINGS, a_request(Kind.SNAPSHOT))
    read = list(extraction)
    assert read[0] == RemoteCount({TODAY: 12_000})
    assert [len(page.records) for page in read if isinstance(page, Page)] == [5_000, 5_000, 2_000]
    assert extraction.requested() == {"SELECT 127.0.0.1": 2, "READ-ONLY-SESSION 127.0.0.1": 1}
    with psycopg.connect(pooled) as connection:
        left = connection.execute(
            "SELECT name FROM pg_settings "
            "WHERE source = 'session' AND name <> 'application_name' AND setting <> reset_val"
        ).fetchall()
    assert not left, f"the pooler's connection kept {left}"


def failure(url: str, text: str = "SELECT * FROM things") -> SourceError:
    with pytest.raises(SourceError) as refusal:
        list(gravity.extract(reader(url), an_object(text), a_request(Kind.SNAPSHOT)))
    shown = "".join(traceback.format_exception(refusal.value)) + repr(refusal.value)
    for secret in ("hunter2", "wrong-password", "product_reader"):
        assert secret not in shown
    return refusal.value


def with_password(url: str, password: str) -> str:
    return url.replace("hunter2", password)


def test_failures_have_codes_and_tell_no_secrets(pooled: str, things: psycopg.Connection[Any]) -> None:
    denied = failure(pooled, "SELECT * FROM secrets")
    assert (denied.code, denied.permanent) == ("permission_denied", True)
    assert "may not read secrets" in denied.message
    refused = failure(with_password(pooled, "wrong-password"))
    assert (refused.code, refused.permanent) == ("unauthorized", True)
    tls = failure(f"{pooled}?sslmode=require")
    assert (tls.code, tls.permanent) == ("unreachable", False)
    parts = urlsplit(pooled)
    closed = urlunsplit(parts._replace(netloc=re.sub(r":\d+$", ":1", parts.netloc)))
    nobody = failure(closed)
    assert (nobody.code, nobody.permanent) == ("unreachable", False)
    assert "127.0.0.1" in nobody.message


def test_an_unknown_login_or_database(product: str) -> None:
    given = conninfo_to_dict(product)
    for changes, code in (({"user": "nobody_here"}, "unauthorized"), ({"dbname": "nowhere"}, "unknown_database")):
        found = failure(make_conninfo("", **{**given, **changes}))
        assert (found.code, found.permanent) == (code, True)


@pytest.mark.parametrize("url", ["hunter2", "postgresql://u:hunter2@[::1/x", "postgresql://u:hunter2@h:port/x"])
def test_a_url_that_is_none(url: str) -> None:
    assert failure(url).code == "invalid_url"


def test_printing_shows_no_secret() -> None:
    url = "postgresql://finance:hunter2@db.example/gravity"
    with gravity.connect(Credentials({URL: url})) as client:
        assert repr(client) == "GravityReader(db.example)"


def test_a_query_that_takes_too_long(product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gravity_reader, "_SESSION", gravity_reader._SESSION.replace("10min", "100ms"))
    slow = failure(product, f"SELECT 1 AS id, {TIMES}, pg_sleep(5)::text AS s")
    assert (slow.code, slow.permanent) == ("timeout", False)


def test_a_connection_that_breaks(
    product: str, things: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gravity_reading, "ROWS_PER_PAGE", 10)
    things.execute("INSERT INTO things SELECT n, now(), now() FROM generate_series(1, 100) n")
    items = iter(gravity.extract(reader(product), THINGS, a_request(Kind.SNAPSHOT)))
    next(items)
    things.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'finance-os'"
    )
    with pytest.raises(SourceError) as broken:
        list(items)
    assert (broken.value.code, broken.value.permanent) == ("unreachable", False)


def test_memory_stays_flat_and_reading_is_quick(product: str) -> None:
    rows = 300_000
    with psycopg.connect(product) as connection:
        connection.execute("DROP TABLE IF EXISTS many")
        connection.execute(
            """
            CREATE TABLE many AS
            SELECT n AS id, 'adv_' || lpad((n %% 1000)::text, 6, '0') AS advertiser_id, 'goodwill' AS kind,
                   'applied' AS state, -n * 10::bigint AS amount, 'usd' AS currency,
                   'cbtxn_1' || md5(n::text) AS reference,
                   date '2024-01-01' + n %% 700 AS effective_on,
                   timestamptz '2024-01-01 00:00Z' + n * interval '1.000001 second' AS created_at,
                   timestamptz '2024-01-01 00:00Z' + n * interval '1.000001 second' AS updated_at
            FROM generate_series(1, %s) n
            """,
            (rows,),
        )
        connection.execute("ALTER TABLE many ADD PRIMARY KEY (id)")
    process = psutil.Process()
    client = reader(product)
    records(gravity.extract(client, an_object("SELECT * FROM many WHERE id < 20000"), a_request(Kind.SNAPSHOT)))
    gc.collect()
    before, peak, seen = process.memory_info().rss, 0, 0
    began = time.perf_counter()
    for item in gravity.extract(client, an_object("SELECT * FROM many"), a_request(Kind.SNAPSHOT)):
        if isinstance(item, Page):
            seen += len(item.records)
            peak = max(peak, process.memory_info().rss)
    took = time.perf_counter() - began
    assert seen == rows
    assert peak - before < 30e6, f"{(peak - before) / 1e6:.0f} MB more for {rows:,} rows"
    assert rows / took > 20_000, f"{rows / took:,.0f} rows/s"


# Versioned queries


def test_a_changed_query_has_a_new_version() -> None:
    found = {(query.name, query.version): query.checksum for query in load_queries("gravity").values()}
    for key, checksum in found.items():
        assert CHECKSUMS.get(key) == checksum, (
            f"sql/gravity/{key[0]}.sql no longer reads what its version {key[1]} read. Raise the version in the file, "
            f"and add to CHECKSUMS: {(key[0], key[1] + (key in CHECKSUMS))!r}: {checksum!r}. Keep the old entry."
        )


def test_the_checksum_sees_whatever_decides_what_is_read() -> None:
    query = load_query("gravity", "gravity_billing_adjustment")
    assert replace(query, title="Another").checksum == query.checksum
    changes = ({"text": query.text + " "}, {"key": ("id",)}, {"updated": "created_at"}, {"created": None})
    assert len({replace(query, **change).checksum for change in changes} | {query.checksum}) == 5


def test_forms_of_a_query_are_one_text() -> None:
    query = SqlQuery("thing", 3, "Things", "SELECT id FROM t WHERE name LIKE '10%'", ("a", "b"))
    assert query.source_id == "CAST(q.a AS text) || ':' || CAST(q.b AS text)"
    plain = query.select()
    assert plain.startswith("/* thing version 3 */")
    assert "LIKE '10%%'" in plain
    whole = query.select("count(*)", where="q.id > %(id)s", group_by="1", order_by="2")
    assert whole.endswith("WHERE q.id > %(id)s\nGROUP BY 1\nORDER BY 2")


def test_a_percent_sign_reaches_the_server(product: str) -> None:
    obj = an_object(f"SELECT 1 AS id, '100%s %(x)s' AS label, {TIMES}")
    for kind in (Kind.SNAPSHOT, Kind.TARGETED):
        (record,) = records(gravity.extract(reader(product), obj, a_request(kind, None, "1")))
        assert (record.payload or {})["label"] == "100%s %(x)s"


HEADER = "-- query: thing\n-- version: 2\n-- title: Things\n-- key: id\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("SELECT 1", "does not declare key, query, title, version"),
        (HEADER.replace("-- query: thing", "-- query: other") + "SELECT 1", "another name"),
        (HEADER.replace("2", "2.0") + "SELECT 1", "whole number"),
        (HEADER + "-- colour: red\nSELECT 1", "colour"),
        (HEADER.replace("key: id", "key: id; DROP") + "SELECT 1", "plain column name"),
        (HEADER + "DELETE FROM things", "SELECT or WITH"),
        (HEADER + "SELECT 1; SELECT 2", "semicolon"),
    ],
)
def test_a_malformed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, fault: str) -> None:
    monkeypatch.setattr(sql_queries, "sql_folder", lambda: tmp_path)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "thing.sql").write_text(text)
    with pytest.raises(MalformedQuery, match=fault):
        load_query("some", "thing")


def test_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_queries, "sql_folder", lambda: tmp_path)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "thing.sql").write_text(
        HEADER + "-- updated: at\n--\n-- Why it is so.\n\nSELECT id, at\nFROM t\n"
    )
    expected = SqlQuery("thing", 2, "Things", "SELECT id, at\nFROM t", ("id",), None, "at")
    assert load_queries("some") == {"thing": expected}
