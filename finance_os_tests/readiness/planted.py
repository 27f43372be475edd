"""Words for tests of checks: days of evidence of two businesses, what every check says of them, and forgeries."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, LiteralString

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import DayState, Item, Kind
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.readiness.source_checks import SOURCE_CHECKS, Subject
from finance_os.readiness.verdicts import Verdict
from finance_os_tests.evidence.staged import DAY, OBJECT, page, read_of, record

SUBJECT = Subject("stripe", OBJECT, timedelta(days=1))
DAY_1, DAY_2, DAY_3 = (DAY + timedelta(days=number) for number in range(3))
DAYS = Days(DAY_1, DAY_3)

Found = dict[tuple[str, str, date | None], tuple[str, str | None]]
"""Business, check and day → status and blocker."""


def stage_days(
    database: Database,
    connection: Connection,
    *more: Item,
    days: Days = DAYS,
    states: Mapping[date, DayState] | None = None,
    kind: Kind = Kind.WINDOW,
    minute: int = 0,
    prefix: str = "in",
    per_day: int = 2,
) -> dict[str, Any]:
    """One sync run that sees `per_day` records on each of `days`, in a page a day; its row."""
    pages = [
        page(*(record(f"{prefix}_{day:%d}_{n}", day=day) for n in range(per_day)), minute=minute + number)
        for number, day in enumerate(days)
    ]
    read = replace(read_of(connection, [*pages, *more], kind=kind, days=days), states=states or {})
    return perform(database, read, Origin(Trigger.MANUAL), chunk_rows=100)


def verdicts_of(database: Database, days: Days = DAYS, subject: Subject = SUBJECT) -> list[Verdict]:
    """What the four checks find."""
    return [verdict for check in SOURCE_CHECKS for verdict in check.evaluate(database, subject, days)]


def by_day(verdicts: Sequence[Verdict]) -> Found:
    """Verdicts of days, without those of now."""
    return {(v.business_id, v.check, v.day): (v.status.value, v.blocker) for v in verdicts if v.day is not None}


def not_ready(database: Database, days: Days = DAYS) -> Found:
    """The verdicts of days that are not ready."""
    return {key: found for key, found in by_day(verdicts_of(database, days)).items() if found[0] != "ready"}


def forge(owner: Database, query: LiteralString, parameters: Mapping[str, Any] | None = None) -> None:
    """Change exactly one row behind the triggers' back."""
    with owner.transaction() as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        assert connection.execute(query, parameters).rowcount == 1
