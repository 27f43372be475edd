"""The states of kept intents: what was sent, what became of it, and how far that makes a business's export."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from psycopg import sql

from finance_os.evidence.canonical import canonical_json, decode
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.stripe_qbo.intent import RAIL, LinkKey, Operation
from finance_os.stripe_qbo.kept import Kept, reread
from finance_os.stripe_qbo.parts import IN_PART, WHOLE, Part

_WRITTEN_CODES = ["qbo_object_doubled", "qbo_object_missing", "qbo_link_conflict"]

WAS_WRITTEN = sql.SQL("(state = 'conflicted' AND operation = 'create' AND code = ANY ({codes}))").format(
    codes=sql.Literal(_WRITTEN_CODES)
)
"""Whether an intent is in conflict over what it made: its object is in QuickBooks, or was. Like one that is being sent
it is looked up before anything else, and no other version takes its place."""


@dataclass(frozen=True)
class Expected:
    """What the applied intents of a key have made of its object: its properties, or that it is void."""

    fields: Mapping[str, Any]
    is_void: bool


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


def unanswered(database: Database, business_id: str, realm: str, keys: Iterable[str]) -> set[str]:
    """Those of `keys` that have a write without an answer, or in conflict over what it made."""
    query = sql.SQL(
        """
        SELECT DISTINCT key FROM finance_os.intents
        WHERE business_id = %s AND rail = %s AND realm = %s AND key = ANY (%s) AND (state = 'sending' OR {was_written})
        """
    ).format(was_written=WAS_WRITTEN)
    with database.transaction() as connection:
        return {row["key"] for row in connection.execute(query, (business_id, RAIL, realm, list(keys)))}


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


def to_write(database: Database, business_id: str, realm: str) -> int:
    """How many intents of a business are planned for a realm, or without an answer."""
    rows = counts(database, business_id)
    return sum(row["count"] for row in rows if row["realm"] == realm and row["state"] in ("planned", "sending"))


def counts(database: Database, business_id: str) -> list[dict[str, Any]]:
    """How many intents of a business are in which state: `realm`, `state`, `entity`, `operation`, `count`."""
    return database.fetch(
        """
        SELECT realm, state, entity, operation, count(*) AS count FROM finance_os.intents
        WHERE business_id = %s AND rail = %s GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        """,
        (business_id, RAIL),
    )
