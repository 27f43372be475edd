"""The Stripe account as a store: its records in creation order, their JSON, and the log of events about them.

Lists are served newest first, filtered by bisection over creation times and by ready-made groups.
Events live for 30 days: https://docs.stripe.com/api/events
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import msgspec

from . import states
from .ids import letters, stripe_id
from .stripe_form import API_VERSION, VOLATILE
from .stripe_objects import RENDERERS

EVENT_DAYS = 30
_CREATED = attrgetter("created")
_ENCODER = msgspec.json.Encoder(decimal_format="number")

# The fields by which records are grouped, because lists filter by them or the simulation asks for them.
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "invoice": ("customer",),
    "charge": ("customer", "payment_intent"),
    "payment_intent": ("customer",),
    "balance_transaction": ("source", "payout"),
    "credit_note": ("customer", "invoice"),
    "customer_balance_transaction": ("customer",),
    "refund": ("charge", "payment_intent"),
    "dispute": ("charge", "payment_intent"),
    "invoice_payment": ("invoice", "payment_intent"),
}


def encode(value: Any) -> bytes:
    """Compact JSON; decimals are written as numbers."""
    return _ENCODER.encode(value)


class Table:
    """All records of one kind, oldest first; ties within a second stay in the order in which they happened."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rows: list[Any] = []
        self.by_id: dict[str, Any] = {}
        self.groups: dict[str, dict[str, list[Any]]] = {f: defaultdict(list) for f in _GROUPS.get(kind, ())}

    def add(self, record: Any) -> None:
        self.rows.append(record)
        self.by_id[record.id] = record
        for field, group in self.groups.items():
            value = getattr(record, field)
            if value is not None:
                group[value].append(record)

    def regroup(self, record: Any, field: str, value: str) -> None:
        """Set a grouped field of a record that has been added before."""
        setattr(record, field, value)
        self.groups[field][value].append(record)

    def remove(self, record: Any) -> None:
        """Take a record out of every list; it can still be found by its ID until `forget`."""
        self.rows.remove(record)
        for field, group in self.groups.items():
            value = getattr(record, field)
            if value is not None:
                group[value].remove(record)


def between(rows: list[Any], after: int | None, before: int | None) -> tuple[int, int]:
    """The half-open range of indexes whose creation second is in `after` <= second < `before`."""
    low = 0 if after is None else bisect_left(rows, after, key=_CREATED)
    high = len(rows) if before is None else bisect_left(rows, before, key=_CREATED)
    return low, max(low, high)


def index_of(rows: list[Any], record: Any) -> int:
    """Where a record stands in a list that contains it; ValueError where it does not."""
    low = bisect_left(rows, record.created, key=_CREATED)
    high = bisect_right(rows, record.created, lo=low, key=_CREATED)
    return rows.index(record, low, high)


class Ledger:
    """One Stripe account. `now` is its clock, `keep_events_from` the second before which no event is written out."""

    def __init__(self, account: str, company: str, created: int) -> None:
        self.account = account
        self.company = company
        self.created = created
        self.now = created
        self.keep_events_from = created
        self.tables: dict[str, Table] = {kind.KIND: Table(kind.KIND) for kind in states.KINDS}
        self.listeners: list[Callable[[bytes], None]] = []
        self._counts: dict[str, int] = defaultdict(int)
        self._unpaid: list[states.BalanceTransaction] = []

    # --- writing

    def new_id(self, kind: str) -> str:
        self._counts[kind] += 1
        return stripe_id(kind, self._counts[kind])

    def one(self, kind: str, key: str) -> Any:
        """The record with this ID, deleted ones included; KeyError where there never was one."""
        return self.tables[kind].by_id[key]

    def find(self, kind: str, key: str) -> Any | None:
        return self.tables[kind].by_id.get(key)

    def add(self, record: Any) -> Any:
        self.tables[record.KIND].add(record)
        if isinstance(record, states.BalanceTransaction):
            self._unpaid.append(record)
        return record

    def emit(self, name: str, record: Any, previous: Mapping[str, Any] | None = None) -> None:
        """Log the event `name` about `record` now; `previous` holds the changed top-level values as they were."""
        record.blob = None
        number = self._counts["event"] = self._counts["event"] + 1
        if self.now < self.keep_events_from:
            return
        key = stripe_id("event", number)
        body = {"previous_attributes": previous} if previous is not None else {}
        snapshot = self.blob(record).replace(VOLATILE.encode(), letters(key, len(VOLATILE)).encode())
        blob = encode(
            {
                "id": key,
                "object": "event",
                "api_version": API_VERSION,
                "created": self.now,
                "data": {"object": msgspec.Raw(snapshot), **body},
                "livemode": False,
                "pending_webhooks": len(self.listeners),
                "request": {"id": None, "idempotency_key": None},
                "type": name,
            }
        )
        self.add(states.Event(id=key, created=self.now, type=name, blob=blob))
        for listener in self.listeners:
            listener(blob)

    def forget_old_events(self) -> None:
        """Drop the events that Stripe would not show any more at the present clock."""
        table = self.tables["event"]
        gone, _ = between(table.rows, self.now - EVENT_DAYS * 86_400, None)
        for record in table.rows[:gone]:
            del table.by_id[record.id]
        del table.rows[:gone]

    # --- reading

    def render(self, record: Any) -> dict[str, Any]:
        """The record's JSON value at the present clock, nothing expanded."""
        if record.KIND == "event":
            return msgspec.json.decode(record.blob)
        body = RENDERERS[record.KIND](record, self)
        if record.overlay and not body.get("deleted"):
            body |= record.overlay
        return body

    def blob(self, record: Any) -> bytes:
        """The record's JSON at the present clock, written at most once for each state of it."""
        if record.blob is None or self.now >= record.blob_until:
            record.blob = encode(self.render(record))
            record.blob_until = self._blob_until(record)
        return record.blob

    def _blob_until(self, record: Any) -> int:
        if record.KIND == "balance_transaction":
            watched = [record]
        elif record.KIND == "dispute":
            watched = [self.one("balance_transaction", key) for key in record.balance_transactions]
        else:
            return states.NEVER
        return min((t.available_on for t in watched if t.available_on > self.now), default=states.NEVER)

    def rows(self, kind: str, **equal: str) -> list[Any]:
        """Live records of a kind, oldest first, of one group where a grouped field is given."""
        table = self.tables[kind]
        for field, value in equal.items():
            return table.groups[field].get(value, [])
        return table.rows

    # --- the account's own balance

    def payable(self) -> list[states.BalanceTransaction]:
        """Available balance transactions that no payout has taken yet."""
        return [t for t in self._unpaid if t.available_on <= self.now and t.payout is None and t.type != "payout"]

    def pay_out(self, transactions: list[states.BalanceTransaction], payout: str) -> None:
        """Tie balance transactions to the payout that takes them, itself included."""
        for transaction in transactions:
            self.tables["balance_transaction"].regroup(transaction, "payout", payout)
        self._unpaid = [t for t in self._unpaid if t.payout is None]

    def balance(self) -> tuple[int, int]:
        """Available and pending US cents. A payout and what it takes cancel out, so only the rest counts."""
        available = sum(t.net for t in self._unpaid if t.available_on <= self.now)
        return available, sum(t.net for t in self._unpaid) - available
