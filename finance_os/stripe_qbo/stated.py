"""Whether what is staged is what Stripe itself states of its balance: the sum, and what of it is available.

Clearing is compared with the sum of the balance transactions that it was booked from: one that is not staged is missed
on both sides. The balance that Stripe states comes by another way (`stripe_balance`).

Where the rules state what Stripe held as the balance date began, when that became available is not known, and what is
available is not looked at before all of it is.
"""

from datetime import UTC, date, datetime

from finance_os.evidence.extraction import Finding, Severity
from finance_os.stripe_qbo.mapping.proved import DIFFERS, explained, proof_of, start_of
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_balance import counted, fits
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence

AVAILABILITY_DIFFERS = "stripe_availability_differs"
"""The sum is Stripe's balance, and what of it is available is not what `available_on` says."""


def compare(stripe: StripeEvidence, rules: Rules, day: date) -> tuple[list[Finding], list[str]]:
    """What differs from the reading of the balance that decides, and the subjects that were looked at."""
    proof, start = proof_of(stripe, rules), start_of(rules)
    if proof.reading is None:
        return [], []
    reading, moved = proof.reading, list(counted(stripe.balance_transaction.values(), start))
    found = [
        Finding(
            DIFFERS,
            Severity.CRITICAL,
            f"stripe_balance:{each.currency}",
            day,
            explained(stripe, rules, reading, each),
        )
        for each in proof.differences
    ]
    wrong = {each.currency for each in proof.differences}
    held = start.held if start is not None else {}
    currencies = sorted({*reading.available, *reading.pending, *held, *(each.currency for each in moved)})
    is_settled = start is None or start.settled <= reading.read_at
    told_apart = [each for each in currencies if is_settled and each not in wrong]
    moment = datetime.fromtimestamp(reading.read_at, UTC)
    found += [
        Finding(
            AVAILABILITY_DIFFERS,
            Severity.LOW,
            f"stripe_available:{each}",
            day,
            f"At {moment:%Y-%m-%d %H:%M:%S} UTC Stripe stated {reading.available.get(each, 0)} {each.upper()} (minor "
            f"units) available and {reading.pending.get(each, 0)} pending; the sum agrees with the balance "
            "transactions, and when these become available does not.",
        )
        for each in told_apart
        if not fits(moved, reading, each, start)
    ]
    return found, [f"stripe_balance:{each}" for each in currencies] + [
        f"stripe_available:{each}" for each in told_apart
    ]
