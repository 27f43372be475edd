"""Whether objects that webhooks speak of are being read just now."""

from collections.abc import Sequence

from finance_os.evidence.database import Database


def is_reading(database: Database, business_id: str, source_systems: Sequence[str]) -> bool:
    """Whether a request of a business has reads that have not ended, or not begun.

    A request whose reads have all ended is not waited for, though its run, or who settles it, may not be done.
    """
    [row] = database.fetch(
        """
        SELECT EXISTS (
            SELECT FROM finance_os.webhook_requests AS request
            CROSS JOIN LATERAL jsonb_object_keys(request.reads) AS wanted (object_type)
            WHERE request.state = 'open' AND request.business_id = %(business_id)s
              AND request.source_system = ANY (%(systems)s)
              AND NOT EXISTS (
                  SELECT FROM finance_os.source_sync_runs AS run
                  WHERE run.business_id = request.business_id AND run.connection_id = request.connection_id
                    AND run.object_type = wanted.object_type AND run.trigger = 'webhook'
                    AND run.started_at >= request.requested_at AND run.status <> 'running')) AS so
        """,
        {"business_id": business_id, "systems": list(source_systems)},
    )
    return row["so"]
