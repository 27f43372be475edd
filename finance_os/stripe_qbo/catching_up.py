"""Writing a part of a plan, and in the same run the updates that only waited for an answer which that brought.

While nobody knows whether a create arrived, what has changed since is not planned (`update_waits`): QuickBooks may hold
an object to be changed, or none. Writing looks it up or sends it again, and then the change can be planned.
"""

from collections.abc import Callable
from dataclasses import replace

from finance_os.evidence.database import Database
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo import states
from finance_os.stripe_qbo.apply import Applied
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.export import NotExported, Planned
from finance_os.stripe_qbo.holding import Ended
from finance_os.stripe_qbo.kept import Kept
from finance_os.stripe_qbo.parts import Part
from finance_os.stripe_qbo.waiting import Waiting

UPDATE_WAITS = "update_waits"
"""The finding of a plan that an update waits for an answer. Its subject is the link key."""


def write(
    database: Database,
    client: QuickBooksWriter,
    planned: Planned,
    part: Part,
    plan_again: Callable[[], Planned],
    *,
    workers: int = 1,
    told: Callable[[Kept, Ended], None] | None = None,
    waiting: Waiting | None = None,
) -> tuple[Planned, Applied]:
    """Write a part of what was planned, once more after `plan_again` where updates waited and need not wait now.

    The plan as it was kept last, with everything that keeping both changed, and what writing both came to. Where the
    gate is shut by then, the first plan stands: evidence has moved meanwhile, and another run is asked for. Raises as
    `plan_again` and `export.apply_part` do.
    """
    applied = exporting.apply_part(database, client, planned, part, workers=workers, told=told, waiting=waiting)
    if applied.gated or applied.stopped or not _can_go_on(database, planned):
        return planned, applied
    try:
        again = plan_again()
    except NotExported:
        return planned, applied
    later_waiting = waiting.again() if waiting is not None else None
    later = exporting.apply_part(database, client, again, part, workers=workers, told=told, waiting=later_waiting)
    return replace(again, put=planned.put.then(again.put)), applied.then(later)


def _can_go_on(database: Database, planned: Planned) -> bool:
    """Whether the answer is known by now that one of the plan's updates waited for."""
    waiting = {each.subject for each in planned.plan.findings if each.code == UPDATE_WAITS}
    return bool(waiting - states.unanswered(database, planned.export.business_id, planned.export.realm, waiting))
