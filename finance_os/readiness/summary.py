"""What is staged, what is ready and what is not: the figures of the demo's end and of `finance-os status`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from finance_os.evidence.database import Database
from finance_os.readiness.verdicts import Status
from finance_os.sources.source import Source


@dataclass(frozen=True)
class ObjectSummary:
    """One object type of one business. `verdicts` maps a check to how many days (or how often now) it says what."""

    business_id: str
    source_system: str
    object_type: str
    current: int
    versions: int
    sync_runs: int
    first_day: date | None
    last_day: date | None
    last_completed: datetime | None
    verdicts: dict[str, dict[Status, int]]


def summarize(database: Database, sources: Iterable[Source], business_id: str | None = None) -> list[ObjectSummary]:
    """A summary of every object type of `sources`, for each business that is connected to it."""
    found = {
        (row["business_id"], row["source_system"], row["object_type"]): row
        for row in database.fetch(
            """
            WITH run AS (
                SELECT business_id, source_system, object_type, count(*) AS sync_runs,
                       min(first_day) FILTER (WHERE status = 'succeeded') AS first_day,
                       max(last_day) FILTER (WHERE status = 'succeeded') AS last_day,
                       max(completed_at) FILTER (WHERE status = 'succeeded') AS last_completed
                FROM finance_os.source_sync_runs GROUP BY 1, 2, 3
            )
            SELECT business_id, source_system, object_type, coalesce(current, 0) AS current,
                   coalesce(versions, 0) AS versions, sync_runs, first_day, last_day, last_completed
            FROM run
            LEFT JOIN finance_os.raw_record_counts USING (business_id, source_system, object_type)
            """
        )
    }
    verdicts: dict[tuple[str, str, str], dict[str, dict[Status, int]]] = {}
    for row in database.fetch(
        """
        SELECT business_id, source_system, object_type, check_name, status, count(*) AS days
        FROM (SELECT DISTINCT ON (business_id, source_system, object_type, check_name, partition_day) *
              FROM finance_os.check_results
              ORDER BY business_id, source_system, object_type, check_name, partition_day, check_result_id DESC
             ) AS latest
        GROUP BY 1, 2, 3, 4, 5
        """
    ):
        key = (row["business_id"], row["source_system"], row["object_type"])
        verdicts.setdefault(key, {}).setdefault(row["check_name"], {})[Status(row["status"])] = row["days"]
    connected = database.fetch(
        """
        SELECT DISTINCT business_id, source_system FROM finance_os.connections
        WHERE active AND (%(business_id)s::text IS NULL OR business_id = %(business_id)s) ORDER BY 1, 2
        """,
        {"business_id": business_id},
    )
    by_system = {source.system: source for source in sources}
    order = {system: place for place, system in enumerate(by_system)}
    summaries: list[ObjectSummary] = []
    for row in sorted(connected, key=lambda row: (row["business_id"], order.get(row["source_system"], 0))):
        for obj in by_system.get(row["source_system"], ()):
            key = (row["business_id"], row["source_system"], obj.object_type)
            figures = found.get(key, {})
            summaries.append(
                ObjectSummary(
                    *key,
                    current=figures.get("current", 0),
                    versions=figures.get("versions", 0),
                    sync_runs=figures.get("sync_runs", 0),
                    first_day=figures.get("first_day"),
                    last_day=figures.get("last_day"),
                    last_completed=figures.get("last_completed"),
                    verdicts=verdicts.get(key, {}),
                )
            )
    return summaries


@dataclass(frozen=True)
class OpenBlocker:
    """A reason why something is not ready, over the object types and days that have it. `remedy` is one of theirs."""

    business_id: str
    status: Status
    blocker: str
    object_types: int
    first_day: date | None
    last_day: date | None
    remedy: str


def open_blockers(database: Database, business_id: str | None = None) -> list[OpenBlocker]:
    """Why the latest verdicts are not ready, the worst first."""
    rows = database.fetch(
        """
        SELECT business_id, status, blocker, count(DISTINCT (source_system, object_type)) AS object_types,
               min(partition_day) AS first_day, max(partition_day) AS last_day, min(details ->> 'remedy') AS remedy
        FROM (SELECT DISTINCT ON (business_id, source_system, object_type, check_name, partition_day) *
              FROM finance_os.check_results
              WHERE %(business_id)s::text IS NULL OR business_id = %(business_id)s
              ORDER BY business_id, source_system, object_type, check_name, partition_day, check_result_id DESC
             ) AS latest
        WHERE status <> 'ready'
        GROUP BY business_id, status, blocker
        """,
        {"business_id": business_id},
    )
    found = [OpenBlocker(**{**row, "status": Status(row["status"])}) for row in rows]
    return sorted(found, key=lambda each: (-each.status.severity, each.business_id, each.blocker))
