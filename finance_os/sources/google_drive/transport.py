"""The read-only guard beneath httplib2, which Google's client library sends its requests with.

It is asked before a connection is opened, and once more for each time that httplib2 sends a request again by itself.
"""

from typing import Any, NoReturn

import httplib2
from typing_extensions import override

from finance_os.sources.guard import ReadOnlyGuard


class GuardedHttp(httplib2.Http):
    """An `httplib2.Http` that asks the guard before each request that leaves it. Redirects are not followed."""

    def __init__(self, guard: ReadOnlyGuard, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self.follow_redirects = False
        self._guard = guard
        self._admission = _Admission()
        self._connections = {
            "http": _guarded(httplib2.HTTPConnectionWithTimeout, "http", guard, self._admission),
            "https": _guarded(httplib2.HTTPSConnectionWithTimeout, "https", guard, self._admission),
        }

    @override
    def request(
        self,
        uri: str,
        method: str = "GET",
        body: Any = None,
        headers: Any = None,
        redirections: int = 0,
        connection_type: Any = None,
    ) -> tuple[httplib2.Response, bytes]:
        """Send one request.

        Google's library turns a GET with a long URL into a POST with a header that says it is a GET. Only the server
        could tell such a one from a write, so it is sent as the GET that it is.
        """
        headers = {name.lower(): value for name, value in (headers or {}).items()}
        if method == "POST" and headers.pop("x-http-method-override", None) == "GET":
            method, uri, body = "GET", f"{uri}?{body}", None
            headers.pop("content-type", None)
            headers["content-length"] = "0"
        self._guard.admit(method, uri)
        self._admission.open = True
        return super().request(
            uri,
            method,
            body=body,
            headers=headers,
            redirections=redirections,
            connection_type=self._connections.get(uri.partition(":")[0].lower()),
        )

    def __deepcopy__(self, memo: Any) -> NoReturn:
        """google-auth copies a transport to look up, beside the read, where a service account may be used from.

        That goes to a host that is none of the source's business; without a copy it leaves it.
        """
        raise TypeError("a guarded transport is not copied")


class _Admission:
    """Whether a request was admitted that has not been sent yet."""

    open = False


def _guarded(kind: Any, scheme: str, guard: ReadOnlyGuard, admission: _Admission) -> Any:
    class Guarded(kind):
        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
            if not admission.open:
                host = f"[{self.host}]" if ":" in self.host else self.host
                guard.admit(method, f"{scheme}://{host}:{self.port}{url}")
            admission.open = False
            super().request(method, url, *args, **kwargs)

    return Guarded
