"""The schemas of vendors' deliveries take what the inbox can read, and nothing that it cannot."""

import json
from typing import Any

import jsonschema_rs
import pytest

from finance_os.artifacts import schemas
from finance_os.webhooks.events import UNREADABLE, events_in
from finance_os_tests.webhooks.senders import cloud_event, entity, notifications, stripe_event

REALM = "9130357766"
PLAID = {"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "item1"}


def readable(system: str, body: Any) -> tuple[bool, bool]:
    """Whether the schema takes a body, and whether the inbox reads its events."""
    judge = jsonschema_rs.Draft202012Validator(schemas.schema(f"webhook_{system}"))
    events = events_in(system, json.dumps(body).encode())
    return judge.is_valid(body), all(event.type != UNREADABLE for event in events)


GOOD: dict[str, tuple[str, Any]] = {
    "stripe": ("stripe", json.loads(stripe_event("evt_1"))),
    "stripe, more than is known": ("stripe", json.loads(stripe_event("evt_1", livemode=False, account="acct_1"))),
    "cloud events": (
        "quickbooks",
        [cloud_event("1", REALM, "5"), cloud_event("2", "9130999", "5", "qbo.customer.updated.v1")],
    ),
    "the older form": (
        "quickbooks",
        json.loads(notifications((REALM, [entity("Invoice", "5")]), ("9130999", [entity("Customer", "1", "Merge")]))),
    ),
    "plaid": ("plaid", PLAID),
    "plaid, more than is known": ("plaid", {**PLAID, "environment": "sandbox", "new_transactions": 3}),
}

BAD: dict[str, tuple[str, Any]] = {
    "no event": ("stripe", {"id": "in_1", "object": "invoice", "type": "x"}),
    "an event without an ID": ("stripe", {"object": "event", "type": "invoice.paid"}),
    "an ID with a blank": ("stripe", {"id": "evt 1", "object": "event", "type": "invoice.paid"}),
    "a type that is too long": ("stripe", {"id": "evt_1", "object": "event", "type": "x" * 201}),
    "a list": ("stripe", [json.loads(stripe_event("evt_1"))]),
    "no events at all": ("quickbooks", []),
    "an event without a company": (
        "quickbooks",
        [{name: value for name, value in cloud_event("1", REALM, "5").items() if name != "intuitaccountid"}],
    ),
    "no notifications": ("quickbooks", {"eventNotifications": []}),
    "no entities": ("quickbooks", {"eventNotifications": [{"realmId": REALM, "dataChangeEvent": {}}]}),
    "empty entities": ("quickbooks", {"eventNotifications": [{"realmId": REALM, "dataChangeEvent": {"entities": []}}]}),
    "an entity without an ID": (
        "quickbooks",
        {"eventNotifications": [{"realmId": REALM, "dataChangeEvent": {"entities": [{"name": "Invoice"}]}}]},
    ),
    "plaid without a code": ("plaid", {"webhook_type": "ITEM"}),
    "plaid with a number": ("plaid", {**PLAID, "webhook_code": 7}),
    "null": ("plaid", None),
}


@pytest.mark.parametrize("case", list(GOOD))
def test_what_vendors_send_is_in_the_schema_and_read(case: str) -> None:
    assert readable(*GOOD[case]) == (True, True)


@pytest.mark.parametrize("case", list(BAD))
def test_what_is_in_no_form_is_neither(case: str) -> None:
    assert readable(*BAD[case]) == (False, False)
