"""The finance database: connections, transactions in the application's role, and the schema's migrations.

Everything here works behind a transaction pooler (pgbouncer, Supabase): nothing outlives a transaction, locks are
taken for one transaction, and no statement is prepared on the server.
"""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import psycopg
import yoyo
from psycopg.rows import DictRow, dict_row
from yoyo.backends.base import DatabaseBackend
from yoyo.migrations import MigrationList

DatabaseConnection: TypeAlias = psycopg.Connection[DictRow]
"""A connection whose rows are dicts."""

APPLICATION_ROLE = "finance_os_application"
READER_ROLE = "finance_os_reader"
MINIMUM_SERVER_VERSION = 150_000

READABLE: LiteralString = "set_config('datestyle', 'ISO, YMD', true), set_config('intervalstyle', 'postgres', true)"
"""For one transaction, times and intervals in the form that psycopg reads, whatever the server's or login's is."""


def sql_folder() -> Path:
    """Where the SQL that stands on its own lies: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "sql"
    return checkout if checkout.is_dir() else package / "sql"


class SchemaNotCurrent(RuntimeError):
    """The database's schema is not the one that this version of Finance OS needs."""


@dataclass(frozen=True)
class Database:
    """How to reach the finance database, and as which role to work in it.

    The login needs membership in the role; it is taken for one transaction at a time, so that a login with more
    rights (the owner's, in a plain installation) never uses them.
    """

    url: str
    role: str = APPLICATION_ROLE

    def __repr__(self) -> str:
        return f"Database({urlsplit(self.url).hostname or 'local socket'}, {self.role})"

    def connect(self) -> DatabaseConnection:
        """A new connection in autocommit mode, without prepared statements; rows come as dicts."""
        connection = psycopg.Connection[DictRow].connect(
            self.url,
            autocommit=True,
            prepare_threshold=None,
            row_factory=dict_row,
        )
        # Who has waited for a lock must see what was committed meanwhile, whatever the server's default is.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    @contextmanager
    def connection(self) -> Iterator[DatabaseConnection]:
        """A connection that is closed at the end of the block."""
        connection = self.connect()
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def transaction(self, connection: DatabaseConnection | None = None) -> Iterator[DatabaseConnection]:
        """One transaction in this database's role: on `connection`, or on one opened for it."""
        if connection is None:
            with self.connection() as opened, self.transaction(opened):
                yield opened
        else:
            with connection.transaction():
                connection.execute(f"SELECT set_config('role', %s, true), {READABLE}", (self.role,))
                yield connection

    def fetch(self, query: LiteralString, parameters: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        """All rows of one query, in a transaction of its own."""
        with self.transaction() as connection:
            return connection.execute(query, parameters).fetchall()

    def as_reader(self) -> "Database":
        """The same database with a role that can only SELECT."""
        return Database(self.url, READER_ROLE)


def lock_objects(connection: DatabaseConnection, business_id: str, source_system: str, object_type: str) -> None:
    """Hold the heads of one object type of one business until the transaction ends."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
        (f"finance_os/heads/{business_id}/{source_system}/{object_type}",),
    )


def migrate(url: str) -> list[str]:
    """Apply the migrations that are missing, as the login in `url`; the IDs of those applied.

    `url` must lead to PostgreSQL itself, not through a transaction pooler. Two migrations at once: one waits.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.info.server_version < MINIMUM_SERVER_VERSION:
            raise SchemaNotCurrent(
                f"PostgreSQL {connection.info.server_version // 10_000} is too old: "
                f"{MINIMUM_SERVER_VERSION // 10_000} or newer is needed."
            )
        connection.execute("SELECT pg_advisory_lock(hashtextextended('finance_os/migrate', 0))")
        connection.execute("CREATE SCHEMA IF NOT EXISTS finance_os")
        backend = _yoyo_backend(url)
        try:
            with backend.lock():
                missing = backend.to_apply(_migrations())
                applied = [migration.id for migration in missing]
                backend.apply_migrations(missing)
        finally:
            backend.connection.close()
    return applied


def schema_state(database: Database) -> tuple[list[str], list[str]]:
    """IDs of the migrations that are applied, and of those that are missing, in order."""
    wanted = _migration_ids()
    with database.connection() as connection:
        known = connection.execute("SELECT to_regclass('finance_os._yoyo_migration') IS NOT NULL AS known").fetchone()
        assert known is not None
        rows = (
            connection.execute("SELECT migration_id FROM finance_os._yoyo_migration").fetchall()
            if known["known"]
            else []
        )
    applied = {row["migration_id"] for row in rows}
    return [name for name in wanted if name in applied], [name for name in wanted if name not in applied]


def require_current_schema(database: Database) -> None:
    """Raise `SchemaNotCurrent` unless every migration is applied."""
    _, missing = schema_state(database)
    if missing:
        raise SchemaNotCurrent(
            f"The database lacks {len(missing)} migration(s), first {missing[0]}: run `finance-os db migrate`."
        )


@functools.cache
def _migration_ids() -> tuple[str, ...]:
    """IDs of the migrations of this package, in order: read once, for they are those of the code that runs."""
    return tuple(migration.id for migration in _migrations())


def _migrations() -> MigrationList:
    return yoyo.read_migrations(str(sql_folder() / "schema"))


def _yoyo_backend(url: str) -> DatabaseBackend:
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, "schema=finance_os") if part)
    return yoyo.get_backend(urlunsplit(("postgresql+psycopg", parts.netloc, parts.path, query, "")))
