"""The source sync plan in a terminal, and as JSON."""

from dataclasses import asdict
from datetime import datetime

import msgspec
from rich.console import Console
from rich.table import Table

from finance_os.readiness.plan import Plan
from finance_os.sources.connectors import ConnectorStatus


def plan_json(plans: list[Plan]) -> bytes:
    """The plans as one JSON array, a business each."""
    return msgspec.json.format(
        msgspec.json.encode([{"headline": plan.headline, "ready": plan.ready, **asdict(plan)} for plan in plans]),
        indent=2,
    )


def print_plan(plan: Plan, console: Console) -> None:
    """Print the plan of one business."""
    console.rule(f"Source sync plan: {plan.business_id}")
    console.print(f"[bold]Connector readiness[/]  {plan.headline}")
    table = Table("order", "source", "status", "objects", "cursor strategy", show_lines=True)
    for each in plan.connectors:
        colour = "green" if each.status is ConnectorStatus.READY else "bold red"
        advice = f"\n[dim]{each.blocker}: {each.remedy}[/]" if each.blocker else ""
        table.add_row(
            str(each.order),
            f"[bold]{each.title}[/]\n{each.sentence}{advice}",
            f"[{colour}]{each.status}[/]",
            ", ".join(each.objects),
            each.cursor_strategy,
        )
    console.print(table)
    contract = Table("source", "evidence policy", "idempotency key", title="Raw-record contract", show_lines=True)
    for each in plan.connectors:
        contract.add_row(each.title, each.evidence_policy, each.idempotency_key)
    console.print(contract)
    staged = Table("source", "object type", title="Staged evidence")
    for heading in ("raw rows", "current", "sync runs"):
        staged.add_column(heading, justify="right")
    staged.add_column("latest run")
    for each in plan.staged:
        staged.add_row(
            each.source_system,
            each.object_type,
            *(f"{count:,}" for count in (each.raw_rows, each.current, each.sync_runs)),
            f"{each.last_status} {_time(each.last_completed)}" if each.last_status else "not recorded",
        )
    console.print(staged)
    records = Table("source", "object", "source ID", "payload hash", "last seen", title="Recent staged raw records")
    for each in plan.recent_records:
        records.add_row(each.source_system, each.object_type, each.source_id, each.payload_hash, _time(each.last_seen))
    console.print(records)
    runs = Table("run", "source", "object", "kind", "status", "rows", "completed", title="Recent sync runs")
    for each in plan.recent_runs:
        status = f"{each.status} ({each.error_code})" if each.error_code else each.status
        runs.add_row(
            str(each.sync_run_id),
            each.source_system,
            each.object_type,
            each.kind,
            status,
            f"{each.rows_extracted:,}",
            _time(each.completed_at),
        )
    console.print(runs)
    if not plan.exceptions:
        console.print("No open finance exceptions.")
        return
    found = Table("severity", "code", "source", "subject", "day", "detail", title="Open finance exceptions")
    for each in plan.exceptions:
        found.add_row(each.severity, each.code, each.source_system, each.subject, str(each.partition_day), each.detail)
    console.print(found)


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "running"
