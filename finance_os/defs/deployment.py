"""What a deployment looks like from a process that knows Dagster: whether the code location loads, who is alive."""

from collections.abc import Callable

import dagster as dg

from finance_os.evidence.database import Database
from finance_os.readiness.deploy import CodeLocation, Daemons, DeployFacts, deploy_facts_now

HEARTBEAT_WITHIN = 300.0
"""Seconds within which each required daemon must have been heard. They write every 30; a long tick delays one."""

Code = dg.Definitions | dg.RepositoryDefinition


def deploy_facts_of(database: Database, instance: dg.DagsterInstance) -> DeployFacts:
    """What a process inside Dagster sees: the code location as it loads here, and its own instance."""
    return DeployFacts(deploy_facts_now(database), load_code_location(), daemons_of(instance))


def definitions() -> dg.Definitions:
    """The code location's definitions."""
    from finance_os.definitions import defs

    return defs


def load_code_location(load: Callable[[], Code] = definitions) -> CodeLocation:
    """Load what `load` gives as a code server does."""
    try:
        found = load()
        if isinstance(found, dg.Definitions):
            dg.Definitions.validate_loadable(found)
            found = found.get_repository_def()
        jobs = [job.name for job in found.get_all_jobs() if not job.name.startswith("__")]
        return CodeLocation(True, len(found.asset_graph.get_all_asset_keys()), len(jobs))
    except Exception as error:
        return CodeLocation(False, error=type(error).__name__)


def daemons_of(instance: dg.DagsterInstance, within: float = HEARTBEAT_WITHIN) -> Daemons:
    """Which of the daemons that `instance` requires were heard within `within` seconds; one with errors is alive."""
    from dagster._daemon.controller import get_daemon_statuses

    statuses = get_daemon_statuses(
        instance,
        instance.get_required_daemon_types(),
        ignore_errors=True,
        heartbeat_interval_seconds=0,
        heartbeat_tolerance_seconds=within,
    )
    return Daemons({name: bool(status.healthy) for name, status in statuses.items()})
