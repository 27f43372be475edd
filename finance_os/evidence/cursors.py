"""Cursors: where a vendor's own change feed goes on, for each object type of a connection.

A cursor is saved in the transaction that stages what was read up to it, so neither can be there without the other.
"""

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.sync_runs import Read, SyncRun


def saved_cursor(database: Database, connection: DatabaseConnection, read: Read) -> Mapping[str, Any] | None:
    """The cursor that the last committed page of this connection and object type left."""
    with database.transaction(connection):
        row = connection.execute(
            "SELECT cursor FROM finance_os.source_cursors WHERE connection_id = %s AND object_type = %s",
            (read.connection.connection_id, read.object_type),
        ).fetchone()
    return row and row["cursor"]


def save_cursor(connection: DatabaseConnection, run: SyncRun, cursor: Mapping[str, Any] | None) -> None:
    """Save a chunk's cursor in the caller's transaction; `None` leaves the saved one as it is."""
    if cursor is None:
        return
    connection.execute(
        """
        INSERT INTO finance_os.source_cursors (connection_id, object_type, business_id, cursor, sync_run_id)
        VALUES (%(connection_id)s, %(object_type)s, %(business_id)s, %(cursor)s, %(sync_run_id)s)
        ON CONFLICT (connection_id, object_type) DO UPDATE
        SET cursor = excluded.cursor, sync_run_id = excluded.sync_run_id, saved_at = now()
        """,
        {
            "connection_id": run.read.connection.connection_id,
            "object_type": run.read.object_type,
            "business_id": run.read.connection.business_id,
            "cursor": Jsonb(dict(cursor)),
            "sync_run_id": run.sync_run_id,
        },
    )
