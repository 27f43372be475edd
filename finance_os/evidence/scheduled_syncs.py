"""Scheduled syncs: which connectors one daily request expects."""

from collections.abc import Sequence
from datetime import date

from finance_os.evidence.database import Database


def request_scheduled_sync(
    database: Database, scheduled_sync_id: str, requested_for: date, expected_connectors: Sequence[str]
) -> None:
    """Record a scheduled sync for every business, before its runs are requested. Doing so again changes nothing."""
    with database.transaction() as connection:
        connection.execute(
            """
            INSERT INTO finance_os.scheduled_syncs
                (scheduled_sync_id, business_id, requested_for, expected_connectors)
            SELECT %(scheduled_sync_id)s, business_id, %(requested_for)s, %(expected_connectors)s
            FROM finance_os.businesses
            ON CONFLICT DO NOTHING
            """,
            {
                "scheduled_sync_id": scheduled_sync_id,
                "requested_for": requested_for,
                "expected_connectors": list(expected_connectors),
            },
        )
