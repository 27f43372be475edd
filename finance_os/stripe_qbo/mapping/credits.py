"""Credits to customers: credit notes as credit memos, by what Stripe did with each of them.

https://docs.stripe.com/api/credit_notes/object:
- What reduced the open invoice and what went to the customer's balance is a credit memo (Dr the credit item's account,
  Cr Accounts Receivable); the first is applied to its invoice at once, the second waits for the next (`balances`).
- What was refunded is a refund receipt, booked once, by `refunds`.
- What was settled out of band is a refund receipt out of the account that the rules name for it, or else part of the
  memo, which stays open by it, and told (`outside_credits`).
- A voided credit note: its memo and receipt are voided, and what it had settled is open again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping import outside_credits
from finance_os.stripe_qbo.mapping.balances import Balances
from finance_os.stripe_qbo.mapping.credited import dated, lines_of, parts_of
from finance_os.stripe_qbo.mapping.customers import Customers
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of, short_number
from finance_os.stripe_qbo.mapping.invoices import apply_credit, invoice_key, require_free
from finance_os.stripe_qbo.mapping.unstaged import not_staged
from finance_os.stripe_qbo.stripe_objects import CreditNote


def memo_key(note: str) -> LinkKey:
    return LinkKey("credit_note", note, "credit_memo")


def application_key(note: str) -> LinkKey:
    return LinkKey("credit_note", note, "application")


@dataclass
class Credits:
    """Books credit notes and, as things happened, what moved the customers' `balances`."""

    drafts: Drafts
    customers: Customers
    balances: Balances

    def book(self) -> None:
        """Book every credit and its use from the balance date on, as they happened."""
        notes = self.drafts.stripe.credit_note.values()
        moves = self.drafts.stripe.customer_balance_transaction.values()
        invoices = self.drafts.stripe.invoice.values()
        voided = [(each.status_transitions.voided_at, each) for each in invoices if each.status == "void"]
        # A credit note comes before the movement of the customer's balance that it caused; movements of one second come
        # as the evidence has them.
        happened: Iterable[tuple[int, int, str, Callable[[], None]]] = chain(
            (
                (dated(each), 0, each.id, partial(self._credit_note, each))
                for each in sorted(notes, key=lambda each: each.id)
            ),
            ((each.created, 1, each.id, partial(self.balances.moved, each)) for each in moves),
            (
                (moment, 2, each.id, partial(self.balances.give_back, each.id))
                for moment, each in sorted(voided, key=lambda each: each[1].id)
                if moment is not None
            ),
        )
        for moment, _, subject, rule in sorted(happened, key=lambda each: each[:2]):
            if self.drafts.is_ours(moment):
                with self.drafts.booking(subject, moment):
                    rule()

    # --- credit notes

    def _credit_note(self, note: CreditNote) -> None:
        moment, key = dated(note), memo_key(note.id)
        parts = parts_of(self.drafts, note)
        if note.amount == parts.refunded:
            return
        if note.invoice not in self.drafts.stripe.invoice:
            raise not_staged("Its invoice", "invoice", note.invoice)
        common = {
            **self.drafts.in_currency(note.currency, self.drafts.day(moment)),
            "CustomerRef": self.customers.need(note.customer, note.currency, moment),
        }
        why_in_memo = outside_credits.why_in_memo(self.drafts, key, note, parts)
        apart = parts.outside if why_in_memo is None else 0
        in_memo = note.amount - parts.refunded - apart
        if in_memo:
            self._memo(note, in_memo, common)
        elif self.drafts.was_booked(key):  # all that was in it is in the receipt now
            self._memo(note, parts.outside, common)
            self.drafts.void(key, "CreditMemo", moment=moment, evidence=(f"credit_note:{note.id}",))
        if apart:
            outside_credits.book(self.drafts, note, apart, common)
        elif why_in_memo is not None and note.status != "void":
            outside_credits.tell(self.drafts, note, parts.outside, why_in_memo)
        if parts.applied:
            with self.drafts.booking(note.id, moment):
                self._apply(note, parts.applied, common)
        if parts.to_balance:
            self.balances.pools[note.customer, note.currency][key] = parts.to_balance
        if note.status == "void" and note.voided_at is not None:
            self._void(note, note.voided_at)

    def _memo(self, note: CreditNote, minor: int, common: Mapping[str, Any]) -> None:
        key = memo_key(note.id)
        number = short_number(note.number or number_of(note.id))
        lines = lines_of(self.drafts, note, minor)
        require_free(self.drafts, key, "CreditMemo", number)
        self.drafts.create(
            key,
            "CreditMemo",
            {"DocNumber": number, **common, "Line": lines},
            moment=dated(note),
            rank=Rank.CREDIT,
            note=f"Stripe credit note {note.id} for invoice {note.invoice}",
            evidence=(f"credit_note:{note.id}",),
        )

    def _apply(self, note: CreditNote, minor: int, common: dict[str, Any]) -> None:
        """Settle its invoice with what reduced it. Raises `NotBooked`."""
        parts = ((invoice_key(note.invoice), "Invoice", minor), (memo_key(note.id), "CreditMemo", minor))
        text, evidence = f"Stripe credit note {note.id}", (f"credit_note:{note.id}",)
        apply_credit(self.drafts, application_key(note.id), common, parts, note.currency, dated(note), text, evidence)
        self._reduce(note.invoice, minor)

    def _void(self, note: CreditNote, moment: int) -> None:
        """Take a voided note back: its application first, then what it was booked as."""
        key, receipt = memo_key(note.id), outside_credits.receipt_key(note.id)
        evidence = (f"credit_note:{note.id}",)
        self.drafts.release(application_key(note.id), moment=moment, evidence=evidence)
        if self.drafts.has(key):
            self.drafts.void(key, "CreditMemo", moment=moment, evidence=evidence)
        if self.drafts.has(receipt):
            self.drafts.void(receipt, "RefundReceipt", moment=moment, evidence=evidence)
        self._reduce(note.invoice, -note.pre_payment_amount)
        self.balances.pools[note.customer, note.currency].pop(key, None)

    def _reduce(self, invoice: str, minor: int) -> None:
        if invoice in self.drafts.open_amounts:
            self.drafts.open_amounts[invoice] -= minor
