"""What both ways to Redshift give: a read-only transaction with one snapshot, and the rows of statements in it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from finance_os.evidence.extraction import SourceError
from finance_os.sources.redshift.statements import Statement

Row = dict[str, Any]
"""A row by column name: integers, text, booleans and nulls, as `statements` has everything else cast to text."""

_EXACT = frozenset({int, str, bool, type(None)})


class Snapshot(Protocol):
    """A read-only transaction. Everything that is read in it shows the database at one moment.

    `requested_at` lies just before that moment, on the clock that was handed over.
    """

    requested_at: datetime

    def read(self, statement: Statement) -> Iterator[list[Row]]:
        """The rows of a statement, a few at a time; memory holds no more of them. Raises `SourceError`.

        One statement's rows must be drawn to their end before the next statement is read.
        """
        ...


class RedshiftReader(Protocol):
    """Reads one Redshift database. `host` says where, for people."""

    host: str

    def sent(self) -> dict[str, int]:
        """How much was sent so far, by what and where to."""
        ...

    def snapshot(self, now: Callable[[], datetime]) -> AbstractContextManager[Snapshot]:
        """A snapshot for a block. Raises `SourceError`."""
        ...


def rows_of(columns: tuple[str, ...], values: Iterable[Iterable[Any]], what: str) -> list[Row]:
    """Rows by column name. Raises `SourceError` for a value whose exact form a client may have lost."""
    rows: list[Row] = []
    for each in values:
        row = dict(zip(columns, each, strict=True))
        if not _EXACT.issuperset(map(type, row.values())):
            column, value = next((name, value) for name, value in row.items() if type(value) not in _EXACT)
            raise SourceError(
                "unsupported_column",
                f"{what}: column {column} comes as {type(value).__name__}: cast it to text in the query",
                permanent=True,
            )
        rows.append(row)
    return rows


def unique_columns(columns: tuple[str, ...], what: str) -> tuple[str, ...]:
    """`columns`; raises `SourceError` if one is there twice."""
    for column in columns:
        if columns.count(column) > 1:
            raise SourceError("unsupported_column", f"{what}: column {column} is there twice", permanent=True)
    return columns
