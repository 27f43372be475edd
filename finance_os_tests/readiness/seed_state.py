"""The state of an installation on 2026-05-10 that the source sync plan was first drawn from, put into a database.

Six connectors were asked for on May 4: Stripe answered, Google Drive and Gravity failed, Plaid was skipped, Redshift
never came, and QuickBooks ended with that sync's ID six days later. The others were read by hand on May 10. Rows are
left of Google Drive and of Gravity's campaign advertisers only.
"""

import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from psycopg.types.json import Jsonb

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.canonical import canonical_json
from finance_os.evidence.database import Database
from finance_os.sources.registry import SOURCES, source_named

BUSINESS = "acme"
SYNC = "daily-2026-05-04"
REQUESTED = datetime(2026, 5, 4, 21, 56, tzinfo=UTC)
ENVIRONMENT: Mapping[str, str] = {
    name: "present" for source in SOURCES if source.system != "plaid" for name in source.credentials
}
"""What the runtime then had: every credential but Plaid's."""

DRIVE_ROWS = {"folder_inventory": 1, "publisher_contract_candidate": 6, "contract_text": 5}
CAMPAIGN_ADVERTISERS = 488
GRAVITY_READS = {
    "gravity_canonical_entities": ("04:13:58.645", 51),
    "gravity_campaign_advertiser": ("04:13:58.984", 1417),
    "gravity_billing_adjustment": ("04:13:58.656", 85),
    "gravity_advertiser_billing": ("04:13:58.727", 154),
}


def plant_seed_state(database: Database, business_id: str = BUSINESS) -> None:
    """Put the state into an empty database."""
    ensure_business(database, business_id, "Acme", "UTC")
    connections = {source.system: ensure_connection(database, business_id, source.system) for source in SOURCES}
    with database.transaction() as connection:
        connection.execute(
            """
            INSERT INTO finance_os.scheduled_syncs
                (scheduled_sync_id, business_id, requested_for, requested_at, expected_connectors)
            VALUES (%s, %s, %s, %s, %s)
            """,
            (
                SYNC,
                business_id,
                date(2026, 5, 4),
                REQUESTED,
                ["stripe", "quickbooks", "google_drive", "plaid", "gravity", "redshift"],
            ),
        )

    def run(object_type: str, system: str, ended: datetime, reading: str, **how: Any) -> int:
        return plant_run(database, connections[system], object_type, ended, reading, **how)

    stripe = [obj.object_type for obj in source_named("stripe")]
    stripe_ended = datetime(2026, 5, 4, 21, 56, 41, 588_000, UTC)
    for place, object_type in enumerate(stripe):
        run(object_type, "stripe", stripe_ended, "stripe-1", rows=50 if place == 0 else 0, sync=SYNC)
    quickbooks_ended = datetime(2026, 5, 10, 4, 23, 58, 389_658, UTC)
    for obj in source_named("quickbooks"):
        run(obj.object_type, "quickbooks", quickbooks_ended, "quickbooks-1", sync=SYNC)
    for obj in source_named("google_drive"):
        run(obj.object_type, "google_drive", REQUESTED, "drive-1", status="failed", code="unavailable", sync=SYNC)
    for obj in source_named("gravity"):
        run(obj.object_type, "gravity", REQUESTED, "gravity-1", status="failed", code="unavailable", sync=SYNC)
    for obj in source_named("plaid"):
        run(obj.object_type, "plaid", REQUESTED, "plaid-1", status="skipped", code="feature_disabled", sync=SYNC)
    for number, minute in ((2, 11), (3, 21)):
        ended = datetime(2026, 5, 10, 4, minute, 37, 550_000, UTC)
        for object_type, rows in DRIVE_ROWS.items():
            sync_run = run(object_type, "google_drive", ended, f"drive-{number}", rows=rows)
            if number == 2:
                plant_rows(database, business_id, "google_drive", object_type, sync_run, rows)
    for object_type, (at, rows) in GRAVITY_READS.items():
        sync_run = run(object_type, "gravity", datetime.fromisoformat(f"2026-05-10T{at}+00:00"), "gravity-2", rows=rows)
        if object_type == "gravity_campaign_advertiser":
            plant_rows(database, business_id, "gravity", object_type, sync_run, CAMPAIGN_ADVERTISERS)
    redshift_ended = datetime(2026, 5, 10, 4, 11, 54, 30_000, UTC)
    run("publisher_spend_daily", "redshift", redshift_ended, "redshift-1", rows=351)
    run("rho_cash_transaction", "rho", quickbooks_ended, "rho-1")


def plant_run(
    database: Database,
    connection: Connection,
    object_type: str,
    ended: datetime,
    reading: str,
    *,
    rows: int = 0,
    status: str = "succeeded",
    sync: str | None = None,
    code: str | None = None,
    requested: Mapping[str, int] | None = None,
    targeted: bool = False,
) -> int:
    """A sync run as it would have ended then, without its rows; its ID."""
    [row] = database.fetch(
        """
        INSERT INTO finance_os.source_sync_runs
            (business_id, source_system, object_type, connection_id, kind, trigger, status, first_day, last_day,
             scheduled_sync_id, dagster_run_id, rows_extracted, rows_unchanged, error_code, requested, worker,
             worker_host, worker_process, started_at, completed_at, reaches_to)
        VALUES (%(business)s, %(system)s, %(object)s, %(connection)s, %(kind)s, %(trigger)s, %(status)s,
                %(day)s, %(day)s, %(sync)s, %(reading)s, %(rows)s, %(rows)s, %(code)s, %(requested)s, %(worker)s,
                'host', 1, %(ended)s, %(ended)s, %(reaches)s)
        RETURNING sync_run_id
        """,
        {
            "business": connection.business_id,
            "system": connection.source_system,
            "object": object_type,
            "connection": connection.connection_id,
            "kind": "targeted" if targeted else "snapshot",
            "trigger": "webhook" if targeted else "schedule" if sync else "manual",
            "status": status,
            "day": ended.date(),
            "sync": sync,
            "reading": reading,
            "rows": rows,
            "code": code,
            "requested": Jsonb(dict(requested or {})),
            "worker": uuid.uuid4(),
            "ended": ended,
            "reaches": ended if status == "succeeded" and not targeted else None,
        },
    )
    return row["sync_run_id"]


def plant_rows(
    database: Database, business_id: str, source_system: str, object_type: str, sync_run_id: int, count: int
) -> None:
    """Rows that a sync run staged, each an object of its own."""
    with database.transaction() as connection:
        for number in range(count):
            payload = {"id": f"{object_type}-{sync_run_id}-{number}", "number": number}
            connection.execute(
                """
                INSERT INTO finance_os.raw_source_records
                    (record_id, business_id, source_system, object_type, source_id, payload_hash, payload,
                     first_sync_run_id)
                VALUES (nextval('finance_os.record_ids'), %s, %s, %s, %s, %s, %s, %s)
                """,
                (
                    business_id,
                    source_system,
                    object_type,
                    payload["id"],
                    hashlib.sha256(canonical_json(payload)).digest(),
                    Jsonb(payload),
                    sync_run_id,
                ),
            )
        connection.execute(
            """
            INSERT INTO finance_os.raw_record_counts (business_id, source_system, object_type, versions, current)
            VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (business_id, source_system, object_type)
            DO UPDATE SET versions = raw_record_counts.versions + excluded.versions,
                          current = raw_record_counts.current + excluded.current
            """,
            (business_id, source_system, object_type, count, count),
        )
