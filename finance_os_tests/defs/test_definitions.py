"""The definitions: valid, derived from the declarations in every respect, for a source that is new too."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from finance_os import definitions
from finance_os import settings as settings_module
from finance_os.defs.assets.plan import PLAN
from finance_os.defs.assets.sources import asset_key
from finance_os.defs.io_managers import RawRecordIOManager
from finance_os.defs.location import build_defs
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Extraction, Page, Record, Request
from finance_os.readiness.plan import source_sync_plan
from finance_os.settings import Settings
from finance_os.sources.guard import Get
from finance_os.sources.installation import ensure_installation
from finance_os.sources.registry import SOURCES
from finance_os.sources.source import Cadence, Column, Source, SourceObject
from finance_os_tests.defs.conftest import Installation, days_ago, range_tags, schedule_tick
from finance_os_tests.readiness.recorded import latest_verdicts

CHECKS = {"freshness", "trace", "idempotency", "completeness"}

# --- a new vendor, as somebody would write it


@contextmanager
def _open(_: Any) -> Iterator[None]:
    yield


def _extract(reader: None, obj: SourceObject[Any], request: Request) -> Extraction:
    day = request.days.last
    records = [Record("sale_1", {"id": "sale_1", "cents": 1250, "clerk": "Jane Roe"}, day)]
    return Extraction([Page(records, request.now())])


TILL = Source(
    system="till",
    title="Till",
    order=9,
    description="What the shop sells.",
    cadence=Cadence.DAILY,
    sla=timedelta(days=2),
    credentials=("FINANCE_OS_TILL_KEY",),
    reads=(Get("/sales"),),
    cursor_strategy="By day.",
    evidence_policy="Keep it all.",
    objects=(SourceObject("till_sale", "One sale.", None, columns=(Column("id", "text"),), shown=("id", "cents")),),
    open=_open,
    extract=_extract,
    kinds=("till",),
)


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs()


def test_the_code_location_is_valid(defs: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(defs)
    dg.Definitions.validate_loadable(
        next(value for value in vars(definitions).values() if isinstance(value, dg.Definitions))
    )


def test_each_object_of_each_source_is_an_asset(defs: dg.Definitions) -> None:
    declared = {(source.system, obj.object_type): (source, obj) for source in SOURCES for obj in source}
    graph = defs.resolve_asset_graph()
    systems = {source.system for source in SOURCES}
    keys = {tuple(key.path) for key in graph.get_all_asset_keys()}
    assert {key for key in keys if key[0] in systems} == set(declared)
    assert tuple(PLAN.path) in keys
    for place, (source, obj) in declared.items():
        node = graph.get(dg.AssetKey(place))
        [asset] = [a for a in defs.assets or () if isinstance(a, dg.AssetsDefinition) and a.keys == {node.key}]
        assert node.group_name == source.system
        assert {*source.kinds, "postgres"} == node.kinds
        assert node.owners == ["team:finance-data"]
        assert obj.description in (node.description or "")
        assert source.evidence_policy in (node.description or "")
        assert node.pools == {source.system}
        assert node.code_version
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
        assert isinstance(node.partitions_def, dg.DailyPartitionsDefinition)
        assert node.tags["finance_os/cadence"] == source.cadence.value
        policy = next(iter(asset.specs)).freshness_policy
        assert policy is not None
        assert getattr(policy, "fail_window").to_timedelta() == source.sla  # noqa: B009  beta
        assert asset.op.retry_policy is not None
        assert asset.op.retry_policy.max_retries > 0
        columns = node.metadata["dagster/column_schema"]
        names = [column.name for column in getattr(columns, "schema", columns).columns]
        assert names[:4] == ["business_id", "source_id", "payload_hash", "payload"]
        assert names[4:] == [f"payload.{column.name}" for column in obj.columns]
        assert {key.name for key in graph.get_check_keys_for_assets({node.key})} == CHECKS


def test_partitions_are_days_and_today_is_one(defs: dg.Definitions) -> None:
    partitions = defs.resolve_asset_graph().get(asset_key(SOURCES[0], SOURCES[0].objects[0])).partitions_def
    assert partitions is not None
    assert partitions.get_last_partition_key() == str(datetime.now(UTC).date())
    assert partitions.get_first_partition_key() == "2024-01-01"


def test_checks_of_days_block_and_freshness_does_not(defs: dg.Definitions) -> None:
    specs = [spec for check in defs.asset_checks or () for spec in check.check_specs]
    assert {spec.name for spec in specs if spec.blocking} == CHECKS - {"freshness"}
    assert all(spec.description for spec in specs)


def test_each_source_has_a_job_and_each_one_with_files_a_sensor(defs: dg.Definitions) -> None:
    repository = defs.get_repository_def()
    for source in SOURCES:
        job = repository.get_job(f"{source.system}_sync")
        selected = set(job.asset_layer.executable_asset_keys)
        assert selected == {asset_key(source, obj) for obj in source}
    assert {sensor.name for sensor in repository.sensor_defs if sensor.name.endswith("_drops")} == {
        f"{source.system}_drops" for source in SOURCES if source.judge is not None
    }
    assert {schedule.name for schedule in repository.schedule_defs} == {"daily_sync", "source_sync_plan"}
    assert all(each.default_status is dg.DefaultScheduleStatus.RUNNING for each in repository.schedule_defs)
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in repository.sensor_defs)


def test_no_secret_is_in_what_the_ui_shows_of_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCE_OS_STRIPE_API_KEY", "rk_test_canary")
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", "postgresql://canary@nowhere/none")
    settings_module.settings.cache_clear()
    shown = dg.serialize_value(RepositorySnap.from_def(build_defs().get_repository_def()))
    settings_module.settings.cache_clear()
    assert "stripe_invoice" in shown
    assert "canary" not in shown


def test_a_new_source_of_twenty_lines_gets_everything(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = installation.database
    defs = build_defs(sources=[*SOURCES, TILL])
    dg.Definitions.validate_loadable(defs)
    node = defs.resolve_asset_graph().get(dg.AssetKey(["till", "till_sale"]))
    assert node.group_name == "till"
    assert {key.name for key in defs.resolve_asset_graph().get_check_keys_for_assets({node.key})} == CHECKS

    monkeypatch.setenv("FINANCE_OS_TILL_KEY", "secret")
    ensure_connection(database, "acme", "till")
    days = days_ago(4, 3)
    result = defs.resolve_job_def("till_sync").execute_in_process(instance=installation.instance, tags=range_tags(days))
    assert result.success
    [last] = [e.materialization for e in result.get_asset_materialization_events() if e.partition == str(days.last)]
    assert last.metadata["dagster/row_count"].value == 1
    assert "sale_1" in str(last.metadata["examples"].value)
    assert "Jane Roe" not in str(last.metadata)
    [ready] = latest_verdicts(database, "till", "till_sale", "completeness", days_ago(3))
    assert (ready["business_id"], ready["status"]) == ("acme", "ready")

    plan = source_sync_plan(database, [*SOURCES, TILL], "acme")
    assert (plan.connectors[-1].title, plan.connectors[-1].status) == ("Till", "ready to plan")
    assert next(each.raw_rows for each in plan.staged if each.object_type == "till_sale") == 1

    daily = [source.system for source in SOURCES if source.cadence is Cadence.DAILY]
    for till, scheduled in ((TILL, [*daily, "till"]), (_manual(TILL), daily)):
        requests = schedule_tick(build_defs(sources=[*SOURCES, till]), installation.instance, datetime.now(UTC))
        assert [request.tags["finance_os/source_system"] for request in requests] == scheduled


def _manual(source: Source) -> Source:
    return replace(source, cadence=Cadence.MANUAL)


def test_sources_that_are_all_manual_load_too() -> None:
    dg.Definitions.validate_loadable(build_defs(sources=[_manual(TILL)]))


def test_the_plain_installation_is_connected_to_every_source(database: Database, installation: Installation) -> None:
    """A business of the settings gets a connection for each source; another list of businesses is left alone."""

    def connected() -> set[tuple[str, str]]:
        rows = database.fetch("SELECT business_id, source_system FROM finance_os.connections")
        return {(row["business_id"], row["source_system"]) for row in rows}

    before = connected()
    ensure_installation(database, Settings(), ["stripe", "till"])
    assert connected() == before
    ensure_business(database, "main", "Main", "UTC")
    ensure_connection(database, "main", "stripe", active=False)
    ensure_installation(database, Settings(), ["stripe", "till"])
    ensure_installation(database, Settings(), ["stripe", "till"])
    assert connected() - before == {("main", "stripe"), ("main", "till")}
    active = database.fetch("SELECT active FROM finance_os.connections WHERE business_id = 'main' ORDER BY 1")
    assert [row["active"] for row in active] == [False, True]


def test_an_override_reaches_the_io_manager_too() -> None:
    evidence = Evidence()
    resources = build_defs({"evidence": evidence}).resources or {}
    manager = resources["raw_records"]
    assert resources["evidence"] is evidence
    assert isinstance(manager, RawRecordIOManager)
    assert manager.evidence is evidence
    assert (build_defs({"raw_records": "mine"}).resources or {})["raw_records"] == "mine"


def test_without_a_database_the_step_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FINANCE_OS_DATABASE_URL", raising=False)
    settings_module.settings.cache_clear()
    with pytest.raises(dg.Failure, match="FINANCE_OS_DATABASE_URL") as failure:
        Evidence().database  # noqa: B018
    assert not failure.value.allow_retries
    settings_module.settings.cache_clear()
