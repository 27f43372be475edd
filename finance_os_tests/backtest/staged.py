"""Words for tests of the backtest: months of spend, baseline rows and publishers, staged as their sources would."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from finance_os.backtest.month import Month
from finance_os.backtest.result import Result
from finance_os.backtest.results import current_result
from finance_os.backtest.rules import Rules
from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import DayState, Kind, Page, Record
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os_tests.evidence.staged import read_of

MARCH = Month(date(2026, 3, 1))
APRIL = Month(date(2026, 4, 1))
START = date(2026, 1, 1)
DROPPED = date(2026, 4, 20)

SYSTEMS = ("redshift", "xlsx", "gravity")

Daily = Mapping[tuple[str, date], int]
"""Publisher and day → spend in microdollars."""


def connect(database: Database, business_id: str = "acme", zone: str = "America/New_York") -> dict[str, Connection]:
    """A business and its connections by source system."""
    ensure_business(database, business_id, business_id.title(), zone)
    return {system: ensure_connection(database, business_id, system) for system in SYSTEMS}


def spend(publisher: str, day: date, microdollars: int, **other: Any) -> Record:
    """A day's spend of a publisher, as Redshift's room gives it."""
    payload = {
        "publisher_id": publisher,
        "spend_date": day.isoformat(),
        "spend_microdollars": microdollars,
        "impressions": 10,
        "currency": "usd",
        **other,
    }
    return Record(f"{publisher}:{day}", payload, day)


def stage_spend(
    database: Database, connection: Connection, days: Days, daily: Daily, *, minute: int = 0, gone: Sequence[str] = ()
) -> dict[str, Any]:
    """One complete read of `days` that sees exactly `daily` there; `gone` are source IDs that it finds removed."""
    records = [spend(publisher, day, micros) for (publisher, day), micros in daily.items() if day in days]
    removed = [Record(source_id, None, date.fromisoformat(source_id.rpartition(":")[2])) for source_id in gone]
    page = Page([*records, *removed], datetime(2026, 6, 1, tzinfo=UTC) + timedelta(minutes=minute))
    read = read_of(connection, [page], kind=Kind.WINDOW, days=days, object_type="publisher_spend_daily")
    states = dict.fromkeys(days, DayState.WHOLE)
    return perform(database, replace(read, states=states), Origin(Trigger.MANUAL), chunk_rows=1_000)


def baseline_record(
    month: Month, key: str, accrual: int | None, *, name: str | None = None, cash: int | None = None, number: int = 1
) -> Record:
    """A row of the baseline, as the workbooks' room gives it: by ID, or by `name` alone."""
    payload = {
        "period": str(month),
        "publisher_key": key,
        "publisher_id": None if name else key,
        "publisher": name,
        "baseline_accrual_microdollars": accrual,
        "baseline_cash_microdollars": cash,
        "baseline_deposit_microdollars": None,
        "row": number,
    }
    return Record(f"{month}:{key}" + (f"#{number}" if number > 1 else ""), payload, DROPPED)


def stage_baseline(database: Database, connection: Connection, *records: Record, minute: int = 0) -> dict[str, Any]:
    """A workbook of these rows."""
    page = Page(list(records), datetime(2026, 6, 1, tzinfo=UTC) + timedelta(minutes=minute))
    read = read_of(
        connection, [page], kind=Kind.DROP, days=Days(DROPPED, DROPPED), object_type="publisher_month_baseline"
    )
    return perform(database, read, Origin(Trigger.DROP), chunk_rows=1_000)


def stage_publishers(
    database: Database, connection: Connection, shares: Mapping[str, int], *, minute: int = 0
) -> dict[str, Any]:
    """Gravity's publishers: ID → share in basis points. `pub_1` is named Pub 1 Media."""
    records = [
        Record(
            publisher_id,
            {
                "publisher_id": publisher_id,
                "name": name_of(publisher_id),
                "legal_name": f"{name_of(publisher_id)} LLC",
                "revenue_share_bps": share,
            },
            DROPPED,
        )
        for publisher_id, share in shares.items()
    ]
    page = Page(records, datetime(2026, 6, 1, tzinfo=UTC) + timedelta(minutes=minute))
    read = read_of(
        connection, [page], kind=Kind.SNAPSHOT, days=Days(DROPPED, DROPPED), object_type="gravity_canonical_entities"
    )
    states = {DROPPED: DayState.WHOLE}
    return perform(database, replace(read, states=states), Origin(Trigger.MANUAL), chunk_rows=1_000)


def name_of(publisher_id: str) -> str:
    """The name of a staged publisher."""
    return f"{publisher_id.replace('_', ' ').title()} Media"


def days_of(month: Month) -> Days:
    return Days(month.first, month.last)


def march(publisher: str, each_day: int) -> dict[tuple[str, date], int]:
    """The same spend on every day of March."""
    return {(publisher, day): each_day for day in days_of(MARCH)}


def result_now(
    database: Database, business_id: str = "acme", month: Month = MARCH, rules: Rules | None = None
) -> Result:
    """What the evidence gives now."""
    return current_result(database, business_id, month, rules or Rules(), START)
