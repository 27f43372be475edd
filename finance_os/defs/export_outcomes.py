"""What became of an export, business by business, and what Dagster is told: that a day of an asset is there, or not."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

import dagster as dg

from finance_os.defs import export_tables as tables
from finance_os.defs.refusals import Refusal
from finance_os.evidence.canonical import evidence_hash
from finance_os.stripe_qbo.apply import Applied
from finance_os.stripe_qbo.export import GATED, Planned, Verification
from finance_os.stripe_qbo.intent import Intent
from finance_os.stripe_qbo.store import Change

GROUP = "stripe_qbo"
INTENTS = dg.AssetKey([GROUP, "qbo_intents"])
OBJECTS = dg.AssetKey([GROUP, "qbo_objects"])
VERIFICATION = dg.AssetKey([GROUP, "qbo_verification"])
AGREES = dg.AssetCheckKey(VERIFICATION, "qbo_agrees_with_stripe")
APPROVED = "approved"
"""The status word of an export whose policy is approved."""

_DATA_VERSION = "dagster/data_version"


@dataclass
class Outcome:
    """What became of one business. `gated` says that no approval covers it; `left` is what is not written, by day."""

    business_id: str
    refusals: list[Refusal] = field(default_factory=list)
    planned: Planned | None = None
    gated: bool = False
    applied: Applied | None = None
    left: Mapping[date, int] = field(default_factory=dict)
    states: Mapping[date, Counter[str]] = field(default_factory=dict)
    verified: Verification | None = None

    @cached_property
    def by_day(self) -> Mapping[date, Sequence[Intent]]:
        """The intents of the plan by the day that they are dated, in its order."""
        found: dict[date, list[Intent]] = {}
        for each in self.planned.plan.intents if self.planned is not None else ():
            found.setdefault(each.dated, []).append(each)
        return found

    @cached_property
    def changes(self) -> Mapping[date, Sequence[Change]]:
        """What keeping the plan changed, by day."""
        found: dict[date, list[Change]] = {}
        for each in self.planned.put.changes if self.planned is not None else ():
            found.setdefault(each.dated, []).append(each)
        return found

    @property
    def is_held_up(self) -> bool:
        """Whether something is refused or in conflict, so that what refers to it has to wait for people."""
        return any(of_day["failed"] or of_day["conflicted"] for of_day in self.states.values())

    @cached_property
    def conflicts(self) -> frozenset[date]:
        """The days of what is in conflict with what is written."""
        return frozenset(each.dated for each in self.planned.put.conflicts) if self.planned is not None else frozenset()

    def is_planned(self, day: date) -> bool:
        """Whether the intents of a day were kept as planned, from proved evidence."""
        return (
            self.planned is not None
            and (self.planned.through is None or day <= self.planned.through)
            and day not in self.conflicts
        )

    def is_written(self, day: date) -> bool:
        """Whether everything that is dated on a day is written; nothing is to be where the policy does not allow it."""
        return self.gated or (self.applied is not None and self.is_planned(day) and not self.left.get(day))


def claim(context: dg.AssetExecutionContext, day: date, outcomes: Sequence[Outcome], *, last: bool) -> None:
    """Report what is there of a day, of each asset that was asked for."""
    if not outcomes:
        return
    wanted = context.selected_asset_keys

    def report(key: dg.AssetKey, rows: int, metadata: dict[str, Any], version: Any) -> None:
        context.log_event(
            dg.AssetMaterialization(
                key,
                partition=str(day),
                metadata={"dagster/row_count": rows, **metadata},
                tags={_DATA_VERSION: evidence_hash(version)},
            )
        )

    of_day = [[intent.input_hash for intent in each.by_day.get(day, ())] for each in outcomes]
    if INTENTS in wanted and all(each.is_planned(day) for each in outcomes):
        shown = _named(outcomes, [_intents_metadata(each, day, last=last) for each in outcomes])
        report(INTENTS, sum(map(len, of_day)), shown, of_day)
    allowed = [each for each in outcomes if not each.gated]
    told = {"status": ", ".join(f"{each.business_id}: {GATED if each.gated else APPROVED}" for each in outcomes)}
    if OBJECTS in wanted and allowed and all(each.is_written(day) for each in outcomes):
        shown = _named(allowed, [_objects_metadata(each, day) for each in allowed])
        rows = sum(each.states.get(day, Counter())["applied"] for each in allowed)
        report(OBJECTS, rows, {**told, **shown}, of_day)
    if VERIFICATION in wanted and allowed and all(each.gated or _is_verified(each, day) for each in outcomes):
        found = [f for each in allowed if each.verified for f in each.verified.findings if f.day == day]
        shown = _named(allowed, [_verification_metadata(each, day) for each in allowed])
        report(VERIFICATION, len(found), {**told, **shown}, [[f.code, f.subject, f.detail] for f in found])
    if last and not allowed:
        for key in sorted(wanted & {OBJECTS, VERIFICATION}):
            context.log_event(dg.AssetObservation(key, partition=str(day), metadata={**told, "policy": GATED}))


def _is_verified(outcome: Outcome, day: date) -> bool:
    return outcome.verified is not None and outcome.is_planned(day)


def _named(outcomes: Sequence[Outcome], metadata: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The metadata of each business; names bear the business where there are several."""
    if len(outcomes) == 1:
        return metadata[0]
    return {
        f"{outcome.business_id}: {name}": value
        for outcome, shown in zip(outcomes, metadata, strict=True)
        for name, value in shown.items()
    }


def _intents_metadata(outcome: Outcome, day: date, *, last: bool) -> dict[str, Any]:
    """A day's intents and what changed of them; the run's last day also shows the whole plan."""
    assert outcome.planned is not None
    plan, put = outcome.planned.plan, outcome.planned.put
    of_day = Counter(f"{each.operation.value} {each.entity}" for each in outcome.by_day.get(day, ()))
    shown: dict[str, Any] = {
        "status": GATED if outcome.gated else APPROVED,
        "intents": tables.counted(of_day),
        "diff": dg.MetadataValue.md(tables.changes_table(outcome.changes.get(day, ()))),
    }
    if not last:
        return shown
    whole = Counter(each.what.value for each in put.changes)
    return {
        **shown,
        "plan": f"{len(plan.intents):,} intents: {tables.counted(whole)} changed; {len(plan.adoptions):,} adopted",
        "plan by day and entity": dg.MetadataValue.md(tables.plan_table(put)),
        "findings": dg.MetadataValue.md(tables.findings_table(plan.findings)),
        "opening": dg.MetadataValue.md(tables.opening_table(plan.opening)),
    }


def _objects_metadata(outcome: Outcome, day: date) -> dict[str, Any]:
    assert outcome.applied is not None
    ended = Counter({each.value: count for each, count in outcome.applied.ended.items()})
    return {
        "intents of the day": tables.counted(outcome.states.get(day, Counter())),
        "this run": tables.counted(ended),
        "answers not as planned": outcome.applied.not_as_planned,
        "requests": tables.counted(Counter(outcome.applied.requests)),
    }


def _verification_metadata(outcome: Outcome, day: date) -> dict[str, Any]:
    assert outcome.verified is not None
    return {
        **_seen_metadata(outcome),
        "findings of the day": dg.MetadataValue.md(
            tables.findings_table(each for each in outcome.verified.findings if each.day == day)
        ),
        "requests": tables.counted(Counter(outcome.verified.requests)),
    }


def _seen_metadata(outcome: Outcome) -> dict[str, Any]:
    """What QuickBooks showed of a business that was verified."""
    assert outcome.verified is not None
    links, money = outcome.verified.links, outcome.verified.money
    return {
        "objects": f"{links.as_planned:,} as planned, {links.adopted:,} adopted ones are there, "
        f"{links.unsettled:,} are being written",
        "clearing": dg.MetadataValue.md(tables.clearing_table(money.clearing)),
        "payouts that equal their deposits": money.payouts,
    }


def check_result(outcomes: Sequence[Outcome]) -> dg.AssetCheckResult:
    """Whether everything that was looked at agrees, of every business; and what was not compared, which fails nothing.

    Of a business that was not verified it says so. What was found before and is open still keeps it failed, as a
    warning: it has failed a run once, and the next one has nothing against what it did itself.
    """
    verified = [(each.business_id, each.verified) for each in outcomes if each.verified]
    now = [(business_id, finding) for business_id, each in verified for finding in each.findings]
    wrong = [*now, *((business_id, finding) for business_id, each in verified for finding in each.open_still)]
    codes = Counter(f"{business_id} {finding.code}" for business_id, finding in wrong)
    looked_at = sum(each.verified.links.as_planned for each in outcomes if each.verified)
    uncompared = [f"{each.business_id}: {what}" for each in outcomes for what in _not_compared(each)]
    said = (
        f"QuickBooks does not agree: {tables.counted(codes)}. Nothing is written over it."
        if wrong
        else f"{looked_at:,} objects are as planned."
    )
    return dg.AssetCheckResult(
        asset_key=VERIFICATION,
        check_name=AGREES.name,
        passed=not wrong,
        severity=dg.AssetCheckSeverity.ERROR if now or not wrong else dg.AssetCheckSeverity.WARN,
        description=f"{said} Not compared: {'; '.join(uncompared)}." if uncompared else said,
        metadata={
            **_named(outcomes, [_seen_metadata(each) if each.verified else {} for each in outcomes]),
            "findings": dg.MetadataValue.md(tables.findings_table(finding for _, finding in wrong)),
        },
    )


def _not_compared(outcome: Outcome) -> list[str]:
    """What was not compared of a business, each with why not."""
    if outcome.verified is None:
        why = [*dict.fromkeys(each.code for each in outcome.refusals), *([GATED] if outcome.gated else [])]
        return [f"nothing was ({', '.join(why) or 'verifying was not reached'})"]
    links, clearing = outcome.verified.links, outcome.verified.money.clearing
    found = [f"clearing {each.currency} ({each.why})" for each in clearing if each.in_books is None]
    if not clearing:
        found.append("clearing (its rules name no account)")
    if links.unsettled:
        found.append(f"{links.unsettled:,} objects (they are being written)")
    return found
