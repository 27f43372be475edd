"""The manual ingestion probe: one raw record with its sync run and audit event, to prove that staging works.

It writes to the finance database only and asks no vendor for anything.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from finance_os.evidence.businesses import ensure_connection
from finance_os.evidence.clock import DatabaseClock
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import DayState, Extraction, Kind, Page, Record, Request
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days, day_of, window_of

SYSTEM = "manual"
OBJECT_TYPE = "ingestion_probe"


def record_probe(database: Database, business_id: str, note: str = "") -> dict[str, Any]:
    """Stage one probe of a business; the row of its sync run. `LookupError` if there is no such business."""
    connection = ensure_connection(database, business_id, SYSTEM)
    with database.connection() as opened:
        now = DatabaseClock.read(opened).now()
    today = day_of(now, ZoneInfo(connection.time_zone))
    days = Days(today, today)

    @contextmanager
    def extract(request: Request) -> Iterator[Extraction]:
        at: datetime = request.now()
        payload = {"probed_at": at.isoformat(), "note": note}
        record = Record(f"probe:{at:%Y%m%dT%H%M%S.%f}", payload, today, created_at=at)
        yield Extraction([Page([record], at)])

    read = Read(
        connection,
        OBJECT_TYPE,
        Kind.TARGETED,
        days,
        window_of(days, connection.zone),
        {today: DayState.PARTIAL},
        extract,
        targets=("probe",),
    )
    return perform(database, read, Origin(Trigger.PROBE), chunk_rows=1)
