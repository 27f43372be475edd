"""The QuickBooks entities that are written, and how one is found again when nobody knows whether a write arrived.

QuickBooks gives the same answer to the same `requestid`, but says nowhere for how long, so that alone proves nothing:
https://developer.intuit.com/app/developer/qbo/docs/learn/rest-api-features#request-id
What was perhaps made is therefore asked for first, by what QuickBooks can search, and recognised by the intent's
marker, which stands in the object as a word of its own. Only if it is not there is the same request sent again, under
the same `requestid`: so a first one that is still on its way makes no second object.

| entity | the marker is a word of | is searched by |
|---|---|---|
| Customer | Notes | DisplayName, among the inactive too |
| Item | Sku | Name, among the inactive too |
| Account | Description | Name, among the inactive too |
| Invoice, CreditMemo, RefundReceipt | PrivateNote | DocNumber; then TxnDate and CustomerRef |
| JournalEntry, Purchase | PrivateNote | DocNumber; then TxnDate |
| Payment | PrivateNote | TxnDate and CustomerRef |
| Deposit, Transfer | PrivateNote | TxnDate |

PrivateNote and Notes cannot be searched for. An object whose name or number and date were both changed by hand
between a lost answer and the lookup is not found by these; the `requestid` is what is left then.

An update or a void is looked up by the ID in the link: it arrived if the object shows what was to be written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from finance_os.stripe_qbo.intent import Intent, Operation

_WRITTEN = frozenset((Operation.CREATE, Operation.UPDATE))
_VOIDED_TOO = _WRITTEN | {Operation.VOID}
_ONLY_MADE = frozenset((Operation.CREATE,))


@dataclass(frozen=True)
class Entity:
    """One kind of object. `name` is QuickBooks' word in queries and answers, `path` that in addresses.

    `marked_at` is the property that bears the marker. `searched_by` are sets of properties, the best first: an object
    that has all of one set's values is a candidate. `operations` are what may be done to it; `has_inactive` ones hide
    from queries that do not ask for them.
    """

    name: str
    marked_at: str
    searched_by: tuple[tuple[str, ...], ...]
    operations: frozenset[Operation]
    has_inactive: bool = False

    @property
    def path(self) -> str:
        """Its word in addresses: `/v3/company/<realm>/<path>`."""
        return self.name.lower()


_BY_NUMBER_OR_SALE = (("DocNumber",), ("TxnDate", "CustomerRef"))

ENTITIES: Mapping[str, Entity] = {
    entity.name: entity
    for entity in (
        Entity("Customer", "Notes", (("DisplayName",),), _WRITTEN, has_inactive=True),
        Entity("Item", "Sku", (("Name",),), _WRITTEN, has_inactive=True),
        Entity("Account", "Description", (("Name",),), _ONLY_MADE, has_inactive=True),
        Entity("Invoice", "PrivateNote", _BY_NUMBER_OR_SALE, _VOIDED_TOO),
        Entity("CreditMemo", "PrivateNote", _BY_NUMBER_OR_SALE, _VOIDED_TOO),
        Entity("RefundReceipt", "PrivateNote", _BY_NUMBER_OR_SALE, _VOIDED_TOO),
        Entity("Payment", "PrivateNote", (("TxnDate", "CustomerRef"),), _VOIDED_TOO),
        Entity("JournalEntry", "PrivateNote", (("DocNumber",), ("TxnDate",)), _WRITTEN),
        Entity("Purchase", "PrivateNote", (("DocNumber",), ("TxnDate",)), _WRITTEN),
        Entity("Deposit", "PrivateNote", (("TxnDate",),), _WRITTEN),
        Entity("Transfer", "PrivateNote", (("TxnDate",),), _WRITTEN),
    )
}
"""Every entity that the export may write, by name."""


class Unfit(ValueError):
    """An intent that must not be kept: nobody could find its object again, or it does what is never done."""


class MarkedTwice(RuntimeError):
    """More than one object in QuickBooks that is not void bears the marker of one intent. `ids` are theirs."""

    def __init__(self, entity: str, marker: str, ids: list[str]) -> None:
        self.ids = ids
        super().__init__(f"{entity} {', '.join(ids)} all bear the marker {marker}: only one of them can be its object")


class Searches(Protocol):
    """Who can ask QuickBooks for objects."""

    def query(self, entity: Entity, equals: Mapping[str, str]) -> list[dict[str, Any]]:
        """Every object of `entity` whose properties equal these, all pages of them."""
        ...


def require_fit(intent: Intent) -> None:
    """Raise `Unfit` unless the intent can be sent once and found again.

    A create must bear its marker, a word without blanks, and have the values that its entity is searched by.
    """
    entity = ENTITIES.get(intent.entity)
    if entity is None:
        raise Unfit(f"{intent.key}: {intent.entity} is not written; there are {', '.join(ENTITIES)}")
    if intent.operation not in entity.operations:
        raise Unfit(f"{intent.key}: the export does not {intent.operation.value} a {intent.entity}")
    if not intent.marker or intent.marker.split() != [intent.marker]:
        raise Unfit(f"{intent.key}: the marker is not a word")
    if intent.operation is not Operation.CREATE:
        return
    if not is_marked(entity, intent.payload, intent.marker):
        raise Unfit(f"{intent.key}: {entity.marked_at} of the {intent.entity} lacks the marker {intent.marker}")
    if not any(all(name in intent.payload for name in names) for names in entity.searched_by):
        wanted = " or ".join(" and ".join(names) for names in entity.searched_by)
        raise Unfit(f"{intent.key}: a {intent.entity} can only be found again by its {wanted}")


def is_marked(entity: Entity, held: Mapping[str, Any], marker: str) -> bool:
    """Whether an object of `entity` bears `marker`, as a word of its own."""
    text = held.get(entity.marked_at)
    return isinstance(text, str) and marker in text.split()


def find(search: Searches, entity: Entity, sent: Mapping[str, Any], marker: str) -> dict[str, Any] | None:
    """The object that bears `marker`, or `None` where there is none; `sent` is what was sent to make it.

    Raises `MarkedTwice`, and what the search does.
    """
    for names in entity.searched_by:
        if not all(name in sent for name in names):
            continue
        found = search.query(entity, {name: _plain(sent[name]) for name in names})
        marked = [each for each in found if is_marked(entity, each, marker)]
        if len(marked) > 1:
            marked = [each for each in marked if not is_void(each)] or marked
        if len(marked) > 1:
            raise MarkedTwice(entity.name, marker, sorted(str(each.get("Id")) for each in marked))
        if marked:
            return marked[0]
    return None


def is_void(held: Mapping[str, Any]) -> bool:
    """Whether a transaction is void: QuickBooks keeps it, without an amount, and says so in its note.

    https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/invoice#void-an-invoice
    """
    total = held.get("TotalAmt")
    is_number = isinstance(total, int | Decimal) and not isinstance(total, bool)
    return is_number and total == 0 and str(held.get("PrivateNote", "")).startswith("Voided")


def _plain(value: Any) -> str:
    """A property as a query compares it: a reference by its ID."""
    return str(value["value"] if isinstance(value, Mapping) else value)
