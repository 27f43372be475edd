"""The demo's third part: what Stripe says is posted to QuickBooks, killed and repeated, and reconciled."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

import msgspec
from rich.console import Console

from finance_os.evidence.database import Database
from finance_os.local.approver import make_approver
from finance_os.local.demo_failed import DemoFailed
from finance_os.local.export_setting import RULES
from finance_os.local.graphql import DagsterGraphQL
from finance_os.local.stack import Stack
from finance_os.readiness.policies import QBO_EXPORT, policy_state

BUSINESS_TAG = "finance_os/qbo_export"
"""Run tag of an export, with its business."""

PATIENCE = timedelta(minutes=15)
"""How long each step may take."""

_CLI = (sys.executable, "-c", "from finance_os.cli import main; main()")

KILLED_AFTER = (3, 11, 25)
"""How many objects each killed writer was let make."""


def post_to_quickbooks(console: Console, stack: Stack, dagster: DagsterGraphQL, business_id: str, *, own: bool) -> None:
    """Let the plan be made, have it approved, kill and repeat its writing, and compare what came of it.

    `own`: whether the database is the embedded one, on which a login that approves can be made.
    """
    console.rule("QuickBooks")
    rules = msgspec.json.decode(stack.environment.get(RULES) or "{}")
    if business_id not in rules or not own or stack.sandbox is None:
        console.print(
            "Nothing is posted: that takes the sandbox's Stripe and QuickBooks and the embedded database, on which a "
            "second login can approve it. What is configured here is left alone."
        )
        return
    database, since = stack.database, rules[business_id]["balance_date"]
    console.print(f"Planning what Stripe says since {since}; until then somebody kept the books by hand …")
    why = partial(_failures, dagster, business_id)
    _until(lambda: _exports(dagster, business_id) > 0, "the export was not planned", why)
    states = _states(database, business_id)
    if not states:
        raise DemoFailed("nothing was planned: `finance-os qbo status` says why")
    if _is_written(states):
        console.print(f"  {_told(states)}: an earlier demo posted them. What has come since is planned …")
        _command(console, stack.environment, "qbo", "plan")
        states = _states(database, business_id)
    if _is_written(states):
        console.print("  Nothing has come since.")
    else:
        _have_approved(console, stack, business_id, states)
        for objects in KILLED_AFTER:
            _kill_a_writer(console, stack, objects)
        _let_dagster_finish(console, stack, dagster, business_id)
    count = _links(database, business_id)
    console.print(f"  {_told(_states(database, business_id))}; {count:,} objects in QuickBooks are linked.")

    console.print("Everything is asked for once more …")
    today = str(database.fetch("SELECT clock_timestamp()::date AS today")[0]["today"])
    _command(console, stack.environment, "replay", "--from", since, "--to", today)
    if _links(database, business_id) != count:
        raise DemoFailed("the repeated export wrote something again")
    console.print("Comparing QuickBooks with Stripe …")
    _command(console, stack.environment, "qbo", "reconcile")


def _have_approved(console: Console, stack: Stack, business_id: str, states: Mapping[str, int]) -> None:
    """Have the export approved for the sandbox's company, unless that still is so from an earlier demo."""
    state = policy_state(stack.database, business_id, QBO_EXPORT.key)
    if state.approved:
        console.print(f"  {_told(states)}; an earlier demo had it approved.")
        return
    console.print(f"  {_told(states)}: nothing was sent, as no approval covers it. The status word is:")
    console.print(f"  {state.status}")
    console.print("One login asks for the approval, and another gives it …")
    realm = stack.environment["FINANCE_OS_QUICKBOOKS_REALM_ID"]
    asked = ("policy", "request", "qbo_export", "--scope", realm, "--reason", "the demo", "--expires", "1d")
    _command(console, stack.environment, *asked)
    approver = {**stack.environment, "FINANCE_OS_APPROVER_DATABASE_URL": make_approver(stack.database, "demo_approver")}
    _command(console, approver, "policy", "approve", "qbo_export", "--reason", "the demo")


def _let_dagster_finish(console: Console, stack: Stack, dagster: DagsterGraphQL, business_id: str) -> None:
    """Wait until everything is written, by a run of Dagster's where the killed writers left something."""
    console.print("Dagster goes on with what is left …")
    began, said = _exports(dagster, business_id), [time.monotonic()]
    is_left = not _is_written(_states(stack.database, business_id))

    def written() -> bool:
        states = _states(stack.database, business_id)
        if time.monotonic() - said[0] >= 10:
            said[0] = time.monotonic()
            console.print(f"  {_told(states)}")
        return _is_written(states) and (_exports(dagster, business_id) > began or not is_left)

    _until(written, "not everything was written", partial(_failures, dagster, business_id))


def _is_written(states: Mapping[str, int]) -> bool:
    return set(states) <= {"applied", "superseded"}


def _kill_a_writer(console: Console, stack: Stack, objects: int) -> None:
    """Start a writer of its own and kill it once so many objects more are there, wherever it is then."""
    before = _applied(stack.database)
    writer = subprocess.Popen(  # noqa: S603  our own interpreter
        [*_CLI, "qbo", "apply"], env=stack.environment, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE.total_seconds()
    try:
        while writer.poll() is None and _applied(stack.database) < before + objects:
            if time.monotonic() > deadline:
                raise DemoFailed(f"no writer made {objects} objects within {PATIENCE}")
            time.sleep(0.02)
    finally:
        ended = writer.poll()
        writer.kill()
        writer.wait()
    sending = _states(stack.database, None).get("sending", 0)
    console.print(
        f"  killed a writer (signal {signal.SIGKILL}) after {_applied(stack.database) - before} objects, with "
        f"{sending} under way"
        if ended is None
        else f"  a writer ended by itself, with status {ended}"
    )


def _command(console: Console, environment: Mapping[str, str], *arguments: str) -> None:
    """Run one of our commands and show what it says. Raises `DemoFailed` where it fails."""
    console.print(f"  $ finance-os {' '.join(arguments)}", markup=False, highlight=False, soft_wrap=True)
    ran = subprocess.run(  # noqa: S603  our own interpreter
        [*_CLI, *arguments], env=dict(environment), capture_output=True, text=True
    )
    for line in f"{ran.stdout}{ran.stderr}".splitlines():
        console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)
    if ran.returncode:
        raise DemoFailed(f"`finance-os {' '.join(arguments)}` ended with status {ran.returncode}")


def _exports(dagster: DagsterGraphQL, business_id: str) -> int:
    """How many exports of the business have succeeded. One that could not end is asked for again by the sensor."""
    return sum(run.status == "SUCCESS" for run in dagster.runs(tags={BUSINESS_TAG: business_id}))


def _failures(dagster: DagsterGraphQL, business_id: str) -> str:
    """Why exports of the business failed, if any did."""
    failed = [run for run in dagster.runs(tags={BUSINESS_TAG: business_id}) if run.ended and run.status != "SUCCESS"]
    return "".join(f"\n{why}" for run in failed for why in dagster.failures(run.run_id) or [run.status])


def _states(database: Database, business_id: str | None) -> dict[str, int]:
    rows = database.fetch(
        """
        SELECT state, count(*) AS count FROM finance_os.intents
        WHERE %(business_id)s::text IS NULL OR business_id = %(business_id)s GROUP BY 1 ORDER BY 1
        """,
        {"business_id": business_id},
    )
    return {row["state"]: row["count"] for row in rows}


def _applied(database: Database) -> int:
    return _states(database, None).get("applied", 0)


def _links(database: Database, business_id: str) -> int:
    [row] = database.fetch("SELECT count(*) AS count FROM finance_os.links WHERE business_id = %s", (business_id,))
    return row["count"]


def _told(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} intents {state}" for state, count in states.items()) or "no intents"


def _until(done: Callable[[], bool], otherwise: str, why: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not done():
        if time.monotonic() > deadline:
            raise DemoFailed(f"{otherwise} within {PATIENCE}{why()}")
        time.sleep(1)
