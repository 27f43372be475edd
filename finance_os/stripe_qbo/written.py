"""What has been written: of each key, what its intents made of its object, with references still in place.

An intent that is being sent counts as written: its answer may be lost, and it is looked up before anything else. So
does a create in conflict over what it made (`states.WAS_WRITTEN`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from psycopg import sql

from finance_os.evidence.canonical import decode
from finance_os.evidence.database import DatabaseConnection
from finance_os.stripe_qbo.intent import CORRECTS, RAIL, Intent, LinkKey, Operation
from finance_os.stripe_qbo.states import WAS_WRITTEN


@dataclass(frozen=True)
class Written:
    """One object that the export wrote.

    `made` is the payload that it was made with, dated `dated` (empty where it was adopted); `now` the same with every
    update over it. `is_settled` says that no write of it is without an answer, or in conflict.
    """

    entity: str
    dated: date
    marker: str
    made: Mapping[str, Any]
    now: Mapping[str, Any]
    is_void: bool = False
    is_settled: bool = True


def after(intents: Iterable[Intent], before: Mapping[LinkKey, Written] | None = None) -> dict[LinkKey, Written]:
    """What is written once `intents` are applied, in their order, to what was written `before`."""
    found = dict(before or {})
    for intent in intents:
        _add(found, intent, is_settled=True)
    return found


def written(connection: DatabaseConnection, business_id: str, realm: str) -> dict[LinkKey, Written]:
    """What was written to a realm for a business, within the caller's transaction."""
    query = sql.SQL(
        """
        SELECT stripe_object, stripe_id, role, operation, entity, payload::text AS payload, marker, dated, state
        FROM finance_os.intents
        WHERE business_id = %s AND rail = %s AND realm = %s AND (state IN ('sending', 'applied') OR {was_written})
        ORDER BY operation <> 'create', settled_at NULLS LAST, intent_id
        """
    ).format(was_written=WAS_WRITTEN)
    rows = connection.execute(query, (business_id, RAIL, realm))
    found: dict[LinkKey, Written] = {}
    for row in rows:
        payload = decode(row["payload"])
        payload.pop(CORRECTS, None)
        key = LinkKey(row["stripe_object"], row["stripe_id"], row["role"])
        intent = Intent(key, Operation(row["operation"]), row["entity"], payload, row["dated"], row["marker"], {})
        _add(found, intent, is_settled=row["state"] == "applied")
    return found


def _add(found: dict[LinkKey, Written], intent: Intent, *, is_settled: bool) -> None:
    """Add a write; of an object that was adopted, only that it was voided."""
    if intent.operation is Operation.CREATE:
        payload = intent.payload
        found[intent.key] = Written(intent.entity, intent.dated, intent.marker, payload, payload, is_settled=is_settled)
        return
    held = found.get(intent.key) or Written(intent.entity, intent.dated, intent.marker, {}, {})
    is_settled = is_settled and held.is_settled
    if intent.operation is Operation.VOID:
        found[intent.key] = replace(held, is_void=True, is_settled=is_settled)
    else:
        found[intent.key] = replace(held, now={**held.now, **intent.payload}, is_settled=is_settled)
