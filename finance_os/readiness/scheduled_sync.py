"""The latest scheduled sync: what became of each connector that is read daily, also of one that never started."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from finance_os.evidence.database import Database
from finance_os.sources.connectors import planned_connectors
from finance_os.sources.source import Cadence, Source

OVERDUE_AFTER = timedelta(hours=36)
"""A daily sync that was requested longer ago than this was not followed by another one."""


class Outcome(StrEnum):
    """What became of a connector in a scheduled sync; `missing` also if some object type of it was never begun."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    RUNNING = "running"
    MISSING = "missing"


@dataclass(frozen=True)
class ConnectorOutcome:
    """A connector's part in a scheduled sync. `codes` are the error codes of its failed and skipped runs."""

    source_system: str
    title: str
    outcome: Outcome
    codes: tuple[str, ...]


@dataclass(frozen=True)
class ScheduledSync:
    """The latest scheduled sync of a business: its own facts are empty if none was ever requested.

    `manual` are connectors that people feed by hand and that took part all the same; `overdue` says that no other one
    was requested since, though it was due.
    """

    scheduled_sync_id: str | None
    requested_for: date | None
    requested_at: datetime | None
    connectors: tuple[ConnectorOutcome, ...]
    manual: tuple[str, ...]
    overdue: bool = False

    def count(self, outcome: Outcome) -> int:
        """How many connectors ended so."""
        return sum(connector.outcome is outcome for connector in self.connectors)

    @property
    def status(self) -> str:
        """not requested, running, failed, incomplete, overdue or succeeded."""
        if self.scheduled_sync_id is None:
            return "not requested"
        if self.count(Outcome.FAILED):
            return "failed"
        if self.count(Outcome.RUNNING):
            return "running"
        if self.count(Outcome.SUCCEEDED) < len(self.connectors):
            return "incomplete"
        return "overdue" if self.overdue else "succeeded"

    @property
    def evidence(self) -> list[Any]:
        """What a check of it looks at; empty if there is none."""
        if self.scheduled_sync_id is None:
            return []
        connectors = [[each.source_system, each.outcome.value, list(each.codes)] for each in self.connectors]
        return [self.scheduled_sync_id, sorted(connectors), sorted(self.manual), self.overdue]

    def named(self, *outcomes: Outcome) -> str:
        """The connectors that ended in one of `outcomes`, with their error codes."""
        return ", ".join(
            f"{each.title} ({', '.join((each.outcome.value, *each.codes))})"
            for each in self.connectors
            if each.outcome in outcomes
        )


def scheduled_connectors(sources: Iterable[Source], excluded: frozenset[str] = frozenset()) -> list[Source]:
    """The planned connectors that the daily schedule reads."""
    return [source for source in planned_connectors(sources, excluded) if source.cadence is Cadence.DAILY]


def latest_scheduled_sync(
    database: Database, sources: Sequence[Source], business_id: str, excluded: frozenset[str] = frozenset()
) -> ScheduledSync:
    """The scheduled sync that was requested last, as it stands now."""
    scheduled = scheduled_connectors(sources, excluded)
    found = database.fetch(
        """
        SELECT scheduled_sync_id, requested_for, requested_at, clock_timestamp() - requested_at AS age
        FROM finance_os.scheduled_syncs
        WHERE business_id = %s ORDER BY requested_at DESC, scheduled_sync_id DESC LIMIT 1
        """,
        (business_id,),
    )
    if not found:
        missing = tuple(ConnectorOutcome(each.system, each.title, Outcome.MISSING, ()) for each in scheduled)
        return ScheduledSync(None, None, None, missing, ())
    (sync,) = found
    reads = _latest_of_each_read(database, business_id, sync["scheduled_sync_id"])
    connections = _connections(database, business_id)
    manual = {source.system for source in sources if source.cadence is Cadence.MANUAL}
    return ScheduledSync(
        sync["scheduled_sync_id"],
        sync["requested_for"],
        sync["requested_at"],
        tuple(_outcome(each, reads.get(each.system, []), connections.get(each.system, set())) for each in scheduled),
        tuple(sorted(manual & reads.keys())),
        sync["age"] > OVERDUE_AFTER,
    )


def _outcome(source: Source, reads: Sequence[dict[str, Any]], connections: set[int]) -> ConnectorOutcome:
    reads = [read for read in reads if read["connection_id"] in connections]
    statuses = {read["status"] for read in reads}
    began = {(read["connection_id"], read["object_type"]) for read in reads}
    expected = {(connection_id, obj.object_type) for connection_id in connections for obj in source}
    if not reads:
        outcome = Outcome.MISSING
    elif "failed" in statuses:
        outcome = Outcome.FAILED
    elif "running" in statuses:
        outcome = Outcome.RUNNING
    elif "skipped" in statuses:
        outcome = Outcome.SKIPPED
    elif not expected or not expected <= began:
        outcome = Outcome.MISSING
    else:
        outcome = Outcome.SUCCEEDED
    codes = {read["error_code"] for read in reads if read["status"] in ("failed", "skipped") and read["error_code"]}
    return ConnectorOutcome(source.system, source.title, outcome, tuple(sorted(codes)))


def _latest_of_each_read(database: Database, business_id: str, scheduled_sync_id: str) -> dict[str, Any]:
    """Source system → the last run of each of its reads: one that was tried again counts as it ended.

    A later read that covers the days of an earlier one counts in its place, as when a day began meanwhile.
    """
    rows = database.fetch(
        """
        SELECT source_system, object_type, connection_id, status, error_code
        FROM (SELECT DISTINCT ON (source_system, object_type, connection_id, kind, first_day, last_day) *
              FROM finance_os.source_sync_runs
              WHERE business_id = %(business_id)s AND scheduled_sync_id = %(sync)s
              ORDER BY source_system, object_type, connection_id, kind, first_day, last_day, sync_run_id DESC) AS read
        WHERE NOT EXISTS (
            SELECT FROM finance_os.source_sync_runs AS later
            WHERE later.business_id = %(business_id)s AND later.scheduled_sync_id = %(sync)s
              AND later.source_system = read.source_system AND later.object_type = read.object_type
              AND later.connection_id = read.connection_id AND later.sync_run_id > read.sync_run_id
              AND later.status = 'succeeded' AND later.reaches_to IS NOT NULL
              AND later.first_day <= read.first_day AND later.last_day >= read.last_day)
        """,
        {"business_id": business_id, "sync": scheduled_sync_id},
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["source_system"], []).append(row)
    return found


def _connections(database: Database, business_id: str) -> dict[str, set[int]]:
    rows = database.fetch(
        "SELECT source_system, connection_id FROM finance_os.connections WHERE business_id = %s AND active",
        (business_id,),
    )
    found: dict[str, set[int]] = {}
    for row in rows:
        found.setdefault(row["source_system"], set()).add(row["connection_id"])
    return found
