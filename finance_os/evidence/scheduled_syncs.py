"""Scheduled syncs: which connectors one daily request expects, and what became of each."""

from collections.abc import Sequence
from datetime import date
from typing import Any

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


def outcomes(database: Database, business_id: str, scheduled_sync_id: str) -> dict[str, dict[str, Any]]:
    """Expected connector → how many of its sync runs ended in each status; all zero for one that never started."""
    rows = database.fetch(
        """
        SELECT expected.connector,
               count(run.sync_run_id) FILTER (WHERE run.status = 'running') AS running,
               count(run.sync_run_id) FILTER (WHERE run.status = 'succeeded') AS succeeded,
               count(run.sync_run_id) FILTER (WHERE run.status = 'failed') AS failed,
               count(run.sync_run_id) FILTER (WHERE run.status = 'skipped') AS skipped
        FROM finance_os.scheduled_syncs AS sync
        CROSS JOIN LATERAL unnest(sync.expected_connectors) WITH ORDINALITY AS expected (connector, position)
        LEFT JOIN finance_os.source_sync_runs AS run
          ON run.business_id = sync.business_id AND run.scheduled_sync_id = sync.scheduled_sync_id
         AND run.source_system = expected.connector
        WHERE sync.business_id = %s AND sync.scheduled_sync_id = %s
        GROUP BY expected.connector, expected.position ORDER BY expected.position
        """,
        (business_id, scheduled_sync_id),
    )
    return {row.pop("connector"): row for row in rows}
