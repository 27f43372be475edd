"""An installation that exports Stripe to QuickBooks, with the real gate really open: for benchmarks of what follows.

Everything is the product's own: `dagster dev` with its daemon, the receiver of webhooks, the sandbox's Stripe and
QuickBooks read by their jobs and by the daily sync with their checks, checkpoints recorded by their job, the policy
asked for by one login and approved by another. Nothing is staged by hand. The other source systems are taken out of the
plan by the setting that is there for it, so that getting there takes minutes less.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from unittest import mock

import dagster as dg

from finance_os.defs.jobs import job_name
from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database, migrate
from finance_os.evidence.windows import Days
from finance_os.local.dagster_process import free_port, running_dagster
from finance_os.local.export_setting import export_variables
from finance_os.local.graphql import DagsterGraphQL
from finance_os.local.stack import checkout, running_stack
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.settings import Settings, settings
from finance_os.sources.quickbooks import QUICKBOOKS
from finance_os.sources.registry import SOURCES
from finance_os.sources.sealing import new_key
from finance_os.sources.stripe import STRIPE
from finance_os_tests.benchmarks.receiver import receiver
from finance_os_tests.conftest import create_database
from finance_os_tests.readiness.approvers import approve_policy

BUSINESS = "posted"
HISTORY = 40
"""Days that the company has lived; its books were kept by hand for the first thirty."""

KNOWN = 1_600
"""Days that can be read at all."""

PATIENCE = 600.0
"""Seconds that each step of getting ready may take."""

_READ = (STRIPE, QUICKBOOKS)


@dataclass(frozen=True)
class Installation:
    """An installation whose gate is open, and which has exported everything that there was."""

    database: Database
    stripe: Connection
    sandbox: Running
    graphql: DagsterGraphQL
    instance: dg.DagsterInstance

    @property
    def balance_date(self) -> date:
        """The first day that is exported."""
        return date.fromisoformat(settings().qbo_rules[BUSINESS]["balance_date"])

    def states(self) -> dict[str, int]:
        """How many intents are in which state."""
        rows = self.database.fetch("SELECT state, count(*) AS count FROM finance_os.intents GROUP BY 1")
        return {row["state"]: row["count"] for row in rows}

    def backfill(self, title: str, days: Days) -> str:
        """Ask for days of everything of Stripe, as in the UI; the backfill's ID."""
        return self.graphql.launch_backfill([("stripe", obj.object_type) for obj in STRIPE], days, title)

    def has_ended(self, backfill: str) -> bool:
        """Whether the run of a backfill has ended. Raises `RuntimeError` where it failed."""
        runs = self.graphql.runs(tags={"dagster/backfill": backfill})
        if failed := [run for run in runs if run.ended and run.status != "SUCCESS"]:
            raise RuntimeError("\n".join(self.graphql.failures(failed[0].run_id)) or failed[0].status)
        return bool(runs) and all(run.ended for run in runs)


@contextmanager
def open_gate(server: Database, size: int) -> Iterator[Installation]:
    """An installation in databases of its own on the server of `server`, of `size` advertisers."""
    database = Database(create_database(server.url, BUSINESS))
    dagster_url = create_database(server.url, f"{BUSINESS}_dagster")
    migrate(database.url)
    ensure_business(database, BUSINESS, "Posted", "UTC")
    stripe, _ = (ensure_connection(database, BUSINESS, source.system) for source in _READ)
    port = free_port(0)
    place = f"http://127.0.0.1:{port}/webhooks/{BUSINESS}/stripe/{stripe.connection_id}"
    with (
        tempfile.TemporaryDirectory() as home,
        running_sandbox(seed=5, days=HISTORY, size=size, rooms=("quickbooks",), webhook_url=place) as sandbox,
        mock.patch.dict(os.environ, _environment(sandbox, database, dagster_url, home), clear=True),
    ):
        settings.cache_clear()
        try:
            with (
                running_stack(Settings(), days=HISTORY) as stack,
                receiver(database, port, sandbox.env["FINANCE_OS_STRIPE_WEBHOOK_SECRET"]),
                running_dagster(
                    stack.environment, checkout() / "workspace.yaml", Path(home) / "dagster.log", port=free_port(0)
                ) as dagster,
                dg.DagsterInstance.from_config(str(stack.dagster_home)) as instance,
            ):
                ready = Installation(database, stripe, sandbox, DagsterGraphQL(dagster.address), instance)
                _open(ready, stack.environment["FINANCE_OS_QUICKBOOKS_REALM_ID"])
                yield ready
        finally:
            settings.cache_clear()


def _environment(sandbox: Running, database: Database, dagster_url: str, home: str) -> Mapping[str, str]:
    """What an installation with these two source systems sets; what is set here of others is not looked at."""
    others = [source for source in SOURCES if source not in _READ]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("FINANCE_OS_")},
        **{source.credentials[0]: "elsewhere" for source in others if source.credentials},
        **sandbox.env,
        **export_variables(sandbox, BUSINESS, "UTC"),
        "FINANCE_OS_BUSINESS": BUSINESS,
        "FINANCE_OS_DATABASE_URL": database.url,
        "FINANCE_OS_DAGSTER_DATABASE_URL": dagster_url,
        "FINANCE_OS_ENCRYPTION_KEY": new_key(),
        "FINANCE_OS_EXCLUDED_CONNECTORS": ",".join(source.system for source in others),
        "FINANCE_OS_HOME": home,
        "FINANCE_OS_START_DATE": str(datetime.now(UTC).date() - timedelta(days=KNOWN)),
    }


def _open(ready: Installation, realm: str) -> None:
    """Read everything, let the daily sync run, have the checkpoints recorded and the policy approved; and export."""
    today = datetime.now(UTC).date()
    span = Days(today - timedelta(days=HISTORY + 1), today)
    asked = {
        "dagster/asset_partition_range_start": str(span.first),
        "dagster/asset_partition_range_end": str(span.last),
    }
    _succeeded(ready, [ready.graphql.launch_run(job_name(source), tags=asked) for source in _READ])
    _succeeded(ready, ready.graphql.launch_schedule("daily_sync", "daily_sync", time.time()))
    if ready.states():
        raise RuntimeError("something was planned before the checkpoints were recorded: the gate was not shut")
    approve_policy(ready.database, BUSINESS, QBO_EXPORT.key, scope=realm)
    _succeeded(ready, [ready.graphql.launch_run("record_checkpoints")])

    def exported() -> bool:
        return bool(found := ready.states()) and set(found) <= {"applied", "superseded"}

    until(exported, "not everything was written")


def _succeeded(ready: Installation, run_ids: list[str]) -> None:
    wanted = set(run_ids)

    def ended() -> bool:
        runs = [run for run in ready.graphql.runs() if run.run_id in wanted and run.ended]
        if failed := [run for run in runs if run.status != "SUCCESS"]:
            raise RuntimeError("\n".join(ready.graphql.failures(failed[0].run_id)) or failed[0].status)
        return len(runs) == len(wanted)

    until(ended, "a run did not end")


def until(done: Callable[[], bool], otherwise: str) -> None:
    """Wait for something. Raises `RuntimeError` where it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{otherwise} within {PATIENCE:g} s")
        time.sleep(0.5)
