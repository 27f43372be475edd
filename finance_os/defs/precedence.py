"""Which runs go first where processors are few: those that read whole days give way to everybody else."""

import multiprocessing
import os

from finance_os.evidence.sync_runs import Trigger

NICENESS = 10
"""As of setpriority(2). Beside a process of 0 that wants the same processor it has a tenth of it, alone all of it."""

_UNHURRIED = (Trigger.BACKFILL, Trigger.SCHEDULE)


def give_way(trigger: Trigger) -> None:
    """Let others go first, for the rest of this process, if it reads what nobody waits for.

    A process that was started by Dagster for this run only: any other one has more to do than this.
    """
    is_of_one_run = multiprocessing.parent_process() is not None
    if trigger in _UNHURRIED and is_of_one_run and hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), NICENESS))
