"""Checkpoint production hardening: the other checkpoints are current, and every policy is gated or explained."""

from collections.abc import Mapping

from finance_os.readiness.boundary import Boundary
from finance_os.readiness.checkpoints import Standing
from finance_os.readiness.lines import Evaluation, Line, LineDeclaration
from finance_os.readiness.policies import (
    OUTBOUND_ALERT_DELIVERY,
    PLAID_PRODUCTION,
    QBO_EXPORT,
    RUNTIME_REGRESSION_EXECUTION,
    PolicyState,
)

PRODUCTION_HARDENING = "production_hardening"
TITLE = "Production hardening"

READINESS_CURRENT = LineDeclaration(
    "deployed_scheduled_sync_readiness_current",
    "Deployed scheduled sync readiness checkpoint is current",
    "phase_7_scheduled_sync_readiness_not_current",
)
MONITORING_CURRENT = LineDeclaration(
    "deployed_source_failure_monitoring_current",
    "Deployed source failure monitoring checkpoint is current",
    "phase_7_source_failure_monitoring_not_current",
)
CSV_FALLBACK_CURRENT = LineDeclaration(
    "csv_fallback_validation_current",
    "CSV fallback validation checkpoint is current",
    "phase_7_csv_fallback_validation_not_current",
)
COMPLETION_CURRENT = LineDeclaration(
    "phase_7_completion_checkpoint_current",
    "Phase 7 completion checkpoint is current",
    "phase_7_completion_checkpoint_not_current",
)
POLICY_LINES: Mapping[str, LineDeclaration] = {
    OUTBOUND_ALERT_DELIVERY.key: LineDeclaration(
        "outbound_alert_delivery_policy_gated",
        "Outbound alert delivery waits for approved channel policy",
        "phase_7_outbound_alert_delivery_not_gated",
    ),
    PLAID_PRODUCTION.key: LineDeclaration(
        "plaid_production_policy_gated",
        "Plaid production activation waits for policy approval",
        "phase_7_plaid_production_not_gated",
    ),
    QBO_EXPORT.key: LineDeclaration(
        "qbo_export_policy_gated",
        "QBO export workflow waits for accounting policy approval",
        "phase_7_qbo_export_not_gated",
    ),
    RUNTIME_REGRESSION_EXECUTION.key: LineDeclaration(
        "runtime_regression_execution_policy_gated",
        "Runtime regression execution waits for explicit approval",
        "phase_7_runtime_regression_execution_not_gated",
    ),
}
EXTERNAL_WRITES = LineDeclaration(
    "external_writes_blocked", "External source writes remain blocked", "phase_7_external_source_writes_detected"
)
LINES = (
    READINESS_CURRENT,
    MONITORING_CURRENT,
    CSV_FALLBACK_CURRENT,
    COMPLETION_CURRENT,
    *POLICY_LINES.values(),
    EXTERNAL_WRITES,
)


def evaluate(
    business_id: str,
    readiness: Standing,
    monitoring: Standing,
    csv_fallback: Standing,
    completion: Standing,
    policies: Mapping[str, PolicyState],
    boundary: Boundary,
) -> Evaluation:
    """The checkpoint on these facts; `boundary` speaks of the source connectors, `policies` of everything else."""
    standings = (readiness, monitoring, csv_fallback, completion)
    current = (
        declaration.judge(
            standing.current, standing.evidence, standing.reason or "", {"latest": standing.currency.value}
        )
        for declaration, standing in zip(LINES[:4], standings, strict=True)
    )
    return Evaluation(
        business_id,
        PRODUCTION_HARDENING,
        (
            *current,
            *(_policy(declaration, policies[key]) for key, declaration in POLICY_LINES.items()),
            EXTERNAL_WRITES.judge(
                boundary.held,
                boundary.evidence,
                f"{'; '.join(boundary.violations)}. Find out what did it, and revoke its credential or grant.",
                {"violations": list(boundary.violations)},
            ),
        ),
    )


def _policy(declaration: LineDeclaration, state: PolicyState) -> Line:
    return declaration.judge(state.ready, state.evidence, state.remedy or "", state.details)
