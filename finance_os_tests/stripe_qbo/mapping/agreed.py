"""What QuickBooks has to hold of a world, in any accounting time zone: taken from the world's own records.

Nothing here shares code with the mapping. Dates are those of the business's time zone, but for a payout's arrival,
which Stripe gives as a date. `agree` asserts all of it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from finance_os.sandbox.quickbooks.formats import at_rate, cents_of, from_minor
from finance_os.sandbox.world import World
from finance_os.stripe_qbo.lookup import require_fit
from finance_os.stripe_qbo.planning import Plan
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence

from .test_books import clearing_by_day
from .worlds import OUTSIDE, Company

LATE = timedelta(days=3)
"""After how long a payout has to be in the bank's lines, and how far from its arrival it may be there."""


@dataclass(frozen=True)
class Posted:
    """A world, and the realm that its plan was posted to; `zone` is the accounting time zone."""

    world: World
    zone: str
    realm: Company
    plan: Plan
    evidence: StripeEvidence

    def day(self, moment: int | None) -> date:
        return datetime.fromtimestamp(moment or 0, ZoneInfo(self.zone)).date()

    def account(self, name: str) -> str:
        return next(each["Id"] for each in self.realm.all("Account") if each["Name"] == name)


def agree(posted: Posted) -> None:
    """Assert that the realm holds what the world says, and that nothing was left out without a word."""
    for each in (_invoices, _lines, _clearing, _deposits, _bank, _credit_left, _outside, _credited, _fees, _told):
        each(posted)
    assert posted.realm.trial_balance() == 0


def _invoices(posted: Posted) -> None:
    """Every invoice that was finalized, open by what Stripe says."""
    held = {each["DocNumber"]: each for each in posted.realm.all("Invoice")}
    finalized = [each for each in posted.world.stripe.rows("invoice") if each.status != "draft"]
    assert held.keys() == {each.number for each in finalized}
    for each in finalized:
        shown, is_void = held[each.number], each.status == "void"
        assert cents_of(shown["Balance"]) == from_minor(0 if is_void else each.amount_remaining, each.currency), each.id
        assert cents_of(shown["TotalAmt"]) == from_minor(0 if is_void else each.total, each.currency), each.id
        assert shown["CurrencyRef"]["value"] == each.currency.upper()
        assert shown["TxnDate"] == posted.day(each.finalized_at).isoformat(), each.id
        if each.due_date and not is_void:
            assert shown["DueDate"] == posted.day(each.due_date).isoformat(), each.id


def _lines(posted: Posted) -> None:
    """A line for each of Stripe's, with its period."""
    held = {each["DocNumber"]: each for each in posted.realm.all("Invoice")}
    for each in posted.world.stripe.rows("invoice"):
        if each.status in ("draft", "void"):
            continue
        lines = [line for line in held[each.number]["Line"] if line["DetailType"] == "SalesItemLineDetail"]
        assert [cents_of(line["Amount"]) for line in lines] == [from_minor(x.amount, each.currency) for x in each.lines]
        for line, said in zip(lines, each.lines, strict=True):
            assert said.description in line["Description"]
            for moment in (said.period_start, said.period_end):
                assert posted.day(moment).isoformat() in line["Description"]


def _clearing(posted: Posted) -> None:
    """On every day what Stripe's balance is, with what is on its way to the bank."""
    at_stripe: dict[date, int] = defaultdict(int)
    for each in posted.world.stripe.rows("balance_transaction"):
        if each.type not in ("payout", "payout_failure"):
            at_stripe[posted.day(each.created)] += each.net
    for each in _paid_out(posted):
        at_stripe[_arrival(each)] -= each.amount
    assert _moved(clearing_by_day(posted.realm)) == _moved(at_stripe)
    assert cents_of(posted.realm.balance("Stripe Clearing")) == sum(at_stripe.values())


def _deposits(posted: Posted) -> None:
    """One for each payout, of its amount, in the bank's account, on the day of its arrival."""
    held = {each["PrivateNote"].split()[-1]: each for each in posted.realm.all("Deposit") if "po_" in str(each)}
    paid = _paid_out(posted)
    assert held.keys() == {f"stripe:payout:{each.id}:payout" for each in paid}
    bank = posted.account("Rho Checking")
    for each in paid:
        deposit = held[f"stripe:payout:{each.id}:payout"]
        assert cents_of(deposit["TotalAmt"]) == each.amount
        assert deposit["TxnDate"] == _arrival(each).isoformat()
        assert deposit["DepositToAccountRef"]["value"] == bank


def _bank(posted: Posted) -> None:
    """Each deposit is a line of the bank, but where the world planted something: that is told, and nothing else."""
    held = {each["PrivateNote"].split()[-1]: each for each in posted.realm.all("Deposit") if "po_" in str(each)}
    lines = {line.reference: line for line in posted.world.bank if line.reference}
    planted: Mapping[str, str] = {each.id: each.kind for each in posted.world.planted if each.kind.startswith("rho_")}
    last_day = max((line.posted for line in posted.world.bank), default=date.min)
    told = {(each.subject, each.code) for each in posted.plan.findings if "bank" in each.code}
    expected: set[tuple[str, str]] = set()
    for each in _paid_out(posted):
        deposit, line = held[f"stripe:payout:{each.id}:payout"], lines.get(each.trace_id)
        match planted.get(each.id):
            case "rho_payout_missing":
                assert line is None
                if last_day >= _arrival(each) + LATE:
                    expected.add((each.id, "payout_not_at_bank"))
            case "rho_amount_one_cent_off":
                assert line is not None
                assert line.amount == each.amount + 1
                expected.add((each.id, "payout_amount_differs_at_bank"))
            case other:
                assert other is None
                assert line is not None, each.id
                assert line.amount == cents_of(deposit["TotalAmt"]), each.id
                assert abs(line.posted - date.fromisoformat(deposit["TxnDate"])) <= LATE, each.id
    assert told == expected


def _credit_left(posted: Posted) -> None:
    """What is left of credit memos is what Stripe owes the customer."""
    left: dict[str, int] = defaultdict(int)
    for each in posted.realm.all("CreditMemo"):
        left[each["CustomerRef"]["value"]] += cents_of(each["RemainingCredit"])
    owed = {each.id for each in posted.world.stripe.rows("customer") if each.balance}
    for each in posted.world.stripe.rows("customer"):
        qbo_id = posted.realm.ids.get(f"customer:{each.id}:customer_{each.currency}")
        if qbo_id is not None:
            owed.discard(each.id)
            assert left[qbo_id] == from_minor(-each.balance, each.currency), each.id
    assert not owed


def _outside(posted: Posted) -> None:
    """What was credited outside of Stripe left the account for that, at QuickBooks' rate of its day."""
    notes = [each for each in posted.world.stripe.rows("credit_note") if each.out_of_band_amount]
    expected = 0
    for each in notes:
        cents = from_minor(each.out_of_band_amount, each.currency)
        if each.currency != "usd":
            asked = {"sourcecurrencycode": each.currency.upper(), "asofdate": posted.day(each.created).isoformat()}
            rate = posted.realm.client.get("exchangerate", **asked)["ExchangeRate"]["Rate"]
            cents = at_rate(cents, Decimal(rate))
        expected += cents
    assert cents_of(posted.realm.balance(OUTSIDE)) == -expected
    receipts = posted.realm.all("RefundReceipt")
    assert len(receipts) == len(posted.world.stripe.rows("refund")) + len(notes)


def _credited(posted: Posted) -> None:
    """In each currency and on each day: what was given back is credit memos and refund receipts, once.

    What only reduced an invoice that was voided later was not given: it is gone with the invoice.
    """
    ledger = posted.world.stripe
    of_notes = {each.refund for each in ledger.rows("credit_note")}
    given: dict[Any, int] = defaultdict(int)
    for each in ledger.rows("credit_note"):
        if ledger.one("invoice", each.invoice).status == "void":
            assert each.type == "pre_payment"
            continue
        given[each.currency.upper(), posted.day(each.created)] += from_minor(each.amount, each.currency)
    for each in ledger.rows("refund"):
        if each.id not in of_notes:
            given[each.currency.upper(), posted.day(each.created)] += from_minor(each.amount, each.currency)
    for each in ledger.rows("customer_balance_transaction"):
        if each.type == "adjustment":
            given[each.currency.upper(), posted.day(each.created)] -= from_minor(each.amount, each.currency)
    booked: dict[Any, int] = defaultdict(int)
    for each in (*posted.realm.all("CreditMemo"), *posted.realm.all("RefundReceipt")):
        booked[each["CurrencyRef"]["value"], date.fromisoformat(each["TxnDate"])] += cents_of(each["TotalAmt"])
    assert _moved(booked) == _moved(given)


def _fees(posted: Posted) -> None:
    """By day: Stripe's fees, and what its disputes took and gave back."""
    ledger = posted.world.stripe
    fees: dict[date, int] = defaultdict(int)
    disputes: dict[date, int] = defaultdict(int)
    for each in ledger.rows("balance_transaction"):
        fees[posted.day(each.created)] += each.fee
        if each.reporting_category in ("dispute", "dispute_reversal"):
            disputes[posted.day(each.created)] -= each.amount
    for name, expected in (("Stripe Fees", fees), ("Chargebacks", disputes)):
        account = posted.account(name)
        booked: dict[date, int] = defaultdict(int)
        for each in posted.realm.all("JournalEntry"):
            for line in each["Line"]:
                if line["JournalEntryLineDetail"]["AccountRef"]["value"] == account:
                    sign = 1 if line["JournalEntryLineDetail"]["PostingType"] == "Debit" else -1
                    booked[date.fromisoformat(each["TxnDate"])] += sign * cents_of(line["Amount"])
        assert _moved(booked) == _moved(expected), name


def _told(posted: Posted) -> None:
    """What was given up is told, and what the bank says otherwise; every intent fits, and knows its evidence."""
    findings = [each for each in posted.plan.findings if "bank" not in each.code]
    given_up = {each.id for each in posted.world.stripe.rows("invoice") if each.status == "uncollectible"}
    assert {(each.code, each.subject) for each in findings} == {("invoice_uncollectible", each) for each in given_up}
    known, seen = set(posted.evidence.hashes.values()), set[str]()
    for each in posted.plan.intents:
        require_fit(each)
        assert all(str(key) in seen for key in each.depends_on), each.key
        seen.add(str(each.key))
        assert each.evidence
        assert set(each.evidence.values()) <= known


def _paid_out(posted: Posted) -> list[Any]:
    return [each for each in posted.world.stripe.rows("payout") if each.status == "paid"]


def _arrival(payout: Any) -> date:
    """https://docs.stripe.com/api/payouts/object: a date, written as midnight UTC of it."""
    return datetime.fromtimestamp(payout.arrival_date, UTC).date()


def _moved(found: Mapping[Any, int]) -> dict[Any, int]:
    key: Callable[[Any], str] = str
    return {each: found[each] for each in sorted(found, key=key) if found[each]}
