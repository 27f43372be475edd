"""Checkpoint phase 7 completion: the three checkpoints before it are current, and every policy is in force."""

from collections.abc import Sequence

from finance_os.readiness.checkpoints import Standing
from finance_os.readiness.lines import Evaluation, LineDeclaration
from finance_os.readiness.policies import PolicyState

PHASE_7_COMPLETION = "phase_7_completion"
TITLE = "Phase 7 completion"

READINESS_CURRENT = LineDeclaration(
    "scheduled_sync_readiness_current",
    "Scheduled sync readiness checkpoint is current",
    "phase_7_scheduled_sync_readiness_not_current",
)
MONITORING_CURRENT = LineDeclaration(
    "source_failure_monitoring_current",
    "Source failure monitoring checkpoint is current",
    "phase_7_source_failure_monitoring_not_current",
)
CSV_FALLBACK_CURRENT = LineDeclaration(
    "csv_fallback_validation_current",
    "CSV fallback validation checkpoint is current",
    "phase_7_csv_fallback_validation_not_current",
)
POLICIES_RECORDED = LineDeclaration(
    "policy_states_recorded", "Every policy has a recorded state", "phase_7_policy_states_not_recorded"
)
LINES = (READINESS_CURRENT, MONITORING_CURRENT, CSV_FALLBACK_CURRENT, POLICIES_RECORDED)


def evaluate(
    business_id: str,
    readiness: Standing,
    monitoring: Standing,
    csv_fallback: Standing,
    policies: Sequence[PolicyState],
) -> Evaluation:
    """The checkpoint on these facts. Nothing that depends on it is among them."""
    unrecorded = [state.policy.key for state in policies if not state.recorded]
    current = (
        declaration.judge(
            standing.current, standing.evidence, standing.reason or "", {"latest": standing.currency.value}
        )
        for declaration, standing in zip(LINES[:3], (readiness, monitoring, csv_fallback), strict=True)
    )
    return Evaluation(
        business_id,
        PHASE_7_COMPLETION,
        (
            *current,
            POLICIES_RECORDED.judge(
                not unrecorded,
                sorted([state.policy.key, state.recorded] for state in policies),
                f"Not recorded: {', '.join(unrecorded)}. `finance-os policy record` records each as gated.",
                {"unrecorded": unrecorded},
            ),
        ),
    )
