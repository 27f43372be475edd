"""From a webhook to the evidence that was refetched for it, with the real receiver and the real Dagster daemon.

An event comes every second, each about another object. Counted is the time from when it was received to the end of the
last sync run that read what it asks for; once with nothing else to do, and once while a backfill of all of Stripe runs.
"""

import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.local.dagster_process import running_dagster
from finance_os.local.graphql import DagsterGraphQL
from finance_os.local.stack import checkout, running_stack
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.settings import Settings, settings
from finance_os.sources.registry import SOURCES
from finance_os.sources.stripe import STRIPE
from finance_os_tests.benchmarks.deliveries import Orders, delivering
from finance_os_tests.benchmarks.figures import Figure
from finance_os_tests.benchmarks.receiver import SECRET, receiver

PATIENCE = 300.0


def refetched(database: Database, dagster_url: str, events: int) -> list[Figure]:
    """Median and p95 of `events` webhooks, alone and while a backfill runs."""
    with _daemon(database, dagster_url) as (connection, sandbox, graphql):
        invoices = _invoices(sandbox)
        with receiver(database) as (address, _):
            place = f"{address}/webhooks/{connection.business_id}/stripe/{connection.connection_id}"
            _measured(database, place, invoices, "evt_first_", 5)  # starting the first run takes longer
            alone = _measured(database, place, invoices, "evt_alone_", events)
            today = datetime.now(UTC).date()
            days = Days(today - timedelta(days=30), today - timedelta(days=1))
            backfill = graphql.launch_backfill([("stripe", obj.object_type) for obj in STRIPE], days, "benchmark")
            beside = _measured(database, place, invoices, "evt_beside_", events)
            while not graphql.backfill_status(backfill).startswith(("COMPLETED", "FAILED")):
                time.sleep(1)
    return [
        figure
        for name, took in (("alone", alone), ("while a backfill runs", beside))
        for figure in (
            Figure(f"webhook to refetched evidence, {name}: p50", statistics.median(took), "s"),
            Figure(
                f"webhook to refetched evidence, {name}: p95", statistics.quantiles(took, n=20)[18], "s", at_most=15
            ),
        )
    ]


@contextmanager
def _daemon(database: Database, dagster_url: str) -> Iterator[tuple[Connection, Running, DagsterGraphQL]]:
    """A business whose Stripe is a sandbox, and `dagster dev` over it."""
    ensure_business(database, "refetched", "Refetched", "UTC")
    connection = ensure_connection(database, "refetched", "stripe")
    elsewhere = {source.credentials[0]: "elsewhere" for source in SOURCES if source.credentials}
    with tempfile.TemporaryDirectory() as home, running_sandbox(seed=5, days=40, size=12) as sandbox:
        given = {name: value for name, value in os.environ.items() if not name.startswith("FINANCE_OS_")}
        environment = {
            **given,
            **elsewhere,
            **sandbox.env,
            "FINANCE_OS_DATABASE_URL": database.url,
            "FINANCE_OS_DAGSTER_DATABASE_URL": dagster_url,
            "FINANCE_OS_HOME": home,
        }
        with mock.patch.dict(os.environ, environment, clear=True):
            settings.cache_clear()
            try:
                with (
                    running_stack(Settings(), days=5) as stack,
                    running_dagster(
                        stack.environment, checkout() / "workspace.yaml", Path(home) / "dagster.log", port=0
                    ) as dagster,
                ):
                    yield connection, sandbox, DagsterGraphQL(dagster.address)
            finally:
                settings.cache_clear()


def _invoices(sandbox: Running) -> list[str]:
    key = {"authorization": f"Bearer {sandbox.env['FINANCE_OS_STRIPE_API_KEY']}"}
    with httpx.Client(base_url=sandbox.base, headers=key, trust_env=False) as client:
        return [
            item["id"] for item in client.get("/v1/invoices", params={"limit": 100}).raise_for_status().json()["data"]
        ]


def _measured(database: Database, place: str, invoices: list[str], prefix: str, count: int) -> list[float]:
    """Send an event every second, and wait until the last one has been read for: how long each of them took."""
    about = random.Random(prefix).choices(invoices, k=count)
    orders = Orders(place, SECRET, prefix, count, 1.0, connections=2, objects=tuple(about))
    with delivering(orders) as results:
        refused = [each for each in results if each.status != 200]
    if refused:
        raise RuntimeError(f"{len(refused)} deliveries were refused")
    until = time.monotonic() + PATIENCE
    rows: list[dict[str, Any]] = []
    while time.monotonic() < until:
        rows = database.fetch(
            """
            SELECT extract(epoch FROM max(run.completed_at) - event.received_at)::float8 AS took
            FROM finance_os.webhook_events AS event
            JOIN finance_os.source_sync_runs AS run ON run.sync_run_id = ANY (event.sync_run_ids)
            WHERE event.state = 'done' AND starts_with(event.event_key, %s)
            GROUP BY event.event_number, event.received_at
            """,
            (prefix,),
        )
        if len(rows) == count:
            return [row["took"] for row in rows]
        time.sleep(1)
    raise RuntimeError(f"{len(rows)} of {count} events were read for within {PATIENCE:g} s")
