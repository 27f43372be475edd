"""Whose books are staged: what was read from the company that the export writes to, apart from any other company.

What is staged is known by business, object type and QuickBooks' ID, and every company counts its IDs from 1. So where
two companies were read into one business, an object of one may stand in the place of one of the other, or be kept out
by it. A plan made of such books would adopt objects of the wrong company, and book a second time what it cannot see.

Which company a connection is of nothing fixes: its realm is a setting, read when it is used. What was read tells:

- CompanyInfo is staged under its realm: it was seen by each connection that has ever read it.
- A sync run bears the company that it asked, as the name of its query (`company_path`). What ran before runs did so is
  taken for the company whose CompanyInfo its connection has read.

So a connection's books are one company's if it has seen no other one's CompanyInfo and staged nothing from another one,
and if nothing that it has read is held by another connection of the business. Otherwise nobody can tell whose object
stands where, also after the setting was put back: then nothing is loaded, and the blocker `books_of_several_companies`
says what to do. What a run read from another company without staging anything proves nothing of this one
(`completeness`), and does no harm.
"""

from collections.abc import Sequence

from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.database import DatabaseConnection
from finance_os.readiness.gate import Blocker
from finance_os.sources.quickbooks.objects import REALM_ID, company_path

SYSTEM = "quickbooks"
SEVERAL = "books_of_several_companies"
"""Books of another company are staged among those of the one that is written to, or about to be."""

_SUBJECT = f"{SYSTEM}/quickbooks_company_info"
_APART = (
    "make a business of its own for company {realm}, with connections of its own to Stripe and QuickBooks, and read "
    "both from their first day on. What the export has made in that company is known there by its marks, and not made "
    "again"
)


def connection_of(connection: DatabaseConnection, business_id: str, realm: str) -> int | None:
    """The connection by which a company's books are read; `None` where its CompanyInfo is not staged."""
    row = connection.execute(
        """
        SELECT connection_id FROM finance_os.raw_record_heads
        WHERE business_id = %s AND source_system = %s AND object_type = 'quickbooks_company_info'
          AND source_id = %s AND NOT removed
        """,
        (business_id, SYSTEM, realm),
    ).fetchone()
    return None if row is None else row["connection_id"]


def several(
    connection: DatabaseConnection, business_id: str, realm: str, object_types: Sequence[str]
) -> Blocker | None:
    """Why what is staged of `object_types` is not a company's own; `None` where it is, or where nothing is staged.

    Also where the company is not staged yet, and the connection that would read it has read another one.
    """
    read_by = connection_of(connection, business_id, realm)
    rows = connection.execute(
        """
        SELECT connection_id, external_account, active FROM finance_os.connections
        WHERE business_id = %s AND source_system = %s ORDER BY connection_id
        """,
        (business_id, SYSTEM),
    ).fetchall()
    accounts = {row["connection_id"]: row["external_account"] for row in rows}
    reading = [read_by] if read_by is not None else [row["connection_id"] for row in rows if row["active"]]
    for connection_id in reading:
        if others := _others_read_by(connection, business_id, realm, connection_id):
            return _mixed(realm, accounts[connection_id], others, is_read=read_by is not None)
    if read_by is not None and len(accounts) > 1:
        held = _held_elsewhere(connection, business_id, read_by, object_types)
        return _hidden(realm, accounts[read_by], held) if held else None
    return None


def _others_read_by(connection: DatabaseConnection, business_id: str, realm: str, connection_id: int) -> list[str]:
    """The other companies of which something was staged through a connection, in order."""
    rows = connection.execute(
        """
        SELECT record.source_id AS realm
        FROM finance_os.source_sync_sightings AS sighting
        JOIN finance_os.source_sync_runs AS run USING (sync_run_id)
        CROSS JOIN LATERAL unnest(sighting.record_ids) AS shown (record_id)
        JOIN finance_os.raw_source_records AS record ON record.record_id = shown.record_id
        WHERE sighting.business_id = %(business_id)s AND sighting.source_system = %(system)s
          AND sighting.object_type = 'quickbooks_company_info' AND run.connection_id = %(connection_id)s
          AND record.source_id <> %(realm)s
        UNION
        SELECT substr(query_name, length(%(any)s) + 1) FROM finance_os.source_sync_runs
        WHERE business_id = %(business_id)s AND source_system = %(system)s AND connection_id = %(connection_id)s
          AND starts_with(query_name, %(any)s) AND query_name <> %(own)s AND (rows_extracted > 0 OR rows_removed > 0)
        ORDER BY 1
        """,
        {
            "business_id": business_id,
            "system": SYSTEM,
            "connection_id": connection_id,
            "realm": realm,
            "any": company_path(""),
            "own": company_path(realm),
        },
    )
    return [row["realm"] for row in rows]


def _held_elsewhere(
    connection: DatabaseConnection, business_id: str, connection_id: int, object_types: Sequence[str]
) -> list[tuple[str, str]]:
    """Object types and IDs that a connection has read, and whose place another connection holds; each type's first."""
    rows = connection.execute(
        """
        WITH elsewhere AS MATERIALIZED (
            SELECT object_type, source_id FROM finance_os.raw_record_heads
            WHERE business_id = %(business_id)s AND source_system = %(system)s AND object_type = ANY (%(types)s)
              AND connection_id <> %(connection_id)s
        )
        SELECT record.object_type, min(record.source_id) AS source_id
        FROM finance_os.source_sync_runs AS run
        JOIN finance_os.source_sync_sightings AS sighting USING (sync_run_id)
        CROSS JOIN LATERAL unnest(sighting.record_ids) AS shown (record_id)
        JOIN finance_os.raw_source_records AS record ON record.record_id = shown.record_id
        JOIN elsewhere ON elsewhere.object_type = record.object_type AND elsewhere.source_id = record.source_id
        WHERE EXISTS (SELECT FROM elsewhere)
          AND run.business_id = %(business_id)s AND run.source_system = %(system)s AND run.object_type = ANY (%(types)s)
          AND run.connection_id = %(connection_id)s
        GROUP BY 1 ORDER BY 1
        """,
        {
            "business_id": business_id,
            "system": SYSTEM,
            "types": list(object_types),
            "connection_id": connection_id,
        },
    )
    return [(row["object_type"], row["source_id"]) for row in rows]


# --- told


def _mixed(realm: str, account: str, others: Sequence[str], *, is_read: bool) -> Blocker:
    """`is_read`: the company was read through the connection too, so that both lie among one another."""
    named = ", ".join(others)
    if is_read:
        remedy = (
            f"The QuickBooks connection {account} has read company {realm}, and also {named}: their objects have the "
            f"same IDs, and nobody can tell any more which is whose. Nothing is planned or written. Let a connection "
            f"read one company only: {_APART.format(realm=realm)}."
        )
    else:
        remedy = (
            f"The QuickBooks connection {account} is set to company {realm}, and has read {named}: the books of both "
            f"would be mixed. Read nothing more through it. Set {REALM_ID} back to {others[0]}, with that company's "
            f"tokens; to export to {realm} instead, {_APART.format(realm=realm)}."
        )
    return Blocker(SEVERAL, _SUBJECT, None, evidence_hash([SEVERAL, realm, account, *others]), remedy)


def _hidden(realm: str, account: str, held: Sequence[tuple[str, str]]) -> Blocker:
    named = ", ".join(f"{object_type} {source_id}" for object_type, source_id in held)
    remedy = (
        f"What the QuickBooks connection {account} has read of company {realm} is kept out by what another connection "
        f"of this business has staged under the same IDs ({named}): it would be booked a second time. Nothing is "
        f"planned or written: {_APART.format(realm=realm)}."
    )
    return Blocker(SEVERAL, _SUBJECT, None, evidence_hash([SEVERAL, realm, account, *map(list, held)]), remedy)
