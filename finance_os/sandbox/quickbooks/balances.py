"""What all transactions together amount to: the balances of accounts, customers and vendors, and what objects show."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .entities import ACCOUNT_TYPES
from .entries import Entry, Key
from .formats import at_rate, cents_of, number
from .postings import Posting, postings
from .settling import open_amount, unapplied

if TYPE_CHECKING:
    from .realm import Realm

_LINK_NAMES = {"BillPayment": "BillPaymentCheck"}


@dataclass(frozen=True, slots=True)
class Effects:
    """What one transaction does: its postings, and what it adds to the balance of a customer or vendor."""

    postings: tuple[Posting, ...] = ()
    owed: tuple[tuple[Key, int], ...] = ()


_NOTHING = Effects()


class Balances:
    """Sums of the effects of all transactions, kept by the difference that a change makes."""

    def __init__(self) -> None:
        self._effects: dict[Key, Effects] = {}
        self._own: dict[str, int] = defaultdict(int)
        self._home: dict[str, int] = defaultdict(int)
        self._owed: dict[Key, int] = defaultdict(int)

    def account(self, key: str) -> int:
        """An account's balance in hundredths of its own currency, debits positive."""
        return self._own[key]

    def home(self, key: str) -> int:
        """The same in hundredths of the home currency."""
        return self._home[key]

    def owed(self, party: Key) -> int:
        """What a customer owes us or we owe a vendor, in hundredths of its currency."""
        return self._owed[party]

    def repost(self, key: Key, after: Effects) -> set[Key]:
        """Replace what a transaction does; returns the accounts, customers and vendors whose balance may move."""
        before = self._effects.pop(key, _NOTHING)
        if after == before:
            if after != _NOTHING:
                self._effects[key] = after
            return set()
        if after != _NOTHING:
            self._effects[key] = after
        concerned: set[Key] = set()
        for sign, effects in ((-1, before), (1, after)):
            for posting in effects.postings:
                self._own[posting.account] += sign * posting.own
                self._home[posting.account] += sign * posting.home
                concerned.add(("Account", posting.account))
            for party, cents in effects.owed:
                self._owed[party] += sign * cents
                concerned.add(party)
        return concerned


def effects(realm: "Realm", entry: Entry) -> Effects:
    return Effects(tuple(postings(realm, entry)), tuple(_owed_by(realm, entry)))


def _owed_by(realm: "Realm", entry: Entry) -> Iterator[tuple[Key, int]]:
    """What a transaction alone adds to the balance of its customer or vendor."""
    party = entry.party
    match entry.kind.name:
        case "Invoice" | "Bill" if party is not None:
            yield party, open_amount(realm, entry)
        case "CreditMemo" if party is not None:
            yield party, -open_amount(realm, entry)
        case "Payment" | "BillPayment" if party is not None:
            yield party, -unapplied(entry)
        case "JournalEntry":
            for line in entry.fields["Line"]:
                detail = line.get("JournalEntryLineDetail", {})
                if "Entity" not in detail:
                    continue
                account = realm.one("Account", detail["AccountRef"]["value"]).fields["AccountType"]
                sign = {"Accounts Receivable": 1, "Accounts Payable": -1}.get(account, 0)
                sign *= 1 if detail["PostingType"] == "Debit" else -1
                entity = detail["Entity"]
                yield (entity["Type"], entity["EntityRef"]["value"]), sign * cents_of(line["Amount"])


# --- what QuickBooks adds to an object


def shown(realm: "Realm", entry: Entry) -> dict[str, Any]:
    """The read-only properties of an object as they follow from everything else."""
    if entry.kind.is_transaction:
        return _shown_transaction(realm, entry)
    match entry.kind.name:
        case "Account":
            classification = ACCOUNT_TYPES[entry.fields["AccountType"]]
            on_balance_sheet = classification not in ("Revenue", "Expense")
            balance = number(realm.balances.account(entry.id)) if on_balance_sheet else 0
            return {
                "FullyQualifiedName": entry.name,
                "Classification": classification,
                "SubAccount": False,
                "CurrentBalance": balance,
                "CurrentBalanceWithSubAccounts": balance,
            }
        case "Customer":
            balance = number(realm.balances.owed(entry.key))
            return {"FullyQualifiedName": entry.name, "Balance": balance, "BalanceWithJobs": balance}
        case "Vendor":
            return {"Balance": number(realm.balances.owed(entry.key))}
        case "Item":
            return {"FullyQualifiedName": entry.name}
    return {}


def _shown_transaction(realm: "Realm", entry: Entry) -> dict[str, Any]:
    rate = Decimal(entry.fields["ExchangeRate"])
    match entry.kind.name:
        case "Payment":
            deposit = realm.links.deposit_of(entry.id)
            return {
                "UnappliedAmt": number(unapplied(entry)),
                "LinkedTxn": [{"TxnId": deposit, "TxnType": "Deposit"}] if deposit else [],
            }
        case "JournalEntry":
            return {"TotalAmt": 0, "HomeTotalAmt": 0, "TxnTaxDetail": {}}
        case "BillPayment" | "Transfer":
            return {}
    body: dict[str, Any] = {"TotalAmt": number(entry.total), "HomeTotalAmt": number(at_rate(entry.total, rate))}
    if entry.kind.name in ("Invoice", "CreditMemo", "Bill"):
        still_open = open_amount(realm, entry)
        body |= {"Balance": number(still_open), "HomeBalance": number(at_rate(still_open, rate))}
        body["LinkedTxn"] = [
            {"TxnId": key, "TxnType": _LINK_NAMES.get(kind, kind)} for kind, key in realm.links.payers(entry.key)
        ]
    if entry.kind.name == "CreditMemo":
        body["RemainingCredit"] = body["Balance"]
    if entry.kind.name == "RefundReceipt":
        body["Balance"] = 0
    if entry.kind.name in ("Invoice", "CreditMemo", "RefundReceipt"):
        body["TxnTaxDetail"] = {"TotalTax": 0}
    return body
