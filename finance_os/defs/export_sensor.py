"""The sensor that asks for the export: whenever evidence moved, or what may be done with it, since it was exported.

What an export rests on is a state: how often evidence of Stripe and QuickBooks has moved, the last closed day, the
rules, and whether the policy is approved. A state that no run has exported is asked for, under a run key made of it: a
tick that was lost asks for the same run again. So after the daily sync has ended and the checkpoints are recorded the
closed day is another one, and the export runs; after a webhook's reads evidence has moved, and it runs; and when
nothing has changed, it does not. One run of a business at a time: what comes meanwhile is another state, for the next.
A run that failed, or left what another applier held, is asked for again after a while; one that only came too late,
as days were being read again by then, as soon as they are checked.

While the gate is shut nothing is asked for, as nothing would be done.

The daemon comes round every five seconds. A tick that finds something on its way, events of webhooks, their reads or an
export, does not leave the wait for its end to the next round: it goes on looking for most of that time.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import msgspec
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from finance_os.defs.assets.stripe_qbo import JOB, OP, OVERTAKEN_TAG
from finance_os.defs.export_outcomes import INTENTS, OBJECTS, VERIFICATION
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import every_business
from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.database import Database
from finance_os.evidence.snapshot import snapshot
from finance_os.evidence.windows import day_of
from finance_os.settings import settings
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo import passing
from finance_os.stripe_qbo.export import Export, GateOf, NotExported
from finance_os.stripe_qbo.movement import SYSTEMS, Mark, moved
from finance_os.webhooks.under_way import is_reading, is_waiting

BUSINESS_TAG = "finance_os/qbo_export"
"""Run tag with the business that a run exports."""

STATE_TAG = "finance_os/qbo_export_state"
"""Run tag with the state that a run exports."""

GATHER_SECONDS = 5
"""How long at most an export waits for reads that webhooks have asked for: a burst is exported in one go.

But not for those that were asked for only after what there is to be exported was read: while events keep coming, some
are always under way.
"""

LOOK_AGAIN_SECONDS = 30
"""How often a gate that was found shut is looked at."""

LOOK_SOON_SECONDS, LOOK_SHARE = 5, 0.1
"""The same where days are read again and will be checked; but looking takes no greater share of the time."""

STAYS_SECONDS = 4
"""How long the daemon's ticks go on looking: the next round leaves out a sensor whose tick has not ended by then."""

LOOK_EVERY_SECONDS = 0.5
"""How often they look."""

FIRST_WAIT, LONGEST_WAIT = 60, 3_600
"""Seconds until the next run after one that failed, or left what another applier had; for the same state twice as long
after each further one."""

_RUNS = 12


class _Seen(msgspec.Struct):
    """What a tick leaves of a business for the next: all of it can be lost, and costs time only.

    `waiting` is since when something has moved that is not exported; `shut` when the gate was last found shut, for
    `state`, and `soon` in how many seconds it is looked at again, where that is not `LOOK_AGAIN_SECONDS`.
    """

    run: int = 0
    moved: int = 0
    state: str = ""
    waiting: float | None = None
    shut: float = 0
    soon: float | None = None


class _Cursor(msgspec.Struct):
    businesses: dict[str, _Seen] = {}


class _Waits(Exception):
    """Why nothing is asked for now. With `soon` that may be another thing within seconds."""

    def __init__(self, why: str, *, soon: bool = False) -> None:
        self.soon = soon
        super().__init__(why)


_pause = time.sleep


def export_sensor(job: Any, gate_of: GateOf | None = None, stays: float = 0) -> dg.SensorDefinition:
    """Asks for runs of `job`, one of each business at a time. `gate_of` is the real gate if not given.

    A tick goes on looking for `stays` seconds while something is on its way.
    """

    @dg.sensor(
        name="stripe_qbo_export_wanted",
        job=job,
        minimum_interval_seconds=1,  # every round of the daemon
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Plans, writes and verifies what Stripe says when evidence has moved: after webhooks, and after "
        "the daily sync once its checkpoints are recorded. Without an approved policy it only asks for the plan; for a "
        "business without rules it asks for nothing.",
    )
    def stripe_qbo_export_wanted(
        context: dg.SensorEvaluationContext, evidence: Evidence
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        rules = settings().qbo_rules
        if not rules:
            yield dg.SkipReason("No business has rules: FINANCE_OS_QBO_RULES is not set.")
            return
        database, until = evidence.database, time.monotonic() + stays
        cursor = msgspec.json.decode(context.cursor, type=_Cursor) if context.cursor else _Cursor()
        known = every_business(database)
        of = {business_id: cursor.businesses.get(business_id, _Seen()) for business_id in sorted(rules)}
        while True:
            said, requests, soon = list[str](), list[dg.RunRequest](), False
            for business_id, seen in of.items():
                try:
                    if business_id not in known:
                        raise _Waits("there is no such business")
                    export = exporting.export_of(database, business_id, rules)
                    assert export is not None
                    requests.append(_request(database, context.instance, export, seen, gate_of))
                except NotExported as error:
                    codes = [each.code for each in exporting.told_once(error.blockers)]
                    said.append(f"{business_id}: {', '.join(codes)}")
                except _Waits as waits:
                    said.append(f"{business_id}: {waits}")
                    soon = soon or waits.soon
            if requests or not soon or time.monotonic() + LOOK_EVERY_SECONDS > until:
                break
            _pause(LOOK_EVERY_SECONDS)
        context.update_cursor(msgspec.json.encode(_Cursor(of)).decode())
        yield from requests
        if not requests:
            yield dg.SkipReason("; ".join(said))

    return stripe_qbo_export_wanted


def _request(
    database: Database, instance: dg.DagsterInstance, export: Export, seen: _Seen, gate_of: GateOf | None
) -> dg.RunRequest:
    """The run that exports the business's present state. Raises `_Waits` where none is to be asked for."""
    now = time.time()
    count, mark = moved(database, export.business_id, Mark(seen.run, seen.moved))
    seen.run, seen.moved = mark.sync_run_id, mark.moved
    is_approved = exporting.approved(database, export)
    state = evidence_hash(
        [
            count,
            exporting.last_closed_day(database, export).isoformat(),
            settings().qbo_rules[export.business_id],
            export.realm,
            is_approved,
        ]
    )
    runs = instance.get_run_records(dg.RunsFilter(tags={BUSINESS_TAG: export.business_id}), limit=_RUNS)
    if any(each.dagster_run.status in NOT_FINISHED_STATUSES for each in runs):
        raise _Waits("an export is under way", soon=True)
    of_state = instance.get_run_records(
        dg.RunsFilter(tags={BUSINESS_TAG: export.business_id, STATE_TAG: state}), limit=_RUNS
    )
    is_exported = any(each.dagster_run.status is dg.DagsterRunStatus.SUCCESS for each in of_state)
    if is_exported and not (is_approved and exporting.due_now(database, export, export.today(datetime.now(UTC)))):
        seen.waiting = None
        raise _Waits("nothing has moved since the last export", soon=_is_on_its_way(database, export.business_id))
    _wait_after(runs, of_state, now, is_exported=is_exported)
    if seen.waiting is None:
        seen.waiting = now
    gathers = now - seen.waiting < GATHER_SECONDS
    if gathers and is_reading(database, export.business_id, SYSTEMS, meanwhile=True):
        raise _Waits("objects that webhooks speak of are being read", soon=True)
    if seen.state == state and now - seen.shut < (LOOK_AGAIN_SECONDS if seen.soon is None else seen.soon):
        raise _Waits("the gate was shut a moment ago")
    began = time.monotonic()
    with snapshot(database) as at_once:
        blockers = exporting.judge(at_once, export, gate_of=gate_of)
    if blockers:
        soon = min(max(LOOK_SOON_SECONDS, (time.monotonic() - began) / LOOK_SHARE), LOOK_AGAIN_SECONDS)
        seen.state, seen.shut, seen.soon = state, now, soon if passing.passes(blockers) else None
        raise NotExported(export.business_id, blockers)
    seen.waiting = None
    today = day_of(datetime.now(UTC), ZoneInfo(settings().timezone))
    assets = [INTENTS, OBJECTS, VERIFICATION] if is_approved else [INTENTS]
    # Another key after each run of the state, for Dagster skips one that it knows; the same one after a lost tick.
    after = of_state[0].dagster_run.run_id if of_state else "first"
    return dg.RunRequest(
        run_key=f"{JOB}/{export.business_id}/{state}/{after}",
        job_name=JOB,
        asset_selection=assets,
        run_config={"ops": {OP: {"config": {"businesses": [export.business_id], "overdue": True}}}},
        tags={
            BUSINESS_TAG: export.business_id,
            STATE_TAG: state,
            "dagster/priority": "5",
            "dagster/asset_partition_range_start": _first_day(instance, export, assets, today).isoformat(),
            "dagster/asset_partition_range_end": today.isoformat(),
        },
    )


def _is_on_its_way(database: Database, business_id: str) -> bool:
    """Whether evidence is about to move: events have come, or are being read for."""
    return is_waiting(database, business_id, SYSTEMS) or is_reading(database, business_id, SYSTEMS)


def _first_day(instance: dg.DagsterInstance, export: Export, assets: Sequence[dg.AssetKey], today: date) -> date:
    """The first of the days that a run is for: the present one, as what is dated before is exported with it.

    The first run of an asset is for every day from the balance date on, so that all of them are shown to be there.
    """
    if all(instance.get_latest_materialization_event(each) for each in assets):
        return today
    return min(max(export.rules.balance_date, settings().start_date), today)


def _wait_after(
    runs: Sequence[dg.RunRecord], of_state: Sequence[dg.RunRecord], now: float, *, is_exported: bool
) -> None:
    """Raise `_Waits` where the latest run of a business failed, or left something, a short while ago.

    It is longer for each run `of_state` that there was. One that days were read again under is not waited for: the gate
    is asked before the next one.
    """
    if not runs or (runs[0].dagster_run.status is dg.DagsterRunStatus.SUCCESS and not is_exported):
        return
    if OVERTAKEN_TAG in runs[0].dagster_run.tags:
        return
    wait = min(FIRST_WAIT * 2 ** max(len(of_state) - 1, 0), LONGEST_WAIT)
    left = (runs[0].end_time or 0) + wait - now
    if left > 0:
        why = "left something to be written" if is_exported else "failed"
        raise _Waits(f"its last export {why}: the next one is asked for in {left:.0f} s")
