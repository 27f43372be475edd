"""Credit that was paid back outside of Stripe: booked once, out of the account that the rules name, or told."""

from decimal import Decimal
from typing import Any

import pytest

from finance_os.stripe_qbo.intent import LinkKey, Operation

from .made import Made, at, codes
from .test_credits import paid_invoice
from .test_invoices import with_tax_item
from .test_movements import income
from .test_revising import Export, changed
from .worlds import Company, close, rules

OUTSIDE = {"outside_account": "Undeposited Funds"}
RECORD = {
    "refund": None,
    "type": "payment_record_refund",
    "payment_record_refund": {"payment_record": "pr_1", "refund_group": "rg_1"},
}


@pytest.fixture
def export(realm: Company) -> Export:
    return Export(Made(), realm)


def recorded(amount: int) -> dict[str, Any]:
    """A refund of a payment that Stripe only has a record of."""
    return {"amount_refunded": amount, **RECORD}


def out_of_band(made: Made, amount: int = 300, **more: Any) -> str:
    """A credit note over a paid invoice, credited outside of Stripe."""
    invoice, _ = paid_invoice(made, made.customer(), 1_000)
    return made.note(invoice, amount, **{"out_of_band_amount": amount, **more})


def receipts(realm: Company) -> list[tuple[Any, Any, str]]:
    return [
        (each["TotalAmt"], each["TxnDate"], each["DepositToAccountRef"]["name"]) for each in realm.all("RefundReceipt")
    ]


def memos(realm: Company) -> list[tuple[Any, Any]]:
    return [(each["TotalAmt"], each["RemainingCredit"]) for each in realm.all("CreditMemo")]


@pytest.mark.parametrize("how", ["out_of_band_amount", "payment_record"])
def test_it_is_paid_back_from_the_account_of_the_rules(realm: Company, how: str) -> None:
    made = Made()
    parts = {} if how == "out_of_band_amount" else {"out_of_band_amount": None, "refunds": [recorded(300)]}
    note = out_of_band(made, **parts)
    told = made.plan(realm.books())
    (finding,) = told.findings
    assert (finding.code, finding.subject) == ("credit_settled_outside_stripe", note)
    assert "300 USD (minor units)" in finding.detail
    assert "`outside_account`" in finding.detail
    plan = made.posted(realm, rules(**OUTSIDE))
    assert not plan.findings
    assert memos(realm) == []
    assert receipts(realm) == [(3, "2026-06-04", "Undeposited Funds")]
    (receipt,) = realm.all("RefundReceipt")
    assert receipt["Line"][0]["SalesItemLineDetail"]["ItemRef"]["name"] == "Make-good"
    assert receipt["Line"][0]["Description"] == "Credit for ad spend"
    assert receipt["PaymentRefNum"] == made.one("credit_note", note)["number"]
    assert receipt["PrivateNote"].endswith(f"paid back outside of Stripe stripe:credit_note:{note}:refund_receipt")
    assert (realm.balance("Undeposited Funds"), realm.balance("Stripe Clearing")) == (-3, 10)
    assert realm.trial_balance() == 0
    # What was posted is planned again as it is.
    again = made.plan(realm.books(), rules(**OUTSIDE))
    posted = {(each.key, each.operation): each.input_hash for each in plan.intents}
    assert {(each.key, each.operation): each.input_hash for each in again.intents}.items() <= posted.items()
    assert not again.findings


def test_a_note_of_all_parts_is_booked_in_its_parts(realm: Company) -> None:
    """Of 900: refunded 400, to the balance 200, out of band 100, of a payment record 50, and 150 off the invoice."""
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_200)
    charge = made.charge(customer, 1_000)
    made.pay(invoice, 1_000, charge)
    refund = made.refund(charge, 400)
    moved = made.balance(customer, -200, "credit_note", when=at(4), invoice=invoice)
    made.note(
        invoice,
        900,
        pre_payment_amount=150,
        refunds=[{"amount_refunded": 400, "refund": refund, "type": "refund"}, recorded(50)],
        customer_balance_transaction=moved,
        out_of_band_amount=100,
    )
    plan = made.posted(realm, rules(**OUTSIDE))
    assert not plan.findings
    assert memos(realm) == [(Decimal("3.5"), 2)]
    assert sorted(receipts(realm)) == [
        (Decimal("1.5"), "2026-06-04", "Undeposited Funds"),
        (4, "2026-06-05", "Stripe Clearing"),
    ]
    assert [each["Balance"] for each in realm.all("Invoice")] == [Decimal("0.5")]
    assert income(realm, "Refunds and Make-goods") == 900
    assert realm.trial_balance() == 0


def test_a_foreign_one_is_booked_at_the_rate_of_its_day(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000, currency="eur", when=at(2))
    made.pay(invoice, 1_000, made.charge(customer, 1_000, currency="eur", settled=1_100))
    made.note(invoice, 1_000, out_of_band_amount=1_000)
    plan = made.posted(realm, rules(**OUTSIDE))
    assert not plan.findings
    (receipt,) = realm.all("RefundReceipt")
    assert (receipt["TotalAmt"], receipt["CurrencyRef"]["value"]) == (10, "EUR")
    assert realm.balance("Undeposited Funds") == -receipt["HomeTotalAmt"]
    assert realm.trial_balance() == 0


def test_with_tax_all_of_it_is_booked_and_a_part_is_told(realm: Company) -> None:
    with_tax_item(realm)
    made = Made()
    customer = made.customer()
    tax = [{"amount": 190, "tax_behavior": "exclusive"}]
    invoice = made.invoice(customer, 1_000, total=1_190, total_taxes=tax)
    made.pay(invoice, 1_190, made.charge(customer, 1_190))
    note = made.note(invoice, 1_190, out_of_band_amount=1_190, total_taxes=tax)
    made.one("credit_note", note)["lines"]["data"][0]["amount"] = 1_000
    moved = made.balance(customer, -690, "credit_note", when=at(4), invoice=invoice)
    chosen = rules(tax_item="Tax", **OUTSIDE)
    made.one("credit_note", note).update(out_of_band_amount=500, customer_balance_transaction=moved)
    part = made.plan(realm.books(), chosen)
    (told,) = part.findings
    assert told.code == "credit_settled_outside_stripe"
    assert "tax cannot be split" in told.detail
    assert [each.payload["Line"][1]["Amount"] for each in part.intents if each.entity == "CreditMemo"] == [
        Decimal("1.9")
    ]
    made.objects["customer_balance_transaction"].clear()
    made.one("credit_note", note).update(out_of_band_amount=1_190, customer_balance_transaction=None)
    plan = made.posted(realm, chosen)
    assert not plan.findings
    (receipt,) = realm.all("RefundReceipt")
    sold = [line for line in receipt["Line"] if line["DetailType"] == "SalesItemLineDetail"]
    named = [(line["SalesItemLineDetail"]["ItemRef"]["name"], line["Amount"]) for line in sold]
    assert named == [("Make-good", 10), ("Tax", Decimal("1.9"))]
    assert realm.balance("Undeposited Funds") == Decimal("-11.9")


def test_shipping_that_is_credited_has_its_line(realm: Company) -> None:
    made = Made()
    invoice = made.invoice(made.customer(), 1_000)
    note = made.note(invoice, 250, pre_payment_amount=250, amount_shipping=50)
    made.one("credit_note", note)["lines"]["data"][0]["amount"] = 200
    plan = made.posted(realm)
    assert not plan.findings
    (memo,) = realm.all("CreditMemo")
    assert [line["Amount"] for line in memo["Line"][:2]] == [2, Decimal("0.5")]
    assert memo["Line"][1]["Description"] == "Shipping"


# --- what follows


def mixed(export: Export) -> tuple[str, str]:
    """A note over an open invoice that was paid in part: 200 off it, 300 credited outside of Stripe."""
    made = export.made
    customer = made.customer()
    invoice = made.invoice(customer, 1_000)
    made.pay(invoice, 800, made.charge(customer, 800))
    return invoice, made.note(invoice, 500, pre_payment_amount=200, out_of_band_amount=300)


def test_a_void_takes_memo_and_receipt_back(export: Export) -> None:
    realm = export.realm
    invoice, note = mixed(export)
    assert not export.step(**OUTSIDE).findings
    assert (memos(realm), receipts(realm)) == ([(2, 0)], [(3, "2026-06-04", "Undeposited Funds")])
    export.made.one("credit_note", note).update(status="void", voided_at=at(9))
    export.made.one("invoice", invoice)["amount_remaining"] = 200
    for _ in range(2):
        assert not export.step(**OUTSIDE).findings
        assert (memos(realm), [each[0] for each in receipts(realm)]) == ([(0, 0)], [0])
    assert [each["Balance"] for each in realm.all("Invoice")] == [2]
    assert realm.balance("Undeposited Funds") == 0
    assert income(realm, "Refunds and Make-goods") == 0
    assert realm.trial_balance() == 0


def test_a_void_in_a_closed_period_is_told_of_both(export: Export) -> None:
    realm = export.realm
    invoice, note = mixed(export)
    export.step(**OUTSIDE)
    close(realm, "2026-06-08")
    export.made.one("credit_note", note).update(status="void", voided_at=at(9))
    export.made.one("invoice", invoice)["amount_remaining"] = 200
    plan = export.step(**OUTSIDE)
    assert [(each.code, each.subject) for each in plan.findings] == [("void_in_closed_period", note)]
    for form in ("CreditMemo of 2026-06-04", "RefundReceipt of 2026-06-04"):
        assert form in plan.findings[0].detail
    assert (memos(realm), [each[0] for each in receipts(realm)]) == ([(2, 0)], [3])


def test_a_void_note_that_was_never_posted_leaves_nothing(export: Export) -> None:
    invoice, note = mixed(export)
    export.made.one("credit_note", note).update(status="void", voided_at=at(9))
    export.made.one("invoice", invoice)["amount_remaining"] = 200
    assert not export.step(**OUTSIDE).findings
    assert export.realm.balance("Undeposited Funds") == 0
    assert [each["Balance"] for each in export.realm.all("Invoice")] == [2]


@pytest.mark.parametrize("is_all", [True, False], ids=["all", "part"])
def test_a_memo_that_was_written_before_gives_its_part_up_once(export: Export, is_all: bool) -> None:
    made, realm = export.made, export.realm
    note = out_of_band(made) if is_all else mixed(export)[1]
    memo, receipt = f"credit_note:{note}:credit_memo", f"credit_note:{note}:refund_receipt"
    assert codes(export.step()) == ["credit_settled_outside_stripe"]
    assert memos(realm) == ([(3, 3)] if is_all else [(5, 3)])
    plan = export.step(**OUTSIDE)
    assert not plan.findings
    assert changed(plan) == ({} if is_all else {memo: ("Line",)})
    assert memos(realm) == ([(0, 0)] if is_all else [(2, 0)])
    assert receipts(realm) == [(3, "2026-06-04", "Undeposited Funds")]
    assert realm.balance("Undeposited Funds") == -3
    assert income(realm, "Refunds and Make-goods") == (300 if is_all else 500)
    again = export.step(**OUTSIDE)
    assert not again.findings
    assert not changed(again)
    # What was written with an account stays with it when the rules name another one, or none.
    for chosen in ({"outside_account": "Rho Checking"}, {}):
        later = export.step(**chosen)
        assert set(codes(later)) <= {"written_under_other_rules"}
        assert not changed(later)
        assert export.held(receipt)["TotalAmt"] == 3
    assert realm.trial_balance() == 0


def test_a_memo_that_someone_has_settled_stays_as_it_is(export: Export) -> None:
    made, realm = export.made, export.realm
    note = out_of_band(made)
    export.step()
    (memo,) = realm.all("CreditMemo")
    other = made.invoice(made.one("credit_note", note)["customer"], 300, when=at(6))
    export.step()
    owed = {"TxnId": realm.ids[f"invoice:{other}:invoice"], "TxnType": "Invoice"}
    used = {"TxnId": memo["Id"], "TxnType": "CreditMemo"}
    lines = [{"Amount": 3, "LinkedTxn": [each]} for each in (owed, used)]
    realm.client.write("Payment", {"CustomerRef": memo["CustomerRef"], "TotalAmt": 0, "Line": lines})
    plan = export.step(**OUTSIDE)
    told = {each.code: each for each in plan.findings}
    assert "used in QuickBooks" in told["credit_settled_outside_stripe"].detail
    assert memos(realm) == [(3, 0)]
    assert receipts(realm) == []


def test_a_memo_in_a_closed_period_stays_as_it_is(export: Export) -> None:
    made, realm = export.made, export.realm
    out_of_band(made)
    export.step()
    close(realm, "2026-06-15")
    plan = export.step(**OUTSIDE)
    assert codes(plan) == ["credit_settled_outside_stripe"]
    assert "closed period (2026-06-04)" in plan.findings[0].detail
    assert (memos(realm), receipts(realm)) == ([(3, 3)], [])
    assert not [each for each in plan.intents if each.operation is not Operation.CREATE]


def test_one_that_comes_to_light_late_is_dated_in_the_open_period(export: Export) -> None:
    close(export.realm, "2026-06-15")
    note = out_of_band(export.made)
    assert not export.step(**OUTSIDE).findings
    assert receipts(export.realm) == [(3, "2026-06-16", "Undeposited Funds")]
    held = export.held(f"credit_note:{note}:refund_receipt")
    assert "Belongs to 2026-06-04, whose period was closed." in held["PrivateNote"]


def test_parts_that_change_are_revised(export: Export) -> None:
    """First all of it out of band, then 100 of it to the customer's balance."""
    made, realm = export.made, export.realm
    note = out_of_band(made)
    export.step(**OUTSIDE)
    body = made.one("credit_note", note)
    moved = made.balance(body["customer"], -100, "credit_note", when=at(4), invoice=body["invoice"])
    body.update(out_of_band_amount=200, customer_balance_transaction=moved)
    plan = export.step(**OUTSIDE)
    assert not plan.findings
    assert changed(plan) == {f"credit_note:{note}:refund_receipt": ("Line",)}
    assert (memos(realm), receipts(realm)) == ([(1, 1)], [(2, "2026-06-04", "Undeposited Funds")])
    assert income(realm, "Refunds and Make-goods") == 300
    # And refunded by Stripe after all: the receipt has no place any more, which is for people.
    body.update(out_of_band_amount=None)
    refund = made.refund(made.objects["charge"][0]["id"], 200)
    body["refunds"] = [{"amount_refunded": 200, "refund": refund, "type": "refund"}]
    plan = export.step(**OUTSIDE)
    assert [(each.code, each.subject) for each in plan.findings] == [
        ("written_not_planned", str(LinkKey("credit_note", note, "refund_receipt")))
    ]
