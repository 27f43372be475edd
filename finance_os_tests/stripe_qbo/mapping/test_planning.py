"""From the finance database to a plan: what is staged of one business and one realm, and of no other."""

from collections.abc import Iterable
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Record
from finance_os.evidence.windows import Days
from finance_os.stripe_qbo.books import OBJECT_TYPES, BooksNotRead
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.planning import plan, plan_of
from finance_os.stripe_qbo.rules import BadRules, rules_of
from finance_os.stripe_qbo.store import put_plan
from finance_os_tests.evidence.staged import page, stage

from .made import Made, at
from .worlds import KINDS, START, Company, company, evidence, living, rules, shown

REALM = "9130000000000001"


def staged(database: Database, connection: Connection, object_type: str, records: Iterable[dict[str, Any]]) -> None:
    """Stage objects as one read of one day, each under its ID."""
    rows = [Record(str(each.get("id") or each.get("Id")), each, START) for each in records]
    stage(database, connection, page(*rows), object_type=object_type, days=Days(START, START))


def staged_books(database: Database, connection: Connection, realm: Company, days: int = 45) -> None:
    staged(database, connection, "quickbooks_company_info", [{"Id": REALM}])
    for entity, object_type in OBJECT_TYPES.items():
        if entity == "ExchangeRate":
            rates = [(f"{code}:{day}", rate) for code in ("EUR", "JPY") for day, rate in realm._rates(code, days)]  # pyright: ignore[reportPrivateUsage]
            rows = [Record(key, rate, START) for key, rate in rates]
            stage(database, connection, page(*rows), object_type=object_type, days=Days(START, START))
        elif entity == "Preferences":
            staged(database, connection, object_type, [realm.client.get("preferences")[entity]])
        else:
            staged(database, connection, object_type, realm.all(entity))


@pytest.fixture
def quickbooks(database: Database, acme: Connection) -> Connection:
    return ensure_connection(database, "acme", "quickbooks")


def test_a_plan_out_of_the_database_is_the_plan_of_its_evidence(
    database: Database, acme: Connection, quickbooks: Connection
) -> None:
    world = living(30, 4, 7)
    with company(world) as realm:
        for kind in KINDS:
            rows = [Record(source_id, each, START) for source_id, each in shown(world, kind)]
            stage(database, acme, page(*rows), object_type=f"stripe_{kind}", days=Days(START, START))
        staged_books(database, quickbooks, realm)
        expected = plan_of(evidence(world), realm.books(), rules())
        found = plan(database, "acme", REALM, rules())
    assert found == expected
    assert len(found.intents) > 40
    assert [each.input_hash for each in found.intents] == [each.input_hash for each in expected.intents]


def test_customers_are_as_they_were_first_seen_also_when_deleted(
    database: Database, acme: Connection, quickbooks: Connection, realm: Company
) -> None:
    staged_books(database, quickbooks, realm)
    made = Made()
    customer = made.customer("Acorn Games")
    made.invoice(customer, 100)
    staged(database, acme, "stripe_customer", made.objects["customer"])
    staged(database, acme, "stripe_invoice", made.objects["invoice"])
    first = plan(database, "acme", REALM, rules())
    made.one("customer", customer).update(name="Renamed", email="other@example.com")
    staged(database, acme, "stripe_customer", made.objects["customer"])
    assert plan(database, "acme", REALM, rules()) == first
    stage(database, acme, page(Record(customer, None, START)), object_type="stripe_customer", days=Days(START, START))
    assert plan(database, "acme", REALM, rules()) == first
    assert first.intents[0].payload["DisplayName"] == "Acorn Games"


def test_a_removed_object_and_another_business_are_not_planned(
    database: Database, acme: Connection, globex: Connection, quickbooks: Connection, realm: Company
) -> None:
    staged_books(database, quickbooks, realm)
    made = Made()
    customer = made.customer()
    gone, stays = made.invoice(customer, 100), made.invoice(customer, 200)
    for connection in (acme, globex):
        staged(database, connection, "stripe_customer", made.objects["customer"])
        staged(database, connection, "stripe_invoice", made.objects["invoice"])
    stage(database, acme, page(Record(gone, None, START)), object_type="stripe_invoice", days=Days(START, START))
    planned = {each.key.stripe_id for each in plan(database, "acme", REALM, rules()).intents}
    assert planned == {customer, stays}
    with pytest.raises(BooksNotRead, match=REALM):
        plan(database, "globex", REALM, rules())


def test_a_realm_is_read_through_its_own_connection(
    database: Database, acme: Connection, quickbooks: Connection, realm: Company
) -> None:
    ensure_business(database, "acme", "Acme", "America/New_York")
    other = ensure_connection(database, "acme", "quickbooks", external_account="other")
    staged(database, other, "quickbooks_company_info", [{"Id": "42"}])
    with pytest.raises(BooksNotRead, match="accounts"):
        plan(database, "acme", "42", rules())
    staged_books(database, quickbooks, realm)
    assert plan(database, "acme", REALM, rules()).findings == ()


def test_without_an_account_or_item_of_the_rules_nothing_is_planned(realm: Company) -> None:
    made = Made()
    made.invoice(made.customer(), 100)
    found = made.plan(realm.books(), rules(fees="No Such Account", goodwill_item="No Such Item"))
    assert found.intents == ()
    assert [(each.code, each.subject) for each in found.findings] == [
        ("account_missing", "No Such Account"),
        ("item_missing", "No Such Item"),
    ]


def test_an_account_in_the_wrong_currency_or_for_the_opening_only_is_told_too(realm: Company) -> None:
    wrong = rules(clearing={"usd": "Stripe Clearing", "eur": "Stripe Clearing"}, opening_account="Nowhere")
    found = Made().plan(realm.books(), wrong)
    assert [(each.code, each.subject) for each in found.findings] == [
        ("account_missing", "Nowhere"),
        ("account_in_other_currency", "eur"),
    ]


def test_a_company_of_one_currency_is_told_none(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 100)
    foreign = made.invoice(customer, 100, currency="eur")
    made.pay(invoice, 100, made.charge(customer, 100))
    books = realm.books()
    single = type(books)(books.held, {}, is_multicurrency=False, uses_own_numbers=True)
    found = made.plan(single)
    assert [(each.code, each.subject) for each in found.findings] == [("currency_not_in_books", foreign)]
    assert not any("CurrencyRef" in each.payload or "ExchangeRate" in each.payload for each in found.intents)


def test_a_company_that_numbers_by_itself_is_told(realm: Company) -> None:
    books = realm.books()
    by_itself = type(books)(books.held, books.rates, is_multicurrency=True)
    assert [each.code for each in Made().plan(by_itself).findings] == ["custom_numbers_off"]


def test_the_order_of_the_evidence_does_not_matter(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    for day in range(2, 8):
        invoice = made.invoice(customer, 100 * day, when=at(day))
        made.pay(invoice, 100 * day, made.charge(customer, 100 * day, when=at(day + 1), fee=3), when=at(day + 1))
    books, first = realm.books(), made.plan(realm.books())
    for held in made.objects.values():
        held.reverse()
    assert made.plan(books) == first


def test_rules_are_read_strictly() -> None:
    read = rules_of(
        {"balance_date": "2026-06-01", "time_zone": "America/New_York", "clearing": {"eur": "Clearing EUR"}}
    )
    assert (read.balance_date, read.clearing["eur"], read.fees) == (START, "Clearing EUR", "Stripe Fees")
    for wrong in (
        {"time_zone": "UTC"},
        {"balance_date": "2026-06-01", "time_zone": "Mars/Olympus"},
        {"balance_date": "June", "time_zone": "UTC"},
        {"balance_date": "2026-06-01", "time_zone": "UTC", "fee": "Fees"},
        {"balance_date": "2026-06-01", "time_zone": "UTC", "bank": {"USD": "Bank"}},
        {"balance_date": "2026-06-01", "time_zone": "UTC", "payout_days": -1},
    ):
        with pytest.raises(BadRules):
            rules_of(wrong)


def test_two_stripe_accounts_of_a_business_are_not_mixed_but_refused(
    database: Database, acme: Connection, quickbooks: Connection, realm: Company
) -> None:
    staged_books(database, quickbooks, realm)
    made, other = Made(), Made()
    invoice = made.invoice(made.customer(), 100)
    second = other.invoice(other.customer("Birch Media", id="cus_other"), 100, id="in_other")
    another = ensure_connection(database, "acme", "stripe", external_account="acct_2")
    for connection, of in ((acme, made), (another, other)):
        for kind, held in of.objects.items():
            staged(database, connection, f"stripe_{kind}", held)
        if of is made:
            assert [each.key.stripe_id for each in plan(database, "acme", REALM, rules()).intents][-1] == invoice
    found = plan(database, "acme", REALM, rules())
    assert (found.intents, found.adoptions) == ((), {})
    assert [(each.code, each.severity) for each in found.findings] == [("several_stripe_accounts", "critical")]
    assert "acct_2" in found.findings[0].subject
    # With the other account's evidence gone there is one account again.
    for kind, gone in (("customer", "cus_other"), ("invoice", second)):
        days = Days(START, START)
        stage(database, another, page(Record(gone, None, START)), object_type=f"stripe_{kind}", days=days)
    assert not plan(database, "acme", REALM, rules()).findings


def test_a_plan_knows_what_is_written(
    database: Database, acme: Connection, quickbooks: Connection, realm: Company
) -> None:
    staged_books(database, quickbooks, realm)
    made = Made()
    invoice = made.invoice(made.customer(), 100, due_date=at(9))
    for kind in ("customer", "invoice"):
        staged(database, acme, f"stripe_{kind}", made.objects[kind])
    put_plan(database, "acme", REALM, plan(database, "acme", REALM, rules()).intents, whole=True)
    made.one("invoice", invoice)["due_date"] = at(20)
    staged(database, acme, "stripe_invoice", made.objects["invoice"])
    unsent = plan(database, "acme", REALM, rules())
    assert {each.operation for each in unsent.intents} == {Operation.CREATE}
    with database.transaction() as connection:
        connection.execute("UPDATE finance_os.intents SET state = 'applied', requestid = 'r', resolved = payload")
    (update,) = [each for each in plan(database, "acme", REALM, rules()).intents if each.operation is Operation.UPDATE]
    assert (update.payload, update.corrects) == ({"DueDate": "2026-06-20"}, {"DueDate": "2026-06-09"})
