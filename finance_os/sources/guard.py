"""The read-only guard: what is not on a source's list of reads is never sent, by whichever client.

One guard belongs to one client of one source. Transports ask it before each request, and it counts what they send.
SQL sources are guarded by the database itself (a read-only transaction and a role that can only SELECT); they
only count here.
"""

import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from finance_os.evidence.extraction import SourceError

READ_ONLY_SESSION = "READ-ONLY-SESSION"
"""What a SQL source counts, beside its `SELECT`s, when the server has confirmed that its session is read-only."""


@dataclass(frozen=True)
class Get:
    """GET requests to paths that match a glob, such as `/v1/*`, at the origin named `at`."""

    path: str
    at: str = "api"


@dataclass(frozen=True)
class Post:
    """POST requests that only read, or that only get a token, to paths that match a glob.

    `action` is a glob for the operation, where the vendor names it in a header (`X-Amz-Target`) and not in the path.
    """

    path: str
    at: str = "api"
    action: str | None = None


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
    """Lets through what `reads` names, at the origins that it names, and counts it.

    `origins` is the vendor's base URL, or base URLs by name; `ValueError` for one that is none. A path is matched below
    its base URL's own path.
    """

    def __init__(self, reads: Sequence["Get | Post | Query | Take"], origins: str | Mapping[str, str]) -> None:
        named = {"api": origins} if isinstance(origins, str) else origins
        parsed = {name: _origin(url) for name, url in named.items()}
        self._reads = tuple(
            (parsed[read.at], urlsplit(named[read.at]).path.rstrip("/"), read)
            for read in reads
            if isinstance(read, (Get, Post)) and read.at in named
        )
        self._sent: Counter[str] = Counter()

    def admit(self, method: str, url: str, action: str | None = None) -> None:
        """Count a request that is allowed; raise `ForbiddenRequest` for any other.

        `action` is the operation that the request's headers name, if they do.
        """
        parts = urlsplit(url)
        # Clients and servers resolve these, and would end up outside the glob.
        upward = {".", ".."} & set(unquote(parts.path).replace("\\", "/").split("/"))
        if upward or not any(_allows(*read, method.upper(), url, parts.path, action) for read in self._reads):
            raise ForbiddenRequest(method.upper(), parts.path, parts.hostname or "")
        self.count(method.upper(), parts.hostname or "")

    def count(self, method: str, host: str) -> None:
        """Count something sent that needs no permission here (a query in a read-only transaction)."""
        self._sent[f"{method} {host}"] += 1

    def sent(self) -> dict[str, int]:
        """How often each `"METHOD host"` was sent so far."""
        return dict(self._sent)


def _allows(
    origin: tuple[str, str, int],
    base: str,
    read: Get | Post,
    method: str,
    url: str,
    path: str,
    action: str | None,
) -> bool:
    if method != ("GET" if isinstance(read, Get) else "POST") or _origin(url) != origin:
        return False
    if not path.startswith(base) or not fnmatch.fnmatchcase(path[len(base) :] or "/", read.path):
        return False
    named = read.action if isinstance(read, Post) else None
    return named is None or fnmatch.fnmatchcase(action or "", named)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port
