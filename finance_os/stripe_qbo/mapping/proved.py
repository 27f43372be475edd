"""Whether Stripe's own balance proves that everything which moved it is there: else nothing of money is known.

What clearing starts with, and what each automatic payout holds, are sums over all balance transactions since the
account's first day (`opening_clearing`, `payouts`). If one is missing, the opening is wrong by it, perhaps even in its
direction, and so is every payout. So nothing is planned then, as where the rules name what QuickBooks lacks.

The balance does not tell of a payout that was on its way as the balance date began: what left Stripe with it is as much
as what it took. Of that one the reads tell: the payouts of the two weeks before have to be read, whether there are any
or not. Within five business days a payout is paid or has failed
(https://docs.stripe.com/api/payouts/object#payout_object-status).
"""

from datetime import timedelta

from finance_os.evidence.extraction import Finding, Severity
from finance_os.evidence.windows import start_of_day
from finance_os.stripe_qbo.mapping.drafts import Drafts
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_balance import REMEDY, Proof, prove, told
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence

DIFFERS = "stripe_balance_differs"
"""The balance that Stripe states is not the sum of the balance transactions that are staged."""

UNPROVEN = "stripe_balance_unproven"
"""No reading of Stripe's balance proves that they are all there, or that they are not."""

PAYOUTS_UNREAD = "stripe_payouts_unread"
"""Nobody read the payouts that may have been on their way as the balance date began."""

IN_TRANSIT = 14
"""Days that a payout may be on its way."""

UNPROVEN_REMEDY = (
    "No reading of Stripe's balance since the balance date says whether all of its balance transactions are staged: "
    "materialize stripe/stripe_balance for the present day, and then stripe/stripe_balance_transaction, or wait for "
    "the daily sync."
)


class NotProved(LookupError):
    """Evidence that nothing proves to be all there: nothing of it may be planned. The text says what to do."""


def proof_of(stripe: StripeEvidence, rules: Rules) -> Proof:
    """What the readings of Stripe's balance since the balance date prove."""
    since = int(start_of_day(rules.balance_date, rules.zone).timestamp())
    return prove(stripe.balance_transaction.values(), stripe.readings or (), since)


def unproven(stripe: StripeEvidence, rules: Rules) -> tuple[str, str] | None:
    """Why nothing proves that all is staged which the opening and the payouts rest on, as a code and what to do.

    `None` where it is proved, where it is disproved (`differing`), and where nothing is staged, or of several accounts.
    """
    if len(stripe.accounts) != 1:
        return None
    if proof_of(stripe, rules).reading is None:
        return UNPROVEN, UNPROVEN_REMEDY
    since = int(start_of_day(rules.balance_date, rules.zone).timestamp())
    # Days begin at other moments for the account than for the books.
    first = since - (IN_TRANSIT - 1) * 86_400
    if stripe.payouts_read is None or any(begun <= first and end > since for begun, end in stripe.payouts_read):
        return None
    day = rules.balance_date - timedelta(days=IN_TRANSIT)
    return PAYOUTS_UNREAD, (
        f"A payout on its way as {rules.balance_date} began may have been made up to {IN_TRANSIT} days before: read "
        f"stripe/stripe_payout of {day} to {rules.balance_date} too, best with everything else of Stripe from the "
        "account's first day on (FINANCE_OS_START_DATE, then a backfill)."
    )


def require(stripe: StripeEvidence, rules: Rules) -> None:
    """Raise `NotProved` where nothing proves that all is staged."""
    if why := unproven(stripe, rules):
        raise NotProved(f"Nothing is planned: {': '.join(why)}")


def differing(drafts: Drafts) -> tuple[Finding, ...]:
    """What is to be told where Stripe's balance proves that something is missing: then nothing is planned."""
    proof = proof_of(drafts.stripe, drafts.rules)
    if not proof.differences:
        return ()
    first = min((each.created for each in drafts.stripe.balance_transaction.values()), default=None)
    for each in proof.differences:
        assert proof.reading is not None
        drafts.find(
            DIFFERS,
            Severity.CRITICAL,
            f"stripe_balance:{each.currency}",
            drafts.rules.balance_date,
            f"Nothing is planned: the opening and the payouts would be wrong. {told(proof.reading, each, first)} "
            f"{REMEDY}",
        )
    return tuple(drafts.findings)
