"""What a QuickBooks company holds, as the export needs it: chart, names, transactions, settings and rates.

Amounts are `Decimal` in the currency of the object. Field names and their meaning:
https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/account
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any

import msgspec

from finance_os.evidence.database import DatabaseConnection
from finance_os.stripe_qbo import realms
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.realms import SYSTEM

MARK = "stripe:"
"""What the marker of everything that the export makes begins with; the rest is the key of its link."""

OBJECT_TYPES: Mapping[str, str] = {
    "Account": "quickbooks_account",
    "Customer": "quickbooks_customer",
    "Vendor": "quickbooks_vendor",
    "Item": "quickbooks_item",
    "TaxCode": "quickbooks_tax_code",
    "Invoice": "quickbooks_invoice",
    "CreditMemo": "quickbooks_credit_memo",
    "RefundReceipt": "quickbooks_refund_receipt",
    "Payment": "quickbooks_payment",
    "Deposit": "quickbooks_deposit",
    "JournalEntry": "quickbooks_journal_entry",
    "Preferences": "quickbooks_preferences",
    "ExchangeRate": "quickbooks_exchange_rate",
}
"""Where each entity that is looked at is staged."""


class Ref(msgspec.Struct, frozen=True):
    value: str


class Address(msgspec.Struct, frozen=True, rename="pascal"):
    address: str = ""


class LinkedTxn(msgspec.Struct, frozen=True, rename="pascal"):
    txn_id: str
    txn_type: str


class DepositDetail(msgspec.Struct, frozen=True, rename="pascal"):
    account_ref: Ref | None = None


class JournalDetail(msgspec.Struct, frozen=True, rename="pascal"):
    posting_type: str = ""
    account_ref: Ref | None = None


class HeldLine(msgspec.Struct, frozen=True, rename="pascal"):
    amount: Decimal = Decimal(0)
    linked_txn: list[LinkedTxn] = []
    deposit_line_detail: DepositDetail | None = None
    journal_entry_line_detail: JournalDetail | None = None


class Held(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """An object of any entity; what an entity does not have is empty."""

    id: str = ""
    sync_token: str = ""
    name: str = ""
    display_name: str = ""
    company_name: str = ""
    active: bool = True
    account_type: str = ""
    notes: str = ""
    primary_email_addr: Address | None = None
    income_account_ref: Ref | None = None
    currency_ref: Ref | None = None
    customer_ref: Ref | None = None
    deposit_to_account_ref: Ref | None = None
    doc_number: str = ""
    payment_ref_num: str = ""
    txn_date: date | None = None
    total_amt: Decimal = Decimal(0)
    remaining_credit: Decimal | None = None
    exchange_rate: Decimal = Decimal(1)
    private_note: str = ""
    line: list[HeldLine] = []

    @property
    def currency(self) -> str:
        """Upper case; empty where the company has one currency only."""
        return self.currency_ref.value if self.currency_ref else ""

    @property
    def email(self) -> str:
        return self.primary_email_addr.address.casefold() if self.primary_email_addr else ""

    @property
    def is_void(self) -> bool:
        """Whether a transaction was voided: QuickBooks keeps it without an amount, and says so in its note."""
        return self.total_amt == 0 and self.private_note.startswith("Voided")

    @property
    def mark(self) -> LinkKey | None:
        """The key of the intent that made it, where the export did."""
        for word in (*self.private_note.split(), *self.notes.split()):
            if word.startswith(MARK):
                try:
                    return LinkKey.parse(word.removeprefix(MARK))
                except ValueError:
                    continue
        return None


class _Accounting(msgspec.Struct, frozen=True, rename="pascal"):
    book_close_date: date | None = None


class _SalesForms(msgspec.Struct, frozen=True, rename="pascal"):
    custom_txn_numbers: bool = False


class _Currency(msgspec.Struct, frozen=True, rename="pascal"):
    home_currency: Ref | None = None
    multi_currency_enabled: bool = False


class _Preferences(msgspec.Struct, frozen=True, rename="pascal"):
    accounting_info_prefs: _Accounting = _Accounting()
    sales_forms_prefs: _SalesForms = _SalesForms()
    currency_prefs: _Currency = _Currency()


class _Rate(msgspec.Struct, frozen=True, rename="pascal"):
    source_currency_code: str
    as_of_date: date
    rate: Decimal


@dataclass(frozen=True)
class Books:
    """One company. Currencies are upper case; `rates` are by currency and the day that they were asked for.

    `closed_until` is the last day of the closed period, `uses_own_numbers` whether DocNumbers are taken as they are
    sent.
    """

    held: Mapping[str, Mapping[str, Held]] = field(default_factory=dict)
    rates: Mapping[tuple[str, date], Decimal] = field(default_factory=dict)
    home: str = "USD"
    is_multicurrency: bool = False
    uses_own_numbers: bool = False
    closed_until: date | None = None

    def all(self, entity: str) -> Iterable[Held]:
        """Every object of an entity, by its ID."""
        return self.held.get(entity, {}).values()

    def account(self, name: str) -> Held | None:
        """The active account of that name."""
        return self._accounts.get(name.casefold())

    def item(self, name: str) -> Held | None:
        """The active item of that name."""
        return self._items.get(name.casefold())

    def rate(self, currency: str, day: date) -> Decimal | None:
        """Home currency for one unit on a day, as QuickBooks said for it, or else for the last day before it.

        `None` where that cannot be known yet, because no rate of that day or a later one has been read.
        """
        exact = self.rates.get((currency, day))
        if exact is not None:
            return exact
        known = self._rate_days.get(currency, ())
        before = [each for each in known if each < day]
        if not before or known[-1] < day:
            return None
        return self.rates[currency, before[-1]]

    @cached_property
    def marked(self) -> Mapping[LinkKey, Held]:
        """What the export has made, by the key that each object is marked with."""
        found: dict[LinkKey, Held] = {}
        for objects in self.held.values():
            for each in objects.values():
                mark = each.mark
                if mark is not None:
                    found.setdefault(mark, each)
        return found

    @cached_property
    def paid_by_hand(self) -> Mapping[str, Sequence[Held]]:
        """The payments that others than the export entered, by the ID of each invoice that they settle."""
        found: dict[str, list[Held]] = defaultdict(list)
        for each in self.all("Payment"):
            if each.mark is None:
                linked = (txn for line in each.line for txn in line.linked_txn)
                for invoice in dict.fromkeys(txn.txn_id for txn in linked if txn.txn_type == "Invoice"):
                    found[invoice].append(each)
        return found

    def settled_by_hand(self, invoice: str) -> Decimal:
        """What those payments settle of an invoice."""
        return sum(
            (
                line.amount
                for each in self.paid_by_hand.get(invoice, ())
                for line in each.line
                if any((txn.txn_type, txn.txn_id) == ("Invoice", invoice) for txn in line.linked_txn)
            ),
            Decimal(0),
        )

    @cached_property
    def numbered(self) -> Mapping[tuple[str, str], Sequence[Held]]:
        """Invoices and credit memos by their entity and DocNumber, without case."""
        found: dict[tuple[str, str], list[Held]] = defaultdict(list)
        for entity in ("Invoice", "CreditMemo"):
            for each in self.all(entity):
                found[entity, each.doc_number.casefold()].append(each)
        return found

    @cached_property
    def _accounts(self) -> Mapping[str, Held]:
        return {each.name.casefold(): each for each in self.all("Account") if each.active}

    @cached_property
    def _items(self) -> Mapping[str, Held]:
        return {each.name.casefold(): each for each in self.all("Item") if each.active}

    @cached_property
    def _rate_days(self) -> Mapping[str, Sequence[date]]:
        found: dict[str, list[date]] = defaultdict(list)
        for code, day in self.rates:
            found[code].append(day)
        return {code: sorted(days) for code, days in found.items()}


Payload = tuple[str, str | bytes]
"""An object: source ID and payload as JSON. The source ID of a rate is its currency and day (`EUR:2026-07-01`)."""


def books_of(records: Mapping[str, Iterable[Payload]]) -> Books:
    """The books made of `records`, by entity. Raises `msgspec.ValidationError` where a payload is not what
    QuickBooks promises."""
    decode = msgspec.json.Decoder(Held).decode
    decode_rate = msgspec.json.Decoder(_Rate).decode
    held: dict[str, dict[str, Held]] = {}
    rates: dict[tuple[str, date], Decimal] = {}
    settings: dict[str, Any] = {}
    for entity, rows in records.items():
        if entity == "ExchangeRate":
            for source_id, payload in rows:
                code, _, day = source_id.partition(":")
                rates[code, date.fromisoformat(day)] = decode_rate(payload).rate
        elif entity == "Preferences":
            for _, payload in rows:
                settings = _settings(msgspec.json.decode(payload, type=_Preferences))
        else:
            found = (decode(payload) for _, payload in rows)
            held[entity] = {each.id: each for each in sorted(found, key=_by_id)}
    return Books(held, rates, **settings)


def _settings(preferences: _Preferences) -> dict[str, Any]:
    currency = preferences.currency_prefs
    return {
        "home": currency.home_currency.value if currency.home_currency else "USD",
        "is_multicurrency": currency.multi_currency_enabled,
        "uses_own_numbers": preferences.sales_forms_prefs.custom_txn_numbers,
        "closed_until": preferences.accounting_info_prefs.book_close_date,
    }


def _by_id(each: Held) -> tuple[int, str]:
    """Ids are numbers in the order of creation; those that are none (tax codes) come first."""
    return (int(each.id), "") if each.id.isdigit() else (-1, each.id)


class BooksNotRead(RuntimeError):
    """A realm that no QuickBooks connection of the business has been read from. `code` is machine-readable."""

    code = "books_not_read"


class BooksOfSeveralCompanies(BooksNotRead):
    """What is staged of a realm may be another company's: nothing of it is loaded."""

    code = realms.SEVERAL


def load(connection: DatabaseConnection, business_id: str, realm: str) -> Books:
    """What is staged of a realm and of no other, within the caller's transaction.

    Raises `BooksNotRead`, and `BooksOfSeveralCompanies` where nobody can tell which objects are the realm's.
    """
    if mixed := realms.several(connection, business_id, realm, list(OBJECT_TYPES.values())):
        raise BooksOfSeveralCompanies(mixed.remedy)
    connection_id = realms.connection_of(connection, business_id, realm)
    if connection_id is None:
        raise BooksNotRead(f"No evidence of QuickBooks company {realm} is staged: run its quickbooks assets first.")
    books = books_of(
        {
            entity: _heads(connection, business_id, connection_id, object_type)
            for entity, object_type in OBJECT_TYPES.items()
        }
    )
    if not books.held.get("Account"):
        raise BooksNotRead(f"The accounts of QuickBooks company {realm} are not staged: run its quickbooks assets.")
    return books


def _heads(connection: DatabaseConnection, business_id: str, connection_id: int, object_type: str) -> Iterator[Payload]:
    rows = connection.execute(
        """
        SELECT head.source_id, record.payload::text AS payload
        FROM finance_os.raw_record_heads AS head
        JOIN finance_os.raw_source_records AS record USING (record_id)
        WHERE head.business_id = %s AND head.source_system = %s AND head.object_type = %s
          AND head.connection_id = %s AND NOT head.removed
        """,
        (business_id, SYSTEM, object_type, connection_id),
    )
    for row in rows:
        yield row["source_id"], row["payload"]
