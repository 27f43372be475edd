"""The stack of one machine: what is configured is used as it is, and only what is not is started."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from finance_os.evidence import embedded
from finance_os.evidence.database import Database, schema_state
from finance_os.local.dagster_process import DagsterDidNotStart, free_port, running_dagster
from finance_os.local.stack import StackRuns, inbox, running_stack
from finance_os.settings import Settings
from finance_os.sources.registry import SOURCES
from finance_os_tests.conftest import create_database, drop_database

ELSEWHERE = "postgresql://reader@db.example.invalid/gravity"


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_url: str) -> None:
    """No variable of ours is set but the home; the embedded server, where it is needed, is the tests' own."""
    for name in list(os.environ):
        if name.startswith("FINANCE_OS_") and name != "FINANCE_OS_TEST_SERVER_URL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path / "home"))


@pytest.fixture
def empty_url(server_url: str, tmp_path: Path) -> Iterator[str]:
    """URL of a database without any schema."""
    name = f"finance_os_empty_{tmp_path.name[-30:].lower()}".replace("-", "_")
    yield create_database(server_url, name)
    drop_database(server_url, name)


def refuse_to_start(_: Path) -> None:
    raise AssertionError("the embedded server is started although nothing needs it")


def test_everything_set_starts_nothing_of_our_own(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embedded, "start", refuse_to_start)
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", empty_url)
    for source in SOURCES:
        for name in source.credentials:
            monkeypatch.setenv(name, ELSEWHERE)
    monkeypatch.setenv("FINANCE_OS_STRIPE_API_KEY", "rk_test_mine")
    with running_stack(Settings(), days=5) as stack:
        assert stack.simulated == ()
        assert stack.sandbox is None
        assert stack.environment["FINANCE_OS_DATABASE_URL"] == empty_url
        assert stack.environment["FINANCE_OS_DAGSTER_DATABASE_URL"] == empty_url
        assert stack.environment["FINANCE_OS_STRIPE_API_KEY"] == "rk_test_mine"
        assert stack.environment["FINANCE_OS_GRAVITY_URL"] == ELSEWHERE
        assert "FINANCE_OS_STRIPE_API_BASE" not in stack.environment
        assert stack.environment["DAGSTER_HOME"] == str(tmp_path / "home" / "dagster")
        assert (stack.dagster_home / "dagster.yaml").read_text().startswith("# Dagster's instance")
        applied, missing = schema_state(Database(empty_url))
        assert applied
        assert missing == []


def test_a_vendor_that_is_pointed_elsewhere_is_not_replaced(
    empty_url: str, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []

    def start(folder: Path) -> object:
        started.append(folder)
        return type("Server", (), {"get_uri": lambda _: server_url})()

    monkeypatch.setattr(embedded, "start", start)
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", empty_url)
    # A base alone is enough: somebody means a server of their own.
    monkeypatch.setenv("FINANCE_OS_STRIPE_API_BASE", "http://127.0.0.1:9")
    try:
        with running_stack(Settings(), days=3, size=2) as stack:
            others = tuple(each.system for each in SOURCES if each.credentials and each.system != "stripe")
            assert stack.simulated == others
            assert {source.system: source for source in SOURCES}["redshift"].credentials[0] in stack.environment
            assert stack.environment["FINANCE_OS_STRIPE_API_BASE"] == "http://127.0.0.1:9"
            assert "FINANCE_OS_STRIPE_API_KEY" not in stack.environment
            with psycopg.connect(stack.environment["FINANCE_OS_GRAVITY_URL"]) as gravity:
                assert gravity.execute("SELECT count(*) > 0 FROM publishers").fetchone() == (True,)
            sandbox = stack.sandbox
            assert sandbox is not None
            assert sandbox.process.poll() is None
        assert sandbox.process.poll() is not None
        assert len(started) == 1
    finally:
        drop_database(server_url, "gravity")
        drop_database(server_url, "redshift")


def test_a_second_stack_over_one_folder_is_refused(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embedded, "start", refuse_to_start)
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", empty_url)
    for source in SOURCES:
        for name in source.credentials:
            monkeypatch.setenv(name, ELSEWHERE)
    for _ in range(2):  # the folder is free again when the first one has ended
        with running_stack(Settings(), days=3):
            with pytest.raises(StackRuns) as refused, running_stack(Settings(), days=3):
                pass
            assert f"(process {os.getpid()})" in str(refused.value)
            monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path / "another"))
            with running_stack(Settings(), days=3):
                pass
            monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path / "home"))


def test_an_empty_variable_counts_as_not_set(empty_url: str, server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "start", refuse_to_start)
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", empty_url)
    for source in SOURCES:
        for name in (*source.credentials, *source.options):
            monkeypatch.setenv(name, "")
    with pytest.raises(AssertionError, match="embedded server"), running_stack(Settings(), days=3):
        pass


def test_a_drop_folder_that_is_set_is_where_files_are_handed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inbox(Settings(), "rho") == tmp_path / "home" / "drops" / "main" / "rho"
    monkeypatch.setenv("FINANCE_OS_DROPS", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("FINANCE_OS_BUSINESS", "acme")
    assert inbox(Settings(), "rho") == tmp_path / "elsewhere" / "acme" / "rho"
    monkeypatch.setenv("FINANCE_OS_DROPS", "s3://bucket/prefix")
    assert inbox(Settings(), "rho") is None


def test_a_dagster_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text("load_from:\n  - python_file: /nowhere/definitions.py\n")
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("storage: {unknown: {}}\n")
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    with pytest.raises(DagsterDidNotStart) as failure, running_dagster(environment, workspace, tmp_path / "log"):
        pass
    assert str(tmp_path / "log") in str(failure.value)
    assert "unknown" in str(failure.value)
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def test_a_port_that_is_taken_is_not_used() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port
