"""Losses: what is open of an invoice that Stripe calls uncollectible is written off, and taken back where it is paid.

With a bad-debt item in the rules, a credit memo (Dr bad debt, Cr Accounts Receivable) over what was open settles it:
direct write-off, as Intuit describes it for QuickBooks
(https://quickbooks.intuit.com/learn-support/en-us/help-article/write-bad-debts/write-bad-debt-quickbooks-online/L5ONKhhPF_US_en_US).
Every payment that comes after all voids that memo right before it, and what is open behind it is written off by
another one; a void takes the last one back. QuickBooks' void leaves nothing of a memo, on no day: one that would be
voided is therefore not made any more. Without such an item the invoice stays open, as it does at Stripe.

A memo in a closed period stays: what is paid after it is booked, but not applied to an invoice of which nothing is open
any more, and it is raised, for the accountant to take the loss back in the open period.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import LinkKey, Operation, references
from finance_os.stripe_qbo.mapping.balances import Balances
from finance_os.stripe_qbo.mapping.customers import Customers
from finance_os.stripe_qbo.mapping.drafts import Drafts
from finance_os.stripe_qbo.mapping.invoices import application_of, invoice_key, is_corrected, settle_by_memo
from finance_os.stripe_qbo.mapping.payments import payment_key
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.stripe_objects import Invoice, InvoicePayment

_Paid = tuple[int, int, InvoicePayment]
"""A moment, how much of an invoice in minor units, and what paid it."""


def write_off_key(invoice: str, number: int = 1) -> LinkKey:
    """The key of the memo that writes an invoice off for the first time, or again."""
    return LinkKey("invoice", invoice, "write_off" if number == 1 else f"write_off_{number}")


def book(drafts: Drafts, customers: Customers, balances: Balances) -> None:
    """Write off what was given up from the balance date on. Comes behind the payments."""
    for invoice in drafts.stripe.invoice.values():
        given_up = invoice.status_transitions.marked_uncollectible_at
        if given_up is None or not drafts.is_ours(given_up) or not drafts.has(invoice_key(invoice.id)):
            continue
        if invoice.status in ("uncollectible", "paid", "void"):
            with drafts.booking(invoice.id, given_up):
                _book(drafts, customers, balances, invoice, given_up)


def _book(drafts: Drafts, customers: Customers, balances: Balances, invoice: Invoice, given_up: int) -> None:
    item = drafts.rules.bad_debt_item
    if item is None:
        if invoice.status == "uncollectible":
            drafts.find(
                "invoice_uncollectible",
                Severity.MEDIUM,
                invoice.id,
                drafts.day(given_up),
                "Given up at Stripe and still open in QuickBooks: the rules name no bad-debt item to write it off.",
            )
        return
    collects = balances.collects(invoice.id)
    paid = _paid_after(drafts, balances, invoice, given_up)
    due = invoice.amount_remaining - collects
    still_open = drafts.open_amounts.get(invoice.id, due)
    if still_open != due and invoice.status != "void":
        drafts.waiting.add(invoice.id)
        raise NotBooked(
            "write_off_waits",
            f"What is booked of it leaves {still_open} {invoice.currency.upper()} (minor units) open, and Stripe says "
            f"{due}: it is written off once both are the same.",
            Severity.MEDIUM,
        )
    left = still_open + sum(part for _, part, _ in paid)
    moment, evidence = given_up, (f"invoice:{invoice.id}",)
    ends = [(each, part) for each, part, _ in paid]
    if invoice.status == "void" and not is_corrected(drafts, invoice.id):
        ends.append((invoice.status_transitions.voided_at or given_up, left))
    # Before whatever is still to be written, for which the invoice must be open again.
    first = min(_unwritten(drafts, invoice), default=None)
    for number, end in enumerate([*ends, None], 1):
        if left <= 0:
            return
        key = write_off_key(invoice.id, number)
        note = f"Writes off invoice {invoice.id}, uncollectible at Stripe."
        if end is None or drafts.was_booked(key):
            settle_by_memo(drafts, customers, invoice, key, left, moment, item, note)
        if end is None:
            break
        moment, part = end
        if number <= len(paid) and _is_kept(drafts, key):
            _leave_unapplied(drafts, invoice, paid[number - 1 :])
            break
        if drafts.was_booked(key):
            until = min(moment, first or moment) - 1
            drafts.release(application_of(key), moment=until, evidence=evidence)
            drafts.void(key, "CreditMemo", moment=until, evidence=evidence)
            drafts.open_amounts[invoice.id] = drafts.open_amounts.get(invoice.id, 0) + left
        left -= part
    if collects and invoice.status == "uncollectible":
        drafts.find(
            "debit_of_lost_invoice",
            Severity.MEDIUM,
            invoice.id,
            drafts.day(given_up),
            f"It is written off, and {collects} {invoice.currency.upper()} (minor units) of the customer's balance, "
            "which it was to collect, stay open: write them off in QuickBooks too, or collect them otherwise.",
        )


def _is_kept(drafts: Drafts, memo: LinkKey) -> bool:
    """Whether a memo stands in a closed period, of which QuickBooks takes no change."""
    closed, stands_on = drafts.books.closed_until, drafts.stands_on(memo)
    return closed is not None and stands_on is not None and stands_on <= closed and not drafts.is_void(memo)


def _leave_unapplied(drafts: Drafts, invoice: Invoice, paid: Sequence[_Paid]) -> None:
    """Leave the payments that came after a write-off that is kept unapplied, and tell it."""
    minor, settled = sum(part for _, part, _ in paid), str(invoice_key(invoice.id))
    for _, _, payment in paid:
        for key in (payment_key(payment.id), *_charged_as(drafts, payment)):
            draft = drafts.drafts.get((key, Operation.CREATE))
            if draft is not None:
                lines = [each for each in draft.intent.payload["Line"] if settled not in references(each)]
                intent = replace(draft.intent, payload={**draft.intent.payload, "Line": lines})
                drafts.drafts[key, Operation.CREATE] = replace(draft, intent=intent)
    drafts.open_amounts[invoice.id] = drafts.open_amounts.get(invoice.id, 0) + minor
    drafts.find(
        "void_in_closed_period",
        Severity.HIGH,
        invoice.id,
        drafts.day(paid[0][0]),
        f"Paid at Stripe after it was written off, and its write-off lies in a closed period: {minor} "
        f"{invoice.currency.upper()} (minor units) are booked as payments that are not applied. Take the loss back in "
        "the open period, against them.",
    )


def _charged_as(drafts: Drafts, payment: InvoicePayment) -> Iterator[LinkKey]:
    """The payments that its charges were booked as before it was known what they paid."""
    for charge in drafts.stripe.charges_of.get(payment.payment.payment_intent or payment.payment.charge or "", ()):
        yield LinkKey("charge", charge.id, "payment")


def _paid_after(drafts: Drafts, balances: Balances, invoice: Invoice, given_up: int) -> list[_Paid]:
    """When what was paid of an invoice after all reached QuickBooks, how much of it, and by which payment."""
    found: list[_Paid] = []
    for each in drafts.stripe.payments_on.get(invoice.id, ()):
        part, paid_at = balances.paid.get(payment_key(each.id), 0), each.status_transitions.paid_at or 0
        if part and paid_at >= given_up:
            found.append((min(paid_at, _reached(drafts, each) or paid_at), part, each))
    return sorted(found, key=lambda each: (each[0], each[1], each[2].id))


def _unwritten(drafts: Drafts, invoice: Invoice) -> Iterator[int]:
    """The moments of the payments of an invoice that are not written yet."""
    for each in drafts.stripe.payments_on.get(invoice.id, ()):
        moment = _reached(drafts, each) or each.status_transitions.paid_at
        if each.status == "paid" and moment is not None and not drafts.was_booked(payment_key(each.id)):
            yield moment


def _reached(drafts: Drafts, payment: InvoicePayment) -> int | None:
    """The moment that its payment is booked at."""
    charges = drafts.stripe.charges_of.get(payment.payment.payment_intent or payment.payment.charge or "", ())
    moves = [moved for charge in charges for moved in drafts.stripe.movements_of.get(charge.id, ())]
    return min((moved.created for moved in moves if moved.reporting_category == "charge"), default=None)
