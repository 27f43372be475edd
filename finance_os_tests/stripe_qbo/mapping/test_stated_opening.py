"""What the rules state that Stripe held as the balance date began stands for everything before: the same is planned and
compared as from the account's whole history, whatever was on its way, and a wrong statement is told with the right one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from finance_os.evidence.extraction import Severity
from finance_os.evidence.money import as_decimal
from finance_os.evidence.windows import start_of_day
from finance_os.sandbox.world import World
from finance_os.stripe_qbo import stated
from finance_os.stripe_qbo.books import Books
from finance_os.stripe_qbo.mapping import opening_clearing, proved
from finance_os.stripe_qbo.mapping.amounts import qbo_amount
from finance_os.stripe_qbo.planning import Plan, plan_of
from finance_os.stripe_qbo.reconcile import balance_of
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_balance import reading_of, split
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence
from finance_os.stripe_qbo.unwritten import unwritten

from .made import Made, at
from .worlds import KINDS, PAID_OUT, START, company, evidence, living, rules, shown, stripe_of
from .worlds import balance_of as said_of

DAY = 86_400


class Begun:
    """A world, and the evidence of it from a balance date on, beside all of it."""

    def __init__(self, world: World, since: date, zone: str = "UTC") -> None:
        self.world, self.since = world, since
        self.first = int(start_of_day(since, ZoneInfo(zone)).timestamp())
        self.now = int(world.when.timestamp())
        moved = world.stripe.rows("balance_transaction")
        self.held = sum(each.net for each in moved if each.created < self.first)
        self.whole = rules(balance_date=since, time_zone=zone, opening_account="Undeposited Funds")
        self.begun = self.stating(self.held)
        self.reading = reading_of(msgspec.json.encode(said_of(world)), self.now, self.first)
        spans = ((self.first - proved.IN_TRANSIT * DAY, self.now),)
        self.history = replace(evidence(world), readings=(self.reading,), payouts_read=spans, accounts=("acct_1",))

    def stating(self, minor: int) -> Rules:
        return msgspec.structs.replace(self.whole, opening_stripe_balance={"usd": f"{as_decimal(minor, 'usd'):f}"})

    def evidence(self, *also: str) -> StripeEvidence:
        """Without the balance transactions of before the balance date, but for some, and without older payouts."""
        moves = {
            key: each
            for key, each in self.history.balance_transaction.items()
            if each.created >= self.first or key in also
        }
        made = self.first - proved.IN_TRANSIT * DAY
        payouts = {key: each for key, each in self.history.payout.items() if each.created >= made}
        return replace(self.history, balance_transaction=moves, payout=payouts)


def _nonzero(held: Mapping[str, int]) -> dict[str, int]:
    return {currency: minor for currency, minor in held.items() if minor}


def _without_older_payouts(plan: Plan, stripe: StripeEvidence) -> Plan:
    """A plan without the deposits of payouts that are not staged: long since arrived, they stand for nothing to do."""
    kept = {
        key: each
        for key, each in plan.adoptions.items()
        if key.stripe_object != "payout" or key.stripe_id in stripe.payout
    }
    return replace(plan, adoptions=kept)


@settings(max_examples=10, derandomize=True, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    days=st.integers(38, 60),
    begun=st.integers(3, 36),
    size=st.integers(1, 5),
    seed=st.integers(0, 9_999),
    zone=st.sampled_from(("UTC", "America/New_York", "Pacific/Auckland")),
    minimum_balance=st.sampled_from((0, 50_000)),
)
@example(days=60, begun=9, size=3, seed=34, zone="UTC", minimum_balance=0)  # a payout is made, and fails later
@example(days=60, begun=10, size=3, seed=34, zone="UTC", minimum_balance=0)  # it is on its way, and fails later
@example(days=60, begun=11, size=3, seed=34, zone="UTC", minimum_balance=0)  # it has failed
@example(days=60, begun=13, size=3, seed=21, zone="America/New_York", minimum_balance=0)  # a week-end lies between
def test_it_is_as_with_the_whole_history(
    days: int, begun: int, size: int, seed: int, zone: str, minimum_balance: int
) -> None:
    world = living(days, size, seed, minimum_balance=minimum_balance)
    since = START + timedelta(days=begun)
    case = Begun(world, since, zone)
    stripe, history = case.evidence(), case.history
    with company(world, since - timedelta(days=1)) as realm:
        books = realm.books(days + 5)
    assert proved.proof_of(stripe, case.begun).agrees
    assert proved.proof_of(history, case.begun).agrees  # what is older does not count
    expected = plan_of(history, books, case.whole)
    assert plan_of(history, books, case.begun) == expected
    assert plan_of(stripe, books, case.begun) == _without_older_payouts(expected, stripe)
    for each in (stripe, history):
        assert _nonzero(balance_of(each, case.begun)) == _nonzero(balance_of(history, case.whole))
        found, looked_at = stated.compare(each, case.begun, since)
        assert found == []
        is_settled = case.now >= case.first + 32 * DAY
        assert looked_at == ["stripe_balance:usd"] + ["stripe_available:usd"] * is_settled
    start = proved.start_of(case.begun)
    assert start is not None
    if case.now >= start.settled:
        apart = split(history.balance_transaction.values(), case.now)
        assert split(stripe.balance_transaction.values(), case.now, start) == apart


# --- what is wrong, and what is not known


@pytest.fixture(scope="module")
def begun() -> Begun:
    """A payout was on its way as the balance date began, and failed on that day."""
    return Begun(living(60, 6, 57), date(2026, 6, 23))


@pytest.fixture(scope="module")
def books(begun: Begun) -> Iterator[Books]:
    with company(begun.world, begun.since - timedelta(days=1)) as realm:
        yield realm.books(65)


def test_a_wrong_statement_is_told_with_the_right_one(begun: Begun, books: Books) -> None:
    plan = plan_of(begun.evidence(), books, begun.stating(begun.held + 5))
    assert (plan.intents, plan.adoptions, plan.opening) == ((), {}, ())
    (told,) = plan.findings
    assert (told.code, told.severity, told.subject) == (proved.DIFFERS, Severity.CRITICAL, "stripe_balance:usd")
    since = sum(each.net for each in begun.evidence().balance_transaction.values())
    assert f"Stripe held {begun.held + since} USD" in told.detail
    assert f"state that it held {begun.held + 5} as" in told.detail
    assert f"come to {since}, together {begun.held + 5 + since}" in told.detail
    assert f'`"opening_stripe_balance": {{"usd":"{as_decimal(begun.held, "usd")}"}}`' in told.detail
    assert "account's first day" not in told.detail
    assert [each.code for each in stated.compare(begun.evidence(), begun.stating(begun.held + 5), begun.since)[0]] == [
        proved.DIFFERS
    ]


def test_stripes_report_counts_what_was_on_its_way_and_that_is_told(begun: Begun) -> None:
    (payout,) = [each for each in begun.world.stripe.rows("payout") if each.created < begun.first <= each.arrival_date]
    wrong = begun.stating(begun.held + payout.amount)
    ((told,), _) = stated.compare(begun.evidence(), wrong, begun.since)
    assert f"which is then {as_decimal(begun.held + payout.amount, 'usd')} USD" in told.detail
    assert f"({payout.id})" in told.detail
    assert f'"usd":"{as_decimal(begun.held, "usd")}"' in told.detail


def test_what_is_missing_since_is_noticed(begun: Begun) -> None:
    stripe = begun.evidence()
    for lost in list(stripe.balance_transaction.values())[::7]:
        moves = {key: each for key, each in stripe.balance_transaction.items() if key != lost.id}
        proof = proved.proof_of(replace(stripe, balance_transaction=moves), begun.begun)
        assert [(each.currency, each.staged + lost.net, each.stated) for each in proof.differences] == [
            ("usd", sum(each.net for each in stripe.balance_transaction.values()), begun.held)
        ]


def test_without_a_statement_both_ways_are_offered(begun: Begun, books: Books) -> None:
    (told,) = plan_of(begun.evidence(), books, begun.whole).findings
    assert told.code == proved.DIFFERS
    assert "FINANCE_OS_START_DATE" in told.detail
    assert f'`"opening_stripe_balance": {{"usd":"{as_decimal(begun.held, "usd")}"}}`' in told.detail


def test_what_was_read_too_late_on_the_first_day_is_told(begun: Begun) -> None:
    """The account's days begin later than those of the books."""
    read = begun.reading
    stripe = replace(begun.evidence(), readings=(replace(read, read_from=begun.first + 3 * 3_600),))
    ((told,), _) = stated.compare(stripe, begun.stating(1), begun.since)
    assert "read from 2026-06-23 03:00 UTC on only: read the day before too" in told.detail


def test_another_currency_held_nothing(begun: Begun) -> None:
    read = begun.reading
    stripe = replace(begun.evidence(), readings=(replace(read, pending={**read.pending, "eur": 700}),))
    ((told,), _) = stated.compare(stripe, begun.begun, begun.since)
    assert told.subject == "stripe_balance:eur"
    assert f'{{"eur":"7.00","usd":"{as_decimal(begun.held, "usd")}"}}' in told.detail
    rich = msgspec.structs.replace(begun.begun, opening_stripe_balance={"usd": "0.00", "jpy": "7"})
    assert {each.currency: each.stated for each in proved.proof_of(begun.evidence(), rich).differences} == {
        "jpy": 7,
        "usd": 0,
    }


def test_when_the_opening_became_available_is_not_guessed(begun: Begun) -> None:
    read = begun.reading
    start = proved.start_of(begun.begun)
    assert start is not None
    other = replace(read, available={"usd": read.available["usd"] + 1}, pending={"usd": read.pending.get("usd", 0) - 1})
    for read_at, codes in ((start.settled - 1, []), (start.settled + 2 * DAY, ["stripe_availability_differs"])):
        moves = {key: each for key, each in begun.evidence().balance_transaction.items() if each.created <= read_at}
        sums = begun.held + sum(each.net for each in moves.values())
        said = replace(other, read_at=read_at, available={"usd": sums + 1}, pending={"usd": -1})
        stripe = replace(begun.evidence(), balance_transaction=moves, readings=(said,))
        found, looked_at = stated.compare(stripe, begun.begun, begun.since)
        assert [each.code for each in found] == codes
        assert ("stripe_available:usd" in looked_at) is bool(codes)


# --- payouts on their way


def test_a_payout_that_failed_lately_may_have_failed_before(begun: Begun) -> None:
    """Its failure is not staged: then it lies before the balance date, or has only just happened."""
    (payout,) = [each for each in begun.world.stripe.rows("payout") if each.status == "failed"]
    for days, also, is_known in ((26, (), False), (26, (payout.failure_balance_transaction,), True), (60, (), True)):
        case = Begun(living(days, 6, 57), date(2026, 6, 24))
        stripe = case.evidence(*also)
        why = proved.unproven(stripe, case.begun)
        if is_known:
            assert why is None
            assert opening_clearing.at_stripe(stripe, case.begun) == opening_clearing.at_stripe(
                case.history, case.whole
            )
        else:
            assert why is not None
            assert why[0] == proved.PAYOUTS_UNREAD
            name = f"balance_transaction:{payout.failure_balance_transaction}"
            assert f"`finance-os replay --read --object {name}`" in why[1]


def test_a_payout_that_failed_since_must_be_staged(begun: Begun) -> None:
    (payout,) = [each for each in begun.world.stripe.rows("payout") if each.status == "failed"]
    stripe = begun.evidence()
    assert proved.unproven(stripe, begun.begun) is None
    others = {key: each for key, each in stripe.payout.items() if key != payout.id}
    why = proved.unproven(replace(stripe, payout=others), begun.begun)
    assert why is not None
    assert why[0] == proved.PAYOUTS_UNREAD
    assert f"`finance-os replay --read --object payout:{payout.id}`" in why[1]


def test_payouts_of_the_two_weeks_before_have_to_be_read(begun: Begun) -> None:
    stripe = replace(begun.evidence(), payouts_read=((begun.first, begun.now),))
    why = proved.unproven(stripe, begun.begun)
    assert why is not None
    assert why[0] == proved.PAYOUTS_UNREAD
    assert "stripe/stripe_payout of 2026-06-09 to 2026-06-23" in why[1]
    assert "first day" not in why[1]


@pytest.mark.parametrize(
    ("when", "arrival", "status", "back", "on_the_way"),
    [
        (at(8), at(9, 0), "paid", None, 0),
        (at(8), at(10, 0), "paid", None, 5_000),
        (at(8), at(9, 0), "in_transit", None, 5_000),
        (at(8), at(9, 0), "failed", at(9), 0),
        (at(8), at(9, 0), "failed", at(10), 5_000),
        (at(8), at(9, 0), "failed", None, 5_000),
        (at(8), at(12, 0), "canceled", at(9), 0),
        (at(10), at(12, 0), "paid", None, 0),
        (at(10), at(11, 0), "failed", at(11), 0),
        (at(10), at(9, 0), "paid", None, -5_000),
    ],
    ids=[
        "arrived",
        "arrives on the day",
        "late",
        "failed before",
        "failed since",
        "comes back some day",
        "cancelled before",
        "made since",
        "made and failed since",
        "arrived in another day's zone",
    ],
)
@pytest.mark.parametrize("sign", [1, -1], ids=["paid out", "debited"])
def test_what_was_on_its_way(
    when: int, arrival: int, status: str, back: int | None, on_the_way: int, sign: int
) -> None:
    """At the balance date, from all balance transactions and from those since."""
    made = Made()
    made.moved("charge", 70_000, when=at(2))
    payout = made.payout(5_000 * sign, when=when, arrival=arrival, status=status, fee=0)
    if back is not None:
        moved = made.moved("payout_reversal", 5_000 * sign, source=payout, when=back)
        made.one("payout", payout)["failure_balance_transaction"] = moved
    whole = rules(balance_date=date(2026, 6, 10))
    history = made.evidence
    held = sum(each.net for each in history.balance_transaction.values() if each.created < whole.since)
    begun = msgspec.structs.replace(whole, opening_stripe_balance={"usd": f"{as_decimal(held, 'usd'):f}"})
    later = {key: each for key, each in history.balance_transaction.items() if each.created >= whole.since}
    expected = opening_clearing.at_stripe(history, whole)
    assert expected["usd"] - held == on_the_way * sign
    for stripe in (history, replace(history, balance_transaction=later)):
        assert opening_clearing.at_stripe(stripe, begun) == expected
        assert balance_of(stripe, begun) == balance_of(history, whole)


# --- what is older than what is staged


@pytest.mark.parametrize(("seed", "day"), [(13, 16), (6, 23)], ids=["13", "6"])
def test_what_belongs_to_something_older_says_what_to_read(seed: int, day: int) -> None:
    """Everything is staged from the balance date on only. What the exceptions name is read, until they name nothing
    more: then clearing is Stripe's balance."""
    case = Begun(living(60, 5, seed), START + timedelta(days=day))
    objects = {kind: dict(shown(case.world, kind)) for kind in KINDS}
    read = {kind: {key: x for key, x in held.items() if x["created"] >= case.first} for kind, held in objects.items()}
    for kind in ("payout", PAID_OUT):
        read[kind] = objects[kind]
    named: set[str] = set()
    with company(case.world, case.since - timedelta(days=1)) as realm:
        books, held = realm.books(65), realm.balance("Stripe Clearing")
        account = books.account("Stripe Clearing")
        assert account is not None
        while True:
            stripe = stripe_of({kind: list(x.items()) for kind, x in read.items()})
            plan = plan_of(stripe, books, case.begun)
            told = " ".join(each.detail for each in plan.findings)
            new = set(re.findall(r"--read --object (\w+:\w+)`", told)) - named
            if not new:
                break
            for each in new:
                kind, _, source_id = each.partition(":")
                read[kind][source_id] = objects[kind][source_id]
            named |= new
    assert {each.partition(":")[0] for each in named} & {"charge", "invoice"}
    assert not [each for each in plan.findings if each.code == "waits_for_another"]
    left = unwritten(plan.intents, {}, account.id, "usd")
    assert held + left.amount == qbo_amount(balance_of(stripe, case.begun)["usd"], "usd")
    assert all("--from DAY" in each.detail for each in plan.findings if each.code == "payment_unapplied")
