"""The demo's second half: the gate refuses the backtest, its blockers are worked off, and it opens."""

import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from rich.console import Console

from finance_os.backtest import shown
from finance_os.backtest.month import Month
from finance_os.backtest.results import latest_result
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.local.demo_failed import DemoFailed
from finance_os.local.graphql import DagsterGraphQL, RunState
from finance_os.local.stack import Stack
from finance_os.readiness import completion, failure_monitoring, hardening, scheduled_sync_readiness
from finance_os.readiness.assessment import assess_now

_RESTS_ON_ANOTHER = frozenset(
    line.key
    for line in (
        scheduled_sync_readiness.DEPLOYED,
        failure_monitoring.READINESS_CURRENT,
        *completion.LINES[:3],
        *hardening.LINES[:4],
    )
)
"""The lines that say of another checkpoint whether it is current."""

BACKTEST = ("backtest", "publisher_month_backtest")

PATIENCE = timedelta(minutes=20)
"""How long each part may take, in all."""


def whole_months(span: Days) -> list[Month]:
    """The months that lie in `span` from their first day to their last."""
    months = sorted({Month(day.replace(day=1)) for day in span})
    return [month for month in months if span.first <= month.first and month.last <= span.last]


def work_through_the_gate(
    console: Console,
    stack: Stack,
    dagster: DagsterGraphQL,
    span: Days,
    business_id: str,
    files_to_go: Callable[[], int],
) -> bool:
    """Ask for the backtest before and after the blockers are worked off, and say what came of it.

    Whether the gate is open now; it was not worked on where no whole month lies in `span`.
    """
    months = whole_months(span)
    if not months:
        console.print(
            f"No whole month lies in {span}, so the backtest has nothing to compare: ask for 62 days or more to see it."
        )
        return False
    console.rule("The gate")
    names = ", ".join(map(str, months))
    console.print(f"Asking for the backtest of {names} …")
    known = assess_now(stack.database, business_id).standings.values()
    was_recorded = all(standing.recorded is not None for standing in known)
    [refused] = _backtest(dagster, months, "before")
    if refused.status == "SUCCESS":
        if not was_recorded:
            raise DemoFailed("the backtest ran though no checkpoint was recorded")
        console.print("  It ran: an earlier demo worked the blockers off, and every checkpoint is current.")
        _print_results(console, stack.database, business_id, months)
        return True
    console.print(f"  refused, run {refused.run_id[:8]}; in the way are:")
    _print_blocked(console, stack.database, business_id)

    console.print(
        "Working them off: the daily sync is run; the bank's corrected export and a workbook without the duplicate key "
        "are handed in …"
    )
    if stack.sandbox is not None:
        told = {"first": str(span.first), "last": str(span.last), "name": "rho-corrected.csv", "amended": True}
        stack.sandbox.call("POST", "/drops", told)
        mended = {"first": str(span.first), "last": str(span.last), "name": "baseline-corrected.xlsx"}
        stack.sandbox.call("POST", "/workbooks", {**mended, "mended": ["baseline_duplicate_key"]})
    _wait(dagster, dagster.launch_schedule("daily_sync", "daily_sync", time.time()))
    _until(lambda: files_to_go() == 0, "the corrected files were not staged")
    began = time.time()
    _until(  # the sensor records them by itself once the daily sync has ended
        lambda: all(run.ended for run in dagster.runs(created_after=began - PATIENCE.total_seconds())),
        "some runs did not end",
    )
    console.print("Recording the checkpoints …")
    _wait(dagster, [dagster.launch_run("record_checkpoints")])
    assessment = assess_now(stack.database, business_id)
    for standing in assessment.standings.values():
        evaluation = standing.evaluation
        console.print(
            f"  {standing.title}: {evaluation.ready_count}/{len(evaluation.lines)} ready, {standing.currency} "
            f"({evaluation.evidence_hash})"
        )
    if not all(standing.current for standing in assessment.standings.values()):
        _print_blocked(console, stack.database, business_id)

    console.print(f"Asking for the backtest of {names} again …")
    [ran] = _backtest(dagster, months, "after")
    if ran.status != "SUCCESS":
        raise DemoFailed("\n".join(dagster.failures(ran.run_id)) or f"run {ran.run_id} ended as {ran.status}")
    _print_results(console, stack.database, business_id, months)
    return True


def _print_results(console: Console, database: Database, business_id: str, months: Iterable[Month]) -> None:
    for month in months:
        stored = latest_result(database, business_id, month)
        if stored is None:
            raise DemoFailed(f"{month} was reported as done and has no result")
        console.print(
            f"  {month}: {shown.classes_text(stored.result)}; "
            f"{shown.money(stored.result.totals['spend_microdollars'])} USD of spend; result {stored.result_hash[:12]}"
        )
    console.print("`finance-os backtest show MONTH` has every row, `finance-os backtest trace` its raw records.")


def _backtest(dagster: DagsterGraphQL, months: Iterable[Month], when: str) -> list[RunState]:
    backfill = dagster.launch_month_backfill(BACKTEST, [str(month.first) for month in months], f"Backtest, {when}")
    _until(
        lambda: dagster.backfill_status(backfill).startswith(("COMPLETED", "FAILED", "CANCELED")),
        "the backtest did not end",
    )
    return dagster.runs(tags={"dagster/backfill": backfill})


def _wait(dagster: DagsterGraphQL, run_ids: Iterable[str]) -> None:
    """Until these runs have ended."""
    wanted = set(run_ids)
    began = time.time() - PATIENCE.total_seconds()
    _until(
        lambda: wanted <= {run.run_id for run in dagster.runs(created_after=began) if run.ended}, "a run did not end"
    )


def _until(done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not done():
        if time.monotonic() > deadline:
            raise DemoFailed(f"{otherwise} within {PATIENCE}")
        time.sleep(1)


def _print_blocked(console: Console, database: Database, business_id: str) -> None:
    """The blocked lines, but for those that only say that another checkpoint is not current."""
    rests = 0
    for name, standing in assess_now(database, business_id).standings.items():
        for line in standing.evaluation.blocked:
            if line.key in _RESTS_ON_ANOTHER:
                rests += 1
                continue
            console.print(f"    {line.blocker} ({name}): {line.remedy}", soft_wrap=True, markup=False, highlight=False)
    if rests:
        console.print(f"    and {rests} lines of checkpoints that rest on these")
