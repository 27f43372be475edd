"""Business days: they partition time in every time zone, whatever its clocks ever did."""

import zoneinfo
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finance_os.evidence.windows import Days, Window, day_of, epoch_day, start_of_day, window_of

# What zones change their clocks at, beside the usual small hours.
ODD = [
    ("America/Sao_Paulo", date(2018, 11, 4)),  # midnight skipped
    ("America/Toronto", date(1919, 3, 31)),  # 23:30 to 00:30
    ("Africa/Cairo", date(2023, 4, 28)),  # midnight skipped
    ("America/Havana", date(2023, 11, 5)),  # 01:00 to 00:00
    ("America/St_Johns", date(2006, 10, 29)),  # 00:01 to 23:01 of the day before
    ("Pacific/Apia", date(2011, 12, 30)),  # the whole day skipped
    ("Pacific/Kwajalein", date(1969, 9, 30)),  # nearly a day repeated
    ("Asia/Manila", date(1844, 12, 31)),  # a day skipped
    ("America/Juneau", date(1867, 10, 18)),  # a day repeated
    ("Australia/Lord_Howe", date(2024, 4, 7)),  # half an hour
    ("Africa/Monrovia", date(1972, 1, 7)),  # 44 minutes and 30 seconds
]

names = st.sampled_from(sorted(zoneinfo.available_timezones() - {"localtime"}))
days = st.dates(date(1850, 1, 1), date(2100, 1, 1)) | st.sampled_from([day for _, day in ODD])
moments = st.datetimes(datetime(1850, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


def odd_examples(test):
    for name, day in ODD:
        for shift in (-1, 0, 1):
            test = example(name=name, day=day + timedelta(days=shift))(test)
    return test


@odd_examples
@settings(max_examples=400)
@given(name=names, day=days)
def test_days_follow_each_other_without_gap_or_overlap(name: str, day: date) -> None:
    zone = ZoneInfo(name)
    window = window_of(Days(day, day), zone)
    assert window.end == window_of(Days(day + timedelta(days=1), day + timedelta(days=1)), zone).start
    assert window.start <= window.end
    if window.start == window.end:
        return  # the zone skipped this day
    last = window.end - timedelta(microseconds=1)
    assert day_of(window.start, zone) == day_of(last, zone) == day
    assert day_of(window.start - timedelta(microseconds=1), zone) < day
    assert day_of(window.end, zone) > day
    assert window.start in window
    assert last in window
    assert window.end not in window


@odd_examples
@settings(max_examples=400)
@given(name=names, day=days)
def test_a_day_begins_at_the_first_moment_that_bears_its_date(name: str, day: date) -> None:
    zone, start = ZoneInfo(name), start_of_day(day, ZoneInfo(name))
    assert start.astimezone(zone).date() >= day
    for back in (timedelta(microseconds=1), timedelta(minutes=1), timedelta(minutes=30), timedelta(hours=3)):
        assert (start - back).astimezone(zone).date() < day


@settings(max_examples=400)
@given(name=names, moment=moments)
def test_every_moment_lies_in_its_day(name: str, moment: datetime) -> None:
    zone = ZoneInfo(name)
    day = day_of(moment, zone)
    assert moment in window_of(Days(day, day), zone)
    assert day_of(moment.astimezone(ZoneInfo("Asia/Tokyo")), zone) == day
    whole = moment.replace(microsecond=0)
    assert epoch_day(int(whole.timestamp()), zone) == day_of(whole, zone)


@pytest.mark.parametrize(
    ("name", "day", "start", "hours"),
    [
        ("America/New_York", date(2026, 3, 8), datetime(2026, 3, 8, 5), 23),
        ("America/New_York", date(2026, 11, 1), datetime(2026, 11, 1, 4), 25),
        ("Asia/Tokyo", date(2026, 3, 8), datetime(2026, 3, 7, 15), 24),
        ("America/Sao_Paulo", date(2018, 11, 4), datetime(2018, 11, 4, 3), 23),
        ("America/Toronto", date(1919, 3, 31), datetime(1919, 3, 31, 4, 30), 23.5),
        ("America/St_Johns", date(2006, 10, 29), datetime(2006, 10, 29, 2, 30), 25),
        ("Pacific/Apia", date(2011, 12, 30), datetime(2011, 12, 30, 10), 0),
        ("Australia/Lord_Howe", date(2024, 4, 7), datetime(2024, 4, 6, 13), 24.5),
    ],
)
def test_days_of_known_zones(name: str, day: date, start: datetime, hours: float) -> None:
    window = window_of(Days(day, day), ZoneInfo(name))
    assert window == Window(start.replace(tzinfo=UTC), start.replace(tzinfo=UTC) + timedelta(hours=hours))


def test_an_hour_that_comes_back_belongs_to_the_day_that_had_begun() -> None:
    zone = ZoneInfo("America/St_Johns")
    # At 00:01 on the 29th the clock was put back to 23:01 on the 28th.
    shown_again = datetime(2006, 10, 29, 2, 45, tzinfo=UTC)
    assert shown_again.astimezone(zone).date() == date(2006, 10, 28)
    assert day_of(shown_again, zone) == epoch_day(int(shown_again.timestamp()), zone) == date(2006, 10, 29)


def test_a_range_of_days() -> None:
    some = Days(date(2026, 2, 27), date(2026, 3, 1))
    assert list(some) == [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1)]
    assert len(some) == 3
    assert date(2026, 2, 28) in some
    assert date(2026, 3, 2) not in some
    assert str(some) == "2026-02-27 to 2026-03-01"
    assert str(Days(date(2026, 3, 1), date(2026, 3, 1))) == "2026-03-01"
    with pytest.raises(ValueError, match="before the first"):
        Days(date(2026, 3, 2), date(2026, 3, 1))


@given(moments)
def test_a_window_is_cut_off_at_the_present(present: datetime) -> None:
    window = window_of(Days(date(2026, 3, 8), date(2026, 3, 9)), ZoneInfo("America/New_York"))
    cut = window.until(present)
    assert cut.start == window.start
    assert window.start <= cut.end <= window.end
    assert (present - timedelta(microseconds=1) in cut) == (present - timedelta(microseconds=1) in window)
    assert present not in cut
