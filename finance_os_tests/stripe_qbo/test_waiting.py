"""Waiting for a lost batch of which some is there: one run brings it to its end, by a clock that is only told."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.readiness import approvals
from finance_os.readiness.policies import QBO_EXPORT, policy_state
from finance_os.stripe_qbo import links
from finance_os.stripe_qbo.apply import Applied, apply
from finance_os.stripe_qbo.client import LONGEST_REQUEST
from finance_os.stripe_qbo.holding import Ended
from finance_os.stripe_qbo.intent import Intent
from finance_os.stripe_qbo.store import put_plan
from finance_os.stripe_qbo.waiting import AT_MOST, Waiting
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books, Loss, books, customer

LOOKS = [5, 10, 20, 40]
"""Seconds between looks, before the last one."""


@dataclass
class Clock:
    """Time passes where somebody sleeps, and nowhere else. `then` is called after each sleep, with its number."""

    now: float = 1_000
    slept: list[float] = field(default_factory=list)
    then: Callable[[int], None] = lambda _: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        self.then(len(self.slept))

    def waited_until_the_end(self) -> bool:
        """Whether the sleeps come to what was left of the longest request when the first of them began."""
        return LONGEST_REQUEST - 40 < sum(self.slept) <= LONGEST_REQUEST

    def waiting(self, at_most: float = AT_MOST) -> Waiting:
        return Waiting(at_most, lambda: self.now, self.sleep)


@pytest.fixture(scope="module")
def served() -> Iterator[Books]:
    with books() as found:
        yield found


@pytest.fixture
def company(served: Books, database: Database, acme: Connection) -> Books:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=served.realm)
    served.before.losses.clear()
    return served


def half_done(database: Database, company: Books, prefix: str, count: int = 4) -> list[Intent]:
    """Customers whose batch will be lost, one of which is there before."""
    wanted = [customer(f"cus_{prefix}{at}") for at in range(count)]
    company.change("create", entity="Customer", body=dict(wanted[1].payload))
    company.before.losses = deque([Loss.BEFORE])
    put_plan(database, "acme", company.realm, wanted)
    return wanted


def run(database: Database, company: Books, waiting: Waiting, **how: Any) -> Applied:
    with company.writer() as writer:
        return apply(database, writer, "acme", company.realm, waiting=waiting, **how)


def assert_one_each(company: Books, database: Database, intents: list[Intent]) -> None:
    linked = links.links(database, "acme", company.realm)
    for each in intents:
        assert company.one(each)["Id"] == linked[each.key].qbo_id


def test_a_run_waits_until_the_batch_must_be_over_and_ends_with_everything_written(
    company: Books, database: Database
) -> None:
    clock = Clock()
    wanted = half_done(database, company, "wait")
    result = run(database, company, clock.waiting())
    assert (result.ended, result.finished) == ({Ended.FOUND: 1, Ended.APPLIED: 3}, True)
    assert (clock.slept[:-1], clock.waited_until_the_end()) == (LOOKS, True)
    assert sum(clock.slept) <= AT_MOST
    # Looked up at once, and after each sleep: then, and not before, the three are sent alone.
    assert result.requests == {"POST batch": 1, "GET query": 4 + 3 * len(clock.slept), "POST customer": 3}
    assert_one_each(company, database, wanted)


def test_what_arrives_meanwhile_is_found_and_the_wait_is_over(company: Books, database: Database) -> None:
    """The batch was only slow: its objects appear between two looks, and nothing is sent beside them."""
    wanted = half_done(database, company, "slow")

    def arrive(sleeps: int) -> None:
        for each in {1: [wanted[0]], 2: wanted[2:]}[sleeps]:
            company.change("create", entity="Customer", body=dict(each.payload))

    clock = Clock(then=arrive)
    result = run(database, company, clock.waiting())
    assert (result.ended, result.finished) == ({Ended.FOUND: 4}, True)
    assert clock.slept == LOOKS[:2]
    assert "POST customer" not in result.requests
    assert_one_each(company, database, wanted)


def test_a_wait_is_told_as_it_begins_and_as_it_ends(company: Books, database: Database) -> None:
    """What is told is how long it may take; what has arrived before ends it."""
    wanted = half_done(database, company, "told")

    def arrive(_: int) -> None:
        for each in (wanted[0], *wanted[2:]):
            company.change("create", entity="Customer", body=dict(each.payload))

    clock, told = Clock(then=arrive), list[float]()
    result = run(database, company, Waiting(AT_MOST, lambda: clock.now, clock.sleep, told.append))
    assert result.finished
    [begun, ended] = told
    assert LONGEST_REQUEST - 40 < begun <= LONGEST_REQUEST
    assert (ended, clock.slept) == (0, LOOKS[:1])


def test_several_waits_at_once_are_told_as_the_longest_and_until_the_last_is_over() -> None:
    clock, told = Clock(), list[float]()
    waiting = Waiting(AT_MOST, lambda: clock.now, clock.sleep, told.append)
    short, long = waiting.looks(20), waiting.looks(50)
    next(short)
    assert told == [20]
    next(long)
    assert told == [20, 50]
    clock.now += 5
    assert list(short) == [None]  # the rest of its time, and the other one goes on
    assert told == [20, 50]
    long.close()
    assert told == [20, 50, 0]


def test_a_later_run_has_all_of_its_time_again() -> None:
    clock, told = Clock(), list[float]()
    first = Waiting(60, lambda: clock.now, clock.sleep, told.append)
    list(first.looks(40))
    assert not first.has_time(40)
    later = first.again()
    assert later.has_time(60)
    assert not later.has_time(61)
    list(later.looks(10))
    assert told == [40, 0, 10, 0]


def test_what_another_run_left_is_waited_for_alone_or_together(company: Books, database: Database) -> None:
    """By a run that met it as it was left: with one of it, and with what is left of it."""
    wanted = half_done(database, company, "left")
    assert run(database, company, Clock().waiting(0)).ended == {Ended.FOUND: 1, Ended.UNKNOWN: 3}
    clock = Clock()
    first = run(database, company, clock.waiting(), limit=1)
    assert (first.ended, clock.waited_until_the_end()) == ({Ended.APPLIED: 1}, True)
    second = run(database, company, Clock().waiting())
    assert (second.ended, second.finished) == ({Ended.APPLIED: 2}, True)
    assert_one_each(company, database, wanted)


def test_all_waits_of_a_run_end_in_time(company: Books, database: Database) -> None:
    """The second lost batch would take until after the bound: its answer stays unknown, and it is not waited for."""
    clock = Clock()
    wanted = [*half_done(database, company, "early", 3), *half_done(database, company, "later", 3)]
    put_plan(database, "acme", company.realm, wanted, whole=True)
    company.before.losses = deque([Loss.BEFORE, None, None, Loss.BEFORE])  # two batches, after each the rest alone
    result = run(database, company, clock.waiting(), together=3)
    assert result.ended == {Ended.FOUND: 2, Ended.APPLIED: 2, Ended.UNKNOWN: 2}
    assert clock.waited_until_the_end()
    assert_one_each(company, database, [*wanted[:3], wanted[4]])
    assert [len(company.all("Customer", each.marker)) for each in wanted[3:]] == [0, 1, 0]


def test_nothing_is_sent_after_a_wait_without_an_approval(company: Books, database: Database) -> None:
    wanted = half_done(database, company, "gated")
    [approval] = policy_state(database, "acme", QBO_EXPORT.key).approvals

    def revoke(sleeps: int) -> None:
        if sleeps == 1:
            approvals.revoke(database, "acme", QBO_EXPORT.key, reason="a test", request_id=approval.request_id)

    clock = Clock(then=revoke)
    result = run(database, company, clock.waiting())
    assert result.gated
    assert "POST customer" not in result.requests
    assert [len(company.all("Customer", each.marker)) for each in wanted] == [0, 1, 0, 0]
