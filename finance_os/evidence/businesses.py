"""Businesses (tenants) and their connections to source systems."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from finance_os.evidence.database import Database


@dataclass(frozen=True)
class Connection:
    """One account of one business at one source system."""

    connection_id: int
    business_id: str
    source_system: str
    external_account: str
    secret_reference: str
    time_zone: str

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which this connection's days are read."""
        return ZoneInfo(self.time_zone)

    def __str__(self) -> str:
        return f"{self.business_id}/{self.source_system}/{self.external_account}"


def ensure_business(database: Database, business_id: str, name: str, time_zone: str) -> None:
    """Record a business, or bring its name and time zone up to date, and that of connections that follow it."""
    with database.transaction() as connection:
        connection.execute(
            """
            UPDATE finance_os.connections AS connection SET time_zone = %(time_zone)s
            FROM finance_os.businesses AS business
            WHERE business.business_id = %(business_id)s AND connection.business_id = business.business_id
              AND connection.time_zone = business.time_zone AND business.time_zone <> %(time_zone)s
            """,
            {"business_id": business_id, "time_zone": time_zone},
        )
        connection.execute(
            """
            INSERT INTO finance_os.businesses (business_id, name, time_zone) VALUES (%s, %s, %s)
            ON CONFLICT (business_id) DO UPDATE SET name = excluded.name, time_zone = excluded.time_zone
            """,
            (business_id, name, time_zone),
        )


def ensure_connection(
    database: Database,
    business_id: str,
    source_system: str,
    external_account: str = "default",
    *,
    secret_reference: str = "env",
    time_zone: str | None = None,
    active: bool = True,
) -> Connection:
    """Record a connection of a business, or bring it up to date; its time zone is the business's unless given."""
    with database.transaction() as connection:
        row = connection.execute(
            """
            INSERT INTO finance_os.connections
                (business_id, source_system, external_account, secret_reference, time_zone, active)
            SELECT business_id, %(source_system)s, %(external_account)s, %(secret_reference)s,
                   coalesce(%(time_zone)s, time_zone), %(active)s
            FROM finance_os.businesses WHERE business_id = %(business_id)s
            ON CONFLICT (business_id, source_system, external_account) DO UPDATE
            SET secret_reference = excluded.secret_reference,
                time_zone = excluded.time_zone,
                active = excluded.active
            RETURNING connection_id, business_id, source_system, external_account, secret_reference, time_zone
            """,
            {
                "business_id": business_id,
                "source_system": source_system,
                "external_account": external_account,
                "secret_reference": secret_reference,
                "time_zone": time_zone,
                "active": active,
            },
        ).fetchone()
    if row is None:
        raise LookupError(f"there is no business {business_id!r}: record it first")
    return Connection(**row)


def active_connections(
    database: Database, source_system: str, connection_ids: list[int] | None = None
) -> list[Connection]:
    """The active connections to a source system, in order; only those in `connection_ids` if given."""
    rows = database.fetch(
        """
        SELECT connection_id, business_id, source_system, external_account, secret_reference, time_zone
        FROM finance_os.connections
        WHERE source_system = %(source_system)s AND active
          AND (%(connection_ids)s::bigint[] IS NULL OR connection_id = ANY (%(connection_ids)s))
        ORDER BY business_id, connection_id
        """,
        {"source_system": source_system, "connection_ids": connection_ids},
    )
    return [Connection(**row) for row in rows]


def every_business(database: Database) -> list[str]:
    """The IDs of all businesses, sorted."""
    return [row["business_id"] for row in database.fetch("SELECT business_id FROM finance_os.businesses ORDER BY 1")]


def every_connection(database: Database) -> list[Connection]:
    """All connections of all businesses, the inactive ones too."""
    rows = database.fetch(
        """
        SELECT connection_id, business_id, source_system, external_account, secret_reference, time_zone
        FROM finance_os.connections ORDER BY connection_id
        """
    )
    return [Connection(**row) for row in rows]
