"""Events that never came: what the vendor's own event log, staged every day, has and the inbox has not.

They are put into the inbox as they stand in the evidence, marked as never delivered, and walked like the others. Only
Stripe keeps such a log; what QuickBooks and Plaid did not tell, their daily reads find by themselves.
"""

import logging
from typing import Any

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.webhooks import inbox
from finance_os.webhooks.events import events_in
from finance_os.webhooks.reads import Unfit, reads_of
from finance_os.webhooks.settings import WebhookSettings

_log = logging.getLogger(__name__)

LOGS = {"stripe": "stripe_event"}
"""Source system → the object type that is its event log."""

_AT_ONCE = 500


def check(database: Database, connection: Connection, settings: WebhookSettings) -> int | None:
    """Compare what sync runs of the event log have shown since the last check with the inbox.

    How many events never came, and are in the inbox now; `None` where there was nothing new to look at. What is younger
    than the grace is left to the next day's run, which shows it again. Called for connections that webhooks are
    expected of; the first call says from when on.
    """
    object_type = LOGS[connection.source_system]
    known = database.fetch(
        "SELECT since, sync_run_id FROM finance_os.webhook_gap_checks WHERE connection_id = %s",
        (connection.connection_id,),
    )
    if not known:
        with database.transaction() as opened:
            opened.execute(
                """
                INSERT INTO finance_os.webhook_gap_checks (connection_id, business_id) VALUES (%s, %s)
                ON CONFLICT (connection_id) DO NOTHING
                """,
                (connection.connection_id, connection.business_id),
            )
        return None
    [last] = known
    # One that is still running may end later than one that began after it.
    runs = database.fetch(
        """
        WITH later AS (
            SELECT sync_run_id, status FROM finance_os.source_sync_runs
            WHERE business_id = %(business_id)s AND source_system = %(source_system)s
              AND object_type = %(object_type)s AND connection_id = %(connection_id)s
              AND sync_run_id > %(sync_run_id)s
        )
        SELECT sync_run_id FROM later
        WHERE status = 'succeeded'
          AND NOT EXISTS (SELECT FROM later AS running
                          WHERE running.status = 'running' AND running.sync_run_id < later.sync_run_id)
        ORDER BY sync_run_id
        """,
        {
            "business_id": connection.business_id,
            "source_system": connection.source_system,
            "object_type": object_type,
            "connection_id": connection.connection_id,
            "sync_run_id": last["sync_run_id"],
        },
    )
    if not runs:
        return None
    found = 0
    for run in runs:
        found += _check_run(database, connection, run["sync_run_id"], last["since"], settings)
    return found


def _check_run(
    database: Database, connection: Connection, sync_run_id: int, since: Any, settings: WebhookSettings
) -> int:
    """Put what one run has shown and never came into the inbox; how many those are."""
    found, after = 0, 0
    while True:
        with database.transaction() as opened:
            rows = opened.execute(
                """
                SELECT record.record_id, record.payload::text AS payload
                FROM (SELECT DISTINCT unnest(record_ids) AS record_id FROM finance_os.source_sync_sightings
                      WHERE sync_run_id = %(sync_run_id)s) AS shown
                JOIN finance_os.raw_source_records AS record USING (record_id)
                WHERE record.record_id > %(after)s AND record.source_created_at >= %(since)s
                  AND record.source_created_at < clock_timestamp() - %(grace)s * interval '1 minute'
                  AND NOT EXISTS (
                      SELECT FROM finance_os.webhook_events AS event
                      WHERE event.business_id = %(business_id)s AND event.source_system = %(source_system)s
                        AND event.event_key = record.source_id)
                ORDER BY record.record_id LIMIT %(limit)s
                """,
                {
                    "sync_run_id": sync_run_id,
                    "after": after,
                    "since": since,
                    "grace": settings.gap_grace_minutes,
                    "business_id": connection.business_id,
                    "source_system": connection.source_system,
                    "limit": _AT_ONCE,
                },
            ).fetchall()
            for row in rows:
                found += _put(opened, connection, row["payload"].encode())
            after = rows[-1]["record_id"] if rows else after
            if len(rows) == _AT_ONCE:
                continue
            opened.execute(
                """
                UPDATE finance_os.webhook_gap_checks
                SET sync_run_id = %s, found = found + %s, checked_at = clock_timestamp() WHERE connection_id = %s
                """,
                (sync_run_id, found, connection.connection_id),
            )
        if found:
            _log.warning("webhooks that never came connection=%s events=%s", connection.connection_id, found)
        return found


def _put(opened: Any, connection: Connection, body: bytes) -> int:
    """Put one event into the inbox as never delivered, unless nothing would be read for it; whether it was put."""
    [event] = events_in(connection.source_system, body)
    try:
        if not reads_of(connection.source_system, event):
            return 0
    except Unfit:
        pass  # it is set aside when it is walked
    body_id = inbox.keep_body(opened, connection, body)
    return opened.execute(
        """
        INSERT INTO finance_os.webhook_events
            (business_id, source_system, connection_id, event_key, event_type, body_id)
        VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (business_id, source_system, event_key) DO NOTHING
        """,
        (
            connection.business_id,
            connection.source_system,
            connection.connection_id,
            event.key,
            event.type,
            body_id,
        ),
    ).rowcount
