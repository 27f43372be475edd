"""The plan: what is to be booked in QuickBooks, as a pure function of the evidence and the rules."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, Severity
from finance_os.evidence.snapshot import snapshot
from finance_os.stripe_qbo import bank_lines, stripe_evidence
from finance_os.stripe_qbo import books as qbo_books
from finance_os.stripe_qbo.bank_lines import BankLine
from finance_os.stripe_qbo.books import Books
from finance_os.stripe_qbo.intent import Intent, LinkKey
from finance_os.stripe_qbo.mapping import (
    cash,
    invoices,
    losses,
    movements,
    opening,
    payments,
    proved,
    refunds,
    unstaged,
)
from finance_os.stripe_qbo.mapping.balances import Balances
from finance_os.stripe_qbo.mapping.credits import Credits
from finance_os.stripe_qbo.mapping.customers import Customers, date_by_first_need
from finance_os.stripe_qbo.mapping.drafts import Adopted, Drafts
from finance_os.stripe_qbo.mapping.opening import Opening
from finance_os.stripe_qbo.mapping.order import ordered
from finance_os.stripe_qbo.mapping.payouts import Payouts
from finance_os.stripe_qbo.mapping.periods import keep_closed
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.mapping.revising import revise
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence
from finance_os.stripe_qbo.written import Written
from finance_os.stripe_qbo.written import written as written_to


@dataclass(frozen=True)
class Plan:
    """What is to be done. `intents` can be applied in their order; `adoptions` are to be linked before.

    `opening` states what each currency starts with at the balance date.
    """

    intents: tuple[Intent, ...] = ()
    findings: tuple[Finding, ...] = ()
    adoptions: Mapping[LinkKey, Adopted] = field(default_factory=dict)
    opening: tuple[Opening, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What a plan is made from, as it was at one moment."""

    stripe: StripeEvidence
    books: Books
    bank: Sequence[BankLine]
    written: Mapping[LinkKey, Written]


def look(database: Database, business_id: str, realm: str) -> Seen:
    """What is staged of a business and written for it to a realm, at one moment; of a snapshot, at that one's.

    Raises `BooksNotRead`.
    """
    with snapshot(database) as at_once, at_once.connection() as connection:
        return Seen(
            stripe_evidence.load(connection, business_id),
            qbo_books.load(connection, business_id, realm),
            bank_lines.load(connection, business_id),
            written_to(connection, business_id, realm),
        )


def plan(
    database: Database, business_id: str, realm: str, rules: Rules, booked: Mapping[LinkKey, date] | None = None
) -> Plan:
    """The plan of a business for a realm, from what is staged at one moment; of a snapshot, at that one's.

    `booked` are the dates of the creates that have been sent; they keep them when the books are closed behind them.
    Raises `BooksNotRead`.
    """
    seen = look(database, business_id, realm)
    return plan_of(seen.stripe, seen.books, rules, booked, seen.bank, seen.written)


def plan_of(
    stripe: StripeEvidence,
    books: Books,
    rules: Rules,
    booked: Mapping[LinkKey, date] | None = None,
    bank: Sequence[BankLine] = (),
    written: Mapping[LinkKey, Written] | None = None,
) -> Plan:
    """The plan that follows from evidence, rules and what is written: always the same, in the same order."""
    drafts = Drafts(stripe, books, rules, booked or {}, written or {})
    if prevented := _prevented(drafts):
        return Plan(findings=prevented)
    if not books.uses_own_numbers:
        drafts.find(
            "custom_numbers_off",
            Severity.MEDIUM,
            "CustomTxnNumbers",
            rules.balance_date,
            "QuickBooks numbers transactions by itself and may not keep Stripe's numbers: turn custom transaction "
            "numbers on.",
        )
    customers = Customers(drafts)
    balances, payouts = Balances(drafts, customers), Payouts(drafts)
    stated = opening.adopt(drafts, customers, balances)
    invoices.book(drafts, customers)
    Credits(drafts, customers, balances).book()
    payments.book(drafts, customers, balances)
    payments.book_outside(drafts, customers, balances)
    refunds.book(drafts, customers)
    movements.book(drafts)
    unstaged.check(drafts)
    payouts.book()
    losses.book(drafts, customers, balances)
    invoices.void(drafts)
    invoices.check_open(drafts, balances)
    balances.check()
    keep_closed(drafts)
    date_by_first_need(drafts)
    cash.compare(drafts, bank)
    revise(drafts)
    findings = sorted(drafts.findings, key=lambda each: (each.day, each.code, each.subject, each.detail))
    adoptions = dict(sorted(drafts.adoptions.items()))
    return Plan(ordered(drafts.drafts.values()), tuple(findings), adoptions, stated)


def preventing(stripe: StripeEvidence, books: Books, rules: Rules) -> tuple[Finding, ...]:
    """What keeps a plan of all this from having any intent; nothing where it may have some."""
    return _prevented(Drafts(stripe, books, rules, {}, {}))


def _prevented(drafts: Drafts) -> tuple[Finding, ...]:
    return _mixed(drafts) or _unmet(drafts) or proved.differing(drafts)


def _mixed(drafts: Drafts) -> tuple[Finding, ...]:
    """One clearing account can equal one Stripe balance, and invoice numbers are unique in one account only: what is
    read from several accounts is not booked, for nobody could tell whose balance, payout or number is whose."""
    accounts = drafts.stripe.accounts
    if len(accounts) > 1:
        drafts.find(
            "several_stripe_accounts",
            Severity.CRITICAL,
            ", ".join(accounts),
            drafts.rules.balance_date,
            f"Nothing is planned. Evidence of {len(accounts)} Stripe accounts is staged for this business, and the "
            "export books one account into one QuickBooks company: make a business of its own for each of the others.",
        )
    return tuple(drafts.findings)


def _unmet(drafts: Drafts) -> tuple[Finding, ...]:
    """What the rules name and QuickBooks lacks: then nothing is planned, for everything would be wrong at once."""
    rules = drafts.rules
    accounts = [rules.fees, rules.disputes, rules.exchange, *rules.movements.values()]
    accounts += [each for each in (rules.outside_account, rules.opening_account) if each is not None]
    items = (rules.sales_item, rules.credit_item, rules.goodwill_item, rules.refund_item)
    named = (rules.tax_item, rules.bad_debt_item, rules.debit_item, rules.migration_item)
    optional = tuple(each for each in named if each is not None)
    looked_up: tuple[tuple[Callable[[str], object], Iterable[str]], ...] = (
        (drafts.account, accounts),
        (drafts.clearing, rules.clearing),
        (drafts.bank, rules.bank),
        (drafts.item, (*items, *optional)),
    )
    for look_up, names in looked_up:
        for name in dict.fromkeys(names):
            try:
                look_up(name)
            except NotBooked as missing:
                drafts.find(
                    missing.code,
                    Severity.CRITICAL,
                    name,
                    rules.balance_date,
                    f"Nothing is planned. {missing.detail} Read QuickBooks from its first day on, make it, or name "
                    "another one in the rules.",
                )
    return tuple(drafts.findings)
