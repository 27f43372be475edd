"""Worlds whose credit notes are settled outside of Stripe too: answers as Stripe gives them, amounts that add up."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from finance_os.sandbox.states import CreditNote
from finance_os.sandbox.world import World, build

from . import stripe_schemas
from .test_world import everything

START = date(2026, 6, 1)
UNTIL = datetime(2026, 7, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def lived() -> World:
    return build(seed=7, start=START, until=UNTIL, size=6, outside_credits=True)


def bodies(world: World) -> list[tuple[CreditNote, dict[str, Any]]]:
    return [(each, world.stripe.render(each)) for each in world.stripe.rows("credit_note")]


def test_without_the_option_nothing_is_credited_outside_of_stripe() -> None:
    world = build(seed=7, start=START, until=UNTIL, size=6)
    assert bodies(world)
    assert all(body["out_of_band_amount"] is None and body["type"] != "mixed" for _, body in bodies(world))


def test_credit_notes_are_credited_in_every_way_and_as_stripe_says_it(lived: World) -> None:
    ways: set[tuple[str, bool, bool, bool]] = set()
    for note, body in bodies(lived):
        assert stripe_schemas.object_faults(body) == []
        moved = lived.stripe.find("customer_balance_transaction", note.customer_balance_transaction or "")
        outside, refunded = body["out_of_band_amount"] or 0, sum(e["amount_refunded"] for e in body["refunds"])
        to_balance = -moved.amount if moved is not None else 0
        assert body["post_payment_amount"] == outside + refunded + to_balance
        assert body["pre_payment_amount"] + body["post_payment_amount"] == body["amount"]
        assert outside <= body["amount"]
        ways.add((body["type"], bool(outside), bool(refunded), bool(to_balance)))
    assert ways >= {
        ("mixed", True, False, False),
        ("post_payment", True, False, False),
        ("post_payment", True, True, False),
        ("post_payment", True, False, True),
        ("post_payment", False, False, True),
    }
    for refund in lived.stripe.rows("refund"):
        notes = [body for note, body in bodies(lived) if note.refund == refund.id]
        assert [each["refunds"][0]["amount_refunded"] for each in notes] in ([], [refund.amount])


def test_invoices_that_are_credited_outside_add_up(lived: World) -> None:
    before: dict[str, int] = defaultdict(int)
    after: dict[str, int] = defaultdict(int)
    for note, body in bodies(lived):
        before[note.invoice] += body["pre_payment_amount"]
        after[note.invoice] += body["post_payment_amount"]
    for invoice in lived.stripe.rows("invoice"):
        assert stripe_schemas.object_faults(lived.stripe.render(invoice)) == []
        assert invoice.pre_payment_credit_notes_amount == before[invoice.id]
        assert invoice.post_payment_credit_notes_amount == after[invoice.id] <= invoice.amount_paid
        if invoice.status not in ("draft", "void"):
            assert invoice.amount_remaining == invoice.amount_due - invoice.amount_paid
            assert (invoice.status == "paid") == (invoice.amount_remaining <= 0)
    mixed = [note.invoice for note, body in bodies(lived) if body["type"] == "mixed"]
    for each in mixed:
        payments = lived.stripe.rows("invoice_payment", invoice=each)
        assert {payment.status for payment in payments} == {"paid", "canceled"}
        assert lived.stripe.one("invoice", each).status == "paid"


def test_moving_the_clock_in_steps_gives_the_same_world(lived: World) -> None:
    stepwise = World(seed=7, start=START, size=6, outside_credits=True)
    while stepwise.when < UNTIL:
        stepwise.advance_to(min(UNTIL, stepwise.when + timedelta(days=9, hours=7)))
    assert everything(stepwise) == everything(lived)
