"""How long the raw bodies of webhooks are kept: they hold what vendors say of people.

A body is pruned once every event of it, whosever, has been done for so many days; one of an event that waits, is read
for or is set aside stays. Its hash stays, and its events with their keys: a vendor that sends them again is known. The
database itself refuses every other change, and that an event waits without a body.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec

from finance_os.evidence import audit
from finance_os.evidence.database import Database
from finance_os.webhooks import inbox
from finance_os.webhooks.settings import WebhookSettings

_log = logging.getLogger(__name__)

AT_ONCE = 1_000
"""Most bodies that are looked at in one transaction."""

RESTS = timedelta(hours=1)
"""After all bodies were looked at, they are not looked at again for so long."""

Of = tuple[str, str]
"""Business and source system of the connection that a body was sent to."""


_NEXT = """
    SELECT body.body_id, body.business_id, connection.source_system, oldest.before,
           body.received_at < oldest.before AS old,
           body.received_at < oldest.before
               AND NOT EXISTS (SELECT FROM finance_os.webhook_events AS event
                               WHERE event.body_id = body.body_id
                                 AND (event.state <> 'done' OR event.settled_at >= oldest.before)) AS ripe
    FROM (SELECT body_id, business_id, connection_id, received_at FROM finance_os.webhook_bodies
          WHERE pruned_at IS NULL AND body_id > %(after)s ORDER BY body_id LIMIT %(most)s) AS body
    JOIN finance_os.connections AS connection USING (connection_id)
    CROSS JOIN (SELECT clock_timestamp() - %(days)s * interval '1 day' AS before OFFSET 0) AS oldest
    ORDER BY body.body_id
    """


@dataclass(frozen=True)
class Batch:
    """How many bodies were pruned of whom; and the last one that was looked at, `None` where no old one is left."""

    pruned: Mapping[Of, int]
    last: int | None

    @property
    def count(self) -> int:
        """How many bodies were pruned."""
        return sum(self.pruned.values())


def prune_some(database: Database, days: int, after: int = 0, actor: str = "finance-os") -> Batch:
    """Prune among the next bodies after the one with ID `after`: those whose events were all done `days` days ago.

    One short transaction. What is interrupted has pruned nothing, and is repeated.
    """
    with database.transaction() as opened:
        inbox.lock(opened)  # no replay meanwhile
        rows = opened.execute(_NEXT, {"after": after, "most": AT_ONCE, "days": days}).fetchall()
        # Only these are locked and looked at again: those that stay are not written to at every pass.
        ripe = {row["body_id"]: (row["business_id"], row["source_system"]) for row in rows if row["ripe"]}
        pruned = (
            opened.execute(
                "SELECT body_id FROM finance_os.prune_webhook_bodies(%s, %s) AS body_id ORDER BY 1",
                (list(ripe), rows[0]["before"]),
            ).fetchall()
            if ripe
            else []
        )
        by_business: dict[str, list[int]] = {}
        for row in pruned:
            by_business.setdefault(ripe[row["body_id"]][0], []).append(row["body_id"])
        for business_id, numbers in sorted(by_business.items()):
            audit.append(
                opened,
                business_id,
                "webhooks.pruned",
                f"webhook_bodies:{numbers[0]}-{numbers[-1]}",
                {"bodies": len(numbers), "older_than_days": days},
                actor,
            )
    # They are numbered as they come: after one that is not old, none is.
    last = rows[-1]["body_id"] if len(rows) == AT_ONCE and rows[-1]["old"] else None
    batch = Batch(Counter(ripe[row["body_id"]] for row in pruned), last)
    if batch.count:
        _log.info("webhook bodies pruned count=%s older_than_days=%s", batch.count, days)
    return batch


class _Position(msgspec.Struct, forbid_unknown_fields=True):
    """Where a pass over the bodies has come to, and until when it rests."""

    after: int = 0
    rests_until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


def go_on(database: Database, settings: WebhookSettings, cursor: str | None, now: datetime) -> tuple[str, Batch] | None:
    """One batch of a pass over the bodies, if it is time for one: where that has come to, and what was pruned.

    A pass begins at most once in `RESTS`; each call does one batch of it. `None` where nothing is to be done now.
    """
    position = _position(cursor)
    if not settings.body_days or (position.rests_until is not None and now < position.rests_until <= now + RESTS):
        return None
    batch = prune_some(database, settings.body_days, position.after)
    return (rested(now) if batch.last is None else _text(_Position(batch.last))), batch


def rested(now: datetime) -> str:
    """The cursor of a pass that begins anew after a rest."""
    return _text(_Position(rests_until=now + RESTS))


def _position(cursor: str | None) -> _Position:
    try:
        return msgspec.json.decode(cursor or "{}", type=_Position)
    except msgspec.DecodeError:  # somebody else's: a pass that begins anew does no harm
        return _Position()


def _text(position: _Position) -> str:
    return msgspec.json.encode(position).decode()


def due(database: Database, days: int) -> list[dict[str, Any]]:
    """By business and source system: the bodies that would be pruned (`due`), and older ones that stay (`held`).

    Those are of an event that waits, is read for or is set aside.
    """
    return database.fetch(
        """
        SELECT body.business_id, connection.source_system,
               count(*) FILTER (WHERE NOT event.open AND NOT event.young) AS due,
               count(*) FILTER (WHERE event.open) AS held
        FROM (SELECT clock_timestamp() - %(days)s * interval '1 day' AS before OFFSET 0) AS oldest
        JOIN finance_os.webhook_bodies AS body ON body.pruned_at IS NULL AND body.received_at < oldest.before
        JOIN finance_os.connections AS connection USING (connection_id)
        CROSS JOIN LATERAL (
            SELECT coalesce(bool_or(state <> 'done'), false) AS open,
                   coalesce(bool_or(settled_at >= oldest.before), false) AS young
            FROM finance_os.webhook_events AS event WHERE event.body_id = body.body_id
        ) AS event
        GROUP BY 1, 2 ORDER BY 1, 2
        """,
        {"days": days},
    )


def pruned_events(database: Database, event_numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Number, source system, `reads` and `pruned_at` of those events whose body was pruned, in order."""
    return database.fetch(
        """
        SELECT event_number, event.source_system, event.reads, body.pruned_at
        FROM finance_os.webhook_events AS event JOIN finance_os.webhook_bodies AS body USING (body_id)
        WHERE event_number = ANY (%s) AND body.pruned_at IS NOT NULL ORDER BY event_number
        """,
        (list(event_numbers),),
    )
