"""What the daemon does, one step at a time: a tick of a sensor, and the run that it asks for."""

from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True)
class Tick:
    """What one evaluation of a sensor asks for, what it says if that is nothing, and where the next one goes on."""

    requests: list[dg.RunRequest]
    said: str
    cursor: str | None


def tick(defs: dg.Definitions, instance: dg.DagsterInstance, name: str, cursor: str | None = None) -> Tick:
    """One evaluation of a sensor."""
    repository = defs.get_repository_def()
    with dg.build_sensor_context(
        instance,
        cursor=cursor,
        resources={"evidence": (defs.resources or {})["evidence"]},
        repository_def=repository,
    ) as context:
        found = repository.get_sensor_def(name).evaluate_tick(context)
    return Tick(list(found.run_requests or ()), found.skip_message or "", found.cursor)


def execute(defs: dg.Definitions, instance: dg.DagsterInstance, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """What becomes of a request."""
    assert request.job_name is not None
    return defs.resolve_job_def(request.job_name).execute_in_process(
        instance=instance,
        run_config=request.run_config,
        asset_selection=request.asset_selection,
        tags=dict(request.tags),
        raise_on_error=False,
    )
