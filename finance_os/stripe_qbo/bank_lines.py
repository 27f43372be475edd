"""What the bank shows: the posted lines of a business's bank accounts, as Rho's exports and Plaid tell of them.

Amounts are integers of the currency's minor units (ISO 4217), positive where money came in.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import msgspec

from finance_os.evidence.database import DatabaseConnection
from finance_os.evidence.money import NotMoney, minor_units

RHO, PLAID = "rho", "plaid"


@dataclass(frozen=True)
class BankLine:
    """One posted movement as one source shows it. `reference` is whatever it says of itself."""

    source: str
    key: str
    day: date
    amount: int
    currency: str
    reference: str


class _Rho(msgspec.Struct, frozen=True):
    posted_on: date | None = None
    amount_minor: int | None = None
    currency: str | None = None
    status: str | None = None
    reference: str | None = None
    description: str | None = None


class _Meta(msgspec.Struct, frozen=True):
    reference_number: str | None = None


class _Plaid(msgspec.Struct, frozen=True):
    date: date
    amount: Decimal
    pending: bool = False
    iso_currency_code: str | None = None
    name: str | None = None
    original_description: str | None = None
    payment_meta: _Meta | None = None


def rho_lines(rows: Iterable[tuple[str, str | bytes]]) -> Iterator[BankLine]:
    """Posted lines out of `rho_cash_transaction` payloads by source ID."""
    decode = msgspec.json.Decoder(_Rho).decode
    for key, payload in rows:
        row = decode(payload)
        if row.status == "posted" and row.posted_on is not None and row.amount_minor is not None and row.currency:
            reference = " ".join(each for each in (row.reference, row.description) if each)
            yield BankLine(RHO, key, row.posted_on, row.amount_minor, row.currency.lower(), reference)


def plaid_lines(rows: Iterable[tuple[str, str | bytes]]) -> Iterator[BankLine]:
    """Posted lines out of `plaid_transaction` payloads by source ID; money that leaves is positive there."""
    decode = msgspec.json.Decoder(_Plaid).decode
    for key, payload in rows:
        row = decode(payload)
        if row.pending or not row.iso_currency_code:
            continue
        try:
            amount = -minor_units(row.amount, row.iso_currency_code)
        except NotMoney:
            continue  # no exact amount: the bank comparison lists it as unreadable
        said = (row.payment_meta.reference_number if row.payment_meta else None, row.original_description, row.name)
        yield BankLine(
            PLAID, key, row.date, amount, row.iso_currency_code.lower(), " ".join(each for each in said if each)
        )


def load(connection: DatabaseConnection, business_id: str) -> tuple[BankLine, ...]:
    """What is staged of both, within the caller's transaction, by source, day and ID."""
    found = [
        *rho_lines(_heads(connection, business_id, RHO, "rho_cash_transaction")),
        *plaid_lines(_heads(connection, business_id, PLAID, "plaid_transaction")),
    ]
    return tuple(sorted(found, key=lambda each: (each.source, each.day, each.key)))


def _heads(
    connection: DatabaseConnection, business_id: str, system: str, object_type: str
) -> Iterator[tuple[str, str]]:
    rows = connection.execute(
        """
        SELECT head.source_id, record.payload::text AS payload
        FROM finance_os.raw_record_heads AS head
        JOIN finance_os.raw_source_records AS record USING (record_id)
        WHERE head.business_id = %s AND head.source_system = %s AND head.object_type = %s AND NOT head.removed
        """,
        (business_id, system, object_type),
    )
    for row in rows:
        yield row["source_id"], row["payload"]
