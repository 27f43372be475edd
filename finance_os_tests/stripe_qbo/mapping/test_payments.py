"""Payments: gross into clearing on the day of the balance transaction, applied to what they paid, foreign ones too."""

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from finance_os.stripe_qbo.mapping.payments import payment_key

from .made import Made, at, codes
from .worlds import Company, rules


def test_parts_of_an_invoice_are_payments_of_their_own(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 10_000)
    for amount, day in ((3_000, 4), (2_000, 9)):
        made.pay(invoice, amount, made.charge(customer, amount, when=at(day), fee=30), when=at(day))
    plan = made.posted(realm)
    assert not plan.findings
    (held,) = realm.all("Invoice")
    assert held["Balance"] == 50
    days = sorted((each["TxnDate"], each["TotalAmt"], each["UnappliedAmt"]) for each in realm.all("Payment"))
    assert days == [("2026-06-04", 30, 0), ("2026-06-09", 20, 0)]
    assert realm.balance("Stripe Clearing") == Decimal("49.40")


def test_a_payment_is_dated_by_the_balance_in_the_accounting_time_zone(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 500)
    made.pay(invoice, 500, made.charge(customer, 500, when=at(12, 3)), when=at(12, 3))
    made.posted(realm, rules(time_zone="America/New_York"))
    (held,) = realm.all("Payment")
    assert held["TxnDate"] == "2026-06-11"
    assert held["PaymentRefNum"] == made.objects["charge"][0]["id"][-21:]


@pytest.mark.parametrize(
    ("currency", "amount", "settled"),
    [("eur", 9_999, 10_833), ("eur", 1, 1), ("jpy", 123_457, 82_864), ("bhd", 12_340, 3_271), ("eur", 98_765_432, 1)],
)
def test_a_foreign_payment_reaches_clearing_to_the_cent(
    realm: Company, currency: str, amount: int, settled: int
) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, amount, currency=currency)
    made.pay(invoice, amount, made.charge(customer, amount, currency=currency, settled=settled))
    plan = made.posted(realm)
    assert not plan.findings
    assert realm.balance("Stripe Clearing") == Decimal(settled) / 100
    (held,) = realm.all("Invoice")
    assert held["Balance"] == 0
    assert realm.trial_balance() == 0


def test_stripes_own_rate_is_used_where_it_leads_to_the_amount(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 10_000, currency="eur")
    charge = made.charge(customer, 10_000, currency="eur", settled=10_834)
    made.objects["balance_transaction"][0]["exchange_rate"] = Decimal("1.0834")
    made.pay(invoice, 10_000, charge)
    made.posted(realm)
    (held,) = realm.all("Payment")
    assert held["ExchangeRate"] == Decimal("1.0834")


def test_one_foreign_charge_for_two_invoices_loses_no_cent(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    first = made.invoice(customer, 333, currency="eur")
    second = made.invoice(customer, 333, currency="eur")
    charge = made.charge(customer, 666, currency="eur", settled=721, fee=9)
    for invoice in (first, second):
        made.pay(invoice, 333, charge)
    plan = made.posted(realm)
    assert not plan.findings
    assert realm.balance("Stripe Clearing") == Decimal("7.12")
    assert {each["Balance"] for each in realm.all("Invoice")} == {0}


def test_what_pays_no_invoice_stays_unapplied_and_is_raised(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000)
    more, alone = made.charge(customer, 1_500), made.charge(customer, 2_500, when=at(4))
    made.pay(invoice, 1_000, more)
    made.moved("fee", -1, when=at(7))
    plan = made.posted(realm)
    assert [(each.code, each.subject) for each in plan.findings] == [
        ("payment_unapplied", more),
        ("payment_unapplied", alone),
    ]
    assert sorted(each["UnappliedAmt"] for each in realm.all("Payment")) == [0, 5, 25]
    assert realm.balance("Stripe Clearing") == Decimal("39.99")


def test_a_charge_without_an_invoice_is_given_a_day_to_find_one(realm: Company) -> None:
    made = Made()
    made.charge(made.customer(), 2_500)
    plan = made.plan(realm.books())
    assert codes(plan) == ["payment_waits"]
    assert plan.intents == ()


def test_nothing_is_booked_before_the_balance_transaction(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000)
    made.pay(invoice, 1_000, made.charge(customer, 1_000, settled=None))
    plan = made.plan(realm.books())
    assert codes(plan) == ["payment_waits"]
    assert {each.entity for each in plan.intents} == {"Customer", "Invoice"}


def test_a_charge_of_nobody_is_raised(realm: Company) -> None:
    made = Made()
    made.charge(None, 900)
    made.moved("fee", -1, when=at(7))
    plan = made.plan(realm.books())
    assert codes(plan) == ["payment_without_customer"]
    assert not [each for each in plan.intents if each.entity in ("Payment", "Customer")]


def test_a_charge_of_nobody_is_the_guests_where_the_rules_name_one(realm: Company) -> None:
    made = Made()
    made.charge(None, 900)
    made.moved("fee", -1, when=at(7))
    assert codes(made.plan(realm.books(), rules(guest_customer="Walk-in"))) == ["guest_customer_missing"]
    guest = realm.client.write("Customer", {"DisplayName": "Walk-in"})
    plan = made.posted(realm, rules(guest_customer="walk-in"))
    assert codes(plan) == ["payment_unapplied"]
    (held,) = realm.all("Payment")
    assert (held["CustomerRef"]["value"], held["UnappliedAmt"]) == (guest["Id"], 9)
    assert codes(made.plan(realm.books(), rules(guest_customer="Walk-in"))) == ["payment_unapplied"]


# --- outside of Stripe


def outside(made: Made, invoice: str, amount: int, *, when: int = at(4)) -> str:
    """A payment that Stripe only records."""
    body = made.one("invoice", invoice)
    body["amount_remaining"] -= amount
    return made._add(  # pyright: ignore[reportPrivateUsage]
        "invoice_payment",
        "inpay",
        {
            "created": when,
            "invoice": invoice,
            "amount_paid": amount,
            "currency": body["currency"],
            "status": "paid",
            "payment": {"type": "payment_record", "payment_record": "pr_1000000000000000000001"},
            "status_transitions": {"paid_at": when, "canceled_at": None},
        },
    )


def test_what_was_paid_outside_is_booked_where_the_rules_say(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000)
    paid = outside(made, invoice, 400)
    made.pay(invoice, 600, made.charge(customer, 600))
    told = made.plan(realm.books())
    assert [(each.code, each.subject) for each in told.findings] == [("paid_outside", paid)]
    assert len([each for each in told.intents if each.entity == "Payment"]) == 1
    plan = made.posted(realm, rules(outside_account="Undeposited Funds"))
    assert not plan.findings
    (held,) = [each for each in realm.all("Payment") if paid in each["PrivateNote"]]
    assert (held["TotalAmt"], held["TxnDate"], held["UnappliedAmt"]) == (4, "2026-06-04", 0)
    assert realm.balance("Undeposited Funds") == 4
    assert realm.balance("Stripe Clearing") == 6
    assert [each["Balance"] for each in realm.all("Invoice")] == [0]


def test_what_was_paid_outside_and_entered_by_hand_is_adopted(realm: Company) -> None:
    made = Made()
    invoice = made.invoice(made.customer(), 1_000)
    made.posted(realm)
    paid = outside(made, invoice, 1_000)
    (form,) = realm.all("Invoice")
    line = {"Amount": 10, "LinkedTxn": [{"TxnId": form["Id"], "TxnType": "Invoice"}]}
    by_hand = realm.client.write("Payment", {"CustomerRef": form["CustomerRef"], "TotalAmt": 10, "Line": [line]})
    for chosen in (rules(), rules(outside_account="Undeposited Funds")):
        plan = made.plan(realm.books(), chosen)
        assert not plan.findings
        adopted = {str(key): each.qbo_id for key, each in plan.adoptions.items() if each.entity == "Payment"}
        assert adopted == {f"invoice_payment:{paid}:payment": by_hand["Id"]}
        assert not [each for each in plan.intents if each.entity == "Payment"]


def test_what_leaves_no_trace_at_stripe_is_told_until_it_is_entered(realm: Company) -> None:
    made = Made()
    invoice = made.invoice(made.customer(), 1_000)
    made.posted(realm)
    made.one("invoice", invoice).update(status="paid", amount_remaining=0)
    assert codes(made.plan(realm.books())) == ["open_amount_differs"]
    (form,) = realm.all("Invoice")
    line = {"Amount": 10, "LinkedTxn": [{"TxnId": form["Id"], "TxnType": "Invoice"}]}
    realm.client.write("Payment", {"CustomerRef": form["CustomerRef"], "TotalAmt": 10, "Line": [line]})
    assert not made.plan(realm.books()).findings


# --- partial capture


@pytest.mark.parametrize("currency", ["usd", "eur"])
def test_a_partial_capture_is_booked_by_what_was_captured(realm: Company, currency: str) -> None:
    """Stripe moves its balance by all that was authorized, and back by what was not captured."""
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 600, currency=currency)
    rate = 1 if currency == "usd" else 2
    charge = made.charge(customer, 1_000, currency=currency, settled=1_000 * rate, amount_captured=600)
    made.moved("partial_capture_reversal", -400 * rate, source=charge, when=at(4), type="refund")
    made.pay(invoice, 600, charge)
    plan = made.posted(realm)
    assert not plan.findings
    assert realm.balance("Stripe Clearing") == 6 * rate
    assert not [each for each in realm.all("JournalEntry") if "stripe:" in each["PrivateNote"]]


def test_a_charge_that_moved_another_amount_is_raised(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000)
    made.pay(invoice, 1_000, made.charge(customer, 1_000, settled=990))
    assert codes(made.plan(realm.books())) == ["payment_differs_from_movement"]


# --- bank debits


def test_a_bank_debit_is_booked_once_it_has_succeeded(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000)
    charge = made.charge(customer, 1_000, status="pending")
    plan = made.plan(realm.books())
    assert [(each.code, each.subject) for each in plan.findings] == [("payment_pending", charge)]
    made.one("charge", charge)["status"] = "succeeded"
    made.pay(invoice, 1_000, charge)
    assert not made.posted(realm).findings
    assert [each["Balance"] for each in realm.all("Invoice")] == [0]


def test_a_bank_debit_that_fails_leaves_nothing_but_its_fee(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    made.invoice(customer, 1_000)
    charge = made.charge(customer, 1_000, status="failed")
    made.moved("charge_failure", -1_000, source=charge, when=at(8), fee=400, type="payment_failure_refund")
    plan = made.posted(realm)
    assert not plan.findings
    assert realm.balance("Stripe Clearing") == -4
    assert [each["Balance"] for each in realm.all("Invoice")] == [10]


@pytest.mark.parametrize("is_stated", [False, True], ids=["whole history", "stated, its movement not staged"])
def test_a_bank_debit_from_before_the_balance_date_is_in_clearing_by_the_opening(
    realm: Company, is_stated: bool
) -> None:
    chosen = rules(balance_date=date(2026, 6, 5), opening_account="Undeposited Funds")
    if is_stated:
        chosen = msgspec.structs.replace(chosen, opening_stripe_balance={"usd": "10.00"})
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000, when=at(6))
    charge = made.charge(customer, 1_000, when=at(3), settled=None if is_stated else 1_000)
    payment = made.pay(invoice, 1_000, charge, when=at(7))
    plan = made.posted(realm, chosen)
    assert [(each.code, each.subject) for each in plan.findings] == [("payment_of_money_from_before", payment)]
    assert realm.balance("Stripe Clearing") == 10
    [form] = realm.all("Invoice")
    line = {"Amount": 10, "LinkedTxn": [{"TxnId": form["Id"], "TxnType": "Invoice"}]}
    by_hand = realm.client.write("Payment", {"CustomerRef": form["CustomerRef"], "TotalAmt": 10, "Line": [line]})
    plan = made.plan(realm.books(), chosen)
    assert plan.findings == ()
    assert plan.adoptions[payment_key(payment)].qbo_id == by_hand["Id"]
    assert realm.balance("Stripe Clearing") == 10


def test_a_bank_debit_from_before_the_balance_date_that_fails_after_it_is_raised(realm: Company) -> None:
    """The opening has it in clearing, out of an account of which only the accountant knows what stands there for it."""
    realm.client.write("Account", {"Name": "Bounced", "AccountType": "Other Current Asset"})
    made = Made()
    charge = made.charge(made.customer(), 1_000, when=at(3), status="failed")
    back = made.moved("charge_failure", -1_000, source=charge, when=at(8), type="payment_failure_refund")
    chosen: dict[str, Any] = {"balance_date": date(2026, 6, 5), "opening_account": "Undeposited Funds"}
    plan = made.plan(realm.books(), rules(**chosen))
    assert [(each.code, each.subject) for each in plan.findings] == [("balance_transaction_unknown", back)]
    plan = made.posted(realm, rules(**chosen, movements={"charge_failure": "Bounced"}))
    assert plan.findings == ()
    assert (realm.balance("Stripe Clearing"), realm.balance("Bounced")) == (0, 10)


def test_a_balance_in_another_currency_has_its_own_clearing(realm: Company) -> None:
    for name, kind in (("Stripe Clearing EUR", "Other Current Asset"), ("Euro Bank", "Bank")):
        body = {"Name": name, "AccountType": kind, "CurrencyRef": {"value": "EUR"}}
        realm.client.write("Account", body)
    chosen = rules(
        clearing={"usd": "Stripe Clearing", "eur": "Stripe Clearing EUR"},
        bank={"usd": "Rho Checking", "eur": "Euro Bank"},
    )
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 8_000, currency="eur")
    made.pay(invoice, 8_000, made.charge(customer, 8_000, currency="eur", balance="eur", fee=250))
    made.payout(5_000, currency="eur", automatic=False)
    made.objects["balance_transaction"][-1]["currency"] = "eur"
    plan = made.posted(realm, chosen)
    assert not plan.findings
    assert realm.balance("Stripe Clearing EUR") == Decimal("27.50")
    assert realm.balance("Euro Bank") == 50
    assert realm.balance("Stripe Clearing") == 0
    assert realm.trial_balance() == 0


def test_what_settles_in_a_third_currency_is_raised(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 8_000, currency="jpy")
    made.pay(invoice, 8_000, made.charge(customer, 8_000, currency="jpy", balance="eur", settled=49))
    assert codes(made.plan(realm.books())) == ["settled_in_third_currency"]
