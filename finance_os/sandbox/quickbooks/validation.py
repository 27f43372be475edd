"""What QuickBooks Online demands of an object before it is stored: types, lengths, enumerations, references, lines.

A request's object goes in, the properties to be stored come out, in QuickBooks' own form: references carry names,
amounts two decimals, lines their Ids and numbers. Everything that is refused is a `Fault`.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from . import faults
from .entities import ACCOUNT_TYPES
from .fields import READ_ONLY, Kind
from .formats import CURRENCIES, HOME, cents_of, currency_ref
from .lines import clean_lines
from .values import reference, value_of

if TYPE_CHECKING:
    from .realm import Realm


def clean(realm: "Realm", kind: Kind, body: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The properties to store for a create (`before` is None), a full or a sparse update of `before`."""
    # Preferences are always updated sparsely: there are none that could be taken away.
    sparse = body.get("sparse") is True or kind.name == "Preferences"
    fields = dict(before) if before is not None and sparse else {}
    for name, value in body.items():
        declared = kind.fields.get(name)
        if declared is None:
            if name not in READ_ONLY:
                raise faults.unsupported_property(name)
            continue
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = (
                clean_lines(realm, kind, value) if declared.type == "lines" else value_of(realm, declared, name, value)
            )
    for name in kind.required:
        if fields.get(name) in (None, [], ""):
            raise faults.missing(name)
    if kind.is_transaction:
        _transaction(realm, kind, fields)
    elif kind.name in ("Customer", "Vendor"):
        _party(realm, kind, fields, before)
    elif kind.named:
        _named(realm, kind, fields, before)
    elif kind.name == "CompanyCurrency":
        fields.setdefault("Name", CURRENCIES[fields["Code"]])
        fields.setdefault("Active", True)
        if fields["Code"] == HOME or (before is None and fields["Code"] in realm.currencies()):
            raise faults.duplicate_name()
    return fields


# --- names


def _party(realm: "Realm", kind: Kind, fields: dict[str, Any], before: Mapping[str, Any] | None) -> None:
    if not fields.get("DisplayName"):
        parts = ("Title", "GivenName", "MiddleName", "FamilyName", "Suffix")
        built = " ".join(fields[part] for part in parts if fields.get(part))
        if not built:
            raise faults.no_name()
        fields["DisplayName"] = built
    if before is not None and fields.get("CurrencyRef", before["CurrencyRef"]) != before["CurrencyRef"]:
        raise faults.business("The currency of a customer or vendor cannot be changed.", "CurrencyRef")
    fields.setdefault("CurrencyRef", dict(before["CurrencyRef"]) if before is not None else currency_ref(HOME))
    fields.setdefault("PrintOnCheckName", fields["DisplayName"])
    if kind.name == "Customer":
        fields.setdefault("Taxable", False)
        fields.setdefault("Job", False)
        fields.setdefault("BillWithParent", False)
        fields.setdefault("PreferredDeliveryMethod", "None")
    else:
        fields.setdefault("Vendor1099", False)
    _named(realm, kind, fields, before)


def _named(realm: "Realm", kind: Kind, fields: dict[str, Any], before: Mapping[str, Any] | None) -> None:
    """Names are unique among active objects; an object that is made inactive frees its name with a suffix."""
    fields.setdefault("Active", True)
    name = fields[kind.named]
    if any(sign in name for sign in ":\t\n") or not name.strip():
        raise faults.invalid_string(kind.named, "Names cannot be empty or contain a colon, a tab or a new line.")
    if not fields["Active"]:
        if before is not None and before["Active"]:
            fields[kind.named] = name + " (deleted)"
    elif before is not None and not before["Active"]:
        fields[kind.named] = name.removesuffix(" (deleted)")
    owner = realm.named(kind, fields[kind.named]) if fields["Active"] else None
    if owner is not None and (before is None or owner.fields is not before):
        raise faults.duplicate_name()
    if kind.name == "Account":
        _account(realm, fields, before)
    if kind.name == "Item":
        if fields["Type"] == "Service" and "IncomeAccountRef" not in fields:
            raise faults.missing("IncomeAccountRef")
        _check_types(realm, kind, fields)
        fields.setdefault("UnitPrice", 0)
        fields.setdefault("Taxable", False)
        fields.setdefault("TrackQtyOnHand", False)


def _account(realm: "Realm", fields: dict[str, Any], before: Mapping[str, Any] | None) -> None:
    """An account keeps its type and currency; those that QuickBooks posts to by itself stay active."""
    if "AccountType" not in fields:
        raise faults.missing("AccountType")
    fields.setdefault("AccountSubType", fields["AccountType"].replace(" ", ""))
    fields.setdefault("CurrencyRef", dict(before["CurrencyRef"]) if before is not None else currency_ref(HOME))
    if before is None:
        return
    for name in ("AccountType", "CurrencyRef"):
        if fields[name] != before[name]:
            raise faults.business(f"The {name} of an account cannot be changed.", name)
    if not fields["Active"] and (fields["AccountType"] in _CONTROL or realm.chart.has(before["Name"])):
        raise faults.business("You cannot delete a default account.", "Active")


# --- transactions


def _transaction(realm: "Realm", kind: Kind, fields: dict[str, Any]) -> None:
    fields.setdefault("TxnDate", realm.today().isoformat())
    _currency(realm, fields)
    check = fields.get("CheckPayment", {})
    if "BankAccountRef" in check and kind.name == "BillPayment":
        bank = reference(realm, ("Account",), "BankAccountRef", check["BankAccountRef"])
        fields["CheckPayment"] = {**check, "BankAccountRef": bank}
    match kind.name:
        case "Invoice" | "Bill":
            fields.setdefault("DueDate", fields["TxnDate"])
        case "Payment":
            fields.setdefault("DepositToAccountRef", realm.chart.ref("undeposited"))
            fields.setdefault("ProcessPayment", False)
        case "BillPayment" if fields["PayType"] == "Check" and "BankAccountRef" not in fields.get("CheckPayment", {}):
            raise faults.missing("CheckPayment.BankAccountRef")
        case "BillPayment" if fields["PayType"] == "CreditCard":
            raise faults.business("This company has no credit card account to pay bills with.", "PayType")
        case "JournalEntry":
            fields.setdefault("Adjustment", False)
    if kind.name == "Bill":
        fields.setdefault("APAccountRef", realm.payable(fields["CurrencyRef"]["value"]))
    if kind.name in ("Invoice", "CreditMemo", "RefundReceipt"):
        fields.setdefault("ApplyTaxAfterDiscount", False)
        fields.setdefault("EmailStatus", "NotSet")
        fields.setdefault("PrintStatus", "NotSet")
    if kind.name in ("Payment", "BillPayment") and cents_of(fields["TotalAmt"]) < 0:
        raise faults.invalid_number("TotalAmt", fields["TotalAmt"])
    _accounts(realm, kind, fields)


def _currency(realm: "Realm", fields: dict[str, Any]) -> None:
    """A transaction is in the currency of its customer or vendor; the rate of its day applies unless one is given."""
    party = fields.get("CustomerRef") or fields.get("VendorRef")
    fields.setdefault("CurrencyRef", currency_ref(HOME))
    code = fields["CurrencyRef"]["value"]
    if party is not None:
        owner = realm.one("Customer" if "CustomerRef" in fields else "Vendor", party["value"])
        if owner.fields["CurrencyRef"]["value"] != code:
            raise faults.business(
                f"The currency of the transaction ({code}) is not that of the customer or vendor.", "CurrencyRef"
            )
    if code == HOME:
        fields["ExchangeRate"] = 1
    elif "ExchangeRate" not in fields:
        fields["ExchangeRate"] = realm.rate(code, fields["TxnDate"])
    elif Decimal(fields["ExchangeRate"]) <= 0:
        raise faults.invalid_number("ExchangeRate", fields["ExchangeRate"])


_CONTROL = {"Accounts Receivable": "Customer", "Accounts Payable": "Vendor"}
_CASH = ("Bank", "Other Current Asset")
_ASSETS = tuple(kind for kind, of in ACCOUNT_TYPES.items() if of == "Asset" and kind not in _CONTROL)

# Entity and property -> the account types that it may lead to.
_ACCOUNT_TYPES_OF: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("Payment", "DepositToAccountRef"): _CASH,
    ("Payment", "ARAccountRef"): ("Accounts Receivable",),
    ("RefundReceipt", "DepositToAccountRef"): _CASH,
    ("Deposit", "DepositToAccountRef"): _CASH,
    ("Purchase", "AccountRef"): ("Bank", "Credit Card"),
    ("Bill", "APAccountRef"): ("Accounts Payable",),
    ("BillPayment", "APAccountRef"): ("Accounts Payable",),
    ("Transfer", "FromAccountRef"): _ASSETS,
    ("Transfer", "ToAccountRef"): _ASSETS,
    ("Item", "IncomeAccountRef"): ("Income", "Other Income"),
    ("Item", "ExpenseAccountRef"): ("Expense", "Other Expense", "Cost of Goods Sold"),
}


def _check_types(realm: "Realm", kind: Kind, fields: Mapping[str, Any]) -> None:
    for (entity, name), types in _ACCOUNT_TYPES_OF.items():
        if entity == kind.name and name in fields:
            account = realm.one("Account", fields[name]["value"])
            if account.fields["AccountType"] not in types:
                raise faults.business(f"{name} must be an account of type {' or '.join(types)}.", name)
            if account.fields["AccountType"] in _CONTROL and account.currency != fields["CurrencyRef"]["value"]:
                raise faults.business(f"{name} must be in the currency of the transaction.", name)


def _accounts(realm: "Realm", kind: Kind, fields: Mapping[str, Any]) -> None:
    """Accounts of the right type, in the transaction's or the home currency."""
    _check_types(realm, kind, fields)
    code = fields["CurrencyRef"]["value"]
    details = [line.get(line.get("DetailType", ""), {}) for line in fields.get("Line", ())]
    refs = [detail[n] for detail in details for n in ("AccountRef", "DiscountAccountRef") if n in detail]
    refs += [fields[name] for name in ("DepositToAccountRef", "AccountRef") if name in fields]
    refs += [fields["CheckPayment"]["BankAccountRef"]] if kind.name == "BillPayment" else []
    for key in (each["value"] for each in refs):
        account = realm.one("Account", key)
        if account.currency not in (HOME, code):
            raise faults.business(f"Account {key} is in {account.currency} and cannot be used in {code}.", "AccountRef")
        if account.fields["AccountType"] in _CONTROL and (kind.name != "JournalEntry" or account.currency != code):
            raise faults.business(f"Account {key} cannot be used on this line.", "AccountRef")
    for detail in details if kind.name == "JournalEntry" else ():
        entity = detail.get("Entity")
        if entity is not None and realm.one(entity["Type"], entity["EntityRef"]["value"]).currency != code:
            raise faults.business("The currency of the journal is not that of the customer or vendor.", "CurrencyRef")
