"""The Stripe account's own state: one small mutable record an object, holding what varies and what lists filter by.

Times are whole seconds since the epoch, amounts are minor units of the record's currency.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

NEVER = 1 << 60


@dataclass(slots=True, kw_only=True, eq=False)
class Record:
    """What every object has. `blob` is its JSON as last written, valid until it changes or `blob_until` passes."""

    KIND: ClassVar[str]
    id: str
    created: int
    metadata: dict[str, str] = field(default_factory=dict)
    overlay: dict[str, Any] | None = None
    blob: bytes | None = None
    blob_until: int = NEVER


@dataclass(slots=True, kw_only=True, eq=False)
class Customer(Record):
    KIND: ClassVar[str] = "customer"
    name: str
    email: str
    currency: str
    country: str
    line1: str
    city: str
    postal_code: str
    invoice_prefix: str
    description: str | None = None
    phone: str | None = None
    balance: int = 0
    delinquent: bool = False
    deleted: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Line:
    """A line of an invoice or of a credit note."""

    id: str
    amount: int
    description: str
    reference: str
    period_start: int = 0
    period_end: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Invoice(Record):
    KIND: ClassVar[str] = "invoice"
    customer: str
    customer_name: str
    customer_email: str
    currency: str
    collection_method: str
    period_start: int
    period_end: int
    lines: list[Line]
    total: int
    status: str = "draft"
    number: str | None = None
    due_date: int | None = None
    amount_due: int = 0
    amount_paid: int = 0
    amount_remaining: int = 0
    pre_payment_credit_notes_amount: int = 0
    post_payment_credit_notes_amount: int = 0
    starting_balance: int = 0
    ending_balance: int | None = None
    attempt_count: int = 0
    attempted: bool = False
    next_payment_attempt: int | None = None
    automatically_finalizes_at: int | None = None
    finalized_at: int | None = None
    paid_at: int | None = None
    voided_at: int | None = None
    marked_uncollectible_at: int | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class PaymentIntent(Record):
    KIND: ClassVar[str] = "payment_intent"
    customer: str | None
    amount: int
    currency: str
    method: str
    description: str | None = None
    receipt_email: str | None = None
    status: str = "requires_payment_method"
    amount_received: int = 0
    latest_charge: str | None = None
    payment_method: str | None = None
    failure: tuple[str, str, str] | None = None
    canceled_at: int | None = None
    cancellation_reason: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Charge(Record):
    KIND: ClassVar[str] = "charge"
    customer: str | None
    payment_intent: str
    invoice: str | None
    amount: int
    currency: str
    method: str
    payment_method: str
    billing_name: str
    billing_email: str
    card_last4: str
    status: str = "succeeded"
    description: str | None = None
    balance_transaction: str | None = None
    failure_code: str | None = None
    failure_message: str | None = None
    amount_captured: int = 0
    amount_refunded: int = 0
    disputed: bool = False
    refunds: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class BalanceTransaction(Record):
    """Money moving on the account's balance, in US cents; `source_currency` tells the rate of a foreign charge."""

    KIND: ClassVar[str] = "balance_transaction"
    amount: int
    fee: int
    type: str
    reporting_category: str
    source: str
    available_on: int
    description: str | None
    source_currency: str = "usd"
    currency: str = "usd"
    payout: str | None = None

    @property
    def net(self) -> int:
        return self.amount - self.fee


@dataclass(slots=True, kw_only=True, eq=False)
class CreditNote(Record):
    KIND: ClassVar[str] = "credit_note"
    customer: str
    invoice: str
    currency: str
    amount: int
    number: str
    memo: str | None
    reason: str | None
    type: str
    lines: list[Line]
    customer_balance_transaction: str | None = None
    refund: str | None = None
    out_of_band_amount: int = 0
    status: str = "issued"
    voided_at: int | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class CustomerBalanceTransaction(Record):
    KIND: ClassVar[str] = "customer_balance_transaction"
    customer: str
    amount: int
    currency: str
    ending_balance: int
    type: str
    description: str | None = None
    invoice: str | None = None
    credit_note: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Refund(Record):
    KIND: ClassVar[str] = "refund"
    charge: str
    payment_intent: str
    customer: str | None
    amount: int
    currency: str
    method: str
    reason: str | None
    status: str = "succeeded"
    balance_transaction: str | None = None
    failure_balance_transaction: str | None = None
    failure_reason: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Payout(Record):
    KIND: ClassVar[str] = "payout"
    amount: int
    arrival_date: int
    currency: str = "usd"
    status: str = "pending"
    balance_transaction: str | None = None
    failure_balance_transaction: str | None = None
    failure_code: str | None = None
    failure_message: str | None = None
    reconciliation_status: str = "in_progress"
    trace_id: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Dispute(Record):
    KIND: ClassVar[str] = "dispute"
    charge: str
    payment_intent: str
    customer_name: str
    customer_email: str
    amount: int
    currency: str
    reason: str
    due_by: int
    status: str = "needs_response"
    balance_transactions: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class InvoicePayment(Record):
    KIND: ClassVar[str] = "invoice_payment"
    invoice: str
    payment_intent: str
    amount_requested: int
    currency: str
    is_default: bool
    amount_paid: int | None = None
    status: str = "open"
    paid_at: int | None = None
    canceled_at: int | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Event(Record):
    """An event; its JSON is written once, when it happens, and never again."""

    KIND: ClassVar[str] = "event"
    type: str


KINDS: tuple[type[Record], ...] = (
    Customer,
    Invoice,
    PaymentIntent,
    Charge,
    BalanceTransaction,
    CreditNote,
    CustomerBalanceTransaction,
    Refund,
    Payout,
    Dispute,
    InvoicePayment,
    Event,
)
