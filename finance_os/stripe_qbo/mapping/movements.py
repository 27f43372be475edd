"""Movements of Stripe's balance that no sales form books: fees, disputes, failed refunds; a journal entry each.

Booked on the day of the balance transaction, so that clearing equals Stripe's balance on every day, by its reporting
category (https://docs.stripe.com/reports/reporting-categories):

| category | amount | fee |
|---|---|---|
| `charge`, `partial_capture_reversal`, `refund` | by `payments` and `refunds` | Dr Stripe fees, Cr clearing |
| `refund_failure` | Dr clearing, Cr the accounts that the refund's lines were booked to | the same |
| `dispute` | Dr disputes, Cr clearing: the money is gone until it is won | the same |
| `dispute_reversal` (won) | Dr clearing, Cr disputes | the same |
| `fee`, `network_cost` | Dr Stripe fees, Cr clearing | the same |
| `payout`, `payout_reversal` | by `payouts` | the same |
| of type `payout_minimum_balance_hold` and `…_release` | nothing: each hold is released at once | none |
| `charge_failure` | nothing, where its charge never came to be booked; both take the other back | the same |
| any other that the rules name an account for | that account, against clearing | the same |

Where the balance date began between a hold and its release, the opening has what was held back.

What reserves, top-ups, taxes on Stripe's fees and adjustments are to a business is for its accountant to say, once, by
naming the account of their category in the rules. A lost dispute stays where it was booked when it was opened: nothing
moves any more. A category that is not in this table is raised and never guessed. Where several invoices were paid by
one foreign charge, what rounding leaves between their payments and the balance transaction goes to exchange gain or
loss.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.amounts import qbo_amount
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of
from finance_os.stripe_qbo.mapping.payments import CHARGED, NOT_CAPTURED, brought_by, movement
from finance_os.stripe_qbo.mapping.refunds import turned_round
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence
from finance_os.stripe_qbo.stripe_objects import BalanceTransaction

FEES = frozenset(("fee", "network_cost"))
PAYOUTS = frozenset(("payout", "payout_reversal"))
FAILED = "charge_failure"
HELD_BACK, RELEASED = "payout_minimum_balance_hold", "payout_minimum_balance_release"
"""What keeps an account's minimum balance: https://docs.stripe.com/payouts/minimum-balances-for-automatic-payouts"""

_AT_ONCE = 86_400
"""Seconds within which a release has followed its hold."""

BOOKED_ELSEWHERE = frozenset((CHARGED, NOT_CAPTURED, "refund")) | PAYOUTS


def movement_key(moved: str) -> LinkKey:
    return LinkKey("balance_transaction", moved, "journal")


def book(drafts: Drafts) -> None:
    """Book what is left of every balance transaction from the balance date on."""
    alone = {each.id for each in _without_other_half(drafts.stripe, drafts.rules)}
    alone -= {each.id for each in _released_at_start(drafts.stripe, drafts.rules)}
    for moved in drafts.stripe.balance_transaction.values():
        if drafts.is_ours(moved.created):
            with drafts.booking(moved.id, moved.created):
                if moved.type not in (HELD_BACK, RELEASED):
                    _book(drafts, moved)
                elif moved.id in alone:
                    raise NotBooked(
                        "waits_for_another",
                        f"What a payout holds back is released again, and of {moved.net} {moved.currency.upper()} "
                        f"(minor units, {moved.type}) the other half is not staged.",
                        Severity.MEDIUM,
                    )


def held_back_at_start(stripe: StripeEvidence, rules: Rules) -> Mapping[str, int]:
    """What a payout held back just before the balance date began and released just after, by currency, in minor units.

    It was not in Stripe's balance then, and is in clearing, which knows neither of both.
    """
    found = Counter[str]()
    for moved in _released_at_start(stripe, rules):
        found[moved.currency] += moved.net
    return found


def _released_at_start(stripe: StripeEvidence, rules: Rules) -> Iterator[BalanceTransaction]:
    """The releases whose hold lies before the balance date, staged or not: those at its very beginning."""
    for moved in _without_other_half(stripe, rules):
        if moved.type == RELEASED and moved.created < rules.since + _AT_ONCE:
            yield moved


def _without_other_half(stripe: StripeEvidence, rules: Rules) -> Iterator[BalanceTransaction]:
    """What was held back since the balance date and not released, or released without a hold since then.

    A release follows its hold, perhaps in the same second, and is of its amount.
    """
    since, kinds = rules.since, (HELD_BACK, RELEASED)
    moves = [each for each in stripe.balance_transaction.values() if each.type in kinds and each.created >= since]
    holds: dict[tuple[str, int], list[BalanceTransaction]] = defaultdict(list)
    for moved in sorted(moves, key=lambda each: (each.created, each.type == RELEASED)):
        if moved.type == HELD_BACK:
            holds[moved.currency, -moved.net].append(moved)
        elif holds[moved.currency, moved.net]:
            holds[moved.currency, moved.net].pop(0)
        else:
            yield moved
    for held in holds.values():
        yield from held


def _book(drafts: Drafts, moved: BalanceTransaction) -> None:
    postings: list[tuple[dict[str, str], Decimal]] = []
    amount = qbo_amount(moved.amount, moved.currency)
    if moved.reporting_category in BOOKED_ELSEWHERE:
        reached = drafts.reached_clearing.get(moved.id)
        whole = qbo_amount(brought_by(drafts, moved), moved.currency) if moved.reporting_category == CHARGED else amount
        amount = whole - reached if reached is not None else Decimal(0)
        if amount:
            postings.append((drafts.account(drafts.rules.exchange), -amount))
    elif _takes_back(drafts, moved):
        amount = Decimal(0)
    elif amount:
        postings += _other_side(drafts, moved, amount)
    fee = qbo_amount(moved.fee, moved.currency)
    if fee:
        postings.append((drafts.account(drafts.rules.fees), fee))
    if not postings:
        return
    postings.append((drafts.clearing(moved.currency), amount - fee))
    journal(
        drafts,
        movement_key(moved.id),
        postings,
        moved.currency,
        moment=moved.created,
        number=number_of(moved.id),
        note=f"Stripe {moved.reporting_category} {moved.source or ''} {moved.id}".replace("  ", " "),
        evidence=(f"balance_transaction:{moved.id}",),
    )


def _other_side(drafts: Drafts, moved: BalanceTransaction, amount: Decimal) -> list[tuple[dict[str, str], Decimal]]:
    """The postings against clearing. Raises `NotBooked` for a category that no rule knows."""
    category = moved.reporting_category
    if category in FEES:
        return [(drafts.account(drafts.rules.fees), -amount)]
    if category in ("dispute", "dispute_reversal"):
        return [(drafts.account(drafts.rules.disputes), -amount)]
    if category == "refund_failure" and moved.source is not None:
        if moved.source in drafts.stripe.note_of_refund:
            drafts.find(
                "refund_of_credit_note_failed",
                Severity.MEDIUM,
                moved.source,
                drafts.day(moved.created),
                f"The refund of credit note {drafts.stripe.note_of_refund[moved.source].id} came back: the customer "
                "is still owed it.",
            )
        return turned_round(drafts, moved)
    if category in drafts.rules.movements:
        return [(drafts.account(drafts.rules.movements[category], moved.currency), -amount)]
    raise NotBooked(
        "balance_transaction_unknown",
        f"No rule knows the reporting category {category} (type {moved.type}) of {moved.net} {moved.currency.upper()} "
        "(minor units): name the account that stands against clearing for it in the rules, under `movements`.",
    )


def _takes_back(drafts: Drafts, moved: BalanceTransaction) -> bool:
    """Whether it takes a charge back that failed after it was initiated (bank debits), and never was a payment here:
    https://docs.stripe.com/reports/reporting-categories#group_charge_failure"""
    if moved.reporting_category != FAILED or moved.source is None:
        return False
    charge, brought = drafts.stripe.charge.get(moved.source), movement(drafts, moved.source, CHARGED)
    if charge is None or brought is None or charge.status == "succeeded" or not drafts.is_ours(brought.created):
        return False  # what it brought before the balance date is in clearing by the opening
    return brought.amount == -moved.amount


def journal(
    drafts: Drafts,
    key: LinkKey,
    postings: list[tuple[dict[str, str], Decimal]],
    currency: str,
    *,
    moment: int,
    number: str,
    note: str,
    evidence: tuple[str, ...],
    rank: Rank = Rank.JOURNAL,
    dated: date | None = None,
) -> None:
    """A journal entry of `postings`: accounts with what they are debited, or credited where it is negative."""
    lines: list[dict[str, Any]] = [
        {
            "Amount": abs(amount),
            "Description": note,
            "DetailType": "JournalEntryLineDetail",
            "JournalEntryLineDetail": {"PostingType": "Debit" if amount > 0 else "Credit", "AccountRef": account},
        }
        for account, amount in postings
        if amount
    ]
    drafts.create(
        key,
        "JournalEntry",
        {"DocNumber": number, **drafts.in_currency(currency, dated or drafts.day(moment)), "Line": lines},
        moment=moment,
        rank=rank,
        note=note,
        evidence=evidence,
        dated=dated,
    )
