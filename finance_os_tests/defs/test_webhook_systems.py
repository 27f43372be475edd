"""Webhooks of QuickBooks and Plaid, up to the staged record: the vendors' own rooms of the sandbox, and real runs."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from finance_os import settings as settings_module
from finance_os.defs.location import build_defs
from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.sources.sealing import new_key
from finance_os.webhooks import inbox
from finance_os.webhooks.events import events_in
from finance_os.webhooks.settings import webhook_settings
from finance_os_tests.webhooks.senders import cloud_event, entity, notifications


@pytest.fixture(scope="module")
def vendors() -> Iterator[Running]:
    with running_sandbox(seed=5, days=12, size=2, rooms=["quickbooks", "plaid"]) as running:
        yield running


@pytest.fixture
def place(database: Database, vendors: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_")]:
        monkeypatch.delenv(name)
    given = {**vendors.env, "FINANCE_OS_DATABASE_URL": database.url, "FINANCE_OS_HOME": str(tmp_path)}
    for name, value in {**given, "FINANCE_OS_ENCRYPTION_KEY": new_key()}.items():
        monkeypatch.setenv(name, value)
    settings_module.settings.cache_clear()
    webhook_settings.cache_clear()
    ensure_business(database, "acme", "Acme", "America/New_York")
    yield database
    settings_module.settings.cache_clear()
    webhook_settings.cache_clear()


def come(database: Database, connection: Connection, body: bytes) -> None:
    events = [(connection, event) for event in events_in(connection.source_system, body)]
    inbox.store(database, connection, body, events)


def walked(defs: dg.Definitions) -> list[dg.RunRequest]:
    """Ticks and runs until nothing is asked for; what was asked for."""
    instance = dg.DagsterInstance.ephemeral()
    repository = defs.get_repository_def()
    asked: list[dg.RunRequest] = []
    for _ in range(10):
        with dg.build_sensor_context(
            instance, resources={"evidence": (defs.resources or {})["evidence"]}, repository_def=repository
        ) as context:
            requests = repository.get_sensor_def("webhook_inbox").evaluate_tick(context).run_requests or []
        if not requests:
            return asked
        asked += requests
        for request in requests:
            assert request.job_name is not None
            result = defs.resolve_job_def(request.job_name).execute_in_process(
                instance=instance,
                run_config=request.run_config,
                asset_selection=request.asset_selection,
                tags=dict(request.tags),
                raise_on_error=False,
            )
            assert result.success
    raise AssertionError("the sensor does not come to an end")


def heads(database: Database, object_type: str) -> dict[str, bool]:
    """Source ID → whether it has been removed."""
    rows = database.fetch(
        "SELECT source_id, removed FROM finance_os.raw_record_heads WHERE object_type = %s ORDER BY 1", (object_type,)
    )
    return {row["source_id"]: row["removed"] for row in rows}


def test_quickbooks_in_both_forms_is_read_by_id(place: Database, vendors: Running) -> None:
    books = ensure_connection(place, "acme", "quickbooks")
    realm = vendors.env["FINANCE_OS_QUICKBOOKS_REALM_ID"]
    new = [cloud_event("a", realm, "1", "qbo.account.updated.v1"), cloud_event("b", realm, "999999")]
    come(place, books, json.dumps(new).encode())
    come(place, books, notifications((realm, [entity("Account", "1"), entity("Account", "2"), entity("Budget", "3")])))
    [request] = walked(build_defs())
    assert request.job_name == "quickbooks_webhooks"
    configs = {name: op["config"]["targets"] for name, op in (request.run_config or {})["ops"].items()}
    assert configs == {"quickbooks__quickbooks_account": ["1", "2"], "quickbooks__quickbooks_invoice": ["999999"]}
    assert heads(place, "quickbooks_account") == {"1": False, "2": False}
    assert heads(place, "quickbooks_invoice") == {}  # never seen, so there is nothing to remove
    assert {row["state"] for row in place.fetch("SELECT state FROM finance_os.webhook_events")} == {"done"}


def test_plaid_reads_its_present_day_and_what_changed_since(place: Database, vendors: Running) -> None:
    bank = ensure_connection(place, "acme", "plaid")
    known = set(vendors.room("plaid", "list"))
    body = {"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "item-1"}
    come(place, bank, json.dumps(body).encode())
    [request] = walked(build_defs())
    assert request.job_name == "plaid_webhooks"
    configs = {name: set(op["config"]) for name, op in (request.run_config or {})["ops"].items()}
    assert configs == {
        "plaid__plaid_account": {"connections"},
        "plaid__plaid_item": {"connections", "targets"},
        "plaid__plaid_transaction": {"connections"},
    }
    assert known <= set(heads(place, "plaid_transaction"))
    assert len(heads(place, "plaid_account")) >= 1
    rows = place.fetch("SELECT object_type, kind, trigger, status FROM finance_os.source_sync_runs ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [
        ("plaid_account", "snapshot", "webhook", "succeeded"),
        ("plaid_item", "targeted", "webhook", "succeeded"),
        ("plaid_transaction", "window", "webhook", "succeeded"),
    ]
    assert {row["state"] for row in place.fetch("SELECT state FROM finance_os.webhook_events")} == {"done"}
