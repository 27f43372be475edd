"""The rows of a table as others take them: one JSON object each, exact, as its schema says."""

from collections.abc import Iterator

from psycopg import sql

from finance_os.artifacts.rows import Table
from finance_os.evidence.database import Database

_AT_A_TIME = 1_000


def exported(database: Database, table: Table, business_id: str | None = None) -> Iterator[bytes]:
    """Every row of a table in the order of its key, or those of a business, as JSON without a line's end.

    PostgreSQL writes the JSON: numbers stay exact, and times are in UTC. One transaction, so that it is one state.
    """
    statement = sql.SQL(
        "SELECT row_to_json(taken)::text AS line FROM (SELECT {columns} FROM finance_os.{table} "
        "WHERE %(business_id)s::text IS NULL OR business_id = %(business_id)s ORDER BY {identity}) AS taken"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, table.columns)),
        table=sql.Identifier(table.name),
        identity=sql.Identifier(table.identity),
    )
    with database.transaction() as connection:
        connection.execute("SELECT set_config('timezone', 'UTC', true)")
        with connection.cursor("exported") as cursor:
            cursor.itersize = _AT_A_TIME
            cursor.execute(statement, {"business_id": business_id})
            for row in cursor:
                yield row["line"].encode()
