"""The read-only guard beneath each HTTP library that a vendor's client may use.

Apart from the guard itself, because declarations name its reads and should not cost an HTTP library's import.
"""

from typing import Any

import httpx
import requests
import requests.adapters
from typing_extensions import override

from finance_os.sources.guard import ReadOnlyGuard


class GuardedAdapter(requests.adapters.HTTPAdapter):
    """The guard beneath a `requests` session: mount it for `http://` and `https://`."""

    def __init__(self, guard: ReadOnlyGuard) -> None:
        super().__init__()
        self._guard = guard

    @override
    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self._guard.admit(request.method or "", request.url or "")
        return super().send(request, *args, **kwargs)


class GuardedTransport(httpx.HTTPTransport):
    """The guard beneath an `httpx` client: pass it as `transport`."""

    def __init__(self, guard: ReadOnlyGuard) -> None:
        super().__init__()
        self._guard = guard

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._guard.admit(request.method, str(request.url))
        return super().handle_request(request)
