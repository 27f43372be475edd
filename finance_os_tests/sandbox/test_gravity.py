"""Gravity in a real PostgreSQL: its tables say what the world knows, as the clock moves, to a reader only."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from finance_os.sandbox import gravity
from finance_os.sandbox.gravity import COLUMNS, Gravity
from finance_os.sandbox.process import Running
from finance_os.sandbox.world import World, build

from .conftest import START, UNTIL


@pytest.fixture(scope="module")
def small(server_url: str) -> tuple[Gravity, World]:
    world = build(seed=5, start=START, until=datetime(2026, 7, 15, 8, tzinfo=UTC), size=8)
    return gravity.create(server_url, world, database="sandbox_small"), world


def stored(url: str, table: str) -> dict[Any, dict[str, Any]]:
    with psycopg.connect(url) as reader:
        cursor = reader.execute(sql.SQL("select * from {}").format(sql.Identifier(table)))
        assert cursor.description is not None
        names = [column.name for column in cursor.description][1:]
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in cursor}


def test_tables_hold_what_the_world_knows_as_the_clock_moves(small: tuple[Gravity, World]) -> None:
    database, world = small
    assert gravity.advance(database, world) == 0
    seen = {(table, key) for table in COLUMNS for key in stored(database.url, table)}
    for days in (3, 20, 90, 230):
        world.advance_to(datetime(2026, 7, 15, 8, tzinfo=UTC) + timedelta(days=days))
        assert gravity.advance(database, world) > 0
        for table in COLUMNS:
            assert stored(database.url, table) == world.gravity.rows[table], (table, days)
            seen |= {(table, key) for key in world.gravity.rows[table]}
    gone = {(table, key) for table, key in seen if key not in world.gravity.rows[table]}
    assert gone, "nothing was ever deleted"


def test_every_table_has_a_key_and_an_indexed_update_time(small: tuple[Gravity, World]) -> None:
    with psycopg.connect(small[0].owner_url) as owner:
        for table in COLUMNS:
            indexes = [
                row[0] for row in owner.execute("select indexdef from pg_indexes where tablename = %s", (table,))
            ]
            assert any("UNIQUE" in index for index in indexes)
            assert any("(updated_at)" in index for index in indexes)
            [nullable] = owner.execute(
                "select is_nullable from information_schema.columns where table_name = %s "
                "and column_name = 'updated_at'",
                (table,),
            ).fetchall()
            assert nullable == ("NO",)


@pytest.mark.parametrize(
    "statement",
    [
        "insert into publishers select * from publishers limit 1",
        "update advertisers set name = 'x'",
        "delete from campaigns",
        "truncate billing_adjustments",
        "drop table advertiser_billing",
        "create table mine (x int)",
        "create role stranger",
    ],
)
def test_the_reader_cannot_write(small: tuple[Gravity, World], statement: str) -> None:
    with psycopg.connect(small[0].url) as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(statement.encode())


def test_creating_again_and_at_once_is_the_same(server_url: str) -> None:
    worlds = [build(seed=6, start=START, until=datetime(2026, 6, 25, tzinfo=UTC), size=3) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(lambda w: gravity.create(server_url, w, database="sandbox_twice", password="given"), worlds)
        )
    assert len(set(made)) == 1
    for table in COLUMNS:
        assert stored(made[0].url, table) == worlds[0].gravity.rows[table]


def test_synthetic_rows_for_benchmarks(server_url: str) -> None:
    world = build(seed=6, start=START, until=datetime(2026, 6, 12, tzinfo=UTC), size=2)
    made = gravity.create(server_url, world, database="sandbox_bench")
    for table in ("advertiser_billing", "billing_adjustments"):
        held = len(stored(made.url, table))
        gravity.add_rows(made, table, 2_000)
        gravity.add_rows(made, table, 500)
        assert len(stored(made.url, table)) == held + 2_500
    with pytest.raises(ValueError, match="publishers"):
        gravity.add_rows(made, "publishers", 1)


def test_the_served_sandbox_has_one_database_a_company(sandbox: Running, world: World) -> None:
    [second] = sandbox.others
    ours = stored(sandbox.env["FINANCE_OS_GRAVITY_URL"], "advertiser_billing")
    theirs = stored(second["FINANCE_OS_GRAVITY_URL"], "advertiser_billing")
    assert ours == world.gravity.rows["advertiser_billing"]
    shared = ours.keys() & theirs.keys()
    assert len(shared) > 10
    assert all(ours[key] != theirs[key] for key in shared)
    assert max(row["updated_at"] for row in ours.values()) <= UNTIL
