"""The states of kept intents: what is to be sent next, what was sent, and what became of it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from psycopg import sql

from finance_os.evidence.canonical import canonical_json, decode
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.stripe_qbo.intent import CORRECTS, RAIL, Intent, LinkKey, Operation
from finance_os.stripe_qbo.parts import IN_PART, WHOLE, Part

_WRITTEN_CODES = ["qbo_object_doubled", "qbo_object_missing", "qbo_link_conflict"]

WAS_WRITTEN = sql.SQL("(state = 'conflicted' AND operation = 'create' AND code = ANY ({codes}))").format(
    codes=sql.Literal(_WRITTEN_CODES)
)
"""Whether an intent is in conflict over what it made: its object is in QuickBooks, or was. Like one that is being sent
it is looked up before anything else, and no other version takes its place."""


@dataclass(frozen=True)
class Kept:
    """An intent as it is kept. `resolved` is what was sent under `requestid`, once there is one."""

    intent_id: int
    business_id: str
    realm: str
    intent: Intent
    input_hash: str
    version: int
    state: str
    requestid: str | None
    resolved: Mapping[str, Any] | None
    refusals: int
    due: date
    place: int

    @property
    def action_key(self) -> str:
        """What the external action of this intent is known by."""
        return f"{RAIL}:{self.realm}:{self.intent.key}:{self.intent.operation.value}:{self.version}"

    def request_id(self, resolved: Mapping[str, Any]) -> str:
        """The `requestid` of sending `resolved`: the same for the same, so that QuickBooks knows a repetition.

        At most 36 characters, which QuickBooks takes everywhere. After a refusal it is another one.
        """
        what = [self.business_id, self.realm, self.action_key, self.refusals, resolved]
        return hashlib.sha256(canonical_json(what)).hexdigest()[:36]


@dataclass(frozen=True)
class Expected:
    """What the applied intents of a key have made of its object: its properties, or that it is void."""

    fields: Mapping[str, Any]
    is_void: bool


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
          AND NOT EXISTS (
              SELECT FROM unnest(intent.depends_on) AS needed (key)
              WHERE NOT EXISTS (SELECT FROM finance_os.links AS link
                                WHERE link.business_id = intent.business_id AND link.rail = intent.rail
                                  AND link.realm = intent.realm AND link.key = needed.key)
                AND NOT EXISTS (SELECT FROM finance_os.intents AS other
                                WHERE other.business_id = intent.business_id AND other.rail = intent.rail
                                  AND other.realm = intent.realm AND other.key = needed.key
                                  AND other.operation = 'create' AND other.state IN ('planned', 'sending')))
        ORDER BY due, place, intent_id LIMIT %(limit)s
        """
    ).format(part=IN_PART)
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
    return [_kept(row) for row in rows]


def count_stranded(connection: DatabaseConnection, business_id: str, realm: str, part: Part = WHOLE) -> int:
    """How many planned intents of a part refer to something that is neither linked nor to be made."""
    query = sql.SQL(
        """
        SELECT count(*) AS stranded FROM finance_os.intents AS intent
        WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s AND state = 'planned' AND {part}
          AND EXISTS (
              SELECT FROM unnest(intent.depends_on) AS needed (key)
              WHERE NOT EXISTS (SELECT FROM finance_os.links AS link
                                WHERE link.business_id = intent.business_id AND link.rail = intent.rail
                                  AND link.realm = intent.realm AND link.key = needed.key)
                AND NOT EXISTS (SELECT FROM finance_os.intents AS other
                                WHERE other.business_id = intent.business_id AND other.rail = intent.rail
                                  AND other.realm = intent.realm AND other.key = needed.key
                                  AND other.operation = 'create' AND other.state IN ('planned', 'sending')))
        """
    ).format(part=IN_PART)
    row = connection.execute(
        query, {"business_id": business_id, "rail": RAIL, "realm": realm, **part.parameters}
    ).fetchone()
    assert row is not None
    return row["stranded"]


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


def reread(connection: DatabaseConnection, intent_id: int) -> Kept:
    """An intent as it is now."""
    row = connection.execute(
        """
        SELECT intent.*, intent.payload::text AS payload_text, intent.resolved::text AS resolved_text
        FROM finance_os.intents AS intent WHERE intent_id = %s
        """,
        (intent_id,),
    ).fetchone()
    assert row is not None
    return _kept(row)


def begin_sending(
    connection: DatabaseConnection, kept: Kept, resolved: Mapping[str, Any], requestid: str | None = None
) -> Kept | None:
    """Record that `resolved` is about to be sent, and under which `requestid` (its own one if not given); commit
    before the call.

    `None` where the intent is not to be sent any more: a plan has put another version in its place.
    """
    requestid = requestid or kept.request_id(resolved)
    taken = connection.execute(
        """
        UPDATE finance_os.intents
        SET state = 'sending', requestid = %(requestid)s, resolved = %(resolved)s::jsonb, code = '',
            sent_at = coalesce(sent_at, clock_timestamp())
        WHERE intent_id = %(intent_id)s AND state IN ('planned', 'sending')
        """,
        {"intent_id": kept.intent_id, "requestid": requestid, "resolved": canonical_json(resolved).decode()},
    ).rowcount
    if not taken:
        return None
    note(connection, kept, "sending", requestid=requestid)
    return reread(connection, kept.intent_id)


def unchanged(connection: DatabaseConnection, kepts: Sequence[Kept]) -> set[int]:
    """The IDs of the intents that are still to be sent, which they stay until the transaction ends."""
    rows = connection.execute(
        """
        SELECT intent_id FROM finance_os.intents WHERE intent_id = ANY (%s) AND state IN ('planned', 'sending')
        ORDER BY intent_id FOR UPDATE
        """,
        ([each.intent_id for each in kepts],),
    )
    return {row["intent_id"] for row in rows}


def note(
    connection: DatabaseConnection,
    kept: Kept,
    step: str,
    *,
    requestid: str | None = None,
    qbo_id: str = "",
    sync_token: str = "",
    code: str = "",
    intuit_tid: str = "",
) -> None:
    """Append a step of an attempt."""
    connection.execute(
        """
        INSERT INTO finance_os.intent_attempts
            (business_id, intent_id, step, requestid, qbo_id, sync_token, code, intuit_tid)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            kept.business_id,
            kept.intent_id,
            step,
            requestid or kept.requestid or "",
            qbo_id,
            sync_token,
            code,
            intuit_tid,
        ),
    )


def sent_seconds_ago(connection: DatabaseConnection, kept: Kept) -> float | None:
    """When a request under an intent's `requestid` was last sent of which it is not known that it was not done.

    `None` where all were refused, as by a limit.
    """
    row = connection.execute(
        """
        SELECT extract(epoch FROM clock_timestamp() - max(at))::float8 AS seconds
        FROM (SELECT step, at, lead(step) OVER (ORDER BY attempt_id) AS next FROM finance_os.intent_attempts
              WHERE intent_id = %s AND requestid = %s AND step IN ('sending', 'refused', 'unknown')) AS attempt
        WHERE step = 'sending' AND next IS DISTINCT FROM 'refused'
        """,
        (kept.intent_id, kept.requestid),
    ).fetchone()
    assert row is not None
    return row["seconds"]


def settle(connection: DatabaseConnection, kept: Kept, state: str, code: str = "") -> None:
    """Record how an intent ended: applied, failed (refused; the next try has another `requestid`) or conflicted."""
    connection.execute(
        """
        UPDATE finance_os.intents
        SET state = %(state)s, code = %(code)s, settled_at = clock_timestamp(),
            refusals = refusals + CASE WHEN %(state)s = 'applied' THEN 0 ELSE 1 END
        WHERE intent_id = %(intent_id)s
        """,
        {"intent_id": kept.intent_id, "state": state, "code": code},
    )


def expected(connection: DatabaseConnection, business_id: str, realm: str, keys: Iterable[str]) -> dict[str, Expected]:
    """What QuickBooks is to hold, by link key; a key that no intent was applied to is not among them."""
    rows = connection.execute(
        """
        SELECT key, operation, resolved::text AS resolved FROM finance_os.intents
        WHERE business_id = %s AND rail = %s AND realm = %s AND key = ANY (%s) AND state = 'applied'
        ORDER BY key, settled_at, intent_id
        """,
        (business_id, RAIL, realm, list(keys)),
    )
    found: dict[str, Expected] = {}
    for row in rows:
        before = found.get(row["key"], Expected({}, is_void=False))
        if row["operation"] == Operation.VOID:
            found[row["key"]] = Expected(before.fields, is_void=True)
        else:
            found[row["key"]] = Expected({**before.fields, **decode(row["resolved"])}, before.is_void)
    return found


def dated(connection: DatabaseConnection, business_id: str, realm: str, keys: Iterable[str]) -> dict[str, date]:
    """The day of what was made, by link key, for those that an intent made."""
    rows = connection.execute(
        """
        SELECT key, dated FROM finance_os.intents
        WHERE business_id = %s AND rail = %s AND realm = %s AND key = ANY (%s)
          AND operation = 'create' AND state = 'applied'
        """,
        (business_id, RAIL, realm, list(keys)),
    )
    return {row["key"]: row["dated"] for row in rows}


def booked(database: Database, business_id: str, realm: str) -> dict[LinkKey, date]:
    """The dates of the creates that were sent, by their keys: what a plan must not date anew."""
    query = sql.SQL(
        """
        SELECT stripe_object, stripe_id, role, dated FROM finance_os.intents
        WHERE business_id = %s AND rail = %s AND realm = %s
          AND (operation = 'create' AND state IN ('sending', 'applied') OR {was_written})
        """
    ).format(was_written=WAS_WRITTEN)
    with database.transaction() as connection:
        rows = connection.execute(query, (business_id, RAIL, realm)).fetchall()
    return {LinkKey(row["stripe_object"], row["stripe_id"], row["role"]): row["dated"] for row in rows}


def unsettled(connection: DatabaseConnection, business_id: str, realm: str, key: LinkKey) -> bool:
    """Whether an intent of `key` is being sent, or its answer is unknown."""
    row = connection.execute(
        """
        SELECT EXISTS (SELECT FROM finance_os.intents
                       WHERE business_id = %s AND rail = %s AND realm = %s AND key = %s AND state = 'sending') AS so
        """,
        (business_id, RAIL, realm, str(key)),
    ).fetchone()
    assert row is not None
    return row["so"]


def retry(database: Database, business_id: str, realm: str, part: Part = WHOLE) -> int:
    """Plan again what of a part was refused or in conflict, after its cause was put right; how many that were.

    What was written, and in conflict because of what stands there, is looked up first.
    """
    query = sql.SQL(
        """
        UPDATE finance_os.intents AS intent
        SET state = CASE WHEN requestid IS NOT NULL AND code = ANY (%(written)s) THEN 'sending' ELSE 'planned' END,
            code = '', settled_at = NULL
        WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s
          AND state IN ('failed', 'conflicted') AND {part}
        """
    ).format(part=IN_PART)
    with database.transaction() as connection:
        return connection.execute(
            query,
            {"business_id": business_id, "rail": RAIL, "realm": realm, "written": _WRITTEN_CODES, **part.parameters},
        ).rowcount


def kept_for_later(database: Database, business_id: str, realm: str, through: date) -> list[Intent]:
    """The intents that were never written and are due after `through`, in the plan's order."""
    rows = database.fetch(
        """
        SELECT intent.*, intent.payload::text AS payload_text, NULL AS resolved_text FROM finance_os.intents AS intent
        WHERE business_id = %s AND rail = %s AND realm = %s AND state IN ('planned', 'failed', 'conflicted')
          AND due > %s ORDER BY due, place, intent_id
        """,
        (business_id, RAIL, realm, through),
    )
    return [_kept(row).intent for row in rows]


def by_day(database: Database, business_id: str, realm: str, part: Part = WHOLE) -> list[dict[str, Any]]:
    """How many intents of a part are in which state: `dated`, `state`, `entity`, `count`; those in force only."""
    query = sql.SQL(
        """
        SELECT intent.dated, intent.state, intent.entity, count(*) AS count FROM finance_os.intents AS intent
        WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s AND state <> 'superseded'
          AND {part}
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """
    ).format(part=IN_PART)
    with database.transaction() as connection:
        return connection.execute(
            query, {"business_id": business_id, "rail": RAIL, "realm": realm, **part.parameters}
        ).fetchall()


def counts(database: Database, business_id: str) -> list[dict[str, Any]]:
    """How many intents of a business are in which state: `realm`, `state`, `entity`, `operation`, `count`."""
    return database.fetch(
        """
        SELECT realm, state, entity, operation, count(*) AS count FROM finance_os.intents
        WHERE business_id = %s AND rail = %s GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        """,
        (business_id, RAIL),
    )


def _kept(row: Mapping[str, Any]) -> Kept:
    payload = decode(row["payload_text"])
    corrects = payload.pop(CORRECTS, {})
    intent = Intent(
        key=LinkKey(row["stripe_object"], row["stripe_id"], row["role"]),
        operation=Operation(row["operation"]),
        entity=row["entity"],
        payload=payload,
        dated=row["dated"],
        marker=row["marker"],
        evidence=row["evidence"],
        corrects=corrects,
    )
    return Kept(
        row["intent_id"],
        row["business_id"],
        row["realm"],
        intent,
        row["input_hash"],
        row["version"],
        row["state"],
        row["requestid"],
        decode(row["resolved_text"]) if row["resolved_text"] is not None else None,
        row["refusals"],
        row["due"],
        row["place"],
    )
