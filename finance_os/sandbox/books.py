"""What every step of billing writes: records with their events, customer balances, the account's balance, Gravity.

A change of a record logs Stripe's event with what the changed fields were before.
"""

from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from .company import Advertiser
from .currency import to_micros
from .states import BalanceTransaction, Customer, CustomerBalanceTransaction, Invoice, PaymentIntent, Record

if TYPE_CHECKING:
    from .world import World

HOUR = 3_600
DAY = 86_400
_TRANSITIONS = ("finalized_at", "paid_at", "voided_at", "marked_uncollectible_at")
_NO_JSON = ("failure",)


def seconds(day: date) -> int:
    """Midnight UTC of a day, in seconds since the epoch."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def business_days_later(moment: int, days: int) -> int:
    """Midnight UTC `days` working days (Monday to Friday) after the day of `moment`."""
    day = datetime.fromtimestamp(moment, UTC).date()
    while days:
        day += timedelta(days=1)
        days -= day.weekday() < 5
    return seconds(day)


class Books:
    """The company's records at Stripe and their counterparts in Gravity."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.ledger = world.stripe
        self._adjustments = 0

    def change(self, record: Record, event: str | None, **values: Any) -> None:
        """Set fields of a record; log `event` with their previous values where any of them really changed."""
        previous: dict[str, Any] = {}
        for name, value in values.items():
            old = getattr(record, name)
            if old == value:
                continue
            if name in _TRANSITIONS:
                previous.setdefault("status_transitions", {})[name] = old
            elif name not in _NO_JSON:
                previous[name] = old
            setattr(record, name, value)
        record.blob = None
        if event is not None and previous:
            self.ledger.emit(event, record, previous)

    def create_customer(self, rng: Random, name: str, currency: str, description: str | None) -> Customer:
        key = self.ledger.new_id("customer")
        slug = "".join(c for c in name.lower() if c.isalnum())
        customer = Customer(
            id=key,
            created=self.ledger.now,
            name=name,
            email=f"billing@{slug}.example.com",
            currency=currency,
            country={"jpy": "JP", "bhd": "BH", "eur": "DE"}.get(currency, "US"),
            line1=f"{rng.randint(1, 999)} Market Street",
            city=rng.choice(("Springfield", "Riverton", "Lakeside", "Hillview")),
            postal_code=f"{rng.randint(10_000, 99_999)}",
            invoice_prefix=key[-8:].upper(),
            description=description,
            phone=f"+1555{rng.randint(1_000_000, 9_999_999)}",
        )
        self.ledger.add(customer)
        self.ledger.emit("customer.created", customer)
        return customer

    def delete_customer(self, customer: Customer) -> None:
        """https://docs.stripe.com/api/customers/delete: gone from lists, retrieved as a stub from now on."""
        if customer.deleted:
            return
        self.ledger.emit("customer.deleted", customer)
        customer.deleted = True
        customer.blob = None
        self.ledger.tables["customer"].remove(customer)

    def move_balance(
        self,
        customer: Customer,
        amount: int,
        kind: str,
        description: str | None,
        invoice: str | None = None,
        credit_note: str | None = None,
    ) -> CustomerBalanceTransaction:
        """Add `amount` to what the customer owes (negative: credit) and log the customer's new balance."""
        transaction = CustomerBalanceTransaction(
            id=self.ledger.new_id("customer_balance_transaction"),
            created=self.ledger.now,
            customer=customer.id,
            amount=amount,
            currency=customer.currency,
            ending_balance=customer.balance + amount,
            type=kind,
            description=description,
            invoice=invoice,
            credit_note=credit_note,
        )
        self.ledger.add(transaction)
        self.change(customer, "customer.updated", balance=customer.balance + amount)
        return transaction

    def adjustment(
        self,
        advertiser: Advertiser,
        kind: str,
        amount: int,
        reference: str | None,
        invoice: str | None,
        reason: str,
    ) -> int:
        """Book a credit of `amount` minor units in Gravity's ledger and return its key."""
        self._adjustments += 1
        self.world.gravity.put(
            "billing_adjustments",
            self._adjustments,
            self.world.when,
            advertiser_id=advertiser.id,
            kind=kind,
            state="applied",
            amount_microdollars=-to_micros(amount, advertiser.currency),
            currency=advertiser.currency,
            reason=reason,
            stripe_reference=reference,
            stripe_invoice_id=invoice,
            effective_on=self.world.today,
        )
        return self._adjustments

    def bill_state(self, invoice: Invoice, **values: Any) -> None:
        """Tell Gravity how an invoice stands."""
        key = self.world.billing_of.get(invoice.id)
        if key is not None:
            self.world.gravity.put("advertiser_billing", key, self.world.when, **values)

    def payment_intent(self, advertiser: Advertiser, amount: int, description: str) -> PaymentIntent:
        customer: Customer = self.ledger.one("customer", advertiser.customer)
        bank = advertiser.collection_method == "send_invoice" and advertiser.currency == "usd"
        intent = PaymentIntent(
            id=self.ledger.new_id("payment_intent"),
            created=self.ledger.now,
            customer=customer.id,
            amount=amount,
            currency=advertiser.currency,
            method="us_bank_account" if bank else "card",
            description=description,
            receipt_email=customer.email,
        )
        self.ledger.add(intent)
        self.ledger.emit("payment_intent.created", intent)
        return intent

    def cancel_intent(self, intent: PaymentIntent, reason: str) -> None:
        if intent.status in ("succeeded", "canceled", "processing"):
            return
        self.change(intent, None, status="canceled", canceled_at=self.ledger.now, cancellation_reason=reason)
        self.ledger.emit("payment_intent.canceled", intent)

    def ask_for(self, intent: PaymentIntent, amount: int) -> None:
        """Change what the invoice's default payment asks for."""
        self.change(intent, None, amount=amount)
        for payment in self.ledger.rows("invoice_payment", payment_intent=intent.id):
            self.change(payment, None, amount_requested=amount)

    def book(
        self,
        *,
        amount: int,
        kind: str,
        reporting_category: str,
        source: str,
        description: str | None,
        fee: int = 0,
        available_on: int | None = None,
        source_currency: str = "usd",
    ) -> BalanceTransaction:
        """Move `amount` US cents on the account's balance."""
        return self.ledger.add(
            BalanceTransaction(
                id=self.ledger.new_id("balance_transaction"),
                created=self.ledger.now,
                amount=amount,
                fee=fee,
                type=kind,
                reporting_category=reporting_category,
                source=source,
                available_on=self.ledger.now if available_on is None else available_on,
                description=description,
                source_currency=source_currency,
            )
        )
