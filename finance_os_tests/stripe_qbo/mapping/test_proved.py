"""Evidence that does not begin with the account: Stripe's own balance says so, and nothing is planned."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest

from finance_os.evidence.extraction import Severity
from finance_os.sandbox.world import World
from finance_os.stripe_qbo.books import Books
from finance_os.stripe_qbo.mapping import proved
from finance_os.stripe_qbo.planning import plan_of
from finance_os.stripe_qbo.stripe_balance import Reading, reading_of
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence

from .test_opening import BALANCE_DATES
from .worlds import KINDS, balance_of, company, evidence, living, rules, shown, stripe_of


class Cut:
    """A world whose books were kept by hand until a day, and what Stripe said of its balance at the end."""

    def __init__(self, world: World, books: Books, since: date) -> None:
        self.world, self.books = world, books
        self.rules = rules(balance_date=since, opening_account="Undeposited Funds")
        self.first = int(datetime.combine(since, datetime.min.time(), UTC).timestamp())
        self.now = int(world.when.timestamp())

    def reading(self, read_from: int | None, **more: Any) -> Reading:
        read = reading_of(msgspec.json.encode(balance_of(self.world)), self.now, read_from)
        return replace(read, **more)

    def whole(self, *readings: Reading) -> StripeEvidence:
        return replace(evidence(self.world), readings=readings)

    def from_balance_date(self, *readings: Reading) -> StripeEvidence:
        """What is staged of who reads Stripe from the balance date on."""
        later = {kind: [x for x in shown(self.world, kind) if x[1]["created"] >= self.first] for kind in KINDS}
        return replace(stripe_of(later), readings=readings)


@pytest.fixture(
    scope="module",
    params=[(13, BALANCE_DATES[0]), (6, BALANCE_DATES[1])],
    ids=["13", "6"],
)
def cut(request: pytest.FixtureRequest) -> Iterator[Cut]:
    seed, since = request.param
    world = living(44, 5, seed)
    with company(world, since - timedelta(days=1)) as realm:
        yield Cut(world, realm.books(), since)


def test_nothing_is_planned_from_evidence_that_begins_at_the_balance_date(cut: Cut) -> None:
    stripe = cut.from_balance_date(cut.reading(cut.first))
    wrong, right = (plan_of(each, cut.books, cut.rules) for each in (replace(stripe, readings=None), cut.whole()))
    stated = [{each.currency: each.clearing for each in plan.opening}["usd"] for plan in (wrong, right)]
    assert stated[0] != stated[1]
    plan = plan_of(stripe, cut.books, cut.rules)
    assert (plan.intents, plan.adoptions, plan.opening) == ((), {}, ())
    (told,) = plan.findings
    assert (told.code, told.severity, told.subject) == (proved.DIFFERS, Severity.CRITICAL, "stripe_balance:usd")
    held = sum(each.net for each in cut.world.stripe.rows("balance_transaction"))
    staged = sum(each.net for each in stripe.balance_transaction.values())
    assert f"held {held} USD" in told.detail
    assert f"come to {staged}" in told.detail
    assert "FINANCE_OS_START_DATE" in told.detail


def test_all_of_it_is_planned_as_if_nobody_had_asked(cut: Cut) -> None:
    asked, unasked = (cut.whole(*each) for each in ((cut.reading(None),), ()))
    assert proved.proof_of(asked, cut.rules).agrees
    assert plan_of(asked, cut.books, cut.rules) == plan_of(unasked, cut.books, cut.rules)


def test_one_that_differs_decides_only_where_all_was_read_after_it(cut: Cut) -> None:
    short = cut.from_balance_date()
    for read_from, decides in ((None, False), (cut.first, True), (cut.first + 2 * 86_400, False)):
        stripe = replace(short, accounts=("acct_1",), readings=(cut.reading(read_from),))
        assert bool(proved.proof_of(stripe, cut.rules).differences) is decides
        assert (proved.unproven(stripe, cut.rules) is None) is decides
        assert plan_of(stripe, cut.books, cut.rules).findings


def test_the_newest_reading_that_decides_counts(cut: Cut) -> None:
    """One more came while the newest was being read: the one before it is asked."""
    stripe = cut.whole()
    fresh = cut.reading(None, read_at=cut.now + 3_600, pending={"usd": 1_234_567})
    proof = proved.proof_of(replace(stripe, readings=(fresh, cut.reading(None))), cut.rules)
    assert (proof.agrees, proof.reading) == (True, cut.reading(None))
    wrong = replace(fresh, read_from=cut.first)
    assert not proved.proof_of(replace(stripe, readings=(wrong, cut.reading(None))), cut.rules).agrees


def test_a_reading_before_the_balance_date_says_nothing(cut: Cut) -> None:
    old = cut.reading(0, read_at=cut.first - 1)
    stripe = replace(cut.whole(old), accounts=("acct_1",))
    assert proved.proof_of(stripe, cut.rules).reading is None
    assert (proved.unproven(stripe, cut.rules) or ("",))[0] == proved.UNPROVEN


def test_a_payout_on_its_way_as_the_balance_date_begins_has_to_be_read() -> None:
    """All that was there had just been paid out: what is staged from then on comes to Stripe's balance, and still the
    opening is wrong by the payout, which nothing shows."""
    seed, since = 29, BALANCE_DATES[2]
    world = living(44, 5, seed)
    with company(world, since - timedelta(days=1)) as realm:
        cut = Cut(world, realm.books(), since)
    short = replace(cut.from_balance_date(cut.reading(cut.first)), accounts=("acct_1",))
    assert proved.proof_of(short, cut.rules).agrees
    stated = [plan_of(each, cut.books, cut.rules).opening for each in (short, cut.whole())]
    missing = {each.clearing for each in stated[1]} - {each.clearing for each in stated[0]}
    (payout,) = [
        each
        for each in world.stripe.rows("payout")
        if each.created < cut.first <= each.arrival_date and each.status == "paid"
    ]
    assert missing == {payout.amount}
    day, end = 86_400, cut.now
    for spans, code in (
        (((cut.first, end),), proved.PAYOUTS_UNREAD),
        (((cut.first - 12 * day, end),), proved.PAYOUTS_UNREAD),
        (((cut.first - 20 * day, cut.first - day), (cut.first, end)), proved.PAYOUTS_UNREAD),
        (((cut.first - 14 * day, end),), None),
    ):
        told = proved.unproven(replace(short, payouts_read=spans), cut.rules)
        assert (told[0] if told else None) == code
