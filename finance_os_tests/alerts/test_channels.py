"""Channels: what really arrives at a webhook and at a mail server, and what is said when nobody can know."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina
from pydantic import SecretStr

from finance_os.alerts.channels import (
    CannotReach,
    ChannelMisconfigured,
    NotDelivered,
    OutcomeUnknown,
    SmtpRelay,
    configured_channels,
    slack,
    smtp,
)
from finance_os.alerts.digest import LINE_LENGTH, Message
from finance_os.settings import Settings
from finance_os_tests.alerts.receivers import Mailbox, Webhook, certificate, closed_port, mailbox, webhook

MESSAGE = Message(
    "acme", "Finance OS, acme: 1 new alert", ("", "high · check · a<b & <!channel>", ".", "- Größe " + "x" * 300)
)


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


def relay(box: Mailbox, *, host: str = "127.0.0.1", login: str = "", scheme: str = "smtp") -> SmtpRelay:
    return smtp(f"{scheme}://{login}{host}:{box.port}?from=finance@acme.test&to=a@acme.test,b@acme.test")


# Slack


def test_a_webhook_gets_the_text_and_no_mention(hook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert slack(hook.url).send(MESSAGE, "key") == ""
    [body] = hook.bodies
    assert body["text"].startswith("Finance OS, acme: 1 new alert\n\nhigh · check · a&lt;b &amp; &lt;!channel&gt;")
    assert body["mrkdwn"] is False
    assert hook.paths == ["/services/T0/B0/secret"]
    assert "secret" not in caplog.text
    assert "secret" not in repr(slack(hook.url)) + slack(hook.url).target


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (404, NotDelivered, "slack_answered_404"),
        (429, NotDelivered, "slack_answered_429"),
        (503, OutcomeUnknown, "slack_answered_503"),
    ],
)
def test_a_webhook_that_answers_otherwise_is_asked_once(
    hook: Webhook, status: int, error: type[Exception], code: str
) -> None:
    hook.status = status
    with pytest.raises(error, match=f"^{code}$"):
        slack(hook.url).send(MESSAGE, "key")
    assert len(hook.bodies) == 1


def test_a_redirect_is_not_followed(hook: Webhook) -> None:
    with webhook() as elsewhere:
        hook.status, hook.location = 307, elsewhere.url
        with pytest.raises(NotDelivered, match="slack_answered_307"):
            slack(hook.url).send(MESSAGE, "key")
        assert not elsewhere.bodies


def test_an_open_connection_goes_through_no_proxy(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/services/T0/B0/secret"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        slack(hook.url).send(MESSAGE, "key")
        assert (len(hook.bodies), proxy.bodies) == (1, [])


def test_a_webhook_that_hangs_up_may_have_taken_it(hook: Webhook) -> None:
    hook.drop = True
    with pytest.raises(OutcomeUnknown, match="slack_no_answer"):
        slack(hook.url).send(MESSAGE, "key")
    assert len(hook.bodies) == 1


def test_a_webhook_that_cannot_be_reached_did_not_take_it() -> None:
    with pytest.raises(CannotReach, match="slack_unreachable") as caught:
        slack(f"http://127.0.0.1:{closed_port()}/services/secret").send(MESSAGE, "key")
    assert "secret" not in str(caught.value)


# SMTP


def test_a_mail_server_gets_one_mail_for_all_recipients(box: Mailbox) -> None:
    assert relay(box).send(MESSAGE, "key") == ""
    [mail] = box.messages
    assert box.envelopes == [("finance@acme.test", ["a@acme.test", "b@acme.test"])]
    assert (mail["Subject"], mail["From"], mail["To"]) == (
        MESSAGE.subject,
        "finance@acme.test",
        "a@acme.test, b@acme.test",
    )
    assert mail.get_content().splitlines() == ["high · check · a<b & <!channel>", ".", MESSAGE.lines[3]]
    assert mail["Auto-Submitted"] == "auto-generated"


def test_a_long_text_arrives_whole(box: Mailbox) -> None:
    lines = tuple("-" * LINE_LENGTH for _ in range(50))
    relay(box).send(Message("acme", "subject", lines), "key")
    assert tuple(box.messages[0].get_content().splitlines()) == lines


def test_a_recipient_that_is_refused_keeps_no_other_from_it(box: Mailbox) -> None:
    box.refused = {"a@acme.test"}
    assert relay(box).send(MESSAGE, "key") == "smtp_recipients_refused_1_of_2"
    assert box.envelopes[0][1] == ["b@acme.test"]
    box.refused = {"a@acme.test", "b@acme.test"}
    with pytest.raises(NotDelivered, match=r"^smtp_recipients_refused_550$"):
        relay(box).send(MESSAGE, "key")
    assert len(box.mails) == 1


@pytest.mark.parametrize(
    ("verb", "answer", "error", "code"),
    [
        ("HELO?", "421 too busy", CannotReach, "smtp_unreachable"),
        ("MAIL", "550 no", NotDelivered, "smtp_sender_refused_550"),
        ("MAIL", None, NotDelivered, "smtp_ended_early"),
        ("DATA", "451 later", NotDelivered, "smtp_answered_451"),
        ("END", "552 too large", NotDelivered, "smtp_answered_552"),
        ("END", None, OutcomeUnknown, "smtp_no_answer"),
    ],
)
def test_a_mail_server_that_does_not_take_it(
    box: Mailbox, verb: str, answer: str | None, error: type[Exception], code: str
) -> None:
    box.answers[verb] = answer
    with pytest.raises(error, match=code):
        relay(box).send(MESSAGE, "key")
    assert not box.mails


def test_how_the_farewell_goes_changes_nothing(box: Mailbox) -> None:
    box.answers["QUIT"] = None
    relay(box).send(MESSAGE, "key")
    assert len(box.mails) == 1


def test_a_password_is_sent_through_tls_only(box: Mailbox) -> None:
    with pytest.raises(NotDelivered, match="smtp_password_would_be_readable"):
        relay(box, login="robot:right@").send(MESSAGE, "key")
    assert not box.logins
    assert not box.mails


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_tls_is_spoken_with_whom_the_certificate_names(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, context = certificate(tmp_path)
    with mailbox(context, at_once=scheme == "smtps") as box:
        channel = relay(box, host="localhost", login="robot:right@", scheme=scheme)
        with pytest.raises(NotDelivered, match=r"SSL"):  # nobody vouches for it
            channel.send(MESSAGE, "key")
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        channel.send(MESSAGE, "key")
        assert (box.logins, box.encrypted) == ([("robot", "right")], [True])
        with pytest.raises(NotDelivered, match="smtp_answered_535"):
            relay(box, host="localhost", login="robot:wrong@", scheme=scheme).send(MESSAGE, "key")
        with pytest.raises(NotDelivered, match=r"SSL"):  # it is another's name
            relay(box, login="robot:right@", scheme=scheme).send(MESSAGE, "key")
        assert len(box.mails) == 1


def test_tls_is_spoken_where_it_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, context = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with mailbox(context) as box:
        relay(box, host="localhost").send(MESSAGE, "key")
        assert (box.encrypted, box.logins) == ([True], [])


# Settings


def test_channels_come_from_the_settings(hook: Webhook) -> None:
    assert configured_channels(Settings(alert_slack_webhook=None, alert_smtp=None)) == []
    both = Settings(
        alert_slack_webhook=SecretStr(hook.url),
        alert_smtp=SecretStr("smtps://u%40x:p%2Fw@mail.acme.test?from=f@acme.test&to=a@acme.test&to=b@acme.test"),
    )
    webhook_channel, mail = configured_channels(both)
    assert webhook_channel.target.startswith("slack/127.0.0.1:")
    assert isinstance(mail, SmtpRelay)
    assert (mail.host, mail.port, mail.user, mail.password, mail.tls) == (
        "mail.acme.test",
        465,
        "u@x",
        "p/w",
        True,
    )
    assert mail.recipients == ("a@acme.test", "b@acme.test")
    assert mail.target.startswith("smtp/mail.acme.test:465/")
    assert "acme.test" not in repr(mail).replace("mail.acme.test", "")


def test_a_target_names_whom_it_reaches() -> None:
    def mail(query: str) -> str:
        return smtp(f"smtp://mail.acme.test?{query}").target

    first = mail("from=f@acme.test&to=a@acme.test,b@acme.test")
    assert first == mail("from=f@acme.test&to=b@acme.test,a@acme.test")
    assert first != mail("from=f@acme.test&to=a@acme.test")
    assert slack("https://hooks.slack.test/a").target != slack("https://hooks.slack.test/b").target


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.slack.com/services/secret",
        "hooks.slack.com/secret",
        "https://",
        "https://[secret",
        "file:///secret",
    ],
)
def test_a_webhook_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ChannelMisconfigured) as caught:
        slack(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://mail.acme.test?from=f@acme.test&to=a@acme.test",
        "smtp://mail.acme.test?from=f@acme.test",
        "smtp://mail.acme.test?to=a@acme.test",
        "smtp://mail.acme.test?from=f@acme.test&to=a@acme.test%0d%0aBcc:x@evil.test",
        "smtp://mail.acme.test:port?from=f@acme.test&to=a@acme.test",
        "smtp://?from=f@acme.test&to=a@acme.test",
    ],
)
def test_a_mail_server_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ChannelMisconfigured) as caught:
        smtp(url)
    assert "acme" not in str(caught.value)
