"""Which payouts were on their way as the balance date began: out of Stripe's balance, and still in clearing.

A payout leaves Stripe's balance when it is made and clearing when it arrives, and comes back into Stripe's balance if
it fails. What Stripe held as the balance date began is therefore short of clearing by the payouts made before it, less
those of them that had arrived or come back by then; one that failed afterwards was on its way.

Where that is known from what the rules state, the balance transactions of before need not be staged. All of those since
then are (`proved`), so that one which is not is an older one, with one exception: that of a payout's failure which has
only just happened. Within `IN_TRANSIT` days of a payout this could be either, so it has to be read (`to_read`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from finance_os.stripe_qbo.mapping.deposits import arrival
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence
from finance_os.stripe_qbo.stripe_objects import Payout

IN_TRANSIT = 14
"""Days that a payout may be on its way."""

CAME_BACK = "payout_reversal"
"""The reporting category of what a payout that failed or was cancelled puts back."""


def at_start(stripe: StripeEvidence, rules: Rules) -> Mapping[str, int]:
    """What was on its way as the balance date began, by currency, in minor units."""
    found, since = Counter[str](), rules.since
    for payout in stripe.payout.values():
        has_left = _has_left(stripe, since, payout)
        has_arrived = payout.status == "paid" and arrival(payout) < rules.balance_date
        found[payout.currency] += payout.amount * (
            has_left - has_arrived - (has_left and _is_back(stripe, since, payout))
        )
    return found


def counted_by_report(stripe: StripeEvidence, rules: Rules) -> Iterator[Payout]:
    """The payouts that the starting balance of Stripe's Balance report still counts, and Stripe's balance did not any
    more: an automatic one leaves the report only on the day that it is expected at the bank
    (https://docs.stripe.com/reports/report-types/balance, `effective_at`)."""
    since = rules.since
    for payout in stripe.payout.values():
        is_out = _has_left(stripe, since, payout) and not _is_back(stripe, since, payout)
        if is_out and payout.automatic and payout.arrival_date >= since:
            yield payout


def to_read(stripe: StripeEvidence, rules: Rules, proved_until: int) -> Iterator[str]:
    """The objects, such as `payout:po_1`, without which it is not known what was on its way.

    `proved_until` is the moment up to which every balance transaction is staged.
    """
    since = rules.since
    for payout in stripe.payout.values():
        back = payout.failure_balance_transaction
        is_unknown = back is not None and back not in stripe.balance_transaction
        is_recent = proved_until < payout.created + IN_TRANSIT * 86_400
        if is_unknown and is_recent and _has_left(stripe, since, payout):
            yield f"balance_transaction:{back}"
    for moved in stripe.balance_transaction.values():
        is_unknown = moved.source is not None and moved.source not in stripe.payout
        if is_unknown and moved.reporting_category == CAME_BACK and moved.created >= since:
            yield f"payout:{moved.source}"


def _has_left(stripe: StripeEvidence, since: int, payout: Payout) -> bool:
    """Whether a payout had left Stripe's balance before the balance date began."""
    if payout.balance_transaction is None:
        return False
    moved = stripe.balance_transaction.get(payout.balance_transaction)
    return (moved.created if moved is not None else payout.created) < since


def _is_back(stripe: StripeEvidence, since: int, payout: Payout) -> bool:
    """Whether a payout that had left was back in Stripe's balance before the balance date began."""
    if payout.failure_balance_transaction is None:
        return False
    moved = stripe.balance_transaction.get(payout.failure_balance_transaction)
    return moved is None or moved.created < since
