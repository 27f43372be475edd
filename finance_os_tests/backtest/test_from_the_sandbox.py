"""A company's months through the real sources: every publisher agrees, but for what a system is known to have wrong."""

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from finance_os import settings as settings_module
from finance_os.backtest.compare import Row
from finance_os.backtest.evidence import BASELINE, PUBLISHERS, SPEND
from finance_os.backtest.month import Month
from finance_os.backtest.results import compute
from finance_os.backtest.rules import Class, Rules
from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.sandbox import baseline, gravity
from finance_os.sandbox.world import World
from finance_os.sources import drops
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import Drop
from finance_os.sources.planning import plan_reads
from finance_os.sources.registry import SOURCES
from finance_os_tests.backtest.staged import APRIL, MARCH
from finance_os_tests.conftest import drop_database
from finance_os_tests.sources.redshift_served import Served, a_world, served

MAY = Month(date(2026, 5, 1))
ROUNDING = 1_000
"""Microdollars: the company rounds its shares by campaign and day, the backtest once."""


@pytest.fixture(scope="module")
def world() -> World:
    """A few days of March, a whole April whose last impressions have arrived, and a few days of May."""
    return a_world(start=date(2026, 3, 21), until=datetime(2026, 5, 9, tzinfo=UTC), size=3)


@pytest.fixture(scope="module")
def site(server_url: str, world: World) -> Iterator[Served]:
    with served(server_url, world) as running:
        yield running


@pytest.fixture(scope="module")
def environment(server_url: str, world: World, site: Served) -> Iterator[dict[str, str]]:
    """Where the company's warehouse and its product database answer."""
    name = f"gravity_{uuid.uuid4().hex[:12]}"
    made = gravity.create(server_url, world, database=name)
    yield {**site.room.env(site.base), "FINANCE_OS_GRAVITY_URL": made.url}
    drop_database(server_url, name)
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"DROP ROLE IF EXISTS {name}_reader".encode())


Stage = Callable[..., None]


@pytest.fixture
def stage(
    database: Database, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    """Read days of an object through its source, as its asset does. Files are handed in below `tmp_path`."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FINANCE_OS_DROPS", str(tmp_path))
    settings_module.settings.cache_clear()
    ensure_business(database, "acme", "Acme", "UTC")

    def read(key: tuple[str, str], days: Days, *handed_in: Drop) -> None:
        [source] = [each for each in SOURCES if each.system == key[0]]
        connection = ensure_connection(database, "acme", key[0])
        now = datetime.now(UTC)
        for each in plan_reads(source, source.object(key[1]), connection, days, now, drops=handed_in):
            run = perform(database, each, Origin(Trigger.MANUAL), chunk_rows=500)
            assert run["status"] == "succeeded"

    yield read
    settings_module.settings.cache_clear()


def hand_in(database: Database, location: Path, rows: list[baseline.Economics]) -> Drop:
    """The company's workbook, taken from the inbox."""
    connection = ensure_connection(database, "acme", "xlsx")
    [source] = [each for each in SOURCES if each.system == "xlsx"]
    inbox = location / "acme" / "xlsx"
    inbox.mkdir(parents=True)
    (inbox / "baseline.xlsx").write_bytes(baseline.render(rows, "titled"))
    [file] = drops.look(str(location), connection, source.reads).waiting
    assert source.judge is not None
    taken = drops.take(database, connection, source.judge, file, location=str(location), credentials=Credentials({}))
    assert taken.drop is not None
    return taken.drop


def test_what_systems_have_wrong_is_found_and_nothing_else(
    database: Database, world: World, site: Served, stage: Stage, tmp_path: Path
) -> None:
    rows, planted = baseline.plant(baseline.economics(world))
    today = datetime.now(UTC).date()
    stage(PUBLISHERS, Days(today, today))
    stage(SPEND, Days(MARCH.first, MAY.last))
    drop = hand_in(database, tmp_path, rows)
    assert drop.first_day is not None
    stage(BASELINE, Days(drop.first_day, drop.last_day or drop.first_day), drop)

    months = {month: compute(database, "acme", month, Rules(), MARCH.first).result for month in (MARCH, APRIL, MAY)}
    for month, found in months.items():
        assert found.totals["spend_microdollars"] == in_the_warehouse(site, month) > 0
    wrong = {each.kind: each.id.split(":") for each in [*planted, *site.room.planted()]}
    told = {
        each.kind: int(amount)
        for each in [*planted, *site.room.planted()]
        if (amount := each.detail.split()[0]).isdecimal()
    }

    april = months[APRIL]
    assert [row.publisher for row in april.rows] == [publisher.id for publisher in world.publishers]
    assert {row.verdict for row in april.rows} <= {Class.MATCH, Class.WITHIN_TOLERANCE}
    assert all(abs(off_by(row)) < ROUNDING for row in april.rows)
    assert april.sign_off_blockers == ()

    march = months[MARCH]
    twice, lost = wrong["baseline_duplicate_key"][1], wrong["redshift_hour_lost"][0]
    assert {row.publisher for row in march.rows if row.verdict is Class.DUPLICATE_BASELINE_KEY} == {twice}
    assert march.sign_off_blockers == ("duplicate_baseline_key",)
    assert lost != twice
    row = march.row(lost)
    assert row.verdict is Class.UNDER
    assert row.share_bps is not None
    assert abs(off_by(row) + told["redshift_hour_lost"] * row.share_bps // 10_000) < ROUNDING
    others = [row for row in march.rows if row.publisher not in (twice, lost)]
    assert others
    assert all(row.verdict in (Class.MATCH, Class.WITHIN_TOLERANCE) for row in others)

    may = months[MAY]
    missing, transposed = (wrong[f"baseline_{kind}"][1] for kind in ("publisher_missing", "accrual_transposed"))
    assert {row.publisher for row in may.rows if row.verdict is Class.NO_BASELINE} == {missing}
    assert may.row(transposed).variances["accrual"].baseline == told["baseline_accrual_transposed"]
    assert may.row(transposed).verdict in (Class.OVER, Class.UNDER)


def off_by(row: Row) -> int:
    """Microdollars between what events say of a publisher's accrual and what the spreadsheet does."""
    absolute = row.variances["accrual"].absolute
    assert absolute is not None
    return absolute


def in_the_warehouse(site: Served, month: Month) -> int:
    """The microdollars of a month, asked of the warehouse itself."""
    with site.owner() as connection:
        row = connection.execute(
            "SELECT sum(price) * 1000000 FROM ad_impressions WHERE occurred_at >= %s AND occurred_at < %s::date + 1",
            (month.first, month.last),
        ).fetchone()
    assert row is not None
    assert isinstance(row[0], Decimal)
    assert row[0] == int(row[0])
    return int(row[0])
