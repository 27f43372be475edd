"""The database's clock, read without asking the database each time.

Versions without an order of their own are ordered by when their page was requested. Machines disagree about the
time, so all of them use the database's: its offset from this process's monotonic clock is measured once.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from finance_os.evidence.database import DatabaseConnection


@dataclass(frozen=True)
class DatabaseClock:
    """The database's time, as of a moment on the local monotonic clock."""

    read_at: datetime
    monotonic: float

    @classmethod
    def read(cls, connection: DatabaseConnection) -> "DatabaseClock":
        """Measure the clock. The time is taken as of when the answer came, so it is never ahead of the database's."""
        # As a number: this may be asked outside a transaction, where times come in the server's own date style.
        row = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now").fetchone()
        assert row is not None
        return cls(datetime.fromtimestamp(0, UTC) + timedelta(microseconds=row["now"]), time.monotonic())

    def now(self) -> datetime:
        """The present, on the database's clock, in UTC."""
        return self.read_at + timedelta(seconds=time.monotonic() - self.monotonic)
