"""The bank account's transactions as Plaid has them, and the log of their changes that `/transactions/sync` reads.

Every bank line is first a pending transaction and then, under another ID, a posted one that names the pending one. It
settles at 12:00 UTC of its posting day: a line that the world's clock shows before noon is pending until then, a later
one is posted at once (its pending form existed in between two looks). Transaction IDs follow from the world's seed and
the line's number alone. A cursor tells an update (what changed since a position of the log) and how much of it was
read; an update says only what came of the changes: what was added and removed within it is not in it.
"""

import base64
import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

import msgspec

from ..company import BankLine, Planted
from ..ids import letters
from ..world import World
from . import errors

PLANTED: dict[str, str] = {
    "plaid_line_without_bank_line": "With the 6th bank line Plaid shows a charge of 7.77 USD that Rho does not have.",
    "plaid_line_a_day_late": "The 4th payout on the bank account posts at Plaid a day later than at Rho.",
}
_EXTRA_AFTER = 6
_EXTRA_CENTS = -777
_LATE_PAYOUT = 4
_NOON = time(12, tzinfo=UTC)

What = Literal["added", "modified", "removed"]


@dataclass(frozen=True, slots=True)
class Transaction:
    """`amount` is Plaid's: US cents, positive where money leaves the account. `place` orders transactions by age."""

    id: str
    place: tuple[int, int]
    amount: int
    day: date
    authorized: date
    name: str
    counterparty: str
    type: str
    reference: str | None
    pending: bool
    pending_id: str | None = None


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """An update from `first` to `last` (positions of the log), `taken` changes of which have been given."""

    feed: str
    first: int
    last: int
    taken: int
    check: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some changes, in order, and where to go on."""

    changes: list[tuple[What, Transaction]]
    cursor: str
    has_more: bool


class Feed:
    """The transactions of one world's bank account; `nonce` ties cursors to this feed."""

    def __init__(self, world: World, nonce: str) -> None:
        self.world = world
        self.present: dict[str, Transaction] = {}
        self.planted: list[Planted] = []
        self.forced_mutations = 0
        self._nonce = nonce
        self.log: list[tuple[What, Transaction]] = []
        self._lines = 0
        self._payouts = 0
        self._by_hand = 0
        self._waiting: list[tuple[datetime, Transaction, str | None]] = []

    # --- following the world

    def follow(self) -> None:
        """Take the bank's new lines in, and let everything settle whose time has come."""
        for line in self.world.bank[self._lines :]:
            self._lines += 1
            kind = None
            if line.payout is not None:
                self._payouts += 1
                if self._payouts == _LATE_PAYOUT:
                    kind = "plaid_line_a_day_late"
            self._take(line, str(self._lines), (self._lines, 0), kind)
            if self._lines == _EXTRA_AFTER:
                extra = replace(
                    line,
                    amount=_EXTRA_CENTS,
                    description="ACCOUNT ANALYSIS CHARGE",
                    counterparty="Rho",
                    type="Fee",
                    reference=None,
                )
                self._take(extra, "extra", (self._lines, 2), "plaid_line_without_bank_line")
        self._settle()

    def _take(self, line: BankLine, key: str, place: tuple[int, int], kind: str | None) -> None:
        late = timedelta(days=1 if kind == "plaid_line_a_day_late" else 0)
        pending = Transaction(
            id=self._id(f"pending:{key}"),
            place=place,
            amount=-line.amount,
            day=line.begun,
            authorized=line.begun,
            name=line.description,
            counterparty=line.counterparty,
            type=line.type,
            reference=line.reference,
            pending=True,
        )
        posted = replace(
            pending,
            id=self._id(f"posted:{key}"),
            place=(place[0], place[1] + 1),
            day=line.posted + late,
            pending=False,
            pending_id=pending.id,
        )
        self._record("added", pending)
        self._waiting.append((datetime.combine(posted.day, _NOON), posted, kind))

    def _settle(self) -> None:
        due = [each for each in self._waiting if each[0] <= self.world.when]
        self._waiting = [each for each in self._waiting if each[0] > self.world.when]
        for _, posted, kind in due:
            pending = self.present.get(posted.pending_id or "")
            if pending is None:
                continue  # the bank withdrew it while it was pending
            self._record("removed", pending)
            self._record("added", replace(posted, amount=pending.amount, name=pending.name))
            if kind is not None:
                self.planted.append(Planted(kind, "plaid", posted.id, f"{posted.amount} cents on {posted.day}"))

    def _record(self, what: What, transaction: Transaction) -> None:
        self.log.append((what, transaction))
        if what == "removed":
            del self.present[transaction.id]
        else:
            self.present[transaction.id] = transaction

    def _id(self, key: str) -> str:
        return letters(f"plaid:{self.world.seed}:{key}", 37)

    # --- changes by hand

    def find(self, key: object) -> Transaction:
        found = self.present.get(str(key))
        if found is None:
            raise ValueError(f"there is no transaction {key}")
        return found

    def remove(self, transaction: Transaction) -> None:
        self._record("removed", transaction)

    def modify(self, transaction: Transaction, *, amount: int | None, name: str | None) -> Transaction:
        changed = replace(
            transaction,
            amount=transaction.amount if amount is None else amount,
            name=transaction.name if name is None else name,
        )
        self._record("modified", changed)
        return changed

    def add(self, day: date, amount: int, name: str) -> Transaction:
        """A posted transaction that the bank tells of now, whatever its day."""
        self._by_hand += 1
        made = Transaction(
            id=self._id(f"by hand:{self._by_hand}"),
            place=(10**9, self._by_hand),
            amount=amount,
            day=day,
            authorized=day,
            name=name,
            counterparty=name,
            type="ACH Debit" if amount > 0 else "ACH Credit",
            reference=None,
            pending=False,
        )
        self._record("added", made)
        return made

    # --- reading

    def between(self, first: date, last: date) -> list[Transaction]:
        """What there is now on these days, both included, the newest first."""
        chosen = [each for each in self.present.values() if first <= each.day <= last]
        return sorted(chosen, key=lambda each: (each.day, each.place), reverse=True)

    def page(self, cursor: str, count: int) -> Page:
        """The next `count` changes of an update. PlaidFault: a foreign cursor, or a log that changed under way."""
        at = self._read(cursor) if cursor else _Cursor(self._nonce, 0, 0, 0)
        if at.taken == 0:
            at.last = len(self.log)
        elif self.forced_mutations:
            self.forced_mutations -= 1
            raise errors.mutation()
        elif at.last != len(self.log):
            raise errors.mutation()
        changes = self._changes(at.first)
        page = changes[at.taken : at.taken + count]
        taken = at.taken + len(page)
        if taken < len(changes):
            return Page(page, self._write(_Cursor(self._nonce, at.first, at.last, taken)), True)
        return Page(page, self._write(_Cursor(self._nonce, at.last, at.last, 0)), False)

    def _changes(self, first: int) -> list[tuple[What, Transaction]]:
        """What came of the log from a position on: each transaction once, a removed one beside what replaced it."""
        started: dict[str, What] = {}
        last: dict[str, tuple[What, Transaction]] = {}
        for what, transaction in self.log[first:]:
            started.setdefault(transaction.id, what)
            last[transaction.id] = what, transaction
        changes: list[tuple[What, Transaction]] = []
        for key, (what, transaction) in last.items():
            new = started[key] == "added"
            if what != "removed":
                changes.append(("added" if new else "modified", transaction))
            elif not new:
                changes.append((what, transaction))
        return sorted(changes, key=lambda change: change[1].place)

    def _write(self, cursor: _Cursor) -> str:
        cursor.check = _checksum(cursor)
        return base64.b64encode(msgspec.json.encode(cursor)).decode()

    def _read(self, text: str) -> _Cursor:
        try:
            cursor = msgspec.json.decode(base64.b64decode(text, validate=True), type=_Cursor)
        except (ValueError, msgspec.MsgspecError):
            raise errors.foreign_cursor() from None
        if cursor.feed != self._nonce or cursor.check != _checksum(cursor):
            raise errors.foreign_cursor()
        return cursor


def _checksum(cursor: _Cursor) -> str:
    plain = f"{cursor.feed}:{cursor.first}:{cursor.last}:{cursor.taken}"
    return hashlib.blake2b(plain.encode(), digest_size=8, key=b"plaid cursor").hexdigest()
