"""Checkpoint source failure monitoring: nothing failed, nothing is stale, and no grave exception is open."""

from collections.abc import Sequence

from finance_os.evidence.exceptions import FinanceException
from finance_os.readiness.boundary import Boundary
from finance_os.readiness.checkpoints import Standing
from finance_os.readiness.evidence_sources import SourceEvidence
from finance_os.readiness.lines import Evaluation, LineDeclaration
from finance_os.readiness.scheduled_sync import Outcome, ScheduledSync
from finance_os.readiness.verdicts import Status

SOURCE_FAILURE_MONITORING = "source_failure_monitoring"
TITLE = "Source failure monitoring"

LISTED = 20
"""How many exceptions a line lists."""

_EXPLAINED = 2
"""Of how many late sources the line itself says what to read."""

READINESS_CURRENT = LineDeclaration(
    "scheduled_sync_readiness_current",
    "Scheduled sync readiness checkpoint is current",
    "phase_7_scheduled_sync_readiness_not_current",
)
NO_FAILURES = LineDeclaration(
    "latest_scheduled_sync_has_no_failures",
    "Latest scheduled sync has no failed or skipped steps",
    "phase_7_scheduled_sync_has_failures",
)
NOTHING_STALE = LineDeclaration(
    "scheduleable_sources_have_no_stale_evidence",
    "Scheduleable sources have no stale or pending evidence",
    "phase_7_scheduleable_source_evidence_not_current",
)
NO_EXCEPTIONS = LineDeclaration(
    "high_severity_exceptions_absent",
    "No open high-severity Finance exceptions",
    "phase_7_high_severity_exceptions_open",
)
BOUNDARY = LineDeclaration(
    "failure_monitoring_read_only_boundary",
    "Failure monitoring remains read-only and audit-only",
    "phase_7_failure_monitoring_write_boundary_violated",
)
LINES = (READINESS_CURRENT, NO_FAILURES, NOTHING_STALE, NO_EXCEPTIONS, BOUNDARY)


def evaluate(
    business_id: str,
    readiness: Standing,
    sync: ScheduledSync,
    evidence: Sequence[SourceEvidence],
    exceptions: Sequence[FinanceException],
    boundary: Boundary,
) -> Evaluation:
    """The checkpoint on these facts; `exceptions` are the open ones of high and critical severity."""
    scheduleable = [each for each in evidence if each.scheduleable]
    late = [each for each in scheduleable if each.status is not Status.READY]
    failures = sync.named(Outcome.FAILED, Outcome.SKIPPED)
    return Evaluation(
        business_id,
        SOURCE_FAILURE_MONITORING,
        (
            READINESS_CURRENT.judge(
                readiness.current,
                readiness.evidence,
                readiness.reason or "",
                {"scheduled_sync_readiness": readiness.currency.value},
            ),
            NO_FAILURES.judge(
                sync.scheduled_sync_id is not None and not failures,
                sync.evidence,
                f"Failed or skipped: {failures}. Look at their runs, mend the cause, and re-execute them."
                if failures
                else "No scheduled sync was requested yet: let the daily_sync schedule tick.",
                {"failed": sync.count(Outcome.FAILED), "skipped": sync.count(Outcome.SKIPPED)},
            ),
            NOTHING_STALE.judge(
                bool(scheduleable) and not late,
                sorted((each.facts for each in scheduleable), key=lambda facts: facts["source"]),
                _how_to_refresh(late) if scheduleable else "No source is read daily.",
                {
                    "stale": sum(each.status is Status.STALE for each in late),
                    "pending": sum(each.status is Status.PENDING for each in late),
                    "sources": {each.name: each.status.value for each in late},
                },
            ),
            NO_EXCEPTIONS.judge(
                not exceptions,
                sorted([each.code, each.source_system, each.subject, each.evidence_hash] for each in exceptions),
                f"{len(exceptions)} open: "
                + "; ".join(f"{each.severity} {each.code} {each.subject}" for each in exceptions[:LISTED])
                + ". Mend what they name at its source; the next read resolves them.",
                {"open": len(exceptions)},
            ),
            BOUNDARY.judge(
                boundary.held,
                [sync.evidence, boundary.evidence],
                f"{'; '.join(boundary.violations)}. Find out what did it, and revoke its credential or grant.",
                {"violations": list(boundary.violations)},
            ),
        ),
    )


def _how_to_refresh(late: Sequence[SourceEvidence]) -> str:
    """What to do about late sources: of a few, each with its object types; of many, what reads them all."""
    if len(late) <= _EXPLAINED:
        return " ".join(reason for each in late for reason in each.reasons)
    listed = ", ".join(f"{each.title} ({each.status.value})" for each in late)
    return f"{listed}. Let the daily sync run; the evidence sources say of each what it lacks."
