"""What the sandbox's QuickBooks and Plaid send as webhooks, taken by the real receiver over a socket into its inbox."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import jsonschema_rs
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from finance_os.artifacts import schemas
from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sandbox.plaid import PlaidRoom
from finance_os.sandbox.process import running_sandbox
from finance_os.sandbox.quickbooks import QuickBooksRoom
from finance_os.sandbox.quickbooks.webhooks import Webhooks
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.store import put_plan
from finance_os.webhooks import plaid_keys
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.walk import request_reads
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import books, served, story
from finance_os_tests.web.conftest import Browse, browse

from .conftest import UNTIL
from .test_quickbooks import world

__all__ = ["browse"]

CUSTOMER = {"DisplayName": "Acorn Games"}


def events(database: Database) -> list[dict[str, Any]]:
    return database.fetch(
        """
        SELECT business_id, source_system, event_type, event_key, deliveries, state
        FROM finance_os.webhook_events ORDER BY event_number
        """
    )


def refused(database: Database) -> dict[str, int]:
    return {
        row["reason"]: row["count"] for row in database.fetch("SELECT reason, count FROM finance_os.webhook_refusals")
    }


@dataclass
class Listener:
    """An endpoint that keeps what comes, and answers as it is told to; 200 after that."""

    answers: list[int] = field(default_factory=list)
    came: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        self.came.append((await request.body(), dict(request.headers)))
        return Response(status_code=self.answers.pop(0) if self.answers else 200)

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for body, _ in self.came]


@contextmanager
def listening(*answers: int) -> Iterator[tuple[str, Listener]]:
    listener = Listener(list(answers))
    app = Starlette(routes=[Route("/hook", listener.take, methods=["POST"])])
    with served(lambda: app) as (address, _):
        yield f"{address}/hook", listener


def changed(room: QuickBooksRoom | PlaidRoom, action: str, **what: Any) -> Any:
    return asyncio.run(room.change(action, what))


# --- QuickBooks


@pytest.fixture
def room() -> QuickBooksRoom:
    return QuickBooksRoom(world(days=3, size=1))


def receiver(
    browse: Browse, database: Database, source: str, business: str = "acme", secret_reference: str = "env"
) -> tuple[str, Connection]:
    """Where the webhooks of a connection of a business are taken."""
    connection = ensure_connection(database, business, source, secret_reference=secret_reference)
    return f"{browse(database).base_url}/webhooks/{business}/{source}/{connection.connection_id}", connection


@pytest.mark.parametrize(
    ("form", "type_of"),
    [
        ("cloudevents", lambda name, past, _: f"qbo.{name.lower()}.{past}.v1"),
        ("notifications", lambda name, _, operation: f"{name}.{operation}"),
    ],
    ids=["cloudevents", "notifications"],
)
def test_what_is_done_in_quickbooks_arrives_in_the_inbox(
    room: QuickBooksRoom,
    database: Database,
    acme: Connection,
    browse: Browse,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    type_of: Callable[[str, str, str], str],
) -> None:
    url, connection = receiver(browse, database, "quickbooks")
    given = changed(room, "subscribe", url=url, form=form)
    environment = room.env("http://127.0.0.1:1")
    assert environment["FINANCE_OS_QUICKBOOKS_WEBHOOK_VERIFIER"] == given["verifier"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = changed(room, "create", entity="Customer", body=CUSTOMER)
    changed(room, "update", entity="Customer", body={"Id": made["Id"], "CompanyName": "Acorn"})
    line = {
        "Amount": Decimal("10.00"),
        "DetailType": "SalesItemLineDetail",
        "SalesItemLineDetail": {"ItemRef": {"value": "1"}},
    }
    sold = changed(room, "create", entity="Invoice", body={"CustomerRef": {"value": made["Id"]}, "Line": [line]})
    changed(room, "void", entity="Invoice", body={"Id": sold["Id"]})
    changed(room, "delete", entity="Invoice", body={"Id": sold["Id"]})
    told = [row["event_type"] for row in events(database)]
    assert told[:2] == [type_of("Customer", "created", "Create"), type_of("Customer", "updated", "Update")]
    for past, operation in (("created", "Create"), ("voided", "Void"), ("deleted", "Delete")):
        assert told.count(type_of("Invoice", past, operation)) == 1
    assert refused(database) == {}
    assert room.app.webhooks is not None
    assert (room.app.webhooks.endpoint.failed, room.app.webhooks.endpoint.delivered >= 5) == (0, True)
    [request] = request_reads(database, WebhookSettings())
    assert request.connection == connection
    assert request.reads["quickbooks_customer"] == [made["Id"]]
    assert request.reads["quickbooks_invoice"] == [sold["Id"]]
    changed(room, "rate_limits")
    assert len(events(database)) == len(told), "what changes nothing is not told of"


def test_bodies_are_as_intuit_writes_and_signs_them(room: QuickBooksRoom) -> None:
    judge = jsonschema_rs.Draft202012Validator(schemas.schema("webhook_quickbooks"))
    with listening() as (url, listener):
        for form in ("cloudevents", "notifications"):
            verifier = changed(room, "subscribe", url=url, form=form)["verifier"]
            changed(room, "create", entity="Customer", body={"DisplayName": f"Acorn {form}"})
        for body, headers in listener.came:
            expected = base64.b64encode(hmac.digest(verifier.encode(), body, hashlib.sha256)).decode()
            assert headers["intuit-signature"] == expected
            assert b"Acorn" not in body, "they say which object, and nothing of what is in it"
        first, second = listener.bodies
    judge.validate(first)
    judge.validate(second)
    [event] = first
    assert (event["specversion"], event["datacontenttype"], event["data"]) == ("1.0", "application/json", {})
    assert event["intuitaccountid"] == room.realm_id
    [notified] = second["eventNotifications"]
    [entity] = notified["dataChangeEvent"]["entities"]
    assert (notified["realmId"], entity["name"], entity["operation"]) == (room.realm_id, "Customer", "Create")


def test_several_companies_are_in_one_body_and_each_event_goes_to_its_own(
    database: Database, acme: Connection, globex: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = [QuickBooksRoom(world(days=3, size=1, seed=seed)) for seed in (1, 2)]
    assert rooms[0].realm_id != rooms[1].realm_id
    url, _ = receiver(browse, database, "quickbooks")
    receiver(browse, database, "quickbooks", "globex", "env:GLOBEX_")
    app = Webhooks(url)
    for each, prefix in zip(rooms, ("", "GLOBEX_"), strict=True):
        each.tell(app)
        for name, value in each.env("http://127.0.0.1:1").items():
            monkeypatch.setenv(prefix + name, value)
    for each in rooms:
        each.realm.create("Customer", CUSTOMER, free=True)
    [*changes] = app.changes()
    assert {change.realm_id for change in changes} == {each.realm_id for each in rooms}
    for each in rooms:
        each.realm.create("Vendor", {"DisplayName": "Paper"}, free=True)
    asyncio.run(app.deliver())
    assert app.endpoint.delivered == 1
    assert sorted((row["business_id"], row["event_type"]) for row in events(database)) == [
        ("acme", "qbo.vendor.created.v1"),
        ("globex", "qbo.vendor.created.v1"),
    ]


def test_a_wrong_verifier_is_refused_and_nothing_kept(
    room: QuickBooksRoom, database: Database, acme: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = receiver(browse, database, "quickbooks")
    changed(room, "subscribe", url=url)
    for name, value in room.env("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FINANCE_OS_QUICKBOOKS_WEBHOOK_VERIFIER", "another")
    changed(room, "create", entity="Customer", body=CUSTOMER)
    assert (events(database), refused(database)) == ([], {"signature_wrong": 3})
    assert room.app.webhooks is not None
    assert (room.app.webhooks.endpoint.delivered, room.app.webhooks.endpoint.failed) == (0, 1)


def test_what_is_not_taken_is_sent_again(room: QuickBooksRoom) -> None:
    with listening(500, 503) as (url, listener):
        changed(room, "subscribe", url=url)
        changed(room, "create", entity="Customer", body=CUSTOMER)
    assert len(listener.came) == 3
    assert len({body for body, _ in listener.came}) == 1
    assert room.app.webhooks is not None
    assert (room.app.webhooks.endpoint.delivered, room.app.webhooks.endpoint.failed) == (1, 0)


def test_what_the_export_writes_is_told_of(
    database: Database, acme: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = receiver(browse, database, "quickbooks")
    with books() as company:
        company.change("subscribe", url=url)
        for name, value in company.room.env("http://127.0.0.1:1").items():
            monkeypatch.setenv(name, value)
        approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
        put_plan(database, "acme", company.realm, story(company, 1, "told"))
        with company.writer() as writer:
            apply(database, writer, "acme", company.realm)
        wanted = {f"qbo.{name}.created.v1" for name in ("customer", "invoice", "payment", "deposit")}
        until = time.monotonic() + 10
        while not wanted <= {row["event_type"] for row in events(database)} and time.monotonic() < until:
            time.sleep(0.02)
        assert wanted <= {row["event_type"] for row in events(database)}


# --- Plaid


@dataclass
class Bank:
    """A Plaid room behind a socket, whose webhooks are taken by the app."""

    room: PlaidRoom
    base: str
    url: str
    connection: Connection

    def ask(self, path: str, **what: Any) -> dict[str, Any]:
        keys = {"client_id": self.room.client_id, "secret": self.room.secret}
        return httpx.post(self.base + path, json={**keys, **what}).json()


@pytest.fixture
def bank(database: Database, acme: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bank]:
    plaid_keys.forget()
    room = PlaidRoom(world(days=20, size=2))
    url, connection = receiver(browse, database, "plaid")
    with ExitStack() as stack:
        address, _ = stack.enter_context(served(lambda: Starlette(routes=[Mount("/c0/plaid", app=room.app)])))
        for name, value in room.env(f"{address}/c0/plaid").items():
            monkeypatch.setenv(name, value)
        yield Bank(room, f"{address}/c0/plaid", url, connection)
    plaid_keys.forget()


def types(database: Database) -> list[str]:
    return [row["event_type"] for row in events(database)]


def test_what_the_bank_does_arrives_in_the_inbox(bank: Bank, database: Database) -> None:
    changed(bank.room, "subscribe", url=bank.url)
    gone = changed(bank.room, "list")[0]
    changed(bank.room, "remove_transaction", id=gone)
    assert sorted(types(database)) == ["TRANSACTIONS.SYNC_UPDATES_AVAILABLE", "TRANSACTIONS.TRANSACTIONS_REMOVED"]
    changed(bank.room, "item_error", on=True)
    changed(bank.room, "item_error", on=False)
    assert types(database)[2:] == ["ITEM.ERROR", "ITEM.LOGIN_REPAIRED"]
    assert refused(database) == {}
    [request] = request_reads(database, WebhookSettings())
    assert request.reads == {
        "plaid_item": [bank.room.item_id],
        "plaid_account": None,
        "plaid_transaction": None,
    }
    judge = jsonschema_rs.Draft202012Validator(schemas.schema("webhook_plaid"))
    bodies = database.fetch("SELECT convert_from(body, 'UTF8') AS body FROM finance_os.webhook_bodies")
    for row in bodies:
        judge.validate(json.loads(row["body"]))


def test_the_same_said_again_is_read_again(bank: Bank, database: Database) -> None:
    """Plaid's word that there is something new is the same word each time."""
    changed(bank.room, "subscribe", url=bank.url)
    changed(bank.room, "add_transaction", date="2026-07-01", amount="1.00", name="Tea")
    bank.room.webhooks._clock = lambda: time.time() + 1  # a second later
    changed(bank.room, "add_transaction", date="2026-07-01", amount="2.00", name="Cake")
    assert types(database).count("TRANSACTIONS.SYNC_UPDATES_AVAILABLE") == 2


def test_the_worlds_move_is_told_of(bank: Bank, database: Database) -> None:
    changed(bank.room, "subscribe", url=bank.url)
    bank.room.world.advance_to(bank.room.world.when + timedelta(days=7))
    bank.room.follow()
    asyncio.run(bank.room.deliver())
    assert "TRANSACTIONS.SYNC_UPDATES_AVAILABLE" in types(database)
    assert "TRANSACTIONS.DEFAULT_UPDATE" in types(database)


def test_a_key_that_was_changed_is_asked_for_and_the_old_one_signs_nothing(bank: Bank, database: Database) -> None:
    changed(bank.room, "subscribe", url=bank.url)
    changed(bank.room, "item_error", on=True)
    old = bank.room.webhooks._keys[0]
    changed(bank.room, "rotate_key")
    changed(bank.room, "item_error", on=False)
    assert types(database) == ["ITEM.ERROR", "ITEM.LOGIN_REPAIRED"]
    plaid_keys.forget()
    body = b'{"webhook_type":"ITEM","webhook_code":"ERROR","item_id":"x"}'
    answer = httpx.post(bank.url, content=body, headers={"plaid-verification": old.sign(body, int(time.time()))})
    assert (answer.status_code, answer.json()) == (400, {"error": "signature_wrong"})


def test_another_items_key_an_old_jwt_and_another_body_are_refused(bank: Bank, database: Database) -> None:
    stranger = PlaidRoom(world(days=3, size=1, seed=9)).webhooks._keys[0]
    own = bank.room.webhooks._keys[0]
    forger = PlaidRoom(world(days=3, size=1, seed=8)).webhooks._keys[0]
    forger.id = own.id
    body, now = b'{"webhook_type":"ITEM","webhook_code":"ERROR","item_id":"x"}', int(time.time())
    for signed, reason in (
        (stranger.sign(body, now), "signature_wrong"),
        (own.sign(body, now - 400), "signature_old"),
        (own.sign(body + b" ", now), "signature_wrong"),
        (forger.sign(body, now), "signature_wrong"),
    ):
        answer = httpx.post(bank.url, content=body, headers={"plaid-verification": signed})
        assert (answer.status_code, answer.json()["error"]) == (400, reason)
    assert (events(database), refused(database)) == ([], {"signature_wrong": 3, "signature_old": 1})


def test_the_url_is_set_and_a_webhook_fired_as_at_plaid(bank: Bank, database: Database) -> None:
    token = bank.room.access_token
    code = {"webhook_code": "SYNC_UPDATES_AVAILABLE"}
    assert bank.ask("/sandbox/item/fire_webhook", access_token=token, **code)["error_code"] == "SANDBOX_WEBHOOK_INVALID"
    assert bank.ask("/item/get", access_token=token)["item"]["webhook"] == ""
    assert bank.ask("/item/webhook/update", access_token=token, webhook=bank.url)["item"]["webhook"] == bank.url
    assert bank.ask("/sandbox/item/fire_webhook", access_token=token, **code)["webhook_fired"] is True
    until = time.monotonic() + 10
    while not events(database) and time.monotonic() < until:
        time.sleep(0.02)
    assert types(database) == ["TRANSACTIONS.SYNC_UPDATES_AVAILABLE"]
    found = bank.ask("/item/get", access_token=token)
    assert found["status"]["last_webhook"]["code_sent"] == "SYNC_UPDATES_AVAILABLE"
    assert bank.ask("/webhook_verification_key/get", key_id="made-up")["error_code"] == (
        "INVALID_WEBHOOK_VERIFICATION_KEY_ID"
    )
    assert bank.ask("/item/webhook/update", access_token=token, webhook="ftp://x")["error_code"] == "INVALID_FIELD"
    assert bank.ask("/webhook_verification_key/get")["error_code"] == "MISSING_FIELDS"


# --- the whole sandbox, as a process


def test_the_sandbox_is_told_where_to_send_when_it_starts() -> None:
    with (
        listening() as (url, listener),
        running_sandbox(
            seed=3,
            days=10,
            size=2,
            until=UNTIL,
            accounts=2,
            rooms=["quickbooks", "plaid"],
            quickbooks_webhook_url=url,
            plaid_webhook_urls=[url],
        ) as running,
    ):
        assert running.env["FINANCE_OS_QUICKBOOKS_WEBHOOK_VERIFIER"]
        assert running.others[0]["FINANCE_OS_QUICKBOOKS_WEBHOOK_VERIFIER"]
        for account in (0, 1):
            running.room("quickbooks", "create", account=account, entity="Customer", body=CUSTOMER)
            running.room("plaid", "item_error", account=account, on=True)
        sent = [headers for _, headers in listener.came]
        assert sum("intuit-signature" in headers for headers in sent) == 2
        assert sum("plaid-verification" in headers for headers in sent) == 1
        running.advance_to(UNTIL + timedelta(days=10))
        assert sum("plaid-verification" in headers for _, headers in listener.came) > 1
