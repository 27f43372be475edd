"""The export behind the real gate: shut in every way of asking until the evidence is ready, and open then."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from finance_os import settings as settings_module
from finance_os.defs.assets.checkpoints import CHECKPOINT_KEYS, checkpoint_assets
from finance_os.defs.assets.stripe_qbo import JOB, export_job, stripe_qbo_assets
from finance_os.defs.export_outcomes import INTENTS, OBJECTS, VERIFICATION
from finance_os.defs.export_sensor import export_sensor
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.readiness import verdicts
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.readiness.source_checks import SOURCE_CHECKS, Subject
from finance_os.sources.registry import SOURCES, source_named
from finance_os.sources.sealing import new_key
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo.stripe_evidence import OBJECT_TYPES
from finance_os_tests.defs.conftest import range_tags
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.readiness.readied import hand_in_the_bank, read_everything, record
from finance_os_tests.readiness.seed_state import BUSINESS, plant_seed_state
from finance_os_tests.stripe_qbo.books import Books
from finance_os_tests.stripe_qbo.mapping.worlds import START
from finance_os_tests.stripe_qbo.staged import LAST, RULES, company, environment, stage_company

WHOLE = Days(START, LAST)


@pytest.fixture
def books(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    """A business of which everything is staged, and nothing checked or recorded; its last sync was on the last day."""
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    for source in SOURCES:
        if source.credentials:
            monkeypatch.setenv(source.credentials[0], "elsewhere")
    plant_seed_state(database)
    with company() as served:
        given = {
            **environment(served),
            "FINANCE_OS_DATABASE_URL": database.url,
            "FINANCE_OS_HOME": str(tmp_path),
            "FINANCE_OS_BUSINESS": BUSINESS,
            "FINANCE_OS_ENCRYPTION_KEY": new_key(),
            "FINANCE_OS_QBO_RULES": json.dumps({BUSINESS: RULES}),
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        settings_module.settings.cache_clear()
        stage_company(database, served, ensure_connection(database, BUSINESS, "stripe"))
        read_everything(database)
        # What is staged ends long before today, and a sync as old as that would be overdue.
        monkeypatch.setattr(exporting, "last_closed_day", lambda *_: LAST)
        hand_in_the_bank(database)
        yield served
    settings_module.settings.cache_clear()


def check(database: Database, days: Days = WHOLE) -> None:
    """Have every day of what a plan reads checked, as its assets' checks do."""
    source = source_named("stripe")
    for object_type in OBJECT_TYPES:
        for declaration in SOURCE_CHECKS:
            found = declaration.evaluate(database, Subject.of(source, source.object(object_type)), days)
            verdicts.record(database, found)


def test_the_gate_opens_when_everything_is_ready_and_not_before(books: Books, database: Database) -> None:
    approve_policy(database, BUSINESS, QBO_EXPORT.key, scope=books.realm)
    job = export_job()
    together = dg.define_asset_job(
        "together",
        selection=dg.AssetSelection.assets(*CHECKPOINT_KEYS, INTENTS, OBJECTS, VERIFICATION),
        partitions_def=stripe_qbo_assets().partitions_def,
    )
    defs = dg.Definitions(
        assets=[checkpoint_assets(SOURCES), stripe_qbo_assets()],
        jobs=[job, together],
        sensors=[export_sensor(job)],
        resources={"evidence": Evidence()},
    )
    instance = dg.DagsterInstance.ephemeral()

    def run(name: str, *keys: dg.AssetKey) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def(name).execute_in_process(
            instance=instance, asset_selection=list(keys) or None, tags=range_tags(WHOLE), raise_on_error=False
        )

    def tick() -> tuple[list[dg.RunRequest], str]:
        repository = defs.get_repository_def()
        with dg.build_sensor_context(
            instance, resources={"evidence": (defs.resources or {})["evidence"]}, repository_def=repository
        ) as context:
            found = repository.get_sensor_def("stripe_qbo_export_wanted").evaluate_tick(context)
        return list(found.run_requests or ()), found.skip_message or ""

    def kept() -> int:
        return len(database.fetch("SELECT FROM finance_os.intents"))

    assert not run("together").success  # in one run with the checkpoints, which are not ready
    assert not run(JOB).success
    assert not run(JOB, OBJECTS).success
    # What somebody reports to Dagster by hand opens nothing.
    for key in CHECKPOINT_KEYS:
        instance.report_runless_asset_event(dg.AssetMaterialization(key))
    for object_type in OBJECT_TYPES:
        instance.report_runless_asset_event(dg.AssetMaterialization(["stripe", object_type], partition=str(LAST)))
    instance.report_runless_asset_event(dg.AssetMaterialization(INTENTS, partition=str(LAST)))
    assert not run(JOB).success
    requests, said = tick()
    assert requests == []
    assert "phase_7" in said

    record(database)  # every checkpoint is current: the days are still unproved
    requests, said = tick()
    assert (requests, "trace_not_checked" in said) == ([], True)
    assert not run(JOB).success
    assert (kept(), books.before.writes) == (0, 0)

    check(database)
    [request], _ = tick()
    assert request.asset_selection == [INTENTS, OBJECTS, VERIFICATION]
    opened = run(JOB)
    assert opened.success
    states = {row["state"] for row in database.fetch("SELECT state FROM finance_os.intents")}
    assert states == {"applied"}
    assert kept() > 20
    for key in (INTENTS, OBJECTS, VERIFICATION):
        assert len(instance.get_materialized_partitions(key)) >= len(WHOLE)
