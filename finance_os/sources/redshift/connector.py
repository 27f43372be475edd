"""Redshift over its wire protocol, by Amazon's own driver, redshift-connector.

The driver keeps the whole result of a statement in memory (`fetchmany` only cuts it up), so rows are read through a
cursor of the server: https://docs.aws.amazon.com/redshift/latest/dg/declare.html. One is open at a time.
"""

import itertools
import logging
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from finance_os.evidence.extraction import SourceError
from finance_os.sources.guard import READ_ONLY_SESSION, ReadOnlyGuard
from finance_os.sources.redshift.address import URL, ClusterAddress
from finance_os.sources.redshift.failures import server_failure, state_of, unreachable
from finance_os.sources.redshift.snapshot import Row, rows_of, unique_columns
from finance_os.sources.redshift.statements import (
    BEGIN,
    ROWS_PER_FETCH,
    SETTINGS,
    STATEMENT_TIMEOUT,
    Cursor,
    Statement,
    VersionedStatements,
)

# Longer than the server takes to end a statement itself.
_SOCKET_TIMEOUT = int(STATEMENT_TIMEOUT.total_seconds()) + 30
_PLACEHOLDER = re.compile(r"(?<![:\w]):(\w+)")


class ClusterSnapshot:
    """A transaction on a connection of the driver's. Made by `ClusterReader.snapshot`."""

    def __init__(self, reader: "ClusterReader", connection: Any, requested_at: datetime) -> None:
        self._reader = reader
        self.connection = connection
        self.requested_at = requested_at
        self._numbers = itertools.count(1)

    def read(self, statement: Statement) -> Iterator[list[Row]]:
        """See `Snapshot.read`."""
        reader, what = self._reader, statement.what
        server_cursor = Cursor(next(self._numbers))
        reader.statements.admit(server_cursor.declare(statement.text))
        reader.count_select()
        with reader.explained(what), self.connection.cursor() as cursor:
            cursor.execute(server_cursor.declare(_bound(statement)))
            columns: tuple[str, ...] = ()
            while True:
                cursor.execute(server_cursor.fetch)
                columns = columns or unique_columns(tuple(each[0] for each in cursor.description), what)
                rows = rows_of(columns, cursor.fetchall(), what)
                if rows:
                    yield rows
                if len(rows) < ROWS_PER_FETCH:
                    break
            cursor.execute(server_cursor.close)


class ClusterReader:
    """Reads over a connection of its own for each snapshot."""

    def __init__(self, address: ClusterAddress, statements: VersionedStatements) -> None:
        self._address = address
        self.statements = statements
        self.host = address.host
        self._guard = ReadOnlyGuard((), "")

    def __repr__(self) -> str:
        return f"ClusterReader({self.host})"

    def sent(self) -> dict[str, int]:
        """How many queries were sent so far, by `"SELECT host"`."""
        return self._guard.sent()

    def count_select(self) -> None:
        """Count a query."""
        self._guard.count("SELECT", self.host)

    @contextmanager
    def snapshot(self, now: Callable[[], datetime]) -> Iterator[ClusterSnapshot]:
        """See `RedshiftReader.snapshot`. The transaction ends with its connection, whatever happens in the block."""
        with self.explained("the login"):
            connection = self._connect()
        try:
            with self.explained("the beginning of a transaction"), connection.cursor() as cursor:
                connection.autocommit = True  # or the driver would begin a transaction of its own, one that may write
                for setting in SETTINGS:
                    cursor.execute(setting)
                requested_at = now()
                cursor.execute(BEGIN)
            self._guard.count(READ_ONLY_SESSION, self.host)
            yield ClusterSnapshot(self, connection, requested_at)
        finally:
            with suppress(Exception):
                connection.close()

    def _connect(self) -> Any:
        import redshift_connector

        # On DEBUG the driver logs everything, what it read included.
        logging.getLogger("redshift_connector").setLevel(logging.INFO)
        address = self._address
        return redshift_connector.connect(
            host=address.host,
            port=address.port,
            database=address.database,
            user=address.user,
            password=address.password,
            ssl=address.sslmode != "disable",
            sslmode=address.sslmode if address.sslmode != "disable" else "verify-full",
            timeout=_SOCKET_TIMEOUT,
            tcp_keepalive_idle=30,
            tcp_keepalive_interval=10,
            tcp_keepalive_count=3,
            application_name="finance-os",
        )

    @contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Raise what the driver raises as a `SourceError`, without its text."""
        import redshift_connector

        try:
            yield
        except redshift_connector.Error as error:
            raise _explanation(error, self.host, what) from None
        except (OSError, struct.error):  # the connection broke; the latter, in the middle of a message
            raise unreachable(self.host, what) from None


def _explanation(error: Exception, host: str, what: str) -> SourceError:
    told = error.args[0] if error.args else ""
    if isinstance(told, dict):  # https://www.postgresql.org/docs/8.0/protocol-error-fields.html
        message = str(told.get("M", ""))
        return server_failure(str(told.get("C") or state_of(message)), message, host, what)
    if "SSL" in str(error.args):  # refused, or a certificate that does not prove the host
        return SourceError("unreachable", f"no TLS connection to Redshift at {host} such as {URL} asks for")
    return unreachable(host, what)


def _bound(statement: Statement) -> str:
    """The statement with its times written into it: that a cursor may have parameters, Redshift does not say."""
    return _PLACEHOLDER.sub(lambda found: f"'{timestamp_text(statement.parameters[found[1]])}'", statement.text)


def timestamp_text(moment: datetime) -> str:
    """A moment as Redshift reads a `timestamp` in UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
