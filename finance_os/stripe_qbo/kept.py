"""Kept intents: a planned write as it lies in the database, what of it was sent, and in which state it is."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from finance_os.evidence.canonical import canonical_json, decode
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.stripe_qbo.intent import CORRECTS, RAIL, Intent, LinkKey, Operation


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


def kept_of(row: Mapping[str, Any]) -> Kept:
    """The intent of a row of `finance_os.intents`, with `payload_text` and `resolved_text` beside its columns."""
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
    return kept_of(row)


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
    return [kept_of(row).intent for row in rows]
