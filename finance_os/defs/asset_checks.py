"""Asset checks of source assets: they compute verdicts, record them, and display them.

One step evaluates all four checks of an asset. Dagster shows the worst day of a run; each day's own verdict is in
`finance_os.check_results`. (One Dagster evaluation for each day would cost some 10 ms each: minutes in a backfill.)

A run reads all of its assets before it checks any. Days that it reads again are unproved until then, so that nobody
acts on an invoice that was read anew and its payment that was read before.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from finance_os.defs.assets.sources import asset_key
from finance_os.defs.partitions import days_of
from finance_os.defs.resources import Evidence
from finance_os.evidence.clock import DatabaseClock
from finance_os.evidence.windows import Days, day_of
from finance_os.readiness import verdicts
from finance_os.readiness.source_checks import DAY_NOT_OVER, SOURCE_CHECKS, CheckDeclaration, Subject
from finance_os.readiness.verdicts import Status, Verdict
from finance_os.settings import settings
from finance_os.sources.source import Source, SourceObject

LISTED_DAYS = 50
"""How many days that are not ready a check lists."""


def source_checks(source: Source) -> list[dg.AssetChecksDefinition]:
    """The checks of a source's assets, one step an asset."""
    return [_checks_of(source, obj) for obj in source]


def _checks_of(source: Source, obj: SourceObject[Any]) -> dg.AssetChecksDefinition:
    key = asset_key(source, obj)
    subject = Subject.of(source, obj)

    @dg.multi_asset_check(
        name=f"{source.system}__{obj.object_type}__checks",
        specs=[
            dg.AssetCheckSpec(check.name, asset=key, description=check.description, blocking=check.by_day)
            for check in SOURCE_CHECKS
        ],
        can_subset=True,
    )
    def check(context: dg.AssetCheckExecutionContext, evidence: Evidence) -> Iterator[dg.AssetCheckResult]:
        selected = {check_key.name for check_key in context.selected_asset_check_keys}
        days = _days_of_run(context, evidence)
        for declaration in SOURCE_CHECKS:
            if declaration.name in selected:
                found = declaration.evaluate(evidence.database, subject, days)
                verdicts.record(evidence.database, found, context.run.run_id)
                yield _result(key, declaration, found, days)

    return check


def _days_of_run(context: dg.AssetCheckExecutionContext, evidence: Evidence) -> Days:
    """The run's partitions; without any, yesterday and today."""
    if context.has_partition_key or context.has_partition_key_range:
        return days_of(context.partition_keys)
    with evidence.database.connection() as connection:
        now = DatabaseClock.read(connection).now()
    today = day_of(now, ZoneInfo(settings().timezone))
    return Days(today - timedelta(days=1), today)


def _result(
    key: dg.AssetKey, declaration: CheckDeclaration, found: Sequence[Verdict], days: Days
) -> dg.AssetCheckResult:
    # Every daily run reads today too: that today is not over must not turn every daily run yellow.
    over = [verdict for verdict in found if verdict.blocker != DAY_NOT_OVER]
    decisive = verdicts.worst(over or found)
    status = decisive.status if decisive else Status.PENDING
    counts = {name: sum(verdict.status is name for verdict in found) for name in Status}
    summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=declaration.name,
        passed=status is Status.READY,
        severity=dg.AssetCheckSeverity.ERROR if status is Status.BLOCKED else dg.AssetCheckSeverity.WARN,
        description=_explanation(declaration, decisive, summary),
        metadata={
            "status": status.value,
            "verdicts": summary or "none",
            **({"days": str(days)} if declaration.by_day else {}),
            **({"blocker": decisive.blocker} if decisive and decisive.blocker else {}),
            **({"evidence hash": decisive.evidence_hash} if decisive else {}),
            "not ready": dg.MetadataValue.md(_table(v for v in found if v.status is not Status.READY)),
        },
    )


def _explanation(declaration: CheckDeclaration, decisive: Verdict | None, summary: str) -> str:
    if decisive is None:
        return "No business has an active connection to this source."
    if decisive.status is Status.READY:
        return f"{declaration.description} ({summary})"
    where = f" on {decisive.day}" if decisive.day else ""
    return f"{decisive.status}: {decisive.blocker} ({decisive.business_id}{where}). {decisive.remedy} ({summary})"


def _table(found: Iterable[Verdict]) -> str:
    rows = list(found)
    if not rows:
        return "Everything is ready."
    lines = [
        "| business | day | status | blocker | evidence hash | what to do |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {v.business_id} | {v.day or 'now'} | {v.status} | `{v.blocker}` | `{v.evidence_hash}` | {v.remedy or ''} |"
        for v in rows[:LISTED_DAYS]
    ]
    if len(rows) > LISTED_DAYS:
        lines.append(f"\nand {len(rows) - LISTED_DAYS} more, in `finance_os.check_results`.")
    return "\n".join(lines)
