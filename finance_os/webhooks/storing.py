"""Deliveries are kept: those that wait together in one transaction, each event once.

A delivery is answered after the commit that holds it. Counting that an event came again is a transaction of its own:
the row may be held by whoever settles its read, and what is new must not wait for that.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.webhooks.events import Event

Name = tuple[str, str, str]
"""What an event is known by: business, source system, key."""


@dataclass(frozen=True)
class Delivery:
    """A verified body, the connection that it was sent to, and its events with the connections that they belong to."""

    sent_to: Connection
    body: bytes = field(repr=False)
    events: Sequence[tuple[Connection, Event]]

    @property
    def rows(self) -> dict[Name, tuple[Connection, Event]]:
        """Its events, each once."""
        return {(owner.business_id, owner.source_system, event.key): (owner, event) for owner, event in self.events}


@dataclass(frozen=True)
class Stored:
    """How many events of a delivery were new; and the names of those that were there before."""

    new: int
    again: tuple[Name, ...] = ()

    @property
    def known(self) -> int:
        """How many events were there before."""
        return len(self.again)


def store_all(database: Database, deliveries: Sequence[Delivery]) -> list[Stored]:
    """Keep what is new of some deliveries, in order; durable when it returns. What each of them was worth.

    A body is kept once, and only if one of its events is new.
    """
    first: dict[Name, int] = {}
    for number, delivery in enumerate(deliveries):
        for name in delivery.rows:
            first.setdefault(name, number)
    if not first:
        return [Stored(0)] * len(deliveries)
    with database.transaction() as connection:
        unknown = first.keys() - _known(connection, list(first))
        bodies = _keep_bodies(connection, {first[name] for name in unknown}, deliveries)
        # Several at a time in one order for everybody, so that no two transactions wait for each other.
        order = sorted(unknown) if len(deliveries) > 1 else [name for name in first if name in unknown]
        new = _insert(connection, [(name, first[name]) for name in order], deliveries, bodies)
    return [
        Stored(
            sum(name in new and first[name] == number for name in delivery.rows),
            tuple(name for name in delivery.rows if name not in new or first[name] != number),
        )
        for number, delivery in enumerate(deliveries)
    ]


def count_again(database: Database, stored: Sequence[Stored]) -> None:
    """Count that events came again: each delivery of each."""
    counted = Counter(name for each in stored for name in each.again)
    if not counted:
        return
    names = sorted(counted)  # in the order in which everybody takes them
    with database.transaction() as connection:
        connection.execute(
            """
            UPDATE finance_os.webhook_events AS event
            SET deliveries = deliveries + named.times, delivered_at = coalesce(delivered_at, clock_timestamp())
            FROM unnest(%(businesses)s::text[], %(systems)s::text[], %(keys)s::text[], %(times)s::integer[])
                AS named (business_id, source_system, event_key, times)
            WHERE event.business_id = named.business_id AND event.source_system = named.source_system
              AND event.event_key = named.event_key
            """,
            {**_columns(names), "times": [counted[name] for name in names]},
        )


def _columns(names: Sequence[Name]) -> dict[str, Any]:
    return {
        "businesses": [name[0] for name in names],
        "systems": [name[1] for name in names],
        "keys": [name[2] for name in names],
    }


def _known(connection: DatabaseConnection, names: Sequence[Name]) -> set[Name]:
    rows = connection.execute(
        """
        SELECT event.business_id, event.source_system, event.event_key
        FROM unnest(%(businesses)s::text[], %(systems)s::text[], %(keys)s::text[])
            AS named (business_id, source_system, event_key)
        JOIN finance_os.webhook_events AS event USING (business_id, source_system, event_key)
        """,
        _columns(names),
    )
    return {(row["business_id"], row["source_system"], row["event_key"]) for row in rows}


def _keep_bodies(
    connection: DatabaseConnection, numbers: set[int], deliveries: Sequence[Delivery]
) -> Mapping[int, int]:
    """Keep the bodies of the deliveries with these numbers, each once: the ID of each by its delivery's number.

    One that was pruned is kept anew: a vendor without event IDs says the same in the same bytes again.
    """
    hashes = {
        number: (deliveries[number].sent_to.connection_id, hashlib.sha256(deliveries[number].body).digest())
        for number in sorted(numbers)
    }
    named = dict(sorted((of, number) for number, of in reversed(hashes.items())))
    ids: dict[tuple[int, bytes], int] = {}
    while missing := {of: number for of, number in named.items() if of not in ids}:  # again where one was just pruned
        parameters = {
            "businesses": [deliveries[number].sent_to.business_id for number in missing.values()],
            "connections": [of[0] for of in missing],
            "hashes": [of[1] for of in missing],
            "bodies": [deliveries[number].body for number in missing.values()],
        }
        rows = connection.execute(
            """
            INSERT INTO finance_os.webhook_bodies (business_id, connection_id, body_hash, body)
            SELECT * FROM unnest(%(businesses)s::text[], %(connections)s::bigint[], %(hashes)s::bytea[],
                                 %(bodies)s::bytea[])
            ON CONFLICT (connection_id, body_hash) WHERE pruned_at IS NULL DO NOTHING
            RETURNING body_id, connection_id, body_hash
            """,
            parameters,
        ).fetchall()
        if len(rows) < len(missing):  # a statement of its own, which sees what others have committed meanwhile
            rows += connection.execute(
                """
                SELECT body_id, body.connection_id, body.body_hash
                FROM unnest(%(connections)s::bigint[], %(hashes)s::bytea[]) AS named (connection_id, body_hash)
                JOIN finance_os.webhook_bodies AS body USING (connection_id, body_hash)
                WHERE body.pruned_at IS NULL
                """,
                {name: parameters[name] for name in ("connections", "hashes")},
            ).fetchall()
        ids |= {(row["connection_id"], bytes(row["body_hash"])): row["body_id"] for row in rows}
    return {number: ids[of] for number, of in hashes.items()}


def _insert(
    connection: DatabaseConnection,
    named: Sequence[tuple[Name, int]],
    deliveries: Sequence[Delivery],
    bodies: Mapping[int, int],
) -> set[Name]:
    """Put events into the inbox, in order; those that are new. What was answered may not be lost, so that the commit is
    made durable whatever the server's default is."""
    if not named:
        return set()
    rows = [deliveries[number].rows[name] for name, number in named]
    found = connection.execute(
        """
        INSERT INTO finance_os.webhook_events
            (business_id, source_system, connection_id, event_key, event_type, body_id, delivered_at, deliveries)
        SELECT business_id, source_system, connection_id, event_key, event_type, body_id, clock_timestamp(), 1
        FROM unnest(%(businesses)s::text[], %(systems)s::text[], %(connections)s::bigint[], %(keys)s::text[],
                    %(types)s::text[], %(bodies)s::bigint[])
            WITH ORDINALITY
            AS named (business_id, source_system, connection_id, event_key, event_type, body_id, place),
            (SELECT CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                         THEN set_config('synchronous_commit', 'on', true)
                         ELSE current_setting('synchronous_commit') END AS setting) AS commits
        WHERE commits.setting <> 'off'
        ORDER BY place
        ON CONFLICT (business_id, source_system, event_key) DO NOTHING
        RETURNING business_id, source_system, event_key
        """,
        {
            **_columns([name for name, _ in named]),
            "connections": [owner.connection_id for owner, _ in rows],
            "types": [event.type for _, event in rows],
            "bodies": [bodies[number] for _, number in named],
        },
    )
    return {(row["business_id"], row["source_system"], row["event_key"]) for row in found}
