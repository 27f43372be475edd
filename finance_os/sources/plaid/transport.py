"""The read-only guard beneath urllib3, which Plaid's library sends its requests with.

It is asked by the connection pools themselves, so that nothing goes past it, whoever uses them.
"""

from typing import Any, NoReturn

import urllib3
from typing_extensions import override
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from finance_os.sources.guard import ReadOnlyGuard


class GuardedPools(urllib3.PoolManager):
    """A pool manager whose every request the guard is asked for. It follows no redirect and sends nothing twice."""

    def __init__(self, guard: ReadOnlyGuard) -> None:
        super().__init__(cert_reqs="CERT_REQUIRED")
        self.pool_classes_by_scheme = {
            "http": _guarded(HTTPConnectionPool, guard),
            "https": _guarded(HTTPSConnectionPool, guard),
        }

    @override
    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        try:
            return super().urlopen(method, url, redirect=False, **{**kw, "retries": False})
        except urllib3.exceptions.SSLError:
            pass
        # Plaid's library stumbles over the exception that it makes of an SSLError.
        raise urllib3.exceptions.HTTPError("there was no TLS connection")

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise TypeError("a guarded transport is not copied")


def _guarded(kind: Any, guard: ReadOnlyGuard) -> Any:
    class Guarded(kind):
        def urlopen(self, method: str, url: str, *args: Any, **kw: Any) -> Any:
            host = f"[{self.host}]" if ":" in self.host else self.host
            guard.admit(method, f"{self.scheme}://{host}:{self.port}{url}")
            return super().urlopen(method, url, *args, **{**kw, "redirect": False, "retries": False})

    return Guarded
