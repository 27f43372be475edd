"""The gauges of the finance database, read anew whenever metrics are exported."""

from datetime import timedelta

import psycopg

from finance_os.evidence.database import Database
from finance_os.evidence.snapshot import snapshot
from finance_os.observability import gauges
from finance_os.observability.gauges import DatabaseWatch, Reading
from finance_os.observability.instruments import Instrument

PATIENCE = timedelta(seconds=5)
"""How long one query of the gauges may take."""


def watched(database: Database) -> DatabaseWatch:
    """What tells the present readings of `database`, in the application's role, which sees whose intents they are."""

    def look() -> dict[Instrument, list[Reading]]:
        with snapshot(database, PATIENCE) as seen:
            return gauges.read(seen)

    return DatabaseWatch(look, (psycopg.Error,))
