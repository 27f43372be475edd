"""The books of any world, in any accounting time zone: posted to an empty realm, they agree with Stripe and the bank.

A plain run takes a few examples that differ; `make soak` takes SOAK_WORLDS of them, marked `soak`.
"""

import os

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from finance_os.stripe_qbo.bank_lines import BankLine
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.planning import plan_of

from .agreed import Posted, agree
from .worlds import OUTSIDE, company, evidence, living, rules

ZONES = ("America/New_York", "Pacific/Auckland", "UTC")
FEW = 6


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A few short lives in a plain run, many and longer ones under `make soak`."""
    if "longest" in metafunc.fixturenames:
        if "soak" in str(metafunc.config.getoption("markexpr")):
            many = int(os.environ.get("SOAK_WORLDS", "60"))
            metafunc.parametrize(("count", "longest"), [pytest.param(many, 100, marks=pytest.mark.soak)], ids=["many"])
        else:
            metafunc.parametrize(("count", "longest"), [(FEW, 45)], ids=["few"])


def test_any_living_world_agrees_with_its_books(count: int, longest: int) -> None:
    drawn = given(
        days=st.integers(5, longest),
        size=st.integers(1, 9),
        seed=st.integers(0, 9_999),
        zone=st.sampled_from(ZONES),
        outside_credits=st.booleans(),
        minimum_balance=st.sampled_from((0, 100_000)),
    )
    check = drawn(_posted_and_agreed)
    for days, size, seed, zone, outside_credits, minimum_balance in (
        (66, 3, 68, "America/New_York", False, 0),  # a dispute is won
        (66, 3, 109, "Pacific/Auckland", False, 250_000),  # and another one
        (42, 9, 2185, "Pacific/Auckland", True, 0),  # a credit note over an invoice that is voided; four currencies
    ):
        check = example(
            days=days,
            size=size,
            seed=seed,
            zone=zone,
            outside_credits=outside_credits,
            minimum_balance=minimum_balance,
        )(check)
    settings(max_examples=count, derandomize=True, deadline=None, phases=(Phase.explicit, Phase.generate))(check)()


def _posted_and_agreed(days: int, size: int, seed: int, zone: str, outside_credits: bool, minimum_balance: int) -> None:
    world = living(days, size, seed, outside_credits=outside_credits, minimum_balance=minimum_balance)
    chosen = rules(time_zone=zone, outside_account=OUTSIDE)
    stripe = evidence(world)
    bank = [
        BankLine("rho", str(number), line.posted, line.amount, "usd", line.reference or "")
        for number, line in enumerate(world.bank)
    ]
    with company(world) as realm:
        books = realm.books(days + 5)
        plan = plan_of(stripe, books, chosen, bank=bank)
        assert plan == plan_of(stripe, books, chosen, bank=bank)
        realm.apply(plan)
        agree(Posted(world, zone, realm, plan, stripe))
        # QuickBooks read again: the same intents, and customers that are there.
        again = plan_of(stripe, realm.books(days + 5), chosen, bank=bank)
        made = [each for each in plan.intents if each.entity != "Customer"]
        assert [(each.key, each.operation, each.input_hash) for each in again.intents] == [
            (each.key, each.operation, each.input_hash) for each in made
        ]
        assert again.findings == plan.findings
        assert set(again.adoptions) == {
            each.key for each in plan.intents if each.entity == "Customer" and each.operation is Operation.CREATE
        }
