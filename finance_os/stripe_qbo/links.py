"""Links: which object in QuickBooks stands for which object of Stripe, in which role."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.stripe_qbo.intent import RAIL, LinkKey

CREATED = "created"
ADOPTED = "adopted"
"""Where a link is from: an intent that was applied, or an object that was in QuickBooks before."""


class LinkConflict(RuntimeError):
    """A key is linked with another object already, or an object that the export made with another key."""


@dataclass(frozen=True)
class Link:
    """One link. `sync_token` is the version of the object that Finance OS saw last.

    `input_hash` is that of the intent that was applied to it last; `None` while the object is only adopted.
    `verified_at` is when QuickBooks last showed it as planned.
    """

    key: LinkKey
    entity: str
    qbo_id: str
    sync_token: str
    origin: str
    input_hash: str | None
    linked_at: datetime
    verified_at: datetime | None


def links(database: Database, business_id: str, realm: str) -> dict[LinkKey, Link]:
    """Every link of a business with a realm, by its key."""
    with database.transaction() as connection:
        return {link.key: link for link in read(connection, business_id, realm)}


def read(connection: DatabaseConnection, business_id: str, realm: str, keys: Iterable[str] | None = None) -> list[Link]:
    """The links of a business with a realm in the order of their keys; only those of `keys` if given."""
    rows = connection.execute(
        """
        SELECT stripe_object, stripe_id, role, entity, qbo_id, sync_token, origin, input_hash, linked_at,
               verified_at
        FROM finance_os.links
        WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s
          AND (%(keys)s::text[] IS NULL OR key = ANY (%(keys)s))
        ORDER BY key
        """,
        {
            "business_id": business_id,
            "rail": RAIL,
            "realm": realm,
            "keys": None if keys is None else list(keys),
        },
    )
    return [_link(row) for row in rows]


def adopt(
    database: Database, business_id: str, realm: str, key: LinkKey, entity: str, qbo_id: str, sync_token: str
) -> bool:
    """Link an object that is in QuickBooks already; whether that is new. Nothing is sent.

    Raises `LinkConflict` where the key is linked with another object.
    """
    with database.transaction() as connection:
        return record(connection, business_id, realm, key, entity, qbo_id, sync_token, ADOPTED, None)


def record(
    connection: DatabaseConnection,
    business_id: str,
    realm: str,
    key: LinkKey,
    entity: str,
    qbo_id: str,
    sync_token: str,
    origin: str,
    input_hash: str | None,
    *,
    as_planned: bool = False,
) -> bool:
    """Link `key` in the caller's transaction; whether that is new. The same link again changes nothing.

    `as_planned` says that QuickBooks showed the object as it was planned.

    Raises `LinkConflict` where the key is linked with another object, or the object was made for another key.
    """
    parameters = {
        "business_id": business_id,
        "rail": RAIL,
        "realm": realm,
        "stripe_object": key.stripe_object,
        "stripe_id": key.stripe_id,
        "role": key.role,
        "entity": entity,
        "qbo_id": qbo_id,
        "sync_token": sync_token,
        "origin": origin,
        "input_hash": input_hash,
        "as_planned": as_planned,
    }
    made = connection.execute(
        """
        INSERT INTO finance_os.links
            (business_id, rail, realm, stripe_object, stripe_id, role, entity, qbo_id, sync_token, origin, input_hash,
             verified_at)
        VALUES (%(business_id)s, %(rail)s, %(realm)s, %(stripe_object)s, %(stripe_id)s, %(role)s, %(entity)s,
                %(qbo_id)s, %(sync_token)s, %(origin)s, %(input_hash)s,
                CASE WHEN %(as_planned)s THEN clock_timestamp() END)
        ON CONFLICT DO NOTHING
        """,
        parameters,
    ).rowcount
    if made:
        return True
    same = read(connection, business_id, realm, [str(key)])
    if not same:
        raise LinkConflict(f"{entity} {qbo_id} of realm {realm} was made for another key, and not for {key}")
    if (same[0].entity, same[0].qbo_id) != (entity, qbo_id):
        raise LinkConflict(
            f"{key} is linked with {same[0].entity} {same[0].qbo_id} of realm {realm}, and not with {entity} {qbo_id}"
        )
    return False


def changed(
    connection: DatabaseConnection,
    business_id: str,
    realm: str,
    key: LinkKey,
    sync_token: str,
    input_hash: str,
    *,
    as_planned: bool,
) -> None:
    """Record what an update or void that was applied made of a linked object."""
    connection.execute(
        """
        UPDATE finance_os.links
        SET sync_token = %(sync_token)s, input_hash = %(input_hash)s, updated_at = clock_timestamp(),
            verified_at = CASE WHEN %(as_planned)s THEN clock_timestamp() END
        WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s AND key = %(key)s
        """,
        {
            "business_id": business_id,
            "rail": RAIL,
            "realm": realm,
            "key": str(key),
            "sync_token": sync_token,
            "input_hash": input_hash,
            "as_planned": as_planned,
        },
    )


def seen(
    connection: DatabaseConnection, business_id: str, realm: str, link: Link, sync_token: str, *, as_planned: bool
) -> bool:
    """Record that QuickBooks showed a linked object, at a version; whether the link was still the one given."""
    return bool(
        connection.execute(
            """
            UPDATE finance_os.links
            SET sync_token = %(now)s, verified_at = CASE WHEN %(as_planned)s THEN clock_timestamp() END
            WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s AND key = %(key)s
              AND sync_token = %(before)s AND input_hash IS NOT DISTINCT FROM %(input_hash)s
            """,
            {
                "business_id": business_id,
                "rail": RAIL,
                "realm": realm,
                "key": str(link.key),
                "now": sync_token,
                "before": link.sync_token,
                "input_hash": link.input_hash,
                "as_planned": as_planned,
            },
        ).rowcount
    )


def _link(row: dict[str, Any]) -> Link:
    return Link(
        LinkKey(row["stripe_object"], row["stripe_id"], row["role"]),
        row["entity"],
        row["qbo_id"],
        row["sync_token"],
        row["origin"],
        row["input_hash"],
        row["linked_at"],
        row["verified_at"],
    )
