"""Which deposit that people entered stands for which payout.

A payout's deposit is the one that names it in its note, else the nearest to its arrival date with its amount in its
bank account, within the rules' days, and not dated before the payout was made. It is adopted; a date that is not the
arrival date is raised.

A deposit of just that amount that lies farther off (30 days), or is dated before the payout was made, may still be it.
Which it is only people know: adopted, it could be somebody else's money, and beside it a second deposit would put the
payout into the bank twice. So the payout waits, and a finding asks. Each deposit is asked about for one payout only,
the one that it lies nearest to: equal payouts that return every week have their own deposits near them, and a deposit
that a payout before the balance date, or one that is booked already, lies nearest to is that one's.

A deposit that fits a payout which failed, and no other, is of money that is back at Stripe: it is raised, and who
entered it takes it out.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.books import Held
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.amounts import qbo_amount
from finance_os.stripe_qbo.mapping.drafts import Drafts
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.stripe_objects import Payout

FAR = 30
"""Days from its arrival within which a deposit may be a payout's though it is not near."""

_SLIGHT = 2
_DENIALS = re.compile(r"\bnot po_\w+")


def payout_key(payout: str) -> LinkKey:
    return LinkKey("payout", payout, "payout")


def arrival(payout: Payout) -> date:
    return datetime.fromtimestamp(payout.arrival_date, UTC).date()


def severity_of(day: date, other: date) -> Severity:
    """How much it weighs that two dates of one payout differ."""
    return Severity.LOW if abs((day - other).days) <= _SLIGHT else Severity.MEDIUM


@dataclass
class Deposits:
    """The deposits that bear no marker of the export."""

    drafts: Drafts

    def of(self, payout: Payout) -> Held | None:
        """The deposit that stands for a payout, where it is still to be booked; its date is judged.

        Raises `NotBooked` where one may, and only people can say whether it does.
        """
        if not self._is_open(payout):
            return None
        held = self._own.get(payout.id)
        if held is not None:
            self._judge_date(payout, held)
            return held
        doubtful = self._doubtful.get(payout.id)
        if doubtful is not None:
            raise NotBooked(
                "deposit_may_be_payout",
                f"Deposit {doubtful.id} in QuickBooks, of {doubtful.txn_date}, has its amount, and it arrived on "
                f"{arrival(payout)}, having been made on {self._made_on(payout)}: a second one may be one too many. If "
                f"it is this payout's, write {payout.id} into its private note; if it is not, write "
                f"`{denial(payout)}` there.",
            )
        return None

    def of_failed(self, payout: Payout) -> Held | None:
        """The deposit that was entered for a payout which failed, and fits no other one."""
        return self._of_failed.get(payout.id)

    def _judge_date(self, payout: Payout, held: Held) -> None:
        if held.txn_date is None or held.txn_date == arrival(payout):
            return
        self.drafts.find(
            "deposit_date_differs",
            severity_of(held.txn_date, arrival(payout)),
            payout.id,
            arrival(payout),
            f"Deposit {held.id} in QuickBooks, which stands for it, is of {held.txn_date}, and it arrived on "
            f"{arrival(payout)}.",
        )

    # --- what belongs together

    @cached_property
    def _own(self) -> Mapping[str, Held]:
        """The deposit of each payout that has one, in the order of the payouts."""
        taken = set(self._given)
        found: dict[str, Held] = {}
        for payout in self._paid:
            if not self._is_open(payout):
                continue
            held = self._nearest(payout, taken)
            if held is not None:
                taken.add(held.id)
                found[payout.id] = held
        return found

    def _nearest(self, payout: Payout, taken: set[str]) -> Held | None:
        """The deposit that fits a payout best, without those that are taken."""
        fitting = [
            (not _names(each, payout), abs((each.txn_date - arrival(payout)).days), int(each.id), each)
            for each in self._of(payout)
            if each.id not in taken and each.txn_date is not None and self._is_near(payout, each, each.txn_date)
        ]
        return min(fitting, key=lambda each: each[:3])[-1] if fitting else None

    def _is_near(self, payout: Payout, held: Held, day: date) -> bool:
        apart = abs((day - arrival(payout)).days)
        if _names(held, payout):
            return apart <= FAR
        return apart <= self.drafts.rules.payout_days and day >= self._made_on(payout)

    @cached_property
    def _doubtful(self) -> Mapping[str, Held]:
        """By payout that is still to be booked and has none: the deposit that may be its own."""
        taken = {*self._given, *(each.id for each in self._own.values())}
        pairs: list[tuple[tuple[bool, int, int, int], Payout, Held]] = []
        for place, payout in enumerate(self._paid):
            if payout.id in self._own:
                continue
            for each in self._of(payout):
                if each.id in taken or each.txn_date is None:
                    continue
                apart = abs((each.txn_date - arrival(payout)).days)
                early = each.txn_date < self._made_on(payout)
                if apart <= (self.drafts.rules.payout_days if early else FAR):
                    pairs.append(((early, apart, place, int(each.id)), payout, each))
        found: dict[str, Held] = {}
        for _, payout, each in sorted(pairs, key=lambda pair: pair[0]):
            if payout.id not in found and each.id not in taken:
                found[payout.id] = each
                taken.add(each.id)
        return found

    @cached_property
    def _of_failed(self) -> Mapping[str, Held]:
        taken = {*self._given, *(each.id for held in (self._own, self._doubtful) for each in held.values())}
        found: dict[str, Held] = {}
        for payout in self.drafts.stripe.payout.values():
            if payout.status == "failed" and self._is_open(payout):
                held = self._nearest(payout, taken)
                if held is not None:
                    taken.add(held.id)
                    found[payout.id] = held
        return found

    @cached_property
    def _given(self) -> set[str]:
        """Deposits that stand for a payout already, those of the opening."""
        return {each.qbo_id for each in self.drafts.adoptions.values() if each.entity == "Deposit"}

    @cached_property
    def _paid(self) -> list[Payout]:
        """The payouts that a deposit can stand for and that none stands for by the opening."""
        return [
            each
            for each in self.drafts.stripe.payout.values()
            if each.status == "paid" and each.amount > 0 and payout_key(each.id) not in self.drafts.adoptions
        ]

    def _is_open(self, payout: Payout) -> bool:
        """Whether a payout is to be booked here, and is not booked yet."""
        return arrival(payout) >= self.drafts.rules.balance_date and not self.drafts.was_booked(payout_key(payout.id))

    def _made_on(self, payout: Payout) -> date:
        """The day on which a payout was made, in UTC or the accounting time zone: the earlier one."""
        return min(datetime.fromtimestamp(payout.created, UTC).date(), self.drafts.day(payout.created))

    # --- what there is

    def _of(self, payout: Payout) -> Iterator[Held]:
        """The deposits of a payout's amount in its bank account, without those that name another one."""
        try:
            bank = self.drafts.bank(payout.currency)["value"]
            amount = qbo_amount(payout.amount, payout.currency)
        except NotBooked:
            return  # whoever books it says so
        for each in self._of_amount.get(amount, ()):
            into = each.deposit_to_account_ref
            if into is not None and into.value == bank and _may_be(each, payout):
                yield each

    @cached_property
    def _of_amount(self) -> Mapping[Decimal, list[Held]]:
        return _by_amount(each for each in self.drafts.books.all("Deposit") if each.mark is None)


def _by_amount(deposits: Iterable[Held]) -> dict[Decimal, list[Held]]:
    found: dict[Decimal, list[Held]] = defaultdict(list)
    for each in deposits:
        found[each.total_amt].append(each)
    return found


def denial(payout: Payout) -> str:
    """What people write into the note of a deposit that is not a payout's."""
    return f"not {payout.id}"


def _names(held: Held, payout: Payout) -> bool:
    return payout.id in held.private_note and denial(payout) not in held.private_note


def _may_be(held: Held, payout: Payout) -> bool:
    """Whether a note lets a deposit be a payout's: it names none, or this one."""
    if denial(payout) in held.private_note:
        return False
    said = _DENIALS.sub("", held.private_note)
    return "po_" not in said or payout.id in said
