"""The object types of Stripe: where each is listed, which events change it, and what people look for in it.

Field descriptions follow https://docs.stripe.com/api at the pinned version. Amounts are integers of the currency's
minor units; times are Unix seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from finance_os.evidence.extraction import DayState
from finance_os.sources.guard import Get
from finance_os.sources.source import Column, Reads, SourceObject

API_VERSION = "2026-10-28.endive"
API_KEY = "FINANCE_OS_STRIPE_API_KEY"
API_BASE_OPTION = "FINANCE_OS_STRIPE_API_BASE"
RATE_LIMIT_OPTION = "FINANCE_OS_STRIPE_RATE_LIMIT"
READS = (Get("/v1/*"),)

EVENT_LOG = timedelta(days=30)
"""How long Stripe keeps events: https://docs.stripe.com/api/events/list"""


@dataclass(frozen=True)
class Endpoint:
    """How one object type is read.

    `kind` is Stripe's own word for it (the `object` field). `changed_by` are exact event types, at most 20 (the most
    that one request may name); the object is the event's own, or the one that it names in the field that `through`
    gives for its kind. `settled_at` are paths to the time from which an object no longer has the value that it
    `settles`; without any of them it may settle at every moment. `owned_by_customer` lists are nested under each
    customer, `owned_by_payout` ones are what each automatic payout paid out. `snapshots` are what Stripe recorded at
    the time, so nothing is fetched into them later. `lists` are what a targeted read may ask for instead of one object:
    `payout` for a target `payout:po_…`, and so on.
    """

    path: str
    kind: str
    changed_by: tuple[str, ...] = ()
    through: Mapping[str, str] = field(default_factory=dict)
    expand: tuple[str, ...] = ()
    settled_at: tuple[tuple[str, ...], ...] = ()
    owned_by_customer: bool = False
    owned_by_payout: bool = False
    snapshots: bool = False
    lists: tuple[str, ...] = ()


PAYOUT = "payout"
"""The list of what a payout paid out: `payout:po_…`."""

CUSTOMER = "customer"
"""The list of what moved a customer's balance: `customer:cus_…`."""

PAYMENT_INTENT = "payment_intent"
"""The list of the invoices that a payment pays: `payment_intent:pi_…`."""

INVOICE = "invoice"
"""The list of what settles an invoice, payments or credit notes: `invoice:in_…`."""

StripeObject = SourceObject[Endpoint]

_ID = Column("id", "string", "Stripe's ID.")
_CREATED = Column("created", "timestamp", "When it was created, Unix seconds.")
_CURRENCY = Column("currency", "string", "Three-letter ISO code, lower case.")
_CUSTOMER = Column("customer", "string", "ID of the customer.")
_LIVEMODE = Column("livemode", "boolean", "False in a sandbox.")
_METADATA = Column("metadata", "object", "Key-value pairs of the account's own.")


def _amount(name: str, description: str) -> Column:
    return Column(name, "integer", f"{description} Minor units of the currency.")


_MOVED = (
    Column("type", "string", "charge, refund, payout, adjustment, stripe_fee …"),
    Column("reporting_category", "string", "The type as Stripe's reports group it."),
    _amount("amount", "Gross; negative where money left."),
    _amount("fee", "Stripe's fees."),
)

_DECLARED: tuple[StripeObject, ...] = (
    SourceObject(
        "stripe_customer",
        "Customers (advertisers), with the credit or debt that their next invoices take up.",
        Endpoint(
            "/v1/customers",
            "customer",
            changed_by=(
                "customer.updated",
                "customer.deleted",
                "customer.discount.created",
                "customer.discount.updated",
                "customer.discount.deleted",
            ),
            through={"discount": "customer"},
        ),
        label="customers",
        columns=(
            _ID,
            Column("name", "string", "Full or business name."),
            Column("email", "string"),
            _amount("balance", "What will be added to the next invoice; negative is credit."),
            _CURRENCY,
            Column("delinquent", "boolean", "Whether its latest charge failed or its latest invoice is unpaid."),
            _METADATA,
            _LIVEMODE,
            _CREATED,
        ),
        shown=("id", "balance", "currency", "delinquent", "created"),
    ),
    SourceObject(
        "stripe_invoice",
        "Invoices with all of their lines.",
        Endpoint(
            "/v1/invoices",
            "invoice",
            changed_by=(
                "invoice.updated",
                "invoice.deleted",
                "invoice.finalized",
                "invoice.finalization_failed",
                "invoice.sent",
                "invoice.paid",
                "invoice.payment_succeeded",
                "invoice.payment_failed",
                "invoice.payment_action_required",
                "invoice.payment_attempt_required",
                "invoice.overdue",
                "invoice.overpaid",
                "invoice.voided",
                "invoice.marked_uncollectible",
                "invoice_payment.paid",
                "credit_note.created",
                "credit_note.voided",
            ),
            through={"invoice_payment": "invoice", "credit_note": "invoice"},
        ),
        label="invoices",
        columns=(
            _ID,
            Column("number", "string", "The number that the customer sees."),
            _CUSTOMER,
            Column("status", "string", "draft, open, paid, uncollectible or void."),
            _CURRENCY,
            _amount("total", "After discounts and taxes."),
            _amount("amount_due", "Due after the customer's balance was applied."),
            _amount("amount_paid", "Paid so far."),
            _amount("amount_remaining", "Still to be paid."),
            _amount("starting_balance", "The customer's balance before."),
            _amount("ending_balance", "The customer's balance after it was finalized."),
            Column("due_date", "timestamp"),
            Column("lines", "object", "A list of all line items."),
            Column("status_transitions", "object", "When it was finalized, paid, voided, marked uncollectible."),
            _METADATA,
            _CREATED,
        ),
        shown=("id", "number", "customer", "status", "currency", "total", "amount_paid", "amount_remaining", "created"),
        volatile=("hosted_invoice_url", "invoice_pdf", "confirmation_secret"),
    ),
    SourceObject(
        "stripe_charge",
        "Attempts to move money from a customer, with all of their refunds.",
        Endpoint(
            "/v1/charges",
            "charge",
            changed_by=(
                "charge.updated",
                "charge.succeeded",
                "charge.failed",
                "charge.pending",
                "charge.captured",
                "charge.expired",
                "charge.refunded",
                "charge.refund.updated",
                "refund.created",
                "refund.updated",
                "refund.failed",
                "charge.dispute.created",
                "charge.dispute.updated",
                "charge.dispute.closed",
                "charge.dispute.funds_withdrawn",
                "charge.dispute.funds_reinstated",
            ),
            through={"refund": "charge", "dispute": "charge"},
            expand=("refunds",),
        ),
        label="charges",
        columns=(
            _ID,
            _amount("amount", "What was to be collected."),
            _amount("amount_captured", "What was captured."),
            _amount("amount_refunded", "What was given back."),
            _CURRENCY,
            _CUSTOMER,
            Column("status", "string", "succeeded, pending or failed."),
            Column("paid", "boolean"),
            Column("disputed", "boolean"),
            Column("balance_transaction", "string", "ID of what it did to the account's balance."),
            Column("payment_intent", "string", "ID of the payment intent."),
            Column("failure_code", "string"),
            Column("refunds", "object", "A list of all refunds."),
            _METADATA,
            _CREATED,
        ),
        shown=("id", "customer", "status", "currency", "amount", "amount_refunded", "disputed", "created"),
        volatile=("receipt_url",),
    ),
    SourceObject(
        "stripe_payment_intent",
        "Payments from the first attempt to the last.",
        Endpoint(
            "/v1/payment_intents",
            "payment_intent",
            changed_by=(
                "payment_intent.amount_capturable_updated",
                "payment_intent.canceled",
                "payment_intent.partially_funded",
                "payment_intent.payment_failed",
                "payment_intent.processing",
                "payment_intent.requires_action",
                "payment_intent.succeeded",
            ),
        ),
        label="payment_intents",
        columns=(
            _ID,
            _amount("amount", "What is to be collected."),
            _amount("amount_received", "What was collected."),
            _CURRENCY,
            _CUSTOMER,
            Column("status", "string", "requires_payment_method … processing, succeeded or canceled."),
            Column("latest_charge", "string", "ID of the latest charge."),
            Column("cancellation_reason", "string"),
            _METADATA,
            _CREATED,
        ),
        shown=("id", "customer", "status", "currency", "amount", "amount_received", "created"),
        # The client secret lets whoever holds it complete the payment; it is never kept.
        volatile=(
            "client_secret",
            "next_action.redirect_to_url.url",
            "next_action.display_bank_transfer_instructions.hosted_instructions_url",
        ),
    ),
    SourceObject(
        "stripe_balance_transaction",
        "Everything that moved the account's balance, with Stripe's fees. They have no event: webhooks lead to those "
        "that an object names or an automatic payout pays out, Stripe's own fees and adjustments come with the daily "
        "read before that.",
        Endpoint("/v1/balance_transactions", "balance_transaction", settled_at=(("available_on",),), lists=(PAYOUT,)),
        label="balance_transactions",
        columns=(
            _ID,
            *_MOVED,
            _amount("net", "Amount less fee."),
            _CURRENCY,
            Column("exchange_rate", "decimal", "From the source's currency to the balance's."),
            Column("status", "string", "pending, then available."),
            Column("available_on", "timestamp", "When it can be paid out."),
            Column("source", "string", "ID of what caused it."),
            _CREATED,
        ),
        shown=("id", "type", "status", "currency", "amount", "fee", "net", "source", "available_on", "created"),
        settles=("status", "pending"),
    ),
    SourceObject(
        "stripe_credit_note",
        "What was taken back from finalized invoices, with all lines.",
        Endpoint(
            "/v1/credit_notes",
            "credit_note",
            changed_by=("credit_note.updated", "credit_note.voided"),
            lists=(INVOICE,),
        ),
        label="credit_notes",
        columns=(
            _ID,
            Column("number", "string"),
            Column("invoice", "string", "ID of the invoice."),
            _CUSTOMER,
            Column("status", "string", "issued or void."),
            Column("type", "string", "pre_payment, post_payment or mixed."),
            _CURRENCY,
            _amount("total", "Including taxes."),
            Column("customer_balance_transaction", "string", "ID of the credit to the customer's balance."),
            Column("lines", "object", "A list of all line items."),
            _METADATA,
            _CREATED,
        ),
        shown=("id", "number", "invoice", "customer", "status", "currency", "total", "created"),
        volatile=("pdf",),
    ),
    SourceObject(
        "stripe_customer_balance_transaction",
        "Everything that moved a customer's balance. They are never changed or deleted.",
        Endpoint(
            "/v1/customers/{customer}/balance_transactions",
            "customer_balance_transaction",
            changed_by=(
                "customer.created",
                "customer.updated",
                "invoice.created",
                "invoice.updated",
                "invoice.finalized",
                "invoice.paid",
                "invoice.payment_succeeded",
                "invoice.overpaid",
                "invoice.voided",
                "credit_note.created",
                "credit_note.updated",
                "credit_note.voided",
            ),
            owned_by_customer=True,
            lists=(CUSTOMER,),
        ),
        label="customer_balance_transactions",
        columns=(
            _ID,
            _CUSTOMER,
            Column("type", "string", "adjustment, applied_to_invoice, credit_note, invoice_overpaid …"),
            _amount("amount", "Negative is credit to the customer."),
            _amount("ending_balance", "The customer's balance after it."),
            _CURRENCY,
            Column("invoice", "string", "ID of the invoice."),
            Column("credit_note", "string", "ID of the credit note."),
            _CREATED,
        ),
        shown=("id", "customer", "type", "currency", "amount", "ending_balance", "invoice", "credit_note", "created"),
    ),
    SourceObject(
        "stripe_refund",
        "Money given back to customers.",
        Endpoint("/v1/refunds", "refund", changed_by=("refund.updated", "refund.failed", "charge.refund.updated")),
        columns=(
            _ID,
            _amount("amount", "What was given back."),
            _CURRENCY,
            Column("charge", "string", "ID of the charge."),
            Column("payment_intent", "string", "ID of the payment intent."),
            Column("status", "string", "pending, requires_action, succeeded, failed or canceled."),
            Column("reason", "string"),
            Column("balance_transaction", "string", "ID of what it did to the account's balance."),
            Column("failure_balance_transaction", "string", "ID of what its failure did to the account's balance."),
            _METADATA,
            _CREATED,
        ),
        shown=("id", "charge", "status", "currency", "amount", "reason", "created"),
    ),
    SourceObject(
        "stripe_payout",
        "Transfers from the account's balance to its bank account.",
        Endpoint(
            "/v1/payouts",
            "payout",
            changed_by=(
                "payout.updated",
                "payout.paid",
                "payout.failed",
                "payout.canceled",
                "payout.reconciliation_completed",
            ),
        ),
        columns=(
            _ID,
            _amount("amount", "What goes to the bank."),
            _CURRENCY,
            Column("arrival_date", "timestamp", "When it should arrive."),
            Column("status", "string", "pending, in_transit, paid, failed or canceled."),
            Column("automatic", "boolean", "Made by the payout schedule; only such ones list their transactions."),
            Column("reconciliation_status", "string", "not_applicable, in_progress or completed."),
            Column("balance_transaction", "string", "ID of what it did to the account's balance."),
            _METADATA,
            _CREATED,
        ),
        shown=("id", "status", "currency", "amount", "arrival_date", "automatic", "reconciliation_status", "created"),
    ),
    SourceObject(
        "stripe_payout_balance_transaction",
        "What each automatic payout paid out, itself included: a balance transaction under the name of its payout, as "
        "`po_…/txn_…`. Listed as soon as Stripe has reconciled the payout.",
        Endpoint(
            "/v1/balance_transactions",
            "balance_transaction",
            changed_by=("payout.reconciliation_completed",),
            owned_by_payout=True,
            lists=(PAYOUT,),
        ),
        columns=(
            _ID,
            *_MOVED,
            _amount("net", "Amount less fee. The nets of a payout, its own included, come to nothing."),
            _CURRENCY,
            Column("source", "string", "ID of what caused it."),
            Column("available_on", "timestamp", "When it could be paid out."),
            _CREATED,
        ),
        shown=("id", "type", "currency", "amount", "fee", "net", "source", "available_on", "created"),
    ),
    SourceObject(
        "stripe_dispute",
        "Charges that a customer's bank took back or may take back.",
        Endpoint(
            "/v1/disputes",
            "dispute",
            changed_by=(
                "charge.dispute.updated",
                "charge.dispute.closed",
                "charge.dispute.funds_withdrawn",
                "charge.dispute.funds_reinstated",
            ),
        ),
        columns=(
            _ID,
            _amount("amount", "What is disputed."),
            _CURRENCY,
            Column("charge", "string", "ID of the charge."),
            Column("payment_intent", "string", "ID of the payment intent."),
            Column("status", "string", "needs_response, under_review, won, lost …"),
            Column("reason", "string"),
            Column("balance_transactions", "array", "What it did to the account's balance."),
            _METADATA,
            _CREATED,
        ),
        shown=("id", "charge", "status", "reason", "currency", "amount", "created"),
        # These follow from the clock without any event. The balance transactions themselves are read until settled.
        volatile=("balance_transactions.*.status", "evidence_details.past_due"),
    ),
    SourceObject(
        "stripe_invoice_payment",
        "Payments allocated to invoices; an invoice may have several.",
        Endpoint(
            "/v1/invoice_payments",
            "invoice_payment",
            changed_by=("invoice_payment.paid",),
            settled_at=(("status_transitions", "paid_at"), ("status_transitions", "canceled_at")),
            lists=(PAYMENT_INTENT, INVOICE),
        ),
        columns=(
            _ID,
            Column("invoice", "string", "ID of the invoice."),
            _amount("amount_requested", "What is to be paid."),
            _amount("amount_paid", "What was paid; null until then."),
            _CURRENCY,
            Column("status", "string", "open, paid or canceled."),
            Column("payment", "object", "The payment intent or payment record."),
            Column("is_default", "boolean"),
            _CREATED,
        ),
        shown=("id", "invoice", "status", "currency", "amount_requested", "amount_paid", "created"),
        # There is an event when one is paid, none when one is canceled.
        settles=("status", "open"),
    ),
    SourceObject(
        "stripe_event",
        "Stripe's log of what happened, as it recorded it at the time. Kept there for 30 days.",
        Endpoint("/v1/events", "event", snapshots=True),
        columns=(
            _ID,
            Column("type", "string", "Such as invoice.paid."),
            Column("api_version", "string", "The version in which its data is written."),
            Column("data", "object", "The object, and what its changed fields held before."),
            Column("request", "object", "ID of the request that caused it."),
            _LIVEMODE,
            _CREATED,
        ),
        shown=("id", "type", "api_version", "created"),
        volatile=(
            "pending_webhooks",
            "data.object.hosted_invoice_url",
            "data.object.invoice_pdf",
            "data.object.receipt_url",
            "data.object.pdf",
            "data.object.client_secret",
        ),
    ),
    SourceObject(
        "stripe_balance",
        "What the account holds now: available, pending and by source.",
        Endpoint("/v1/balance", "balance"),
        reads=Reads.SNAPSHOT,
        columns=(
            Column("available", "array", "Amounts that can be paid out, by currency."),
            Column("pending", "array", "Amounts that cannot yet, by currency."),
            _LIVEMODE,
        ),
        shown=("livemode",),
    ),
)


def _with_memory(obj: StripeObject) -> StripeObject:
    """`obj` with how long Stripe tells what changed of it, where events are what tells."""
    if obj.detail.snapshots:
        return replace(obj, changes_known_for=EVENT_LOG, beyond=DayState.UNOBSERVABLE)
    if obj.detail.changed_by or obj.detail.owned_by_customer:
        return replace(obj, changes_known_for=EVENT_LOG)
    return obj


OBJECTS: tuple[StripeObject, ...] = tuple(_with_memory(obj) for obj in _DECLARED)
