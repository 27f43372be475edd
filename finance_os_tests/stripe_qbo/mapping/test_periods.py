"""The closed period: nothing is posted into it or changed in it, and what was posted before keeps its date."""

from datetime import date
from decimal import Decimal

import pytest

from finance_os.stripe_qbo.books import Books
from finance_os.stripe_qbo.intent import LinkKey, Operation
from finance_os.stripe_qbo.planning import Plan

from .made import Made, at, codes
from .test_invoices import with_bad_debt_item
from .test_revising import Export
from .worlds import Company, close

FORMS = ("Invoice", "CreditMemo", "Payment", "RefundReceipt", "JournalEntry", "Deposit")
LOST = {"bad_debt_item": "Bad Debt"}


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


# --- every kind of change of what a closed period holds is raised


def month(export: Export) -> dict[str, str]:
    """One form of each kind, posted in the first days of June, which are closed then. What changes them, by kind."""
    made = export.made
    customer = made.customer()
    invoice = made.invoice(customer, 1_000, when=at(2))
    charge = made.charge(customer, 600, when=at(3), fee=30)
    made.pay(invoice, 600, charge)
    moved = {
        "invoice": invoice,
        "charge": charge,
        "balance_transaction": made.objects["balance_transaction"][0]["id"],
        "credit_note": made.note(invoice, 250, pre_payment_amount=250, when=at(4)),
        "customer_balance_transaction": made.balance(customer, -300, when=at(4)),
        "refund": made.refund(charge, 200, when=at(5)),
        "payout": made.payout(100, automatic=False, arrival=at(8, 0)),
    }
    assert not export.step().findings
    close(export.realm, "2026-06-15")
    return moved


def _more(made: Made, kind: str, stripe_id: str) -> None:
    """Ten cents more of it, and of what goes with it."""
    body = made.one(kind, stripe_id)
    match kind:
        case "invoice" | "credit_note":
            name = "total" if kind == "invoice" else "amount"
            body[name] += 10
            body["lines"]["data"][0]["amount"] += 10
            body["pre_payment_amount"] = body.get("pre_payment_amount", 0) + 10
            invoice = made.one("invoice", body["invoice"]) if kind == "credit_note" else body
            invoice["amount_remaining"] += 10 if kind == "invoice" else -10
        case "charge":
            body["amount"] += 10
            body["amount_captured"] += 10
            made.objects["invoice_payment"][0]["amount_paid"] += 10
            made.objects["invoice"][0]["amount_remaining"] -= 10
            made.objects["balance_transaction"][0]["amount"] += 10
        case "balance_transaction":
            body["fee"] += 10
        case "customer_balance_transaction":
            body["amount"] -= 10
            body["ending_balance"] -= 10
        case "refund" | "payout":
            body["amount"] += 10
            made.one("balance_transaction", body["balance_transaction"])["amount"] -= 10


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("invoice", "Line of the Invoice"),
        ("charge", "TotalAmt, Line of the Payment"),
        ("balance_transaction", "Line of the JournalEntry"),
        ("credit_note", "Line of the CreditMemo"),
        ("customer_balance_transaction", "Line of the CreditMemo"),
        ("refund", "Line of the RefundReceipt"),
        ("payout", "Line of the Deposit"),
    ],
)
def test_an_amount_that_changes_there_is_raised_and_nothing_is_written(realm: Company, kind: str, changed: str) -> None:
    export = Export(Made(), realm)
    moved = month(export)
    before = {entity: realm.all(entity) for entity in FORMS}
    _more(export.made, kind, moved[kind])
    plan = export.step()
    told = [each for each in plan.findings if each.code == "written_differs" and each.detail.startswith(changed)]
    assert [each.severity for each in told] == ["high"], plan.findings
    assert "closed period (2026-06-" in told[0].detail
    assert {entity: realm.all(entity) for entity in FORMS} == before


@pytest.mark.parametrize(
    "kind", ["invoice", "charge", "credit_note", "customer_balance_transaction", "refund", "payout"]
)
def test_what_is_deleted_there_is_raised_and_nothing_is_written(realm: Company, kind: str) -> None:
    export = Export(Made(), realm)
    moved = month(export)
    before = {entity: realm.all(entity) for entity in FORMS}
    gone = moved[kind]
    export.made.objects[kind] = [each for each in export.made.objects[kind] if each["id"] != gone]
    plan = export.step()
    subject = f"invoice_payment:{export.made.objects['invoice_payment'][0]['id']}" if kind == "charge" else gone
    told = {each.code: each for each in plan.findings if subject in each.subject}
    assert told["written_not_planned"].severity == "high", plan.findings
    assert {entity: realm.all(entity) for entity in FORMS} == before


def test_a_loss_of_an_invoice_there_is_written_off_in_the_open_period(realm: Company) -> None:
    with_bad_debt_item(realm)
    export = Export(Made(), realm)
    invoice = export.made.invoice(export.made.customer(), 1_000, when=at(2))
    export.step(**LOST)
    close(realm, "2026-06-15")
    _give_up(export.made, invoice, at(5))
    plan = export.step(**LOST)
    assert not plan.findings
    memo = export.held(f"invoice:{invoice}:write_off")
    assert (memo["TxnDate"], memo["TotalAmt"], memo["RemainingCredit"]) == ("2026-06-16", 10, 0)
    assert "Belongs to 2026-06-05, whose period was closed." in memo["PrivateNote"]
    assert f"Writes off invoice {invoice}" in memo["PrivateNote"]
    assert export.held(f"invoice:{invoice}:invoice")["Balance"] == 0


def test_without_an_item_for_losses_it_is_raised(realm: Company) -> None:
    export = Export(Made(), realm)
    invoice = export.made.invoice(export.made.customer(), 1_000, when=at(2))
    export.step()
    close(realm, "2026-06-15")
    _give_up(export.made, invoice, at(5))
    assert [(each.code, each.subject) for each in export.step().findings] == [("invoice_uncollectible", invoice)]


@pytest.mark.parametrize("is_all", [True, False], ids=["all", "part"])
def test_what_is_paid_after_a_write_off_there_is_booked_and_raised(realm: Company, is_all: bool) -> None:
    with_bad_debt_item(realm)
    export = Export(Made(), realm)
    made = export.made
    customer = made.customer()
    invoice = made.invoice(customer, 1_000, when=at(2))
    made.pay(invoice, 100, made.charge(customer, 100, when=at(3)), when=at(3))
    _give_up(made, invoice, at(5))
    assert not export.step(**LOST).findings
    close(realm, "2026-06-15")
    paid = made.pay(invoice, 900 if is_all else 400, made.charge(customer, 900 if is_all else 400, when=at(20)))
    made.one("invoice_payment", paid)["status_transitions"]["paid_at"] = at(20)
    made.one("invoice", invoice)["status"] = "paid" if is_all else "uncollectible"
    for _ in range(2):
        plan = export.step(**LOST)
        assert [(each.code, each.subject) for each in plan.findings] == [("void_in_closed_period", invoice)]
        assert "are booked as payments that are not applied" in plan.findings[0].detail
    assert export.held(f"invoice_payment:{paid}:payment")["UnappliedAmt"] == (9 if is_all else 4)
    assert export.held(f"invoice:{invoice}:write_off")["TotalAmt"] == 9
    assert export.held(f"invoice:{invoice}:invoice")["Balance"] == 0
    assert realm.balance("Stripe Clearing") == (10 if is_all else 5)
    # Once the period is open again, it is as if it had never been closed.
    close(realm, None)
    assert not export.step(**LOST).findings
    assert export.held(f"invoice_payment:{paid}:payment")["UnappliedAmt"] == 0
    assert export.held(f"invoice:{invoice}:write_off")["TotalAmt"] == 0
    assert export.held(f"invoice:{invoice}:invoice")["Balance"] == 0
    assert realm.trial_balance() == 0


def test_a_void_of_what_was_written_off_there_is_raised(realm: Company) -> None:
    with_bad_debt_item(realm)
    export = Export(Made(), realm)
    invoice = export.made.invoice(export.made.customer(), 1_000, when=at(2))
    _give_up(export.made, invoice, at(5))
    export.step(**LOST)
    close(realm, "2026-06-15")
    export.made.one("invoice", invoice).update(status="void", amount_remaining=0)
    export.made.one("invoice", invoice)["status_transitions"]["voided_at"] = at(18)
    plan = export.step(**LOST)
    assert ("void_in_closed_period", invoice) in [(each.code, each.subject) for each in plan.findings]
    assert not [each for each in plan.intents if each.operation is Operation.VOID]
    assert export.held(f"invoice:{invoice}:invoice")["TotalAmt"] == 10


def _give_up(made: Made, invoice: str, when: int) -> None:
    made.one("invoice", invoice)["status"] = "uncollectible"
    made.one("invoice", invoice)["status_transitions"]["marked_uncollectible_at"] = when


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
