"""The evidence of a month: spend, baseline and publishers as their heads are, proven before anything is made of them.

Spend is summed twice, in one snapshot. Once over the current heads; they bear their day at the end of the source ID
(`<publisher>:<day>`), so for each publisher the month is one range of the primary key, and publishers are found by
skipping from one to the next. Once over what the last complete sync run of each day saw. For every publisher the two
must be the same versions and the same amount: a head that was moved by something else than a read, and a read that was
left half way, are refused with the publishers that it is about.
"""

from dataclasses import dataclass
from typing import Any, LiteralString

from finance_os.backtest.compare import COLUMNS, BaselineRow, Spend
from finance_os.backtest.month import Month
from finance_os.backtest.publishers import Publisher
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.partitions import RUNS_OF_DAYS
from finance_os.evidence.snapshot import snapshot
from finance_os.evidence.windows import Days

SPEND = ("redshift", "publisher_spend_daily")
BASELINE = ("xlsx", "publisher_month_baseline")
PUBLISHERS = ("gravity", "gravity_canonical_entities")

CURRENCY = "usd"

_NAMED = 5

# The heads of one month. `id || ';'` is the first text behind everything that begins with `id || ':'`. Here and below,
# OFFSET 0 and LIMIT 1 keep the planner, who cannot know how few rows there are, from reading a whole table instead.
MONTH_HEADS = """
    WITH RECURSIVE publisher (id) AS (
        (SELECT split_part(source_id, ':', 1) FROM finance_os.raw_record_heads
         WHERE business_id = %(business_id)s AND source_system = 'redshift'
           AND object_type = 'publisher_spend_daily'
         ORDER BY source_id LIMIT 1)
        UNION ALL
        SELECT (SELECT split_part(head.source_id, ':', 1) FROM finance_os.raw_record_heads AS head
                WHERE head.business_id = %(business_id)s AND head.source_system = 'redshift'
                  AND head.object_type = 'publisher_spend_daily'
                  AND head.source_id > (publisher.id || ';') COLLATE "C"
                ORDER BY head.source_id LIMIT 1)
        FROM publisher WHERE publisher.id IS NOT NULL
    ), month_head AS (
        SELECT publisher.id, head.source_id, head.record_id, head.payload_hash, head.sync_run_id
        FROM publisher
        CROSS JOIN LATERAL (
            SELECT * FROM finance_os.raw_record_heads
            WHERE business_id = %(business_id)s AND source_system = 'redshift'
              AND object_type = 'publisher_spend_daily' AND NOT removed
              AND source_id >= (publisher.id || ':' || %(first_day)s) COLLATE "C"
              AND source_id <= (publisher.id || ':' || %(last_day)s) COLLATE "C"
            OFFSET 0
        ) AS head
        WHERE publisher.id IS NOT NULL
    )
"""

_DIGEST = """
    encode(sha256(string_agg(convert_to({each}.source_id, 'UTF8') || '\\x00' || {each}.payload_hash, ''::bytea
                             ORDER BY {each}.source_id COLLATE "C")), 'hex')
"""

OF_HEADS = (
    MONTH_HEADS  # noqa: S608  made of literals
    + """
    SELECT head.id AS publisher_id, count(*) AS records,
           coalesce(sum((record.payload ->> 'spend_microdollars')::numeric), 0) AS spend,
           coalesce(sum((record.payload ->> 'impressions')::numeric), 0) AS impressions,
           count(*) FILTER (WHERE (
               record.business_id = %(business_id)s AND record.source_system = 'redshift'
               AND record.object_type = 'publisher_spend_daily' AND record.source_id = head.source_id
               AND record.payload_hash = head.payload_hash
               AND head.source_id = (record.payload ->> 'publisher_id') || ':' || (record.payload ->> 'spend_date')
               AND record.payload ->> 'currency' = %(currency)s
               AND (record.payload ->> 'spend_microdollars')::numeric %% 1 = 0
           ) IS NOT TRUE) AS unsound,
    """
    + _DIGEST.replace("{each}", "head")
    + """ AS evidence
    FROM month_head AS head
    LEFT JOIN LATERAL (
        SELECT * FROM finance_os.raw_source_records WHERE record_id = head.record_id LIMIT 1
    ) AS record ON true
    GROUP BY head.id ORDER BY head.id
    """
)

OF_RUNS = (
    "WITH run AS MATERIALIZED ("  # noqa: S608  made of literals
    + RUNS_OF_DAYS
    + """), seen AS (
        SELECT DISTINCT ON (record.source_id) record.source_id, record.payload_hash, record.payload
        FROM run
        CROSS JOIN LATERAL (
            SELECT record_ids FROM finance_os.source_sync_sightings
            WHERE sync_run_id = run.sync_run_id AND partition_day = run.partition_day OFFSET 0
        ) AS sighting
        CROSS JOIN LATERAL unnest(sighting.record_ids) AS shown (record_id)
        CROSS JOIN LATERAL (
            SELECT * FROM finance_os.raw_source_records WHERE record_id = shown.record_id LIMIT 1
        ) AS record
        ORDER BY record.source_id, run.sync_run_id DESC
    )
    SELECT seen.payload ->> 'publisher_id' AS publisher_id, count(*) AS records,
           coalesce(sum((seen.payload ->> 'spend_microdollars')::numeric), 0) AS spend,
    """
    + _DIGEST.replace("{each}", "seen")
    + " AS evidence FROM seen GROUP BY 1"
)


class Refused(Exception):
    """A month that is not computed. `code` is for programs; the text says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class MonthEvidence:
    """What there is to compare in a month: spend by publisher, baseline rows, and all canonical publishers."""

    business_id: str
    month: Month
    days: Days
    spends: tuple[Spend, ...]
    baseline: tuple[BaselineRow, ...]
    publishers: tuple[Publisher, ...]

    @property
    def total(self) -> int:
        """The month's event-level spend in microdollars, as the evidence was summed up."""
        return sum(each.microdollars for each in self.spends)


def read_month(database: Database, business_id: str, month: Month, days: Days) -> MonthEvidence:
    """The evidence of a month's `days`, proven. Raises `Refused` where it does not hold together."""
    with snapshot(database) as seen, seen.connection() as connection:
        return MonthEvidence(
            business_id,
            month,
            days,
            _spends(connection, business_id, days),
            _baseline(connection, business_id, month),
            _publishers(connection, business_id),
        )


def month_keys(business_id: str, days: Days) -> dict[str, Any]:
    """What `MONTH_HEADS` is asked with."""
    return {"business_id": business_id, "first_day": days.first.isoformat(), "last_day": days.last.isoformat()}


def _spends(connection: DatabaseConnection, business_id: str, days: Days) -> tuple[Spend, ...]:
    given = {**month_keys(business_id, days), "first": days.first, "last": days.last, "currency": CURRENCY}
    heads = connection.execute(OF_HEADS, given).fetchall()
    if unsound := [row["publisher_id"] for row in heads if row["unsound"]]:
        raise Refused(
            "unsound_heads",
            f"{days}: current records of {_some(unsound)} are not what they say (another day, publisher or currency, "
            "or another version): replay their sync runs (`finance-os runs show`), and read the days again",
        )
    system, object_type = SPEND
    runs = connection.execute(
        OF_RUNS,  # pyright: ignore[reportArgumentType]  made of literals only
        {**given, "source_system": system, "object_type": object_type},
    ).fetchall()
    current = {row["publisher_id"]: (row["records"], row["spend"], row["evidence"]) for row in heads}
    seen = {row["publisher_id"]: (row["records"], row["spend"], row["evidence"]) for row in runs}
    if differing := sorted(key for key in current.keys() | seen.keys() if current.get(key) != seen.get(key)):
        summed, read = sum(int(row["spend"]) for row in heads), sum(int(row["spend"]) for row in runs)
        raise Refused(
            "spend_does_not_tie_out",
            f"{days}: the current records add up to {summed} microdollars, what the last complete reads saw to {read}; "
            f"{_some(differing)} differ: materialize redshift/publisher_spend_daily for these days again",
        )
    return tuple(
        Spend(row["publisher_id"], int(row["spend"]), int(row["impressions"]), row["records"], row["evidence"])
        for row in heads
    )


BASELINE_HEADS: LiteralString = """
    SELECT head.source_id, head.record_id, head.payload_hash, head.sync_run_id, record.payload,
           (record.business_id = head.business_id AND record.source_system = head.source_system
            AND record.object_type = head.object_type AND record.source_id = head.source_id
            AND record.payload_hash = head.payload_hash AND record.payload ->> 'period' = %(month)s) IS TRUE AS sound
    FROM finance_os.raw_record_heads AS head
    LEFT JOIN LATERAL (
        SELECT * FROM finance_os.raw_source_records WHERE record_id = head.record_id LIMIT 1
    ) AS record ON true
    WHERE head.business_id = %(business_id)s AND head.source_system = 'xlsx'
      AND head.object_type = 'publisher_month_baseline' AND NOT head.removed
      AND head.source_id >= (%(month)s || ':') COLLATE "C" AND head.source_id < (%(month)s || ';') COLLATE "C"
    ORDER BY head.source_id
"""


def _baseline(connection: DatabaseConnection, business_id: str, month: Month) -> tuple[BaselineRow, ...]:
    rows = connection.execute(BASELINE_HEADS, {"business_id": business_id, "month": str(month)}).fetchall()
    if unsound := [row["source_id"] for row in rows if not row["sound"]]:
        raise Refused(
            "unsound_heads",
            f"{month}: the current baseline rows {_some(unsound)} are not the versions that they say they are: replay "
            "their sync runs (`finance-os runs show`), and drop the workbook again",
        )
    return tuple(
        BaselineRow(
            row["source_id"],
            row["payload"]["publisher_key"],
            row["payload"]["publisher_id"],
            row["payload"]["publisher"],
            {column: row["payload"][f"baseline_{column}_microdollars"] for column in COLUMNS},
            row["payload_hash"].hex(),
        )
        for row in rows
    )


PUBLISHER_HEADS: LiteralString = """
    SELECT head.source_id, head.record_id, head.payload_hash, head.sync_run_id, record.payload
    FROM finance_os.raw_record_heads AS head
    CROSS JOIN LATERAL (
        SELECT payload FROM finance_os.raw_source_records WHERE record_id = head.record_id LIMIT 1
    ) AS record
    WHERE head.business_id = %(business_id)s AND head.source_system = 'gravity'
      AND head.object_type = 'gravity_canonical_entities' AND NOT head.removed
      AND (%(source_id)s::text IS NULL OR head.source_id = %(source_id)s)
    ORDER BY head.source_id
"""


def _publishers(connection: DatabaseConnection, business_id: str) -> tuple[Publisher, ...]:
    rows = connection.execute(PUBLISHER_HEADS, {"business_id": business_id, "source_id": None}).fetchall()
    return tuple(_publisher(row["payload"]) for row in rows)


def _publisher(payload: dict[str, Any]) -> Publisher:
    return Publisher(
        payload["publisher_id"], payload.get("name"), payload.get("legal_name"), payload.get("revenue_share_bps")
    )


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:_NAMED]) + (f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else "")
