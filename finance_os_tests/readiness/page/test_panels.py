"""Times and counts as people read them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from finance_os.readiness.page.panels import Link, Tone, all_of, moment, none_of, number, status_cell

NOW = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "zone", "said"),
    [
        (datetime(2026, 5, 4, 21, 56, 41, tzinfo=UTC), "UTC", "May 4, 9:56 PM"),
        (datetime(2026, 5, 4, 0, 5, tzinfo=UTC), "UTC", "May 4, 12:05 AM"),
        (datetime(2026, 5, 4, 12, 0, tzinfo=UTC), "UTC", "May 4, 12:00 PM"),
        (datetime(2026, 5, 4, 2, 30, tzinfo=UTC), "America/New_York", "May 3, 10:30 PM"),
        (datetime(2025, 12, 31, 23, 30, tzinfo=UTC), "UTC", "Dec 31, 2025, 11:30 PM"),
        (datetime(2025, 12, 31, 23, 30, tzinfo=UTC), "Asia/Tokyo", "Jan 1, 8:30 AM"),
    ],
)
def test_a_time_is_told_in_the_business_s_zone(at: datetime, zone: str, said: str) -> None:
    assert moment(at, ZoneInfo(zone), NOW) == said


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0"), (1417, "1417"), (9999, "9999"), (10_000, "10,000"), (-12_345, "-12,345")]
)
def test_counts_of_five_digits_are_grouped(count: int, said: str) -> None:
    assert number(count) == said


def test_nothing_of_nothing_is_not_good() -> None:
    assert [all_of(0, 0), all_of(1, 2), all_of(2, 2)] == [Tone.BAD, Tone.BAD, Tone.GOOD]
    assert [none_of(0), none_of(3)] == [Tone.GOOD, Tone.BAD]


def test_a_status_that_nobody_knows_is_bad() -> None:
    words = ["Ready", "ready to plan", "Stale", "Pending", "blocked", "failed", "unheard of"]
    assert [status_cell(word).tone for word in words] == [
        Tone.GOOD, Tone.GOOD, Tone.WAIT, Tone.WAIT, Tone.BAD, Tone.BAD, Tone.BAD,
    ]  # fmt: skip


def test_a_link_is_a_path_of_the_dagster_ui() -> None:
    assert Link("asset", "stripe/stripe_invoice").path == "/assets/stripe/stripe_invoice"
    assert Link("run", "abc").path == "/runs/abc"
