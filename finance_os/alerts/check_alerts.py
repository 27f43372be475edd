"""Alerts of checks: blocked verdicts and evidence that went stale; resolved once the verdict is ready again."""

from collections.abc import Iterable, Mapping
from typing import Any

from finance_os.alerts import feeds
from finance_os.alerts.feeds import Feed
from finance_os.alerts.ledger import AlertKind, Entry, Identity, Ledger
from finance_os.evidence.database import DatabaseConnection
from finance_os.evidence.extraction import Severity

FRESHNESS = "freshness"

_CHECKS = Feed(
    feeds.CHECKS,
    after="""
    SELECT check_result_id AS id, * FROM finance_os.check_results
    WHERE check_result_id > %(position)s ORDER BY check_result_id LIMIT %(limit)s
    """,
    between="""
    SELECT check_result_id AS id, result.* FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS span (first, last)
    JOIN finance_os.check_results AS result ON check_result_id BETWEEN span.first AND span.last
    ORDER BY check_result_id
    """,
)


def read_verdicts(connection: DatabaseConnection, ledger: Ledger, batch: int) -> bool:
    """Take the next verdicts, at most `batch` new ones; whether there may be more."""
    rows, more = _CHECKS.read(connection, batch)
    open_of: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in (*ledger.open(AlertKind.CHECK), *ledger.open(AlertKind.FRESHNESS)):
        of = entry.identity
        open_of.setdefault((of.business_id, of.source_system, of.object_type, of.check), []).append(entry)
    touched: set[tuple[Any, ...]] = set()
    for row in rows:
        subject = (row["business_id"], row["source_system"], row["object_type"], row["check_name"])
        if _fails(row):
            identity = _of_check(row)
            ledger.fail(
                identity,
                _member(row["partition_day"]),
                row["recorded_at"],
                row["evidence_hash"],
                {"remedy": row["details"].get("remedy")},
            )
            entry = ledger.entries[identity.business_id, identity.key]
            entries = open_of.setdefault(subject, [])
            if not any(entry is each for each in entries):
                entries.append(entry)
        if subject in open_of:
            touched.add((*subject, row["partition_day"]))
    for *of, day, now in _latest(connection, touched):
        for entry in open_of[tuple(of)]:
            if now["status"] == "ready" or (_fails(now) and _of_check(now).key != entry.identity.key):
                ledger.recover(entry, _member(day), now["recorded_at"])
    return more


def _fails(row: Mapping[str, Any]) -> bool:
    return row["status"] == "blocked" or (row["check_name"] == FRESHNESS and row["status"] == "stale")


def _of_check(row: Mapping[str, Any]) -> Identity:
    subject = f"{row['source_system']}/{row['object_type']}"
    of = row["source_system"], row["object_type"], row["check_name"]
    if row["check_name"] == FRESHNESS:
        key = f"freshness:{subject}"
        return Identity(
            row["business_id"], key, AlertKind.FRESHNESS, Severity.MEDIUM, subject, row["blocker"] or "", *of
        )
    key = f"check:{subject}:{row['check_name']}:{row['blocker']}"
    title = f"{row['check_name']} of {subject}"
    return Identity(row["business_id"], key, AlertKind.CHECK, Severity.HIGH, title, row["blocker"] or "", *of)


def _member(day: Any) -> str:
    return "now" if day is None else day.isoformat()


def _latest(
    connection: DatabaseConnection, touched: Iterable[tuple[Any, ...]]
) -> list[tuple[str, str, str, str, Any, dict[str, Any]]]:
    """The latest verdict of each business, source system, object type, check and day."""
    wanted = sorted(touched, key=lambda each: (*each[:4], _member(each[4])))
    found: list[tuple[str, str, str, str, Any, dict[str, Any]]] = []
    for by_day in (True, False):
        asked = [each for each in wanted if (each[4] is not None) is by_day]
        rows = connection.execute(
            """
            SELECT asked.place, result.*
            FROM unnest(%(businesses)s::text[], %(systems)s::text[], %(objects)s::text[], %(checks)s::text[],
                        %(days)s::date[])
                 WITH ORDINALITY AS asked (business_id, source_system, object_type, check_name, day, place)
            CROSS JOIN LATERAL (
                SELECT * FROM finance_os.check_results AS result
                WHERE result.business_id = asked.business_id AND result.source_system = asked.source_system
                  AND result.object_type = asked.object_type AND result.check_name = asked.check_name
                  AND result.partition_day = asked.day
                ORDER BY check_result_id DESC LIMIT 1
            ) AS result
            """
            if by_day
            else """
            SELECT asked.place, result.*
            FROM unnest(%(businesses)s::text[], %(systems)s::text[], %(objects)s::text[], %(checks)s::text[],
                        %(days)s::date[])
                 WITH ORDINALITY AS asked (business_id, source_system, object_type, check_name, day, place)
            CROSS JOIN LATERAL (
                SELECT * FROM finance_os.check_results AS result
                WHERE result.business_id = asked.business_id AND result.source_system = asked.source_system
                  AND result.object_type = asked.object_type AND result.check_name = asked.check_name
                  AND result.partition_day IS NULL
                ORDER BY check_result_id DESC LIMIT 1
            ) AS result
            """,
            {
                name: [each[place] for each in asked]
                for place, name in enumerate(("businesses", "systems", "objects", "checks", "days"))
            },
        ).fetchall()
        found += [(*asked[row.pop("place") - 1], row) for row in rows]
    return found
