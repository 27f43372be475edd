"""A stored object of QuickBooks Online, and what is left of one that was deleted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .fields import Kind
from .formats import cents_of, stamp

Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class Entry:
    """What was set (`fields`), what QuickBooks adds (`shown`), and the version. `total` is in hundredths."""

    kind: Kind
    id: str
    fields: dict[str, Any]
    created: int
    updated: int
    sync: int = 0
    total: int = 0
    shown: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.kind.name, self.id

    @property
    def currency(self) -> str:
        return self.fields["CurrencyRef"]["value"]

    @property
    def name(self) -> str:
        return self.fields.get(self.kind.named, "")

    @property
    def party(self) -> Key | None:
        """The customer or vendor of a transaction."""
        for name, kind in (("CustomerRef", "Customer"), ("VendorRef", "Vendor")):
            if name in self.fields:
                return kind, self.fields[name]["value"]
        return None

    def body(self) -> dict[str, Any]:
        """The object as answers show it."""
        meta = {"CreateTime": stamp(self.created), "LastUpdatedTime": stamp(self.updated)}
        body = {**self.fields, **self.shown, "domain": "QBO", "sparse": False}
        if self.kind.name == "ExchangeRate":
            del meta["CreateTime"]
        else:
            body["Id"] = self.id
        return body | {"SyncToken": str(self.sync), "MetaData": meta}


@dataclass(frozen=True, slots=True)
class Gone:
    """A deleted object, as change data capture tells of it."""

    kind: Kind
    id: str
    at: int

    def body(self) -> dict[str, Any]:
        meta = {"LastUpdatedTime": stamp(self.at)}
        return {"domain": "QBO", "status": "Deleted", "Id": self.id, "MetaData": meta}


def link(line: Mapping[str, Any]) -> tuple[Key, int]:
    """What a linked line leads to, and the hundredths that it applies."""
    linked = line["LinkedTxn"][0]
    return (linked["TxnType"], linked["TxnId"]), cents_of(line["Amount"])


def credits_used(lines: Iterable[Mapping[str, Any]]) -> int:
    return sum(cents for target, cents in map(link, lines) if target[0] == "CreditMemo")


def paid(lines: Iterable[Mapping[str, Any]]) -> int:
    return sum(cents for target, cents in map(link, lines) if target[0] != "CreditMemo")
