"""The raw-record IO manager: stages the reads that a source asset returns, and gives back current records.

It decides nothing: how a read is staged is `finance_os.evidence`'s business. One connection's failure leaves the
others' evidence committed, and fails the step at its end with the list.
"""

import time
import traceback
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.errors import DagsterInvariantViolationError

from finance_os.defs.metadata import TABLE_NAME, by_day, column_schema, held_metadata, partition_metadata
from finance_os.defs.resources import Evidence
from finance_os.evidence import anchors, audit
from finance_os.evidence.database import Database
from finance_os.evidence.partitions import DayOfRun, days_of_run, first_records, runs_of_days
from finance_os.evidence.reading import FailedRead, PendingReads, perform_all
from finance_os.evidence.sync_runs import Read
from finance_os.evidence.windows import Days, spans
from finance_os.readiness.source_checks import Subject, judge_and_record
from finance_os.settings import settings
from finance_os.sources.source import Source

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

BUSINESS_TAG = "finance_os/business"
"""Run tag that narrows what `load_input` gives to one business."""

_PROGRESS_SECONDS = 10.0


class RawRecordIOManager(dg.IOManager):
    """Stages `PendingReads` as evidence; loads the current records of partitions.

    `load_input` gives a `pyarrow.Table` with the columns of `evidence.tables.CURRENT_SCHEMA`, or the same as a
    `pandas.DataFrame` where the input is annotated so.
    """

    def __init__(self, evidence: Evidence, sources: Iterable[Source]) -> None:
        self.evidence = evidence
        self.sources = {source.system: source for source in sources}

    def handle_output(self, context: dg.OutputContext, obj: PendingReads) -> None:
        """Stage every read; attach what was staged to each partition; fail at the end if a read failed."""
        database = self.evidence.database
        progress = _Progress(context)
        finished, failures = perform_all(database, obj, chunk_rows=settings().chunk_rows, progress=progress)
        for failed in failures:
            context.log.error(f"{failed.read.connection}, {failed.read.days}: {failed.error}")
            if failed.cause is not None:
                context.log.error("".join(traceback.format_tb(failed.cause.__traceback__)))
        self._describe(context, finished)
        if failures:
            self._judge(context)
            raise dg.Failure(
                f"{len(failures)} of {len(obj.reads)} reads failed: "
                + "; ".join(f"{failed.read.connection} ({failed.read.days}): {failed.error}" for failed in failures),
                metadata={"failed reads": dg.MetadataValue.md(_failure_table(failures))},
                allow_retries=any(not failed.error.permanent for failed in failures),
            )

    def load_input(self, context: dg.InputContext) -> "pa.Table | pd.DataFrame":
        """The current records of the asked partitions, removed ones left out; each source record once.

        Arrow and pandas are imported here: only runs that load something need them.
        """
        import pandas as pd

        from finance_os.evidence.tables import current_table

        source_system, object_type = context.asset_key.path
        keys = context.asset_partition_keys
        business_id = _business_of(context)
        tables = [
            current_table(self.evidence.database, source_system, object_type, days, business_id)
            for days in spans(date.fromisoformat(key) for key in keys)
        ]
        table = _last_of_each(tables)
        return table.to_pandas() if context.dagster_type.typing_type is pd.DataFrame else table

    def _describe(self, context: dg.OutputContext, finished: Sequence[dict[str, Any]]) -> None:
        source_system, object_type = context.asset_key.path
        obj = self.sources[source_system].object(object_type)
        runs = [run["sync_run_id"] for run in finished]
        database = self.evidence.database
        days = by_day(day for run in runs for day in days_of_run(database, run))
        examples: dict[date, list[tuple[str, str]]] = {}
        for run in runs:
            for day, records in first_records(database, run).items():
                examples.setdefault(day, []).extend(records)
        for key in context.asset_partition_keys:
            day = date.fromisoformat(key)
            metadata = (
                partition_metadata(obj, days[day], examples.get(day, [])[:5])
                if day in days
                else held_metadata(_held(database, source_system, object_type, day))
            )
            context.step_context.add_asset_metadata(metadata, asset_key=context.asset_key, partition_key=key)
        businesses = sorted({run["business_id"] for run in finished})
        context.add_output_metadata(
            {
                "dagster/table_name": TABLE_NAME,
                "dagster/column_schema": column_schema(obj),
                "audit chain": _anchor(context, database, businesses),
            }
        )
        notices = sorted({notice for run in finished for notice in run["notices"]})
        if notices:
            context.add_output_metadata({"notices": dg.MetadataValue.md("\n".join(f"- {n}" for n in notices))})

    def _judge(self, context: dg.OutputContext) -> None:
        """Record the verdicts of a step that fails: its checks are not going to run, and some reads were staged."""
        source_system, object_type = context.asset_key.path
        source = self.sources[source_system]
        subject = Subject.of(source, source.object(object_type))
        for days in spans(date.fromisoformat(key) for key in context.asset_partition_keys):
            judge_and_record(self.evidence.database, subject, days, context.run_id)


def _held(database: Database, source_system: str, object_type: str, day: date) -> list[DayOfRun]:
    """What the partition of a day that nothing was read of holds: a snapshot of a past day is not taken again."""
    runs = runs_of_days(database, source_system, object_type, Days(day, day))
    held = [each for of_day in runs.values() for run in of_day for each in days_of_run(database, run)]
    return [each for each in held if each.partition_day == day]


def _anchor(context: dg.OutputContext, database: Database, businesses: Iterable[str]) -> dict[str, Any]:
    """Anchor the audit chains outside their table: in the anchors' location, and in what is returned.

    A location that cannot be written to is said, and does not take away what there is to say of the reads.
    """
    found: dict[str, Any] = {}
    for business_id in businesses:
        anchor = audit.current_anchor(database, business_id)
        try:
            anchors.write(settings().anchors_location, anchor)
        except Exception as error:
            context.log.error(f"The audit chain of {business_id} is anchored here only: {type(error).__name__}")
        found[business_id] = {"events": anchor.count, "head": anchor.head}
    return found


class _Progress:
    """Says in the run's log how far a long read has come."""

    def __init__(self, context: dg.OutputContext) -> None:
        self._context = context
        self._said = time.monotonic()

    def __call__(self, read: Read, rows: int, chunks: int) -> None:
        if time.monotonic() - self._said >= _PROGRESS_SECONDS:
            self._said = time.monotonic()
            self._context.log.info(f"{read.connection}: {rows:,} rows staged in {chunks} chunks")


def _business_of(context: dg.InputContext) -> str | None:
    try:
        return context.step_context.run_tags.get(BUSINESS_TAG)
    except DagsterInvariantViolationError:  # loaded by hand, outside a run
        return None


def _failure_table(failures: Iterable[FailedRead]) -> str:
    lines = ["| connection | days | code | what to do |", "| --- | --- | --- | --- |"]
    lines += [f"| {f.read.connection} | {f.read.days} | {f.error.code} | {f.error.message} |" for f in failures]
    return "\n".join(lines)


def _last_of_each(tables: "Sequence[pa.Table]") -> "pa.Table":
    """One row a source record: where several spans hold it, the row of the latest."""
    if len(tables) == 1:
        return tables[0]
    import pyarrow as pa

    table = pa.concat_tables(tables)
    pairs = zip(table.column("business_id").to_pylist(), table.column("source_id").to_pylist(), strict=True)
    last = {pair: row for row, pair in enumerate(pairs)}
    return table.take(pa.array(sorted(last.values()), pa.int64()))
