"""Two roads, one end: webhooks alone, backfill alone, and any mixture of both end in the same QuickBooks objects.

Deliveries come in any order, doubled and lost; windows are read in between. Nothing else than what Stripe says at the
end decides what is booked.

That holds for roads that are written when they have come to their end. Where life goes on while it is written, what was
written stays, and is corrected by further objects or changes. The books are the same then: what each account holds, and
what is open of each invoice and left of each customer's credit. These objects may differ:

- a Customer's name and e-mail, which are those that Stripe had when it was first seen (`mapping.customers`);
- what was written and taken back since, which is there and void, or undone by a journal entry, and is never made by
  whoever learns of both at once: the memo of a loss that is paid after all, and its application (`mapping.losses`); the
  deposit of a payout that failed after it was paid (`mapping.payouts`); what a voided credit note settled;
- which credit memo settles which invoice, where a use was written before an older credit was known
  (`mapping.balances`);
- SyncTokens, and the order of writing, which `objects` leaves out everywhere.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.sandbox.ledger import EVENT_DAYS
from finance_os.sandbox.world import World
from finance_os.webhooks.settings import WebhookSettings
from finance_os_tests.stripe_qbo.mapping.worlds import START
from finance_os_tests.stripe_qbo.roads import WINDOWED, Road, day, life, midnight, mirror, told, town

DOUBLED = 0.3
LOST = 0.1


def shuffled(events: list[bytes], random: Random, lost: float = 0.0) -> list[bytes]:
    """Deliveries of events: some of them lost, three in ten of the others twice, in any order."""
    came = [event for event in events if random.random() >= lost]
    sent = came + [event for event in came if random.random() < DOUBLED]
    random.shuffle(sent)
    return sent


def lately_lost(world: World, events: list[bytes], random: Random) -> list[bytes]:
    """Deliveries as `shuffled` gives them, of which some are lost that Stripe's event log still has."""
    kept = int(datetime.combine(world.today - timedelta(days=EVENT_DAYS - 1), datetime.min.time(), UTC).timestamp())
    late = [event for event in events if json.loads(event)["created"] >= kept]
    early = events[: len(events) - len(late)]
    return shuffled(early + [event for event in late if random.random() >= LOST], random)


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
    """Small lives in a plain run; under `make soak`, marked, one of ten thousand events, and more that go on."""
    soaking = "soak" in str(metafunc.config.getoption("markexpr"))
    if "going_on" in metafunc.fixturenames:
        lives = [(39, 3, 35), (152, 2, 32), (7, 3, 38)] if soaking else [(152, 2, 24)]
        marks = [pytest.mark.soak] if soaking else []
        metafunc.parametrize("going_on", [pytest.param(each, marks=marks, id=str(each[0])) for each in lives])
    if "lived" in metafunc.fixturenames:
        if soaking:
            metafunc.parametrize("lived", [pytest.param((7, 90, 85), marks=pytest.mark.soak)], ids=["ten-thousand"])
        else:
            metafunc.parametrize("lived", [(39, 30, 3), (7, 20, 3)], ids=["credits", "short"])


def test_webhooks_alone_and_backfill_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch, lived: tuple[int, int, int]
) -> None:
    """One in ten of the events that the log still has never comes: the daily sync of the log finds it."""
    seed, days, size = lived
    world, events = life(days, size, seed)
    sent = lately_lost(world, events, Random(seed))
    with town(database, world, monkeypatch) as stripe:
        if len(events) >= 10_000:
            stripe.settings = WebhookSettings(retry_seconds=0)
        by_webhooks, by_backfill = stripe.road(), stripe.road()
        by_webhooks.expect_webhooks()
        started = time.monotonic()
        by_webhooks.deliver(sent)
        delivered = time.monotonic()
        by_webhooks.walk()
        found = by_webhooks.sync_events()
        assert 0 < found <= len(events) - len(set(sent))
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
        f"{len(events):,} events in {len(sent):,} deliveries: taken in {delivered - started:.1f} s, walked, with "
        f"{found:,} that were found in the log, in {walked - delivered:.1f} s, the same read by days in "
        f"{read - walked:.1f} s; {len(plan.intents):,} intents planned, written, verified in {written - read:.1f} s\n"
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
        with mirror(by_mixture) as one, mirror(by_backfill) as other:
            plan = one.write()
            assert plan.intents
            assert told(plan) == told(other.write())
            assert one.objects() == other.objects()
            assert (one.strangers(), other.strangers()) == (0, 0)


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


def test_written_while_life_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch, going_on: tuple[int, int, int]
) -> None:
    """Booked in four steps, each before anybody knows what comes next: the same books, not the same objects."""
    seed, size, days = going_on
    random = Random(seed)
    world = World(seed=seed, start=START, size=size)
    events: list[bytes] = []
    world.stripe.listeners.append(events.append)
    steps = [days * each // 4 for each in (1, 2, 3, 4)]
    world.advance_to(midnight(steps[0]))
    with town(database, world, monkeypatch) as stripe:
        as_it_goes, at_once = stripe.road(), stripe.road()
        with mirror(as_it_goes) as one:
            written = []
            for step in steps:
                world.advance_to(midnight(step))
                as_it_goes.deliver(shuffled(events, random))
                events.clear()
                as_it_goes.walk()
                one.write()
                written.append(len(one.objects()))
            assert written == sorted(set(written))
            at_once.read_days()
            with mirror(at_once) as other:
                other.write()
                assert one.books() == other.books()
                assert (one.strangers(), other.strangers()) == (0, 0)


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
