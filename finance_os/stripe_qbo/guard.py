"""The guard beneath the writing client: what is not a declared write, or looks one up, is never sent.

A batch is let through if each of its items is a create of a declared entity, and nothing else: no query, change or
delete hides in one.
"""

import re
import threading
from collections import Counter
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from finance_os.evidence.canonical import Uncanonical, decode
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

BATCH = "batch"
BATCH_SIZE = 30
"""How many payloads Intuit recommends at most for one batch:
https://developer.intuit.com/app/developer/qbo/docs/learn/limits-and-throttles"""

BATCH_REQUEST_ID = 36
BATCH_ITEM_ID = 10
"""How many characters a batch's `requestid` may have, and the `bId` of an item beside one:
https://blogs.intuit.com/2015/04/06/15346/"""


class WriteGuard:
    """Lets through the declared writes at one realm, and what looks them up; counts what is sent.

    Raises `ForbiddenRequest` for anything else, before it is sent: another realm or host, an entity or operation that
    is not declared (a delete is none), a write without a `requestid`, a batch with anything but declared creates.
    """

    def __init__(self, base: str, realm: str) -> None:
        parts = urlsplit(base)
        self._origin = parts.scheme, parts.netloc.lower()
        self._company = f"{parts.path.rstrip('/')}/v3/company/{realm}/"
        self._entities = {entity.path: entity for entity in ENTITIES.values()}
        self._sent: Counter[str] = Counter()
        self._counting = threading.Lock()

    def admit(self, method: str, url: str, content: bytes = b"") -> None:
        """Count a request that may be sent; `ForbiddenRequest` for any other. Of a batch the `content` matters."""
        parts = urlsplit(url)
        rest = parts.path.removeprefix(self._company) if parts.path.startswith(self._company) else None
        at_home = (parts.scheme, parts.netloc.lower()) == self._origin
        if not at_home or rest is None or not self._allows(method, rest, parse_qsl(parts.query), content):
            raise ForbiddenRequest(method, parts.path, parts.hostname or "")
        with self._counting:
            self._sent[f"{method} {rest.partition('/')[0]}"] += 1

    def sent(self) -> dict[str, int]:
        """How often each `"METHOD entity"` was sent so far."""
        with self._counting:
            return dict(self._sent)

    def _allows(self, method: str, rest: str, params: list[tuple[str, str]], content: bytes) -> bool:
        given = dict(params)
        if len(given) != len(params):
            return False
        name, _, key = rest.partition("/")
        if method == "GET":
            return rest == "query" or (name in self._entities and re.fullmatch(r"[0-9]{1,20}", key) is not None)
        requestid = given.pop("requestid", "")
        given.pop("minorversion", None)
        if method != "POST" or key or not requestid:
            return False
        if name == BATCH:
            return not given and len(requestid) <= BATCH_REQUEST_ID and _are_creates(content)
        if name not in self._entities:
            return False
        entity = self._entities[name]
        return not given or (Operation.VOID in entity.operations and given == VOID_PARAMETERS[entity.name])


def _are_creates(content: bytes) -> bool:
    """Whether a batch consists of creates of declared entities, each under an ID of its own."""
    try:
        body = decode(content)
    except Uncanonical:
        return False
    items = body.get("BatchItemRequest") if isinstance(body, Mapping) and len(body) == 1 else None
    if not isinstance(items, list) or not 0 < len(items) <= BATCH_SIZE:
        return False
    if not all(isinstance(item, Mapping) and item.get("operation") == "create" for item in items):
        return False
    ids = {item.get("bId") for item in items}
    what = [item.keys() - {"bId", "operation"} for item in items]
    return (
        len(ids) == len(items)
        and all(isinstance(each, str) and 0 < len(each) <= BATCH_ITEM_ID for each in ids)
        and all(len(each) == 1 and each <= ENTITIES.keys() for each in what)
        and all(
            isinstance(item[name], Mapping) and "Id" not in item[name]
            for item, (name,) in zip(items, what, strict=True)
        )
    )
