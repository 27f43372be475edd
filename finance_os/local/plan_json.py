"""The source sync plan as JSON: the figures that the page shows, for programs."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from finance_os.readiness.assessment import Assessment
from finance_os.readiness.checkpoints import Standing
from finance_os.readiness.plan import Plan


def plan_json(plans: Iterable[Plan]) -> bytes:
    """The plans as one JSON array, a business each."""
    return msgspec.json.format(msgspec.json.encode([plan_object(plan) for plan in plans]), indent=2)


def plan_object(plan: Plan) -> dict[str, Any]:
    """One plan as values that JSON knows. Times are in UTC or the database session's offset, hashes hexadecimal."""
    assessment = plan.assessment
    return {
        "business_id": plan.business_id,
        "business_name": plan.business_name,
        "time_zone": plan.time_zone,
        "as_of": plan.as_of,
        "headline": plan.headline,
        "ready": plan.ready,
        "staging": asdict(plan.staging),
        "connectors": [asdict(each) for each in plan.connectors],
        "evidence_ready": assessment.evidence_ready,
        "evidence": [
            {"status": each.status, "sentence": each.sentence, **asdict(each)} for each in assessment.evidence
        ],
        "scheduled_sync": {"status": assessment.sync.status, **asdict(assessment.sync)},
        "checkpoints": [_checkpoint(each) for each in assessment.standings.values()],
        "csv_fallback": _csv_fallback(assessment),
        "policies": {key: {"ready": state.ready, **state.details} for key, state in assessment.policies.items()},
        "boundary": {"held": assessment.boundary.held, **asdict(assessment.boundary)},
        "staged": [asdict(each) for each in plan.staged],
        "recent_records": [asdict(each) for each in plan.recent_records],
        "recent_runs": [asdict(each) for each in plan.recent_runs],
        "alerts": {"open": plan.alert_count, "listed": [asdict(each) for each in plan.alerts]},
        "exceptions": [asdict(each) for each in plan.exceptions],
    }


def _checkpoint(standing: Standing) -> Mapping[str, Any]:
    evaluation, recorded = standing.evaluation, standing.recorded
    return {
        "name": standing.name,
        "title": standing.title,
        "status": evaluation.status,
        "evidence_hash": evaluation.evidence_hash,
        "ready": evaluation.ready_count,
        "of": len(evaluation.lines),
        "latest": standing.currency,
        "reason": standing.reason,
        "recorded": None
        if recorded is None
        else {
            "status": recorded.status,
            "evidence_hash": recorded.evidence_hash,
            "recorded_by": recorded.recorded_by,
            "recorded_at": recorded.recorded_at,
        },
        "lines": [asdict(line) for line in evaluation.lines],
    }


def _csv_fallback(assessment: Assessment) -> Mapping[str, Any]:
    found = asdict(assessment.csv_fallback)
    del found["evaluation"]  # among the checkpoints
    return {
        "summary": assessment.csv_fallback.summary,
        "validation_hash": assessment.csv_fallback.validation_hash,
    } | found
