"""The receiver over a real socket: what is kept, what is refused, and what survives."""

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.webhooks.settings import MAX_BODY_BYTES
from finance_os_tests.web.conftest import Browse
from finance_os_tests.webhooks.senders import (
    INTUIT_HEADER,
    STRIPE_HEADER,
    STRIPE_SECRET,
    VERIFIER,
    cloud_event,
    entity,
    intuit_header,
    notifications,
    stripe_event,
    stripe_header,
)


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acme's secrets; globex has none unless a test sets them."""
    for name in [name for name in os.environ if "WEBHOOK" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FINANCE_OS_STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
    monkeypatch.setenv("FINANCE_OS_QUICKBOOKS_WEBHOOK_VERIFIER", VERIFIER)
    monkeypatch.setenv("FINANCE_OS_QUICKBOOKS_REALM_ID", "1001")


def place(connection: Connection) -> str:
    return f"/webhooks/{connection.business_id}/{connection.source_system}/{connection.connection_id}"


def send(client: httpx.Client, connection: Connection, body: bytes, header: str | None = None) -> httpx.Response:
    """Send a delivery, signed unless a header is given."""
    if connection.source_system == "stripe":
        headers = {STRIPE_HEADER: stripe_header(body) if header is None else header}
    else:
        headers = {INTUIT_HEADER: intuit_header(body) if header is None else header}
    return client.post(place(connection), content=body, headers=headers)


def kept(database: Database) -> list[dict[str, Any]]:
    return database.fetch(
        """
        SELECT business_id, event.connection_id, event_key, event_type, deliveries, state, body
        FROM finance_os.webhook_events AS event JOIN finance_os.webhook_bodies USING (body_id, business_id)
        ORDER BY event_number
        """
    )


def refused(database: Database) -> dict[tuple[int | None, str], int]:
    rows = database.fetch("SELECT connection_id, reason, count FROM finance_os.webhook_refusals")
    return {(row["connection_id"], row["reason"]): row["count"] for row in rows}


# --- what is kept


def test_an_event_is_kept_once_byte_for_byte(database: Database, acme: Connection, browse: Browse) -> None:
    client = browse(database)
    body = stripe_event("evt_1").replace(b'"in_1"', b'"in_1"   ') + b"\n"
    first, second = send(client, acme, body), send(client, acme, body)
    assert (first.status_code, first.json()) == (200, {"stored": 1, "known": 0, "unknown_realm": 0})
    assert (second.status_code, second.json()) == (200, {"stored": 0, "known": 1, "unknown_realm": 0})
    [event] = kept(database)
    assert event["body"] == body
    assert (event["event_key"], event["event_type"], event["deliveries"]) == ("evt_1", "invoice.paid", 2)
    assert (event["connection_id"], event["state"]) == (acme.connection_id, "received")
    other_words = stripe_event("evt_1", pending_webhooks=0)
    assert send(client, acme, other_words).json()["known"] == 1
    assert len(kept(database)) == 1
    assert len(database.fetch("SELECT FROM finance_os.webhook_bodies")) == 1
    assert refused(database) == {}
    assert "content-security-policy" in first.headers


def test_two_businesses_with_the_same_event_do_not_meet(
    database: Database, acme: Connection, globex: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browse(database)
    body = stripe_event("evt_1")
    assert send(client, acme, body).status_code == 200
    # Another business's secret opens nothing: not even where this one has none of its own.
    answer = send(client, globex, body)
    assert (answer.status_code, answer.json()) == (503, {"error": "secret_not_set"})
    monkeypatch.setenv("GLOBEX_FINANCE_OS_STRIPE_WEBHOOK_SECRET", "whsec_globex")
    assert send(client, globex, body).json() == {"error": "signature_wrong"}
    assert send(client, globex, body, stripe_header(body, "whsec_globex")).json()["stored"] == 1
    assert [row["business_id"] for row in kept(database)] == ["acme", "globex"]


def test_two_secrets_at_once(
    database: Database, acme: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINANCE_OS_STRIPE_WEBHOOK_SECRET", "whsec_new,whsec_old")
    client = browse(database)
    for number, secret in enumerate(("whsec_new", "whsec_old")):
        body = stripe_event(f"evt_{number}")
        assert send(client, acme, body, stripe_header(body, secret)).status_code == 200
    monkeypatch.setenv("FINANCE_OS_STRIPE_WEBHOOK_SECRET", "a,b,c")
    assert send(client, acme, stripe_event("evt_9")).json() == {"error": "secret_not_set"}


def test_a_signed_body_in_no_known_form_is_kept_to_be_looked_at(
    database: Database, acme: Connection, browse: Browse
) -> None:
    assert send(browse(database), acme, b"{").status_code == 200
    assert [row["event_type"] for row in kept(database)] == ["unreadable"]


def test_several_companies_in_one_body_go_each_to_its_own_connection(
    database: Database, acme: Connection, globex: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ensure_connection(database, "acme", "quickbooks")
    theirs = ensure_connection(database, "globex", "quickbooks", secret_reference="env:GLOBEX_")
    closed = ensure_connection(database, "globex", "quickbooks", "closed", secret_reference="env:SHUT_", active=False)
    monkeypatch.setenv("GLOBEX_FINANCE_OS_QUICKBOOKS_REALM_ID", "2002")
    monkeypatch.setenv("SHUT_FINANCE_OS_QUICKBOOKS_REALM_ID", "3003")
    client = browse(database)
    body = json.dumps(
        [cloud_event("a", "1001", "7"), cloud_event("b", "2002", "8"), cloud_event("c", "3003", "9")]
    ).encode()
    # Globex's connection has no verifier of its own yet: nothing says that the app is its own, too.
    assert send(client, ours, body).json() == {"stored": 1, "known": 0, "unknown_realm": 2}
    monkeypatch.setenv("GLOBEX_FINANCE_OS_QUICKBOOKS_WEBHOOK_VERIFIER", "another app's")
    assert send(client, ours, body).json() == {"stored": 0, "known": 1, "unknown_realm": 2}
    monkeypatch.setenv("GLOBEX_FINANCE_OS_QUICKBOOKS_WEBHOOK_VERIFIER", VERIFIER)
    assert send(client, ours, body).json() == {"stored": 1, "known": 1, "unknown_realm": 1}
    events = database.fetch("SELECT business_id, connection_id, event_key FROM finance_os.webhook_events ORDER BY 3")
    assert [tuple(row.values()) for row in events] == [
        ("acme", ours.connection_id, "a"),
        ("globex", theirs.connection_id, "b"),
    ]
    assert refused(database) == {(ours.connection_id, "unknown_realm"): 5}
    assert send(client, closed, body).status_code == 400


def test_the_older_form_is_one_event_for_each_entity(database: Database, acme: Connection, browse: Browse) -> None:
    ours = ensure_connection(database, "acme", "quickbooks")
    client = browse(database)
    body = notifications(
        ("1001", [entity("Invoice", "7"), entity("Payment", "8", "Create")]), ("9009", [entity("Invoice", "7")])
    )
    assert send(client, ours, body).json() == {"stored": 2, "known": 0, "unknown_realm": 1}
    assert send(client, ours, body).json() == {"stored": 0, "known": 2, "unknown_realm": 1}
    assert [row["event_type"] for row in kept(database)] == ["Invoice.Update", "Payment.Create"]
    assert len(database.fetch("SELECT FROM finance_os.webhook_bodies")) == 1


# --- what is refused


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (stripe_header(b"another body"), "signature_wrong"),
        ("t=1,v1=00", "signature_wrong"),
        ("nonsense", "signature_malformed"),
        ("", "signature_missing"),
    ],
    ids=["of another body", "of another secret", "nonsense", "none"],
)
def test_a_wrong_signature_keeps_nothing_but_a_count(
    database: Database, acme: Connection, browse: Browse, header: str, reason: str
) -> None:
    client = browse(database)
    for _ in range(2):
        answer = send(client, acme, stripe_event("evt_1"), header)
        assert (answer.status_code, answer.json()) == (400, {"error": reason})
    assert kept(database) == []
    assert database.fetch("SELECT FROM finance_os.webhook_bodies") == []
    assert refused(database) == {(acme.connection_id, reason): 2}


def test_an_old_delivery_is_refused(database: Database, acme: Connection, browse: Browse) -> None:
    body = stripe_event("evt_1")
    answer = send(browse(database), acme, body, stripe_header(body, at=int(time.time()) - 301))
    assert (answer.status_code, answer.json()) == (400, {"error": "signature_old"})


def test_an_address_that_leads_to_no_connection(
    database: Database, acme: Connection, globex: Connection, browse: Browse
) -> None:
    client = browse(database)
    number = acme.connection_id
    body = stripe_event("evt_1")
    product = ensure_connection(database, "acme", "gravity")
    addresses = [
        f"/webhooks/globex/stripe/{number}",
        f"/webhooks/acme/stripe/{globex.connection_id}",
        "/webhooks/nobody/stripe/1",
        "/webhooks/acme/stripe/0",
        f"/webhooks/acme/stripe/{2**63}",
        f"/webhooks/acme/stripe/{'9' * 5_000}",
        "/webhooks/acme/stripe/one",
        "/webhooks/acme/stripe/\u0661",
    ]
    for address in addresses:
        answer = client.post(address, content=body, headers={STRIPE_HEADER: stripe_header(body)})
        assert (answer.status_code, answer.json()) == (400, {"error": "signature_wrong"}), address
    for address in (f"/webhooks/acme/gravity/{product.connection_id}", "/webhooks/acme/nothing/1"):
        answer = client.post(address, content=body, headers={STRIPE_HEADER: stripe_header(body)})
        assert (answer.status_code, answer.json()) == (404, {"error": "unknown_source_system"}), address
    ensure_connection(database, "acme", "stripe", active=False)
    assert send(client, acme, body).status_code == 400
    assert kept(database) == []
    assert refused(database) == {(None, "unknown_connection"): len(addresses) + 1, (None, "unknown_source_system"): 2}
    assert client.get(place(acme)).status_code == 405


def test_a_flood_of_refusals_is_counted_and_keeps_nobody_out(
    database: Database, acme: Connection, browse: Browse
) -> None:
    """Those who cannot sign are counted together, and whoever can is answered beside them."""
    address = str(browse(database).base_url)
    limits = httpx.Limits(max_connections=40)
    with httpx.Client(base_url=address, timeout=30, limits=limits) as client, ThreadPoolExecutor(24) as pool:
        wrong = [pool.submit(send, client, acme, stripe_event("evt_x"), "t=1,v1=00") for _ in range(150)]
        right = [pool.submit(send, client, acme, stripe_event(f"evt_{number}")) for number in range(30)]
        assert {each.result().status_code for each in wrong} == {400}
        assert {each.result().status_code for each in right} == {200}
    assert refused(database) == {(acme.connection_id, "signature_wrong"): 150}
    assert len(kept(database)) == 30


def test_thousands_of_strangers_in_one_body_are_counted(database: Database, acme: Connection, browse: Browse) -> None:
    ours = ensure_connection(database, "acme", "quickbooks")
    body = json.dumps([cloud_event("a", "1001", "1"), *(cloud_event(f"s{n}", "9", "1") for n in range(2_500))]).encode()
    assert len(body) < MAX_BODY_BYTES
    assert send(browse(database), ours, body).json() == {"stored": 1, "known": 0, "unknown_realm": 2_500}
    assert refused(database) == {(ours.connection_id, "unknown_realm"): 2_500}


@pytest.mark.parametrize("system", ["stripe", "quickbooks", "plaid"])
def test_answers_do_not_tell_which_connections_there_are(
    database: Database, acme: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    """Whoever cannot sign gets the same, byte for byte, at an address that is there and at one that is not."""
    monkeypatch.setenv("FINANCE_OS_PLAID_CLIENT_ID", "client")
    monkeypatch.setenv("FINANCE_OS_PLAID_SECRET", "secret")
    monkeypatch.setenv("FINANCE_OS_PLAID_ACCESS_TOKEN", "access-sandbox-x")
    there = ensure_connection(database, "acme", system)
    client = browse(database)
    body = stripe_event("evt_1")
    name = {"stripe": STRIPE_HEADER, "quickbooks": INTUIT_HEADER, "plaid": "plaid-verification"}[system]
    headers = ["", "nonsense", "t=1", "t=x,v1=00", "e30.e30.e30"]
    headers += [f"t={int(time.time())},v1=" + ",v1=".join(["00"] * count) for count in (1, 20, 21)]
    for header in headers if system != "plaid" else headers[:3]:
        answers = [
            client.post(address, content=sent, headers={name: header} if header else {})
            for sent in (body, b" " * (MAX_BODY_BYTES + 1))
            for address in (place(there), f"/webhooks/nobody/{system}/{there.connection_id}")
        ]
        here, nowhere, large_here, large_nowhere = [
            (answer.status_code, answer.content, sorted(each for each in answer.headers if each != "date"))
            for answer in answers
        ]
        assert here == nowhere, header
        assert large_here == large_nowhere
        assert (here[0], large_here[0]) == (400, 413)


def test_a_body_may_have_a_mebibyte_and_no_more(database: Database, acme: Connection, browse: Browse) -> None:
    client = browse(database)
    fits = stripe_event("evt_1")
    fits += b" " * (MAX_BODY_BYTES - len(fits))
    assert send(client, acme, fits).status_code == 200
    answer = send(client, acme, fits + b" ")
    assert (answer.status_code, answer.json()) == (413, {"error": "body_too_large"})

    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    with httpx.Client(base_url=client.base_url, timeout=30) as other:
        try:
            streamed = other.post(place(acme), content=pieces(), headers={STRIPE_HEADER: "t=1,v1=0"})
            assert streamed.status_code == 413
        except httpx.WriteError:
            pass  # it was answered and closed before all of it was written
    assert len(kept(database)) == 1
    assert refused(database) == {(acme.connection_id, "body_too_large"): 2}


def test_a_body_that_does_not_arrive_is_not_waited_for(
    database: Database, acme: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINANCE_OS_WEBHOOK_BODY_SECONDS", "0.3")
    parts = urlsplit(str(browse(database).base_url))
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as opened:
        head = f"POST {place(acme)} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{{"
        opened.sendall(head.encode())
        assert b" 408 " in opened.recv(4_096).partition(b"\r\n")[0] + b" "
    assert refused(database) == {(acme.connection_id, "body_too_slow"): 1}


def test_without_a_database_it_is_to_be_sent_again(
    acme: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finance_os.web.pooled.WAITS_SECONDS", 0.3)
    client = browse(Database("postgresql://login:s3cret@127.0.0.1:9/nothing"))
    answer = send(client, acme, stripe_event("evt_1"))
    assert (answer.status_code, answer.json()) == (503, {"error": "database_unreachable"})
    assert (client.get("/readyz").status_code, client.head("/readyz").status_code) == (503, 503)


# --- the app around it


def test_it_is_ready_when_the_inbox_can_be_written_to(database: Database, acme: Connection, browse: Browse) -> None:
    client = browse(database)
    assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (200, {"status": "ready"})
    with psycopg.connect(database.url, autocommit=True) as owner:
        owner.execute("REVOKE INSERT ON finance_os.webhook_events FROM finance_os_application")
    assert client.get("/readyz").json() == {"status": "database read-only"}
    assert client.get("/healthz").status_code == 200
    assert send(client, acme, stripe_event("evt_1")).status_code == 503
    with psycopg.connect(database.url, autocommit=True) as owner:
        owner.execute("DELETE FROM finance_os._yoyo_migration WHERE migration_id LIKE '0012%'")
    assert client.get("/readyz").json() == {"status": "schema not current"}


def test_public_names_lead_to_the_receiver_and_to_no_page(
    database: Database, acme: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINANCE_OS_WEBHOOK_HOSTS", "hooks.example.com, other.example.com")
    client = browse(database)
    body = stripe_event("evt_1")
    signed = {STRIPE_HEADER: stripe_header(body)}
    for host, status in {"hooks.example.com": 200, "other.example.com:443": 200, "evil.example": 400}.items():
        assert client.post(place(acme), content=body, headers={**signed, "host": host}).status_code == status
        assert client.get("/readyz", headers={"host": host}).status_code == status
        for page in ("/", "/acme", "/page.css", "/webhooks"):
            assert client.get(page, headers={"host": host}).status_code == 400
    assert client.get("/acme").status_code == 200


def test_bodies_are_not_the_readers(database: Database, acme: Connection, browse: Browse) -> None:
    send(browse(database), acme, stripe_event("evt_1"))
    reader = database.as_reader()
    assert len(reader.fetch("SELECT event_key, state FROM finance_os.webhook_events")) == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.fetch("SELECT body FROM finance_os.webhook_bodies")
    for statement in (
        "UPDATE finance_os.webhook_bodies SET body = ''",
        "UPDATE finance_os.webhook_events SET event_key = 'x'",
        "DELETE FROM finance_os.webhook_events",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), database.transaction() as opened:
            opened.execute(statement)  # pyright: ignore[reportArgumentType]


def test_nothing_of_a_body_is_logged(
    database: Database, acme: Connection, browse: Browse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    client = browse(database)
    send(client, acme, stripe_event("evt_1"))
    send(client, acme, stripe_event("evt_2"), "t=1,v1=jane@example.com")
    said = [record.getMessage() for record in caplog.records if record.name.startswith("finance_os")]
    assert len(said) == 2
    assert not [line for line in said if "jane" in line or STRIPE_SECRET in line]


# --- many at once, and the end of the process


def test_a_third_doubled_and_all_shuffled_is_each_once(database: Database, acme: Connection, browse: Browse) -> None:
    chance = random.Random(5)
    numbers = list(range(300))
    sent = [*numbers, *chance.sample(numbers, 90)]
    chance.shuffle(sent)
    client = browse(database)
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda number: send(client, acme, stripe_event(f"evt_{number}")), sent))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["stored"] for answer in answers) == len(numbers)
    events = kept(database)
    assert sorted(event["event_key"] for event in events) == sorted(f"evt_{number}" for number in numbers)
    assert sum(event["deliveries"] for event in events) == len(sent)


@contextmanager
def own_process(database: Database, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`finance-os web` as a process of its own, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "finance_os.commands.web", "--port", "0"],
        env={
            **os.environ,
            "FINANCE_OS_DATABASE_URL": database.url,
            "FINANCE_OS_HOME": str(folder),
            "COLUMNS": "200",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address, said + process.stdout.read()
        yield process, address[0]
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def test_what_was_answered_survives_a_kill(database: Database, acme: Connection, tmp_path: Path) -> None:
    answered: list[int] = []
    with own_process(database, tmp_path) as (process, address):

        def sender(first: int) -> None:
            with httpx.Client(base_url=address, timeout=20) as client:
                for number in range(first, 100_000, 6):
                    try:
                        answer = send(client, acme, stripe_event(f"evt_{number}"))
                    except httpx.HTTPError:
                        return
                    if answer.status_code == 200:
                        answered.append(number)

        threads = [threading.Thread(target=sender, args=(first,)) for first in range(6)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 30
        while len(answered) < 60 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join(30)
    assert len(answered) >= 60
    keys = {event["event_key"] for event in kept(database)}
    assert {f"evt_{number}" for number in answered} <= keys


def test_it_ends_what_it_has_begun_when_it_is_told_to_stop(
    database: Database, acme: Connection, tmp_path: Path
) -> None:
    body = stripe_event("evt_1")
    with (
        own_process(database, tmp_path) as (process, address),
        ThreadPoolExecutor(1) as sender,
        psycopg.connect(database.url) as other,
    ):
        other.execute("LOCK TABLE finance_os.webhook_events IN ACCESS EXCLUSIVE MODE")
        with httpx.Client(base_url=address, timeout=30) as client:
            answer = sender.submit(send, client, acme, body)
            _until_somebody_waits(database)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None
            with pytest.raises((OSError, http.client.HTTPException)):
                http.client.HTTPConnection(urlsplit(address).netloc, timeout=2).request("GET", "/readyz")
            other.rollback()
            assert answer.result(20).status_code == 200
        process.wait(20)
    assert [event["event_key"] for event in kept(database)] == ["evt_1"]


def _until_somebody_waits(database: Database) -> None:
    until = time.monotonic() + 20
    with psycopg.connect(database.url, autocommit=True) as opened:
        while time.monotonic() < until:
            found = opened.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            if found is not None:
                return
            time.sleep(0.02)
    raise AssertionError("the delivery does not wait for the lock")
