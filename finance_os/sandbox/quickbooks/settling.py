"""What is still open of a transaction, and what a payment settles, in its currency and at home."""

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from .entries import Entry, Key, credits_used, link, paid
from .formats import at_rate

if TYPE_CHECKING:
    from .realm import Realm


def open_amount(realm: "Realm", entry: Entry) -> int:
    """What is not yet paid of an invoice or bill, or not yet used of a credit memo."""
    return entry.total - realm.links.applied(entry.key)


def unapplied(entry: Entry) -> int:
    """What a payment has not been applied to anything."""
    lines = entry.fields.get("Line", ())
    return entry.total - paid(lines) + credits_used(lines)


def settlements(realm: "Realm", entry: Entry) -> Iterator[tuple[int, int]]:
    """What a payment settles: amounts in its currency, and in the home currency at the rates of what they settle.

    Used credits are negative. A settled amount is worth what the open amount's home value falls by, so that no cent
    is lost to rounding however many payments an invoice has.
    """
    for line in entry.fields.get("Line", ()):
        target, cents = link(line)
        sign = -1 if target[0] == "CreditMemo" else 1
        yield sign * cents, sign * _relief(realm, target, entry.key)
    rest = unapplied(entry)
    if rest:
        yield rest, at_rate(rest, Decimal(entry.fields["ExchangeRate"]))


def _relief(realm: "Realm", target: Key, payer: Key) -> int:
    settled = realm.one(*target)
    rate, still_open = Decimal(settled.fields["ExchangeRate"]), settled.total
    for key, cents in realm.links.payers(target).items():
        if key == payer:
            return at_rate(still_open, rate) - at_rate(still_open - cents, rate)
        still_open -= cents
    raise KeyError(payer)
