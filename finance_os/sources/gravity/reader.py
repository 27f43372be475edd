"""The way to a Gravity database: read-only transactions with one snapshot, whose values arrive exact."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TypeAlias

import psycopg
import psycopg.conninfo
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader
from typing_extensions import override

from finance_os.evidence.canonical import decode
from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import READ_ONLY_SESSION, Query, ReadOnlyGuard

URL = "FINANCE_OS_GRAVITY_URL"
FOLDER = "gravity"
READS = (Query(f"sql/{FOLDER}"),)

GravityConnection: TypeAlias = psycopg.Connection[TupleRow]

# What the URL does not say itself: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_CONNECTION = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "application_name": "finance-os",
}

# For this transaction only, so that nothing is left behind in a pooler's server connection. None of these takes
# the snapshot. A page is one statement (FETCH), and while it is staged the transaction idles.
_SESSION = """
    SET LOCAL statement_timeout = '10min';
    SET LOCAL lock_timeout = '10s';
    SET LOCAL idle_in_transaction_session_timeout = '30min';
    SET LOCAL TimeZone = 'UTC';
    SET LOCAL DateStyle = 'ISO, YMD';
    SET LOCAL extra_float_digits = 1;
    SET LOCAL bytea_output = 'hex'
"""


class _ExactFloat(Loader):
    """A float as the exact decimal of its shortest text."""

    format = pq.Format.TEXT

    @override
    def load(self, data: Buffer) -> Decimal:
        return Decimal(bytes(data).decode())


class GravityReader:
    """Reads one Gravity database. Made by `connect`."""

    def __init__(self, url: str) -> None:
        try:
            given = psycopg.conninfo.conninfo_to_dict(url)
            self._guard = ReadOnlyGuard(READS, url)
        except (psycopg.ProgrammingError, ValueError):
            raise SourceError(
                "invalid_url",
                f"{URL} is not a PostgreSQL URL: postgresql://user:password@host/database",
                permanent=True,
            ) from None
        self._parameters = {**_CONNECTION, **given}
        host = str(given.get("host") or given.get("hostaddr") or "")
        self.host = host if host and not host.startswith("/") else "local socket"

    def __repr__(self) -> str:
        return f"GravityReader({self.host})"

    def sent(self) -> dict[str, int]:
        """How many statements were sent so far, by `"SELECT host"`."""
        return self._guard.sent()

    def count_select(self) -> None:
        """Count a statement."""
        self._guard.count("SELECT", self.host)

    @contextmanager
    def transaction(self) -> Iterator[GravityConnection]:
        """A connection in a REPEATABLE READ, READ ONLY transaction whose snapshot has not been taken yet.

        The transaction is over, and the connection closed, at the end of the block. Raises `psycopg.Error`.
        """
        connection = GravityConnection.connect(prepare_threshold=None, row_factory=tuple_row, **self._parameters)
        with connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            for name in ("uuid", "date"):
                connection.adapters.register_loader(name, TextLoader)
            for name in ("float4", "float8"):
                connection.adapters.register_loader(name, _ExactFloat)
            set_json_loads(decode, connection)
            connection.execute(_SESSION)
            # SHOW takes no snapshot; what the server answers is the fact, not what was asked of the driver.
            if connection.execute("SHOW transaction_read_only").fetchone() == ("on",):
                self._guard.count(READ_ONLY_SESSION, self.host)
            yield connection


@contextmanager
def connect(credentials: Credentials) -> Iterator[GravityReader]:
    """A reader of the database that the credentials lead to; it connects when something is read."""
    yield GravityReader(credentials[URL])
