"""`finance-os artifacts`: the files that others build against, and the rows that belong to them."""

import sys
from typing import Annotated

import typer

from finance_os.commands.opened import console, errors, opened_database, require_business

app = typer.Typer(help="Schemas, table definitions and pages that follow from the code.", no_args_is_help=True)


@app.command()
def write() -> None:
    """Write the files that are not what would be made now: after a change, before it is checked in."""
    from finance_os import artifacts
    from finance_os.local.stack import checkout

    written = artifacts.write(checkout())
    for path in written:
        console.print(f"wrote {path}", markup=False, highlight=False)
    if not written:
        console.print("Nothing to do: every artifact is current.")


@app.command()
def check() -> None:
    """Say which files are not what would be made now; status 1 if there are any."""
    from finance_os import artifacts
    from finance_os.local.stack import checkout

    stale = artifacts.stale(checkout())
    for path in stale:
        errors.print(f"[red]{path} is not what would be made now[/]")
    if stale:
        errors.print("Run `finance-os artifacts write`.")
        raise SystemExit(1)
    console.print("Every artifact is current.")


@app.command()
def rows(
    table: Annotated[str, typer.Argument(help="intents, intent_attempts, links or webhook_events.")],
    business: Annotated[str | None, typer.Option(help="Only this business.")] = None,
) -> None:
    """Print the rows of a table as the schemas describe them, one JSON object a line: BigQuery takes them as they are.

    Payloads may name customers: give them to nobody who may not know.
    """
    from finance_os.artifacts.export import exported
    from finance_os.artifacts.rows import table_named

    chosen = table_named(table)
    with opened_database() as database:
        require_business(database, business)
        for line in exported(database, chosen, business):
            sys.stdout.buffer.write(line + b"\n")
