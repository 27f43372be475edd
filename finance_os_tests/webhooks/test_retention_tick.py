"""Pruning in the sensor `webhook_inbox`: one batch a tick, beside the reads, which it never holds up."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from finance_os import settings as settings_module
from finance_os.defs.resources import Evidence
from finance_os.defs.webhook_sensor import webhook_jobs, webhook_sensor
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.sources.stripe import STRIPE
from finance_os.webhooks import retention
from finance_os.webhooks.settings import webhook_settings
from finance_os.webhooks.walk import request_reads
from finance_os_tests.webhooks.aging import age
from finance_os_tests.webhooks.test_walk import come, refunds, run, settings


@pytest.fixture(autouse=True)
def installation(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path))
    for cached in (settings_module.settings, webhook_settings):
        cached.cache_clear()
    yield
    for cached in (settings_module.settings, webhook_settings):
        cached.cache_clear()


def tick(cursor: str | None) -> tuple[list[dg.RunRequest], str, str | None]:
    """What one evaluation of the sensor asks for, what it says if that is nothing, and its cursor."""
    jobs = webhook_jobs([STRIPE])
    [sensor] = webhook_sensor([STRIPE], jobs)
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance, cursor=cursor, resources={"evidence": Evidence()}) as context,
    ):
        found = sensor.evaluate_tick(context)
    return list(found.run_requests or ()), found.skip_message or "", found.cursor


def bodies(database: Database) -> int:
    [row] = database.fetch("SELECT count(body) AS kept FROM finance_os.webhook_bodies")
    return row["kept"]


def read(database: Database, connection: Connection, *events: bytes) -> None:
    come(database, connection, *events)
    for request in request_reads(database, settings()):
        run(database, request, dict.fromkeys(request.reads))


def test_a_tick_prunes_one_batch_and_a_pass_is_followed_by_a_rest(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    read(database, acme, *refunds(range(7)))
    age(database, 31)
    come(database, acme, *refunds([7]))
    left, cursor = [], None
    for _ in range(4):
        requests, _, cursor = tick(cursor)
        left.append(bodies(database))
        assert len(requests) == 1, "what waits is asked for at every tick"
    assert left == [5, 2, 1, 1]
    assert tick(cursor)[2] == cursor, "it rests"


def test_it_says_what_it_pruned(database: Database, acme: Connection, globex: Connection) -> None:
    read(database, acme, *refunds(range(2)))
    read(database, globex, *refunds([1]))
    age(database, 31)
    _, said, _ = tick(None)
    assert said == "bodies of acme/stripe pruned: 2; bodies of globex/stripe pruned: 1; No event waits."
    assert tick(None)[1] == "No event waits."


def test_zero_days_prune_nothing(database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCE_OS_WEBHOOK_BODY_DAYS", "0")
    webhook_settings.cache_clear()
    read(database, acme, *refunds([1]))
    age(database, 4_000)
    assert tick(None) == ([], "No event waits.", None)
    assert bodies(database) == 1


def test_pruning_that_fails_holds_no_read_up(database: Database, acme: Connection) -> None:
    read(database, acme, *refunds([1]))
    age(database, 31)
    come(database, acme, *refunds([2]))
    with psycopg.connect(database.url) as owner:
        owner.execute("REVOKE ALL ON FUNCTION finance_os.prune_webhook_bodies FROM finance_os_application")
    requests, _, cursor = tick(None)
    assert len(requests) == 1
    assert cursor is not None
    with psycopg.connect(database.url) as owner:
        owner.execute("GRANT EXECUTE ON FUNCTION finance_os.prune_webhook_bodies TO finance_os_application")
    tick(cursor)
    assert bodies(database) == 2, "it rests"
    tick(None)
    assert bodies(database) == 1
