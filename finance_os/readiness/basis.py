"""What a day's verdict is based on: how often the day had been read, and which connections are active.

A verdict holds for a day as long as its basis is the day's. Clocks do not come into it: a read that was committed while
a check was looking, and an account that was added after it, each make another basis.
"""

from collections.abc import Mapping
from datetime import date

from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days


def bases(
    database: Database, source_system: str, object_type: str, days: Days, business_id: str | None = None
) -> Mapping[tuple[str, date], str]:
    """Business and day → the day's basis now, of every business with an active connection, or of one.

    Targeted reads do not count: they add to a day, and a webhook must not void what was checked of it.
    """
    rows = database.fetch(
        """
        SELECT account.business_id, day::date AS day, account.connections, count(part.sync_run_id) AS reads
        FROM (SELECT business_id, array_agg(connection_id ORDER BY connection_id)::text AS connections
              FROM finance_os.connections
              WHERE source_system = %(source_system)s AND active
                AND (%(business_id)s::text IS NULL OR business_id = %(business_id)s)
              GROUP BY business_id) AS account
        CROSS JOIN generate_series(%(first)s::timestamp, %(last)s::timestamp, interval '1 day') AS day
        LEFT JOIN finance_os.source_sync_partitions AS part
          ON part.business_id = account.business_id AND part.source_system = %(source_system)s
         AND part.object_type = %(object_type)s AND part.partition_day = day::date AND part.kind <> 'targeted'
        GROUP BY account.business_id, day, account.connections
        """,
        {
            "source_system": source_system,
            "object_type": object_type,
            "business_id": business_id,
            "first": days.first,
            "last": days.last,
        },
    )
    return {(row["business_id"], row["day"]): f"{row['reads']} reads, accounts {row['connections']}" for row in rows}
