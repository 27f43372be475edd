"""The guard beneath the writing client: what is not a declared write, or looks one up, is never sent."""

import re
import threading
from collections import Counter
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import httpx
from typing_extensions import override

from finance_os.sources.guard import ForbiddenRequest
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.lookup import ENTITIES

VOID_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "Payment": {"operation": "update", "include": "void"},
    "Invoice": {"operation": "void"},
    "CreditMemo": {"operation": "void"},
    "RefundReceipt": {"operation": "void"},
}
"""How QuickBooks wants a void of each entity to be asked for."""


class WriteGuard:
    """Lets through the declared writes at one realm, and what looks them up; counts what is sent.

    Raises `ForbiddenRequest` for anything else, before it is sent: another realm or host, an entity or operation that
    is not declared (a delete is none), a write without a `requestid`.
    """

    def __init__(self, base: str, realm: str) -> None:
        parts = urlsplit(base)
        self._origin = parts.scheme, parts.netloc.lower()
        self._company = f"{parts.path.rstrip('/')}/v3/company/{realm}/"
        self._entities = {entity.path: entity for entity in ENTITIES.values()}
        self._sent: Counter[str] = Counter()
        self._counting = threading.Lock()

    def admit(self, method: str, url: str) -> None:
        """Count a request that may be sent; `ForbiddenRequest` for any other."""
        parts = urlsplit(url)
        rest = parts.path.removeprefix(self._company) if parts.path.startswith(self._company) else None
        at_home = (parts.scheme, parts.netloc.lower()) == self._origin
        if not at_home or rest is None or not self._allows(method, rest, parse_qsl(parts.query)):
            raise ForbiddenRequest(method, parts.path, parts.hostname or "")
        with self._counting:
            self._sent[f"{method} {rest.partition('/')[0]}"] += 1

    def sent(self) -> dict[str, int]:
        """How often each `"METHOD entity"` was sent so far."""
        with self._counting:
            return dict(self._sent)

    def _allows(self, method: str, rest: str, params: list[tuple[str, str]]) -> bool:
        given = dict(params)
        if len(given) != len(params):
            return False
        name, _, key = rest.partition("/")
        if method == "GET":
            return rest == "query" or (name in self._entities and re.fullmatch(r"[0-9]{1,20}", key) is not None)
        if method != "POST" or name not in self._entities or key or not given.pop("requestid", ""):
            return False
        entity = self._entities[name]
        given.pop("minorversion", None)
        return not given or (Operation.VOID in entity.operations and given == VOID_PARAMETERS[entity.name])


class GuardedTransport(httpx.HTTPTransport):
    """The guard beneath the client."""

    def __init__(self, guard: WriteGuard) -> None:
        super().__init__()
        self._guard = guard

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._guard.admit(request.method, str(request.url))
        return super().handle_request(request)
