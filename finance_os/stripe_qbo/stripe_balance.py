"""Stripe's own word for the account's balance, as proof that every balance transaction is staged.

Everything that moves the balance is a balance transaction (https://docs.stripe.com/reports/balance-transaction-types),
and `available` and `pending` of the balance are what is in the payments balance when they are asked for
(https://docs.stripe.com/api/balance/balance_object). So at any moment both together are, by currency, the sum of the
nets of all balance transactions created until then, since the account's first day. Where they are not, something is
missing, on whatever day it lies: the account's first years included, which no check of days that were read looks at.

A payout leaves what is available when it is made; everything else is available from `available_on` on
(https://docs.stripe.com/api/balance_transactions/object), which is a date, and nothing says of which time zone: what
becomes available on the day of a reading, or on the day before, may be so already or not yet.

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

REMEDY = (
    "Read Stripe's balance transactions and payouts from the account's first day on: set FINANCE_OS_START_DATE to it, "
    "then backfill the group `stripe` up to today."
)

_NEWEST = 100
_DAY = 86_400
_PAYMENTS = (None, "payments")


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
class Difference:
    """One currency of which a reading is not the sum of what is staged, in minor units."""

    currency: str
    held: int
    staged: int


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


def prove(moved: Collection[BalanceTransaction], readings: Iterable[Reading], since: int) -> Proof:
    """The proof that readings, the newest first, give of what moved the balance, in the order of creation.

    `since` is the moment at which the balance date begins.
    """
    later = [each for each in readings if each.read_at >= since]
    sums = _Sums(moved if later else ())
    for each in later:
        differences = tuple(sums.differences(each))
        # Days begin at other moments for the account than for the books.
        if not differences or (each.read_from is not None and each.read_from <= since + _DAY):
            return Proof(each, differences)
    return Proof()


def split(moved: Iterable[BalanceTransaction], moment: int) -> dict[str, tuple[int, int]]:
    """What of all that moved the balance is available at a moment, and what is pending, by currency."""
    available, pending = Counter[str](), Counter[str]()
    for each in moved:
        if each.balance_type in _PAYMENTS:
            (available if _available_from(each) <= moment else pending)[each.currency] += each.net
    return {currency: (available[currency], pending[currency]) for currency in sorted({*available, *pending})}


def fits(moved: Collection[BalanceTransaction], reading: Reading, currency: str) -> bool:
    """Whether available and pending of a currency are what follows from what was created until a reading."""
    own = [each for each in moved if each.currency == currency and each.created <= reading.read_at + CLOCKS]
    midnight = reading.read_at // _DAY * _DAY
    first, end = midnight - _DAY, midnight + _DAY
    days = {moment for each in own if first <= (moment := _available_from(each)) < end}
    said = reading.available.get(currency, 0), reading.pending.get(currency, 0)
    until = {reading.read_at - CLOCKS, *(each.created for each in own if each.created > reading.read_at - CLOCKS)}
    return any(
        split((each for each in own if each.created <= last), moment).get(currency, (0, 0)) == said
        for last in until
        for moment in {first - 1, *days}
    )


def _available_from(moved: BalanceTransaction) -> int:
    leaves = moved.reporting_category == "payout" and moved.net < 0
    return moved.created if leaves else max(moved.created, moved.available_on)


class _Sums:
    """By currency: when balance transactions were created, in order, and the sum before each and after the last."""

    def __init__(self, moved: Iterable[BalanceTransaction]) -> None:
        nets: dict[str, list[BalanceTransaction]] = defaultdict(list)
        for each in moved:
            if each.balance_type in _PAYMENTS:
                nets[each.currency].append(each)
        self._of = {
            currency: ([each.created for each in held], list(accumulate((each.net for each in held), initial=0)))
            for currency, held in nets.items()
        }

    def differences(self, reading: Reading) -> Iterator[Difference]:
        for currency in sorted({*self._of, *reading.available, *reading.pending}):
            created, sums = self._of.get(currency, ([], [0]))
            first = bisect_right(created, reading.read_at - CLOCKS)
            last = bisect_right(created, reading.read_at + CLOCKS)
            if reading.holds(currency) not in (*sums[first : last + 1], sums[-1]):
                staged = sums[bisect_right(created, reading.read_at)]
                yield Difference(currency, reading.holds(currency), staged)


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
    """A difference as people read it; `first` is when the first balance transaction that is staged was created."""
    begins = datetime.fromtimestamp(first, UTC).date() if first is not None else "never"
    moment = datetime.fromtimestamp(reading.read_at, UTC)
    return (
        f"At {moment:%Y-%m-%d %H:%M:%S} UTC Stripe held {difference.held} {difference.currency.upper()} (minor units), "
        f"and the balance transactions that are staged, the first of {begins}, come to {difference.staged}: something "
        f"is missing."
    )
