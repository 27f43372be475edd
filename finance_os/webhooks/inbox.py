"""The inbox: every event once, what became of it, and how many requests were refused."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from finance_os.evidence import audit
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.webhooks import exceptions
from finance_os.webhooks.events import Event
from finance_os.webhooks.storing import Delivery, Stored, count_again, store_all


def lock(connection: DatabaseConnection) -> None:
    """Hold the states of all events until the transaction ends: one walker at a time, and no replay meanwhile."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('finance_os/webhooks/walk', 0))")


def connection_named(database: Database, business_id: str, source_system: str, connection_id: int) -> Connection | None:
    """The active connection with this ID, if it is this business's at this source system."""
    if not 0 < connection_id < 2**63:
        return None
    rows = database.fetch(
        """
        SELECT connection_id, business_id, source_system, external_account, secret_reference, time_zone
        FROM finance_os.connections
        WHERE connection_id = %s AND business_id = %s AND source_system = %s AND active
        """,
        (connection_id, business_id, source_system),
    )
    return Connection(**rows[0]) if rows else None


def store(database: Database, sent_to: Connection, body: bytes, events: Iterable[tuple[Connection, Event]]) -> Stored:
    """Keep one delivery, each of its events once; durable when it returns."""
    [stored] = store_all(database, [Delivery(sent_to, body, list(events))])
    count_again(database, [stored])
    return stored


def keep_body(connection: DatabaseConnection, sent_to: Connection, body: bytes) -> int:
    """Keep a body once; its ID. One that was pruned is kept anew."""
    parameters = {
        "business_id": sent_to.business_id,
        "connection_id": sent_to.connection_id,
        "body_hash": hashlib.sha256(body).digest(),
        "body": body,
    }
    while True:  # again where it was pruned between the two
        row = connection.execute(
            """
            INSERT INTO finance_os.webhook_bodies (business_id, connection_id, body_hash, body)
            VALUES (%(business_id)s, %(connection_id)s, %(body_hash)s, %(body)s)
            ON CONFLICT (connection_id, body_hash) WHERE pruned_at IS NULL DO NOTHING RETURNING body_id
            """,
            parameters,
        ).fetchone()
        if row is None:  # a statement of its own, which sees what another transaction has committed meanwhile
            row = connection.execute(
                """
                SELECT body_id FROM finance_os.webhook_bodies
                WHERE connection_id = %(connection_id)s AND body_hash = %(body_hash)s AND pruned_at IS NULL
                """,
                parameters,
            ).fetchone()
        if row is not None:
            return row["body_id"]


def count_refusal(opened: DatabaseConnection, connection: Connection | None, reason: str, times: int = 1) -> None:
    """Count requests that were refused, within the caller's transaction: nothing of what they held is kept."""
    opened.execute(
        """
        INSERT INTO finance_os.webhook_refusals AS known (business_id, connection_id, reason, day, count)
        VALUES (%(business_id)s, %(connection_id)s, %(reason)s, (clock_timestamp() AT TIME ZONE 'UTC')::date,
                %(times)s)
        ON CONFLICT (business_id, connection_id, reason, day) DO UPDATE
        SET count = known.count + excluded.count, latest_at = clock_timestamp()
        """,
        {
            "business_id": connection and connection.business_id,
            "connection_id": connection and connection.connection_id,
            "reason": reason,
            "times": times,
        },
    )


def backlog(database: Database, business_id: str | None = None) -> list[dict[str, Any]]:
    """How many events there are of each connection and state, and since when the oldest waits.

    `came` are those that came as webhooks, `tried` those of them that a read has failed for.
    """
    return database.fetch(
        """
        SELECT business_id, source_system, connection_id, state, count(*) AS events,
               count(delivered_at) AS came, count(*) FILTER (WHERE tries > 0) AS tried,
               min(received_at) AS oldest
        FROM finance_os.webhook_events
        WHERE %(business_id)s::text IS NULL OR business_id = %(business_id)s
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, array_position('{received,requested,poisoned,done}', state)
        """,
        {"business_id": business_id},
    )


def refusals(database: Database, business_id: str | None = None) -> list[dict[str, Any]]:
    """How many requests were refused, by connection and reason, and when the latest was."""
    return database.fetch(
        """
        SELECT business_id, connection_id, reason, sum(count)::bigint AS count, max(latest_at) AS latest_at
        FROM finance_os.webhook_refusals
        WHERE %(business_id)s::text IS NULL OR business_id = %(business_id)s
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """,
        {"business_id": business_id},
    )


def listed(
    database: Database,
    business_id: str | None = None,
    state: str | None = None,
    *,
    never_came: bool = False,
    limit: int = 20,
) -> list[dict[str, Any]]:
    """The latest events, newest first, without their bodies."""
    return database.fetch(
        """
        SELECT event_number, business_id, source_system, connection_id, event_key, event_type, received_at,
               delivered_at, deliveries, state, tries, wait_until, last_error, reads, request_id, sync_run_ids
        FROM finance_os.webhook_events
        WHERE (%(business_id)s::text IS NULL OR business_id = %(business_id)s)
          AND (%(state)s::text IS NULL OR state = %(state)s)
          AND (NOT %(never_came)s OR delivered_at IS NULL)
        ORDER BY event_number DESC LIMIT %(limit)s
        """,
        {"business_id": business_id, "state": state, "never_came": never_came, "limit": limit},
    )


def shown(database: Database, event_number: int) -> dict[str, Any]:
    """One event with the size and hash of its body, and when that was pruned; `LookupError` if there is none."""
    rows = database.fetch(
        """
        SELECT event.*, octet_length(body.body) AS body_bytes, encode(body.body_hash, 'hex') AS body_hash,
               body.pruned_at AS body_pruned_at,
               request.state AS request_state, request.error AS request_error
        FROM finance_os.webhook_events AS event
        JOIN finance_os.webhook_bodies AS body USING (body_id)
        LEFT JOIN finance_os.webhook_requests AS request USING (request_id)
        WHERE event_number = %s
        """,
        (event_number,),
    )
    if not rows:
        raise LookupError(f"there is no webhook event {event_number}: `finance-os webhooks list` shows the latest")
    return rows[0]


def is_known(database: Database, event_number: int) -> bool:
    """Whether there is an event with this number."""
    return bool(database.fetch("SELECT FROM finance_os.webhook_events WHERE event_number = %s", (event_number,)))


def replay(database: Database, event_numbers: Sequence[int], actor: str) -> list[int]:
    """Have events walked again as if they had just come; the numbers of those that were put back, in order.

    Those that are being read already are left as they are, and those whose body was pruned (`retention`).
    """
    with database.transaction() as connection:
        lock(connection)
        rows = connection.execute(
            """
            UPDATE finance_os.webhook_events AS event
            SET state = 'received', tries = 0, wait_until = NULL, failed_at = NULL, last_error = NULL,
                request_id = NULL, sync_run_ids = '{}', settled_at = NULL, replays = replays + 1
            WHERE event_number = ANY (%s) AND state <> 'requested'
              AND EXISTS (SELECT FROM finance_os.webhook_bodies AS body
                          WHERE body.body_id = event.body_id AND body.pruned_at IS NULL)
            RETURNING event_number, business_id, connection_id
            """,
            (list(event_numbers),),
        ).fetchall()
        for connection_id in sorted({row["connection_id"] for row in rows}):
            exceptions.settle(connection, connection_id)
        for business_id in sorted({row["business_id"] for row in rows}):
            numbers = sorted(row["event_number"] for row in rows if row["business_id"] == business_id)
            audit.append(
                connection,
                business_id,
                "webhooks.replayed",
                f"webhooks:{numbers[0]}-{numbers[-1]}",
                {"events": len(numbers)},
                actor,
            )
    return sorted(row["event_number"] for row in rows)


def numbers_between(
    database: Database,
    first: datetime | None,
    last: datetime | None,
    business_id: str | None = None,
    state: str | None = None,
) -> list[int]:
    """The numbers of the events received in `first` ≤ t < `last`, in order."""
    rows = database.fetch(
        """
        SELECT event_number FROM finance_os.webhook_events
        WHERE (%(first)s::timestamptz IS NULL OR received_at >= %(first)s)
          AND (%(last)s::timestamptz IS NULL OR received_at < %(last)s)
          AND (%(business_id)s::text IS NULL OR business_id = %(business_id)s)
          AND (%(state)s::text IS NULL OR state = %(state)s)
        ORDER BY event_number
        """,
        {"first": first, "last": last, "business_id": business_id, "state": state},
    )
    return [row["event_number"] for row in rows]


def tell_of_poisoned(opened: DatabaseConnection, connection: Connection, numbers: Sequence[int]) -> None:
    """Record that events of a connection were set aside: in the audit chain, and as a finance exception."""
    audit.append(
        opened,
        connection.business_id,
        "webhooks.poisoned",
        f"webhooks:{min(numbers)}-{max(numbers)}",
        {"events": len(numbers)},
    )
    exceptions.settle(opened, connection.connection_id)
