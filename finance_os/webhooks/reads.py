"""What an event asks to be read: object types, and the source IDs of the affected objects.

Derived from the sources' own declarations. An event about something that no object type holds asks for nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from finance_os.sources.plaid.objects import OBJECTS as PLAID_OBJECTS
from finance_os.sources.plaid.objects import Way as PlaidWay
from finance_os.sources.quickbooks.objects import OBJECTS as QUICKBOOKS_OBJECTS
from finance_os.sources.quickbooks.objects import Way as QuickBooksWay
from finance_os.sources.source import Reads
from finance_os.sources.stripe.belonging import customer_moved, invoice_meant, payment_made, payout_made_of
from finance_os.sources.stripe.objects import CUSTOMER, INVOICE, PAYMENT_INTENT, PAYOUT
from finance_os.sources.stripe.objects import OBJECTS as STRIPE_OBJECTS
from finance_os.webhooks.events import Event

Wanted = dict[str, list[str] | None]
"""Object type → source IDs in order, or `None` for the present day of it: what gives no single objects."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_LIST = re.compile(rf"({PAYOUT}|{CUSTOMER}|{PAYMENT_INTENT}|{INVOICE}):[A-Za-z0-9_-]{{1,200}}")

_BALANCE_TRANSACTION = "stripe_balance_transaction"
_PAID_OUT = "stripe_payout_balance_transaction"
_CUSTOMER_BALANCE_TRANSACTION = "stripe_customer_balance_transaction"
_INVOICE_PAYMENT = "stripe_invoice_payment"
_CREDIT_NOTE = "stripe_credit_note"


class Unfit(Exception):
    """An event that says it is about an object, and does not say which."""


def reads_of(source_system: str, event: Event) -> Wanted:
    """What `event` asks to be read; empty for nothing. Raises `Unfit`."""
    wanted: Wanted = {}
    for object_type, target in _READERS[source_system](event):
        if target is None:
            wanted[object_type] = None
            continue
        if not _LIST.fullmatch(target) and not all(_ID.fullmatch(part) for part in target.split("/")):
            raise Unfit(f"{object_type}: what it names is not a source ID")
        targets = wanted.setdefault(object_type, [])
        if targets is not None and target not in targets:
            targets.append(target)
    return wanted


def merged(wanted: Iterable[Mapping[str, list[str] | None]]) -> Wanted:
    """Several events' reads as one: each object once, in the order in which they were asked for."""
    found: dict[str, dict[str, None] | None] = {}
    for each in wanted:
        for object_type, targets in each.items():
            if targets is None:
                found[object_type] = None
            elif (known := found.setdefault(object_type, {})) is not None:
                known.update(dict.fromkeys(targets))
    return {object_type: None if targets is None else list(targets) for object_type, targets in found.items()}


def count(wanted: Mapping[str, list[str] | None]) -> int:
    """How many objects that is; a whole day counts as one."""
    return sum(1 if targets is None else len(targets) for targets in wanted.values())


# --- Stripe


def _stripe(event: Event) -> Iterator[tuple[str, str | None]]:
    """The event's object itself, and what it names of the kinds that have no event of their own.

    What belongs to another account (Connect) cannot be read with this one's key. Objects without an ID, such as an
    upcoming invoice, do not exist yet. https://docs.stripe.com/api/events/types

    Balance transactions never have an event. Those that a charge, a refund, a payout or a dispute names are read with
    it; what an automatic payout paid out, and what moved a customer's balance, as whole lists. Stripe's own fees and
    adjustments are named by nothing: the daily read stages them, or the payout that takes them if it comes first. The
    invoices that a payment pays are read with it, and with an invoice what settles it, so that neither is taken for one
    that has nothing of the kind.
    """
    data = event.content.get("data")
    item = data.get("object") if isinstance(data, dict) else None
    if not isinstance(item, dict):
        raise Unfit("it has no object")
    if event.content.get("account") is not None:
        return
    kind, source_id = item.get("object"), item.get("id")
    for obj in STRIPE_OBJECTS:
        endpoint = obj.detail
        if endpoint.snapshots or endpoint.owned_by_customer or endpoint.owned_by_payout:
            continue
        if endpoint.kind == kind:
            if obj.reads is Reads.SNAPSHOT:
                yield obj.object_type, endpoint.kind
            elif source_id is not None:
                yield obj.object_type, _text(source_id)
        elif (
            isinstance(kind, str)
            and kind in endpoint.through
            and (named := item.get(endpoint.through[kind])) is not None
        ):
            yield obj.object_type, _id_of(named)
    for name in ("balance_transaction", "failure_balance_transaction"):
        if item.get(name) is not None:
            yield _BALANCE_TRANSACTION, _id_of(item[name])
    several = item.get("balance_transactions")
    for each in several if isinstance(several, list) else ():
        yield _BALANCE_TRANSACTION, _id_of(each)
    payout = payout_made_of(event.content)
    if payout is not None:
        yield _BALANCE_TRANSACTION, f"{PAYOUT}:{_text(payout)}"
        yield _PAID_OUT, f"{PAYOUT}:{_text(payout)}"
    customer = customer_moved(event.content)
    if customer is not None:
        yield _CUSTOMER_BALANCE_TRANSACTION, f"{CUSTOMER}:{_text(customer)}"
    payment = payment_made(event.content)
    if payment is not None:
        yield _INVOICE_PAYMENT, f"{PAYMENT_INTENT}:{_text(payment)}"
    invoice = invoice_meant(event.content)
    if invoice is not None:
        yield _INVOICE_PAYMENT, f"{INVOICE}:{_text(invoice)}"
        yield _CREDIT_NOTE, f"{INVOICE}:{_text(invoice)}"


def _id_of(value: Any) -> str:
    """An ID, or that of an object in its place."""
    return _text(value.get("id") if isinstance(value, dict) else value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit("where an ID should be, it has something else")
    return value


# --- QuickBooks


@cache
def _entities() -> Mapping[str, str]:
    """QuickBooks' word for an entity, in lower case → the object type that is read by ID."""
    by_id = (QuickBooksWay.CHANGES, QuickBooksWay.LIST, QuickBooksWay.SINGLE)
    return {obj.detail.name.lower(): obj.object_type for obj in QUICKBOOKS_OBJECTS if obj.detail.way in by_id}


def _quickbooks(event: Event) -> Iterator[tuple[str, str | None]]:
    """The entity, and the one that was merged into it and is gone.

    https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks
    """
    if event.type.startswith("qbo."):
        name, named = event.type.split(".")[1], (event.content.get("intuitentityid"), None)
    else:
        name, named = event.type.partition(".")[0], (event.content.get("id"), event.content.get("deletedId"))
    object_type = _entities().get(name.lower())
    if object_type is None:
        return
    if object_type == "quickbooks_company_info":
        yield object_type, _text(event.realm)  # its source ID is the realm
        return
    yield object_type, _text(named[0])
    if named[1] is not None:
        yield object_type, _text(named[1])


# --- Plaid


def _plaid(event: Event) -> Iterator[tuple[str, str | None]]:
    """Plaid says that there is something new, not what: transactions are read for the present day and since the cursor.

    https://plaid.com/docs/api/products/transactions/#webhooks, https://plaid.com/docs/api/items/#webhooks
    """
    kind = event.type.partition(".")[0]
    for obj in PLAID_OBJECTS:
        if obj.detail is PlaidWay.ITEM and kind in ("ITEM", "TRANSACTIONS"):
            yield obj.object_type, _text(event.content.get("item_id"))
        elif obj.detail in (PlaidWay.TRANSACTIONS, PlaidWay.ACCOUNTS) and kind == "TRANSACTIONS":
            yield obj.object_type, None


_READERS = {"stripe": _stripe, "quickbooks": _quickbooks, "plaid": _plaid}
