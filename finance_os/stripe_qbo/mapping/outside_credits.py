"""Credit that was paid back outside of Stripe: a refund receipt out of the account that the rules name for that.

- What Stripe records of a credit note as credited outside of it (`credited`) is a refund receipt with the credit item:
  Dr its account, Cr the rules' `outside_account`, on the note's day; the credit memo is over the rest only. So it is
  booked once, nothing stays open, and receivables are left alone, as with what Stripe refunds itself (`refunds`).
- Without such an account it is part of the credit memo, which stays open by so much until an accountant books how it
  was paid. The same where a note with tax was only partly paid back so, because tax cannot be split.
- A memo that was written over all of it gives its part up once the rules name an account: it is reduced, or voided
  where nothing else was in it. It does not where it stands in a closed period, or where someone has used the credit in
  QuickBooks, who will have booked it: then it stays as it is.
- A voided credit note, which only an open invoice can have (https://docs.stripe.com/api/credit_notes/void): the receipt
  is voided with the memo.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.amounts import stripe_minor
from finance_os.stripe_qbo.mapping.credited import Parts, dated, has_tax, lines_of
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of, short_number
from finance_os.stripe_qbo.stripe_objects import CreditNote


def receipt_key(note: str) -> LinkKey:
    return LinkKey("credit_note", note, "refund_receipt")


def why_in_memo(drafts: Drafts, memo: LinkKey, note: CreditNote, parts: Parts) -> str | None:
    """Why what was paid back outside of Stripe stays in the credit memo; `None` where a receipt is booked for it, or
    nothing was."""
    if not parts.outside or drafts.was_booked(receipt_key(note.id)):
        return None
    if drafts.rules.outside_account is None:
        return "Name the account that it was paid from in the rules (`outside_account`), or book it by hand."
    if has_tax(note) and parts.outside != note.amount:
        return "Its tax cannot be split between the memo and a refund receipt: book it by hand."
    held = _held(drafts, memo, note.currency)
    if held is None or held != note.amount - parts.refunded:
        return None
    if note.status == "void":
        return "It is void, and its memo with it."
    if drafts.is_void(memo):
        return None
    closed, stands_on = drafts.books.closed_until, drafts.stands_on(memo)
    if closed is not None and stands_on is not None and stands_on <= closed:
        return f"The memo lies in a closed period ({stands_on}): book by hand how it was paid."
    shown = drafts.books.marked.get(memo)
    left = shown.remaining_credit if shown is not None else None
    if left is not None and stripe_minor(left, note.currency) < parts.outside:
        return "It has been used in QuickBooks: see there that it is booked as it was paid."
    return None


def book(drafts: Drafts, note: CreditNote, minor: int, common: Mapping[str, Any]) -> None:
    """Book the receipt over `minor` of a credit note; `common` are its customer, currency and rate. Raises
    `NotBooked`."""
    key = receipt_key(note.id)
    drafts.create(
        key,
        "RefundReceipt",
        {
            "DocNumber": number_of(note.id),
            **common,
            "DepositToAccountRef": _account(drafts, key),
            "PaymentRefNum": short_number(note.number or number_of(note.id)),
            "Line": lines_of(drafts, note, minor),
        },
        moment=dated(note),
        rank=Rank.REFUND,
        note=f"Stripe credit note {note.id} for invoice {note.invoice}, paid back outside of Stripe",
        evidence=(f"credit_note:{note.id}",),
    )


def tell(drafts: Drafts, note: CreditNote, minor: int, why: str) -> None:
    """Find that a credit memo stays open by what was paid back outside of Stripe."""
    drafts.find(
        "credit_settled_outside_stripe",
        Severity.MEDIUM,
        note.id,
        drafts.day(dated(note)),
        f"{minor} {note.currency.upper()} (minor units) of it were settled outside of Stripe: its credit "
        f"memo stays open by so much until that is booked. {why}",
    )


def _account(drafts: Drafts, key: LinkKey) -> dict[str, str]:
    """The rules' account; where they name none any more, the one that the receipt was written with."""
    name = drafts.rules.outside_account
    if name is not None:
        return drafts.account(name)
    written = drafts.made(key)
    if written is not None:
        return dict(written.now["DepositToAccountRef"])
    shown = drafts.books.marked[key].deposit_to_account_ref
    return {"value": shown.value if shown is not None else ""}


def _held(drafts: Drafts, memo: LinkKey, currency: str) -> int | None:
    """What a credit memo is over that the export has written, in minor units; `None` where there is none."""
    written, shown = drafts.made(memo), drafts.books.marked.get(memo)
    if written is not None:
        lines = written.now["Line"]
        total = sum((_signed(line) for line in lines), Decimal(0))
        return stripe_minor(total, currency)
    return stripe_minor(shown.total_amt, currency) if shown is not None else None


def _signed(line: Mapping[str, Any]) -> Decimal:
    amount = Decimal(line["Amount"])
    return -amount if line.get("DetailType") == "DiscountLineDetail" else amount
