"""Stripe's objects, as the export needs them: frozen values of the payloads that are staged.

Amounts are integers of Stripe's minor units, moments are Unix seconds. Of each object only those fields are read that
a rule uses: https://docs.stripe.com/api (2026-10-28.endive).
"""

from decimal import Decimal

import msgspec


class _Object(msgspec.Struct, frozen=True, kw_only=True):
    id: str


class Customer(_Object, frozen=True, kw_only=True):
    """A customer as it was first seen: QuickBooks' customer is made once and never overwritten."""

    created: int = 0
    name: str | None = None
    email: str | None = None


class Period(msgspec.Struct, frozen=True):
    start: int
    end: int


class Tax(msgspec.Struct, frozen=True):
    amount: int
    tax_behavior: str | None = None

    @property
    def is_inclusive(self) -> bool:
        return self.tax_behavior == "inclusive"


class Amount(msgspec.Struct, frozen=True):
    amount: int


class Line(_Object, frozen=True, kw_only=True):
    """A line of an invoice or of a credit note. `amount` is before discounts and exclusive taxes."""

    amount: int
    description: str | None = None
    period: Period | None = None
    taxes: list[Tax] | None = None


class Lines(msgspec.Struct, frozen=True):
    data: list[Line]
    has_more: bool = False


class Transitions(msgspec.Struct, frozen=True, kw_only=True):
    finalized_at: int | None = None
    paid_at: int | None = None
    voided_at: int | None = None
    marked_uncollectible_at: int | None = None


class Invoice(_Object, frozen=True, kw_only=True):
    created: int
    currency: str
    status: str | None
    total: int
    lines: Lines
    status_transitions: Transitions
    customer: str | None = None
    customer_name: str | None = None
    customer_email: str | None = None
    number: str | None = None
    effective_at: int | None = None
    due_date: int | None = None
    amount_paid: int = 0
    amount_remaining: int = 0
    amount_shipping: int = 0
    total_discount_amounts: list[Amount] | None = None
    total_taxes: list[Tax] | None = None

    @property
    def dated(self) -> int | None:
        """The moment of the date that it bears: `effective_at` is when it was finalized unless someone set it."""
        return self.effective_at or self.status_transitions.finalized_at


class PaidBy(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    payment_intent: str | None = None
    charge: str | None = None
    payment_record: str | None = None


class InvoicePayment(_Object, frozen=True, kw_only=True):
    """What one payment paid of one invoice: https://docs.stripe.com/api/invoice-payment"""

    created: int
    invoice: str
    currency: str
    status: str
    payment: PaidBy
    status_transitions: Transitions
    amount_paid: int | None = None


class Charge(_Object, frozen=True, kw_only=True):
    created: int
    amount: int
    currency: str
    status: str
    amount_captured: int = 0
    customer: str | None = None
    payment_intent: str | None = None


class BalanceTransaction(_Object, frozen=True, kw_only=True):
    """What moved the account's balance: `net` is `amount` less `fee`, in the balance's currency."""

    created: int
    amount: int
    fee: int
    net: int
    currency: str
    type: str
    reporting_category: str
    available_on: int
    source: str | None = None
    exchange_rate: Decimal | None = None
    balance_type: str | None = None
    """Which of the account's balances it moves; the one that is paid out of is `payments`."""


class Refund(_Object, frozen=True, kw_only=True):
    created: int
    amount: int
    currency: str
    status: str | None = None
    charge: str | None = None
    balance_transaction: str | None = None
    failure_balance_transaction: str | None = None


class CreditedRefund(msgspec.Struct, frozen=True, kw_only=True):
    amount_refunded: int
    refund: str | None = None
    type: str = "refund"


class CreditNote(_Object, frozen=True, kw_only=True):
    created: int
    invoice: str
    customer: str
    currency: str
    amount: int
    status: str
    lines: Lines
    number: str | None = None
    effective_at: int | None = None
    pre_payment_amount: int = 0
    out_of_band_amount: int | None = None
    customer_balance_transaction: str | None = None
    refunds: list[CreditedRefund] = []
    discount_amount: int = 0
    amount_shipping: int = 0
    total_taxes: list[Tax] | None = None
    voided_at: int | None = None


class CustomerBalanceTransaction(_Object, frozen=True, kw_only=True):
    """What moved a customer's balance; negative is credit to the customer."""

    created: int
    customer: str
    currency: str
    amount: int
    ending_balance: int
    type: str
    invoice: str | None = None
    credit_note: str | None = None


class Trace(msgspec.Struct, frozen=True):
    value: str | None = None


class Payout(_Object, frozen=True, kw_only=True):
    created: int
    amount: int
    currency: str
    status: str
    arrival_date: int
    automatic: bool
    balance_transaction: str | None = None
    failure_balance_transaction: str | None = None
    reconciliation_status: str | None = None
    """`completed` once Stripe lists what an automatic payout paid out."""
    trace_id: Trace | None = None

    @property
    def trace(self) -> str | None:
        """What the bank's line bears, once Stripe knows it."""
        return self.trace_id.value if self.trace_id is not None else None


class PaidOut(_Object, frozen=True, kw_only=True):
    """A balance transaction that a payout paid out, or the payout's own: what it brings, in minor units."""

    net: int
