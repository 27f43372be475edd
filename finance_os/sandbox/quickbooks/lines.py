"""The lines of a transaction: what each DetailType must hold, and what QuickBooks adds to it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import faults
from .fields import Field, Kind
from .formats import cents_of, number, product
from .values import cents, reference, value_of

if TYPE_CHECKING:
    from .realm import Realm

_LINE = frozenset(("Id", "LineNum", "Description", "Amount", "DetailType", "LinkedTxn", "CustomExtensions", "LineEx"))
_DETAIL: Mapping[str, Mapping[str, Field]] = {
    "SalesItemLineDetail": {
        "ItemRef": Field("ref", targets=("Item",)),
        "Qty": Field("number"),
        "UnitPrice": Field("number"),
        "TaxCodeRef": Field("ref", targets=("TaxCode",)),
        "ServiceDate": Field("date"),
        "ItemAccountRef": Field("ref", targets=("Account",)),
        "ClassRef": Field("object"),
    },
    "DiscountLineDetail": {
        "PercentBased": Field("flag"),
        "DiscountPercent": Field("number"),
        "DiscountAccountRef": Field("ref", targets=("Account",)),
    },
    "AccountBasedExpenseLineDetail": {
        "AccountRef": Field("ref", targets=("Account",)),
        "CustomerRef": Field("ref", targets=("Customer",)),
        "TaxCodeRef": Field("ref", targets=("TaxCode",)),
        "BillableStatus": Field("enum", values=("Billable", "NotBillable", "HasBeenBilled")),
        "ClassRef": Field("object"),
    },
    "ItemBasedExpenseLineDetail": {
        "ItemRef": Field("ref", targets=("Item",)),
        "CustomerRef": Field("ref", targets=("Customer",)),
        "Qty": Field("number"),
        "UnitPrice": Field("number"),
        "TaxCodeRef": Field("ref", targets=("TaxCode",)),
        "BillableStatus": Field("enum", values=("Billable", "NotBillable", "HasBeenBilled")),
        "ClassRef": Field("object"),
    },
    "DepositLineDetail": {
        "AccountRef": Field("ref", targets=("Account",)),
        "Entity": Field("ref", targets=("Customer", "Vendor")),
        "CheckNum": Field("text", limit=21),
        "PaymentMethodRef": Field("object"),
        "ClassRef": Field("object"),
    },
    "JournalEntryLineDetail": {
        "PostingType": Field("enum", values=("Debit", "Credit")),
        "AccountRef": Field("ref", targets=("Account",)),
        "Entity": Field("object"),
        "TaxCodeRef": Field("ref", targets=("TaxCode",)),
        "TaxAmount": Field("money"),
        "TaxApplicableOn": Field("enum", values=("Sales", "Purchase")),
        "BillableStatus": Field("enum", values=("Billable", "NotBillable", "HasBeenBilled")),
        "ClassRef": Field("object"),
        "DepartmentRef": Field("object"),
    },
    "DescriptionLineDetail": {"ServiceDate": Field("date"), "TaxCodeRef": Field("ref", targets=("TaxCode",))},
    "SubTotalLineDetail": {"ItemRef": Field("ref", targets=("Item",))},
}
_NEEDS_ACCOUNT = ("AccountBasedExpenseLineDetail", "DepositLineDetail", "JournalEntryLineDetail")


def clean_lines(realm: "Realm", kind: Kind, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(line, dict) for line in value):
        raise faults.unsupported_property("Line")
    lines: list[dict[str, Any]] = []
    for line in value:
        if line.get("DetailType") == "SubTotalLineDetail" and "SubTotalLineDetail" in kind.lines:
            continue  # QuickBooks writes the sub-total itself
        lines.append(_line(realm, kind, line, len(lines) + 1))
    if kind.name == "JournalEntry":
        _balanced(realm, lines)
    if "SubTotalLineDetail" in kind.lines and lines:
        if not any(line["DetailType"] == "SalesItemLineDetail" for line in lines):
            raise faults.missing("Line.SalesItemLineDetail")
        subtotal = sum(cents_of(line["Amount"]) for line in lines if line["DetailType"] == "SalesItemLineDetail")
        lines.append({"Amount": number(subtotal), "DetailType": "SubTotalLineDetail", "SubTotalLineDetail": {}})
    return lines


def _line(realm: "Realm", kind: Kind, line: Mapping[str, Any], position: int) -> dict[str, Any]:
    if "LinkedTxn" in line and line["LinkedTxn"] and kind.links:
        return _linked_line(kind, line)
    detail_type = line.get("DetailType")
    if detail_type is None:
        raise faults.missing("Line.DetailType")
    if detail_type not in kind.lines:
        raise faults.invalid_enumeration("Line.DetailType", detail_type)
    detail_name = "DescriptionLineDetail" if detail_type == "DescriptionOnly" else detail_type
    unknown = line.keys() - _LINE - {detail_name}
    if unknown:
        raise faults.unsupported_property(sorted(unknown)[0])
    shown: dict[str, Any] = {"Id": str(position), "LineNum": position}
    if kind.name == "JournalEntry":
        shown = {"Id": str(position - 1)}
    if line.get("Description") is not None:
        shown["Description"] = value_of(realm, Field("text", limit=4_000), "Description", line["Description"])
    given = line.get(detail_name) or {}
    if not isinstance(given, dict):
        raise faults.unsupported_property(detail_name)
    unknown = given.keys() - _DETAIL[detail_name].keys()
    if unknown:
        raise faults.unsupported_property(sorted(unknown)[0])
    detail = {
        name: value_of(realm, declared, name, given[name])
        for name, declared in _DETAIL[detail_name].items()
        if given.get(name) is not None
    }
    if detail_name in _NEEDS_ACCOUNT and "AccountRef" not in detail:
        raise faults.missing(f"{detail_name}.AccountRef")
    if detail_name == "JournalEntryLineDetail" and "PostingType" not in detail:
        raise faults.missing("JournalEntryLineDetail.PostingType")
    if detail_type != "DescriptionOnly":
        if line.get("Amount") is None:
            raise faults.missing("Line.Amount")
        amount = cents("Line.Amount", line["Amount"])
        if "Qty" in detail and "UnitPrice" in detail and product(detail["Qty"], detail["UnitPrice"]) != amount:
            raise faults.wrong_product(line["Amount"])
        if detail_name in ("JournalEntryLineDetail", "DiscountLineDetail") and amount < 0:
            raise faults.invalid_number("Line.Amount", line["Amount"])
        shown["Amount"] = number(amount)
    if detail_type == "SalesItemLineDetail":
        detail.setdefault("ItemRef", realm.default_item())
        detail.setdefault("TaxCodeRef", {"value": "NON"})
    if detail_type == "ItemBasedExpenseLineDetail" and "ItemRef" not in detail:
        raise faults.missing("ItemBasedExpenseLineDetail.ItemRef")
    if detail_type == "AccountBasedExpenseLineDetail":
        detail.setdefault("BillableStatus", "NotBillable")
        detail.setdefault("TaxCodeRef", {"value": "NON"})
    shown["DetailType"] = detail_type
    shown[detail_name] = detail
    return shown


def _linked_line(kind: Kind, line: Mapping[str, Any]) -> dict[str, Any]:
    """A line that applies an amount to another transaction. What it leads to is checked when it is linked."""
    unknown = line.keys() - _LINE - {"DepositLineDetail"}
    if unknown:
        raise faults.unsupported_property(sorted(unknown)[0])
    links = line["LinkedTxn"]
    if not isinstance(links, list) or len(links) != 1 or not isinstance(links[0], dict):
        raise faults.unsupported_property("LinkedTxn")
    target, key = links[0].get("TxnType"), links[0].get("TxnId")
    if target not in kind.links:
        raise faults.invalid_enumeration("TxnType", target)
    if not isinstance(key, str) or not key.isdigit():
        raise faults.invalid_id(key)
    if line.get("Amount") is None:
        raise faults.missing("Line.Amount")
    amount = cents("Line.Amount", line["Amount"])
    if amount <= 0:
        raise faults.invalid_number("Line.Amount", line["Amount"])
    return {"Amount": number(amount), "LinkedTxn": [{"TxnId": key, "TxnType": target}]}


def _balanced(realm: "Realm", lines: list[dict[str, Any]]) -> None:
    """Debits equal credits; receivables name a customer, payables a vendor."""
    sums = {"Debit": 0, "Credit": 0}
    for line in lines:
        if line["DetailType"] != "JournalEntryLineDetail":
            continue
        detail = line["JournalEntryLineDetail"]
        sums[detail["PostingType"]] += cents_of(line["Amount"])
        kind_of_account = realm.one("Account", detail["AccountRef"]["value"]).fields["AccountType"]
        wanted = {"Accounts Receivable": "Customer", "Accounts Payable": "Vendor"}.get(kind_of_account)
        entity = detail.get("Entity")
        if entity is not None:
            target = entity.get("Type")
            if target not in ("Customer", "Vendor"):
                raise faults.invalid_enumeration("Entity.Type", target)
            detail["Entity"] = {
                "Type": target,
                "EntityRef": reference(realm, (target,), "EntityRef", entity.get("EntityRef")),
            }
        if wanted is not None and (entity is None or entity.get("Type") != wanted):
            raise faults.business(
                f"When you use {kind_of_account}, you must choose a {wanted.lower()} in the Name field.", "Entity"
            )
    if sums["Debit"] != sums["Credit"]:
        raise faults.business("Please balance debits and credits.", "Line")


def emptied(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a voided transaction: everything as it was, amounts and quantities nothing."""
    empty = {**line, "Amount": 0} if "Amount" in line else dict(line)
    detail_type = line.get("DetailType", "")
    if detail_type in line:
        detail = dict(line[detail_type])
        empty[detail_type] = detail | {name: 0 for name in ("Qty", "UnitPrice") if name in detail}
    return empty
