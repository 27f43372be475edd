"""A backfill through Dagster against a plain script that extracts and stages the same records.

Three things come on top. Before the run, Dagster plans one event for each asset and day. In it, it stores one
materialization for each, with what was staged. Neither depends on how many records there are. The checks do: they read
every record once more and hash it anew, which a plain script does not. The sandbox answers in no time; a vendor that
keeps the script waiting makes all three a smaller part of the whole.
"""

import os
import statistics
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import dagster as dg
import psycopg

from finance_os.defs.location import build_defs
from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.local.stack import checkout
from finance_os.sandbox.process import running_sandbox
from finance_os.settings import settings
from finance_os.sources.planning import plan_reads
from finance_os.sources.registry import SOURCES
from finance_os.sources.stripe import STRIPE
from finance_os_tests.benchmarks.figures import Figure, seconds, side_by_side
from finance_os_tests.benchmarks.staging import empty


def backfill_of_a_year(database: Database, dagster_url: str, size: int, rounds: int) -> list[Figure]:
    """365 days of Stripe: one Dagster run with its checks, against one plain script.

    A company of `size` advertisers has some 300 records a year for each.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    days = Days((now - timedelta(days=365)).date(), (now - timedelta(days=1)).date())
    ensure_business(database, settings().business, "Main", "UTC")
    connection = ensure_connection(database, settings().business, "stripe")
    with running_sandbox(days=366, size=size, until=now) as sandbox, tempfile.TemporaryDirectory() as home:
        environment = {
            **sandbox.env,
            "FINANCE_OS_DATABASE_URL": database.url,
            "FINANCE_OS_DAGSTER_DATABASE_URL": dagster_url,
            "FINANCE_OS_HOME": home,
            "DAGSTER_EVENT_BATCH_SIZE": "1000",
        }
        (Path(home) / "dagster.yaml").write_text((checkout() / "dagster.yaml").read_text())
        with mock.patch.dict(os.environ, environment):
            settings.cache_clear()
            staged: list[int] = []
            executing: list[float] = []
            checking: list[float] = []
            planning: list[float] = []

            def plain() -> float:
                _forget_everything(database)

                def script() -> None:
                    rows = 0
                    for obj in STRIPE:
                        for read in plan_reads(STRIPE, obj, connection, days, datetime.now(UTC)):
                            run = perform(database, read, Origin(Trigger.MANUAL), chunk_rows=settings().chunk_rows)
                            rows += run["rows_extracted"]
                    staged.append(rows)

                return seconds(script)

            def through_dagster() -> float:
                _forget_everything(database)
                job = build_defs(sources=SOURCES).resolve_job_def("stripe_sync")
                tags = {
                    "dagster/asset_partition_range_start": str(days.first),
                    "dagster/asset_partition_range_end": str(days.last),
                }
                with dg.DagsterInstance.from_config(home) as instance:
                    whole = seconds(lambda: job.execute_in_process(instance=instance, tags=tags))
                    run = instance.get_run_records(limit=1)[0]
                    assert run.dagster_run.is_success
                    assert run.start_time
                    assert run.end_time
                    executing.append(run.end_time - run.start_time)
                    planning.append(whole - executing[-1])
                    checking.append(_checking(instance, run.dagster_run.run_id))
                return whole

            alone, whole = side_by_side(rounds, plain, through_dagster)
        settings.cache_clear()
    executed, checked = statistics.median(executing), statistics.median(checking)
    return [
        Figure("records of Stripe's year", staged[0], "rows"),
        Figure("plain script over a year of Stripe", alone, "s"),
        Figure("Dagster backfill of a year / plain script", whole / alone, "×", at_most=1.3),
        Figure("of it, the run from its start, checks included / plain script", executed / alone, "×"),
        Figure("of it, the checks, which hash every record anew / plain script", checked / alone, "×"),
        Figure(f"of it, Dagster planning {len(STRIPE.objects)} assets × 365 days", statistics.median(planning), "s"),
    ]


def _checking(instance: dg.DagsterInstance, run_id: str) -> float:
    """Seconds that the check steps of a run took."""
    steps = [step for step in instance.get_run_step_stats(run_id) if step.step_key.endswith("__checks")]
    assert len(steps) == len(list(STRIPE))
    return sum(step.end_time - step.start_time for step in steps if step.start_time and step.end_time)


def _forget_everything(database: Database) -> None:
    """Empty what reads leave, the sync runs too: a run whose records are gone fails the checks of its days."""
    empty(database)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # the tables refuse to be emptied otherwise
        connection.execute("TRUNCATE finance_os.source_sync_runs, finance_os.check_results CASCADE")
