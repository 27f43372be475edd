"""What something since the balance date belongs to and is not staged: mostly it is older than what was read.

Nothing of it is guessed and nothing passed over: it is an exception that says which object, and what reads it.
"""

from datetime import date

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.mapping.drafts import Drafts
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.stripe_objects import BalanceTransaction

_SOURCES = {"charge": "charge", "partial_capture_reversal": "charge", "refund": "refund"}
"""Reporting categories of what is booked with the object that caused it, and what that is."""

_DAY = 86_400


def not_staged(
    what: str, kind: str, stripe_id: str, severity: Severity = Severity.MEDIUM, code: str = "waits_for_another"
) -> NotBooked:
    """That an object of a kind (Stripe's word for it) is not staged, which something needs: `what` says whose it is."""
    return NotBooked(
        code,
        f"{what} {stripe_id} is not staged: read it with `finance-os replay --read --object {kind}:{stripe_id}`.",
        severity,
    )


def read_day(day: date) -> str:
    """What reads a day of what cannot be read by itself."""
    return f"`finance-os replay --read --from {day} --to {day}`"


def is_history(drafts: Drafts, created: int) -> bool:
    """Whether the balance transaction of something created then need not be staged, as it lies before the balance date
    and the rules state what Stripe held by then."""
    return drafts.rules.opening_stripe_balance is not None and not drafts.is_ours(created)


def if_older(drafts: Drafts, what: str) -> str:
    """Where Stripe's history need not be staged: what to do if something is missing because it is older."""
    if drafts.rules.opening_stripe_balance is None:
        return ""
    return (
        f" If {what} older than what is staged, read the day on which that was made: `finance-os replay --read --from "
        "DAY --to DAY`."
    )


def check(drafts: Drafts) -> None:
    """Find the charges and refunds that moved the balance since the balance date, and are not staged themselves."""
    for moved in drafts.stripe.balance_transaction.values():
        kind = _missing(drafts, moved)
        if kind is not None and drafts.is_ours(moved.created):
            # What happened last may be on its way here.
            is_new = moved.created > drafts.stripe.latest - _DAY
            with drafts.booking(moved.id, moved.created):
                raise not_staged(f"Its {kind}", kind, moved.source or "", Severity.LOW if is_new else Severity.MEDIUM)


def _missing(drafts: Drafts, moved: BalanceTransaction) -> str | None:
    """What kind of object a balance transaction is of, where that is not staged."""
    kind = _SOURCES.get(moved.reporting_category)
    held = {"charge": drafts.stripe.charge, "refund": drafts.stripe.refund}.get(kind or "")
    return kind if held is not None and moved.source is not None and moved.source not in held else None
