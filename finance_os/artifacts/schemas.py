"""JSON Schemas (draft 2020-12) of intents, links and webhook events, made of the types that stand for them."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from finance_os.artifacts.deliveries import PlaidDelivery, QuickBooksDelivery, StripeEvent
from finance_os.artifacts.rows import AttemptRow, EventRow, IntentRow, LinkRow
from finance_os.stripe_qbo.intent import REFERENCE, Operation
from finance_os.stripe_qbo.lookup import ENTITIES, Entity

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TITLES: Mapping[str, tuple[Any, str, str]] = {
    "intent": (IntentRow, "Intent", "A planned write, as finance_os.intents keeps it."),
    "intent_attempt": (
        AttemptRow,
        "Attempt",
        "A step of an attempt, as finance_os.intent_attempts keeps it.",
    ),
    "link": (LinkRow, "Link", "What stands for what, as finance_os.links keeps it."),
    "webhook_event": (EventRow, "Webhook event", "One event of the inbox, as finance_os.webhook_events keeps it."),
    "webhook_stripe": (StripeEvent, "Stripe's delivery", "The body of a webhook of Stripe's: one event."),
    "webhook_quickbooks": (
        QuickBooksDelivery,
        "QuickBooks' delivery",
        "The body of a webhook of QuickBooks': CloudEvents, or the older form, of one company or several.",
    ),
    "webhook_plaid": (PlaidDelivery, "Plaid's delivery", "The body of a webhook of Plaid's: one event, without an ID."),
}

NAMES = tuple(_TITLES)
"""Every schema's name."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one of `NAMES`; `KeyError` for another."""
    of, title, description = _TITLES[name]
    made = msgspec.json.schema(of)
    described = {"$schema": DIALECT, "title": title, "description": description, **made}
    if name == "intent":
        described["$defs"] |= _PAYLOAD
        described["allOf"] = [_UNDER_WAY, *(_of_entity(entity) for entity in ENTITIES.values())]
    return described


def schema_text(name: str) -> str:
    """The schema of one of `NAMES` as it is written to a file."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


_PAYLOAD: Mapping[str, Any] = {
    "Payload": {"type": "object", "minProperties": 0, "additionalProperties": {"$ref": "#/$defs/Value"}},
    "Value": {
        "description": "A JSON value in which a reference may stand for an ID.",
        "anyOf": [
            {"$ref": "#/$defs/Reference"},
            {"type": ["string", "number", "boolean", "null"]},
            {"type": "array", "items": {"$ref": "#/$defs/Value"}},
            {
                "type": "object",
                "propertyNames": {"not": {"const": REFERENCE}},
                "additionalProperties": {"$ref": "#/$defs/Value"},
            },
        ],
    },
    "Reference": {
        "description": "Stands for the QuickBooks ID of what the intent with this key makes.",
        "type": "object",
        "properties": {REFERENCE: {"type": "string", "pattern": "^[^:]+:.+:[^:]+$"}},
        "required": [REFERENCE],
        "additionalProperties": False,
    },
}

_UNDER_WAY: Mapping[str, Any] = {
    "if": {"properties": {"state": {"enum": ["sending", "applied"]}}, "required": ["state"]},
    "then": {"properties": {"requestid": {"type": "string"}, "resolved": {"type": "object"}}},
}
"""What is being sent, or was, has what was sent and under which requestid."""


def _of_entity(entity: Entity) -> dict[str, Any]:
    """What may be done to an entity; and one that is made bears its marker, and what it is found again by."""
    is_it = {"properties": {"entity": {"const": entity.name}}, "required": ["entity"]}
    is_made = {"properties": {"operation": {"const": Operation.CREATE.value}}, "required": ["operation"]}
    can_be_found = {
        "properties": {entity.marked_at: {"type": "string"}},
        "required": [entity.marked_at],
        "anyOf": [{"required": list(names)} for names in entity.searched_by],
    }
    return {
        "if": is_it,
        "then": {
            "properties": {"operation": {"enum": sorted(each.value for each in entity.operations)}},
            "if": is_made,
            "then": {"properties": {"payload": can_be_found}},
        },
    }
