"""Channels: a Slack-compatible incoming webhook and an SMTP relay, and whether what was sent there has arrived.

A message is tried again only where nothing of it can have been sent. Slack: https://docs.slack.dev/messaging/
sending-messages-using-incoming-webhooks/ and its escaping of `&`, `<` and `>` in
https://docs.slack.dev/messaging/formatting-message-text/. SMTP: RFC 5321, where a message is accepted by the answer to
the end of its data and by nothing before it.
"""

import hashlib
import logging
import smtplib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import stamina

from finance_os.alerts.digest import Message
from finance_os.settings import Settings

ATTEMPTS = 3
"""How often a channel is tried that cannot be reached."""

SECONDS = 15.0
"""How long a channel may take to answer, for each step."""


_MAIL = SMTP.clone(cte_type="7bit")
"""Lines end with CR LF, of which servers want both (RFC 5321, 2.3.8), and hold ASCII, which all of them can take."""


class ChannelMisconfigured(ValueError):
    """A channel's setting cannot be used. What it says holds nothing of the setting, which is a secret."""


class NotDelivered(Exception):
    """The message has surely not been delivered. The text is a code and holds no secret."""


class CannotReach(NotDelivered):
    """Nothing was sent; it may be tried again."""


class OutcomeUnknown(Exception):
    """The message may have been delivered: the connection ended, or no answer came. It is not sent again."""


class Channel(Protocol):
    """Where messages go."""

    @property
    def name(self) -> str:
        """`slack` or `smtp`."""
        ...

    @property
    def target(self) -> str:
        """What an approval names: channel, host, and a fingerprint of the whole setting. Not a secret."""
        ...

    def send(self, message: Message, key: str) -> str:
        """Send `message`, whose unique key is `key`, once; what is worth knowing of its delivery, or nothing.

        Raises `NotDelivered` or `OutcomeUnknown`.
        """
        ...


@dataclass(frozen=True)
class SlackWebhook:
    """A Slack-compatible incoming webhook. Its address is a secret."""

    url: str = field(repr=False)
    name: str = "slack"

    @property
    def target(self) -> str:
        """`slack/hooks.slack.com/6fb1…`."""
        return f"slack/{urlsplit(self.url).netloc.rpartition('@')[2]}/{_fingerprint(self.url)}"

    def send(self, message: Message, key: str) -> str:  # noqa: ARG002  webhooks know no idempotency key
        """Post the message. Anything but an answer 200 was not taken by Slack; a 5xx may have been."""
        self._post(message)
        return ""

    @stamina.retry(on=CannotReach, attempts=ATTEMPTS, timeout=None, wait_initial=0.5)
    def _post(self, message: Message) -> None:
        import httpx

        body = {"text": slack_escaped(message.text), "mrkdwn": False, "unfurl_links": False}
        # A proxy of the environment only tunnels what is encrypted for the webhook; what is not goes straight there.
        client = httpx.Client(timeout=SECONDS, follow_redirects=False, trust_env=self.url.startswith("https:"))
        try:
            with _address_unlogged(), client:
                answer = client.post(self.url, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise CannotReach(f"slack_unreachable ({type(error).__name__})") from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise NotDelivered(f"slack_address_unusable ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise OutcomeUnknown(f"slack_no_answer ({type(error).__name__})") from None
        if answer.status_code >= 500:
            raise OutcomeUnknown(f"slack_answered_{answer.status_code}")
        if answer.status_code != 200:
            raise NotDelivered(f"slack_answered_{answer.status_code}")


@dataclass(frozen=True)
class SmtpRelay:
    """A mail server that takes messages for `recipients`. `tls` says that TLS is spoken from the first byte."""

    host: str
    port: int
    sender: str = field(repr=False)
    recipients: tuple[str, ...] = field(repr=False)
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    name: str = "smtp"

    @property
    def target(self) -> str:
        """`smtp/mail.example.com:587/6fb1…`: the fingerprint is that of sender and recipients, not of the login."""
        return f"smtp/{self.host}:{self.port}/{_fingerprint(' '.join((self.sender, *sorted(self.recipients))))}"

    def send(self, message: Message, key: str) -> str:
        """Hand the message to the server. Where it refuses some recipients, the others get it."""
        mail = EmailMessage(_MAIL)
        mail["Subject"] = message.subject
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.recipients)
        mail["Date"] = format_datetime(localtime())
        mail["Message-ID"] = f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@finance-os>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content("\n".join(message.lines).strip("\n"))
        server = self._connected()
        try:
            refused = self._hand_over(server, mail.as_bytes())
            with suppress(OSError, smtplib.SMTPException):  # how the farewell goes changes nothing
                server.quit()
        finally:
            server.close()
        return f"smtp_recipients_refused_{refused}_of_{len(self.recipients)}" if refused else ""

    @stamina.retry(on=CannotReach, attempts=ATTEMPTS, timeout=None, wait_initial=0.5)
    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        try:
            if self.tls:
                return smtplib.SMTP_SSL(self.host, self.port, timeout=SECONDS, context=context)
            return smtplib.SMTP(self.host, self.port, timeout=SECONDS)
        except (OSError, smtplib.SMTPException) as error:
            raise CannotReach(f"smtp_unreachable ({type(error).__name__})") from None

    def _hand_over(self, server: smtplib.SMTP, mail: bytes) -> int:
        """How many recipients were refused, of which at least one was not."""
        try:
            server.ehlo_or_helo_if_needed()
            if not self.tls and server.has_extn("starttls"):
                server.starttls(context=ssl.create_default_context())
                server.ehlo()
            elif not self.tls and self.user is not None:
                raise NotDelivered("smtp_password_would_be_readable: the server offers no TLS")
            if self.user is not None:
                server.login(self.user, self.password or "")
            _taken(server.mail(self.sender), "sender")
            answers = [server.rcpt(recipient) for recipient in self.recipients]
            refused = [answer for answer in answers if not 200 <= answer[0] < 300]
            if len(refused) == len(answers):
                _taken(refused[0], "recipients")
        except smtplib.SMTPResponseException as error:
            raise NotDelivered(f"smtp_answered_{error.smtp_code}") from None
        except (OSError, smtplib.SMTPException) as error:
            raise NotDelivered(f"smtp_ended_early ({type(error).__name__})") from None
        try:
            code, _ = server.data(mail)
        except smtplib.SMTPDataError as error:
            raise NotDelivered(f"smtp_answered_{error.smtp_code}") from None
        except (OSError, smtplib.SMTPException) as error:
            raise OutcomeUnknown(f"smtp_no_answer ({type(error).__name__})") from None
        if code != 250:
            raise NotDelivered(f"smtp_answered_{code}")
        return len(refused)


def configured_channels(settings: Settings) -> list[Channel]:
    """The channels of the settings, each made by `slack` or `smtp`. Raises `ChannelMisconfigured`."""
    found: list[Channel] = []
    if settings.alert_slack_webhook is not None:
        found.append(slack(settings.alert_slack_webhook.get_secret_value()))
    if settings.alert_smtp is not None:
        found.append(smtp(settings.alert_smtp.get_secret_value()))
    return found


def slack(url: str) -> SlackWebhook:
    """The channel of a webhook's address: https, or http on this machine."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))
        )
    except ValueError:
        usable = False
    if not usable:
        raise ChannelMisconfigured("FINANCE_OS_ALERT_SLACK_WEBHOOK is not an https:// address")
    return SlackWebhook(url)


def smtp(url: str) -> SmtpRelay:
    """The channel of `smtp://user:password@host:port?from=…&to=…`; several recipients are separated by commas.

    `smtp` speaks TLS if the server offers it (STARTTLS), and sends a password only then; `smtps` from the first byte.
    """
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        port = parts.port
    except ValueError:
        raise ChannelMisconfigured("FINANCE_OS_ALERT_SMTP is not an address") from None
    sender = (query.get("from") or [""])[0].strip()
    recipients = tuple(each for part in query.get("to", []) for name in part.split(",") if (each := name.strip()))
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ChannelMisconfigured("FINANCE_OS_ALERT_SMTP does not begin with smtp://host or smtps://host")
    if not recipients or not all(_is_mailbox(each) for each in (sender, *recipients)):
        raise ChannelMisconfigured("FINANCE_OS_ALERT_SMTP needs ?from=… and to=…, which are e-mail addresses")
    tls = parts.scheme == "smtps"
    return SmtpRelay(
        parts.hostname,
        port or (465 if tls else 587),
        sender,
        recipients,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        tls,
    )


def slack_escaped(text: str) -> str:
    """`text` as Slack shows it unchanged: none of it is a mention or a link of Slack's own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _is_mailbox(text: str) -> bool:
    name, at, domain = text.rpartition("@")
    return bool(at and name and domain) and text.isprintable() and not any(each in text for each in " <>,;")


def _fingerprint(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


def _taken(answer: tuple[int, bytes], what: str) -> None:
    if not 200 <= answer[0] < 300:
        raise NotDelivered(f"smtp_{what}_refused_{answer[0]}")


@contextmanager
def _address_unlogged() -> Iterator[None]:
    """httpx logs the address of each request, which is the webhook's secret: not those of this thread, in the block."""
    thread = threading.get_ident()
    log = logging.getLogger("httpx")

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    log.addFilter(others)
    try:
        yield
    finally:
        log.removeFilter(others)
