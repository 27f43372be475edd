"""What automatic payouts paid out: for each, the balance transactions that Stripe lists for it, to the end of the list.

They can be listed as soon as Stripe has reconciled the payout, which its `reconciliation_status` says and the event
`payout.reconciliation_completed` tells (https://docs.stripe.com/payouts/reconciliation). They never change again, and
belong to the day on which the payout was made, and to that on which it was reconciled. Which transactions a manual
payout is made of nobody knows: Stripe refuses to list them.

One balance transaction may be paid out by several payouts, where one has failed: its source ID is `po_…/txn_…`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from finance_os.evidence.extraction import Item, Notice, Page, Record, Request
from finance_os.evidence.windows import epoch_day
from finance_os.sources.stripe.belonging import Sum, is_listed
from finance_os.sources.stripe.client import Listing, StripeReader
from finance_os.sources.stripe.objects import PAYOUT, StripeObject
from finance_os.sources.stripe.spans import Span

PAYOUTS = "/v1/payouts"


def member_of(payout: str, item: Mapping[str, Any]) -> str:
    """The source ID of a balance transaction as a member of a payout."""
    return f"{payout}/{item['id']}"


def records(payout: str, page: Listing, days: Iterable[date], request: Request) -> list[Record]:
    """A page of the list of what a payout paid out, for each of its days."""
    return [
        Record(member_of(payout, item), item, day, None, datetime.fromtimestamp(item["created"], request.zone))
        for day in days
        for item in page.items
    ]


def window(
    stripe: StripeReader,
    obj: StripeObject,
    request: Request,
    span: Span,
    resume: Mapping[str, Any],
    events: Iterable[Mapping[str, Any]],
) -> Iterator[Item]:
    """What was paid out by the payouts made in the span, newest first, and by those that its `events` say have been
    reconciled in it, in the order of their IDs. Resumed behind any payout: of one the whole list is read anew."""
    reconciled: dict[str, set[date]] = defaultdict(set)
    made_before: set[str] = set()
    for event in events:
        payout = event["data"]["object"]
        if is_listed(payout):
            reconciled[payout["id"]].add(epoch_day(event["created"], request.zone))
            if payout["created"] < span.start:
                made_before.add(payout["id"])
    phase = resume.get("phase", "created")
    if phase == "created":
        yield from _made(stripe, obj, request, span, resume, reconciled)
        resume = {}
    for payout in sorted(made_before):
        if payout > resume.get("after", ""):
            done = span.place("changed", {"after": payout})
            yield from _members(stripe, obj, request, payout, reconciled[payout], dict(resume) or None, done)
            resume = done


def _made(
    stripe: StripeReader,
    obj: StripeObject,
    request: Request,
    span: Span,
    resume: Mapping[str, Any],
    reconciled: Mapping[str, set[date]],
) -> Iterator[Item]:
    """What the payouts made in the span paid out; `reconciled` are the days on which each was."""
    params = {"created": {"gte": span.start, "lt": span.end}}
    before = dict(resume) if resume else None
    for page in stripe.pages(
        PAYOUTS, params, request.now, kind=PAYOUT, after=resume.get("after"), second=resume.get("second")
    ):
        for payout in page.items:
            done = span.place("created", {"after": payout["id"], "second": payout["created"]})
            days = {epoch_day(payout["created"], request.zone)} | reconciled.get(payout["id"], set())
            if is_listed(payout):
                yield from _members(stripe, obj, request, payout["id"], days, before, done)
            before = done
        # Nothing to stage perhaps, but a place to go on from.
        yield Page([], page.requested_at, before)


def _members(
    stripe: StripeReader,
    obj: StripeObject,
    request: Request,
    payout: str,
    days: Iterable[date],
    before: dict[str, Any] | None,
    done: dict[str, Any],
) -> Iterator[Item]:
    """The list of one payout; until it is whole, a crashed read goes on at the place `before` it."""
    total, within = Sum(payout), sorted(day for day in days if day in request.days)
    last: Listing | None = None
    for page in stripe.pages(obj.detail.path, {PAYOUT: payout}, request.now, kind=obj.detail.kind):
        if last is not None:
            yield Page(records(payout, last, within, request), last.requested_at, before)
        total.add(page.items)
        last = page
    if last is not None:
        yield Page(records(payout, last, within, request), last.requested_at, done)
    if total.doubt is not None:
        yield Notice(total.doubt)
