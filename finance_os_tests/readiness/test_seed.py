"""The state that the plan was first drawn from, and what is computed of it: every figure, status and blocker."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from finance_os.evidence.database import Database
from finance_os.readiness.assessment import Assessment, assess
from finance_os.readiness.checkpoints import Currency
from finance_os.readiness.lines import Line
from finance_os.readiness.plan import source_sync_plan
from finance_os.readiness.scheduled_sync import Outcome
from finance_os.readiness.verdicts import Status
from finance_os.sources.registry import SOURCES
from finance_os_tests.readiness.conftest import copied
from finance_os_tests.readiness.seed_state import BUSINESS, ENVIRONMENT, REQUESTED, plant_seed_state

EVIDENCE = Path(__file__).with_name("seed_evidence.txt")
LINES = Path(__file__).with_name("seed_lines.txt")
NOTHING = "4f53cda18c2b"
"""The hash of no evidence."""


@pytest.fixture
def seeded(server_url: str, seeded_name: str) -> Iterator[Database]:
    yield from copied(server_url, f"finance_os_seed_{os.getpid()}", seeded_name)


@pytest.fixture
def assessment(seeded: Database) -> Assessment:
    return assess(seeded, SOURCES, BUSINESS)


def said(lines: Iterable[Line]) -> list[str]:
    """A line each: title, key, status and blocker."""
    return [f"{line.title} | {line.key} | {line.status} | {line.blocker}" for line in lines]


def test_the_evidence_of_each_source(assessment: Assessment) -> None:
    found = [
        f"{each.title} | {each.name} | {each.status} | SLA {each.sla.days}d | {each.raw_rows} raw | "
        f"{each.sync_runs} sync runs / latest row count {'n/a' if each.latest_rows is None else each.latest_rows} | "
        f"{each.freshness} {each.trace} {each.idempotency} | {each.sentence}"
        for each in assessment.evidence
    ]
    assert found == EVIDENCE.read_text().splitlines()
    assert (assessment.evidence_ready, len(assessment.evidence)) == (0, 11)


def test_six_of_seven_connectors_are_ready(seeded: Database) -> None:
    plan = source_sync_plan(seeded, SOURCES, BUSINESS, environment=ENVIRONMENT)
    assert plan.headline == "6 of 7 planned connectors have runtime credentials present."
    [blocked] = [each for each in plan.connectors if each.blocker]
    assert blocked.sentence == "Plaid sandbox credential is missing in this runtime; keep connector blocked."


def test_the_scheduled_sync(assessment: Assessment) -> None:
    sync = assessment.sync
    assert (sync.status, sync.requested_at) == ("failed", REQUESTED)
    assert {each.source_system: each.outcome for each in sync.connectors} == {
        "stripe": Outcome.SUCCEEDED,
        "quickbooks": Outcome.SUCCEEDED,
        "google_drive": Outcome.FAILED,
        "gravity": Outcome.FAILED,
        "plaid": Outcome.SKIPPED,
        "redshift": Outcome.MISSING,
    }
    late = [each.freshness for each in assessment.scheduleable]
    assert (len(late), late.count(Status.STALE), late.count(Status.PENDING)) == (9, 8, 1)


def test_every_line_of_every_checkpoint(assessment: Assessment) -> None:
    found: list[str] = []
    for name, standing in assessment.standings.items():
        if name != "deploy_verification":
            found += [f"# {standing.title}: {standing.evaluation.status}", *said(standing.evaluation.lines)]
        assert standing.currency is Currency.MISSING
    assert found == LINES.read_text().splitlines()
    hardening = assessment.standings["production_hardening"].evaluation
    assert (hardening.ready_count, len(hardening.lines), len(hardening.blocked)) == (5, 9, 4)


def test_what_has_no_evidence_has_no_hash_and_what_is_empty_has_that_of_nothing(assessment: Assessment) -> None:
    hardening, readiness, monitoring, fallback = (
        assessment.standings[name].evaluation
        for name in (
            "production_hardening",
            "scheduled_sync_readiness",
            "source_failure_monitoring",
            "csv_fallback_validation",
        )
    )
    assert [line.evidence_hash for line in hardening.blocked] == [None] * 4
    assert [line.key for line in readiness.lines if line.evidence_hash is None] == [
        "deploy_verification_checkpoint_verified"
    ]
    assert [line.key for line in monitoring.lines if line.evidence_hash is None] == ["scheduled_sync_readiness_current"]
    assert {line.key: line.evidence_hash for line in monitoring.lines}["high_severity_exceptions_absent"] == NOTHING
    assert [line.evidence_hash for line in fallback.lines] == [NOTHING] * 5
    assert (assessment.csv_fallback.rho_rows, assessment.csv_fallback.plaid_rows) == (0, 0)
    assert (assessment.csv_fallback.rho_hash, assessment.csv_fallback.plaid_hash) == (NOTHING, NOTHING)
    assert (assessment.csv_fallback.matched, assessment.csv_fallback.variance_micros) == (0, 0)
    assert assessment.grave_exceptions == ()


def test_many_late_sources_are_each_named_once_with_what_reads_them_all(assessment: Assessment) -> None:
    [line] = [
        line
        for standing in assessment.standings.values()
        for line in standing.evaluation.lines
        if line.key == "scheduleable_sources_have_no_stale_evidence"
    ]
    late = [each for each in assessment.evidence if each.scheduleable]
    assert line.remedy is not None
    listed, does = line.remedy.split(". ")
    assert listed.split(", ") == [f"{each.title} ({each.status.value})" for each in late]
    assert does == "Let the daily sync run; the evidence sources say of each what it lacks."


def test_the_policies_are_gated(assessment: Assessment) -> None:
    assert {key: state.status for key, state in assessment.policies.items()} == {
        "outbound_alert_delivery": "policy_gated_no_delivery",
        "plaid_production": "policy_gated_sandbox_only",
        "qbo_export": "policy_gated_read_only_ingestion_only",
        "runtime_regression_execution": "policy_gated_no_execution",
    }


def test_the_same_state_gives_the_same_hashes_in_another_order(seeded: Database, assessment: Assessment) -> None:
    plant_seed_state(seeded, "zeta")
    other = assess(seeded, tuple(reversed(SOURCES)), "zeta")
    assert {name: standing.evaluation.evidence_hash for name, standing in other.standings.items()} == {
        name: standing.evaluation.evidence_hash for name, standing in assessment.standings.items()
    }
