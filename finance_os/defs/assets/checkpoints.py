"""Checkpoints as assets: materializing one records it, and each of its lines is a blocking asset check of that name."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from finance_os.defs.assets.sources import OWNERS
from finance_os.defs.deployment import deploy_facts_of
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import every_business
from finance_os.readiness import (
    completion,
    csv_fallback,
    deploy,
    failure_monitoring,
    hardening,
    scheduled_sync_readiness,
)
from finance_os.readiness.assessment import TITLES
from finance_os.readiness.lines import Line, LineDeclaration
from finance_os.readiness.recording import Recording, record_checkpoints
from finance_os.settings import settings
from finance_os.sources.source import Source

GROUP = "readiness"

LINES: Mapping[str, Sequence[LineDeclaration]] = {
    deploy.DEPLOY_VERIFICATION: deploy.LINES,
    scheduled_sync_readiness.SCHEDULED_SYNC_READINESS: scheduled_sync_readiness.LINES,
    failure_monitoring.SOURCE_FAILURE_MONITORING: failure_monitoring.LINES,
    csv_fallback.CSV_FALLBACK_VALIDATION: csv_fallback.LINES,
    completion.PHASE_7_COMPLETION: completion.LINES,
    hardening.PRODUCTION_HARDENING: hardening.LINES,
}
"""The lines of each checkpoint."""

_RESTS_ON: Mapping[str, Sequence[str]] = {
    scheduled_sync_readiness.SCHEDULED_SYNC_READINESS: (deploy.DEPLOY_VERIFICATION,),
    failure_monitoring.SOURCE_FAILURE_MONITORING: (scheduled_sync_readiness.SCHEDULED_SYNC_READINESS,),
    completion.PHASE_7_COMPLETION: (
        scheduled_sync_readiness.SCHEDULED_SYNC_READINESS,
        failure_monitoring.SOURCE_FAILURE_MONITORING,
        csv_fallback.CSV_FALLBACK_VALIDATION,
    ),
    hardening.PRODUCTION_HARDENING: (
        scheduled_sync_readiness.SCHEDULED_SYNC_READINESS,
        failure_monitoring.SOURCE_FAILURE_MONITORING,
        csv_fallback.CSV_FALLBACK_VALIDATION,
        completion.PHASE_7_COMPLETION,
    ),
}


def checkpoint_key(name: str) -> dg.AssetKey:
    """`readiness/<name>`."""
    return dg.AssetKey([GROUP, name])


CHECKPOINT_KEYS = tuple(checkpoint_key(name) for name in TITLES)
"""The assets of all checkpoints."""


def checkpoint_assets(sources: Sequence[Source]) -> dg.AssetsDefinition:
    """All checkpoints in one step: whichever are selected are recorded in order, whether ready or blocked.

    A blocked one fails the step once all are recorded, so that a first blocked line does not hide the others. A check
    that is executed alone looks, and records nothing.
    """

    @dg.multi_asset(
        name="checkpoints",
        specs=[
            dg.AssetSpec(
                checkpoint_key(name),
                group_name=GROUP,
                kinds={"postgres"},
                owners=list(OWNERS),
                description=f"{title}: materializing it records what the evidence says now, line by line, with hashes.",
                deps=[checkpoint_key(each) for each in _RESTS_ON.get(name, ())],
                metadata={"dagster/table_name": "finance_os.checkpoints"},
            )
            for name, title in TITLES.items()
        ],
        check_specs=[
            dg.AssetCheckSpec(line.key, asset=checkpoint_key(name), description=line.title, blocking=True)
            for name, lines in LINES.items()
            for line in lines
        ],
        can_subset=True,
    )
    def record(
        context: dg.AssetExecutionContext, evidence: Evidence
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        database = evidence.database
        selected = context.selected_asset_check_keys
        checked = {each.asset_key for each in selected}
        names = [name for name in TITLES if checkpoint_key(name) in context.selected_asset_keys | checked]
        only_look = {name for name in names if checkpoint_key(name) not in context.selected_asset_keys}
        deployed = deploy_facts_of(database, context.instance) if deploy.DEPLOY_VERIFICATION in names else None
        recordings: dict[str, list[Recording]] = {name: [] for name in names}
        for business_id in every_business(database):
            for recording in record_checkpoints(
                database,
                sources,
                business_id,
                names,
                deployed,
                excluded=settings().excluded,
                valid_for=timedelta(hours=settings().checkpoint_valid_hours),
                dagster_run_id=context.run_id,
                only_look=only_look,
            ):
                recordings[recording.evaluation.checkpoint].append(recording)
        for name in names:
            if name not in only_look:
                yield dg.MaterializeResult(asset_key=checkpoint_key(name), metadata=_metadata(recordings[name]))
            for declaration in LINES[name]:
                if dg.AssetCheckKey(checkpoint_key(name), declaration.key) in selected:
                    yield _check_result(name, declaration, recordings[name])

    return record


def checkpoint_job() -> UnresolvedAssetJobDefinition:
    """Records every checkpoint, in order."""
    return dg.define_asset_job(
        "record_checkpoints",
        selection=dg.AssetSelection.assets(*CHECKPOINT_KEYS),
        description="Record every checkpoint on the evidence as it is now. Fails where a line is blocked, after all "
        "are recorded; its checks say what to do.",
        executor_def=dg.in_process_executor,
        tags={"dagster/max_retries": "0"},
    )


def _check_result(name: str, declaration: LineDeclaration, recordings: Sequence[Recording]) -> dg.AssetCheckResult:
    """The line of every business: passed where all are ready, and said of the first that is not."""
    lines = [
        (each.evaluation.business_id, line)
        for each in recordings
        for line in each.evaluation.lines
        if line.key == declaration.key
    ]
    blocked = [(business_id, line) for business_id, line in lines if not line.ready]
    return dg.AssetCheckResult(
        asset_key=checkpoint_key(name),
        check_name=declaration.key,
        passed=bool(lines) and not blocked,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(f"{business_id}: {line.blocker}. {line.remedy}" for business_id, line in blocked)
        or (declaration.title if lines else "No business is recorded: look at FINANCE_OS_BUSINESS."),
        metadata={
            "status": "blocked" if blocked or not lines else "ready",
            **({"blocker": declaration.blocker} if blocked else {}),
            "lines": dg.MetadataValue.md(_table(lines)),
        },
    )


def _metadata(recordings: Sequence[Recording]) -> dict[str, dg.MetadataValue | str | int]:
    found: dict[str, dg.MetadataValue | str | int] = {}
    for each in recordings:
        evaluation = each.evaluation
        found[f"{evaluation.business_id}: status"] = (
            f"{evaluation.status}, {evaluation.ready_count} of {len(evaluation.lines)} lines ready"
        )
        found[f"{evaluation.business_id}: evidence hash"] = evaluation.evidence_hash
    rows = [(each.evaluation.business_id, line) for each in recordings for line in each.evaluation.lines]
    found["dagster/row_count"] = len(rows)
    found["lines"] = dg.MetadataValue.md(_table(rows))
    return found


def _table(rows: Sequence[tuple[str, Line]]) -> str:
    if not rows:
        return "No business is recorded."
    lines = ["| business | line | status | evidence hash | blocker | what to do |", "|" + " --- |" * 6]
    lines += [
        f"| {business_id} | {line.title} | {line.status} | {line.evidence_hash or 'n/a'} "
        f"| {line.blocker or ''} | {(line.remedy or '').replace('|', chr(92) + '|')} |"
        for business_id, line in rows
    ]
    return "\n".join(lines)
