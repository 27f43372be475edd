"""The sandbox's Redshift with both of its doors open, for tests: served over real sockets, in a database of its own."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from finance_os.evidence.extraction import Extraction, Kind, Page, Record, RemoteCount, Request
from finance_os.evidence.windows import Days, window_of
from finance_os.sandbox.faults import Faults, Rule
from finance_os.sandbox.redshift import RedshiftRoom
from finance_os.sandbox.world import World, build
from finance_os.sources.credentials import Credentials
from finance_os.sources.redshift import QUERIES, reader_of
from finance_os.sources.redshift.snapshot import RedshiftReader
from finance_os.sources.redshift.statements import VersionedStatements
from finance_os_tests.conftest import drop_database

WAYS = ("connector", "data-api")
NEW_YORK = ZoneInfo("America/New_York")
START = date(2026, 3, 1)
NOW = datetime(2026, 3, 20, 15, tzinfo=UTC)


@dataclass
class Held:
    """What is staged already: spend dates, or times of events, by source ID."""

    dates: dict[str, str] = field(default_factory=dict)
    path: str = "spend_date"

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:
        raise AssertionError(f"Redshift looks for {path} {value} in what is staged")

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:
        assert path == (self.path,) or not self.dates
        return sorted(source_id for source_id, day in self.dates.items() if first <= day <= last)

    def ids_read_since(self, moment: datetime) -> list[str]:
        raise AssertionError(f"Redshift asks what was read since {moment}")

    def requests_since(self, moment: datetime) -> int:
        raise AssertionError(f"Redshift asks for requests since {moment}")


@dataclass
class Served:
    """A room that is served: `base` is where its Data API is mounted, `rules` are faults to come."""

    room: RedshiftRoom
    base: str
    rules: list[Rule]

    def credentials(self, way: str) -> Credentials:
        env = self.room.env(self.base) if way == "connector" else self.room.data_api_env(self.base)
        return Credentials(env)

    def reader(self, way: str, statements: VersionedStatements | None = None) -> RedshiftReader:
        return reader_of(self.credentials(way), statements or VersionedStatements(QUERIES.values()))

    def owner(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection that may change the warehouse."""
        return psycopg.connect(self.room.warehouse.owner, autocommit=True)


def a_world(*, size: int = 3, until: datetime = NOW, start: date = START, seed: int = 7) -> World:
    return build(seed=seed, start=start, until=until, size=size)


@contextmanager
def served(
    server_url: str, world: World | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Served]:
    """A room of `world` over sockets; its database is dropped at the end."""
    database = f"redshift_{uuid.uuid4().hex[:12]}"
    room = RedshiftRoom(world or a_world(), server_url, database=database, clock=clock)
    faults = Faults(Starlette(routes=[Mount("/c0/redshift", app=room.app)]), room.fault)
    config = uvicorn.Config(faults, interface="asgi3", port=0, log_level="warning", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(room, f"http://127.0.0.1:{port}/c0/redshift", faults.rules)
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        room.close()
        drop_database(server_url, database)
        with psycopg.connect(server_url, autocommit=True) as admin:
            admin.execute(f"DROP ROLE {database}_reader".encode())


def a_request(
    first: date, last: date | None = None, *, zone: ZoneInfo = NEW_YORK, now: datetime = NOW, held: Held | None = None
) -> Request:
    days = Days(first, last or first)
    return Request(Kind.WINDOW, days, window_of(days, zone).until(now), zone, lambda: now, held or Held())


def pages(extraction: Extraction) -> list[Page]:
    return [item for item in extraction if isinstance(item, Page)]


def records(extraction: Extraction) -> list[Record]:
    return [record for page in pages(extraction) for record in page.records]


def counted(items: list[object]) -> dict[date, int]:
    (count,) = [item for item in items if isinstance(item, RemoteCount)]
    return count.by_day
