"""Invoices: what the form says, what comes of discounts and tax, and what follows a void and a loss."""

from decimal import Decimal

import pytest

from finance_os.stripe_qbo.intent import LinkKey, Operation
from finance_os.stripe_qbo.mapping.drafts import short_number

from .made import Made, at, codes
from .test_revising import Export
from .worlds import Company, rules


def with_tax_item(realm: Company) -> None:
    """An item for tax that was computed elsewhere, as an accountant sets one up."""
    account = realm.client.write("Account", {"Name": "Tax Collected", "AccountType": "Income"})
    body = {"Name": "Tax", "Type": "Service", "IncomeAccountRef": {"value": account["Id"]}}
    realm.client.write("Item", body)


def with_bad_debt_item(realm: Company) -> None:
    account = realm.client.write("Account", {"Name": "Bad Debts", "AccountType": "Income"})
    body = {"Name": "Bad Debt", "Type": "Service", "IncomeAccountRef": {"value": account["Id"]}}
    realm.client.write("Item", body)


def test_the_form_bears_number_dates_lines_and_marker(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 12_345, 55, when=at(11, 3), due_date=at(25, 2))
    made.posted(realm, rules(time_zone="America/New_York"))
    (held,) = realm.all("Invoice")
    assert held["DocNumber"] == made.one("invoice", invoice)["number"]
    assert (held["TxnDate"], held["DueDate"]) == ("2026-06-10", "2026-06-24")
    assert (held["TotalAmt"], held["Balance"]) == (Decimal("124"), Decimal("124"))
    assert held["PrivateNote"] == f"Stripe invoice {invoice} stripe:invoice:{invoice}:invoice"
    first = held["Line"][0]
    assert first["Description"] == "Campaign 1 (2026-05-31 to 2026-06-01)"
    assert first["SalesItemLineDetail"]["ItemRef"]["name"] == "Ad Spend"
    assert first["SalesItemLineDetail"]["TaxCodeRef"]["value"] == "NON"


def test_discount_tax_and_shipping_come_to_stripes_total(realm: Company) -> None:
    with_tax_item(realm)
    made = Made()
    total = 10_000 + 2_000 - 1_500 + 840 + 700
    made.invoice(
        made.customer(),
        10_000,
        2_000,
        total=total,
        total_discount_amounts=[{"amount": 1_500, "discount": "di_1"}],
        total_taxes=[{"amount": 840, "tax_behavior": "exclusive"}],
        amount_shipping=700,
    )
    plan = made.posted(realm, rules(tax_item="Tax"))
    assert not plan.findings
    (held,) = realm.all("Invoice")
    assert held["TotalAmt"] == Decimal(total) / 100
    named = [line.get("SalesItemLineDetail", {}).get("ItemRef", {}).get("name") for line in held["Line"]]
    assert named == ["Ad Spend", "Ad Spend", "Ad Spend", "Tax", None, None]


def test_inclusive_tax_is_taken_out_of_its_line(realm: Company) -> None:
    with_tax_item(realm)
    made = Made()
    invoice = made.invoice(made.customer(), 11_900, total_taxes=[{"amount": 1_900, "tax_behavior": "inclusive"}])
    made.one("invoice", invoice)["lines"]["data"][0]["taxes"] = [{"amount": 1_900, "tax_behavior": "inclusive"}]
    made.posted(realm, rules(tax_item="Tax"))
    (held,) = realm.all("Invoice")
    assert [line["Amount"] for line in held["Line"][:2]] == [100, 19]
    assert held["TotalAmt"] == 119


def test_tax_without_an_item_is_not_booked_and_its_payment_waits(realm: Company) -> None:
    made = Made()
    invoice = made.invoice(made.customer(), 1_000, total=1_080, total_taxes=[{"amount": 80}])
    made.pay(invoice, 1_080, made.charge(made.one("invoice", invoice)["customer"], 1_080))
    plan = made.plan(realm.books())
    assert codes(plan) == ["no_tax_item", "waits_for_another"]
    assert not [each for each in plan.intents if each.entity in ("Invoice", "Payment")]


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ({"total": 999}, "lines_do_not_sum"),
        ({"currency": "bhd", "total": 1_005}, "amount_has_more_than_two_decimals"),
        ({"currency": "gbp"}, "exchange_rate_not_read"),
    ],
)
def test_what_does_not_fit_is_found(realm: Company, what: dict[str, object], code: str) -> None:
    made = Made()
    made.invoice(made.customer(), 1_005 if "currency" in what else 1_000, **what)  # pyright: ignore[reportArgumentType]
    plan = made.plan(realm.books())
    assert codes(plan) == [code]
    assert plan.intents == () or {each.entity for each in plan.intents} == {"Customer"}


def test_a_number_that_someone_else_used_is_for_people(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000)
    other = realm.client.write("Customer", {"DisplayName": "Someone"})
    line = {"Amount": 10, "DetailType": "SalesItemLineDetail", "SalesItemLineDetail": {"ItemRef": {"value": "1"}}}
    body = {"CustomerRef": {"value": other["Id"]}, "DocNumber": made.one("invoice", invoice)["number"], "Line": [line]}
    taken = realm.client.write("Invoice", body)
    plan = made.plan(realm.books())
    assert codes(plan) == ["invoice_number_taken"]
    assert f"Invoice {taken['Id']}" in plan.findings[0].detail
    assert not [each for each in plan.intents if each.entity == "Invoice"]


def test_a_long_number_is_shortened_in_one_way_only() -> None:
    assert short_number("A" * 21) == "A" * 21
    first, second = short_number("CUSTOMER-2026-000000001"), short_number("CUSTOMER-2026-000000002")
    assert len(first) == len(second) == 21
    assert first != second
    assert first == short_number("CUSTOMER-2026-000000001")
    assert first.startswith("CUSTOMER-202-")


def test_a_void_frees_credits_and_takes_its_reduction_back(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    made.balance(customer, -300)
    invoice = made.invoice(customer, 1_000, status="void", transitions={"voided_at": at(9)})
    made.balance(customer, 300, "applied_to_invoice", when=at(2), invoice=invoice)
    note = made.note(invoice, 100, pre_payment_amount=100)
    made.balance(customer, -300, "unapplied_from_invoice", when=at(9), invoice=invoice)
    made.one("invoice", invoice)["amount_remaining"] = 0
    plan = made.posted(realm)
    assert not plan.findings
    (held,) = realm.all("Invoice")
    assert (held["TotalAmt"], held["Balance"]) == (0, 0)
    left = {each["PrivateNote"].split()[-1]: each["RemainingCredit"] for each in realm.all("CreditMemo")}
    assert left.pop(f"stripe:credit_note:{note}:credit_memo") == 0
    assert list(left.values()) == [3]
    (owner,) = [each for each in realm.all("Customer") if customer in each.get("Notes", "")]
    assert owner["Balance"] == -3


def test_a_loss_is_written_off_with_the_rules_item(realm: Company) -> None:
    with_bad_debt_item(realm)
    made = Made()
    customer = made.customer()
    given_up = made.invoice(customer, 5_000, status="uncollectible", transitions={"marked_uncollectible_at": at(20)})
    plan = made.posted(realm, rules(bad_debt_item="Bad Debt"))
    assert not plan.findings
    (held,) = realm.all("Invoice")
    assert held["Balance"] == 0
    (memo,) = realm.all("CreditMemo")
    assert (memo["TotalAmt"], memo["RemainingCredit"], memo["TxnDate"]) == (50, 0, "2026-06-20")
    assert codes(made.plan(realm.books(), rules())) == ["invoice_uncollectible"]
    assert given_up in memo["PrivateNote"]


def test_a_loss_that_is_paid_after_all_is_taken_back(realm: Company) -> None:
    with_bad_debt_item(realm)
    export = Export(Made(), realm)
    made = export.made
    customer = made.customer()
    invoice = made.invoice(customer, 5_000, status="uncollectible", transitions={"marked_uncollectible_at": at(20)})
    before = export.step(bad_debt_item="Bad Debt")
    made.pay(invoice, 5_000, made.charge(customer, 5_000, when=at(24)), when=at(24))
    made.one("invoice", invoice)["status"] = "paid"
    unseen = made.plan(realm.books(), rules(bad_debt_item="Bad Debt"), written={})
    plan = export.step(bad_debt_item="Bad Debt")
    assert not plan.findings
    (held,) = realm.all("Invoice")
    assert held["Balance"] == 0
    (memo,) = realm.all("CreditMemo")
    assert memo["TotalAmt"] == 0
    assert realm.balance("Stripe Clearing") == 50
    # What was written while it was lost is planned still.
    again = {(each.key, each.operation): each.input_hash for each in plan.intents}
    sold = [each for each in before.intents if each.entity != "Customer"]
    assert all(again[each.key, each.operation] == each.input_hash for each in sold)
    assert (LinkKey("invoice", invoice, "write_off"), Operation.VOID) in again
    assert again == {(each.key, each.operation): each.input_hash for each in unseen.intents}


def test_a_loss_that_is_partly_paid_is_written_off_anew(realm: Company) -> None:
    with_bad_debt_item(realm)
    export = Export(Made(), realm)
    made = export.made
    customer = made.customer()
    invoice = made.invoice(customer, 5_000, status="uncollectible", transitions={"marked_uncollectible_at": at(20)})
    export.step(bad_debt_item="Bad Debt")
    for day, amount in ((22, 1_000), (24, 500)):
        made.pay(invoice, amount, made.charge(customer, amount, when=at(day)), when=at(day))
        assert not export.step(bad_debt_item="Bad Debt").findings
        assert [each["Balance"] for each in realm.all("Invoice")] == [0]
    memos = [(each["DocNumber"][-3:], each["TotalAmt"], each["TxnDate"]) for each in realm.all("CreditMemo")]
    assert sorted(memos) == [("-WO", 0, "2026-06-20"), ("WO2", 0, "2026-06-22"), ("WO3", 35, "2026-06-24")]
    assert realm.balance("Stripe Clearing") == 15


def test_a_loss_that_was_paid_before_it_was_learned_of_is_not_written_off(realm: Company) -> None:
    with_bad_debt_item(realm)
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 5_000, status="paid", transitions={"marked_uncollectible_at": at(20)})
    made.one("invoice", invoice)["amount_remaining"] = 5_000
    made.pay(invoice, 5_000, made.charge(customer, 5_000, when=at(24)), when=at(24))
    plan = made.posted(realm, rules(bad_debt_item="Bad Debt"))
    assert not plan.findings
    assert realm.all("CreditMemo") == []


def test_a_loss_that_is_voided_after_all_is_taken_back(realm: Company) -> None:
    with_bad_debt_item(realm)
    chosen = rules(bad_debt_item="Bad Debt")
    export = Export(Made(), realm)
    made = export.made
    customer = made.customer()
    invoice = made.invoice(customer, 5_000, status="uncollectible", transitions={"marked_uncollectible_at": at(20)})
    export.step(bad_debt_item="Bad Debt")
    made.one("invoice", invoice).update(status="void", amount_remaining=0)
    made.one("invoice", invoice)["status_transitions"]["voided_at"] = at(22)
    assert not export.step(bad_debt_item="Bad Debt").findings
    assert [each["TotalAmt"] for each in (*realm.all("Invoice"), *realm.all("CreditMemo"))] == [0, 0]
    (owner,) = [each for each in realm.all("Customer") if customer in each.get("Notes", "")]
    assert owner["Balance"] == 0
    assert realm.trial_balance() == 0
    assert not made.plan(realm.books(), chosen).findings


def test_a_free_invoice_is_booked_with_its_lines(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    made.invoice(customer, 0, status="paid")
    made.invoice(customer, 2_000, total=0, status="paid", total_discount_amounts=[{"amount": 2_000}])
    made.invoice(customer, -500, 500, status="paid")
    plan = made.posted(realm)
    assert not plan.findings
    assert [(each["TotalAmt"], each["Balance"]) for each in realm.all("Invoice")] == [(0, 0)] * 3


def test_a_draft_that_was_voided_or_deleted_is_nothing(realm: Company) -> None:
    made = Made()
    invoice = made.invoice(made.customer(), 900, status="void", number=None, transitions={"voided_at": at(3)})
    made.one("invoice", invoice)["status_transitions"]["finalized_at"] = None
    plan = made.plan(realm.books())
    assert (plan.intents, plan.findings) == ((), ())


def test_what_was_paid_outside_of_stripe_is_found(realm: Company) -> None:
    made = Made()
    invoice = made.invoice(made.customer(), 700, status="paid")
    plan = made.plan(realm.books())
    assert [(each.code, each.subject) for each in plan.findings] == [("open_amount_differs", invoice)]
