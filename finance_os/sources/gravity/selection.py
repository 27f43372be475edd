"""Which rows of a query a read is about, in which order they come, and which day each belongs to."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from finance_os.evidence.extraction import Kind, Request
from finance_os.evidence.windows import start_of_day
from finance_os.sources.sql_queries import SqlQuery


@dataclass(frozen=True)
class Selection:
    """One way of reading a query: which rows, in which order, and which day each belongs to."""

    where: str | None
    order_by: str
    bucket: str
    parameters: Mapping[str, Any]
    starts: tuple[datetime, ...]
    days: tuple[date, ...]

    def day(self, updated_at: datetime) -> date:
        """The day of a row that was last changed then."""
        return self.days[bisect_right(self.starts, updated_at) - 1] if self.starts else self.days[0]


def select(query: SqlQuery, request: Request) -> Selection:
    key = ", ".join(f"q.{column}" for column in query.key)
    whole = (request.days.last,)
    if request.kind is Kind.SNAPSHOT:
        return Selection(None, key, "1", {}, (), whole)
    if request.kind is Kind.TARGETED:
        wanted = {"targets": list(request.targets)}
        return Selection(f"{query.source_id} = ANY(%(targets)s)", key, "1", wanted, (), whole)
    if request.kind is Kind.WINDOW:
        # The days' bounds go to the server, so that its time zone data has no say in which day a row belongs to.
        days = tuple(request.days)
        starts = tuple(start_of_day(day, request.zone) for day in days)
        return Selection(
            where=f"q.{query.updated} >= %(start)s AND q.{query.updated} < %(end)s",
            order_by=f"q.{query.updated}, {key}",
            bucket=f"width_bucket(q.{query.updated}, %(starts)s)",
            parameters={"start": request.window.start, "end": request.window.end, "starts": list(starts)},
            starts=starts,
            days=days,
        )
    raise ValueError(f"a {request.kind} is not read from Gravity")
