"""Which links are compared with QuickBooks: those of a part, and those whose object has moved, however old it is.

That one has moved is told by what is staged, with no request. A link knows the SyncToken that its object had when it
was last compared, in the answer to a write or when it was read. QuickBooks raises the token whenever the object is
changed, by whomever:
https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/invoice (SyncToken)
So whatever has happened to an object shows in what is staged of it, however old the object is:
- Its staged token is above the known one: it was changed, by people, or by QuickBooks itself, as when a payment is
  linked to an invoice. A lower one is only older than the link.
- It is staged as removed, and not told to be missing yet; or told to be missing, and staged as being there.
- It is not staged at all, though its days were read since it was last found as planned: a deletion of what was never
  staged leaves nothing behind.
These, and only these, are worth a metered read. Reading one takes its token into the link, or makes or ends the finding
that it is missing; so none is read again before it moves again.
"""

from collections.abc import Iterable
from datetime import datetime

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, Severity
from finance_os.sources.quickbooks.objects import company_path
from finance_os.stripe_qbo import findings, realms
from finance_os.stripe_qbo.books import OBJECT_TYPES, SYSTEM
from finance_os.stripe_qbo.intent import RAIL, LinkKey
from finance_os.stripe_qbo.parts import Part
from finance_os.stripe_qbo.reconcile import RECONCILE


def linked_in(
    database: Database, business_id: str, realm: str, part: Part, since: datetime | None = None
) -> list[LinkKey]:
    """The keys of what is linked of a part: by the day of what was made, else when it was adopted.

    With `since`, what was written after that moment too, whatever its day is.
    """
    rows = database.fetch(
        """
        SELECT link.stripe_object, link.stripe_id, link.role
        FROM finance_os.links AS link
        LEFT JOIN finance_os.intents AS made
          ON made.business_id = link.business_id AND made.rail = link.rail AND made.realm = link.realm
         AND made.key = link.key AND made.operation = 'create' AND made.state = 'applied'
        CROSS JOIN LATERAL (SELECT coalesce(made.dated, link.linked_at::date) AS day) AS of
        WHERE link.business_id = %(business_id)s AND link.rail = %(rail)s AND link.realm = %(realm)s
          AND (link.updated_at >= %(since)s
               OR ((%(first)s::date IS NULL OR of.day >= %(first)s) AND (%(last)s::date IS NULL OR of.day <= %(last)s)
                   AND (%(objects)s::text[] IS NULL
                        OR link.stripe_object || ':' || link.stripe_id = ANY (%(objects)s))))
        ORDER BY link.key
        """,
        {
            **part.parameters,
            "business_id": business_id,
            "rail": RAIL,
            "realm": realm,
            "since": since,
        },
    )
    return [LinkKey(row["stripe_object"], row["stripe_id"], row["role"]) for row in rows]


def moved(database: Database, business_id: str, realm: str) -> list[LinkKey]:
    """The keys of the links whose object is to be read again, in their order.

    Nothing of a realm that is not staged. What another connection has staged under the same ID says nothing of it, nor
    does a read of another company.
    """
    with database.transaction() as connection:
        connection_id = realms.connection_of(connection, business_id, realm)
    if connection_id is None:
        return []
    rows = database.fetch(
        """
        WITH staged AS MATERIALIZED (
            SELECT type.entity, type.object_type, %(connection_id)s::bigint AS connection_id, (
                       SELECT max(least(run.started_at, run.window_end)) FROM finance_os.source_sync_runs AS run
                       WHERE run.business_id = %(business_id)s AND run.source_system = %(system)s
                         AND run.object_type = type.object_type AND run.connection_id = %(connection_id)s
                         AND run.status = 'succeeded' AND run.kind IN ('window', 'snapshot')
                         AND coalesce(run.query_name, %(company)s) = %(company)s
                   ) AS until
            FROM unnest(%(entities)s::text[], %(types)s::text[]) AS type (entity, object_type)
        ), missing AS MATERIALIZED (
            SELECT DISTINCT subject AS key FROM finance_os.finance_exceptions
            WHERE business_id = %(business_id)s AND source_system = %(found_in)s AND object_type = %(found_by)s
              AND connection_id IS NULL AND status = 'open' AND code = 'qbo_object_missing'
        )
        SELECT link.stripe_object, link.stripe_id, link.role
        FROM finance_os.links AS link JOIN staged USING (entity) LEFT JOIN missing USING (key)
        LEFT JOIN LATERAL (
            SELECT connection_id, removed, source_version, record_id FROM finance_os.raw_record_heads AS one
            WHERE one.business_id = %(business_id)s AND one.source_system = %(system)s
              AND one.object_type = staged.object_type AND one.source_id = link.qbo_id
            LIMIT 1  -- so each by its key, also while the database has no statistics of a fresh backfill
        ) AS head ON true
        WHERE link.business_id = %(business_id)s AND link.rail = %(rail)s AND link.realm = %(realm)s
          AND CASE
                  WHEN head.connection_id IS NULL THEN missing.key IS NULL AND staged.until > link.verified_at
                  WHEN head.connection_id <> staged.connection_id THEN false
                  WHEN head.removed OR missing.key IS NOT NULL THEN head.removed = (missing.key IS NULL)
                  ELSE coalesce(head.source_version, (
                      SELECT CASE WHEN payload ->> 'SyncToken' ~ '^[0-9]{1,18}$'
                                  THEN (payload ->> 'SyncToken')::bigint END
                      FROM finance_os.raw_source_records AS record WHERE record.record_id = head.record_id
                  )) > link.sync_token::bigint
              END
        ORDER BY link.key
        """,
        {
            "business_id": business_id,
            "realm": realm,
            "connection_id": connection_id,
            "company": company_path(realm),
            "rail": RAIL,
            "system": SYSTEM,
            "found_in": findings.SYSTEM,
            "found_by": findings.VERIFY,
            "entities": list(OBJECT_TYPES),
            "types": list(OBJECT_TYPES.values()),
        },
    )
    return [LinkKey(row["stripe_object"], row["stripe_id"], row["role"]) for row in rows]


def open_still(database: Database, business_id: str, found: Iterable[Finding]) -> list[Finding]:
    """What verifying found at some time and is open, besides what it has `found` now.

    Of these nothing has moved since, so that nobody looked: they are as wrong as they were.
    """
    rows = database.fetch(
        """
        SELECT code, severity, subject, partition_day, detail FROM finance_os.finance_exceptions
        WHERE business_id = %s AND source_system = %s AND object_type = ANY (%s) AND connection_id IS NULL
          AND status = 'open'
        ORDER BY partition_day, subject, code
        """,
        (business_id, findings.SYSTEM, [findings.VERIFY, RECONCILE]),
    )
    told = {(each.code, each.subject, each.day) for each in found}
    return [
        Finding(row["code"], Severity(row["severity"]), row["subject"], row["partition_day"], row["detail"])
        for row in rows
        if (row["code"], row["subject"], row["partition_day"]) not in told
    ]
