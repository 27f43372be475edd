"""`finance-os backtest`: what it shows of a month, where figures come from, and that only an approver signs."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from openpyxl import load_workbook
from typer.testing import CliRunner, Result

from finance_os.backtest.results import compute, latest_result
from finance_os.backtest.rules import Rules
from finance_os.backtest.sign_off import Standing, sign_off
from finance_os.commands.backtest import app
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.readiness.approvals import APPROVER_ROLE
from finance_os_tests.backtest.staged import (
    MARCH,
    START,
    baseline_record,
    connect,
    days_of,
    march,
    stage_baseline,
    stage_publishers,
    stage_spend,
)
from finance_os_tests.readiness.approvers import login, login_name
from finance_os_tests.readiness.planted import forge

MICROS = 10**6


@dataclass
class Month:
    """A staged March of one publisher, and the commands over it."""

    database: Database
    connections: dict[str, Connection]
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)

    def refused(self, *arguments: str) -> str:
        """The one sentence of a command that is not done; `finance-os` prints it."""
        result = self.run(*arguments)
        assert isinstance(result.exception, LookupError), result.output
        return str(result.exception)

    def compute(self) -> str:
        return compute(self.database, "acme", MARCH, Rules(), START).result_hash

    def approve_as(self, database: Database) -> None:
        self.monkeypatch.setenv("FINANCE_OS_APPROVER_DATABASE_URL", database.url)

    @property
    def standing(self) -> Standing:
        return sign_off(self.database, "acme", MARCH, Rules(), START).standing


@pytest.fixture
def month(database: Database, monkeypatch: pytest.MonkeyPatch) -> Month:
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.setenv("FINANCE_OS_START_DATE", str(START))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FINANCE_OS_APPROVER_DATABASE_URL", raising=False)
    connections = connect(database)
    stage_publishers(database, connections["gravity"], {"pub_1": 7_000})
    stage_spend(database, connections["redshift"], days_of(MARCH), march("pub_1", 10 * MICROS))
    stage_baseline(database, connections["xlsx"], baseline_record(MARCH, "pub_1", 210 * MICROS))
    return Month(database, connections, monkeypatch)


def test_showing_a_month_keeps_nothing(month: Month) -> None:
    result = month.run("show", "2026-03")
    assert result.exit_code == 0, result.output
    for text in ("acme, 2026-03-01", "pub_1", "over", "310.000000", "217.000000", "210.000000", "1 over", "unsigned"):
        assert text in result.output
    assert re.search(r"spend_microdollars +310,000,000\n", result.output)
    assert re.search(r"result hash +[0-9a-f]{64}\n", result.output)
    assert latest_result(month.database, "acme", MARCH) is None


def test_a_month_that_is_refused_says_why(month: Month, owner: Database, tmp_path: Path) -> None:
    assert month.refused("show", "march") == "'march' is not a month: write it as 2026-03"
    assert "there is no business 'initech'; there are acme" in month.refused("show", "2026-03", "--business", "initech")
    assert month.refused("show", "2999-01").startswith("month_not_begun: 2999-01 has no day that is over for acme")
    forge(owner, "UPDATE finance_os.raw_record_heads SET removed = true WHERE source_id = 'pub_1:2026-03-05'")
    for command in (["show"], ["trace"], ["export"]):
        more = {"trace": ["pub_1"], "export": ["--to", str(tmp_path / "nowhere")]}.get(command[0], [])
        assert month.refused(*command, "2026-03", *more).startswith("spend_does_not_tie_out: ")
    assert not (tmp_path / "nowhere").exists()


def test_of_several_businesses_one_is_named(month: Month) -> None:
    connect(month.database, "globex", "Asia/Tokyo")
    assert month.refused("show", "2026-03") == "say which business: --business acme or globex"
    result = month.run("show", "2026-03", "--business", "globex")
    assert "no rows" in result.output
    month.monkeypatch.setenv("FINANCE_OS_BUSINESS", "acme")
    assert "1 over" in month.run("show", "2026-03").output


def test_a_figure_is_traced_to_its_records_and_runs(month: Month) -> None:
    result = month.run("trace", "2026-03", "pub_1")
    assert result.exit_code == 0, result.output
    [head, *lines] = [line.split("\t") for line in result.stdout.splitlines()]
    assert head == ["source", "object type", "source ID", "record ID", "payload hash", "sync run", "microdollars"]
    assert [line[2] for line in lines] == [
        *(f"pub_1:{day}" for day in days_of(MARCH)),
        "2026-03:pub_1",
        "pub_1",
    ]
    spent = [int(line[6].removeprefix("spend=")) for line in lines if line[0] == "redshift"]
    assert sum(spent) == 310 * MICROS
    assert lines[31][6] == f"accrual={210 * MICROS} cash= deposit="
    runs = {row["id"] for row in month.database.fetch("SELECT sync_run_id AS id FROM finance_os.source_sync_runs")}
    assert {int(line[5]) for line in lines} == runs
    assert "spend 310000000 microdollars of 31 records" in result.stderr
    assert "has no publisher 'pub_9'" in month.refused("trace", "2026-03", "pub_9")


def test_a_month_is_exported(month: Month, tmp_path: Path) -> None:
    result = month.run("export", "2026-03", "--to", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    csv, xlsx = (Path(line) for line in result.output.splitlines())
    assert (csv.suffix, xlsx.suffix) == (".csv", ".xlsx")
    assert ",310000000," in csv.read_text()
    summary = {line[0]: line[1] for line in load_workbook(xlsx)["Summary"].iter_rows(values_only=True)}
    assert summary["spend_microdollars"] == 310 * MICROS


def test_a_month_is_signed_by_a_login_that_approves(month: Month) -> None:
    with login(month.database, APPROVER_ROLE) as approver:
        assert month.refused("sign", "2026-03", "--reason", "x").startswith(
            "FINANCE_OS_APPROVER_DATABASE_URL is not set"
        )
        month.approve_as(approver)
        assert "was never computed" in month.refused("sign", "2026-03", "--reason", "x")
        result_hash = month.compute()
        assert "say why it is signed" in month.refused("sign", "2026-03", "--reason", " ")
        result = month.run("sign", "2026-03", "--reason", "checked against the workbook")
        assert result.output == f"2026-03 of acme is signed: {result_hash}\n"
        assert month.standing is Standing.SIGNED
        assert f"signed: {login_name(approver)} signed {result_hash[:12]}" in month.run("show", "2026-03").output
        stage_baseline(
            month.database, month.connections["xlsx"], baseline_record(MARCH, "pub_1", 217 * MICROS), minute=1
        )
        assert "voided" in month.run("show", "2026-03").output
        assert month.standing is Standing.VOIDED
        assert "its evidence gives" in month.refused("sign", "2026-03", "--reason", "again")


def test_the_application_signs_nothing(month: Month) -> None:
    month.compute()
    month.approve_as(month.database)
    assert "may act as the application that computes results, or as its owner, and signs nothing" in month.refused(
        "sign", "2026-03", "--reason", "x"
    )
    assert month.standing is Standing.UNSIGNED


def test_duplicate_keys_are_not_signed(month: Month) -> None:
    stage_baseline(
        month.database,
        month.connections["xlsx"],
        baseline_record(MARCH, "pub_1", 210 * MICROS, number=2),
        minute=1,
    )
    month.compute()
    with login(month.database, APPROVER_ROLE) as approver:
        month.approve_as(approver)
        assert month.refused("sign", "2026-03", "--reason", "x") == (
            "2026-03 of acme cannot be signed: duplicate_baseline_key"
        )
    assert "unsigned, and cannot be signed: duplicate_baseline_key" in month.run("show", "2026-03").output
