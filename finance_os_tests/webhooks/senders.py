"""Deliveries as vendors sign them, made here by each vendor's documentation and without the product's code."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

STRIPE_SECRET = "whsec_acme"
VERIFIER = "8e21ab3c-0a44-4b6e-9d53-2c5b6f5a1f00"

STRIPE_HEADER = "stripe-signature"
INTUIT_HEADER = "intuit-signature"


def stripe_header(body: bytes, secret: str = STRIPE_SECRET, at: int | None = None) -> str:
    """https://docs.stripe.com/webhooks#verify-manually"""
    at = int(time.time()) if at is None else at
    digest = hmac.digest(secret.encode(), f"{at}.".encode() + body, "sha256").hex()
    return f"t={at},v1={digest}"


def intuit_header(body: bytes, verifier: str = VERIFIER) -> str:
    """https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks"""
    return base64.b64encode(hmac.digest(verifier.encode(), body, hashlib.sha256)).decode()


def stripe_event(event_id: str, kind: str = "invoice.paid", item: dict[str, Any] | None = None, **more: Any) -> bytes:
    """An event of Stripe's; about an invoice unless `item` is something else."""
    item = {"id": "in_1", "object": "invoice", "customer_email": "jane@example.com"} if item is None else item
    body = {"id": event_id, "object": "event", "type": kind, "created": 1_780_000_000, "data": {"object": item}, **more}
    return json.dumps(body).encode()


def cloud_event(event_id: str, realm: str, source_id: str, kind: str = "qbo.invoice.created.v1") -> dict[str, Any]:
    """One of Intuit's CloudEvents."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "intuit.dsnBgbseACLLRZNxo2dfc4evmEJdxde58xeeYcZliOU=",
        "type": kind,
        "datacontenttype": "application/json",
        "time": "2026-09-10T21:31:25.179851517Z",
        "intuitentityid": source_id,
        "intuitaccountid": realm,
        "data": {},
    }


def notifications(*realms: tuple[str, list[dict[str, Any]]]) -> bytes:
    """Intuit's older form."""
    return json.dumps(
        {
            "eventNotifications": [
                {"realmId": realm, "dataChangeEvent": {"entities": entities}} for realm, entities in realms
            ]
        }
    ).encode()


def entity(name: str, source_id: str, operation: str = "Update", **more: str) -> dict[str, Any]:
    """What the older form says of one entity."""
    return {"name": name, "id": source_id, "operation": operation, "lastUpdated": "2026-09-08T20:52:31.657Z", **more}
