"""Credits to customers: credit notes and goodwill as credit memos, and what uses them up.

- Credit note (https://docs.stripe.com/api/credit_notes/object), by what Stripe did with it: what reduced the open
  invoice and what went to the customer's balance is a credit memo (Dr the credit item's account, Cr Accounts
  Receivable); the first is applied to its invoice at once, the second waits for the next. What was refunded is
  a refund receipt, booked once, by `refunds`. What was settled out of band is part of the memo and stays open in it:
  the accountant books how it was paid, which a finding asks for.
- Credit granted by hand (a customer balance transaction of type `adjustment`): a credit memo with the goodwill item.
- Credit applied to an invoice (`applied_to_invoice`): a payment of nothing that settles the invoice with the customer's
  open memos, the oldest first. Stripe keeps one balance a customer and does not say which credit was used.
- A voided credit note: its memo is voided, and what it had settled is open again.

https://docs.stripe.com/api/customer_balance_transactions/object has the types; one that no rule here knows is raised.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.customers import Customers
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of, short_number
from finance_os.stripe_qbo.mapping.invoices import apply_credit, invoice_key, require_free
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.mapping.sale_lines import sale_line, sale_lines
from finance_os.stripe_qbo.stripe_evidence import CreditNote, CustomerBalanceTransaction

Pool = dict[LinkKey, int]
"""What is left of a customer's credit memos, in minor units, the oldest first."""


def memo_key(note: str) -> LinkKey:
    return LinkKey("credit_note", note, "credit_memo")


def goodwill_key(moved: str) -> LinkKey:
    return LinkKey("customer_balance_transaction", moved, "credit_memo")


@dataclass
class Credits:
    """`pools` are by customer and currency; the opening puts into them what was left at the balance date."""

    drafts: Drafts
    customers: Customers
    pools: dict[tuple[str, str], Pool] = field(default_factory=lambda: defaultdict(dict))
    _used: dict[str, list[tuple[tuple[str, str], LinkKey, int]]] = field(default_factory=lambda: defaultdict(list))

    def book(self) -> None:
        """Book every credit and its use from the balance date on, as they happened."""
        notes = self.drafts.stripe.credit_note.values()
        moves = self.drafts.stripe.customer_balance_transaction.values()
        invoices = self.drafts.stripe.invoice.values()
        voided = [(each.status_transitions.voided_at, each) for each in invoices if each.status == "void"]
        # A credit note comes before the movement of the customer's balance that it caused.
        happened: Iterable[tuple[int, int, str, Callable[[], None]]] = chain(
            ((_dated(each), 0, each.id, partial(self._credit_note, each)) for each in notes),
            ((each.created, 1, each.id, partial(self._moved, each)) for each in moves),
            ((moment, 1, each.id, partial(self._give_back, each.id)) for moment, each in voided if moment is not None),
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
                self._settled(note.invoice, note.pre_payment_amount)
        if to_balance:
            self.pools[note.customer, note.currency][key] = to_balance
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
            self._settled(note.invoice, -note.pre_payment_amount)
            self.pools[note.customer, note.currency].pop(key, None)

    def _to_balance(self, note: CreditNote) -> int:
        """What of a credit note went to the customer's balance. Raises `NotBooked`."""
        if note.customer_balance_transaction is None:
            return 0
        moved = self.drafts.stripe.customer_balance_transaction.get(note.customer_balance_transaction)
        if moved is None:
            raise NotBooked("waits_for_another", "Its customer balance transaction is not staged.", Severity.MEDIUM)
        return -moved.amount

    # --- the customer's balance

    def _moved(self, moved: CustomerBalanceTransaction) -> None:
        match moved.type:
            case "adjustment" if moved.amount < 0:
                self._goodwill(moved)
            case "applied_to_invoice" if moved.amount > 0:
                self._applied(moved)
            case "credit_note" | "unapplied_from_invoice":
                pass  # booked with the credit note, and with the voided invoice
            case _ if moved.amount:
                raise NotBooked(
                    "customer_balance_unknown",
                    f"No rule knows a customer balance transaction of type {moved.type} over {moved.amount} "
                    f"{moved.currency.upper()} (minor units).",
                )

    def _goodwill(self, moved: CustomerBalanceTransaction) -> None:
        key, day = goodwill_key(moved.id), self.drafts.day(moved.created)
        item = self.drafts.item(self.drafts.rules.goodwill_item)
        self.drafts.create(
            key,
            "CreditMemo",
            {
                "DocNumber": number_of(moved.id),
                **self.drafts.in_currency(moved.currency, day),
                "CustomerRef": self.customers.need(moved.customer, moved.currency, moved.created),
                "Line": [sale_line(self.drafts, item, "Credit granted", -moved.amount, moved.currency)],
            },
            moment=moved.created,
            rank=Rank.CREDIT,
            note=f"Stripe customer balance transaction {moved.id}",
            evidence=(f"customer_balance_transaction:{moved.id}",),
        )
        self.pools[moved.customer, moved.currency][key] = -moved.amount

    def _applied(self, moved: CustomerBalanceTransaction) -> None:
        if moved.invoice is None:
            raise NotBooked("customer_balance_unknown", "It was applied to an invoice that it does not name.")
        owner = (moved.customer, moved.currency)
        pool, wanted = self.pools[owner], moved.amount
        parts: list[tuple[LinkKey, str, int]] = []
        for key, left in list(pool.items()):
            part = min(left, wanted)
            if part > 0 and self.drafts.has(key):
                parts.append((key, "CreditMemo", part))
                wanted -= part
        if wanted:
            self.drafts.waiting.add(moved.invoice)
            raise NotBooked("credit_not_in_books", f"{wanted} of the credit that was used are in no credit memo.")
        common = {
            **self.drafts.in_currency(moved.currency, self.drafts.day(moved.created)),
            "CustomerRef": self.customers.need(moved.customer, moved.currency, moved.created),
        }
        apply_credit(
            self.drafts,
            LinkKey("customer_balance_transaction", moved.id, "application"),
            common,
            ((invoice_key(moved.invoice), "Invoice", moved.amount), *parts),
            moved.currency,
            moved.created,
            f"Stripe credit applied to invoice {moved.invoice} by {moved.id}",
            (f"customer_balance_transaction:{moved.id}",),
        )
        for key, _, part in parts:
            pool[key] -= part
            self._used[moved.invoice].append((owner, key, part))
        self._settled(moved.invoice, moved.amount)

    def _give_back(self, invoice: str) -> None:
        """What a voided invoice had used of credits is free again, in QuickBooks as at Stripe."""
        for owner, key, part in self._used.pop(invoice, []):
            self.pools[owner][key] += part

    def check_balances(self) -> None:
        """Find the customers whose credit in QuickBooks is not the one that Stripe keeps for them."""
        last = {(e.customer, e.currency): e for e in self.drafts.stripe.customer_balance_transaction.values()}
        for owner, moved in last.items():
            left = sum(self.pools[owner].values()) if owner in self.pools else 0
            if self.drafts.is_ours(moved.created) and left != -moved.ending_balance:
                self.drafts.find(
                    "customer_credit_differs",
                    Severity.MEDIUM,
                    moved.customer,
                    self.drafts.day(moved.created),
                    f"Its open credit memos come to {left} {moved.currency.upper()} (minor units), and its balance at "
                    f"Stripe to {-moved.ending_balance}.",
                )

    def _settled(self, invoice: str, minor: int) -> None:
        if invoice in self.drafts.open_amounts:
            self.drafts.open_amounts[invoice] -= minor


def _dated(note: CreditNote) -> int:
    return note.effective_at or note.created
