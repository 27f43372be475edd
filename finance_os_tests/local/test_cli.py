"""The `finance-os` command as a person runs it: what it prints, its exit codes, and one clear line where it refuses."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from finance_os import cli
from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.readiness.source_checks import judge_and_record
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.evidence.staged import DAY, page, record, stage
from finance_os_tests.readiness.planted import SUBJECT, Days, forge

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def finance_os(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs `finance-os` in this process, against the test's database; `environment` is added to the variables."""
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path / "home"))
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["finance-os", *arguments])
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        said = capsys.readouterr()
        code = ended.value.code
        return subprocess.CompletedProcess(arguments, code if isinstance(code, int) else 0, said.out, said.err)

    yield run
    signal.signal(signal.SIGTERM, handler)


def in_a_process_of_its_own(
    database: Database, tmp_path: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `finance-os` as a shell would."""
    ours = {
        "FINANCE_OS_DATABASE_URL": database.url,
        "FINANCE_OS_HOME": str(tmp_path / "home"),
        "XDG_RUNTIME_DIR": str(tmp_path),  # without it a library warns
    }
    return subprocess.run(
        [Path(sys.executable).with_name("finance-os"), *arguments],
        env={"PATH": os.environ["PATH"], **ours, **(environment or {})},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_line(completed: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that a refused command says, without a traceback."""
    assert completed.returncode == code, completed.stderr
    assert "Traceback" not in completed.stderr
    assert completed.stdout == ""
    return " ".join(completed.stderr.split())


def run_ids(table: str) -> list[int]:
    """IDs in the first column of a table of runs."""
    cells = [line.split("│")[1].strip() for line in table.splitlines() if "│" in line]
    return [int(cell) for cell in cells if cell.isdecimal()]


def test_runs_are_listed_and_shown_exactly(finance_os: Run, database: Database, acme: Connection) -> None:
    first = stage(database, acme, page(record("in_2", 7), record("in_1", "ü\n|")))
    second = stage(database, acme, page(record("in_1", "b"), minute=1))
    listed = finance_os("runs", "list")
    assert listed.returncode == 0
    assert run_ids(listed.stdout) == [second["sync_run_id"], first["sync_run_id"]]
    assert "succeeded" in listed.stdout
    assert run_ids(finance_os("runs", "list", "--business", "globex").stdout) == []
    assert run_ids(finance_os("runs", "list", "--limit", "1").stdout) == [second["sync_run_id"]]

    shown = finance_os("runs", "show", str(first["sync_run_id"]))
    assert shown.returncode == 0
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [(each["position"], each["source_id"], each["payload"]["content"]) for each in records] == [
        (1, "in_2", 7),
        (2, "in_1", "ü\n|"),
    ]
    assert "batch_hash" in shown.stderr
    assert first["batch_hash"].hex() in shown.stderr
    assert finance_os("runs", "show", str(first["sync_run_id"]), "--no-records").stdout == ""


def test_a_run_that_does_not_exist_is_one_line(finance_os: Run) -> None:
    assert "no sync run 77" in one_line(finance_os("runs", "show", "77"), 1)


def test_the_schema_is_migrated_and_its_state_shown(finance_os: Run, server_url: str, database: Database) -> None:
    name = f"finance_os_cli_{os.getpid()}"
    environment = {"FINANCE_OS_DATABASE_URL": create_database(server_url, name)}
    try:
        before = finance_os("db", "status", environment=environment)
        assert before.returncode == 1
        assert "missing  0001" in before.stdout
        assert "finance-os db migrate" in before.stdout
        refused = finance_os("runs", "list", environment=environment)
        assert "finance-os db migrate" in one_line(refused, 1)
        applied = finance_os("db", "migrate", environment=environment)
        assert applied.returncode == 0
        assert "Applied 0001" in applied.stdout
        after = finance_os("db", "status", environment=environment)
        assert after.returncode == 0
        assert "missing" not in after.stdout
        assert "Nothing to do" in finance_os("db", "migrate", environment=environment).stdout
    finally:
        drop_database(server_url, name)


def test_audit_verify_names_the_first_broken_event(
    finance_os: Run, database: Database, owner: Database, acme: Connection, globex: Connection
) -> None:
    for connection in (acme, globex):
        for minute in range(4):
            stage(database, connection, page(record("in_1", minute), minute=minute))
    sound = finance_os("audit", "verify")
    assert sound.returncode == 0
    assert [line.split(":")[0] for line in sound.stdout.splitlines() if "sound" in line] == ["acme", "globex"]
    for sequence in (3, 4):
        forge(
            owner,
            """
            UPDATE finance_os.finance_audit_events SET details = details || '{"rows_new": 99}'
            WHERE business_id = 'globex' AND sequence = %(sequence)s
            """,
            {"sequence": sequence},
        )
    broken = finance_os("audit", "verify")
    assert broken.returncode == 1
    assert "globex: event 3 is edited" in " ".join(broken.stderr.split())
    assert "event 4" not in broken.stderr
    assert "acme: 4 events are sound" in broken.stdout
    assert finance_os("audit", "verify", "--business", "acme").returncode == 0


def test_status_says_what_is_staged_and_what_is_not_ready(
    finance_os: Run, database: Database, acme: Connection, globex: Connection
) -> None:
    ensure_connection(database, "globex", "rho")
    stage(database, acme, page(record("in_1"), record("in_2")))
    judge_and_record(database, SUBJECT, Days(DAY, DAY))
    shown = finance_os("status")
    assert shown.returncode == 0
    [invoices] = [
        line for line in shown.stdout.split("globex")[0].splitlines() if line.strip("│ ").startswith("stripe_invoice ")
    ]
    assert [cell.strip() for cell in invoices.split("│")[2:5]] == ["2", "2", "1"]
    assert "1/1 days" in invoices
    assert "stale" in invoices
    assert "freshness_sla_exceeded" in shown.stdout
    assert "rho_cash_transaction" in shown.stdout
    narrowed = finance_os("status", "--business", "acme").stdout
    assert "globex" not in narrowed
    assert "rho_cash_transaction" not in narrowed


def test_status_of_an_installation_that_was_never_read_does_not_say_ready(
    finance_os: Run, database: Database, acme: Connection
) -> None:
    shown = finance_os("status")
    assert shown.returncode == 0
    assert "is ready" not in shown.stdout
    assert "freshness_no_sync_run" in shown.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FINANCE_OS_TIMEZONE", "Mars/Olympus"),
        ("FINANCE_OS_CHUNK_ROWS", "0"),
        ("FINANCE_OS_START_DATE", "someday"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(finance_os: Run, name: str, value: str) -> None:
    for command in (("status",), ("db", "status"), ("audit", "verify")):
        said = one_line(finance_os(*command, environment={name: value}), 2)
        assert said.startswith(f"{name}: ")


def test_exit_codes_reach_the_shell(database: Database, tmp_path: Path, acme: Connection) -> None:
    wrong = {"FINANCE_OS_TIMEZONE": "Mars/Olympus"}
    said = one_line(in_a_process_of_its_own(database, tmp_path, "status", environment=wrong), 2)
    assert said.startswith("FINANCE_OS_TIMEZONE: ")
    run = stage(database, acme, page(record("in_1")))
    shown = in_a_process_of_its_own(database, tmp_path, "runs", "show", str(run["sync_run_id"]))
    assert shown.returncode == 0
    assert [json.loads(line)["source_id"] for line in shown.stdout.splitlines()] == ["in_1"]


def test_an_unknown_command_and_none_at_all_show_help(finance_os: Run) -> None:
    assert finance_os("frobnicate").returncode == 2
    assert "audit" in finance_os("--help").stdout


def test_secrets_are_not_printed(finance_os: Run, database: Database, acme: Connection) -> None:
    with psycopg.connect(database.url) as connection:
        url = f"postgresql://postgres:hunter2canary@/{connection.info.dbname}?host={connection.info.host}"
    for command in (("db", "status"), ("status",), ("runs", "list")):
        said = finance_os(*command, environment={"FINANCE_OS_DATABASE_URL": url})
        assert said.returncode == 0, said.stderr
        assert "hunter2canary" not in said.stdout + said.stderr


def test_a_probe_stages_one_record_and_asks_no_vendor(finance_os: Run, database: Database) -> None:
    ran = finance_os("probe", "--note", "is it writable")
    assert ran.returncode == 0, ran.stderr
    assert "staged 1 record" in ran.stdout
    [run] = database.fetch("SELECT * FROM finance_os.source_sync_runs")
    assert (run["trigger"], run["status"], run["rows_new"], run["requested"]) == ("probe", "succeeded", 1, {})
    [kept] = database.fetch("SELECT source_system, object_type, payload FROM finance_os.raw_source_records")
    assert (kept["source_system"], kept["object_type"]) == ("manual", "ingestion_probe")
    assert kept["payload"]["note"] == "is it writable"
    [event] = database.fetch(
        "SELECT subject FROM finance_os.finance_audit_events WHERE event_type = 'sync_run.succeeded'"
    )
    assert event["subject"] == f"sync_run:{run['sync_run_id']}"
    assert "probe:" in finance_os("runs", "show", str(run["sync_run_id"])).stdout


def test_the_plan_says_what_is_blocked_and_what_to_set(finance_os: Run) -> None:
    ran = finance_os("plan")
    assert ran.returncode == 0, ran.stderr
    assert "planned connectors have runtime credentials present" in ran.stdout
    [plan] = json.loads(finance_os("plan", "--json").stdout)
    by_system = {each["source_system"]: each for each in plan["connectors"]}
    assert by_system["stripe"]["status"] == "blocked"
    assert "FINANCE_OS_STRIPE_API_KEY" in by_system["stripe"]["remedy"]
    [fewer] = json.loads(
        finance_os("plan", "--json", environment={"FINANCE_OS_EXCLUDED_CONNECTORS": "stripe, gravity"}).stdout
    )
    assert len(fewer["connectors"]) == len(plan["connectors"]) - 2


def test_a_new_key_encrypts_and_can_be_rotated(finance_os: Run, database: Database) -> None:
    first, second = (finance_os("keys", "new").stdout.strip() for _ in range(2))
    assert first != second
    ran = finance_os("keys", "rotate", environment={"FINANCE_OS_ENCRYPTION_KEY": f"{second},{first}"})
    assert ran.returncode == 0, ran.stderr
    assert "0 kept secrets" in ran.stdout
