"""`finance-os trace`: one thing followed from the webhook to the object in QuickBooks."""

import sys
from datetime import UTC
from typing import Annotated

import typer

from finance_os.commands.opened import console, errors, opened_database, require_business


def trace(
    thing: Annotated[
        str, typer.Argument(help="An event's ID, an object's at Stripe, or one in QuickBooks: Invoice:145.")
    ],
    business: Annotated[str | None, typer.Option(help="Only this business.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Follow one thing from the webhook through evidence and intents to QuickBooks, in the order of what happened."""
    import msgspec

    from finance_os.evidence.snapshot import snapshot
    from finance_os.observability.trail import trail
    from finance_os.sources.registry import source_named

    with opened_database() as database, snapshot(database) as seen:
        require_business(seen, business)
        steps = trail(seen, thing, [obj.object_type for obj in source_named("stripe")], business)
    if not steps:
        errors.print(f"Nothing is known of {thing}.", markup=False)
        raise SystemExit(1)
    for step in steps:
        if as_json:
            line = {"at": step.at, "business_id": step.business_id, "what": step.what, **step.ids}
            sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        else:
            ids = "  ".join(f"{name} {value}" for name, value in step.ids.items())
            moment = step.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
            console.print(
                f"{moment}Z  {step.business_id}  {step.what:18}  {ids}", markup=False, highlight=False, soft_wrap=True
            )
