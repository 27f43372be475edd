"""How each kind of transaction posts to accounts: one table, read by one function.

A posting is an amount in the account's own currency and the same in the home currency, both in hundredths, debits
positive. The postings of every transaction add up to nothing in the home currency.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from .formats import HOME, at_rate, cents_of
from .settling import settlements

if TYPE_CHECKING:
    from .entries import Entry
    from .realm import Realm

DEBIT, CREDIT = 1, -1


@dataclass(frozen=True, slots=True)
class Posting:
    """An account's Id with what it is debited (credited where negative)."""

    account: str
    own: int
    home: int


@dataclass(frozen=True, slots=True)
class Rule:
    """`head` is the account of the transaction's total, posted on `side`; the other side is its lines, the
    transactions that it settles on the `control` account, or another account (`to`)."""

    head: str | None
    side: int
    against: Literal["lines", "settled", "account"] = "lines"
    to: str = ""


RECEIVABLE, PAYABLE = "receivable", "payable"
POSTINGS: Mapping[str, Rule] = {
    "Invoice": Rule(RECEIVABLE, DEBIT),
    "CreditMemo": Rule(RECEIVABLE, CREDIT),
    "RefundReceipt": Rule("DepositToAccountRef", CREDIT),
    "Deposit": Rule("DepositToAccountRef", DEBIT),
    "Purchase": Rule("AccountRef", CREDIT),
    "Bill": Rule(PAYABLE, CREDIT),
    "JournalEntry": Rule(None, 0),
    "Payment": Rule("DepositToAccountRef", DEBIT, "settled", RECEIVABLE),
    "BillPayment": Rule("CheckPayment.BankAccountRef", CREDIT, "settled", PAYABLE),
    "Transfer": Rule("ToAccountRef", DEBIT, "account", "FromAccountRef"),
}

# DetailType -> the account that a line posts to, and on which side of the transaction's lines.
_LINES: Mapping[str, Callable[["Realm", dict[str, Any]], tuple[str, int]]] = {
    "SalesItemLineDetail": lambda realm, detail: (
        realm.one("Item", detail["ItemRef"]["value"]).fields["IncomeAccountRef"]["value"],
        1,
    ),
    "DiscountLineDetail": lambda realm, detail: (
        detail.get("DiscountAccountRef", realm.chart.ref("discounts"))["value"],
        -1,
    ),
    "AccountBasedExpenseLineDetail": lambda _, detail: (detail["AccountRef"]["value"], 1),
    "ItemBasedExpenseLineDetail": lambda realm, detail: (
        realm.one("Item", detail["ItemRef"]["value"]).fields.get(
            "ExpenseAccountRef", realm.chart.ref("publisher_costs")
        )["value"],
        1,
    ),
    "DepositLineDetail": lambda _, detail: (detail["AccountRef"]["value"], 1),
    "JournalEntryLineDetail": lambda _, detail: (
        detail["AccountRef"]["value"],
        DEBIT if detail["PostingType"] == "Debit" else CREDIT,
    ),
}


def postings(realm: "Realm", entry: "Entry") -> list[Posting]:
    """What a transaction posts, by the table above."""
    rule = POSTINGS[entry.kind.name]
    rate = Decimal(entry.fields["ExchangeRate"])
    # A credit card refund is a purchase the other way round.
    side = -rule.side if entry.fields.get("Credit") else rule.side
    posted: list[Posting] = []
    if rule.head is not None and entry.total:
        posted.append(_posting(realm, entry, _account(realm, entry, rule.head), side * entry.total, rate))
    if rule.against == "settled":
        control = _account(realm, entry, rule.to)
        for part, home in settlements(realm, entry):
            posted.append(_posting(realm, entry, control, -side * part, rate, -side * home))
        gain = -sum(each.home for each in posted)
        if gain:
            posted.append(Posting(realm.chart.id("exchange_gain"), gain, gain))
    elif rule.against == "account":
        posted.append(_posting(realm, entry, _account(realm, entry, rule.to), -side * entry.total, rate))
    else:
        lines = [
            _posting(realm, entry, account, (-side or 1) * sign * cents, rate)
            for account, sign, cents in line_accounts(realm, entry.fields)
        ]
        rest = -sum(each.home for each in (*posted, *lines))
        if rest and lines:
            last = lines[-1]
            own = last.own + rest if _is_home(realm, last.account) else last.own
            lines[-1] = Posting(last.account, own, last.home + rest)
        posted += lines
    return [each for each in posted if each.own or each.home]


def line_accounts(realm: "Realm", fields: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Account, side among the lines and hundredths of every line that posts."""
    found: list[tuple[str, int, int]] = []
    for line in fields.get("Line", ()):
        if line.get("LinkedTxn"):
            payment = realm.find("Payment", line["LinkedTxn"][0]["TxnId"])
            if payment is not None:
                found.append((payment.fields["DepositToAccountRef"]["value"], 1, cents_of(line["Amount"])))
        elif line["DetailType"] in _LINES:
            account, sign = _LINES[line["DetailType"]](realm, line[line["DetailType"]])
            found.append((account, sign, cents_of(line["Amount"])))
    return found


def total(fields: Mapping[str, Any]) -> int:
    """A transaction's total in hundredths of its currency: what it states, or what its lines add up to."""
    for name in ("TotalAmt", "Amount"):
        if name in fields:
            return cents_of(fields[name])
    signs = {"DiscountLineDetail": -1, "SubTotalLineDetail": 0, "DescriptionOnly": 0, "JournalEntryLineDetail": 0}
    return sum(signs.get(line.get("DetailType"), 1) * cents_of(line.get("Amount", 0)) for line in fields["Line"])


def _account(realm: "Realm", entry: "Entry", name: str) -> str:
    if name == RECEIVABLE:
        return realm.receivable(entry.currency)["value"]
    if name == PAYABLE:
        return entry.fields.get("APAccountRef", realm.payable(entry.currency))["value"]
    value: Any = entry.fields
    for part in name.split("."):
        value = value[part]
    return value["value"]


def _is_home(realm: "Realm", account: str) -> bool:
    return realm.one("Account", account).fields["CurrencyRef"]["value"] == HOME


def _posting(
    realm: "Realm", entry: "Entry", account: str, cents: int, rate: Decimal, home: int | None = None
) -> Posting:
    if home is None:
        home = at_rate(cents, rate) if entry.currency != HOME else cents
    return Posting(account, home if _is_home(realm, account) else cents, home)
