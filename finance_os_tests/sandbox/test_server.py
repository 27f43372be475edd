"""The sandbox as a process: its clock, scripted faults, changed objects, webhooks, limits, and how it leaves."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import stripe

from finance_os.sandbox.process import Running, running_sandbox
from finance_os.sandbox.webhooks import sign

from . import stripe_schemas
from .conftest import UNTIL, connect, http


@pytest.fixture
def faulty(sandbox: Running) -> Iterator[Running]:
    """The shared sandbox, without any fault afterwards."""
    yield sandbox
    sandbox.clear_faults()


# --- faults


@pytest.mark.parametrize(
    ("kind", "raised"), [("429", stripe.RateLimitError), ("500", stripe.APIError), ("403", stripe.PermissionError)]
)
def test_scripted_errors_are_stripes(faulty: Running, kind: str, raised: type[Exception]) -> None:
    faulty.script({"path": "/v1/customers", "kind": kind, "on": 2, "times": 2})
    client = connect(faulty.env)
    client.v1.customers.list()
    for _ in range(2):
        with pytest.raises(raised):
            client.v1.customers.list()
    client.v1.customers.list()
    faulty.script({"path": "/v1/*", "kind": kind})
    with http(faulty) as raw:
        assert stripe_schemas.error_faults(raw.get("/v1/charges").json()) == []


def test_the_sdk_retries_what_it_is_told_to(faulty: Running) -> None:
    faulty.script({"path": "/v1/customers", "kind": "429", "headers": {"Stripe-Should-Retry": "true"}})
    assert connect(faulty.env, retries=2).v1.customers.list().data
    faulty.script({"path": "/v1/customers", "kind": "429"})
    with pytest.raises(stripe.RateLimitError):
        connect(faulty.env, retries=2).v1.customers.list()


def test_a_truncated_answer_is_no_json(faulty: Running) -> None:
    faulty.script({"path": "/v1/charges", "kind": "truncated"})
    with http(faulty) as raw:
        answer = raw.get("/v1/charges")
        assert answer.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            answer.json()
        assert raw.get("/v1/charges").json()["data"]


def test_a_page_comes_twice(faulty: Running) -> None:
    faulty.script({"path": "/v1/charges", "kind": "duplicate_page", "on": 2})
    with http(faulty) as raw:
        first = raw.get("/v1/charges").json()
        after = {"starting_after": first["data"][-1]["id"]}
        assert raw.get("/v1/charges", params=after).content == json_bytes(first)
        third = raw.get("/v1/charges", params=after).json()
        assert not {item["id"] for item in first["data"]} & {item["id"] for item in third["data"]}


def json_bytes(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def test_the_other_account_never_sees_a_page_that_comes_twice(faulty: Running) -> None:
    faulty.script({"path": "/v1/charges", "kind": "duplicate_page", "on": 2})
    [second] = faulty.others
    with http(faulty) as ours, http(faulty, second["FINANCE_OS_STRIPE_API_KEY"]) as theirs:
        assert ours.get("/v1/charges").json() != theirs.get("/v1/charges").json()


def test_slow_hanging_and_dropped_answers(faulty: Running) -> None:
    faulty.script({"path": "/v1/balance", "kind": "slow", "delay": 0.3})
    with http(faulty) as raw:
        began = time.monotonic()
        assert raw.get("/v1/balance").status_code == 200
        assert time.monotonic() - began >= 0.3
        faulty.script({"path": "/v1/balance", "kind": "timeout", "times": 2, "delay": 0.5})
        with pytest.raises(httpx.ReadTimeout):
            raw.get("/v1/balance", timeout=0.2)
        with pytest.raises(httpx.RemoteProtocolError):
            raw.get("/v1/balance")
        faulty.script({"path": "/v1/balance", "kind": "drop_connection"})
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            raw.get("/v1/balance")
        assert raw.get("/v1/balance").status_code == 200


def test_rules_are_checked(faulty: Running) -> None:
    with pytest.raises(RuntimeError, match="meteor"):
        faulty.script({"path": "/v1/*", "kind": "meteor"})
    with pytest.raises(RuntimeError, match="unknown field"):
        faulty.script({"path": "/v1/*", "kind": "500", "nth": 3})


# --- counted requests and limits


def test_requests_are_counted_and_writes_told_apart(own_sandbox: Running) -> None:
    with http(own_sandbox) as raw:
        raw.get("/v1/customers")
        raw.get("/v1/customers", params={"limit": 1})
        raw.post("/v1/customers", content=b"name=x")
    counted = own_sandbox.call("GET", "/requests")
    assert (counted["total"], counted["writes"]) == (3, 1)
    assert {"method": "GET", "path": "/v1/customers", "count": 2} in counted["requests"]
    own_sandbox.call("DELETE", "/requests")
    assert own_sandbox.call("GET", "/requests")["total"] == 0


def test_the_rate_limit_answers_429(own_sandbox: Running) -> None:
    own_sandbox.call("POST", "/rate-limit", {"requests_per_second": 5})
    with http(own_sandbox) as raw:
        answers = [raw.get("/v1/balance") for _ in range(12)]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert 5 <= len(limited) <= 7
        assert stripe_schemas.error_faults(limited[0].json()) == []
        assert limited[0].json()["error"]["code"] == "rate_limit"
        assert limited[0].headers["stripe-rate-limited-reason"] == "global-rate"
        own_sandbox.call("POST", "/rate-limit", {"requests_per_second": None})
        assert raw.get("/v1/balance").status_code == 200


# --- the clock and changed objects


def test_the_clock_moves_everything_on(own_sandbox: Running) -> None:
    with http(own_sandbox) as raw:
        pending = raw.get("/v1/balance_transactions", params={"limit": 100}).json()["data"]
        pending = [item for item in pending if item["status"] == "pending"]
        assert pending
        own_sandbox.advance_to(UNTIL + timedelta(days=12))
        for item in pending:
            later = raw.get(f"/v1/balance_transactions/{item['id']}").json()
            assert later == {**item, "status": "available"}
        news = raw.get("/v1/events", params={"limit": 100}).json()["data"]
        assert news[0]["created"] > UNTIL.timestamp()
    with pytest.raises(RuntimeError, match="does not go back"):
        own_sandbox.advance_to(UNTIL)


def test_objects_change_with_stripes_event(own_sandbox: Running) -> None:
    own_sandbox.advance_to(UNTIL + timedelta(hours=1))
    with http(own_sandbox) as raw:

        def last_event() -> dict[str, Any]:
            event = raw.get("/v1/events", params={"limit": 1}).json()["data"][0]
            assert stripe_schemas.object_faults(event) == []
            return event

        customer = raw.get("/v1/customers", params={"limit": 1}).json()["data"][0]
        changed = own_sandbox.change("update", id=customer["id"], values={"name": "Renamed", "tax_exempt": "exempt"})
        assert changed == {**customer, "name": "Renamed", "tax_exempt": "exempt"}
        event = last_event()
        assert (event["type"], event["data"]["object"]) == ("customer.updated", changed)
        assert event["data"]["previous_attributes"] == {"name": customer["name"], "tax_exempt": "none"}

        own_sandbox.change("update", id=customer["id"], values={"name": "Quietly"}, silent=True)
        assert raw.get(f"/v1/customers/{customer['id']}").json()["name"] == "Quietly"
        assert last_event() == event

        assert own_sandbox.change("touch", id=customer["id"])["name"] == "Quietly"
        assert last_event()["id"] != event["id"]

        own_sandbox.change("credit", id=customer["id"], amount=-700)
        assert last_event()["data"]["object"]["balance"] == customer["balance"] - 700
        moved = raw.get(f"/v1/customers/{customer['id']}/balance_transactions").json()["data"][0]
        assert (moved["amount"], moved["ending_balance"]) == (-700, customer["balance"] - 700)

        invoice = raw.get("/v1/invoices", params={"limit": 1}).json()["data"][0]
        changed = own_sandbox.change("update", id=invoice["id"], values={"metadata": {"note": "x"}})
        assert changed["metadata"] == {"note": "x"}
        assert last_event()["type"] == "invoice.updated"
        emptied = {**invoice["lines"], "data": []}
        assert own_sandbox.change("update", id=invoice["id"], values={"lines": emptied})["lines"] == emptied

        own_sandbox.change("delete", id=customer["id"])
        event = last_event()
        assert (event["type"], event["data"]["object"]["name"]) == ("customer.deleted", "Quietly")
        assert raw.get(f"/v1/customers/{customer['id']}").json()["deleted"] is True

        made = own_sandbox.change("create", kind="customer", values={"name": "Brand New"})
        assert (made["name"], last_event()["type"]) == ("Brand New", "customer.created")

    with pytest.raises(RuntimeError, match="has no"):
        own_sandbox.change("update", id=invoice["id"], values={"colour": "red"})
    with pytest.raises(RuntimeError, match="no object"):
        own_sandbox.change("touch", id="cus_nobody")


def test_a_deleted_draft_is_gone(own_sandbox: Running) -> None:
    monday = UNTIL + timedelta(days=5 - UNTIL.weekday() + 2)
    with http(own_sandbox) as raw:
        drafts: list[dict[str, Any]] = []
        for minutes in range(0, 300, 20):
            own_sandbox.advance_to(monday.replace(hour=6, minute=0) + timedelta(minutes=minutes))
            drafts = raw.get("/v1/invoices", params={"status": "draft"}).json()["data"]
            if drafts:
                break
        assert drafts
        own_sandbox.change("delete", id=drafts[0]["id"])
        assert raw.get(f"/v1/invoices/{drafts[0]['id']}").status_code == 404
        assert raw.get("/v1/events", params={"limit": 1}).json()["data"][0]["type"] == "invoice.deleted"
        own_sandbox.advance_to(monday + timedelta(days=20))


# --- webhooks


@contextmanager
def receiver(failures: int = 0) -> Iterator[tuple[str, list[tuple[bytes, str]]]]:
    """An endpoint that answers 500 to its first `failures` calls and keeps the rest."""
    kept: list[tuple[bytes, str]] = []
    lock = threading.Lock()
    left = [failures]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with lock:
                fail = left[0] > 0
                left[0] -= fail
                if not fail:
                    kept.append((body, self.headers["stripe-signature"]))
            self.send_response(500 if fail else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name it has)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/webhooks/stripe", kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_new_events_are_delivered_signed(sandbox: Running) -> None:
    with receiver(failures=2) as (url, kept), running_sandbox(days=20, size=4, until=UNTIL, webhook_url=url) as running:
        assert kept == []
        running.advance_to(UNTIL + timedelta(days=6))
        secret = running.env["FINANCE_OS_STRIPE_WEBHOOK_SECRET"]
        received = {stripe.Webhook.construct_event(body, header, secret).id for body, header in kept}  # pyright: ignore[reportUnknownMemberType]
        with http(running) as raw:
            query = {"limit": 100, "created[gt]": int(UNTIL.timestamp())}
            listed = raw.get("/v1/events", params=query).json()["data"]
        assert listed
        assert received == {event["id"] for event in listed}
        assert {event["pending_webhooks"] for event in listed} == {1}
        assert running.call("GET", "/health")["accounts"][0]["webhook"] == {"delivered": len(listed), "failed": 0}


def test_the_signature_is_stripes_own() -> None:
    payload, secret, now = b'{"id":"evt_1","object":"event"}', "whsec_test", int(time.time())
    header = sign(payload, secret, now)
    assert header == stripe.WebhookSignature.generate_signature_header(payload.decode(), secret, now)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(payload + b" ", header, secret)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(payload, sign(payload, secret, now - 400), secret)


# --- the process


def start(*options: str, stdin: int | None = None) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "finance_os.sandbox", "--days", "5", "--size", "2", *options],
        stdout=subprocess.PIPE,
        stdin=stdin,
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_within_a_second_even_while_a_request_hangs(number: int) -> None:
    process, ready = start()
    base = ready["FINANCE_OS_STRIPE_API_BASE"]
    httpx.post(f"{ready['admin']}/faults", json=[{"path": "*", "kind": "timeout"}])
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(httpx.get(f"{base}/v1/balance")))
    waiting.start()
    time.sleep(0.2)
    began = time.monotonic()
    assert waiting.is_alive()
    process.send_signal(number)
    process.wait(5)
    assert time.monotonic() - began < 1
    waiting.join(5)
    assert [answer.status_code for answer in answers if answer.is_success] == []
    assert not waiting.is_alive()
    assert process.stdout is not None
    process.stdout.close()


def test_it_leaves_with_its_parent() -> None:
    process, _ = start("--exit-with-parent", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    assert process.wait(1) in (0, -signal.SIGTERM)
    process.stdout.close()


def test_a_sandbox_that_cannot_start_says_so() -> None:
    with pytest.raises(RuntimeError, match="before it was ready"), running_sandbox(size=0):
        pass
