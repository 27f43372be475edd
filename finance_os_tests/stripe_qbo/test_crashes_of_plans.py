"""Killed at any moment while a real plan is written, with answers lost on top: the same end as if nothing had happened.

The plans are those of living worlds (`plots`): credit memos, refund receipts, journal entries, deposits, payments of
nothing that apply credits, updates and voids. Everything is derived from the seed. `make soak` runs SOAK_EXPORT_SEEDS
of them, marked `soak`; a plain run takes a handful.
"""

import math
import os
import random
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.readiness.policies import QBO_EXPORT, policy_state
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.store import put_plan
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books, Loss
from finance_os_tests.stripe_qbo.plots import PLOTS, Plot, opened, told
from finance_os_tests.stripe_qbo.roads import objects_of, strangers_of
from finance_os_tests.stripe_qbo.test_crashes import KEY, run
from finance_os_tests.stripe_qbo.worker import Orders

HANDFUL = 3
WAYS = 4 * len(PLOTS)
DISASTERS = 3
UNFINISHED = 3

ALL_AT_ONCE, ONE_BY_ONE = 30, 1


@dataclass(frozen=True)
class Seed:
    """Which plot, whether in batches, and whether the vendor forgets requests at once: every `WAYS` seeds all of it."""

    number: int

    def __str__(self) -> str:
        return f"{self.number}-{self.plot}"

    @property
    def plot(self) -> Plot:
        return PLOTS[self.number % len(PLOTS)]

    @property
    def together(self) -> int:
        return ALL_AT_ONCE if self.number % 4 in (1, 2) else ONE_BY_ONE

    @property
    def forgets(self) -> bool:
        return self.number % 4 >= 2

    def first_strike(self, calm: "Calm") -> int:
        """Of the seeds of one way each other one strikes around a request, the rest at any moment.

        By a stride that has no divisor in common with how many there are: so none comes twice before all have come,
        and however few seeds are taken, they are spread.
        """
        of_way, way = divmod(self.number, WAYS)
        among = calm.around_requests if of_way % 2 == 0 else range(1, calm.moments + 1)
        stride = round(len(among) * (math.sqrt(5) - 1) / 2)
        while math.gcd(stride, len(among)) != 1:
            stride += 1
        return among[(of_way // 2 * stride + way * len(among) // WAYS) % len(among)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """As many seeds as are asked for."""
    if "seed" in metafunc.fixturenames:
        soaking = "soak" in str(metafunc.config.getoption("markexpr"))
        count = int(os.environ.get("SOAK_EXPORT_SEEDS", "300")) if soaking else HANDFUL
        marks = [pytest.mark.soak] if soaking else []
        metafunc.parametrize("seed", [pytest.param(Seed(each), marks=marks) for each in range(count)], ids=str)


@dataclass(frozen=True)
class End:
    """What a company holds after a plot: its linked objects, and the balance of each account."""

    objects: dict[str, dict[str, Any]]
    balances: dict[str, Any]


@dataclass(frozen=True)
class Calm:
    """A plot that was written undisturbed: how many moments it took, those around requests, and its end."""

    moments: int
    around_requests: tuple[int, ...]
    end: End


def end_of(database: Database, served: Books) -> End:
    """What there is after a plot, of which everything has to be settled."""
    assert {row["state"] for row in database.fetch("SELECT state FROM finance_os.intents")} == {"applied"}
    assert open_exceptions(database, "acme") == []
    assert policy_state(database, "acme", QBO_EXPORT.key).unexplained_count == 0
    assert strangers_of(database, "acme", served) == 0
    accounts = served.room.realm.all("Account")
    return End(objects_of(database, "acme", served), {each.name: each.body()["CurrentBalance"] for each in accounts})


@contextmanager
def planned(database: Database, plot: Plot, together: int) -> Iterator[tuple[Books, Orders]]:
    """A company to which a plot is to be written, and the orders to do it."""
    with opened(plot) as served:
        ensure_connection(database, "acme", "quickbooks")
        approve_policy(database, "acme", QBO_EXPORT.key, scope=served.realm)
        put_plan(database, "acme", served.realm, told(plot))
        yield served, Orders(database.url, "acme", served.realm, served.values, KEY, together=together)


@pytest.fixture(scope="module")
def calm(server_url: str, template_name: str, tmp_path_factory: pytest.TempPathFactory) -> "Calms":
    return Calms(server_url, template_name, tmp_path_factory.mktemp("calm"))


@dataclass
class Calms:
    """How each plot goes undisturbed, one by one or in batches; found out when it is asked for first."""

    server_url: str
    template_name: str
    folder: Path

    def __post_init__(self) -> None:
        self._known: dict[tuple[Plot, int], Calm] = {}

    def of(self, plot: Plot, together: int) -> Calm:
        if (plot, together) not in self._known:
            self._known[plot, together] = self._found(plot, together)
        return self._known[plot, together]

    def _found(self, plot: Plot, together: int) -> Calm:
        name = f"finance_os_calm_{os.getpid()}"
        report = self.folder / f"{plot}-{together}"
        database = Database(create_database(self.server_url, name, self.template_name))
        try:
            ensure_business(database, "acme", "Acme", "America/New_York")
            with planned(database, plot, together) as (served, orders):
                assert run(replace(orders, report=str(report))) == 0
                end = end_of(database, served)
                assert end.objects.keys() == {str(each.key) for each in told(plot)}
        finally:
            drop_database(self.server_url, name)
        moments, *around = map(int, report.read_text().split())
        return Calm(moments, tuple(around), end)


def test_the_plots_have_every_kind_of_write() -> None:
    kinds = {(each.entity, each.operation) for plot in PLOTS for each in told(plot)}
    sales = ("Invoice", "CreditMemo", "RefundReceipt", "Payment")
    assert kinds == {
        *((entity, Operation.CREATE) for entity in (*sales, "Customer", "JournalEntry", "Deposit")),
        *((entity, Operation.VOID) for entity in ("Invoice", "CreditMemo", "Payment")),
        ("Invoice", Operation.UPDATE),
    }
    applied = [each for plot in PLOTS for each in told(plot) if each.entity == "Payment" and each.payload.get("Line")]
    assert {bool(each.payload["TotalAmt"]) for each in applied} == {True, False}


def test_a_plan_killed_at_any_moment(database: Database, acme: Connection, calm: Calms, seed: Seed) -> None:
    """Several deaths in a row, each at a moment of its own; requests are forgotten, tokens end and answers are lost."""
    dice = random.Random(seed.number)
    undisturbed = calm.of(seed.plot, seed.together)
    with planned(database, seed.plot, seed.together) as (served, orders):
        if seed.forgets:
            served.before.watch = lambda _, __: served.room._quickbooks._answered.clear()
        lose = partial(dice.choice, [None, None, None, Loss.BEFORE, Loss.AFTER, Loss.HALF, Loss.ERROR])
        for death in range(dice.randint(1, DISASTERS)):
            # The first one dies at its moment and of nothing else; answers are lost to every other one.
            loses = death > 0 and dice.random() < 0.5
            served.before.losses = deque(lose() for _ in range(2 * len(told(seed.plot)) if loses else 0))
            strike = dice.randint(1, undisturbed.moments) if death else seed.first_strike(undisturbed)
            ended = run(replace(orders, strike=strike, workers=dice.choice([1, 1, 2]) if death else 1))
            assert ended in ((-signal.SIGKILL, UNFINISHED, 0) if death else (-signal.SIGKILL,))
            if dice.random() < 0.5:
                served.change("forget_requests")
            if dice.random() < 0.5:
                served.change("expire_access_tokens")
        served.before.losses.clear()
        served.before.watch = None
        assert run(orders) == 0
        assert end_of(database, served) == undisturbed.end


_TAKEN_BACK, _CREDITED, _LOST = PLOTS


@pytest.mark.parametrize(
    ("plot", "together", "loss"),
    [
        (_TAKEN_BACK, ONE_BY_ONE, Loss.BEFORE),
        (_TAKEN_BACK, ONE_BY_ONE, Loss.AFTER),
        (_TAKEN_BACK, ALL_AT_ONCE, Loss.AFTER),
        (_CREDITED, ONE_BY_ONE, Loss.AFTER),
        (_LOST, ALL_AT_ONCE, Loss.BEFORE),
    ],
    ids=str,
)
def test_the_answer_to_every_write_of_a_plan_is_lost(
    database: Database, acme: Connection, calm: Calms, plot: Plot, together: int, loss: Loss
) -> None:
    """Each write loses its answer, and the vendor remembers no request; what is sent again arrives."""
    with planned(database, plot, together) as (served, orders):
        served.before.watch = lambda _, __: served.room._quickbooks._answered.clear()
        served.before.losses = deque(100 * [loss, None] if loss is Loss.BEFORE else 100 * [loss])
        given, writes = len(served.before.losses), served.before.writes
        assert any(run(orders) == 0 for _ in told(plot))
        assert given - len(served.before.losses) == served.before.writes - writes
        if together == ONE_BY_ONE:
            # A version that is stale costs one more.
            assert served.before.writes - writes >= len(told(plot)) * (2 if loss is Loss.BEFORE else 1)
        served.before.losses.clear()
        assert end_of(database, served) == calm.of(plot, together).end
