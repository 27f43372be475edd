"""The source sync plan as an asset: the page that `finance-os plan` prints, readable in the Dagster UI."""

from collections.abc import Sequence

import dagster as dg

from finance_os.defs.assets.sources import OWNERS
from finance_os.defs.resources import Evidence
from finance_os.readiness.plan import Plan, source_sync_plan
from finance_os.settings import settings
from finance_os.sources.source import Source

PLAN = dg.AssetKey(["readiness", "source_sync_plan"])


def plan_asset(sources: Sequence[Source]) -> dg.AssetsDefinition:
    """The asset whose latest materialization is the plan as it then was."""

    @dg.asset(
        key=PLAN,
        group_name="readiness",
        kinds={"postgres"},
        owners=list(OWNERS),
        description="Which connectors can be read, what each must keep, what is staged, what was found to be wrong.",
    )
    def source_sync_plan_page(evidence: Evidence) -> dg.MaterializeResult:
        businesses = evidence.database.fetch("SELECT business_id FROM finance_os.businesses ORDER BY 1")
        plans = [
            source_sync_plan(evidence.database, sources, row["business_id"], excluded=settings().excluded)
            for row in businesses
        ]
        return dg.MaterializeResult(
            metadata={
                **{f"readiness of {plan.business_id}": plan.headline for plan in plans},
                "connectors": dg.MetadataValue.md("\n\n".join(_connectors(plan) for plan in plans)),
                "raw-record contract": dg.MetadataValue.md(
                    _contract(plans[0]) if plans else "No business is recorded."
                ),
                "staged": dg.MetadataValue.md("\n\n".join(_staged(plan) for plan in plans)),
                "recent raw records": dg.MetadataValue.md("\n\n".join(_records(plan) for plan in plans)),
                "recent sync runs": dg.MetadataValue.md("\n\n".join(_runs(plan) for plan in plans)),
                "open exceptions": dg.MetadataValue.md("\n\n".join(_exceptions(plan) for plan in plans)),
            }
        )

    return source_sync_plan_page


def plan_schedule(asset: dg.AssetsDefinition) -> dg.ScheduleDefinition:
    """Keeps the page fresh: every hour."""
    return dg.ScheduleDefinition(
        name="source_sync_plan",
        target=asset,
        cron_schedule="5 * * * *",
        execution_timezone=settings().timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Brings the source sync plan up to date every hour.",
    )


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return f"**{title}**: nothing."
    lines = [f"**{title}**", "", f"| {' | '.join(headings)} |", f"| {' | '.join('---' for _ in headings)} |"]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _connectors(plan: Plan) -> str:
    rows = [
        (c.order, c.title, c.status, c.sentence + (f" {c.remedy}" if c.remedy else ""), ", ".join(c.objects),
         c.cursor_strategy)
        for c in plan.connectors
    ]  # fmt: skip
    return _table(
        f"{plan.business_id}: {plan.headline}",
        ("order", "source", "status", "", "objects", "cursor strategy"),
        rows,
    )


def _contract(plan: Plan) -> str:
    rows = [(c.title, c.evidence_policy, c.idempotency_key) for c in plan.connectors]
    return _table("Raw-record contract", ("source", "evidence policy", "idempotency key"), rows)


def _staged(plan: Plan) -> str:
    rows = [
        (s.source_system, s.object_type, f"{s.raw_rows:,}", f"{s.sync_runs:,}", s.last_status or "not recorded")
        for s in plan.staged
    ]
    return _table(plan.business_id, ("source", "object type", "raw rows", "sync runs", "latest"), rows)


def _records(plan: Plan) -> str:
    rows = [
        (r.source_system, r.object_type, r.source_id, f"`{r.payload_hash}`", f"{r.last_seen:%Y-%m-%d %H:%M:%S}")
        for r in plan.recent_records
    ]
    return _table(plan.business_id, ("source", "object", "source ID", "payload hash", "last seen"), rows)


def _runs(plan: Plan) -> str:
    rows = [
        (r.sync_run_id, r.source_system, r.object_type, r.status, r.error_code or "", f"{r.rows_extracted:,}")
        for r in plan.recent_runs
    ]
    return _table(plan.business_id, ("run", "source", "object", "status", "error", "rows"), rows)


def _exceptions(plan: Plan) -> str:
    rows = [(e.severity, e.code, e.source_system, e.subject, e.partition_day, e.detail) for e in plan.exceptions]
    return _table(plan.business_id, ("severity", "code", "source", "subject", "day", "detail"), rows)
