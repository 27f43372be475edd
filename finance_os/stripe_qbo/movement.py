"""Whether evidence that a plan is made from has moved: how often, counted without looking at it.

Every head that moves is counted by its sync run, in the transaction that moves it: as new, changed or removed. The sum
over all runs is a number that grows when evidence moves and at no other time, whatever clocks say and in whatever order
transactions commit. What was summed of runs that have ended for good is carried on in a `Mark`, so that a look costs
what the latest minutes brought.
"""

from dataclasses import dataclass
from datetime import timedelta

from finance_os.evidence.database import Database
from finance_os.evidence.sync_runs import RESUMABLE_FOR

SYSTEMS = ("stripe", "quickbooks")
"""Whose evidence decides what is planned."""

_MAY_BE_UNSEEN = timedelta(minutes=15)
"""Of runs begun within this time, one with a lower number may still be committed."""


@dataclass(frozen=True)
class Mark:
    """Up to which sync run everything has ended for good, and how often heads moved in those."""

    sync_run_id: int = 0
    moved: int = 0


def moved(database: Database, business_id: str, mark: Mark) -> tuple[int, Mark]:
    """How often heads of a business have moved so far, and the mark for the next look.

    A mark is a short cut only: the sum is the same from any mark that this business was given, and from `Mark()`.
    """
    [row] = database.fetch(
        """
        WITH run AS (
            SELECT sync_run_id, rows_new + rows_changed + rows_removed AS moved,
                   status = 'running' OR started_at > clock_timestamp() - %(unseen)s
                   OR (status <> 'succeeded' AND checkpoint IS NOT NULL
                       AND progressed_at > clock_timestamp() - %(resumable)s) AS may_move
            FROM finance_os.source_sync_runs
            WHERE business_id = %(business_id)s AND source_system = ANY (%(systems)s) AND sync_run_id > %(mark)s
        ), edge AS (
            SELECT coalesce(min(sync_run_id) FILTER (WHERE may_move) - 1, max(sync_run_id), %(mark)s) AS last FROM run
        )
        SELECT coalesce(sum(moved), 0)::bigint AS moved, (SELECT last FROM edge) AS last,
               coalesce(sum(moved) FILTER (WHERE sync_run_id <= (SELECT last FROM edge)), 0)::bigint AS ended
        FROM run
        """,
        {
            "business_id": business_id,
            "systems": list(SYSTEMS),
            "mark": mark.sync_run_id,
            "unseen": _MAY_BE_UNSEEN,
            "resumable": RESUMABLE_FOR,
        },
    )
    return mark.moved + row["moved"], Mark(row["last"], mark.moved + row["ended"])
