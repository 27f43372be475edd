"""Finance exceptions: findings of sources and checks, open until a later look no longer finds them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from finance_os.evidence import audit
from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.extraction import Finding, Kind, Severity, SourceError
from finance_os.evidence.sync_runs import SyncRun

_SEVERITIES = tuple(Severity)


@dataclass(frozen=True)
class FinanceException:
    """One finding as it is kept."""

    exception_id: int
    business_id: str
    source_system: str
    object_type: str
    code: str
    severity: Severity
    subject: str
    partition_day: date
    detail: str
    evidence_hash: str
    status: str
    opened_at: datetime
    resolved_at: datetime | None


def together(findings: Iterable[Finding]) -> dict[tuple[str, str, date], Finding]:
    """Findings by code, subject and day: of several, one with the details of all, as grave as the gravest of them.

    In whatever order they come: the details are sorted, and what is told twice is told once.
    """
    same: dict[tuple[str, str, date], list[Finding]] = {}
    for each in findings:
        same.setdefault((each.code, each.subject, each.day), []).append(each)
    return {
        (code, subject, day): Finding(
            code,
            max((Severity(each.severity) for each in several), key=_SEVERITIES.index),
            subject,
            day,
            " ".join(sorted({each.detail for each in several})),
        )
        for (code, subject, day), several in same.items()
    }


def settle_findings(
    connection: DatabaseConnection, run: SyncRun, findings: Sequence[Finding], *, cover: Literal["days", "object"]
) -> None:
    """Open what a completed run found, and resolve what an earlier run found and this one does not, in its transaction.

    Of one code, subject and day one exception is open, which tells all of them. Earlier findings are those of the same
    connection and object type, of the run's days or, where `cover` is `object`, of any day. A targeted read, and a run
    that went on from a checkpoint, did not see everything: they resolve nothing.
    """
    for finding in findings:
        if finding.day not in run.read.days:
            raise SourceError(
                "outside_window",
                f"finding {finding.code} belongs to {finding.day}, not to {run.read.days}",
                permanent=True,
            )
    found = together(findings)
    business_id, source_system, object_type = run.key
    parameters: dict[str, Any] = {
        "business_id": business_id,
        "source_system": source_system,
        "object_type": object_type,
        "connection_id": run.read.connection.connection_id,
        "sync_run_id": run.sync_run_id,
    }
    open_now = connection.execute(
        """
        SELECT exception_id, code, subject, partition_day, evidence_hash FROM finance_os.finance_exceptions
        WHERE business_id = %(business_id)s AND source_system = %(source_system)s AND object_type = %(object_type)s
          AND connection_id = %(connection_id)s AND status = 'open'
          AND (%(everything)s OR partition_day BETWEEN %(first)s AND %(last)s)
        """,
        {
            **parameters,
            "everything": cover == "object",
            "first": run.read.days.first,
            "last": run.read.days.last,
        },
    ).fetchall()
    same = {(row["code"], row["subject"], row["partition_day"]): row for row in open_now}
    hashes = {key: hash_of(finding) for key, finding in found.items()}
    gone = (
        []
        if run.read.kind is Kind.TARGETED or run.resume is not None
        else [row["exception_id"] for key, row in same.items() if hashes.get(key) != row["evidence_hash"]]
    )
    if gone:
        connection.execute(
            """
            UPDATE finance_os.finance_exceptions
            SET status = 'resolved', resolved_at = clock_timestamp(), resolved_by_run = %(sync_run_id)s
            WHERE exception_id = ANY (%(gone)s)
            """,
            {**parameters, "gone": gone},
        )
    opened = [key for key in found if key not in same or same[key]["evidence_hash"] != hashes[key]]
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO finance_os.finance_exceptions
                (business_id, source_system, object_type, connection_id, code, severity, subject, partition_day,
                 detail, evidence_hash, opened_by_run)
            VALUES (%(business_id)s, %(source_system)s, %(object_type)s, %(connection_id)s, %(code)s, %(severity)s,
                    %(subject)s, %(day)s, %(detail)s, %(evidence_hash)s, %(sync_run_id)s)
            ON CONFLICT DO NOTHING
            """,
            [
                {
                    **parameters,
                    "code": found[key].code,
                    "severity": Severity(found[key].severity).value,
                    "subject": found[key].subject,
                    "day": found[key].day,
                    "detail": found[key].detail,
                    "evidence_hash": hashes[key],
                }
                for key in opened
            ],
        )
    if gone or opened:
        audit.append(
            connection,
            business_id,
            "finance_exceptions.settled",
            f"sync_run:{run.sync_run_id}",
            {
                "source_system": source_system,
                "object_type": object_type,
                "opened": len(opened),
                "resolved": len(gone),
                "evidence_hash": evidence_hash(sorted(hashes.values())),
            },
        )


def open_exceptions(
    database: Database, business_id: str | None = None, *, at_least: Severity = Severity.LOW
) -> list[FinanceException]:
    """Open finance exceptions, the gravest and then the latest first; of a connection that is read no more, none."""
    wanted = [severity.value for severity in _SEVERITIES[_SEVERITIES.index(at_least) :]]
    rows = database.fetch(
        """
        SELECT exception_id, business_id, source_system, object_type, code, severity, subject, partition_day, detail,
               evidence_hash, status, opened_at, resolved_at
        FROM finance_os.finance_exceptions
        WHERE status = 'open' AND severity = ANY (%(wanted)s)
          AND (%(business_id)s::text IS NULL OR business_id = %(business_id)s)
          AND (connection_id IS NULL OR EXISTS (
              SELECT FROM finance_os.connections AS connection
              WHERE connection.connection_id = finance_exceptions.connection_id AND connection.active))
        ORDER BY array_position(%(order)s, severity), opened_at DESC, exception_id DESC
        """,
        {
            "wanted": wanted,
            "business_id": business_id,
            "order": [severity.value for severity in reversed(_SEVERITIES)],
        },
    )
    return [FinanceException(**{**row, "severity": Severity(row["severity"])}) for row in rows]


def hash_of(finding: Finding) -> str:
    """What tells whether an open exception still says the same."""
    return evidence_hash(
        [finding.code, Severity(finding.severity).value, finding.subject, finding.day.isoformat(), finding.detail]
    )
