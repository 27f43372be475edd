"""From the rows of a query to records: JSON values by the types of the columns, and nothing that would lose any."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import psycopg
from psycopg.rows import TupleRow

from finance_os.evidence.extraction import Record, SourceError
from finance_os.sources.gravity.selection import Selection
from finance_os.sources.sql_queries import SqlQuery

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"


def _clock_text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


Convert: TypeAlias = Callable[[Any], Any]

# PostgreSQL type -> what makes a JSON value of what psycopg gives; None where it is one already. uuid, date, float
# and json columns have loaders of their own, see `GravityReader.transaction`.
_CONVERSIONS: Mapping[str, Convert | None] = {
    "bool": None,
    "int2": None,
    "int4": None,
    "int8": None,
    "numeric": None,
    "float4": None,
    "float8": None,
    "text": None,
    "varchar": None,
    "bpchar": None,
    "name": None,
    "uuid": None,
    "date": None,
    "json": None,
    "jsonb": None,
    "timestamptz": utc_text,
    "timestamp": _clock_text,
    "bytea": bytes.hex,
}

_KEY_TYPES = {"int2", "int4", "int8", "text", "varchar", "uuid", "date"}


def record_maker(
    cursor: psycopg.Cursor[TupleRow], query: SqlQuery, reading: Selection
) -> Callable[[tuple[Any, ...]], Record]:
    """What makes a record of a row, decided once for all rows from the types of the columns."""
    columns = cursor.description or []
    types = {column.name: _type_name(column.type_code) for column in columns}
    names = tuple(types)

    def problem(column: str, fault: str) -> SourceError:
        return SourceError(
            "unsupported_column", f"{query.name} version {query.version}: column {column} {fault}", permanent=True
        )

    if twice := [name for name, times in Counter(column.name for column in columns).items() if times > 1]:
        raise problem(twice[0], "is there twice")
    conversions: list[tuple[str, Convert]] = []
    for name, kind in types.items():
        if kind.removesuffix("[]") not in _CONVERSIONS:
            raise problem(name, f"is of type {kind}, which has no exact JSON form: cast it in the query")
        convert = _CONVERSIONS[kind.removesuffix("[]")]
        if convert is not None:
            conversions.append((name, _each(convert) if kind.endswith("[]") else convert))
    for name in query.key:
        if types.get(name) not in _KEY_TYPES:
            raise problem(name, f"is of type {types.get(name)} and cannot be a key: cast it in the query")
    for name in (query.updated, query.created):
        if name is not None and types.get(name) != "timestamptz":
            raise problem(name, f"is of type {types.get(name)} and should be timestamptz: cast it in the query")
    key = tuple(names.index(name) for name in query.key)
    updated = names.index(query.updated or "")
    created = names.index(query.created) if query.created else updated
    dated = bool(reading.starts)
    day = reading.days[-1]

    def record_of(row: tuple[Any, ...]) -> Record:
        payload = dict(zip(names, row, strict=True))
        for name, convert in conversions:
            value = payload[name]
            if value is not None:
                payload[name] = convert(value)
        updated_at = row[updated]
        return Record(
            source_id=str(row[key[0]]) if len(key) == 1 else ":".join([str(row[at]) for at in key]),
            payload=payload,
            day=reading.day(updated_at) if dated else day,
            version=(updated_at - _EPOCH) // _MICROSECOND,
            created_at=row[created],
            updated_at=updated_at,
        )

    return record_of


def _type_name(oid: int) -> str:
    """`text`, `text[]` …; the OID where it is not one of PostgreSQL's own types."""
    found = psycopg.adapters.types.get(oid)
    if found is None:
        return f"OID {oid}"
    return f"{found.name}[]" if oid == found.array_oid else found.name


def _each(convert: Convert) -> Convert:
    """`convert` for every member of an array, which may have several dimensions."""

    def convert_all(values: list[Any]) -> list[Any]:
        return [
            convert_all(value) if isinstance(value, list) else None if value is None else convert(value)
            for value in values
        ]

    return convert_all
