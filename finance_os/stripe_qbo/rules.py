"""The rules of a business's export: from which day it books, in which time zone, and to which accounts and items."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec


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
    guest_customer: str | None = None
    """The customer in QuickBooks that payments are booked to which have none at Stripe; without it they are not."""
    payout_days: int = 3
    """How many days an existing deposit may lie from its payout's arrival date."""

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


def rules_of(settings: Mapping[str, Any]) -> Rules:
    """Rules from plain values (JSON, TOML); raises `BadRules` for unknown names, wrong types and unknown zones."""
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
    return rules
