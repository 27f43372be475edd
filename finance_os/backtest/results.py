"""Computing a month and keeping what it came to: a result that differs from the one before it is a new version."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg.types.json import Jsonb

from finance_os.backtest.evidence import BASELINE, PUBLISHERS, SPEND, Refused, read_month
from finance_os.backtest.month import Month
from finance_os.backtest.result import Result, result_of
from finance_os.backtest.rules import Rules, Stated
from finance_os.evidence import audit
from finance_os.evidence.canonical import canonical_json
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.snapshot import snapshot
from finance_os.evidence.windows import Days, spans
from finance_os.settings import Settings

COMPUTED = "backtest.computed"


@dataclass(frozen=True)
class Stored:
    """A result as it was kept."""

    result_id: int
    result_hash: str
    result: Result
    computed_at: datetime
    computed_by: str


def rules_of(settings: Settings) -> Rules:
    """The rules that the installation's settings ask for."""
    return Rules(
        settings.backtest_tolerance_bps,
        settings.backtest_tolerance_microdollars,
        Stated(settings.backtest_baseline_states),
    )


def days_over(database: Database, business_id: str, month: Month, start: date) -> Days:
    """The days of a month that are over for the business. Raises `Refused` if there are none, or no such business."""
    rows = database.fetch(
        """
        SELECT (clock_timestamp() AT TIME ZONE time_zone)::date AS today
        FROM finance_os.businesses WHERE business_id = %s
        """,
        (business_id,),
    )
    days = month.days_over(rows[0]["today"], start) if rows else None
    if days is None:
        raise Refused(
            "month_not_begun",
            f"{month} has no day that is over for {business_id}, or none since {start}: wait for one, or set "
            "FINANCE_OS_START_DATE",
        )
    return days


def inputs_of(database: Database, business_id: str, month: Month, days: Days) -> list[tuple[str, str, Days]]:
    """What a month rests on, as source system, object type and days: the evidence whose verdicts must be ready.

    Spend of the month's days; the days on which the workbooks came that its baseline rows are from; and the last
    snapshot of Gravity's publishers (the month's last day where there is none, so that it is found missing).
    """
    found = [(*SPEND, days)]
    baseline = database.fetch(
        """
        SELECT DISTINCT day.partition_day
        FROM finance_os.raw_record_heads AS head
        JOIN finance_os.source_sync_partitions AS day
          ON day.business_id = head.business_id AND day.source_system = head.source_system
         AND day.object_type = head.object_type AND day.sync_run_id = head.sync_run_id
        WHERE head.business_id = %(business_id)s AND head.source_system = 'xlsx'
          AND head.object_type = 'publisher_month_baseline' AND NOT head.removed
          -- A read of several days says of those on which no workbook came that nobody can know.
          AND day.rows_extracted > 0
          AND head.source_id >= (%(month)s || ':') COLLATE "C" AND head.source_id < (%(month)s || ';') COLLATE "C"
        """,
        {"business_id": business_id, "month": str(month)},
    )
    found += [(*BASELINE, span) for span in spans(row["partition_day"] for row in baseline)]
    publishers = database.fetch(
        """
        SELECT partition_day FROM finance_os.source_sync_partitions
        WHERE business_id = %s AND source_system = 'gravity' AND object_type = 'gravity_canonical_entities'
          AND kind = 'snapshot' AND state = 'whole'
        ORDER BY partition_day DESC LIMIT 1
        """,
        (business_id,),
    )
    last = publishers[0]["partition_day"] if publishers else days.last
    return [*found, (*PUBLISHERS, Days(last, last))]


def current_result(database: Database, business_id: str, month: Month, rules: Rules, start: date) -> Result:
    """What the evidence gives now; nothing is kept. Raises `Refused`."""
    days = days_over(database, business_id, month, start)
    return result_of(read_month(database, business_id, month, days), rules)


def compute(
    database: Database,
    business_id: str,
    month: Month,
    rules: Rules,
    start: date,
    dagster_run_id: str | None = None,
    *,
    admit: Callable[[Database], None] | None = None,
) -> Stored:
    """Compute a month from the evidence and keep it, with its audit event, unless it is what was kept last.

    The month is locked from before its evidence is read: what was read earlier is never kept over what was read later.
    `admit` looks at the very snapshot that is computed from, and raises where it must not be. Raises `Refused`.
    """
    with database.transaction() as connection:
        lock_month(connection, business_id, month)
        with snapshot(database) as seen:
            if admit is not None:
                admit(seen)
            result = current_result(seen, business_id, month, rules, start)
        last = _latest(connection, business_id, month)
        if last is not None and last["result_hash"] == result.result_hash:
            return _stored(last)
        event = audit.append(
            connection,
            business_id,
            COMPUTED,
            f"backtest:{month}",
            {"result_hash": result.result_hash, "totals": result.totals, "classes": result.classes},
        )
        kept = connection.execute(
            """
            INSERT INTO finance_os.backtest_results
                (business_id, month, result_hash, result, totals, classes, sign_off_blockers, dagster_run_id,
                 audit_sequence)
            VALUES (%s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s)
            RETURNING result_id, result_hash, result, computed_at, computed_by
            """,
            (
                business_id,
                month.first,
                result.result_hash,
                canonical_json(result.as_json()).decode(),
                Jsonb(result.totals),
                Jsonb(result.classes),
                list(result.sign_off_blockers),
                dagster_run_id,
                event.sequence,
            ),
        ).fetchone()
        assert kept is not None
    return _stored(kept)


def latest_result(database: Database, business_id: str, month: Month) -> Stored | None:
    """The result of a month that was kept last."""
    with database.transaction() as connection:
        row = _latest(connection, business_id, month)
    return _stored(row) if row else None


def lock_month(connection: DatabaseConnection, business_id: str, month: Month) -> None:
    """Hold a month of a business until the transaction ends; who signs takes it too."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"finance_os/backtest/{business_id}/{month}",)
    )


def _latest(connection: DatabaseConnection, business_id: str, month: Month) -> dict[str, Any] | None:
    return connection.execute(
        """
        SELECT result_id, result_hash, result, computed_at, computed_by FROM finance_os.backtest_results
        WHERE business_id = %s AND month = %s ORDER BY result_id DESC LIMIT 1
        """,
        (business_id, month.first),
    ).fetchone()


def _stored(row: dict[str, Any]) -> Stored:
    return Stored(
        row["result_id"], row["result_hash"], Result.from_json(row["result"]), row["computed_at"], row["computed_by"]
    )
