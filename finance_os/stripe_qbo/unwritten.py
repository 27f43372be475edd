"""How far an account will still move: what a plan would make of it, less what is written, to the cent or not at all.

Each entity's posting to an account that money goes through is what its payload says:
- a payment brings its total to where it is deposited, a refund receipt takes its lines' sum from there;
- a deposit takes its lines from their accounts, and brings them to where it is deposited;
- a journal entry debits and credits accounts, line by line;
- what is void posts nothing.
What is in another currency than the account arrives at its `ExchangeRate`, in hundredths (`mapping.amounts`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os.stripe_qbo.mapping.amounts import at_rate
from finance_os.stripe_qbo.written import Written, after

MOVES_MONEY = frozenset(("Payment", "RefundReceipt", "Deposit", "JournalEntry", "Purchase", "Transfer"))
"""The entities that may post to an account that money goes through; of the others none does."""


class NotExact(Exception):
    """What is to be written of an account cannot be summed to the cent. The text says why, without personal data."""


@dataclass(frozen=True)
class Unwritten:
    """By how much an account will rise once everything is written, in its currency, and by how many writes."""

    amount: Decimal
    writes: int


def unwritten(intents: Iterable[Intent], written: Mapping[LinkKey, Written], account: str, currency: str) -> Unwritten:
    """What those of a plan's `intents` that are not `written` will do to the account with the ID `account`.

    Raises `NotExact`: also where an answer is unknown, for then nobody knows what the account holds.
    """
    unsettled = sum(each.entity in MOVES_MONEY and not each.is_settled for each in written.values())
    if unsettled:
        raise NotExact(f"of {unsettled:,} writes that move money nobody knows whether they arrived")
    left = [each for each in intents if each.entity in MOVES_MONEY and not _is_written(each, written)]
    wanted = after(left, {each.key: written[each.key] for each in left if each.key in written})
    amount = Decimal(0)
    for key, each in wanted.items():
        if not each.made:
            raise NotExact(f"{each.entity} {key} was adopted, and is to be changed")
        amount += _posted(each, account, currency)
        if key in written:
            amount -= _posted(written[key], account, currency)
    return Unwritten(amount, len(left))


def _is_written(intent: Intent, written: Mapping[LinkKey, Written]) -> bool:
    held = written.get(intent.key)
    match intent.operation:
        case Operation.CREATE:
            return held is not None
        case Operation.VOID:
            return held is not None and held.is_void
        case Operation.UPDATE:
            return held is not None and all(held.now.get(name) == value for name, value in intent.payload.items())


def _posted(of: Written, account: str, currency: str) -> Decimal:
    """What an object adds to an account; below zero what it takes from it."""
    if of.is_void:
        return Decimal(0)
    payload = of.now
    lines = payload.get("Line", ())
    match of.entity:
        case "Payment":
            amount = Decimal(payload["TotalAmt"]) if _is(payload.get("DepositToAccountRef"), account) else Decimal(0)
        case "RefundReceipt":
            paid = -sum(map(_sold, lines), Decimal(0))
            amount = paid if _is(payload.get("DepositToAccountRef"), account) else Decimal(0)
        case "Deposit":
            amount = sum((Decimal(each["Amount"]) for each in lines), Decimal(0))
            amount = amount if _is(payload.get("DepositToAccountRef"), account) else Decimal(0)
            amount -= sum(
                (Decimal(each["Amount"]) for each in lines if _is(_detail(each, "Deposit").get("AccountRef"), account)),
                Decimal(0),
            )
        case "JournalEntry":
            amount = sum((_journaled(each, account) for each in lines), Decimal(0))
        case _:
            raise NotExact(f"a {of.entity} is to be written")
    return _arrived(amount, payload, currency) if amount else amount


def _sold(line: Mapping[str, Any]) -> Decimal:
    match line.get("DetailType"):
        case "SalesItemLineDetail":
            return Decimal(line["Amount"])
        case "DiscountLineDetail" if not _detail(line, "Discount").get("PercentBased"):
            return -Decimal(line["Amount"])
        case _:
            raise NotExact("a refund receipt has a line of another kind")


def _journaled(line: Mapping[str, Any], account: str) -> Decimal:
    detail = _detail(line, "JournalEntry")
    if not _is(detail.get("AccountRef"), account):
        return Decimal(0)
    return Decimal(line["Amount"]) * (1 if detail["PostingType"] == "Debit" else -1)


def _arrived(amount: Decimal, payload: Mapping[str, Any], currency: str) -> Decimal:
    """An amount of a transaction in the currency of the account."""
    code = (payload.get("CurrencyRef") or {}).get("value")
    if code is None or code == currency.upper():
        return amount
    found = at_rate(amount, Decimal(payload["ExchangeRate"])) if "ExchangeRate" in payload else None
    if found is None:
        raise NotExact(f"what a transaction in {code} comes to in {currency.upper()} is not known to the cent")
    return found


def _detail(line: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return line.get(f"{kind}LineDetail") or {}


def _is(reference: Any, account: str) -> bool:
    return isinstance(reference, Mapping) and reference.get("value") == account
