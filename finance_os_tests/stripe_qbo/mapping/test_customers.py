"""Customers: one for each currency, with a name of its own, adopted where QuickBooks has one."""

from typing import Any

from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.customers import clean, customer_key

from .made import Made, at, codes
from .worlds import Company


def by_hand(realm: Company, name: str, **more: Any) -> str:
    """A customer that someone entered."""
    return realm.client.write("Customer", {"DisplayName": name, **more})["Id"]


def test_it_is_made_with_what_needs_it_and_bears_no_more_than_needed(realm: Company) -> None:
    made = Made()
    needed, idle = made.customer("Acorn Games"), made.customer("Idle Signup")
    made.invoice(needed, 100, when=at(5))
    plan = made.posted(realm)
    (held,) = realm.all("Customer")
    assert held["DisplayName"] == "Acorn Games"
    assert held["PrimaryEmailAddr"] == {"Address": "billing@acorngames.example.com"}
    assert held["Notes"].split()[-1] == f"stripe:customer:{needed}:customer_usd"
    assert idle not in str(plan.intents)
    assert plan.intents[0].dated.isoformat() == "2026-06-05"


def test_two_currencies_are_two_customers(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    made.invoice(customer, 100, when=at(5))
    made.invoice(customer, 200, when=at(6), currency="eur")
    made.posted(realm)
    held = {each["DisplayName"]: each["CurrencyRef"]["value"] for each in realm.all("Customer")}
    assert held == {"Acorn Games": "USD", "Acorn Games EUR": "EUR"}


def test_a_taken_name_gets_the_stripe_id(realm: Company) -> None:
    realm.client.write("Vendor", {"DisplayName": "ACORN GAMES"})
    made = Made()
    customer = made.customer()
    made.invoice(customer, 100)
    made.posted(realm)
    assert [each["DisplayName"] for each in realm.all("Customer")] == [f"Acorn Games ({customer})"]


def test_of_two_with_one_name_the_first_keeps_it(realm: Company) -> None:
    made = Made()
    first, second = made.customer(email="a@one.example.com"), made.customer(email="b@two.example.com", created=at(1, 2))
    made.invoice(second, 100, when=at(4))
    made.invoice(first, 100, when=at(5))
    made.posted(realm)
    named = {each["Notes"].split(":")[2]: each["DisplayName"] for each in realm.all("Customer")}
    assert named == {first: "Acorn Games", second: f"Acorn Games ({second})"}


def test_one_with_the_same_name_and_mail_is_adopted_and_left_as_it_is(realm: Company) -> None:
    address = {"Address": "Billing@AcornGames.example.com"}
    held = by_hand(realm, "Acorn Games", PrimaryEmailAddr=address, Notes="Pays late")
    made = Made()
    customer = made.customer()
    made.invoice(customer, 100)
    plan = made.posted(realm)
    assert plan.adoptions[customer_key(customer, "usd")].qbo_id == held
    assert not [each for each in plan.intents if each.entity == "Customer"]
    (shown,) = realm.all("Customer")
    assert (shown["Notes"], shown["PrimaryEmailAddr"], shown["Balance"]) == ("Pays late", address, 1)


def test_one_with_the_name_in_another_currency_or_with_another_mail_is_not(realm: Company) -> None:
    by_hand(realm, "Acorn Games", PrimaryEmailAddr={"Address": "someone@else.example.com"})
    address = {"Address": "billing@acorngames.example.com"}
    by_hand(
        realm, "Acorn Games Europe", CompanyName="Acorn Games", PrimaryEmailAddr=address, CurrencyRef={"value": "EUR"}
    )
    made = Made()
    customer = made.customer()
    made.invoice(customer, 100)
    plan = made.posted(realm)
    assert plan.adoptions == {}
    assert f"Acorn Games ({customer})" in {each["DisplayName"] for each in realm.all("Customer")}


def test_several_that_fit_are_raised_and_none_is_taken(realm: Company) -> None:
    address = {"Address": "billing@acorngames.example.com"}
    ids = [
        by_hand(realm, "Acorn Games", PrimaryEmailAddr=address),
        by_hand(realm, "Acorn Games West", CompanyName="Acorn Games", PrimaryEmailAddr=address),
    ]
    made = Made()
    made.invoice(made.customer(), 100)
    plan = made.plan(realm.books())
    assert codes(plan) == ["customer_ambiguous"]
    assert all(each in plan.findings[0].detail for each in ids)
    assert plan.adoptions == {}


def test_one_that_the_export_made_is_known_by_its_marker(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    made.invoice(customer, 100)
    first = made.posted(realm)
    (held,) = realm.all("Customer")
    body = {"Id": held["Id"], "SyncToken": held["SyncToken"], "sparse": True, "DisplayName": "Renamed by hand"}
    realm.client.write("Customer", body)
    again = made.plan(realm.books())
    assert again.adoptions[customer_key(customer, "usd")].qbo_id == held["Id"]
    assert [each for each in first.intents if each.entity != "Customer"] == list(again.intents)


def test_a_name_holds_nothing_that_quickbooks_refuses(realm: Company) -> None:
    made = Made()
    made.invoice(made.customer(name="Acorn:\tGames\n", email="not an address"), 100)
    made.posted(realm)
    (held,) = realm.all("Customer")
    assert held["DisplayName"] == clean("Acorn:\tGames\n") == "Acorn Games"
    assert "PrimaryEmailAddr" not in held


def test_one_that_was_deleted_before_it_was_staged_is_made_of_its_first_invoice(realm: Company) -> None:
    made = Made()
    more = {"customer_name": "Gone Games", "customer_email": "billing@gone.example.com"}
    made.invoice("cus_gone", 100, when=at(2), **more)
    made.moved("fee", -1, when=at(9))
    assert made.posted(realm).findings == ()
    (held,) = realm.all("Customer")
    assert (held["DisplayName"], held["PrimaryEmailAddr"]["Address"]) == tuple(more.values())


def test_a_customer_that_is_not_staged_makes_its_invoice_wait(realm: Company) -> None:
    made = Made()
    invoice = made.invoice("cus_unknown", 100)
    plan = made.plan(realm.books())
    assert [(each.code, each.subject) for each in plan.findings] == [("customer_not_staged", invoice)]
    assert plan.intents == ()
    assert LinkKey("invoice", invoice, "invoice") not in plan.adoptions
