"""What events ask to be read: the affected objects, and nothing for what no object type holds."""

import json
from typing import Any

import pytest

from finance_os.sources.stripe.objects import OBJECTS
from finance_os.webhooks.events import UNREADABLE, Event, events_in
from finance_os.webhooks.reads import Unfit, count, merged, reads_of
from finance_os_tests.webhooks.senders import cloud_event, entity, notifications, stripe_event


def of_stripe(kind: str, item: dict[str, Any], **more: Any) -> dict[str, list[str] | None]:
    [event] = events_in("stripe", stripe_event("evt_1", kind, item, **more))
    return reads_of("stripe", event)


def of_quickbooks(body: Any) -> list[tuple[str | None, dict[str, list[str] | None]]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [(event.realm, reads_of("quickbooks", event)) for event in events_in("quickbooks", raw)]


def test_every_object_that_has_events_is_read_for_its_own() -> None:
    for obj in OBJECTS:
        detail = obj.detail
        if detail.snapshots or detail.owned_by_customer or detail.owned_by_payout or detail.kind == "balance":
            continue
        read = of_stripe("anything.updated", {"object": obj.detail.kind, "id": "x_1"})
        assert read[obj.object_type] == ["x_1"]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            {"object": "charge", "id": "ch_1", "balance_transaction": "txn_1"},
            {"stripe_charge": ["ch_1"], "stripe_balance_transaction": ["txn_1"]},
        ),
        ({"object": "charge", "id": "ch_1", "balance_transaction": None}, {"stripe_charge": ["ch_1"]}),
        (
            {
                "object": "refund",
                "id": "re_1",
                "charge": "ch_1",
                "balance_transaction": "txn_1",
                "failure_balance_transaction": "txn_2",
            },
            {
                "stripe_charge": ["ch_1"],
                "stripe_refund": ["re_1"],
                "stripe_balance_transaction": ["txn_1", "txn_2"],
            },
        ),
        (
            {
                "object": "dispute",
                "id": "du_1",
                "charge": {"object": "charge", "id": "ch_1"},
                "balance_transactions": [{"id": "txn_1"}, {"id": "txn_2"}, {"id": "txn_1"}],
            },
            {
                "stripe_charge": ["ch_1"],
                "stripe_dispute": ["du_1"],
                "stripe_balance_transaction": ["txn_1", "txn_2"],
            },
        ),
        (
            {"object": "invoice_payment", "id": "inpay_1", "invoice": "in_1"},
            {"stripe_invoice": ["in_1"], "stripe_invoice_payment": ["inpay_1"]},
        ),
        (
            {
                "object": "credit_note",
                "id": "cn_1",
                "invoice": "in_1",
                "customer": "cus_1",
                "customer_balance_transaction": "cbtxn_1",
            },
            {
                "stripe_invoice": ["in_1"],
                "stripe_credit_note": ["cn_1"],
                "stripe_customer_balance_transaction": ["customer:cus_1"],
            },
        ),
        ({"object": "discount", "customer": "cus_1"}, {"stripe_customer": ["cus_1"]}),
        ({"object": "balance", "available": []}, {"stripe_balance": ["balance"]}),
        ({"object": "invoice", "id": None}, {}),  # an upcoming one
        ({"object": "payment_method", "id": "pm_1"}, {}),
    ],
)
def test_stripe(item: dict[str, Any], expected: dict[str, list[str]]) -> None:
    assert of_stripe("some.event", item) == expected


PAID_OUT = {"object": "payout", "id": "po_1", "automatic": True, "balance_transaction": "txn_1"}
INVOICE = {"object": "invoice", "id": "in_1", "customer": "cus_1", "starting_balance": 0, "ending_balance": 0}
CUSTOMER = {"object": "customer", "id": "cus_1", "balance": -500}


@pytest.mark.parametrize(
    ("kind", "more", "members"),
    [
        ("payout.reconciliation_completed", {"reconciliation_status": "completed"}, ["payout:po_1"]),
        ("payout.paid", {"reconciliation_status": "completed"}, ["payout:po_1"]),
        ("payout.paid", {}, ["payout:po_1"]),
        ("payout.failed", {"failure_balance_transaction": "txn_2"}, ["txn_2", "payout:po_1"]),
        ("payout.created", {"reconciliation_status": "in_progress"}, []),
        ("payout.paid", {"automatic": False, "reconciliation_status": "not_applicable"}, []),
        ("payout.paid", {"reconciliation_status": "not_applicable"}, []),
    ],
)
def test_an_automatic_payout_leads_to_all_that_it_paid_out(kind: str, more: dict[str, Any], members: list[str]) -> None:
    expected = {"stripe_payout": ["po_1"], "stripe_balance_transaction": ["txn_1", *members]}
    if "payout:po_1" in members:
        expected["stripe_payout_balance_transaction"] = ["payout:po_1"]
    assert of_stripe(kind, {**PAID_OUT, **more}) == expected


@pytest.mark.parametrize(
    ("kind", "item", "before", "moved"),
    [
        ("customer.updated", CUSTOMER, {"balance": 0}, True),
        ("customer.updated", CUSTOMER, {"email": None}, False),
        ("customer.created", CUSTOMER, None, True),
        ("customer.created", {**CUSTOMER, "balance": 0}, None, False),
        ("customer.deleted", CUSTOMER, None, False),
        ("invoice.finalized", {**INVOICE, "starting_balance": -500}, None, True),
        ("invoice.finalized", {**INVOICE, "customer": {"object": "customer", "id": "cus_1"}, "ending_balance": 7}, None,
         True),
        ("invoice.finalized", INVOICE, None, False),
        ("invoice.voided", INVOICE, None, True),
        ("invoice.overpaid", INVOICE, None, True),
        ("invoice.upcoming", {**INVOICE, "id": None, "starting_balance": -500}, None, False),
        ("credit_note.voided", {"object": "credit_note", "id": "cn_1", "invoice": "in_1", "customer": "cus_1"}, None,
         True),
    ],
)  # fmt: skip
def test_a_customer_whose_balance_moved_leads_to_all_that_moved_it(
    kind: str, item: dict[str, Any], before: dict[str, Any] | None, moved: bool
) -> None:
    body = json.loads(stripe_event("evt_1", kind, item))
    if before is not None:
        body["data"]["previous_attributes"] = before
    [event] = events_in("stripe", json.dumps(body).encode())
    expected = ["customer:cus_1"] if moved else None
    assert reads_of("stripe", event).get("stripe_customer_balance_transaction") == expected


@pytest.mark.parametrize(
    ("kind", "item", "expected"),
    [
        (
            "charge.succeeded",
            {"object": "charge", "id": "ch_1", "status": "succeeded", "payment_intent": "pi_1"},
            {"stripe_charge": ["ch_1"], "stripe_invoice_payment": ["payment_intent:pi_1"]},
        ),
        (
            "payment_intent.succeeded",
            {"object": "payment_intent", "id": "pi_1", "status": "succeeded"},
            {"stripe_payment_intent": ["pi_1"], "stripe_invoice_payment": ["payment_intent:pi_1"]},
        ),
        (
            "charge.failed",
            {"object": "charge", "id": "ch_1", "status": "failed", "payment_intent": "pi_1"},
            {"stripe_charge": ["ch_1"]},
        ),
        (
            "charge.succeeded",
            {"object": "charge", "id": "ch_1", "status": "succeeded", "payment_intent": None},
            {"stripe_charge": ["ch_1"]},
        ),
        (
            "invoice.created",
            {"object": "invoice", "id": "in_1", "status": "draft"},
            {
                "stripe_invoice": ["in_1"],
                "stripe_invoice_payment": ["invoice:in_1"],
                "stripe_credit_note": ["invoice:in_1"],
            },
        ),
        ("invoice.deleted", {"object": "invoice", "id": "in_1", "status": "draft"}, {"stripe_invoice": ["in_1"]}),
    ],
)
def test_payments_and_invoices_lead_to_what_joins_them(
    kind: str, item: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    assert of_stripe(kind, item) == expected


def test_another_accounts_event_asks_for_nothing() -> None:
    assert of_stripe("invoice.paid", {"object": "invoice", "id": "in_1"}, account="acct_other") == {}


@pytest.mark.parametrize(
    "source_id", [7, "in_1/../../v1/refunds", "in 1", "", "x" * 201, {"id": 3}, "payout:po_1/..", "charge:ch_1"]
)
def test_what_is_no_id_is_not_asked_for(source_id: Any) -> None:
    with pytest.raises(Unfit):
        of_stripe("invoice.paid", {"object": "invoice", "id": source_id})


def test_quickbooks_in_both_forms() -> None:
    new = [
        cloud_event("a", "1", "7"),
        cloud_event("b", "2", "8", "qbo.creditmemo.voided.v1"),
        cloud_event("c", "2", "1", "qbo.companyinfo.updated.v1"),
        cloud_event("d", "2", "9", "qbo.budget.created.v1"),
    ]
    assert of_quickbooks(new) == [
        ("1", {"quickbooks_invoice": ["7"]}),
        ("2", {"quickbooks_credit_memo": ["8"]}),
        ("2", {"quickbooks_company_info": ["2"]}),
        ("2", {}),
    ]
    old = notifications(
        ("1", [entity("Invoice", "7", "Create"), entity("BillPayment", "8", "Delete")]),
        ("2", [entity("Customer", "3", "Merge", deletedId="4"), entity("Budget", "5")]),
    )
    assert of_quickbooks(old) == [
        ("1", {"quickbooks_invoice": ["7"]}),
        ("1", {"quickbooks_bill_payment": ["8"]}),
        ("2", {"quickbooks_customer": ["3", "4"]}),
        ("2", {}),
    ]


def test_keys_are_the_vendors_or_of_the_signed_body() -> None:
    assert [event.key for event in events_in("stripe", stripe_event("evt_1"))] == ["evt_1"]
    assert [event.key for event in events_in("quickbooks", json.dumps([cloud_event("a-b", "1", "7")]).encode())] == [
        "a-b"
    ]
    old = notifications(("1", [entity("Invoice", "7"), entity("Invoice", "7"), entity("Invoice", "8")]))
    keys = [event.key for event in events_in("quickbooks", old)]
    assert len(keys) == len(set(keys)) == 2
    assert keys == [event.key for event in events_in("quickbooks", old)]
    assert {key.partition("/")[0] for key in keys}.pop().startswith("sha256:")
    again = old.replace(b"20:52:31.657Z", b"20:52:32.000Z")
    assert not {event.key for event in events_in("quickbooks", again)} & set(keys)


def test_plaid_reads_the_present_day() -> None:
    body = json.dumps(
        {"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "item1"}
    ).encode()
    [event] = events_in("plaid", body)
    assert event.type == "TRANSACTIONS.SYNC_UPDATES_AVAILABLE"
    assert reads_of("plaid", event) == {"plaid_item": ["item1"], "plaid_account": None, "plaid_transaction": None}
    [error] = events_in("plaid", body.replace(b"TRANSACTIONS", b"ITEM").replace(b"SYNC_UPDATES_AVAILABLE", b"ERROR"))
    assert reads_of("plaid", error) == {"plaid_item": ["item1"]}


@pytest.mark.parametrize(
    ("system", "body"),
    [
        ("stripe", b""),
        ("stripe", b"\xff"),
        ("stripe", b"[]"),
        ("stripe", b'{"object": "v2.core.event", "id": "evt_1", "type": "x"}'),
        ("stripe", b'{"object": "event", "id": 3, "type": "x"}'),
        ("quickbooks", b"{}"),
        ("quickbooks", b"[]"),
        ("quickbooks", b'[{"id": "a"}]'),
        ("quickbooks", b'{"eventNotifications": [{"realmId": "1"}]}'),
        ("quickbooks", b"[" * 5_000),
        ("plaid", b'{"webhook_type": "ITEM"}'),
    ],
)
def test_a_body_in_no_known_form_is_one_unreadable_event(system: str, body: bytes) -> None:
    [event] = events_in(system, body)
    assert event.type == UNREADABLE
    assert event.key.startswith("sha256:")


def test_many_events_become_one_read_of_each_object() -> None:
    together = merged([{"a": ["1", "2"]}, {"a": ["2", "3"], "b": None}, {"b": ["9"]}, {"c": ["1"]}])
    assert together == {"a": ["1", "2", "3"], "b": None, "c": ["1"]}
    assert count(together) == 5


def test_printing_an_event_shows_nothing_of_its_content() -> None:
    [event] = events_in("stripe", stripe_event("evt_1"))
    assert "jane@example.com" not in repr(event)
    assert isinstance(event, Event)
