"""Customers: one in QuickBooks for each customer of Stripe and currency, made with the first thing that needs it.

Books nothing by itself. QuickBooks ties a customer to one currency for good, so a Stripe customer that is billed in two
has two (https://developer.intuit.com/app/developer/qbo/docs/workflows/manage-multiple-currencies). Lean: display name,
e-mail, currency and the Stripe ID, as Stripe had them when the customer was first seen; later changes are not carried
over. A customer that QuickBooks has already is adopted and never overwritten: one that stands for an adopted invoice,
one that bears the marker, or the only one with the same name, e-mail and currency.

A display name must be unique among customers, vendors and employees: a taken one gets the Stripe ID behind it, and of
several Stripe customers with one name only the first keeps it plain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.books import Held
from finance_os.stripe_qbo.intent import REFERENCE, LinkKey
from finance_os.stripe_qbo.mapping.drafts import Draft, Drafts, Rank
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.mapping.unstaged import not_staged
from finance_os.stripe_qbo.stripe_objects import Customer

MAX_NAME = 500
_MAX_EMAIL = 100
_DAY = 86_400
_FORBIDDEN = str.maketrans({":": " ", "\t": " ", "\n": " ", "\r": " "})


def customer_key(customer: str, currency: str) -> LinkKey:
    return LinkKey("customer", customer, f"customer_{currency.lower()}")


@dataclass
class Customers:
    """Finds or makes the customer of whatever needs one."""

    drafts: Drafts
    _used: set[str] = field(default_factory=set)

    def need(self, customer: str, currency: str, moment: int) -> dict[str, Any]:
        """Reference to the customer for a currency; it is booked first where it is not there. Raises `NotBooked`."""
        key = customer_key(customer, currency)
        if not self.drafts.has(key):
            held = self._held(customer, currency)
            if held is not None:
                self.adopt(customer, currency, held)
            else:
                self._make(key, customer, currency, moment)
        return {"value": key.as_reference()}

    def guest(self, currency: str) -> dict[str, Any]:
        """Reference to the rules' customer for payments without one. Raises `NotBooked`."""
        key, name = customer_key("guest", currency), self.drafts.rules.guest_customer
        if name is None:
            raise NotBooked(
                "payment_without_customer",
                "It has neither an invoice nor a customer: name a guest customer in the rules.",
            )
        if key not in self.drafts.adoptions:
            found = [
                each
                for each in self.drafts.books.all("Customer")
                if each.active
                and each.display_name.casefold() == name.casefold()
                and each.currency in ("", currency.upper())
            ]
            if not found:
                raise NotBooked(
                    "guest_customer_missing", f"The rules' guest customer is not in QuickBooks in {currency.upper()}."
                )
            self.drafts.adopt(key, "Customer", found[0])
        return {"value": key.as_reference()}

    def adopt(self, customer: str, currency: str, held: Held) -> bool:
        """Let a customer of QuickBooks stand for one of Stripe; False where it stands for another already."""
        key = customer_key(customer, currency)
        if key in self.drafts.adoptions:
            return self.drafts.adoptions[key].qbo_id == held.id
        if held.id in self._used:
            return False
        self._used.add(held.id)
        self.drafts.adopt(key, "Customer", held)
        return True

    def held(self, customer: str, currency: str) -> str | None:
        """The ID of the customer that QuickBooks has for a currency, adopted if it was not yet."""
        key = customer_key(customer, currency)
        if key not in self.drafts.adoptions:
            found = self._held(customer, currency)
            if found is None or not self.adopt(customer, currency, found):
                return None
        return self.drafts.adoptions[key].qbo_id

    def _held(self, customer: str, currency: str) -> Held | None:
        marked = self.drafts.books.marked.get(customer_key(customer, currency))
        if marked is not None:
            return marked
        known = self._known(customer)
        if known is None or not known.name or not known.email or self.drafts.made(customer_key(customer, currency)):
            return None
        same = [
            each
            for each in self._by_email.get(known.email.casefold(), ())
            if each.currency in ("", currency.upper())
            and clean(known.name).casefold() in (each.display_name.casefold(), each.company_name.casefold())
            and each.id not in self._used
        ]
        if len(same) > 1:
            day = self.drafts.day(known.created)
            self.drafts.find(
                "customer_ambiguous",
                Severity.MEDIUM,
                customer,
                day,
                f"Several customers in QuickBooks have its name and e-mail ({', '.join(each.id for each in same)}): "
                "one of its own is made.",
            )
        return same[0] if len(same) == 1 else None

    def _make(self, key: LinkKey, customer: str, currency: str, moment: int) -> None:
        known = self._known(customer)
        if known is None:
            raise not_staged("Its customer", "customer", customer, code="customer_not_staged")
        name = self._unique_name(known, currency)
        body = {"DisplayName": name, **self.drafts.in_currency(currency)}
        if known.email and "@" in known.email and "." in known.email and len(known.email) <= _MAX_EMAIL:
            body["PrimaryEmailAddr"] = {"Address": known.email}
        self.drafts.create(
            key,
            "Customer",
            body,
            moment=moment,
            rank=Rank.CUSTOMER,
            note=f"Stripe customer {customer}",
            evidence=(f"customer:{customer}",),
        )

    def _known(self, customer: str) -> Customer | None:
        """A customer as it was first seen; of one that was deleted before, what its first invoice says.

        Stripe does not list deleted customers. One that is only staged later than its invoice is given a day.
        """
        known = self.drafts.stripe.customer.get(customer)
        if known is not None:
            return known
        billed = self._billed.get(customer)
        return billed if billed is not None and billed.created < self.drafts.stripe.latest - _DAY else None

    def _unique_name(self, known: Customer, currency: str) -> str:
        plain = clean(known.name or "") or known.id
        main = self._main_currency.get(known.id, currency)
        suffix = "" if currency == main else f" {currency.upper()}"
        first = self._first_of_name.get(plain.casefold(), known.id) == known.id
        name = f"{plain[: MAX_NAME - 60]}{suffix}"
        if first and name.casefold() not in self._taken:
            return name
        return f"{plain[: MAX_NAME - 60]} ({known.id}){suffix}"

    @cached_property
    def _billed(self) -> Mapping[str, Customer]:
        found: dict[str, Customer] = {}
        for each in self.drafts.stripe.invoice.values():
            if each.customer is not None:
                billed = Customer(
                    id=each.customer, created=each.created, name=each.customer_name, email=each.customer_email
                )
                found.setdefault(each.customer, billed)
        return found

    @cached_property
    def _taken(self) -> frozenset[str]:
        books = self.drafts.books
        held = (each for entity in ("Customer", "Vendor") for each in books.all(entity) if each.mark is None)
        return frozenset(each.display_name.casefold() for each in held if each.active)

    @cached_property
    def _by_email(self) -> Mapping[str, list[Held]]:
        found: dict[str, list[Held]] = {}
        for each in self.drafts.books.all("Customer"):
            if each.active and each.email and each.mark is None:
                found.setdefault(each.email, []).append(each)
        return found

    @cached_property
    def _first_of_name(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for each in self.drafts.stripe.customer.values():
            found.setdefault(clean(each.name or "").casefold(), each.id)
        return found

    @cached_property
    def _main_currency(self) -> Mapping[str, str]:
        """The currency of each customer's first invoice: its QuickBooks customer bears the plain name."""
        found: dict[str, str] = {}
        for invoice in self.drafts.stripe.invoice.values():
            if invoice.customer is not None:
                found.setdefault(invoice.customer, invoice.currency)
        return found


def date_by_first_need(drafts: Drafts) -> None:
    """Let every customer that is made go right before the first thing that needs it, and bear its day."""
    first: dict[str, Draft] = {}
    for draft in drafts.drafts.values():
        named = draft.intent.payload.get("CustomerRef")
        if named is not None:
            key = named["value"][REFERENCE]
            if key not in first or draft.moment < first[key].moment:
                first[key] = draft
    for place, draft in list(drafts.drafts.items()):
        needs_it = first.get(str(draft.intent.key))
        if draft.rank is Rank.CUSTOMER and needs_it is not None:
            dated = replace(draft.intent, dated=needs_it.intent.dated)
            drafts.drafts[place] = replace(draft, intent=dated, moment=needs_it.moment)


def clean(name: str) -> str:
    """A name without what QuickBooks does not allow in one: colons, tabs and new lines."""
    return " ".join(name.translate(_FORBIDDEN).split())
