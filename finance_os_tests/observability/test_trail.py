"""One webhook followed to the object in QuickBooks, and back from there."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from finance_os import cli
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.observability.trail import Step, trail
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sources.registry import source_named
from finance_os.stripe_qbo import links
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.store import put_plan
from finance_os.webhooks.walk import request_reads
from finance_os_tests.evidence.staged import page, record, stage
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books, books, story
from finance_os_tests.webhooks.senders import stripe_event
from finance_os_tests.webhooks.test_walk import come, one, run, settings

TYPES = [obj.object_type for obj in source_named("stripe")]


@pytest.fixture(scope="module")
def company() -> Iterator[Books]:
    with books() as served:
        yield served


@pytest.fixture
def way(company: Books, database: Database, acme: Connection, globex: Connection) -> str:
    """An invoice that came as a webhook, was read, planned, written and linked; the QuickBooks ID of it."""
    come(database, acme, stripe_event("evt_1", item={"object": "invoice", "id": "in_trail0"}))
    come(database, globex, stripe_event("evt_1", item={"object": "invoice", "id": "in_trail0"}))
    request = next(each for each in request_reads(database, settings()) if each.connection == acme)
    stage(database, acme, page(record("in_trail0", "jane@example.com"), record("in_other")))
    run(database, request, dict.fromkeys(request.reads))
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    intents = [
        replace(each, evidence={"invoice:in_trail0": "0" * 64}) if each.entity == "Payment" else each
        for each in story(company, 1, "trail")
    ]
    put_plan(database, "acme", company.realm, intents, run="plan-7")
    with company.writer() as writer:
        apply(database, writer, "acme", company.realm)
    [link] = [
        each for key, each in links.links(database, "acme", company.realm).items() if key.stripe_id == "in_trail0"
    ]
    return link.qbo_id


def whats(steps: list[Step]) -> list[str]:
    return [step.what for step in steps]


def test_from_the_webhook_to_the_object_in_quickbooks(way: str, database: Database) -> None:
    found = trail(database, "evt_1", TYPES, "acme")
    assert [step.at for step in found] == sorted(step.at for step in found)
    stations = list(dict.fromkeys(whats(found)))
    order = ["webhook received", "version staged", "intent planned", "intent sending", "intent answered"]
    assert [each for each in stations if each in order] == order
    assert {"linked, created", "verified"} <= set(stations)
    assert "sync run succeeded" in stations
    [staged] = [step for step in found if step.what == "version staged"]
    assert (staged.ids["source_id"], staged.ids["object_type"]) == ("in_trail0", "stripe_invoice")
    planned = {step.ids["key"]: step.ids for step in found if step.what == "intent planned"}
    assert "invoice:in_trail0:invoice" in planned
    assert "payment:py_trail0:payment" in planned, "what was planned from its evidence is followed too"
    assert planned["invoice:in_trail0:invoice"]["plan_run"] == "plan-7"
    number = planned["invoice:in_trail0:invoice"]["intent_id"]
    answered = [step for step in found if step.what == "intent answered" and step.ids["intent_id"] == number]
    assert [step.ids["qbo_id"] for step in answered] == [way]
    assert {step.business_id for step in found} == {"acme"}
    assert "jane" not in str(found)


def test_back_from_quickbooks_and_from_the_middle(way: str, database: Database) -> None:
    whole = trail(database, "evt_1", TYPES, "acme")
    assert trail(database, f"Invoice:{way}", TYPES, "acme") == whole
    assert trail(database, "in_trail0", TYPES, "acme") == whole
    assert trail(database, "in_unknown", TYPES) == []
    assert {step.business_id for step in trail(database, "in_trail0", TYPES)} == {"acme", "globex"}


def test_the_command_prints_it(way: str, database: Database) -> None:
    runner = CliRunner(env={"FINANCE_OS_DATABASE_URL": database.url})
    printed = runner.invoke(cli.app, ["trace", f"Invoice:{way}", "--business", "acme", "--json"])
    lines = [json.loads(line) for line in printed.output.splitlines()]
    assert (lines[0]["what"], lines[0]["event_key"]) == ("webhook received", "evt_1")
    assert way in [line.get("qbo_id") for line in lines]
    plain = runner.invoke(cli.app, ["trace", "evt_1", "--business", "acme"])
    assert "intent answered" in plain.output
    unknown = runner.invoke(cli.app, ["trace", "in_unknown"])
    assert (unknown.exit_code, "Nothing is known of in_unknown" in unknown.output) == (1, True)


def test_requests_are_of_one_walk(database: Database, acme: Connection) -> None:
    come(database, acme, stripe_event("evt_1"))
    request = one(request_reads(database, settings()))
    [step] = trail(database, "evt_1", TYPES)
    assert (step.ids["request_id"], step.ids["state"]) == (request.request_id, "requested")
