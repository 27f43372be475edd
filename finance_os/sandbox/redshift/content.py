"""What the ad server saw: impressions, clicks and engine decisions, derived from the world's campaigns.

A campaign's spend on a (UTC) day is turned into US dollars once, split over its publishers so that the parts add up,
and each part over a handful of impressions whose prices add up to it. Every row is a function of the world's seed, the
campaign and the day; some arrive days late. What the world's clock has not reached yet is not there.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from random import Random

from ..books import DAY, HOUR, seconds
from ..company import Advertiser, Campaign, Planted
from ..currency import RATES_PPM, divide_half_even
from ..world import World

MICRO = 1_000_000
LATEST = 6
"""Most days between an impression and its arrival."""

# Every way in which the ad server disagrees with what advertisers were billed and publishers earned, and nothing else
# does: kind -> what it is.
PLANTED: dict[str, str] = {
    "redshift_hour_lost": "On the world's 5th day the ad server lost one hour of one publisher's impressions.",
    "redshift_impressions_twice": "On the world's 9th day one campaign's impressions at one publisher were loaded "
    "twice, under new IDs.",
}
_LOST_AFTER, _TWICE_AFTER = 4, 8

_EPOCH = datetime(1970, 1, 1)  # Redshift's timestamps have no zone; these are in UTC
_LATE_DAYS = (1, 1, 1, 2, 2, 3, 3, 4, 5, LATEST)
_EVENT_TYPES = ("pacing_adjusted", "bid_floor_raised", "budget_reached", "creative_rotated")
_BROWSERS = ("Sandbox/1.0 (desktop)", "Sandbox/1.0 (phone)", "Sandbox/1.0 (tablet)")


@dataclass(frozen=True, slots=True)
class Impression:
    """One ad shown. Times are microseconds since 1970, `price` is in millionths of a US dollar."""

    id: str
    campaign: str
    publisher: str
    advertiser: str
    occurred: int
    ingested: int
    price: int


@dataclass(frozen=True, slots=True)
class Click:
    id: str
    impression: Impression
    clicked: int
    ingested: int
    address: str
    browser: str


@dataclass(frozen=True, slots=True)
class EngineEvent:
    id: str
    type: str
    campaign: str
    publisher: str | None
    occurred: int
    ingested: int


@dataclass(slots=True)
class Arrivals:
    """Rows that have arrived since the last time."""

    impressions: list[Impression] = field(default_factory=list)
    clicks: list[Click] = field(default_factory=list)
    events: list[EngineEvent] = field(default_factory=list)


class AdServer:
    """The ad server of one world. `arrivals` gives what is new each time the clock has moved."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._until = seconds(world.start) * MICRO - 1
        self._known: set[str] = set()
        self._lost: tuple[str, int] | None = None
        self._twice: tuple[str, str] | None = None

    def arrivals(self) -> Arrivals:
        """What has arrived since the last call, up to the world's present moment."""
        now, new = self.world.now * MICRO, Arrivals()
        earliest = _day(self._until) - timedelta(days=LATEST + 1)
        for advertiser in self.world.advertisers:
            for campaign in advertiser.campaigns:
                known = campaign.id in self._known
                self._known.add(campaign.id)
                after = self._until if known else -1
                for day in self._running(campaign, max(campaign.starts, earliest) if known else campaign.starts):
                    shown = self.shown(advertiser, campaign, day)
                    new.impressions += [each for each in shown if after < each.ingested <= now]
                    new.clicks += [each for each in self._clicks(shown) if after < each.ingested <= now]
                    new.events += [each for each in self._decided(campaign, day) if after < each.ingested <= now]
        self._until = now
        return new

    def _running(self, campaign: Campaign, first: date) -> Iterator[date]:
        last = self.world.today if campaign.ends is None else min(self.world.today, campaign.ends - timedelta(days=1))
        return (first + timedelta(days=number) for number in range((last - first).days + 1))

    def shown(self, advertiser: Advertiser, campaign: Campaign, day: date) -> list[Impression]:
        """A campaign's impressions of a day, with what is planted, whether they have arrived yet or not."""
        shown = self._true(advertiser, campaign, day)
        if day == self.world.start + timedelta(days=_LOST_AFTER):
            lost = self._victim_of_loss()
            return [each for each in shown if (each.publisher, _hour(each)) != lost]
        if day == self.world.start + timedelta(days=_TWICE_AFTER):
            twice = self._victim_of_doubling()
            shown += [_again(each) for each in shown if (each.campaign, each.publisher) == twice]
        return shown

    def _true(self, advertiser: Advertiser, campaign: Campaign, day: date) -> list[Impression]:
        """What really was shown: prices add up to the campaign's spend of the day."""
        micros = spend_usd_micros(self.world, advertiser, campaign, day)
        rng = self.world.rng("impressions", campaign.id, day.isoformat())
        share, rest = divmod(micros, len(campaign.publishers))
        shown: list[Impression] = []
        for place, index in enumerate(campaign.publishers):
            publisher = self.world.publishers[index].id
            few = advertiser is self.world.advertisers[0]
            prices = _split(rng, share + (place < rest), 2 if few else rng.randint(3, 6))
            for number, price in enumerate(prices):
                occurred = seconds(day) * MICRO + rng.randrange(DAY * MICRO)
                shown.append(
                    Impression(
                        id=f"imp_{campaign.id[4:]}_{publisher[4:]}_{day:%Y%m%d}_{number}",
                        campaign=campaign.id,
                        publisher=publisher,
                        advertiser=advertiser.id,
                        occurred=occurred,
                        ingested=occurred + _delay(rng),
                        price=price,
                    )
                )
        return shown

    def _clicks(self, shown: Sequence[Impression]) -> Iterator[Click]:
        for impression in shown:
            # A hash is drawn much faster than a generator is made.
            if hashlib.blake2b(f"{self.world.seed}:{impression.id}".encode(), digest_size=1).digest()[0] < 13:
                rng = self.world.rng("click", impression.id)
                after = rng.randrange(MICRO, 90 * MICRO)
                yield Click(
                    id="clk" + impression.id[3:],
                    impression=impression,
                    clicked=impression.occurred + after,
                    ingested=impression.ingested + after,
                    address=f"203.0.113.{rng.randrange(1, 255)}",
                    browser=rng.choice(_BROWSERS),
                )

    def _decided(self, campaign: Campaign, day: date) -> Iterator[EngineEvent]:
        rng = self.world.rng("engine", campaign.id, day.isoformat())
        for number in range(rng.choice((0, 0, 0, 1, 1, 2))):
            kind = rng.choice(_EVENT_TYPES)
            occurred = seconds(day) * MICRO + rng.randrange(DAY * MICRO)
            concerned = self.world.publishers[rng.choice(campaign.publishers)].id
            yield EngineEvent(
                id=f"evt_{campaign.id[4:]}_{day:%Y%m%d}_{number}",
                type=kind,
                campaign=campaign.id,
                publisher=None if kind == "budget_reached" else concerned,
                occurred=occurred,
                ingested=occurred + rng.randrange(MICRO, 120 * MICRO),
            )

    # --- what is planted

    def _founding(self, day: date) -> list[tuple[Advertiser, Campaign]]:
        """Campaigns of the world's first day that still run on `day`: the same ones whenever they are looked for."""
        return [
            (advertiser, campaign)
            for advertiser in self.world.advertisers
            for campaign in advertiser.campaigns
            if campaign.starts == self.world.start and campaign.runs(day)
        ]

    def _victim_of_loss(self) -> tuple[str, int]:
        """The publisher and the hour (UTC) whose impressions were lost: that of its dearest impression."""
        if self._lost is None:
            day = self.world.start + timedelta(days=_LOST_AFTER)
            shown = [each for pair in self._founding(day) for each in self._true(*pair, day)]
            publisher = min((each.publisher for each in shown), default="")
            dearest = max(
                (each for each in shown if each.publisher == publisher),
                key=lambda each: (each.price, each.id),
                default=None,
            )
            self._lost = (publisher, _hour(dearest) if dearest else 0)
        return self._lost

    def _victim_of_doubling(self) -> tuple[str, str]:
        """The campaign and the publisher whose impressions were loaded twice."""
        if self._twice is None:
            running = self._founding(self.world.start + timedelta(days=_TWICE_AFTER))
            campaign = min((campaign for _, campaign in running), key=lambda each: each.id, default=None)
            self._twice = (campaign.id, self.world.publishers[campaign.publishers[0]].id) if campaign else ("", "")
        return self._twice

    def planted(self) -> list[Planted]:
        """The disagreements of days that are over. Details are in microdollars."""
        found: list[Planted] = []
        for kind, after in (("redshift_hour_lost", _LOST_AFTER), ("redshift_impressions_twice", _TWICE_AFTER)):
            day = self.world.start + timedelta(days=after)
            if day >= self.world.today:
                continue
            pairs = [(a, c) for a in self.world.advertisers for c in a.campaigns if c.runs(day)]
            true = sum(each.price for pair in pairs for each in self._true(*pair, day))
            told = sum(each.price for pair in pairs for each in self.shown(*pair, day))
            if told == true:
                continue
            if kind == "redshift_hour_lost":
                publisher, hour = self._victim_of_loss()
                detail = f"{true - told} microdollars of {hour:02d}:00 to {hour + 1:02d}:00 UTC are missing"
                found.append(Planted(kind, "redshift", f"{publisher}:{day}", detail))
            else:
                campaign, publisher = self._victim_of_doubling()
                detail = f"{told - true} microdollars too many"
                found.append(Planted(kind, "redshift", f"{campaign}:{publisher}:{day}", detail))
        return found


def spend_usd_micros(world: World, advertiser: Advertiser, campaign: Campaign, day: date) -> int:
    """What a campaign spent on a day, in millionths of a US dollar: converted once, rounded half to even."""
    return divide_half_even(campaign.spend(world.seed, day) * RATES_PPM[advertiser.currency], MICRO)


def moment(micros: int) -> datetime:
    """Microseconds since 1970 as a `timestamp`."""
    return _EPOCH + timedelta(microseconds=micros)


def _day(micros: int) -> date:
    return moment(micros).date()


def _hour(impression: Impression) -> int:
    return impression.occurred // MICRO % DAY // HOUR


def _again(each: Impression) -> Impression:
    return Impression(
        each.id + "_again",
        each.campaign,
        each.publisher,
        each.advertiser,
        each.occurred,
        each.ingested + HOUR * MICRO,
        each.price,
    )


def _delay(rng: Random) -> int:
    """Some seconds mostly; days for one in twelve."""
    late = rng.choice(_LATE_DAYS) * DAY if rng.random() < 1 / 12 else 0
    return (late + rng.randrange(5, 300)) * MICRO


def _split(rng: Random, amount: int, parts: int) -> list[int]:
    """`amount` in so many parts that add up to it."""
    cuts = sorted(rng.randint(0, amount) for _ in range(parts - 1))
    return [end - start for start, end in zip([0, *cuts], [*cuts, amount], strict=True)]
