"""The only statements that are ever sent to Redshift: forms of the versioned queries, and the transaction around them.

A versioned query reads one half-open span of time. Its forms put several such spans, one a day, into one statement,
sum them up or order them; the query's own text stands in each as it is in its file. So a statement's text depends on
the query, the form and the number of days alone, and can be recognised before it is sent. Only what both Redshift
(https://docs.aws.amazon.com/redshift/latest/dg/c_unsupported-postgresql-features.html) and PostgreSQL understand is
used; numbers beyond integers and times are cast to text, as clients of the two differ in what they make of them.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from finance_os.evidence.extraction import SourceError
from finance_os.evidence.windows import Window
from finance_os.sources.sql_queries import SqlQuery

DAYS_PER_STATEMENT = 8
"""Most days in one statement: a daily run's seven past days and today."""

ROWS_PER_FETCH = 1_000
"""Rows that one FETCH may ask a single-node cluster for: https://docs.aws.amazon.com/redshift/latest/dg/fetch.html"""

STATEMENT_TIMEOUT = timedelta(minutes=10)

# Redshift runs every transaction on one snapshot whatever level is named (https://docs.aws.amazon.com/redshift/latest/
# dg/r_BEGIN.html: "all commands in a transaction run on a snapshot of the database"); PostgreSQL does so at this one.
BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
ROLLBACK = "ROLLBACK"
SETTINGS = (f"SET statement_timeout TO {STATEMENT_TIMEOUT // timedelta(milliseconds=1)}", "SET timezone TO 'UTC'")

_SURROUNDING = frozenset({BEGIN, ROLLBACK, *SETTINGS})
_DECLARED = re.compile(r"DECLARE finance_os_\d+ CURSOR FOR\n")
_LABEL = re.compile(r"/\* finance-os: (\w+) version (\d+), (\w+) of (\d) \*/\n")


class Form(StrEnum):
    """sums: a row a day with the day's totals; rows: a day's rows, whole days one after the other; counts: a row a
    day with how many rows and how many keys it has; events: the rows of one span in order of time."""

    SUMS = "sums"
    ROWS = "rows"
    COUNTS = "counts"
    EVENTS = "events"


class ForbiddenStatement(SourceError):
    """A statement that is no form of a versioned query. It was not sent."""

    def __init__(self) -> None:
        super().__init__(
            "write_refused",
            "a statement that is none of the versioned queries in sql/redshift was not sent",
            permanent=True,
        )


@dataclass(frozen=True)
class Statement:
    """One statement: `parameters` are what its placeholders stand for; `what` names its query in messages."""

    text: str
    parameters: Mapping[str, datetime]
    what: str


def statement(query: SqlQuery, form: Form, windows: Sequence[Window]) -> Statement:
    """`query` in a form over some days' windows; the columns `day_number` count them from 0."""
    if not 0 < len(windows) <= (1 if form is Form.EVENTS else DAYS_PER_STATEMENT):
        raise ValueError(f"{len(windows)} days do not go into one statement of the form {form}")
    bounds = {
        f"{side}_{number}": moment
        for number, window in enumerate(windows)
        for side, moment in (("start", window.start), ("end", window.end))
    }
    return Statement(_text(query, form, len(windows)), bounds, f"{query.name} version {query.version}")


@dataclass(frozen=True)
class Cursor:
    """A cursor of the server's over a SELECT.

    The `number` is another one each time in a connection: the driver prepares every text once and keeps the columns
    that it had then, so that a FETCH from a cursor of the same name would be read with the columns of the first.
    """

    number: int

    def declare(self, text: str) -> str:
        """The statement that opens it."""
        return f"DECLARE finance_os_{self.number} CURSOR FOR\n{text}"

    @property
    def fetch(self) -> str:
        """The statement that gives the next `ROWS_PER_FETCH` rows."""
        return f"FETCH FORWARD {ROWS_PER_FETCH} FROM finance_os_{self.number}"

    @property
    def close(self) -> str:
        """The statement that closes it."""
        return f"CLOSE finance_os_{self.number}"


class VersionedStatements:
    """Tells statements of these queries, and what surrounds them, from all others."""

    def __init__(self, queries: Iterable[SqlQuery]) -> None:
        self._queries = {(query.name, str(query.version)): query for query in queries}

    def admit(self, text: str) -> None:
        """Let a statement pass; raise `ForbiddenStatement` for any that is not one of ours, to the letter."""
        text = _DECLARED.sub("", text, count=1) if text.startswith("DECLARE") else text
        if text in _SURROUNDING:
            return
        label = _LABEL.match(text)
        query = self._queries.get((label[1], label[2])) if label else None
        if not label or not query or label[3] not in set(Form) or not 0 < int(label[4]) <= DAYS_PER_STATEMENT:
            raise ForbiddenStatement
        if text != _text(query, Form(label[3]), int(label[4])):
            raise ForbiddenStatement


@lru_cache(maxsize=128)
def _text(query: SqlQuery, form: Form, days: int) -> str:
    parts = [
        _FORMS[form](query, number).format(text=query.bound_to({"start": f":start_{number}", "end": f":end_{number}"}))
        for number in range(days)
    ]
    order = f"{query.created}, {query.key[0]}" if form is Form.EVENTS else "1"
    label = f"/* finance-os: {query.name} version {query.version}, {form} of {days} */\n"
    return label + "\nUNION ALL\n".join(parts) + f"\nORDER BY {order}"


def _sums(_: SqlQuery, number: int) -> str:
    return (
        f"SELECT {number} AS day_number,\n"
        "    CAST(COALESCE(SUM(q.spend), 0) AS varchar(64)) AS spend,\n"
        "    CAST(COALESCE(SUM(q.impressions), 0) AS bigint) AS impressions,\n"
        "    COUNT(*) AS row_count\n"
        "FROM (\n{text}\n) AS q"
    )


def _rows(query: SqlQuery, number: int) -> str:
    keys = ", ".join(f"q.{column}" for column in query.key)
    return (
        f"SELECT {number} AS day_number, {keys}, q.currency,\n"
        "    CAST(COALESCE(q.spend, 0) AS varchar(64)) AS spend, q.impressions, q.unpriced\n"
        "FROM (\n{text}\n) AS q"
    )


def _counts(query: SqlQuery, number: int) -> str:
    return (
        f"SELECT {number} AS day_number, COUNT(*) AS row_count, COUNT(DISTINCT q.{query.key[0]}) AS key_count\n"
        "FROM (\n{text}\n) AS q"
    )


def _events(_: SqlQuery, __: int) -> str:
    return "SELECT q.*\nFROM (\n{text}\n) AS q"


_FORMS: Mapping[Form, Callable[[SqlQuery, int], str]] = {
    Form.SUMS: _sums,
    Form.ROWS: _rows,
    Form.COUNTS: _counts,
    Form.EVENTS: _events,
}
