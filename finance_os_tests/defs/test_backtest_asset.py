"""The backtest as an asset: months of one run that the gate refuses or lets pass, and what Dagster shows of each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from finance_os import settings as settings_module
from finance_os.backtest.month import Month
from finance_os.backtest.results import latest_result
from finance_os.defs.assets.backtest import BACKTEST, MONTHLY, GateOf, backtest_asset
from finance_os.defs.assets.sources import RAW_RECORDS, source_assets
from finance_os.defs.io_managers import RawRecordIOManager
from finance_os.defs.resources import Evidence
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.readiness.gate import Blocker, Gate, Input
from finance_os.sources.registry import SOURCES
from finance_os_tests.backtest.staged import (
    APRIL,
    DROPPED,
    MARCH,
    baseline_record,
    connect,
    days_of,
    stage_baseline,
    stage_publishers,
    stage_spend,
)
from finance_os_tests.readiness.planted import forge

FEBRUARY = Month(date(2026, 2, 1))
MONTHS = (FEBRUARY, MARCH, APRIL)
MICROS = 10**6
TRACE = Blocker(
    "trace_rows_without_run",
    "redshift/publisher_spend_daily",
    date(2026, 3, 7),
    "abcdef012345",
    "Materialize redshift/publisher_spend_daily for 2026-03-07 again.",
)


def stage_months(database: Database, business_id: str = "acme", months: Sequence[Month] = MONTHS) -> None:
    """Months of one publisher that agree with the baseline to the microdollar."""
    connections = connect(database, business_id)
    stage_publishers(database, connections["gravity"], {"pub_1": 7_000})
    for minute, month in enumerate(months):
        days = days_of(month)
        daily = {("pub_1", day): 10 * MICROS for day in days}
        stage_spend(database, connections["redshift"], days, daily, minute=minute)
        accrual = 7 * MICROS * len(list(days))
        stage_baseline(database, connections["xlsx"], baseline_record(month, "pub_1", accrual), minute=minute)


@dataclass
class Asking:
    """A gate that is shut for what `shut` says, and remembers what it was asked."""

    shut: Callable[[str, Month], Sequence[Blocker]] = lambda *_: ()
    asked: list[tuple[str, Sequence[Input]]] = field(default_factory=list)

    def __call__(self, _: Database, business_id: str, inputs: Sequence[Input]) -> Gate:
        self.asked.append((business_id, inputs))
        days = inputs[0].days
        assert days is not None
        return Gate(business_id, tuple(self.shut(business_id, Month(days.first))))


def shut_in(month: Month, *blockers: Blocker, business: str | None = None) -> Asking:
    return Asking(lambda business_id, asked: blockers if asked == month and business in (None, business_id) else ())


@dataclass(frozen=True)
class Run:
    """A run of the asset and what is left of it."""

    result: dg.ExecuteInProcessResult
    instance: dg.DagsterInstance

    @property
    def shown(self) -> dict[str, Mapping[str, Any]]:
        """Month → metadata of its materialization in this run."""
        return {
            str(each.partition)[:7]: {name: value.value for name, value in each.metadata.items()}
            for each in self.materializations
        }

    @property
    def materializations(self) -> list[dg.AssetMaterialization]:
        """As the instance has them: the run's own list leaves out what a failed step reported."""
        logged = self.instance.all_logs(self.result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        return [found for each in logged if (found := each.asset_materialization) is not None]

    @property
    def materialized(self) -> set[str]:
        """The months that Dagster has, of all runs."""
        return {key[:7] for key in self.instance.get_materialized_partitions(BACKTEST)}

    @property
    def failure(self) -> tuple[str, str]:
        """What the failed step says, and its table."""
        [event] = [event for event in self.result.all_events if event.event_type_value == "STEP_FAILURE"]
        told = event.step_failure_data.user_failure_data
        assert told is not None
        return str(told.description), str(told.metadata["blockers"].value) if told.metadata else ""


@pytest.fixture
def home(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation's settings."""
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path))
    monkeypatch.delenv("FINANCE_OS_EXPORTS", raising=False)
    settings_module.settings.cache_clear()
    yield tmp_path
    settings_module.settings.cache_clear()


Materialize = Callable[..., Run]


@pytest.fixture
def materialize(home: Path) -> Materialize:
    """Materialize a range of months as one run, beside the assets that they rest on."""
    assert home
    instance = dg.DagsterInstance.ephemeral()

    def run(
        gate_of: GateOf | None, first: Month = FEBRUARY, last: Month = APRIL, businesses: list[str] | None = None
    ) -> Run:
        evidence = Evidence()
        upstream = [asset for each in SOURCES if each.system in _UPSTREAM for asset in source_assets(each)]
        defs = dg.Definitions(
            assets=[backtest_asset(gate_of) if gate_of else backtest_asset(), *upstream],
            jobs=[dg.define_asset_job("backtest", dg.AssetSelection.assets(BACKTEST))],
            resources={"evidence": evidence, RAW_RECORDS: RawRecordIOManager(evidence, SOURCES)},
            executor=dg.in_process_executor,
        )
        tags = {
            "dagster/asset_partition_range_start": str(first.first),
            "dagster/asset_partition_range_end": str(last.first),
        }
        config = {"ops": {BACKTEST.to_python_identifier(): {"config": {"businesses": businesses}}}}
        result = defs.resolve_job_def("backtest").execute_in_process(
            instance=instance, tags=tags, raise_on_error=False, run_config=config if businesses is not None else {}
        )
        return Run(result, instance)

    return run


_UPSTREAM = ("redshift", "xlsx", "gravity")


def kept(database: Database) -> set[tuple[str, str]]:
    """Business and month of each result that was kept."""
    rows = database.fetch("SELECT business_id, month FROM finance_os.backtest_results")
    return {(row["business_id"], str(Month(row["month"]))) for row in rows}


def test_a_shut_month_does_not_hold_back_the_open_ones(database: Database, materialize: Materialize) -> None:
    stage_months(database)
    asking = shut_in(MARCH, TRACE)
    run = materialize(asking)
    assert not run.result.success
    assert set(run.shown) == run.materialized == {"2026-02", "2026-04"}
    assert kept(database) == {("acme", "2026-02"), ("acme", "2026-04")}
    text, table = run.failure
    assert text == (
        "1 refused (acme 2026-03). acme 2026-03: trace_rows_without_run of redshift/publisher_spend_daily on "
        "2026-03-07 (evidence abcdef012345): Materialize redshift/publisher_spend_daily for 2026-03-07 again."
    )
    assert "| acme | 2026-03 | trace\\_rows\\_without\\_run |" in table
    assert "| 2026-03-07 | abcdef012345 | Materialize" in table
    assert [(business, list(inputs)) for business, inputs in asking.asked] == [
        (
            "acme",
            [
                Input("redshift", "publisher_spend_daily", days_of(month)),
                Input("xlsx", "publisher_month_baseline", Days(DROPPED, DROPPED)),
                Input("gravity", "gravity_canonical_entities", Days(DROPPED, DROPPED)),
            ],
        )
        for month in MONTHS
    ]
    # The gate opens: the month that was refused is computed by itself.
    again = materialize(Asking(), MARCH, MARCH)
    assert again.result.success
    assert again.materialized == {str(month) for month in MONTHS}


def test_a_blocker_of_every_month_is_told_once(database: Database, materialize: Materialize) -> None:
    stage_months(database)
    now = Blocker("deploy_not_verified", "scheduled_sync_readiness/deploy", None, None, "Run finance-os deploy verify.")
    run = materialize(Asking(lambda *_: [now]))
    assert (run.shown, run.materialized, kept(database)) == ({}, set(), set())
    text, table = run.failure
    assert text.startswith("3 refused (acme 2026-02, acme 2026-03, acme 2026-04). acme 2026-02, 2026-03, 2026-04: ")
    assert text.count("deploy_not_verified of scheduled_sync_readiness/deploy (evidence none): Run finance-os") == 1
    assert len(table.splitlines()) == 3
    assert "| now | – |" in table


def test_a_flood_of_blockers_is_cut_in_the_text_and_whole_in_the_table(
    database: Database, materialize: Materialize
) -> None:
    stage_months(database, months=[MARCH])
    many = [Blocker(f"code_{n}", "a | b", day, f"{n:012x}", "Mend\nit.") for n, day in enumerate(days_of(MARCH))]
    many += [Blocker(f"more_{n}", "x/y", None, None, "Mend it.") for n in range(20)]
    text, table = materialize(shut_in(MARCH, *many), MARCH, MARCH).failure
    assert text.endswith("; 21 more blockers are in the table")
    assert len(table.splitlines()) == 2 + 51
    assert "a \\| b" in table


def test_the_gate_is_shut_unless_evidence_opens_it(database: Database, materialize: Materialize) -> None:
    stage_months(database, months=[MARCH])
    run = materialize(None, MARCH, MARCH)
    assert not run.result.success
    assert (run.shown, kept(database)) == ({}, set())
    text, table = run.failure
    assert text.startswith("1 refused (acme 2026-03). ")
    for subject in ("production\\_hardening", "scheduled\\_sync\\_readiness", "redshift/publisher\\_spend\\_daily"):
        assert subject in table
    assert "trace\\_not\\_checked" in table
    # What somebody reports to Dagster by hand opens nothing.
    spend = dg.AssetKey(["redshift", "publisher_spend_daily"])
    for check in ("trace", "idempotency", "completeness"):
        run.instance.report_runless_asset_event(dg.AssetCheckEvaluation(passed=True, check_name=check, asset_key=spend))
    for day in days_of(MARCH):
        run.instance.report_runless_asset_event(dg.AssetMaterialization(spend, partition=str(day)))
    again = materialize(None, MARCH, MARCH)
    assert (again.materialized, kept(database)) == (set(), set())
    assert again.failure == run.failure


def test_evidence_that_does_not_tie_out_is_refused_and_the_others_are_kept(
    database: Database, owner: Database, materialize: Materialize
) -> None:
    stage_months(database)
    forge(owner, "UPDATE finance_os.raw_record_heads SET removed = true WHERE source_id = 'pub_1:2026-03-05'")
    run = materialize(Asking())
    assert set(run.shown) == {"2026-02", "2026-04"}
    text, _ = run.failure
    assert "acme 2026-03: spend_does_not_tie_out of backtest/publisher_month_backtest" in text
    assert "300000000 microdollars" in text
    assert "materialize redshift/publisher_spend_daily for these days again" in text


def test_what_the_ui_shows_of_a_month(database: Database, home: Path, materialize: Materialize) -> None:
    stage_months(database)
    run = materialize(Asking())
    assert run.result.success
    shown = run.shown["2026-03"]
    stored = latest_result(database, "acme", MARCH)
    assert stored is not None
    assert shown["result hash"] == stored.result_hash
    assert (shown["dagster/row_count"], shown["classes"], shown["sign-off"]) == (1, "1 match", "unsigned")
    assert (shown["spend_microdollars"], shown["baseline_accrual_microdollars"]) == (310 * MICROS, 217 * MICROS)
    assert shown["spend records"] == 31
    assert "| pub\\_1 Pub 1 Media | match | 310.000000 | 217.000000 | 217.000000 |" in shown["rows"]
    assert shown["chart"].startswith("![2026-03](data:image/png;base64,")
    folder = home / "exports" / "backtest" / "acme"
    assert shown["CSV"] == str(folder / f"2026-03-{stored.result_hash}.csv")
    assert {path.suffix for path in folder.iterdir() if path.name.startswith("2026-03")} == {".csv", ".xlsx"}
    assert "pub_1" in Path(shown["CSV"]).read_text()
    [run_id] = {row["id"] for row in database.fetch("SELECT dagster_run_id AS id FROM finance_os.backtest_results")}
    assert run_id == run.result.run_id


def versions(run: Run) -> dict[str, str]:
    """Month → data version in this run."""
    return {str(each.partition)[:7]: (each.tags or {})["dagster/data_version"] for each in run.materializations}


def test_the_same_evidence_is_the_same_version(database: Database, materialize: Materialize) -> None:
    stage_months(database)
    first, second = materialize(Asking()), materialize(Asking())
    assert versions(first) == versions(second)
    assert len(set(versions(first).values())) == 3
    assert len(database.fetch("SELECT FROM finance_os.backtest_results")) == 3
    xlsx = connect(database)["xlsx"]
    stage_baseline(database, xlsx, baseline_record(MARCH, "pub_1", 1), minute=30)
    third = materialize(Asking())
    assert {month for month, version in versions(third).items() if version != versions(first)[month]} == {"2026-03"}


def test_a_month_is_there_when_it_is_there_of_everyone(database: Database, materialize: Materialize) -> None:
    stage_months(database, months=[MARCH])
    stage_months(database, "globex", [MARCH])
    run = materialize(shut_in(MARCH, TRACE, business="globex"), MARCH, MARCH)
    assert (run.materialized, kept(database)) == (set(), {("acme", "2026-03")})
    assert run.failure[0].startswith("1 refused (globex 2026-03). ")
    run = materialize(Asking(), MARCH, MARCH)
    assert run.result.success
    shown = run.shown["2026-03"]
    assert (shown["dagster/row_count"], shown["acme: classes"], shown["globex: classes"]) == (2, "1 match", "1 match")
    assert shown["acme: result hash"] != shown["globex: result hash"]


def test_a_run_can_name_its_businesses_and_an_unknown_one_fails_it(
    database: Database, materialize: Materialize
) -> None:
    stage_months(database, months=[MARCH])
    stage_months(database, "globex", [MARCH])
    asking = Asking()
    assert materialize(asking, MARCH, MARCH, ["globex"]).result.success
    assert [business for business, _ in asking.asked] == ["globex"]
    run = materialize(asking, MARCH, MARCH, ["acme", "initech"])
    assert run.failure[0] == "initech: no active connection to Redshift; acme, globex has one."
    assert len(asking.asked) == 1


def test_an_installation_without_redshift_says_so(materialize: Materialize) -> None:
    run = materialize(Asking(), MARCH, MARCH)
    assert run.failure[0].startswith("No business has an active connection to Redshift: ")


def test_it_is_monthly_and_a_backfill_is_one_run() -> None:
    asset = backtest_asset()
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()
    assert asset.partitions_def == MONTHLY
    first, last = MONTHLY.get_first_partition_key(), MONTHLY.get_last_partition_key()
    assert first == "2024-01-01"
    assert last == f"{date.today():%Y-%m}-01"
    spend = dg.AssetKey(["redshift", "publisher_spend_daily"])
    mapping = next(iter(asset.specs)).deps
    assert spend in {dep.asset_key for dep in mapping}
