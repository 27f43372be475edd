"""What the export found to be wrong, kept as finance exceptions until a later look finds it no more."""

from collections.abc import Collection, Sequence
from datetime import date

from finance_os.evidence import audit
from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.database import DatabaseConnection
from finance_os.evidence.exceptions import hash_of, together
from finance_os.evidence.extraction import Finding, Severity

SYSTEM = "stripe_qbo"
"""The source system that the export's findings are kept under."""

PLAN = "qbo_plan"
APPLY = "qbo_apply"
VERIFY = "qbo_verify"
"""Who found it: each speaks for its own findings only."""


def settle(
    connection: DatabaseConnection,
    business_id: str,
    found_by: str,
    findings: Sequence[Finding],
    subjects: Collection[str] | None = None,
) -> tuple[int, int]:
    """Open what was found and is not open yet, and resolve what `found_by` found before and does not find now.

    Of one code, subject and day one exception is open: it tells everything that was found (`together`). `subjects` are
    those that were looked at; `None` means everything. Within the caller's transaction. How many were opened, and how
    many resolved.
    """
    found = together(findings)
    if subjects is not None and not subjects:
        return 0, 0
    key = {"business_id": business_id, "system": SYSTEM, "found_by": found_by}
    open_now: dict[tuple[str, str, date], dict[str, object]] = {
        (row["code"], row["subject"], row["partition_day"]): row
        for row in connection.execute(
            """
            SELECT exception_id, code, subject, partition_day, evidence_hash FROM finance_os.finance_exceptions
            WHERE business_id = %(business_id)s AND source_system = %(system)s AND object_type = %(found_by)s
              AND connection_id IS NULL AND status = 'open'
              AND (%(subjects)s::text[] IS NULL OR subject = ANY (%(subjects)s))
            """,
            {**key, "subjects": None if subjects is None else list(subjects)},
        )
    }
    hashes = {same: hash_of(finding) for same, finding in found.items()}
    gone = [row["exception_id"] for same, row in open_now.items() if hashes.get(same) != row["evidence_hash"]]
    if gone:
        connection.execute(
            """
            UPDATE finance_os.finance_exceptions SET status = 'resolved', resolved_at = clock_timestamp()
            WHERE exception_id = ANY (%s)
            """,
            (gone,),
        )
    opened = [same for same in found if same not in open_now or open_now[same]["evidence_hash"] != hashes[same]]
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO finance_os.finance_exceptions
                (business_id, source_system, object_type, code, severity, subject, partition_day, detail, evidence_hash)
            VALUES (%(business_id)s, %(system)s, %(found_by)s, %(code)s, %(severity)s, %(subject)s, %(day)s, %(detail)s,
                    %(evidence_hash)s)
            ON CONFLICT DO NOTHING
            """,
            [
                {
                    **key,
                    "code": found[same].code,
                    "severity": Severity(found[same].severity).value,
                    "subject": found[same].subject,
                    "day": found[same].day,
                    "detail": found[same].detail,
                    "evidence_hash": hashes[same],
                }
                for same in opened
            ],
        )
    if gone or opened:
        details = {
            "source_system": SYSTEM,
            "object_type": found_by,
            "opened": len(opened),
            "resolved": len(gone),
            "evidence_hash": evidence_hash(sorted(hashes.values())),
        }
        audit.append(connection, business_id, "finance_exceptions.settled", found_by, details)
    return len(opened), len(gone)
