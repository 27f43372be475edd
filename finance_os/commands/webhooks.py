"""`finance-os webhooks`: what came, what became of it, having it walked again, and pruning what is old."""

import getpass
import re
from collections import Counter
from collections.abc import Mapping
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
        "body": (
            f"pruned {_moment(row['body_pruned_at'])}" if row["body_pruned_at"] else f"{row['body_bytes']:,} bytes"
        )
        + f", SHA-256 {row['body_hash']}",
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
    """Have events walked again: those given, or those received in --from ≤ t < --to (UTC), or in a state.

    One whose body was pruned cannot be: it is said how to read what it spoke of instead.
    """
    from finance_os.webhooks import inbox, retention

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
        elif pruned := retention.pruned_events(database, numbers):
            raise LookupError(_unwalkable(pruned))
        replayed = inbox.replay(database, numbers, getpass.getuser())
        pruned = retention.pruned_events(database, sorted({*numbers} - {*replayed}))
    if pruned and not replayed:
        raise LookupError(_unwalkable(pruned))
    console.print(f"{len(replayed):,} event(s) are walked again.")
    if pruned:
        errors.print(_unwalkable(pruned), markup=False, soft_wrap=True)
    if left := len(numbers) - len(replayed) - len(pruned):
        errors.print(f"{left:,} are being read just now, and were left as they are.")


@app.command()
def prune(
    older_than: Annotated[
        int | None,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            min=1,
            max=36_500,
            help="Whose events have been done for so long; FINANCE_OS_WEBHOOK_BODY_DAYS if not given.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many there are; prune nothing.")] = False,
) -> None:
    """Prune the bodies of events that are long done, which the sensor `webhook_inbox` does too.

    The events stay, with the hashes of their bodies: one that comes again is known. Bodies of events that wait, are
    being read or are set aside stay. Interrupted, it goes on when it is run again.
    """
    from finance_os.webhooks import retention
    from finance_os.webhooks.settings import WebhookSettings

    days = older_than or WebhookSettings().body_days
    if not days:
        raise LookupError("bodies are kept for ever, as FINANCE_OS_WEBHOOK_BODY_DAYS is 0: say --older-than DAYS")
    with opened_database() as database:
        pruned: Counter[tuple[str, str]] = Counter()
        after: int | None = None if dry_run else 0
        while after is not None:
            batch = retention.prune_some(database, days, after, getpass.getuser())
            pruned.update(batch.pruned)
            after = batch.last
        rows = retention.due(database, days)
    if dry_run:
        _say_of_each({(row["business_id"], row["source_system"]): row["due"] for row in rows}, "would be pruned")
    else:
        _say_of_each(pruned, "pruned")
    if held := sum(row["held"] for row in rows):
        console.print(
            f"as old, and kept: {held:,}. An event of theirs waits, is being read, or is set aside: "
            "`finance-os webhooks list --state poisoned` shows those.",
            highlight=False,
            soft_wrap=True,
        )


def _say_of_each(counts: Mapping[tuple[str, str], int], done: str) -> None:
    for (business, system), count in sorted(counts.items()):
        if count:
            console.print(f"bodies of {business}/{system} {done}: {count:,}", markup=False, highlight=False)
    console.print(f"bodies {done}: {sum(counts.values()):,}", highlight=False)


def _unwalkable(pruned: list[dict[str, Any]]) -> str:
    """Why events cannot be walked again, and what to do instead."""
    first = pruned[0]
    many = f", and those of {len(pruned) - 1:,} more" if len(pruned) > 1 else ""
    said = (
        f"the body of webhook event {first['event_number']} was pruned {_moment(first['pruned_at'])}{many}: without "
        "its body an event cannot be walked again. "
    )
    if not first["reads"]:
        return said + "It asked for nothing to be read."
    named = _replayable(first)
    return said + (
        f"What it speaks of ({_reads(first['reads'])}) was read then, and the daily sync reads what has changed since; "
        + (f"`finance-os replay --object {named} --read` reads" if named else "materializing its days in Dagster reads")
        + " it now."
    )


def _replayable(event: dict[str, Any]) -> str:
    """The first object of an event's that `finance-os replay` reads by itself; empty where there is none."""
    from finance_os.stripe_qbo.stripe_evidence import OBJECT_TYPES

    for object_type, targets in sorted(event["reads"].items()):
        if object_type in OBJECT_TYPES and targets and re.fullmatch(r"[A-Za-z0-9_-]+", targets[0]):
            return f"{object_type.removeprefix('stripe_')}:{targets[0]}"
    return ""


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
