"""Checkpoints as assets: recorded whatever they say, shown line by line, and asked for when a scheduled sync ended."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id
from dagster._daemon.types import DaemonHeartbeat

from finance_os.defs.assets.checkpoints import CHECKPOINT_KEYS, LINES, checkpoint_key
from finance_os.defs.checkpoint_sensor import WAITS
from finance_os.evidence.database import Database
from finance_os.evidence.scheduled_syncs import request_scheduled_sync
from finance_os.readiness.assessment import TITLES, assess
from finance_os.readiness.scheduled_sync import scheduled_connectors
from finance_os.sources.registry import SOURCES
from finance_os_tests.defs.conftest import Installation
from finance_os_tests.readiness.planted import forge
from finance_os_tests.readiness.readied import SYNC, hand_in_the_bank, read_everything

HARDENING = dg.AssetKey(["readiness", "production_hardening"])


def run_checkpoints(installation: Installation, *names: str) -> dg.ExecuteInProcessResult:
    """The job as a launched run, of all checkpoints or of these."""
    return installation.defs.resolve_job_def("record_checkpoints").execute_in_process(
        instance=installation.instance,
        asset_selection=[checkpoint_key(name) for name in names] if names else None,
        raise_on_error=False,
    )


def evaluations(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    """What the run's checks said, by checkpoint and line."""
    return {(each.asset_key.path[1], each.check_name): each for each in result.get_asset_check_evaluations()}


def recorded(database: Database) -> list[tuple[str, str, str]]:
    return [
        (row["business_id"], row["name"], row["status"])
        for row in database.fetch(
            "SELECT business_id, name, status FROM finance_os.checkpoints ORDER BY business_id, checkpoint_id"
        )
    ]


@pytest.fixture
def lively(installation: Installation) -> Iterator[Installation]:
    """An installation whose Dagster has daemons that were heard just now."""
    with dg.instance_for_test() as instance:
        for daemon in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp(), daemon, "one", []))
        yield replace(installation, instance=instance)


def test_blocked_checkpoints_are_all_recorded_and_fail_the_run(installation: Installation) -> None:
    result = run_checkpoints(installation)
    assert not result.success
    assert recorded(installation.database) == [
        (business, name, "blocked") for business in ("acme", "globex") for name in TITLES
    ]
    found = evaluations(result)
    assert set(found) == {(name, line.key) for name, lines in LINES.items() for line in lines}
    sync = found["scheduled_sync_readiness", "latest_scheduled_sync_succeeded"]
    assert (sync.passed, sync.severity, sync.blocking) == (False, dg.AssetCheckSeverity.ERROR, True)
    assert sync.description is not None
    assert sync.description.startswith("acme: phase_7_scheduled_sync_not_succeeded. Let the daily_sync schedule tick")
    assert "globex: phase_7_scheduled_sync_not_succeeded" in sync.description
    assert found["production_hardening", "qbo_export_policy_gated"].passed
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "latest_scheduled_sync_succeeded" in (failure.step_failure_data.error_display_string or "")
    run = {row["dagster_run_id"] for row in installation.database.fetch("SELECT * FROM finance_os.checkpoints")}
    assert run == {result.run_id}


def test_one_checkpoint_is_recorded_alone(installation: Installation) -> None:
    result = run_checkpoints(installation, "csv_fallback_validation")
    assert {name for _, name, _ in recorded(installation.database)} == {"csv_fallback_validation"}
    assert {name for name, _ in evaluations(result)} == {"csv_fallback_validation"}


def test_a_check_executed_alone_looks_and_records_nothing(installation: Installation) -> None:
    check = dg.AssetCheckKey(HARDENING, "qbo_export_policy_gated")
    job = installation.defs.get_repository_def().get_implicit_global_asset_job_def()
    result = job.get_subset(asset_check_selection={check}, asset_selection=set()).execute_in_process(
        instance=installation.instance, raise_on_error=False
    )
    assert result.success
    assert list(evaluations(result)) == [("production_hardening", "qbo_export_policy_gated")]
    assert recorded(installation.database) == []


def test_a_business_that_is_not_ready_keeps_the_line_shut_for_nobody_else(lively: Installation) -> None:
    database = lively.database
    read_everything(database, "acme")
    hand_in_the_bank(database, "acme")
    run_checkpoints(lively)
    of = {(business, name): status for business, name, status in recorded(database)}
    assert {status for (business, _), status in of.items() if business == "acme"} == {"ready"}
    assert of["globex", "scheduled_sync_readiness"] == "blocked"
    assert all(standing.current for standing in assess(database, SOURCES, "acme").standings.values())


def test_everything_ready_passes(lively: Installation, owner: Database) -> None:
    database = lively.database
    for business in ("acme", "globex"):
        read_everything(database, business)
        hand_in_the_bank(database, business)
    result = run_checkpoints(lively)
    assert result.success, [each.description for each in evaluations(result).values() if not each.passed]
    assert {status for _, _, status in recorded(database)} == {"ready"}
    [materialization] = result.asset_materializations_for_node("checkpoints")[-1:]
    assert materialization.asset_key == HARDENING
    assert materialization.metadata["acme: status"].value == "ready, 9 of 9 lines ready"
    assert "policy_gated" not in str(materialization.metadata["lines"].value)
    forge(
        owner,
        "UPDATE finance_os.connections SET active = false WHERE source_system = 'stripe' AND business_id = 'acme'",
    )
    assert not run_checkpoints(lively).success


class Ticks:
    """The sensor of an installation, ticked by hand, and the Dagster runs of a scheduled sync."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.sensor = installation.defs.get_repository_def().get_sensor_def("checkpoints_after_daily_sync")

    def tick(self) -> list[dg.RunRequest]:
        evidence = (self.installation.defs.resources or {})["evidence"]
        repository = self.installation.defs.get_repository_def()
        with dg.build_sensor_context(
            self.installation.instance, resources={"evidence": evidence}, repository_def=repository
        ) as context:
            return list(self.sensor.evaluate_tick(context).run_requests or [])

    def run_of(self, system: str, status: dg.DagsterRunStatus) -> None:
        self.installation.instance.add_run(
            dg.DagsterRun(
                job_name="daily_sync",
                run_id=make_new_run_id(),
                status=status,
                tags={"finance_os/scheduled_sync": SYNC, "finance_os/source_system": system},
            )
        )


def test_a_scheduled_sync_is_waited_for_and_recorded_once_for_each_outcome(
    installation: Installation, owner: Database
) -> None:
    ticks = Ticks(installation)
    assert ticks.tick() == []
    read_everything(installation.database, "acme")
    systems = [source.system for source in scheduled_connectors(SOURCES)]
    for system in systems[:-1]:
        ticks.run_of(system, dg.DagsterRunStatus.SUCCESS)
    assert ticks.tick() == [], "one has not come yet"
    ticks.run_of(systems[-1], dg.DagsterRunStatus.STARTED)
    assert ticks.tick() == [], "one has not ended yet"
    ticks.run_of(systems[-1], dg.DagsterRunStatus.SUCCESS)
    for run in installation.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        installation.instance.report_run_failed(run)
    [asked] = ticks.tick()
    assert set(asked.asset_selection or ()) == set(CHECKPOINT_KEYS)
    assert [each.run_key for each in ticks.tick()] == [asked.run_key], "so that Dagster launches it once"
    forge(
        owner,
        "UPDATE finance_os.source_sync_runs SET status = 'failed', error_code = 'odd' WHERE sync_run_id ="
        " (SELECT max(sync_run_id) FROM finance_os.source_sync_runs)",
    )
    assert [each.run_key for each in ticks.tick()] != [asked.run_key]


def test_a_scheduled_sync_whose_runs_never_came_is_recorded_in_the_end(
    installation: Installation, owner: Database
) -> None:
    request_scheduled_sync(installation.database, SYNC, datetime.now(UTC).date(), ["stripe"])
    ticks = Ticks(installation)
    assert ticks.tick() == []
    with owner.transaction() as connection:
        connection.execute(
            "UPDATE finance_os.scheduled_syncs SET requested_at = requested_at - %s", (WAITS + timedelta(minutes=1),)
        )
    assert len(ticks.tick()) == 1


@pytest.mark.parametrize("name", list(TITLES))
def test_every_line_is_a_blocking_check_of_that_name(name: str, installation: Installation) -> None:
    graph = installation.defs.resolve_asset_graph()
    keys = {key for key in graph.asset_check_keys if key.asset_key == checkpoint_key(name)}
    assert {key.name for key in keys} == {line.key for line in LINES[name]}
    assert all(graph.get(key).blocking for key in keys)
