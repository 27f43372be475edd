"""The rules of a business's export: from which day it books, in which time zone, and to which accounts and items."""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from finance_os.evidence.money import STRIPE_EXPONENTS, NotMoney, exponent, minor_units
from finance_os.evidence.windows import start_of_day


class BadRules(ValueError):
    """Rules that cannot be followed. The text says which and why."""


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the accountant decides once.

    `balance_date` is the first day (in `time_zone`, the accounting time zone) that the export books; what happened
    before is in QuickBooks already. Accounts and items are named as QuickBooks names them. `clearing` and `bank` are
    by currency of the Stripe balance, lower case. Without a `tax_item` invoices with tax are not booked; without a
    `bad_debt_item` uncollectible invoices stay open.
    """

    balance_date: date
    time_zone: str
    clearing: Mapping[str, str] = msgspec.field(default_factory=lambda: {"usd": "Stripe Clearing"})
    bank: Mapping[str, str] = msgspec.field(default_factory=lambda: {"usd": "Rho Checking"})
    fees: str = "Stripe Fees"
    disputes: str = "Chargebacks"
    exchange: str = "Exchange Gain or Loss"
    sales_item: str = "Ad Spend"
    credit_item: str = "Make-good"
    goodwill_item: str = "Goodwill"
    refund_item: str = "Refund"
    tax_item: str | None = None
    bad_debt_item: str | None = None
    debit_item: str | None = None
    """What is sold where a customer's balance is charged by hand; without it such a debit is not booked."""
    migration_item: str | None = None
    """What stands for the balance that a customer came with (Stripe's `initial` and `migration`): its account is the
    other side of what the customer is owed or owes. Without it such a balance is not booked."""
    movements: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By reporting category of Stripe's balance transactions that the export has no rule of its own for (such as
    `risk_reserved_funds`, `topup`, `tax`, `other_adjustment`): the account that stands against clearing."""
    outside_account: str | None = None
    """Where money is booked that Stripe only records as paid, or credited back, outside of it, such as Undeposited
    Funds: QuickBooks' bank feed matches it there. Without it such payments are not booked, and what was credited back
    so stays open in its credit memo."""
    opening_account: str | None = None
    """Where what clearing lacks at the balance date comes from; without it the difference is only stated."""
    opening_stripe_balance: Mapping[str, str] | None = None
    """What Stripe held as the balance date began, available and pending together, by currency in lower case, each as
    text in major units with all decimals of the currency: `{"usd": "12345.67", "jpy": "1200"}`. A payout is out of it
    from the moment that it was made, as in Stripe's own balance. A currency that is not named held nothing. With it
    Stripe's balance transactions count from the balance date on only; without it they all do, since the account's first
    day."""
    guest_customer: str | None = None
    """The customer in QuickBooks that payments are booked to which have none at Stripe; without it they are not."""
    payout_days: int = 3
    """How many days an existing deposit may lie from its payout's arrival date."""

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def since(self) -> int:
        """The moment at which the balance date begins, in Unix seconds."""
        return int(start_of_day(self.balance_date, self.zone).timestamp())

    @property
    def stripe_at_start(self) -> Mapping[str, int] | None:
        """`opening_stripe_balance` in minor units."""
        if self.opening_stripe_balance is None:
            return None
        return {each: minor_units(said, each, STRIPE_EXPONENTS) for each, said in self.opening_stripe_balance.items()}


def rules_of(settings: Mapping[str, Any]) -> Rules:
    """Rules from plain values (JSON, TOML); raises `BadRules` for unknown names, wrong types and unknown zones."""
    stated = settings.get("opening_stripe_balance")
    for currency, amount in stated.items() if isinstance(stated, Mapping) else ():
        if not isinstance(amount, str):
            raise BadRules(
                f'opening_stripe_balance.{currency} is text, such as "12345.67": a number ({amount}) need not be exact'
            )
    try:
        rules = msgspec.convert(dict(settings), Rules)
    except msgspec.ValidationError as error:
        raise BadRules(f"The rules of the QuickBooks export cannot be read: {error}") from None
    try:
        ZoneInfo(rules.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise BadRules(f"{rules.time_zone!r} is no time zone: use a name such as America/New_York") from None
    for name in ("clearing", "bank"):
        wrong = [each for each in getattr(rules, name) if each != each.lower() or len(each) != 3]
        if wrong:
            raise BadRules(f"{name} is by currency in lower case, such as usd: {', '.join(sorted(wrong))} is not")
    if rules.payout_days < 0:
        raise BadRules("payout_days is not below zero")
    if rules.opening_stripe_balance is not None:
        _require_stated(rules.opening_stripe_balance)
    return rules


def _require_stated(balance: Mapping[str, str]) -> None:
    """An amount with fewer decimals than its currency has could be one of minor units: each has to have all of them."""
    name = "opening_stripe_balance"
    if not balance:
        raise BadRules(f'{name} names no currency: where Stripe held nothing, say so, as {{"usd": "0.00"}}')
    for currency, amount in balance.items():
        try:
            decimals = exponent(currency, STRIPE_EXPONENTS)
        except NotMoney as error:
            raise BadRules(f"{name} is by currency in lower case, such as usd: {currency!r} is not ({error})") from None
        if currency != currency.lower():
            raise BadRules(f"{name} is by currency in lower case, such as usd: {currency!r} is not")
        fraction = rf"\.[0-9]{{{decimals}}}" if decimals else ""
        if not re.fullmatch(rf"-?[0-9]+{fraction}", amount):
            example = "1234" + f".{'5' * decimals}" * bool(decimals)
            raise BadRules(
                f"{name}.{currency} is written in major units with {decimals} decimals and nothing but digits and the "
                f"point, such as {example}: {amount!r} is not"
            )
