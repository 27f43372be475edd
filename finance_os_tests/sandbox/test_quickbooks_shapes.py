"""Every object that QuickBooks shows has the properties and types of Intuit's API reference, and no others.

The table is taken from https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities (one page an
entity: attributes and sample objects); `?` marks what not every object has.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from finance_os.sandbox.quickbooks import QuickBooksRoom
from finance_os.sandbox.quickbooks.entities import KINDS

from .test_quickbooks import START, Client, changed, served, world

Shape = Mapping[str, Any]

_META = {"CreateTime": "time", "LastUpdatedTime": "time"}
_HEAD: Shape = {"Id": "id", "SyncToken": "id", "domain": "QBO", "sparse": "flag", "MetaData": _META}
_REF = {"value": "id", "name": "text"}
_CODE = {"value": "code", "name": "text"}
_TXN: Shape = {**_HEAD, "TxnDate": "date", "CurrencyRef": _CODE, "ExchangeRate": "rate", "PrivateNote?": "text"}
_LINK = {"TxnId": "id", "TxnType": "text"}
_ADDRESS = {"Line1": "text", "City": "text", "PostalCode": "text", "Country": "text"}
_COMPANY_ADDRESS = {**_ADDRESS, "Id": "id", "CountrySubDivisionCode": "text"}
_SALE_LINE = {
    "Id": "id",
    "LineNum": "number",
    "Description?": "text",
    "Amount": "money",
    "DetailType": "text",
    "SalesItemLineDetail": {
        "ItemRef": _REF,
        "Qty": "number",
        "UnitPrice": "money",
        "TaxCodeRef": {"value": "text", "name?": "text"},
    },
}
_SUBTOTAL = {"Amount": "money", "DetailType": "text", "SubTotalLineDetail": {}}
_EXPENSE_LINE = {
    "Id": "id",
    "LineNum": "number",
    "Description?": "text",
    "Amount": "money",
    "DetailType": "text",
    "AccountBasedExpenseLineDetail": {
        "AccountRef": _REF,
        "BillableStatus": "text",
        "TaxCodeRef": {"value": "text", "name?": "text"},
    },
}
_LINKED_LINE = {"Amount": "money", "LinkedTxn": [_LINK]}
_DEPOSIT_LINE = {
    "Id": "id",
    "LineNum": "number",
    "Description?": "text",
    "Amount": "money",
    "DetailType": "text",
    "DepositLineDetail": {"AccountRef": _REF},
}
_JOURNAL_LINE = {
    "Id": "id",
    "Description?": "text",
    "Amount": "money",
    "DetailType": "text",
    "JournalEntryLineDetail": {"PostingType": "text", "AccountRef": _REF},
}
_SALE: Shape = {
    **_TXN,
    "DocNumber": "number21",
    "CustomerRef": _REF,
    "Line": [_SALE_LINE, _SUBTOTAL],
    "TotalAmt": "money",
    "HomeTotalAmt": "money",
    "TxnTaxDetail": {"TotalTax": "money"},
    "ApplyTaxAfterDiscount": "flag",
    "EmailStatus": "text",
    "PrintStatus": "text",
    "Balance": "money",
}
_PARTY: Shape = {
    **_HEAD,
    "DisplayName": "text",
    "CompanyName?": "text",
    "PrintOnCheckName": "text",
    "Active": "flag",
    "Balance": "money",
    "CurrencyRef": _CODE,
    "PrimaryEmailAddr?": {"Address": "email"},
}

SHAPES: dict[str, Shape] = {
    "CompanyInfo": {
        **_HEAD,
        "CompanyName": "text",
        "LegalName": "text",
        "CompanyAddr": _COMPANY_ADDRESS,
        "LegalAddr": _COMPANY_ADDRESS,
        "CustomerCommunicationAddr": _COMPANY_ADDRESS,
        "CompanyStartDate": "date",
        "Country": "text",
        "Email": {"Address": "email"},
        "FiscalYearStartMonth": "text",
        "PrimaryPhone": {"FreeFormNumber": "text"},
        "SupportedLanguages": "text",
        "WebAddr": {},
        "NameValue": [{"Name": "text", "Value": "text"}],
    },
    "Preferences": {
        **_HEAD,
        **{f"{name}Prefs": "object" for name in ("AccountingInfo", "ProductAndServices", "SalesForms", "TimeTracking")},
        **{f"{name}Prefs": "object" for name in ("VendorAndPurchases", "Tax", "Currency", "Report", "Other")},
    },
    "Account": {
        **_HEAD,
        "Name": "text",
        "FullyQualifiedName": "text",
        "AcctNum?": "text",
        "AccountType": "text",
        "AccountSubType": "text",
        "Classification": "text",
        "SubAccount": "flag",
        "Active": "flag",
        "CurrencyRef": _CODE,
        "CurrentBalance": "money",
        "CurrentBalanceWithSubAccounts": "money",
    },
    "Customer": {
        **_PARTY,
        "FullyQualifiedName": "text",
        "BalanceWithJobs": "money",
        "BillAddr": _ADDRESS,
        "Taxable": "flag",
        "Job": "flag",
        "BillWithParent": "flag",
        "PreferredDeliveryMethod": "text",
    },
    "Vendor": {**_PARTY, "Vendor1099": "flag"},
    "Item": {
        **_HEAD,
        "Name": "text",
        "FullyQualifiedName": "text",
        "Type": "text",
        "Description": "text",
        "Active": "flag",
        "Taxable": "flag",
        "TrackQtyOnHand": "flag",
        "UnitPrice": "money",
        "IncomeAccountRef": _REF,
    },
    "TaxCode": {
        **_HEAD,
        "Id": "text",
        "Name": "text",
        "Description": "text",
        "Active": "flag",
        "Taxable": "flag",
        "TaxGroup": "flag",
    },
    "CompanyCurrency": {**_HEAD, "Code": "code", "Name": "text", "Active": "flag"},
    "ExchangeRate": {
        **{name: kind for name, kind in _HEAD.items() if name != "Id"},
        "MetaData": {"LastUpdatedTime": "time"},
        "SourceCurrencyCode": "code",
        "TargetCurrencyCode": "code",
        "Rate": "rate",
        "AsOfDate": "date",
    },
    "Invoice": {**_SALE, "DueDate": "date", "HomeBalance": "money", "LinkedTxn": [_LINK]},
    "CreditMemo": {**_SALE, "RemainingCredit": "money", "HomeBalance": "money", "LinkedTxn": [_LINK]},
    "RefundReceipt": {**_SALE, "DepositToAccountRef": _REF, "PaymentRefNum": "number21"},
    "Payment": {
        **_TXN,
        "CustomerRef": _REF,
        "TotalAmt": "money",
        "UnappliedAmt": "money",
        "DepositToAccountRef": _REF,
        "ProcessPayment": "flag",
        "PaymentRefNum?": "number21",
        "Line": [_LINKED_LINE],
        "LinkedTxn": [_LINK],
    },
    "Deposit": {
        **_TXN,
        "DepositToAccountRef": _REF,
        "TotalAmt": "money",
        "HomeTotalAmt": "money",
        "Line": [_DEPOSIT_LINE, _LINKED_LINE],
    },
    "Purchase": {
        **_TXN,
        "PaymentType": "text",
        "AccountRef": _REF,
        "EntityRef": {**_REF, "type": "text"},
        "TotalAmt": "money",
        "HomeTotalAmt": "money",
        "Line": [_EXPENSE_LINE],
    },
    "Bill": {
        **_TXN,
        "DocNumber": "number21",
        "VendorRef": _REF,
        "APAccountRef": _REF,
        "DueDate": "date",
        "TotalAmt": "money",
        "HomeTotalAmt": "money",
        "Balance": "money",
        "HomeBalance": "money",
        "LinkedTxn": [_LINK],
        "Line": [_EXPENSE_LINE],
    },
    "BillPayment": {
        **_TXN,
        "DocNumber": "number21",
        "VendorRef": _REF,
        "PayType": "text",
        "TotalAmt": "money",
        "CheckPayment": {"BankAccountRef": _REF, "PrintStatus": "text"},
        "Line": [_LINKED_LINE],
    },
    "JournalEntry": {
        **_TXN,
        "DocNumber": "number21",
        "Adjustment": "flag",
        "TotalAmt": "money",
        "HomeTotalAmt": "money",
        "TxnTaxDetail": {},
        "Line": [_JOURNAL_LINE],
    },
}


def _is_time(value: Any) -> bool:
    return bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", value)) and bool(
        datetime.fromisoformat(value)
    )


_TYPES = {
    "id": lambda value: isinstance(value, str) and value.isdigit(),
    "text": lambda value: isinstance(value, str) and value != "",
    "number21": lambda value: isinstance(value, str) and 0 < len(value) <= 21,
    "code": lambda value: isinstance(value, str) and re.fullmatch("[A-Z]{3}", value),
    "email": lambda value: isinstance(value, str) and re.fullmatch(r"[^@]+@[^@]+\.[a-z]+", value),
    "flag": lambda value: isinstance(value, bool),
    "date": lambda value: date.fromisoformat(value).isoformat() == value,
    "time": _is_time,
    "number": lambda value: isinstance(value, int | Decimal) and not isinstance(value, bool),
    "rate": lambda value: isinstance(value, int | Decimal) and not isinstance(value, bool) and value > 0,
    "money": lambda value: (
        isinstance(value, int | Decimal) and not isinstance(value, bool) and Decimal(value) == round(Decimal(value), 2)
    ),
    "object": lambda value: isinstance(value, dict) and bool(value),
    "QBO": lambda value: value == "QBO",
}


def faults(value: Any, shape: Any, path: str) -> list[str]:
    """Where a value is not of its shape. A list may hold any of its shape's alternatives."""
    if isinstance(shape, str):
        return [] if _TYPES[shape](value) else [f"{path}: {value!r} is no {shape}"]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no list"]
        return [
            found
            for position, each in enumerate(value)
            for found in min((faults(each, one, f"{path}[{position}]") for one in shape), key=len)
        ]
    if not isinstance(value, dict):
        return [f"{path}: {value!r} is no object"]
    names = {name.removesuffix("?"): kind for name, kind in shape.items()}
    needed = {name for name in shape if not name.endswith("?")}
    return (
        [f"{path}.{name} is missing" for name in sorted(needed - value.keys())]
        + [f"{path}.{name} is unknown" for name in sorted(value.keys() - names.keys())]
        + [
            found
            for name in names.keys() & value.keys()
            for found in faults(value[name], names[name], f"{path}.{name}")
        ]
    )


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    room = QuickBooksRoom(world(days=60, size=8), books_until=date(2026, 8, 20))
    with served(room) as base:
        client = Client(room, base)
        client.sign_in()
        yield client
        client.http.close()


def test_the_table_speaks_of_every_entity() -> None:
    assert SHAPES.keys() | {"Transfer"} == KINDS.keys()


@pytest.mark.parametrize("entity", SHAPES)
def test_every_object_has_the_shape_of_the_reference(client: Client, entity: str) -> None:
    answer = client.query(f"select * from {entity} maxresults 1000")
    shown = answer[entity]
    assert answer.keys() == {entity, "startPosition", "maxResults", "totalCount"}
    assert (answer["startPosition"], answer["maxResults"], answer["totalCount"]) == (1, len(shown), len(shown))
    assert shown
    assert [found for each in shown for found in faults(each, SHAPES[entity], entity)] == []


@pytest.mark.parametrize("entity", [name for name in SHAPES if KINDS[name].changes_captured])
def test_changes_and_single_reads_have_the_same_shape(client: Client, entity: str) -> None:
    (found,) = changed(client, entity, "2026-07-12")
    for each in found.get(entity, []):
        if each.get("status") != "Deleted":
            assert faults(each, SHAPES[entity], entity) == []
    if entity not in ("ExchangeRate", "CompanyInfo", "Preferences"):
        key = client.query(f"select * from {entity} maxresults 1")[entity][0]["Id"]
        assert faults(client.get(f"{entity.lower()}/{key}")[entity], SHAPES[entity], entity) == []
    assert client.get("preferences")["Preferences"]["CurrencyPrefs"]["MultiCurrencyEnabled"] is True


def test_a_wrong_object_would_be_noticed(client: Client) -> None:
    invoice = client.query("select * from Invoice maxresults 1")["Invoice"][0]
    assert faults(invoice, SHAPES["Invoice"], "Invoice") == []
    wrong = {**invoice, "TotalAmt": "12.00", "Balance": Decimal("1.001"), "TxnDate": "2026-7-1", "Colour": "red"}
    del wrong["CustomerRef"]
    try:
        found = faults(wrong, SHAPES["Invoice"], "Invoice")
    except ValueError:
        wrong["TxnDate"] = invoice["TxnDate"]
        found = faults(wrong, SHAPES["Invoice"], "Invoice")
    assert {line.split(":")[0].split(" ")[0] for line in found} == {
        "Invoice.TotalAmt",
        "Invoice.Balance",
        "Invoice.Colour",
        "Invoice.CustomerRef",
    }


def test_amounts_are_numbers_and_never_texts(client: Client) -> None:
    raw = client.ask("GET", "query", params={"query": "select * from Invoice maxresults 1000"}).text
    amounts = re.findall(r'"(?:TotalAmt|Balance|Amount|HomeTotalAmt)":([^,}]+)', raw)
    assert len(amounts) > 50
    assert all(re.fullmatch(r"-?\d+(\.\d{1,2})?", each) for each in amounts), amounts


def test_the_start_is_the_worlds(client: Client) -> None:
    info = client.get(f"companyinfo/{client.room.realm_id}")["CompanyInfo"]
    assert info["CompanyStartDate"] == START.isoformat()
