"""What clearing starts with: at the balance date it must hold Stripe's balance and the payouts still on their way.

Who kept the books by hand often parked Stripe's money elsewhere (Undeposited Funds). What QuickBooks' clearing account
lacks is raised; where the rules name the account that holds it, a journal entry on the balance date brings it over:
Dr Stripe clearing, Cr that account. From then on clearing equals Stripe's balance by itself.

Stripe's balance at the balance date is the sum of what moved it before, since the account's first day; or what the
rules state, and then nothing of before is needed but the payouts that were on their way (`on_the_way`). That nothing is
missing, and that what is stated was there, is proved first (`proved`), and where it is not, nothing is opened.

The account's balance at the balance date is the sum of what payments, refund receipts, deposits and journal entries
before it post to it. Transfers are not staged as evidence: a company that used them for payouts states the opening by
hand and leaves the rule out.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.books import Held
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping import on_the_way
from finance_os.stripe_qbo.mapping.amounts import qbo_amount, stripe_minor
from finance_os.stripe_qbo.mapping.deposits import arrival
from finance_os.stripe_qbo.mapping.drafts import Drafts
from finance_os.stripe_qbo.mapping.movements import PAYOUTS, held_back_at_start, journal
from finance_os.stripe_qbo.mapping.proved import start_of
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence
from finance_os.stripe_qbo.stripe_objects import BalanceTransaction

_CENT = Decimal("0.01")
_ENTITIES = ("Payment", "RefundReceipt", "Deposit", "JournalEntry")


@dataclass(frozen=True)
class Clearing:
    """One currency's clearing at the start of the balance date, in minor units. `at_stripe` is what it is to be: with
    what a payout held back just then (`movements.held_back_at_start`)."""

    currency: str
    at_stripe: int
    in_books: int


def state(drafts: Drafts) -> tuple[Clearing, ...]:
    """Clearing by currency of the rules; what QuickBooks lacks is found, and booked where the rules name from where."""
    held = Counter(at_stripe(drafts.stripe, drafts.rules))
    held.update(held_back_at_start(drafts.stripe, drafts.rules))
    found: list[Clearing] = []
    for currency in sorted(drafts.rules.clearing):
        account = drafts.clearing(currency)["value"]
        in_books = stripe_minor(_in_books(drafts, account, currency), currency)
        each = Clearing(currency, held[currency], in_books)
        found.append(each)
        if each.at_stripe != each.in_books:
            try:
                _settle(drafts, each)
            except NotBooked as refused:
                day = drafts.rules.balance_date
                drafts.find(refused.code, refused.severity, currency, day, f"Not booked. {refused.detail}")
    return tuple(found)


def _settle(drafts: Drafts, clearing: Clearing) -> None:
    lacking = qbo_amount(clearing.at_stripe - clearing.in_books, clearing.currency)
    origin = drafts.rules.opening_account
    if origin is None:
        drafts.find(
            "opening_clearing_differs",
            Severity.HIGH,
            clearing.currency,
            drafts.rules.balance_date,
            f"At the start Stripe held {clearing.at_stripe} {clearing.currency.upper()} (minor units), and clearing "
            f"{clearing.in_books}: the rules name no opening account.",
        )
        return
    journal(
        drafts,
        LinkKey("balance", clearing.currency, "opening"),
        [(drafts.clearing(clearing.currency), lacking), (drafts.account(origin), -lacking)],
        clearing.currency,
        moment=0,
        number=f"STRIPE-OPENING-{clearing.currency.upper()}",
        note=f"Stripe balance at the start of {drafts.rules.balance_date.isoformat()}",
        evidence=(),
        dated=drafts.rules.balance_date,
    )


def at_stripe(stripe: StripeEvidence, rules: Rules) -> Mapping[str, int]:
    """Stripe's balance at the start by currency, with the payouts that had left and not arrived, in minor units."""
    start, found = start_of(rules), Counter[str]()
    if start is not None:
        found.update(start.held)
        found.update(on_the_way.at_start(stripe, rules))
        return found
    since = rules.since
    for moved in stripe.balance_transaction.values():
        if moved.created < since:
            found[moved.currency] += brought(moved)
    for payout in stripe.payout.values():
        if payout.status == "paid" and arrival(payout) < rules.balance_date:
            found[payout.currency] -= payout.amount
    return found


def brought(moved: BalanceTransaction) -> int:
    """What a balance transaction brings to clearing, which payouts leave when they arrive: of these only the fee."""
    return -moved.fee if moved.reporting_category in PAYOUTS else moved.net


def _in_books(drafts: Drafts, account: str, currency: str) -> Decimal:
    """What others posted to an account before the balance date, in its currency."""
    is_home = currency.upper() == drafts.books.home
    total = Decimal(0)
    for entity in _ENTITIES:
        for each in drafts.books.all(entity):
            if each.mark is None and each.txn_date is not None and each.txn_date < drafts.rules.balance_date:
                rate = each.exchange_rate if is_home else Decimal(1)
                for amount in _posted(entity, each, account):
                    total += (amount * rate).quantize(_CENT, ROUND_HALF_EVEN)
    return total


def _posted(entity: str, held: Held, account: str) -> Iterator[Decimal]:
    """What a transaction debits an account with, in its own currency."""
    into = held.deposit_to_account_ref
    if into is not None and into.value == account:
        yield -held.total_amt if entity == "RefundReceipt" else held.total_amt
    for line in held.line:
        deposited, posted = line.deposit_line_detail, line.journal_entry_line_detail
        if deposited is not None and deposited.account_ref is not None and deposited.account_ref.value == account:
            yield -line.amount
        if posted is not None and posted.account_ref is not None and posted.account_ref.value == account:
            yield line.amount if posted.posting_type == "Debit" else -line.amount
