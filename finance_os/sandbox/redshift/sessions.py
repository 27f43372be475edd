"""Sessions and statements of the Data API: each session is a connection to the warehouse and runs one at a time.

A statement is run in the background; its result is kept, whatever becomes of its session.
"""

import re
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from .dialect import Dialect

_QUOTED = r"'(?:[^']|'')*'|\"[^\"]*\"|/\*.*?\*/|--[^\n]*"
_TOKEN = re.compile(rf"({_QUOTED})|(?<![:\w]):([0-9a-zA-Z_]+)|(%)", re.S)

# What Redshift calls PostgreSQL's types: https://docs.aws.amazon.com/redshift/latest/dg/c_Supported_data_types.html
_TYPES = {
    16: "bool",
    20: "int8",
    21: "int2",
    23: "int4",
    25: "text",
    700: "float4",
    701: "float8",
    1042: "bpchar",
    1043: "varchar",
    1082: "date",
    1114: "timestamp",
    1184: "timestamptz",
    1700: "numeric",
}


class Unusable(Exception):
    """A session that no statement can be sent to."""


@dataclass(slots=True)
class Statement:
    """One statement and what came of it. Times are Unix seconds, `duration` nanoseconds."""

    id: str
    sql: str
    parameters: list[dict[str, str]]
    session: str
    place: Mapping[str, str]
    created: float
    updated: float
    status: str = "SUBMITTED"
    error: str | None = None
    columns: list[dict[str, Any]] | None = None
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    affected: int = -1
    duration: int = -1
    pid: int = 0
    cancelled: bool = False
    done: Future[None] = field(default_factory=Future)


class Session:
    """A connection that stays open for `kept` seconds after each statement."""

    def __init__(self, address: str, place: Mapping[str, str], kept: int, clock: Callable[[], float]) -> None:
        self.id = str(uuid.uuid4())
        self.place = place
        self.running: Statement | None = None
        self.closed = False
        self._kept = kept
        self._clock = clock
        self._idle_since = clock()
        self._address = make_conninfo(address, application_name="Redshift Data API", options="-c timezone=UTC")
        self._connection: psycopg.Connection[Any] | None = None
        self._dialect = Dialect()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="redshift-data")

    @property
    def expired(self) -> bool:
        return self.running is None and self._clock() - self._idle_since > self._kept

    def submit(self, statement: Statement, delay: float) -> None:
        """Begin a statement; it waits `delay` seconds before it is picked up."""
        self.running = statement
        self._worker.submit(self._run, statement, delay)

    def cancel(self) -> None:
        if self.running is not None:
            self.running.cancelled = True
            if self._connection is not None:
                self._connection.cancel_safe(timeout=5)

    def close(self) -> None:
        """End the connection, and with it a transaction that is still open."""
        self.closed = True
        self._worker.shutdown(wait=True)
        if self._connection is not None:
            self._connection.close()

    def _run(self, statement: Statement, delay: float) -> None:
        try:
            if delay:
                time.sleep(delay)
            statement.status = "STARTED"
            began = time.perf_counter_ns()
            self._execute(statement)
            statement.duration = time.perf_counter_ns() - began
            statement.status = "FINISHED"
        except psycopg.Error as error:
            statement.status = "ABORTED" if statement.cancelled else "FAILED"
            statement.error = f"ERROR: {error.diag.message_primary or 'the connection was lost'}"
        except BaseException as error:
            statement.status, statement.error = "FAILED", f"ERROR: {error}"
            raise
        finally:
            statement.updated = time.time()
            self._idle_since = self._clock()
            self.running = None
            statement.done.set_result(None)
            if not self._kept:
                self.closed = True
                with suppress(Exception):
                    assert self._connection is not None
                    self._connection.close()

    def _execute(self, statement: Statement) -> None:
        if self._connection is None:
            self._connection = psycopg.connect(self._address, autocommit=True)
            self._connection.prepared_max = None
        statement.pid = self._connection.info.backend_pid
        complaint = self._dialect.complaint(statement.sql)
        self._dialect.ran(statement.sql)
        text = statement.sql if complaint is None else f"redshift: {complaint}"
        query, values = _bound(text, statement.parameters)
        # Prepared, because PostgreSQL takes several statements at once only if they are not.
        cursor = self._connection.execute(query.encode(), values or None, prepare=True)
        if cursor.description is None:
            statement.affected = cursor.rowcount
            return
        statement.columns = [
            {
                "isCaseSensitive": column.type_code in (25, 1042, 1043),
                "isCurrency": False,
                "isSigned": column.type_code in (20, 21, 23, 700, 701, 1700),
                "label": column.name,
                "length": 0,
                "name": column.name,
                "nullable": 1,
                "precision": column.precision or column.internal_size or 0,
                "scale": column.scale or 0,
                "schemaName": "",
                "tableName": "",
                "typeName": _TYPES.get(column.type_code, "unknown"),
            }
            for column in cursor.description
        ]
        statement.rows = cursor.fetchall()
        statement.affected = len(statement.rows)


def parameters_in(sql: str) -> set[str]:
    """The names of a statement's parameters."""
    return {found[2] for found in _TOKEN.finditer(sql) if found[2]}


def _bound(sql: str, parameters: list[dict[str, str]]) -> tuple[str, dict[str, str]]:
    """A statement with psycopg's placeholders, and their values, which PostgreSQL turns into the type that it needs."""
    values = {each["name"]: each["value"] for each in parameters}
    if not values:
        return sql, values

    def translated(found: re.Match[str]) -> str:
        if found[2]:
            return f"%({found[2]})s"
        return found[0].replace("%", "%%")

    return _TOKEN.sub(translated, sql), values
