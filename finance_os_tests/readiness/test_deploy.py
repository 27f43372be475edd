"""Deploy verification: ready on what is well, each line made to fail, and void for another deployment."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from importlib import metadata
from typing import Any

import pytest

from finance_os.evidence.database import APPLICATION_ROLE, Database
from finance_os.readiness import checkpoints, deploy
from finance_os.readiness.checkpoints import VALID_FOR, Currency, Standing
from finance_os.readiness.deploy import (
    DEPLOY_VERIFICATION,
    CodeLocation,
    Daemons,
    Deployed,
    DeployFacts,
    deploy_facts_now,
    evaluate_deploy,
    evaluate_recorded,
)
from finance_os.readiness.lines import Evaluation, Line
from finance_os.readiness.verdicts import Status
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.readiness.approvers import login

pytestmark = pytest.mark.usefixtures("acme", "globex")

SCHEMA = "deploy_schema_at_head"
CODE = "deploy_code_location_loads"
DAEMON = "deploy_daemon_alive"
VERSIONS = "deploy_versions_recorded"

LOADS = CodeLocation(True, assets=40, jobs=12)
ALIVE = Daemons({"SCHEDULER": True, "SENSOR": True})


def facts(database: Database, **changed: Any) -> DeployFacts:
    """What is seen where all is well, but for `changed`."""
    return replace(DeployFacts(deploy_facts_now(database), LOADS, ALIVE), **changed)


def line(evaluation: Evaluation, key: str) -> Line:
    (found,) = (each for each in evaluation.lines if each.key == key)
    return found


def blocked(evaluation: Evaluation) -> dict[str, str | None]:
    return {each.key: each.blocker for each in evaluation.blocked}


def record(database: Database, found: DeployFacts) -> str:
    """Record the checkpoint; its hash."""
    return checkpoints.record(database, evaluate_deploy("acme", found), facts=found.as_json()).evidence_hash


def standing(database: Database) -> Standing:
    """How the checkpoint stands, as any process sees it."""
    recorded = checkpoints.latest_recordings(database, "acme").get(DEPLOY_VERIFICATION)
    evaluation = evaluate_recorded(database, "acme", recorded.facts if recorded else None)
    return Standing("Deploy verification", evaluation, recorded, VALID_FOR)


def forget_a_migration(owner: Database) -> str:
    """Take the last migration for one that was never applied; its ID."""
    with owner.transaction() as connection:
        row = connection.execute(
            "DELETE FROM finance_os._yoyo_migration WHERE migration_id = "
            "(SELECT max(migration_id) FROM finance_os._yoyo_migration) RETURNING migration_id"
        ).fetchone()
    assert row is not None
    return row["migration_id"]


@pytest.fixture
def empty(server_url: str) -> Iterator[Database]:
    """A database that was never migrated."""
    name = f"empty_{os.getpid()}"
    yield Database(create_database(server_url, name))
    drop_database(server_url, name)


def test_what_is_well_is_ready(database: Database) -> None:
    found = facts(database)
    assert set(found.deployed.versions) == set(deploy.VERSIONS)
    assert found.deployed.versions["dagster"] == metadata.version("dagster")
    evaluation = evaluate_deploy("acme", found)
    assert (evaluation.checkpoint, evaluation.status) == ("deploy_verification", Status.READY)
    assert [each.key for each in evaluation.lines] == [SCHEMA, CODE, DAEMON, VERSIONS]
    assert all(each.evidence_hash and not each.blocker and not each.remedy for each in evaluation.lines)


def test_a_schema_behind_its_head_blocks(database: Database, owner: Database) -> None:
    record(database, facts(database))
    assert standing(database).current
    missing = forget_a_migration(owner)
    found = evaluate_deploy("acme", facts(database))
    assert blocked(found) == {SCHEMA: "deploy_schema_not_at_head"}
    assert line(found, SCHEMA).details["missing"] == [missing]
    assert line(found, SCHEMA).remedy == "Run `finance-os db migrate`."
    # What was verified is another schema than the one that is there now.
    after = standing(database)
    assert (after.currency, blocked(after.evaluation)) == (Currency.NOT_CURRENT, {SCHEMA: "deploy_schema_not_at_head"})


def test_a_database_without_a_schema_blocks(empty: Database) -> None:
    found = evaluate_deploy("acme", facts(empty))
    assert blocked(found) == {SCHEMA: "deploy_schema_not_at_head", VERSIONS: "deploy_versions_not_recorded"}
    assert "No version is known of schema" in (line(found, VERSIONS).remedy or "")


def test_code_that_does_not_load_blocks(database: Database) -> None:
    found = evaluate_deploy("acme", facts(database, code_location=CodeLocation(False, error="ImportError")))
    assert blocked(found) == {CODE: "deploy_code_location_does_not_load"}
    assert "raised ImportError: `dagster definitions validate`" in (line(found, CODE).remedy or "")


@pytest.mark.parametrize(
    ("daemons", "words"),
    [
        (Daemons({"SCHEDULER": True, "SENSOR": False, "ASSET": False}), "Not heard lately: ASSET, SENSOR. Start the"),
        (Daemons({}), "Start the daemon with `make dev` or `dagster-daemon run`"),
        (Daemons(error="OperationalError"), "could not be asked (OperationalError): set DAGSTER_HOME"),
        (Daemons({"SCHEDULER": True}, error="OperationalError"), "could not be asked"),
    ],
)
def test_a_daemon_that_is_not_heard_blocks(database: Database, daemons: Daemons, words: str) -> None:
    found = evaluate_deploy("acme", facts(database, daemons=daemons))
    assert blocked(found) == {DAEMON: "deploy_daemon_not_alive"}
    assert words in (line(found, DAEMON).remedy or "")


@pytest.mark.parametrize("distribution", ["finance-os", "dagster"])
def test_a_version_that_nobody_knows_blocks(
    database: Database, monkeypatch: pytest.MonkeyPatch, distribution: str
) -> None:
    known = metadata.version

    def version(name: str) -> str:
        if name == distribution:
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(deploy.metadata, "version", version)
    found = evaluate_deploy("acme", facts(database))
    assert blocked(found) == {VERSIONS: "deploy_versions_not_recorded"}
    assert f"No version is known of {distribution.replace('-', '_')}:" in (line(found, VERSIONS).remedy or "")


def test_what_nobody_looked_at_blocks_and_has_no_hash(database: Database) -> None:
    found = standing(database)
    assert found.currency is Currency.MISSING
    assert blocked(found.evaluation) == {
        CODE: "deploy_code_location_does_not_load",
        DAEMON: "deploy_daemon_not_alive",
    }
    assert [line(found.evaluation, key).evidence_hash for key in (CODE, DAEMON)] == [None, None]
    assert all("finance-os deploy verify" in (line(found.evaluation, key).remedy or "") for key in (CODE, DAEMON))


def test_a_recording_counts_for_this_deployment(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = record(database, facts(database))
    assert standing(database).current
    assert standing(database).evaluation.evidence_hash == recorded
    assert checkpoints.latest_recordings(database, "globex") == {}

    # Another machine's Python is no other deployment; another Dagster or Finance OS is.
    with monkeypatch.context() as patch:
        patch.setattr(deploy.platform, "python_version", lambda: "3.99.0")
        assert standing(database).current
    known = metadata.version
    for changed in ("dagster", "finance-os"):
        with monkeypatch.context() as patch:
            patch.setattr(deploy.metadata, "version", lambda name, it=changed: "99" if name == it else known(name))
            found = standing(database)
            assert found.evaluation.status is Status.READY
            assert found.currency is Currency.NOT_CURRENT
            assert "was recorded over other evidence" in (found.reason or "")

    assert not replace(standing(database), valid_for=timedelta()).current  # it ages
    record(database, facts(database, daemons=Daemons({"SCHEDULER": False})))
    found = standing(database)
    assert (found.currency, blocked(found.evaluation)) == (Currency.NOT_CURRENT, {DAEMON: "deploy_daemon_not_alive"})


def test_the_application_can_look_and_record(database: Database) -> None:
    with login(database, APPLICATION_ROLE) as application:
        record(application, facts(application))
        assert standing(application).current


def test_a_hash_is_over_what_decides(database: Database) -> None:
    def hash_of(**changed: Any) -> str:
        return evaluate_deploy("acme", facts(database, **changed)).evidence_hash

    well = hash_of()
    assert hash_of(code_location=CodeLocation(True, assets=41, jobs=1)) == well
    assert hash_of(daemons=Daemons({"SENSOR": True, "SCHEDULER": True, "ASSET": True})) == well
    deployed = deploy_facts_now(database)
    turned = Deployed((), dict(sorted(deployed.versions.items(), reverse=True)))
    assert hash_of(deployed=turned) == well
    other = {
        hash_of(code_location=CodeLocation(False, error="ImportError")),
        hash_of(daemons=Daemons({"SENSOR": False})),
        hash_of(deployed=replace(deployed, missing=("0099_more",))),
        *(hash_of(deployed=replace(deployed, versions={**deployed.versions, name: "9"})) for name in deploy.VERSIONS),
    }
    assert len(other | {well}) == 4 + len(deploy.VERSIONS)
