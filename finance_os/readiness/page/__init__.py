"""The page of the source sync plan: its panels, in the order in which people read them.

First those of the plan's own page, in its order and words; then what belongs beside it: the checkpoints that it
mentions, policies, alerts, exceptions, and what is staged of each object type.
"""

from dataclasses import dataclass

from finance_os.readiness import hardening
from finance_os.readiness.page.checkpoints import (
    completion_panel,
    csv_fallback_panel,
    deploy_panel,
    failure_monitoring_panel,
    hardening_panel,
    scheduled_sync_panel,
)
from finance_os.readiness.page.connectors import connectors_panel, contract_panel
from finance_os.readiness.page.evidence import (
    evidence_panel,
    probe_panel,
    recent_records_panel,
    recent_runs_panel,
    staged_panel,
    staging_panel,
)
from finance_os.readiness.page.ingestion import ingestion_panel
from finance_os.readiness.page.open_matters import alerts_panel, exceptions_panel, policies_panel
from finance_os.readiness.page.panels import Panel, Tile, Tone, all_of, number
from finance_os.readiness.plan import Plan

NAME = "Finance OS"
KIND = "Read-only sync plan"
TITLE = "Source sync plan"
INTRODUCTION = (
    "The connector runbook turns source readiness into replayable raw-record contracts before any calculation, "
    "approval, or close-lock workflow exists."
)
PRINCIPLES = (
    ("Read-only connectors", "Every connector plan is scoped to GET/query/export operations only."),
    ("Idempotent raw records", "Raw records dedupe by source system, object type, source ID, and payload hash."),
    ("No finance outputs", "Source sync can stage evidence, but cannot calculate payouts or lock close periods."),
)
INGESTIONS = ("gravity", "rho", "plaid", "redshift", "quickbooks", "stripe", "google_drive")
"""The order of the sources' own panels; others follow, and the baseline's has its place further up."""

BASELINE = "xlsx"


@dataclass(frozen=True)
class Summary:
    """A figure of the page's head, and the panel that it leads to."""

    label: str
    value: str
    panel: str
    tone: Tone


def summary(plan: Plan) -> tuple[Summary, ...]:
    """Whether anything may build on the evidence, and the figures that decide it."""
    assessment = plan.assessment
    current = sum(each.current for each in assessment.standings.values())
    connectors = len(plan.connectors)
    grave = len(assessment.grave_exceptions)
    return (
        Summary("Gate", "open" if current == len(assessment.standings) else "shut", hardening.PRODUCTION_HARDENING,
                all_of(current, len(assessment.standings))),
        Summary("Checkpoints current", f"{current}/{len(assessment.standings)}", hardening.PRODUCTION_HARDENING,
                all_of(current, len(assessment.standings))),
        Summary("Evidence ready", f"{assessment.evidence_ready}/{len(assessment.evidence)}", "evidence",
                all_of(assessment.evidence_ready, len(assessment.evidence))),
        Summary("Connectors ready", f"{plan.ready}/{connectors}", "connectors", all_of(plan.ready, connectors)),
        Summary("Open alerts", number(plan.alert_count), "alerts", Tone.BAD if plan.alert_count else Tone.GOOD),
        Summary("High/critical exceptions", number(grave), "exceptions", Tone.BAD if grave else Tone.GOOD),
    )  # fmt: skip


def panels(plan: Plan) -> tuple[Panel, ...]:
    """Every panel, in order."""
    by_system = {source.system: source for source in plan.sources}
    order = [*INGESTIONS, *(system for system in by_system if system not in (*INGESTIONS, BASELINE))]
    baseline = (ingestion_panel(plan, by_system[BASELINE]),) if BASELINE in by_system else ()
    return (
        hardening_panel(plan.assessment),
        Panel("principles", "Principles", "", tiles=tuple(Tile(title, "", text) for title, text in PRINCIPLES)),
        *baseline,
        csv_fallback_panel(plan.assessment),
        failure_monitoring_panel(plan.assessment),
        scheduled_sync_panel(plan),
        evidence_panel(plan),
        staging_panel(plan),
        probe_panel(plan),
        *(ingestion_panel(plan, by_system[system]) for system in order if system in by_system),
        connectors_panel(plan),
        recent_records_panel(plan),
        contract_panel(plan),
        completion_panel(plan.assessment),
        deploy_panel(plan.assessment),
        policies_panel(plan),
        alerts_panel(plan),
        exceptions_panel(plan),
        recent_runs_panel(plan),
        staged_panel(plan),
    )
