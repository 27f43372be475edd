"""The source sync plan, counted from what is there."""

import re
from pathlib import Path

import msgspec
import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.local.plan_page import plan_json
from finance_os.readiness.plan import source_sync_plan
from finance_os.sources.connectors import ConnectorStatus, planned_connectors
from finance_os.sources.registry import SOURCES
from finance_os_tests.evidence.staged import page, record, stage


@pytest.fixture(autouse=True)
def every_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """All credentials of all sources; tests take some away."""
    for source in SOURCES:
        for name in source.credentials:
            monkeypatch.setenv(name, "present")


@pytest.fixture
def connected(database: Database) -> Database:
    ensure_business(database, "acme", "Acme", "UTC")
    for source in SOURCES:
        ensure_connection(database, "acme", source.system)
    return database


def test_everything_is_ready_where_every_credential_is_present(connected: Database) -> None:
    plan = source_sync_plan(connected, SOURCES, "acme")
    count = len([source for source in SOURCES if source.order is not None])
    assert plan.headline == f"{count} of {count} planned connectors have runtime credentials present."
    assert [each.order for each in plan.connectors] == sorted(each.order for each in plan.connectors)
    assert all(each.sentence.endswith("credential presence is configured at runtime.") for each in plan.connectors)
    assert all(each.objects and each.read_scope and each.cursor_strategy for each in plan.connectors)


def test_one_without_credentials_is_blocked_and_says_what_to_set(
    connected: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINANCE_OS_STRIPE_API_KEY")
    plan = source_sync_plan(connected, SOURCES, "acme")
    [stripe] = [each for each in plan.connectors if each.source_system == "stripe"]
    assert stripe.status is ConnectorStatus.BLOCKED
    assert stripe.sentence == "Stripe credential is missing in this runtime; keep connector blocked."
    assert (stripe.blocker, stripe.remedy) == ("credentials_missing", "Set FINANCE_OS_STRIPE_API_KEY.")
    assert plan.ready == len(plan.connectors) - 1


def test_a_connector_that_a_setting_takes_out_is_not_counted(connected: Database) -> None:
    whole = source_sync_plan(connected, SOURCES, "acme")
    fewer = source_sync_plan(connected, SOURCES, "acme", excluded=frozenset({"stripe"}))
    assert len(fewer.connectors) == len(whole.connectors) - 1
    assert fewer.ready == whole.ready - 1
    assert "stripe" not in {each.source_system for each in fewer.connectors}
    assert planned_connectors(SOURCES)[0].system == "stripe"


def test_another_business_has_a_plan_of_its_own(connected: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_business(connected, "globex", "Globex", "UTC")
    ensure_connection(connected, "globex", "stripe", secret_reference="env:GLOBEX_")
    plan = source_sync_plan(connected, SOURCES, "globex")
    stripe = plan.connectors[0]
    assert stripe.remedy == "Set GLOBEX_FINANCE_OS_STRIPE_API_KEY."
    assert {each.blocker for each in plan.connectors[1:]} == {"connection_missing"}
    monkeypatch.setenv("GLOBEX_FINANCE_OS_STRIPE_API_KEY", "present")
    assert source_sync_plan(connected, SOURCES, "globex").ready == 1


def test_what_is_staged_is_counted(connected: Database, acme: Connection, globex: Connection) -> None:
    stage(connected, acme, page(record("a"), record("b")))
    stage(connected, acme, page(record("a", "changed"), record("b", None), minute=1))
    stage(connected, globex, page(record("a")))
    plan = source_sync_plan(connected, SOURCES, "acme")
    [invoices] = [each for each in plan.staged if each.object_type == "stripe_invoice"]
    assert (invoices.raw_rows, invoices.current, invoices.sync_runs) == (3, 1, 2)
    assert invoices.last_status == "succeeded"
    assert [each.source_id for each in plan.recent_records] == ["a", "a", "b"]
    assert all(re.fullmatch("[0-9a-f]{12}", each.payload_hash) for each in plan.recent_records)
    assert [each.status for each in plan.recent_runs] == ["succeeded", "succeeded"]
    assert all(each.raw_rows == 0 for each in plan.staged if each.object_type != "stripe_invoice")


def test_the_json_says_the_same_and_holds_no_secret(connected: Database) -> None:
    text = plan_json([source_sync_plan(connected, SOURCES, "acme")])
    [decoded] = msgspec.json.decode(text)
    assert decoded["ready"] == len(decoded["connectors"])
    assert b'present"' not in text


def test_the_texts_are_those_that_were_asked_for(connected: Database) -> None:
    """Each declared text of a connector is on the page that the users wrote, kept in this folder."""
    page_text = (Path(__file__).parent / "connector_texts.txt").read_text()
    for each in source_sync_plan(connected, SOURCES, "acme").connectors:
        assert each.title in page_text
        assert each.cursor_strategy in page_text
        assert each.evidence_policy in page_text
        assert ", ".join(each.objects) in page_text
        assert each.idempotency_key in page_text
