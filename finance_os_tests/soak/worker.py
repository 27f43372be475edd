"""A worker: runs the real backfill in a process of its own, and meets with the disaster that it was told to.

Everything is real but two things: the database's clock is moved to the sandbox's, and `Fate` counts the moments between
two statements, so that a disaster strikes at a chosen one of them.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import psycopg
from psycopg.rows import DictRow
from typing_extensions import override

from finance_os.evidence import reading
from finance_os.evidence.businesses import active_connections
from finance_os.evidence.clock import DatabaseClock
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.extraction import SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days
from finance_os.sources.drops import accepted_drops
from finance_os.sources.gravity import GRAVITY
from finance_os.sources.gravity import reading as gravity
from finance_os.sources.planning import plan_reads
from finance_os.sources.rho import RHO
from finance_os.sources.rho import reading as rho
from finance_os.sources.source import Source
from finance_os.sources.stripe import STRIPE, client
from finance_os.sources.stripe.client import Patience
from finance_os.sources.stripe.client import connect as connect_stripe

IMPATIENT = Patience(connect=5, read=5, attempts=3, first_wait=0.01, longest_wait=0.05)

SOURCES: Mapping[str, Source] = {
    "stripe": replace(STRIPE, open=partial(connect_stripe, patience=IMPATIENT)),
    "gravity": GRAVITY,
    "rho": RHO,
}

OBJECTS: tuple[tuple[str, str], ...] = (
    ("stripe", "stripe_customer"),
    ("gravity", "gravity_campaign_advertiser"),
    ("stripe", "stripe_invoice"),
    ("rho", "rho_cash_transaction"),
    ("stripe", "stripe_balance_transaction"),
    ("gravity", "gravity_advertiser_billing"),
    ("stripe", "stripe_customer_balance_transaction"),
    ("stripe", "stripe_balance"),
)


class Disaster(StrEnum):
    """What happens to a worker.

    kill: SIGKILL between two statements, or inside a COPY; commit: SIGKILL once COMMIT was sent, before the answer;
    lost: its database connection is ended by the server; vendor: so are the product database's.
    """

    NONE = "none"
    KILL = "kill"
    COMMIT = "commit"
    LOST = "lost"
    VENDOR = "vendor"


@dataclass(frozen=True)
class Orders:
    """What a worker is to do: `days` of every object, and the disaster at the moment `strike` (counted from 1).

    `folder` keeps what is done, so that a later worker goes on with the rest. `shift` is added to the database's clock
    (seconds). `present` is when the reads are planned.
    """

    url: str
    folder: Path
    present: datetime
    days: tuple[Days, ...]
    shift: float
    chunk_rows: int
    environment: Mapping[str, str]
    disaster: Disaster = Disaster.NONE
    strike: int = 0
    backwards: bool = False


@dataclass
class Fate:
    """Counts moments, and strikes at the appointed one."""

    orders: Orders
    moments: int = 0
    struck: bool = False
    done: list[str] = field(default_factory=list)

    def moment(self, connection: psycopg.Connection[Any], *, before_commit: bool = False) -> None:
        """One more moment on `connection`. May not return."""
        if self.orders.disaster is Disaster.COMMIT and not before_commit:
            return
        self.moments += 1
        if self.struck or self.moments != self.orders.strike:
            return
        self.struck = True
        match self.orders.disaster:
            case Disaster.KILL:
                os.killpg(0, signal.SIGKILL)
            case Disaster.COMMIT:
                connection.pgconn.send_query(b"COMMIT")
                connection.pgconn.flush()
                os.killpg(0, signal.SIGKILL)
            case Disaster.LOST:
                self._end("pid = %s", connection.info.backend_pid)
            case Disaster.VENDOR:
                self._end("datname LIKE %s", f"{self.orders.environment['SOAK_GRAVITY']}%")

    def _end(self, which: str, value: int | str) -> None:
        with psycopg.connect(self.orders.url, autocommit=True) as another:
            query = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {which}"
            another.execute(query.encode(), (value,))


_fate: Fate


class _Cursor(psycopg.Cursor[DictRow]):
    """A cursor before and after whose statements there is a moment."""

    @override
    def execute(self, *arguments: Any, **options: Any) -> Any:
        _fate.moment(self.connection)
        result = super().execute(*arguments, **options)
        _fate.moment(self.connection)
        return result

    @override
    @contextmanager
    def copy(self, *arguments: Any, **options: Any) -> Iterator[psycopg.Copy]:
        with super().copy(*arguments, **options) as copy:
            _fate.moment(self.connection)
            yield copy
            _fate.moment(self.connection)


@dataclass(frozen=True)
class FatedDatabase(Database):
    """The finance database, over whose connections fate watches."""

    @override
    def connect(self) -> DatabaseConnection:
        connection = super().connect()
        connection.cursor_factory = _Cursor
        return connection

    @override
    @contextmanager
    def transaction(self, connection: DatabaseConnection | None = None) -> Iterator[DatabaseConnection]:
        if connection is None:
            with super().transaction() as opened:
                yield opened
            return
        with super().transaction(connection) as opened:
            yield opened
            _fate.moment(opened, before_commit=True)


@dataclass(frozen=True)
class _ShiftedClock:
    """The database's clock, moved to the sandbox's time."""

    shift: timedelta

    def read(self, connection: DatabaseConnection) -> DatabaseClock:
        clock = DatabaseClock.read(connection)
        return replace(clock, read_at=clock.read_at + self.shift)


def planned(database: Database, orders: Orders) -> list[Read]:
    """All reads, as the source assets plan them."""
    found: list[Read] = []
    for system, object_type in OBJECTS:
        source = SOURCES[system]
        obj = source.object(object_type)
        for connection in active_connections(database, system):
            for days in orders.days:
                drops = accepted_drops(database, connection, days=days) if system == "rho" else ()
                found += plan_reads(source, obj, connection, days, orders.present, drops=drops)
    return found[::-1] if orders.backwards else found


def run(orders: Orders) -> int:
    """Perform what is not done yet; 0 if all is, 1 if a read failed."""
    global _fate
    os.environ.update(orders.environment)
    _fate = Fate(orders)
    reading.DatabaseClock = _ShiftedClock(timedelta(seconds=orders.shift))  # pyright: ignore
    database = FatedDatabase(orders.url)
    journal = orders.folder / "done"
    done = set(journal.read_text().splitlines()) if journal.exists() else set()
    failed = 0
    for read in planned(Database(orders.url), orders):
        name = f"{read.connection} {read.object_type} {read.kind} {read.days}"
        if name in done:
            continue
        try:
            _perform(database, read, orders.chunk_rows)
        except (SourceError, psycopg.OperationalError):
            failed += 1
            continue
        with journal.open("a") as file:
            file.write(f"{name}\n")
    (orders.folder / "moments").write_text(json.dumps(_fate.moments))
    return 1 if failed else 0


def _perform(database: Database, read: Read, chunk_rows: int) -> None:
    """As Dagster does: a read whose connection was lost is tried once more in the same process."""
    origin = Origin(Trigger.BACKFILL)
    try:
        perform(database, read, origin, chunk_rows=chunk_rows)
    except psycopg.OperationalError:
        perform(database, read, origin, chunk_rows=chunk_rows)


def main(orders: Orders) -> NoReturn:
    """The process's whole life, in a process group of its own."""
    # Small pages: a chunk holds whole ones, and there is to be many a commit to be killed between.
    client.PAGE_SIZE, gravity.ROWS_PER_PAGE, rho.PAGE_ROWS = 5, 60, 7
    os.setpgrp()
    try:
        status = run(orders)
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stderr.flush()
    os._exit(status)
