"""Payouts: from Stripe clearing to the bank account, on the arrival date.

- Paid: a deposit, Dr bank, Cr Stripe clearing. Until then what is on its way is still in clearing, which is therefore
  Stripe's balance and the payouts in transit. `arrival_date` is a date that Stripe writes as midnight UTC
  (https://docs.stripe.com/api/payouts/object): it is not converted to the accounting time zone.
- A deposit that is in QuickBooks already (entered by hand, or from the bank feed) is adopted where it fits, and makes
  the payout wait where it only may (`deposits`); one that does not come out of clearing is raised.
- An automatic payout empties what is available, so it is booked only if the balance transactions available when it was
  made sum to it, since the account's first day; a manual one is booked by its own amount.
- Negative (Stripe debits the bank, also when a payout is reversed): a journal entry, Dr Stripe clearing, Cr bank.
- Failed before it was paid: nothing moved, and clearing never lost it. Failed after it was booked as paid: a journal
  entry on the day that Stripe put it back, Dr Stripe clearing, Cr bank.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from zoneinfo import ZoneInfo

from finance_os.evidence.extraction import Severity
from finance_os.evidence.windows import start_of_day
from finance_os.stripe_qbo.books import Held
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.amounts import qbo_amount
from finance_os.stripe_qbo.mapping.deposits import Deposits, arrival, payout_key
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of
from finance_os.stripe_qbo.mapping.movements import journal
from finance_os.stripe_qbo.mapping.proved import proof_of
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.stripe_balance import REMEDY
from finance_os.stripe_qbo.stripe_objects import Payout


def arrival_moment(payout: Payout, zone: ZoneInfo) -> int:
    """When the day of a payout's arrival begins in the accounting time zone: its place among what happened then."""
    return int(start_of_day(arrival(payout), zone).timestamp())


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

    def _paid(self, key: LinkKey, payout: Payout) -> None:
        drafts = self.drafts
        if payout.automatic and payout.amount > 0:
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

    # --- the sum

    def _require_sum(self, payout: Payout) -> None:
        moved = self.drafts.stripe.balance_transaction.get(payout.balance_transaction or "")
        if moved is None:
            raise NotBooked("waits_for_another", "Its balance transaction is not staged yet.", Severity.LOW)
        days, sums = self._inflow.get(payout.currency, ([], []))
        # What happened in its very second may have come before it or after.
        for until in (bisect_right(days, payout.created), bisect_left(days, payout.created)):
            available = (sums[until - 1] if until else 0) + self._paid_out_before[moved.id]
            if available == payout.amount:
                break
        else:
            detail = (
                f"The balance transactions available when it was made come to {available} {payout.currency.upper()} "
                f"(minor units), and it is {payout.amount}."
            )
            # Of what is proved to be all there, nothing can lie before it.
            if available < payout.amount and not self._is_proved:
                first = self.drafts.day(min(each.created for each in self.drafts.stripe.balance_transaction.values()))
                detail += f" The first that is staged is of {first}, and it may hold what lies before. {REMEDY}"
                raise NotBooked("payout_may_hold_what_is_not_staged", detail)
            raise NotBooked("payout_does_not_sum", detail)

    @cached_property
    def _is_proved(self) -> bool:
        return proof_of(self.drafts.stripe, self.drafts.rules).agrees

    @cached_property
    def _inflow(self) -> Mapping[str, tuple[list[int], list[int]]]:
        """By currency: moments from which balance transactions are available, with the sum up to each."""
        nets: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for moved in self.drafts.stripe.balance_transaction.values():
            if moved.reporting_category != "payout":
                nets[moved.currency].append((max(moved.available_on, moved.created), moved.net))
        found: dict[str, tuple[list[int], list[int]]] = {}
        for currency, moves in nets.items():
            moves.sort()
            found[currency] = ([moment for moment, _ in moves], list(accumulate(net for _, net in moves)))
        return found

    @cached_property
    def _paid_out_before(self) -> Mapping[str, int]:
        """By balance transaction of a payout: what those of its currency before it took out, below zero."""
        sums: dict[str, int] = defaultdict(int)
        found: dict[str, int] = {}
        for moved in self.drafts.stripe.balance_transaction.values():
            if moved.reporting_category == "payout":
                found[moved.id] = sums[moved.currency]
                sums[moved.currency] += moved.net
        return found

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
