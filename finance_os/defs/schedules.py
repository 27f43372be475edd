"""The daily schedule: one scheduled sync, which is one run for each source system that is read every day."""

from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from finance_os.defs.assets.sources import SCHEDULED_SYNC_TAG, asset_key
from finance_os.defs.jobs import bulk_tags
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import active_connections
from finance_os.evidence.scheduled_syncs import request_scheduled_sync
from finance_os.evidence.sync_runs import end_abandoned
from finance_os.evidence.windows import day_of
from finance_os.settings import settings
from finance_os.sources.planning import due_days
from finance_os.sources.source import Cadence, Source

DAILY_AT = "15 1 * * *"
"""After midnight in the installation's time zone, when yesterday's windows are over."""


def trailing_days(source: Source) -> int:
    """How many past days the daily run reads again: as the settings say, else as the source declares."""
    return settings().trailing_days.get(source.system, source.trailing_days)


def daily_sync(sources: Sequence[Source]) -> tuple[dg.ScheduleDefinition, UnresolvedAssetJobDefinition]:
    """The schedule and its job: yesterday, which is over, and today so far.

    Today is read because a snapshot belongs to the day on which it is taken.
    """
    scheduled = [
        source for source in sources if source.cadence is Cadence.DAILY and source.system not in settings().excluded
    ]
    job = dg.define_asset_job(
        "daily_sync",
        selection=dg.AssetSelection.groups(*(source.system for source in scheduled)),
        description="Every source system that is read daily. The schedule asks for one run a source system.",
        executor_def=dg.in_process_executor,
    )

    @dg.schedule(
        name="daily_sync",
        job=job,
        cron_schedule=DAILY_AT,
        execution_timezone=settings().timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every source system that is read daily: yesterday, and today so far; one run each.",
    )
    def daily_sync_schedule(context: dg.ScheduleEvaluationContext, evidence: Evidence) -> Iterator[dg.RunRequest]:
        due = context.scheduled_execution_time
        zone = ZoneInfo(settings().timezone)
        today = day_of(due, zone)
        scheduled_sync_id = f"daily-{today}"
        end_abandoned(evidence.database)
        request_scheduled_sync(evidence.database, scheduled_sync_id, today, [source.system for source in scheduled])
        for source in scheduled:
            days = due_days(active_connections(evidence.database, source.system), due, zone, trailing_days(source))
            yield dg.RunRequest(
                run_key=f"{scheduled_sync_id}/{source.system}",
                asset_selection=[asset_key(source, obj) for obj in source],
                tags={
                    **bulk_tags(source),
                    SCHEDULED_SYNC_TAG: scheduled_sync_id,
                    "dagster/asset_partition_range_start": days.first.isoformat(),
                    "dagster/asset_partition_range_end": days.last.isoformat(),
                },
            )

    return daily_sync_schedule, job
