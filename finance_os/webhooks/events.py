"""What a signed body says: its events, each with its key, its type and the account that it belongs to.

Nothing is made of an event's content here: it is read from the vendor later.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from finance_os.evidence.canonical import Uncanonical, decode

UNREADABLE = "unreadable"
"""The type of a body that is signed and in no form that is known: it is kept, and set aside."""

_SIGNED = "@"
"""Before the time at which an event was signed; no vendor's ID has it."""

_TYPE = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_KEY = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")


@dataclass(frozen=True)
class Event:
    """One event. `realm` is the QuickBooks company that it belongs to, where the body may speak of several.

    `content` is the part of the body that is about it; printing leaves it out.
    """

    key: str
    type: str
    realm: str | None = None
    content: dict[str, Any] = field(default_factory=dict, repr=False)


def events_in(source_system: str, body: bytes) -> list[Event]:
    """The events of a body, at least one, each key once; a single one of type `UNREADABLE` where it has no known form.

    `KeyError` for a source system without webhooks.
    """
    parse = _PARSERS[source_system]
    try:
        events = list({event.key: event for event in parse(decode(body), hashlib.sha256(body).hexdigest())}.values())
    except (Uncanonical, _Unknown, RecursionError):
        events = []
    return events or [Event(f"sha256:{hashlib.sha256(body).hexdigest()}", UNREADABLE)]


class _Unknown(Exception):
    """A body in a form that is not the vendor's."""


def _stripe(body: Any, _: str) -> Iterator[Event]:
    """https://docs.stripe.com/api/events/object"""
    if not isinstance(body, dict) or body.get("object") != "event":
        raise _Unknown
    yield Event(_text(body, "id", _KEY), _text(body, "type", _TYPE), content=body)


def _quickbooks(body: Any, body_hash: str) -> Iterator[Event]:
    """An array of CloudEvents, or the older form, whose entities have no IDs of their own as events.

    https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks,
    https://blogs.intuit.com/2025/11/12/upcoming-change-to-webhooks-payload-structure
    """
    if isinstance(body, list):
        for each in body:
            if not isinstance(each, dict):
                raise _Unknown
            kind = _text(each, "type", _TYPE)
            yield Event(_text(each, "id", _KEY), kind, _text(each, "intuitaccountid", _KEY), each)
        return
    notifications = body.get("eventNotifications") if isinstance(body, dict) else None
    if not isinstance(notifications, list):
        raise _Unknown
    for notification in notifications:
        changes = notification.get("dataChangeEvent") if isinstance(notification, dict) else None
        entities = changes.get("entities") if isinstance(changes, dict) else None
        if not isinstance(entities, list):
            raise _Unknown
        realm = _text(notification, "realmId", _KEY)
        for entity in entities:
            if not isinstance(entity, dict):
                raise _Unknown
            name, source_id = _text(entity, "name", _TYPE), _text(entity, "id", _KEY)
            operation = _text(entity, "operation", _TYPE)
            key = f"sha256:{body_hash}/{realm}/{name}/{source_id}/{operation}"
            if len(key) > 400:
                raise _Unknown
            yield Event(key, f"{name}.{operation}", realm, entity)


def signed_at(event: Event, moment: int) -> Event:
    """`event` as one that was signed at `moment`: of a vendor whose bodies are the same whenever it says the same."""
    return replace(event, key=f"{event.key}{_SIGNED}{moment}")


def key_in_body(key: str) -> str:
    """An event's key as its body alone gives it."""
    return key.partition(_SIGNED)[0]


def _plaid(body: Any, body_hash: str) -> Iterator[Event]:
    """Plaid gives its events no ID. https://plaid.com/docs/api/webhooks/"""
    if not isinstance(body, dict):
        raise _Unknown
    kind = f"{_text(body, 'webhook_type', _TYPE)}.{_text(body, 'webhook_code', _TYPE)}"
    if len(kind) > 200:
        raise _Unknown
    yield Event(f"sha256:{body_hash}", kind, content=body)


def _text(value: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not form.fullmatch(found):
        raise _Unknown
    return found


_PARSERS = {"stripe": _stripe, "quickbooks": _quickbooks, "plaid": _plaid}

SYSTEMS = tuple(_PARSERS)
"""The source systems that send webhooks."""
