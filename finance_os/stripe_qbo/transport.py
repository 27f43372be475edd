"""The transport of the writing client: every request asks the guard before it leaves."""

import httpx
from typing_extensions import override

from finance_os.stripe_qbo.guard import WriteGuard


class GuardedTransport(httpx.HTTPTransport):
    """The guard beneath the client."""

    def __init__(self, guard: WriteGuard) -> None:
        super().__init__()
        self._guard = guard

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._guard.admit(request.method, str(request.url), request.read())
        return super().handle_request(request)
