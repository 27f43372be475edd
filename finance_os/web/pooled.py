"""The finance database as the web app uses it: a few connections that are kept.

Pages read in a role that can only SELECT; the receiver of webhooks has its own connections, in the application's role.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from finance_os.evidence.database import READER_ROLE, Database, DatabaseConnection

CONNECTIONS = 4
"""Most connections at a time. A page takes one, for a tenth of a second."""

RECEIVING_CONNECTIONS = 8
"""Most connections of the receiver at a time. A delivery takes one, for some milliseconds."""

WAITS_SECONDS = 5.0
"""How long a page waits for a connection before it says that the database cannot be reached."""


@dataclass(frozen=True, repr=False)
class PooledDatabase(Database):
    """A database whose connections come from a pool, and go back to it."""

    pool: ConnectionPool[DatabaseConnection] = field(kw_only=True)

    @contextmanager
    def connection(self) -> Iterator[DatabaseConnection]:
        """A connection of the pool; `psycopg.OperationalError` if there is none in time."""
        with self.pool.connection() as opened:
            yield opened


@contextmanager
def pooled(database: Database) -> Iterator[PooledDatabase]:
    """`database` through a pool, in the reader's role where its login may take that; it need not answer yet."""
    with _pool(database.url, CONNECTIONS) as pool:
        yield PooledDatabase(database.url, _role(pool, database.role), pool=pool)


@contextmanager
def pooled_for_receiving(database: Database) -> Iterator[PooledDatabase]:
    """`database` through a pool of its own, in `database`'s role; it need not answer yet."""
    with _pool(database.url, RECEIVING_CONNECTIONS) as pool:
        yield PooledDatabase(database.url, database.role, pool=pool)


@contextmanager
def _pool(url: str, connections: int) -> Iterator[ConnectionPool[DatabaseConnection]]:
    pool = ConnectionPool[DatabaseConnection](
        url,
        connection_class=psycopg.Connection[DictRow],
        kwargs={"autocommit": True, "prepare_threshold": None, "row_factory": dict_row, "connect_timeout": 5},
        configure=_configure,
        check=_check,
        min_size=0,
        max_size=connections,
        timeout=WAITS_SECONDS,
        open=False,
    )
    pool.open()
    try:
        yield pool
    finally:
        pool.close()


def _role(pool: ConnectionPool[DatabaseConnection], other: str) -> str:
    """The reader's role, unless the login is known not to be a member of it."""
    try:
        with pool.connection() as opened:
            row = opened.execute("SELECT pg_has_role(%s, 'MEMBER') AS member", (READER_ROLE,)).fetchone()
    except psycopg.OperationalError:
        return READER_ROLE
    except psycopg.errors.UndefinedObject:  # nothing was migrated yet
        return READER_ROLE
    return READER_ROLE if row and row["member"] else other


def _check(connection: DatabaseConnection) -> None:
    """Raises where the server has closed it."""
    connection.execute("")


def _configure(connection: DatabaseConnection) -> None:
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
