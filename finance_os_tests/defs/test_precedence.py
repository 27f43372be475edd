"""Runs that read whole days give way, those for webhooks do not, and no process that does other things does."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from finance_os.defs.assets import sources as source_assets_module
from finance_os.defs.assets.sources import TRIGGER_TAG
from finance_os.defs.precedence import NICENESS, give_way
from finance_os.evidence.sync_runs import Trigger
from finance_os_tests.defs.conftest import Installation, days_ago


def niceness_after(trigger: Trigger) -> int:
    """The niceness of this process once it has read something."""
    give_way(trigger)
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_the_process_of_a_run_that_reads_whole_days_gives_way() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    with ProcessPoolExecutor(1, get_context("spawn")) as started:  # as the code server starts a run
        for trigger in (Trigger.WEBHOOK, Trigger.MANUAL):
            assert started.submit(niceness_after, trigger).result() == ours
        for trigger in (Trigger.BACKFILL, Trigger.SCHEDULE, Trigger.BACKFILL):
            assert started.submit(niceness_after, trigger).result() == max(ours, NICENESS)


def test_a_process_that_has_more_to_do_does_not() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness_after(Trigger.BACKFILL) == ours


def test_every_read_of_a_run_says_what_asked_for_it(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Trigger] = []
    monkeypatch.setattr(source_assets_module, "give_way", told.append)
    for tags in ({"dagster/backfill": "one"}, {TRIGGER_TAG: Trigger.WEBHOOK.value}):
        assert installation.run("stripe", ["stripe_customer"], days_ago(1), tags=tags).success
    assert told == [Trigger.BACKFILL, Trigger.WEBHOOK]
