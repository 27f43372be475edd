"""What belongs to something that is not staged: an exception that says what to read, and never passed over."""

from datetime import date

import pytest

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.planning import Plan
from finance_os.stripe_qbo.rules import Rules

from .made import Made, at
from .worlds import Company, rules

BEGUN = rules(balance_date=date(2026, 6, 4), opening_stripe_balance={"usd": "0.00"})


def told(plan: Plan) -> dict[str, tuple[str, Severity, str]]:
    return {each.subject: (each.code, each.severity, each.detail) for each in plan.findings}


def reads(name: str) -> str:
    return f"`finance-os replay --read --object {name}`"


@pytest.mark.parametrize(
    ("category", "kind", "source", "is_new"),
    [
        ("charge", "charge", "ch_old", False),
        ("charge", "charge", "py_old", True),
        ("partial_capture_reversal", "charge", "ch_old", False),
        ("refund", "refund", "re_old", False),
    ],
    ids=["charge", "bank debit of today", "not captured", "refund"],
)
def test_what_moved_the_balance_and_is_not_staged_is_named(
    realm: Company, category: str, kind: str, source: str, is_new: bool
) -> None:
    made = Made()
    moved = made.moved(category, 5_000, source=source, when=at(6), fee=30)
    made.moved("fee", -10, source=None, when=at(7, 11) if is_new else at(9))
    (found,) = told(made.plan(realm.books())).items()
    subject, (code, severity, detail) = found
    assert (subject, code) == (moved, "waits_for_another")
    assert severity is (Severity.LOW if is_new else Severity.MEDIUM)
    assert reads(f"{kind}:{source}") in detail


def test_what_moved_it_before_the_balance_date_is_nobodys(realm: Company) -> None:
    made = Made()
    made.moved("charge", 5_000, source="ch_old", when=at(3))
    made.moved("fee", -10, when=at(9))
    assert not [each for each in made.plan(realm.books(), BEGUN).findings if each.code == "waits_for_another"]


def test_the_invoice_the_charge_and_the_customer_of_something_are_named(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000, when=at(5))
    charge = made.charge(customer, 1_000, when=at(6))
    made.pay(invoice, 1_000, charge, when=at(6))
    refund = made.refund(charge, 400, when=at(7))
    note = made.note(invoice, 100, when=at(7), pre_payment_amount=100)
    other = made.note(invoice, 100, when=at(8), customer_balance_transaction="cbtxn_old")
    moved = made.balance(customer, 300, "applied_to_invoice", when=at(8), invoice=invoice)
    made.moved("fee", -10, when=at(12))
    everything = {kind: list(held) for kind, held in made.objects.items()}

    def without(kind: str) -> dict[str, tuple[str, Severity, str]]:
        made.objects.clear()
        made.objects.update({each: list(held) for each, held in everything.items() if each != kind})
        return told(made.plan(realm.books()))

    no_invoice = without("invoice")
    for subject in (charge, note, moved):
        assert reads(f"invoice:{invoice}") in no_invoice[subject][2]
    assert reads(f"charge:{charge}") in without("charge")[refund][2]
    whole = without("nothing")
    assert "cbtxn_old is not staged" in whole[other][2]
    assert "`finance-os replay --read --from 2026-06-08 --to 2026-06-08`" in whole[other][2]
    made.one("invoice", invoice)["customer"] = "cus_other"
    made.one("invoice", invoice)["created"] = at(12)
    assert reads("customer:cus_other") in told(made.plan(realm.books()))[invoice][2]


@pytest.mark.parametrize(
    ("chosen", "is_said"), [(BEGUN, True), (rules(balance_date=date(2026, 6, 4)), False)], ids=["begun", "whole"]
)
def test_what_may_be_older_says_how_to_read_that(realm: Company, chosen: Rules, is_said: bool) -> None:
    made = Made()
    customer = made.customer()
    charge = made.charge(customer, 1_000, when=at(5))
    invoice = made.invoice(customer, 500, when=at(6))
    used = made.balance(customer, 300, "applied_to_invoice", when=at(6), invoice=invoice)
    made.moved("fee", -10, when=at(9))
    found = told(made.plan(realm.books(), chosen))
    for subject, code in ((charge, "payment_unapplied"), (used, "credit_not_in_books")):
        assert found[subject][0] == code
        assert ("older than what is staged, read the day" in found[subject][2]) is is_said


def test_a_refund_and_a_charge_of_before_are_history(realm: Company) -> None:
    """Their balance transactions need not be staged, and are not waited for."""
    made = Made()
    customer = made.customer()
    made.refund(made.charge(customer, 1_000, when=at(2)), 400, when=at(3))
    made.moved("fee", -10, when=at(9))
    made.objects["balance_transaction"] = [x for x in made.objects["balance_transaction"] if x["created"] >= at(4, 0)]
    assert not told(made.plan(realm.books(), BEGUN))
    whole = told(made.plan(realm.books(), rules(balance_date=date(2026, 6, 4))))
    assert [code for code, _, _ in whole.values()] == ["refund_waits"]
