"""The code location, assembled from the sources' declarations."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from finance_os.defs.alerts import alerts_asset, alerts_sensor
from finance_os.defs.asset_checks import source_checks
from finance_os.defs.assets.backtest import backtest_asset
from finance_os.defs.assets.checkpoints import checkpoint_assets, checkpoint_job
from finance_os.defs.assets.plan import plan_asset, plan_schedule
from finance_os.defs.assets.sources import RAW_RECORDS, source_assets
from finance_os.defs.assets.stripe_qbo import export_job, stripe_qbo_assets
from finance_os.defs.checkpoint_sensor import checkpoint_sensor
from finance_os.defs.export_sensor import export_sensor
from finance_os.defs.io_managers import RawRecordIOManager
from finance_os.defs.jobs import source_job
from finance_os.defs.resources import Evidence
from finance_os.defs.schedules import daily_sync
from finance_os.defs.sensors import drop_sensors
from finance_os.defs.webhook_sensor import webhook_jobs, webhook_sensor
from finance_os.sources.registry import SOURCES
from finance_os.sources.source import Source


def build_defs(
    resource_overrides: Mapping[str, Any] | None = None, sources: Sequence[Source] = SOURCES, ticks_stay: float = 0
) -> dg.Definitions:
    """Fresh definitions of `sources`; `resource_overrides` replaces resources by key, for tests and commands.

    The IO manager stages into the same `evidence` as the rest, replaced or not. Ticks of the export's sensor go on for
    `ticks_stay` seconds while something is on its way, which is for a daemon that runs each sensor in a thread.
    """
    # Freshness policies and code versions are "beta" in Dagster's words, which it would repeat for every asset.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    overrides = dict(resource_overrides or {})
    evidence = overrides.pop("evidence", None) or Evidence(source_systems=[source.system for source in sources])
    resources = {"evidence": evidence, RAW_RECORDS: RawRecordIOManager(evidence, sources), **overrides}
    schedule, scheduled_job = daily_sync(sources)
    plan = plan_asset(sources)
    record_checkpoints = checkpoint_job()
    from_webhooks = webhook_jobs(sources)
    export = export_job()
    return dg.Definitions(
        assets=[
            plan,
            checkpoint_assets(sources),
            alerts_asset(),
            backtest_asset(),
            stripe_qbo_assets(),
            *(asset for source in sources for asset in source_assets(source)),
        ],
        asset_checks=[check for source in sources for check in source_checks(source)],
        jobs=[*(source_job(source) for source in sources), scheduled_job, record_checkpoints, export, *from_webhooks],
        schedules=[schedule, plan_schedule(plan)],
        sensors=[
            *drop_sensors(sources),
            checkpoint_sensor(sources, record_checkpoints),
            alerts_sensor(sources),
            *webhook_sensor(sources, from_webhooks),
            export_sensor(export, stays=ticks_stay),
        ],
        resources=resources,
        executor=dg.in_process_executor,
    )
