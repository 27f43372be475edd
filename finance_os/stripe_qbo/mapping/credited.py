"""What Stripe did with a credit note, and the lines of the forms that stand for its parts.

https://docs.stripe.com/api/credit_notes/object: a note reduced its open invoice (`pre_payment_amount`), went to the
customer's balance, was refunded, or was credited outside of Stripe: `out_of_band_amount`, and refunds of payments that
Stripe only has a record of. Together these are its amount, or it is not booked.
"""

from dataclasses import dataclass
from typing import Any

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.mapping.drafts import Drafts
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.mapping.sale_lines import sale_line, sale_lines
from finance_os.stripe_qbo.mapping.unstaged import read_day
from finance_os.stripe_qbo.stripe_objects import CreditNote


@dataclass(frozen=True)
class Parts:
    """The parts of a credit note, in minor units."""

    applied: int
    to_balance: int
    refunded: int
    outside: int


def dated(note: CreditNote) -> int:
    """The moment of the date that a credit note bears."""
    return note.effective_at or note.created


def parts_of(drafts: Drafts, note: CreditNote) -> Parts:
    """What Stripe did with a credit note. Raises `NotBooked` where that does not come to its amount."""
    refunded, outside = 0, outside_of(note)
    for each in note.refunds:
        if not _is_outside(each.type, each.refund):
            refunded += each.amount_refunded
    to_balance = _to_balance(drafts, note)
    if note.pre_payment_amount + to_balance + refunded + outside != note.amount:
        raise NotBooked("credit_note_does_not_sum", "What Stripe did with it does not come to its amount.")
    return Parts(note.pre_payment_amount, to_balance, refunded, outside)


def outside_of(note: CreditNote) -> int:
    """What of a credit note was credited outside of Stripe, in minor units."""
    recorded = sum(each.amount_refunded for each in note.refunds if _is_outside(each.type, each.refund))
    return (note.out_of_band_amount or 0) + recorded


def has_tax(note: CreditNote) -> bool:
    return any(each.amount for each in note.total_taxes or ())


def lines_of(drafts: Drafts, note: CreditNote, minor: int) -> list[dict[str, Any]]:
    """The lines of a form over `minor` of a credit note: Stripe's where that is all of it, else one. Raises
    `NotBooked` where tax would have to be split."""
    item = drafts.item(drafts.rules.credit_item)
    if minor == note.amount and not note.lines.has_more:
        return sale_lines(
            drafts,
            item,
            note.lines.data,
            note.currency,
            total=note.amount,
            discount=note.discount_amount,
            taxes=note.total_taxes or (),
            shipping=note.amount_shipping,
        )
    if has_tax(note):
        raise NotBooked("credit_note_splits_tax", "It has tax and was only partly refunded.")
    return [sale_line(drafts, item, f"Credit note {note.number or note.id}", minor, note.currency)]


def _is_outside(kind: str, refund: str | None) -> bool:
    """Whether a refund of a credit note is none that Stripe made."""
    return kind != "refund" or refund is None


def _to_balance(drafts: Drafts, note: CreditNote) -> int:
    """What of a credit note went to the customer's balance. Raises `NotBooked`."""
    if note.customer_balance_transaction is None:
        return 0
    moved = drafts.stripe.customer_balance_transaction.get(note.customer_balance_transaction)
    if moved is None:
        raise NotBooked(
            "waits_for_another",
            f"Its customer balance transaction {note.customer_balance_transaction} is not staged: read the day of both "
            f"with {read_day(drafts.day(note.created))}.",
            Severity.MEDIUM,
        )
    return -moved.amount
