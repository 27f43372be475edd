"""Payouts against the bank: what the world planted in the bank's lines is raised, and nothing else."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from finance_os.evidence.extraction import Severity
from finance_os.sandbox.world import World
from finance_os.stripe_qbo.bank_lines import BankLine, plaid_lines, rho_lines
from finance_os.stripe_qbo.mapping.payouts import arrival
from finance_os.stripe_qbo.planning import plan_of

from .made import Made, at
from .test_payouts import deposit, with_money
from .worlds import Company, company, evidence, living, rules


def of_world(world: World, source: str = "rho") -> list[BankLine]:
    return [
        BankLine(source, str(position), line.posted, line.amount, "usd", line.reference or "")
        for position, line in enumerate(world.bank)
    ]


@pytest.mark.parametrize("source", ["rho", "plaid"])
def test_what_was_planted_is_found_and_nothing_else(source: str) -> None:
    world = living(40, 4, 7)
    planted = {each.kind: each.id for each in world.planted if each.kind.startswith("rho_")}
    with company(world) as realm:
        plan = plan_of(evidence(world), realm.books(), rules(), None, of_world(world, source))
    told = {each.code: each.subject for each in plan.findings if "bank" in each.code}
    assert told == {
        "payout_not_at_bank": planted["rho_payout_missing"],
        "payout_amount_differs_at_bank": planted["rho_amount_one_cent_off"],
    }


def line(made: Made, payout: str, days: int, *, key: str = "1", reference: str = "") -> BankLine:
    """A line of a payout's amount, some days from its arrival."""
    found = made.evidence.payout[payout]
    return BankLine("rho", key, arrival(found) + timedelta(days=days), found.amount, "usd", reference)


def codes(realm: Company, made: Made, *lines: BankLine) -> list[str]:
    return [each.code for each in plan_of(made.evidence, realm.books(), rules(), None, lines).findings]


def test_without_a_trace_the_amount_near_the_arrival_decides(realm: Company) -> None:
    made = with_money()
    payout = made.payout(5_000)
    ends = [BankLine("rho", str(day), date(2026, 6, day), 1, "usd", "") for day in (2, 28)]
    assert codes(realm, made, line(made, payout, 0), *ends) == []
    assert codes(realm, made, line(made, payout, 3), *ends) == ["payout_date_differs_at_bank"] * 2
    assert codes(realm, made, line(made, payout, 4), *ends) == ["payout_not_at_bank"]
    assert codes(realm, made, line(made, payout, -4), *ends) == ["payout_not_at_bank"]
    assert codes(realm, made, line(made, payout, -3), *ends) == ["payout_date_differs_at_bank"] * 2


@pytest.mark.parametrize(
    ("days", "told"),
    [(0, []), (1, [Severity.LOW]), (-2, [Severity.LOW]), (3, [Severity.MEDIUM])],
    ids=["the day", "the next", "two before", "three after"],
)
def test_a_date_that_differs_is_told_by_its_weight(realm: Company, days: int, told: list[Severity]) -> None:
    made = with_money()
    payout = made.payout(5_000)
    early = BankLine("rho", "0", date(2026, 6, 1), 1, "usd", "")
    plan = plan_of(made.evidence, realm.books(), rules(), None, [early, line(made, payout, days)])
    assert [each.severity for each in plan.findings] == told * 2  # of its arrival, and of its deposit


def test_a_bank_that_has_not_told_of_the_days_yet_says_nothing(realm: Company) -> None:
    made = with_money()
    payout = made.payout(5_000)
    before = BankLine("rho", "1", date(2026, 6, 1), 1, "usd", "")
    assert codes(realm, made, before) == []
    day_before_it_is_due = BankLine("rho", "2", arrival(made.evidence.payout[payout]) + timedelta(2), 1, "usd", "")
    assert codes(realm, made, before, day_before_it_is_due) == []


def test_a_traced_line_is_judged_by_its_dates(realm: Company) -> None:
    made = with_money()
    payout = made.payout(5_000, trace_id={"status": "supported", "value": "ST-1"})
    deposit(realm, 50, "2026-06-10")
    early = BankLine("rho", "0", date(2026, 6, 1), 1, "usd", "")
    entered, differs = "deposit_date_differs", "payout_date_differs_at_bank"
    assert codes(realm, made, early, line(made, payout, 0, reference="STRIPE ST-1")) == [entered, differs]
    assert codes(realm, made, early, line(made, payout, 2, reference="STRIPE ST-1")) == [entered, differs]
    assert codes(realm, made, early, line(made, payout, 6, reference="ST-1")) == [entered, differs, differs]
    assert codes(realm, made, early, line(made, payout, 4, reference="ST-1")) == [entered, differs, differs]


def test_two_payouts_of_one_amount_need_two_lines(realm: Company) -> None:
    made = with_money()
    first = made.payout(5_000, automatic=False, trace_id={"value": "ST-1"})
    second = made.payout(
        5_000, when=at(6, 2), listed=[made.moved("dispute_reversal", 5_000, source="dp_2", when=at(4))]
    )
    both = [line(made, first, 0, key="a", reference="ST-1"), line(made, second, 0, key="b")]
    later = BankLine("rho", "9", date(2026, 6, 28), 1, "usd", "")
    assert codes(realm, made, *both, later) == []
    assert codes(realm, made, both[0], later) == ["payout_not_at_bank"]


def test_lines_are_read_as_the_sources_stage_them() -> None:
    rho: dict[str, Any] = {"posted_on": "2026-06-08", "amount_minor": 5000, "currency": "USD", "reference": "ST-1"}
    encode = msgspec.json.Encoder(decimal_format="number").encode
    rows = [("1", {**rho, "status": "posted"}), ("2", {**rho, "status": "pending"})]
    assert list(rho_lines((key, encode(each)) for key, each in rows)) == [
        BankLine("rho", "1", date(2026, 6, 8), 5_000, "usd", "ST-1")
    ]
    plaid = {
        "date": "2026-06-08",
        "amount": Decimal("-50.00"),
        "iso_currency_code": "USD",
        "pending": False,
        "name": "STRIPE TRANSFER",
        "payment_meta": {"reference_number": "ST-1"},
    }
    shown = [("1", plaid), ("2", {**plaid, "pending": True}), ("3", {**plaid, "amount": Decimal("-0.001")})]
    assert list(plaid_lines((key, encode(each)) for key, each in shown)) == [
        BankLine("plaid", "1", date(2026, 6, 8), 5_000, "usd", "ST-1 STRIPE TRANSFER")
    ]
