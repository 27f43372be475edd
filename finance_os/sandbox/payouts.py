"""The daily automatic payouts of the Stripe account, from the balance to the bank."""

from .books import HOUR, Books, business_days_later
from .states import Payout


class Payouts:
    """Payouts as they are created, sent, and arrive or fail."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.world = books.world
        self.ledger = books.ledger
        self._paid_payouts = 0

    def pay_out(self) -> None:
        """The daily automatic payout of everything available, arriving on the next working day."""
        taken = self.ledger.payable()
        amount = sum(t.net for t in taken)
        if amount <= 0:
            return
        now = self.ledger.now
        payout = Payout(
            id=self.ledger.new_id("payout"),
            created=now,
            amount=amount,
            arrival_date=business_days_later(now, 1),
        )
        moved = self.books.book(
            amount=-amount,
            kind="payout",
            reporting_category="payout",
            source=payout.id,
            available_on=payout.arrival_date,
            description="STRIPE PAYOUT",
        )
        payout.balance_transaction = moved.id
        self.ledger.add(payout)
        self.ledger.pay_out([*taken, moved], payout.id)
        self.ledger.emit("payout.created", payout)
        self.world.after(HOUR, self.dispatch_payout, payout)
        failed = self.world.rng("payout", payout.id).random() < 0.02
        self.world.at(payout.arrival_date + 9 * HOUR, self.fail_payout if failed else self.land_payout, payout)

    def dispatch_payout(self, payout: Payout) -> None:
        self.books.change(payout, "payout.updated", status="in_transit")
        self.books.change(payout, None, reconciliation_status="completed")
        self.ledger.emit("payout.reconciliation_completed", payout)

    def land_payout(self, payout: Payout) -> None:
        self.books.change(payout, None, status="paid", trace_id="ST-" + payout.id[-12:].upper())
        self.ledger.emit("payout.paid", payout)
        self._paid_payouts += 1
        self.world.bank_payout(payout, self._paid_payouts)

    def fail_payout(self, payout: Payout) -> None:
        """The bank refuses the payout; the money returns to the balance and goes out with the next one."""
        back = self.books.book(
            amount=payout.amount,
            kind="payout_failure",
            reporting_category="payout_reversal",
            source=payout.id,
            description="STRIPE PAYOUT FAILURE",
        )
        self.books.change(
            payout,
            None,
            status="failed",
            failure_balance_transaction=back.id,
            failure_code="could_not_process",
            failure_message="The bank could not process this transfer.",
        )
        self.ledger.emit("payout.failed", payout)
