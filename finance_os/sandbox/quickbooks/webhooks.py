"""An Intuit app's webhooks: what changed in the companies that it is connected to, gathered up, signed and sent.

Changes are found by comparing versions with those told of last, whoever made them: the API, a user or the bookkeeper.
Several companies' changes go out in one body. They say which object it is, and nothing of what is in it.
https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks
https://blogs.intuit.com/2025/11/12/upcoming-change-to-webhooks-payload-structure
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from ..ids import letters
from ..webhooks import Endpoint
from .entries import Entry, Key
from .realm import Realm

Form = Literal["cloudevents", "notifications"]

NAMES: Mapping[str, str] = {
    **{
        name: name
        for name in (
            "Account",
            "Bill",
            "BillPayment",
            "CreditMemo",
            "Customer",
            "Deposit",
            "Invoice",
            "Item",
            "JournalEntry",
            "Payment",
            "Preferences",
            "Purchase",
            "RefundReceipt",
            "Transfer",
            "Vendor",
        )
    },
    "CompanyCurrency": "Currency",
}
"""What QuickBooks tells of, and its word for it in a webhook."""

MOST = 100
"""Most changes in one body."""

GATHERED_SECONDS = 0.02
"""How long changes by the API are gathered; Intuit takes minutes."""

_PAST = {"Create": "created", "Update": "updated", "Delete": "deleted", "Void": "voided"}


@dataclass(frozen=True, slots=True)
class Change:
    """One object of one company, and what was done to it, in Intuit's words."""

    realm_id: str
    name: str
    id: str
    operation: str
    at: int


def intuit_headers(body: bytes, verifier: str) -> dict[str, str]:
    """What Intuit sends with a body: base64 of its HMAC-SHA256 by the app's verifier token."""
    signature = base64.b64encode(hmac.digest(verifier.encode(), body, hashlib.sha256)).decode()
    return {
        "content-type": "application/json",
        "intuit-signature": signature,
        "user-agent": "intuit_notification_system",
    }


class Webhooks:
    """The webhooks of one app, at one URL, for every company that it watches."""

    def __init__(self, url: str, *, form: Form = "cloudevents", verifier: str | None = None) -> None:
        self.verifier = verifier or letters(f"verifier:{url}", 36)
        self.form: Form = form
        self.endpoint = Endpoint(url, self.verifier, headers=intuit_headers)
        self._watched: dict[str, Realm] = {}
        self._told: dict[str, dict[Key, tuple[int, bool]]] = {}
        self._number = 0
        self._sending: asyncio.Task[None] | None = None

    def watch(self, realm_id: str, realm: Realm) -> None:
        """Tell of a company's changes from now on."""
        self._watched[realm_id] = realm
        self._told[realm_id] = _versions(realm)

    def changes(self) -> list[Change]:
        """What has changed since this was asked last, in the order in which it did, company by company."""
        found: list[Change] = []
        for realm_id, realm in self._watched.items():
            before, now = self._told[realm_id], _versions(realm)
            for (kind, key), (sync, is_void) in now.items():
                known = before.get((kind, key))
                if known is not None and known[0] == sync:
                    continue
                voided = is_void and not (known and known[1])
                operation = "Create" if known is None else "Void" if voided else "Update"
                at = realm.one(kind, key).updated
                found.append(Change(realm_id, NAMES[kind], key, operation, at))
            gone = {(each.kind.name, each.id): each.at for each in realm.gone}
            found += [
                Change(realm_id, NAMES[kind], key, "Delete", gone.get((kind, key), realm.now))
                for kind, key in before
                if (kind, key) not in now
            ]
            self._told[realm_id] = now
        return sorted(found, key=lambda each: (each.realm_id, each.at))

    async def deliver(self) -> None:
        """Send what has changed, and wait until it has arrived or was given up."""
        changes = self.changes()
        self.endpoint.waiting += [
            msgspec.json.encode(body)
            for start in range(0, len(changes), MOST)
            for body in [self._body(changes[start : start + MOST])]
        ]
        await self.endpoint.deliver()

    def soon(self) -> None:
        """Send what has changed after a moment, together with what changes meanwhile."""
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._after_a_moment())

    async def _after_a_moment(self) -> None:
        await asyncio.sleep(GATHERED_SECONDS)
        self._sending = None  # what changes from now on is another body's
        await self.deliver()

    def _body(self, changes: Sequence[Change]) -> Any:
        return list(self._cloud_events(changes)) if self.form == "cloudevents" else _notifications(changes)

    def _cloud_events(self, changes: Sequence[Change]) -> Iterator[dict[str, Any]]:
        for each in changes:
            self._number += 1
            yield {
                "specversion": "1.0",
                "id": str(uuid5(NAMESPACE_URL, f"{self.verifier}/{each.realm_id}/{self._number}")),
                "source": "intuit.dsnBgbseACLLRZNxo2dfc4evmEJdxde58xeeYcZliOU=",
                "type": f"qbo.{each.name.lower()}.{_PAST[each.operation]}.v1",
                "datacontenttype": "application/json",
                "time": _moment(each.at, "000000000"),
                "intuitentityid": each.id,
                "intuitaccountid": each.realm_id,
                "data": {},
            }


class Telling:
    """An app whose writes are told of by webhooks."""

    def __init__(self, app: ASGIApp) -> None:
        self.webhooks: Webhooks | None = None
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
        if self.webhooks is not None and scope["type"] == "http" and scope["method"] == "POST":
            self.webhooks.soon()


def _notifications(changes: Sequence[Change]) -> dict[str, Any]:
    by_realm: dict[str, list[dict[str, str]]] = {}
    for each in changes:
        told = {"name": each.name, "id": each.id, "operation": each.operation, "lastUpdated": _moment(each.at, "000")}
        by_realm.setdefault(each.realm_id, []).append(told)
    return {
        "eventNotifications": [
            {"realmId": realm_id, "dataChangeEvent": {"entities": entities}} for realm_id, entities in by_realm.items()
        ]
    }


def _versions(realm: Realm) -> dict[Key, tuple[int, bool]]:
    """Version of each object that is told of, and whether it is void."""
    return {entry.key: (entry.sync, _is_void(entry)) for kind in NAMES for entry in realm.all(kind)}


def _is_void(entry: Entry) -> bool:
    return entry.kind.is_transaction and not entry.total and str(entry.fields.get("PrivateNote", "")).startswith("Void")


def _moment(at: int, fraction: str) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}.{fraction}Z"
