"""Whether what is staged is what Stripe itself states of its balance: the sum, and what of it is available.

Clearing is compared with the sum of the balance transactions that it was booked from: one that is not staged is missed
on both sides. The balance that Stripe states comes by another way (`stripe_balance`).
"""

from datetime import UTC, date, datetime

from finance_os.evidence.extraction import Finding, Severity
from finance_os.stripe_qbo.mapping.proved import DIFFERS, proof_of
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_balance import REMEDY, fits, told
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence

AVAILABILITY_DIFFERS = "stripe_availability_differs"
"""The sum is Stripe's balance, and what of it is available is not what `available_on` says."""


def compare(stripe: StripeEvidence, rules: Rules, day: date) -> tuple[list[Finding], list[str]]:
    """What differs from the reading of the balance that decides, and the subjects that were looked at."""
    proof, moved = proof_of(stripe, rules), stripe.balance_transaction.values()
    if proof.reading is None:
        return [], []
    reading = proof.reading
    first = min((each.created for each in moved), default=None)
    found = [
        Finding(
            DIFFERS, Severity.CRITICAL, f"stripe_balance:{each.currency}", day, f"{told(reading, each, first)} {REMEDY}"
        )
        for each in proof.differences
    ]
    wrong = {each.currency for each in proof.differences}
    currencies = sorted({*reading.available, *reading.pending, *(each.currency for each in moved)})
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
        for each in currencies
        if each not in wrong and not fits(moved, reading, each)
    ]
    looked_at = [f"stripe_balance:{each}" for each in currencies]
    return found, looked_at + [f"stripe_available:{each}" for each in currencies if each not in wrong]
