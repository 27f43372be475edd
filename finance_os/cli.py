"""The `finance-os` command."""

import signal
import sys
import time
from datetime import timedelta
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from finance_os.commands import alerts, artifacts, backtest, checkpoint, deploy, policy, qbo, web, webhooks
from finance_os.commands import metrics as show_metrics
from finance_os.commands.opened import console, errors, opened_database, require_business
from finance_os.commands.replay import replay
from finance_os.commands.trace import trace
from finance_os.observability import logs, metrics
from finance_os.settings import Settings

app = typer.Typer(
    help="Finance OS: evidence of a company's money, staged, checked and replayable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
db = typer.Typer(help="The finance database's schema.", no_args_is_help=True)
runs = typer.Typer(help="Sync runs, and exactly what each of them saw.", no_args_is_help=True)
audit = typer.Typer(help="The audit chain.", no_args_is_help=True)
keys = typer.Typer(help="The keys that kept secrets are encrypted with.", no_args_is_help=True)
app.add_typer(db, name="db")
app.add_typer(runs, name="runs")
app.add_typer(audit, name="audit")
app.add_typer(keys, name="keys")
app.add_typer(checkpoint.app, name="checkpoint")
app.add_typer(policy.app, name="policy")
app.add_typer(deploy.app, name="deploy")
app.add_typer(alerts.app, name="alerts")
app.add_typer(backtest.app, name="backtest")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(qbo.app, name="qbo")
app.add_typer(artifacts.app, name="artifacts")
app.command("web")(web.web)
app.command("replay")(replay)
app.command("metrics")(show_metrics.metrics)
app.command("trace")(trace)


def main() -> None:
    """Run the command; an expected failure is one line that says what to do, and status 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped on the way out
    import psycopg

    from finance_os.evidence.anchors import DamagedAnchor
    from finance_os.evidence.database import SchemaNotCurrent
    from finance_os.local.dagster_process import DagsterDidNotStart
    from finance_os.local.demo_failed import DemoFailed
    from finance_os.local.graphql import DagsterRefused
    from finance_os.local.web_process import WebDidNotStart
    from finance_os.readiness.approvals import PolicyRefused
    from finance_os.readiness.policies import PolicyGated

    try:
        logs.configure()
        metrics.start()
        app()
    except (
        SchemaNotCurrent,
        DagsterDidNotStart,
        WebDidNotStart,
        DemoFailed,
        DagsterRefused,
        DamagedAnchor,
        PolicyGated,
        PolicyRefused,
        LookupError,
    ) as error:
        if isinstance(error, KeyError | IndexError):
            raise  # a defect, which a word in red would hide
        errors.print(str(error), style="red", markup=False)
        raise SystemExit(1) from None
    except psycopg.Error as error:
        words = str(error).strip().splitlines()
        errors.print(f"[red]The database: {words[0] if words else type(error).__name__}[/]")
        errors.print("Look at FINANCE_OS_DATABASE_URL, and whether the server answers there.")
        raise SystemExit(1) from None
    except ValidationError as error:
        for problem in error.errors():
            name = "FINANCE_OS_" + "_".join(str(part) for part in problem["loc"]).upper()
            errors.print(f"[red]{name}: {problem['msg']}[/]")
        raise SystemExit(2) from None


@app.command()
def demo(
    days: Annotated[
        int | None, typer.Option(min=2, help="How far back a new sandbox company goes; 122 if not given.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Advertisers that a new sandbox company has; 20 if not given.")
    ] = None,
) -> None:
    """Run the main job once on this machine, from an empty database to staged and checked evidence."""
    from finance_os.local.demo import run_demo

    run_demo(Settings(), console, days=days, size=size)


@app.command()
def dev(
    days: Annotated[
        int | None, typer.Option(min=2, help="How far back a new sandbox company goes; 122 if not given.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Advertisers that a new sandbox company has; 20 if not given.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the Dagster UI, if it is free.")] = 3000,
) -> None:
    """Open the Dagster UI over the embedded database and the sandbox, until Ctrl-C."""
    from finance_os.local.dagster_process import free_port, running_dagster
    from finance_os.local.stack import checkout, running_stack
    from finance_os.local.web_process import running_web

    settings = Settings()
    log = settings.home.absolute() / "logs" / "dagster.log"
    console.print("Starting PostgreSQL and the vendor sandbox …")
    try:
        with running_stack(settings, days=days, size=size, export=True) as stack:
            console.print(f"  from the sandbox: {', '.join(stack.simulated) or 'nothing'}")
            console.print("Starting Dagster …")
            workspace = checkout() / "workspace.yaml"
            port = free_port(port)
            given = {"FINANCE_OS_DAGSTER_URL": f"http://127.0.0.1:{port}", **stack.environment}
            with (
                running_web(given, log.with_name("web.log")) as page,
                running_dagster({**given, "FINANCE_OS_WEB_URL": page.address}, workspace, log, port=port) as dagster,
            ):
                console.print(f"\n  Dagster UI   [bold]{dagster.address}[/]")
                console.print(f"  plan page    [bold]{page.address}[/]")
                console.print(f"  drop folder  {settings.drops_location}")
                console.print(f"  log          {log}\n\nCtrl-C stops everything.")
                while dagster.process.poll() is None:
                    time.sleep(0.5)
                errors.print(f"[red]Dagster ended by itself: see {log}[/]")
                raise SystemExit(1)
    except KeyboardInterrupt:
        console.print("Stopped.")


@app.command()
def status(business: Annotated[str | None, typer.Option(help="Only this business.")] = None) -> None:
    """Show what is staged and what is ready."""
    from finance_os.local.summary import print_summary
    from finance_os.readiness.source_checks import judge_freshness
    from finance_os.sources.registry import SOURCES

    with opened_database() as database:
        require_business(database, business)
        judge_freshness(database, SOURCES)
        print_summary(database, console, business)


@app.command()
def plan(
    business: Annotated[str | None, typer.Option(help="Only this business.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show the source sync plan: which connectors can be read, what they must keep, and what is staged of them."""
    from finance_os.local.plan_json import plan_json
    from finance_os.local.plan_page import print_plan
    from finance_os.readiness.plan import source_sync_plan
    from finance_os.sources.installation import ensure_installation
    from finance_os.sources.registry import SOURCES

    settings = Settings()
    with opened_database() as database:
        ensure_installation(database, settings, [source.system for source in SOURCES])
        known = require_business(database, business)
        plans = [
            source_sync_plan(
                database,
                SOURCES,
                business_id,
                excluded=settings.excluded,
                valid_for=timedelta(hours=settings.checkpoint_valid_hours),
            )
            for business_id in (known if business is None else [business])
        ]
    if as_json:
        sys.stdout.buffer.write(plan_json(plans) + b"\n")
        return
    for each in plans:
        print_plan(each, console)


@app.command()
def probe(
    business: Annotated[str | None, typer.Option(help="The business; the installation's own if not given.")] = None,
    note: Annotated[str, typer.Option(help="A few words to keep with the probe; no personal data.")] = "",
) -> None:
    """Record one manual raw record with its sync run and audit event, to prove that staging works; asks no vendor."""
    from finance_os.sources.installation import ensure_installation
    from finance_os.sources.probe import record_probe

    settings = Settings()
    with opened_database() as database:
        ensure_installation(database, settings, [])
        known = require_business(database, business)
        business_id = business or (settings.business if settings.business in known else known[0])
        run = record_probe(database, business_id, note)
    console.print(
        f"Sync run {run['sync_run_id']} of {business_id} staged {run['rows_new']} record; "
        f"`finance-os runs show {run['sync_run_id']}` shows it."
    )


@keys.command("new")
def keys_new() -> None:
    """Print a new encryption key for FINANCE_OS_ENCRYPTION_KEY. It is kept nowhere: put it where secrets belong."""
    from finance_os.sources.sealing import new_key

    sys.stdout.write(new_key() + "\n")


@keys.command("rotate")
def keys_rotate() -> None:
    """Encrypt every kept secret anew with the first of the keys in FINANCE_OS_ENCRYPTION_KEY."""
    from finance_os.evidence.businesses import every_connection
    from finance_os.sources.kept_secrets import ConnectionSecrets

    with opened_database() as database:
        sealed = sum(ConnectionSecrets(database, each).seal_again() for each in every_connection(database))
    console.print(f"{sealed} kept secrets are encrypted with the first key; the others can go.")


@app.command()
def sandbox(
    days: Annotated[int, typer.Option(min=1, help="How far back the company goes.")] = 90,
    size: Annotated[int, typer.Option(min=1, help="Size of the company, in advertisers.")] = 20,
    seed: Annotated[int, typer.Option(help="The same seed gives the same company.")] = 7,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any.")] = 0,
) -> None:
    """Run the vendor sandbox by itself and print the variables that point Finance OS at it, until Ctrl-C."""
    from finance_os.evidence import embedded
    from finance_os.sandbox.process import running_sandbox

    server = embedded.start(Settings().home / "sandbox")
    try:
        with running_sandbox(
            seed=seed, days=days, size=size, port=port, gravity_admin_url=server.get_uri(), rooms=None
        ) as running:
            for name, value in running.env.items():
                console.print(f"export {name}='{value}'", soft_wrap=True, markup=False, highlight=False)
            console.print("# Ctrl-C stops the sandbox.")
            running.process.wait()
    except KeyboardInterrupt:
        console.print("Stopped.")


@db.command("migrate")
def db_migrate() -> None:
    """Bring the database's schema to the version that this program needs."""
    from finance_os.evidence.database import migrate

    settings = Settings()
    with opened_database(require_schema=False) as database:
        owner = settings.owner_database_url
        applied = migrate(owner.get_secret_value() if owner else database.url)
    console.print(f"Applied {', '.join(applied)}." if applied else "Nothing to do: the schema is current.")


@db.command("status")
def db_status() -> None:
    """Show which migrations are applied and which are missing."""
    from finance_os.evidence.database import schema_state

    with opened_database(require_schema=False) as database:
        applied, missing = schema_state(database)
    for name in applied:
        console.print(f"[green]applied[/]  {name}")
    for name in missing:
        console.print(f"[red]missing[/]  {name}")
    if missing:
        console.print("Run `finance-os db migrate`.")
        raise SystemExit(1)


@runs.command("list")
def runs_list(
    business: Annotated[str | None, typer.Option(help="Only this business.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
) -> None:
    """Show the latest sync runs."""
    from finance_os.evidence.sync_runs import latest_sync_runs

    table = Table()
    for heading in ("run", "business", "object type", "kind", "days", "status", "new", "changed", "unchanged", "began"):
        table.add_column(heading, no_wrap=heading == "object type")
    with opened_database() as database:
        require_business(database, business)
        for run in latest_sync_runs(database, business, limit):
            table.add_row(
                str(run["sync_run_id"]),
                run["business_id"],
                run["object_type"],
                run["kind"],
                f"{run['first_day']} to {run['last_day']}",
                run["status"] + (f" ({run['error_code']})" if run["error_code"] else ""),
                *(f"{run[f'rows_{name}']:,}" for name in ("new", "changed", "unchanged")),
                f"{run['started_at']:%Y-%m-%d %H:%M:%S}",
            )
    console.print(table)


@runs.command("show")
def runs_show(
    sync_run_id: Annotated[int, typer.Argument(help="ID of the sync run, from `finance-os runs list`.")],
    records: Annotated[bool, typer.Option(help="Print the records, one JSON line each, in the order seen.")] = True,
) -> None:
    """Print exactly what a sync run saw: its own row on the error stream, its records as JSON lines on the output."""
    from finance_os.evidence.replay import run_records
    from finance_os.evidence.sync_runs import sync_run

    with opened_database() as database:
        for name, value in sync_run(database, sync_run_id).items():
            shown = value.hex() if isinstance(value, bytes) else value
            errors.print(f"{name:18} {shown}", markup=False, highlight=False, soft_wrap=True)
        if not records:
            return
        for position, seen in enumerate(run_records(database, sync_run_id), start=1):
            sys.stdout.buffer.write(seen.as_json_line(position))


@audit.command("verify")
def audit_verify(business: Annotated[str | None, typer.Option(help="Only this business.")] = None) -> None:
    """Verify the audit chain of each business against its anchors; name the first broken event."""
    from finance_os.evidence import anchors
    from finance_os.evidence.audit import verify

    broken = 0
    with opened_database() as database:
        known = require_business(database, business)
        for business_id in known if business is None else [business]:
            kept = anchors.read(Settings().anchors_location, business_id)
            verification = verify(database, business_id, kept.anchors)
            for notice in kept.notices:
                errors.print(f"[yellow]{notice}[/]")
            if verification.broken is None:
                console.print(
                    f"{business_id}: {verification.events:,} events are sound; head {verification.head[:12]}, "
                    f"{len(kept.anchors):,} anchors agree."
                )
            else:
                broken += 1
                found = verification.broken
                errors.print(f"[red]{business_id}: event {found.sequence} is {found.fault}: {found.reason}[/]")
    if broken:
        raise SystemExit(1)
