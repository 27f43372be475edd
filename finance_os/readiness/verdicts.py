"""Verdicts: what a check found, with the hash of the evidence it looked at, stored in `check_results`.

Dagster displays them; whoever must know whether it is safe to act reads them here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb

from finance_os.evidence.database import Database


class Status(StrEnum):
    """ready; stale: it was ready and too long ago; pending: there is not enough evidence yet; blocked: it failed."""

    READY = "ready"
    STALE = "stale"
    PENDING = "pending"
    BLOCKED = "blocked"

    @property
    def severity(self) -> int:
        """How bad, for finding the worst of several."""
        return list(Status).index(self)


@dataclass(frozen=True)
class Verdict:
    """One check of one object of one business, on one day or (`day` is `None`) of now.

    `blocker` is the machine-readable reason why it is not ready; `remedy` says what to do about it. `basis` is what the
    day consisted of when the check began to look (`finance_os.readiness.basis`).
    """

    business_id: str
    source_system: str
    object_type: str
    check: str
    day: date | None
    status: Status
    blocker: str | None
    remedy: str | None
    evidence_hash: str
    details: Mapping[str, Any]
    basis: str | None = None


def record(database: Database, verdicts: Sequence[Verdict], dagster_run_id: str | None = None) -> None:
    """Store verdicts, in one transaction."""
    with (
        database.transaction() as connection,
        connection.cursor().copy(
            """
        COPY finance_os.check_results
            (business_id, source_system, object_type, check_name, partition_day, status, blocker, evidence_hash,
             details, basis, dagster_run_id) FROM STDIN
        """
        ) as copy,
    ):
        for verdict in verdicts:
            details = dict(verdict.details) | ({"remedy": verdict.remedy} if verdict.remedy else {})
            copy.write_row(
                (
                    verdict.business_id,
                    verdict.source_system,
                    verdict.object_type,
                    verdict.check,
                    verdict.day,
                    verdict.status,
                    verdict.blocker,
                    verdict.evidence_hash,
                    Jsonb(details),
                    verdict.basis,
                    dagster_run_id,
                )
            )


def worst(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict that matters most; `None` of none."""
    return max(verdicts, key=lambda verdict: verdict.status.severity, default=None)
