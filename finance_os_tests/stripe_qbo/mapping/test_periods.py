"""The closed period: nothing is posted into it or changed in it, and what was posted before keeps its date."""

from datetime import date
from decimal import Decimal

from finance_os.stripe_qbo.books import Books
from finance_os.stripe_qbo.intent import LinkKey, Operation
from finance_os.stripe_qbo.planning import Plan

from .made import Made, at, codes
from .test_revising import Export
from .worlds import Company, close


def test_what_comes_late_is_dated_in_the_open_period_and_says_where_it_belongs(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000, when=at(2), due_date=at(9))
    made.pay(invoice, 1_000, made.charge(customer, 1_000, when=at(3), fee=59), when=at(3))
    made.invoice(customer, 500, when=at(20))
    close(realm, "2026-06-15")
    plan = made.posted(realm)
    assert not plan.findings
    held = {each["DocNumber"]: each for each in realm.all("Invoice")}
    first = held[made.one("invoice", invoice)["number"]]
    assert (first["TxnDate"], first["DueDate"]) == ("2026-06-16", "2026-06-16")
    assert "Belongs to 2026-06-02, whose period was closed." in first["PrivateNote"]
    assert first["PrivateNote"].split()[-1] == f"stripe:invoice:{invoice}:invoice"
    (payment,) = realm.all("Payment")
    assert payment["TxnDate"] == "2026-06-16"
    assert "Belongs to 2026-06-03" in payment["PrivateNote"]
    assert {each["TxnDate"] for each in held.values()} == {"2026-06-16", "2026-06-20"}
    assert realm.balance("Stripe Clearing") == Decimal("9.41")


def test_what_was_posted_keeps_its_date_and_its_hash_when_the_books_are_closed(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    made.invoice(customer, 1_000, when=at(2))
    before = made.posted(realm)
    close(realm, "2026-06-15")
    again = made.plan(realm.books())
    assert _hashes(again) == {key: each for key, each in _hashes(before).items() if key[0].stripe_object != "customer"}
    # The same from what was sent, where QuickBooks has not been read since.
    booked = {each.key: each.dated for each in before.intents}
    unread = made.plan(_emptied(realm), booked=booked)
    assert _hashes(unread) == _hashes(before)


def test_what_was_moved_stays_where_it_was_moved_to(realm: Company) -> None:
    made = Made()
    made.invoice(made.customer(), 1_000, when=at(2))
    close(realm, "2026-06-15")
    before = made.posted(realm)
    for day in ("2026-06-30", "2026-06-10", None):
        close(realm, day)
        again = made.plan(realm.books())
        assert _hashes(again).items() <= _hashes(before).items(), day
        assert len(again.intents) == 1


def test_a_void_in_a_closed_period_becomes_a_credit_memo_in_the_open_one(realm: Company) -> None:
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000, when=at(2))
    made.posted(realm)
    close(realm, "2026-06-15")
    made.one("invoice", invoice).update(status="void", amount_remaining=0)
    made.one("invoice", invoice)["status_transitions"]["voided_at"] = at(18)
    plan = made.plan(realm.books())
    assert not plan.findings
    assert not [each for each in plan.intents if each.operation is Operation.VOID]
    realm.apply(Plan(tuple(each for each in plan.intents if str(each.key) not in realm.ids)))
    (held,) = realm.all("Invoice")
    (memo,) = realm.all("CreditMemo")
    assert (held["TotalAmt"], held["Balance"], held["TxnDate"]) == (10, 0, "2026-06-02")
    assert (memo["TotalAmt"], memo["RemainingCredit"], memo["TxnDate"]) == (10, 0, "2026-06-18")
    assert f"Takes back invoice {invoice} of 2026-06-02, whose period is closed" in memo["PrivateNote"]
    # And it stays so when the books are opened again: taken back once, not twice.
    close(realm, None)
    again = made.plan(realm.books())
    assert not [each for each in again.intents if each.operation is Operation.VOID]
    assert _hashes(again) == _hashes(plan)


def test_a_void_in_a_closed_period_gives_used_credit_back_with_its_memo(realm: Company) -> None:
    export = Export(Made(), realm)
    made = export.made
    customer = made.customer()
    made.balance(customer, -300, when=at(1, 6))
    invoice = made.invoice(customer, 1_000, when=at(2))
    made.balance(customer, 300, "applied_to_invoice", when=at(2), invoice=invoice)
    made.one("invoice", invoice)["amount_remaining"] = 700
    export.step()
    close(realm, "2026-06-15")
    made.balance(customer, -300, "unapplied_from_invoice", when=at(18), invoice=invoice)
    made.one("invoice", invoice).update(status="void", amount_remaining=0)
    made.one("invoice", invoice)["status_transitions"]["voided_at"] = at(18)
    second = made.invoice(customer, 500, when=at(20))
    made.balance(customer, 200, "applied_to_invoice", when=at(20), invoice=second)
    made.one("invoice", second)["amount_remaining"] = 300
    plan = export.step()
    assert not plan.findings
    correction = export.held(f"invoice:{invoice}:void_correction")
    assert (correction["TotalAmt"], correction["RemainingCredit"]) == (10, 1)
    assert export.held(f"invoice:{second}:invoice")["Balance"] == 3
    (owner,) = [each for each in realm.all("Customer") if customer in each.get("Notes", "")]
    assert owner["Balance"] == 2


def test_an_invoice_that_was_voided_before_it_was_ever_posted_is_posted_and_voided_in_the_open_period(
    realm: Company,
) -> None:
    made = Made()
    made.invoice(made.customer(), 1_000, when=at(2), status="void", transitions={"voided_at": at(4)})
    close(realm, "2026-06-15")
    plan = made.posted(realm)
    assert not plan.findings
    assert [each["TotalAmt"] for each in realm.all("Invoice")] == [0]


def test_a_credit_note_that_would_have_to_be_voided_there_is_raised(realm: Company) -> None:
    made = Made()
    invoice = made.invoice(made.customer(), 1_000, when=at(2))
    note = made.note(invoice, 250, pre_payment_amount=250)
    made.posted(realm)
    close(realm, "2026-06-15")
    made.one("credit_note", note).update(status="void", voided_at=at(18))
    made.one("invoice", invoice)["amount_remaining"] = 1_000
    plan = made.plan(realm.books())
    assert [(each.code, each.subject) for each in plan.findings] == [("void_in_closed_period", note)]
    assert plan.findings[0].day == date(2026, 6, 18)
    assert not [each for each in plan.intents if each.operation is Operation.VOID]
    assert codes(plan) == ["void_in_closed_period"]


def _hashes(plan: Plan) -> dict[tuple[LinkKey, Operation], str]:
    return {(each.key, each.operation): each.input_hash for each in plan.intents}


def _emptied(realm: Company):
    """The realm's books as they were before anything was posted, and closed."""
    books = realm.books()
    held = {name: {k: e for k, e in of.items() if e.mark is None} for name, of in books.held.items()}
    return Books(
        held,
        books.rates,
        is_multicurrency=True,
        uses_own_numbers=True,
        closed_until=books.closed_until,
    )
