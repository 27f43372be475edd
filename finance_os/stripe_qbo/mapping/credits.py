"""Credits to customers: credit notes as credit memos, by what Stripe did with each of them.

https://docs.stripe.com/api/credit_notes/object:
- What reduced the open invoice and what went to the customer's balance is a credit memo (Dr the credit item's account,
  Cr Accounts Receivable); the first is applied to its invoice at once, the second waits for the next (`balances`).
- What was refunded is a refund receipt, booked once, by `refunds`.
- What was settled out of band is part of the memo and stays open in it: the accountant books how it was paid, which a
  finding asks for.
- A voided credit note: its memo is voided, and what it had settled is open again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.balances import Balances
from finance_os.stripe_qbo.mapping.customers import Customers
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of, short_number
from finance_os.stripe_qbo.mapping.invoices import apply_credit, invoice_key, require_free
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.mapping.sale_lines import sale_line, sale_lines
from finance_os.stripe_qbo.stripe_evidence import CreditNote


def memo_key(note: str) -> LinkKey:
    return LinkKey("credit_note", note, "credit_memo")


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
        # A credit note comes before the movement of the customer's balance that it caused.
        happened: Iterable[tuple[int, int, str, Callable[[], None]]] = chain(
            ((_dated(each), 0, each.id, partial(self._credit_note, each)) for each in notes),
            ((each.created, 1, each.id, partial(self.balances.moved, each)) for each in moves),
            (
                (moment, 1, each.id, partial(self.balances.give_back, each.id))
                for moment, each in voided
                if moment is not None
            ),
        )
        for moment, _, subject, rule in sorted(happened, key=lambda each: each[:3]):
            if self.drafts.is_ours(moment):
                with self.drafts.booking(subject, moment):
                    rule()

    # --- credit notes

    def _credit_note(self, note: CreditNote) -> None:
        moment, day = _dated(note), self.drafts.day(_dated(note))
        to_balance = self._to_balance(note)
        outside = note.out_of_band_amount or 0
        refunded = 0
        for each in note.refunds:
            if each.type == "refund" and each.refund is not None:
                refunded += each.amount_refunded
            else:
                outside += each.amount_refunded
        if note.pre_payment_amount + to_balance + refunded + outside != note.amount:
            raise NotBooked("credit_note_does_not_sum", "What Stripe did with it does not come to its amount.")
        minor = note.amount - refunded
        if not minor or note.invoice not in self.drafts.stripe.invoice:
            if minor:
                raise NotBooked("waits_for_another", f"Its invoice {note.invoice} is not staged.", Severity.MEDIUM)
            return
        key, evidence = memo_key(note.id), (f"credit_note:{note.id}",)
        common = {
            **self.drafts.in_currency(note.currency, day),
            "CustomerRef": self.customers.need(note.customer, note.currency, moment),
        }
        item = self.drafts.item(self.drafts.rules.credit_item)
        if minor == note.amount and not note.lines.has_more:
            lines = sale_lines(
                self.drafts,
                item,
                note.lines.data,
                note.currency,
                total=note.amount,
                discount=note.discount_amount,
                taxes=note.total_taxes or (),
            )
        elif any(each.amount for each in note.total_taxes or ()):
            raise NotBooked("credit_note_splits_tax", "It has tax and was only partly refunded.")
        else:
            lines = [sale_line(self.drafts, item, f"Credit note {note.number or note.id}", minor, note.currency)]
        number = short_number(note.number or number_of(note.id))
        require_free(self.drafts, key, "CreditMemo", number)
        self.drafts.create(
            key,
            "CreditMemo",
            {"DocNumber": number, **common, "Line": lines},
            moment=moment,
            rank=Rank.CREDIT,
            note=f"Stripe credit note {note.id} for invoice {note.invoice}",
            evidence=evidence,
        )
        if note.pre_payment_amount:
            parts = (
                (invoice_key(note.invoice), "Invoice", note.pre_payment_amount),
                (key, "CreditMemo", note.pre_payment_amount),
            )
            application = LinkKey("credit_note", note.id, "application")
            text = f"Stripe credit note {note.id}"
            with self.drafts.booking(note.id, moment):
                apply_credit(self.drafts, application, common, parts, note.currency, moment, text, evidence)
                self._reduce(note.invoice, note.pre_payment_amount)
        if to_balance:
            self.balances.pools[note.customer, note.currency][key] = to_balance
        if outside:
            self.drafts.find(
                "credit_settled_outside_stripe",
                Severity.MEDIUM,
                note.id,
                day,
                f"{outside} {note.currency.upper()} (minor units) of it were settled outside of Stripe: its credit "
                "memo stays open by so much until that is booked.",
            )
        if note.status == "void" and note.voided_at is not None:
            application = LinkKey("credit_note", note.id, "application")
            self.drafts.release(application, moment=note.voided_at, evidence=evidence)
            self.drafts.void(key, "CreditMemo", moment=note.voided_at, evidence=evidence)
            self._reduce(note.invoice, -note.pre_payment_amount)
            self.balances.pools[note.customer, note.currency].pop(key, None)

    def _to_balance(self, note: CreditNote) -> int:
        """What of a credit note went to the customer's balance. Raises `NotBooked`."""
        if note.customer_balance_transaction is None:
            return 0
        moved = self.drafts.stripe.customer_balance_transaction.get(note.customer_balance_transaction)
        if moved is None:
            raise NotBooked("waits_for_another", "Its customer balance transaction is not staged.", Severity.MEDIUM)
        return -moved.amount

    def _reduce(self, invoice: str, minor: int) -> None:
        if invoice in self.drafts.open_amounts:
            self.drafts.open_amounts[invoice] -= minor


def _dated(note: CreditNote) -> int:
    return note.effective_at or note.created
