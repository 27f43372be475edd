"""The plan: what is to be booked in QuickBooks, as a pure function of the evidence and the rules."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import psycopg

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, Severity
from finance_os.stripe_qbo import bank_lines, stripe_evidence
from finance_os.stripe_qbo import books as qbo_books
from finance_os.stripe_qbo.bank_lines import BankLine
from finance_os.stripe_qbo.books import Books
from finance_os.stripe_qbo.intent import Intent, LinkKey
from finance_os.stripe_qbo.mapping import cash, invoices, movements, opening, payments, refunds
from finance_os.stripe_qbo.mapping.credits import Credits
from finance_os.stripe_qbo.mapping.customers import Customers, date_by_first_need
from finance_os.stripe_qbo.mapping.drafts import Adopted, Drafts
from finance_os.stripe_qbo.mapping.opening import Opening
from finance_os.stripe_qbo.mapping.order import ordered
from finance_os.stripe_qbo.mapping.payouts import Payouts
from finance_os.stripe_qbo.mapping.periods import keep_closed
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence


@dataclass(frozen=True)
class Plan:
    """What is to be done. `intents` can be applied in their order; `adoptions` are to be linked before.

    `opening` states what each currency starts with at the balance date.
    """

    intents: tuple[Intent, ...] = ()
    findings: tuple[Finding, ...] = ()
    adoptions: Mapping[LinkKey, Adopted] = field(default_factory=dict)
    opening: tuple[Opening, ...] = ()


def plan(
    database: Database, business_id: str, realm: str, rules: Rules, booked: Mapping[LinkKey, date] | None = None
) -> Plan:
    """The plan of a business for a realm, from what is staged at one moment.

    `booked` are the dates of the creates that have been sent; they keep them when the books are closed behind them.
    Raises `BooksNotRead`.
    """
    with database.connection() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with database.transaction(connection):
            stripe = stripe_evidence.load(connection, business_id)
            books = qbo_books.load(connection, business_id, realm)
            bank = bank_lines.load(connection, business_id)
    return plan_of(stripe, books, rules, booked, bank)


def plan_of(
    stripe: StripeEvidence,
    books: Books,
    rules: Rules,
    booked: Mapping[LinkKey, date] | None = None,
    bank: Sequence[BankLine] = (),
) -> Plan:
    """The plan that follows from evidence and rules: always the same, in the same order."""
    drafts = Drafts(stripe, books, rules, booked or {})
    unmet = _unmet(drafts)
    if unmet:
        return Plan(findings=unmet)
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
    given, payouts = Credits(drafts, customers), Payouts(drafts)
    stated = opening.adopt(drafts, customers, given)
    invoices.book(drafts, customers)
    given.book()
    payments.book(drafts, customers)
    refunds.book(drafts, customers)
    movements.book(drafts)
    payouts.book()
    invoices.follow_up(drafts, customers)
    invoices.check_open(drafts)
    given.check_balances()
    keep_closed(drafts)
    date_by_first_need(drafts)
    cash.compare(drafts, bank)
    findings = sorted(drafts.findings, key=lambda each: (each.day, each.code, each.subject, each.detail))
    adoptions = dict(sorted(drafts.adoptions.items()))
    return Plan(ordered(drafts.drafts.values()), tuple(findings), adoptions, stated)


def _unmet(drafts: Drafts) -> tuple[Finding, ...]:
    """What the rules name and QuickBooks lacks: then nothing is planned, for everything would be wrong at once."""
    rules = drafts.rules
    accounts = [rules.fees, rules.disputes, rules.exchange, *([rules.opening_account] if rules.opening_account else [])]
    items = (rules.sales_item, rules.credit_item, rules.goodwill_item, rules.refund_item)
    optional = tuple(each for each in (rules.tax_item, rules.bad_debt_item) if each is not None)
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
                    f"Nothing is planned. {missing.detail} Make it, or name another one in the rules.",
                )
    return tuple(drafts.findings)
