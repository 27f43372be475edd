"""The order of what moved a customer's balance: as each movement says what it left.

Several may be of one second, and their IDs do not tell which came first. Each says what the balance was after it
(`ending_balance`), and so what it was before: that is where the one before it ended.
https://docs.stripe.com/api/customer_balance_transactions/object
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import groupby

from finance_os.stripe_qbo.stripe_objects import CustomerBalanceTransaction


def in_order(moves: Iterable[CustomerBalanceTransaction]) -> list[CustomerBalanceTransaction]:
    """`moves` by the second, and within one as each customer's balance went on, in each currency; else by their IDs."""
    at: dict[tuple[str, str], int] = {}
    found: list[CustomerBalanceTransaction] = []
    for _, second in groupby(sorted(moves, key=lambda each: (each.created, each.id)), key=lambda each: each.created):
        of: dict[tuple[str, str], list[CustomerBalanceTransaction]] = defaultdict(list)
        for moved in second:
            of[moved.customer, moved.currency].append(moved)
        for owner, several in of.items():
            found += _chained(several, at.get(owner))
            at[owner] = found[-1].ending_balance
    return found


def _chained(several: list[CustomerBalanceTransaction], balance: int | None) -> list[CustomerBalanceTransaction]:
    """The movements of one owner in one second, by ID, in the order in which one goes on from another.

    From the `balance` that there was before, where it is known. Where some are missing in between, that is several
    pieces, one behind the other.
    """
    left, found = several, list[CustomerBalanceTransaction]()
    while left:
        piece = _path(left, balance if balance is not None and balance in map(_start, left) else _begun(left))
        found += piece
        taken = {moved.id for moved in piece}
        left = [moved for moved in left if moved.id not in taken]
        balance = found[-1].ending_balance
    return found


def _path(several: list[CustomerBalanceTransaction], begun: int | None) -> list[CustomerBalanceTransaction]:
    """A path through balances that takes every movement once which can be reached (Hierholzer's algorithm)."""
    onward: dict[int | None, list[CustomerBalanceTransaction]] = defaultdict(list)
    for moved in reversed(several):
        onward[_start(moved)].append(moved)
    path: list[CustomerBalanceTransaction] = []
    walk: list[tuple[int | None, CustomerBalanceTransaction | None]] = [(begun, None)]
    while walk:
        at, moved = walk[-1]
        if onward[at]:
            following = onward[at].pop()
            walk.append((following.ending_balance, following))
        else:
            walk.pop()
            if moved is not None:
                path.append(moved)
    return path[::-1]


def _begun(several: list[CustomerBalanceTransaction]) -> int:
    """A balance that more movements begin at than end at. Where all go round: nothing, which a customer begins with, or
    the balance of the first."""
    surplus = Counter(map(_start, several))
    surplus.subtract(moved.ending_balance for moved in several)
    starts = [_start(moved) for moved in several]
    return next((start for start in starts if surplus[start] > 0), 0 if 0 in starts else starts[0])


def _start(moved: CustomerBalanceTransaction) -> int:
    return moved.ending_balance - moved.amount
