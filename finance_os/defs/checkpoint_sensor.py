"""The sensor that has the checkpoints recorded: once the latest scheduled sync has ended, and when they are mended."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from finance_os.defs.assets.checkpoints import CHECKPOINT_KEYS
from finance_os.defs.assets.sources import SCHEDULED_SYNC_TAG
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import every_business
from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.database import Database
from finance_os.readiness.assessment import assess_now
from finance_os.readiness.scheduled_sync import ScheduledSync, latest_scheduled_sync
from finance_os.readiness.verdicts import Status
from finance_os.settings import settings
from finance_os.sources.source import Source

WAITS = timedelta(hours=6)
"""A scheduled sync of which some run never came or never ended is recorded as it is after this long."""


def checkpoint_sensor(sources: Sequence[Source], job: Any) -> dg.SensorDefinition:
    """Asks for one run of `job` when a scheduled sync has ended, and for another when something became ready since."""

    @dg.sensor(
        name="checkpoints_after_daily_sync",
        job=job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Records the checkpoints when the runs of the latest scheduled sync have ended, and once more when "
        "one of them became ready since, or its recording grew too old.",
    )
    def checkpoints_after_daily_sync(
        context: dg.SensorEvaluationContext, evidence: Evidence
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        syncs = [
            latest_scheduled_sync(evidence.database, sources, business_id, settings().excluded)
            for business_id in every_business(evidence.database)
        ]
        requested = [sync for sync in syncs if sync.scheduled_sync_id is not None]
        if not requested:
            yield dg.SkipReason("No scheduled sync was requested yet.")
            return
        waiting = [sync.scheduled_sync_id or "" for sync in requested if not _ended(context.instance, sync)]
        if waiting:
            yield dg.SkipReason(f"{', '.join(sorted(set(waiting)))} is under way.")
            return
        outcome = evidence_hash([[sync.evidence for sync in requested], _to_record(evidence.database)])
        latest = max(sync.scheduled_sync_id or "" for sync in requested)
        yield dg.RunRequest(run_key=f"checkpoints/{latest}/{outcome}", asset_selection=list(CHECKPOINT_KEYS))

    return checkpoints_after_daily_sync


def _to_record(database: Database) -> list[list[Any]]:
    """The checkpoints that are ready and whose recording does not hold (any more); empty once they are recorded."""
    return [
        [
            business_id,
            standing.name,
            standing.evaluation.evidence_hash,
            standing.recorded.checkpoint_id if standing.recorded else None,
        ]
        for business_id in every_business(database)
        for standing in assess_now(database, business_id).standings.values()
        if standing.evaluation.status is Status.READY and not standing.current
    ]


def _ended(instance: dg.DagsterInstance, sync: ScheduledSync) -> bool:
    """Whether every connector of the sync has a run, and every run of it has ended; or it is too old to wait for."""
    assert sync.requested_at is not None
    if datetime.now(UTC) - sync.requested_at > WAITS:
        return True
    runs = instance.get_runs(dg.RunsFilter(tags={SCHEDULED_SYNC_TAG: sync.scheduled_sync_id or ""}))
    came = {run.tags.get("finance_os/source_system") for run in runs}
    return all(run.is_finished for run in runs) and {each.source_system for each in sync.connectors} <= came
