"""Payments: gross into clearing on the day of the balance transaction, applied to what they paid, foreign ones too."""

from decimal import Decimal

import pytest

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
    assert codes(made.plan(realm.books())) == ["payment_without_customer"]


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
