"""What moved a customer's balance within one second comes as the balance went on, whatever the IDs."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance_os.stripe_qbo.balance_order import in_order
from finance_os.stripe_qbo.stripe_objects import CustomerBalanceTransaction


def moved(name: str, created: int, before: int, amount: int, customer: str = "cus_1") -> CustomerBalanceTransaction:
    body = {
        "id": f"cbtxn_{name}",
        "created": created,
        "customer": customer,
        "currency": "usd",
        "amount": amount,
        "ending_balance": before + amount,
        "type": "adjustment",
    }
    return msgspec.convert(body, CustomerBalanceTransaction)


_HAPPENED = st.tuples(st.integers(0, 2), st.sampled_from(["cus_1", "cus_2"]), st.sampled_from([-5, -3, 3, 5]))


@given(happened=st.lists(_HAPPENED, max_size=9), names=st.permutations([f"{number}" for number in range(9)]))
def test_each_goes_on_from_where_the_one_before_it_ended(
    happened: list[tuple[int, str, int]], names: list[str]
) -> None:
    balance = {"cus_1": 0, "cus_2": 0}
    moves: list[CustomerBalanceTransaction] = []
    for name, (second, customer, amount) in zip(names, sorted(happened, key=lambda each: each[0]), strict=False):
        moves.append(moved(name, second, balance[customer], amount, customer))
        balance[customer] += amount
    found = in_order(sorted(moves, key=lambda each: each.id))
    assert sorted(each.id for each in found) == sorted(each.id for each in moves)
    assert [each.created for each in found] == sorted(each.created for each in moves)
    at = {"cus_1": 0, "cus_2": 0}
    for each in found:
        assert each.ending_balance - each.amount == at[each.customer]
        at[each.customer] = each.ending_balance
    assert at == balance


@pytest.mark.parametrize("names", [("1", "2", "3"), ("3", "1", "2"), ("2", "3", "1")], ids=str)
def test_nothing_is_left_out_where_one_is_not_staged(names: tuple[str, str, str]) -> None:
    first, second, last = names
    moves = [moved(first, 7, 0, -100), moved(second, 7, -100, 30), moved(last, 7, -500, 20)]
    found = [each.id for each in in_order(moves)]
    assert sorted(found) == sorted(each.id for each in moves)
    assert found.index(f"cbtxn_{first}") + 1 == found.index(f"cbtxn_{second}")
