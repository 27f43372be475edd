"""What the company's QuickBooks held on its first day: company, preferences, currencies, tax codes, accounts, items."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from ..company import REVENUE_SHARE_BPS
from ..currency import RATES_PPM
from .formats import HOME, currency_ref, rate_of
from .realm import Realm


@dataclass(frozen=True, slots=True)
class _Account:
    role: str
    number: str
    name: str
    type: str
    subtype: str


_ACCOUNTS = (
    _Account("bank", "1000", "Rho Checking", "Bank", "Checking"),
    _Account("clearing", "1050", "Stripe Clearing", "Other Current Asset", "OtherCurrentAssets"),
    _Account("undeposited", "1090", "Undeposited Funds", "Other Current Asset", "UndepositedFunds"),
    _Account("receivable", "1100", "Accounts Receivable (A/R)", "Accounts Receivable", "AccountsReceivable"),
    _Account("equipment", "1500", "Computer Equipment", "Fixed Asset", "FurnitureAndFixtures"),
    _Account("wear", "1590", "Accumulated Depreciation", "Fixed Asset", "AccumulatedDepreciation"),
    _Account("payable", "2000", "Accounts Payable (A/P)", "Accounts Payable", "AccountsPayable"),
    _Account("opening", "3000", "Opening Balance Equity", "Equity", "OpeningBalanceEquity"),
    _Account("holdings", "3100", "Sandbox Holdings Contributions", "Equity", "PaidInCapitalOrSurplus"),
    _Account("retained", "3900", "Retained Earnings", "Equity", "RetainedEarnings"),
    _Account("revenue", "4000", "Advertising Revenue", "Income", "ServiceFeeIncome"),
    _Account("credits", "4100", "Refunds and Make-goods", "Income", "DiscountsRefundsGiven"),
    _Account("discounts", "4200", "Discounts Given", "Income", "DiscountsRefundsGiven"),
    _Account("uncategorized", "4900", "Uncategorized Income", "Income", "OtherPrimaryIncome"),
    _Account("publisher_costs", "5000", "Publisher Payouts", "Cost of Goods Sold", "OtherCostsOfServiceCos"),
    _Account("stripe_fees", "6100", "Stripe Fees", "Expense", "OtherMiscellaneousServiceCost"),
    _Account("bank_charges", "6110", "Bank Charges", "Expense", "BankCharges"),
    _Account("chargebacks", "6120", "Chargebacks", "Expense", "OtherMiscellaneousServiceCost"),
    _Account("depreciation", "6500", "Depreciation", "Other Expense", "Depreciation"),
    _Account("exchange_gain", "6900", "Exchange Gain or Loss", "Other Expense", "ExchangeGainOrLoss"),
)
_ITEMS = (
    ("Ad Spend", "revenue", "Advertising delivered by our publishers"),
    ("Make-good", "credits", "Credit for under-delivery"),
    ("Goodwill", "credits", "Credit granted by hand"),
    ("Refund", "credits", "Money returned to the customer"),
)


def found(realm: Realm, company: str, start: date) -> None:
    """Set the company up on its first day."""
    address = {
        "Id": "1",
        "Line1": "500 Sandbox Way",
        "City": "Mountain View",
        "CountrySubDivisionCode": "CA",
        "PostalCode": "94043",
        "Country": "US",
    }
    realm.create("CompanyInfo", _company(company, address, start), key="1")
    realm.create("Preferences", _preferences(), key="1")
    for code in RATES_PPM:
        if code.upper() != HOME:
            realm.create("CompanyCurrency", {"Code": code.upper(), **_currency(code.upper())})
            realm.set_rate(
                {"SourceCurrencyCode": code.upper(), "Rate": rate_of(code.upper()), "AsOfDate": start.isoformat()}
            )
    for code, taxable in (("TAX", True), ("NON", False)):
        realm.create(
            "TaxCode",
            {"Name": code, "Description": code, "Active": True, "Taxable": taxable, "TaxGroup": False},
            key=code,
        )
    for account in _ACCOUNTS:
        entry = realm.create(
            "Account",
            {
                "Name": account.name,
                "AcctNum": account.number,
                "AccountType": account.type,
                "AccountSubType": account.subtype,
            },
        )
        realm.chart.set(account.role, entry)
    for name, role, description in _ITEMS:
        realm.create(
            "Item",
            {"Name": name, "Type": "Service", "Description": description, "IncomeAccountRef": realm.chart.ref(role)},
        )
    realm.create(
        "JournalEntry",
        {
            "DocNumber": "OPENING",
            "TxnDate": start.isoformat(),
            "PrivateNote": f"Opening balances; publishers earn {REVENUE_SHARE_BPS / 100:g} % of spend",
            "Line": [
                journal_line("Debit", realm.chart.ref("equipment"), 24_000),
                journal_line("Credit", realm.chart.ref("opening"), 24_000),
            ],
        },
        free=True,
    )


def journal_line(side: str, account: dict[str, Any], amount: Any, description: str | None = None) -> dict[str, Any]:
    line: dict[str, Any] = {
        "Amount": amount,
        "DetailType": "JournalEntryLineDetail",
        "JournalEntryLineDetail": {"PostingType": side, "AccountRef": account},
    }
    return line if description is None else {**line, "Description": description}


def _currency(code: str) -> dict[str, Any]:
    return {"Name": currency_ref(code)["name"], "Active": True}


def _company(name: str, address: dict[str, Any], start: date) -> dict[str, Any]:
    return {
        "CompanyName": name,
        "LegalName": f"{name}, Inc.",
        "CompanyAddr": address,
        "LegalAddr": address,
        "CustomerCommunicationAddr": address,
        "CompanyStartDate": start.isoformat(),
        "Country": "US",
        "Email": {"Address": "books@sandbox-ads.example.com"},
        "FiscalYearStartMonth": "January",
        "PrimaryPhone": {"FreeFormNumber": "(555) 010-0100"},
        "SupportedLanguages": "en",
        "WebAddr": {},
        "NameValue": [
            {"Name": "NeoEnabled", "Value": "true"},
            {"Name": "IndustryType", "Value": "Advertising Agencies"},
            {"Name": "SubscriptionStatus", "Value": "PAID"},
            {"Name": "OfferingSku", "Value": "QuickBooks Online Plus"},
        ],
    }


def _preferences() -> dict[str, Any]:
    return {
        "AccountingInfoPrefs": {
            "FirstMonthOfFiscalYear": "January",
            "UseAccountNumbers": True,
            "TaxYearMonth": "January",
            "ClassTrackingPerTxn": False,
            "ClassTrackingPerTxnLine": False,
            "TrackDepartments": False,
            "CustomerTerminology": "Customers",
        },
        "ProductAndServicesPrefs": {
            "ForSales": True,
            "ForPurchase": True,
            "QuantityWithPriceAndRate": True,
            "QuantityOnHand": False,
        },
        "SalesFormsPrefs": {
            "AllowDeposit": False,
            "AllowDiscount": True,
            "AllowEstimates": False,
            "AllowServiceDate": True,
            "AllowShipping": False,
            "CustomTxnNumbers": True,
            "ETransactionPaymentEnabled": False,
            "IPNSupportEnabled": False,
            "UsingPriceLevels": False,
            "UsingProgressInvoicing": False,
        },
        "VendorAndPurchasesPrefs": {"BillableExpenseTracking": False, "TrackingByCustomer": False},
        "TimeTrackingPrefs": {"UseServices": False, "BillCustomers": False, "WorkWeekStartDate": "Monday"},
        "TaxPrefs": {"UsingSalesTax": False},
        "CurrencyPrefs": {"MultiCurrencyEnabled": True, "HomeCurrency": {"value": HOME}},
        "ReportPrefs": {"ReportBasis": "Accrual", "CalcAgingReportFromTxnDate": False},
        "OtherPrefs": {"NameValue": []},
    }
