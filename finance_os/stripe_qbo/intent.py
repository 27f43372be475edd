"""An intent: a write to QuickBooks that is planned from evidence, and persisted before it is sent."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from finance_os.evidence.canonical import payload_hash

RAIL = "qbo"
"""What the intents and links of this export are kept under."""

CORRECTS = "$corrects"
"""Key under which a kept payload holds what an update corrects; it is not sent."""

REFERENCE = "$link"
"""Key of an object in a payload that stands for the QuickBooks ID of what another intent makes:
`{"$link": "customer:cus_1:customer"}`. Before the payload is sent, the ID takes the object's place."""


class Operation(StrEnum):
    """What an intent does to its QuickBooks object. Nothing is ever deleted."""

    CREATE = "create"
    UPDATE = "update"
    VOID = "void"


@dataclass(frozen=True, order=True)
class LinkKey:
    """What in Stripe an object in QuickBooks stands for; one link each, within a business and a realm.

    `role` tells apart the objects that one Stripe object has: a refund's credit memo from its receipt.
    """

    stripe_object: str
    stripe_id: str
    role: str

    def __str__(self) -> str:
        return f"{self.stripe_object}:{self.stripe_id}:{self.role}"

    @classmethod
    def parse(cls, text: str) -> "LinkKey":
        """The key of `customer:cus_1:customer`; `ValueError` for anything else."""
        stripe_object, _, rest = text.partition(":")
        stripe_id, _, role = rest.rpartition(":")
        if not (stripe_object and stripe_id and role):
            raise ValueError(f"{text!r} is no link key: write it as object:id:role")
        return cls(stripe_object, stripe_id, role)

    def as_reference(self) -> dict[str, str]:
        """What stands for the ID of this key's object in a payload."""
        return {REFERENCE: str(self)}


@dataclass(frozen=True)
class Intent:
    """One planned write.

    `payload` is QuickBooks' JSON of `entity` with references in place of IDs that are not known yet; amounts are
    `Decimal`. `dated` is its `TxnDate` (of a customer or item: the day of what needs it first). `marker` is what the
    object is found by after an unknown answer: it is in the payload where `lookup` says that entity has it. `evidence`
    are the payload hashes (hex) of the source records that it was planned from, by `object:id`. An update names in
    `corrects` what it replaces: properties with what was written before, `None` where there was nothing.
    """

    key: LinkKey
    operation: Operation
    entity: str
    payload: Mapping[str, Any]
    dated: date
    marker: str
    evidence: Mapping[str, str]
    corrects: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_hash(self) -> str:
        """SHA-256 in hex over what would be written: the same evidence and rules give the same."""
        written = {
            "key": str(self.key),
            "operation": self.operation.value,
            "entity": self.entity,
            "payload": self.payload,
            "marker": self.marker,
        }
        if self.corrects:
            written["corrects"] = self.corrects
        return payload_hash(written).hex()

    @property
    def depends_on(self) -> tuple[LinkKey, ...]:
        """The links that must be there before it can be sent, sorted; an update or void also needs its own."""
        found = {LinkKey.parse(text) for text in references(self.payload)}
        if self.operation is not Operation.CREATE:
            found.add(self.key)
        return tuple(sorted(found))


def references(value: Any) -> Iterator[str]:
    """The link keys that a payload refers to, as text."""
    if isinstance(value, Mapping):
        if set(value) == {REFERENCE}:
            yield value[REFERENCE]
            return
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from references(each)
