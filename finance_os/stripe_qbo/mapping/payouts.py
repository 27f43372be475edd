"""Payouts: from Stripe clearing to the bank account, on the arrival date.

- Paid: a deposit, Dr bank, Cr Stripe clearing. Until then what is on its way is still in clearing, which is therefore
  Stripe's balance and the payouts in transit. `arrival_date` is a date that Stripe writes as midnight UTC
  (https://docs.stripe.com/api/payouts/object): it is not converted to the accounting time zone.
- A deposit that is in QuickBooks already (entered by hand, or from the bank feed) is adopted where it fits, and makes
  the payout wait where it only may (`deposits`); one that does not come out of clearing is raised.
- An automatic payout is booked only if the balance transactions that Stripe lists as paid out by it sum to it, whenever
  these were created (https://docs.stripe.com/payouts/reconciliation); a manual one, of which Stripe lists none, is
  booked by its own amount.
- Negative (Stripe debits the bank, also when a payout is reversed): a journal entry, Dr Stripe clearing, Cr bank.
- Failed before it was paid: nothing moved, and clearing never lost it. Failed after it was booked as paid: a journal
  entry on the day that Stripe put it back, Dr Stripe clearing, Cr bank, whatever is listed of it by now.
"""

from dataclasses import dataclass
from functools import cached_property
from zoneinfo import ZoneInfo

from finance_os.evidence.extraction import Severity
from finance_os.evidence.windows import start_of_day
from finance_os.stripe_qbo.books import Held
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.amounts import qbo_amount
from finance_os.stripe_qbo.mapping.deposits import Deposits, arrival, denial, payout_key
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of
from finance_os.stripe_qbo.mapping.movements import journal
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.stripe_objects import Payout


def arrival_moment(payout: Payout, zone: ZoneInfo) -> int:
    """When the day of a payout's arrival begins in the accounting time zone: its place among what happened then."""
    return int(start_of_day(arrival(payout), zone).timestamp())


def _read(payout: Payout) -> str:
    """What reads a payout, and what it paid out."""
    return f"`finance-os replay --read --object payout:{payout.id}`"


@dataclass
class Payouts:
    """Books payouts, with the deposits that stand for one already."""

    drafts: Drafts

    @cached_property
    def _deposits(self) -> Deposits:
        return Deposits(self.drafts)

    def book(self) -> None:
        """Book every payout that arrived from the balance date on."""
        for payout in self.drafts.stripe.payout.values():
            if arrival(payout) >= self.drafts.rules.balance_date:
                with self.drafts.booking(payout.id, arrival_moment(payout, self.drafts.rules.zone)):
                    self._book(payout)

    def _book(self, payout: Payout) -> None:
        key = payout_key(payout.id)
        if payout.status == "paid":
            self._paid(key, payout)
        elif payout.status in ("failed", "canceled") and self.drafts.was_booked(key):
            self._paid(key, payout)
            self._back(payout)
        elif payout.status == "failed" and (held := self._deposits.of_failed(payout)) is not None:
            raise NotBooked(
                "deposit_of_failed_payout",
                f"Deposit {held.id} in QuickBooks fits it, and it failed: the money is back at Stripe, and in the bank "
                f"only by the books. Delete the deposit, or write `{denial(payout)}` into its private note if it is of "
                "other money.",
            )

    def _paid(self, key: LinkKey, payout: Payout) -> None:
        drafts = self.drafts
        if payout.automatic and payout.status == "paid":
            self._require_sum(payout)
        amount = qbo_amount(payout.amount, payout.currency)
        bank, clearing = drafts.bank(payout.currency), drafts.clearing(payout.currency)
        evidence = (f"payout:{payout.id}", f"balance_transaction:{payout.balance_transaction}")
        note = f"Stripe payout {payout.id}"
        if amount < 0:
            postings = [(clearing, -amount), (bank, amount)]
            number = number_of(payout.id)
            journal(
                drafts,
                key,
                postings,
                payout.currency,
                moment=arrival_moment(payout, drafts.rules.zone),
                dated=arrival(payout),
                number=number,
                note=note,
                evidence=evidence,
                rank=Rank.PAYOUT,
            )
            return
        held = self._deposits.of(payout)
        if held is not None:
            drafts.adopt(key, "Deposit", held)
            self._require_clearing(payout, held, clearing["value"])
            return
        drafts.create(
            key,
            "Deposit",
            {
                "DocNumber": number_of(payout.id),
                **drafts.in_currency(payout.currency, arrival(payout)),
                "DepositToAccountRef": bank,
                "Line": [
                    {
                        "Amount": amount,
                        "Description": note,
                        "DetailType": "DepositLineDetail",
                        "DepositLineDetail": {"AccountRef": clearing},
                    }
                ],
            },
            moment=arrival_moment(payout, drafts.rules.zone),
            rank=Rank.PAYOUT,
            note=note,
            evidence=evidence,
            dated=arrival(payout),
        )

    def _back(self, payout: Payout) -> None:
        drafts = self.drafts
        moved = drafts.stripe.balance_transaction.get(payout.failure_balance_transaction or "")
        if moved is None:
            raise NotBooked("waits_for_another", "The movement that put it back is not staged.", Severity.MEDIUM)
        amount = qbo_amount(payout.amount, payout.currency)
        journal(
            drafts,
            LinkKey("payout", payout.id, "failure"),
            [(drafts.clearing(payout.currency), amount), (drafts.bank(payout.currency), -amount)],
            payout.currency,
            moment=moved.created,
            number=number_of(moved.id),
            note=f"Stripe payout {payout.id} came back",
            evidence=(f"payout:{payout.id}", f"balance_transaction:{moved.id}"),
            rank=Rank.PAYOUT,
        )

    def _require_sum(self, payout: Payout) -> None:
        if payout.reconciliation_status == "not_applicable":
            raise NotBooked(
                "payout_not_listed",
                "It is automatic, and Stripe says that it does not list what it paid out: that it sums cannot be seen. "
                "Ask Stripe for its balance transactions.",
            )
        if payout.reconciliation_status != "completed":
            raise NotBooked(
                "waits_for_another",
                "Stripe has not said yet which balance transactions it paid out. Once it does, a webhook or the daily "
                f"sync brings them, or {_read(payout)}.",
                Severity.LOW,
            )
        listed = self.drafts.stripe.paid_out.get(payout.id)
        if listed is None:
            raise NotBooked(
                "payout_balance_transactions_unread",
                f"Which balance transactions it paid out is not staged: read them with {_read(payout)}.",
            )
        own = (payout.balance_transaction, payout.failure_balance_transaction)
        paid_out = [each.net for each in listed if each.id not in own]
        if sum(paid_out) != payout.amount:
            raise NotBooked(
                "payout_does_not_sum",
                f"The {len(paid_out):,} balance transactions that Stripe lists as paid out by it come to "
                f"{sum(paid_out)} {payout.currency.upper()} (minor units), and it is {payout.amount}.",
            )

    def _require_clearing(self, payout: Payout, held: Held, clearing: str) -> None:
        out_of_clearing = sum(
            line.amount
            for line in held.line
            if line.deposit_line_detail is not None
            and line.deposit_line_detail.account_ref is not None
            and line.deposit_line_detail.account_ref.value == clearing
        )
        if out_of_clearing != held.total_amt:
            self.drafts.find(
                "deposit_not_out_of_clearing",
                Severity.HIGH,
                payout.id,
                arrival(payout),
                f"Deposit {held.id} in QuickBooks fits it, but does not come out of Stripe clearing alone.",
            )
