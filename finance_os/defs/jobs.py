"""Jobs: one for each source system, so that vendors run side by side and one vendor's failure is its own."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from finance_os.sources.source import Source


def job_name(source: Source) -> str:
    """`stripe_sync` and the like."""
    return f"{source.system}_sync"


def source_job(source: Source) -> UnresolvedAssetJobDefinition:
    """All assets of a source with their checks, in one process: a subprocess a step would cost seconds each."""
    return dg.define_asset_job(
        job_name(source),
        selection=dg.AssetSelection.groups(source.system),
        description=f"Stage every object type of {source.title} for the chosen days, and check it.",
        tags=bulk_tags(source),
        executor_def=dg.in_process_executor,
    )


def bulk_tags(source: Source) -> dict[str, str]:
    """Tags of a run that reads a source's days: dagster.yaml lets one such run a source go at a time.

    A backfill from the UI does not bear them; the pool of the source limits it.
    """
    return {"finance_os/source_system": source.system, "finance_os/bulk": source.system}
