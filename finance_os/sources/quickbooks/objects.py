"""The object types of QuickBooks Online: how each is read, and what people look for in it.

Field descriptions follow Intuit's API reference at the pinned minor version, one page an entity:
https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/invoice
Amounts are decimals of the transaction's currency, exact as QuickBooks writes them. No field changes from read to
read: the time of an answer stands in its envelope, which is not kept.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from finance_os.sources.guard import Get, Post
from finance_os.sources.source import Column, Reads, SourceObject

MINOR_VERSION = "75"
"""Every older one has been switched off: https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api/minor-versions"""

CLIENT_ID = "FINANCE_OS_QUICKBOOKS_CLIENT_ID"
CLIENT_SECRET = "FINANCE_OS_QUICKBOOKS_CLIENT_SECRET"  # noqa: S105  the name of a setting
REFRESH_TOKEN = "FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN"  # noqa: S105  the name of a setting
REALM_ID = "FINANCE_OS_QUICKBOOKS_REALM_ID"
API_BASE_OPTION = "FINANCE_OS_QUICKBOOKS_API_BASE"
DISCOVERY_URL_OPTION = "FINANCE_OS_QUICKBOOKS_DISCOVERY_URL"
MONTHLY_CALLS_OPTION = "FINANCE_OS_QUICKBOOKS_MONTHLY_CALLS"
RATE_LIMIT_OPTION = "FINANCE_OS_QUICKBOOKS_RATE_LIMIT"

READS = (
    Get("/v3/company/*/query"),
    Get("/v3/company/*/cdc"),
    Get("/v3/company/*/companyinfo/*"),
    Get("/v3/company/*/preferences"),
    Get("/v3/company/*/exchangerate"),
    Get("/.well-known/*", at="discovery"),
    # Gives a new access token for the refresh token; nothing in the company changes by it.
    Post("/oauth2/v1/tokens/bearer", at="oauth"),
)

CHANGES_KEPT = timedelta(days=30)
"""How far back change data capture tells of deletions.
https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api/change-data-capture"""


def company_path(realm: str) -> str:
    """Below which path a company is asked. Sync runs bear it as the name of their query, and so tell whose they are."""
    return f"/v3/company/{realm}"


class Way(StrEnum):
    """changes: queried by their last change; list: all of them, queried; single: the one there is; rates: asked for
    by currency and day."""

    CHANGES = "changes"
    LIST = "list"
    SINGLE = "single"
    RATES = "rates"


@dataclass(frozen=True)
class Entity:
    """How one object type is read. `name` is QuickBooks' own word for it; `path` leads to a single one below the
    company, where `{realm}` stands for its ID; `has_inactive` ones hide from queries that do not ask for them.
    """

    name: str
    way: Way = Way.CHANGES
    path: str = ""
    has_inactive: bool = False


QuickBooksObject = SourceObject[Entity]

_ID = Column("Id", "string", "QuickBooks' ID, unique for its kind of object in the company.")
_SYNC_TOKEN = Column("SyncToken", "string", "Version number of the object.")
_ACTIVE = Column("Active", "boolean", "False once it was made inactive, which is how names are deleted.")
_CURRENCY = Column("CurrencyRef", "object", "ISO code (value) and name of its currency.")
_META = Column("MetaData", "object", "CreateTime and LastUpdatedTime, with the company's offset from UTC.")
_DOC_NUMBER = Column("DocNumber", "string", "Reference number that people see, at most 21 characters.")
_TXN_DATE = Column("TxnDate", "date", "Accounting date, in the company's calendar.")
_TOTAL = Column("TotalAmt", "decimal", "Total in the transaction's currency.")
_RATE = Column("ExchangeRate", "decimal", "Home currency for one unit of the transaction's currency.")
_NOTE = Column("PrivateNote", "string", "Memo that the other side does not see.")
_LINES = Column("Line", "list", "Lines, each with Amount, DetailType and the detail of that type.")
_TXN = (_ID, _SYNC_TOKEN, _TXN_DATE)
_TXN_END = (_CURRENCY, _RATE, _LINES, _NOTE, _META)
_CUSTOMER = Column("CustomerRef", "object", "ID (value) and name of the customer.")
_VENDOR = Column("VendorRef", "object", "ID (value) and name of the vendor.")
_DEPOSITED_TO = Column("DepositToAccountRef", "object", "ID and name of the account that the money went to.")
_LINKED = Column("LinkedTxn", "list", "TxnId and TxnType of the transactions that it is linked with.")


def _balance(what: str) -> Column:
    return Column("Balance", "decimal", what)


def _changing(
    object_type: str,
    name: str,
    description: str,
    columns: tuple[Column, ...],
    shown: tuple[str, ...],
    *,
    label: str = "",
    has_inactive: bool = False,
) -> QuickBooksObject:
    """An object type that is read by its last change."""
    return SourceObject(
        object_type,
        description,
        Entity(name, has_inactive=has_inactive),
        columns=columns,
        shown=shown,
        label=label,
        changes_known_for=CHANGES_KEPT,
    )


OBJECTS: tuple[QuickBooksObject, ...] = (
    SourceObject(
        "quickbooks_company_info",
        "The company: name, country, start date and fiscal year. Its source ID is the company's realm.",
        Entity("CompanyInfo", Way.SINGLE, "companyinfo/{realm}"),
        reads=Reads.SNAPSHOT,
        label="company_info",
        columns=(
            _ID,
            _SYNC_TOKEN,
            Column("CompanyName", "string"),
            Column("LegalName", "string"),
            Column("Country", "string"),
            Column("CompanyStartDate", "date", "When it began to use QuickBooks."),
            Column("FiscalYearStartMonth", "string"),
            Column("NameValue", "list", "Further settings, such as the edition of QuickBooks."),
            _META,
        ),
        shown=("Id", "SyncToken", "Country", "CompanyStartDate", "FiscalYearStartMonth"),
    ),
    _changing(
        "quickbooks_account",
        "Account",
        "The chart of accounts, with balances.",
        (
            _ID,
            _SYNC_TOKEN,
            Column("Name", "string"),
            Column("AcctNum", "string", "Account number, where the company uses them."),
            Column("AccountType", "string", "Such as Bank, Income or Accounts Receivable."),
            Column("AccountSubType", "string"),
            Column("Classification", "string", "Asset, Equity, Expense, Liability or Revenue."),
            Column("CurrentBalance", "decimal", "In the account's currency; 0 for income and expenses."),
            Column("ParentRef", "object", "ID of the account that it is part of."),
            _ACTIVE,
            _CURRENCY,
            _META,
        ),
        ("Id", "SyncToken", "AcctNum", "AccountType", "AccountSubType", "Classification", "CurrentBalance", "Active"),
        label="accounts",
        has_inactive=True,
    ),
    _changing(
        "quickbooks_customer",
        "Customer",
        "Customers, with what they owe.",
        (
            _ID,
            _SYNC_TOKEN,
            Column("DisplayName", "string", "Unique among customers, vendors and employees."),
            Column("CompanyName", "string"),
            Column("PrimaryEmailAddr", "object"),
            _balance("What is open, in the customer's currency."),
            Column("ParentRef", "object", "ID of the customer that it is a part of."),
            _ACTIVE,
            _CURRENCY,
            _META,
        ),
        ("Id", "SyncToken", "Balance", "Active"),
        label="customers",
        has_inactive=True,
    ),
    _changing(
        "quickbooks_vendor",
        "Vendor",
        "Vendors (publishers and suppliers), with what is owed to them.",
        (
            _ID,
            _SYNC_TOKEN,
            Column("DisplayName", "string", "Unique among customers, vendors and employees."),
            Column("CompanyName", "string"),
            Column("AcctNum", "string", "The company's account number at the vendor."),
            Column("Vendor1099", "boolean", "Whether payments to it are reported on form 1099."),
            _balance("What is open, in the vendor's currency."),
            _ACTIVE,
            _CURRENCY,
            _META,
        ),
        ("Id", "SyncToken", "Balance", "Vendor1099", "Active"),
        label="vendors",
        has_inactive=True,
    ),
    _changing(
        "quickbooks_deposit",
        "Deposit",
        "Bank deposits, with the payments in them.",
        (*_TXN, _DOC_NUMBER, _TOTAL, _DEPOSITED_TO, *_TXN_END),
        ("Id", "SyncToken", "DocNumber", "TxnDate", "TotalAmt"),
        label="deposits",
    ),
    _changing(
        "quickbooks_purchase",
        "Purchase",
        "Expenses paid at once: cash, checks and credit cards.",
        (
            *_TXN,
            _DOC_NUMBER,
            _TOTAL,
            Column("PaymentType", "string", "Cash, Check or CreditCard."),
            Column("AccountRef", "object", "ID and name of the account that paid."),
            Column("EntityRef", "object", "ID and name of who was paid."),
            Column("Credit", "boolean", "True for a refund to a credit card."),
            *_TXN_END,
        ),
        ("Id", "SyncToken", "DocNumber", "TxnDate", "PaymentType", "TotalAmt"),
        label="purchases",
    ),
    _changing(
        "quickbooks_bill",
        "Bill",
        "Bills of vendors.",
        (
            *_TXN,
            _DOC_NUMBER,
            Column("DueDate", "date"),
            _TOTAL,
            _balance("What is not paid yet."),
            _VENDOR,
            Column("APAccountRef", "object", "ID and name of the payables account."),
            _LINKED,
            *_TXN_END,
        ),
        ("Id", "SyncToken", "DocNumber", "TxnDate", "DueDate", "TotalAmt", "Balance"),
        label="bills",
    ),
    _changing(
        "quickbooks_journal_entry",
        "JournalEntry",
        "Journal entries; their lines' debits and credits are equal.",
        (
            *_TXN,
            _DOC_NUMBER,
            _TOTAL,
            Column("Adjustment", "boolean", "Whether it is an adjusting entry."),
            *_TXN_END,
        ),
        ("Id", "SyncToken", "DocNumber", "TxnDate", "Adjustment", "TotalAmt"),
        label="journals",
    ),
    _changing(
        "quickbooks_invoice",
        "Invoice",
        "Invoices to customers.",
        (
            *_TXN,
            _DOC_NUMBER,
            Column("DueDate", "date"),
            _TOTAL,
            _balance("What is not paid yet."),
            _CUSTOMER,
            _LINKED,
            Column("EmailStatus", "string", "NotSet, NeedToSend or EmailSent."),
            *_TXN_END,
        ),
        ("Id", "SyncToken", "DocNumber", "TxnDate", "DueDate", "TotalAmt", "Balance"),
        label="invoices",
    ),
    _changing(
        "quickbooks_payment",
        "Payment",
        "Payments of customers, applied to invoices by their lines.",
        (
            *_TXN,
            Column("PaymentRefNum", "string", "Reference number of the payment."),
            _TOTAL,
            Column("UnappliedAmt", "decimal", "What is not applied to any invoice."),
            _CUSTOMER,
            _DEPOSITED_TO,
            _LINKED,
            *_TXN_END,
        ),
        ("Id", "SyncToken", "PaymentRefNum", "TxnDate", "TotalAmt", "UnappliedAmt"),
        label="payments",
    ),
    _changing(
        "quickbooks_bill_payment",
        "BillPayment",
        "Payments to vendors, applied to bills by their lines.",
        (
            *_TXN,
            _DOC_NUMBER,
            _TOTAL,
            Column("PayType", "string", "Check or CreditCard."),
            _VENDOR,
            *_TXN_END,
        ),
        ("Id", "SyncToken", "DocNumber", "TxnDate", "PayType", "TotalAmt"),
    ),
    _changing(
        "quickbooks_credit_memo",
        "CreditMemo",
        "Credit memos to customers.",
        (
            *_TXN,
            _DOC_NUMBER,
            _TOTAL,
            _balance("What is not used yet."),
            Column("RemainingCredit", "decimal", "What is not used yet."),
            _CUSTOMER,
            *_TXN_END,
        ),
        ("Id", "SyncToken", "DocNumber", "TxnDate", "TotalAmt", "RemainingCredit"),
    ),
    _changing(
        "quickbooks_refund_receipt",
        "RefundReceipt",
        "Refunds paid to customers.",
        (
            *_TXN,
            _DOC_NUMBER,
            _TOTAL,
            _CUSTOMER,
            Column("DepositToAccountRef", "object", "ID and name of the account that the money came from."),
            *_TXN_END,
        ),
        ("Id", "SyncToken", "DocNumber", "TxnDate", "TotalAmt"),
    ),
    _changing(
        "quickbooks_item",
        "Item",
        "Products and services, with the accounts that they are booked to.",
        (
            _ID,
            _SYNC_TOKEN,
            Column("Name", "string"),
            Column("Type", "string", "Service, Inventory, NonInventory or Category."),
            Column("Sku", "string"),
            Column("UnitPrice", "decimal"),
            Column("IncomeAccountRef", "object", "ID and name of the account that sales are booked to."),
            Column("ExpenseAccountRef", "object", "ID and name of the account that purchases are booked to."),
            _ACTIVE,
            _META,
        ),
        ("Id", "SyncToken", "Type", "Sku", "UnitPrice", "Active"),
        has_inactive=True,
    ),
    SourceObject(
        "quickbooks_tax_code",
        "Sales tax codes. Change data capture leaves them out, so all of them are read and removals are seen.",
        Entity("TaxCode", Way.LIST, has_inactive=True),
        reads=Reads.SNAPSHOT,
        columns=(
            _ID,
            _SYNC_TOKEN,
            Column("Name", "string"),
            Column("Taxable", "boolean"),
            Column("TaxGroup", "boolean", "Whether it holds several rates."),
            Column("SalesTaxRateList", "object", "IDs of its tax rates on sales."),
            Column("PurchaseTaxRateList", "object", "IDs of its tax rates on purchases."),
            _ACTIVE,
            _META,
        ),
        shown=("Id", "SyncToken", "Taxable", "TaxGroup", "Active"),
    ),
    SourceObject(
        "quickbooks_preferences",
        "The company's settings: closing date, custom transaction numbers, home currency and others.",
        Entity("Preferences", Way.SINGLE, "preferences"),
        reads=Reads.SNAPSHOT,
        columns=(
            _ID,
            _SYNC_TOKEN,
            Column("AccountingInfoPrefs", "object", "BookCloseDate among others: until then the books are closed."),
            Column("SalesFormsPrefs", "object", "CustomTxnNumbers among others: whether DocNumbers are set by hand."),
            Column("CurrencyPrefs", "object", "MultiCurrencyEnabled and HomeCurrency."),
            Column("TaxPrefs", "object", "UsingSalesTax among others."),
            _META,
        ),
        shown=("Id", "SyncToken"),
    ),
    SourceObject(
        "quickbooks_exchange_rate",
        "What one unit of each of the company's currencies was worth in its home currency on a day, as QuickBooks "
        "answers for that day. Its source ID is the currency and the day (EUR:2026-07-01).",
        Entity("ExchangeRate", Way.RATES),
        columns=(
            Column("SourceCurrencyCode", "string", "ISO code of the currency."),
            Column("TargetCurrencyCode", "string", "ISO code of the company's home currency."),
            Column("Rate", "decimal", "Home currency for one unit."),
            Column("AsOfDate", "date", "Day that the rate was set for; the day asked for or one before it."),
            _SYNC_TOKEN,
            _META,
        ),
        shown=("SourceCurrencyCode", "TargetCurrencyCode", "AsOfDate", "Rate", "SyncToken"),
    ),
)
