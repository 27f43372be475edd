"""`finance-os webhooks`: what came, what became of it, and having it walked again."""

import getpass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from finance_os.commands.opened import console, errors, opened_database, require_business

app = typer.Typer(help="The inbox of webhooks.", no_args_is_help=True)

_STATES = ("received", "requested", "done", "poisoned")

_Business = Annotated[str | None, typer.Option(help="Only this business.")]
_State = Annotated[str | None, typer.Option(help=f"Only events that are {', '.join(_STATES)}.")]
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


@app.command("list")
def list_(
    business: _Business = None,
    state: _State = None,
    never_came: Annotated[bool, typer.Option(help="Only events that the gap check found.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
) -> None:
    """Show the backlog, what was refused, and the latest events."""
    from finance_os.webhooks import inbox

    _require_state(state)
    with opened_database() as database:
        require_business(database, business)
        backlog = inbox.backlog(database, business)
        refused = inbox.refusals(database, business)
        events = inbox.listed(database, business, state, never_came=never_came, limit=limit)
    summary = Table(title="Inbox")
    for name in ("business", "source", "connection", "state"):
        summary.add_column(name)
    for name in ("events", "never came", "tried"):
        summary.add_column(name, justify="right")
    summary.add_column("oldest")
    for row in backlog:
        summary.add_row(
            row["business_id"],
            row["source_system"],
            str(row["connection_id"]),
            row["state"],
            f"{row['events']:,}",
            f"{row['events'] - row['came']:,}",
            f"{row['tried']:,}",
            _moment(row["oldest"]),
        )
    console.print(summary)
    for row in refused:
        where = f"connection {row['connection_id']}" if row["connection_id"] else "no connection"
        console.print(
            f"  refused: {row['count']:,} × {row['reason']} at {where}, latest {_moment(row['latest_at'])}",
            markup=False,
            highlight=False,
        )
    table = Table(title="Latest events")
    for name in ("event", "type", "key", "received", "state", "tries", "reads", "error"):
        table.add_column(name)
    for row in events:
        table.add_row(
            str(row["event_number"]),
            row["event_type"],
            row["event_key"],
            _moment(row["received_at"]) + ("" if row["delivered_at"] else " (never came)"),
            row["state"],
            str(row["tries"]),
            _reads(row["reads"]),
            row["last_error"] or "",
        )
    console.print(table)


@app.command()
def show(event: Annotated[int, typer.Argument(help="Number of the event.")]) -> None:
    """Show one event: when it came, what it asks to be read, and the sync runs that did. Its body is not printed."""
    from finance_os.webhooks import inbox

    with opened_database() as database:
        row = inbox.shown(database, event)
    lines = {
        "event": row["event_number"],
        "business": row["business_id"],
        "connection": f"{row['connection_id']} ({row['source_system']})",
        "type": row["event_type"],
        "key": row["event_key"],
        "received": _moment(row["received_at"]),
        "delivered": f"{_moment(row['delivered_at'])}, {row['deliveries']} time(s)" if row["delivered_at"] else "never",
        "body": f"{row['body_bytes']:,} bytes, SHA-256 {row['body_hash']}",
        "state": row["state"] + (f" since {_moment(row['settled_at'])}" if row["settled_at"] else ""),
        "tries": row["tries"],
        "waits until": _moment(row["wait_until"]) if row["state"] == "received" and row["wait_until"] else "",
        "last error": row["last_error"] or "",
        "reads": _reads(row["reads"]),
        "request": f"{row['request_id']} ({row['request_state']})" if row["request_id"] else "",
        "sync runs": ", ".join(str(each) for each in row["sync_run_ids"]),
        "replayed": f"{row['replays']} time(s)" if row["replays"] else "",
    }
    for name, value in lines.items():
        if value != "":
            console.print(f"{name:12} {value}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def replay(
    events: Annotated[list[int] | None, typer.Argument(help="Numbers of events.")] = None,
    state: _State = None,
    business: _Business = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=_FORMATS)] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=_FORMATS)] = None,
) -> None:
    """Have events walked again: those given, or those received in --from ≤ t < --to (UTC), or in a state."""
    from finance_os.webhooks import inbox

    _require_state(state)
    if not events and state is None and first is None and last is None:
        raise LookupError("say which: numbers of events, --state poisoned, or --from and --to")
    with opened_database() as database:
        require_business(database, business)
        numbers = list(events or ())
        if not events:
            numbers = inbox.numbers_between(database, _utc(first), _utc(last), business, state)
        elif unknown := [each for each in numbers if not inbox.is_known(database, each)]:
            raise LookupError(f"there is no webhook event {unknown[0]}: `finance-os webhooks list` shows the latest")
        replayed = inbox.replay(database, numbers, getpass.getuser())
    console.print(f"{len(replayed):,} event(s) are walked again.")
    if left := len(numbers) - len(replayed):
        errors.print(f"{left:,} are being read just now, and were left as they are.")


def _require_state(state: str | None) -> None:
    if state is not None and state not in _STATES:
        raise LookupError(f"there is no state {state!r}; there are {', '.join(_STATES)}")


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _moment(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _reads(reads: dict[str, Any]) -> str:
    """`stripe_invoice in_1, stripe_charge ch_1`; a whole day without an ID."""
    return ", ".join(
        " ".join([object_type, *(targets or ["(its day)"])]) for object_type, targets in sorted(reads.items())
    )
