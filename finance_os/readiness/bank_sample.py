"""Which lines of Rho and of Plaid are compared: the current ones of the days that both have told of.

The days end with the last one that both sources have read after it was over, and begin with the first on which both
show a posted line, at most 90 days before; a day that is not over is never judged. Lines up to the matching window
outside those days are loaded too: they may be counterparts, and are never missed. Where the two have no day in common,
each side's own latest 90 days stand for it, and nothing is compared.

Accounts stand for each other by the last four digits of their number, if every line of both sides shows them (Rho in
its account column, Plaid in the mask of its account): lines of accounts that only one side has are then left out. If
any line does not show them, all lines are compared with all.

Days come from `source_sync_partitions`, so older history costs nothing. A Plaid transaction that changed late lies in
a later partition than its date: Plaid is looked up from the first day on without an end, and chosen by its date.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Any, LiteralString

from finance_os.evidence.database import Database
from finance_os.evidence.money import NotMoney, as_decimal, microdollars
from finance_os.evidence.windows import Days
from finance_os.readiness.bank_match import WINDOW_DAYS, BankLine

SAMPLE_DAYS = 90
RHO, PLAID = ("rho", "rho_cash_transaction"), ("plaid", "plaid_transaction")

_Load = Callable[[Database, str, Days], "list[Row]"]

_LAST_FOUR = re.compile(r"([0-9]{4})[^0-9]*\Z")
_PRODUCTION_HOST = "production.plaid.com"


@dataclass(frozen=True, slots=True)
class Row:
    """One current record. `line` is `None` where it is no movement: `state` then says why.

    `state` is posted, pending, cancelled, empty (of no amount) or unreadable (no exact money, or no day); `day` is
    that of its payload.
    """

    source_id: str
    payload_hash: str
    sync_run_id: int
    day: date | None
    state: str
    line: BankLine | None


@dataclass(frozen=True)
class Side:
    """What one source shows: `rows` of the compared days, `nearby` those just outside.

    `told` are the first and last day of it that were looked at. `elsewhere` counts rows of accounts that the other
    side does not have.
    """

    rows: tuple[Row, ...] = ()
    nearby: tuple[Row, ...] = ()
    told: Days | None = None
    elsewhere: int = 0

    def ids(self, state: str) -> tuple[str, ...]:
        """Source IDs of the rows of the compared days in a state, in order."""
        return tuple(row.source_id for row in self.rows if row.state == state)

    @property
    def lines(self) -> list[BankLine]:
        """The movements of the compared days and those just outside."""
        return [row.line for row in (*self.rows, *self.nearby) if row.line is not None]

    @property
    def evidence(self) -> list[list[str]]:
        """Source ID and payload hash of each row of the compared days that is compared, in order of the IDs.

        What is pending comes and goes, and is compared with nothing.
        """
        return [[row.source_id, row.payload_hash] for row in self.rows if row.state in ("posted", "unreadable")]


@dataclass(frozen=True)
class Sample:
    """Both sides. `days` are those compared, `None` where there are none that both have."""

    rho: Side
    plaid: Side
    days: Days | None
    environment: str


def load_sample(database: Database, business_id: str) -> Sample:
    """The lines of a business that can be compared now."""
    ends = _last_day(database, business_id, RHO), _last_day(database, business_id, PLAID)
    if ends[0] is not None and ends[1] is not None:
        last = min(ends[0], ends[1])
        wanted = Days(last - timedelta(days=SAMPLE_DAYS - 1), last)
        rho, plaid = (load(database, business_id, wanted) for load in (_rho_rows, _plaid_rows))
        starts = [
            min((row.day for row in rows if row.state == "posted" and row.day and row.day in wanted), default=None)
            for rows in (rho, plaid)
        ]
        if starts[0] is not None and starts[1] is not None:
            days = Days(max(starts[0], starts[1]), last)
            rho, plaid, elsewhere = _corresponding(rho, plaid)
            return Sample(
                _side(rho, days, elsewhere[0]),
                _side(plaid, days, elsewhere[1]),
                days,
                _environment(database, plaid),
            )
    sides = [
        Side() if end is None else _alone(load, database, business_id, end)
        for end, load in zip(ends, (_rho_rows, _plaid_rows), strict=True)
    ]
    return Sample(sides[0], sides[1], None, _environment(database, sides[1].rows))


def _alone(load: _Load, database: Database, business_id: str, end: date) -> Side:
    """The latest days of a side that has none in common with the other."""
    days = Days(end - timedelta(days=SAMPLE_DAYS - 1), end)
    side = _side(load(database, business_id, days), days, 0)
    first = min((row.day for row in side.rows if row.day is not None), default=end)
    return replace(side, nearby=(), told=Days(first, end))


def _side(rows: Sequence[Row], days: Days, elsewhere: int) -> Side:
    """Rows without a day that can be read are nobody's nearby ones: they count as rows of the compared days."""
    inside = [row for row in rows if row.day is None or row.day in days]
    nearby = [row for row in rows if row.day is not None and row.day not in days]
    return Side(
        tuple(sorted(inside, key=lambda row: row.source_id)),
        tuple(sorted(nearby, key=lambda row: row.source_id)),
        days,
        elsewhere,
    )


def _last_day(database: Database, business_id: str, object_key: tuple[str, str]) -> date | None:
    """The last day that was read after it was over; if there is none, the last that was read at all."""
    parameters = {"business_id": business_id, "system": object_key[0], "object": object_key[1]}
    over = database.fetch(
        """
        SELECT partition_day FROM finance_os.source_sync_partitions
        WHERE business_id = %(business_id)s AND source_system = %(system)s AND object_type = %(object)s
          AND state IN ('whole', 'created')
        ORDER BY partition_day DESC LIMIT 1
        """,
        parameters,
    )
    begun = over or database.fetch(
        """
        SELECT partition_day FROM finance_os.source_sync_partitions
        WHERE business_id = %(business_id)s AND source_system = %(system)s AND object_type = %(object)s
          AND state = 'partial'
        ORDER BY partition_day DESC LIMIT 1
        """,
        parameters,
    )
    return begun[0]["partition_day"] if begun else None


_CURRENT_OF_DAYS: LiteralString = """
    WITH seen AS (
        SELECT DISTINCT shown.record_id
        FROM finance_os.source_sync_partitions AS day
        JOIN finance_os.source_sync_sightings AS sighting USING (sync_run_id, partition_day)
        CROSS JOIN LATERAL unnest(sighting.record_ids) AS shown (record_id)
        WHERE day.business_id = %(business_id)s AND day.source_system = %(system)s AND day.object_type = %(object)s
          AND day.partition_day BETWEEN %(first)s AND %(last)s AND day.rows_extracted > 0
    ), current AS (
        SELECT version.source_id, encode(version.payload_hash, 'hex') AS payload_hash, head.sync_run_id, version.payload
        FROM seen
        -- One by one, by their keys: an object type's older versions and heads are not walked through.
        CROSS JOIN LATERAL (
            SELECT source_id, payload_hash, payload FROM finance_os.raw_source_records AS record
            WHERE record.record_id = seen.record_id AND record.business_id = %(business_id)s
              AND record.source_system = %(system)s AND record.object_type = %(object)s
            LIMIT 1
        ) AS version
        CROSS JOIN LATERAL (
            SELECT sync_run_id, record_id FROM finance_os.raw_record_heads AS head
            WHERE head.business_id = %(business_id)s AND head.source_system = %(system)s
              AND head.object_type = %(object)s AND head.source_id = version.source_id AND NOT head.removed
            LIMIT 1
        ) AS head
        WHERE head.record_id = seen.record_id
    )
"""


def _rho_rows(database: Database, business_id: str, days: Days) -> list[Row]:
    found = database.fetch(
        _CURRENT_OF_DAYS  # noqa: S608  both are literals
        + """
        SELECT source_id, payload_hash, sync_run_id,
               coalesce(payload ->> 'posted_on', payload ->> 'transacted_on') AS day,
               payload ->> 'posted_on' AS posted_on, payload ->> 'status' AS status,
               payload ->> 'amount_minor' AS amount, payload ->> 'currency' AS currency,
               payload ->> 'account' AS account,
               concat_ws(' ', payload ->> 'transaction_id', payload ->> 'reference', payload ->> 'description')
                   AS reference
        FROM current
        """,
        _around(business_id, RHO, days),
    )
    return [_row(each, _rho_pending(each), _rho_amount, _last_four(each["account"])) for each in found]


def _plaid_rows(database: Database, business_id: str, days: Days) -> list[Row]:
    masks = {
        each["source_id"]: each["mask"]
        for each in database.fetch(
            """
            SELECT head.source_id, record.payload ->> 'mask' AS mask
            FROM finance_os.raw_record_heads AS head
            JOIN finance_os.raw_source_records AS record USING (record_id)
            WHERE head.business_id = %s AND head.source_system = 'plaid' AND head.object_type = 'plaid_account'
            """,
            (business_id,),
        )
    }
    around = _around(business_id, PLAID, days)
    found = database.fetch(
        _CURRENT_OF_DAYS  # noqa: S608  both are literals
        + """
        SELECT source_id, payload_hash, sync_run_id, payload ->> 'date' AS day,
               payload ->> 'pending' AS pending, payload ->> 'amount' AS amount, NULL AS status,
               payload ->> 'iso_currency_code' AS currency, payload ->> 'account_id' AS account_id,
               concat_ws(' ', payload -> 'payment_meta' ->> 'reference_number', payload -> 'payment_meta' ->> 'ppd_id',
                         payload ->> 'check_number', payload ->> 'original_description', payload ->> 'name')
                   AS reference
        FROM current
        WHERE payload ->> 'date' IS NULL OR payload ->> 'date' BETWEEN %(first_dated)s AND %(last_dated)s
        """,
        around | {"first_dated": str(around["first"]), "last_dated": str(around["last"]), "last": date.max},
    )
    return [
        _row(each, each["pending"] != "false", _plaid_amount, _last_four(masks.get(each["account_id"])))
        for each in found
    ]


def _around(business_id: str, object_key: tuple[str, str], days: Days) -> dict[str, Any]:
    margin = timedelta(days=WINDOW_DAYS)
    return {
        "business_id": business_id,
        "system": object_key[0],
        "object": object_key[1],
        "first": days.first - margin,
        "last": days.last + margin,
    }


def _row(found: dict[str, Any], pending: bool, amount_of: Callable[[dict[str, Any]], int], account: str) -> Row:
    """`amount_of` gives signed micros, positive where money came in."""
    day = _day(found["day"])
    row = partial(Row, found["source_id"], found["payload_hash"], found["sync_run_id"], day)
    try:
        amount = amount_of(found)
    except NotMoney:
        return row("unreadable", None)
    if day is None:
        return row("unreadable", None)
    if found["status"] == "cancelled":
        return row("cancelled", None)
    if not amount:
        return row("empty", None)
    line = BankLine(
        found["source_id"],
        day,
        abs(amount),
        "in" if amount > 0 else "out",
        found["reference"],
        pending,
        found["currency"].upper(),
        account,
    )
    return row("pending" if pending else "posted", line)


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def _rho_pending(found: dict[str, Any]) -> bool:
    """Only what is known to be posted is: by its status or, in exports without one, by its posting day."""
    return found["status"] != "posted" if found["status"] else found["posted_on"] is None


def _rho_amount(found: dict[str, Any]) -> int:
    """`amount_minor` is signed minor units; what came in is positive."""
    if not re.fullmatch(r"-?[0-9]{1,18}", found["amount"] or ""):
        raise NotMoney("minor units are a whole number")
    return microdollars(as_decimal(int(found["amount"]), found["currency"] or ""))


def _plaid_amount(found: dict[str, Any]) -> int:
    """Plaid's amounts are decimals, positive where money leaves. https://plaid.com/docs/api/products/transactions/

    An amount in an unofficial currency has no exact minor units here, and cannot be read.
    """
    if not found["currency"]:
        raise NotMoney("no ISO currency")
    return -microdollars(found["amount"] or "")


def _last_four(text: str | None) -> str:
    """The last four digits of an account's name or mask; "" where it does not end in four."""
    shown = _LAST_FOUR.search(text or "")
    return shown[1] if shown else ""


def _corresponding(rho: list[Row], plaid: list[Row]) -> tuple[list[Row], list[Row], tuple[int, int]]:
    """The rows of accounts that stand for each other, and how many of each side were left out."""
    of_rho, of_plaid = ({row.line.account for row in rows if row.line} for rows in (rho, plaid))
    if "" in of_rho | of_plaid:
        return _of_any_account(rho), _of_any_account(plaid), (0, 0)
    shared = of_rho & of_plaid
    if not shared:
        return rho, plaid, (0, 0)
    kept = tuple([row for row in rows if row.line is None or row.line.account in shared] for rows in (rho, plaid))
    return kept[0], kept[1], (len(rho) - len(kept[0]), len(plaid) - len(kept[1]))


def _of_any_account(rows: list[Row]) -> list[Row]:
    return [replace(row, line=replace(row.line, account="")) if row.line else row for row in rows]


def _environment(database: Database, rows: Sequence[Row]) -> str:
    """Which Plaid the compared rows were read from, by the hosts that their sync runs have asked."""
    asked = database.fetch(
        """
        SELECT count(*) AS runs FROM finance_os.source_sync_runs AS run
        WHERE run.sync_run_id = ANY (%s)
          AND EXISTS (SELECT FROM jsonb_object_keys(run.requested) AS sent WHERE split_part(sent, ' ', 2) = %s)
        """,
        (sorted({row.sync_run_id for row in rows}), _PRODUCTION_HOST),
    )
    return "Plaid production" if asked[0]["runs"] else "Plaid sandbox"
