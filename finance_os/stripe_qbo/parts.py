"""Parts of a plan: the intents of some days or of some objects, and whatever has to be written before them."""

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from psycopg import sql

from finance_os.evidence.database import DatabaseConnection
from finance_os.stripe_qbo.intent import RAIL


@dataclass(frozen=True)
class Part:
    """Which intents are meant: those dated in [`first`, `last`], an open end being `None`, and of `objects` only.

    `objects` are Stripe's, as `invoice:in_1`; `None` means all of them. `needed` are the IDs of the intents besides
    that have to be written before these (`with_needed`).
    """

    first: date | None = None
    last: date | None = None
    objects: tuple[str, ...] | None = None
    needed: tuple[int, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """What `IN_PART` asks for."""
        return {
            "first": self.first,
            "last": self.last,
            "objects": None if self.objects is None else list(self.objects),
            "needed": list(self.needed),
        }


WHOLE = Part()
"""All intents of a business."""

IN_PART = sql.SQL("""
    (((%(first)s::date IS NULL OR intent.dated >= %(first)s) AND (%(last)s::date IS NULL OR intent.dated <= %(last)s)
      AND (%(objects)s::text[] IS NULL OR intent.stripe_object || ':' || intent.stripe_id = ANY (%(objects)s)))
     OR intent.intent_id = ANY (%(needed)s::bigint[]))
""")
"""Whether `intent` is in a part, by its `parameters`."""


def with_needed(connection: DatabaseConnection, business_id: str, realm: str, part: Part) -> Part:
    """The part, and what has to be written before it, however far that leads.

    That is what it refers to; and of a change, whatever stands before it in the plan and needs the object as it is.
    """
    if (part.first, part.last, part.objects) == (None, None, None):
        return part
    query = sql.SQL(
        """
        WITH RECURSIVE wanted AS (
            SELECT intent.intent_id, intent.key, intent.operation, intent.depends_on, intent.due, intent.place
            FROM finance_os.intents AS intent
            WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s
              AND state IN ('planned', 'sending') AND {part}
            UNION
            SELECT other.intent_id, other.key, other.operation, other.depends_on, other.due, other.place
            FROM wanted JOIN finance_os.intents AS other
              ON other.business_id = %(business_id)s AND other.rail = %(rail)s AND other.realm = %(realm)s
             AND other.state IN ('planned', 'sending') AND other.intent_id <> wanted.intent_id
             AND (other.operation = 'create' AND other.key = ANY (wanted.depends_on)
                  OR wanted.operation <> 'create' AND other.depends_on @> ARRAY[wanted.key]
                     AND (other.due, other.place, other.intent_id) < (wanted.due, wanted.place, wanted.intent_id))
        )
        SELECT intent.intent_id FROM wanted JOIN finance_os.intents AS intent USING (intent_id) WHERE NOT {part}
        """
    ).format(part=IN_PART)
    rows = connection.execute(query, {"business_id": business_id, "rail": RAIL, "realm": realm, **part.parameters})
    return replace(part, needed=tuple(sorted(row["intent_id"] for row in rows)))
