"""What a day of Plaid holds: which endpoints are read for a request.

Transactions: `dated` for every day of the read, then `updates` where it reaches the present. Snapshots: item, accounts
and institution as they are now.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
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
from finance_os.evidence.windows import day_of, start_of_day
from finance_os.sources.plaid import answers
from finance_os.sources.plaid.client import PlaidReader
from finance_os.sources.plaid.dated import dated
from finance_os.sources.plaid.objects import API_VERSION, PlaidObject, Way
from finance_os.sources.plaid.told import Told
from finance_os.sources.plaid.updates import updates


def extract(reader: PlaidReader, obj: PlaidObject, request: Request) -> Extraction:
    """Read what `request` asks for of `obj`, lazily; drawing from it raises `SourceError`.

    A targeted read takes source IDs; what Plaid does not have is a removal. Plaid gives no single transactions.
    """
    reading = _Reading(reader, request)
    items = {
        Way.ITEM: reading.item,
        Way.ACCOUNTS: reading.accounts,
        Way.INSTITUTION: reading.institution,
        Way.TRANSACTIONS: reading.transactions,
    }[obj.detail]()
    return Extraction(items, requested=reader.sent, api_version=API_VERSION)


class _Reading:
    """One read of one object type."""

    def __init__(self, reader: PlaidReader, request: Request) -> None:
        self.reader = reader
        self.request = request

    def transactions(self) -> Iterator[Item]:
        """The days, and what changed since the cursor. Each day's count is of what Plaid told of it."""
        if self.request.kind is not Kind.WINDOW:
            raise SourceError(
                "invalid_request", "Plaid gives no single transactions: read the days they are dated on", permanent=True
            )
        # `/transactions/get` does not say whether the item's history is all there; this does.
        answers.update_page(self.reader, "", self.request.now, count=1)
        told = Told(self.request)
        yield from dated(self.reader, told)
        if self._reaches_the_present():
            yield from updates(self.reader, told)
        yield RemoteCount(dict(told.counts))

    def item(self) -> Iterator[Item]:
        answer = answers.item(self.reader, self.request.now)
        error = answer.value.get("error")
        if isinstance(error, dict):
            yield Notice("Plaid reports an error of the item, which its record names: the bank has to be linked anew.")
        yield from self._shown({answer.value["item_id"]: answer.value}, answer.requested_at)

    def accounts(self) -> Iterator[Item]:
        answer = answers.accounts(self.reader, self.request.now)
        yield from self._shown({each["account_id"]: each for each in answer.value}, answer.requested_at)

    def institution(self) -> Iterator[Item]:
        institution_id = answers.item(self.reader, self.request.now).value.get("institution_id")
        if not isinstance(institution_id, str):
            yield Notice("Plaid names no institution for this item.")
            yield from self._shown({}, self.request.now())
            return
        answer = answers.institution(self.reader, institution_id, self.request.now)
        yield from self._shown({institution_id: answer.value}, answer.requested_at)

    def _shown(self, found: dict[str, dict[str, Any]], requested_at: datetime) -> Iterator[Item]:
        """What there is now, as records; of a targeted read, those asked for, and removals of what is not there."""
        days = self.request.days
        day = day_of(requested_at, self.request.zone)
        if day not in days:
            yield Notice(f"It was after midnight when this was taken; it stands for {days.last}.")
            day = days.last
        wanted = self.request.targets if self.request.kind is Kind.TARGETED else tuple(found)
        records = [Record(each, found.get(each), day) for each in dict.fromkeys(wanted)]
        yield Page(records, requested_at)

    def _reaches_the_present(self) -> bool:
        """Whether the window was cut off at the present: its last day was not over when the read was planned."""
        after: date = self.request.days.last + timedelta(days=1)
        return self.request.window.end < start_of_day(after, self.request.zone)
