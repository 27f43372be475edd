"""The statements for BigQuery, read by a parser of its dialect."""

import pytest
import sqlglot
from sqlglot import exp

from finance_os.artifacts.bigquery import EXPORTED, column_types, ddl
from finance_os.artifacts.rows import Table, table_named

TABLES = pytest.mark.parametrize("table", EXPORTED, ids=lambda table: table.name)


def parsed(table: Table) -> exp.Create:
    [statement] = sqlglot.parse(ddl(table), dialect="bigquery", error_level=sqlglot.ErrorLevel.RAISE)
    assert isinstance(statement, exp.Create)
    return statement


def test_the_link_tables_are_made() -> None:
    assert [table.name for table in EXPORTED] == ["intents", "intent_attempts", "links"]


@TABLES
def test_columns_types_and_nulls_are_those_of_the_rows(table: Table) -> None:
    columns = {
        column.name: (
            column.kind.sql("bigquery") if column.kind else "",
            not column.find(exp.NotNullColumnConstraint) and not column.args["kind"].is_type("array"),
        )
        for column in parsed(table).this.expressions
        if isinstance(column, exp.ColumnDef)
    }
    assert columns == column_types(table)


@TABLES
def test_every_column_says_what_it_is(table: Table) -> None:
    for column in parsed(table).this.expressions:
        if isinstance(column, exp.ColumnDef):
            [said] = [each.args["value"].name for each in column.find_all(exp.Property)]
            assert 0 < len(said) <= 1024, f"{column.name}: BigQuery takes at most 1,024 characters"


@TABLES
def test_a_table_is_partitioned_by_day_and_clustered_by_business(table: Table) -> None:
    statement = parsed(table)
    [partition] = list(statement.find_all(exp.PartitionedByProperty))
    [column] = list(partition.find_all(exp.Identifier))
    kind, nullable = column_types(table)[column.name]
    assert (kind in ("DATE", "TIMESTAMP"), nullable) == (True, False)
    assert isinstance(partition.this, exp.Date) == (kind == "TIMESTAMP")
    [cluster] = list(statement.find_all(exp.Cluster, exp.ClusterProperty))
    names = [each.name for each in cluster.find_all(exp.Column)]
    assert names[0] == "business_id"
    assert len(names) <= 4
    assert {column_types(table)[name][0] for name in names} <= {"STRING", "INT64"}


@TABLES
def test_keys_are_declared_and_not_enforced(table: Table) -> None:
    statement = parsed(table)
    [primary] = list(statement.find_all(exp.PrimaryKey))
    assert [each.name for each in primary.expressions] == [table.identity]
    assert ddl(table).count("NOT ENFORCED") == 1 + len(table.refers)
    for column, other, key in table.refers:
        assert column_types(table)[column] == column_types(table_named(other))[key]


def test_names_that_googlesql_reserves_are_quoted() -> None:
    assert "`at` TIMESTAMP" in ddl(table_named("intent_attempts"))
    assert "DATE(`at`)" in ddl(table_named("intent_attempts"))
