"""Two roads, one end: webhooks alone, backfill alone, and any mixture of both end in the same QuickBooks objects.

Deliveries come in any order, doubled and lost; windows are read in between. Nothing else than what Stripe says at the
end decides what is booked.
"""

import sys
import time
from random import Random

import pytest

from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.webhooks.settings import WebhookSettings
from finance_os_tests.stripe_qbo.roads import WINDOWED, Road, day, life, mirror, told, town

DOUBLED = 0.3


def shuffled(events: list[bytes], random: Random, lost: float = 0.0) -> list[bytes]:
    """Deliveries of events: some of them lost, three in ten of the others twice, in any order."""
    came = [event for event in events if random.random() >= lost]
    sent = came + [event for event in came if random.random() < DOUBLED]
    random.shuffle(sent)
    return sent


def mixed(road: Road, events: list[bytes], random: Random, days: int) -> None:
    """Deliveries in several bursts, each walked, with windows read between them."""
    while events:
        burst = random.randint(1, len(events))
        road.deliver(events[:burst])
        events = events[burst:]
        if random.random() < 0.7:
            road.walk()
        if random.random() < 0.5:
            first, last = sorted(random.sample(range(days + 1), 2))
            road.read_days(Days(day(first), day(last)), [random.choice(WINDOWED).object_type])
    road.walk()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Small lives in a plain run; under `make soak`, marked, one of ten thousand events."""
    if "lived" in metafunc.fixturenames:
        if "soak" in str(metafunc.config.getoption("markexpr")):
            metafunc.parametrize("lived", [pytest.param((7, 90, 85), marks=pytest.mark.soak)], ids=["ten-thousand"])
        else:
            metafunc.parametrize("lived", [(39, 30, 3), (7, 20, 3)], ids=["credits", "short"])


def test_webhooks_alone_and_backfill_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch, lived: tuple[int, int, int]
) -> None:
    seed, days, size = lived
    world, events = life(days, size, seed)
    sent = shuffled(events, Random(seed))
    with town(database, world, monkeypatch) as stripe:
        if len(events) >= 10_000:
            stripe.settings = WebhookSettings(retry_seconds=0)
        by_webhooks, by_backfill = stripe.road(), stripe.road()
        started = time.monotonic()
        by_webhooks.deliver(sent)
        delivered = time.monotonic()
        by_webhooks.walk()
        walked = time.monotonic()
        by_backfill.read_days()
        read = time.monotonic()
        with mirror(by_webhooks) as one, mirror(by_backfill) as other:
            plan = one.write()
            written = time.monotonic()
            assert told(plan) == told(other.write())
            assert one.objects() == other.objects()
            assert one.objects()
            assert (one.strangers(), other.strangers()) == (0, 0)
    sys.stdout.write(
        f"{len(events):,} events in {len(sent):,} deliveries: taken in {delivered - started:.1f} s, walked in "
        f"{walked - delivered:.1f} s, the same read by days in {read - walked:.1f} s; {len(plan.intents):,} intents "
        f"planned, written and verified in {written - read:.1f} s\n"
    )


@pytest.mark.parametrize("seed", range(4))
def test_any_mixture(database: Database, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Some deliveries are lost, so that the days are read at the end, as the daily sync does."""
    random = Random(seed)
    days = random.randint(12, 28)
    world, events = life(days, 2, seed)
    with town(database, world, monkeypatch) as stripe:
        by_mixture, by_backfill = stripe.road(), stripe.road()
        mixed(by_mixture, shuffled(events, random, lost=0.2), random, days)
        by_mixture.read_days()
        by_backfill.read_days()
        with mirror(by_backfill) as held:
            expected = told(held.plan())
            assert expected
            assert told(by_mixture.plan(held.company, held.served.realm)) == expected


@pytest.mark.parametrize(("seed", "days"), [(39, 40), (2, 30)])
def test_written_while_events_still_come(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int, days: int
) -> None:
    """What was booked from half of the evidence is what would have been booked from all of it."""
    random = Random(seed)
    world, events = life(days, 3, seed)
    sent = shuffled(events, random)
    with town(database, world, monkeypatch) as stripe:
        bit_by_bit, at_once = stripe.road(), stripe.road()
        at_once.read_days()
        with mirror(bit_by_bit) as one, mirror(at_once) as other:
            other.write()
            third = len(sent) // 3
            for start in (0, third, 2 * third):
                bit_by_bit.deliver(sent[start:] if start == 2 * third else sent[start : start + third])
                bit_by_bit.walk()
                one.write()
            assert one.objects() == other.objects()
            assert one.strangers() == 0


def test_what_no_event_names_comes_with_its_payout_or_with_the_daily_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe's own fees: those of a payout come with its webhook, the latest only when their day has been read."""
    world, events = life(21, 2, 7, fees=(10, 20))
    paid_out, latest = (each for each in world.stripe.rows("balance_transaction") if each.type == "stripe_fee")
    assert (paid_out.payout is not None, latest.payout) == (True, None)
    with town(database, world, monkeypatch) as stripe:
        by_webhooks, by_backfill = stripe.road(), stripe.road()
        by_webhooks.deliver(shuffled(events, Random(7)))
        by_webhooks.walk()
        by_backfill.read_days()
        with mirror(by_backfill) as held:
            expected = told(held.plan())
            found = told(by_webhooks.plan(held.company, held.served.realm))
            lacking = [each for each in expected if each not in found]
            assert [each[0] for each in lacking] == [f"balance_transaction:{latest.id}:journal"]
            by_webhooks.read_days(Days(day(20), day(20)), ["stripe_balance_transaction"])
            assert told(by_webhooks.plan(held.company, held.served.realm)) == expected
