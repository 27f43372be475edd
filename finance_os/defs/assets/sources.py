"""Source assets: one for each object type of each source, all from one factory over the declarations."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import dagster as dg

from finance_os.defs.metadata import definition_metadata
from finance_os.defs.partitions import DAILY, days_of
from finance_os.defs.precedence import give_way
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import Connection, active_connections
from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.clock import DatabaseClock
from finance_os.evidence.database import Database
from finance_os.evidence.partitions import held_snapshots
from finance_os.evidence.reading import CannotTry, PendingReads, perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days
from finance_os.settings import settings
from finance_os.sources.approvals import ConnectionApprovals
from finance_os.sources.connectors import SKIPPED, Readiness, readiness_of
from finance_os.sources.drops import Target, accepted_drops
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.planning import plan_reads, targeted_read
from finance_os.sources.source import Reads, Source, SourceObject

RAW_RECORDS = "raw_records"
"""Key of the IO manager that stages what source assets return."""

OWNERS = ("team:finance-data",)

RETRIES = dg.RetryPolicy(max_retries=2, delay=15, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""Of a step whose reads failed for a reason that may pass; one that was staged is then read again, and adds nothing."""

SCHEDULED_SYNC_TAG = "finance_os/scheduled_sync"
"""Run tag with the ID of the scheduled sync that requested the run."""

TRIGGER_TAG = "finance_os/trigger"
"""Run tag that says what asked for the run, where it is not the schedule, a backfill or a person."""


class SourceReadConfig(dg.Config):
    """Narrows what a run of a source asset reads."""

    connections: list[int] | None = None
    """IDs of the connections to read; all active ones if not given."""
    drops: list[str] | None = None
    """Targets of the handed-in files to stage; those that touch the run's days if not given."""
    targets: list[str] | None = None
    """Source IDs of the objects to read, and nothing else; the run's days are read if not given."""


def source_assets(source: Source) -> list[dg.AssetsDefinition]:
    """The assets of a source, one an object type."""
    return [_source_asset(source, obj) for obj in source]


def asset_key(source: Source, obj: SourceObject[Any]) -> dg.AssetKey:
    """`[source_system, object_type]`, the same two words as in the database."""
    return dg.AssetKey([source.system, obj.object_type])


def _source_asset(source: Source, obj: SourceObject[Any]) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(source, obj),
        group_name=source.system,
        kinds={*source.kinds, "postgres"},
        owners=list(OWNERS),
        description=f"{obj.description}\n\n{source.evidence_policy}",
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key=RAW_RECORDS,
        retry_policy=RETRIES,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=source.sla),
        pool=source.system,
        code_version=_code_version(source, obj),
        output_required=False,
        metadata=definition_metadata(source, obj),
        tags={"finance_os/source_system": source.system, "finance_os/cadence": source.cadence.value},
    )
    def read(
        context: dg.AssetExecutionContext, config: SourceReadConfig, evidence: Evidence
    ) -> Iterator[dg.Output[PendingReads]]:
        origin = origin_of(context.run)
        give_way(origin.trigger)
        database = evidence.database
        days = days_of(context.partition_keys)
        connections = active_connections(database, source.system, config.connections)
        if not connections:
            raise dg.Failure(
                f"No active connection to {source.title} is recorded, or none of {config.connections}.",
                allow_retries=False,
            )
        reads = [read for connection in connections for read in _reads(database, source, obj, connection, days, config)]
        if config.drops and not reads:
            raise dg.Failure(
                f"None of the given drops is an accepted one of these connections that touches {days}.",
                allow_retries=False,
            )
        open_to_us, blocked = _without_blocked(source, reads)
        for waiting, why in blocked:
            context.log.warning(f"{waiting.connection} is skipped: {why.blocker}. {why.remedy}")
            with suppress(CannotTry):
                perform(database, waiting, origin, chunk_rows=settings().chunk_rows)
        if open_to_us or not blocked:
            yield dg.Output(PendingReads(tuple(open_to_us), origin))

    return read


def _without_blocked(source: Source, reads: Iterable[Read]) -> tuple[list[Read], list[tuple[Read, Readiness]]]:
    """The reads of connections that lack no credential; of each other connection its first one, and why.

    A read of a blocked connection is tried all the same, so that it leaves a skipped sync run with the reason.
    """
    found: dict[int, Readiness] = {}
    open_to_us: list[Read] = []
    blocked: list[tuple[Read, Readiness]] = []
    for read in reads:
        connection_id = read.connection.connection_id
        first = connection_id not in found
        why = found.setdefault(connection_id, readiness_of(source, read.connection)) if first else found[connection_id]
        if why.blocker not in SKIPPED:
            open_to_us.append(read)
        elif first:
            blocked.append((read, why))
    return open_to_us, blocked


def _reads(
    database: Database,
    source: Source,
    obj: SourceObject[Any],
    connection: Connection,
    days: Days,
    config: SourceReadConfig,
) -> list[Read]:
    with database.connection() as opened:
        now = DatabaseClock.read(opened).now()
    kept, approvals = partial(ConnectionSecrets, database), partial(ConnectionApprovals, database)
    if config.targets is not None:
        if obj.reads is Reads.DROP:
            raise dg.Failure(f"{obj.object_type} comes in files: name drops, not targets.", allow_retries=False)
        return [targeted_read(source, obj, connection, days, now, config.targets, kept=kept, approvals=approvals)]
    if obj.reads is Reads.DROP:
        drops = accepted_drops(database, connection, days=days)
        if config.drops is not None:
            wanted = {Target.parse(target).drop for target in config.drops}
            drops = [drop for drop in drops if drop.content_hash in wanted]
            if not drops:
                return []
        return plan_reads(source, obj, connection, days, now, drops=drops, kept=kept, approvals=approvals)
    held = held_snapshots(database, connection.connection_id, obj.object_type, days)
    return plan_reads(source, obj, connection, days, now, snapshot_days=held, kept=kept, approvals=approvals)


def origin_of(run: dg.DagsterRun) -> Origin:
    """What asked for a run, from its tags."""
    scheduled = run.tags.get(SCHEDULED_SYNC_TAG)
    if scheduled is not None:
        trigger = Trigger.SCHEDULE
    elif TRIGGER_TAG in run.tags:
        trigger = Trigger(run.tags[TRIGGER_TAG])
    else:
        trigger = Trigger.BACKFILL if "dagster/backfill" in run.tags else Trigger.MANUAL
    return Origin(trigger, run.run_id, scheduled)


def _code_version(source: Source, obj: SourceObject[Any]) -> str:
    """Changes when what is staged of an object changes: its volatile fields, its query's version or the API's."""
    version = getattr(obj.detail, "version", None) or source.api_version or "1"
    return f"{version}-{evidence_hash(sorted(obj.volatile))}"
