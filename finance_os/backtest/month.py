"""A month of the backtest, and the days of it that can be judged: those that are over."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta

from finance_os.evidence.windows import Days

_MONTH = re.compile(r"(\d{4})-(\d{2})(?:-01)?", re.ASCII)


class NotAMonth(LookupError):
    """A text that names no month."""


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month; each business has its days in its own time zone."""

    first: date

    def __post_init__(self) -> None:
        if self.first.day != 1:
            raise ValueError(f"{self.first} is not the first day of a month")

    @classmethod
    def parse(cls, text: str) -> "Month":
        """The month of `2026-03`, or of Dagster's key `2026-03-01`. Raises `NotAMonth`."""
        match = _MONTH.fullmatch(text.strip())
        if match is None or not 1 <= int(match[2]) <= 12 or int(match[1]) < 1:
            raise NotAMonth(f"{text!r} is not a month: write it as 2026-03")
        return cls(date(int(match[1]), int(match[2]), 1))

    @property
    def last(self) -> date:
        """Its last day."""
        return self.first.replace(day=monthrange(self.first.year, self.first.month)[1])

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"

    def days_over(self, today: date, start: date) -> Days | None:
        """Its days that are over on `today` and not before `start`; `None` if there are none."""
        first, last = max(self.first, start), min(self.last, today - timedelta(days=1))
        return Days(first, last) if first <= last else None
