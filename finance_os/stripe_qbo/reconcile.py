"""Whether the books agree with Stripe where money is: clearing with Stripe's balance, each payout with its deposit.

QuickBooks is asked for what it holds now: a request for each clearing account, and one for a hundred deposits. What
Stripe says is the evidence that the plan was made from, so that what comes in meanwhile is no difference.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, Severity
from finance_os.evidence.windows import epoch_day
from finance_os.stripe_qbo import findings, links
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.intent import RAIL, Intent, LinkKey
from finance_os.stripe_qbo.links import Link
from finance_os.stripe_qbo.lookup import ENTITIES
from finance_os.stripe_qbo.mapping.amounts import qbo_amount
from finance_os.stripe_qbo.mapping.invoices import invoice_key
from finance_os.stripe_qbo.mapping.payouts import arrival, payout_key
from finance_os.stripe_qbo.parts import Part
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_evidence import Payout, StripeEvidence

RECONCILE = "qbo_reconcile"
"""Who found it, beside those of `findings`."""

_MOVES_CLEARING = ("Payment", "RefundReceipt", "Deposit", "JournalEntry", "Purchase", "Transfer")
_CHUNK = 100


@dataclass(frozen=True)
class Clearing:
    """One clearing account. Amounts are those of QuickBooks, in the account's currency.

    `at_stripe` is Stripe's balance with the payouts that are on their way to the bank. `in_books` is `None` where it
    was not compared, and `why` says why not.
    """

    currency: str
    account: str
    at_stripe: Decimal
    in_books: Decimal | None
    why: str = ""

    @property
    def differs(self) -> bool:
        return self.in_books is not None and self.in_books != self.at_stripe


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


def balance_of(stripe: StripeEvidence) -> dict[str, int]:
    """Stripe's balance by currency with the payouts that have left it and not arrived, in minor units.

    That is what clearing holds: a payout is booked when it arrives.
    """
    found: Counter[str] = Counter()
    for moved in stripe.balance_transaction.values():
        is_payout = moved.reporting_category in ("payout", "payout_reversal")
        found[moved.currency] += -moved.fee if is_payout else moved.net
    for payout in stripe.payout.values():
        if payout.status == "paid":
            found[payout.currency] -= payout.amount
    return dict(found)


def reconcile(
    database: Database,
    client: QuickBooksWriter,
    business_id: str,
    rules: Rules,
    stripe: StripeEvidence,
    part: Part,
    later: Sequence[Intent] = (),
) -> Reconciled:
    """Compare clearing as it is now, and the payouts of a part by their arrival; keep what is wrong.

    Clearing is not compared while something that moves it is planned and not written; `later` are intents that follow
    from the evidence too, and were not kept. Raises `QuickBooksFailure`.
    """
    unwritten = _unwritten(database, business_id, client.realm, later)
    clearing = _clearing(client, rules, balance_of(stripe), unwritten)
    told = [
        Finding(
            "clearing_differs",
            Severity.HIGH,
            f"clearing:{each.currency}",
            part.last or _latest(stripe, rules),
            f"Account {each.account} holds {each.in_books} {each.currency.upper()}, and Stripe says {each.at_stripe}: "
            f"they differ by {(each.in_books or 0) - each.at_stripe}.",
        )
        for each in clearing
        if each.differs
    ]
    looked_at = [f"clearing:{each.currency}" for each in clearing if each.in_books is not None]
    arrived = [
        each
        for each in stripe.payout.values()
        if each.status == "paid"
        and max(part.first or rules.balance_date, rules.balance_date) <= arrival(each) <= (part.last or date.max)
        and (part.objects is None or f"payout:{each.id}" in part.objects)
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


def _latest(stripe: StripeEvidence, rules: Rules) -> date:
    """The last day that Stripe's balance moved on."""
    return epoch_day(stripe.latest, rules.zone) if stripe.latest else rules.balance_date


def _clearing(client: QuickBooksWriter, rules: Rules, balance: Mapping[str, int], unwritten: int) -> list[Clearing]:
    accounts = Counter(rules.clearing.values())
    found: list[Clearing] = []
    for currency, account in sorted(rules.clearing.items()):
        at_stripe = qbo_amount(balance.get(currency, 0), currency)
        if unwritten:
            why = f"{unwritten:,} planned writes that move money are not written yet"
        elif accounts[account] > 1:
            why = "one account stands for several currencies"
        else:
            held = client.query(ENTITIES["Account"], {"Name": account})
            if len(held) == 1:
                found.append(Clearing(currency, account, at_stripe, Decimal(held[0].get("CurrentBalance", 0))))
                continue
            why = f"QuickBooks has {len(held)} accounts of that name"
        found.append(Clearing(currency, account, at_stripe, None, why))
    return found


def _unwritten(database: Database, business_id: str, realm: str, later: Sequence[Intent]) -> int:
    moving = {(str(each.key), each.operation.value) for each in later if each.entity in _MOVES_CLEARING}
    rows = database.fetch(
        """
        SELECT key, operation, state = 'applied' AS is_written FROM finance_os.intents
        WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s AND entity = ANY (%(entities)s)
          AND (state IN ('planned', 'sending', 'failed', 'conflicted')
               OR (state = 'applied' AND key = ANY (%(later)s)))
        """,
        {
            "business_id": business_id,
            "rail": RAIL,
            "realm": realm,
            "entities": list(_MOVES_CLEARING),
            "later": [key for key, _ in moving],
        },
    )
    waiting = {(row["key"], row["operation"]) for row in rows if not row["is_written"]}
    written = {(row["key"], row["operation"]) for row in rows if row["is_written"]}
    return len(waiting | (moving - written))


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
