"""Messages as they are recorded: before they are sent, what they tell of, and how they ended.

A message that was recorded and never begun as an external action was not sent. One that was begun and has no outcome
may have been: neither Slack's webhooks nor SMTP can be asked later. It ends as `unknown` and is not sent again.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from finance_os.alerts.channels import Channel
from finance_os.alerts.digest import Message
from finance_os.alerts.ledger import Alert
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.readiness.external_actions import Action, Outcome, begin_action, end_action
from finance_os.readiness.policies import OUTBOUND_ALERT_DELIVERY

DIED = "sender_died"
"""Detail of a message whose process died: what is known of it was found out by another."""

TAKEN_FOR_DEAD = timedelta(minutes=10)
"""A message that is being sent for longer has lost its process: every step of sending ends within seconds."""


@dataclass(frozen=True)
class SentMessage:
    """A message as it is recorded. `status`: sending, delivered, failed (surely not delivered) or unknown."""

    message_id: int
    business_id: str
    channel: str
    target: str
    purpose: str
    opened: int
    recovered: int
    status: str
    detail: str | None
    begun_at: datetime
    ended_at: datetime | None


def latest_messages(database: Database, business_id: str | None = None, limit: int = 20) -> list[SentMessage]:
    """The messages that were recorded last, newest first."""
    rows = database.fetch(
        """
        SELECT message_id, business_id, channel, target, purpose, opened, recovered, status, detail, begun_at, ended_at
        FROM finance_os.alert_messages
        WHERE %(business_id)s::text IS NULL OR business_id = %(business_id)s
        ORDER BY message_id DESC LIMIT %(limit)s
        """,
        {"business_id": business_id, "limit": limit},
    )
    return [SentMessage(**row) for row in rows]


def record(
    connection: DatabaseConnection, channel: Channel, message: Message, purpose: str, opened: int, recovered: int
) -> tuple[int, str]:
    """Record a message before anything else is done about it; its ID and its intent key."""
    key = f"alert_message:{uuid.uuid4()}"
    row = connection.execute(
        """
        INSERT INTO finance_os.alert_messages
            (business_id, channel, target, intent_key, purpose, opened, recovered, payload_hash)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING message_id
        """,
        (
            message.business_id,
            channel.name,
            channel.target,
            key,
            purpose,
            opened,
            recovered,
            message.payload_hash,
        ),
    ).fetchone()
    assert row is not None
    return row["message_id"], key


def announce(
    connection: DatabaseConnection,
    channel: Channel,
    message_id: int,
    opened: Sequence[Alert],
    recovered: Sequence[Alert],
) -> None:
    """Record which alerts a message tells of, in the transaction that records the message."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO finance_os.alert_announcements (alert_id, channel, business_id, opened_in)
            VALUES (%s, %s, %s, %s)
            ON CONFLICT (alert_id, channel) DO UPDATE SET opened_in = excluded.opened_in
            """,
            [(alert.alert_id, channel.name, alert.business_id, message_id) for alert in opened],
        )
        cursor.executemany(
            """
            UPDATE finance_os.alert_announcements SET recovered_in = %s WHERE alert_id = %s AND channel = %s
            """,
            [(message_id, alert.alert_id, channel.name) for alert in recovered],
        )


def begin(database: Database, channel: Channel, message: Message, message_id: int, key: str) -> Action | None:
    """Begin the external action of a message; `None` if it was begun before, or taken for dead meanwhile.

    Who takes messages for dead waits for the row: what a process slept through is told by a later message, or by this.
    """
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT status FROM finance_os.alert_messages WHERE message_id = %s FOR UPDATE", (message_id,)
        ).fetchone()
        if row is None or row["status"] != "sending":
            return None
        action = begin_action(
            database, message.business_id, OUTBOUND_ALERT_DELIVERY.key, key, channel.target, message.payload_hash
        )
    return None if action.begun_before else action


def end(connection: DatabaseConnection, message_id: int, outcome: Outcome, detail: str) -> None:
    """Record how a message ended. What one told of that was surely not delivered is told by the next."""
    ended = connection.execute(
        """
        UPDATE finance_os.alert_messages SET status = %s, detail = %s, ended_at = clock_timestamp()
        WHERE message_id = %s AND status IN ('sending', 'unknown')
        """,
        (outcome.value, detail or None, message_id),
    )
    if ended.rowcount and outcome is Outcome.FAILED:
        connection.execute(
            "UPDATE finance_os.alert_announcements SET recovered_in = NULL WHERE recovered_in = %s", (message_id,)
        )
        connection.execute(
            "UPDATE finance_os.alert_announcements SET opened_in = NULL WHERE opened_in = %s", (message_id,)
        )


def settle_dead(database: Database, business_id: str, channel: Channel) -> None:
    """End the messages whose process died: one that was never begun was not sent; of another nobody knows."""
    for row in database.fetch(
        """
        SELECT message_id FROM finance_os.alert_messages
        WHERE business_id = %(business_id)s AND channel = %(channel)s AND status = 'sending'
          AND begun_at + %(patience)s < clock_timestamp()
        ORDER BY message_id
        """,
        {"business_id": business_id, "channel": channel.name, "patience": TAKEN_FOR_DEAD},
    ):
        with database.transaction() as connection:
            locked = connection.execute(
                """
                SELECT intent_key FROM finance_os.alert_messages
                WHERE message_id = %(message_id)s AND status = 'sending' FOR UPDATE
                """,
                row,
            ).fetchone()
            if locked is None:
                continue
            # A statement of its own: what was begun while this one waited for the row has to be seen.
            action = _begun(connection, business_id, locked["intent_key"])
            if action is None:
                end(connection, row["message_id"], Outcome.FAILED, "never_begun")
            else:
                if action.outcome is None:
                    end_action(database, action, Outcome.UNKNOWN, DIED)
                end(connection, row["message_id"], action.outcome or Outcome.UNKNOWN, DIED)


def _begun(connection: DatabaseConnection, business_id: str, intent_key: str) -> Action | None:
    """The external action of a message, as far as it got, whether or not an approval is still in force."""
    rows = connection.execute(
        """
        SELECT action_id, business_id, policy, intent_key, target, payload_hash, approval_id, requested_at,
               (SELECT outcome FROM finance_os.external_action_outcomes AS outcome
                WHERE outcome.action_id = action.action_id ORDER BY outcome_id DESC LIMIT 1) AS outcome
        FROM finance_os.external_actions AS action
        WHERE business_id = %s AND policy = %s AND intent_key = %s
        """,
        (business_id, OUTBOUND_ALERT_DELIVERY.key, intent_key),
    ).fetchall()
    if not rows:
        return None
    outcome = rows[0].pop("outcome")
    return Action(**rows[0], outcome=None if outcome is None else Outcome(outcome), begun_before=True)
