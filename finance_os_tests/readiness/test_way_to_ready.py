"""The way from the state that the plan was first drawn from to nine of nine, blocker by blocker, and back."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import pytest

from finance_os.evidence.businesses import ensure_connection
from finance_os.evidence.database import Database
from finance_os.readiness.assessment import TITLES, Assessment, assess
from finance_os.readiness.boundary import boundary_facts
from finance_os.readiness.checkpoints import Currency
from finance_os.readiness.gate import Gate, gate
from finance_os.readiness.recording import UnknownCheckpoint, in_order, record_checkpoints
from finance_os.readiness.verdicts import Status
from finance_os.sources.registry import SOURCES, source_named
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.readiness.conftest import copied
from finance_os_tests.readiness.planted import forge
from finance_os_tests.readiness.readied import SYNC, hand_in_the_bank, read_everything, record, verified
from finance_os_tests.readiness.seed_state import BUSINESS, plant_rows, plant_run, plant_seed_state


def now(database: Database) -> Assessment:
    return assess(database, SOURCES, BUSINESS)


def blocked(database: Database) -> dict[str, list[str]]:
    """Checkpoint → blockers of its lines, of those that are blocked."""
    return {
        name: [line.blocker or "" for line in standing.evaluation.blocked]
        for name, standing in now(database).standings.items()
        if standing.evaluation.blocked
    }


def shut(database: Database) -> list[str]:
    """The codes that hold the gate shut."""
    return [blocker.code for blocker in opened(database).blockers]


def opened(database: Database) -> Gate:
    return gate(database, BUSINESS, [], assessment=now(database))


@pytest.fixture
def database(server_url: str, ready_name: str) -> Iterator[Database]:
    """A business of which everything is ready and recorded."""
    yield from copied(server_url, f"finance_os_of_ready_{os.getpid()}", ready_name)


@pytest.fixture
def ready(database: Database) -> Database:
    return database


@pytest.fixture
def seeded(server_url: str, seeded_name: str) -> Iterator[Database]:
    yield from copied(server_url, f"finance_os_of_seeded_{os.getpid()}", seeded_name)


def test_the_way(seeded: Database) -> None:
    database = seeded
    assert len(shut(database)) == len(
        [line for each in now(database).standings.values() for line in each.evaluation.blocked]
    )

    read_everything(database)
    assert blocked(database)["scheduled_sync_readiness"] == ["phase_7_deploy_verification_not_verified"]
    assert blocked(database)["source_failure_monitoring"] == ["phase_7_scheduled_sync_readiness_not_current"]

    record(database, ["deploy_verification"])
    assert "scheduled_sync_readiness" not in blocked(database)
    assert "phase_7_policy_states_not_recorded" not in blocked(database)["phase_7_completion"]

    record(database, ["scheduled_sync_readiness"])
    assert "source_failure_monitoring" not in blocked(database)

    hand_in_the_bank(database)
    assert "csv_fallback_validation" not in blocked(database)
    assert blocked(database)["phase_7_completion"] == [
        "phase_7_source_failure_monitoring_not_current",
        "phase_7_csv_fallback_validation_not_current",
    ]

    record(database, ["csv_fallback_validation", "source_failure_monitoring"])
    assert blocked(database) == {"production_hardening": ["phase_7_completion_checkpoint_not_current"]}

    record(database, ["phase_7_completion"])
    assert blocked(database) == {}
    assert shut(database) == ["checkpoint_missing"]

    record(database, ["production_hardening"])
    hardening = now(database).standings["production_hardening"]
    assert (hardening.evaluation.ready_count, len(hardening.evaluation.lines)) == (9, 9)
    assert (hardening.current, opened(database).open) == (True, True)
    assert boundary_facts(database, BUSINESS, SOURCES).held


def test_recording_everything_at_once_records_in_order(ready: Database) -> None:
    assert opened(ready).open
    assert in_order(reversed(list(TITLES))) == list(TITLES)
    with pytest.raises(UnknownCheckpoint, match="production_hardening"):
        in_order(["hardening"])


def test_another_business_is_not_opened_by_it(ready: Database) -> None:
    plant_seed_state(ready, "globex")
    other = gate(ready, "globex", [], assessment=assess(ready, SOURCES, "globex"))
    assert not other.open
    assert opened(ready).open


def test_a_webhook_does_not_shut_the_gate(ready: Database) -> None:
    connection = ensure_connection(ready, BUSINESS, "stripe")
    run = plant_run(ready, connection, "stripe_invoice", datetime.now(UTC), "webhook-1", rows=1, targeted=True)
    ready_before = {name: each.evaluation.evidence_hash for name, each in now(ready).standings.items()}
    plant_rows(ready, BUSINESS, "stripe", "stripe_invoice", run, 3)
    assert {name: each.evaluation.evidence_hash for name, each in now(ready).standings.items()} == ready_before
    assert opened(ready).open


def test_a_grave_exception_shuts_it_and_its_end_opens_it_again(ready: Database, owner: Database) -> None:
    forge(
        owner,
        """
        INSERT INTO finance_os.finance_exceptions
            (business_id, connection_id, source_system, object_type, code, severity, subject, partition_day, detail,
             status, evidence_hash, opened_by_run)
        SELECT business_id, connection_id, source_system, object_type, 'duplicate_key', 'high', 'one', first_day,
               'Twice.', 'open', '0123456789ab', sync_run_id
        FROM finance_os.source_sync_runs WHERE source_system = 'redshift' LIMIT 1
        """,
    )
    assert shut(ready)[0] == "phase_7_high_severity_exceptions_open"
    assert not now(ready).standings["source_failure_monitoring"].current
    forge(owner, "UPDATE finance_os.finance_exceptions SET status = 'resolved', resolved_at = now()")
    assert opened(ready).open


def test_an_unexplained_write_shuts_it(ready: Database) -> None:
    connection = ensure_connection(ready, BUSINESS, "google_drive")
    plant_run(
        ready, connection, "folder_inventory", datetime.now(UTC), "odd", requested={"DELETE www.googleapis.com": 1}
    )
    codes = shut(ready)
    assert "phase_7_external_source_writes_detected" in codes
    assert "phase_7_scheduled_sync_write_boundary_violated" in codes


@pytest.mark.parametrize(
    ("status", "code"),
    [("failed", "phase_7_scheduled_sync_has_failures"), ("running", "phase_7_scheduled_sync_not_succeeded")],
)
def test_a_sync_that_goes_wrong_shuts_it(ready: Database, owner: Database, status: str, code: str) -> None:
    [row] = ready.fetch(
        "SELECT sync_run_id FROM finance_os.source_sync_runs WHERE source_system = 'stripe' AND scheduled_sync_id = %s"
        " LIMIT 1",
        (SYNC,),
    )
    completed = "now()" if status == "failed" else "NULL"
    forge(
        owner,
        f"UPDATE finance_os.source_sync_runs SET status = '{status}', completed_at = {completed}"  # pyright: ignore[reportArgumentType]
        " WHERE sync_run_id = %(id)s",
        {"id": row["sync_run_id"]},
    )
    assert code in shut(ready)


def test_an_approval_does_not_shut_it_and_an_unexplained_action_does(ready: Database, owner: Database) -> None:
    approve_policy(ready, BUSINESS, "qbo_export", scope="realm-1")
    assert opened(ready).open
    forge(
        owner,
        "INSERT INTO finance_os.external_actions (business_id, policy, intent_key, target, payload_hash, actor,"
        " requested_at) VALUES ('acme', 'qbo_export', 'k', 'realm-2', '0123456789ab', 'x', now())",
    )
    assert "phase_7_qbo_export_not_gated" in shut(ready)


def test_a_schedule_that_was_switched_off_shuts_it(ready: Database, owner: Database) -> None:
    forge(
        owner,
        "UPDATE finance_os.scheduled_syncs SET requested_at = now() - interval '37 hours'"
        " WHERE scheduled_sync_id = %(sync)s",
        {"sync": SYNC},
    )
    assert now(ready).sync.status == "overdue"
    assert shut(ready)[0] == "phase_7_scheduled_sync_not_succeeded"


def test_a_connection_that_failed_and_is_read_no_more_does_not_count(ready: Database, owner: Database) -> None:
    second = ensure_connection(ready, BUSINESS, "stripe", external_account="second")
    for obj in source_named("stripe"):
        plant_run(ready, second, obj.object_type, datetime.now(UTC), "second", status="failed", sync=SYNC, code="gone")
    assert now(ready).sync.status == "failed"
    forge(owner, "UPDATE finance_os.connections SET active = false WHERE external_account = 'second'")
    assert now(ready).sync.status == "succeeded"


def test_a_later_read_of_the_same_days_mends_an_earlier_one(ready: Database) -> None:
    connection = ensure_connection(ready, BUSINESS, "redshift")
    ended = datetime.now(UTC) - timedelta(days=1)
    plant_run(ready, connection, "ad_clicks", ended, "one", status="failed", sync=SYNC, code="odd")
    assert now(ready).sync.status == "failed"
    run = plant_run(ready, connection, "ad_clicks", datetime.now(UTC), "two", sync=SYNC)
    assert now(ready).sync.status == "failed", "another day's read does not"
    with ready.transaction() as opened_connection:
        opened_connection.execute(
            "UPDATE finance_os.source_sync_runs SET first_day = %s WHERE sync_run_id = %s", (ended.date(), run)
        )
    assert now(ready).sync.status == "succeeded"


def test_a_source_that_is_empty_is_ready(ready: Database, owner: Database) -> None:
    forge_all(owner, "DELETE FROM finance_os.raw_source_records WHERE object_type = 'gravity_billing_adjustment'")
    forge(owner, "DELETE FROM finance_os.raw_record_counts WHERE object_type = 'gravity_billing_adjustment'")
    [found] = [each for each in now(ready).evidence if each.name == "gravity_billing_adjustment"]
    assert found.status is Status.PENDING, "its latest reading showed a row"
    assert "materialize it again" in " ".join(found.reasons)
    connection = ensure_connection(ready, BUSINESS, "gravity")
    plant_run(ready, connection, "gravity_billing_adjustment", datetime.now(UTC), "empty")
    [found] = [each for each in now(ready).evidence if each.name == "gravity_billing_adjustment"]
    assert (found.status, found.reasons) == (Status.READY, ())


def test_what_is_taken_out_of_the_plan_does_not_hold_it_shut(ready: Database, owner: Database) -> None:
    forge_all(owner, "UPDATE finance_os.connections SET active = false WHERE source_system = 'plaid'")
    assert not opened(ready).open
    without = assess(ready, SOURCES, BUSINESS, excluded=frozenset({"plaid"}))
    assert without.standings["csv_fallback_validation"].evaluation.status is Status.READY
    assert not [line for each in without.standings.values() for line in each.evaluation.blocked if "plaid" in line.key]


def test_a_recording_counts_for_a_day_and_no_longer(ready: Database, owner: Database) -> None:
    forge_all(owner, "UPDATE finance_os.checkpoints SET recorded_at = recorded_at - interval '25 hours'")
    standings = now(ready).standings
    assert {each.currency for each in standings.values()} == {Currency.NOT_CURRENT}
    assert "more than 24 h ago" in (standings["deploy_verification"].reason or "")
    longer = assess(ready, SOURCES, BUSINESS, valid_for=timedelta(hours=48))
    assert {each.currency for each in longer.standings.values()} == {Currency.CURRENT}
    record(ready)
    assert opened(ready).open


def test_a_daemon_that_stands_still_is_recorded_as_such(ready: Database) -> None:
    list(
        record_checkpoints(ready, SOURCES, BUSINESS, ["deploy_verification"], verified(ready, {"SensorDaemon": False}))
    )
    assert blocked(ready)["deploy_verification"] == ["deploy_daemon_not_alive"]
    assert "phase_7_deploy_verification_not_verified" in blocked(ready)["scheduled_sync_readiness"]
    with pytest.raises(ValueError, match="looked at the deployment"):
        list(record_checkpoints(ready, SOURCES, BUSINESS, ["deploy_verification"]))


def test_each_recording_has_its_audit_event_and_its_lines(ready: Database) -> None:
    [recorded] = ready.fetch(
        "SELECT checkpoint_id, evidence_hash FROM finance_os.checkpoints WHERE name = 'production_hardening'"
    )
    [event] = ready.fetch(
        "SELECT details FROM finance_os.finance_audit_events WHERE subject = 'checkpoint:production_hardening'"
    )
    assert event["details"] == {
        "checkpoint_id": recorded["checkpoint_id"],
        "status": "ready",
        "evidence_hash": recorded["evidence_hash"],
        "blockers": [],
    }
    lines = ready.fetch(
        "SELECT check_name, status FROM finance_os.check_results"
        " WHERE source_system = 'readiness' AND object_type = 'production_hardening'"
    )
    assert len(lines) == 9
    assert {row["status"] for row in lines} == {"ready"}


def forge_all(owner: Database, query: LiteralString) -> None:
    with owner.transaction() as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(query)
