"""The books that follow from a world: a plan, posted to an empty realm, leaves QuickBooks and Stripe in agreement."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from finance_os.sandbox.quickbooks.formats import at_rate, cents_of, from_minor
from finance_os.sandbox.states import CreditNote
from finance_os.sandbox.world import World
from finance_os.stripe_qbo.lookup import require_fit
from finance_os.stripe_qbo.planning import Plan, plan_of
from finance_os.stripe_qbo.rules import Rules

from .worlds import OUTSIDE, START, Company, company, evidence, living, rules

# Seed and size; from size 8 on customers pay in dollars, yen, dinars and euros.
WORLDS = ((3, 4), (7, 4), (21, 3), (46, 4), (52, 2), (5, 8))
# The same with credits that are settled outside of Stripe; the first of them credits what is open of an invoice too.
WORLDS_WITH_OUTSIDE_CREDITS = ((7, 4), (3, 4), (5, 8))
DAYS = 40


class Posted:
    """A world, the plan of it, and the realm that it was posted to."""

    def __init__(self, world: World, realm: Company, plan: Plan, chosen: Rules) -> None:
        self.world, self.realm, self.plan, self.rules = world, realm, plan, chosen


_PARAMS = [*((*each, False) for each in WORLDS), *((*each, True) for each in WORLDS_WITH_OUTSIDE_CREDITS)]


@pytest.fixture(scope="module", params=_PARAMS)
def posted(request: pytest.FixtureRequest) -> Iterator[Posted]:
    seed, size, outside_credits = request.param
    world = living(DAYS, size, seed, outside_credits=outside_credits)
    chosen = rules(outside_account=OUTSIDE) if outside_credits else rules()
    with company(world) as realm:
        stripe, books = evidence(world), realm.books()
        plan = plan_of(stripe, books, chosen)
        assert plan == plan_of(stripe, books, chosen)
        assert [each.input_hash for each in plan.intents] == [
            each.input_hash for each in plan_of(stripe, books, chosen).intents
        ]
        realm.apply(plan)
        yield Posted(world, realm, plan, chosen)


def test_what_was_posted_is_planned_again_unchanged(posted: Posted) -> None:
    """QuickBooks read again after the plan was posted: the same intents, and customers that are there."""
    again = plan_of(evidence(posted.world), posted.realm.books(), posted.rules)
    made = [each for each in posted.plan.intents if each.entity != "Customer"]
    assert [(each.key, each.operation, each.input_hash) for each in again.intents] == [
        (each.key, each.operation, each.input_hash) for each in made
    ]
    assert again.findings == posted.plan.findings
    customers = {each.key: posted.realm.ids[str(each.key)] for each in posted.plan.intents if each not in made}
    assert {key: each.qbo_id for key, each in again.adoptions.items()} == customers


def test_debits_equal_credits(posted: Posted) -> None:
    assert posted.realm.trial_balance() == 0
    assert len(posted.plan.intents) > 40


def test_every_invoice_is_open_by_what_stripe_says(posted: Posted) -> None:
    held = {each["DocNumber"]: each for each in posted.realm.all("Invoice")}
    finalized = [each for each in posted.world.stripe.rows("invoice") if each.status != "draft"]
    assert held.keys() == {each.number for each in finalized}
    for each in finalized:
        still_open = 0 if each.status == "void" else each.amount_remaining
        total = 0 if each.status == "void" else each.total
        shown = held[each.number or ""]
        assert cents_of(shown["Balance"]) == from_minor(still_open, each.currency), each.id
        assert cents_of(shown["TotalAmt"]) == from_minor(total, each.currency), each.id
        assert shown["CurrencyRef"]["value"] == each.currency.upper()
        assert shown["TxnDate"] == _day(each.finalized_at or 0).isoformat()


def test_clearing_is_stripes_balance_on_every_day(posted: Posted) -> None:
    """With what is on its way to the bank. Out of QuickBooks' own objects, day by day."""
    in_books, at_stripe = clearing_by_day(posted.realm), stripe_by_day(posted.world)
    days = [START + timedelta(days=n) for n in range(DAYS)]
    assert [_until(in_books, day) for day in days] == [_until(at_stripe, day) for day in days]
    assert any(_until(at_stripe, day) for day in days)
    assert cents_of(posted.realm.balance("Stripe Clearing")) == sum(at_stripe.values())


def test_every_deposit_is_its_payout(posted: Posted) -> None:
    marked = {each["PrivateNote"].split()[-1]: each for each in posted.realm.all("Deposit") if "po_" in str(each)}
    paid = [each for each in posted.world.stripe.rows("payout") if each.status == "paid"]
    assert marked.keys() == {f"stripe:payout:{each.id}:payout" for each in paid}
    bank = next(each["Id"] for each in posted.realm.all("Account") if each["Name"] == "Rho Checking")
    for each in paid:
        deposit = marked[f"stripe:payout:{each.id}:payout"]
        assert cents_of(deposit["TotalAmt"]) == each.amount
        assert deposit["TxnDate"] == _day(each.arrival_date).isoformat()
        assert deposit["DepositToAccountRef"]["value"] == bank


def test_credit_left_is_the_customers_balance(posted: Posted) -> None:
    left: dict[str, int] = defaultdict(int)
    for each in posted.realm.all("CreditMemo"):
        left[each["CustomerRef"]["value"]] += cents_of(each["RemainingCredit"])
    for each in posted.world.stripe.rows("customer"):
        qbo_id = posted.realm.ids.get(f"customer:{each.id}:customer_{each.currency}")
        if qbo_id is not None:
            assert left[qbo_id] == from_minor(-each.balance, each.currency), each.id


def test_what_was_credited_outside_of_stripe_left_the_account_for_that(posted: Posted) -> None:
    """At QuickBooks' rate of its day, once; all of it in worlds that have it, and nothing in the others."""
    notes = posted.world.stripe.rows("credit_note")
    paid_back = [each for each in notes if each.out_of_band_amount]
    assert bool(paid_back) == posted.world.outside_credits
    assert cents_of(posted.realm.balance(OUTSIDE)) == -sum(outside_at_home(posted.realm, each) for each in paid_back)
    receipts = {each["DocNumber"]: each for each in posted.realm.all("RefundReceipt")}
    assert len(receipts) == len(posted.world.stripe.rows("refund")) + len(paid_back)
    for each in paid_back:
        shown = receipts[each.id[-21:]]
        assert cents_of(shown["TotalAmt"]) == from_minor(each.out_of_band_amount, each.currency)
        assert shown["TxnDate"] == _day(each.created).isoformat()


def test_what_was_credited_is_booked_once_whichever_way_it_went(posted: Posted) -> None:
    """In each currency: credit notes, refunds without one, and goodwill are credit memos or refund receipts."""
    ledger = posted.world.stripe
    of_notes = {each.refund for each in ledger.rows("credit_note")}
    given: dict[str, int] = defaultdict(int)
    for each in ledger.rows("credit_note"):
        given[each.currency.upper()] += from_minor(each.amount, each.currency)
    for each in ledger.rows("refund"):
        given[each.currency.upper()] += from_minor(each.amount, each.currency) if each.id not in of_notes else 0
    for each in ledger.rows("customer_balance_transaction"):
        given[each.currency.upper()] -= from_minor(each.amount, each.currency) if each.type == "adjustment" else 0
    booked: dict[str, int] = defaultdict(int)
    for each in (*posted.realm.all("CreditMemo"), *posted.realm.all("RefundReceipt")):
        booked[each["CurrencyRef"]["value"]] += cents_of(each["TotalAmt"])
    assert {each: cents for each, cents in booked.items() if cents} == {e: cents for e, cents in given.items() if cents}


def test_fees_are_stripes_fees(posted: Posted) -> None:
    fees = next(each["Id"] for each in posted.realm.all("Account") if each["Name"] == "Stripe Fees")
    booked = sum(_signed(line) for line in _journal_lines(posted.realm) if _account(line) == fees)
    assert booked == sum(each.fee for each in posted.world.stripe.rows("balance_transaction"))


def test_nothing_is_left_out_without_a_finding(posted: Posted) -> None:
    """What this world holds is known to the rules; only what was given up is told."""
    assert {each.code for each in posted.plan.findings} <= {"invoice_uncollectible"}
    given_up = {each.id for each in posted.world.stripe.rows("invoice") if each.status == "uncollectible"}
    assert {each.subject for each in posted.plan.findings if each.code == "invoice_uncollectible"} == given_up


def test_every_intent_can_be_found_again_and_knows_its_evidence(posted: Posted) -> None:
    known = set(evidence(posted.world).hashes.values())
    seen: set[str] = set()
    for each in posted.plan.intents:
        require_fit(each)
        assert all(str(key) in seen for key in each.depends_on), each.key
        seen.add(str(each.key))
        assert each.evidence
        assert set(each.evidence.values()) <= known


def test_every_stripe_line_is_a_line_with_its_period(posted: Posted) -> None:
    held = {each["DocNumber"]: each for each in posted.realm.all("Invoice")}
    for each in posted.world.stripe.rows("invoice"):
        if each.status not in ("draft", "void"):
            lines = [line for line in held[each.number]["Line"] if line["DetailType"] == "SalesItemLineDetail"]
            assert [cents_of(line["Amount"]) for line in lines] == [
                from_minor(x.amount, each.currency) for x in each.lines
            ]
            for line, said in zip(lines, each.lines, strict=True):
                assert said.description in line["Description"]
                assert _day(said.period_start).isoformat() in line["Description"]
                assert _day(said.period_end).isoformat() in line["Description"]


def test_the_same_world_in_two_steps_ends_in_the_same_books() -> None:
    """What was planned yesterday is planned today too, unchanged, and the rest is added."""
    world = living(25, 4, 7)
    with company(world) as realm:
        books = realm.books()
        early = plan_of(evidence(world), books, rules())
        world.advance_to(int(datetime(2026, 7, 11, tzinfo=UTC).timestamp()))
        late = plan_of(evidence(world), books, rules())
        later = {(each.key, each.operation): each.input_hash for each in late.intents}
        assert len(later) > len(early.intents)
        for each in early.intents:
            assert later[each.key, each.operation] == each.input_hash, each.key


# --- QuickBooks' and Stripe's figures, each from its own objects


def outside_at_home(realm: Company, note: CreditNote) -> int:
    """What of a note was credited outside of Stripe, in cents of the home currency."""
    cents = from_minor(note.out_of_band_amount, note.currency)
    if note.currency == "usd":
        return cents
    asked = {"sourcecurrencycode": note.currency.upper(), "asofdate": _day(note.created).isoformat()}
    return at_rate(cents, Decimal(realm.client.get("exchangerate", **asked)["ExchangeRate"]["Rate"]))


def _day(moment: int) -> date:
    return datetime.fromtimestamp(moment, UTC).date()


def _until(by_day: dict[date, int], last: date) -> int:
    return sum(cents for day, cents in by_day.items() if day <= last)


def stripe_by_day(world: World) -> dict[date, int]:
    found: dict[date, int] = defaultdict(int)
    for each in world.stripe.rows("balance_transaction"):
        if each.type not in ("payout", "payout_failure"):
            found[_day(each.created)] += each.net
    for each in world.stripe.rows("payout"):
        if each.status == "paid":
            found[_day(each.arrival_date)] -= each.amount
    return found


def clearing_by_day(realm: Company) -> dict[date, int]:
    clearing = next(each["Id"] for each in realm.all("Account") if each["Name"] == "Stripe Clearing")
    found: dict[date, int] = defaultdict(int)
    for entity, sign in (("Payment", 1), ("RefundReceipt", -1)):
        for each in realm.all(entity):
            if each.get("DepositToAccountRef", {}).get("value") == clearing:
                rate = Decimal(each["ExchangeRate"])
                found[date.fromisoformat(each["TxnDate"])] += sign * at_rate(cents_of(each["TotalAmt"]), rate)
    for each in realm.all("Deposit"):
        for line in each["Line"]:
            if line.get("DepositLineDetail", {}).get("AccountRef", {}).get("value") == clearing:
                found[date.fromisoformat(each["TxnDate"])] -= cents_of(line["Amount"])
    for line in _journal_lines(realm):
        if _account(line) == clearing:
            found[line["day"]] += _signed(line)
    return found


def _journal_lines(realm: Company) -> Iterator[dict[str, Any]]:
    for each in realm.all("JournalEntry"):
        for line in each["Line"]:
            yield {**line, "day": date.fromisoformat(each["TxnDate"])}


def _account(line: dict[str, Any]) -> str:
    return line["JournalEntryLineDetail"]["AccountRef"]["value"]


def _signed(line: dict[str, Any]) -> int:
    return cents_of(line["Amount"]) * (1 if line["JournalEntryLineDetail"]["PostingType"] == "Debit" else -1)
