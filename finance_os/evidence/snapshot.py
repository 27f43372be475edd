"""One look at the finance database: every query on one connection, in one read-only transaction.

What is counted by several queries then agrees with one another, whatever is staged meanwhile, and a page with forty
queries opens one connection instead of forty.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from finance_os.evidence.database import READABLE, Database, DatabaseConnection


@dataclass(frozen=True, repr=False)
class Snapshot(Database):
    """A database as it was when the look began. Its connection belongs to `snapshot`, and nothing can be written."""

    opened: DatabaseConnection = field(kw_only=True)

    @contextmanager
    def connection(self) -> Iterator[DatabaseConnection]:
        """The look's own connection, which stays open."""
        yield self.opened

    @contextmanager
    def transaction(self, connection: DatabaseConnection | None = None) -> Iterator[DatabaseConnection]:
        """The look's own transaction, which goes on after the block."""
        yield connection or self.opened


@contextmanager
def snapshot(database: Database, timeout: timedelta | None = None) -> Iterator[Snapshot]:
    """A look at `database` in its role; a snapshot stays the one that it is. No query may take longer than `timeout`.

    Plans are not compiled: of many short queries, compiling would take longer than running them.
    """
    if isinstance(database, Snapshot):
        yield database
        return
    with database.connection() as opened, opened.transaction():
        opened.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        opened.execute(
            f"SELECT {READABLE}, set_config('role', %s, true), set_config('jit', 'off', true), "
            "set_config('statement_timeout', coalesce(%s, current_setting('statement_timeout')), true)",
            (database.role, None if timeout is None else str(round(timeout.total_seconds() * 1000))),
        )
        yield Snapshot(database.url, database.role, opened=opened)
