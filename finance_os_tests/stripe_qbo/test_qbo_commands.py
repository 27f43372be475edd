"""`finance-os qbo` as people run it: planned from what is staged, gated, applied, verified, and its state shown."""

import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from finance_os import settings as settings_module
from finance_os.commands import qbo as command
from finance_os.commands.progress import Shown
from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Kind, Record
from finance_os.evidence.snapshot import Snapshot
from finance_os.evidence.windows import Days
from finance_os.readiness import gate
from finance_os.readiness.gate import Blocker
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sandbox import money_objects
from finance_os.sources.sealing import new_key
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo import states
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.store import put_plan
from finance_os.stripe_qbo.waiting import Waiting
from finance_os_tests.evidence.staged import page, stage
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books, books, customer, invoice, story
from finance_os_tests.stripe_qbo.mapping.made import Made
from finance_os_tests.stripe_qbo.mapping.worlds import START, living
from finance_os_tests.stripe_qbo.staged import stage_balance, stage_books
from finance_os_tests.stripe_qbo.test_waiting import Clock, half_done

Run = Callable[..., Result]
REAL_GATE = gate.gate
OF_ACME = '{"acme": {"balance_date": "2026-06-01", "time_zone": "UTC"}}'


@pytest.fixture(scope="module")
def company() -> Iterator[Books]:
    with books(living(29, 1, 1), books_until=START - timedelta(days=1)) as served:
        yield served


@pytest.fixture
def run(company: Books, database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_")]:
        monkeypatch.delenv(name)
    ensure_connection(database, "acme", "quickbooks")
    environment = {
        **company.values,
        "FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN": company.change("connect_writer")["refresh_token"],
        "FINANCE_OS_QUICKBOOKS_REALM_ID": company.realm,
        "FINANCE_OS_DATABASE_URL": database.url,
        "FINANCE_OS_BUSINESS": "acme",
        "FINANCE_OS_ENCRYPTION_KEY": new_key(),
        "COLUMNS": "120",
    }
    settings_module.settings.cache_clear()
    # What opens the gate is tested where it is: here it is open unless a test takes this back.
    monkeypatch.setattr(gate, "gate", lambda _, business_id, __: gate.Gate(business_id, ()))

    def invoke(*arguments: str, **more: str | None) -> Result:
        return CliRunner().invoke(command.app, arguments, env={**environment, **more})

    yield invoke
    settings_module.settings.cache_clear()


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.toml"
    path.write_text('balance_date = 2026-06-01\ntime_zone = "UTC"\n')
    return str(path)


def staged(database: Database, acme: Connection, company: Books) -> None:
    """One customer with an invoice, and the books as they are now."""
    made = Made()
    made.invoice(made.customer("Acorn Games"), 100)
    for kind in ("customer", "invoice"):
        rows = page(*(Record(each["id"], each, START) for each in made.objects[kind]))
        stage(database, acme, rows, object_type=f"stripe_{kind}", days=Days(START, START))
    before = Days(START - timedelta(days=14), START)
    stage(database, acme, page(), object_type="stripe_payout", days=before)
    stage_balance(database, acme, money_objects.balance(0, 0), datetime(2026, 6, 2, tzinfo=UTC))
    stage_books(database, company, ensure_connection(database, "acme", "quickbooks"))


def test_from_the_plan_to_the_books(company: Books, database: Database, acme: Connection, run: Run, rules: str) -> None:
    staged(database, acme, company)
    shown = run("plan", "--rules", rules, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "2 new" in shown.output
    assert "(nothing kept)" in shown.output
    assert database.fetch("SELECT FROM finance_os.intents") == []
    planned = run("plan", "--rules", rules)
    assert (planned.exit_code, "new: create Invoice invoice:" in planned.output) == (0, True), planned.output
    assert "Acorn" not in planned.output
    assert "2 unchanged" in run("plan", "--rules", rules).output

    writes = company.before.writes
    gated = run("apply")
    assert gated.exit_code == 1
    assert "policy_gated_read_only_ingestion_only: nothing was sent" in gated.output
    assert f"--scope {company.realm}" in gated.output
    assert company.before.writes == writes

    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    applied = run("apply")
    assert (applied.exit_code, "2 applied; 2 requests" in applied.output) == (0, True), applied.output
    assert "nothing to do; 0 requests" in run("apply").output
    verified = run("verify")
    assert (verified.exit_code, "2 objects are as planned" in verified.output) == (0, True), verified.output
    state = run("status")
    assert state.exit_code == 0
    for text in ("applied", "Invoice", "2 links created, 2 verified", "policy qbo_export: approved"):
        assert text in state.output
    rows = database.fetch("SELECT name FROM finance_os.connection_secrets")
    assert [row["name"] for row in rows] == ["write_tokens"]


def test_a_plan_waits_for_another_planner_and_is_made_from_what_is_there_then(
    company: Books, database: Database, acme: Connection, run: Run, rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen before the other one kept its plan is never kept over it."""
    staged(database, acme, company)
    booked, seen = states.booked, list[Database]()

    def remember(database: Database, business_id: str, realm: str) -> dict[LinkKey, date]:
        seen.append(database)
        return booked(database, business_id, realm)

    monkeypatch.setattr(states, "booked", remember)
    waiting = (
        "SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
        "WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
    )
    with ThreadPoolExecutor(1) as pool:
        with exporting.planning_alone(database, "acme", company.realm):
            planning = pool.submit(run, "plan", "--rules", rules)
            until = time.monotonic() + 60
            while not database.fetch(waiting):
                assert not planning.done(), "it planned beside another planner"
                assert time.monotonic() < until
                time.sleep(0.01)
            assert seen == []
            made = Made()
            late = made.invoice(made.customer("Acorn Games"), 70, id="in_late", number="INV-9999")
            row = Record(late, made.one("invoice", late), START)
            stage(database, acme, page(row), object_type="stripe_invoice", kind=Kind.TARGETED, days=Days(START, START))
        planned = planning.result(60)
    assert (planned.exit_code, "create Invoice invoice:in_late" in planned.output) == (0, True), planned.output
    assert [type(each) for each in seen] == [Snapshot]


def test_what_is_wrong_is_told_and_fails(company: Books, database: Database, acme: Connection, run: Run) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    company.change("close_books", date="2026-07-15")
    try:
        put_plan(database, "acme", company.realm, [customer("cus_cli"), invoice("in_cli", "cus_cli")])
        refused = run("apply")
        assert (refused.exit_code, "1 applied, 1 failed" in refused.output) == (1, True), refused.output
        assert "qbo_refused: invoice:in_cli:invoice" in run("status").output
    finally:
        company.change("close_books", date=None)
    again = run("apply", "--retry")
    assert (again.exit_code, "1 intents are planned again" in again.output) == (0, True), again.output
    company.change("delete", entity="Invoice", body={"Id": company.one(invoice("in_cli", "cus_cli"))["Id"]})
    verified = run("verify")
    assert (verified.exit_code, "qbo_object_missing" in verified.output) == (1, True), verified.output


def test_nothing_is_written_while_the_gate_is_shut(
    company: Books, database: Database, acme: Connection, run: Run, rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged(database, acme, company)
    run("plan", "--rules", rules)
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    monkeypatch.setattr(gate, "gate", REAL_GATE)
    writes = company.before.writes
    shut = run("apply")
    assert shut.exit_code == 1
    assert isinstance(shut.exception, LookupError)
    assert "phase_7_scheduled_sync_not_succeeded" in str(shut.exception)
    assert company.before.writes == writes


def test_what_was_never_read_of_the_books_is_told_and_nothing_is_kept_or_written(
    company: Books, database: Database, acme: Connection, run: Run, rules: str
) -> None:
    """A plan of the last days' books is shown for people to look at; what was kept before is not written either."""
    quickbooks = ensure_connection(database, "acme", "quickbooks")
    staged(database, acme, company)
    assert run("plan", "--rules", rules).exit_code == 0
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    with database.transaction() as connection:
        connection.execute("SET LOCAL ROLE NONE")
        connection.execute(
            "UPDATE finance_os.source_sync_runs SET window_start = %s WHERE connection_id = %s AND object_type = %s",
            (START + timedelta(days=9), quickbooks.connection_id, "quickbooks_invoice"),
        )
    writes = company.before.writes
    told = "books_not_read_from_first_day (quickbooks/quickbooks_invoice on 2026-05-31;"
    shown = run("plan", "--rules", rules, "--dry-run")
    assert shown.exit_code == 1
    for text in (f"realm {company.realm}: ", "(nothing kept)", "This cannot be kept or sent.", told):
        assert text in shown.output
    for asked in (("plan", "--rules", rules), ("apply",)):
        refused = run(*asked)
        assert isinstance(refused.exception, LookupError), refused.output
        assert told in str(refused.exception)
    assert told in run("status").output
    assert {row["state"] for row in database.fetch("SELECT state FROM finance_os.intents")} == {"planned"}
    assert company.before.writes == writes
    stage_books(database, company, quickbooks)
    assert told not in run("status").output
    assert run("plan", "--rules", rules, "--dry-run").exit_code == 0


def test_books_of_several_companies_are_told_wherever_they_would_be_used(
    company: Books, database: Database, acme: Connection, run: Run, rules: str
) -> None:
    """What was planned before the connection was switched is not written, though it was put back."""
    staged(database, acme, company)
    assert run("plan", "--rules", rules).exit_code == 0
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    quickbooks = ensure_connection(database, "acme", "quickbooks")
    for realm in ("9130000000000077", company.realm):
        info = page(Record(realm, {"Id": "1", "MetaData": {"CreateTime": "2026-03-02T18:30:00-08:00"}}, START))
        stage(database, quickbooks, info, object_type="quickbooks_company_info", days=Days(START, START))
    writes = company.before.writes
    asked = (("plan", "--rules", rules), ("plan", "--rules", rules, "--dry-run"), ("apply",), ("reconcile",))
    for arguments in asked:
        by_rules = {"FINANCE_OS_QBO_RULES": OF_ACME} if arguments == ("reconcile",) else {}
        refused = run(*arguments, **by_rules)
        assert isinstance(refused.exception, LookupError), refused.output
        assert "books_of_several_companies" in str(refused.exception)
        assert "9130000000000077" in str(refused.exception)
    for given in (None, OF_ACME):
        state = run("status", FINANCE_OS_QBO_RULES=given)
        assert (state.exit_code, "- books_of_several_companies (" in state.output) == (0, True), state.output
    assert {row["state"] for row in database.fetch("SELECT state FROM finance_os.intents")} == {"planned"}
    assert company.before.writes == writes


def test_every_reason_why_nothing_is_planned_or_written_is_told(
    company: Books, database: Database, acme: Connection, run: Run, rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged(database, acme, company)
    by_hand = run("status")
    assert (by_hand.exit_code, "- qbo_rules_missing (" in by_hand.output) == (0, True), by_hand.output
    ready = run("status", FINANCE_OS_QBO_RULES=OF_ACME)
    assert "Nothing is planned" not in ready.output
    assert "Not everything is written:\n- policy_gated_read_only_ingestion_only (qbo_export;" in ready.output
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    assert "Not everything is written" not in run("status", FINANCE_OS_QBO_RULES=OF_ACME).output
    assert run("plan", "--rules", rules).exit_code == 0
    with database.transaction() as connection:
        connection.execute("SET LOCAL ROLE NONE")
        connection.execute("UPDATE finance_os.source_sync_runs SET status = 'failed' WHERE object_type LIKE '%balance'")
    unproven = run("status", FINANCE_OS_QBO_RULES=OF_ACME)
    assert "Nothing is planned:\n- stripe_balance_unproven (stripe_qbo;" in unproven.output, unproven.output
    assert "materialize stripe/stripe_balance for the present day" in unproven.output
    refused = run("apply", FINANCE_OS_QBO_RULES=OF_ACME)
    assert isinstance(refused.exception, LookupError)
    assert "stripe_balance_unproven" in str(refused.exception)
    assert run("apply").exit_code == 0  # planned by hand with a file of rules: nobody knows those by now
    bad = Blocker("trace_not_checked", "stripe/stripe_charge", START + timedelta(days=9), None, "Materialize it.")
    monkeypatch.setattr(gate, "gate", lambda _, business_id, __: gate.Gate(business_id, (bad,)))
    assert "- trace_not_checked (stripe/stripe_charge on 2026-06-10;" in run("status").output
    stage_balance(database, acme, money_objects.balance(0, 0), datetime(2026, 6, 2, tzinfo=UTC))
    held_back = run("status", FINANCE_OS_QBO_RULES=OF_ACME)
    assert "Nothing after 2026-06-09 is planned:\n- trace_not_checked" in held_back.output, held_back.output


def test_how_long_it_waits_for_a_lost_answer_is_shown(
    company: Books, database: Database, acme: Connection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(Shown, "waiting", lambda each: Waiting(150, lambda: clock.now, clock.sleep, each.waits))
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    half_done(database, company, "shown")
    applied = run("apply")
    assert (applied.exit_code, "3 applied" in applied.output) == (0, True), applied.output
    assert re.search(r"^waiting up to 1[12]\d s for what may still be carried out", applied.output, re.MULTILINE)
    assert "4 of 4" in applied.output


def test_a_limit_and_workers(company: Books, database: Database, acme: Connection, run: Run) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    put_plan(database, "acme", company.realm, list(reversed(story(company, 1, "cli"))))
    limited = run("apply", "--limit", "1")
    assert (limited.exit_code, "1 applied" in limited.output) == (0, True), limited.output
    rest = run("apply", "--workers", "2")
    assert (rest.exit_code, "3 applied" in rest.output) == (0, True), rest.output


def test_what_is_missing_is_named(
    company: Books, database: Database, acme: Connection, run: Run, rules: str, tmp_path: Path
) -> None:
    lacking = run("apply", FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_SECRET=None)
    assert isinstance(lacking.exception, LookupError)
    assert "FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_SECRET" in str(lacking.exception)
    unread = run("plan", "--rules", rules)
    assert isinstance(unread.exception, LookupError)
    bad = tmp_path / "bad.toml"
    for text in ("balance_date = ", 'time_zone = "UTC"\n', 'balance_date = 2026-06-01\ntime_zone = "Mars"\n'):
        bad.write_text(text)
        assert isinstance(run("plan", "--rules", str(bad)).exception, LookupError), text
    globex = run("status", "--business", "nobody")
    assert isinstance(globex.exception, LookupError)
