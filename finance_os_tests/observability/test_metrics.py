"""What is counted, timed and read: at the seams of the product, with its own database, vendors and receiver."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.evidence.extraction import Item, Request, SourceError
from finance_os.evidence.reading import CannotTry, perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.observability import instruments, metrics
from finance_os.observability.instruments import INSTRUMENTS, Kind
from finance_os.readiness.gate import Input, gate
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.store import put_plan
from finance_os.stripe_qbo.verify import verify
from finance_os.web.watched import watched
from finance_os.webhooks.walk import request_reads
from finance_os_tests.evidence.staged import page, read_of, record, stage
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books, books, customer, story
from finance_os_tests.web.conftest import Browse, browse
from finance_os_tests.webhooks.senders import STRIPE_HEADER, STRIPE_SECRET, stripe_event, stripe_header
from finance_os_tests.webhooks.test_walk import come, one, run, settings

from .collected import Collected, collecting

__all__ = ["browse"]


@pytest.fixture
def collected() -> Iterator[Collected]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def company() -> Iterator[Books]:
    with books() as served:
        yield served


def test_names_units_and_attributes_follow_the_conventions() -> None:
    assert len({each.name for each in INSTRUMENTS}) == len(INSTRUMENTS)
    declared = [each for each in vars(instruments).values() if isinstance(each, instruments.Instrument)]
    assert set(declared) == set(INSTRUMENTS)
    for each in INSTRUMENTS:
        assert each.name.startswith("finance_os.")
        assert each.unit in ("s", "1") or each.unit.startswith("{")
        assert bool(each.boundaries) == (each.kind is Kind.HISTOGRAM)
        allowed = {
            "business_id", "source_system", "object_type", "kind", "outcome", "code", "state", "entity", "operation",
            "method", "severity",
        }  # fmt: skip
        assert set(each.attributes) <= allowed


def test_nothing_but_the_declared_attributes_is_taken() -> None:
    with pytest.raises(ValueError, match="has the attributes"):
        metrics.count(instruments.GATE_DECISIONS, business_id="acme", outcome="open", subject="in_1")
    with pytest.raises(ValueError, match="has the attributes"):
        metrics.count(instruments.GATE_DECISIONS, outcome="open")
    with pytest.raises(ValueError, match="is a histogram, not a counter"):
        metrics.count(instruments.SYNC_DURATION, business_id="acme")


# --- webhooks


def test_deliveries_are_counted_by_what_became_of_them(
    database: Database, acme: Connection, browse: Browse, collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINANCE_OS_STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
    client, place = browse(database), f"/webhooks/acme/stripe/{acme.connection_id}"
    body = stripe_event("evt_1")
    for _ in range(2):
        assert client.post(place, content=body, headers={STRIPE_HEADER: stripe_header(body)}).status_code == 200
    assert client.post(place, content=body, headers={STRIPE_HEADER: stripe_header(body, "whsec_x")}).status_code == 400
    assert client.post(place, content=body).status_code == 400
    assert client.post("/webhooks/jane@example.com/stripe/1", content=body).status_code == 400
    assert collected.of(instruments.WEBHOOK_DELIVERIES) == {
        ("acme", "stripe", "kept"): 2,
        ("acme", "stripe", "signature_wrong"): 1,
        ("acme", "stripe", "signature_missing"): 1,
        ("", "", "unknown_connection"): 1,
    }
    events = collected.of(instruments.WEBHOOK_EVENTS)
    assert {key[2]: value for key, value in events.items()} == {"new": 1, "known": 1}
    assert collected.of(instruments.WEBHOOK_DELIVERY_DURATION) == {("acme", "stripe"): 2}


def test_events_are_counted_when_their_reads_end_and_their_latency_is_timed(
    database: Database, acme: Connection, collected: Collected
) -> None:
    come(database, acme, stripe_event("evt_1"), stripe_event("evt_2", item={"object": "customer", "id": "cus_1"}))
    time.sleep(0.05)
    request = one(request_reads(database, settings()))
    run(database, request, {**dict.fromkeys(request.reads), "stripe_customer": "missing"})
    settled = {key[2]: value for key, value in collected.of(instruments.WEBHOOK_SETTLED).items()}
    assert settled == {"done": 1, "again": 1}
    [latency] = collected.points()[instruments.WEBHOOK_READ_LATENCY.name]
    assert (latency.count, latency.min >= 0.05) == (1, True)


# --- sync runs


def test_sync_runs_and_their_records_are_counted(database: Database, acme: Connection, collected: Collected) -> None:
    stage(database, acme, page(record("in_1"), record("in_2")))
    stage(database, acme, page(record("in_1"), record("in_2", "other"), record("in_3")))
    errors = CannotTry("credentials_missing", "set it"), SourceError("rate_limited", "wait"), RuntimeError("in_9")
    for error in errors:

        def fail(_: Request, error: Exception = error) -> Iterator[Item]:
            raise error
            yield

        with pytest.raises(type(error)):
            perform(database, read_of(acme, fail), Origin(Trigger.MANUAL), chunk_rows=10)
    assert collected.of(instruments.SYNC_RUNS) == {
        ("acme", "stripe", "stripe_invoice", "window", "succeeded", ""): 2,
        ("acme", "stripe", "stripe_invoice", "window", "skipped", "credentials_missing"): 1,
        ("acme", "stripe", "stripe_invoice", "window", "failed", "rate_limited"): 1,
        ("acme", "stripe", "stripe_invoice", "window", "failed", "internal_error"): 1,
    }
    rows = {key[3]: value for key, value in collected.of(instruments.SYNC_ROWS).items()}
    assert rows == {"new": 3, "changed": 1, "unchanged": 1}
    assert sum(collected.of(instruments.SYNC_DURATION).values()) == 2


# --- the export


def test_intents_requests_and_links_are_counted(
    company: Books, database: Database, acme: Connection, collected: Collected
) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    put_plan(database, "acme", company.realm, [*story(company, 1, "metrics"), customer("cus_bad", Taxable="x")])
    with company.writer() as writer:
        result = apply(database, writer, "acme", company.realm)
        [invoice] = [each for each in story(company, 1, "metrics") if each.entity == "Invoice"]
        company.change("update", entity="Invoice", body={"Id": company.one(invoice)["Id"], "PrivateNote": "by hand"})
        verify(database, writer, "acme", company.realm)
    tried = collected.of(instruments.QBO_APPLIED)
    assert {key[3]: 0 for key in tried} == {ended.value: 0 for ended in result.ended}
    assert tried["acme", "Invoice", "create", "applied"] == 1
    assert sum(tried.values()) == sum(collected.of(instruments.QBO_APPLY_DURATION).values()) == result.ended.total()
    requests = collected.of(instruments.QBO_REQUESTS)
    assert {f"{method} {entity}": sent for (_, method, entity), sent in requests.items()} == result.requests
    assert collected.of(instruments.QBO_VERIFIED)["acme", "differing"] == 1
    assert collected.of(instruments.QBO_VERIFIED)["acme", "as_planned"] >= 3


def test_a_gate_that_is_shut_is_counted_with_its_blockers(
    database: Database, acme: Connection, collected: Collected
) -> None:
    shut = gate(database, "acme", [Input("stripe", "stripe_invoice")])
    assert collected.of(instruments.GATE_DECISIONS) == {("acme", "shut"): 1}
    blockers = collected.of(instruments.GATE_BLOCKERS)
    assert blockers["acme", "input_never_read"] == 1
    assert sum(blockers.values()) == len(shut.blockers)


# --- gauges


def test_gauges_tell_what_waits_and_what_is_open(
    database: Database, acme: Connection, globex: Connection, collected: Collected
) -> None:
    come(database, acme, stripe_event("evt_1"), stripe_event("evt_2"), b"[]")
    come(database, globex, stripe_event("evt_3"))
    request_reads(database, settings(batch_events=1))
    put_plan(database, "acme", "9130", [customer("cus_1"), customer("cus_2")])
    time.sleep(0.02)
    metrics.watch(watched(database))
    backlog = collected.of(instruments.WEBHOOK_BACKLOG)
    waiting = database.fetch("SELECT business_id, state, count(*) AS n FROM finance_os.webhook_events GROUP BY 1, 2")
    assert backlog == {(row["business_id"], "stripe", row["state"]): row["n"] for row in waiting}
    assert all(age >= 0.02 for age in collected.of(instruments.WEBHOOK_OLDEST).values())
    assert collected.of(instruments.QBO_INTENTS) == {("acme", "Customer", "planned"): 2}
    opened = collected.of(instruments.EXCEPTIONS_OPEN)
    assert sum(opened.values()) == len(open_exceptions(database, "acme"))
    assert collected.of(instruments.DATABASE_REACHABLE) == {(): 1}


def test_an_unreachable_database_is_told_and_stops_no_export(collected: Collected) -> None:
    metrics.watch(watched(Database("postgresql://127.0.0.1:1/none?connect_timeout=1")))
    assert collected.of(instruments.DATABASE_REACHABLE) == {(): 0}
    assert collected.of(instruments.WEBHOOK_BACKLOG) == {}


# --- what is in them


def test_no_id_of_anything_outside_and_no_person_is_in_any_metric(
    company: Books, database: Database, acme: Connection, collected: Collected
) -> None:
    quickbooks = ensure_connection(database, "acme", "quickbooks")
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    come(database, acme, stripe_event("evt_secret", item={"object": "invoice", "id": "in_secret"}), b"[1]")
    request = one(request_reads(database, settings()))
    run(database, request, dict.fromkeys(request.reads))
    stage(database, quickbooks, page(record("in_secret", "jane@example.com")))
    put_plan(database, "acme", company.realm, story(company, 1, "secret"))
    with company.writer() as writer:
        apply(database, writer, "acme", company.realm)
        verify(database, writer, "acme", company.realm)
    put_plan(database, "acme", company.realm, [customer("cus_secret_2", DisplayName="Jane Doe")])
    gate(database, "acme", [Input("stripe", "stripe_invoice")])
    metrics.watch(watched(database))
    points = collected.points()
    assert len(points) >= 12
    values = {str(value) for each in points.values() for point in each for value in point.attributes.values()}
    assert not [value for value in values if any(word in value.lower() for word in ("secret", "jane", "@", "stripe:"))]
    assert company.realm not in values
    assert not [value for value in values if value.isdigit()]


# --- where nobody collects


def test_where_nobody_collects_nothing_is_imported_and_nothing_costs_time() -> None:
    code = """
import sys, time
import finance_os.cli, finance_os.webhooks.settling, finance_os.stripe_qbo.apply
from finance_os.observability import happened, metrics
assert not metrics.start({}) and not metrics.is_on()
assert not metrics.start({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"})
assert not metrics.start({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_METRICS_EXPORTER": "none"})
metrics.watch(None)
began = time.process_time()
for _ in range(10_000):
    happened.gate_asked("acme", [])
assert time.process_time() - began < 1, "100 microseconds each would be too much"
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
assert "opentelemetry.metrics" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
