"""`finance-os deploy verify`, on the real code location, a real Dagster instance and its real daemon."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner, Result

from finance_os.commands import deploy as command
from finance_os.defs.deployment import daemons_of, load_code_location
from finance_os.evidence import audit
from finance_os.evidence.database import APPLICATION_ROLE, Database
from finance_os.local.dagster_process import stop_tree
from finance_os.readiness.checkpoints import latest_recordings
from finance_os.readiness.deploy import CodeLocation
from finance_os.readiness.policies import policy_states
from finance_os_tests.readiness.approvers import login

PATIENCE = 120.0


class Run:
    """Runs `finance-os deploy` as the application, with a Dagster home of its own."""

    def __init__(self, database: Database, dagster_home: Path, home: Path) -> None:
        self.environment = {
            "FINANCE_OS_DATABASE_URL": database.url,
            "FINANCE_OS_BUSINESS": "acme",
            "FINANCE_OS_HOME": str(home),
            "DAGSTER_HOME": str(dagster_home),
        }

    def __call__(self, *arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(command.app, ["verify", *arguments], env=self.environment | environment)


@pytest.fixture(scope="module")
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a Dagster instance with storage in files."""
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (home / "workspace.yaml").write_text("load_from: []\n")
    return home


@pytest.fixture
def run(
    database: Database,
    acme: object,
    globex: object,
    dagster_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Run]:
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_")]:
        monkeypatch.delenv(name)
    with login(database, APPLICATION_ROLE) as application:
        yield Run(application, dagster_home, tmp_path / "home")


@contextmanager
def running_daemon(home: Path) -> Iterator[None]:
    """Dagster's daemon, until the block ends."""
    with (home / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-w", str(home / "workspace.yaml")],
            env={**os.environ, "DAGSTER_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            stop_tree(process)


def statuses(database: Database, business: str = "acme") -> dict[str, str]:
    """Status of each line of the latest recording, by key without its prefix."""
    recorded = latest_recordings(database, business)["deploy_verification"]
    return {each["key"].removeprefix("deploy_"): each["status"] for each in recorded.lines}


WELL = dict.fromkeys(("schema_at_head", "code_location_loads", "daemon_alive", "versions_recorded"), "ready")


def test_a_deployment_is_verified_once_its_daemon_lives(run: Run, database: Database, dagster_home: Path) -> None:
    result = run()
    assert result.exit_code == 1
    assert "acme: deploy verification is blocked" in result.output
    assert "globex: deploy verification is blocked" in result.output
    assert "acme: deploy_daemon_not_alive: Not heard lately: " in result.output
    assert statuses(database) == statuses(database, "globex") == WELL | {"daemon_alive": "blocked"}

    with running_daemon(dagster_home):
        deadline = time.monotonic() + PATIENCE
        with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
            while not daemons_of(instance).all_alive:
                assert time.monotonic() < deadline, (dagster_home / "daemon.log").read_text()[-2000:]
                time.sleep(0.2)
    result = run()
    assert result.exit_code == 0, result.output
    assert statuses(database) == statuses(database, "globex") == WELL
    for business in ("acme", "globex"):
        recorded = latest_recordings(database, business)["deploy_verification"]
        assert f"{business}: deploy verification is ready ({recorded.evidence_hash})" in result.output
        assert recorded.facts["code_location"]["assets"] > 20
        assert recorded.facts["daemons"]["alive"]["SCHEDULER"] is True
        assert recorded.facts["versions"]["dagster"] == dg.__version__
        assert all(state.recorded for state in policy_states(database, business))
        assert audit.verify(database, business).sound
    events = database.fetch(
        "SELECT details FROM finance_os.finance_audit_events WHERE business_id = 'acme' "
        "AND event_type = 'checkpoint.recorded' ORDER BY sequence"
    )
    assert [(row["details"]["status"], row["details"]["blockers"]) for row in events] == [
        ("blocked", ["deploy_daemon_not_alive"]),
        ("ready", []),
    ]
    # A daemon that fell silent counts no longer.
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        assert not daemons_of(instance, within=0.0).all_alive
        assert daemons_of(instance, within=0.0).error is None


def test_one_business_is_recorded_alone(run: Run, database: Database) -> None:
    words = run("--business", "globex").output
    assert "globex: deploy verification is" in words
    assert "acme" not in words
    assert "deploy_verification" in latest_recordings(database, "globex")
    assert latest_recordings(database, "acme") == {}
    assert isinstance(run("--business", "initech").exception, LookupError)


def test_where_dagster_is_not_configured_nobody_is_alive(run: Run, database: Database, tmp_path: Path) -> None:
    assert run(DAGSTER_HOME=str(tmp_path)).exit_code == 1
    recorded = latest_recordings(database, "acme")["deploy_verification"]
    assert recorded.facts["daemons"] == {"alive": {}, "error": "DagsterHomeNotSet"}
    assert statuses(database) == WELL | {"daemon_alive": "blocked"}


def test_an_instance_that_does_not_answer_is_not_alive(
    run: Run, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster_postgres.utils.time.sleep", lambda _: None)  # between its attempts to connect
    (tmp_path / "dagster.yaml").write_text(
        "storage: {postgres: {postgres_url: {env: FINANCE_OS_DAGSTER_DATABASE_URL}}}\n"
    )
    # The password must show nowhere.
    nowhere = "postgresql://nobody:hunter2canary@127.0.0.1:9/nowhere?connect_timeout=2"
    result = run(DAGSTER_HOME=str(tmp_path), FINANCE_OS_DAGSTER_DATABASE_URL=nowhere)
    assert result.exit_code == 1
    assert statuses(database) == WELL | {"daemon_alive": "blocked"}
    facts = latest_recordings(database, "acme")["deploy_verification"].facts
    assert facts["daemons"]["error"]
    assert "hunter2canary" not in result.output + str(facts)


def test_code_that_does_not_load_is_recorded(run: Run, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "finance_os.definitions", None)  # importing it now raises
    result = run("--business", "acme")
    assert result.exit_code == 1
    assert "acme: deploy_code_location_does_not_load: Loading finance_os.definitions raised ModuleNotFoundError" in (
        result.output
    )
    assert statuses(database)["code_location_loads"] == "blocked"


def test_a_schema_that_is_behind_is_not_written_to(run: Run, owner: Database) -> None:
    with owner.transaction() as connection:
        connection.execute("DELETE FROM finance_os._yoyo_migration WHERE migration_id = '0008_policies'")
    result = run()
    assert "lacks 1 migration(s), first 0008_policies: run `finance-os db migrate`" in str(result.exception)


def test_definitions_are_loaded_as_a_code_server_does() -> None:
    @dg.asset
    def good() -> None: ...

    @dg.asset(required_resource_keys={"nowhere"})
    def bad() -> None: ...

    def broken() -> dg.Definitions:
        raise RuntimeError("secret")

    job = dg.define_asset_job("all_of_it", selection=[good])
    assert load_code_location(lambda: dg.Definitions([good], jobs=[job])) == CodeLocation(True, assets=1, jobs=1)
    whole = dg.Definitions([good], jobs=[job]).get_repository_def()
    assert load_code_location(lambda: whole) == CodeLocation(True, assets=1, jobs=1)
    assert load_code_location(lambda: dg.Definitions([bad])).loads is False
    assert load_code_location(broken) == CodeLocation(False, error="RuntimeError")
