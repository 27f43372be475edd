"""From events that wait to the reads that they ask for.

Events of a connection are taken together, each object once. Where a read fails, its events are tried again in ever
smaller company, the last time alone, so that one that cannot be read does not set others aside.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.observability.logs import correlation_ids
from finance_os.webhooks import inbox
from finance_os.webhooks.events import UNREADABLE, Event, events_in, key_in_body
from finance_os.webhooks.reads import Unfit, Wanted, count, merged, reads_of
from finance_os.webhooks.settings import WebhookSettings

_log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(minutes=30)

_COMPANY = 50
"""With each try, an event is read for together with so many times fewer others."""

_BODIES_AT_ONCE = 20

_ANY = 2**31 - 1


_IN_ORDER = """
    SELECT event_number, event_key, body_id FROM finance_os.webhook_events
    WHERE connection_id = %(connection_id)s AND state = 'received' AND tries BETWEEN %(tries)s AND %(most)s
      AND (wait_until IS NULL OR wait_until <= clock_timestamp())
    ORDER BY tries, event_number LIMIT %(limit)s
    """

# While it is being probed whether a connection works again, each event has its turn: one that no read can be made for
# must not be the only one that is asked for.
_IN_TURN = """
    SELECT event_number, event_key, body_id FROM finance_os.webhook_events
    WHERE connection_id = %(connection_id)s AND state = 'received' AND tries BETWEEN %(tries)s AND %(most)s
      AND (wait_until IS NULL OR wait_until <= clock_timestamp())
    ORDER BY failed_at NULLS FIRST, event_number LIMIT %(limit)s
    """


@dataclass(frozen=True)
class ReadRequest:
    """The reads of one run: for `connection`, object type → source IDs, or `None` for its present day."""

    request_id: int
    connection: Connection
    reads: Wanted
    requested_at: datetime


def request_reads(database: Database, settings: WebhookSettings) -> list[ReadRequest]:
    """Take the events that wait, as far as runs may be asked for; the requests made for them."""
    rows = database.fetch(
        """
        SELECT connection_id, business_id, source_system, external_account, secret_reference, time_zone
        FROM finance_os.connections AS connection
        WHERE active AND EXISTS (
            SELECT FROM finance_os.webhook_events AS event
            WHERE event.connection_id = connection.connection_id AND event.state = 'received')
        ORDER BY connection_id
        """
    )
    made: list[ReadRequest] = []
    for row in rows:
        connection = Connection(**row)
        with database.transaction() as opened:
            inbox.lock(opened)
            free, held_up = _standing(opened, connection, settings)
            for tries in range(settings.max_tries):
                if free <= 0:
                    break
                waiting = {
                    "connection_id": connection.connection_id,
                    "tries": tries,
                    "most": tries if tries < settings.max_tries - 1 else _ANY,  # where the setting was higher before
                    "limit": company_of(tries + held_up, settings),
                }
                rows = opened.execute(_IN_TURN if held_up else _IN_ORDER, waiting).fetchall()
                request = _request(opened, connection, rows, settings)
                if request is not None:
                    made.append(request)
                    free -= 1
    return made


def company_of(tries: int, settings: WebhookSettings) -> int:
    """How many events are read for together after so many failures; the last time it is one alone."""
    return 1 if tries >= settings.max_tries - 1 else max(1, settings.batch_events // _COMPANY**tries)


def _standing(opened: DatabaseConnection, connection: Connection, settings: WebhookSettings) -> tuple[int, int]:
    """How many more runs a connection may have now, and how often in a row its own trouble held them up.

    Where it does not work, it has one at a time, after a while.
    """
    rows = opened.execute(
        """
        SELECT state, ended_at, clock_timestamp() AS now FROM finance_os.webhook_requests
        WHERE connection_id = %s ORDER BY request_id DESC LIMIT 20
        """,
        (connection.connection_id,),
    ).fetchall()
    running = sum(row["state"] == "open" for row in rows)
    ended = [row for row in rows if row["state"] != "open"]
    held_up = next((place for place, row in enumerate(ended) if row["state"] != "held_up"), len(ended))
    if not held_up:
        return settings.runs_at_once - running, 0
    waits = min(timedelta(seconds=settings.retry_seconds * 2 ** (held_up - 1)), LONGEST_WAIT)
    return (1 - running if ended[0]["ended_at"] + waits <= ended[0]["now"] else 0), held_up


def _request(
    opened: DatabaseConnection, connection: Connection, rows: Sequence[Mapping[str, Any]], settings: WebhookSettings
) -> ReadRequest | None:
    """Take events; `None` where none of them asks for anything. Those that are too many are left for the next run."""
    wanted: dict[int, Wanted] = {}
    nothing: list[int] = []
    unfit: list[int] = []
    together: Wanted = {}
    for number, event in _events(opened, connection.source_system, rows):
        reads = _reads(connection.source_system, event)
        if reads is None:
            unfit.append(number)
        elif not reads:
            nothing.append(number)
        else:
            wanted[number] = reads
            together = merged([together, reads])
            if count(together) >= settings.batch_reads:
                break
    _close(opened, nothing)
    _set_aside(opened, connection, unfit)
    return _ask(opened, connection, wanted, together) if wanted else None


def _events(
    opened: DatabaseConnection, source_system: str, rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[int, Event | None]]:
    """The events of `rows`, parsed out of their bodies, a few bodies at a time; `None` for what is not in its body."""
    by_body: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_body.setdefault(row["body_id"], []).append(row)
    body_ids = list(by_body)
    for start in range(0, len(body_ids), _BODIES_AT_ONCE):
        some = body_ids[start : start + _BODIES_AT_ONCE]
        bodies = opened.execute(
            """
            SELECT body_id, body FROM finance_os.webhook_bodies WHERE body_id = ANY (%s)
            ORDER BY array_position(%s, body_id)
            """,
            (some, some),
        ).fetchall()
        for each in bodies:
            found = () if each["body"] is None else events_in(source_system, bytes(each["body"]))
            events = {event.key: event for event in found}
            for row in by_body[each["body_id"]]:
                yield row["event_number"], events.get(key_in_body(row["event_key"]))


def _reads(source_system: str, event: Event | None) -> Wanted | None:
    """What an event asks for; `None` for one that cannot be understood."""
    if event is None or event.type == UNREADABLE:
        return None
    try:
        return reads_of(source_system, event)
    except Unfit:
        return None


def _close(opened: DatabaseConnection, numbers: Sequence[int]) -> None:
    """Events that ask for nothing are done."""
    opened.execute(
        """
        UPDATE finance_os.webhook_events
        SET state = 'done', settled_at = clock_timestamp(), reads = '{}', last_error = NULL
        WHERE event_number = ANY (%s)
        """,
        (list(numbers),),
    )


def _set_aside(opened: DatabaseConnection, connection: Connection, numbers: Sequence[int]) -> None:
    """Events that cannot be understood are poisoned at once: no read would mend them."""
    if not numbers:
        return
    opened.execute(
        """
        UPDATE finance_os.webhook_events
        SET state = 'poisoned', settled_at = clock_timestamp(), tries = tries + 1, last_error = %s
        WHERE event_number = ANY (%s)
        """,
        (UNREADABLE, list(numbers)),
    )
    inbox.tell_of_poisoned(opened, connection, numbers)


def _ask(
    opened: DatabaseConnection, connection: Connection, wanted: Mapping[int, Wanted], together: Wanted
) -> ReadRequest:
    row = opened.execute(
        """
        INSERT INTO finance_os.webhook_requests (business_id, source_system, connection_id, reads, events)
        VALUES (%s, %s, %s, %s, %s) RETURNING request_id, requested_at
        """,
        (
            connection.business_id,
            connection.source_system,
            connection.connection_id,
            Jsonb(together),
            len(wanted),
        ),
    ).fetchone()
    assert row is not None
    with opened.cursor() as cursor:
        cursor.executemany(
            """
            UPDATE finance_os.webhook_events SET state = 'requested', request_id = %s, reads = %s
            WHERE event_number = %s AND state = 'received'
            """,
            [(row["request_id"], Jsonb(reads), number) for number, reads in wanted.items()],
        )
    _log.info(
        "webhook events requested connection=%s request=%s events=%s..%s count=%s reads=%s",
        connection.connection_id,
        row["request_id"],
        min(wanted),
        max(wanted),
        len(wanted),
        count(together),
        extra={"correlation_ids": correlation_ids(connection.source_system, together)},
    )
    return ReadRequest(row["request_id"], connection, together, row["requested_at"])


def open_requests(database: Database) -> list[ReadRequest]:
    """The requests whose reads have not come to an end, in order."""
    rows = database.fetch(
        """
        SELECT request_id, reads, requested_at, connection_id, request.business_id, request.source_system,
               external_account, secret_reference, time_zone
        FROM finance_os.webhook_requests AS request
        JOIN finance_os.connections AS connection USING (connection_id)
        WHERE state = 'open' ORDER BY request_id
        """
    )
    return [
        ReadRequest(row.pop("request_id"), reads=row.pop("reads"), requested_at=row.pop("requested_at"),
                    connection=Connection(**row))
        for row in rows
    ]  # fmt: skip
