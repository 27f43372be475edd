"""Credits: credit notes before and after payment, and goodwill, each with its billing adjustment in Gravity."""

from typing import Any

from .books import Books
from .company import Advertiser
from .currency import share
from .refunds import Refunds
from .states import Charge, CreditNote, Customer, Invoice, Line, PaymentIntent


class Credits:
    """What the company credits to its advertisers."""

    def __init__(self, books: Books, refunds: Refunds) -> None:
        self.books = books
        self.refunds = refunds
        self.world = books.world
        self.ledger = books.ledger
        self._credit_notes = 0

    def goodwill(self, advertiser: Advertiser, amount: int) -> None:
        """A credit that someone grants by hand: a customer balance transaction and its Gravity adjustment."""
        customer: Customer = self.ledger.one("customer", advertiser.customer)
        if customer.deleted:
            return
        transaction = self.books.move_balance(customer, -amount, "adjustment", "Goodwill credit")
        self.books.adjustment(advertiser, "goodwill", amount, transaction.id, None, "make-good")

    def _credit_lines(self, invoice: Invoice, amount: int) -> list[Line]:
        """One free line; for a long invoice, twelve of its own lines credited in equal parts."""
        new_id = self.ledger.new_id
        step = 10 if invoice.currency == "bhd" else 1
        if len(invoice.lines) <= 12 or amount < 12 * step:
            return [
                Line(
                    id=new_id("credit_note_line_item"),
                    amount=amount,
                    description="Credit for ad spend",
                    reference="",
                )
            ]
        part = amount // 12 // step * step
        parts = [part] * 11 + [amount - 11 * part]
        return [
            Line(id=new_id("credit_note_line_item"), amount=each, description=line.description, reference=line.id)
            for each, line in zip(parts, invoice.lines, strict=False)
        ]

    def issue_credit_note(
        self, advertiser: Advertiser, invoice: Invoice, amount: int, kind: str, **links: Any
    ) -> CreditNote:
        """A credit note, its number counted per invoice's customer, and its Gravity adjustment."""
        self._credit_notes += 1
        note = CreditNote(
            id=links.pop("id", None) or self.ledger.new_id("credit_note"),
            created=self.ledger.now,
            customer=invoice.customer,
            invoice=invoice.id,
            currency=invoice.currency,
            amount=amount,
            number=f"{invoice.number}-CN-{len(self.ledger.rows('credit_note', invoice=invoice.id)) + 1:02d}",
            memo="Under-delivery make-good",
            reason="product_unsatisfactory",
            type=kind,
            lines=self._credit_lines(invoice, amount),
            **links,
        )
        self.ledger.add(note)
        if self._credit_notes == 4:
            self.world.plant("credit_note_without_adjustment", "stripe", note.id, f"{amount} {invoice.currency}")
        else:
            self.books.adjustment(advertiser, "credit_note", amount, note.id, invoice.id, "under-delivery")
        if self._credit_notes == 2:
            key = self.books.adjustment(advertiser, "credit_note", amount, None, invoice.id, "under-delivery")
            self.world.plant("adjustment_without_credit_note", "gravity", str(key), f"{amount} {invoice.currency}")
        return note

    def credit_before_payment(self, advertiser: Advertiser, invoice: Invoice, intent: PaymentIntent) -> None:
        """An open invoice is reduced: the note lowers amount_due and amount_remaining."""
        amount = share(invoice.amount_remaining, 10, 100, invoice.currency)
        if invoice.status != "open" or intent.status != "requires_payment_method" or amount <= 0:
            return
        note = self.issue_credit_note(advertiser, invoice, amount, "pre_payment")
        self.ledger.emit("credit_note.created", note)
        self.books.ask_for(intent, intent.amount - amount)
        self.books.change(
            invoice,
            "invoice.updated",
            amount_due=invoice.amount_due - amount,
            amount_remaining=invoice.amount_remaining - amount,
            pre_payment_credit_notes_amount=invoice.pre_payment_credit_notes_amount + amount,
        )

    def credit_to_balance(self, advertiser: Advertiser, invoice: Invoice) -> None:
        """A paid invoice is credited to the customer's balance, to be used by the next invoice."""
        customer: Customer = self.ledger.one("customer", invoice.customer)
        amount = share(invoice.total, 15, 100, invoice.currency)
        if customer.deleted or invoice.status != "paid" or amount <= 0:
            return
        key = self.ledger.new_id("credit_note")
        moved = self.books.move_balance(customer, -amount, "credit_note", None, invoice=invoice.id, credit_note=key)
        note = self.issue_credit_note(
            advertiser, invoice, amount, "post_payment", id=key, customer_balance_transaction=moved.id
        )
        self.ledger.emit("credit_note.created", note)
        self._credited_after_payment(invoice, amount)

    def credit_with_refund(self, advertiser: Advertiser, invoice: Invoice, charge: Charge) -> None:
        amount = share(charge.amount, 20, 100, charge.currency)
        if invoice.status != "paid" or charge.disputed or not 0 < amount <= charge.amount - charge.amount_refunded:
            return
        refund = self.refunds.refund(None, charge, amount, "requested_by_customer")
        note = self.issue_credit_note(advertiser, invoice, amount, "post_payment", refund=refund.id)
        self.ledger.emit("credit_note.created", note)
        self._credited_after_payment(invoice, amount)

    def credit_outside(self, advertiser: Advertiser, invoice: Invoice, charge: Charge) -> None:
        """A paid invoice is credited outside of Stripe: all of it, or half beside the balance or a refund."""
        amount = share(charge.amount, 12, 100, charge.currency)
        half = share(amount, 50, 100, charge.currency)
        if invoice.status != "paid" or charge.disputed or half <= 0:
            return
        customer: Customer = self.ledger.one("customer", invoice.customer)
        key = self.ledger.new_id("credit_note")
        links: dict[str, Any] = {"id": key}
        beside = self.world.rng("beside", charge.id).choice((None, "balance", "refund"))
        if beside == "balance" and not customer.deleted:
            moved = self.books.move_balance(customer, -half, "credit_note", None, invoice=invoice.id, credit_note=key)
            links["customer_balance_transaction"] = moved.id
        elif beside == "refund" and half <= charge.amount - charge.amount_refunded:
            links["refund"] = self.refunds.refund(None, charge, half, "requested_by_customer").id
        outside = amount - half if len(links) > 1 else amount
        note = self.issue_credit_note(advertiser, invoice, amount, "post_payment", out_of_band_amount=outside, **links)
        self.ledger.emit("credit_note.created", note)
        self._credited_after_payment(invoice, amount)

    def credit_beyond_rest(self, advertiser: Advertiser, invoice: Invoice) -> None:
        """An invoice that was paid in part is credited all that is open of it, and a part of what was paid outside of
        Stripe."""
        rest, back = invoice.amount_remaining, share(invoice.amount_paid, 10, 100, invoice.currency)
        note = self.issue_credit_note(advertiser, invoice, rest + back, "mixed", out_of_band_amount=back)
        self.ledger.emit("credit_note.created", note)
        self.books.change(
            invoice,
            "invoice.updated",
            amount_due=invoice.amount_due - rest,
            amount_remaining=0,
            pre_payment_credit_notes_amount=invoice.pre_payment_credit_notes_amount + rest,
            post_payment_credit_notes_amount=invoice.post_payment_credit_notes_amount + back,
        )

    def _credited_after_payment(self, invoice: Invoice, amount: int) -> None:
        self.books.change(
            invoice,
            "invoice.updated",
            post_payment_credit_notes_amount=invoice.post_payment_credit_notes_amount + amount,
        )
