"""The read-only guard: what is not on a source's list of reads is never sent, by whichever client.

One guard belongs to one client of one source. Transports ask it before each request, and it counts what they send.
SQL sources are guarded by the database itself (a read-only transaction and a role that can only SELECT); they
only count here.
"""

import fnmatch
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from finance_os.evidence.extraction import SourceError


@dataclass(frozen=True)
class Get:
    """GET requests to paths that match a glob, such as `/v1/*`."""

    path: str


@dataclass(frozen=True)
class Query:
    """SELECT statements from a folder of versioned queries, in a read-only transaction."""

    folder: str


@dataclass(frozen=True)
class Take:
    """Files that match a glob, taken from a drop folder."""

    pattern: str


class ForbiddenRequest(SourceError):
    """A request that is not on the source's list of reads. It was not sent."""

    def __init__(self, method: str, path: str, host: str) -> None:
        super().__init__(
            "write_refused",
            f"{method} {path} at {host} is not on this source's list of reads and was not sent",
            permanent=True,
        )


class ReadOnlyGuard:
    """Lets through what `reads` names, at the host of `base_url` only, and counts it."""

    def __init__(self, reads: Sequence[Get | Query | Take], base_url: str) -> None:
        self._paths = tuple(read.path for read in reads if isinstance(read, Get))
        self._origin = _origin(base_url)
        self._sent: Counter[str] = Counter()

    def admit(self, method: str, url: str) -> None:
        """Count a request that is allowed; raise `ForbiddenRequest` for any other."""
        parts = urlsplit(url)
        allowed = (
            method.upper() == "GET"
            and _origin(url) == self._origin
            and any(fnmatch.fnmatchcase(parts.path, path) for path in self._paths)
            # Clients and servers resolve these, and would end up outside the glob.
            and not {".", ".."} & set(unquote(parts.path).replace("\\", "/").split("/"))
        )
        if not allowed:
            raise ForbiddenRequest(method.upper(), parts.path, parts.hostname or "")
        self.count(method.upper(), parts.hostname or "")

    def count(self, method: str, host: str) -> None:
        """Count something sent that needs no permission here (a query in a read-only transaction)."""
        self._sent[f"{method} {host}"] += 1

    def sent(self) -> dict[str, int]:
        """How often each `"METHOD host"` was sent so far."""
        return dict(self._sent)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port
