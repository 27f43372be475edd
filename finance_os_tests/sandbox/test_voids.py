"""A voided invoice gives the customer's balance back what was applied to it, as Stripe does since 2019-12-03."""

from datetime import UTC, date, datetime, timedelta

from finance_os.sandbox.states import Invoice, PaymentIntent
from finance_os.sandbox.world import World, build

START = date(2026, 6, 1)


def unpaid_with_credit() -> tuple[World, Invoice, int]:
    """A world with an open invoice that nobody has paid and that credit was applied to, and how much."""
    for seed in range(1, 40):
        until = datetime.combine(START, datetime.min.time(), UTC) + timedelta(days=45)
        world = build(seed=seed, start=START, until=until, size=5)
        for moved in world.stripe.rows("customer_balance_transaction"):
            if moved.type == "applied_to_invoice":
                invoice: Invoice = world.stripe.one("invoice", moved.invoice)
                if invoice.status == "open" and not invoice.amount_paid:
                    return world, invoice, moved.amount
    raise AssertionError("no world has such an invoice")


def test_what_was_applied_to_a_voided_invoice_is_given_back() -> None:
    world, invoice, applied = unpaid_with_credit()
    customer = world.stripe.one("customer", invoice.customer)
    before = customer.balance
    (payment,) = [each for each in world.stripe.rows("invoice_payment", invoice=invoice.id) if each.status == "open"]
    intent: PaymentIntent = world.stripe.one("payment_intent", payment.payment_intent)
    world.billing.void(invoice, intent)
    assert (invoice.status, invoice.amount_remaining) == ("void", 0)
    last = world.stripe.rows("customer_balance_transaction", customer=invoice.customer)[-1]
    assert (last.type, last.amount, last.invoice) == ("unapplied_from_invoice", -applied, invoice.id)
    assert customer.balance == last.ending_balance == before - applied
