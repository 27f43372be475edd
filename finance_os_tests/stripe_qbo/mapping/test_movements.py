"""Refunds, disputes, fees and whatever else moves Stripe's balance; what no rule knows is raised."""

from decimal import Decimal
from typing import Any

import pytest

from .made import Made, at
from .test_credits import paid_invoice
from .test_invoices import with_tax_item
from .worlds import Company, rules


def income(realm: Company, name: str) -> int:
    """What an account was debited with, in cents: QuickBooks shows no balance of income and expenses."""
    books = realm.client.room.realm
    return books.balances.home(next(each.id for each in books.all("Account") if each.name == name))


def test_a_refund_leaves_the_invoice_paid_and_clearing_short(realm: Company) -> None:
    made = Made()
    _, charge = paid_invoice(made, made.customer(), 1_000)
    refund = made.refund(charge, 400)
    plan = made.posted(realm)
    assert not plan.findings
    (receipt,) = realm.all("RefundReceipt")
    assert (receipt["TotalAmt"], receipt["TxnDate"], receipt["DocNumber"]) == (4, "2026-06-05", refund[-21:])
    assert receipt["Line"][0]["SalesItemLineDetail"]["ItemRef"]["name"] == "Refund"
    assert [each["Balance"] for each in realm.all("Invoice")] == [0]
    assert realm.balance("Stripe Clearing") == 6
    assert income(realm, "Refunds and Make-goods") == 400


def test_a_foreign_refund_takes_from_clearing_what_stripe_took(realm: Company) -> None:
    made = Made()
    _, charge = paid_invoice(made, made.customer(), 1_000)
    made.one("charge", charge)["currency"] = "eur"
    invoice = made.objects["invoice"][0]
    invoice["currency"] = made.objects["invoice_payment"][0]["currency"] = "eur"
    made.refund(charge, 333, settled=361)
    plan = made.posted(realm)
    assert not plan.findings
    assert realm.balance("Stripe Clearing") == Decimal("6.39")
    assert realm.trial_balance() == 0


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_refund_that_came_back_is_turned_round_on_its_day(realm: Company, status: str) -> None:
    made = Made()
    _, charge = paid_invoice(made, made.customer(), 1_000)
    refund = made.refund(charge, 400, status=status)
    back = made.moved("refund_failure", 400, source=refund, when=at(9))
    made.one("refund", refund)["failure_balance_transaction"] = back
    plan = made.posted(realm)
    assert not plan.findings
    (entry,) = [each for each in realm.all("JournalEntry") if back in each["PrivateNote"]]
    assert entry["TxnDate"] == "2026-06-09"
    assert realm.balance("Stripe Clearing") == 10
    assert income(realm, "Refunds and Make-goods") == 0
    assert [each["TotalAmt"] for each in realm.all("RefundReceipt")] == [4]


def test_a_failed_refund_of_a_credit_note_is_raised(realm: Company) -> None:
    made = Made()
    invoice, charge = paid_invoice(made, made.customer(), 1_000)
    refund = made.refund(charge, 400, status="failed")
    made.note(invoice, 400, refunds=[{"amount_refunded": 400, "refund": refund, "type": "refund"}])
    made.moved("refund_failure", 400, source=refund, when=at(9))
    plan = made.posted(realm)
    assert [(each.code, each.subject) for each in plan.findings] == [("refund_of_credit_note_failed", refund)]
    assert realm.balance("Stripe Clearing") == 10


@pytest.mark.parametrize(("won", "left", "lost"), [(True, -1_500, 0), (False, -11_500, 10_000)])
def test_disputes(realm: Company, won: bool, left: int, lost: int) -> None:
    made = Made()
    made.moved("dispute", -10_000, source="dp_1", when=at(10), fee=1_500, type="adjustment")
    if won:
        made.moved("dispute_reversal", 10_000, source="dp_1", when=at(20), type="adjustment")
    plan = made.posted(realm)
    assert not plan.findings
    assert realm.balance("Stripe Clearing") == Decimal(left) / 100
    assert income(realm, "Chargebacks") == lost
    assert income(realm, "Stripe Fees") == 1_500


def test_stripes_own_fees(realm: Company) -> None:
    made = Made()
    made.moved("fee", -2_500, when=at(10), type="stripe_fee")
    made.moved("network_cost", -10, when=at(11))
    plan = made.posted(realm)
    assert not plan.findings
    assert income(realm, "Stripe Fees") == 2_510
    assert realm.balance("Stripe Clearing") == Decimal("-25.10")
    assert {each["TxnDate"] for each in realm.all("JournalEntry") if "txn_" in str(each)} == {
        "2026-06-10",
        "2026-06-11",
    }


@pytest.mark.parametrize("category", ["other_adjustment", "topup", "charge_failure", "tax", "something_new"])
def test_a_category_that_no_rule_knows_is_raised_and_not_booked(realm: Company, category: str) -> None:
    made = Made()
    moved = made.moved(category, -700, when=at(10))
    plan = made.plan(realm.books())
    assert plan.intents == ()
    assert [(each.code, each.subject) for each in plan.findings] == [("balance_transaction_unknown", moved)]
    assert category in plan.findings[0].detail


def test_a_category_that_the_rules_name_an_account_for_is_booked_there(realm: Company) -> None:
    realm.client.write("Account", {"Name": "Stripe Reserve", "AccountType": "Other Current Asset"})
    made = Made()
    made.moved("risk_reserved_funds", -700, when=at(10))
    made.moved("risk_reserved_funds", 200, when=at(20))
    made.moved("topup", 5_000, when=at(12), fee=10)
    chosen = rules(movements={"risk_reserved_funds": "Stripe Reserve", "topup": "Rho Checking"})
    before = realm.balance("Rho Checking")
    plan = made.posted(realm, chosen)
    assert not plan.findings
    assert realm.balance("Stripe Reserve") == 5
    assert realm.balance("Rho Checking") - before == -50
    assert realm.balance("Stripe Clearing") == Decimal("44.90")
    missing = made.plan(realm.books(), rules(movements={"topup": "Nowhere"}))
    assert [(each.code, each.subject) for each in missing.findings] == [("account_missing", "Nowhere")]


def test_an_entry_balances_and_has_a_number(realm: Company) -> None:
    made = Made()
    moved = made.moved("dispute", -10_000, source="dp_1", when=at(10), fee=1_500)
    (intent,) = made.plan(realm.books()).intents
    lines: list[dict[str, Any]] = intent.payload["Line"]
    debits = [x["Amount"] for x in lines if x["JournalEntryLineDetail"]["PostingType"] == "Debit"]
    credits_ = [x["Amount"] for x in lines if x["JournalEntryLineDetail"]["PostingType"] == "Credit"]
    assert (debits, credits_) == ([Decimal("100.00"), Decimal("15.00")], [Decimal("115.00")])
    assert intent.payload["DocNumber"] == moved[-21:]


def test_a_failed_refund_turns_the_lines_of_its_receipt_round(realm: Company) -> None:
    """A refund of 11.90 for all of a credit note with tax of 1.90."""
    with_tax_item(realm)
    made = Made()
    invoice, charge = paid_invoice(made, made.customer(), 2_000)
    refund = made.refund(charge, 1_190, status="failed")
    made.note(
        invoice,
        1_190,
        lines={"data": [{"id": "cnli_1", "amount": 1_000, "description": "Credit"}], "has_more": False},
        total_taxes=[{"amount": 190, "tax_behavior": "exclusive"}],
        refunds=[{"amount_refunded": 1_190, "refund": refund, "type": "refund"}],
    )
    chosen = rules(tax_item="Tax")
    realm.apply(made.plan(realm.books(), chosen))
    assert (income(realm, "Tax Collected"), income(realm, "Refunds and Make-goods")) == (190, 1_000)
    back = made.moved("refund_failure", 1_190, source=refund, when=at(9))
    plan = made.plan(realm.books(), chosen)
    assert [(each.code, each.subject) for each in plan.findings] == [("refund_of_credit_note_failed", refund)]
    (entry,) = [each for each in plan.intents if each.key.stripe_id == back]
    assert [(x["Amount"], x["JournalEntryLineDetail"]["PostingType"]) for x in entry.payload["Line"]] == [
        (Decimal("10.00"), "Credit"),
        (Decimal("1.90"), "Credit"),
        (Decimal("11.90"), "Debit"),
    ]
    realm.apply(type(plan)((entry,)))
    assert realm.balance("Stripe Clearing") == 20
    assert (income(realm, "Tax Collected"), income(realm, "Refunds and Make-goods")) == (0, 0)
    assert realm.trial_balance() == 0


def test_a_failed_refund_with_a_discount_is_left_to_people(realm: Company) -> None:
    """Which account QuickBooks books discounts to it does not show."""
    with_tax_item(realm)
    made = Made()
    invoice, charge = paid_invoice(made, made.customer(), 2_000)
    refund = made.refund(charge, 1_090, status="failed")
    made.note(
        invoice,
        1_090,
        lines={"data": [{"id": "cnli_1", "amount": 1_000, "description": "Credit"}], "has_more": False},
        discount_amount=100,
        total_taxes=[{"amount": 190, "tax_behavior": "exclusive"}],
        refunds=[{"amount_refunded": 1_090, "refund": refund, "type": "refund"}],
    )
    back = made.moved("refund_failure", 1_090, source=refund, when=at(9))
    plan = made.plan(realm.books(), rules(tax_item="Tax"))
    assert ("refund_to_be_reversed_by_hand", back) in {(each.code, each.subject) for each in plan.findings}
    assert not [each for each in plan.intents if each.key.stripe_id == back]


def test_a_refund_whose_charge_is_not_staged_waits_and_so_does_its_failure(realm: Company) -> None:
    made = Made()
    _, charge = paid_invoice(made, made.customer(), 1_000)
    refund = made.refund(charge, 400, status="failed")
    back = made.moved("refund_failure", 400, source=refund, when=at(9))
    held = made.one("charge", charge)
    made.objects["charge"].remove(held)
    plan = made.plan(realm.books())
    waiting = {each.subject for each in plan.findings if each.code == "waits_for_another"}
    assert {refund, back} <= waiting
    assert not [each for each in plan.intents if each.entity in ("RefundReceipt", "JournalEntry")]
    made.objects["charge"].append(held)
    plan = made.plan(realm.books())
    (receipt,) = [each for each in plan.intents if each.entity == "RefundReceipt"]
    assert receipt.payload["CustomerRef"]
    assert [each.key.stripe_id for each in plan.intents if each.entity == "JournalEntry"] == [back]
