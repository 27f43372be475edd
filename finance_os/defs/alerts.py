"""The alert sensor, and the asset that shows what is open; no logic of alerts lives here.

The sensor reads how Dagster's runs ended, for those that left nothing in our tables, and hands it on with the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from finance_os.alerts.delivery import Delivery, deliver
from finance_os.alerts.freshness import judge_changed_freshness
from finance_os.alerts.ledger import Alert, open_alerts
from finance_os.alerts.raising import dagster_position, raise_alerts
from finance_os.alerts.run_alerts import RunOutcome
from finance_os.defs.assets.sources import OWNERS, asset_key
from finance_os.defs.jobs import job_name
from finance_os.defs.resources import Evidence
from finance_os.evidence.canonical import evidence_hash
from finance_os.readiness.source_checks import Subject
from finance_os.settings import settings
from finance_os.sources.source import Source

ALERTS = dg.AssetKey(["readiness", "alerts"])

EVENTS_A_TICK = 500
"""How many ended runs of each kind a tick reads at most: the next tick goes on."""

LATE_BY = timedelta(minutes=5)
"""How much later than those after it an event may be committed: for so long it is looked for again."""

DECIDED_WITHIN = timedelta(minutes=1)
"""How long Dagster may take to say whether it starts a failed run again; who hears nothing takes it for a no."""

FRESHNESS_EVERY = timedelta(minutes=5)
"""How often freshness is judged without a run."""

LISTED = 200
"""How many open alerts the asset lists."""

_WILL_RETRY = "dagster/will_retry"
_SOURCE_SYSTEM = "finance_os/source_system"


def alerts_asset() -> dg.AssetSpec:
    """The asset that shows the open alerts: the sensor materializes it when they change, without a run."""
    return dg.AssetSpec(
        ALERTS,
        group_name="readiness",
        kinds={"postgres"},
        owners=list(OWNERS),
        description="What has failed and not recovered: checks, runs, freshness and grave finance exceptions.",
    )


def alerts_sensor(sources: Sequence[Source]) -> dg.SensorDefinition:
    """The sensor that raises alerts and delivers them. It asks for no runs."""
    subjects = [Subject.of(source, obj) for source in sources for obj in source]
    by_system = {source.system: source for source in sources}

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Turns failed checks and runs, stale evidence and grave exceptions into alerts, and delivers them "
        "to the channels that are approved. A tick is always skipped: what it says is what it did.",
    )
    def alerts(context: dg.SensorEvaluationContext, evidence: Evidence) -> dg.SensorResult:
        database = evidence.database
        judged_at, shown = _cursor(context.cursor)
        now = datetime.now(UTC)
        if judged_at is None or now - judged_at >= FRESHNESS_EVERY:
            judge_changed_freshness(database, subjects)
            judged_at = now
        outcomes, settled = ended_runs(context.instance, dagster_position(database), by_system, now)
        changed = raise_alerts(database, outcomes, settled)
        deliveries = deliver(database, settings())
        for delivery in deliveries:
            if delivery.state in ("failed", "unknown", "error"):
                context.log.error(_said(delivery))
        found = open_alerts(database)
        to_show = evidence_hash([[alert.alert_id, alert.count, alert.message] for alert in found])
        return dg.SensorResult(
            skip_reason="; ".join([_counted(changed), *(_said(delivery) for delivery in deliveries)]),
            cursor=f"{judged_at.isoformat()} {to_show}",
            asset_events=[_materialization(found, deliveries)] if to_show != shown else [],
        )

    return alerts


def _cursor(text: str | None) -> tuple[datetime | None, str]:
    """When freshness was judged last, and the hash of the alerts that the asset shows."""
    judged_at, _, shown = (text or "").partition(" ")
    return (datetime.fromisoformat(judged_at) if judged_at else None), shown


def ended_runs(
    instance: dg.DagsterInstance, position: int, sources: Mapping[str, Source], now: datetime
) -> tuple[list[RunOutcome], int]:
    """How the runs after the storage ID `position` ended, and the storage ID after which to read again."""
    kinds = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS)
    pages = [
        instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(kind, after_storage_id=position), limit=EVENTS_A_TICK, ascending=True
        ).records
        for kind in kinds
    ]
    # Beyond the end of a page that is full there may be events that come before those of the other page.
    ends = [page[-1].storage_id for page in pages if len(page) == EVENTS_A_TICK]
    records = sorted((record for page in pages for record in page), key=lambda record: record.storage_id)
    records = [record for record in records if not ends or record.storage_id <= min(ends)]
    if not records:
        return [], position
    runs = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=[record.run_id for record in records]))}
    outcomes: list[RunOutcome] = []
    waiting: list[int] = []
    settled = records[-1].storage_id if ends else position
    for record in records:
        ended_at = datetime.fromtimestamp(record.timestamp, UTC)
        if now - ended_at > LATE_BY:
            settled = max(settled, record.storage_id)
        run = runs.get(record.run_id)
        if run is not None:
            succeeded = record.event_log_entry.dagster_event_type is dg.DagsterEventType.RUN_SUCCESS
            will_retry = run.tags.get(_WILL_RETRY)
            # Dagster says so only after it has stored the event.
            undecided = will_retry is None and instance.run_retries_enabled and now - ended_at < DECIDED_WITHIN
            if not succeeded and undecided:
                waiting.append(record.storage_id)
            elif succeeded or will_retry != "true":
                outcomes.append(_outcome(record.storage_id, run, sources, succeeded=succeeded, ended_at=ended_at))
    return outcomes, min([settled, *(event_id - 1 for event_id in waiting)])


def _outcome(
    event_id: int, run: dg.DagsterRun, sources: Mapping[str, Source], *, succeeded: bool, ended_at: datetime
) -> RunOutcome:
    """A run about one source system goes by that one's job, whichever way it was launched."""
    keys = run.asset_selection or frozenset()
    checked = {each.asset_key for each in run.asset_check_selection or ()}
    about = {key.path[0] for key in keys | checked}
    whole = run.asset_selection is None and run.asset_check_selection is None
    assets = None if whole else frozenset(key.to_user_string() for key in keys)
    by_job = {job_name(source): system for system, source in sources.items()}
    system = run.tags.get(_SOURCE_SYSTEM) or by_job.get(run.job_name) or (about.pop() if len(about) == 1 else None)
    source = sources.get(system or "")
    if source is None:
        job = run.job_name if not run.job_name.startswith("__") else ", ".join(sorted(assets or ())[:3]) or run.job_name
        return RunOutcome(event_id, run.run_id, job, None, assets, succeeded, ended_at)
    all_of_it = frozenset(asset_key(source, obj).to_user_string() for obj in source)
    return RunOutcome(
        event_id,
        run.run_id,
        job_name(source),
        source.system,
        all_of_it if assets is None else assets,
        succeeded,
        ended_at,
        _narrowed(run, "connections"),
        _narrowed(run, "drops"),
    )


def _narrowed(run: dg.DagsterRun, to: str) -> frozenset[Any] | None:
    """What the configuration of every step of a run narrows it `to`; `None` where some step is not narrowed."""
    ops: Any = run.run_config.get("ops") or {}
    configured = [ops.get(key.to_python_identifier(), {}).get("config", {}) for key in run.asset_selection or ()]
    found = [config.get(to) for config in configured]
    if not found or any(each is None for each in found):
        return None
    return frozenset(name for each in found for name in each)


def _materialization(found: Sequence[Alert], deliveries: Sequence[Delivery]) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        ALERTS,
        metadata={
            "open alerts": len(found),
            "critical or high": sum(alert.severity in ("critical", "high") for alert in found),
            "alerts": dg.MetadataValue.md(_table(found)),
            "delivery": "; ".join(map(_said, deliveries)) or "No channel is configured.",
        },
    )


def _table(found: Sequence[Alert]) -> str:
    if not found:
        return "Nothing is open."
    lines = [
        "| business | severity | kind | what | count | since | last | evidence hash |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {a.business_id} | {a.severity} | {a.kind} | {a.message.replace('|', chr(92) + '|')} | {a.count:,} "
        f"| {a.first_seen:%Y-%m-%d %H:%M} | {a.last_seen:%Y-%m-%d %H:%M} | {a.evidence_hash or ''} |"
        for a in found[:LISTED]
    ]
    if len(found) > LISTED:
        lines.append(f"\nand {len(found) - LISTED} more: `finance-os alerts list`.")
    return "\n".join(lines)


def _counted(changed: Iterable[Alert]) -> str:
    by_state = [alert.is_open for alert in changed]
    return f"{sum(by_state)} alert(s) raised, {len(by_state) - sum(by_state)} resolved"


def _said(delivery: Delivery) -> str:
    detail = f" ({delivery.detail})" if delivery.detail else ""
    return f"{delivery.business_id}, {delivery.channel}: {delivery.state}{detail}"
