"""Gauges: how much waits, since when, and what is open, as the finance database tells it.

All of them are read in one look, with queries that go through the indexes of what is open: what is done costs nothing.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString, Protocol

from finance_os.observability.instruments import (
    ALERTS_OPEN,
    DATABASE_REACHABLE,
    EXCEPTIONS_OPEN,
    QBO_INTENTS,
    QBO_OLDEST,
    WEBHOOK_BACKLOG,
    WEBHOOK_OLDEST,
    Instrument,
)

Reading = tuple[float, Mapping[str, str]]

KEPT_SECONDS = 2.0
"""All gauges of one export come from one look: it counts for so long."""


class Looked(Protocol):
    """A look at the finance database."""

    def fetch(self, query: LiteralString) -> list[dict[str, Any]]:
        """All rows of one query."""
        ...


@dataclass(frozen=True)
class Query:
    """Rows of a business, attributes and values, and which column is the reading of which instrument."""

    text: LiteralString
    instruments: Mapping[str, Instrument]


QUERIES: tuple[Query, ...] = (
    Query(
        """
        SELECT business_id, source_system, state, count(*) AS number,
               extract(epoch FROM clock_timestamp() - min(received_at))::float8 AS age
        FROM (
            SELECT business_id, source_system, state, received_at FROM finance_os.webhook_events
            WHERE state = 'received'
            UNION ALL
            SELECT business_id, source_system, state, received_at FROM finance_os.webhook_events
            WHERE state = 'requested'
            UNION ALL
            SELECT business_id, source_system, state, received_at FROM finance_os.webhook_events
            WHERE state = 'poisoned'
        ) AS event
        GROUP BY 1, 2, 3
        """,
        {"number": WEBHOOK_BACKLOG, "age": WEBHOOK_OLDEST},
    ),
    Query(
        """
        SELECT business_id, entity, state, count(*) AS number,
               extract(epoch FROM clock_timestamp() - min(planned_at))::float8 AS age
        FROM finance_os.intents WHERE state IN ('planned', 'sending', 'failed', 'conflicted')
        GROUP BY 1, 2, 3
        """,
        {"number": QBO_INTENTS, "age": QBO_OLDEST},
    ),
    Query(
        """
        SELECT business_id, source_system, code, severity, count(*) AS number
        FROM finance_os.finance_exceptions WHERE status = 'open'
        GROUP BY 1, 2, 3, 4
        """,
        {"number": EXCEPTIONS_OPEN},
    ),
    Query(
        """
        SELECT business_id, kind, severity, count(*) AS number
        FROM finance_os.alerts WHERE resolved_at IS NULL
        GROUP BY 1, 2, 3
        """,
        {"number": ALERTS_OPEN},
    ),
)


def read(look: Looked) -> dict[Instrument, list[Reading]]:
    """The present readings of every gauge of the database, in one look at it."""
    found: dict[Instrument, list[Reading]] = {}
    for query in QUERIES:
        rows = look.fetch(query.text)
        for column, instrument in query.instruments.items():
            found[instrument] = [
                (float(row[column]), {name: str(row[name]) for name in instrument.attributes}) for row in rows
            ]
    return found


@dataclass
class DatabaseWatch:
    """The gauges, read by `look` when they are asked for; `trouble` are the errors that say that it cannot be now."""

    look: Callable[[], dict[Instrument, list[Reading]]]
    trouble: tuple[type[Exception], ...]
    _until: float = 0.0
    _found: dict[Instrument, list[Reading]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def readings(self, instrument: Instrument) -> Iterable[Reading]:
        """Values of a gauge, each with its attributes."""
        with self._lock:
            if time.monotonic() >= self._until:
                try:
                    self._found = {**self.look(), DATABASE_REACHABLE: [(1.0, {})]}
                except self.trouble:
                    self._found = {DATABASE_REACHABLE: [(0.0, {})]}
                self._until = time.monotonic() + KEPT_SECONDS
            return self._found.get(instrument, [])
