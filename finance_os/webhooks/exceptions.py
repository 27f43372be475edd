"""Events that were set aside are a finance exception of their connection until none is left: so they raise an alert.

They do not stand under their source system: its evidence is whole once the daily read has seen the day, whatever became
of an event.
"""

from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.database import DatabaseConnection
from finance_os.evidence.extraction import Severity

SYSTEM = "webhooks"
"""The source system that the inbox's exceptions are kept under; the object type is the vendor's name."""

CODE = "webhooks_set_aside"


def settle(opened: DatabaseConnection, connection_id: int) -> None:
    """Open, renew or resolve the exception of a connection by what is set aside of it now.

    Within the transaction that changed it, which holds the states of all events (`inbox.lock`).
    """
    found = opened.execute(
        """
        SELECT connection.business_id, connection.source_system, set_aside.events, set_aside.first, set_aside.since
        FROM finance_os.connections AS connection, LATERAL (
            SELECT count(*) AS events, min(event_number) AS first,
                   (min(settled_at) AT TIME ZONE 'UTC')::date AS since
            FROM finance_os.webhook_events AS event
            WHERE event.business_id = connection.business_id AND event.state = 'poisoned'
              AND event.connection_id = connection.connection_id
        ) AS set_aside
        WHERE connection.connection_id = %s
        """,
        (connection_id,),
    ).fetchone()
    assert found is not None
    detail = (
        f"{found['events']} webhook event(s) are set aside, the first is event {found['first']}: what they ask for "
        "could not be read. `finance-os webhooks list --state poisoned` shows them; replay them when the cause is gone."
    )
    parameters = {
        "business_id": found["business_id"],
        "source_system": SYSTEM,
        "object_type": found["source_system"],
        "connection_id": connection_id,
        "code": CODE,
        "severity": Severity.HIGH.value,
        "subject": f"connection {connection_id}",
        "day": found["since"],
        "detail": detail,
        "evidence_hash": evidence_hash([found["events"], found["first"]]),
    }
    opened.execute(
        """
        UPDATE finance_os.finance_exceptions SET status = 'resolved', resolved_at = clock_timestamp()
        WHERE business_id = %(business_id)s AND source_system = %(source_system)s AND object_type = %(object_type)s
          AND connection_id = %(connection_id)s AND code = %(code)s AND status = 'open'
          AND (%(day)s::date IS NULL OR evidence_hash <> %(evidence_hash)s OR partition_day <> %(day)s)
        """,
        parameters,
    )
    if not found["events"]:
        return
    opened.execute(
        """
        INSERT INTO finance_os.finance_exceptions
            (business_id, source_system, object_type, connection_id, code, severity, subject, partition_day, detail,
             evidence_hash)
        VALUES (%(business_id)s, %(source_system)s, %(object_type)s, %(connection_id)s, %(code)s, %(severity)s,
                %(subject)s, %(day)s, %(detail)s, %(evidence_hash)s)
        ON CONFLICT DO NOTHING
        """,
        parameters,
    )
