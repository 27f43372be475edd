"""The source sync plan: which connectors can be read, what is staged of them, and what readiness makes of it.

The texts are the sources' own declarations; every figure is counted, in one look at the finance database. Nothing is
asked of a vendor.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import APPLICATION_ROLE, Database, SchemaNotCurrent, schema_state
from finance_os.evidence.exceptions import FinanceException
from finance_os.evidence.extraction import Severity
from finance_os.evidence.snapshot import snapshot
from finance_os.readiness.assessment import Assessment, assess
from finance_os.readiness.checkpoints import VALID_FOR
from finance_os.readiness.lines import Line, LineDeclaration
from finance_os.sources import probe
from finance_os.sources.connectors import ConnectorStatus, Readiness, planned_connectors, readiness_of
from finance_os.sources.source import IDEMPOTENCY_KEY, Cadence, Source

LISTED = 50
"""How many open alerts a plan lists; it counts them all."""

REACHABLE = LineDeclaration(
    "raw_record_staging_reachable",
    "Finance Supabase raw-record staging tables are reachable.",
    "raw_record_staging_unreachable",
)
AT_HEAD = LineDeclaration(REACHABLE.key, REACHABLE.title, "raw_record_staging_schema_not_at_head")
WRITABLE = LineDeclaration(REACHABLE.key, REACHABLE.title, "raw_record_staging_not_writable")

WRITTEN = ("source_sync_runs", "raw_source_records", "raw_record_heads", "finance_audit_events")
"""The tables that staging writes to."""


class UnknownBusiness(LookupError):
    """There is no business of that ID."""


@dataclass(frozen=True)
class Connector:
    """A planned connector of a business."""

    order: int
    source_system: str
    title: str
    status: ConnectorStatus
    sentence: str
    blocker: str | None
    remedy: str | None
    credentials: tuple[str, ...]
    objects: tuple[str, ...]
    object_types: tuple[str, ...]
    cursor_strategy: str
    evidence_policy: str
    idempotency_key: str
    read_scope: str
    write_boundary: str
    cadence: str
    sla_days: int


@dataclass(frozen=True)
class Staged:
    """What is staged of one object type: versions kept, current records, and how its latest sync run ended."""

    source_system: str
    object_type: str
    raw_rows: int
    current: int
    last_status: str | None
    last_completed: datetime | None


@dataclass(frozen=True)
class RecentRecord:
    """A version that was seen lately. `payload_hash` is its first 12 hex digits."""

    source_system: str
    object_type: str
    source_id: str
    payload_hash: str
    last_seen: datetime


@dataclass(frozen=True)
class RecentRun:
    """A sync run, in short."""

    sync_run_id: int
    source_system: str
    object_type: str
    kind: str
    trigger: str
    status: str
    error_code: str | None
    rows_extracted: int
    completed_at: datetime | None
    dagster_run_id: str | None


@dataclass(frozen=True)
class OpenAlert:
    """Something that fails, and has not recovered."""

    alert_id: int
    kind: str
    severity: Severity
    subject: str
    code: str
    message: str
    evidence_hash: str
    count: int
    first_seen: datetime
    last_seen: datetime
    source_system: str | None
    object_type: str | None


@dataclass(frozen=True)
class Plan:
    """The page of one business, as of one moment.

    `time_zone` is the business's. `staging` says whether evidence can be written. `alerts` are the gravest and latest
    of the `alert_count` that are open. `sources` are the declarations behind it, without the excluded ones.
    """

    business_id: str
    business_name: str
    time_zone: str
    as_of: datetime
    staging: Line
    connectors: tuple[Connector, ...]
    staged: tuple[Staged, ...]
    recent_records: tuple[RecentRecord, ...]
    recent_runs: tuple[RecentRun, ...]
    assessment: Assessment
    alerts: tuple[OpenAlert, ...]
    alert_count: int
    sources: tuple[Source, ...]

    @property
    def exceptions(self) -> tuple[FinanceException, ...]:
        """The open finance exceptions, the gravest first."""
        return self.assessment.exceptions

    @property
    def ready(self) -> int:
        """How many connectors are ready to plan."""
        return sum(connector.status is ConnectorStatus.READY for connector in self.connectors)

    @property
    def headline(self) -> str:
        """`6 of 7 planned connectors have runtime credentials present.`"""
        return f"{self.ready} of {len(self.connectors)} planned connectors have runtime credentials present."


def source_sync_plan(
    database: Database,
    sources: Sequence[Source],
    business_id: str,
    *,
    excluded: frozenset[str] = frozenset(),
    recent: int = 10,
    environment: Mapping[str, str] = os.environ,
    valid_for: timedelta = VALID_FOR,
) -> Plan:
    """The plan of a business, without the `excluded` source systems.

    `environment` is where credentials are looked for that a secret reference leaves to the environment; `valid_for` is
    how long a recorded checkpoint counts. Raises `SchemaNotCurrent` and `UnknownBusiness`.
    """
    planned = tuple(source for source in sources if source.system not in excluded)
    with snapshot(database) as seen:
        staging = staging_line(seen)
        if staging.blocker == AT_HEAD.blocker:
            raise SchemaNotCurrent(staging.remedy)
        business = seen.fetch(
            "SELECT name, time_zone, now() AS as_of FROM finance_os.businesses WHERE business_id = %s", (business_id,)
        )
        if not business:
            raise UnknownBusiness(f"there is no business {business_id!r}")
        connections = _connections(seen, business_id)
        alerts, alert_count = _open_alerts(seen, business_id)
        return Plan(
            business_id,
            business[0]["name"],
            business[0]["time_zone"],
            business[0]["as_of"],
            staging,
            tuple(
                _connector(each, connections.get(each.system, ()), environment) for each in planned_connectors(planned)
            ),
            tuple(_staged(seen, planned, business_id)),
            tuple(_recent_records(seen, planned, business_id, recent)),
            tuple(_recent_runs(seen, business_id, recent)),
            assess(seen, planned, business_id, valid_for=valid_for),
            alerts,
            alert_count,
            planned,
        )


def staging_line(database: Database) -> Line:
    """Whether evidence can be staged: the schema is at its head, and the application's role can write its tables."""
    applied, missing = schema_state(database)
    head = applied[-1] if applied else None
    details: dict[str, Any] = {"head": head, "missing": missing}
    if missing:
        remedy = f"The database lacks {len(missing)} migration(s), first {missing[0]}: run `finance-os db migrate`."
        return AT_HEAD.judge(False, details, remedy, details)
    (state,) = database.fetch(
        """
        SELECT pg_is_in_recovery() AS replica,
               current_setting('default_transaction_read_only') = 'on' AS read_only,
               coalesce(array_agg(name ORDER BY name)
                   FILTER (WHERE NOT has_table_privilege(%s, 'finance_os.' || name, 'INSERT')), '{}') AS refused
        FROM unnest(%s::text[]) AS name
        """,
        (APPLICATION_ROLE, list(WRITTEN)),
    )
    details |= state
    reasons = [f"{APPLICATION_ROLE} may not write {', '.join(state['refused'])}"] if state["refused"] else []
    reasons += ["the server is a replica"] if state["replica"] else []
    reasons += ["the database is set to read-only transactions"] if state["read_only"] else []
    remedy = f"{'; '.join(reasons)}: let its administrator mend that, or point FINANCE_OS_DATABASE_URL elsewhere."
    return WRITABLE.judge(not reasons, details, remedy, details)


def unreachable(reason: str) -> Line:
    """The line where the database did not answer; `reason` holds no address and no password."""
    return REACHABLE.judge(
        False, None, f"Look at FINANCE_OS_DATABASE_URL, and whether the server answers there ({reason})."
    )


def _connections(database: Database, business_id: str) -> dict[str, list[Connection]]:
    rows = database.fetch(
        """
        SELECT connection_id, business_id, source_system, external_account, secret_reference, time_zone
        FROM finance_os.connections WHERE business_id = %s AND active ORDER BY connection_id
        """,
        (business_id,),
    )
    found: dict[str, list[Connection]] = {}
    for row in rows:
        found.setdefault(row["source_system"], []).append(Connection(**row))
    return found


def _connector(source: Source, connections: Iterable[Connection], environment: Mapping[str, str]) -> Connector:
    found = [readiness_of(source, connection, environment) for connection in connections] or [
        Readiness(
            ConnectorStatus.BLOCKED, "connection_missing", "Record a connection of this business, or activate it."
        )
    ]
    worst = next((each for each in found if each.status is ConnectorStatus.BLOCKED), found[0])
    present = worst.status is ConnectorStatus.READY
    sentence = (
        f"{source.title} credential presence is configured at runtime."
        if present
        else f"{source.title} credential is missing in this runtime; keep connector blocked."
        if worst.blocker == "credentials_missing"
        else f"{source.title} cannot be read ({worst.blocker}); keep connector blocked."
    )
    return Connector(
        order=source.order or 0,
        source_system=source.system,
        title=source.title,
        status=worst.status,
        sentence=sentence,
        blocker=worst.blocker,
        remedy=worst.remedy,
        credentials=source.credentials,
        objects=tuple(obj.label for obj in source if obj.label),
        object_types=tuple(obj.object_type for obj in source),
        cursor_strategy=source.cursor_strategy,
        evidence_policy=source.evidence_policy,
        idempotency_key=IDEMPOTENCY_KEY,
        read_scope=source.read_scope,
        write_boundary=source.write_boundary,
        cadence="scheduled" if source.cadence is Cadence.DAILY else "manual",
        sla_days=source.sla.days,
    )


def _staged(database: Database, sources: Iterable[Source], business_id: str) -> list[Staged]:
    """Figures of every declared object type, in the declarations' order; of one never read they are zero.

    Versions and current records are counted by whoever stages them.
    """
    keys = [(source.system, obj.object_type) for source in sources for obj in source]
    rows = database.fetch(
        """
        SELECT given.source_system, given.object_type, coalesce(counted.versions, 0) AS raw_rows,
               coalesce(counted.current, 0) AS current,
               last.status AS last_status, last.completed_at AS last_completed
        FROM unnest(%(systems)s::text[], %(objects)s::text[])
             WITH ORDINALITY AS given (source_system, object_type, place)
        LEFT JOIN finance_os.raw_record_counts AS counted
          ON counted.business_id = %(business_id)s AND counted.source_system = given.source_system
         AND counted.object_type = given.object_type
        LEFT JOIN LATERAL (
            SELECT status, completed_at FROM finance_os.source_sync_runs AS run
            WHERE run.business_id = %(business_id)s AND run.source_system = given.source_system
              AND run.object_type = given.object_type
            ORDER BY sync_run_id DESC LIMIT 1
        ) AS last ON true
        ORDER BY given.place
        """,
        {"business_id": business_id, "systems": [key[0] for key in keys], "objects": [key[1] for key in keys]},
    )
    return [Staged(**row) for row in rows]


def _recent_records(database: Database, sources: Iterable[Source], business_id: str, count: int) -> list[RecentRecord]:
    """The versions that were seen last, each once; those of ingestion probes too.

    Looks at the latest sightings of each object type, and opens only as many of all of them as hold `count` records.
    """
    keys = [(source.system, obj.object_type) for source in sources for obj in source]
    keys.append((probe.SYSTEM, probe.OBJECT_TYPE))
    rows = database.fetch(
        """
        WITH lately AS (
            SELECT sighting.*
            FROM unnest(%(systems)s::text[], %(objects)s::text[]) AS given (source_system, object_type)
            CROSS JOIN LATERAL (
                SELECT sync_run_id, chunk, ordinal, requested_at,
                       rows_new + rows_changed + rows_unchanged + rows_stale AS rows
                FROM finance_os.source_sync_sightings AS sighting
                WHERE sighting.business_id = %(business_id)s AND sighting.source_system = given.source_system
                  AND sighting.object_type = given.object_type
                ORDER BY requested_at DESC LIMIT %(count)s
            ) AS sighting
        ), enough AS (
            SELECT * FROM (
                SELECT *, sum(rows) OVER (ORDER BY requested_at DESC, sync_run_id DESC, chunk DESC, ordinal DESC)
                          - rows AS before
                FROM lately) AS placed
            WHERE before < %(looked_at)s
        ), seen AS (
            SELECT shown.record_id, max(enough.requested_at) AS last_seen
            FROM enough
            CROSS JOIN LATERAL (
                SELECT record_ids[1:%(count)s] AS record_ids FROM finance_os.source_sync_sightings AS sighting
                WHERE sighting.sync_run_id = enough.sync_run_id AND sighting.chunk = enough.chunk
                  AND sighting.ordinal = enough.ordinal LIMIT 1
            ) AS sighting
            CROSS JOIN LATERAL (SELECT unnest(sighting.record_ids) AS record_id) AS shown
            GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %(count)s
        )
        SELECT record.source_system, record.object_type, record.source_id,
               left(encode(record.payload_hash, 'hex'), 12) AS payload_hash, seen.last_seen
        FROM seen JOIN finance_os.raw_source_records AS record USING (record_id)
        ORDER BY seen.last_seen DESC, record.record_id
        """,
        {
            "business_id": business_id,
            "count": count,
            "looked_at": 3 * count,  # the same version may have been seen several times
            "systems": [key[0] for key in keys],
            "objects": [key[1] for key in keys],
        },
    )
    return [RecentRecord(**row) for row in rows]


def _recent_runs(database: Database, business_id: str, count: int) -> list[RecentRun]:
    rows = database.fetch(
        """
        SELECT sync_run_id, source_system, object_type, kind, trigger, status, error_code, rows_extracted,
               completed_at, dagster_run_id
        FROM finance_os.source_sync_runs
        WHERE business_id = %s ORDER BY started_at DESC, sync_run_id DESC LIMIT %s
        """,
        (business_id, count),
    )
    return [RecentRun(**row) for row in rows]


def _open_alerts(database: Database, business_id: str) -> tuple[tuple[OpenAlert, ...], int]:
    rows = database.fetch(
        """
        SELECT alert_id, kind, severity, subject, code, message, evidence_hash, count, first_seen, last_seen,
               source_system, object_type, count(*) OVER () AS in_all
        FROM finance_os.alerts
        WHERE business_id = %s AND resolved_at IS NULL
        ORDER BY array_position(%s::text[], severity), last_seen DESC, alert_id DESC LIMIT %s
        """,
        (business_id, [severity.value for severity in reversed(Severity)], LISTED),
    )
    in_all = rows[0].pop("in_all") if rows else 0
    for row in rows[1:]:
        row.pop("in_all")
    return tuple(OpenAlert(**{**row, "severity": Severity(row["severity"])}) for row in rows), in_all
