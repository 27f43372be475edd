"""Recorded checkpoints: what a set of checks said, with its hash, and whether that still holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb

from finance_os.evidence import audit
from finance_os.evidence.database import Database
from finance_os.readiness.lines import Evaluation
from finance_os.readiness.verdicts import Status

VALID_FOR = timedelta(hours=24)
"""How long a recorded checkpoint may count, if the settings do not say otherwise."""


class Currency(StrEnum):
    """Whether the latest recording of a checkpoint still holds."""

    CURRENT = "current"
    NOT_CURRENT = "not current"
    MISSING = "missing"


@dataclass(frozen=True)
class Recorded:
    """One recording of a checkpoint. `age` is by the database's clock; `lines` are JSON objects."""

    checkpoint_id: int
    business_id: str
    name: str
    status: Status
    evidence_hash: str
    lines: tuple[Mapping[str, Any], ...]
    facts: Mapping[str, Any]
    recorded_by: str
    recorded_at: datetime
    age: timedelta


@dataclass(frozen=True)
class Standing:
    """A checkpoint of a business: what it is now, what was recorded last, and whether that still holds."""

    title: str
    evaluation: Evaluation
    recorded: Recorded | None
    valid_for: timedelta

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.evaluation.checkpoint

    @property
    def currency(self) -> Currency:
        """Current: recorded as ready, with the hash that the evidence gives now, and not too long ago."""
        if self.recorded is None:
            return Currency.MISSING
        return Currency.CURRENT if self._why_not(self.recorded) is None else Currency.NOT_CURRENT

    @property
    def current(self) -> bool:
        """Whether the checkpoint may be relied on."""
        return self.currency is Currency.CURRENT

    @property
    def reason(self) -> str | None:
        """Why it is not current, and what to do; `None` if it is."""
        if self.evaluation.blocked:
            keys = ", ".join(line.key for line in self.evaluation.blocked)
            return f"{self.title} is blocked ({keys}): work its lines off, then record it."
        how = f"materialize readiness/{self.name} or run `finance-os checkpoint record {self.name}`."
        if self.recorded is None:
            return f"{self.title} was never recorded: {how}"
        why = self._why_not(self.recorded)
        return None if why is None else f"{self.title} {why}: {how}"

    def _why_not(self, recorded: Recorded) -> str | None:
        if self.evaluation.status is not Status.READY:
            return "is blocked now"
        if recorded.status is not Status.READY:
            return "was blocked when it was recorded"
        if recorded.evidence_hash != self.evaluation.evidence_hash:
            return "was recorded over other evidence"
        if recorded.age > self.valid_for:
            return f"was recorded more than {self.valid_for.total_seconds() / 3600:g} h ago"
        return None

    @property
    def evidence(self) -> dict[str, Any] | None:
        """What another checkpoint's line on this one looks at; `None` where nothing was ever recorded."""
        if self.recorded is None:
            return None
        return {
            "checkpoint": self.name,
            "recorded": self.recorded.evidence_hash,
            "now": self.evaluation.evidence_hash,
            "current": self.current,
        }


def record(
    database: Database,
    evaluation: Evaluation,
    *,
    facts: Mapping[str, Any] | None = None,
    dagster_run_id: str | None = None,
) -> Recorded:
    """Record what a checkpoint is now, ready or blocked, with an audit event; lines too become `check_results`.

    `facts` are what only this process could see.
    """
    lines = [
        {
            "key": line.key,
            "title": line.title,
            "status": line.status.value,
            "evidence_hash": line.evidence_hash,
            "blocker": line.blocker,
            "remedy": line.remedy,
            "details": dict(line.details),
        }
        for line in evaluation.lines
    ]
    with database.transaction() as connection:
        row = connection.execute(
            """
            INSERT INTO finance_os.checkpoints
                (business_id, name, status, evidence_hash, lines, facts, dagster_run_id)
            VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING checkpoint_id
            """,
            (
                evaluation.business_id,
                evaluation.checkpoint,
                evaluation.status.value,
                evaluation.evidence_hash,
                Jsonb(lines),
                Jsonb(dict(facts or {})),
                dagster_run_id,
            ),
        ).fetchone()
        assert row is not None
        with connection.cursor() as cursor:
            cursor.executemany(
                """
                INSERT INTO finance_os.check_results
                    (business_id, source_system, object_type, check_name, status, blocker, evidence_hash, details,
                     dagster_run_id)
                VALUES (%s, 'readiness', %s, %s, %s, %s, %s, %s, %s)
                """,
                [
                    (
                        evaluation.business_id,
                        evaluation.checkpoint,
                        line["key"],
                        line["status"],
                        line["blocker"],
                        line["evidence_hash"],
                        Jsonb(line["details"] | ({"remedy": line["remedy"]} if line["remedy"] else {})),
                        dagster_run_id,
                    )
                    for line in lines
                ],
            )
        audit.append(
            connection,
            evaluation.business_id,
            "checkpoint.recorded",
            f"checkpoint:{evaluation.checkpoint}",
            {
                "checkpoint_id": row["checkpoint_id"],
                "status": evaluation.status.value,
                "evidence_hash": evaluation.evidence_hash,
                "blockers": [line.blocker for line in evaluation.blocked],
            },
        )
    latest = latest_recordings(database, evaluation.business_id)
    return latest[evaluation.checkpoint]


def latest_recordings(database: Database, business_id: str) -> dict[str, Recorded]:
    """The latest recording of each checkpoint of a business, by name."""
    rows = database.fetch(
        """
        WITH RECURSIVE named AS (
            (SELECT name FROM finance_os.checkpoints WHERE business_id = %(business_id)s ORDER BY name LIMIT 1)
            UNION ALL
            SELECT following.name
            FROM named CROSS JOIN LATERAL (
                SELECT name FROM finance_os.checkpoints
                WHERE business_id = %(business_id)s AND name > named.name ORDER BY name LIMIT 1) AS following
        )
        SELECT latest.checkpoint_id, latest.business_id, latest.name, latest.status, latest.evidence_hash,
               latest.lines, latest.facts, latest.recorded_by, latest.recorded_at,
               clock_timestamp() - latest.recorded_at AS age
        FROM named CROSS JOIN LATERAL (
            SELECT * FROM finance_os.checkpoints AS checkpoint
            WHERE checkpoint.business_id = %(business_id)s AND checkpoint.name = named.name
            ORDER BY checkpoint_id DESC LIMIT 1) AS latest
        """,
        {"business_id": business_id},
    )
    return {
        row["name"]: Recorded(**{**row, "status": Status(row["status"]), "lines": tuple(row["lines"])}) for row in rows
    }
