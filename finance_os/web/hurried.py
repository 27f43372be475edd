"""Whoever connects has to say soon what is wanted: heads of requests that do not arrive are not waited for.

uvicorn bounds how long an idle connection is kept, and the app how long a body may take; the time in between, from the
connection or the first byte of a request to the end of its head, is bounded here.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_SECONDS = 10.0
"""How long the head of a request may take to arrive."""

MOST_CONNECTIONS = 500
"""Most connections at a time; whoever comes beyond that is told to come again. Each may hold a body of a MiB."""

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol
else:
    Protocol = AutoHTTPProtocol


class Hurried(Protocol):
    """uvicorn's protocol, which closes a connection whose next head is not there in time."""

    _waits: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        if before is None or before.response_complete:
            self._wait()
        super().data_received(data)
        if self.cycle is not before:  # the head is there
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._waits is None:
            self._waits = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._give_up)

    def _stop(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None

    def _give_up(self) -> None:
        self._waits = None
        if not self.transport.is_closing():
            self.transport.close()
