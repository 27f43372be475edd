"""Alerts of runs: reads that failed, and Dagster runs that left nothing, in whichever order they are heard of."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from finance_os.alerts.ledger import open_alerts
from finance_os.alerts.raising import dagster_position, raise_alerts
from finance_os.alerts.run_alerts import RunOutcome
from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Kind
from finance_os.readiness import verdicts
from finance_os_tests.alerts.raised import BLOCKED, open_keys, read
from finance_os_tests.evidence.staged import page, record

pytestmark = pytest.mark.usefixtures("acme", "globex")

START = datetime(2026, 3, 2, tzinfo=UTC)
INVOICES, CHARGES = "stripe/stripe_invoice", "stripe/stripe_charge"
RUN = "run:stripe_sync"


def ended(
    event_id: int, *, ok: bool, run_id: str | None = None, system: str | None = "stripe", **more: Any
) -> RunOutcome:
    """How a run of the source's job ended, an event a minute."""
    return RunOutcome(
        event_id,
        run_id or f"{event_id:08d}-run",
        more.pop("job", "stripe_sync"),
        system,
        frozenset(more.pop("assets", (INVOICES, CHARGES))),
        ok,
        START + timedelta(minutes=event_id),
        **more,
    )


# Sync runs


def test_a_read_that_fails_is_an_alert_until_it_succeeds(database: Database, acme: Connection) -> None:
    read(database, acme, error="rate_limited")
    read(database, acme, error="forbidden", object_type="stripe_charge")
    [raised] = raise_alerts(database)
    assert (raised.key, raised.severity, raised.count) == (RUN, "high", 2)
    assert raised.message == (
        "stripe_sync failed: stripe_invoice of default (rate_limited), stripe_charge of default (forbidden)."
    )
    read(database, acme, page(record("in_1")))
    assert [alert.is_open for alert in raise_alerts(database)] == [True]
    read(database, acme, page(), object_type="stripe_charge")
    assert [alert.is_open for alert in raise_alerts(database)] == [False]


def test_another_account_or_business_recovers_nothing(database: Database, acme: Connection, globex: Connection) -> None:
    second = ensure_connection(database, "acme", "stripe", "second")
    read(database, acme, error="rate_limited")
    raise_alerts(database)
    read(database, second, page(record("in_1")))
    read(database, globex, page(record("in_1")))
    assert raise_alerts(database) == []
    assert open_keys(database) == [("acme", RUN, 1)]


def test_a_targeted_read_does_not_speak_for_the_others(database: Database, acme: Connection) -> None:
    read(database, acme, error="rate_limited")
    raise_alerts(database)
    read(database, acme, page(record("in_1")), kind=Kind.TARGETED)
    assert raise_alerts(database) == []
    read(database, acme, error="rate_limited", kind=Kind.TARGETED)
    raise_alerts(database)
    read(database, acme, page(record("in_1")))
    raise_alerts(database)
    assert open_alerts(database) == []


# Dagster runs


def test_a_run_that_left_nothing_is_an_alert_of_each_business_it_reads(database: Database) -> None:
    ensure_connection(database, "globex", "stripe", active=False)
    raised = raise_alerts(database, [ended(5, ok=False)])
    assert [(alert.business_id, alert.key) for alert in raised] == [("acme", RUN)]
    assert raised[0].message == "stripe_sync failed: run 00000005 (run_failed)."
    [resolved] = raise_alerts(database, [ended(6, ok=True)])
    assert not resolved.is_open
    raise_alerts(database, [ended(7, ok=False, system=None, job="plan")])
    assert open_keys(database) == [("acme", "run:plan", 1), ("globex", "run:plan", 1)]


def test_a_run_for_one_connection_concerns_its_business_alone(
    database: Database, acme: Connection, globex: Connection
) -> None:
    narrow = frozenset({acme.connection_id})
    raise_alerts(database, [ended(1, ok=False, connections=narrow)])
    assert open_keys(database) == [("acme", RUN, 1)]
    other = frozenset({globex.connection_id})
    raise_alerts(database, [ended(2, ok=False), ended(3, ok=True, connections=other)])
    assert open_keys(database) == [("acme", RUN, 2), ("globex", RUN, 1)], "it read for one of them only"
    raise_alerts(database, [ended(4, ok=True, connections=narrow, drops=frozenset({"x"}))])
    assert len(open_alerts(database)) == 2, "it staged one file"
    raise_alerts(database, [ended(5, ok=True, connections=narrow)])
    assert open_keys(database) == [("acme", RUN, 2), ("globex", RUN, 1)], "the second was for all"
    raise_alerts(database, [ended(6, ok=True)])
    assert open_alerts(database) == []


def test_a_run_that_does_less_recovers_nothing(database: Database) -> None:
    raise_alerts(database, [ended(1, ok=False)])
    assert raise_alerts(database, [ended(2, ok=True, assets=[INVOICES])]) == []
    raise_alerts(database, [ended(3, ok=True)])
    assert open_alerts(database) == []


def test_a_run_whose_failure_is_known_raises_no_second_alert(database: Database, acme: Connection) -> None:
    read(database, acme, error="rate_limited", run_id="run-a")
    verdicts.record(database, [BLOCKED], "run-b")
    raise_alerts(database, [ended(1, ok=False, run_id="run-a"), ended(2, ok=False, run_id="run-b")])
    assert [key for _, key, _ in open_keys(database)] == [
        "check:stripe/stripe_invoice:trace:trace_counts_disagree",
        RUN,
    ]
    [run] = [alert for alert in open_alerts(database) if alert.key == RUN]
    assert (run.code, run.count) == ("rate_limited", 1)


def test_a_read_that_was_mended_in_its_run_does_not_explain_that_it_failed(
    database: Database, acme: Connection
) -> None:
    read(database, acme, error="rate_limited", run_id="run-a")
    read(database, acme, page(record("in_1")), run_id="run-a")
    raise_alerts(database, [ended(1, ok=False, run_id="run-a")])
    [alert] = open_alerts(database, "acme")
    assert alert.message == "stripe_sync failed: run run-a (run_failed)."


def test_events_are_counted_once_however_often_they_are_given(database: Database) -> None:
    for settled in (0, 0, 2, 9):
        raise_alerts(database, [ended(2, ok=False), ended(9, ok=False)], settled)
    assert open_keys(database, "acme") == [("acme", RUN, 2)]
    assert dagster_position(database) == 9
    raise_alerts(database, [ended(10, ok=True)], 3)
    assert (open_alerts(database), dagster_position(database)) == ([], 9)
    raise_alerts(database, [ended(2, ok=False), ended(9, ok=False), ended(10, ok=True)], 9)
    assert open_alerts(database) == []


def test_a_failure_that_is_heard_of_after_a_later_success_is_not_open(database: Database) -> None:
    raise_alerts(database, [ended(8, ok=True)], 0)
    raise_alerts(database, [ended(7, ok=False), ended(8, ok=True)], 0)
    assert open_alerts(database) == []
    raise_alerts(database, [ended(8, ok=True), ended(9, ok=False)], 0)
    assert len(open_alerts(database)) == 2
    raise_alerts(database, [ended(8, ok=True), ended(9, ok=False)], 8)
    assert len(open_alerts(database)) == 2


@pytest.mark.parametrize("seed", range(4))
def test_the_order_in_which_events_turn_up_changes_nothing(database: Database, seed: int) -> None:
    """Dagster's events are seen when they are committed, which may be out of the order of their IDs."""
    chance = random.Random(seed)
    events = [
        ended(number, ok=chance.random() < 0.5, assets=chance.choice(([INVOICES], [CHARGES], [INVOICES, CHARGES])))
        for number in range(1, 13)
    ]
    shuffled = chance.sample(events, len(events))
    for known in range(3, len(events), 3):
        raise_alerts(database, shuffled[:known], 0)
    raise_alerts(database, events, 12)
    failing: dict[str, frozenset[str]] = {}
    for event in events:
        if event.succeeded:
            failing = {run: assets for run, assets in failing.items() if not (event.assets or set()) >= assets}
        else:
            failing[event.run_id[:8]] = event.assets or frozenset()
    found = database.fetch("SELECT failing FROM finance_os.alerts WHERE business_id = 'acme' AND resolved_at IS NULL")
    assert {name.removeprefix("run ") for row in found for name in row["failing"]} == set(failing)
    assert dagster_position(database) == 12
