"""The summary in a terminal: what is staged, what is ready, what is not and why, and which files were refused."""

from itertools import groupby

from rich.console import Console
from rich.table import Table

from finance_os.evidence.database import Database
from finance_os.readiness.source_checks import SOURCE_CHECKS
from finance_os.readiness.summary import ObjectSummary, OpenBlocker, open_blockers, summarize
from finance_os.readiness.verdicts import Status
from finance_os.sources.registry import SOURCES, source_named

_COLOURS = {Status.READY: "green", Status.STALE: "yellow", Status.PENDING: "yellow", Status.BLOCKED: "bold red"}


def print_summary(database: Database, console: Console, business_id: str | None = None) -> None:
    """Print what is staged and ready, of one business or of all."""
    summaries = summarize(database, SOURCES, business_id)
    for (business, system), group in groupby(summaries, key=lambda each: (each.business_id, each.source_system)):
        console.print(_table(business, system, list(group)))
    _print_blockers(summaries, open_blockers(database, business_id), console)
    for row in database.fetch(
        """
        SELECT business_id, source_system, verdict, count(*) AS files, sum(row_count) AS rows
        FROM finance_os.drops WHERE %(business_id)s::text IS NULL OR business_id = %(business_id)s
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """,
        {"business_id": business_id},
    ):
        what = f"{row['rows']:,} rows" if row["verdict"] == "accepted" else "its report is in quarantined/"
        console.print(
            f"Files for {row['business_id']}/{row['source_system']}: {row['files']} {row['verdict']} ({what})"
        )


def _table(business: str, system: str, summaries: list[ObjectSummary]) -> Table:
    first = min((each.first_day for each in summaries if each.first_day), default=None)
    last = max((each.last_day for each in summaries if each.last_day), default=None)
    days = f", {first} to {last}" if first else ", never read"
    table = Table(title=f"{source_named(system).title} ({business}){days}", title_justify="left", title_style="bold")
    table.add_column("object type", no_wrap=True)
    for heading in ("current", "versions", "runs"):
        table.add_column(heading, justify="right")
    for check in SOURCE_CHECKS:
        table.add_column(check.name, justify="right", no_wrap=True)
    for each in summaries:
        table.add_row(
            each.object_type,
            f"{each.current:,}",
            f"{each.versions:,}",
            f"{each.sync_runs:,}",
            *(_verdict(each, check.name, by_day=check.by_day) for check in SOURCE_CHECKS),
        )
    return table


def _verdict(summary: ObjectSummary, check: str, *, by_day: bool) -> str:
    """`ready`, or for a check of days how many of them are ready."""
    counts = summary.verdicts.get(check, {})
    if not counts:
        return "[dim]not checked[/]"
    worst = max(counts, key=lambda status: status.severity)
    text = f"{counts.get(Status.READY, 0)}/{sum(counts.values())} days" if by_day else worst.value
    return f"[{_COLOURS[worst]}]{text}[/]"


def _print_blockers(summaries: list[ObjectSummary], blockers: list[OpenBlocker], console: Console) -> None:
    if not any(each.verdicts for each in summaries):
        console.print("Nothing was checked yet: materialize something in the Dagster UI.")
        return
    if not blockers:
        console.print("[green]Everything that was checked is ready.[/]")
        return
    console.print("Not ready:")
    for each in blockers:
        objects = f"{each.object_types} object type{'s' if each.object_types > 1 else ''}"
        when = "" if each.first_day is None else f" on {each.first_day}"
        if each.first_day != each.last_day:
            when = f", {each.first_day} to {each.last_day}"
        console.print(
            f"  [{_COLOURS[each.status]}]{each.status:8}[/] {each.blocker}: {objects} of {each.business_id}{when}. "
            f"[dim]{each.remedy}[/]"
        )
