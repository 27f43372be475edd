"""Freshness, judged without a run: evidence goes stale without anybody's doing."""

from collections.abc import Iterable
from datetime import UTC, datetime

from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.readiness import verdicts
from finance_os.readiness.source_checks import Subject, freshness


def judge_changed_freshness(database: Database, subjects: Iterable[Subject]) -> int:
    """Judge the freshness of every subject now, and record the verdicts that say other than the last ones; how many.

    A verdict that says the same again is not recorded: this is asked every few minutes.
    """
    today = datetime.now(UTC).date()
    found = [verdict for subject in subjects for verdict in freshness(database, subject, Days(today, today))]
    latest = {
        (row["business_id"], row["source_system"], row["object_type"]): row["status"]
        for row in database.fetch(
            """
            SELECT asked.business_id, asked.source_system, asked.object_type, result.status
            FROM unnest(%s::text[], %s::text[], %s::text[]) AS asked (business_id, source_system, object_type)
            CROSS JOIN LATERAL (
                SELECT status FROM finance_os.check_results AS result
                WHERE result.business_id = asked.business_id AND result.source_system = asked.source_system
                  AND result.object_type = asked.object_type AND result.check_name = 'freshness'
                  AND result.partition_day IS NULL
                ORDER BY check_result_id DESC LIMIT 1
            ) AS result
            """,
            (
                [verdict.business_id for verdict in found],
                [verdict.source_system for verdict in found],
                [verdict.object_type for verdict in found],
            ),
        )
    }
    changed = [
        verdict
        for verdict in found
        if latest.get((verdict.business_id, verdict.source_system, verdict.object_type)) != verdict.status
    ]
    if changed:
        verdicts.record(database, changed)
    return len(changed)
