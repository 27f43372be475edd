"""Raising: each failure becomes one alert, counted once, and is resolved by what says that it fails no more."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from finance_os.alerts import raising
from finance_os.alerts.freshness import judge_changed_freshness
from finance_os.alerts.ledger import latest_alerts, open_alerts
from finance_os.alerts.raising import raise_alerts
from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, Severity
from finance_os.readiness import verdicts
from finance_os.readiness.checkpoints import record
from finance_os.readiness.lines import Evaluation, LineDeclaration
from finance_os.readiness.source_checks import Subject
from finance_os.readiness.verdicts import Status
from finance_os_tests.alerts.raised import (
    BLOCKED,
    FRESH,
    READY,
    STALE,
    blocked,
    keys,
    open_keys,
    read,
    ready,
)
from finance_os_tests.evidence.staged import DAY, OBJECT, page
from finance_os_tests.evidence.staged import record as a_record

pytestmark = pytest.mark.usefixtures("acme", "globex")

TRACE = "check:stripe/stripe_invoice:trace:trace_counts_disagree"
TOMORROW = DAY + timedelta(days=1)


# Checks


def test_a_blocked_check_is_one_alert_until_every_day_is_ready(database: Database) -> None:
    assert raise_alerts(database) == []
    blocked(database)
    [raised] = raise_alerts(database)
    assert (raised.kind, raised.severity, raised.code) == ("check", "high", "trace_counts_disagree")
    assert raised.message == "trace of stripe/stripe_invoice is blocked on 2026-03-02: trace_counts_disagree. Look."
    assert (raised.evidence_hash, raised.asset, raised.count) == ("bbbbbbbbbbbb", "stripe/stripe_invoice", 1)
    blocked(database)
    blocked(database, day=TOMORROW)
    [again] = raise_alerts(database)
    assert (again.alert_id, again.count, again.first_seen) == (raised.alert_id, 3, raised.first_seen)
    assert again.last_seen > raised.last_seen
    assert "on 2 days from 2026-03-02 to 2026-03-03" in again.message
    ready(database)
    [still] = raise_alerts(database)
    assert still.is_open
    assert "on 2026-03-03" in still.message
    ready(database, day=TOMORROW)
    [resolved] = raise_alerts(database)
    assert (resolved.alert_id, resolved.is_open) == (raised.alert_id, False)
    assert raise_alerts(database) == []
    blocked(database)
    [anew] = raise_alerts(database)
    assert (anew.alert_id > raised.alert_id, anew.count) == (True, 1)


def test_what_fails_and_recovers_between_two_looks_is_kept_and_not_open(database: Database) -> None:
    blocked(database)
    ready(database)
    raise_alerts(database)
    assert open_alerts(database) == []
    [kept] = latest_alerts(database)
    assert (kept.count, kept.is_open) == (1, False)
    assert kept.message == "trace of stripe/stripe_invoice is blocked on 2026-03-02: trace_counts_disagree. Look."


def test_only_the_last_verdict_says_whether_it_still_fails(database: Database) -> None:
    """A pending verdict is no recovery, and another blocker takes the place of the first."""
    blocked(database)
    raise_alerts(database)
    verdicts.record(database, [replace(READY, status=Status.PENDING, blocker="not_yet")])
    assert raise_alerts(database) == []
    verdicts.record(database, [replace(BLOCKED, blocker="trace_rows_without_sync_run")])
    raise_alerts(database)
    assert open_keys(database) == [("acme", "check:stripe/stripe_invoice:trace:trace_rows_without_sync_run", 1)]


def test_businesses_never_mix(database: Database) -> None:
    blocked(database, "acme")
    blocked(database, "globex")
    verdicts.record(database, [replace(STALE, business_id="globex")])
    raise_alerts(database)
    assert open_keys(database, "acme") == [("acme", TRACE, 1)]
    assert open_keys(database, "globex") == [
        ("globex", TRACE, 1),
        ("globex", "freshness:stripe/stripe_invoice", 1),
    ]
    ready(database, "globex")
    raise_alerts(database)
    assert open_keys(database) == [("acme", TRACE, 1), ("globex", "freshness:stripe/stripe_invoice", 1)]


def test_lines_of_a_checkpoint_are_checks_without_a_connection(database: Database) -> None:
    """Also the line that had no evidence to hash."""
    line = LineDeclaration("readiness_current", "It is current", "phase_7_not_current")
    record(database, Evaluation("acme", "source_failure_monitoring", (line.judge(False, None, "Record it."),)))
    [raised] = raise_alerts(database)
    assert (raised.key, raised.evidence_hash) == (
        "check:readiness/source_failure_monitoring:readiness_current:phase_7_not_current",
        None,
    )
    assert raised.is_open
    assert raise_alerts(database) == []
    record(database, Evaluation("acme", "source_failure_monitoring", (line.judge(True, {"current": True}, ""),)))
    raise_alerts(database)
    assert open_alerts(database) == []


def test_two_at_once_count_everything_once(database: Database) -> None:
    for number in range(30):
        blocked(database, day=DAY + timedelta(days=number % 3))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: raise_alerts(database, batch=4), range(4)))
    assert open_keys(database) == [("acme", TRACE, 30)]


def test_a_call_does_only_so_much_and_the_next_goes_on(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raising, "PASSES", 2)
    for _ in range(7):
        blocked(database)
    raise_alerts(database, batch=2)
    assert open_keys(database) == [("acme", TRACE, 4)]
    raise_alerts(database, batch=2)
    raise_alerts(database, batch=2)
    assert open_keys(database) == [("acme", TRACE, 7)]


def test_nothing_fails_through_a_connection_that_is_given_up(database: Database, acme: Connection) -> None:
    second = ensure_connection(database, "acme", "stripe", "second")
    blocked(database)
    blocked(database, "globex")
    read(database, acme, error="rate_limited")
    read(database, second, error="rate_limited")
    raise_alerts(database)
    assert open_keys(database, "acme") == [("acme", TRACE, 1), ("acme", "run:stripe_sync", 2)]
    ensure_connection(database, "acme", "stripe", "second", active=False)
    [changed] = raise_alerts(database)
    assert (changed.key, changed.is_open) == ("run:stripe_sync", True)
    assert "second" not in changed.message
    ensure_connection(database, "acme", "stripe", active=False)
    raise_alerts(database)
    assert open_keys(database) == [("globex", TRACE, 1)]


# Freshness


def test_stale_evidence_is_an_alert_until_it_is_fresh(database: Database) -> None:
    verdicts.record(database, [STALE])
    [raised] = raise_alerts(database)
    assert (raised.kind, raised.severity) == ("freshness", "medium")
    assert raised.message == "stripe/stripe_invoice is stale: freshness_sla_exceeded. Materialize today."
    verdicts.record(database, [FRESH])
    [resolved] = raise_alerts(database)
    assert not resolved.is_open


def test_freshness_is_judged_without_a_run_and_recorded_when_it_changes(database: Database, acme: Connection) -> None:
    late = Subject("stripe", OBJECT, timedelta(days=1))
    assert judge_changed_freshness(database, [late]) == 2, "pending, of both businesses"
    assert judge_changed_freshness(database, [late]) == 0
    read(database, acme, page(a_record("in_1")))  # of a day that is long over
    assert judge_changed_freshness(database, [late]) == 1
    assert judge_changed_freshness(database, [late]) == 0
    raise_alerts(database)
    assert open_keys(database) == [("acme", "freshness:stripe/stripe_invoice", 1)]
    assert judge_changed_freshness(database, [replace(late, sla=timedelta(days=100_000))]) == 1
    raise_alerts(database)
    assert open_keys(database) == []


# Exceptions


def duplicate(subject: str, severity: Severity = Severity.HIGH) -> Finding:
    return Finding("duplicate_key", severity, subject, DAY, f"{subject} is there twice.")


def test_a_grave_exception_is_an_alert_until_it_is_resolved(database: Database, acme: Connection) -> None:
    read(database, acme, duplicate("one"), duplicate("two", Severity.CRITICAL), duplicate("three", Severity.MEDIUM))
    raised = {alert.subject: alert for alert in raise_alerts(database)}
    assert {name: alert.severity for name, alert in raised.items()} == {"one": "high", "two": "critical"}
    assert raised["one"].message == "one: duplicate_key. one is there twice."
    read(database, acme, duplicate("two", Severity.CRITICAL))
    changed = raise_alerts(database)
    assert [(alert.subject, alert.is_open) for alert in changed] == [("one", False)]
    assert keys(open_alerts(database)) == [("acme", "exception:stripe/stripe_invoice:duplicate_key:two", 1)]


def test_an_exception_becomes_graver(database: Database, acme: Connection) -> None:
    read(database, acme, duplicate("one"))
    raise_alerts(database)
    read(database, acme, duplicate("one", Severity.CRITICAL))
    [graver] = raise_alerts(database)
    assert (graver.severity, graver.count, graver.is_open) == ("critical", 2, True)


def test_the_same_exception_of_another_object_or_business_is_another(
    database: Database, acme: Connection, globex: Connection
) -> None:
    read(database, acme, duplicate("one"))
    read(database, acme, duplicate("one"), object_type="stripe_charge")
    read(database, globex, duplicate("one"))
    raise_alerts(database)
    assert len(open_alerts(database)) == 3
    read(database, acme)
    raise_alerts(database)
    assert open_keys(database) == [
        ("acme", "exception:stripe/stripe_charge:duplicate_key:one", 1),
        ("globex", "exception:stripe/stripe_invoice:duplicate_key:one", 1),
    ]
