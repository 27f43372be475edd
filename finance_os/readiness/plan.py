"""The source sync plan: which connectors can be read, what they must keep, and what is staged of them, from live facts.

The texts are the sources' own declarations; every figure is counted.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finance_os.evidence.businesses import active_connections
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import FinanceException, open_exceptions
from finance_os.evidence.sync_runs import latest_sync_runs
from finance_os.sources.connectors import ConnectorStatus, Readiness, planned_connectors, readiness_of
from finance_os.sources.source import IDEMPOTENCY_KEY, Cadence, Source


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
    """What is staged of one object type: versions kept, current records, and sync runs."""

    source_system: str
    object_type: str
    raw_rows: int
    current: int
    sync_runs: int
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


@dataclass(frozen=True)
class Plan:
    """The page of one business."""

    business_id: str
    connectors: tuple[Connector, ...]
    staged: tuple[Staged, ...]
    recent_records: tuple[RecentRecord, ...]
    recent_runs: tuple[RecentRun, ...]
    exceptions: tuple[FinanceException, ...]

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
) -> Plan:
    """The plan of a business: connectors without those `excluded`, and what is staged of all `sources`.

    `environment` is where credentials are looked for that a secret reference leaves to the environment.
    """
    return Plan(
        business_id,
        tuple(
            _connector(database, source, business_id, environment) for source in planned_connectors(sources, excluded)
        ),
        tuple(_staged(database, sources, business_id)),
        tuple(_recent_records(database, business_id, recent)),
        tuple(_recent_run(row) for row in latest_sync_runs(database, business_id, recent)),
        tuple(open_exceptions(database, business_id)),
    )


def _connector(database: Database, source: Source, business_id: str, environment: Mapping[str, str]) -> Connector:
    connections = [each for each in active_connections(database, source.system) if each.business_id == business_id]
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
    """Figures of every declared object type, in the declarations' order; of one never read they are zero."""
    rows = database.fetch(
        """
        WITH version AS (
            SELECT source_system, object_type, count(*) AS raw_rows
            FROM finance_os.raw_source_records WHERE business_id = %(business_id)s GROUP BY 1, 2
        ), head AS (
            SELECT source_system, object_type, count(*) FILTER (WHERE NOT removed) AS current
            FROM finance_os.raw_record_heads WHERE business_id = %(business_id)s GROUP BY 1, 2
        ), run AS (
            SELECT source_system, object_type, count(*) AS sync_runs, max(sync_run_id) AS latest
            FROM finance_os.source_sync_runs WHERE business_id = %(business_id)s GROUP BY 1, 2
        )
        SELECT run.source_system, run.object_type, coalesce(raw_rows, 0) AS raw_rows, coalesce(current, 0) AS current,
               sync_runs, last.status AS last_status, last.completed_at AS last_completed
        FROM run
        LEFT JOIN version USING (source_system, object_type)
        LEFT JOIN head USING (source_system, object_type)
        JOIN finance_os.source_sync_runs AS last ON last.sync_run_id = run.latest
        """,
        {"business_id": business_id},
    )
    found = {(row["source_system"], row["object_type"]): Staged(**row) for row in rows}
    return [
        found.get((source.system, obj.object_type), Staged(source.system, obj.object_type, 0, 0, 0, None, None))
        for source in sources
        for obj in source
    ]


def _recent_records(database: Database, business_id: str, count: int) -> list[RecentRecord]:
    """The versions that were seen last, each once."""
    rows = database.fetch(
        """
        WITH lately AS (
            SELECT sighting.record_ids, sighting.requested_at
            FROM finance_os.source_sync_runs AS run
            JOIN finance_os.source_sync_sightings AS sighting USING (sync_run_id)
            WHERE run.business_id = %(business_id)s AND run.sync_run_id IN (
                SELECT sync_run_id FROM finance_os.source_sync_runs
                WHERE business_id = %(business_id)s AND rows_extracted > 0
                ORDER BY started_at DESC LIMIT %(count)s)
        ), seen AS (
            SELECT shown.record_id, max(lately.requested_at) AS last_seen
            FROM lately
            CROSS JOIN LATERAL (SELECT unnest(lately.record_ids[1:%(count)s]) AS record_id) AS shown
            GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %(count)s
        )
        SELECT record.source_system, record.object_type, record.source_id,
               left(encode(record.payload_hash, 'hex'), 12) AS payload_hash, seen.last_seen
        FROM seen JOIN finance_os.raw_source_records AS record USING (record_id)
        ORDER BY seen.last_seen DESC, record.record_id
        """,
        {"business_id": business_id, "count": count},
    )
    return [RecentRecord(**row) for row in rows]


def _recent_run(row: dict[str, Any]) -> RecentRun:
    return RecentRun(**{name: row[name] for name in RecentRun.__dataclass_fields__})
