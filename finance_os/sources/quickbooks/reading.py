"""What a day of QuickBooks holds: which queries, change data and single objects are read for a request.

A window is read in two steps: what changed last in it (`changed`), then what was deleted in it (`deleted`), so that
what is told to be gone is never shown after that. An object belongs to the business day of its last change.
"""

import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date
from typing import Any

from finance_os.evidence.extraction import (
    Extraction,
    Item,
    Kind,
    Notice,
    Page,
    Record,
    RemoteCount,
    Request,
    SourceError,
)
from finance_os.evidence.windows import day_of
from finance_os.sources.quickbooks.answers import BY_ID, Answer, Row, among, count, rate, select, single
from finance_os.sources.quickbooks.changed import TRIES, Place, changed
from finance_os.sources.quickbooks.client import QuickBooksReader
from finance_os.sources.quickbooks.deleted import deleted
from finance_os.sources.quickbooks.objects import (
    MINOR_VERSION,
    MONTHLY_CALLS_OPTION,
    OBJECTS,
    Entity,
    QuickBooksObject,
    Way,
    company_path,
)

NEARLY = 0.8
"""The part of the month's calls after which a notice is given."""

_PREFERENCES = next(obj.detail for obj in OBJECTS if obj.detail.name == "Preferences")
_CURRENCIES = Entity("CompanyCurrency", Way.LIST)


def extract(reader: QuickBooksReader, obj: QuickBooksObject, request: Request) -> Extraction:
    """Read what `request` asks for of `obj`, lazily; drawing from it raises `SourceError`.

    A targeted read takes source IDs and gives what it finds to the business day of now, or to the last day asked for
    where midnight has passed; what QuickBooks does not have is a removal.
    """
    reading = _Reading(reader, obj.detail, request)
    if request.kind is Kind.TARGETED:
        items = reading.targets()
    else:
        items = {
            Way.CHANGES: reading.changes,
            Way.LIST: reading.all,
            Way.SINGLE: reading.single,
            Way.RATES: reading.rates,
        }[obj.detail.way]()
    return Extraction(
        _metered(reader, request, items),
        requested=reader.sent,
        api_version=MINOR_VERSION,
        query_name=company_path(reader.realm),
    )


def _metered(reader: QuickBooksReader, request: Request, items: Iterator[Item]) -> Iterator[Item]:
    """`items`, with a notice where the month's calls come to an end."""
    month = request.now().astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    reader.meter(request.held.requests_since(month))
    yield from items
    if reader.calls() >= NEARLY * reader.monthly_calls:
        yield Notice(
            f"{reader.calls():,} requests were sent to QuickBooks this month; {MONTHLY_CALLS_OPTION} allows "
            f"{reader.monthly_calls:,}, and then nothing more is read until the next month."
        )


class _Reading:
    """One read of one object type."""

    def __init__(self, reader: QuickBooksReader, entity: Entity, request: Request) -> None:
        self.reader = reader
        self.entity = entity
        self.request = request
        self.now = request.now

    def changes(self) -> Iterator[Item]:
        """The window; or, of a crashed read, the rest of its span, and then what time has passed since.

        Bounds are whole seconds, as QuickBooks' own times are: a window that ends at the present ends with the
        second that has begun.
        """
        start = math.floor(self.request.window.start.timestamp())
        end = math.ceil(self.request.window.end.timestamp())
        if start >= end:
            yield RemoteCount({})
            return
        place = Place.resumed(self.request.resume) if self.request.resume else Place(start, end, start)
        yield from changed(self.reader, self.entity, self.request, place)
        if place.end < end:
            place = Place(place.end, end, place.end, days=place.days)
            yield from changed(self.reader, self.entity, self.request, place)
        yield RemoteCount(dict(place.days))
        yield from deleted(self.reader, self.entity, self.request, start, end, place.resume())

    def single(self) -> Iterator[Item]:
        """The one there is. The company's source ID is its realm."""
        answer = single(self.reader, self.entity, self.now)
        source_id = self.reader.realm if self.entity.name == "CompanyInfo" else answer.value.id
        yield from self._late(answer)
        yield Page([answer.value.record(self._today(answer), source_id)], answer.requested_at)

    def all(self) -> Iterator[Item]:
        """All of them, proved by their count before and after."""
        answer = self._all(self.entity)
        day = self._today(answer)
        yield from self._late(answer)
        yield RemoteCount({day: len(answer.value)})
        yield Page([row.record(day) for row in answer.value], answer.requested_at)

    def rates(self) -> Iterator[Item]:
        """The rate of each currency in use on each day, in the order of days."""
        settings = single(self.reader, _PREFERENCES, self.now).value.body.get("CurrencyPrefs")
        if not isinstance(settings, dict) or settings.get("MultiCurrencyEnabled") is not True:
            yield Notice("The company keeps its books in one currency: there are no exchange rates.")
            yield RemoteCount({})
            return
        home = settings.get("HomeCurrency")
        codes = {self._code(row.body) for row in self._all(_CURRENCIES).value}
        codes -= {home.get("value") if isinstance(home, dict) else None}
        resume = self.request.resume or {"after": "", "days": {}}
        days = Counter({date.fromisoformat(day): number for day, number in resume["days"].items()})
        for day in self.request.days:
            if day.isoformat() <= resume["after"]:
                continue
            asked_at = self.now()
            records = [self._rate(code, day) for code in sorted(codes)]
            days[day] = len(records)
            given = {each.isoformat(): number for each, number in days.items()}
            yield Page(records, asked_at, {"after": day.isoformat(), "days": given})
        yield RemoteCount(dict(days))

    def targets(self) -> Iterator[Item]:
        first = (self.request.resume or {}).get("targets", 0)
        for number, target in enumerate(self.request.targets[first:], first + 1):
            yield self._target(target, {"targets": number})

    def _target(self, target: str, resume: dict[str, Any]) -> Page:
        if self.entity.way is Way.SINGLE:
            answer = single(self.reader, self.entity, self.now)
            return Page([answer.value.record(self._today(answer), target)], answer.requested_at, resume)
        if self.entity.way is Way.RATES:
            code, _, day = target.partition(":")
            asked_at = self.now()
            record = self._rate(code, _date(target, day))
            return Page([record] if record.day in self.request.days else [], asked_at, resume)
        if not (target.isascii() and target.replace("-", "").isalnum()):
            raise _no_target(target)
        answer = select(self.reader, self.entity, among([target]), self.now, order=BY_ID, size=1)
        day = self._today(answer)
        records = [row.record(day) for row in answer.value] or [Record(target, None, day)]
        return Page(records, answer.requested_at, resume)

    def _rate(self, code: str, day: date) -> Record:
        answer = rate(self.reader, code, day, self.now)
        body, updated = answer.value
        # No version: another day's rate may answer for this day later, and has a count of its own.
        return Record(f"{code}:{day}", body, day, None, None, updated)

    def _all(self, entity: Entity) -> Answer[list[Row]]:
        """Every object of a short list; `incomplete` where it does not come to be what QuickBooks counts."""
        for _ in range(TRIES):
            before = count(self.reader, entity, (), self.now)
            asked_at = self.now()
            rows: dict[str, Row] = {}
            position = 1
            while True:
                size = self.reader.page_size
                page = select(self.reader, entity, (), self.now, order=BY_ID, start=position, size=size)
                rows |= {row.id: row for row in page.value}
                position += len(page.value)
                if len(page.value) < size:
                    break
            if before == len(rows) == position - 1 == count(self.reader, entity, (), self.now):
                return Answer(list(rows.values()), asked_at)
        raise SourceError(
            "incomplete", f"{entity.name}: QuickBooks shows other objects than it counts, {TRIES} times in a row"
        )

    def _code(self, currency: dict[str, Any]) -> str:
        code = currency.get("Code")
        if not isinstance(code, str) or not (code.isascii() and code.isalpha()):
            raise SourceError("unreadable_answer", "CompanyCurrency: a currency has no code")
        return code

    def _today(self, answer: Answer[Any]) -> date:
        today = day_of(answer.requested_at, self.request.zone)
        return today if today in self.request.days else self.request.days.last

    def _late(self, answer: Answer[Any]) -> Iterator[Item]:
        if day_of(answer.requested_at, self.request.zone) not in self.request.days:
            yield Notice(f"It was after midnight when this was taken; it stands for {self.request.days.last}.")


def _date(target: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _no_target(target) from None


def _no_target(target: str) -> SourceError:
    return SourceError("invalid_request", f"{target!r} is not a source ID of QuickBooks", permanent=True)
