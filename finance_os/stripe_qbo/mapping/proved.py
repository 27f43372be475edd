"""Whether Stripe's own balance proves that everything which moved it is there: else nothing of money is known.

What clearing starts with is a sum over all balance transactions since the account's first day, or what the rules state
that Stripe held as the balance date began (`opening_clearing`). If a balance transaction is missing, or something else
was there, the opening is wrong by it, perhaps even in its direction, and so is clearing from then on. So nothing is
planned then, as where the rules name what QuickBooks lacks.

The balance does not tell of a payout that was on its way as the balance date began: what left Stripe with it is as much
as what it took. Of that one the reads tell: the payouts of the two weeks before have to be read, whether there are any
or not. Within five business days a payout is paid or has failed
(https://docs.stripe.com/api/payouts/object#payout_object-status).
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from finance_os.evidence.extraction import Finding, Severity
from finance_os.evidence.money import STRIPE_EXPONENTS, as_decimal
from finance_os.stripe_qbo.mapping import on_the_way
from finance_os.stripe_qbo.mapping.drafts import Drafts
from finance_os.stripe_qbo.mapping.on_the_way import IN_TRANSIT
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_balance import (
    PAYMENTS,
    REMEDY,
    Difference,
    Proof,
    Reading,
    Start,
    counted,
    prove,
    told,
)
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence

DIFFERS = "stripe_balance_differs"
"""The balance that Stripe states is not the sum of the balance transactions that are staged."""

UNPROVEN = "stripe_balance_unproven"
"""No reading of Stripe's balance proves that they are all there, or that they are not."""

PAYOUTS_UNREAD = "stripe_payouts_unread"
"""Nobody read the payouts that may have been on their way as the balance date began."""

UNPROVEN_REMEDY = (
    "No reading of Stripe's balance since the balance date says whether all of its balance transactions are staged: "
    "materialize stripe/stripe_balance for the present day, and then stripe/stripe_balance_transaction, or wait for "
    "the daily sync."
)

_NAMED = 5


class NotProved(LookupError):
    """Evidence that nothing proves to be all there: nothing of it may be planned. The text says what to do."""


def start_of(rules: Rules) -> Start | None:
    """What the rules state that Stripe held as the balance date began; `None` where they state nothing."""
    held = rules.stripe_at_start
    return Start(rules.since, held) if held is not None else None


def proof_of(stripe: StripeEvidence, rules: Rules) -> Proof:
    """What the readings of Stripe's balance since the balance date prove."""
    return prove(stripe.balance_transaction.values(), stripe.readings or (), rules.since, start_of(rules))


def unproven(stripe: StripeEvidence, rules: Rules) -> tuple[str, str] | None:
    """Why nothing proves that all is staged which the opening rests on, as a code and what to do.

    `None` where it is proved, where it is disproved (`differing`), and where nothing is staged, or of several accounts.
    """
    if len(stripe.accounts) != 1:
        return None
    proof = proof_of(stripe, rules)
    if proof.reading is None:
        return UNPROVEN, UNPROVEN_REMEDY
    # Days begin at other moments for the account than for the books.
    first = rules.since - (IN_TRANSIT - 1) * 86_400
    read = stripe.payouts_read
    if read is not None and not any(begun <= first and end > rules.since for begun, end in read):
        day = rules.balance_date - timedelta(days=IN_TRANSIT)
        best = ""
        if start_of(rules) is None:
            best = ", best with everything else of Stripe from the account's first day on (set FINANCE_OS_START_DATE)"
        return PAYOUTS_UNREAD, (
            f"A payout on its way as {rules.balance_date} began may have been made up to {IN_TRANSIT} days before: "
            f"read stripe/stripe_payout of {day} to {rules.balance_date} too{best}."
        )
    if start_of(rules) is None or not proof.agrees:
        return None
    missing = sorted(set(on_the_way.to_read(stripe, rules, proof.reading.read_at)))
    if not missing:
        return None
    named = " ".join(f"--object {each}" for each in missing)
    return PAYOUTS_UNREAD, (
        f"Which payouts were on their way as {rules.balance_date} began is not known without {', '.join(missing)}: "
        f"`finance-os replay --read {named}`."
    )


def require(stripe: StripeEvidence, rules: Rules) -> None:
    """Raise `NotProved` where nothing proves that all is staged."""
    if why := unproven(stripe, rules):
        raise NotProved(f"Nothing is planned: {': '.join(why)}")


def differing(drafts: Drafts) -> tuple[Finding, ...]:
    """What is to be told where Stripe's balance proves that something is missing: then nothing is planned."""
    proof = proof_of(drafts.stripe, drafts.rules)
    for each in proof.differences:
        assert proof.reading is not None
        drafts.find(
            DIFFERS,
            Severity.CRITICAL,
            f"stripe_balance:{each.currency}",
            drafts.rules.balance_date,
            "Nothing is planned: the opening and clearing would be wrong. "
            f"{explained(drafts.stripe, drafts.rules, proof.reading, each)}",
        )
    return tuple(drafts.findings) if proof.differences else ()


def explained(stripe: StripeEvidence, rules: Rules, reading: Reading, difference: Difference) -> str:
    """A difference of a reading as people read it, and what may put it right."""
    start = start_of(rules)
    first = min((each.created for each in counted(stripe.balance_transaction.values(), start)), default=None)
    found = told(reading, difference, first)
    statement = _statement(_fitting(stripe, rules, reading))
    compared = f"compare with {_report(stripe, rules, reading, difference.currency)}"
    if start is None:
        return (
            f"{found} {REMEDY} Or leave unread what is older than {rules.balance_date}, and state in the rules what "
            f"Stripe held as that day began. If nothing is missing since, that is {statement}: {compared}."
        )
    unread = ""
    if reading.read_from is not None and reading.read_from > rules.since:
        moment = datetime.fromtimestamp(reading.read_from, UTC)
        unread = f" They were read from {moment:%Y-%m-%d %H:%M} UTC on only: read the day before too."
    return (
        f"{found}{unread} If nothing is missing since, what agrees is {statement}: {compared}, and state that. Else "
        f"read stripe/stripe_balance_transaction from {rules.balance_date} on again."
    )


def _fitting(stripe: StripeEvidence, rules: Rules, reading: Reading) -> Mapping[str, int]:
    """What Stripe held as the balance date began, by a reading, if everything since then is staged."""
    start = Start(rules.since, {})
    found = Counter({**reading.pending})
    found.update(reading.available)
    for each in counted(stripe.balance_transaction.values(), start):
        if each.balance_type in PAYMENTS and each.created <= reading.read_at:
            found[each.currency] -= each.net
    return found


def _statement(held: Mapping[str, int]) -> str:
    """What the account held at the start, as it stands in the rules."""
    said = {each: f"{as_decimal(held[each], each, STRIPE_EXPONENTS):f}" for each in sorted(held)}
    return f'`"opening_stripe_balance": {msgspec.json.encode(said).decode()}`'


def _report(stripe: StripeEvidence, rules: Rules, reading: Reading, currency: str) -> str:
    """Where Stripe's own reports show what it held at the start, and what they show if nothing is missing since."""
    held = _fitting(stripe, rules, reading)[currency]
    report = f"the starting balance of Stripe's Balance report from {rules.balance_date} on ({rules.time_zone})"
    later = [each for each in on_the_way.counted_by_report(stripe, rules) if each.currency == currency]
    if not later:
        return report
    shown = as_decimal(held + sum(each.amount for each in later), currency, STRIPE_EXPONENTS)
    named = ", ".join(each.id for each in later[:_NAMED]) + (" …" if len(later) > _NAMED else "")
    return (
        f"{report}, which is then {shown:f} {currency.upper()}, for it takes automatic payouts off only on the day "
        f"that they are expected at the bank ({named})"
    )
