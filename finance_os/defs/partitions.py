"""The one partitioning of all daily assets. A key is a calendar date; each business reads it in its own time zone.

Today is a partition too: a snapshot belongs to the day it is taken on, and a window of today is read so far.
"""

from collections.abc import Iterable
from datetime import date

import dagster as dg

from finance_os.evidence.windows import Days
from finance_os.settings import settings

DAILY = dg.DailyPartitionsDefinition(
    start_date=settings().start_date.isoformat(), timezone=settings().timezone, end_offset=1
)


def days_of(keys: Iterable[str]) -> Days:
    """The days of a contiguous range of partition keys."""
    days = sorted(date.fromisoformat(key) for key in keys)
    return Days(days[0], days[-1])
