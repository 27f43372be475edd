"""Whether objects that webhooks speak of are being read just now, or are about to be."""

from collections.abc import Sequence

from finance_os.evidence.database import Database


def is_reading(database: Database, business_id: str, source_systems: Sequence[str], *, meanwhile: bool = False) -> bool:
    """Whether a request of a business has reads that have not ended, or not begun.

    A request whose reads have all ended is not waited for, though its run, or who settles it, may not be done. With
    `meanwhile`, only one that was made before the latest of these reads ended: what is asked for later comes later.
    """
    [row] = database.fetch(
        """
        SELECT EXISTS (
            SELECT FROM finance_os.webhook_requests AS request
            CROSS JOIN LATERAL jsonb_object_keys(request.reads) AS wanted (object_type)
            WHERE request.state = 'open' AND request.business_id = %(business_id)s
              AND request.source_system = ANY (%(systems)s)
              AND (NOT %(meanwhile)s OR request.requested_at < coalesce((
                  SELECT max(run.completed_at) FROM finance_os.source_sync_runs AS run
                  WHERE run.business_id = request.business_id AND run.source_system = ANY (%(systems)s)
                    AND run.trigger = 'webhook' AND run.started_at > clock_timestamp() - interval '1 hour'
              ), 'infinity'))
              AND NOT EXISTS (
                  SELECT FROM finance_os.source_sync_runs AS run
                  WHERE run.business_id = request.business_id AND run.connection_id = request.connection_id
                    AND run.object_type = wanted.object_type AND run.trigger = 'webhook'
                    AND run.started_at >= request.requested_at AND run.status <> 'running')) AS so
        """,
        {"business_id": business_id, "systems": list(source_systems), "meanwhile": meanwhile},
    )
    return row["so"]


def is_waiting(database: Database, business_id: str, source_systems: Sequence[str]) -> bool:
    """Whether events of a business have come that nothing was asked to be read for yet, and that wait for no retry."""
    [row] = database.fetch(
        """
        SELECT EXISTS (
            SELECT FROM finance_os.connections AS connection
            JOIN finance_os.webhook_events AS event USING (connection_id)
            WHERE connection.business_id = %s AND connection.source_system = ANY (%s) AND connection.active
              AND event.state = 'received' AND coalesce(event.wait_until <= clock_timestamp(), true)) AS so
        """,
        (business_id, list(source_systems)),
    )
    return row["so"]
