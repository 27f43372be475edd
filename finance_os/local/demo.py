"""The demo: the real main job on one machine, from an empty folder to staged and checked evidence."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.local.dagster_process import running_dagster
from finance_os.local.demo_export import post_to_quickbooks
from finance_os.local.demo_failed import DemoFailed
from finance_os.local.demo_gate import work_through_the_gate
from finance_os.local.graphql import DagsterGraphQL, RunState
from finance_os.local.stack import Stack, checkout, inbox, running_stack
from finance_os.local.summary import print_summary
from finance_os.readiness.plan import source_sync_plan
from finance_os.settings import Settings
from finance_os.sources.registry import SOURCES
from finance_os.sources.source import Cadence

PATIENCE = timedelta(minutes=12)
"""How long the demo waits for Dagster to do what it was asked."""


PLAIN_LINES_EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal to draw in."""


def run_demo(settings: Settings, console: Console, *, days: int | None, size: int | None) -> None:
    """Backfill `days` of every source, hand in bank files, open the gate, post to QuickBooks, and print what is ready.

    Raises `DemoFailed` if a run failed or did not end in time. Nothing is left running either way.
    """
    began = time.monotonic()
    console.rule("Finance OS demo")
    log = settings.home.absolute() / "logs" / "dagster.log"
    console.print("Starting PostgreSQL and the vendor sandbox …")
    with running_stack(settings, days=days, size=size, export=True) as stack:
        for source in SOURCES:
            if source.credentials:
                where = "sandbox" if source.system in stack.simulated else "as configured in the environment"
                console.print(f"  {source.title}: {where}")
        console.print("Starting Dagster (webserver, daemon, code server) …")
        with running_dagster(stack.environment, checkout() / "workspace.yaml", log) as dagster:
            console.print(f"  The UI is at {dagster.address} until the demo ends.")
            graphql = DagsterGraphQL(dagster.address)
            span = _main_job(settings, console, stack, graphql)
            inboxes = _inboxes(settings)
            is_open = work_through_the_gate(
                console,
                stack,
                graphql,
                span,
                settings.business,
                lambda: _waiting_files(inboxes) + _unstaged_drops(stack.database),
            )
            if is_open:
                post_to_quickbooks(console, stack, graphql, settings.business, own=settings.database_url is None)
            console.print("Stopping Dagster …")
        print_summary(stack.database, console)
        for row in stack.database.fetch("SELECT business_id FROM finance_os.businesses ORDER BY 1"):
            plan = source_sync_plan(
                stack.database, SOURCES, row["business_id"], excluded=settings.excluded, environment=stack.environment
            )
            console.print(f"{row['business_id']}: {plan.headline} `finance-os plan` shows the whole plan.")
            for found in plan.exceptions:
                console.print(f"  open: {found.severity} {found.code} {found.subject} ({found.source_system})")
        console.print("Stopping the sandbox and PostgreSQL …")
    console.print(f"Done in {time.monotonic() - began:.0f} s. The evidence is kept in {settings.home.absolute()}.")
    console.print("Next: `make dev` opens it in the Dagster UI.")


def _main_job(settings: Settings, console: Console, stack: Stack, dagster: DagsterGraphQL) -> Days:
    """Backfill every source that is read daily and stage the files; the days that were asked for."""
    today = datetime.now(UTC).astimezone(ZoneInfo(settings.timezone)).date()
    # From before the company began, in whatever time zone: an export has to know all that QuickBooks holds.
    span = Days(max(today - timedelta(days=stack.days + 1), settings.start_date), today)
    began = time.time()
    backfills: dict[str, tuple[str, int]] = {}
    for source in SOURCES:
        if source.cadence is Cadence.DAILY:
            keys = [(source.system, obj.object_type) for obj in source]
            backfill_id = dagster.launch_backfill(keys, span, f"{source.title}: {span}")
            backfills[backfill_id] = (source.title, 2 * len(keys))
    console.print(f"Backfills of {span} are requested for {', '.join(title for title, _ in backfills.values())}.")
    inboxes = _inboxes(settings)
    if stack.sandbox is None or not inboxes:
        console.print("No files are handed in: the sandbox does not write to S3.")
    else:
        _hand_in_broken_file(stack, span)
        for folder in inboxes:
            console.print(f"{_waiting_files([folder])} files are waiting in {folder}.")
    with _progress(console) as progress:
        tasks = {backfill: progress.add_task(title, total=total) for backfill, (title, total) in backfills.items()}
        files_task = progress.add_task("Files", total=None)
        said = time.monotonic()
        deadline = said + PATIENCE.total_seconds()
        while time.monotonic() < deadline:
            runs = dagster.runs(created_after=began - 1)
            ended = True
            for backfill_id, task in tasks.items():
                done = sum(run.done for run in runs if run.tags.get("dagster/backfill") == backfill_id)
                progress.update(task, completed=done)
                ended = dagster.backfill_status(backfill_id).startswith(("COMPLETED", "FAILED", "CANCELED")) and ended
            waiting = _waiting_files(inboxes) + _unstaged_drops(stack.database)
            progress.update(files_task, description=f"Files ({waiting} to go)" if waiting else "Files")
            if not console.is_terminal and time.monotonic() - said >= PLAIN_LINES_EVERY:
                said = time.monotonic()
                steps = ", ".join(
                    f"{task.description} {task.completed:.0f}/{task.total or 1:.0f}" for task in progress.tasks
                )
                console.print(f"  {steps}")
            if ended and not waiting and all(run.ended for run in runs):
                progress.update(files_task, total=1, completed=1)
                _require_success(runs)
                return span
            time.sleep(1)
    raise DemoFailed(f"The runs did not end within {PATIENCE}; the log is {settings.home.absolute()}/logs/dagster.log")


def _inboxes(settings: Settings) -> list[Path]:
    """The folders that files are handed in at; none where that is on S3."""
    return [folder for source in SOURCES if source.judge and (folder := inbox(settings, source.system))]


def _hand_in_broken_file(stack: Stack, span: Days) -> None:
    """Drop one bank export with a bad amount, to show what becomes of it."""
    assert stack.sandbox is not None
    first, last = str(span.last - timedelta(days=7)), str(span.last - timedelta(days=1))
    body = {"first": first, "last": last, "name": "rho-broken.csv", "fault": "bad_amount"}
    stack.sandbox.call("POST", "/drops", body)


def _waiting_files(inboxes: Sequence[Path]) -> int:
    """Files in the inboxes that no verdict has cleared away yet."""
    return sum(path.is_file() and not path.name.startswith(".") for folder in inboxes for path in folder.glob("*.*"))


def _unstaged_drops(database: Database) -> int:
    """Accepted drops with rows that no finished sync run has read."""
    rows = database.fetch(
        """
        SELECT count(*) AS drops
        FROM finance_os.drops AS handed_in
        WHERE verdict = 'accepted' AND row_count > 0 AND NOT EXISTS (
            SELECT FROM finance_os.source_sync_runs AS run, unnest(run.targets) AS target
            WHERE run.business_id = handed_in.business_id AND run.source_system = handed_in.source_system
              AND run.kind = 'drop' AND run.status <> 'running'
              AND position(encode(handed_in.content_hash, 'hex') IN target) > 0)
        """
    )
    return rows[0]["drops"]


def _require_success(runs: list[RunState]) -> None:
    failed = [run for run in runs if run.status != "SUCCESS"]
    if failed:
        listed = ", ".join(f"{run.job_name} {run.run_id[:8]} ({run.status})" for run in failed)
        raise DemoFailed(f"{len(failed)} of {len(runs)} runs did not succeed: {listed}")


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """Steps done of each backfill: a live display in a terminal; elsewhere the caller prints lines."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress
