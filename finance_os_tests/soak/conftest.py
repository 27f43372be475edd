"""What the soak shares: one sandbox that stands still, evidence of four days before, and how it ends undisturbed.

`make soak` runs SOAK_SEEDS seeds, marked `soak`; a plain run takes a handful of them, unmarked.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest

from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import Outcome, look, prepare_inbox, take
from finance_os.sources.rho import RHO, judge
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.soak import worker
from finance_os_tests.soak.state import State, state_of

PRESENT = datetime(2026, 3, 18, 12, 30, tzinfo=UTC)
EARLIER = PRESENT - timedelta(days=4)
RECENT = Days(PRESENT.date() - timedelta(days=12), PRESENT.date())
OLD = Days(PRESENT.date() - timedelta(days=44), PRESENT.date() - timedelta(days=38))
HANDFUL = 5
BUSINESSES = (("acme", "America/New_York", ""), ("globex", "Asia/Tokyo", "GLOBEX_"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """As many seeds as are asked for."""
    if "seed" in metafunc.fixturenames:
        soaking = "soak" in str(metafunc.config.getoption("markexpr"))
        count = int(os.environ.get("SOAK_SEEDS", "50")) if soaking else HANDFUL
        marks = [pytest.mark.soak] if soaking else []
        metafunc.parametrize("seed", [pytest.param(seed, marks=marks) for seed in range(count)])


@dataclass(frozen=True)
class Scene:
    """A finance database to be copied, what the sandbox holds beyond it, and the end that is to be reached."""

    server_url: str
    template: str
    sandbox: Running
    environment: Mapping[str, str]
    shift: float
    moments: int
    reference: State

    def orders(self, url: str, folder: Path, **given: Any) -> worker.Orders:
        """Orders to bring a copy to the present."""
        return replace(_orders(url, folder, self.environment, self.shift), **given)


def _orders(url: str, folder: Path, environment: Mapping[str, str], shift: float) -> worker.Orders:
    return worker.Orders(
        url=url,
        folder=folder,
        present=PRESENT,
        days=(OLD, RECENT),
        shift=shift,
        chunk_rows=20,
        environment=environment,
    )


def started(orders: worker.Orders) -> BaseProcess:
    """A worker in a process of its own, forked from a server that has imported everything once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finance_os_tests.soak.worker"])
    process = context.Process(target=worker.main, args=(orders,))
    process.start()
    return process


def finished(process: BaseProcess, seconds: float = 120) -> int:
    """How a worker ended: its status, or minus the signal that killed it."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"the worker did not end within {seconds:.0f} s")
    return process.exitcode


@pytest.fixture(scope="session")
def scene(server_url: str, template_name: str) -> Iterator[Scene]:
    """The sandbox, and a template that holds what was read four days before the present."""
    names = [f"soak_{os.getpid()}_{name}" for name in ("template", "reference")]
    gravity = f"soak_{os.getpid()}_gravity"
    with tempfile.TemporaryDirectory(prefix="finance-os-soak-") as temporary:
        folder = Path(temporary)
        with running_sandbox(
            seed=11,
            days=50,
            size=16,
            until=EARLIER,
            accounts=2,
            gravity_admin_url=server_url,
            gravity_database=gravity,
            drops=folder / "exports",
        ) as sandbox:
            environment = {
                **dict(sandbox.env),
                **{f"GLOBEX_{name}": value for name, value in sandbox.others[0].items()},
                "FINANCE_OS_STRIPE_RATE_LIMIT": "10000",
                "FINANCE_OS_DROPS": str(folder / "drops"),
                "SOAK_GRAVITY": gravity,
            }
            urls = [create_database(server_url, names[0], template_name)]
            _prepare(Database(urls[0]), folder / "exports", environment)
            epoch = time.time()
            earlier = _orders(urls[0], _folder(folder, "earlier"), environment, EARLIER.timestamp() - epoch)
            assert (
                finished(
                    started(
                        replace(earlier, present=EARLIER, days=(Days(RECENT.first, EARLIER.date()),), chunk_rows=1_000)
                    )
                )
                == 0
            )
            sandbox.advance_to(PRESENT - timedelta(hours=1))
            _change_customers(sandbox)
            sandbox.advance_to(PRESENT)
            _remove_rows(server_url, gravity)
            shift = PRESENT.timestamp() - epoch
            urls.append(create_database(server_url, names[1], names[0]))
            orders = _orders(urls[1], _folder(folder, "reference"), environment, shift)
            assert finished(started(orders)) == 0
            yield Scene(
                server_url,
                names[0],
                sandbox,
                environment,
                shift,
                int((orders.folder / "moments").read_text()),
                state_of(Database(urls[1])),
            )
    for name in (*names, gravity, f"{gravity}_2"):
        drop_database(server_url, name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"DROP ROLE {gravity}_reader, {gravity}_2_reader".encode())


@pytest.fixture
def copy(scene: Scene) -> Iterator[Database]:
    """A finance database as it was four days ago, of the test's own."""
    name = f"soak_{os.getpid()}_copy"
    yield Database(create_database(scene.server_url, name, scene.template))
    drop_database(scene.server_url, name)


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _prepare(database: Database, exports: Path, environment: Mapping[str, str]) -> None:
    """Two businesses with the same external IDs, a connection of each to every source, and their bank files."""
    drops = environment["FINANCE_OS_DROPS"]
    for (business_id, zone, prefix), folder in zip(BUSINESSES, (exports, exports / "account_2"), strict=True):
        ensure_business(database, business_id, business_id.title(), zone)
        for system in worker.SOURCES:
            connection = ensure_connection(database, business_id, system, secret_reference=f"env:{prefix}")
            if system != "rho":
                continue
            inbox = Path(prepare_inbox(drops, connection))
            for file in sorted(folder.glob("*.csv")):
                file.rename(inbox / file.name)
            for file in look(drops, connection, RHO.reads).waiting:
                taken = take(database, connection, judge, file, location=drops, credentials=Credentials({}))
                assert taken.outcome is Outcome.ACCEPTED, taken


def _change_customers(sandbox: Running) -> None:
    """Give the latest 40 another phone number, and tell of it in the event log: they are asked for one by one."""
    for account, environment in enumerate((sandbox.env, *sandbox.others)):
        answer = httpx.get(
            f"{sandbox.base}/v1/customers?limit=40",
            headers={"authorization": f"Bearer {environment['FINANCE_OS_STRIPE_API_KEY']}"},
            trust_env=False,
        )
        for customer in answer.json()["data"]:
            sandbox.change("update", id=customer["id"], values={"phone": "+1 555 0100"}, account=account)


def _remove_rows(server_url: str, gravity: str) -> None:
    """Take two campaigns out of each product database."""
    for name in (gravity, f"{gravity}_2"):
        with psycopg.connect(urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))) as connection:
            gone = connection.execute(
                "DELETE FROM campaigns WHERE campaign_id IN (SELECT campaign_id FROM campaigns ORDER BY 1 LIMIT 2)"
            )
            assert gone.rowcount == 2
