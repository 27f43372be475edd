"""Delivery: nothing without an approval, one message a flood and one its recovery, and never one twice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import stamina
from pydantic import SecretStr

from finance_os.alerts import delivery, messages
from finance_os.alerts.channels import SlackWebhook, slack, smtp
from finance_os.alerts.delivery import GATED, channel_states, deliver, send_test
from finance_os.alerts.digest import Message
from finance_os.alerts.messages import latest_messages
from finance_os.alerts.raising import raise_alerts
from finance_os.evidence.database import Database
from finance_os.readiness import verdicts
from finance_os.readiness.approvals import revoke
from finance_os.readiness.external_actions import begin_action, end_action
from finance_os.readiness.policies import PolicyGated, policy_state
from finance_os.readiness.verdicts import Status
from finance_os.settings import Settings
from finance_os_tests.alerts.raised import BLOCKED, blocked, ready
from finance_os_tests.alerts.receivers import Mailbox, Webhook, closed_port, mailbox, webhook
from finance_os_tests.readiness.approvers import approve_policy

pytestmark = pytest.mark.usefixtures("acme", "globex")

POLICY = "outbound_alert_delivery"
AT_ONCE = timedelta(0)


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=2)
    yield
    stamina.set_testing(False)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as found:
        yield found


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as found:
        yield found


def mail_url(box: Mailbox) -> str:
    return f"smtp://127.0.0.1:{box.port}?from=finance@acme.test&to=a@acme.test"


def settings(url: str | None = None, box: Mailbox | None = None, minutes: int = 0) -> Settings:
    return Settings(
        alert_slack_webhook=SecretStr(url) if url else None,
        alert_smtp=SecretStr(mail_url(box)) if box else None,
        alert_digest_minutes=minutes,
    )


def approve(database: Database, url: str, business_id: str = "acme") -> None:
    approve_policy(database, business_id, POLICY, scope=slack(url).target)


def tell(database: Database, to: Settings, *, settle: timedelta = AT_ONCE) -> list[tuple[str, str, str]]:
    """One look and one turn: business, channel and state of each."""
    raise_alerts(database)
    return [(each.business_id, each.channel, each.state) for each in deliver(database, to, settle=settle)]


def states(database: Database, business_id: str = "acme") -> list[str]:
    """Status of each message, in order."""
    return [each.status for each in reversed(latest_messages(database, business_id))]


def actions(database: Database) -> list[tuple[str, str, str | None]]:
    """Business, target and latest outcome of each external action, in order."""
    return [
        (row["business_id"], row["target"], row["outcome"])
        for row in database.fetch(
            """
            SELECT business_id, target, (SELECT outcome FROM finance_os.external_action_outcomes AS outcome
                                         WHERE outcome.action_id = action.action_id
                                         ORDER BY outcome_id DESC LIMIT 1) AS outcome
            FROM finance_os.external_actions AS action ORDER BY action_id
            """
        )
    ]


def wait(database: Database, owner: Database, minutes: int = 60) -> None:
    """Let time pass, for messages and alerts alike."""
    with owner.transaction() as connection:
        for table, column in (("alert_messages", "begun_at"), ("alerts", "raised_at")):
            connection.execute(
                f"UPDATE finance_os.{table} SET {column} = {column} - %s".encode(), (timedelta(minutes=minutes),)
            )


# The policy


def test_nothing_goes_out_without_an_approval(database: Database, hook: Webhook, box: Mailbox) -> None:
    blocked(database)
    to = settings(hook.url, box)
    assert tell(database, to) == [
        (business, channel, "policy_gated_no_delivery")
        for business in ("acme", "globex")
        for channel in ("slack", "smtp")
    ]
    with pytest.raises(PolicyGated):
        send_test(database, "acme", slack(hook.url))
    assert (hook.bodies, box.mails, actions(database), states(database)) == ([], [], [], [])
    assert set(channel_states(database, to, "acme").values()) == {"policy_gated_no_delivery"}


def test_an_approval_opens_one_channel_to_one_business(database: Database, hook: Webhook, box: Mailbox) -> None:
    blocked(database, "acme")
    blocked(database, "globex", check="completeness")
    approve(database, hook.url, "globex")
    to = settings(hook.url, box)
    assert tell(database, to) == [
        ("acme", "slack", GATED),
        ("acme", "smtp", GATED),
        ("globex", "slack", "delivered"),
        ("globex", "smtp", GATED),
    ]
    [text] = hook.texts
    assert text.startswith("Finance OS, globex: 1 new alert\n")
    assert "completeness of stripe/stripe_invoice" in text
    assert "trace of" not in text
    assert "acme" not in text
    assert not box.mails
    assert actions(database) == [("globex", slack(hook.url).target, "delivered")]
    assert policy_state(database, "globex", POLICY).ready
    approve(database, hook.url, "acme")
    assert tell(database, to)[0] == ("acme", "slack", "delivered")
    assert hook.texts[1].startswith("Finance OS, acme: 1 new alert\n")


def test_another_address_is_not_approved(database: Database, hook: Webhook) -> None:
    approve(database, hook.url)
    blocked(database)
    with webhook() as other:
        assert tell(database, settings(other.url))[0] == ("acme", "slack", GATED)
        assert tell(database, settings(f"{hook.url}x"))[0] == ("acme", "slack", GATED)
        assert not other.bodies
    assert not hook.bodies


def test_an_approval_that_is_revoked_in_between_sends_nothing(
    database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve(database, hook.url)
    blocked(database)
    record = messages.record

    def and_then_revoke(*arguments: Any) -> Any:
        found = record(*arguments)
        revoke(database, "acme", POLICY, reason="a test")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(messages, "record", and_then_revoke)
        assert tell(database, settings(hook.url))[0] == ("acme", "slack", GATED)
    assert (hook.bodies, states(database), actions(database)) == ([], ["failed"], [])
    approve(database, hook.url)
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "delivered")


# Floods


@pytest.mark.parametrize("channel", ["slack", "smtp"])
def test_a_flood_is_one_message_and_its_recovery_one_more(
    database: Database, hook: Webhook, box: Mailbox, channel: str
) -> None:
    to = settings(hook.url) if channel == "slack" else settings(None, box)
    target = slack(hook.url).target if channel == "slack" else smtp(mail_url(box)).target
    approve_policy(database, "acme", POLICY, scope=target)
    flood = [replace(BLOCKED, object_type=f"object_{number}") for number in range(40)]
    verdicts.record(database, flood)
    assert tell(database, to)[0] == ("acme", channel, "delivered")
    verdicts.record(database, flood)
    for _ in range(3):
        assert tell(database, to)[0] == ("acme", channel, "nothing new")
    verdicts.record(database, [replace(each, status=Status.READY, blocker=None) for each in flood])
    assert tell(database, to)[0] == ("acme", channel, "delivered")
    assert tell(database, to)[0] == ("acme", channel, "nothing new")
    subjects = (
        [text.partition("\n")[0] for text in hook.texts]
        if channel == "slack"
        else [mail["Subject"] for mail in box.messages]
    )
    assert subjects == ["Finance OS, acme: 40 new alerts", "Finance OS, acme: 40 recovered"]
    assert actions(database) == [("acme", target, "delivered")] * 2


def test_a_flood_that_goes_on_is_waited_for_but_not_for_ever(
    database: Database, owner: Database, hook: Webhook
) -> None:
    approve(database, hook.url)
    to = settings(hook.url, minutes=15)
    settle = timedelta(seconds=60)
    blocked(database, object_type="one")
    assert tell(database, to, settle=settle)[0] == ("acme", "slack", "waiting")
    wait(database, owner, minutes=10)
    blocked(database, object_type="two")
    assert tell(database, to, settle=settle)[0] == ("acme", "slack", "waiting")
    wait(database, owner, minutes=6)
    blocked(database, object_type="three")
    assert tell(database, to, settle=settle)[0] == ("acme", "slack", "delivered")
    assert hook.texts[0].startswith("Finance OS, acme: 3 new alerts\n")


def test_two_messages_lie_apart(database: Database, owner: Database, hook: Webhook) -> None:
    approve(database, hook.url)
    to = settings(hook.url, minutes=15)
    blocked(database)
    assert tell(database, to)[0] == ("acme", "slack", "delivered")
    ready(database)
    blocked(database, check="completeness")
    assert tell(database, to)[0] == ("acme", "slack", "waiting")
    wait(database, owner)
    assert tell(database, to)[0] == ("acme", "slack", "delivered")
    assert hook.texts[1].startswith("Finance OS, acme: 1 new alert, 1 recovered\n")


def test_what_recovered_before_it_was_told_is_not_told(database: Database, hook: Webhook) -> None:
    approve(database, hook.url)
    blocked(database)
    raise_alerts(database)
    ready(database)
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "nothing new")


# What goes wrong


def test_what_was_surely_not_delivered_is_told_later(database: Database, hook: Webhook) -> None:
    approve(database, hook.url)
    blocked(database)
    hook.status = 404
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "failed")
    hook.status = 200
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "delivered")
    ready(database)
    hook.status = 404
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "failed")
    hook.status = 200
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "delivered")
    assert hook.texts[-1].startswith("Finance OS, acme: 1 recovered\n")
    assert states(database) == ["failed", "delivered", "failed", "delivered"]
    assert [outcome for *_, outcome in actions(database)] == states(database)


def test_what_may_have_arrived_is_not_told_again(database: Database, hook: Webhook) -> None:
    approve(database, hook.url)
    blocked(database)
    hook.drop = True
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "unknown")
    hook.drop = False
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "nothing new")
    blocked(database, check="completeness")
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "delivered")
    assert hook.texts[-1].startswith("Finance OS, acme: 1 new alert\n")
    assert "1 earlier message(s) may not have arrived" in hook.texts[-1]
    ready(database)
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "delivered")
    assert "may not have arrived" not in hook.texts[-1]


def test_one_channel_that_cannot_be_reached_holds_no_other_up(database: Database, box: Mailbox) -> None:
    dead = f"http://127.0.0.1:{closed_port()}/services/x"
    for business in ("acme", "globex"):
        blocked(database, business)
        approve(database, dead, business)
        approve_policy(database, business, POLICY, scope=smtp(mail_url(box)).target)
    assert [state for *_, state in tell(database, settings(dead, box))] == ["failed", "delivered"] * 2
    assert [mail["Subject"] for mail in box.messages] == [
        "Finance OS, acme: 1 new alert",
        "Finance OS, globex: 1 new alert",
    ]


def test_a_setting_that_cannot_be_used_is_said(database: Database) -> None:
    [first, _] = deliver(database, settings("http://hooks.slack.com/secret"))
    assert (first.state, "secret" in first.detail) == ("error", False)


class Crash(BaseException):
    """What a killed process looks like to a test: nothing after it is done."""


CRASHES: dict[str, tuple[Any, str, bool]] = {
    "recorded, not begun": (messages, "begin", False),
    "begun, not sent": (SlackWebhook, "send", False),
    "sent, not noted": (delivery, "end_action", False),
    "noted, not ended": (messages, "end", False),
    "begun and committed": (messages, "begin", True),
    "sent, answer lost": (SlackWebhook, "send", True),
    "outcome committed": (delivery, "end_action", True),
    "all done": (messages, "end", True),
}
"""Where it crashes: at a function, before or after it does its work."""


@pytest.mark.parametrize("point", CRASHES)
def test_a_crash_anywhere_sends_nothing_twice(
    database: Database, owner: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    approve(database, hook.url)
    to = settings(hook.url)
    blocked(database)
    where, name, afterwards = CRASHES[point]
    real: Callable[..., Any] = getattr(where, name)

    def crash(*arguments: Any) -> None:
        if afterwards:
            real(*arguments)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(where, name, crash)
        with suppress(Crash):
            tell(database, to)
    for _ in range(3):
        blocked(database)
        tell(database, to)
        wait(database, owner)
    sent = len(hook.texts)
    if point == "recorded, not begun":
        assert (sent, states(database)) == (1, ["failed", "delivered"]), "it was surely not sent, so it is now"
    elif sent == 0:
        assert states(database) == ["unknown"], "nobody can know, so it is shown and not sent"
    else:
        assert sent == 1
        assert states(database) in (["delivered"], ["unknown"])
    assert [outcome for *_, outcome in actions(database)] == [
        state for state in states(database) if state != "failed"
    ], "each was recorded before it was sent"
    blocked(database, check="completeness")
    assert tell(database, to)[0] == ("acme", "slack", "delivered")
    assert ("may not have arrived" in hook.texts[-1]) == ("unknown" in states(database))


def test_who_is_taken_for_dead_and_wakes_sends_nothing(
    database: Database, owner: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that slept between recording its message and beginning it finds that another has told it."""
    approve(database, hook.url)
    to = settings(hook.url)
    blocked(database)
    asleep, awake = threading.Event(), threading.Event()
    begin = messages.begin

    def slowly(*arguments: Any) -> Any:
        asleep.set()
        assert awake.wait(20)
        return begin(*arguments)

    slow: list[tuple[str, str, str]] = []
    with monkeypatch.context() as patch:
        patch.setattr(messages, "begin", slowly)
        thread = threading.Thread(target=lambda: slow.extend(tell(database, to)))
        thread.start()
        assert asleep.wait(20)
    blocked(database, check="completeness")
    assert tell(database, to)[0] == ("acme", "slack", "waiting"), "it may be sent at any moment"
    wait(database, owner)
    assert tell(database, to)[0] == ("acme", "slack", "delivered")
    assert hook.texts[0].startswith("Finance OS, acme: 2 new alerts\n")
    awake.set()
    thread.join(20)
    assert slow[0] == ("acme", "slack", "failed")
    assert len(hook.texts) == len(actions(database)) == 1
    assert states(database) == ["failed", "delivered"]


def test_two_processes_send_one_message(database: Database, hook: Webhook) -> None:
    approve(database, hook.url)
    blocked(database)
    raise_alerts(database)
    to = settings(hook.url)
    threads = [threading.Thread(target=deliver, args=(database, to), kwargs={"settle": AT_ONCE}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(hook.texts), states(database)) == (1, ["delivered"])


def test_a_message_is_an_action_before_it_is_sent(
    database: Database, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve(database, hook.url)
    blocked(database)
    seen: list[Any] = []

    def look(_: SlackWebhook, message: Message, key: str) -> str:
        rows = database.fetch("SELECT intent_key, payload_hash FROM finance_os.external_actions")
        seen.append((rows, key, message.payload_hash))
        return ""

    monkeypatch.setattr(SlackWebhook, "send", look)
    tell(database, settings(hook.url))
    [(rows, key, payload_hash)] = seen
    assert rows == [{"intent_key": key, "payload_hash": payload_hash}]


def test_a_test_message_waits_for_nothing(database: Database, hook: Webhook) -> None:
    approve(database, hook.url)
    blocked(database)
    assert tell(database, settings(hook.url, minutes=60))[0] == ("acme", "slack", "delivered")
    sent = send_test(database, "acme", slack(hook.url))
    assert (sent.state, len(hook.texts)) == ("delivered", 2)
    assert hook.texts[1] == "Finance OS, acme: test message\nAlerts of this business arrive here."
    ready(database)
    assert tell(database, settings(hook.url, minutes=60))[0] == ("acme", "slack", "waiting")
    assert [each.purpose for each in latest_messages(database)] == ["test", "digest"]


def test_an_outcome_that_is_known_later_corrects_the_message(
    database: Database, owner: Database, hook: Webhook
) -> None:
    """The sender died after it noted the outcome of its action, and before that of its message."""
    approve(database, hook.url)
    channel = slack(hook.url)
    blocked(database)
    raise_alerts(database)
    message = Message("acme", "subject", ())
    with database.transaction() as connection:
        _, key = messages.record(connection, channel, message, "digest", 1, 0)
    action = begin_action(database, "acme", POLICY, key, channel.target, message.payload_hash)
    end_action(database, action, "failed", "slack_answered_404")
    wait(database, owner)
    assert tell(database, settings(hook.url))[0] == ("acme", "slack", "delivered")
    assert states(database) == ["failed", "delivered"]
