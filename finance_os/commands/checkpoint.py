"""`finance-os checkpoint`: how each checkpoint stands, and recording one."""

from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table

from finance_os.commands.opened import console, errors, opened_database, require_business
from finance_os.settings import Settings

app = typer.Typer(help="Checkpoints: recorded verdicts over the evidence.", no_args_is_help=True)


@app.command("list")
def checkpoint_list(
    business: Annotated[str | None, typer.Option(help="Only this business.")] = None,
) -> None:
    """Show how each checkpoint stands: what it is now, what was recorded last, and whether that still holds."""
    from finance_os.readiness.assessment import assess_now

    table = Table()
    for heading in ("business", "checkpoint", "now", "lines", "hash now", "recorded", "latest"):
        table.add_column(heading, no_wrap=True)
    with opened_database() as database:
        known = require_business(database, business)
        for business_id in known if business is None else [business]:
            for standing in assess_now(database, business_id).standings.values():
                evaluation, recorded = standing.evaluation, standing.recorded
                table.add_row(
                    business_id,
                    standing.name,
                    evaluation.status,
                    f"{evaluation.ready_count}/{len(evaluation.lines)}",
                    evaluation.evidence_hash,
                    f"{recorded.evidence_hash} {recorded.recorded_at:%Y-%m-%d %H:%M}" if recorded else "",
                    standing.currency,
                )
    console.print(table)


@app.command("record")
def checkpoint_record(
    names: Annotated[list[str] | None, typer.Argument(help="Names of checkpoints; see `checkpoint list`.")] = None,
    business: Annotated[str | None, typer.Option(help="Only for this business; for every one if not given.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Record every checkpoint, in order.")] = False,
) -> None:
    """Record checkpoints on the evidence as it is now. Status 1 if a line is blocked: it is recorded all the same."""
    from finance_os.commands.deploy import gather
    from finance_os.readiness.assessment import TITLES
    from finance_os.readiness.deploy import DEPLOY_VERIFICATION
    from finance_os.readiness.recording import in_order, record_checkpoints
    from finance_os.sources.installation import ensure_installation
    from finance_os.sources.registry import SOURCES

    if bool(names) == every:
        raise typer.BadParameter(f"name one or more of {', '.join(TITLES)}, or say --all")
    asked = in_order(TITLES if every else names or ())
    settings = Settings()
    blocked = 0
    with opened_database() as database:
        ensure_installation(database, settings, [])
        known = require_business(database, business)
        deployed = gather(database, settings) if DEPLOY_VERIFICATION in asked else None
        for business_id in known if business is None else [business]:
            for recording in record_checkpoints(
                database,
                SOURCES,
                business_id,
                asked,
                deployed,
                excluded=settings.excluded,
                valid_for=timedelta(hours=settings.checkpoint_valid_hours),
            ):
                found = recording.evaluation
                console.print(
                    f"{business_id}: {found.checkpoint} is {found.status}, {found.ready_count} of {len(found.lines)} "
                    f"lines ready ({found.evidence_hash})"
                )
                for line in found.blocked:
                    errors.print(f"  [red]{line.blocker}[/] ({line.key}): {line.remedy}", soft_wrap=True)
                blocked += len(found.blocked)
    if blocked:
        raise SystemExit(1)
