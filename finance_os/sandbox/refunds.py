"""Money given back: refunds, those that fail, and disputes with their outcome."""

from .books import DAY, Books
from .company import Advertiser
from .currency import to_usd_cents
from .states import Charge, Customer, Dispute, Refund


class Refunds:
    """Refunds and disputes of the company's charges."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.world = books.world
        self.ledger = books.ledger

    def refund(self, advertiser: Advertiser | None, charge: Charge, amount: int, reason: str) -> Refund:
        """Give back part of a charge. With an advertiser, Gravity books it; without, a credit note stands for it."""
        amount = min(amount, charge.amount - charge.amount_refunded)
        bank = charge.method == "us_bank_account"
        refund = Refund(
            id=self.ledger.new_id("refund"),
            created=self.ledger.now,
            charge=charge.id,
            payment_intent=charge.payment_intent,
            customer=charge.customer,
            amount=amount,
            currency=charge.currency,
            method=charge.method,
            reason=reason,
            status="pending" if bank else "succeeded",
        )
        transaction = self.books.book(
            amount=-to_usd_cents(amount, charge.currency),
            kind="payment_refund" if bank else "refund",
            reporting_category="refund",
            source=refund.id,
            description="REFUND FOR CHARGE",
            source_currency=charge.currency,
        )
        refund.balance_transaction = transaction.id
        self.ledger.add(refund)
        charge.refunds.append(refund.id)
        self.ledger.emit("refund.created", refund)
        previous = charge.amount_refunded
        charge.amount_refunded += amount
        self.ledger.emit("charge.refunded", charge, {"amount_refunded": previous})
        key = None
        if advertiser is not None:
            key = self.books.adjustment(advertiser, "refund", amount, refund.id, charge.invoice, "customer request")
        rng = self.world.rng("refund", refund.id)
        if bank:
            self.world.after(5 * DAY, self.complete_refund, refund)
        elif advertiser is not None and charge.currency == "usd" and rng.random() < 0.06:
            self.world.after(3 * DAY, self.fail_refund, refund, charge, key)
        return refund

    def complete_refund(self, refund: Refund) -> None:
        self.books.change(refund, "refund.updated", status="succeeded")
        self.ledger.emit("charge.refund.updated", refund, {"status": "pending"})

    def fail_refund(self, refund: Refund, charge: Charge, adjustment: int) -> None:
        """The bank sends the refund back: the money returns to the balance and the charge is refunded less."""
        back = self.books.book(
            amount=to_usd_cents(refund.amount, refund.currency),
            kind="refund_failure",
            reporting_category="refund_failure",
            source=refund.id,
            description="REFUND FAILURE",
        )
        refund.failure_balance_transaction, refund.failure_reason = back.id, "expired_or_canceled_card"
        self.books.change(refund, "refund.updated", status="failed")
        self.ledger.emit("refund.failed", refund)
        self.books.change(charge, "charge.updated", amount_refunded=charge.amount_refunded - refund.amount)
        self.world.gravity.put("billing_adjustments", adjustment, self.world.when, state="reversed")

    def dispute(self, advertiser: Advertiser, charge: Charge, won: bool) -> None:
        customer: Customer = self.ledger.one("customer", advertiser.customer)
        if charge.amount_refunded or charge.disputed:
            return
        dispute = Dispute(
            id=self.ledger.new_id("dispute"),
            created=self.ledger.now,
            charge=charge.id,
            payment_intent=charge.payment_intent,
            customer_name=customer.name,
            customer_email=customer.email,
            amount=charge.amount,
            currency=charge.currency,
            reason="product_unacceptable",
            due_by=self.ledger.now + 14 * DAY,
        )
        taken = self.books.book(
            amount=-to_usd_cents(charge.amount, charge.currency),
            fee=1_500,
            kind="adjustment",
            reporting_category="dispute",
            source=dispute.id,
            description="Chargeback withdrawal",
            source_currency=charge.currency,
        )
        dispute.balance_transactions.append(taken.id)
        self.ledger.add(dispute)
        self.ledger.emit("charge.dispute.created", dispute)
        self.ledger.emit("charge.dispute.funds_withdrawn", dispute)
        self.books.change(charge, "charge.updated", disputed=True)
        self.world.after(6 * DAY, self.answer_dispute, dispute)
        self.world.after(40 * DAY, self.close_dispute, dispute, won)

    def answer_dispute(self, dispute: Dispute) -> None:
        self.books.change(dispute, "charge.dispute.updated", status="under_review")

    def close_dispute(self, dispute: Dispute, won: bool) -> None:
        previous = {"status": dispute.status}
        self.books.change(dispute, None, status="won" if won else "lost")
        if won:
            back = self.books.book(
                amount=to_usd_cents(dispute.amount, dispute.currency),
                kind="adjustment",
                reporting_category="dispute_reversal",
                source=dispute.id,
                description="Chargeback reversal",
                source_currency=dispute.currency,
            )
            self.books.change(dispute, None, balance_transactions=[*dispute.balance_transactions, back.id])
            self.ledger.emit("charge.dispute.funds_reinstated", dispute)
        self.ledger.emit("charge.dispute.closed", dispute, previous)
