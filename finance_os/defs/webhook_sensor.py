"""The sensor that walks the inbox of webhooks: it asks for targeted reads, and records what became of them.

Its runs are of jobs of their own, which no read of whole days holds up. What it has asked for stands in the database:
a tick that was lost asks again under the same run key.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from finance_os.defs.assets.sources import TRIGGER_TAG, asset_key
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import active_connections
from finance_os.evidence.database import Database
from finance_os.evidence.sync_runs import Trigger
from finance_os.evidence.windows import day_of
from finance_os.settings import settings
from finance_os.sources.source import Source
from finance_os.webhooks import gaps, retention
from finance_os.webhooks.events import SYSTEMS
from finance_os.webhooks.receive import has_secrets
from finance_os.webhooks.settings import WebhookSettings, webhook_settings
from finance_os.webhooks.settling import settle
from finance_os.webhooks.walk import ReadRequest, open_requests, request_reads

REQUEST_TAG = "finance_os/webhook_request"
"""Run tag with the ID of the request that a run reads for."""


def webhook_jobs(sources: Sequence[Source]) -> list[UnresolvedAssetJobDefinition]:
    """The job of each source that sends webhooks: its assets, held up by no read of whole days."""
    return [
        dg.define_asset_job(
            job_name(source),
            selection=dg.AssetSelection.groups(source.system),
            description=f"Read the objects of {source.title} that webhooks speak of. Asked for by webhook_inbox.",
            tags={"finance_os/source_system": source.system},
            executor_def=dg.in_process_executor,
        )
        for source in _with_webhooks(sources)
    ]


def job_name(source: Source) -> str:
    """`stripe_webhooks` and the like."""
    return f"{source.system}_webhooks"


def webhook_sensor(
    sources: Sequence[Source], jobs: Sequence[UnresolvedAssetJobDefinition]
) -> list[dg.SensorDefinition]:
    """The one sensor over the jobs of `webhook_jobs`; none where no source sends webhooks."""
    by_system = {source.system: source for source in _with_webhooks(sources)}
    if not by_system:
        return []

    @dg.sensor(
        name="webhook_inbox",
        jobs=list(jobs),
        minimum_interval_seconds=1,  # every round of the daemon, which takes five seconds: at five, some are left out
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reads the objects that webhooks speak of, each once for all events that wait, and finds events "
        "that never came. Prunes bodies that are old. `finance-os webhooks list` shows the inbox.",
    )
    def webhook_inbox(
        context: dg.SensorEvaluationContext, evidence: Evidence
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        database, ours = evidence.database, webhook_settings()
        said: list[str] = []
        for request in open_requests(database):
            ended = _ended_runs(context.instance, request)
            if ended:
                settled = settle(database, request, ended, ours)
                said.append(
                    f"request {request.request_id} of {request.connection}: {settled.done} done, "
                    f"{settled.again} again, {settled.poisoned} set aside"
                )
        said += _find_gaps(database, by_system, ours)
        request_reads(database, ours)
        said += _prune(context, database, ours)
        waiting = [each for each in open_requests(database) if each.connection.source_system in by_system]
        for line in said:
            context.log.info(line)
        asked = 0
        for request in waiting:
            if not context.instance.get_runs(_runs_of(request), limit=1):
                asked += 1
                yield _run_request(by_system[request.connection.source_system], request)
        if not asked:
            under_way = f"{len(waiting)} request(s) are being read." if waiting else "No event waits."
            yield dg.SkipReason("; ".join([*said, under_way]))

    return [webhook_inbox]


def _with_webhooks(sources: Sequence[Source]) -> list[Source]:
    return [source for source in sources if source.system in SYSTEMS]


def _runs_of(request: ReadRequest) -> dg.RunsFilter:
    return dg.RunsFilter(tags={REQUEST_TAG: str(request.request_id)})


def _ended_runs(instance: dg.DagsterInstance, request: ReadRequest) -> list[str]:
    """The runs of a request, once all of them have ended and none is going to be started again; else none."""
    runs = instance.get_runs(_runs_of(request))
    if not all(run.is_finished for run in runs):
        return []
    known = {run.run_id for run in runs}
    for run in runs:
        again = run.tags.get(WILL_RETRY_TAG) == "true"
        if again and run.tags.get(AUTO_RETRY_RUN_ID_TAG) not in known:
            return []
    return [run.run_id for run in runs]


def _find_gaps(database: Database, by_system: dict[str, Source], ours: WebhookSettings) -> list[str]:
    said: list[str] = []
    for system in gaps.LOGS:
        if system not in by_system:
            continue
        for connection in active_connections(database, system):
            found = gaps.check(database, connection, ours) if has_secrets(database, connection) else None
            said += [f"{connection}: {found} event(s) never came as webhooks, and are taken up now"] if found else []
    return said


def _prune(context: dg.SensorEvaluationContext, database: Database, ours: WebhookSettings) -> list[str]:
    """One batch of old bodies, if it is time for one. What hinders that does not hinder the reads."""
    now = datetime.now(UTC)
    try:
        went_on = retention.go_on(database, ours, context.cursor, now)
    except psycopg.Error as error:  # its text may show a row
        context.log.error(f"bodies were not pruned, and are tried again later: {type(error).__name__}")
        context.update_cursor(retention.rested(now))
        return []
    if went_on is None:
        return []
    cursor, batch = went_on
    context.update_cursor(cursor)
    return [f"bodies of {business}/{system} pruned: {count:,}" for (business, system), count in batch.pruned.items()]


def _run_request(source: Source, request: ReadRequest) -> dg.RunRequest:
    """The run of a request; its day is the connection's present one, as far as there is a partition of it."""
    keys = {object_type: asset_key(source, source.object(object_type)) for object_type in request.reads}
    now = datetime.now(UTC)
    day = min(day_of(now, request.connection.zone), day_of(now, ZoneInfo(settings().timezone)))
    ops = {
        keys[object_type].to_python_identifier(): {
            "config": {"connections": [request.connection.connection_id]}
            | ({} if targets is None else {"targets": targets})
        }
        for object_type, targets in request.reads.items()
    }
    return dg.RunRequest(
        run_key=f"webhooks/{request.connection.business_id}/{request.request_id}",
        job_name=job_name(source),
        asset_selection=list(keys.values()),
        run_config={"ops": ops},
        tags={
            TRIGGER_TAG: Trigger.WEBHOOK.value,
            REQUEST_TAG: str(request.request_id),
            "dagster/priority": "10",
            "dagster/asset_partition_range_start": day.isoformat(),
            "dagster/asset_partition_range_end": day.isoformat(),
        },
    )
