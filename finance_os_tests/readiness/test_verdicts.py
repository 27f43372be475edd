"""Verdicts: stored for good, the last one counts, by business and day; and the summary that is made of them."""

from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.readiness import verdicts
from finance_os.readiness.source_checks import judge_and_record
from finance_os.readiness.summary import open_blockers, summarize
from finance_os.readiness.verdicts import Status, Verdict
from finance_os.sources.registry import SOURCES
from finance_os_tests.evidence.staged import OBJECT, page, record, stage
from finance_os_tests.readiness.planted import DAY_1, DAY_2, DAY_3, DAYS, SUBJECT, forge, stage_days
from finance_os_tests.readiness.recorded import latest_verdicts

READY = Verdict("acme", "stripe", OBJECT, "trace", DAY_1, Status.READY, None, None, "aaaaaaaaaaaa", {"rows": 2})
BLOCKED = replace(
    READY, status=Status.BLOCKED, blocker="trace_counts_disagree", remedy="Look.", evidence_hash="bbbbbbbbbbbb"
)


def test_the_last_verdict_of_a_business_and_day_counts(
    database: Database, acme: Connection, globex: Connection
) -> None:
    other_day = replace(READY, day=DAY_2, evidence_hash="cccccccccccc")
    other_business = replace(READY, business_id="globex")
    verdicts.record(database, [READY, other_day, other_business], "run-1")
    verdicts.record(database, [BLOCKED], "run-2")
    verdicts.record(database, [replace(READY, check="completeness"), replace(READY, object_type="stripe_charge")])
    found = latest_verdicts(database, "stripe", OBJECT, "trace", Days(DAY_1, DAY_3))
    assert [(row["business_id"], row["partition_day"], row["status"], row["dagster_run_id"]) for row in found] == [
        ("acme", DAY_1, "blocked", "run-2"),
        ("acme", DAY_2, "ready", "run-1"),
        ("globex", DAY_1, "ready", "run-1"),
    ]
    assert found[0]["blocker"] == "trace_counts_disagree"
    assert found[0]["evidence_hash"] == "bbbbbbbbbbbb"
    assert found[0]["details"] == {"rows": 2, "remedy": "Look."}
    assert found[1]["details"] == {"rows": 2}
    [only] = latest_verdicts(database, "stripe", OBJECT, "trace", Days(DAY_2, DAY_2))
    assert only["partition_day"] == DAY_2


def test_verdicts_of_now_and_of_days_are_kept_apart(database: Database, acme: Connection) -> None:
    of_now = replace(READY, check="freshness", day=None)
    verdicts.record(database, [of_now, replace(of_now, status=Status.STALE, blocker="freshness_sla_exceeded")])
    [row] = latest_verdicts(database, "stripe", OBJECT, "freshness")
    assert (row["status"], row["partition_day"]) == ("stale", None)
    assert latest_verdicts(database, "stripe", OBJECT, "freshness", DAYS) == []
    verdicts.record(database, [READY])
    assert latest_verdicts(database, "stripe", OBJECT, "trace") == []


def test_a_recorded_verdict_cannot_be_changed(database: Database, owner: Database, acme: Connection) -> None:
    verdicts.record(database, [BLOCKED])
    for each in (database, owner):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), each.transaction() as connection:
            connection.execute("UPDATE finance_os.check_results SET status = 'ready', blocker = NULL")
    [row] = latest_verdicts(database, "stripe", OBJECT, "trace", DAYS)
    assert row["status"] == "blocked"


def test_a_verdict_is_ready_or_has_a_blocker(database: Database, acme: Connection) -> None:
    for wrong in (replace(READY, blocker="but"), replace(BLOCKED, blocker=None)):
        with pytest.raises(psycopg.errors.CheckViolation):
            verdicts.record(database, [READY, wrong])
    assert latest_verdicts(database, "stripe", OBJECT, "trace", DAYS) == []  # all or none


def test_the_worst_verdict_is_the_blocked_one() -> None:
    of_status = {status: replace(READY, status=status) for status in Status}
    assert verdicts.worst(list(of_status.values())) == of_status[Status.BLOCKED]
    assert verdicts.worst([of_status[Status.PENDING], of_status[Status.STALE]]) == of_status[Status.PENDING]
    assert verdicts.worst([]) is None


def test_judging_records_what_every_check_finds(
    database: Database, owner: Database, acme: Connection, globex: Connection
) -> None:
    for connection in (acme, globex):
        stage_days(database, connection)
    forge(
        owner,
        """
        UPDATE finance_os.source_sync_partitions SET batch_hash = sha256('forged')
        WHERE business_id = 'globex' AND partition_day = '2026-03-03'
        """,
    )
    found = judge_and_record(database, SUBJECT, DAYS, "run-1")
    assert {check: len(each) for check, each in found.items()} == {
        "freshness": 2,
        "trace": 6,
        "idempotency": 6,
        "completeness": 6,
    }
    for check in found:
        recorded = latest_verdicts(database, "stripe", OBJECT, check, None if check == "freshness" else DAYS)
        assert len(recorded) == len(found[check])
        for row in recorded:
            is_forged = (check, row["business_id"], row["partition_day"]) == ("idempotency", "globex", DAY_2)
            expected = "blocked" if is_forged else "stale" if check == "freshness" else "ready"
            assert row["status"] == expected
            assert row["dagster_run_id"] == "run-1"


def test_the_summary_counts_what_is_staged_and_what_is_ready(
    database: Database, owner: Database, acme: Connection, globex: Connection
) -> None:
    ensure_connection(database, "acme", "gravity")
    ensure_connection(database, "globex", "rho", active=False)
    stage_days(database, acme)
    stage(database, acme, page(record("in_02_0", "b", day=DAY_1), record("in_02_1", None, day=DAY_1), minute=30))
    judge_and_record(database, SUBJECT, Days(DAY_1, DAY_3 + timedelta(days=1)))
    stage_days(database, globex)
    judge_and_record(database, SUBJECT, DAYS)

    summaries = {(s.business_id, s.object_type): s for s in summarize(database, SOURCES)}
    invoices = summaries["acme", OBJECT]
    assert (invoices.current, invoices.versions, invoices.sync_runs) == (5, 7, 2)
    assert (invoices.first_day, invoices.last_day) == (DAY_1, DAY_3)
    # The last verdict of each day counts: three days were judged twice, the fourth once.
    assert invoices.verdicts["trace"] == {Status.READY: 3, Status.PENDING: 1}
    assert invoices.verdicts["freshness"] == {Status.STALE: 1}
    assert summaries["globex", OBJECT].verdicts["trace"] == {Status.READY: 3, Status.PENDING: 1}
    assert summaries["globex", OBJECT].current == 6
    never_read = summaries["acme", "gravity_canonical_entities"]
    assert (never_read.current, never_read.sync_runs, never_read.first_day, never_read.verdicts) == (0, 0, None, {})
    assert ("globex", "rho_cash_transaction") not in summaries
    assert {s.business_id for s in summarize(database, SOURCES, "globex")} == {"globex"}
    in_order = [s.source_system for s in summarize(database, SOURCES, "acme")]
    assert in_order == sorted(in_order, key=lambda system: {"stripe": 1, "gravity": 6}[system])


def test_open_blockers_name_the_days_and_the_worst_first(database: Database, acme: Connection) -> None:
    verdicts.record(database, [BLOCKED, replace(BLOCKED, day=DAY_3), replace(READY, day=DAY_2)])
    pending = replace(READY, check="completeness", status=Status.PENDING, blocker="completeness_day_not_over")
    verdicts.record(database, [pending, replace(pending, object_type="stripe_charge")])
    worst, other = open_blockers(database)
    assert (worst.blocker, worst.status, worst.first_day, worst.last_day, worst.object_types) == (
        "trace_counts_disagree",
        Status.BLOCKED,
        DAY_1,
        DAY_3,
        1,
    )
    assert (other.blocker, other.object_types) == ("completeness_day_not_over", 2)
    verdicts.record(database, [replace(READY, day=day) for day in (DAY_1, DAY_3)])
    assert [each.blocker for each in open_blockers(database, "acme")] == ["completeness_day_not_over"]
    assert open_blockers(database, "globex") == []
