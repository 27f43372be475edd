"""Events and bodies made old, which the database lets nobody do: their triggers are off meanwhile."""

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.webhooks.walk import request_reads
from finance_os_tests.webhooks.test_walk import come, run, settings

PLAID = b'{"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "item1"}'


def age(database: Database, days: float, *keys: str, bodies: bool = True) -> None:
    """Have events, all of them if none is named, and their bodies have come, and been settled, so many days earlier."""
    with psycopg.connect(database.url) as owner:
        owner.execute("SET session_replication_role = replica")
        rows = owner.execute(
            """
            UPDATE finance_os.webhook_events
            SET received_at = received_at - %(by)s * interval '1 day',
                delivered_at = delivered_at - %(by)s * interval '1 day',
                settled_at = settled_at - %(by)s * interval '1 day'
            WHERE %(keys)s::text[] = '{}' OR event_key = ANY (%(keys)s) RETURNING body_id
            """,
            {"by": days, "keys": list(keys)},
        ).fetchall()
        if not bodies:
            return
        owner.execute(
            """
            UPDATE finance_os.webhook_bodies SET received_at = received_at - %s * interval '1 day'
            WHERE body_id = ANY (%s)
            """,
            (days, [row[0] for row in rows]),
        )


def read(database: Database) -> None:
    """Read for all events that wait, successfully."""
    while requests := request_reads(database, settings()):
        for request in requests:
            run(database, request, dict.fromkeys(request.reads))


def kept(database: Database) -> dict[tuple[str, str], bool]:
    """Business and key of each event → whether its body is there."""
    rows = database.fetch(
        """
        SELECT event.business_id, event_key, body IS NOT NULL AS kept
        FROM finance_os.webhook_events AS event JOIN finance_os.webhook_bodies USING (body_id)
        """
    )
    return {(row["business_id"], row["event_key"]): row["kept"] for row in rows}


def old(database: Database, connection: Connection, *bodies: bytes) -> None:
    """Bodies that came, and were read for, 31 days ago."""
    come(database, connection, *bodies)
    read(database)
    age(database, 31)


def attempt(database: Database, statement: LiteralString, parameters: Sequence[Any] = ()) -> None:
    """Execute one statement in the database's role."""
    with database.transaction() as opened:
        opened.execute(statement, tuple(parameters))
