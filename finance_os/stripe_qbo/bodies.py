"""What is sent of an intent: its payload with every ID in its place, and of a change, for which version it is."""

from collections.abc import Mapping
from typing import Any

from finance_os.stripe_qbo.holding import Hold
from finance_os.stripe_qbo.intent import REFERENCE, Operation


def body_of(hold: Hold, sync_token: str | None = None) -> Mapping[str, Any]:
    """What is to be sent of a held intent; of a change, for `sync_token`, or the version that was seen last."""
    intent = hold.kept.intent
    body = resolve(intent.payload, {str(key): link.qbo_id for key, link in hold.links.items()})
    if intent.operation is Operation.CREATE:
        return body
    own = {"Id": hold.own_link.qbo_id, "SyncToken": sync_token or hold.own_link.sync_token, "sparse": True}
    return own if intent.operation is Operation.VOID else {**body, **own}


def resolve(payload: Any, ids: Mapping[str, str]) -> Any:
    """A payload with the QuickBooks ID of each link key in the place of its reference; `KeyError` without one."""
    if isinstance(payload, Mapping):
        if set(payload) == {REFERENCE}:
            return ids[payload[REFERENCE]]
        return {name: resolve(value, ids) for name, value in payload.items()}
    return [resolve(value, ids) for value in payload] if isinstance(payload, list | tuple) else payload
