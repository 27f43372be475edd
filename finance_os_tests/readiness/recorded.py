"""The verdicts that are recorded, as rows."""

from typing import Any

from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days


def latest_verdicts(
    database: Database, source_system: str, object_type: str, check: str, days: Days | None = None
) -> list[dict[str, Any]]:
    """The last recorded verdict of a check for each business (and each day in `days`): rows of `check_results`."""
    return database.fetch(
        """
        SELECT DISTINCT ON (business_id, partition_day) *
        FROM finance_os.check_results
        WHERE source_system = %(source_system)s AND object_type = %(object_type)s AND check_name = %(check)s
          AND CASE WHEN %(first)s::date IS NULL THEN partition_day IS NULL
                   ELSE partition_day BETWEEN %(first)s AND %(last)s END
        ORDER BY business_id, partition_day, check_result_id DESC
        """,
        {
            "source_system": source_system,
            "object_type": object_type,
            "check": check,
            "first": days.first if days else None,
            "last": days.last if days else None,
        },
    )
