"""From a vendor's webhook to a staged record: the real receiver, the sandbox's deliveries, and the runs asked for."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
import stamina

from finance_os import settings as settings_module
from finance_os.defs.assets import sources as source_assets_module
from finance_os.defs.location import build_defs
from finance_os.defs.webhook_sensor import REQUEST_TAG
from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days, day_of
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.settings import Settings
from finance_os.web.app import create_app
from finance_os.webhooks import inbox
from finance_os.webhooks.settings import webhook_settings
from finance_os_tests.defs.conftest import range_tags
from finance_os_tests.defs.ticking import execute, tick
from finance_os_tests.web.conftest import served
from finance_os_tests.webhooks.senders import STRIPE_HEADER, stripe_event, stripe_header


@dataclass
class Office:
    """One business whose Stripe account is in the sandbox, which sends its events to the receiver."""

    database: Database
    connection: Connection
    sandbox: Running
    receiver: httpx.Client
    secret: str
    defs: dg.Definitions
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    def tick(self) -> tuple[list[dg.RunRequest], str]:
        """What one evaluation of the sensor asks for, and what it says if that is nothing."""
        found = tick(self.defs, self.instance, "webhook_inbox")
        return found.requests, found.said

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """What the daemon makes of a request."""
        return execute(self.defs, self.instance, request)

    def settle(self) -> None:
        """Ticks and runs until nothing is asked for any more."""
        for _ in range(20):
            requests, _ = self.tick()
            if not requests:
                return
            for request in requests:
                self.run(request)
        raise AssertionError("the sensor does not come to an end")

    def send(self, body: bytes) -> None:
        """A delivery that the sandbox did not make."""
        place = f"/webhooks/acme/stripe/{self.connection.connection_id}"
        headers = {STRIPE_HEADER: stripe_header(body, self.secret)}
        assert self.receiver.post(place, content=body, headers=headers).status_code == 200

    def states(self) -> dict[str, int]:
        rows = self.database.fetch("SELECT state, count(*) AS n FROM finance_os.webhook_events GROUP BY 1")
        return {row["state"]: row["n"] for row in rows}

    def payload(self, object_type: str, source_id: str) -> dict[str, Any] | None:
        rows = self.database.fetch(
            """
            SELECT record.payload, head.removed FROM finance_os.raw_record_heads AS head
            JOIN finance_os.raw_source_records AS record USING (record_id)
            WHERE head.object_type = %s AND head.source_id = %s
            """,
            (object_type, source_id),
        )
        return rows[0]["payload"] if rows and not rows[0]["removed"] else None

    def events_of(self, source_id: str) -> list[dict[str, Any]]:
        return [event for event in inbox.listed(self.database, limit=10_000) if source_id in json.dumps(event["reads"])]


@pytest.fixture
def office(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path))
    monkeypatch.setenv("FINANCE_OS_WEBHOOK_RETRY_SECONDS", "0")
    settings_module.settings.cache_clear()
    webhook_settings.cache_clear()
    monkeypatch.setattr(source_assets_module, "RETRIES", dg.RetryPolicy(max_retries=0))
    stamina.set_testing(True, attempts=2)
    ensure_business(database, "acme", "Acme", "Asia/Tokyo")
    connection = ensure_connection(database, "acme", "stripe")
    with served(create_app(database, Settings())) as address, httpx.Client(base_url=address, timeout=30) as client:
        url = f"{address}/webhooks/acme/stripe/{connection.connection_id}"
        with running_sandbox(seed=5, days=10, size=3, webhook_url=url) as sandbox:
            for name, value in sandbox.env.items():
                monkeypatch.setenv(name, value)
            secret = sandbox.env["FINANCE_OS_STRIPE_WEBHOOK_SECRET"]
            yield Office(database, connection, sandbox, client, secret, build_defs())
    stamina.set_testing(False)
    settings_module.settings.cache_clear()
    webhook_settings.cache_clear()


def objects_of(requests: Sequence[dg.RunRequest]) -> dict[str, list[str]]:
    """Object type → what a tick asks to be read of it, over all requests."""
    found: dict[str, list[str]] = {}
    for request in requests:
        for name, op in (request.run_config or {})["ops"].items():
            found.setdefault(name.partition("__")[2], []).extend(op["config"].get("targets", ["(day)"]))
    return found


def test_nothing_waits(office: Office) -> None:
    assert office.tick() == ([], "No event waits.")


def test_from_the_webhook_to_the_staged_record(office: Office) -> None:
    now = datetime.now(UTC)
    office.sandbox.advance_to(now + timedelta(days=3))
    health = office.sandbox.call("GET", "/health")["accounts"][0]["webhook"]
    assert health["failed"] == 0
    assert health["delivered"] == sum(office.states().values()) > 20
    requests, _ = office.tick()
    assert [request.job_name for request in requests] == ["stripe_webhooks"]
    asked = objects_of(requests)
    assert all(len(targets) == len(set(targets)) for targets in asked.values())
    assert sum(map(len, asked.values())) < 2 * health["delivered"]
    [again], _ = office.tick()  # the daemon died before it began the run: the same is asked for again
    assert again.run_key == requests[0].run_key
    result = office.run(requests[0])
    assert result.success
    requests, said = office.tick()
    assert requests == []
    assert f"{health['delivered']} done, 0 again, 0 set aside" in said
    assert office.states() == {"done": health["delivered"]}
    invoice = asked["stripe_invoice"][0]
    staged = office.payload("stripe_invoice", invoice)
    assert staged is not None
    with httpx.Client(base_url=office.sandbox.base, trust_env=False) as vendor:
        key = {"authorization": f"Bearer {office.sandbox.env['FINANCE_OS_STRIPE_API_KEY']}"}
        theirs = vendor.get(f"/v1/invoices/{invoice}", headers=key).json()
    assert {name: staged[name] for name in ("status", "total", "amount_remaining", "number")} == {
        name: theirs[name] for name in ("status", "total", "amount_remaining", "number")
    }
    runs = office.database.fetch("SELECT * FROM finance_os.source_sync_runs")
    assert {(run["kind"], run["trigger"], run["status"]) for run in runs} == {("targeted", "webhook", "succeeded")}
    assert {run["object_type"] for run in runs} == set(asked)
    assert {run["dagster_run_id"] for run in runs} == {result.run_id}
    events = office.events_of(invoice)
    by_type = {run["object_type"]: run["sync_run_id"] for run in runs}
    assert events
    for event in events:
        assert event["sync_run_ids"] == sorted(by_type[object_type] for object_type in event["reads"])


def test_order_does_not_matter_and_the_latest_state_is_read(office: Office) -> None:
    [customer, *_] = _customers(office)
    for name in ("first", "second", "third"):
        office.sandbox.change("update", id=customer, values={"name": name})
    requests, _ = office.tick()
    assert objects_of(requests) == {"stripe_customer": [customer]}
    office.sandbox.change("update", id=customer, values={"name": "while it waits"})
    office.run(requests[0])
    staged = office.payload("stripe_customer", customer)
    assert staged is not None
    assert staged["name"] == "while it waits"
    office.settle()
    assert office.states() == {"done": 4}
    runs = office.database.fetch("SELECT targets FROM finance_os.source_sync_runs")
    assert [run["targets"] for run in runs] == [[customer], [customer]]  # the fourth came after the request


def test_a_deleted_object_is_a_removal(office: Office) -> None:
    [customer, *_] = _customers(office)
    office.sandbox.change("update", id=customer, values={"name": "soon gone"})
    office.settle()
    assert office.payload("stripe_customer", customer) is not None
    office.sandbox.change("delete", id=customer)
    office.settle()
    assert office.payload("stripe_customer", customer) is None
    assert set(office.states()) == {"done"}


def test_a_poison_event_is_set_aside_alone_and_can_be_replayed(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCE_OS_WEBHOOK_MAX_TRIES", "3")
    webhook_settings.cache_clear()
    customers = _customers(office)[:3]
    # The key may not read this one object: the vendor answers 403 for it.
    office.sandbox.script({"path": f"/v1/customers/{customers[1]}", "kind": "403", "times": 1_000})
    for customer in customers:
        office.sandbox.change("update", id=customer, values={"name": "changed"})
    office.send(b"{}")
    office.settle()
    assert office.states() == {"done": 2, "poisoned": 2}
    poisoned = inbox.listed(office.database, state="poisoned")
    assert [event["last_error"] for event in poisoned] == ["unreadable", "stripe_customer: forbidden"]
    assert [event["tries"] for event in poisoned] == [1, 3]
    assert office.payload("stripe_customer", customers[0]) is not None
    assert office.payload("stripe_customer", customers[2]) is not None
    chain = office.database.fetch(
        "SELECT subject, details FROM finance_os.finance_audit_events WHERE event_type = 'webhooks.poisoned'"
    )
    assert [row["details"] for row in chain] == [{"events": 1}, {"events": 1}]
    office.sandbox.clear_faults()
    number = poisoned[1]["event_number"]
    assert inbox.replay(office.database, [number], "jane") == [number]
    office.settle()
    assert office.states() == {"done": 3, "poisoned": 1}
    assert office.payload("stripe_customer", customers[1]) is not None


def test_a_vendor_that_is_down_poisons_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCE_OS_WEBHOOK_MAX_TRIES", "3")
    webhook_settings.cache_clear()
    customer = _customers(office)[0]
    office.sandbox.script({"path": "/v1/customers/*", "kind": "500", "times": 1_000})
    office.sandbox.change("update", id=customer, values={"name": "changed"})
    for _ in range(5):
        for request in office.tick()[0]:
            office.run(request)
    assert office.states() == {"requested": 1}
    [event] = inbox.listed(office.database)
    assert (event["tries"], event["last_error"]) == (0, "stripe_customer: vendor_error")
    states = office.database.fetch("SELECT state FROM finance_os.webhook_requests ORDER BY request_id")
    assert [row["state"] for row in states] == ["held_up"] * 4 + ["open"]
    office.sandbox.clear_faults()
    office.settle()
    assert office.states() == {"done": 1}


def test_events_that_never_came_are_found_in_the_staged_log(office: Office) -> None:
    now = datetime.now(UTC)
    office.tick()  # from now on, webhooks are expected
    office.database.fetch("SELECT 1 FROM finance_os.webhook_gap_checks")
    with office.database.connection() as owner:
        owner.execute("UPDATE finance_os.webhook_gap_checks SET since = %s", (now - timedelta(days=5),))
    days = Days(day_of(now, office.connection.zone) - timedelta(days=5), day_of(now, office.connection.zone))
    result = office.defs.resolve_job_def("stripe_sync").execute_in_process(
        instance=office.instance, asset_selection=[dg.AssetKey(["stripe", "stripe_event"])], tags=range_tags(days)
    )
    assert result.success
    log = {
        row["source_id"]: row["payload"]
        for row in office.database.fetch(
            """
            SELECT source_id, payload FROM finance_os.raw_source_records
            WHERE object_type = 'stripe_event' AND source_created_at >= %s
              AND source_created_at < clock_timestamp() - interval '11 minutes'
            """,
            (now - timedelta(days=5),),
        )
    }
    assert len(log) > 10
    came = sorted(log)[0]
    office.send(stripe_event(came, log[came]["type"], log[came]["data"]["object"]))
    requests, _ = office.tick()
    found = {event["event_key"]: event for event in inbox.listed(office.database, never_came=True, limit=10_000)}
    relevant = {"customer", "invoice", "charge", "payment_intent", "credit_note", "refund", "payout", "dispute"}
    expected = {key for key, event in log.items() if event["data"]["object"]["object"] in relevant}
    assert set(found) >= expected - {came}
    assert came not in found
    assert {event["deliveries"] for event in found.values()} == {0}
    assert requests
    late = next(iter(expected - {came}))
    office.send(stripe_event(late, log[late]["type"], log[late]["data"]["object"]))
    [event] = [each for each in inbox.listed(office.database, limit=10_000) if each["event_key"] == late]
    assert event["deliveries"] == 1
    for request in requests:
        assert office.run(request).success
    office.settle()
    assert set(office.states()) == {"done"}
    [check] = office.database.fetch("SELECT found FROM finance_os.webhook_gap_checks")
    assert check["found"] == len(found)


def test_runs_stand_beside_those_of_whole_days(office: Office) -> None:
    office.sandbox.change("update", id=_customers(office)[0], values={"name": "changed"})
    [request], _ = office.tick()
    job = office.defs.resolve_job_def("stripe_webhooks")
    assert "finance_os/bulk" not in {**job.tags, **request.tags}
    assert request.tags[REQUEST_TAG].isdecimal()
    assert request.tags["finance_os/trigger"] == "webhook"


def _customers(office: Office) -> list[str]:
    with httpx.Client(base_url=office.sandbox.base, trust_env=False) as vendor:
        key = {"authorization": f"Bearer {office.sandbox.env['FINANCE_OS_STRIPE_API_KEY']}"}
        return [each["id"] for each in vendor.get("/v1/customers", headers=key).json()["data"]]
