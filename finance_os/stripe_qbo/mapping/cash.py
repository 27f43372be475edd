"""The cash date: what the bank shows of each payout, against what Stripe announced and QuickBooks has.

Books nothing. A payout's bank line is the one that bears its trace ID
(https://docs.stripe.com/api/payouts/object#payout_object-trace_id), else the nearest in time with its amount. Where a
source shows days beyond the payout's, it must show such a line, with the payout's amount, of its arrival date and of
the date of its deposit; whatever differs is raised, for each source by itself, and never adjusted. A day or two, by
which banks differ, is told with little weight.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.bank_lines import BankLine
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.mapping.deposits import severity_of
from finance_os.stripe_qbo.mapping.drafts import Drafts
from finance_os.stripe_qbo.mapping.payouts import arrival, payout_key
from finance_os.stripe_qbo.stripe_objects import Payout


def compare(drafts: Drafts, lines: Iterable[BankLine]) -> None:
    """Find the payouts that the bank does not show as QuickBooks has them."""
    by_source: dict[str, list[BankLine]] = defaultdict(list)
    for line in lines:
        by_source[line.source].append(line)
    for source in sorted(by_source):
        _compare(drafts, source, by_source[source])


def _compare(drafts: Drafts, source: str, lines: list[BankLine]) -> None:
    first, last = min(each.day for each in lines), max(each.day for each in lines)
    near = timedelta(days=drafts.rules.payout_days)
    used: set[str] = set()
    of_amount: dict[tuple[int, str], list[BankLine]] = defaultdict(list)
    for line in lines:
        of_amount[line.amount, line.currency].append(line)
    paid = [each for each in drafts.stripe.payout.values() if each.status == "paid"]
    # Those with a trace ID first, so that none of their lines is taken for another payout of the same amount.
    traced = {each.id: _traced(each, lines) for each in paid}
    used |= {line.key for line in traced.values() if line is not None}
    for payout in paid:
        if arrival(payout) < max(first, drafts.rules.balance_date):
            continue
        line = traced[payout.id] or _nearest(payout, of_amount, used, near)
        if line is not None:
            used.add(line.key)
            _judge(drafts, source, payout, line)
        elif arrival(payout) + near <= last:
            drafts.find(
                "payout_not_at_bank",
                Severity.HIGH,
                payout.id,
                arrival(payout),
                f"{source} shows no line of {payout.amount} {payout.currency.upper()} (minor units) near its arrival.",
            )


def _traced(payout: Payout, lines: list[BankLine]) -> BankLine | None:
    """The one line that bears a payout's trace ID as a word."""
    trace = payout.trace
    if trace is None:
        return None
    found = [each for each in lines if trace in each.reference.split()]
    return found[0] if len(found) == 1 else None


def _nearest(
    payout: Payout, of_amount: Mapping[tuple[int, str], list[BankLine]], used: set[str], near: timedelta
) -> BankLine | None:
    fitting = [
        (abs(each.day - arrival(payout)), each.key, each)
        for each in of_amount.get((payout.amount, payout.currency), ())
        if each.key not in used and abs(each.day - arrival(payout)) <= near
    ]
    return min(fitting, key=lambda each: each[:2])[2] if fitting else None


def _judge(drafts: Drafts, source: str, payout: Payout, line: BankLine) -> None:
    if (line.amount, line.currency) != (payout.amount, payout.currency):
        drafts.find(
            "payout_amount_differs_at_bank",
            Severity.HIGH,
            payout.id,
            arrival(payout),
            f"{source} line {line.key} bears its trace ID with {line.amount} {line.currency.upper()} (minor units), "
            f"and it is {payout.amount} {payout.currency.upper()}.",
        )
    booked = _booked_on(drafts, payout)
    for what, day in (("arrival", arrival(payout)), ("deposit in QuickBooks", booked)):
        if day is not None and line.day != day:
            drafts.find(
                "payout_date_differs_at_bank",
                severity_of(line.day, day),
                payout.id,
                arrival(payout),
                f"{source} line {line.key} is of {line.day}, and its {what} of {day}.",
            )


def _booked_on(drafts: Drafts, payout: Payout) -> date | None:
    """The date of its deposit, adopted or planned."""
    key = payout_key(payout.id)
    if key in drafts.adoptions:
        held = drafts.books.held.get("Deposit", {}).get(drafts.adoptions[key].qbo_id)
        return held.txn_date if held is not None else None
    draft = drafts.drafts.get((key, Operation.CREATE))
    return draft.intent.dated if draft is not None else None
