"""Whether the books agree with Stripe where money is: clearing with Stripe's balance, each payout with its deposit.

Clearing will be Stripe's balance once everything that is planned is written: what it holds now is compared with that
less what is not written yet (`unwritten`), wherever this can be summed to the cent.

QuickBooks is asked for what it holds now: a request for each clearing account, and one for a hundred deposits. What
Stripe says is the evidence that the plan was made from, so that what comes in meanwhile is no difference. That nothing
is missing of it is seen from the balance that Stripe itself states (`stated`).
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, Severity
from finance_os.evidence.windows import epoch_day
from finance_os.stripe_qbo import findings, links, stated
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.intent import Intent, LinkKey
from finance_os.stripe_qbo.links import Link
from finance_os.stripe_qbo.lookup import ENTITIES
from finance_os.stripe_qbo.mapping import opening_clearing
from finance_os.stripe_qbo.mapping.amounts import qbo_amount
from finance_os.stripe_qbo.mapping.invoices import invoice_key
from finance_os.stripe_qbo.mapping.payouts import arrival, payout_key
from finance_os.stripe_qbo.mapping.proved import start_of
from finance_os.stripe_qbo.parts import Part
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_balance import split
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence
from finance_os.stripe_qbo.stripe_objects import Payout
from finance_os.stripe_qbo.unwritten import NotExact, unwritten
from finance_os.stripe_qbo.written import written as written_to

RECONCILE = "qbo_reconcile"
"""Who found it, beside those of `findings`."""

_CHUNK = 100


@dataclass(frozen=True)
class Clearing:
    """One clearing account. Amounts are those of QuickBooks, in the account's currency.

    `at_stripe` is Stripe's balance with the payouts that are on their way to the bank. `in_books` is `None` where it
    was not compared, and `why` says why not. By `unwritten` it will rise with the `writes` that are planned and move
    money, but are not written yet.

    Of `at_stripe`, `held` is what is still there, and the rest has left. It is `available` and `pending`, told apart by
    `available_on`; `why_whole` says why they are not told apart, where they are not.
    """

    currency: str
    account: str
    at_stripe: Decimal
    in_books: Decimal | None
    why: str = ""
    unwritten: Decimal = Decimal(0)
    writes: int = 0
    available: Decimal | None = None
    pending: Decimal | None = None
    held: Decimal | None = None
    why_whole: str = ""

    @property
    def in_transit(self) -> Decimal | None:
        """The payouts on their way to the bank."""
        return None if self.held is None else self.at_stripe - self.held

    @property
    def difference(self) -> Decimal:
        """How far it will lie above Stripe's balance once everything is written; 0 where it was not compared."""
        return Decimal(0) if self.in_books is None else self.in_books + self.unwritten - self.at_stripe

    @property
    def differs(self) -> bool:
        return self.difference != 0


@dataclass(frozen=True)
class Receivable:
    """What is open of the invoices of one currency, in QuickBooks' amounts; `invoices` is how many were compared."""

    currency: str
    at_stripe: Decimal
    in_books: Decimal
    invoices: int


@dataclass(frozen=True)
class Reconciled:
    """What comparing came to: each clearing account, how many payouts equal their deposits, and what is wrong."""

    clearing: tuple[Clearing, ...] = ()
    payouts: int = 0
    findings: list[Finding] = field(default_factory=list)


def balance_of(stripe: StripeEvidence, rules: Rules) -> dict[str, int]:
    """Stripe's balance by currency with the payouts that have left it and not arrived, in minor units.

    That is what clearing holds, for a payout is booked when it arrives: what it held as the balance date began, and
    what happened since.
    """
    found, since = Counter(opening_clearing.at_stripe(stripe, rules)), rules.since
    for moved in stripe.balance_transaction.values():
        if moved.created >= since:
            found[moved.currency] += opening_clearing.brought(moved)
    for payout in stripe.payout.values():
        if payout.status == "paid" and arrival(payout) >= rules.balance_date:
            found[payout.currency] -= payout.amount
    return dict(found)


def reconcile(
    database: Database,
    client: QuickBooksWriter,
    business_id: str,
    rules: Rules,
    stripe: StripeEvidence,
    part: Part,
    intents: Sequence[Intent],
    also: Collection[LinkKey] = (),
) -> Reconciled:
    """Compare clearing as it is now, and the payouts of a part by their arrival; keep what is wrong.

    `intents` are all of the plan that follows from the evidence, written or not; `also` are keys of links whose payouts
    are compared too, whenever they arrived. Raises `QuickBooksFailure`.
    """
    clearing = _apart(
        _clearing(database, client, business_id, rules, balance_of(stripe, rules), intents), stripe, rules
    )
    told = [
        Finding(
            "clearing_differs",
            Severity.HIGH,
            f"clearing:{each.currency}",
            part.last or _latest(stripe, rules),
            f"Account {each.account} holds {each.in_books} {each.currency.upper()}, and Stripe says {each.at_stripe}: "
            f"they differ by {(each.in_books or 0) - each.at_stripe}"
            + (f", of which {-each.unwritten} is not written yet ({each.writes:,} writes)." if each.writes else "."),
        )
        for each in clearing
        if each.differs
    ]
    looked_at = [f"clearing:{each.currency}" for each in clearing if each.in_books is not None]
    differing, stated_of = stated.compare(stripe, rules, part.last or _latest(stripe, rules))
    told += differing
    looked_at += stated_of
    arrived = [
        each
        for each in stripe.payout.values()
        if each.status == "paid" and (payout_key(each.id) in also or _is_in(part, each, rules))
    ]
    equal, wrong = _payouts(database, client, business_id, rules, arrived)
    told += wrong
    looked_at += [str(payout_key(each.id)) for each in arrived]
    with database.transaction() as connection:
        findings.settle(connection, business_id, RECONCILE, told, looked_at)
    return Reconciled(tuple(clearing), equal, told)


def receivables(
    database: Database, client: QuickBooksWriter, business_id: str, rules: Rules, stripe: StripeEvidence
) -> tuple[list[Receivable], list[Finding]]:
    """What is open of every finalized invoice, at Stripe and in QuickBooks, and the invoices of which it differs.

    A hundred invoices a request; nothing is kept. Raises `QuickBooksFailure`.
    """
    finalized = [each for each in stripe.invoice.values() if each.status not in (None, "draft") and each.dated]
    linked = _linked(database, business_id, client.realm, [invoice_key(each.id) for each in finalized])
    held = _held(client, "Invoice", [link.qbo_id for link in linked.values() if link.entity == "Invoice"])
    at_stripe, in_books, counts = Counter[str](), dict[str, Decimal](), Counter[str]()
    told: list[Finding] = []
    for each in finalized:
        given_up = each.status == "void" or (each.status == "uncollectible" and rules.bad_debt_item is not None)
        still_open = 0 if given_up else each.amount_remaining
        link = linked.get(invoice_key(each.id))
        shown = Decimal(held[link.qbo_id]["Balance"]) if link is not None and link.qbo_id in held else None
        day = epoch_day(each.dated or 0, rules.zone)
        if shown is None and day < rules.balance_date and not still_open:
            continue  # settled before the export began: QuickBooks need not have it
        counts[each.currency] += 1
        at_stripe[each.currency] += still_open
        in_books[each.currency] = in_books.get(each.currency, Decimal(0)) + (shown or 0)
        wanted = qbo_amount(still_open, each.currency)
        if shown != wanted:
            where = "is not in QuickBooks" if shown is None else f"is open by {shown} in QuickBooks"
            detail = f"It {where}, and by {wanted} {each.currency.upper()} at Stripe."
            told.append(Finding("open_amount_differs", Severity.HIGH, str(invoice_key(each.id)), day, detail))
    found = [
        Receivable(currency, qbo_amount(at_stripe[currency], currency), in_books[currency], counts[currency])
        for currency in sorted(counts)
    ]
    return found, told


def _is_in(part: Part, payout: Payout, rules: Rules) -> bool:
    first = max(part.first or rules.balance_date, rules.balance_date)
    return first <= arrival(payout) <= (part.last or date.max) and (
        part.objects is None or f"payout:{payout.id}" in part.objects
    )


def _latest(stripe: StripeEvidence, rules: Rules) -> date:
    """The last day that Stripe's balance moved on."""
    return epoch_day(stripe.latest, rules.zone) if stripe.latest else rules.balance_date


def _clearing(
    database: Database,
    client: QuickBooksWriter,
    business_id: str,
    rules: Rules,
    balance: Mapping[str, int],
    intents: Sequence[Intent],
) -> list[Clearing]:
    before = _attempts(database, business_id)
    with database.transaction() as connection:
        written = written_to(connection, business_id, client.realm)
    accounts = Counter(rules.clearing.values())
    found: list[Clearing] = []
    for currency, account in sorted(rules.clearing.items()):
        at_stripe = qbo_amount(balance.get(currency, 0), currency)
        if accounts[account] > 1:
            found.append(Clearing(currency, account, at_stripe, None, "one account stands for several currencies"))
            continue
        held = client.query(ENTITIES["Account"], {"Name": account})
        if len(held) != 1:
            why = f"QuickBooks has {len(held)} accounts of that name"
            found.append(Clearing(currency, account, at_stripe, None, why))
            continue
        in_books = Decimal(held[0].get("CurrentBalance", 0))
        try:
            left = unwritten(intents, written, str(held[0]["Id"]), currency)
        except NotExact as error:
            found.append(Clearing(currency, account, at_stripe, None, str(error)))
        else:
            found.append(Clearing(currency, account, at_stripe, in_books, unwritten=left.amount, writes=left.writes))
    if _attempts(database, business_id) != before:
        why = "something was written while it was looked at"
        return [Clearing(each.currency, each.account, each.at_stripe, None, each.why or why) for each in found]
    return found


def _apart(clearing: Sequence[Clearing], stripe: StripeEvidence, rules: Rules) -> list[Clearing]:
    """Clearing with what Stripe still holds of it, and with what of that is available now, where it is known."""
    now, start = int(datetime.now(UTC).timestamp()), start_of(rules)
    held = split(stripe.balance_transaction.values(), now, start)
    found: list[Clearing] = []
    for each in clearing:
        parts = [qbo_amount(minor, each.currency) for minor in held.get(each.currency, (0, 0))]
        told = replace(each, held=sum(parts, Decimal(0)))
        if start is None or start.settled <= now:
            told = replace(told, available=parts[0], pending=parts[1])
        else:
            day = epoch_day(start.settled, rules.zone)
            why = f"are not told apart before {day}, by when all that was there at the start is available"
            told = replace(told, why_whole=why)
        found.append(told)
    return found


def _attempts(database: Database, business_id: str) -> int:
    """A number that grows with every step of an attempt to write."""
    [row] = database.fetch(
        "SELECT max(attempt_id) AS last FROM finance_os.intent_attempts WHERE business_id = %s", (business_id,)
    )
    return row["last"] or 0


def _payouts(
    database: Database, client: QuickBooksWriter, business_id: str, rules: Rules, arrived: Sequence[Payout]
) -> tuple[int, list[Finding]]:
    linked = _linked(database, business_id, client.realm, [payout_key(each.id) for each in arrived])
    deposits = [link.qbo_id for link in linked.values() if link.entity == "Deposit"]
    held = _held(client, "Deposit", deposits)
    equal, told = 0, list[Finding]()
    for payout in arrived:
        key = payout_key(payout.id)
        link = linked.get(key)
        if link is None:
            detail = "No object in QuickBooks stands for it: see what the plan says of it."
            told.append(Finding("payout_without_deposit", Severity.HIGH, str(key), arrival(payout), detail))
        elif link.entity != "Deposit":
            equal += 1  # a negative one is a journal entry, and verified as such
        elif link.qbo_id in held:  # one that is gone is told by who verifies links
            wrong = _differs(payout, link, held[link.qbo_id], rules)
            equal += wrong is None
            told += [wrong] if wrong else []
    return equal, told


def _differs(payout: Payout, link: Link, held: Mapping[str, Any], rules: Rules) -> Finding | None:
    """How a deposit is not its payout. One that was made here bears the date of its intent, which is verified."""
    amount = qbo_amount(payout.amount, payout.currency)
    day = date.fromisoformat(held["TxnDate"])
    far = link.origin == links.ADOPTED and abs(day - arrival(payout)) > timedelta(days=rules.payout_days)
    if Decimal(held["TotalAmt"]) == amount and not far:
        return None
    return Finding(
        "payout_differs_from_deposit",
        Severity.HIGH,
        str(link.key),
        arrival(payout),
        f"Deposit {link.qbo_id} of {day} is {held['TotalAmt']} {payout.currency.upper()}, and the payout, which "
        f"arrived on {arrival(payout)}, {amount}.",
    )


def _held(client: QuickBooksWriter, entity: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The objects of an entity that have one of the IDs, by ID."""
    held: dict[str, dict[str, Any]] = {}
    for at in range(0, len(ids), _CHUNK):
        held |= {str(each["Id"]): each for each in client.among(ENTITIES[entity], list(ids[at : at + _CHUNK]))}
    return held


def _linked(database: Database, business_id: str, realm: str, keys: Collection[LinkKey]) -> dict[LinkKey, Link]:
    with database.transaction() as connection:
        return {link.key: link for link in links.read(connection, business_id, realm, map(str, keys))}
