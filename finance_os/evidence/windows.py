"""Business days and the half-open UTC windows that they are.

A day begins at the first moment whose local date is that day: at midnight; where a clock change skips midnight, at
the change; where one repeats it, at the first of the two (what the clock then shows once more of the day before
belongs to the new day). So the days of a time zone follow each other without gap or overlap, whatever the clocks do;
a day that a zone skipped altogether is empty.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Days:
    """Calendar days from `first` to `last`, both included."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"the last day, {self.last}, lies before the first, {self.first}")

    def __iter__(self) -> Iterator[date]:
        return (self.first + timedelta(days=n) for n in range(len(self)))

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


def spans(days: Iterable[date]) -> list[Days]:
    """Days, in whatever order, as spans of days that follow each other."""
    found: list[Days] = []
    for day in sorted(days):
        if found and found[-1].last + timedelta(days=1) == day:
            found[-1] = Days(found[-1].first, day)
        else:
            found.append(Days(day, day))
    return found


@dataclass(frozen=True)
class Window:
    """A half-open span of time, `start <= t < end`, in UTC."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def until(self, moment: datetime) -> "Window":
        """This window, cut off at `moment` (empty if it had not begun by then)."""
        return Window(self.start, max(self.start, min(self.end, moment)))


def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of `day` in `zone`, in UTC."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    start = midnight.astimezone(UTC)
    if start.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return start
    # Midnight was skipped: the change lies between midnight by the clock after it and by the clock before it.
    too_early = midnight.replace(fold=1).astimezone(UTC) - timedelta(seconds=1)
    while start - too_early > timedelta(seconds=1):
        middle = too_early + timedelta(seconds=(start - too_early) // timedelta(seconds=2))
        if middle.astimezone(zone).date() < day:
            too_early = middle
        else:
            start = middle
    return start


def window_of(days: Days, zone: ZoneInfo) -> Window:
    """The window that `days` are in `zone`."""
    return Window(start_of_day(days.first, zone), start_of_day(days.last + timedelta(days=1), zone))


def day_of(moment: datetime, zone: ZoneInfo) -> date:
    """The business day whose window `moment` lies in, in `zone`."""
    local = moment.astimezone(zone)
    day = local.date()
    if local.fold and moment >= start_of_day(day + timedelta(days=1), zone):
        return day + timedelta(days=1)  # the clock was put back past midnight, after the next day had begun
    return day


def epoch_day(seconds: int, zone: ZoneInfo) -> date:
    """The business day that a Unix time in seconds falls on in `zone`."""
    return day_of(datetime.fromtimestamp(seconds, UTC), zone)
