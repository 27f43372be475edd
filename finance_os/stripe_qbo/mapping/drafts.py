"""The plan as it grows: what is booked, adopted and found so far, and the words that every rule writes with.

An object bears the key of its link as its marker, in the private note (customers: in the notes), as a word of its own:
`stripe:invoice:in_1:invoice`. Whatever a rule refers to must have been booked or adopted before; what is not there yet
makes the rule wait, which a finding says.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum
from hashlib import sha256
from typing import Any

from finance_os.evidence.extraction import Finding, Severity
from finance_os.stripe_qbo.books import MARK, Books, Held
from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence
from finance_os.stripe_qbo.written import Written

MAX_NUMBER = 21
"""DocNumber and PaymentRefNum hold 21 characters; one more is fault 2050."""

_HASH = 8


class Rank(IntEnum):
    """What goes first of what happened in the same second."""

    CUSTOMER = 0
    SALE = 1
    CREDIT = 2
    APPLICATION = 3
    PAYMENT = 4
    REFUND = 5
    JOURNAL = 6
    PAYOUT = 7
    RELEASE = 8
    VOID = 9


@dataclass(frozen=True)
class Draft:
    """An intent with the second at which its cause happened."""

    intent: Intent
    moment: int
    rank: Rank


@dataclass(frozen=True)
class Adopted:
    """An object of QuickBooks that stands for something of Stripe without the export having made it."""

    entity: str
    qbo_id: str
    sync_token: str


@dataclass
class Drafts:
    """One plan in the making. `written` is what the export has written; `booked` are the dates of creates that have
    been sent, where no more than that is known: they keep them."""

    stripe: StripeEvidence
    books: Books
    rules: Rules
    booked: Mapping[LinkKey, date] = field(default_factory=dict)
    written: Mapping[LinkKey, Written] = field(default_factory=dict)
    drafts: dict[tuple[LinkKey, Operation], Draft] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    adoptions: dict[LinkKey, Adopted] = field(default_factory=dict)
    open_amounts: dict[str, int] = field(default_factory=dict)
    """By invoice that is booked here: what is still open of it in QuickBooks, in minor units."""
    waiting: set[str] = field(default_factory=set)
    """Invoices of which something could not be booked yet, which a finding tells."""
    refused: set[str] = field(default_factory=set)
    """Stripe IDs of what could not be booked now, which a finding tells; what was written of it stays."""
    reached_clearing: dict[str, Decimal] = field(default_factory=dict)
    """By balance transaction: what payments and refunds of it move on clearing, in the balance's currency."""

    # --- days and accounts

    def day(self, moment: int) -> date:
        """A moment's day in the accounting time zone."""
        return datetime.fromtimestamp(moment, UTC).astimezone(self.rules.zone).date()

    def is_ours(self, moment: int) -> bool:
        """Whether what happened then is booked by the export: before the balance date others did."""
        return self.day(moment) >= self.rules.balance_date

    def account(self, name: str, currency: str | None = None) -> dict[str, str]:
        """Reference to an account of the rules, in `currency` where one is given. Raises `NotBooked`."""
        found = self.books.account(name)
        if found is None:
            raise NotBooked("account_missing", "An account that the rules name is not in what was read of QuickBooks.")
        wanted = (currency or "").upper()
        if wanted and found.currency not in ("", wanted):
            raise NotBooked("account_in_other_currency", f"The account for {wanted} is kept in {found.currency}.")
        return {"value": found.id}

    def clearing(self, currency: str) -> dict[str, str]:
        """Reference to the clearing account of a Stripe balance. Raises `NotBooked`."""
        return self._by_currency(self.rules.clearing, currency, "clearing")

    def bank(self, currency: str) -> dict[str, str]:
        """Reference to the bank account that payouts of a currency go to. Raises `NotBooked`."""
        return self._by_currency(self.rules.bank, currency, "bank")

    def item(self, name: str) -> Held:
        """An item of the rules. Raises `NotBooked`."""
        found = self.books.item(name)
        if found is None:
            raise NotBooked("item_missing", "An item that the rules name is not in what was read of QuickBooks.")
        return found

    def in_currency(self, currency: str, day: date | None = None) -> dict[str, Any]:
        """CurrencyRef of a transaction, and the books' rate of its day where it is foreign. Raises `NotBooked`."""
        code = currency.upper()
        if not self.books.is_multicurrency:
            if code != self.books.home:
                raise NotBooked("currency_not_in_books", f"QuickBooks keeps its books in {self.books.home} only.")
            return {}
        if code == self.books.home or day is None:
            return {"CurrencyRef": {"value": code}}
        rate = self.books.rate(code, day)
        if rate is None:
            raise NotBooked(
                "exchange_rate_not_read", f"QuickBooks' rate of {code} for {day} is not staged yet.", Severity.MEDIUM
            )
        return {"CurrencyRef": {"value": code}, "ExchangeRate": rate}

    def _by_currency(self, names: Mapping[str, str], currency: str, what: str) -> dict[str, str]:
        name = names.get(currency.lower())
        if name is None:
            raise NotBooked(f"no_{what}_account", f"The rules name no {what} account for {currency.upper()}.")
        return self.account(name, currency)

    # --- what is there

    def has(self, key: LinkKey) -> bool:
        """Whether the object of `key` is booked by this plan, adopted, or written before and not void."""
        if key in self.adoptions or (key, Operation.CREATE) in self.drafts:
            return True
        return self.made(key) is not None and not self.is_void(key)

    def need(self, key: LinkKey) -> dict[str, str]:
        """Reference to an object that must be there. Raises `NotBooked`."""
        if not self.has(key):
            raise NotBooked("waits_for_another", f"What it belongs to is not booked: {key}.", Severity.MEDIUM)
        return key.as_reference()

    def was_booked(self, key: LinkKey) -> bool:
        """Whether QuickBooks has the object of `key` already, made by the export."""
        return key in self.booked or key in self.books.marked or self.made(key) is not None

    def made(self, key: LinkKey) -> Written | None:
        """What the export wrote of `key`; `None` where it has not made it, or only adopted it."""
        written = self.written.get(key)
        return written if written is not None and written.made else None

    def is_void(self, key: LinkKey) -> bool:
        """Whether the export has voided the object of `key` already."""
        written = self.written.get(key)
        if written is not None:
            return written.is_void
        held = self.books.marked.get(key)
        return held is not None and held.is_void

    def qbo_id(self, key: LinkKey) -> str | None:
        """The ID of the object of `key`, where it is adopted or was seen in QuickBooks."""
        if key in self.adoptions:
            return self.adoptions[key].qbo_id
        held = self.books.marked.get(key)
        return held.id if held is not None else None

    def stands_on(self, key: LinkKey) -> date | None:
        """The date of the object of `key` as QuickBooks has it; `None` where it is still to be made."""
        written = self.made(key)
        if written is not None and "TxnDate" in written.now:
            return date.fromisoformat(written.now["TxnDate"])
        if key in self.booked:
            return self.booked[key]
        held = self.books.marked.get(key)
        if held is None and key in self.adoptions:
            adopted = self.adoptions[key]
            held = self.books.held.get(adopted.entity, {}).get(adopted.qbo_id)
        return held.txn_date if held is not None else None

    # --- writing

    def create(
        self,
        key: LinkKey,
        entity: str,
        payload: Mapping[str, Any],
        *,
        moment: int,
        rank: Rank,
        note: str,
        evidence: tuple[str, ...],
        dated: date | None = None,
    ) -> None:
        """Book a new object; `note` is what people read before the marker."""
        dated = dated or self.day(moment)
        noted = "Notes" if entity == "Customer" else "PrivateNote"
        body = {**payload, noted: f"{note} {mark_of(key)}"}
        if entity != "Customer":
            body["TxnDate"] = dated.isoformat()
        hashes = self.stripe.hashes_of(*evidence)
        intent = Intent(key, Operation.CREATE, entity, body, dated, mark_of(key), hashes)
        self.drafts[key, Operation.CREATE] = Draft(intent, moment, rank)

    def release(self, key: LinkKey, *, moment: int, evidence: tuple[str, ...]) -> None:
        """Void the payment of nothing that applied a credit, if there is one, before what it settled is voided.

        QuickBooks would take its lines out by itself, and it would not be any more what was planned.
        """
        if key not in self.adoptions and self.has(key):
            self._void(key, "Payment", Rank.RELEASE, moment, evidence)

    def void(self, key: LinkKey, entity: str, *, moment: int, evidence: tuple[str, ...]) -> None:
        """Void an object that is booked, written or adopted."""
        self._void(key, entity, Rank.VOID, moment, evidence)

    def _void(self, key: LinkKey, entity: str, rank: Rank, moment: int, evidence: tuple[str, ...]) -> None:
        payload = {"Id": self.need(key)}
        hashes = self.stripe.hashes_of(*evidence)
        intent = Intent(key, Operation.VOID, entity, payload, self.day(moment), mark_of(key), hashes)
        self.drafts[key, Operation.VOID] = Draft(intent, moment, rank)

    def adopt(self, key: LinkKey, entity: str, held: Held) -> None:
        """Let an object that is in QuickBooks stand for `key`."""
        self.adoptions[key] = Adopted(entity, held.id, held.sync_token)

    # --- telling

    def find(self, code: str, severity: Severity, subject: str, day: date, detail: str) -> None:
        self.findings.append(Finding(code, severity, subject, day, detail))

    @contextmanager
    def booking(self, subject: str, moment: int) -> Iterator[None]:
        """Book one object; what keeps it from being booked becomes a finding."""
        try:
            yield
        except NotBooked as refused:
            self.refused.add(subject)
            self.find(refused.code, refused.severity, subject, self.day(moment), f"Not booked. {refused.detail}")


def mark_of(key: LinkKey) -> str:
    """The marker of an intent."""
    return f"{MARK}{key}"


def number_of(stripe_id: str) -> str:
    """The end of a Stripe ID, which tells it apart and fits a number."""
    return stripe_id[-MAX_NUMBER:]


def short_number(number: str) -> str:
    """A number as it is if it fits; else its beginning and 8 hex digits of its hash, always the same."""
    if len(number) <= MAX_NUMBER:
        return number
    return f"{number[: MAX_NUMBER - _HASH - 1]}-{sha256(number.encode()).hexdigest()[:_HASH]}"
