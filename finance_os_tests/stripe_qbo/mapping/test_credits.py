"""Credit notes by what Stripe did with them, goodwill, and credits that are used."""

from decimal import Decimal

from .made import Made, at, codes
from .test_invoices import with_tax_item
from .worlds import Company, rules


def paid_invoice(made: Made, customer: str, amount: int) -> tuple[str, str]:
    """A paid invoice and its charge."""
    invoice = made.invoice(customer, amount, status="open")
    charge = made.charge(customer, amount)
    made.pay(invoice, amount, charge)
    made.one("invoice", invoice)["status"] = "paid"
    return invoice, charge


def test_a_note_before_payment_reduces_its_invoice(realm: Company) -> None:
    made = Made()
    invoice = made.invoice(made.customer(), 1_000)
    note = made.note(invoice, 250, pre_payment_amount=250)
    plan = made.posted(realm)
    assert not plan.findings
    (held,) = realm.all("Invoice")
    (memo,) = realm.all("CreditMemo")
    assert (held["Balance"], memo["TotalAmt"], memo["RemainingCredit"]) == (Decimal("7.5"), Decimal("2.5"), 0)
    assert memo["DocNumber"] == made.one("credit_note", note)["number"]
    assert memo["TxnDate"] == "2026-06-04"


def test_a_note_is_split_by_what_stripe_did_with_it(realm: Company) -> None:
    """Refunded 400, to the balance 300, out of band 100: the money that went back is booked once."""
    made = Made()
    customer = made.customer()
    invoice, charge = paid_invoice(made, customer, 1_000)
    refund = made.refund(charge, 400)
    moved = made.balance(customer, -300, "credit_note", when=at(4), invoice=invoice)
    note = made.note(
        invoice,
        800,
        refunds=[{"amount_refunded": 400, "refund": refund, "type": "refund"}],
        customer_balance_transaction=moved,
        out_of_band_amount=100,
    )
    plan = made.posted(realm)
    assert [(each.code, each.subject) for each in plan.findings] == [("credit_settled_outside_stripe", note)]
    (memo,) = realm.all("CreditMemo")
    (receipt,) = realm.all("RefundReceipt")
    assert (memo["TotalAmt"], memo["RemainingCredit"], receipt["TotalAmt"]) == (4, 4, 4)
    assert receipt["Line"][0]["SalesItemLineDetail"]["ItemRef"]["name"] == "Make-good"
    assert note in receipt["PrivateNote"]
    assert realm.balance("Stripe Clearing") == 6


def test_a_note_that_does_not_sum_is_not_booked(realm: Company) -> None:
    made = Made()
    invoice, _ = paid_invoice(made, made.customer(), 1_000)
    made.note(invoice, 300)
    plan = made.plan(realm.books())
    assert codes(plan) == ["credit_note_does_not_sum"]
    assert not [each for each in plan.intents if each.entity == "CreditMemo"]


def test_a_number_that_someone_else_used_is_for_people(realm: Company) -> None:
    made = Made()
    note = made.note(made.invoice(made.customer(), 1_000), 250, pre_payment_amount=250)
    other = realm.client.write("Customer", {"DisplayName": "Someone"})
    line = {"Amount": 1, "DetailType": "SalesItemLineDetail", "SalesItemLineDetail": {"ItemRef": {"value": "1"}}}
    body = {"CustomerRef": {"value": other["Id"]}, "DocNumber": made.one("credit_note", note)["number"], "Line": [line]}
    realm.client.write("CreditMemo", body)
    plan = made.plan(realm.books())
    assert codes(plan) == ["open_amount_differs", "credit_number_taken"]
    assert not [each for each in plan.intents if each.entity == "CreditMemo"]


def test_a_void_note_opens_its_invoice_again(realm: Company) -> None:
    made = Made()
    invoice = made.invoice(made.customer(), 1_000)
    made.note(invoice, 250, pre_payment_amount=250, status="void", voided_at=at(6))
    made.one("invoice", invoice)["amount_remaining"] = 1_000
    plan = made.posted(realm)
    assert not plan.findings
    assert [each["Balance"] for each in realm.all("Invoice")] == [10]
    assert [each["TotalAmt"] for each in realm.all("CreditMemo")] == [0]


def test_the_oldest_credit_is_used_first(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    first = made.balance(customer, -500, when=at(2))
    second = made.balance(customer, -700, when=at(3))
    invoice = made.invoice(customer, 2_000, when=at(4))
    made.balance(customer, 900, "applied_to_invoice", when=at(4), invoice=invoice)
    made.one("invoice", invoice)["amount_remaining"] = 1_100
    plan = made.posted(realm)
    assert not plan.findings
    left = {each["PrivateNote"].split()[-1].split(":")[2]: each["RemainingCredit"] for each in realm.all("CreditMemo")}
    assert left == {first: 0, second: 3}
    assert [each["Balance"] for each in realm.all("Invoice")] == [11]
    assert {each["Line"][0]["SalesItemLineDetail"]["ItemRef"]["name"] for each in realm.all("CreditMemo")} == {
        "Goodwill"
    }


def test_the_refund_of_a_note_with_tax_takes_the_tax_back_too(realm: Company) -> None:
    with_tax_item(realm)
    made = Made()
    customer = made.customer()
    tax = [{"amount": 190, "tax_behavior": "exclusive"}]
    invoice = made.invoice(customer, 1_000, total=1_190, total_taxes=tax)
    charge = made.charge(customer, 1_190)
    made.pay(invoice, 1_190, charge)
    refund = made.refund(charge, 1_190)
    note = made.note(invoice, 1_190, refunds=[{"amount_refunded": 1_190, "refund": refund, "type": "refund"}])
    made.one("credit_note", note)["lines"]["data"][0]["amount"] = 1_000
    made.one("credit_note", note)["total_taxes"] = tax
    plan = made.posted(realm, rules(tax_item="Tax"))
    assert not plan.findings
    (receipt,) = realm.all("RefundReceipt")
    sold = [line for line in receipt["Line"] if line["DetailType"] == "SalesItemLineDetail"]
    named = [(line["SalesItemLineDetail"]["ItemRef"]["name"], line["Amount"]) for line in sold]
    assert named == [("Make-good", 10), ("Tax", Decimal("1.9"))]


def test_credit_that_no_memo_holds_is_raised(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    made.balance(customer, -500, "migration", when=at(2))
    invoice = made.invoice(customer, 2_000, when=at(4))
    made.balance(customer, 500, "applied_to_invoice", when=at(4), invoice=invoice)
    made.one("invoice", invoice)["amount_remaining"] = 1_500
    plan = made.plan(realm.books())
    assert codes(plan) == ["customer_balance_unknown", "credit_not_in_books"]
    assert "migration" in plan.findings[0].detail
