"""What a gate refused, as the failure of a run tells it: each blocker once, with the partitions that it holds back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import dagster as dg

from finance_os.backtest.shown import in_table
from finance_os.readiness.gate import Blocker

_TOLD = 30
"""Blockers in the text of a failure; its table has all of them."""

_REMEDY = 600
"""Characters of a remedy in that table."""


@dataclass(frozen=True)
class Refusal:
    """Why a partition of a business was not computed. `partition` is as people read it, such as `2026-03`."""

    business_id: str
    partition: str
    code: str
    subject: str
    day: date | None
    evidence_hash: str | None
    remedy: str

    @classmethod
    def of(cls, business_id: str, partition: str, blocker: Blocker) -> "Refusal":
        """The refusal for a gate's blocker."""
        return cls(
            business_id,
            partition,
            blocker.code,
            blocker.subject,
            blocker.day,
            blocker.evidence_hash,
            blocker.remedy or "",
        )


def failure(refusals: Sequence[Refusal], partitions: str) -> dg.Failure:
    """The failure of a run that was refused. `partitions` is what they are called, such as `months`."""
    held_back: dict[Refusal, list[str]] = {}
    for each in refusals:
        listed = held_back.setdefault(replace(each, partition=""), [])
        if each.partition not in listed:
            listed.append(each.partition)
    lines = [f"| business | {partitions} | blocker | subject | day | evidence | what to do |", "|" + " --- |" * 7]
    lines += [
        f"| {each.business_id} | {', '.join(listed)} | {in_table(each.code)} | {in_table(each.subject)} "
        f"| {each.day or 'now'} | {each.evidence_hash or '–'} | {in_table(each.remedy, _REMEDY)} |"
        for each, listed in held_back.items()
    ]
    told = [
        f"{each.business_id} {', '.join(listed)}: {each.code} of {each.subject}"
        f"{f' on {each.day}' if each.day else ''} (evidence {each.evidence_hash or 'none'}): {each.remedy}"
        for each, listed in held_back.items()
    ]
    left_out = f"; {len(told) - _TOLD} more blockers are in the table" if len(told) > _TOLD else ""
    refused = sorted({f"{each.business_id} {each.partition}" for each in refusals})
    return dg.Failure(
        f"{len(refused)} refused ({', '.join(refused)}). {'; '.join(told[:_TOLD])}{left_out}",
        metadata={"blockers": dg.MetadataValue.md("\n".join(lines))},
        allow_retries=False,
    )
