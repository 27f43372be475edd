"""What the Dagster UI shows of staged evidence: rows, hashes, schemas and small tables without personal data."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from finance_os.evidence.canonical import decode
from finance_os.evidence.partitions import DayOfRun
from finance_os.sources.source import IDEMPOTENCY_KEY, Source, SourceObject

TABLE_NAME = "finance_os.raw_source_records"
"""Where evidence is staged, for the UI."""

_EVIDENCE_COLUMNS = (
    dg.TableColumn("business_id", "text", "The business (tenant) that the record belongs to."),
    dg.TableColumn("source_id", "text", "The source's own ID of the object."),
    dg.TableColumn("payload_hash", "bytea", "SHA-256 of the canonical JSON of the payload."),
    dg.TableColumn("payload", "jsonb", "The object as the source gave it, without volatile fields."),
)


def definition_metadata(source: Source, obj: SourceObject[Any]) -> dict[str, Any]:
    """What is true of a source asset whether it was ever read or not."""
    return {
        "dagster/table_name": TABLE_NAME,
        "dagster/column_schema": column_schema(obj),
        "source": source.title,
        "reads": obj.reads.value,
        "SLA": str(source.sla),
        "cursor strategy": source.cursor_strategy,
        "evidence policy": source.evidence_policy,
        "idempotency key": IDEMPOTENCY_KEY,
        "write boundary": source.write_boundary,
    }


def column_schema(obj: SourceObject[Any]) -> dg.TableSchema:
    """The columns of staged evidence, then the documented fields of the payload."""
    fields = [dg.TableColumn(f"payload.{c.name}", c.type, c.description) for c in obj.columns]
    return dg.TableSchema(columns=[*_EVIDENCE_COLUMNS, *fields])


def partition_metadata(
    obj: SourceObject[Any], days: Sequence[DayOfRun], examples: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """What a run of reads staged for one day: of all businesses together."""
    rows = sum(day.rows_extracted for day in days)
    return {
        "dagster/row_count": rows,
        "new": sum(day.rows_new for day in days),
        "changed": sum(day.rows_changed for day in days),
        "unchanged": sum(day.rows_unchanged for day in days),
        "stale": sum(day.rows_stale for day in days),
        "removed": sum(day.rows_removed for day in days),
        "batch hash": ", ".join(day.batch_hash.hex()[:12] for day in days),
        "state": ", ".join(sorted({day.state for day in days})),
        "sync runs": ", ".join(str(day.sync_run_id) for day in days),
        "examples": dg.MetadataValue.md(example_table(obj, examples)),
    }


def held_metadata(days: Sequence[DayOfRun]) -> dict[str, Any]:
    """What a partition that was left as it is goes on holding."""
    return {
        "dagster/row_count": sum(day.rows_extracted for day in days),
        "batch hash": ", ".join(day.batch_hash.hex()[:12] for day in days),
        "state": "left as it was: what this day holds cannot be read again",
        "sync runs": ", ".join(str(day.sync_run_id) for day in days),
    }


def example_table(obj: SourceObject[Any], examples: Iterable[tuple[str, str]]) -> str:
    """The first records as a markdown table: only fields that the source declares as fit to be shown."""
    header = ("source ID", *obj.shown)
    lines = [header, ("---",) * len(header)]
    for source_id, text in examples:
        payload = decode(text)
        lines.append((source_id, *(_cell(payload.get(name)) for name in obj.shown)))
    if len(lines) == 2:
        return "*No records.*"
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)


def by_day(days: Iterable[DayOfRun]) -> Mapping[date, list[DayOfRun]]:
    """Rows of several runs, gathered by day."""
    gathered: dict[date, list[DayOfRun]] = {}
    for day in days:
        gathered.setdefault(day.partition_day, []).append(day)
    return gathered


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _escape(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")[:80]
