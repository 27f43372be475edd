"""The check's second witness: what Stripe states of its balance, beside the sum that clearing was booked from."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from finance_os.defs.export_tables import clearing_table
from finance_os.evidence.businesses import ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.evidence.extraction import Severity
from finance_os.readiness.gate import Gate
from finance_os.sandbox.world import World
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo import reconcile as money
from finance_os.stripe_qbo import stated, stripe_balance, stripe_evidence
from finance_os.stripe_qbo.export import NotExported
from finance_os.stripe_qbo.parts import WHOLE
from finance_os.stripe_qbo.rules import rules_of
from finance_os.stripe_qbo.stripe_balance import Reading, reading_of
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence
from finance_os_tests.stripe_qbo.books import Books
from finance_os_tests.stripe_qbo.mapping.worlds import START, balance_of, evidence, living, rules
from finance_os_tests.stripe_qbo.staged import RULES, company, environment, stage_balance

DAY = date(2026, 8, 30)


@pytest.fixture(scope="module")
def world() -> World:
    """One with something pending at its end."""
    return living(90, 8, 1)


@pytest.fixture(scope="module")
def whole(world: World) -> StripeEvidence:
    return evidence(world)


def reading(world: World, read_from: int | None = 0) -> Reading:
    return reading_of(msgspec.json.encode(balance_of(world)), int(world.when.timestamp()), read_from)


def test_what_is_all_there_agrees_and_is_told_apart(world: World, whole: StripeEvidence) -> None:
    stripe = replace(whole, readings=(reading(world),))
    found, looked_at = stated.compare(stripe, rules(), DAY)
    assert found == []
    assert looked_at == ["stripe_balance:usd", "stripe_available:usd"]
    assert reading(world).pending["usd"]


def test_a_balance_transaction_that_is_not_staged_is_found(world: World, whole: StripeEvidence) -> None:
    """It is missed by the sum that clearing is compared with, and so by the books that were made from it."""
    lost = next(each for each in whole.balance_transaction.values() if each.reporting_category == "charge")
    moved = {key: each for key, each in whole.balance_transaction.items() if key != lost.id}
    stripe = replace(whole, balance_transaction=moved, readings=(reading(world),))
    ([told], looked_at) = stated.compare(stripe, rules(), DAY)
    assert (told.code, told.severity, told.subject, told.day) == (
        "stripe_balance_differs",
        Severity.CRITICAL,
        "stripe_balance:usd",
        DAY,
    )
    held = sum(each.net for each in whole.balance_transaction.values())
    assert f"held {held} USD" in told.detail
    assert f"come to {held - lost.net}" in told.detail
    assert looked_at == ["stripe_balance:usd"]


def test_what_is_available_at_another_time_than_it_says_is_found(world: World, whole: StripeEvidence) -> None:
    said = reading(world)
    other = replace(said, available={"usd": said.available["usd"] + 1}, pending={"usd": said.pending["usd"] - 1})
    ([told], _) = stated.compare(replace(whole, readings=(other,)), rules(), DAY)
    assert (told.code, told.severity) == ("stripe_availability_differs", Severity.LOW)


def test_nothing_is_said_where_no_reading_decides(world: World, whole: StripeEvidence) -> None:
    short = replace(reading(world, None), available={"usd": 1}, pending={})
    assert stated.compare(replace(whole, readings=(short,)), rules(), DAY) == ([], [])
    assert stated.compare(whole, rules(), DAY) == ([], [])


# --- in the check


@pytest.fixture
def served() -> Iterator[Books]:
    with company() as books:
        yield books


def test_the_check_tells_it_until_it_is_put_right(staged: Database, served: Books) -> None:
    def checked() -> money.Clearing:
        with staged.transaction() as connection:
            stripe = stripe_evidence.load(connection, "acme")
        with served.writer() as writer:
            [found] = money.reconcile(staged, writer, "acme", rules_of(RULES), stripe, WHOLE, []).clearing
        return found

    def told() -> set[str]:
        return {each.code for each in open_exceptions(staged, "acme") if each.subject.startswith("stripe_balance:")}

    clearing = checked()
    assert told() == set()
    moves = served.room.world.stripe.rows("balance_transaction")
    assert clearing.available is not None
    assert clearing.pending is not None
    assert clearing.available + clearing.pending == Decimal(sum(each.net for each in moves)) / 100
    gone = sum(each.amount for each in served.room.world.stripe.rows("payout") if each.status == "in_transit")
    assert clearing.in_transit == Decimal(gone) / 100
    stripe, body = ensure_connection(staged, "acme", "stripe"), balance_of(served.room.world)
    at = served.room.world.when
    short = {**body, "available": [{**body["available"][0], "amount": body["available"][0]["amount"] + 4_200}]}
    for hour, said, codes in ((1, short, {"stripe_balance_differs"}), (2, body, set[str]())):
        stage_balance(staged, stripe, said, at + timedelta(hours=hour))
        checked()
        assert told() == codes


def plan(staged: Database, served: Books, monkeypatch: pytest.MonkeyPatch, days: int, **more: Any) -> exporting.Planned:
    """Plan and keep by rules whose balance date lies so many days after the first."""
    for name, value in environment(served).items():
        monkeypatch.setenv(name, value)
    chosen = {**RULES, "balance_date": str(START + timedelta(days=days)), **more}
    export = exporting.export_of(staged, "acme", {"acme": chosen})
    assert export is not None
    return exporting.plan_and_keep(staged, export, run="test", gate_of=lambda _, name, __: Gate(name, ()))


@pytest.mark.parametrize(
    ("days", "code"),
    [(25, "stripe_balance_unproven"), (-3, "stripe_payouts_unread")],
    ids=["no reading since", "payouts of the time before"],
)
def test_nothing_is_kept_without_proof(
    staged: Database, served: Books, monkeypatch: pytest.MonkeyPatch, days: int, code: str
) -> None:
    with pytest.raises(NotExported, match=code) as refused:
        plan(staged, served, monkeypatch, days)
    assert [each.code for each in refused.value.blockers] == [code]
    assert staged.fetch("SELECT FROM finance_os.intents") == []


def test_what_is_disproved_is_told_and_nothing_is_planned(
    staged: Database, served: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan(staged, served, monkeypatch, 0).plan.intents
    stripe, body = ensure_connection(staged, "acme", "stripe"), balance_of(served.room.world)
    short = {**body, "available": [{**body["available"][0], "amount": body["available"][0]["amount"] + 4_200}]}
    stage_balance(staged, stripe, short, served.room.world.when + timedelta(hours=1))
    assert plan(staged, served, monkeypatch, 0).plan.intents == ()
    told = {(each.code, each.severity) for each in open_exceptions(staged, "acme")}
    assert told == {("stripe_balance_differs", "critical")}


# --- where the rules state what Stripe held as the balance date began


def test_the_check_is_the_same_with_a_statement(
    staged: Database, served: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {**RULES, "balance_date": str(START + timedelta(days=9))}
    since = rules_of(chosen).since
    moves = served.room.world.stripe.rows("balance_transaction")
    before = sum(each.net for each in moves if each.created < since)
    assert before
    held = {"opening_stripe_balance": {"usd": f"{Decimal(before).scaleb(-2):.2f}"}}

    def checked(more: dict[str, Any]) -> money.Clearing:
        with staged.transaction() as connection:
            stripe = stripe_evidence.load(connection, "acme")
        with served.writer() as writer:
            found = money.reconcile(staged, writer, "acme", rules_of({**chosen, **more}), stripe, WHOLE, [])
        return found.clearing[0]

    whole, begun = checked({}), checked(held)
    assert begun == whole
    assert begun.available is not None
    monkeypatch.setattr(stripe_balance, "SETTLING", 10_000)
    lately = checked(held)
    assert (lately.available, lately.pending) == (None, None)
    assert (lately.held, lately.in_transit) == (whole.held, whole.in_transit)
    assert "not told apart before 2053-" in lately.why_whole
    shown = clearing_table([replace(lately, in_books=lately.at_stripe)])
    assert "agrees; available and pending are not told apart" in shown
    assert checked({}) == whole


def test_what_is_stated_wrongly_is_told_and_nothing_is_planned(
    staged: Database, served: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = rules_of({**RULES, "balance_date": str(START + timedelta(days=9))}).since
    moves = served.room.world.stripe.rows("balance_transaction")
    before = sum(each.net for each in moves if each.created < since)
    for minor, is_right in ((before + 1, False), (before, True)):
        said = f"{Decimal(minor).scaleb(-2):.2f}"
        planned = plan(staged, served, monkeypatch, 9, opening_stripe_balance={"usd": said})
        assert bool(planned.plan.intents) is is_right
        told = [each.detail for each in open_exceptions(staged, "acme") if each.code == "stripe_balance_differs"]
        assert len(told) == (not is_right)
        assert all(f'{{"usd":"{Decimal(before).scaleb(-2):.2f}"}}' in each for each in told)
