"""Lists that are nested under each customer: what was created in those of the customers whose balance has moved.

Events say which these are. For a span that begins before the event log does, all customers are walked once instead.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from finance_os.evidence.extraction import Item, Notice, Page, Record, Request
from finance_os.sources.stripe.belonging import customer_moved
from finance_os.sources.stripe.client import Listing, StripeFailure, StripeReader
from finance_os.sources.stripe.objects import StripeObject
from finance_os.sources.stripe.spans import Span


def window(
    stripe: StripeReader,
    obj: StripeObject,
    request: Request,
    span: Span,
    resume: Mapping[str, Any],
    log_begins: int,
    events: Iterable[Mapping[str, Any]],
) -> Iterator[Item]:
    """What was created in the span, customer by customer: in the order of their IDs, or newest first where all are
    walked. `events` are those of the span, drawn only where they are needed."""
    walk = resume["phase"] == "walk" if "phase" in resume else span.start < log_begins
    if walk:
        customers = _all(stripe, request, span, resume)
    else:
        begin = resume.get("customer", "")
        moved = {customer for event in events if (customer := customer_moved(event)) is not None}
        customers = ((customer, 0, True) for customer in sorted(moved) if customer >= begin)
    phase = "walk" if walk else "customers"
    gone = 0
    for customer, second, worth_a_page in customers:
        after = resume.get("after") if customer == resume.get("customer") else None
        place: dict[str, Any] = {"customer": customer, "customer_second": second}
        try:
            for page in stripe.pages(
                obj.detail.path.format(customer=quote(customer, safe="")),
                {"created": {"gte": span.start, "lt": span.end}},
                request.now,
                kind=obj.detail.kind,
                after=after,
                second=resume.get("second"),
            ):
                last = page.items[-1]
                place |= {"after": last["id"], "second": last["created"]}
                yield Page(_records(page, request), page.requested_at, span.place(phase, place))
        except StripeFailure as failure:
            if failure.code != "missing":
                raise
            gone += 1
        if worth_a_page and "after" not in place:
            # Nothing to stage, but a place to go on from: a walk over many customers may find little.
            yield Page([], request.now(), span.place(phase, place))
    if gone:
        yield Notice(f"{gone} customer(s) have been deleted: Stripe no longer lists their balance transactions.")


def _records(page: Listing, request: Request) -> list[Record]:
    found: list[Record] = []
    for item in page.items:
        moment = datetime.fromtimestamp(item["created"], request.zone)
        found.append(Record(item["id"], item, moment.date(), None, moment))
    return found


def _all(
    stripe: StripeReader, request: Request, span: Span, resume: Mapping[str, Any]
) -> Iterator[tuple[str, int, bool]]:
    """ID and creation time of every customer that there was before the span's end, and whether a page ends."""
    begin = resume.get("customer")
    second = resume.get("customer_second")
    if begin is not None:
        yield begin, second or 0, False
    for page in stripe.pages(
        "/v1/customers", {"created": {"lt": span.end}}, request.now, kind="customer", after=begin, second=second
    ):
        last = page.items[-1]["id"]
        for item in page.items:
            yield item["id"], item["created"], item["id"] == last
