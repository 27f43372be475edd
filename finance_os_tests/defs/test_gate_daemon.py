"""The gate in a real `dagster dev` with its daemon: shut however the backtest is launched, until everything is ready.

One test, because starting Dagster is what takes the time.
"""

import os
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pytest

from finance_os import settings as settings_module
from finance_os.backtest.month import Month
from finance_os.backtest.results import latest_result
from finance_os.defs.assets.backtest import BACKTEST
from finance_os.defs.assets.checkpoints import CHECKPOINT_KEYS, LINES, checkpoint_key
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.local.dagster_process import running_dagster
from finance_os.local.graphql import DagsterGraphQL, RunState
from finance_os.local.stack import checkout, running_stack
from finance_os.readiness import verdicts
from finance_os.readiness.source_checks import SOURCE_CHECKS, Subject
from finance_os.settings import Settings
from finance_os.sources.registry import SOURCES, source_named
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
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.defs.test_daemon import with_password
from finance_os_tests.readiness.readied import hand_in_the_bank, read_everything

MICROS = 10**6
PATIENCE = 180.0
T = TypeVar("T")
ASSET = tuple(BACKTEST.path)


@pytest.fixture
def dagster_url(server_url: str) -> Iterator[str]:
    name = f"gate_dagster_{os.getpid()}"
    yield with_password(create_database(server_url, name))
    drop_database(server_url, name)


@pytest.fixture
def home(database: Database, dagster_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation of its own, for which the sandbox stands in for nothing."""
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path))
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", with_password(database.url))
    monkeypatch.setenv("FINANCE_OS_DAGSTER_DATABASE_URL", dagster_url)
    monkeypatch.setenv("FINANCE_OS_BUSINESS", "acme")
    monkeypatch.setenv("FINANCE_OS_START_DATE", "2026-03-01")
    monkeypatch.setenv("PYTHONPATH", str(checkout()))
    for source in SOURCES:
        if source.credentials:
            monkeypatch.setenv(source.credentials[0], "elsewhere")
    settings_module.settings.cache_clear()
    yield tmp_path
    settings_module.settings.cache_clear()


def plant_two_months(database: Database) -> None:
    """March and April agree with the baseline, and every day of them is checked but one of April's."""
    connections = connect(database)
    stage_publishers(database, connections["gravity"], {"pub_1": 7_000})
    for minute, month in enumerate((MARCH, APRIL)):
        days = days_of(month)
        stage_spend(database, connections["redshift"], days, {("pub_1", day): MICROS for day in days}, minute=minute)
    accruals = [baseline_record(month, "pub_1", 700_000 * month.last.day) for month in (MARCH, APRIL)]
    stage_baseline(database, connections["xlsx"], *accruals)
    check(database, "redshift", "publisher_spend_daily", Days(MARCH.first, date(2026, 4, 29)))
    check(database, "xlsx", "publisher_month_baseline", Days(DROPPED, DROPPED))
    check(database, "gravity", "gravity_canonical_entities", Days(DROPPED, DROPPED))


def check(database: Database, system: str, object_type: str, days: Days) -> None:
    source = source_named(system)
    subject = Subject.of(source, source.object(object_type))
    for declaration in SOURCE_CHECKS:
        verdicts.record(database, declaration.evaluate(database, subject, days))


class Asked:
    """A Dagster that is asked for the backtest in every way, and what it answers."""

    def __init__(self, graphql: DagsterGraphQL, database: Database) -> None:
        self.graphql = graphql
        self.database = database

    def ended(self, *, since: float = 0, tags: dict[str, str] | None = None, count: int = 1) -> list[RunState]:
        """The runs with `tags` that began after `since`, once there are `count` and all have ended."""
        return _until(lambda: self._ended(since, tags, count))

    def _ended(self, since: float, tags: dict[str, str] | None, count: int) -> list[RunState]:
        runs = self.graphql.runs(tags=tags, created_after=since)
        return runs if len(runs) >= count and all(run.ended for run in runs) else []

    def run(self, *keys: tuple[str, ...], month: Month = MARCH) -> RunState:
        """Launched alone, as from the UI's launchpad."""
        run_id = self.graphql.launch_run("__ASSET_JOB", keys or (ASSET,), {"dagster/partition": str(month.first)})
        [run] = _until(lambda: [run for run in self.graphql.runs() if run.run_id == run_id and run.ended])
        return run

    def backfill(self, *months: Month) -> RunState:
        backfill = self.graphql.launch_month_backfill(ASSET, [str(month.first) for month in months], "months")
        [run] = self.ended(tags={"dagster/backfill": backfill})
        return run

    def refused(self, run: RunState) -> str:
        """What a refused run says."""
        assert run.status == "FAILURE"
        said = " ".join(self.graphql.failures(run.run_id))
        assert not [month for month in (MARCH, APRIL) if latest_result(self.database, "acme", month)]
        return said


def _until(look: Callable[[], T]) -> T:
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return found


def report_everything_as_passed(instance: dg.DagsterInstance) -> None:
    """What somebody does by hand who wants the gate open: every checkpoint materialized, every line passed."""
    for name, lines in LINES.items():
        instance.report_runless_asset_event(dg.AssetMaterialization(checkpoint_key(name)))
        for line in lines:
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(asset_key=checkpoint_key(name), check_name=line.key, passed=True, metadata={})
            )


def test_the_gate_is_shut_however_it_is_asked_until_everything_is_ready(
    database: Database, home: Path, tmp_path: Path
) -> None:
    plant_two_months(database)
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(
        "load_from:\n  - python_module:\n      module_name: finance_os_tests.defs.automated\n"
        "      location_name: finance_os\n"
    )
    log = home / "logs" / "dagster.log"
    with (
        running_stack(Settings(), days=5) as stack,
        running_dagster(stack.environment, workspace, log, port=0) as dagster,
    ):
        graphql = DagsterGraphQL(dagster.address)
        asked = Asked(graphql, database)

        alone = asked.refused(asked.run())
        assert (
            "phase_7_scheduled_sync_not_succeeded of scheduled_sync_readiness/latest_scheduled_sync_succeeded" in alone
        )
        assert "evidence " in alone
        assert "Let the daily_sync schedule tick" in alone
        assert "phase_7" in asked.refused(asked.backfill(MARCH, APRIL))

        automated = asked.ended(tags={"dagster/from_automation_condition": "true"})
        assert all("phase_7" in asked.refused(run) for run in automated)

        together = asked.run(*(tuple(key.path) for key in CHECKPOINT_KEYS), ASSET)
        asked.refused(together)

        with dg.DagsterInstance.from_config(str(stack.dagster_home)) as instance:
            report_everything_as_passed(instance)
        assert "checkpoint" in asked.refused(asked.run())

        read_everything(database)
        hand_in_the_bank(database)
        recorded = graphql.launch_run("record_checkpoints")
        [run] = _until(lambda: [run for run in graphql.runs() if run.run_id == recorded and run.ended])
        assert run.status == "SUCCESS", graphql.failures(recorded)

        both = asked.backfill(MARCH, APRIL)
        assert both.status == "FAILURE"
        said = " ".join(graphql.failures(both.run_id))
        assert "completeness_not_checked of redshift/publisher_spend_daily on 2026-04-30" in said
        assert "2026-03:" not in said
        march = latest_result(database, "acme", MARCH)
        assert march is not None
        assert march.result.totals["spend_microdollars"] == 31 * MICROS
        assert latest_result(database, "acme", APRIL) is None

        check(database, "redshift", "publisher_spend_daily", Days(date(2026, 4, 30), date(2026, 4, 30)))
        assert asked.run(month=APRIL).status == "SUCCESS"
        assert latest_result(database, "acme", APRIL) is not None
