"""The gate: whether a business's evidence allows to act, read anew from recorded verdicts by whoever is about to.

Two layers. The verdicts of the inputs for their own days: each day was checked since it was last read, and every check
of it is ready. And the checkpoints, which speak of now. Dagster's own record of a check is a display, not a proof:
anybody can report one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from finance_os.evidence.database import Database
from finance_os.evidence.snapshot import snapshot
from finance_os.evidence.windows import Days
from finance_os.observability import happened
from finance_os.readiness.assessment import Assessment, assess_now
from finance_os.readiness.basis import bases
from finance_os.readiness.source_checks import SOURCE_CHECKS

DAY_CHECKS = tuple(check.name for check in SOURCE_CHECKS if check.by_day)
"""The checks whose verdicts speak of a day."""


@dataclass(frozen=True)
class Input:
    """What a gated asset builds on: days of an object type; `days` of `None` means those of its latest read."""

    source_system: str
    object_type: str
    days: Days | None = None


@dataclass(frozen=True)
class Blocker:
    """Why the gate is shut. `subject` is a checkpoint's line or an object type; `day` is the input's, if any."""

    code: str
    subject: str
    day: date | None
    evidence_hash: str | None
    remedy: str


@dataclass(frozen=True)
class Gate:
    """Whether a business may act on its inputs; shut if anything is in the way."""

    business_id: str
    blockers: tuple[Blocker, ...]

    @property
    def open(self) -> bool:
        """Whether nothing is in the way."""
        return not self.blockers


def gate(
    database: Database, business_id: str, inputs: Sequence[Input], *, assessment: Assessment | None = None
) -> Gate:
    """The gate of a business for something that builds on `inputs`.

    The business is assessed now, with the installation's sources and settings, unless an `assessment` is given: a run
    that asks for many inputs looks once.
    """
    with snapshot(database) as seen:
        blockers = checkpoint_blockers(assessment or assess_now(seen, business_id))
        for each in inputs:
            blockers += input_blockers(seen, business_id, each)
    happened.gate_asked(business_id, [each.code for each in blockers])
    return Gate(business_id, tuple(blockers))


def checkpoint_blockers(assessment: Assessment) -> list[Blocker]:
    """Why not every checkpoint is current: each blocked line, or that a ready checkpoint was not recorded."""
    found: list[Blocker] = []
    for name, standing in assessment.standings.items():
        found += [
            Blocker(line.blocker or "", f"{name}/{line.key}", None, line.evidence_hash, line.remedy or "")
            for line in standing.evaluation.blocked
        ]
        if not standing.current and not standing.evaluation.blocked:
            recorded = standing.recorded.evidence_hash if standing.recorded else None
            found.append(
                Blocker(
                    f"checkpoint_{standing.currency.replace(' ', '_')}", name, None, recorded, standing.reason or ""
                )
            )
    return found


def input_blockers(database: Database, business_id: str, given: Input) -> list[Blocker]:
    """Which days of an input are not proved: never read, not checked since they were last read, or not ready."""
    subject = f"{given.source_system}/{given.object_type}"
    days = given.days or _days_of_latest_read(database, business_id, given)
    if days is None:
        return [Blocker("input_never_read", subject, None, None, f"Materialize {subject}, with its checks.")]
    rows = database.fetch(
        """
        SELECT day::date AS day, required.check_name, verdict.status, verdict.blocker, verdict.evidence_hash,
               verdict.basis, verdict.details ->> 'remedy' AS remedy
        FROM generate_series(%(first)s::timestamp, %(last)s::timestamp, interval '1 day') AS day
        CROSS JOIN unnest(%(checks)s::text[]) AS required (check_name)
        LEFT JOIN LATERAL (
            SELECT * FROM finance_os.check_results AS result
            WHERE result.business_id = %(business_id)s AND result.source_system = %(source_system)s
              AND result.object_type = %(object_type)s AND result.check_name = required.check_name
              AND result.partition_day = day::date
            ORDER BY check_result_id DESC LIMIT 1
        ) AS verdict ON true
        ORDER BY 1, 2
        """,
        {
            "business_id": business_id,
            "source_system": given.source_system,
            "object_type": given.object_type,
            "first": days.first,
            "last": days.last,
            "checks": list(DAY_CHECKS),
        },
    )
    now = bases(database, given.source_system, given.object_type, days, business_id)
    return [
        _input_blocker(subject, row)
        for row in rows
        if row["status"] != "ready" or row["basis"] is None or row["basis"] != now.get((business_id, row["day"]))
    ]


def _input_blocker(subject: str, row: dict[str, Any]) -> Blocker:
    check, day = row["check_name"], row["day"]
    if row["status"] is None:
        return Blocker(f"{check}_not_checked", subject, day, None, f"Materialize {subject} for {day}, with its checks.")
    if row["status"] == "ready":
        remedy = f"{day} of {subject} was read again, or an account was added, since it was checked: run its checks."
        return Blocker(f"{check}_outdated", subject, day, row["evidence_hash"], remedy)
    return Blocker(
        row["blocker"], subject, day, row["evidence_hash"], row["remedy"] or f"Look at {check} of {subject}."
    )


def _days_of_latest_read(database: Database, business_id: str, given: Input) -> Days | None:
    rows = database.fetch(
        """
        SELECT first_day, last_day FROM finance_os.source_sync_runs
        WHERE business_id = %s AND source_system = %s AND object_type = %s AND status = 'succeeded'
          AND kind <> 'targeted' AND reaches_to IS NOT NULL
        ORDER BY sync_run_id DESC LIMIT 1
        """,
        (business_id, given.source_system, given.object_type),
    )
    return Days(rows[0]["first_day"], rows[0]["last_day"]) if rows else None


def explain(blockers: Iterable[Blocker], most: int = 50) -> str:
    """The blockers as a list for people: code, subject, day, evidence hash and remedy, a line each."""
    listed = list(blockers)
    lines = [
        f"- {each.code} ({each.subject}{f' on {each.day}' if each.day else ''}; "
        f"evidence {each.evidence_hash or 'n/a'}): {each.remedy}"
        for each in listed[:most]
    ]
    if len(listed) > most:
        lines.append(f"- and {len(listed) - most} more")
    return "\n".join(lines)
