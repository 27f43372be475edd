"""The real `dagster dev`: a backfill over GraphQL, a file dropped into its folder, and nothing left that should not be.

One test, because starting Dagster is what takes the time.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import psutil
import psycopg
import pytest
from psycopg import sql

from finance_os import settings as settings_module
from finance_os.evidence.audit import verify
from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.local.dagster_process import running_dagster
from finance_os.local.graphql import DagsterGraphQL
from finance_os.local.stack import checkout, running_stack
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.settings import Settings
from finance_os.sources.gravity import GRAVITY
from finance_os.sources.registry import SOURCES
from finance_os.sources.rho import RHO
from finance_os.sources.stripe import STRIPE
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.defs.conftest import REFERENCES, ZONES, days_ago

SERVED = (STRIPE, RHO, GRAVITY)
"""The sources that two businesses are connected to here: one of each way of reading."""

PATIENCE = 240.0
PASSWORD = "hunter2canary"

INSTIGATORS = """
query Instigators($repository: RepositorySelector!) {
  schedulesOrError(repositorySelector: $repository) {
    ... on Schedules { results { name scheduleState { status } } }
  }
  sensorsOrError(repositorySelector: $repository) {
    ... on Sensors { results { name sensorState { status ticks(limit: 50) { status } } } }
  }
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
}
"""


def with_password(url: str) -> str:
    """The same URL, with a canary for a password."""
    with psycopg.connect(url) as connection:
        info = connection.info
        return f"postgresql://{info.user}:{PASSWORD}@/{info.dbname}?host={info.host}&port={info.port}"


@pytest.fixture
def dagster_url(server_url: str) -> Iterator[str]:
    """An empty database for Dagster's own storage."""
    name = f"dagster_{os.getpid()}"
    yield with_password(create_database(server_url, name))
    drop_database(server_url, name)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def sandbox(server_url: str, home: Path) -> Iterator[Running]:
    """Two small companies, whose bank exports lie in the drop folders."""
    name = f"daemon_{os.getpid()}"
    inbox = home / "drops" / "acme" / "rho"
    with running_sandbox(
        seed=5,
        days=14,
        size=4,
        accounts=2,
        gravity_admin_url=server_url,
        gravity_database=name,
        drops=inbox,
        rooms=None,
    ) as running:
        shutil.move(inbox / "account_2", home / "drops" / "globex" / "rho")
        yield running
    for number in ("", "_2"):
        drop_database(server_url, name + number)
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(f"{name}{number}_reader")))


@pytest.fixture
def _environment(
    database: Database, dagster_url: str, sandbox: Running, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FINANCE_OS_HOME", str(home))
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", with_password(database.url))
    monkeypatch.setenv("FINANCE_OS_DAGSTER_DATABASE_URL", dagster_url)
    monkeypatch.setenv("FINANCE_OS_DROP_SETTLE_SECONDS", "1")
    for prefix, variables in (("", sandbox.env), ("GLOBEX_", sandbox.others[0])):
        for name, value in variables.items():
            if name != "FINANCE_OS_DROPS":
                monkeypatch.setenv(prefix + name, value)
    for source in SOURCES:
        if source not in SERVED and source.credentials:
            monkeypatch.setenv(source.credentials[0], "elsewhere")  # so that the stack serves no sandbox for it
    settings_module.settings.cache_clear()
    for business, zone in ZONES.items():
        ensure_business(database, business, business.title(), zone)
        for source in SERVED:
            ensure_connection(database, business, source.system, secret_reference=REFERENCES[business])
    yield
    settings_module.settings.cache_clear()


@pytest.mark.usefixtures("_environment")
def test_dagster_does_what_it_is_asked_and_tells_nothing_it_should_not(
    database: Database, dagster_url: str, sandbox: Running, home: Path
) -> None:
    children = {process.pid for process in psutil.Process().children(recursive=True)}
    days = days_ago(5, 1)
    log = home / "logs" / "dagster.log"
    with (
        running_stack(Settings(), days=5) as stack,
        running_dagster(stack.environment, checkout() / "workspace.yaml", log, port=0) as dagster,
    ):
        assert stack.simulated == ()
        graphql = DagsterGraphQL(dagster.address)
        backfills = [
            graphql.launch_backfill([(source.system, obj.object_type) for obj in source], days, source.title)
            for source in SERVED
        ]
        broken = {"first": str(days.first), "last": str(days.last), "name": "broken.csv", "fault": "bad_amount"}
        sandbox.call("POST", "/drops", broken)
        _wait(database, graphql, backfills, home)
        _instigators_run(dagster.address)
        runs = graphql.runs()

    assert {run.status for run in runs} == {"SUCCESS"}
    assert {run.job_name for run in runs if "finance_os/drop" in run.tags} == {"rho_sync"}
    _evidence_is_there(database, days)
    _files_are_taken(database, home)
    _nothing_is_told(database, dagster_url, home, _secrets(sandbox))
    left = {process.pid for process in psutil.Process().children(recursive=True)} - children
    assert not left
    assert not [process for process in psutil.process_iter() if _is_of(process, home)]


def _wait(database: Database, graphql: DagsterGraphQL, backfills: list[str], home: Path) -> None:
    """Wait until the backfills have ended, every file is taken, and every accepted one is staged."""
    deadline = time.monotonic() + PATIENCE
    while True:
        statuses = [graphql.backfill_status(backfill) for backfill in backfills]
        runs = graphql.runs()
        waiting = list((home / "drops").glob("*/rho/*.csv"))
        keys = {run.tags["dagster/run_key"] for run in runs if "finance_os/drop" in run.tags}
        accepted = {
            f"{row['business_id']}/rho/{row['hash']}"
            for row in database.fetch(
                "SELECT business_id, encode(content_hash, 'hex') AS hash FROM finance_os.drops"
                " WHERE verdict = 'accepted' AND row_count > 0"
            )
        }
        done = all(status.startswith(("COMPLETED", "FAILED")) for status in statuses)
        if done and not waiting and accepted <= keys and all(run.ended for run in runs):
            assert set(statuses) == {"COMPLETED_SUCCESS"}
            return
        assert time.monotonic() < deadline, f"{statuses}, {[(run.job_name, run.status) for run in runs]}, {waiting}"
        time.sleep(1)


def _instigators_run(address: str) -> None:
    """The schedule, the sensor and every daemon are shown as running, and no tick failed."""
    repository = {"repositoryLocationName": "finance_os", "repositoryName": "__repository__"}
    body = {"query": INSTIGATORS, "variables": {"repository": repository}}
    answer = httpx.post(f"{address}/graphql", json=body, timeout=30).json()["data"]
    schedules = {each["name"]: each["scheduleState"]["status"] for each in answer["schedulesOrError"]["results"]}
    assert schedules == {"daily_sync": "RUNNING", "source_sync_plan": "RUNNING"}
    sensors = {each["name"]: each["sensorState"] for each in answer["sensorsOrError"]["results"]}
    assert sensors["rho_drops"]["status"] == "RUNNING"
    ticks = {tick["status"] for tick in sensors["rho_drops"]["ticks"]}
    assert "SUCCESS" in ticks
    assert "FAILURE" not in ticks
    daemons = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
    assert {each["daemonType"] for each in daemons if each["required"]} >= {"SENSOR", "SCHEDULER", "BACKFILL"}
    assert all(each["healthy"] for each in daemons if each["required"])


def _evidence_is_there(database: Database, days: Days) -> None:
    """Each object of each business was read for every day, and the verdicts say so."""
    read = {
        (row["business_id"], row["object_type"]): row["days"]
        for row in database.fetch(
            """
            SELECT business_id, object_type, count(DISTINCT partition_day) AS days
            FROM finance_os.source_sync_partitions WHERE partition_day BETWEEN %s AND %s GROUP BY 1, 2
            """,
            (days.first, days.last),
        )
    }
    objects = [obj.object_type for source in SERVED for obj in source]
    assert read == {(business, name): len(days) for business in ZONES for name in objects}
    staged = database.fetch("SELECT DISTINCT business_id, source_system FROM finance_os.raw_record_heads ORDER BY 1, 2")
    assert [(row["business_id"], row["source_system"]) for row in staged] == [
        (business, system) for business in sorted(ZONES) for system in sorted(source.system for source in SERVED)
    ]
    verdicts = database.fetch(
        """
        SELECT business_id, object_type, check_name, partition_day,
               (array_agg(status ORDER BY check_result_id DESC))[1] AS status,
               (array_agg(blocker ORDER BY check_result_id DESC))[1] AS blocker
        FROM finance_os.check_results WHERE partition_day BETWEEN %s AND %s GROUP BY 1, 2, 3, 4
        """,
        (days.first, days.last),
    )
    assert len(verdicts) == len(ZONES) * len(objects) * 3 * len(days)
    shown = {
        (row["business_id"], day)
        for row in database.fetch(
            "SELECT business_id, first_day, last_day FROM finance_os.drops WHERE verdict = 'accepted'"
        )
        for day in Days(row["first_day"], row["last_day"])
    }
    not_ready = {
        (row["object_type"], row["check_name"], row["blocker"])
        for row in verdicts
        if row["status"] != "ready"
        # No file says anything of days before its first row and after its last one: they are told as just that.
        and not (
            row["object_type"] == "rho_cash_transaction"
            and (row["business_id"], row["partition_day"]) not in shown
            and (row["check_name"], row["blocker"]) == ("completeness", "completeness_day_unobservable")
        )
    }
    # What only the present tells cannot be known of past days; everything else was read whole.
    assert not_ready == {("stripe_balance", "completeness", "completeness_day_unobservable")}
    assert {business for business, _ in shown} == set(ZONES)
    triggers = database.fetch("SELECT DISTINCT source_system, trigger FROM finance_os.source_sync_runs ORDER BY 1, 2")
    assert [(row["source_system"], row["trigger"]) for row in triggers] == [
        ("gravity", "backfill"),
        ("rho", "backfill"),
        ("rho", "drop"),
        ("stripe", "backfill"),
    ]
    assert all(verify(database, business).sound for business in ZONES)


def _files_are_taken(database: Database, home: Path) -> None:
    found = {
        (row["business_id"], row["verdict"]): row["files"]
        for row in database.fetch("SELECT business_id, verdict, count(*) AS files FROM finance_os.drops GROUP BY 1, 2")
    }
    assert set(found) == {("acme", "accepted"), ("globex", "accepted"), ("acme", "quarantined")}
    assert (home / "drops" / "acme" / "rho" / "quarantined" / "broken.csv.report.txt").exists()


def _secrets(sandbox: Running) -> set[str]:
    secrets = {PASSWORD}
    for variables in (sandbox.env, *sandbox.others):
        secrets.add(variables["FINANCE_OS_STRIPE_API_KEY"])
        password = urlsplit(variables["FINANCE_OS_GRAVITY_URL"]).password
        assert password
        secrets |= {password, unquote(password)}
    return secrets


PERSONAL = re.compile(r"(^|_)(name|email|phone|counterparty)$")


def _personal(database: Database) -> set[str]:
    """Names and addresses in what was staged, wherever they stand in it."""
    found: set[str] = set()
    waiting: list[tuple[str, Any]] = [
        ("", row["payload"]) for row in database.fetch("SELECT payload FROM finance_os.raw_source_records")
    ]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.items())
        elif isinstance(value, list):
            waiting.extend((key, item) for item in value)
        elif isinstance(value, str) and len(value) > 5 and (PERSONAL.search(key.lower()) or "@" in value):
            found.add(value)
    return found - {source.title for source in SERVED}  # Stripe pays out under its own name


def _nothing_is_told(database: Database, dagster_url: str, home: Path, secrets: set[str]) -> None:
    """No secret and nobody's name or address is in a log, in Dagster's database, or in what an operator reads."""
    personal = _personal(database)
    assert len(personal) > 15
    assert any("@" in text for text in personal)
    logs = {path: path.read_text(errors="replace") for path in _files(home)}
    assert any("compute_logs" in str(path) for path in logs)
    assert any(path.name == "dagster.log" and "Creating new run" in text for path, text in logs.items())
    dagster = _all_rows(dagster_url, "public")
    assert "ASSET_MATERIALIZATION" in dagster["event_logs"]
    assert "evidence hash" in dagster["event_logs"]
    ours = {
        table: text
        for table, text in _all_rows(database.url, "finance_os").items()
        if table not in ("raw_source_records",)  # the evidence itself
    }
    assert "sync_run.succeeded" in ours["finance_audit_events"]
    for place, text in [*logs.items(), *dagster.items(), *ours.items()]:
        told = sorted(secret for secret in secrets if secret in text)
        assert not told, f"a secret is told in {place}"
        named = sorted(person for person in personal if person in text)
        assert not named, f"{named[:3]} are named in {place}"


def _files(home: Path) -> Iterator[Path]:
    """Everything below home but what was handed in."""
    for path in home.rglob("*"):
        if path.is_file() and "drops" not in path.relative_to(home).parts:
            yield path


def _all_rows(url: str, schema: str) -> dict[str, str]:
    """Table → all of its rows as text."""
    found: dict[str, str] = {}
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
        for (table,) in tables:
            rows = connection.execute(
                sql.SQL("SELECT string_agg(row::text, E'\\n') FROM {}.{} AS row").format(
                    sql.Identifier(schema), sql.Identifier(table)
                )
            ).fetchone()
            found[table] = str(rows[0]) if rows and rows[0] else ""
    # Canonical bytes of audit events are shown in hex.
    if "finance_audit_events" in found:
        with psycopg.connect(url) as connection:
            events = connection.execute("SELECT convert_from(canonical, 'UTF8') FROM finance_os.finance_audit_events")
            found["canonical audit events"] = "\n".join(text for (text,) in events)
    return found


def _is_of(process: psutil.Process, home: Path) -> bool:
    """Whether a process was started with our home in its environment."""
    environment: dict[str, Any] = {}
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return False
    return environment.get("FINANCE_OS_HOME") == str(home)
