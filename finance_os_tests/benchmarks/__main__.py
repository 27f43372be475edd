"""`make bench`: runs every benchmark, prints a table and writes var/bench.json."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from finance_os.evidence import embedded
from finance_os.evidence.database import Database, migrate
from finance_os.settings import Settings
from finance_os_tests.benchmarks import (
    applying,
    backfill,
    extraction,
    inbox,
    memory,
    planning,
    posting,
    readiness,
    receiver,
    refetching,
    sandbox,
    staging,
    startup,
    streaming,
)
from finance_os_tests.benchmarks.figures import Figure


def benchmarks(
    database: Database, own: Callable[[str], Database], dagster_url: str, *, full: bool
) -> Iterator[tuple[str, Callable[[], list[Figure]]]]:
    """Each benchmark by name, in the quick or the full size.

    `own` makes a database for one benchmark: such as whose inbox the next one would have to empty.
    """
    count, rounds = (300_000, 5) if full else (100_000, 3)
    yield "startup", lambda: startup.import_cost(7 if full else 3)
    yield "copy-630B", lambda: staging.against_copy(database, count, 160, "630 B", rounds)
    yield "copy-3kB", lambda: staging.against_copy(database, count // 2, 2_500, "3 kB", rounds)
    yield "dlt", lambda: staging.against_dlt(database, count // 3, "630 B", rounds)
    yield "full-tables", lambda: staging.into_full_tables(database, 5_000_000 if full else 500_000, count // 2, rounds)
    yield "memory", lambda: memory.peak_of_runs(database, [1_000_000, 10_000_000] if full else [200_000])
    yield "sandbox", lambda: sandbox.pages_of_a_hundred(rounds)
    yield "extraction", lambda: extraction.against_sdks(120, 400 if full else 100, 5, download=full)
    yield "streaming", lambda: streaming.flat_memory(database.url, 5_000_000 if full else 100_000)
    yield "backfill", lambda: backfill.backfill_of_a_year(own("backfilled"), dagster_url, 1_000 if full else 60, 1)
    yield "planning", lambda: planning.intents_a_second(database, 90, 100, 5)
    yield "applying", lambda: applying.within_limits(database, 2 if full else 1, alone=full)
    yield "receiver", lambda: _receiving(own("receiver"))
    yield "inbox", lambda: inbox.backlog(own("inbox"), 100_000 if full else 8_000)
    yield "refetching", lambda: refetching.refetched(own("refetched"), dagster_url, 60 if full else 20)
    yield "posting", lambda: posting.posted(database, 60 if full else 20, reread=full)
    yield (
        "readiness",
        lambda: readiness.readiness_over_history(own("large"), own("small"), 10_000_000 if full else 200_000, 9),
    )


def _receiving(database: Database) -> list[Figure]:
    return [*receiver.at_a_steady_rate(database, 30), *receiver.killed(database, 5)]


def main() -> None:
    """Run all benchmarks, or those named on the command line; exit with 1 if a target is missed."""
    full = os.environ.get("FULL") == "1"
    wanted = sys.argv[1:]
    console = Console(width=None if sys.stdout.isatty() else 120)
    server = embedded.start(Path(tempfile.mkdtemp(prefix="finance-os-bench-")))
    server.cleanup_mode = "delete"

    def own(name: str) -> Database:
        made = Database(embedded.ensure_database(server, name))
        migrate(made.url)
        return made

    dagster_url = embedded.ensure_database(server, "dagster")
    known = dict(benchmarks(own("bench"), own, dagster_url, full=full))
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    figures: list[Figure] = []
    for name, run in known.items():
        if not wanted or name in wanted:
            console.print(f"{name} …")
            figures += run()
    table = Table(title="Benchmarks" + (" (full)" if full else " (quick; FULL=1 for the large sizes)"))
    for heading in ("figure", "value", "unit", "target", "holds"):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    for figure in figures:
        holds = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[figure.holds]
        table.add_row(figure.name, f"{figure.value:,.2f}", figure.unit, figure.target, holds)
    console.print(table)
    file = Settings().home / "bench.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"name": f.name, "value": f.value, "unit": f.unit, "target": f.target, "holds": f.holds} for f in figures]
    measured = {row["name"]: row for row in rows}
    before = msgspec.json.decode(file.read_bytes()) if wanted and file.exists() else []
    kept = [row for row in before if row["name"] not in measured]
    file.write_bytes(msgspec.json.format(msgspec.json.encode([*kept, *rows])))
    console.print(f"Written to {file}.")
    if any(figure.holds is False for figure in figures):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
