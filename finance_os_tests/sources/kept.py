"""Kept secrets in memory, for tests of a source: as those in PostgreSQL, but gone with the process."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class MemorySecret:
    """A secret while one thread alone holds it."""

    def __init__(self, value: str | None) -> None:
        self.value = value
        self.stored: str | None = None

    def store(self, new: str) -> None:
        """Keep `new` from the end of the block on."""
        self.value = self.stored = new


class MemorySecrets:
    """Secrets by name. `stored` is the order in which values were committed, as (name, value), for assertions."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.stored: list[tuple[str, str]] = []
        self._values = dict(values or {})
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def read(self, name: str) -> str | None:
        """What is kept under `name`; `None` if nothing is."""
        return self._values.get(name)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[MemorySecret]:
        """Hold `name` alone for a block; the last value stored in it is kept if it ends without an exception."""
        with self._locks[name]:
            secret = MemorySecret(self._values.get(name))
            yield secret
            if secret.stored is not None:
                self._values[name] = secret.stored
                self.stored.append((name, secret.stored))
