"""The link tables for BigQuery: GoogleSQL that makes tables which take the rows as they are.

Types are as exact as BigQuery has them: 64-bit integers, JSON, times with a zone as TIMESTAMP, days as DATE; an array
is REPEATED, and so neither null nor declared NOT NULL. Keys are declared and, as always in BigQuery, not enforced.
https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language#create_table_statement
"""

from msgspec import inspect

from finance_os.artifacts.rows import TABLES, Table

DATASET = "finance_os"
"""The dataset that the tables are made in: replace it by your own."""

EXPORTED = tuple(table for table in TABLES if table.partition)
"""The tables that go to BigQuery."""

_HEAD = """\
-- {title} for BigQuery, as `finance-os artifacts rows {name}` gives its rows (one JSON object a line).
-- Written by `finance-os artifacts write`; a test holds it against PostgreSQL's catalogue. Not to be edited by hand.
"""

_SIMPLE: dict[type[inspect.Type], str] = {
    inspect.BoolType: "BOOL",
    inspect.IntType: "INT64",
    inspect.DecimalType: "NUMERIC",
    inspect.StrType: "STRING",
    inspect.EnumType: "STRING",
    inspect.LiteralType: "STRING",
    inspect.DateTimeType: "TIMESTAMP",
    inspect.DateType: "DATE",
    inspect.DictType: "JSON",
}


def column_types(table: Table) -> dict[str, tuple[str, bool]]:
    """Each column's BigQuery type and whether it may be null, in order; an array is `ARRAY<…>`."""
    found = inspect.type_info(table.row)
    assert isinstance(found, inspect.StructType)
    return {column.name: _type(column.type) for column in found.fields}


def ddl(table: Table) -> str:
    """The statement that makes a table of `EXPORTED`, unless there is one."""
    described = _descriptions(table)
    lines = [
        f"  `{name}` {kind}{'' if nullable or kind.startswith('ARRAY') else ' NOT NULL'}"
        f" OPTIONS (description = {_quoted(described[name])})"
        for name, (kind, nullable) in column_types(table).items()
    ]
    lines.append(f"  PRIMARY KEY (`{table.identity}`) NOT ENFORCED")
    lines += [
        f"  FOREIGN KEY (`{column}`) REFERENCES {DATASET}.{other} (`{key}`) NOT ENFORCED"
        for column, other, key in table.refers
    ]
    kind, _ = column_types(table)[table.partition]
    partition = f"`{table.partition}`" if kind == "DATE" else f"DATE(`{table.partition}`)"
    columns = ",\n".join(lines)
    return (
        _HEAD.format(title=table.name.replace("_", " ").capitalize(), name=table.name)
        + f"CREATE TABLE IF NOT EXISTS {DATASET}.{table.name} (\n{columns}\n)\n"
        + f"PARTITION BY {partition}\n"
        + f"CLUSTER BY {', '.join(f'`{name}`' for name in table.cluster)}\n"
        + f"OPTIONS (description = {_quoted(table.description)});\n"
    )


def _type(of: inspect.Type) -> tuple[str, bool]:
    while isinstance(of, inspect.Metadata):
        of = of.type
    if isinstance(of, inspect.UnionType):
        [other] = [each for each in of.types if not isinstance(each, inspect.NoneType)]
        return _type(other)[0], True
    if isinstance(of, inspect.ListType):
        return f"ARRAY<{_type(of.item_type)[0]}>", False
    return _SIMPLE[type(of)], False


def _descriptions(table: Table) -> dict[str, str]:
    found = inspect.type_info(table.row)
    assert isinstance(found, inspect.StructType)
    return {
        column.name: str((column.type.extra_json_schema or {}).get("description", ""))
        for column in found.fields
        if isinstance(column.type, inspect.Metadata)
    }


def _quoted(text: str) -> str:
    """A string literal in double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
