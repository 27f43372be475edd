"""What a day of Stripe holds: which lists, events and single objects are read for a request, and in which order.

A window is read in three phases, each of which can be resumed behind any page:

1. `created`: the list of what was created in it, newest first. Each object goes to the day of its creation, and to
   each day of the window on which an event says that it changed.
2. `changed`: what events say has changed and the list did not give (created earlier, or deleted), asked for by ID, in
   the order of IDs, for each day of its events.
3. `settled`: objects held with a value that they lose without any event, where they have lost it.

Events are read before the list, so that what the list gives is never older than what they tell, and what both give is
not asked for twice. Only which objects changed and when is kept from them: some 500 bytes for each object that changed
on another day than that of its creation. https://docs.stripe.com/api/events
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

from finance_os.evidence.canonical import parse_path
from finance_os.evidence.extraction import Extraction, Item, Kind, Notice, Page, Record, Request, SourceError
from finance_os.evidence.windows import day_of, epoch_day
from finance_os.sources.source import Reads
from finance_os.sources.stripe import by_customer, paid_out
from finance_os.sources.stripe.belonging import Sum, is_list, list_at, may_be_gone
from finance_os.sources.stripe.client import Answer, Listing, StripeFailure, StripeReader, Unreadable
from finance_os.sources.stripe.objects import API_VERSION, EVENT_LOG, PAYOUT, StripeObject
from finance_os.sources.stripe.spans import Span

EVENT_LAG = 60
"""Seconds after which an event can be relied on to be in the log."""

SETTLING_DAYS = 2
"""A window whose last day lies further back than this does not look for what has settled since."""

_FETCHED_ITEMS_PER_PAGE = 1_000


class _Changes:
    """What events say of one object: on which days, whether they deleted it, and when it was created if they say."""

    __slots__ = ("created", "days", "deleted")

    def __init__(self) -> None:
        self.days: set[date] = set()
        self.deleted = False
        self.created: int | None = None


def extract(stripe: StripeReader, obj: StripeObject, request: Request) -> Extraction:
    """Read what `request` asks for of `obj`, lazily; drawing from it raises `SourceError`.

    A targeted read takes source IDs (`cus_…/cbtxn_…` for a customer balance transaction, `balance` for the balance) and
    whole lists (`payout:po_…` and the like: see `belonging`; what a payout paid out is only read as one), and gives
    what it finds to the business day of now, or to the last day asked for where midnight has passed.
    """
    reading = _Reading(stripe, obj, request)
    if request.kind is Kind.TARGETED:
        items = reading.targets()
    elif obj.reads is Reads.SNAPSHOT:
        items = reading.snapshot()
    else:
        items = reading.window()
    return Extraction(items, requested=stripe.sent, api_version=API_VERSION)


class _Reading:
    """One read of one object type."""

    def __init__(self, stripe: StripeReader, obj: StripeObject, request: Request) -> None:
        self.stripe = stripe
        self.obj = obj
        self.endpoint = obj.detail
        self.request = request
        self.zone = request.zone
        self.now = request.now
        self.log_begins = math.ceil((request.now() - EVENT_LOG).timestamp())

    # --- the three kinds of read

    def targets(self) -> Iterator[Item]:
        first = (self.request.resume or {}).get("targets", 0)
        for number, target in enumerate(self.request.targets[first:], first + 1):
            if is_list(target):
                yield from self._listed(target, number)
                continue
            answer = self._single(self._target_path(target))
            yield self._page(answer, target.rpartition("/")[2], [self._today(answer)], {"targets": number})

    def _listed(self, target: str, number: int) -> Iterator[Item]:
        """A list to its end, its pages for the present day; resumed behind any page, it is read anew.

        What may have been deleted lists nothing any more. Every other list has to be there.
        """
        path, params = list_at(self.obj, target)
        total = Sum(params[PAYOUT]) if PAYOUT in params else None
        try:
            for page in self.stripe.pages(path, params, self.now, kind=self.endpoint.kind):
                today = self._today(page)
                for item in page.items if page.unfinished else ():
                    self.stripe.complete(item, self.now)
                if self.endpoint.owned_by_payout:
                    records = paid_out.records(params[PAYOUT], page, [today], self.request)
                else:
                    records = [Record(item["id"], item, today, None, _moment(item["created"])) for item in page.items]
                if total is not None:
                    total.add(page.items)
                yield Page(records, page.requested_at, {"targets": number - 1})
        except StripeFailure as failure:
            if failure.code != "missing" or not may_be_gone(target):
                raise
            yield Notice(f"{target} has been deleted: Stripe no longer lists what belonged to it.")
        if total is not None and total.doubt is not None:
            yield Notice(total.doubt)

    def snapshot(self) -> Iterator[Item]:
        """The present state, for the present day; or for the last day asked for where midnight has passed since.

        A snapshot that showed nothing would remove what is held: it has to show what there is, whatever the clock says.
        """
        answer = self._single(self.endpoint.path)
        yield from self._late(answer)
        yield self._page(answer, self.endpoint.kind, [self._today(answer)], None)

    def window(self) -> Iterator[Item]:
        for span, resume in self._spans():
            yield from self._notices(span)
            if self.endpoint.owned_by_customer:
                asked = self.stripe, self.obj, self.request, span, resume
                yield from by_customer.window(*asked, self.log_begins, self._events(span))
                continue
            if self.endpoint.owned_by_payout:
                yield from paid_out.window(self.stripe, self.obj, self.request, span, resume, self._events(span))
                continue
            phase = resume.get("phase", "created")
            unsettled = self._unsettled()
            if phase != "settled":
                changes = self._changes(span)
                unsettled.difference_update(changes)
                if phase == "created":
                    yield from self._created(span, changes, unsettled, resume)
                    resume = {}
                yield from self._changed(span, changes, resume.get("after", ""))
                resume = {}
            yield from self._settled(span, unsettled, resume)

    def _spans(self) -> list[tuple[Span, Mapping[str, Any]]]:
        """The window; or, of a crashed read, the rest of its span, and then what time has passed since.

        The later span goes back for events by the lag, since the first read may have come too early for them.
        """
        start = int(self.request.window.start.timestamp())
        end = math.ceil(self.request.window.end.timestamp())
        resume = self.request.resume
        if resume is None:
            return [(Span(start, end, start), {})] if start < end else []
        crashed = Span(resume["start"], resume["end"], resume["events_from"])
        spans: list[tuple[Span, Mapping[str, Any]]] = [(crashed, resume)]
        if crashed.end < end:
            spans.append((Span(crashed.end, end, max(start, crashed.end - EVENT_LAG)), {}))
        return spans

    # --- the phases

    def _created(
        self, span: Span, changes: dict[str, _Changes], unsettled: set[str], resume: Mapping[str, Any]
    ) -> Iterator[Page]:
        listing = self.stripe.pages(
            self.endpoint.path,
            self._list_params(span),
            self.now,
            kind=self.endpoint.kind,
            after=resume.get("after"),
            second=resume.get("second"),
        )
        for page in listing:
            if unsettled:
                unsettled.difference_update(item["id"] for item in page.items)
            for records, last in self._recorded(page, changes):
                place = {"after": last["id"], "second": last["created"]}
                yield Page(records, page.requested_at, span.place("created", place))

    def _recorded(
        self, page: Listing, changes: dict[str, _Changes]
    ) -> Iterator[tuple[list[Record], Mapping[str, Any]]]:
        """The records of a page with the item that they end at: in pieces, where nested lists make it large."""
        records: list[Record] = []
        fetched = 0
        days, zone, take = self.request.days, self.zone, changes.pop
        unfinished = page.unfinished and not self.endpoint.snapshots
        for item in page.items:
            if unfinished:
                fetched += self.stripe.complete(item, self.now)
            source_id, created = item["id"], item["created"]
            moment = datetime.fromtimestamp(created, zone)
            day = moment.date()
            records.append(Record(source_id, item, day, None, moment))
            changed = take(source_id, None)
            if changed is not None:
                records.extend(
                    Record(source_id, item, other, None, moment)
                    for other in sorted(changed.days)
                    if other != day and other in days
                )
            if fetched >= _FETCHED_ITEMS_PER_PAGE:
                yield records, item
                records, fetched = [], 0
        if records:
            yield records, page.items[-1]

    def _changed(self, span: Span, changes: dict[str, _Changes], after: str) -> Iterator[Item]:
        vanished = 0
        for source_id in sorted(changes):
            change = changes[source_id]
            if source_id <= after:
                continue
            if change.created is not None and span.start <= change.created < span.end:
                if not change.deleted:
                    # The list gave it before this read was resumed; or it belongs to a test clock, which lists omit.
                    continue
                change.days.add(epoch_day(change.created, self.zone))
            answer = self._single(f"{self.endpoint.path}/{quote(source_id, safe='')}")
            if answer.body.get("deleted") is True:
                vanished += not change.deleted
            elif span.start <= answer.body["created"] < span.end:
                continue
            days = sorted(day for day in change.days if day in self.request.days)
            yield self._page(answer, source_id, days, span.place("changed", {"after": source_id}))
        if vanished:
            yield Notice(
                f"{vanished} object(s) that changed in this window have been deleted since: they are kept as removed."
            )

    def _unsettled(self) -> set[str]:
        """IDs of what is held with the value that it loses without an event, unless the window lies too far back."""
        too_late = self.request.days.last < day_of(self.now(), self.zone) - timedelta(days=SETTLING_DAYS)
        if self.obj.settles is None or too_late:
            return set()
        path, value = self.obj.settles
        return set(self.request.held.ids_where(parse_path(path), value))

    def _settled(self, span: Span, unsettled: set[str], resume: Mapping[str, Any]) -> Iterator[Page]:
        """What has lost, by now, the value that it loses without an event.

        It belongs to the day on which it settled, or to the window's first day if that lies before (no run read
        it in time); what was created in the window itself the list gave already. Objects created shortly before
        the window are found by listing, 100 at a time, as long as that pays; the others are asked for by ID.
        """
        singly = resume.get("singly")
        if singly is None and len(unsettled) > 1:
            for page in self.stripe.pages(
                self.endpoint.path,
                {"created": {"lt": span.start}},
                self.now,
                kind=self.endpoint.kind,
                after=resume.get("after"),
                second=resume.get("second"),
            ):
                found = [item for item in page.items if item["id"] in unsettled]
                unsettled.difference_update(item["id"] for item in found)
                pays = len(found) > 1 and len(unsettled) > 1
                last = page.items[-1]
                place = {"after": last["id"], "second": last["created"]} if pays else {"singly": ""}
                records = [record for item in found for record in self._settled_record(span, item)]
                yield Page(records, page.requested_at, span.place("settled", place))
                if not pays:
                    break
        for source_id in sorted(unsettled):
            if source_id <= (singly or ""):
                continue
            answer = self._single(f"{self.endpoint.path}/{quote(source_id, safe='')}")
            if answer.body.get("deleted") is True:
                records = [Record(source_id, None, self.request.days.last)]
            else:
                records = self._settled_record(span, answer.body)
            yield Page(records, answer.requested_at, span.place("settled", {"singly": source_id}))

    def _settled_record(self, span: Span, item: dict[str, Any]) -> list[Record]:
        assert self.obj.settles is not None
        path, value = self.obj.settles
        if _at(item, parse_path(path)) == value or span.start <= item["created"] < span.end:
            return []
        times = [time for place in self.endpoint.settled_at if isinstance(time := _at(item, place), int)]
        day = max(epoch_day(min(times, default=span.start), self.zone), self.request.days.first)
        if day not in self.request.days:
            return []
        return [Record(item["id"], item, day, None, _moment(item["created"]))]

    # --- events

    def _changes(self, span: Span) -> dict[str, _Changes]:
        """By ID, what the events in the span say has changed.

        An object that was created in the span and changed on that same day only is left out: the list of what
        was created gives it to that day.
        """
        changes: dict[str, _Changes] = {}
        kind, through = self.endpoint.kind, self.endpoint.through
        for event in self._events(span):
            item = event["data"]["object"]
            day = epoch_day(event["created"], self.zone)
            named = item.get("object")
            if named == kind:
                source_id, created = item.get("id"), item.get("created")
                deleted = event["type"].endswith(".deleted")
                listed = isinstance(created, int) and span.start <= created < span.end
                if listed and not deleted and source_id not in changes and epoch_day(created, self.zone) == day:
                    continue
            elif named in through:
                source_id, created, deleted = item.get(through[named]), None, False
            else:
                continue
            if not isinstance(source_id, str):
                continue
            change = changes.setdefault(source_id, _Changes())
            change.days.add(day)
            change.deleted |= deleted
            change.created = created if change.created is None else change.created
        return changes

    def _events(self, span: Span) -> Iterator[dict[str, Any]]:
        """Events of the types that change this object, as far as they are still in the log, newest first."""
        begin = max(span.events_from, self.log_begins)
        if not self.endpoint.changed_by or begin >= span.end:
            return
        params = {"created": {"gte": begin, "lt": span.end}, "types": list(self.endpoint.changed_by)}
        for page in self.stripe.pages("/v1/events", params, self.now, kind="event"):
            yield from page.items

    def _notices(self, span: Span) -> Iterator[Notice]:
        endpoint = self.endpoint
        if not endpoint.changed_by and not endpoint.snapshots:
            return
        begin = datetime.fromtimestamp(self.log_begins, UTC)
        if span.start < begin.timestamp():
            day = day_of(begin, self.zone)
            if endpoint.snapshots:
                yield Notice(
                    f"Stripe keeps events for {EVENT_LOG.days} days: those before {day} are not there any more."
                )
            elif endpoint.owned_by_customer:
                yield Notice(
                    "All customers that there are now were walked; what moved the balance of customers that have been "
                    "deleted since is not among it."
                )
            else:
                yield Notice(
                    f"Changes before {day} are not in Stripe's event log any more: "
                    "days before hold what was created in them."
                )
        if span.end > self.now().timestamp() - EVENT_LAG:
            moment = datetime.fromtimestamp(span.end - EVENT_LAG, UTC)
            yield Notice(
                f"Stripe's event log lags by up to a minute: changes after {moment:%Y-%m-%d %H:%M:%SZ} may lack."
            )

    # --- single objects, pages, places

    def _single(self, path: str) -> Answer:
        """One object with all of its nested lists; `{"deleted": true}` where it is no longer there.

        Stripe answers so for a customer, and with the error `resource_missing` for other objects. Since the ID
        comes from the same account's events, evidence or webhooks, that means it has been deleted.
        """
        expand = {"expand": list(self.endpoint.expand)} if self.endpoint.expand else {}
        asked_at = self.now()

        def prove(body: dict[str, Any]) -> None:
            if body.get("object") != self.endpoint.kind:
                raise Unreadable(path, f"the answer is not of kind {self.endpoint.kind}")
            if self.obj.reads is Reads.WINDOW and not body.get("deleted") and type(body.get("created")) is not int:
                raise Unreadable(path, "the answer has no creation time")

        try:
            answer = self.stripe.get(path, expand, self.now, prove)
        except StripeFailure as failure:
            if failure.code != "missing":
                raise
            return Answer({"deleted": True}, asked_at, False)
        body = answer.body
        if answer.unfinished and not self.endpoint.snapshots:
            self.stripe.complete(body, self.now)
        return answer

    def _today(self, answer: Answer | Listing) -> date:
        """The present day as the answer has it, or the last one asked for where midnight has passed since."""
        today = day_of(answer.requested_at, self.zone)
        return today if today in self.request.days else self.request.days.last

    def _late(self, answer: Answer) -> Iterator[Notice]:
        if day_of(answer.requested_at, self.zone) not in self.request.days:
            yield Notice(f"It was after midnight when this was taken; it stands for {self.request.days.last}.")

    def _target_path(self, target: str) -> str:
        if self.obj.reads is Reads.SNAPSHOT:
            return self.endpoint.path
        if self.endpoint.owned_by_payout:
            text = f"{self.obj.object_type} is asked for as {PAYOUT}:po_…, not {target}"
            raise SourceError("invalid_request", text, permanent=True)
        if not self.endpoint.owned_by_customer:
            return f"{self.endpoint.path}/{quote(target, safe='')}"
        customer, slash, source_id = target.partition("/")
        if not slash:
            raise SourceError(
                "invalid_request",
                f"{self.obj.object_type} is asked for as cus_…/cbtxn_… or customer:cus_…, not {target}",
                permanent=True,
            )
        return f"{self.endpoint.path.format(customer=quote(customer, safe=''))}/{quote(source_id, safe='')}"

    def _page(self, answer: Answer, source_id: str, days: Iterable[date], resume: dict[str, Any] | None) -> Page:
        """One object, for each of its days."""
        payload = None if answer.body.get("deleted") is True else answer.body
        created = None if payload is None or "created" not in payload else _moment(payload["created"])
        records = [Record(source_id, payload, day, None, created) for day in days]
        return Page(records, answer.requested_at, resume)

    def _list_params(self, span: Span) -> dict[str, Any]:
        params: dict[str, Any] = {"created": {"gte": span.start, "lt": span.end}}
        if self.endpoint.expand:
            params["expand"] = [f"data.{name}" for name in self.endpoint.expand]
        return params


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
