"""The customer's balance: credits and debits by their types, what nets them, and what collects or uses them."""

from decimal import Decimal
from typing import Any

import pytest

from .made import Made, at, codes
from .test_invoices import with_bad_debt_item
from .test_movements import income
from .test_revising import Export
from .worlds import Company, rules


def owed(realm: Company) -> Any:
    """What the only customer of the export owes, by QuickBooks."""
    (owner,) = [each for each in realm.all("Customer") if "cus_" in each.get("Notes", "")]
    return owner["Balance"]


def left(realm: Company) -> dict[str, Any]:
    """What is open of invoices, memos and payments, by the Stripe ID in their marker."""
    found: dict[str, Any] = {}
    for entity, name in (("Invoice", "Balance"), ("CreditMemo", "RemainingCredit"), ("Payment", "UnappliedAmt")):
        for each in realm.all(entity):
            mark = each.get("PrivateNote", "").split()[-1]
            if "application" not in mark:
                found[mark.split(":")[2]] = each[name]
    return found


def test_a_debit_takes_back_what_was_granted(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    granted = made.balance(customer, -500, when=at(2))
    taken = made.balance(customer, 200, when=at(3))
    plan = made.posted(realm)
    assert not plan.findings
    assert left(realm) == {granted: 3, taken: 0}
    assert owed(realm) == -3
    (debit,) = realm.all("Invoice")
    assert debit["Line"][0]["SalesItemLineDetail"]["ItemRef"]["name"] == "Goodwill"


def test_a_debit_that_is_owed_needs_an_item_that_says_what_for(realm: Company) -> None:
    made = Made()
    made.balance(made.customer(), 500)
    plan = made.plan(realm.books())
    assert codes(plan) == ["customer_credit_differs", "customer_debited"]
    assert plan.intents == ()
    made.posted(realm, rules(debit_item="Ad Spend"))
    assert owed(realm) == 5


def test_a_debit_is_collected_with_the_next_invoice(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    debit = made.balance(customer, 300, when=at(2))
    invoice = made.invoice(customer, 1_000, when=at(4))
    made.balance(customer, -300, "applied_to_invoice", when=at(4), invoice=invoice)
    made.one("invoice", invoice)["amount_remaining"] = 1_300
    chosen = rules(debit_item="Ad Spend")
    assert not made.plan(realm.books(), chosen).findings
    made.pay(invoice, 1_100, made.charge(customer, 1_100, when=at(6)), when=at(6))
    assert not made.plan(realm.books(), chosen).findings
    made.pay(invoice, 200, made.charge(customer, 200, when=at(7)), when=at(7))
    plan = made.posted(realm, chosen)
    assert not plan.findings
    payments = [each["id"] for each in made.objects["invoice_payment"]]
    assert left(realm) == {debit: 0, invoice: 0, **dict.fromkeys(payments, 0)}
    assert owed(realm) == 0
    assert realm.balance("Stripe Clearing") == 13


def test_an_invoice_that_is_too_small_waits_for_the_next(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    small = made.invoice(customer, 30, when=at(3), status="paid")
    made.balance(customer, 30, "invoice_too_small", when=at(3), invoice=small)
    assert not made.plan(realm.books()).findings
    invoice = made.invoice(customer, 1_000, when=at(5))
    made.balance(customer, -30, "applied_to_invoice", when=at(5), invoice=invoice)
    made.one("invoice", invoice)["amount_remaining"] = 1_030
    assert not made.plan(realm.books()).findings
    made.pay(invoice, 1_030, made.charge(customer, 1_030, when=at(6)), when=at(6))
    plan = made.posted(realm)
    assert not plan.findings
    assert set(left(realm).values()) == {0}
    assert owed(realm) == 0


def test_an_invoice_below_zero_is_a_credit_for_the_next(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    downgrade = made.invoice(customer, 1_000, -4_100, when=at(3), status="paid", amount_remaining=0)
    made.balance(customer, -3_100, "applied_to_invoice", when=at(3), invoice=downgrade)
    invoice = made.invoice(customer, 5_000, when=at(9))
    made.balance(customer, 3_100, "applied_to_invoice", when=at(9), invoice=invoice)
    made.one("invoice", invoice)["amount_remaining"] = 1_900
    plan = made.posted(realm)
    assert not plan.findings
    (memo,) = realm.all("CreditMemo")
    assert (memo["TotalAmt"], memo["RemainingCredit"], memo["TxnDate"]) == (31, 0, "2026-06-03")
    assert memo["DocNumber"] == made.one("invoice", downgrade)["number"]
    assert [line["Amount"] for line in memo["Line"][:2]] == [-10, 41]
    assert left(realm)[invoice] == 19


def test_what_was_overpaid_is_used_by_the_next_invoice(realm: Company) -> None:
    made = Made()
    export = Export(made, realm)
    customer = made.customer()
    first = made.invoice(customer, 1_000, when=at(2))
    made.pay(first, 600, made.charge(customer, 600, when=at(3)), when=at(3))
    paid = made.pay(first, 600, made.charge(customer, 600, when=at(4)), when=at(4))
    assert codes(export.plan()) == ["invoice_overpaid"]
    made.balance(customer, -200, "invoice_overpaid", when=at(4), invoice=first)
    assert not export.step().findings
    assert left(realm)[paid] == 2
    second = made.invoice(customer, 500, when=at(8))
    made.balance(customer, 200, "applied_to_invoice", when=at(8), invoice=second)
    made.one("invoice", second)["amount_remaining"] = 300
    plan = export.step()
    assert not plan.findings
    assert export.held(f"invoice_payment:{paid}:payment")["UnappliedAmt"] == 0
    assert left(realm)[second] == 3
    assert owed(realm) == 3
    # Voided, what it had used is free again.
    made.balance(customer, -200, "unapplied_from_invoice", when=at(10), invoice=second)
    made.one("invoice", second).update(status="void", amount_remaining=0)
    made.one("invoice", second)["status_transitions"]["voided_at"] = at(10)
    assert not export.step().findings
    assert export.held(f"invoice_payment:{paid}:payment")["UnappliedAmt"] == 2
    assert owed(realm) == -2
    assert realm.trial_balance() == 0


def test_a_voided_invoice_owes_again_what_it_was_to_collect(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    debit = made.balance(customer, 300, when=at(2))
    invoice = made.invoice(customer, 1_000, when=at(4), status="void", transitions={"voided_at": at(9)})
    made.balance(customer, -300, "applied_to_invoice", when=at(4), invoice=invoice)
    made.balance(customer, 300, "unapplied_from_invoice", when=at(9), invoice=invoice)
    plan = made.posted(realm, rules(debit_item="Ad Spend"))
    assert not plan.findings
    assert left(realm) == {debit: 3, invoice: 0}


@pytest.mark.parametrize("kind", ["migration", "initial", "unspent_receiver_credit"])
def test_credit_from_elsewhere_is_raised(realm: Company, kind: str) -> None:
    made = Made()
    made.balance(made.customer(), -500, kind)
    plan = made.plan(realm.books())
    assert codes(plan) == ["customer_balance_unknown", "customer_credit_differs"]
    assert plan.intents == ()


@pytest.mark.parametrize("kind", ["migration", "initial"])
def test_the_balance_that_a_customer_came_with_has_the_item_of_the_rules(realm: Company, kind: str) -> None:
    account = realm.client.write("Account", {"Name": "Brought Along", "AccountType": "Income"})
    body = {"Name": "Brought Along", "Type": "Service", "IncomeAccountRef": {"value": account["Id"]}}
    realm.client.write("Item", body)
    made = Made()
    export, chosen = Export(made, realm), {"migration_item": "Brought Along"}
    customer, other = made.customer(), made.customer("Birch Media")
    credit = made.balance(customer, -500, kind, when=at(2))
    debit = made.balance(other, 300, kind, when=at(2))
    told = export.plan()
    assert sorted(codes(told)) == ["customer_balance_unknown"] * 2 + ["customer_credit_differs"] * 2
    assert "`migration_item`" in told.findings[0].detail
    invoice = made.invoice(customer, 400, when=at(4), status="paid")
    made.balance(customer, 400, "applied_to_invoice", when=at(4), invoice=invoice)
    collecting = made.invoice(other, 1_000, when=at(4))
    made.balance(other, -300, "applied_to_invoice", when=at(4), invoice=collecting)
    made.one("invoice", collecting)["amount_remaining"] = 1_300
    made.pay(collecting, 1_300, made.charge(other, 1_300, when=at(6)), when=at(6))
    for _ in range(2):
        assert not export.step(**chosen).findings
    paid = made.objects["invoice_payment"][0]["id"]
    assert left(realm) == {credit: 1, debit: 0, invoice: 0, collecting: 0, paid: 0}
    assert income(realm, "Brought Along") == 200  # owed 5 to one, and 3 by the other
    assert realm.balance("Stripe Clearing") == 13
    assert realm.trial_balance() == 0


def test_a_debit_of_a_lost_invoice_stays_open_and_is_told(realm: Company) -> None:
    with_bad_debt_item(realm)
    made = Made()
    customer = made.customer()
    debit = made.balance(customer, 300, when=at(2))
    invoice = made.invoice(
        customer, 1_000, when=at(4), status="uncollectible", transitions={"marked_uncollectible_at": at(20)}
    )
    made.balance(customer, -300, "applied_to_invoice", when=at(4), invoice=invoice)
    made.one("invoice", invoice)["amount_remaining"] = 1_300
    plan = made.posted(realm, rules(debit_item="Ad Spend", bad_debt_item="Bad Debt"))
    assert codes(plan) == ["debit_of_lost_invoice"]
    assert left(realm) == {debit: 3, invoice: 0}
    assert owed(realm) == Decimal(3)
