"""What Stripe says, as the export needs it: the current records of a business, and which of them belong together."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from finance_os.evidence.database import DatabaseConnection
from finance_os.stripe_qbo import stripe_balance
from finance_os.stripe_qbo.balance_order import in_order
from finance_os.stripe_qbo.stripe_objects import (
    BalanceTransaction,
    Charge,
    CreditNote,
    Customer,
    CustomerBalanceTransaction,
    Invoice,
    InvoicePayment,
    PaidOut,
    Payout,
    Refund,
)

SYSTEM = "stripe"


@dataclass(frozen=True)
class StripeEvidence:
    """Every current record by its ID, in the order of creation; movements of a customer's balance as it went on
    (`balance_order`). `paid_out` is what each automatic payout paid out, its own balance transaction included, by the
    payout's ID. `hashes` has the payload hash of each, as hex, without those of what was paid out; `accounts` are the
    Stripe accounts that they were read from, where that is known."""

    customer: Mapping[str, Customer] = field(default_factory=dict)
    invoice: Mapping[str, Invoice] = field(default_factory=dict)
    invoice_payment: Mapping[str, InvoicePayment] = field(default_factory=dict)
    charge: Mapping[str, Charge] = field(default_factory=dict)
    balance_transaction: Mapping[str, BalanceTransaction] = field(default_factory=dict)
    refund: Mapping[str, Refund] = field(default_factory=dict)
    credit_note: Mapping[str, CreditNote] = field(default_factory=dict)
    customer_balance_transaction: Mapping[str, CustomerBalanceTransaction] = field(default_factory=dict)
    payout: Mapping[str, Payout] = field(default_factory=dict)
    paid_out: Mapping[str, tuple[PaidOut, ...]] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    accounts: tuple[str, ...] = ()
    readings: tuple[stripe_balance.Reading, ...] | None = None
    """What Stripe said that the account held, the newest first; `None` where nobody looked."""
    payouts_read: tuple[tuple[int, int], ...] | None = None
    """The spans of time of which payouts were read; `None` where nobody looked."""

    @cached_property
    def movements_of(self) -> Mapping[str, tuple[BalanceTransaction, ...]]:
        """The balance transactions of each source, in order."""
        found: dict[str, list[BalanceTransaction]] = defaultdict(list)
        for each in self.balance_transaction.values():
            if each.source is not None:
                found[each.source].append(each)
        return {source: tuple(held) for source, held in found.items()}

    @cached_property
    def charges_of(self) -> Mapping[str, tuple[Charge, ...]]:
        """The charges by their own ID and by that of their payment intent, in order."""
        found: dict[str, list[Charge]] = defaultdict(list)
        for each in self.charge.values():
            for named in (each.id, each.payment_intent):
                if named is not None:
                    found[named].append(each)
        return {named: tuple(held) for named, held in found.items()}

    @cached_property
    def payments_of(self) -> Mapping[str, tuple[InvoicePayment, ...]]:
        """The invoice payments of each payment intent or charge that they name, in order."""
        found: dict[str, list[InvoicePayment]] = defaultdict(list)
        for each in self.invoice_payment.values():
            named = each.payment.payment_intent or each.payment.charge
            if named is not None:
                found[named].append(each)
        return {named: tuple(held) for named, held in found.items()}

    @cached_property
    def payments_on(self) -> Mapping[str, tuple[InvoicePayment, ...]]:
        """The invoice payments of each invoice, in order."""
        return _by_invoice(self.invoice_payment.values())

    @cached_property
    def notes_on(self) -> Mapping[str, tuple[CreditNote, ...]]:
        """The credit notes of each invoice, in order."""
        return _by_invoice(self.credit_note.values())

    @cached_property
    def moves_on(self) -> Mapping[str, tuple[CustomerBalanceTransaction, ...]]:
        """The customer balance transactions that name each invoice, in order."""
        return _by_invoice(self.customer_balance_transaction.values())

    @cached_property
    def note_of_refund(self) -> Mapping[str, CreditNote]:
        """The credit note that each refund was made for."""
        return {
            each.refund: note
            for note in self.credit_note.values()
            for each in note.refunds
            if each.refund is not None and note.status != "void"
        }

    @cached_property
    def latest(self) -> int:
        """The newest moment that the evidence knows of."""
        return max((each.created for each in self.balance_transaction.values()), default=0)

    def hashes_of(self, *names: str) -> dict[str, str]:
        """The payload hashes of the records named as `object:id`; those that are not there are left out."""
        return {name: self.hashes[name] for name in names if name in self.hashes}


_OfInvoice = TypeVar("_OfInvoice", InvoicePayment, CreditNote, CustomerBalanceTransaction)


def _by_invoice(records: Iterable[_OfInvoice]) -> dict[str, tuple[_OfInvoice, ...]]:
    found: dict[str, list[_OfInvoice]] = defaultdict(list)
    for each in records:
        if each.invoice is not None:
            found[each.invoice].append(each)
    return {invoice: tuple(held) for invoice, held in found.items()}


_KINDS: Mapping[str, type[Any]] = {
    "customer": Customer,
    "invoice": Invoice,
    "invoice_payment": InvoicePayment,
    "charge": Charge,
    "balance_transaction": BalanceTransaction,
    "refund": Refund,
    "credit_note": CreditNote,
    "customer_balance_transaction": CustomerBalanceTransaction,
    "payout": Payout,
}

_PAID_OUT = "payout_balance_transaction"

OBJECT_TYPES = tuple(f"{SYSTEM}_{kind}" for kind in (*_KINDS, _PAID_OUT))
"""What a plan is made from, as it is staged."""

_DECODE_PAID_OUT = msgspec.json.Decoder(PaidOut).decode

Payload = tuple[str, str | bytes, str]
"""A record: source ID, payload as JSON, payload hash as hex."""


def evidence_of(
    records: Mapping[str, Iterable[Payload]],
    accounts: tuple[str, ...] = (),
    readings: tuple[stripe_balance.Reading, ...] | None = None,
    payouts: tuple[tuple[int, int], ...] | None = None,
) -> StripeEvidence:
    """The evidence made of `records`, by Stripe's word for the object. Raises `msgspec.ValidationError` for a payload
    that lacks what Stripe promises."""
    found: dict[str, dict[str, Any]] = {}
    hashes: dict[str, str] = {}
    paid_out: dict[str, list[PaidOut]] = defaultdict(list)
    for source_id, payload, _ in records.get(_PAID_OUT, ()):
        paid_out[source_id.partition("/")[0]].append(_DECODE_PAID_OUT(payload))
    for kind, rows in records.items():
        if kind == _PAID_OUT:
            continue
        decode = msgspec.json.Decoder(_KINDS[kind]).decode
        held: list[Any] = []
        for source_id, payload, payload_hash in rows:
            hashes[f"{kind}:{source_id}"] = payload_hash
            held.append(decode(payload))
        in_time = in_order if kind == "customer_balance_transaction" else _by_creation
        found[kind] = {each.id: each for each in in_time(held)}
    return StripeEvidence(
        **found,
        paid_out={payout: tuple(held) for payout, held in paid_out.items()},
        hashes=hashes,
        accounts=accounts,
        readings=readings,
        payouts_read=payouts,
    )


def _by_creation(held: Iterable[Any]) -> list[Any]:
    return sorted(held, key=lambda each: (each.created, each.id))


def load(connection: DatabaseConnection, business_id: str) -> StripeEvidence:
    """What is staged of a business, within the caller's transaction. Customers are as they were first seen, also those
    that have been deleted since."""
    accounts = tuple(
        row["external_account"]
        for row in connection.execute(
            """
            SELECT external_account FROM finance_os.connections AS connection
            WHERE business_id = %(business_id)s AND source_system = %(system)s
              AND EXISTS (SELECT FROM finance_os.raw_record_heads AS head
                          WHERE head.business_id = %(business_id)s AND head.source_system = %(system)s
                            AND head.object_type = ANY (%(types)s) AND NOT head.removed
                            AND head.connection_id = connection.connection_id)
            ORDER BY external_account
            """,
            {"business_id": business_id, "system": SYSTEM, "types": list(OBJECT_TYPES)},
        )
    )
    kinds = [kind for kind in (*_KINDS, _PAID_OUT) if kind != "customer"]
    records: dict[str, Iterable[Payload]] = {kind: _heads(connection, business_id, kind) for kind in kinds}
    readings, payouts = stripe_balance.load(connection, business_id, OBJECT_TYPES)
    return evidence_of({**records, "customer": _first_seen(connection, business_id)}, accounts, readings, payouts)


def _heads(connection: DatabaseConnection, business_id: str, kind: str) -> Iterator[Payload]:
    rows = connection.execute(
        """
        SELECT head.source_id, record.payload::text AS payload, encode(record.payload_hash, 'hex') AS hash
        FROM finance_os.raw_record_heads AS head
        JOIN finance_os.raw_source_records AS record USING (record_id)
        WHERE head.business_id = %s AND head.source_system = %s AND head.object_type = %s AND NOT head.removed
        """,
        (business_id, SYSTEM, f"{SYSTEM}_{kind}"),
    )
    for row in rows:
        yield row["source_id"], row["payload"], row["hash"]


def _first_seen(connection: DatabaseConnection, business_id: str) -> Iterator[Payload]:
    rows = connection.execute(
        """
        SELECT DISTINCT ON (source_id) source_id, payload::text AS payload, encode(payload_hash, 'hex') AS hash
        FROM finance_os.raw_source_records
        WHERE business_id = %s AND source_system = %s AND object_type = 'stripe_customer'
          AND NOT coalesce((payload ->> 'deleted')::boolean, false)
        ORDER BY source_id, record_id
        """,
        (business_id, SYSTEM),
    )
    for row in rows:
        yield row["source_id"], row["payload"], row["hash"]
