"""Streaming: how fast many rows of Redshift and Gravity are read, and what memory that adds, each in its own process.

Memory is what the reading process held at its peak, less the peak of a process that reads a part of the same source
that holds next to nothing; so neither Python, nor the driver, nor the server counts. The rows are one day's (Redshift)
or one table's (Gravity), put there by the sandbox; the vendor is a real PostgreSQL on the same machine, which its
makers' drivers reach over sockets. Records are drawn and let go of, page by page, and not staged.
"""

import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import psycopg
from psycopg import sql

from finance_os.evidence.extraction import Kind, Page, RemoteCount, Request
from finance_os.evidence.windows import Days, window_of
from finance_os.sandbox import gravity
from finance_os.sandbox.world import World, build
from finance_os.sources.credentials import Credentials
from finance_os.sources.gravity import GRAVITY, URL
from finance_os.sources.redshift import REDSHIFT
from finance_os.sources.source import Source
from finance_os_tests.benchmarks.figures import Figure
from finance_os_tests.conftest import drop_database
from finance_os_tests.sources.redshift_served import served

DAY = date(2026, 7, 1)
NOW = datetime(2026, 7, 4, tzinfo=UTC)
MOST_MEMORY = 100
"""MB that a read of any number of rows may add."""


class Nothing:
    """What is staged already, before the first read of anything: nothing."""

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:  # noqa: ARG002 (the protocol names them)
        return []

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:  # noqa: ARG002
        return []

    def ids_read_since(self, moment: datetime) -> list[str]:  # noqa: ARG002
        return []

    def requests_since(self, moment: datetime) -> int:  # noqa: ARG002
        return 0


@dataclass(frozen=True)
class Reading:
    """What a process measured of its own read. `counted` is what the source says there is, `peak` is in kB."""

    rows: int
    counted: int
    seconds: float
    peak: int


WAYS = {"connector": "Redshift's connector", "data-api": "Redshift's Data API", "gravity": "Gravity"}


def flat_memory(admin_url: str, count: int, ways: Collection[str] = WAYS.keys()) -> list[Figure]:
    """Rows a second and memory added by reads of `count` rows.

    `admin_url` is a PostgreSQL that may create databases and roles; nothing is left behind there.
    """
    world = build(seed=7, start=date(2026, 6, 30), until=NOW, size=1)
    figures: list[Figure] = []
    for way in ways:
        name = WAYS[way]
        with _gravity(admin_url, world, count) if way == "gravity" else _redshift(admin_url, world, way, count) as env:
            empty, full = _in_a_process(way, "empty", env), _in_a_process(way, "full", env)
        assert full.rows == full.counted >= count, f"{way}: {full.rows} rows of {full.counted} came, {count} were added"
        assert empty.rows == empty.counted < 1_000
        figures += [
            Figure(f"{name}, time of a read of {count:,}", full.seconds, "s"),
            Figure(f"{name}, a read of {count:,}", full.rows / full.seconds, "rows/s"),
            Figure(
                f"{name}, memory added by a read of {count:,}",
                (full.peak - empty.peak) / 1024,
                "MB",
                at_most=MOST_MEMORY,
            ),
        ]
    return figures


@contextmanager
def _redshift(admin_url: str, world: World, way: str, count: int) -> Iterator[dict[str, str]]:
    """The variables that lead to a warehouse with `count` clicks on `DAY`."""
    with served(admin_url, world) as redshift:
        redshift.room.warehouse.add_rows("ad_clicks", count, DAY)
        yield redshift.room.env(redshift.base) if way == "connector" else redshift.room.data_api_env(redshift.base)


@contextmanager
def _gravity(admin_url: str, world: World, count: int) -> Iterator[dict[str, str]]:
    """The variable that leads to a product database with `count` rows more of what advertisers are billed."""
    database = f"gravity_{os.getpid()}"
    product = gravity.create(admin_url, world, database=database)
    try:
        gravity.add_rows(product, "advertiser_billing", count)
        yield {URL: product.url}
    finally:
        drop_database(admin_url, database)
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(f"{database}_reader")))


def _in_a_process(way: str, part: str, env: Mapping[str, str]) -> Reading:
    command = [sys.executable, "-W", "ignore", "-m", "finance_os_tests.benchmarks.streaming", way, part]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **env})
    return msgspec.json.decode(answer.stdout, type=Reading)


def _asked_for(way: str, part: str) -> tuple[Source, str, Request]:
    """The full part is the day, or the table, that rows were put into; the empty one is read in just the same way."""
    first = DAY if part == "full" else DAY + timedelta(days=1)
    days, zone = Days(first, first), ZoneInfo("UTC")
    if way == "gravity":
        object_type = "gravity_advertiser_billing" if part == "full" else "gravity_canonical_entities"
        return GRAVITY, object_type, Request(Kind.SNAPSHOT, days, window_of(days, zone), zone, lambda: NOW, Nothing())
    return REDSHIFT, "ad_clicks", Request(Kind.WINDOW, days, window_of(days, zone), zone, lambda: NOW, Nothing())


def main() -> None:
    """Read one part by one way to its end and print what that took."""
    source, object_type, request = _asked_for(*sys.argv[1:])
    names = (*source.credentials, *source.options)
    credentials = Credentials({name: os.environ[name] for name in names if name in os.environ})
    started, rows, counted = time.perf_counter(), 0, 0
    with source.open(credentials) as client:
        for item in source.extract(client, source.object(object_type), request):
            if isinstance(item, Page):
                rows += len(item.records)
            elif isinstance(item, RemoteCount):
                counted += sum(item.by_day.values())
    taken = time.perf_counter() - started
    # Not getrusage's ru_maxrss: that begins with what the parent held when it forked.
    status = Path("/proc/self/status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    sys.stdout.buffer.write(msgspec.json.encode(Reading(rows, counted, taken, peak)))


if __name__ == "__main__":
    main()
