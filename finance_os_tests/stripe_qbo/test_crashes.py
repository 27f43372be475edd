"""Killed at any moment, with answers lost on top: one object an intent, none lost, none twice.

Everything is derived from the seed. `make soak` runs SOAK_EXPORT_SEEDS of them, marked `soak`, whose first deaths are
spread over every call to QuickBooks and the database; a plain run takes a handful.
"""

import multiprocessing
import os
import random
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.readiness.policies import QBO_EXPORT, policy_state
from finance_os.sources.sealing import new_key
from finance_os.stripe_qbo import links
from finance_os.stripe_qbo.intent import Intent, Operation
from finance_os.stripe_qbo.store import put_plan
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo import worker
from finance_os_tests.stripe_qbo.books import Books, Loss, books, intent, story
from finance_os_tests.stripe_qbo.worker import Orders

HANDFUL = 8
WAYS = 4
DISASTERS = 4

KEY = new_key()


@dataclass(frozen=True)
class Seed:
    """A number of `count`. Every other one writes in batches, and for every other pair the vendor forgets requests at
    once."""

    number: int
    count: int

    def __str__(self) -> str:
        return str(self.number)

    @property
    def together(self) -> int:
        return 30 if self.number % 2 else 1

    @property
    def forgets(self) -> bool:
        return self.number % WAYS >= 2

    def first_strike(self, moments: int) -> int:
        """A moment of `moments`: those of the seeds of one way are spread evenly over all of them, and where requests
        are forgotten lie between those where they are not."""
        each = -(-self.count // WAYS)
        return 1 + (2 * (self.number // WAYS) + self.forgets) * moments // (2 * each)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """As many seeds as are asked for."""
    if "seed" in metafunc.fixturenames:
        soaking = "soak" in str(metafunc.config.getoption("markexpr"))
        count = int(os.environ.get("SOAK_EXPORT_SEEDS", "300")) if soaking else HANDFUL
        marks = [pytest.mark.soak] if soaking else []
        metafunc.parametrize("seed", [pytest.param(Seed(each, count), marks=marks) for each in range(count)], ids=str)


@pytest.fixture(scope="module")
def company() -> Iterator[Books]:
    with books() as served:
        yield served


@pytest.fixture
def orders(company: Books, database: Database, acme: Connection) -> Orders:
    ensure_connection(database, "acme", "quickbooks")
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    company.before.losses.clear()
    company.before.watch = None
    given = company.change("connect_writer")["refresh_token"]
    values = {**company.values, "FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN": given}
    return Orders(database.url, "acme", company.realm, values, KEY)


def started(orders: Orders) -> BaseProcess:
    """A worker in a process of its own, forked from a server that has imported everything once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finance_os_tests.stripe_qbo.worker"])
    process = context.Process(target=worker.main, args=(orders,))
    process.start()
    return process


def finished(process: BaseProcess) -> int:
    """How a worker ended: its status, or minus the signal that killed it."""
    process.join(60)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError("the worker did not end")
    return process.exitcode


def run(orders: Orders) -> int:
    return finished(started(orders))


def changes(intents: list[Intent]) -> list[Intent]:
    """An update of each invoice, which is paid by then."""
    billed = [each.key for each in intents if each.entity == "Invoice"]
    return [intent(each, "Invoice", {"DueDate": "2026-08-10"}, Operation.UPDATE) for each in billed]


def assert_one_object_each(company: Books, database: Database, intents: list[Intent]) -> None:
    linked = links.links(database, "acme", company.realm)
    assert linked.keys() == {each.key for each in intents}
    for each in intents:
        held = company.one(each)
        assert linked[each.key].qbo_id == held["Id"]
        if each.entity == "Invoice":
            assert (held["Balance"], held["DueDate"]) == (0, "2026-08-10")
    rows = database.fetch("SELECT state FROM finance_os.intents")
    assert {row["state"] for row in rows} == {"applied"}
    assert open_exceptions(database, "acme") == []
    assert policy_state(database, "acme", QBO_EXPORT.key).unexplained_count == 0
    delivered = database.fetch(
        """
        SELECT count(DISTINCT action_id) AS count FROM finance_os.external_action_outcomes WHERE outcome = 'delivered'
        """
    )
    assert delivered[0]["count"] == len(rows)


@pytest.fixture(scope="module")
def moments(
    company: Books, server_url: str, template_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[int, int]]:
    """How many moments it takes to apply a story undisturbed: one by one, and three in batches."""
    from finance_os.evidence.businesses import ensure_business
    from finance_os_tests.conftest import create_database, drop_database

    found: dict[int, int] = {}
    names: list[str] = []
    for together in (1, 30):
        names.append(f"finance_os_moments_{os.getpid()}_{together}")
        database = Database(create_database(server_url, names[-1], template_name))
        report = tmp_path_factory.mktemp("moments") / "count"
        ensure_business(database, "acme", "Acme", "America/New_York")
        ensure_connection(database, "acme", "quickbooks")
        approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
        intents = stories(company, together, f"calm{together}")
        put_plan(database, "acme", company.realm, intents + changes(intents))
        orders = Orders(database.url, "acme", company.realm, company.values, KEY, together=together, report=str(report))
        assert run(orders) == 0
        found[together] = int(Path(report).read_text().split()[0])
    yield found
    for name in names:
        drop_database(server_url, name)


def stories(company: Books, together: int, prefix: str) -> list[Intent]:
    return story(company, 1 if together == 1 else 3, prefix)


def test_killed_at_any_moment(
    company: Books, database: Database, orders: Orders, moments: Mapping[int, int], seed: Seed
) -> None:
    """Several deaths in a row, each at a moment of its own; requests are forgotten, tokens end and answers are lost."""
    dice = random.Random(seed.number)
    orders = replace(orders, together=seed.together)
    intents = stories(company, seed.together, f"seed{seed}")
    put_plan(database, "acme", orders.realm, intents + changes(intents))
    if seed.forgets:
        company.before.watch = lambda _, __: company.room._quickbooks._answered.clear()
    killed = 0
    for death in range(dice.randint(1, DISASTERS)):
        company.before.losses = deque(dice.choices([None, None, None, *Loss], k=3))
        # Late answers are waited for until the patience ends, which is long: leave them to the tests of one answer.
        company.before.losses = deque(Loss.AFTER if each is Loss.LATE else each for each in company.before.losses)
        every = moments[seed.together]
        strike = dice.randint(1, every) if death else seed.first_strike(every)
        killed += run(replace(orders, strike=strike, workers=dice.choice([1, 1, 2]))) == -signal.SIGKILL
        if dice.random() < 0.5:
            company.change("forget_requests")
        if dice.random() < 0.5:
            company.change("expire_access_tokens")
    company.before.losses.clear()
    company.before.watch = None
    assert run(orders) == 0
    assert_one_object_each(company, database, intents)
    assert killed


@pytest.mark.parametrize("forgotten", [False, True], ids=["remembered", "forgotten"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_waits_for_an_answer(
    company: Books, database: Database, orders: Orders, when: str, forgotten: bool
) -> None:
    """Each of the writes is carried out, or not yet, when the one who asked for it dies."""
    intents = story(company, 1, f"{when}{forgotten}")
    put_plan(database, "acme", orders.realm, intents + changes(intents))
    for _ in range(len(intents) + 1):
        victim = started(orders)

        def strike(_: int, at: str, victim: BaseProcess = victim) -> None:
            if at == when:
                victim.kill()

        company.before.watch = strike
        assert finished(victim) == -signal.SIGKILL
        company.before.watch = None
        if forgotten:
            company.change("forget_requests")
    assert run(orders) == 0
    assert_one_object_each(company, database, intents)


def test_the_moments_are_met(company: Books, database: Database, orders: Orders, moments: Mapping[int, int]) -> None:
    """Killed at the first and at the last moment; the count is that of a run without losses."""
    intents = story(company, 1, "met")
    put_plan(database, "acme", orders.realm, intents + changes(intents))
    assert run(replace(orders, strike=1)) == -signal.SIGKILL
    assert database.fetch("SELECT count(*) AS count FROM finance_os.intent_attempts")[0]["count"] == 0
    assert run(replace(orders, strike=moments[1] // 2)) == -signal.SIGKILL
    assert run(orders) == 0
    assert run(orders) == 0
    assert_one_object_each(company, database, intents)


def test_two_processes_at_once_one_of_them_killed(
    company: Books, database: Database, orders: Orders, moments: Mapping[int, int]
) -> None:
    intents = story(company, 3, "pair")
    orders = replace(orders, together=1)
    put_plan(database, "acme", orders.realm, intents)
    writes = company.before.writes
    pair = [started(replace(orders, strike=moments[1])), started(replace(orders, workers=2))]
    ended = [finished(each) for each in pair]
    assert ended[1] in (0, 3)  # some may have been left to the other one
    company.change("forget_requests")
    assert run(orders) == 0
    for each in intents:
        company.one(each)
    # The one that was killed may have left one request without its answer, and that was looked up.
    assert company.before.writes - writes == len(intents)
