"""The panels of what is staged: evidence of each source, records, sync runs, and whether staging can go on."""

from finance_os.readiness.evidence_sources import SourceEvidence
from finance_os.readiness.lines import Line
from finance_os.readiness.page.ingestion import by_source
from finance_os.readiness.page.panels import (
    Cell,
    Link,
    Panel,
    Table,
    Tile,
    Tone,
    all_of,
    capital,
    number,
    status_cell,
    time,
)
from finance_os.readiness.plan import Plan


def evidence_panel(plan: Plan) -> Panel:
    assessment = plan.assessment
    return Panel(
        "evidence",
        "Phase 1 validation evidence",
        "Per-source proof that raw ingestion has fresh sync runs, traceable rows, and idempotent raw-record keys "
        "before Phase 2 matching.",
        badge=f"{assessment.evidence_ready}/{len(assessment.evidence)} ready",
        tone=all_of(assessment.evidence_ready, len(assessment.evidence)),
        table=Table(
            ("Source", "Status", "Latest run", "Rows", "Validation", "Evidence"),
            tuple(_evidence_row(plan, each) for each in assessment.evidence),
        ),
    )


def _evidence_row(plan: Plan, each: SourceEvidence) -> tuple[Cell, ...]:
    latest = "n/a" if each.latest_rows is None else number(each.latest_rows)
    return (
        Cell(each.title, (each.name,), link=Link("asset", f"{each.source_system}/{each.object_types[0]}")),
        status_cell(capital(each.status)),
        Cell(
            time(plan, each.latest_at) if each.latest_at else "Not recorded",
            (f"SLA {each.sla.days}d",),
            at=each.latest_at,
        ),
        Cell(f"{number(each.raw_rows)} raw", (f"{number(each.sync_runs)} sync runs / latest row count {latest}",)),
        Cell(
            f"Freshness {capital(each.freshness)}",
            (f"Trace {capital(each.trace)}", f"Idempotency {capital(each.idempotency)}"),
        ),
        Cell(each.sentence, each.reasons),
    )


def staging_panel(plan: Plan) -> Panel:
    latest = plan.recent_runs[0] if plan.recent_runs else None
    figures = (
        Tile("Recent sync runs", str(len(plan.recent_runs)), by_source(plan, "runs", lambda of: of.sync_runs)),
        Tile(
            "Raw records",
            number(sum(each.raw_rows for each in plan.staged)),
            by_source(plan, "rows", lambda of: of.raw_rows),
        ),
        Tile(
            "Latest status",
            latest.status if latest else "Not recorded",
            time(plan, latest.completed_at) if latest and latest.completed_at else "",
            tone=status_cell(latest.status).tone if latest else Tone.PLAIN,
            at=latest.completed_at if latest else None,
        ),
    )
    return reachability_panel(plan.staging, figures)


def reachability_panel(staging: Line, figures: tuple[Tile, ...] = ()) -> Panel:
    """Whether evidence can be staged; where it cannot, what to do, and there may be no `figures`."""
    if staging.ready:
        state = Tile(capital(staging.status), "", staging.title)
    else:
        evidence = f"Evidence hash {staging.evidence_hash or 'n/a'}"
        state = Tile(capital(staging.status), staging.blocker or "", staging.remedy or "", (evidence,), Tone.BAD, True)
    return Panel(
        "staging",
        "Raw-record staging",
        "Finance Supabase write path for idempotent source evidence before real connectors run.",
        badge=capital(staging.status),
        tone=Tone.GOOD if staging.ready else Tone.BAD,
        tiles=(state, *figures),
    )


def probe_panel(plan: Plan) -> Panel:
    return Panel(
        "probe",
        "Ingestion probe",
        "Record one manual raw source record plus sync run and audit event.",
        notes=(
            "This writes only Finance Supabase `source_sync_runs`, `raw_source_records`, and `finance_audit_events` "
            "rows. It does not call external sources.",
            f"Run `finance-os probe --business {plan.business_id}`.",
        ),
    )


def recent_records_panel(plan: Plan) -> Panel:
    return Panel(
        "recent_records",
        "Recent staged raw records",
        "Latest manual ingestion probes proving the raw-record contract is writable and replayable.",
        table=Table(
            ("Source", "Object", "Source ID", "Payload hash", "Last seen"),
            tuple(
                (
                    Cell(each.source_system, code=True),
                    Cell(each.object_type, code=True, link=Link("asset", f"{each.source_system}/{each.object_type}")),
                    Cell(each.source_id, code=True),
                    Cell(each.payload_hash, code=True),
                    Cell(time(plan, each.last_seen), at=each.last_seen),
                )
                for each in plan.recent_records
            ),
        ),
    )


def recent_runs_panel(plan: Plan) -> Panel:
    return Panel(
        "recent_runs",
        "Recent sync runs",
        "The latest reads; `finance-os runs show` prints exactly what each of them saw.",
        table=Table(
            ("Run", "Object", "Kind", "Status", "Rows", "Completed"),
            tuple(
                (
                    Cell(str(each.sync_run_id), link=Link("run", each.dagster_run_id) if each.dagster_run_id else None),
                    Cell(f"{each.source_system}/{each.object_type}", code=True),
                    Cell(each.kind, (each.trigger,)),
                    status_cell(each.status, (each.error_code,) if each.error_code else ()),
                    Cell(number(each.rows_extracted)),
                    Cell(time(plan, each.completed_at) if each.completed_at else "running", at=each.completed_at),
                )
                for each in plan.recent_runs
            ),
        ),
    )


def staged_panel(plan: Plan) -> Panel:
    return Panel(
        "staged",
        "Staged evidence by object type",
        "True counts: every version that was ever staged, and what is current of it.",
        table=Table(
            ("Object type", "Raw rows", "Current", "Latest status", "Completed"),
            tuple(
                (
                    Cell(
                        f"{each.source_system}/{each.object_type}",
                        code=True,
                        link=Link("asset", f"{each.source_system}/{each.object_type}"),
                    ),
                    *(Cell(number(count)) for count in (each.raw_rows, each.current)),
                    Cell(
                        each.last_status or "Not recorded",
                        tone=status_cell(each.last_status).tone if each.last_status else Tone.PLAIN,
                    ),
                    Cell(time(plan, each.last_completed) if each.last_completed else "", at=each.last_completed),
                )
                for each in plan.staged
            ),
        ),
    )
