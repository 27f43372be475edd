"""Secrets that Finance OS keeps: in PostgreSQL, encrypted, one set a connection, replaced by one process at a time.

They are those that a vendor replaces while they are used, such as refresh tokens. Nothing here needs a session:
it works behind a transaction pooler.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.extraction import SourceError
from finance_os.settings import settings
from finance_os.sources.sealing import EncryptionKeys, encryption_keys

WAIT_SECONDS = 120
"""How long a process waits for another one to let go of a secret: longer than a vendor takes to replace a token."""

HOLD_SECONDS = 600
"""How long the database waits for a process that holds a secret and says nothing; then it is another one's turn."""


class HeldSecret:
    """A kept secret while this process alone holds it. Printing it does not show it."""

    def __init__(self, value: str | None) -> None:
        self.value = value
        self.stored: str | None = None

    def store(self, new: str) -> None:
        """Keep `new` from the end of the block on."""
        self.value = self.stored = new


@dataclass(frozen=True)
class ConnectionSecrets:
    """The kept secrets of one connection (`credentials.KeptSecrets`).

    `keys` gives the encryption keys; those of the settings unless given. Its methods raise `SourceError` where there
    is no key, or where what is kept cannot be opened with those there are.
    """

    database: Database
    connection: Connection
    keys: Callable[[], EncryptionKeys] | None = None

    def read(self, name: str) -> str | None:
        """What is kept under `name`; `None` if nothing is."""
        with self.database.transaction() as opened:
            sealed = self._sealed(opened, name)
        return None if sealed is None else self._unseal(self._keys(), name, sealed)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[HeldSecret]:
        """Hold `name` alone, among all processes, for a block.

        What was stored is committed when the block ends without an exception; otherwise, and where the process dies,
        the old value stays. The key is looked for before the block begins: a vendor's answer that cannot be kept must
        not be asked for. Raises `SourceError`, not permanent: `kept_secret_busy` for a process that waited too long,
        `kept_secret_not_kept` where the database was lost meanwhile.
        """
        keys = self._keys()
        ended = False
        try:
            with self.database.transaction() as opened:
                self._lock(opened, name)
                sealed = self._sealed(opened, name)
                held = HeldSecret(None if sealed is None else self._unseal(keys, name, sealed))
                yield held
                ended = held.stored is not None
                if held.stored is not None:
                    self._write(opened, name, keys.seal(held.stored, *self._belongs_to(name)))
        except (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout) as error:
            if not ended:
                raise
            message = (
                f"the new value of {name!r} of {self.connection} could not be kept ({type(error).__name__}): "
                "where the vendor no longer takes the old one, the connection must be authorized again"
            )
            raise SourceError("kept_secret_not_kept", message) from None

    def names(self) -> list[str]:
        """The names under which something is kept, in order."""
        rows = self.database.fetch(
            """
            SELECT name FROM finance_os.connection_secrets
            WHERE connection_id = %s AND business_id = %s ORDER BY name
            """,
            (self.connection.connection_id, self.connection.business_id),
        )
        return [row["name"] for row in rows]

    def seal_again(self) -> int:
        """Encrypt with the first key what is encrypted with another one, so that that one can go; how many it was."""
        keys = self._keys()
        count = 0
        for name in self.names():
            with self.database.transaction() as opened:
                self._lock(opened, name)
                sealed = self._sealed(opened, name)
                if sealed is not None and not keys.seals_like(sealed):
                    value = self._unseal(keys, name, sealed)
                    self._write(opened, name, keys.seal(value, *self._belongs_to(name)))
                    count += 1
        return count

    def _keys(self) -> EncryptionKeys:
        return self.keys() if self.keys is not None else encryption_keys(self.database, settings())

    def _unseal(self, keys: EncryptionKeys, name: str, sealed: bytes) -> str:
        try:
            return keys.unseal(sealed, *self._belongs_to(name))
        except SourceError as error:
            message = f"what is kept of {self.connection} as {name!r} cannot be opened: {error.message}"
            raise SourceError(error.code, message, permanent=error.permanent) from None

    def _belongs_to(self, name: str) -> tuple[str, ...]:
        return "connection_secrets", self.connection.business_id, str(self.connection.connection_id), name

    def _lock(self, opened: DatabaseConnection, name: str) -> None:
        """Hold the secret until the transaction ends; the limits are those of this transaction only."""
        opened.execute(
            """
            SELECT set_config('lock_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)
            """,
            (f"{WAIT_SECONDS}s", f"{HOLD_SECONDS}s"),
        )
        try:
            opened.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
                (f"finance_os/secrets/{self.connection.connection_id}/{name}",),
            )
        except psycopg.errors.LockNotAvailable:
            message = f"another process has held {name!r} of {self.connection} for {WAIT_SECONDS} seconds"
            raise SourceError("kept_secret_busy", message) from None

    def _sealed(self, opened: DatabaseConnection, name: str) -> bytes | None:
        row = opened.execute(
            """
            SELECT ciphertext FROM finance_os.connection_secrets
            WHERE connection_id = %s AND business_id = %s AND name = %s
            """,
            (self.connection.connection_id, self.connection.business_id, name),
        ).fetchone()
        return None if row is None else bytes(row["ciphertext"])

    def _write(self, opened: DatabaseConnection, name: str, sealed: bytes) -> None:
        opened.execute(
            """
            INSERT INTO finance_os.connection_secrets AS kept (connection_id, business_id, name, ciphertext, updated_at)
            VALUES (%s, %s, %s, %s, clock_timestamp())
            ON CONFLICT (connection_id, name) DO UPDATE
            SET ciphertext = excluded.ciphertext, version = kept.version + 1, updated_at = excluded.updated_at
            """,
            (self.connection.connection_id, self.connection.business_id, name, sealed),
        )
