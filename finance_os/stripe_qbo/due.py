"""What is due: the kept intents that are to be sent next, in the plan's order, and what stands in the way of others."""

from collections.abc import Sequence

from psycopg import sql

from finance_os.evidence.database import DatabaseConnection
from finance_os.stripe_qbo.intent import RAIL, Operation
from finance_os.stripe_qbo.kept import Kept, kept_of
from finance_os.stripe_qbo.parts import IN_PART, WHOLE, Part

_UNMET = sql.SQL("""
    EXISTS (SELECT FROM unnest(intent.depends_on) AS needed (key)
            WHERE NOT EXISTS (SELECT FROM finance_os.links AS link
                              WHERE link.business_id = intent.business_id AND link.rail = intent.rail
                                AND link.realm = intent.realm AND link.key = needed.key)
              AND NOT EXISTS (SELECT FROM finance_os.intents AS other
                              WHERE other.business_id = intent.business_id AND other.rail = intent.rail
                                AND other.realm = intent.realm AND other.key = needed.key
                                AND other.operation = 'create' AND other.state IN ('planned', 'sending')))
""")
"""Whether `intent` refers to something that is neither linked nor to be made."""


def pending(
    connection: DatabaseConnection,
    business_id: str,
    realm: str,
    after: Kept | None,
    skip: Sequence[int],
    limit: int,
    part: Part = WHOLE,
) -> list[Kept]:
    """The next intents of a part to be sent, in the plan's order, behind `after`.

    Those are left out that refer to something which is neither linked nor to be made.
    """
    query = sql.SQL(
        """
        SELECT intent.*, intent.payload::text AS payload_text, intent.resolved::text AS resolved_text
        FROM finance_os.intents AS intent
        WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s
          AND state IN ('planned', 'sending') AND intent_id <> ALL (%(skip)s::bigint[]) AND {part}
          AND (%(after)s::bigint IS NULL OR (due, place, intent_id) > (%(due)s, %(place)s, %(after)s))
          AND NOT {unmet}
        ORDER BY due, place, intent_id LIMIT %(limit)s
        """
    ).format(part=IN_PART, unmet=_UNMET)
    rows = connection.execute(
        query,
        {
            "business_id": business_id,
            "rail": RAIL,
            "realm": realm,
            "skip": list(skip),
            "after": after.intent_id if after else None,
            "due": after.due if after else None,
            "place": after.place if after else None,
            "limit": limit,
            **part.parameters,
        },
    )
    return [kept_of(row) for row in rows]


def stranded(connection: DatabaseConnection, business_id: str, realm: str, part: Part = WHOLE) -> set[int]:
    """The IDs of the planned intents of a part that nothing but people can get written, however far that leads.

    They refer to something that is neither linked nor to be made, or that is stranded itself; or they are changes that
    wait for something which is refused, in conflict or stranded (`waits_for_others`).
    """
    query = sql.SQL(
        """
        WITH RECURSIVE stuck AS (
            SELECT intent.intent_id, intent.key, intent.operation, intent.depends_on, intent.due, intent.place
            FROM finance_os.intents AS intent
            WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s
              AND (state IN ('failed', 'conflicted') OR (state = 'planned' AND {unmet}))
            UNION
            SELECT next.intent_id, next.key, next.operation, next.depends_on, next.due, next.place
            FROM stuck CROSS JOIN LATERAL (
                SELECT other.* FROM finance_os.intents AS other
                WHERE other.business_id = %(business_id)s AND other.rail = %(rail)s AND other.realm = %(realm)s
                  AND other.state = 'planned' AND other.depends_on @> ARRAY[stuck.key] AND stuck.operation = 'create'
                  AND NOT EXISTS (SELECT FROM finance_os.links AS link
                                  WHERE link.business_id = other.business_id AND link.rail = other.rail
                                    AND link.realm = other.realm AND link.key = stuck.key)
                UNION ALL
                SELECT change.* FROM finance_os.intents AS change
                WHERE change.business_id = %(business_id)s AND change.rail = %(rail)s AND change.realm = %(realm)s
                  AND change.state = 'planned' AND change.operation <> 'create'
                  AND change.key = ANY (stuck.depends_on) AND change.intent_id <> stuck.intent_id
                  AND CASE WHEN change.key = stuck.key THEN stuck.operation = 'update' AND change.operation = 'void'
                           ELSE (stuck.due, stuck.place, stuck.intent_id)
                                < (change.due, change.place, change.intent_id) END
            ) AS next
        )
        SELECT intent.intent_id FROM stuck JOIN finance_os.intents AS intent USING (intent_id)
        WHERE intent.state = 'planned' AND {part}
        """
    ).format(part=IN_PART, unmet=_UNMET)
    rows = connection.execute(query, {"business_id": business_id, "rail": RAIL, "realm": realm, **part.parameters})
    return {row["intent_id"] for row in rows}


def waits_for_others(connection: DatabaseConnection, kept: Kept) -> bool:
    """Whether a change has to wait: its object is still needed, as it is, by what stands before it in the plan.

    That is what refers to it, and an update of it before a void.
    """
    if kept.intent.operation is Operation.CREATE:
        return False
    row = connection.execute(
        """
        SELECT EXISTS (
            SELECT FROM finance_os.intents AS other
            WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s
              AND state IN ('planned', 'sending', 'failed', 'conflicted') AND depends_on @> %(keys)s::text[]
              AND intent_id <> %(intent_id)s
              AND CASE WHEN key = %(key)s THEN operation = 'update' AND %(is_void)s
                       ELSE (due, place, intent_id) < (%(due)s, %(place)s, %(intent_id)s) END) AS so
        """,
        {
            "business_id": kept.business_id,
            "rail": RAIL,
            "realm": kept.realm,
            "key": str(kept.intent.key),
            "keys": [str(kept.intent.key)],
            "is_void": kept.intent.operation is Operation.VOID,
            "due": kept.due,
            "place": kept.place,
            "intent_id": kept.intent_id,
        },
    ).fetchone()
    assert row is not None
    return row["so"]
