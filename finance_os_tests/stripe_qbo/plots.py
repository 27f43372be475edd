"""Stories for the crash tests, cut out of the real plans of living worlds: every kind of write that the export makes.

A plot is a part of a plan that stands on its own: some objects, with all that happens to them and what they refer to.
It is planned from the world twice: as it is, and as it is when somebody has voided a credit note at Stripe and moved
a due date since; the second plan has the voids and updates of what the first one makes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from finance_os.sandbox.world import World
from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os.stripe_qbo.planning import plan_of
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.written import after
from finance_os_tests.sandbox.test_quickbooks import Client
from finance_os_tests.stripe_qbo.books import Books, books
from finance_os_tests.stripe_qbo.mapping.test_invoices import with_bad_debt_item
from finance_os_tests.stripe_qbo.mapping.worlds import (
    KINDS,
    OUTSIDE,
    START,
    Company,
    living,
    rules,
    shown,
    stripe_of,
)

DAYS = 40
DAY = 86_400

Choice = Callable[[Intent], bool]


def _is(entity: str, role: str, operation: Operation = Operation.CREATE, note: str = "") -> Choice:
    """An intent of an entity and a role; of those with a word in their note, if one is given."""
    return lambda each: (
        (each.entity, each.key.role, each.operation) == (entity, role, operation)
        and note in str(each.payload.get("PrivateNote", ""))
    )


@dataclass(frozen=True)
class Plot:
    """What is taken of a world's plan: the first intent of each of `choices`, in the plan's order."""

    name: str
    seed: int
    size: int
    choices: tuple[Choice, ...]
    outside_credits: bool = False

    def __str__(self) -> str:
        return self.name


PLOTS = (
    Plot(
        "taken-back",
        7,
        4,
        (
            _is("Payment", "application", Operation.VOID),
            _is("CreditMemo", "credit_memo", Operation.VOID),
            _is("Invoice", "invoice", Operation.VOID),
            _is("Invoice", "invoice", Operation.UPDATE),
        ),
        outside_credits=True,
    ),
    Plot(
        "credited",
        7,
        4,
        (
            _is("Payment", "application", note="customer_balance_transaction"),
            _is("RefundReceipt", "refund_receipt"),
            _is("RefundReceipt", "refund_receipt", note="credit note"),
            _is("JournalEntry", "journal", note="refund_failure"),
            _is("Deposit", "payout"),
        ),
        outside_credits=True,
    ),
    Plot(
        "lost",
        39,
        3,
        (
            _is("Payment", "write_off_application"),
            _is("JournalEntry", "journal", note="dispute"),
            _is("JournalEntry", "journal", note="charge"),
            _is("Payment", "payment"),
            _is("Deposit", "payout"),
        ),
    ),
)
"""Among them every entity and operation that a plan of the mapping can have, but for a Customer's update."""


@contextmanager
def opened(plot: Plot) -> Iterator[Books]:
    """A company of the plot's world in which nobody has mirrored Stripe; its IDs are always the same."""
    with books(_world(plot), START - timedelta(days=1)) as served:
        client = Client(served.room, served.base)
        client.sign_in()
        with_bad_debt_item(Company(client))
        client.http.close()
        yield served


@cache
def told(plot: Plot) -> tuple[Intent, ...]:
    """The intents of a plot, for a company that was just opened."""
    world = _world(plot)
    objects = {kind: shown(world, kind) for kind in KINDS}
    with opened(plot) as served:
        client = Client(served.room, served.base)
        client.sign_in()
        held = Company(client).books()
        client.http.close()
    first = plan_of(stripe_of(objects), held, _rules())
    _live_on(objects, world.now)
    second = plan_of(stripe_of(objects), held, _rules(), written=after(first.intents))
    assert {each.key for each in second.intents} >= {each.key for each in first.intents if each.entity != "Customer"}
    made = [each for each in first.intents if each.operation is not Operation.VOID]
    changed = [each for each in second.intents if each.operation is not Operation.CREATE]
    return _with_what_they_need([*made, *changed], plot.choices)


def _with_what_they_need(intents: Sequence[Intent], choices: Sequence[Choice]) -> tuple[Intent, ...]:
    chosen: set[LinkKey] = set()
    for choice in choices:
        chosen.add(next(each.key for each in intents if choice(each) and each.key not in chosen))
    while True:
        needed = {key for each in intents if each.key in chosen for key in each.depends_on}
        if needed <= chosen:
            return tuple(each for each in intents if each.key in chosen)
        chosen |= needed


@cache
def _world(plot: Plot) -> World:
    return living(DAYS, plot.size, plot.seed, outside_credits=plot.outside_credits)


def _rules() -> Rules:
    return rules(bad_debt_item="Bad Debt", outside_account=OUTSIDE)


def _live_on(objects: dict[str, list[tuple[str, dict[str, Any]]]], now: int) -> None:
    """A day later: a credit note over an open invoice is voided, and the due date of another one is moved."""
    invoices = dict(objects["invoice"])
    for _, note in objects["credit_note"]:
        invoice, reduced = invoices[note["invoice"]], note["pre_payment_amount"]
        if invoice["status"] == "open" and reduced:
            note.update(status="void", voided_at=now + DAY)
            invoice["amount_remaining"] += reduced
            break
    for invoice in invoices.values():
        if invoice["status"] == "open" and invoice["due_date"]:
            invoice["due_date"] += 5 * DAY
            break
