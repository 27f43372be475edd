"""Checkpoint scheduled sync readiness: the daily unattended syncs are current, before anything builds on them."""

from collections.abc import Sequence

from finance_os.evidence.canonical import NO_EVIDENCE
from finance_os.readiness.boundary import Boundary
from finance_os.readiness.checkpoints import Standing
from finance_os.readiness.evidence_sources import SourceEvidence
from finance_os.readiness.lines import Evaluation, LineDeclaration
from finance_os.readiness.scheduled_sync import Outcome, ScheduledSync
from finance_os.readiness.verdicts import Status

SCHEDULED_SYNC_READINESS = "scheduled_sync_readiness"
TITLE = "Scheduled sync readiness"

SUCCEEDED = LineDeclaration(
    "latest_scheduled_sync_succeeded", "Latest scheduled sync succeeded", "phase_7_scheduled_sync_not_succeeded"
)
COVERAGE = LineDeclaration(
    "scheduled_connector_coverage_complete",
    "Scheduled connector coverage is complete",
    "phase_7_scheduled_connector_coverage_missing",
)
FRESHNESS = LineDeclaration(
    "scheduled_source_freshness_ready",
    "Scheduled source freshness is ready",
    "phase_7_scheduled_source_freshness_not_ready",
)
DEPLOYED = LineDeclaration(
    "deploy_verification_checkpoint_verified",
    "Deploy verification checkpoint is verified",
    "phase_7_deploy_verification_not_verified",
)
WRITE_BOUNDARY = LineDeclaration(
    "finance_supabase_only_write_boundary",
    "Scheduled sync writes remain Finance Supabase-only",
    "phase_7_scheduled_sync_write_boundary_violated",
)
MANUAL_EXCLUDED = LineDeclaration(
    "manual_connectors_excluded",
    "Manual connectors are excluded from unattended sync",
    "phase_7_manual_connector_in_scheduled_sync",
)
LINES = (SUCCEEDED, COVERAGE, FRESHNESS, DEPLOYED, WRITE_BOUNDARY, MANUAL_EXCLUDED)


def evaluate(
    business_id: str,
    sync: ScheduledSync,
    evidence: Sequence[SourceEvidence],
    deploy: Standing,
    boundary: Boundary,
) -> Evaluation:
    """The checkpoint on these facts; `evidence` is that of every source, of which the scheduleable ones count."""
    scheduleable = [each for each in evidence if each.scheduleable]
    late = [each for each in scheduleable if each.freshness is not Status.READY]
    absent = sync.named(Outcome.MISSING, Outcome.SKIPPED)
    ended_badly = sync.named(Outcome.FAILED, Outcome.SKIPPED, Outcome.RUNNING, Outcome.MISSING)
    return Evaluation(
        business_id,
        SCHEDULED_SYNC_READINESS,
        (
            SUCCEEDED.judge(
                sync.status == "succeeded",
                sync.evidence,
                "Let the daily_sync schedule tick, or start it in the Dagster UI: no scheduled sync was requested yet."
                if sync.scheduled_sync_id is None
                else f"No scheduled sync followed {sync.scheduled_sync_id}, though one was due: turn the daily_sync "
                "schedule on, and look whether the daemon runs."
                if sync.status == "overdue"
                else f"Not succeeded: {ended_badly}. Look at their runs, then re-execute them in the Dagster UI.",
                {"status": sync.status},
            ),
            COVERAGE.judge(
                sync.scheduled_sync_id is not None and not absent,
                sync.evidence,
                f"Took no part: {absent}. Give them credentials, or take them out of the plan with "
                "FINANCE_OS_EXCLUDED_CONNECTORS.",
                {
                    "succeeded": sync.count(Outcome.SUCCEEDED),
                    "failed": sync.count(Outcome.FAILED),
                    "skipped": sync.count(Outcome.SKIPPED),
                    "missing": sync.count(Outcome.MISSING),
                    "expected": len(sync.connectors),
                },
            ),
            FRESHNESS.judge(
                bool(scheduleable) and not late,
                sorted([each.name, each.freshness.value] for each in scheduleable),
                " ".join(f"{each.title} is {each.freshness}." for each in late)
                + " Materialize them for today, or let the next daily sync run.",
                {
                    "fresh": len(scheduleable) - len(late),
                    "of": len(scheduleable),
                    "late": {each.name: each.freshness.value for each in late},
                },
            ),
            DEPLOYED.judge(
                deploy.current,
                deploy.evidence,
                f"{deploy.reason} Or run `finance-os deploy verify`.",
                {"deploy_verification": deploy.currency.value},
            ),
            WRITE_BOUNDARY.judge(
                boundary.held,
                boundary.evidence or NO_EVIDENCE,
                f"{'; '.join(boundary.violations)}. Find out what did it, and revoke its credential or grant.",
                {"violations": list(boundary.violations)},
            ),
            MANUAL_EXCLUDED.judge(
                not sync.manual,
                sync.evidence,
                f"{', '.join(sync.manual)} took part in the scheduled sync, though people feed them: take them out of "
                "its job.",
                {"manual": list(sync.manual)},
            ),
        ),
    )
