"""Scripted faults and a count of requests, around the vendors' apps.

A rule names a path glob and a kind; it strikes on its n-th matching request and on as many after it as `times` says.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Kind = Literal["429", "500", "403", "timeout", "truncated", "duplicate_page", "slow", "drop_connection"]


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """One scripted fault.

    `path` is a glob over the request's path, `kind` what happens, `on` the first matching request that it strikes
    (counted from 1), `times` how many in a row, `delay` the seconds of `slow` (default 1) or `timeout` (default 120),
    `headers` are added to an error answer (such as `{"stripe-should-retry": "true", "retry-after": "1"}`).
    """

    path: str
    kind: Kind
    on: int = 1
    times: int = 1
    delay: float | None = None
    headers: dict[str, str] = {}
    seen: int = 0

    def strikes(self, path: str) -> bool:
        if not fnmatchcase(path, self.path):
            return False
        self.seen += 1
        return self.on <= self.seen < self.on + self.times


@dataclass(frozen=True, slots=True)
class Page:
    """An answer as it was sent."""

    start: Message
    body: bytes


Fault = Callable[[str], tuple[int, dict[str, str], bytes]]
"""Status, headers and body of an error of a kind (`429`, `500`, `403`), in the vendor's own form."""


class Faults:
    """ASGI middleware: counts every request that it sees and lets rules strike before the app answers.

    One that is made from another has its rules and its count in common with it.
    """

    def __init__(self, app: ASGIApp, fault: Fault, others: "Faults | None" = None) -> None:
        self.app = app
        self.fault = fault
        self.rules: list[Rule] = others.rules if others else []
        self.requests: Counter[tuple[str, str]] = others.requests if others else Counter()
        self._last_page: dict[tuple[str, bytes], Page] = {}

    def script(self, rules: list[Rule]) -> None:
        self.rules += rules

    def clear(self) -> None:
        self.rules.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.requests[scope["method"], path] += 1
        struck = [rule for rule in self.rules if rule.strikes(path)]
        if not struck:
            if self.rules:
                await self._answer(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        await self._strike(struck[0], scope, receive, send)

    async def _strike(self, rule: Rule, scope: Scope, receive: Receive, send: Send) -> None:
        match rule.kind:
            case "429" | "500" | "403":
                status, given, body = self.fault(rule.kind)
                headers = [
                    (b"content-length", str(len(body)).encode()),
                    *((name.lower().encode(), value.encode()) for name, value in {**given, **rule.headers}.items()),
                ]
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": "http.response.body", "body": body})
            case "slow":
                await asyncio.sleep(1 if rule.delay is None else rule.delay)
                await self._answer(scope, receive, send)
            case "timeout":
                await self._hang(120 if rule.delay is None else rule.delay, receive)
                _abort(send)
            case "drop_connection":
                _abort(send)
            case "truncated":
                page = await self._page(scope, receive)
                await _send(send, page.start, page.body[: len(page.body) // 2])
            case "duplicate_page":
                page = self._last_page.get(_asked(scope)) or await self._page(scope, receive)
                await _send(send, page.start, page.body)

    async def _hang(self, delay: float, receive: Receive) -> None:
        """Wait, but no longer than the client does."""

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        with suppress(TimeoutError):
            await asyncio.wait_for(gone(), delay)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app's own answer, remembered for `duplicate_page`."""
        page = await self._page(scope, receive)
        self._last_page[_asked(scope)] = page
        await _send(send, page.start, page.body)

    async def _page(self, scope: Scope, receive: Receive) -> Page:
        start: Message = {}
        parts: list[bytes] = []

        async def keep(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            else:
                parts.append(message.get("body", b""))

        await self.app(scope, receive, keep)
        return Page(start, b"".join(parts))


def _asked(scope: Scope) -> tuple[str, bytes]:
    """Whose list a request asks for: the page of one account must never be shown to another."""
    return scope["path"], dict(scope["headers"]).get(b"authorization", b"")


async def _send(send: Send, start: Message, body: bytes) -> None:
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _abort(send: Send) -> None:
    """Cut the connection without a byte. ASGI has no word for it, so uvicorn's request cycle is asked directly."""
    cycle: Any = getattr(send, "__self__", None)
    cycle.transport.abort()
