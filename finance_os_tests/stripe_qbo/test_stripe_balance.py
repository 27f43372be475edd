"""Stripe's balance as proof: by moment and currency, with clocks that differ; and which readings are staged."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.stripe_qbo import stripe_balance, stripe_evidence
from finance_os.stripe_qbo.stripe_balance import CLOCKS, Difference, Reading, Start, fits, prove, split
from finance_os.stripe_qbo.stripe_objects import BalanceTransaction
from finance_os_tests.evidence.staged import page, record, stage
from finance_os_tests.stripe_qbo.staged import stage_balance

T = 1_780_315_200
"""Noon UTC of 1 June 2026."""

DAY = 86_400


def moved(net: int, at: int, available_on: int | None = None, currency: str = "usd", **more: Any) -> BalanceTransaction:
    given: dict[str, Any] = {"type": "charge", "reporting_category": "charge", "fee": 0, **more}
    return BalanceTransaction(
        id=f"txn_{at}_{net}",
        created=at,
        amount=net,
        net=net,
        currency=currency,
        available_on=at if available_on is None else available_on,
        **given,
    )


def held(read_from: int | None = 0, read_at: int = T, **available: int) -> Reading:
    return Reading(read_at, available, {}, read_from)


@pytest.mark.parametrize(
    ("later", "says", "agrees"),
    [
        ([], 700, True),
        ([], 699, False),
        ([moved(50, T)], 700, True),
        ([moved(50, T)], 750, True),
        ([moved(50, T + CLOCKS), moved(1, T + CLOCKS)], 750, True),
        ([moved(50, T + CLOCKS + 1), moved(1, T + CLOCKS + 2)], 750, False),
        ([moved(50, T + CLOCKS + 1), moved(1, T + CLOCKS + 2)], 751, True),
        ([moved(50, T - CLOCKS), moved(1, T + DAY)], 700, False),
    ],
    ids=["sum", "a cent", "same second without", "same second with", "within clocks", "later", "all", "earlier"],
)
def test_a_sum_agrees_at_its_moment(later: list[BalanceTransaction], says: int, agrees: bool) -> None:
    before = [moved(1_000, T - 3 * DAY), moved(-300, T - DAY)]
    assert prove([*before, *later], [held(usd=says)], 0).agrees is agrees


def test_every_currency_has_to() -> None:
    moves = [moved(1_000, T - DAY), moved(500, T - DAY, currency="eur")]
    assert prove(moves, [held(usd=1_000, eur=500)], 0).agrees
    assert prove(moves, [held(usd=1_000, eur=500, jpy=0)], 0).agrees
    proof = prove(moves, [held(usd=1_000, jpy=7)], 0)
    assert proof.differences == (Difference("eur", 0, 500), Difference("jpy", 7, 0))


def test_other_balances_of_the_account_are_not_the_one_that_is_read() -> None:
    moves = [moved(1_000, T - DAY, balance_type="payments"), moved(99, T - DAY, balance_type="issuing")]
    assert prove(moves, [held(usd=1_000)], 0).agrees
    assert split(moves, T) == {"usd": (1_000, 0)}


def test_a_payout_leaves_what_is_available_when_it_is_made() -> None:
    moves = [
        moved(1_000, T - 5 * DAY, T - 3 * DAY),
        moved(400, T - DAY, T + DAY),
        moved(-900, T - 2 * DAY, T + DAY, reporting_category="payout"),
    ]
    assert split(moves, T) == {"usd": (100, 400)}
    assert split(moves, T + DAY) == {"usd": (500, 0)}


@pytest.mark.parametrize(
    ("available", "pending", "fitting"),
    [(1_000, 750, True), (1_200, 550, True), (1_250, 500, True), (1_750, 0, False), (0, 1_750, False)],
    ids=["before both", "after one", "of this day", "not yet", "long since"],
)
def test_what_becomes_available_about_then_may_be_or_not(available: int, pending: int, fitting: bool) -> None:
    moves = [
        moved(1_000, T - 9 * DAY, T - 4 * DAY),
        moved(200, T - 3 * DAY, T - DAY),
        moved(50, T - 2 * DAY, T + 3_600),
        moved(500, T - DAY, T + DAY),
    ]
    assert fits(moves, Reading(T, {"usd": available}, {"usd": pending}), "usd") is fitting


# --- where it is stated what was there at a start

START = Start(T - 40 * DAY, {"usd": 500, "eur": -20})


def test_with_a_start_only_what_came_since_counts() -> None:
    moves = [moved(9_999, T - 41 * DAY), moved(300, T - 40 * DAY), moved(40, T - DAY, currency="jpy")]
    assert prove(moves, [held(usd=800, eur=-20, jpy=40)], START.since, START).agrees
    assert not prove(moves, [held(usd=800, eur=-20, jpy=40)], START.since).agrees
    assert split(moves, T, START) == {"eur": (-20, 0), "jpy": (40, 0), "usd": (800, 0)}
    wrong = prove(moves, [held(usd=801, jpy=40, gbp=1)], START.since, START)
    assert wrong.differences == (
        Difference("eur", 0, 0, -20),
        Difference("gbp", 1, 0, 0),
        Difference("usd", 801, 300, 500),
    )
    told = stripe_balance.told(held(usd=801), wrong.differences[-1], START.since)
    assert told.startswith("At 2026-06-01 12:00:00 UTC Stripe held 801 USD (minor units). The rules state that it held")
    assert "held 500 as the balance date began" in told
    assert "come to 300, together 800" in told


def test_what_was_there_at_a_start_is_available_once_it_has_settled() -> None:
    moves = [moved(700, START.since - DAY, T), moved(200, T - 3 * DAY, T + 4 * DAY), moved(-100, T - 9 * DAY)]
    assert START.settled == START.since + 32 * DAY
    assert fits(moves, Reading(T, {"usd": 400}, {"usd": 200}), "usd", START)
    assert not fits(moves, Reading(T, {"usd": 600}, {}), "usd", START)
    assert not fits(moves, Reading(T, {"usd": 400}, {"usd": 200}), "usd")


# --- what is staged

SAID: Mapping[str, Any] = {
    "object": "balance",
    "available": [{"amount": 10, "currency": "usd"}, {"amount": 5, "currency": "usd"}],
    "pending": [{"amount": 7, "currency": "eur"}],
}


def window(database: Database, connection: Connection, first: datetime, days: int) -> None:
    """A read of so many days of balance transactions to their end."""
    chosen = Days(first.date(), first.date() + timedelta(days=days - 1))
    stage(database, connection, page(), object_type="stripe_balance_transaction", days=chosen)


def readings(database: Database, business_id: str) -> tuple[Reading, ...]:
    with database.transaction() as connection:
        return stripe_evidence.load(connection, business_id).readings or ()


def test_readings_are_known_with_since_when_was_read(database: Database, acme: Connection, globex: Connection) -> None:
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    customer = record("cus_1")
    assert customer.payload is not None
    stage(database, acme, page(customer), object_type="stripe_customer")
    for days in (0, 1, 4):
        stage_balance(database, acme, {**SAID, "livemode": days}, noon + timedelta(days=days))
    stage_balance(database, globex, dict(SAID), noon)
    assert {each.read_from for each in readings(database, "acme")} == {None}
    window(database, acme, noon - timedelta(days=5), 3)
    window(database, acme, noon - timedelta(days=2), 4)
    window(database, acme, noon + timedelta(days=4), 1)
    found = readings(database, "acme")
    day = [int(datetime(2026, 3, each, tzinfo=acme.zone).timestamp()) for each in (5, 14)]
    assert [each.read_at for each in found] == [int(noon.timestamp()) + each * DAY for each in (4, 1, 0)]
    assert [each.read_from for each in found] == [day[1], day[0], day[0]]
    assert (found[0].available, found[0].pending, found[0].holds("usd")) == ({"usd": 15}, {"eur": 7}, 15)
    assert readings(database, "globex") == ()  # of its account nothing is staged
    assert stripe_balance.told(found[0], Difference("usd", 15, 3), T).startswith("At 2026-03-14 12:00:00 UTC Stripe")
