"""The daily automatic payouts of the Stripe account, from the balance to the bank.

Where the account keeps a minimum balance, each payout holds it back and gives it back to the balance at once:
https://docs.stripe.com/payouts/minimum-balances-for-automatic-payouts
"""

from .books import HOUR, Books, business_days_later
from .states import BalanceTransaction, Payout


class Payouts:
    """Payouts as they are created, sent, and arrive or fail."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.world = books.world
        self.ledger = books.ledger
        self._paid_payouts = 0

    def pay_out(self) -> None:
        """The daily automatic payout of everything available above the minimum balance, arriving on the next working
        day."""
        taken = self.ledger.payable()
        kept = self.world.minimum_balance
        amount = sum(t.net for t in taken) - kept
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
        held = [self._kept(payout, -kept, "hold")] if kept else []
        self.ledger.pay_out([*taken, *held, moved], payout.id)
        if kept:
            self._kept(payout, kept, "release")
        self.ledger.emit("payout.created", payout)
        self.world.after(HOUR, self.dispatch_payout, payout)
        failed = self.world.rng("payout", payout.id).random() < 0.02
        self.world.at(payout.arrival_date + 9 * HOUR, self.fail_payout if failed else self.land_payout, payout)

    def _kept(self, payout: Payout, amount: int, what: str) -> BalanceTransaction:
        kind = f"payout_minimum_balance_{what}"
        return self.books.book(amount=amount, kind=kind, reporting_category=kind, source=payout.id, description=None)

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
