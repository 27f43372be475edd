"""What one read of transactions has told so far, and the records that it makes of more."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from finance_os.evidence.canonical import payload_hash
from finance_os.evidence.extraction import Page, Record, Request
from finance_os.sources.plaid.answers import Row


@dataclass(slots=True)
class Asked:
    """Transactions of one answer, and when it was asked for."""

    rows: list[Row]
    requested_at: datetime


@dataclass
class Told:
    """`states` maps each transaction given to its day and payload hash; `counts` is how many records a day was given.

    `item_id` is the item that the answers were of.
    """

    request: Request
    item_id: str = ""
    states: dict[str, tuple[date, bytes]] = field(default_factory=dict)
    counts: Counter[date] = field(default_factory=Counter)
    _pending: set[str] | None = None

    def page(self, rows: Iterable[Row], requested_at: datetime, day: date | None = None) -> Page:
        """A page of those of `rows` that the same day was not given just as they are.

        A transaction belongs to `day` or, without one, to the day that it is dated on.
        """
        records: list[Record] = []
        for row in rows:
            state = day or row.day, payload_hash(row.body)
            if self.states.get(row.id) != state:
                self.states[row.id] = state
                self.counts[state[0]] += 1
                records.append(Record(row.id, row.body, state[0]))
        return Page(records, requested_at)

    def removals(self, gone: Mapping[str, date]) -> list[Record]:
        """Removals, each with its day, in order."""
        return [Record(each, None, day) for each, day in sorted(gone.items())]

    def outlived(self, rows: Iterable[Row]) -> dict[str, date]:
        """Pending transactions that are held though one of `rows` is what they became, with the day of that one.

        A pending transaction may be dated on another day than the posted one, and that day is not read then.
        """
        became = {row.replaces: row.day for row in rows if row.replaces}
        if not became:
            return {}
        if self._pending is None:
            self._pending = set(self.request.held.ids_where(("pending",), "true"))
        return {each: day for each, day in became.items() if each in self._pending or each in self.states}
