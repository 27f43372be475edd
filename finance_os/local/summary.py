"""The summary in a terminal: what is staged, what is ready, and which files were refused."""

from rich.console import Console
from rich.table import Table

from finance_os.evidence.database import Database
from finance_os.readiness.source_checks import SOURCE_CHECKS
from finance_os.readiness.summary import ObjectSummary, summarize
from finance_os.readiness.verdicts import Status
from finance_os.sources.registry import SOURCES

_COLOURS = {Status.READY: "green", Status.STALE: "yellow", Status.PENDING: "yellow", Status.BLOCKED: "bold red"}


def print_summary(database: Database, console: Console, business_id: str | None = None) -> None:
    """Print what is staged and ready, of one business or of all."""
    summaries = summarize(database, SOURCES, business_id)
    table = Table(title="Staged evidence", title_justify="left")
    for heading in ("business", "object type", "days"):
        table.add_column(heading)
    for heading in ("current", "versions", "runs"):
        table.add_column(heading, justify="right")
    for check in SOURCE_CHECKS:
        table.add_column(check.name)
    for summary in summaries:
        table.add_row(
            summary.business_id,
            f"{summary.source_system}/{summary.object_type}",
            f"{summary.first_day} – {summary.last_day}" if summary.first_day else "",
            f"{summary.current:,}",
            f"{summary.versions:,}",
            f"{summary.sync_runs:,}",
            *(_verdict(summary, check.name) for check in SOURCE_CHECKS),
        )
    console.print(table)
    ready = sum(_is_ready(summary) for summary in summaries)
    console.print(f"{ready}/{len(summaries)} object types are ready on every day that was checked.")
    for row in database.fetch(
        "SELECT business_id, source_system, verdict, count(*) AS files, sum(row_count) AS rows"
        " FROM finance_os.drops GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    ):
        rows = f", {row['rows']:,} rows" if row["verdict"] == "accepted" else ": see its report in quarantined/"
        console.print(f"{row['business_id']}/{row['source_system']}: {row['files']} file(s) {row['verdict']}{rows}")


def _verdict(summary: ObjectSummary, check: str) -> str:
    counts = summary.verdicts.get(check, {})
    if not counts:
        return "[dim]not checked[/]"
    ordered = sorted(counts, key=lambda status: -status.severity)
    return ", ".join(f"[{_COLOURS[status]}]{status}[/] {counts[status]}" for status in ordered)


def _is_ready(summary: ObjectSummary) -> bool:
    """Whether every check was made and nothing but the present day, which is not over, is left open."""
    if set(summary.verdicts) != {check.name for check in SOURCE_CHECKS}:
        return False
    return all(set(counts) == {Status.READY} for counts in summary.verdicts.values())
