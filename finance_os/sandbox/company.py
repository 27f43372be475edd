"""The synthetic company's own things: advertisers, campaigns, publishers, bank lines, and its product tables."""

import hashlib
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from .currency import RATES_PPM, divide_half_even

REVENUE_SHARE_BPS = 7_000


@dataclass(slots=True, eq=False)
class Publisher:
    """`earned` is what it is owed and has not been paid, in millionths of a US dollar."""

    id: str
    name: str
    email: str
    earned: int = 0


@dataclass(slots=True, eq=False)
class Campaign:
    """Runs on `starts` <= day < `ends`. `daily` and `unbilled` are micros of the advertiser's currency."""

    id: str
    name: str
    starts: date
    ends: date | None
    daily: int
    publishers: tuple[int, ...]
    unbilled: int = 0

    def runs(self, day: date) -> bool:
        return self.starts <= day and (self.ends is None or day < self.ends)

    def spend(self, seed: int, day: date) -> int:
        """Micros spent on a day: between 60 % and 140 % of `daily`, a function of seed, campaign and day alone."""
        if not self.runs(day):
            return 0
        digest = hashlib.blake2b(f"{seed}:{self.id}:{day}".encode(), digest_size=4).digest()
        return self.daily * (600_000 + int.from_bytes(digest, "big") % 800_001) // 1_000_000


@dataclass(slots=True, eq=False)
class Advertiser:
    """`billed_until` is the first day that no invoice has covered yet."""

    id: str
    name: str
    currency: str
    cycle: str
    collection_method: str
    customer: str
    payment_method: str
    last4: str
    billed_until: date
    campaigns: list[Campaign] = field(default_factory=list)
    active: bool = True


@dataclass(frozen=True, slots=True)
class BankLine:
    """One line of the bank account, in signed US cents; `payout` is the Stripe payout behind it, if any."""

    transaction_id: str | None
    begun: date
    posted: date
    description: str
    counterparty: str
    amount: int
    type: str
    reference: str | None
    payout: str | None = None
    currency: str = "USD"
    status: str = "Settled"


@dataclass(frozen=True, slots=True)
class Planted:
    """A deliberate disagreement between two systems: where it was planted and on which identifier."""

    kind: str
    system: str
    id: str
    detail: str


# Every way in which the systems disagree, and nothing else does: kind -> what it is.
PLANTED_KINDS: dict[str, str] = {
    "rho_amount_one_cent_off": "The bank line of the 3rd paid payout is one cent higher than the payout.",
    "rho_payout_missing": "The 5th paid payout never appears on the bank account.",
    "rho_deposit_without_payout": "With the 8th paid payout comes a second 'Stripe' deposit that no payout explains.",
    "adjustment_without_credit_note": "With the 2nd credit note Gravity books an adjustment unknown to Stripe.",
    "credit_note_without_adjustment": "The 4th credit note has no billing adjustment in Gravity.",
    "billed_one_unit_off": "Gravity bills the 7th finalized invoice one chargeable unit higher than Stripe's total.",
}

TABLES = ("publishers", "advertisers", "campaigns", "billing_adjustments", "advertiser_billing")


class ProductTables:
    """Gravity's rows by table and primary key, and which of them have changed since they were last taken.

    A row is a dict of column values; `created_at` and `updated_at` are aware UTC datetimes.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict[Any, dict[str, Any]]] = {table: {} for table in TABLES}
        self._changed: dict[tuple[str, Any], None] = {}

    def put(self, table: str, key: Any, now: datetime, **values: Any) -> None:
        """Insert or update a row at `now`."""
        row = self.rows[table].get(key)
        if row is None:
            row = self.rows[table][key] = {"created_at": now}
        row.update(values, updated_at=now)
        self._changed[table, key] = None

    def delete(self, table: str, key: Any) -> None:
        self.rows[table].pop(key, None)
        self._changed[table, key] = None

    def take_changes(self) -> list[tuple[str, Any]]:
        """Table and key of every row inserted, updated or deleted since the last call."""
        taken = list(self._changed)
        self._changed.clear()
        return taken


def earnings_usd_micros(spend: int, currency: str) -> int:
    """What publishers earn on `spend` micros of a currency, in millionths of a US dollar."""
    return divide_half_even(spend * RATES_PPM[currency] * REVENUE_SHARE_BPS, 1_000_000 * 10_000)
