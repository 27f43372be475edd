"""A plan through the store, the applier and the verifier: every intent fits them, and nothing is left over."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sandbox.world import World
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.intent import LinkKey, Operation
from finance_os.stripe_qbo.keeping import keep
from finance_os.stripe_qbo.links import links
from finance_os.stripe_qbo.planning import plan_of
from finance_os.stripe_qbo.states import booked
from finance_os.stripe_qbo.store import What
from finance_os.stripe_qbo.verify import verify
from finance_os.stripe_qbo.written import after, written
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.sandbox.test_quickbooks import Client
from finance_os_tests.stripe_qbo.books import Books, books

from .made import Made, at, codes
from .worlds import OUTSIDE, START, Company, evidence, living, rules


@pytest.fixture(params=[(39, 4), (7, 4)])
def world(request: pytest.FixtureRequest) -> World:
    seed, size = request.param
    return living(40, size, seed)


@pytest.fixture
def served(world: World) -> Iterator[Books]:
    """A company in which nobody has mirrored Stripe."""
    with books(world, START - timedelta(days=1)) as held:
        yield held


def test_what_is_planned_is_applied_verified_and_planned_again(
    database: Database, acme: Connection, world: World, served: Books
) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=served.realm)
    client = Client(served.room, served.base)
    client.sign_in()
    realm = Company(client)
    plan = plan_of(evidence(world), realm.books(), rules())
    assert any(each.operation is Operation.VOID for each in plan.intents)
    keep(database, "acme", served.realm, plan)
    with served.writer() as writer:
        applied = apply(database, writer, "acme", served.realm)
        assert (applied.finished, applied.not_as_planned) == (True, 0)
        assert sum(applied.ended.values()) == len(plan.intents)
        checked = verify(database, writer, "acme", served.realm)
    assert checked.findings == []
    sent = booked(database, "acme", served.realm)
    again = plan_of(evidence(world), realm.books(), rules(), sent)
    put = keep(database, "acme", served.realm, again)
    assert put.conflicts == ()
    assert not [each for each in put.changes if each.what is What.NEW]
    assert again.findings == plan.findings


def test_there_and_back_again_is_applied_and_verified(database: Database, acme: Connection, quiet: World) -> None:
    """A due date that is changed, changed back and changed again, through the store, the applier and the verifier."""
    made = Made()
    invoice = made.invoice(made.customer(), 1_000, due_date=at(9))
    key = LinkKey("invoice", invoice, "invoice")
    with books(quiet, START - timedelta(days=1)) as served, served.writer() as writer:
        approve_policy(database, "acme", QBO_EXPORT.key, scope=served.realm)
        client = Client(served.room, served.base)
        client.sign_in()
        realm = Company(client)

        def step(day: int) -> list[str]:
            made.one("invoice", invoice)["due_date"] = at(day)
            with database.transaction() as connection:
                before = written(connection, "acme", served.realm)
            plan = plan_of(made.evidence, realm.books(), rules(), written=before)
            put = keep(database, "acme", served.realm, plan)
            applied = apply(database, writer, "acme", served.realm)
            assert (applied.finished, applied.not_as_planned) == (True, 0)
            assert verify(database, writer, "acme", served.realm).findings == []
            with database.transaction() as connection:
                now = written(connection, "acme", served.realm)
            assert now == after([each for each in plan.intents if each.operation is Operation.UPDATE], before or now)
            qbo_id = links(database, "acme", served.realm)[key].qbo_id
            assert client.get(f"invoice/{qbo_id}")["Invoice"]["DueDate"] == f"2026-06-{day:02}"
            return [str(each).rpartition(" (")[0] for each in put.changes if each.operation is Operation.UPDATE]

        update = f"new: update Invoice {key} of 2026-06-02, corrects DueDate"
        assert [step(day) for day in (9, 20, 20, 9, 20)] == [[], [update], [], [update], [update]]
        # What is planned and not sent gives way to what the evidence says next.
        made.one("invoice", invoice)["due_date"] = at(25)
        with database.transaction() as connection:
            before = written(connection, "acme", served.realm)
        keep(database, "acme", served.realm, plan_of(made.evidence, realm.books(), rules(), written=before))
        with database.transaction() as connection:
            assert written(connection, "acme", served.realm) == before
        assert step(20) == [update.replace("new", "withdrawn").replace(", corrects DueDate", "")]


def test_credit_outside_of_stripe_is_applied_revised_voided_and_verified(
    database: Database, acme: Connection, quiet: World
) -> None:
    """First without an account for it, then with one, then the note is voided."""
    made = Made()
    customer = made.customer()
    invoice = made.invoice(customer, 1_000)
    made.pay(invoice, 800, made.charge(customer, 800))
    note = made.note(invoice, 500, pre_payment_amount=200, out_of_band_amount=300)
    with books(quiet, START - timedelta(days=1)) as served, served.writer() as writer:
        approve_policy(database, "acme", QBO_EXPORT.key, scope=served.realm)
        client = Client(served.room, served.base)
        client.sign_in()
        realm = Company(client)

        def step(**chosen: str) -> list[str]:
            """The codes of what was found, once the plan is written."""
            with database.transaction() as connection:
                before = written(connection, "acme", served.realm)
            plan = plan_of(made.evidence, realm.books(), rules(**chosen), written=before)
            assert keep(database, "acme", served.realm, plan).conflicts == ()
            applied = apply(database, writer, "acme", served.realm)
            assert (applied.finished, applied.not_as_planned) == (True, 0)
            assert verify(database, writer, "acme", served.realm).findings == []
            return codes(plan)

        def shown() -> tuple[list[Any], list[Any], list[Any], Decimal]:
            """What invoices, memos and receipts show, and what has left the account."""
            memos = [(each["TotalAmt"], each["RemainingCredit"]) for each in realm.all("CreditMemo")]
            receipts = [each["TotalAmt"] for each in realm.all("RefundReceipt")]
            return [each["Balance"] for each in realm.all("Invoice")], memos, receipts, realm.balance(OUTSIDE)

        assert step() == ["credit_settled_outside_stripe"]
        assert shown() == ([0], [(5, 3)], [], 0)
        for _ in range(2):
            assert step(outside_account=OUTSIDE) == []
            assert shown() == ([0], [(2, 0)], [3], -3)
        made.one("credit_note", note).update(status="void", voided_at=at(9))
        made.one("invoice", invoice)["amount_remaining"] = 200
        for _ in range(2):
            assert step(outside_account=OUTSIDE) == []
            assert shown() == ([2], [(0, 0)], [0], 0)
        assert realm.trial_balance() == 0
