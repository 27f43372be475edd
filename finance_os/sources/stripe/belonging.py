"""What belongs to an object and is not named by its events: which lists hold it, and which events say that one grew.

A target `payout:po_…` is every balance transaction that an automatic payout paid out (or, of the object type that is
about these, every one under the name of its payout), `customer:cus_…` everything that
moved a customer's balance, `payment_intent:pi_…` the invoices that a payment pays, `invoice:in_…` the payments or the
credit notes of an invoice: lists, read to their end. Neither kind of balance transaction has an event of its own.
Invoice payments and credit notes have, but until it comes a charge would look as if it paid for nothing, and an invoice
as if nothing had settled it.
https://docs.stripe.com/payouts/reconciliation, https://docs.stripe.com/billing/customer/balance
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from finance_os.evidence.extraction import SourceError
from finance_os.sources.stripe.objects import CUSTOMER, INVOICE, PAYMENT_INTENT, StripeObject


def customer_moved(event: Mapping[str, Any]) -> str | None:
    """The customer whose balance an event (of its whole JSON) says may have moved, if it says so of one.

    A customer's balance moves by hand (the customer changes), by an invoice that takes it up, leaves something over or
    is voided, and by a credit note.
    """
    data = event["data"]
    item = data["object"]
    kind = item.get("object")
    if kind == "customer":
        before = data.get("previous_attributes")
        moved = isinstance(before, dict) and "balance" in before
        return item.get("id") if moved or (event["type"] == "customer.created" and item.get("balance")) else None
    owner = item.get("customer")
    owner = owner.get("id") if isinstance(owner, dict) else owner
    if not isinstance(owner, str) or item.get("id") is None:  # an upcoming invoice has moved nothing yet
        return None
    if kind == "credit_note":
        return owner
    if kind == "invoice" and (
        item.get("starting_balance")
        or item.get("ending_balance")
        or event["type"] in ("invoice.overpaid", "invoice.voided")
    ):
        return owner
    return None


def payout_made_of(event: Mapping[str, Any]) -> str | None:
    """The payout whose balance transactions can be listed from this event on, if it is about one.

    An event of an older version may not say how far its reconciliation is: then it is tried.

    Those of a manual payout cannot be: Stripe refuses to list them. Those of an automatic one are complete when its
    reconciliation is, which `payout.reconciliation_completed` tells.
    """
    item = event["data"]["object"]
    if item.get("object") != "payout" or item.get("automatic") is not True:
        return None
    return item.get("id") if item.get("reconciliation_status") in (None, "completed") else None


def is_listed(payout: Mapping[str, Any]) -> bool:
    """Whether Stripe lists by now what a payout paid out."""
    return payout.get("automatic") is True and payout.get("reconciliation_status") == "completed"


def payment_made(event: Mapping[str, Any]) -> str | None:
    """The payment intent whose money an event says has come, if it is about it or its charge."""
    item = event["data"]["object"]
    if item.get("object") not in ("charge", "payment_intent") or item.get("status") != "succeeded":
        return None
    named = item.get("id") if item["object"] == "payment_intent" else item.get("payment_intent")
    return named.get("id") if isinstance(named, dict) else named


def invoice_meant(event: Mapping[str, Any]) -> str | None:
    """The invoice that an event is about: whatever it was then, what settles it now is read with it.

    A payment of it that is canceled has no event. https://docs.stripe.com/api/invoice-payment
    """
    item = event["data"]["object"]
    return item.get("id") if item.get("object") == INVOICE and event["type"] != "invoice.deleted" else None


def is_list(target: str) -> bool:
    """Whether a target names a list instead of an object."""
    return ":" in target


def may_be_gone(target: str) -> bool:
    """Whether what owns the list may have been deleted: a customer, or an invoice while it was a draft."""
    return target.partition(":")[0] in (CUSTOMER, INVOICE)


def list_at(obj: StripeObject, target: str) -> tuple[str, dict[str, Any]]:
    """Path and parameters of the list that `target` names; `SourceError` for one that the object type does not have."""
    name, _, whose = target.partition(":")
    endpoint = obj.detail
    if name not in endpoint.lists or not whose:
        known = " or ".join(f"{each}:…" for each in endpoint.lists) or "none"
        raise SourceError("invalid_request", f"{obj.object_type} has no list {name}:…; it has {known}", permanent=True)
    if name == CUSTOMER:
        return endpoint.path.format(customer=quote(whose, safe="")), {}
    if name == PAYMENT_INTENT:
        return endpoint.path, {"payment": {"type": PAYMENT_INTENT, PAYMENT_INTENT: whose}}
    return endpoint.path, {name: whose}


@dataclass
class Sum:
    """What the members of a payout come to: together with its own transaction, which is listed among them, nothing."""

    payout: str
    net: int = 0
    members: int = 0
    own: bool = False

    def add(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Take in a page."""
        for item in items:
            self.own |= item.get("source") == self.payout
            self.net += item["net"]
            self.members += 1

    @property
    def doubt(self) -> str | None:
        """What is to be said of a list that does not come to nothing."""
        if self.own and not self.net:
            return None
        return (
            f"The {self.members} balance transaction(s) that Stripe lists for {self.payout} come to {self.net}, not 0: "
            "it has not reconciled them yet, or the payout has failed."
        )
