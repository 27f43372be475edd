"""Delivery: what has newly failed or recovered goes out as one message a channel, at most once, and only if approved.

A message is recorded, then begun as an external action under the policy, then sent. Neither Slack's webhooks nor SMTP
can be asked later whether a message arrived: one whose process died in between, or whose answer never came, ends as
`unknown`. It counts as delivered, is shown, and the next message says that it may not have arrived.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from finance_os.alerts import messages
from finance_os.alerts.channels import (
    Channel,
    ChannelMisconfigured,
    NotDelivered,
    OutcomeUnknown,
    configured_channels,
)
from finance_os.alerts.digest import Message, compose, test_message
from finance_os.alerts.ledger import Alert, alerts_of
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.readiness.external_actions import Outcome, end_action
from finance_os.readiness.policies import ANYTHING, OUTBOUND_ALERT_DELIVERY, PolicyGated, policy_state
from finance_os.settings import Settings

GATED = OUTBOUND_ALERT_DELIVERY.gated_status
"""State of a channel that no approval covers: nothing is recorded or sent, alerts wait."""

SETTLE = timedelta(seconds=60)
"""A flood is over when nothing was raised for so long; a message waits for that, but not longer than between two."""


@dataclass(frozen=True)
class Delivery:
    """What became of a channel's turn: `state` is `delivered`, `failed`, `unknown`, the policy's gated status word,
    `nothing new`, `waiting` (for the quiet period, or another process) or `error`. `detail` holds no secret.
    """

    business_id: str
    channel: str
    state: str
    detail: str = ""
    message_id: int | None = None


def deliver(database: Database, settings: Settings, *, settle: timedelta = SETTLE) -> list[Delivery]:
    """Give each channel of each business its turn; none stops another.

    `settings.alert_digest_minutes` lie at least between the beginnings of two messages of a channel.
    """
    rows = database.fetch("SELECT business_id FROM finance_os.businesses ORDER BY 1")
    try:
        channels = configured_channels(settings)
    except ChannelMisconfigured as error:
        return [Delivery(row["business_id"], "all", "error", str(error)) for row in rows]
    done: list[Delivery] = []
    for row in rows:
        for channel in channels:
            try:
                done.append(_turn(database, settings, row["business_id"], channel, settle))
            except Exception as error:  # of this channel: the others go on
                done.append(Delivery(row["business_id"], channel.name, "error", type(error).__name__))
    return done


def send_test(database: Database, business_id: str, channel: Channel) -> Delivery:
    """Send one test message, whatever the quiet period. Raises `PolicyGated`, with nothing recorded or sent."""
    _require_approval(database, business_id, channel)
    message = test_message(business_id)
    with database.transaction() as connection:
        message_id, key = messages.record(connection, channel, message, "test", 0, 0)
    return _send(database, channel, message, message_id, key)


def channel_states(database: Database, settings: Settings, business_id: str) -> dict[str, str]:
    """Target of each configured channel → `approved`, or the policy's gated status word."""
    return {
        channel.target: "approved" if _approved(database, business_id, channel) else GATED
        for channel in configured_channels(settings)
    }


def _turn(database: Database, settings: Settings, business_id: str, channel: Channel, settle: timedelta) -> Delivery:
    messages.settle_dead(database, business_id, channel)
    if not _approved(database, business_id, channel):
        return Delivery(business_id, channel.name, GATED, channel.target)
    quiet = timedelta(minutes=settings.alert_digest_minutes)
    with database.transaction() as connection:
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            (f"finance_os/alert_messages/{business_id}/{channel.name}",),
        )
        parameters = {"business_id": business_id, "channel": channel.name, "quiet": quiet, "settle": settle}
        opened, recovered = _due(connection, parameters)
        if not opened and not recovered:
            return Delivery(business_id, channel.name, "nothing new")
        if reason := _not_yet(connection, parameters):
            return Delivery(business_id, channel.name, "waiting", reason)
        message = compose(
            business_id,
            opened,
            recovered,
            uncertain=_uncertain(connection, parameters),
            dagster_url=settings.dagster_url,
        )
        message_id, key = messages.record(connection, channel, message, "digest", len(opened), len(recovered))
        messages.announce(connection, channel, message_id, opened, recovered)
    return _send(database, channel, message, message_id, key)


def _due(connection: DatabaseConnection, parameters: dict[str, Any]) -> tuple[list[Alert], list[Alert]]:
    """The open alerts that no message told of, and the resolved ones of which one told that they were open."""
    opened = connection.execute(
        """
        SELECT alert.* FROM finance_os.alerts AS alert
        LEFT JOIN finance_os.alert_announcements AS told ON told.alert_id = alert.alert_id AND channel = %(channel)s
        WHERE alert.business_id = %(business_id)s AND alert.resolved_at IS NULL AND told.opened_in IS NULL
        ORDER BY alert.alert_id
        """,
        parameters,
    ).fetchall()
    recovered = connection.execute(
        """
        SELECT alert.* FROM finance_os.alert_announcements AS told JOIN finance_os.alerts AS alert USING (alert_id)
        WHERE told.business_id = %(business_id)s AND channel = %(channel)s AND told.recovered_in IS NULL
          AND told.opened_in IS NOT NULL AND alert.resolved_at IS NOT NULL
        ORDER BY alert.alert_id
        """,
        parameters,
    ).fetchall()
    return alerts_of(opened), alerts_of(recovered)


def _not_yet(connection: DatabaseConnection, parameters: dict[str, Any]) -> str | None:
    """Why no message goes out yet; `None` if one does."""
    last = connection.execute(
        """
        SELECT status, begun_at + %(quiet)s > clock_timestamp() AS quiet FROM finance_os.alert_messages
        WHERE business_id = %(business_id)s AND channel = %(channel)s AND purpose = 'digest'
        ORDER BY message_id DESC LIMIT 1
        """,
        parameters,
    ).fetchone()
    if last is not None and last["status"] == "sending":
        return "another message is being sent"
    if last is not None and last["quiet"]:
        return "for the quiet period after the last message"
    # Of what happened last, by when this machine's database heard of it: what happened may have happened long ago.
    flood = connection.execute(
        """
        SELECT max(raised_at) + %(settle)s > clock_timestamp() AND min(raised_at) + %(quiet)s > clock_timestamp() AS on
        FROM finance_os.alerts AS alert
        LEFT JOIN finance_os.alert_announcements AS told ON told.alert_id = alert.alert_id AND channel = %(channel)s
        WHERE alert.business_id = %(business_id)s AND alert.resolved_at IS NULL AND told.opened_in IS NULL
        """,
        parameters,
    ).fetchone()
    return "until nothing new is raised for a moment" if flood is not None and flood["on"] else None


def _uncertain(connection: DatabaseConnection, parameters: dict[str, Any]) -> int:
    """How many messages since the last one that was delivered have an unknown outcome."""
    [row] = connection.execute(
        """
        SELECT count(*) AS unknown FROM finance_os.alert_messages
        WHERE business_id = %(business_id)s AND channel = %(channel)s AND status = 'unknown'
          AND message_id > coalesce(
              (SELECT max(message_id) FROM finance_os.alert_messages
               WHERE business_id = %(business_id)s AND channel = %(channel)s AND status = 'delivered'), 0)
        """,
        parameters,
    ).fetchall()
    return row["unknown"]


def _send(database: Database, channel: Channel, message: Message, message_id: int, key: str) -> Delivery:
    try:
        action = messages.begin(database, channel, message, message_id, key)
    except PolicyGated:  # it was revoked since it was looked up
        with database.transaction() as connection:
            messages.end(connection, message_id, Outcome.FAILED, GATED)
        return Delivery(message.business_id, channel.name, GATED, channel.target, message_id)
    if action is None:
        return Delivery(message.business_id, channel.name, "failed", "taken_for_dead", message_id)
    outcome = Outcome.DELIVERED
    try:
        detail = channel.send(message, key)
    except NotDelivered as error:
        outcome, detail = Outcome.FAILED, str(error)
    except OutcomeUnknown as error:
        outcome, detail = Outcome.UNKNOWN, str(error)
    except Exception as error:  # not foreseen, so nobody can say how far it came
        outcome, detail = Outcome.UNKNOWN, type(error).__name__
    end_action(database, action, outcome, detail)
    with database.transaction() as connection:
        messages.end(connection, message_id, outcome, detail)
    return Delivery(message.business_id, channel.name, outcome.value, detail, message_id)


def _approved(database: Database, business_id: str, channel: Channel) -> bool:
    """Whether an approval in force covers the channel; `begin_action` asks again, and decides."""
    scopes = [each.scope for each in policy_state(database, business_id, OUTBOUND_ALERT_DELIVERY.key).approvals]
    return any(scope in (ANYTHING, channel.target) or channel.target.startswith(f"{scope}/") for scope in scopes)


def _require_approval(database: Database, business_id: str, channel: Channel) -> None:
    if not _approved(database, business_id, channel):
        raise PolicyGated(OUTBOUND_ALERT_DELIVERY, business_id, channel.target)
