"""Where a figure comes from: each raw record behind a publisher's row of a month, and the sync run that brought it."""

from dataclasses import dataclass
from typing import Any

from finance_os.backtest.compare import COLUMNS, Row
from finance_os.backtest.evidence import (
    BASELINE,
    BASELINE_HEADS,
    MONTH_HEADS,
    PUBLISHER_HEADS,
    PUBLISHERS,
    SPEND,
    month_keys,
)
from finance_os.backtest.result import Result
from finance_os.evidence.database import Database
from finance_os.evidence.snapshot import snapshot


@dataclass(frozen=True)
class Traced:
    """A raw record behind a figure. `sync_run_id` is the run that made it current; `amounts` are microdollars."""

    source_system: str
    object_type: str
    source_id: str
    record_id: int
    payload_hash: str
    sync_run_id: int
    amounts: dict[str, int | None]


def trace(database: Database, result: Result, row: Row) -> list[Traced]:
    """The current records behind `row` of `result`: spend by day, then baseline rows, then the canonical publisher.

    They are the records of the result if the result is still what the evidence gives (`sign_off.standing` says so).
    """
    given: dict[str, Any] = {
        **month_keys(result.business_id, result.days),
        "month": str(result.month),
        "publisher": row.publisher,
    }
    wanted = {each.source_id for each in row.baseline}
    with snapshot(database) as seen, seen.connection() as connection:
        spend = connection.execute(
            MONTH_HEADS  # noqa: S608  made of literals
            + """
            SELECT head.source_id, head.record_id, head.payload_hash, head.sync_run_id,
                   record.payload ->> 'spend_microdollars' AS spend
            FROM month_head AS head
            CROSS JOIN LATERAL (
                SELECT payload FROM finance_os.raw_source_records WHERE record_id = head.record_id LIMIT 1
            ) AS record
            WHERE head.id = %(publisher)s ORDER BY head.source_id
            """,
            given,
        ).fetchall()
        baseline = connection.execute(BASELINE_HEADS, given).fetchall()
        entity = connection.execute(PUBLISHER_HEADS, {**given, "source_id": row.publisher}).fetchall()
    found = [_traced(SPEND, each, {"spend": int(each["spend"])}) for each in spend]
    for each in baseline:
        if each["source_id"] in wanted:
            amounts = {column: each["payload"][f"baseline_{column}_microdollars"] for column in COLUMNS}
            found.append(_traced(BASELINE, each, amounts))
    found += [_traced(PUBLISHERS, each, {}) for each in entity]
    return found


def _traced(key: tuple[str, str], row: dict[str, Any], amounts: dict[str, int | None]) -> Traced:
    return Traced(*key, row["source_id"], row["record_id"], row["payload_hash"].hex(), row["sync_run_id"], amounts)
