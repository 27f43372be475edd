"""What people and programs have asked to be changed in a company, kept in a file, in the order in which they did.

The world makes everything else anew from its seed. Played again, each at its own moment, the company holds what it
held, under the same IDs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to the accounting service, after the gateway has let it in."""

    method: str
    parts: tuple[str, ...]
    params: Mapping[str, str]
    content_type: str
    body: bytes


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request of a program, or what a user did (`action` with `what`), at `now` in seconds of the world's clock."""

    now: int
    asked: Asked | None = None
    action: str = ""
    what: dict[str, Any] = {}


class Journal:
    """The file of one company. A change is in it before it is made: what was answered is never missing."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._drop_unfinished()

    def changes(self) -> Iterator[Change]:
        """Every change that was kept, in order."""
        self._file.seek(0)
        for line in self._file:
            yield msgspec.json.decode(line, type=Change)

    def keep(self, change: Change) -> None:
        """Add a change."""
        self._file.write(msgspec.json.encode(change) + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _drop_unfinished(self) -> None:
        """Forget the change that was being written when the sandbox was killed: it was not answered."""
        self._file.seek(0)
        content = self._file.read()
        self._file.truncate(content.rfind(b"\n") + 1)
