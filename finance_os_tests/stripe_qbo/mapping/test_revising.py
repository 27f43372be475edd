"""Updates: whatever the evidence comes to say, QuickBooks ends with what would have been booked at first sight."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finance_os.sandbox.world import World
from finance_os.stripe_qbo.books import Books
from finance_os.stripe_qbo.intent import REFERENCE, Intent, LinkKey, Operation
from finance_os.stripe_qbo.lookup import require_fit
from finance_os.stripe_qbo.planning import Plan
from finance_os.stripe_qbo.verify import differences
from finance_os.stripe_qbo.written import Written, after

from .made import Made, at, codes
from .worlds import Company, close, company, rules


@dataclass
class Export:
    """What is written of an account to a realm, step by step; every plan is posted as soon as it is made."""

    made: Made
    realm: Company
    written: dict[LinkKey, Written] = field(default_factory=dict)
    rates: dict[tuple[str, date], Decimal] = field(default_factory=dict)

    def books(self) -> Books:
        read = self.realm.books()
        return Books(read.held, {**read.rates, **self.rates}, read.home, True, True, read.closed_until)

    def plan(self, **chosen: Any) -> Plan:
        return self.made.plan(self.books(), rules(**chosen), written=self.written)

    def step(self, **chosen: Any) -> Plan:
        """Plan, and post what is not posted yet. The plan."""
        plan = self.plan(**chosen)
        for each in plan.intents:
            require_fit(each)
        todo = [each for each in plan.intents if not self._is_done(each)]
        self.realm.apply(Plan(tuple(todo), adoptions=plan.adoptions))
        self.written = after(todo, self.written)
        assert not updates(self.plan(**chosen)), "an update is planned once"
        return plan

    def _is_done(self, intent: Intent) -> bool:
        written = self.written.get(intent.key)
        if intent.operation is Operation.UPDATE or written is None:
            return False
        return written.is_void if intent.operation is Operation.VOID else bool(written.made)

    def held(self, key: str) -> dict[str, Any]:
        """The object of a key, as QuickBooks shows it."""
        entity = self.written[LinkKey.parse(key)].entity
        return self.realm.client.get(f"{entity.lower()}/{self.realm.ids[key]}")[entity]


def updates(plan: Plan) -> dict[str, Intent]:
    """The updates of a plan, by key."""
    return {str(each.key): each for each in plan.intents if each.operation is Operation.UPDATE}


def changed(plan: Plan) -> dict[str, tuple[str, ...]]:
    """What the updates of a plan correct, by key."""
    return {key: tuple(sorted(each.corrects)) for key, each in updates(plan).items()}


@pytest.fixture
def export(realm: Company) -> Export:
    return Export(Made(), realm)


# --- what is changed


def test_a_due_date_a_number_and_a_description_are_updated_and_nothing_else(export: Export) -> None:
    made = export.made
    invoice = made.invoice(made.customer(), 1_000, due_date=at(9))
    other = made.invoice(made.one("invoice", invoice)["customer"], 500)
    first = export.step()
    key = f"invoice:{invoice}:invoice"
    before = export.held(key)
    made.one("invoice", invoice).update(due_date=at(20), number="INV-0001-B")
    made.one("invoice", invoice)["lines"]["data"][0]["description"] = "Campaign 1, corrected"
    second = export.step()
    assert changed(second) == {key: ("DocNumber", "DueDate", "Line")}
    update = updates(second)[key]
    assert update.payload.keys() == {"DocNumber", "DueDate", "Line"}
    assert update.corrects["DueDate"] == "2026-06-09"
    assert update.depends_on == (LinkKey.parse(key),)
    # The create is planned as it was written, with the same hash.
    create = {str(each.key): each.input_hash for each in first.intents if each.operation is Operation.CREATE}
    again = {str(each.key): each.input_hash for each in second.intents if each.operation is Operation.CREATE}
    assert again == {each: create[each] for each in again}
    held = export.held(key)
    assert (held["DocNumber"], held["DueDate"], held["TotalAmt"]) == ("INV-0001-B", "2026-06-20", 10)
    assert held["Line"][0]["Description"].startswith("Campaign 1, corrected")
    assert (held["PrivateNote"], held["TxnDate"]) == (before["PrivateNote"], before["TxnDate"])
    assert export.held(f"invoice:{other}:invoice")["SyncToken"] == "0"


def test_there_and_back_again_is_two_updates_in_order(export: Export) -> None:
    made = export.made
    invoice = made.invoice(made.customer(), 1_000, due_date=at(9))
    export.step()
    key, hashes = f"invoice:{invoice}:invoice", []
    for day in (20, 9, 20, 25):
        made.one("invoice", invoice)["due_date"] = at(day)
        plan = export.step()
        assert changed(plan) == {key: ("DueDate",)}
        hashes.append(updates(plan)[key].input_hash)
        assert export.held(key)["DueDate"] == f"2026-06-{day:02}"
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 3
    assert export.held(key)["SyncToken"] == "4"


def test_a_rate_that_is_read_later_corrects_the_receivable(export: Export) -> None:
    made = export.made
    invoice = made.invoice(made.customer(), 10_000, when=at(5), currency="eur")
    export.rates = {("EUR", date(2026, 6, 4)): Decimal("1.05"), ("EUR", date(2026, 7, 1)): Decimal("1.2")}
    export.step()
    key = f"invoice:{invoice}:invoice"
    assert export.held(key)["ExchangeRate"] == Decimal("1.05")
    export.rates["EUR", date(2026, 6, 5)] = Decimal("1.08")
    plan = export.step()
    assert changed(plan) == {key: ("ExchangeRate",)}
    assert updates(plan)[key].corrects == {"ExchangeRate": Decimal("1.05")}
    held = export.held(key)
    assert (held["ExchangeRate"], held["HomeTotalAmt"]) == (Decimal("1.08"), 108)
    assert export.realm.trial_balance() == 0


def test_a_customer_is_never_overwritten(export: Export) -> None:
    made = export.made
    customer = made.customer()
    made.invoice(customer, 1_000)
    export.step()
    made.one("customer", customer).update(email="other@example.com", name="Renamed")
    plan = export.step()
    assert not updates(plan)
    assert not plan.findings


def test_a_date_that_stripe_corrects_moves_the_form(export: Export) -> None:
    made = export.made
    invoice = made.invoice(made.customer(), 1_000, when=at(5))
    export.step()
    made.one("invoice", invoice)["effective_at"] = at(3)
    plan = export.step()
    key = f"invoice:{invoice}:invoice"
    assert changed(plan) == {key: ("DueDate", "TxnDate")}
    assert export.held(key)["TxnDate"] == "2026-06-03"


def test_a_credit_note_that_comes_to_light_corrects_the_receipt_of_its_refund(export: Export) -> None:
    made = export.made
    customer = made.customer()
    invoice = made.invoice(customer, 1_000)
    charge = made.charge(customer, 1_000)
    made.pay(invoice, 1_000, charge)
    refund = made.refund(charge, 400)
    export.step()
    key = f"refund:{refund}:refund_receipt"
    assert export.held(key)["Line"][0]["SalesItemLineDetail"]["ItemRef"]["name"] == "Refund"
    note = made.note(invoice, 400, refunds=[{"amount_refunded": 400, "refund": refund, "type": "refund"}])
    plan = export.step()
    assert changed(plan) == {key: ("Line", "PrivateNote")}
    held = export.held(key)
    assert held["Line"][0]["SalesItemLineDetail"]["ItemRef"]["name"] == "Make-good"
    assert note in held["PrivateNote"]


# --- what is not


def test_in_a_closed_period_nothing_is_changed_and_it_is_told(export: Export) -> None:
    made = export.made
    customer = made.customer()
    invoice = made.invoice(customer, 1_000, when=at(5), due_date=at(9))
    open_one = made.invoice(customer, 500, when=at(20))
    export.step()
    close(export.realm, "2026-06-15")
    for each in (invoice, open_one):
        made.one("invoice", each)["due_date"] = at(28)
    plan = export.step()
    assert changed(plan) == {f"invoice:{open_one}:invoice": ("DueDate",)}
    (told,) = plan.findings
    assert (told.code, told.subject, told.severity) == ("written_differs", f"invoice:{invoice}:invoice", "medium")
    assert "DueDate" in told.detail
    assert "closed period (2026-06-05)" in told.detail
    close(export.realm, None)
    assert changed(export.step()) == {f"invoice:{invoice}:invoice": ("DueDate",)}
    assert not export.plan().findings


def test_what_was_moved_out_of_a_closed_period_stays_until_its_own_day_changes(export: Export) -> None:
    made = export.made
    invoice = made.invoice(made.customer(), 1_000, when=at(5))
    close(export.realm, "2026-06-15")
    export.step()
    key = f"invoice:{invoice}:invoice"
    close(export.realm, None)
    assert not updates(export.step())
    made.one("invoice", invoice)["effective_at"] = at(12)
    assert changed(export.step()) == {key: ("DueDate", "PrivateNote", "TxnDate")}
    held = export.held(key)
    assert held["TxnDate"] == "2026-06-12"
    assert "Belongs to" not in held["PrivateNote"]


def test_another_customer_is_for_people(export: Export) -> None:
    made = export.made
    invoice = made.invoice(made.customer(), 1_000)
    export.step()
    made.one("invoice", invoice).update(customer=made.customer("Birch Media"), due_date=at(30))
    plan = export.step()
    key = f"invoice:{invoice}:invoice"
    assert changed(plan) == {key: ("DueDate",)}
    assert [(each.code, each.subject, each.severity) for each in plan.findings] == [("written_differs", key, "high")]
    assert plan.findings[0].detail.startswith("CustomerRef of the Invoice")


def test_rules_hold_from_the_day_they_are_made(export: Export) -> None:
    made = export.made
    customer = made.customer()
    made.invoice(customer, 1_000)
    made.invoice(customer, 700)
    export.step()
    later = made.invoice(customer, 500)
    plan = export.step(sales_item="Goodwill")
    assert not updates(plan)
    assert codes(plan) == ["written_under_other_rules"]
    assert plan.findings[0].detail.startswith("2 objects were written with ItemRef ")
    held = export.held(f"invoice:{later}:invoice")
    assert held["Line"][0]["SalesItemLineDetail"]["ItemRef"]["name"] == "Goodwill"


def test_what_the_plan_has_no_more_is_told_and_left_alone(export: Export) -> None:
    made = export.made
    customer = made.customer()
    made.balance(customer, -500)
    export.step()
    made.objects["customer_balance_transaction"].clear()
    plan = export.step()
    assert codes(plan) == ["written_not_planned"]
    assert not plan.intents


def test_what_cannot_be_booked_any_more_stays_with_what_belongs_to_it(export: Export) -> None:
    made = export.made
    customer = made.customer()
    invoice = made.invoice(customer, 1_000)
    export.step()
    made.one("invoice", invoice)["lines"]["has_more"] = True
    made.pay(invoice, 1_000, made.charge(customer, 1_000))
    plan = export.step()
    assert codes(plan) == ["lines_not_staged"]
    assert export.held(f"invoice:{invoice}:invoice")["Balance"] == 0


def test_while_an_answer_is_unknown_its_change_waits(export: Export) -> None:
    made = export.made
    invoice = made.invoice(made.customer(), 1_000, due_date=at(9))
    export.step()
    key = LinkKey("invoice", invoice, "invoice")
    known = export.written[key]
    export.written[key] = Written(known.entity, known.dated, known.marker, known.made, known.now, is_settled=False)
    assert not export.plan().findings
    made.one("invoice", invoice)["due_date"] = at(20)
    plan = export.plan()
    assert codes(plan) == ["update_waits"]
    assert not updates(plan)


# --- voids and what came late


def test_a_void_stays_a_void_when_its_period_is_closed_after_it(export: Export) -> None:
    made = export.made
    customer = made.customer()
    made.balance(customer, -300)
    invoice = made.invoice(customer, 1_000, when=at(3))
    made.balance(customer, 300, "applied_to_invoice", when=at(3), invoice=invoice)
    made.one("invoice", invoice)["amount_remaining"] = 700
    export.step()
    made.balance(customer, -300, "unapplied_from_invoice", when=at(9), invoice=invoice)
    made.one("invoice", invoice).update(status="void", amount_remaining=0)
    made.one("invoice", invoice)["status_transitions"]["voided_at"] = at(9)
    before = export.step()
    close(export.realm, "2026-06-30")
    after_ = export.step()
    assert not after_.findings
    planned = [(each.key, each.operation, each.input_hash) for each in after_.intents if each.entity != "Customer"]
    assert planned == [(e.key, e.operation, e.input_hash) for e in before.intents if e.entity != "Customer"]
    assert len(export.realm.all("CreditMemo")) == 1


def test_a_payment_that_was_not_applied_is_applied_once_it_is_known_for_what(export: Export) -> None:
    made = export.made
    customer = made.customer()
    first, second = made.invoice(customer, 1_000), made.invoice(customer, 700)
    charge = made.charge(customer, 2_000, when=at(3))
    made.charge(customer, 100, when=at(10))
    assert "payment_unapplied" in codes(export.step())
    made.pay(first, 1_000, charge)
    plan = export.step()
    key = f"charge:{charge}:payment"
    assert changed(plan) == {key: ("Line",)}
    assert (export.held(key)["TotalAmt"], export.held(key)["UnappliedAmt"]) == (20, 10)
    made.pay(second, 700, charge)
    export.step()
    assert export.held(key)["UnappliedAmt"] == 3
    assert [each["Balance"] for each in export.realm.all("Invoice")] == [0, 0]
    assert len([each for each in export.realm.all("Payment") if charge in each["PrivateNote"]]) == 1
    assert export.realm.balance("Stripe Clearing") == 20


def test_a_credit_that_comes_late_does_not_unsettle_what_was_written(export: Export) -> None:
    made = export.made
    customer = made.customer()
    late = made.balance(customer, -500, when=at(2))
    kept = made.objects["customer_balance_transaction"].pop()
    made.balance(customer, -400, when=at(3))
    first = made.invoice(customer, 1_000, when=at(6))
    made.balance(customer, 400, "applied_to_invoice", when=at(6), invoice=first)
    made.one("invoice", first)["amount_remaining"] = 600
    export.step()
    made.objects["customer_balance_transaction"].append(kept)
    earlier = made.invoice(customer, 300, when=at(5))
    made.balance(customer, 300, "applied_to_invoice", when=at(5), invoice=earlier)
    made.one("invoice", earlier)["amount_remaining"] = 0
    plan = export.step()
    assert not updates(plan)
    left = {
        each["PrivateNote"].split()[-1].split(":")[2]: each["RemainingCredit"]
        for each in export.realm.all("CreditMemo")
    }
    assert left.pop(late) == 2
    assert list(left.values()) == [0]


@pytest.mark.parametrize("kind", ["adjustment", "invoice_too_small"])
def test_a_credit_that_comes_late_does_not_settle_what_a_payment_was_written_to_pay(export: Export, kind: str) -> None:
    """Of two debits the payment paid the older one, which by what is known now the credit would settle."""
    made = export.made
    customer = made.customer()
    if kind == "adjustment":
        made.balance(customer, 30, when=at(2))
    else:
        small = made.invoice(customer, 30, when=at(2), status="paid")
        made.balance(customer, 30, kind, when=at(2), invoice=small)
    late = made.balance(customer, -30, when=at(3))
    second = made.balance(customer, 30, when=at(4))
    invoice = made.invoice(customer, 1_000, when=at(5), status="paid")
    made.balance(customer, -30, "applied_to_invoice", when=at(5), invoice=invoice)
    made.one("invoice", invoice)["amount_remaining"] = 1_030
    paid = made.pay(invoice, 1_030, made.charge(customer, 1_030, when=at(7)), when=at(7))
    chosen, kept = {"debit_item": "Ad Spend"}, made.one("customer_balance_transaction", late)
    made.objects["customer_balance_transaction"].remove(kept)
    assert codes(export.step(**chosen)) == ["customer_credit_differs"]
    made.objects["customer_balance_transaction"].append(kept)
    plan = export.step(**chosen)
    assert not plan.findings
    assert not updates(plan)
    assert export.held(f"customer_balance_transaction:{late}:credit_memo")["RemainingCredit"] == 0
    assert export.held(f"customer_balance_transaction:{second}:debit")["Balance"] == 0
    assert export.held(f"invoice_payment:{paid}:payment")["UnappliedAmt"] == 0
    assert {each["Balance"] for each in export.realm.all("Invoice")} == {0}


# --- any sequence


def _texts() -> st.SearchStrategy[tuple[Callable[..., None], tuple[Any, ...]]]:
    which = st.integers(0, 2)
    day = st.integers(2, 28)
    return st.one_of(
        st.tuples(st.just(_due), st.tuples(which, day)),
        st.tuples(st.just(_describe), st.tuples(which, st.sampled_from("ABC"))),
        st.tuples(st.just(_number), st.tuples(which, st.sampled_from("ABC"))),
        st.tuples(st.just(_date), st.tuples(which, day)),
        st.tuples(st.just(_rate), st.tuples(day, st.sampled_from(("1.01", "1.1", "1.25")))),
        st.tuples(st.just(_pay), st.tuples(which)),
        st.tuples(st.just(_email), st.tuples(st.sampled_from(("a@x.example.com", "b@x.example.com")))),
        st.tuples(st.just(_void), st.tuples(which)),
    )


def _invoice(export: Export, which: int) -> dict[str, Any]:
    return export.made.objects["invoice"][which]


def _due(export: Export, which: int, day: int) -> None:
    _invoice(export, which)["due_date"] = at(day)


def _describe(export: Export, which: int, text: str) -> None:
    _invoice(export, which)["lines"]["data"][0]["description"] = text


def _number(export: Export, which: int, text: str) -> None:
    _invoice(export, which)["number"] = f"{which}-{text}"


def _date(export: Export, which: int, day: int) -> None:
    _invoice(export, which)["effective_at"] = at(day)


def _rate(export: Export, day: int, rate: str) -> None:
    export.rates["EUR", date(2026, 6, day)] = Decimal(rate)


def _pay(export: Export, which: int) -> None:
    body = _invoice(export, which)
    if body["status"] == "open":
        is_home = body["currency"] == "usd"
        settled = {} if is_home else {"settled": body["total"] * 11 // 10}
        charge = export.made.charge(body["customer"], body["total"], when=at(29), currency=body["currency"], **settled)
        export.made.pay(body["id"], body["total"], charge, when=at(29))
        body["status"] = "paid"


def _void(export: Export, which: int) -> None:
    body = _invoice(export, which)
    if body["status"] == "open":
        body.update(status="void", amount_remaining=0)
        body["status_transitions"]["voided_at"] = at(28)


def _email(export: Export, email: str) -> None:
    export.made.objects["customer"][0]["email"] = email


@settings(max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.lists(_texts(), min_size=1, max_size=3), min_size=1, max_size=5))
def test_after_any_changes_quickbooks_holds_what_a_fresh_plan_books(quiet: World, steps: list[list[Any]]) -> None:
    with company(quiet) as realm:
        export = Export(Made(), realm)
        unposted = realm.books()
        customer = export.made.customer()
        for currency in ("usd", "eur", "usd"):
            export.made.invoice(customer, 10_000, 5_500, when=at(5), currency=currency)
        export.rates = {("EUR", date(2026, 5, 1)): Decimal("1.05"), ("EUR", date(2026, 7, 9)): Decimal("1.3")}
        export.step()
        for changes in steps:
            for change, what in changes:
                change(export, *what)
            export.step()
        books = Books(unposted.held, {**unposted.rates, **export.rates}, unposted.home, True, True)
        fresh = export.made.plan(books)
        assert not fresh.findings
        voided = {each.key for each in fresh.intents if each.operation is Operation.VOID}
        for each in fresh.intents:
            if each.operation is Operation.CREATE and each.entity != "Customer":
                held = export.held(str(each.key))
                if each.key in voided:
                    assert held["TotalAmt"] == 0, each.key
                else:
                    assert differences(_resolved(each.payload, realm.ids), held) == [], each.key
        assert len(realm.all("Invoice")) == 3
        assert realm.trial_balance() == 0


def _resolved(value: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {REFERENCE}:
            return ids[value[REFERENCE]]
        return {name: _resolved(each, ids) for name, each in value.items()}
    return [_resolved(each, ids) for each in value] if isinstance(value, list | tuple) else value
