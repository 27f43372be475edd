"""What the ad server saw: sums that agree with what was billed and earned, rows that arrive when they arrive."""

import re
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta

import pytest

from finance_os.sandbox.books import DAY, seconds
from finance_os.sandbox.company import earnings_usd_micros
from finance_os.sandbox.redshift import PLANTED
from finance_os.sandbox.redshift.content import (
    LATEST,
    MICRO,
    AdServer,
    Arrivals,
    Impression,
    moment,
    spend_usd_micros,
)
from finance_os.sandbox.world import World, build

START = date(2026, 3, 1)
UNTIL = datetime(2026, 4, 8, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def world() -> World:
    return build(seed=7, start=START, until=UNTIL, size=9)


@pytest.fixture(scope="module")
def arrived(world: World) -> Arrivals:
    return AdServer(world).arrivals()


def day_of(impression: Impression) -> date:
    return moment(impression.occurred).date()


def amount(detail: str) -> int:
    found = re.match(r"(\d+) microdollars", detail)
    assert found
    return int(found[1])


def planted(world: World) -> dict[str, tuple[str, int]]:
    """Kind -> the ID and the microdollars of each disagreement."""
    return {each.kind: (each.id, amount(each.detail)) for each in AdServer(world).planted()}


def test_prices_of_a_day_add_up_to_what_campaigns_spent(world: World, arrived: Arrivals) -> None:
    told: Counter[tuple[str, date]] = Counter()
    for impression in arrived.impressions:
        told[impression.campaign, day_of(impression)] += impression.price
    currencies: set[str] = set()
    wrong: Counter[tuple[str, date]] = Counter()
    for advertiser in world.advertisers:
        for campaign in advertiser.campaigns:
            for number in range((UNTIL.date() - START).days - LATEST - 1):
                day = START + timedelta(days=number)
                true = spend_usd_micros(world, advertiser, campaign, day)
                wrong[campaign.id, day] = told[campaign.id, day] - true
                if true:
                    currencies.add(advertiser.currency)
    assert currencies == {"usd", "eur", "jpy", "bhd"}
    off = {key: micros for key, micros in wrong.items() if micros}
    lost, twice = planted(world)["redshift_hour_lost"], planted(world)["redshift_impressions_twice"]
    assert sum(micros for (_, day), micros in off.items() if day == START + timedelta(days=4)) == -lost[1]
    campaign, _, day = twice[0].split(":")
    assert off.pop((campaign, date.fromisoformat(day))) == twice[1]
    assert {day for _, day in off} == {START + timedelta(days=4)}


def test_publishers_earn_their_share_of_it(world: World) -> None:
    """To a few millionths: earnings are rounded by campaign and day, spend is split by publisher."""
    server, last = AdServer(world), UNTIL.date() - timedelta(days=1)
    earned: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    bookings = 0
    for advertiser in world.advertisers:
        for campaign in advertiser.campaigns:
            for number in range((last - START).days + 1):
                day = START + timedelta(days=number)
                micros = campaign.spend(world.seed, day)
                bookings += micros > 0
                share = earnings_usd_micros(micros, advertiser.currency) // len(campaign.publishers)
                for index in campaign.publishers:
                    earned[world.publishers[index].id] += share
                for impression in server.shown(advertiser, campaign, day):
                    spent[impression.publisher] += impression.price
    disagreements = planted(world)
    spent[disagreements["redshift_hour_lost"][0].split(":")[0]] += disagreements["redshift_hour_lost"][1]
    spent[disagreements["redshift_impressions_twice"][0].split(":")[1]] -= disagreements["redshift_impressions_twice"][
        1
    ]
    assert set(earned) == set(spent)
    for publisher, micros in earned.items():
        assert abs(spent[publisher] * 7 // 10 - micros) <= 2 * bookings, publisher


def test_gravity_bills_what_it_says(world: World) -> None:
    """Advertisers who pay in dollars are billed the sum of their impressions, but for what is planted."""
    server = AdServer(world)
    usd = {each.id: each for each in world.advertisers if each.currency == "usd"}
    compared = 0
    differences: list[int] = []
    for billing in world.gravity.rows["advertiser_billing"].values():
        advertiser = usd.get(billing["advertiser_id"])
        if advertiser is None:
            continue
        days = [
            billing["period_start"] + timedelta(days=number)
            for number in range((billing["period_end"] - billing["period_start"]).days)
        ]
        told = sum(
            each.price
            for campaign in advertiser.campaigns
            for day in days
            if campaign.runs(day)
            for each in server.shown(advertiser, campaign, day)
        )
        compared += 1
        if told != billing["spend_microdollars"]:
            differences.append(told - billing["spend_microdollars"])
    assert compared > 10
    lost, twice = (planted(world)[kind][1] for kind in ("redshift_hour_lost", "redshift_impressions_twice"))
    assert len(differences) <= len(usd) + 1
    assert -lost <= sum(differences) <= twice


def test_prices_are_split_without_a_remainder(arrived: Arrivals) -> None:
    by_publisher_day: Counter[tuple[str, str, date]] = Counter()
    for impression in arrived.impressions:
        assert impression.price >= 0
        by_publisher_day[impression.campaign, impression.publisher, day_of(impression)] += 1
    assert max(by_publisher_day.values()) <= 12
    assert len({each.id for each in arrived.impressions}) == len(arrived.impressions)


def test_some_arrive_days_late_and_none_too_early(world: World, arrived: Arrivals) -> None:
    delays = [each.ingested - each.occurred for each in arrived.impressions]
    assert min(delays) >= 5 * MICRO
    late = Counter(delay // (DAY * MICRO) for delay in delays)
    assert set(late) == set(range(LATEST + 1))
    assert 0.05 < sum(late[days] for days in range(1, LATEST + 1)) / len(delays) < 0.12
    now = world.now * MICRO
    for rows in (arrived.impressions, arrived.clicks, arrived.events):
        assert rows
        assert max(each.ingested for each in rows) <= now


def test_clicks_are_on_impressions(arrived: Arrivals) -> None:
    assert {each.impression.id for each in arrived.clicks} <= {each.id for each in arrived.impressions}
    for click in arrived.clicks:
        assert click.impression.occurred < click.clicked <= click.ingested
        assert click.ingested >= click.impression.ingested


def test_it_is_the_same_in_whatever_steps_the_clock_moves() -> None:
    end = datetime(2026, 3, 19, 13, 7, tzinfo=UTC)
    slowly = World(seed=11, start=START, size=4)
    server = AdServer(slowly)
    seen = server.arrivals()
    moment_ = seconds(START)
    for hours in (1, 5, 7, 30, 24, 24, 2, 100, 24, 47, 24, 24, 24, 48):
        moment_ += hours * 3_600
        slowly.advance_to(moment_)
        new = server.arrivals()
        seen.impressions += new.impressions
        seen.clicks += new.clicks
        seen.events += new.events
    slowly.advance_to(end)
    new = server.arrivals()
    seen.impressions += new.impressions
    seen.clicks += new.clicks
    seen.events += new.events
    assert not server.arrivals().impressions
    at_once = AdServer(build(seed=11, start=START, until=end, size=4)).arrivals()
    for name in ("impressions", "clicks", "events"):
        stepwise, whole = (sorted(getattr(each, name), key=lambda row: row.id) for each in (seen, at_once))
        assert stepwise == whole, name
        assert whole


def test_another_seed_is_another_ad_server() -> None:
    until = datetime(2026, 3, 5, tzinfo=UTC)
    one, other = (AdServer(build(seed=seed, start=START, until=until, size=2)).arrivals() for seed in (1, 2))
    prices = defaultdict(list)
    for name, rows in (("one", one), ("other", other)):
        prices[name] = [each.price for each in rows.impressions]
    assert prices["one"] != prices["other"]


@pytest.mark.parametrize("days", [1, 4, 5, 6, 9, 12])
def test_what_is_planted_is_listed_once_its_day_is_over(days: int) -> None:
    world = build(seed=7, start=START, until=datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(days=days), size=4)
    kinds = [each.kind for each in AdServer(world).planted()]
    expected = [kind for kind, after in zip(PLANTED, (4, 8), strict=True) if days > after]
    assert kinds == expected
    assert all(each.system == "redshift" and each.id for each in AdServer(world).planted())
