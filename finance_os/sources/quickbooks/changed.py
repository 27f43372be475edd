"""What changed last in a window: queried in the order of changes, and proved by QuickBooks' own count of it.

A page never goes on by position. The next one asks for what changed from the last second of this one on, and this
one gives only what lies before that second. So objects that change in the same second are always given together,
however QuickBooks orders them; an object that changes while it is being read, and so leaves the window, cannot push
another one over the edge of a page; and every place between two pages is one to go on from after a crash. Only where
a single second fills a page is that second read by position, and believed when it is whole.

Each page is counted before it is given: an object that is shown but not counted, or counted but not shown, makes it
be read again. At the end the whole window is counted once more. Objects may only leave it, because it lies in the
past: what was counted before is no less than what was given, and what is counted now is no more. Where that does not
hold, the window is walked through again, for what was not given yet.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from finance_os.evidence.extraction import Page, Request, SourceError
from finance_os.evidence.windows import epoch_day
from finance_os.sources.quickbooks.answers import BY_CHANGE, Answer, Row, count, select, within
from finance_os.sources.quickbooks.client import QuickBooksReader
from finance_os.sources.quickbooks.objects import Entity

TRIES = 5
"""How often a page, or a window, is read before it is given up as incomplete."""


@dataclass
class Place:
    """How far a span of Unix seconds, `start <= t < end`, was read: every object that changed before `since` is given.

    `before` is the count at the beginning, `walked` how many objects were found since, `days` how many records were
    given to each day, those of earlier spans of the same run too.
    """

    start: int
    end: int
    since: int
    before: int | None = None
    walked: int = 0
    days: Counter[date] = field(default_factory=Counter)

    @classmethod
    def resumed(cls, resume: Mapping[str, Any]) -> "Place":
        """The place that a page left as its `resume`."""
        days = Counter({date.fromisoformat(day): number for day, number in resume["days"].items()})
        return cls(resume["start"], resume["end"], resume["since"], resume["before"], resume["walked"], days)

    def resume(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "end": self.end,
            "since": self.since,
            "before": self.before,
            "walked": self.walked,
            "days": {day.isoformat(): number for day, number in sorted(self.days.items())},
        }


def changed(reader: QuickBooksReader, entity: Entity, request: Request, place: Place) -> Iterator[Page]:
    """Everything of `entity` that changed last in the span of `place`, from `since` on; `place` moves along.

    Raises `SourceError`, code `incomplete`, where count and objects do not come to agree.
    """
    return _Walk(reader, entity, request, place).pages()


class _Walk:
    def __init__(self, reader: QuickBooksReader, entity: Entity, request: Request, place: Place) -> None:
        self.reader = reader
        self.entity = entity
        self.request = request
        self.place = place
        self._given: set[str] = set()

    def pages(self) -> Iterator[Page]:
        place = self.place
        if place.before is None:
            place.before = self._count(place.start, place.end)
            if not place.before:
                place.since = place.end
                return
        before = place.before
        for _ in range(TRIES):
            after = yield from self._through()
            if after <= place.walked <= before:
                return
            place.before = before = after
            place.since, place.walked = place.start, 0
        raise SourceError(
            "incomplete",
            f"{self.entity.name}: QuickBooks shows other objects than it counts, {TRIES} times in a row",
        )

    def _through(self) -> Iterator[Page]:
        """Walk from `since` to the end; the count of the whole span behind it."""
        place = self.place
        whole = None
        while place.since < place.end:
            since = place.since
            rows, place.since = self._proven(since)
            place.walked += len(rows.value)
            if (since, place.since) == (place.start, place.end):
                whole = len(rows.value)
            if fresh := [row for row in rows.value if self._is_fresh(row)]:
                records = [row.record(epoch_day(row.second, self.request.zone)) for row in fresh]
                place.days.update(record.day for record in records)
                yield Page(records, rows.requested_at, place.resume())
        return self._count(place.start, place.end) if whole is None else whole

    def _is_fresh(self, row: Row) -> bool:
        """Whether this version was not given yet. A balance may change an object without its SyncToken."""
        version = f"{row.id} {row.version} {row.second}"
        if version in self._given:
            return False
        self._given.add(version)
        return True

    def _proven(self, since: int) -> tuple[Answer[list[Row]], int]:
        """The next objects from `since` on, and the second before which they are all."""
        until = since
        for _ in range(TRIES):
            rows, until = self._shown(since)
            if self._count(since, until) == len(rows.value):
                return rows, until
        raise SourceError(
            "incomplete",
            f"{self.entity.name}: of what changed in {until - since} seconds, QuickBooks shows other objects than it "
            f"counts, {TRIES} times in a row",
        )

    def _shown(self, since: int) -> tuple[Answer[list[Row]], int]:
        page = self._page(since, self.place.end, 1)
        if len(page.value) < self.reader.page_size:
            return page, self.place.end
        last = page.value[-1].second
        if page.value[0].second < last:
            return Answer([row for row in page.value if row.second < last], page.requested_at), last
        return self._one_second(since, last + 1), last + 1

    def _one_second(self, since: int, until: int) -> Answer[list[Row]]:
        """All objects of a second that fills a page, by position."""
        rows: dict[str, Row] = {}
        position = 1
        requested_at = self.request.now()
        while True:
            page = self._page(since, until, position)
            rows |= {row.id: row for row in page.value}
            if len(page.value) < self.reader.page_size:
                return Answer(list(rows.values()), requested_at)
            position += len(page.value)

    def _page(self, start: int, end: int, position: int) -> Answer[list[Row]]:
        return select(
            self.reader,
            self.entity,
            within(start, end),
            self.request.now,
            order=BY_CHANGE,
            start=position,
            size=self.reader.page_size,
            span=(start, end),
        )

    def _count(self, start: int, end: int) -> int:
        return count(self.reader, self.entity, within(start, end), self.request.now)
