"""Which function writes which kind of Stripe object."""

from collections.abc import Callable, Mapping
from typing import Any

from . import billing_objects, money_objects

RENDERERS: Mapping[str, Callable[[Any, Any], dict[str, Any]]] = {
    "customer": billing_objects.customer,
    "invoice": billing_objects.invoice,
    "payment_intent": money_objects.payment_intent,
    "charge": money_objects.charge,
    "balance_transaction": money_objects.balance_transaction,
    "credit_note": billing_objects.credit_note,
    "customer_balance_transaction": billing_objects.customer_balance_transaction,
    "refund": money_objects.refund,
    "payout": money_objects.payout,
    "dispute": money_objects.dispute,
    "invoice_payment": billing_objects.invoice_payment,
}
