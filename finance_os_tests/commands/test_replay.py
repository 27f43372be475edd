"""`finance-os replay` as people run it: a window or an object planned anew, written in order, verified, and resumed."""

import json
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from finance_os import settings as settings_module
from finance_os.commands import qbo
from finance_os.commands import replay as command
from finance_os.commands.progress import Shown
from finance_os.evidence.database import Database
from finance_os.readiness import gate
from finance_os.readiness.gate import Blocker, Gate
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sandbox.process import running_sandbox
from finance_os.sources.sealing import new_key
from finance_os.stripe_qbo import client
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo.waiting import Waiting
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import QUICK, Books, Loss
from finance_os_tests.stripe_qbo.mapping.worlds import START
from finance_os_tests.stripe_qbo.staged import LAST, RULES, company, environment, fall_due_later, invoice_of
from finance_os_tests.stripe_qbo.test_waiting import Clock

Run = Callable[..., Result]
WHOLE = ("--from", str(START), "--to", str(LAST))
FIRST_WEEKS = START + timedelta(days=10)


@pytest.fixture
def database(staged: Database) -> Database:
    return staged


@pytest.fixture
def books() -> Iterator[Books]:
    with company() as served:
        yield served


@pytest.fixture
def run(books: Books, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_")]:
        monkeypatch.delenv(name)
    given = {
        **environment(books),
        "FINANCE_OS_DATABASE_URL": database.url,
        "FINANCE_OS_BUSINESS": "acme",
        "FINANCE_OS_ENCRYPTION_KEY": new_key(),
        "FINANCE_OS_QBO_RULES": json.dumps({"acme": RULES}),
        "COLUMNS": "160",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings_module.settings.cache_clear()
    # What opens the gate is tested where it is: here it is open unless a test says otherwise.
    monkeypatch.setattr(gate, "gate", lambda _, business_id, __: Gate(business_id, ()))
    app = Typer()
    app.command()(command.replay)

    def invoke(*arguments: str, **more: str | None) -> Result:
        return CliRunner().invoke(app, arguments, env=dict(more))

    yield invoke
    settings_module.settings.cache_clear()


def states(database: Database) -> Counter[str]:
    rows = database.fetch("SELECT state FROM finance_os.intents")
    return Counter(row["state"] for row in rows)


def clearing_of(shown: Result) -> tuple[Decimal, Decimal, Decimal]:
    """What is said of clearing: Stripe's balance, what QuickBooks holds, and by how much that will still rise."""
    [line] = [line for line in shown.output.splitlines() if line.startswith("clearing usd: ")]
    found = re.fullmatch(
        r"clearing usd: (\S+) at Stripe, (\S+) in QuickBooks(?:, (\S+) in \d+ writes that are not written yet)?", line
    )
    assert found is not None, line
    at_stripe, in_books, left = found.groups()
    return Decimal(at_stripe), Decimal(in_books), Decimal(left or 0)


def test_a_window_is_planned_written_and_verified(books: Books, database: Database, run: Run) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    dry = run(*WHOLE, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "(nothing kept, nothing sent)" in dry.output
    assert (states(database), books.before.writes) == (Counter(), 0)

    part = run("--from", str(START), "--to", str(FIRST_WEEKS))
    assert part.exit_code == 0, part.output
    written = states(database)
    assert set(written) == {"applied"}
    assert f"{written['applied']} of {written['applied']}" in part.output
    assert f"{written['applied']} objects are as planned" in part.output
    # What comes later moves clearing too, and is known to the cent.
    assert "not compared" not in part.output
    at_stripe, in_books, left = clearing_of(part)
    assert left != 0
    assert in_books + left == at_stripe
    [row] = database.fetch("SELECT max(dated) AS last FROM finance_os.intents")
    assert row["last"] <= FIRST_WEEKS

    rest = run(*WHOLE)
    assert rest.exit_code == 0, rest.output
    assert set(states(database)) == {"applied"}
    assert states(database)["applied"] > written["applied"]
    assert "payouts equal their deposits" in rest.output
    [clearing] = [line for line in rest.output.splitlines() if line.startswith("clearing usd")]
    assert "not compared" not in clearing
    assert clearing_of(rest) == (at_stripe, at_stripe, 0)
    writes = books.before.writes
    again = run(*WHOLE)
    assert (again.exit_code, books.before.writes) == (0, writes), again.output
    assert "nothing to write; 0 requests" in again.output
    plans = database.fetch("SELECT DISTINCT plan_run FROM finance_os.intents")
    assert plans == [{"plan_run": "finance-os replay"}]


def test_one_object_with_what_it_depends_on(books: Books, database: Database, run: Run) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    assert run(*WHOLE, "--dry-run").exit_code == 0
    paid = next(each for each in books.room.world.stripe.rows("invoice_payment") if each.status == "paid")
    shown = run("--object", f"invoice_payment:{paid.id}")
    assert shown.exit_code == 0, shown.output
    rows = database.fetch("SELECT entity, stripe_id FROM finance_os.intents WHERE state = 'applied'")
    assert {row["entity"] for row in rows} == {"Customer", "Invoice", "Payment"}
    assert paid.id in {row["stripe_id"] for row in rows}
    assert len(rows) == 3
    assert states(database)["planned"] > 10


def test_interrupted_it_goes_on_where_it_was(books: Books, database: Database, run: Run) -> None:
    """Answers are lost until it gives up: status 1 and a sentence; the same command then writes the rest, once each."""
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    books.before.losses = deque([None, None, *[Loss.BEFORE] * 200])
    lost = run(*WHOLE)
    assert lost.exit_code == 1, lost.output
    assert "are left: `finance-os qbo status` says why." in lost.output
    assert set(states(database)) != {"applied"}
    books.before.losses.clear()
    again = run(*WHOLE)
    assert again.exit_code == 0, again.output
    assert set(states(database)) == {"applied"}
    linked = database.fetch("SELECT entity, qbo_id FROM finance_os.links")
    assert len({(row["entity"], row["qbo_id"]) for row in linked}) == len(linked) == _made(books)


def test_a_change_that_waits_for_an_answer_is_written_by_the_command_that_learns_it(
    books: Books, database: Database, run: Run
) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    books.before.losses = deque([None, *[Loss.BEFORE] * 3])
    assert run(*WHOLE).exit_code == 1
    stripe_id, due = fall_due_later(database, books)
    again = run(*WHOLE)
    assert again.exit_code == 0, again.output
    assert set(states(database)) == {"applied"}
    assert invoice_of(database, books, stripe_id)["DueDate"] == str(due)


def test_how_long_it_waits_for_a_lost_answer_is_shown(
    books: Books, database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a lost batch is there: what is not may still come, and nobody wonders why nothing happens."""
    clock = Clock()
    monkeypatch.setattr(Shown, "waiting", lambda each: Waiting(150, lambda: clock.now, clock.sleep, each.waits))
    weeks = ("--from", str(START), "--to", str(FIRST_WEEKS))
    assert "nothing was sent" in run(*weeks).output
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    [customer, *others] = database.fetch("SELECT payload FROM finance_os.intents WHERE entity = 'Customer'")
    assert others
    books.change("create", entity="Customer", body=customer["payload"])
    books.before.losses = deque([Loss.BEFORE])
    shown = run(*weeks)
    assert shown.exit_code == 0, shown.output
    assert re.search(r"^waiting up to 1[12]\d s for what may still be carried out", shown.output, re.MULTILINE)
    assert set(states(database)) == {"applied"}


def _made(books: Books) -> int:
    """How many objects bear the mark of the export."""
    entities = ("Customer", "Invoice", "Payment", "CreditMemo", "RefundReceipt", "Deposit", "JournalEntry")
    return sum("stripe:" in str(each.body()) for entity in entities for each in books.room.realm.all(entity))


def test_what_is_refused_is_tried_again_when_asked(books: Books, database: Database, run: Run) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    books.change("close_books", date=str(LAST))
    refused = run(*WHOLE)
    assert refused.exit_code == 1
    assert states(database)["failed"] > 0
    books.change("close_books", date=None)
    assert run(*WHOLE).exit_code == 1
    again = run(*WHOLE, "--retry")
    assert again.exit_code == 0, again.output
    assert "intents are planned again" in again.output
    assert set(states(database)) == {"applied"}


def test_a_refusal_whose_answer_was_lost_is_tried_again_by_the_same_command(
    books: Books, database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QuickBooks remembers what it answered while the books were closed: once they are open, it is asked anew."""
    monkeypatch.setattr(client, "LONGEST_REQUEST", 0)  # what was lost is over by the next command
    monkeypatch.setattr(exporting, "connect", partial(exporting.connect, patience=QUICK))
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    books.change("close_books", date=str(LAST))
    books.before.losses = deque([None, *[Loss.AFTER] * 3])
    weeks = ("--from", str(START), "--to", str(FIRST_WEEKS))
    assert run(*weeks).exit_code == 1
    assert states(database)["sending"] > 1
    books.before.losses.clear()
    books.change("close_books", date=None)
    again = run(*weeks, "--retry")
    assert again.exit_code == 0, again.output
    assert set(states(database)) == {"applied"}
    assert len(database.fetch("SELECT FROM finance_os.links")) == _made(books)


def test_what_differs_is_told(books: Books, database: Database, run: Run) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    assert run(*WHOLE).exit_code == 0
    [payout] = database.fetch("SELECT qbo_id, key FROM finance_os.links WHERE entity = 'Deposit' ORDER BY key LIMIT 1")
    books.change("delete", entity="Deposit", body={"Id": payout["qbo_id"]})
    shown = run(*WHOLE)
    assert shown.exit_code == 1
    assert f"qbo_object_missing: {payout['key']}" in shown.output
    assert "clearing_differs: clearing:usd" in shown.output
    assert "things differ." in shown.output


def test_the_books_are_reconciled(books: Books, database: Database, run: Run) -> None:
    """`finance-os qbo reconcile`: what is open, clearing and deposits agree to the cent; and what does not is told."""
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    waiting = CliRunner().invoke(qbo.app, ["reconcile"])
    assert waiting.exit_code == 1
    assert "open_amount_differs" in waiting.output
    assert run(*WHOLE).exit_code == 0
    agreed = CliRunner().invoke(qbo.app, ["reconcile"])
    assert agreed.exit_code == 0, agreed.output
    for text in ("receivable (6 invoices)", "clearing (Stripe Clearing)", "Nothing differs."):
        assert text in agreed.output
    [receivable] = [line for line in agreed.output.splitlines() if "receivable" in line]
    stripe = sum(each.amount_remaining for each in books.room.world.stripe.rows("invoice") if each.status != "void")
    assert f"{Decimal(stripe) / 100:,.2f}" in receivable
    assert receivable.rstrip(" │").endswith("0.00")
    [paid] = database.fetch("SELECT qbo_id FROM finance_os.links WHERE stripe_object = 'invoice_payment' LIMIT 1")
    books.change("delete", entity="Payment", body={"Id": paid["qbo_id"]})
    wrong = CliRunner().invoke(qbo.app, ["reconcile"])
    assert wrong.exit_code == 1
    assert {"open_amount_differs", "clearing_differs"} <= set(wrong.output.replace(":", " ").split())


def test_nothing_is_sent_without_an_approval_or_behind_a_shut_gate(
    books: Books, database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = run(*WHOLE)
    assert gated.exit_code == 1
    assert "policy_gated_read_only_ingestion_only: nothing was sent" in gated.output
    assert (set(states(database)), books.before.writes) == ({"planned"}, 0)
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    bad = Blocker("trace_rows_without_run", "stripe/stripe_charge", FIRST_WEEKS, "abcdef012345", "Mend it.")
    monkeypatch.setattr(gate, "gate", lambda _, business_id, __: Gate(business_id, (bad,)))
    held = run(*WHOLE)
    assert held.exit_code == 1
    assert f"Nothing after {FIRST_WEEKS - timedelta(days=1)} is written" in held.output
    assert "trace_rows_without_run" in held.output
    [row] = database.fetch("SELECT max(dated) AS last FROM finance_os.intents WHERE state = 'applied'")
    assert row["last"] < FIRST_WEEKS
    shut = run("--from", str(FIRST_WEEKS), "--to", str(LAST))
    assert isinstance(shut.exception, LookupError)
    assert "trace_rows_without_run" in str(shut.exception)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "say which days with --from and --to, or which object with --object"),
        (("--from", "2026-06-01"), "say which days"),
        (("--from", "2026-06-02", "--to", "2026-06-01"), "lies before --from"),
        (("--object", "in_1"), "write it as invoice:in_1"),
        ((*WHOLE, "--business", "nobody"), "there is no business 'nobody'"),
    ],
    ids=["nothing", "half", "backwards", "no object", "nobody"],
)
def test_what_cannot_be_meant_is_named(run: Run, arguments: tuple[str, ...], told: str) -> None:
    shown = run(*arguments)
    assert isinstance(shown.exception, LookupError)
    assert told in str(shown.exception)


def test_rules_and_credentials_that_lack_are_named(run: Run) -> None:
    lacking = run(*WHOLE, FINANCE_OS_QBO_RULES=None)
    assert isinstance(lacking.exception, LookupError)
    assert "acme has no rules, so it is not exported: set FINANCE_OS_QBO_RULES" in str(lacking.exception)


def test_it_reads_from_stripe_again_first(
    books: Books, database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days with their checks, or an object: what was staged before was read from nowhere, and this is."""
    approve_policy(database, "acme", QBO_EXPORT.key, scope=books.realm)
    day = START + timedelta(days=4)
    with running_sandbox(seed=5, days=4, size=1) as sandbox:
        monkeypatch.setenv("FINANCE_OS_STRIPE_API_KEY", sandbox.env["FINANCE_OS_STRIPE_API_KEY"])
        monkeypatch.setenv("FINANCE_OS_STRIPE_API_BASE", sandbox.env["FINANCE_OS_STRIPE_API_BASE"])
        shown = run("--from", str(START), "--to", str(day), "--read")
        assert shown.exit_code == 0, shown.output
        assert f"read stripe_invoice of {START} to {day}: 0 read" in shown.output
        single = run("--object", "customer:cus_none", "--read")
        assert "read customer:cus_none: 0 new, 0 changed" in single.output
        for listed in ("customer_balance_transaction:cbtxn_1", "payout_balance_transaction:po_1"):
            assert f"{listed} cannot be read by itself" in str(run("--object", listed, "--read").exception)
    runs = database.fetch(
        "SELECT kind, trigger, status, first_day, last_day FROM finance_os.source_sync_runs WHERE requested <> '{}'"
    )
    assert {(row["kind"], row["trigger"], row["status"]) for row in runs} == {
        ("window", "manual", "succeeded"),
        ("targeted", "manual", "succeeded"),
    }
    checked = database.fetch(
        "SELECT DISTINCT object_type, partition_day FROM finance_os.check_results WHERE check_name = 'trace'"
    )
    assert {row["partition_day"] for row in checked} == {START + timedelta(days=n) for n in range(5)}
    assert len({row["object_type"] for row in checked}) == 10
