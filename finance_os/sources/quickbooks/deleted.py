"""What was deleted in a window: change data capture, which QuickBooks keeps for 30 days.

It tells everything that changed since a moment: no upper bound, no second page, and no more than 1,000 objects, of
which the deleted ones may be any. A full answer therefore proves nothing. It is exhausted in two steps:

1. The moment is moved forward, halving the time in question, until answers are not full. From there on every deletion
   is told, with its time.
2. For the time before it there is no such answer. So what is held as evidence and is not known to have changed since
   is asked for by ID, a hundred at a time by count; what QuickBooks does not have any more was deleted. When is not
   known: it is given to the last day of the window on which it may have been.

A deletion whose time QuickBooks leaves out is placed by asking again from later days of the window on: it belongs to
the last day from whose beginning on it is still told.
https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api/change-data-capture
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from finance_os.evidence.extraction import Item, Notice, Page, Record, Request
from finance_os.evidence.windows import epoch_day, start_of_day
from finance_os.sources.quickbooks.answers import BY_ID, Answer, Changes, among, changes, count, select
from finance_os.sources.quickbooks.client import QuickBooksReader
from finance_os.sources.quickbooks.objects import CHANGES_KEPT, Entity

STEP = 900
"""Seconds to which the moment is found from which on answers are not full."""

IDS_A_QUERY = 100

_LEEWAY = 60
"""Seconds by which QuickBooks' clock may be ahead of the database's: it refuses to look back further than 30 days."""


def deleted(
    reader: QuickBooksReader, entity: Entity, request: Request, start: int, end: int, resume: Mapping[str, Any]
) -> Iterator[Item]:
    """Removals of what was deleted at `start <= second < end`, as far as QuickBooks still tells.

    `resume` goes with each page: where a crashed read goes on, which is here again.
    """
    return _Deletions(reader, entity, request, start, end, dict(resume)).items()


class _Deletions:
    def __init__(
        self,
        reader: QuickBooksReader,
        entity: Entity,
        request: Request,
        start: int,
        end: int,
        resume: dict[str, Any],
    ) -> None:
        self.reader = reader
        self.entity = entity
        self.request = request
        self.start = start
        self.end = end
        self.resume = resume
        self.present = int(request.now().timestamp())
        self.memory = self.present - int(CHANGES_KEPT.total_seconds()) + _LEEWAY

    def items(self) -> Iterator[Item]:
        since = max(self.start, self.memory)
        if self.start < self.memory:
            yield Notice(
                f"QuickBooks tells of deletions for {CHANGES_KEPT.days} days: those before {_utc(self.memory)} are not "
                "told any more."
            )
        if since >= self.end:
            return
        answer, told_from = self._exhausted(since)
        if answer is not None:
            records = [*self._timed(answer.value), *self._untimed(answer.value, told_from)]
            if records:
                yield Page(records, answer.requested_at, self.resume)
        if since < told_from:
            yield from self._by_id(answer, told_from)

    # --- what is told

    def _exhausted(self, since: int) -> tuple[Answer[Changes] | None, int]:
        """An answer that is not full, and the second from which on it tells everything; `None` where all are full."""
        # Whether the moment itself belongs to the answer is not documented: what changed before it is left out later.
        answer = self._since(max(since - 1, self.memory))
        if not self._is_full(answer):
            return answer, since
        told, known, told_from = since, None, self.present + 1
        while told_from - told > STEP:
            middle = (told + told_from) // 2
            answer = self._since(middle)
            if self._is_full(answer):
                told = middle
            else:
                known, told_from = answer, middle
        return known, told_from

    def _since(self, second: int) -> Answer[Changes]:
        return changes(self.reader, self.entity, second, self.request.now)

    def _is_full(self, answer: Answer[Changes]) -> bool:
        return answer.value.objects >= self.reader.changes_size

    def _timed(self, told: Changes) -> Iterator[Record]:
        for each in told.deleted:
            if each.second is not None and self.start <= each.second < self.end:
                yield Record(each.id, None, self._day(each.second))

    def _untimed(self, told: Changes, told_from: int) -> Iterator[Record]:
        rest = {each.id for each in told.deleted if each.second is None}
        if not rest or self.end <= told_from:
            return
        if self.end <= self.present:
            rest -= self._ids_since(self.end)
        for day in reversed(list(self.request.days)):
            begin = int(start_of_day(day, self.request.zone).timestamp())
            if not rest or begin >= self.end:
                continue
            found = rest if begin <= told_from else rest & self._ids_since(begin)
            for source_id in sorted(found):
                yield Record(source_id, None, day)
            rest = rest - found

    def _ids_since(self, second: int) -> set[str]:
        return {each.id for each in self._since(second).value.deleted}

    # --- what is not

    def _by_id(self, answer: Answer[Changes] | None, told_from: int) -> Iterator[Item]:
        """Removals of what is held, did not change from `told_from` on, and is not there any more."""
        told = {each.id for each in answer.value.deleted} if answer else set()
        # As text: moments bear the company's offset, which lies within a day of UTC.
        last = (datetime.fromtimestamp(told_from, UTC) + timedelta(days=2)).date().isoformat()
        held = self.request.held.ids_between(("MetaData", "LastUpdatedTime"), "", last)
        asked = [source_id for source_id in held if source_id not in told]
        day = self._day(min(told_from, self.end) - 1)
        gone = 0
        for first in range(0, len(asked), IDS_A_QUERY):
            batch = asked[first : first + IDS_A_QUERY]
            if count(self.reader, self.entity, among(batch), self.request.now) == len(batch):
                continue
            there = select(
                self.reader, self.entity, among(batch), self.request.now, order=BY_ID, size=self.reader.page_size
            )
            missing = sorted(set(batch) - {row.id for row in there.value})
            gone += len(missing)
            if missing:
                yield Page([Record(each, None, day) for each in missing], there.requested_at, self.resume)
        yield Notice(
            f"Change data capture was full until {_utc(told_from)}: of "
            f"{len(asked)} objects that are held, {gone} are not there any more. They are given to {day}."
        )

    def _day(self, second: int) -> date:
        return epoch_day(second, self.request.zone)


def _utc(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%SZ}"
