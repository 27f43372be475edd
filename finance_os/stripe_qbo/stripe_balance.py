"""Stripe's own word for the account's balance, as proof that every balance transaction is staged.

Everything that moves the balance is a balance transaction (https://docs.stripe.com/reports/balance-transaction-types),
and `available` and `pending` of the balance are what is in the payments balance when they are asked for
(https://docs.stripe.com/api/balance/balance_object). So at any moment both together are, by currency, the sum of the
nets of all balance transactions created until then, since the account's first day. Where they are not, something is
missing, on whatever day it lies: the account's first years included, which no check of days that were read looks at.

Where it is known what the account held at a moment (`Start`), only what was created since counts, and its sum begins
with that: a reading then proves both, that nothing is missing since, and what was said to be there.

A payout leaves what is available when it is made; everything else is available from `available_on` on
(https://docs.stripe.com/api/balance_transactions/object), which is a date, and nothing says of which time zone: what
becomes available on the day of a reading, or on the day before, may be so already or not yet. Of what was there at a
`Start` nobody knows when it becomes available: that it all has by `Start.settled` is all that can be said.

Not every reading decides:

- Only one made since the balance date does: an older one says nothing of what lies between.
- What was created within `CLOCKS` of the reading may be in it or not, for clocks differ and an answer takes its time:
  it agrees if any end of the sum within that span does, or the sum of all that is staged, where nothing came later.
- One that agrees proves, whatever was read when: no sum comes to the cent by itself.
- One that differs is believed where balance transactions were read after it, without a gap since the balance date: else
  something may only not have been read yet. The next daily sync reads that day again.

The newest reading that decides is the one that counts.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate

import msgspec
from psycopg.types.multirange import Multirange

from finance_os.evidence.database import DatabaseConnection
from finance_os.stripe_qbo.stripe_objects import BalanceTransaction

CLOCKS = 120
"""Seconds by which Stripe's clock and ours may differ, the time of an answer included."""

PAYMENTS = (None, "payments")
"""Of the account's balances the one that is read and paid out of, as balance transactions name it."""

REMEDY = (
    "Read Stripe's balance transactions and payouts from the account's first day on: set FINANCE_OS_START_DATE to it, "
    "then backfill the group `stripe` up to today."
)

SETTLING = 32
"""Days after which all that was pending is available: 30 at the longest of Stripe's standard settlement times, in
Brazil (https://docs.stripe.com/payments/balances#settlement-time), and one at either end for time zones."""

_NEWEST = 100
_DAY = 86_400


@dataclass(frozen=True)
class Reading:
    """What Stripe said that the account held, by currency, in minor units. `read_at` is when it was asked.

    `read_from` is the moment from which balance transactions were read, without a gap, to after this; `None` where
    nothing was read after it.
    """

    read_at: int
    available: Mapping[str, int]
    pending: Mapping[str, int]
    read_from: int | None = None

    def holds(self, currency: str) -> int:
        """Both together."""
        return self.available.get(currency, 0) + self.pending.get(currency, 0)


@dataclass(frozen=True)
class Start:
    """What the account held at a moment, available and pending together, by currency, in minor units."""

    since: int
    held: Mapping[str, int]

    @property
    def settled(self) -> int:
        """The moment by which all of it is available."""
        return self.since + SETTLING * _DAY


@dataclass(frozen=True)
class Difference:
    """One currency of which a reading is not the sum of what is staged, in minor units.

    `stated` is what the account is said to have held at a start, where one is stated: `staged` is what counts since.
    """

    currency: str
    held: int
    staged: int
    stated: int | None = None


@dataclass(frozen=True)
class Proof:
    """What the readings prove of the balance transactions: that they are all there, that they are not, or nothing.

    `reading` is the one that decides; `None` where none does.
    """

    reading: Reading | None = None
    differences: tuple[Difference, ...] = ()

    @property
    def agrees(self) -> bool:
        return self.reading is not None and not self.differences


def prove(
    moved: Collection[BalanceTransaction], readings: Iterable[Reading], since: int, start: Start | None = None
) -> Proof:
    """The proof that readings, the newest first, give of what moved the balance, in the order of creation.

    `since` is the moment at which the balance date begins; `start` is what was there then, where that is stated.
    """
    later = [each for each in readings if each.read_at >= since]
    sums = _Sums(counted(moved, start) if later else (), start)
    for each in later:
        differences = tuple(sums.differences(each))
        # Days begin at other moments for the account than for the books.
        if not differences or (each.read_from is not None and each.read_from <= since + _DAY):
            return Proof(each, differences)
    return Proof()


def counted(moved: Iterable[BalanceTransaction], start: Start | None) -> Iterator[BalanceTransaction]:
    """What counts of what moved the balance: all of it, or what was created since a start."""
    return (each for each in moved if start is None or each.created >= start.since)


def split(moved: Iterable[BalanceTransaction], moment: int, start: Start | None = None) -> dict[str, tuple[int, int]]:
    """What of all that moved the balance is available at a moment, and what is pending, by currency.

    With a `start` only from the moment on at which that is `settled`.
    """
    available, pending = Counter[str](start.held if start is not None else {}), Counter[str]()
    for each in counted(moved, start):
        if each.balance_type in PAYMENTS:
            (available if _available_from(each) <= moment else pending)[each.currency] += each.net
    return {currency: (available[currency], pending[currency]) for currency in sorted({*available, *pending})}


def fits(moved: Collection[BalanceTransaction], reading: Reading, currency: str, start: Start | None = None) -> bool:
    """Whether available and pending of a currency are what follows from what was created until a reading.

    With a `start` only of a reading from the moment on at which that is `settled`.
    """
    own = [each for each in moved if each.currency == currency and each.created <= reading.read_at + CLOCKS]
    midnight = reading.read_at // _DAY * _DAY
    first, end = midnight - _DAY, midnight + _DAY
    days = {moment for each in own if first <= (moment := _available_from(each)) < end}
    said = reading.available.get(currency, 0), reading.pending.get(currency, 0)
    until = {reading.read_at - CLOCKS, *(each.created for each in own if each.created > reading.read_at - CLOCKS)}
    return any(
        split((each for each in own if each.created <= last), moment, start).get(currency, (0, 0)) == said
        for last in until
        for moment in {first - 1, *days}
    )


def _available_from(moved: BalanceTransaction) -> int:
    leaves = moved.reporting_category == "payout" and moved.net < 0
    return moved.created if leaves else max(moved.created, moved.available_on)


class _Sums:
    """By currency: when balance transactions were created, in order, and the sum before each and after the last.

    A sum begins with what was there at the start.
    """

    def __init__(self, moved: Iterable[BalanceTransaction], start: Start | None) -> None:
        nets: dict[str, list[BalanceTransaction]] = defaultdict(list)
        for each in moved:
            if each.balance_type in PAYMENTS:
                nets[each.currency].append(each)
        self._start = start.held if start is not None else None
        self._of = {
            currency: (
                [each.created for each in held],
                list(accumulate((each.net for each in held), initial=self._first(currency))),
            )
            for currency, held in nets.items()
        }

    def _first(self, currency: str) -> int:
        return self._start.get(currency, 0) if self._start is not None else 0

    def differences(self, reading: Reading) -> Iterator[Difference]:
        for currency in sorted({*self._of, *reading.available, *reading.pending, *(self._start or ())}):
            first_sum = self._first(currency)
            created, sums = self._of.get(currency, ([], [first_sum]))
            first = bisect_right(created, reading.read_at - CLOCKS)
            last = bisect_right(created, reading.read_at + CLOCKS)
            if reading.holds(currency) not in (*sums[first : last + 1], sums[-1]):
                staged = sums[bisect_right(created, reading.read_at)] - first_sum
                stated = first_sum if self._start is not None else None
                yield Difference(currency, reading.holds(currency), staged, stated)


# --- what is staged


class _Amount(msgspec.Struct, frozen=True):
    amount: int
    currency: str


class _Balance(msgspec.Struct, frozen=True):
    available: list[_Amount]
    pending: list[_Amount]


def reading_of(payload: str | bytes, read_at: int, read_from: int | None = None) -> Reading:
    """A reading out of a `stripe_balance` payload. Raises `msgspec.ValidationError` where it is none."""
    said = msgspec.json.decode(payload, type=_Balance)
    available, pending = Counter[str](), Counter[str]()
    for amounts, sums in ((said.available, available), (said.pending, pending)):
        for each in amounts:
            sums[each.currency] += each.amount
    return Reading(read_at, dict(available), dict(pending), read_from)


def load(
    connection: DatabaseConnection, business_id: str, object_types: Sequence[str]
) -> tuple[tuple[Reading, ...], tuple[tuple[int, int], ...]]:
    """The newest readings of a business, the newest first; and the spans of time, in Unix seconds, of which payouts
    were read. Within the caller's transaction; of the accounts of which any of `object_types` is staged."""
    given = {"business_id": business_id, "accounts": _accounts(connection, business_id, object_types)}
    spans = {
        (row["object_type"], row["connection_id"]): row["spans"]
        for row in connection.execute(
            """
            SELECT object_type, connection_id, range_agg(tstzrange(window_start, reaches_to)) AS spans
            FROM finance_os.source_sync_runs
            WHERE business_id = %(business_id)s AND source_system = 'stripe' AND connection_id = ANY (%(accounts)s)
              AND object_type IN ('stripe_balance_transaction', 'stripe_payout') AND kind = 'window'
              AND status = 'succeeded' AND window_start < reaches_to
            GROUP BY 1, 2
            """,
            given,
        )
    }
    rows = connection.execute(
        """
        SELECT sighting.requested_at, record.payload::text AS payload, run.connection_id
        FROM finance_os.source_sync_sightings AS sighting
        JOIN finance_os.source_sync_runs AS run USING (sync_run_id)
        JOIN finance_os.raw_source_records AS record ON record.record_id = ANY (sighting.record_ids)
        WHERE sighting.business_id = %(business_id)s AND sighting.source_system = 'stripe'
          AND sighting.object_type = 'stripe_balance' AND run.status = 'succeeded'
          AND run.connection_id = ANY (%(accounts)s)
        ORDER BY sighting.requested_at DESC LIMIT %(newest)s
        """,
        {**given, "newest": _NEWEST},
    )
    readings: list[Reading] = []
    for row in rows:
        read, moment = spans.get(("stripe_balance_transaction", row["connection_id"])), row["requested_at"]
        readings.append(reading_of(row["payload"], int(moment.timestamp()), _read_from(read, moment)))
    payouts = (each for (kind, _), found in spans.items() if kind == "stripe_payout" for each in _seconds(found))
    return tuple(readings), tuple(sorted(payouts))


def _accounts(connection: DatabaseConnection, business_id: str, object_types: Sequence[str]) -> list[int]:
    rows = connection.execute(
        """
        SELECT connection_id FROM finance_os.connections AS connection
        WHERE business_id = %(business_id)s AND source_system = 'stripe'
          AND EXISTS (SELECT FROM finance_os.raw_record_heads AS head
                      WHERE head.business_id = %(business_id)s AND head.source_system = 'stripe'
                        AND head.object_type = ANY (%(types)s) AND NOT head.removed
                        AND head.connection_id = connection.connection_id)
        """,
        {"business_id": business_id, "types": list(object_types)},
    )
    return [row["connection_id"] for row in rows]


def _read_from(spans: Multirange[datetime] | None, moment: datetime) -> int | None:
    """Where the span begins that a moment, and the time that clocks may differ by, lie in."""
    first, last = int(moment.timestamp()), moment.timestamp() + CLOCKS
    return next((begun for begun, end in _seconds(spans) if begun <= first and last < end), None)


def _seconds(spans: Multirange[datetime] | None) -> Iterator[tuple[int, int]]:
    for each in spans or ():
        if each.lower is not None and each.upper is not None:
            yield int(each.lower.timestamp()), int(each.upper.timestamp())


def told(reading: Reading, difference: Difference, first: int | None) -> str:
    """A difference as people read it; `first` is when the first balance transaction that counts was created."""
    begins = datetime.fromtimestamp(first, UTC).date() if first is not None else "never"
    moment = datetime.fromtimestamp(reading.read_at, UTC)
    held = (
        f"At {moment:%Y-%m-%d %H:%M:%S} UTC Stripe held {difference.held} {difference.currency.upper()} (minor units)"
    )
    if difference.stated is None:
        return (
            f"{held}, and the balance transactions that are staged, the first of {begins}, come to "
            f"{difference.staged}: something is missing."
        )
    return (
        f"{held}. The rules state that it held {difference.stated} as the balance date began, and the balance "
        f"transactions that are staged since, the first of {begins}, come to {difference.staged}, together "
        f"{difference.stated + difference.staged}: something is missing, or another amount was there."
    )
