"""Plaid's JSON of transactions, the account, the item and the institution, as plaid-python 46 describes it."""

from decimal import Decimal
from typing import Any

from .feed import Transaction

OPENING_CENTS = 250_000_00
INSTITUTION_ID = "ins_900001"
INSTITUTION_NAME = "Sandbox Rho"
PRODUCTS = ("transactions",)

_NOWHERE = dict.fromkeys(("address", "city", "country", "lat", "lon", "postal_code", "region", "store_number"))
_NO_META = dict.fromkeys(
    (
        "by_order_of",
        "payee",
        "payer",
        "payment_method",
        "payment_processor",
        "ppd_id",
        "reason",
        "reference_number",
    )
)
# Rho's type -> Plaid's primary and detailed category (https://plaid.com/documents/transactions-personal-finance-category-taxonomy.csv)
_CATEGORIES = {
    "ACH Credit": ("INCOME", "INCOME_OTHER_INCOME"),
    "ACH Debit": ("GENERAL_SERVICES", "GENERAL_SERVICES_OTHER_GENERAL_SERVICES"),
    "Fee": ("BANK_FEES", "BANK_FEES_OTHER_BANK_FEES"),
    "Wire": ("TRANSFER_IN", "TRANSFER_IN_ACCOUNT_TRANSFER"),
}


def dollars(cents: int) -> Decimal:
    """Exactly two decimals, which the JSON number keeps."""
    return Decimal(cents).scaleb(-2)


def transaction(account_id: str, each: Transaction, *, original: bool) -> dict[str, Any]:
    """One transaction; with the bank's own description where the client asked for it."""
    primary, detailed = _CATEGORIES[each.type]
    fee = each.type == "Fee"
    body = {
        "account_id": account_id,
        "account_owner": None,
        "amount": dollars(each.amount),
        "authorized_date": each.authorized.isoformat(),
        "authorized_datetime": None,
        "category": None,
        "category_id": None,
        "check_number": None,
        "counterparties": [
            {
                "confidence_level": "HIGH",
                "entity_id": None,
                "logo_url": None,
                "name": each.counterparty,
                "type": "financial_institution" if fee or each.type == "Wire" else "merchant",
                "website": None,
            }
        ],
        "date": each.day.isoformat(),
        "datetime": None,
        "iso_currency_code": "USD",
        "location": _NOWHERE,
        "logo_url": None,
        "merchant_entity_id": None,
        "merchant_name": None if fee else each.counterparty,
        "name": each.name,
        "payment_channel": "other",
        "payment_meta": {**_NO_META, "reference_number": each.reference},
        "pending": each.pending,
        "pending_transaction_id": each.pending_id,
        "personal_finance_category": {
            "confidence_level": "LOW",
            "detailed": detailed,
            "primary": primary,
            "version": "v1",
        },
        "personal_finance_category_icon_url": f"https://plaid-category-icons.plaid.com/PFC_{primary}.png",
        "transaction_code": None,
        "transaction_id": each.id,
        "transaction_type": "special",
        "unofficial_currency_code": None,
        "website": None,
    }
    return {**body, "original_description": each.name} if original else body


def account(account_id: str, company: str, posted: int, pending: int) -> dict[str, Any]:
    """The checking account; `posted` and `pending` are the sums (Plaid's sign, in cents) of all its transactions."""
    current = OPENING_CENTS - posted
    return {
        "account_id": account_id,
        "balances": {
            "available": dollars(current - pending),
            "current": dollars(current),
            "iso_currency_code": "USD",
            "limit": None,
            "unofficial_currency_code": None,
        },
        "holder_category": "business",
        "mask": "4821",
        "name": "Operating",
        "official_name": f"{company} Operating Checking",
        "subtype": "checking",
        "type": "depository",
    }


def item(item_id: str, error: dict[str, Any] | None, webhook: str) -> dict[str, Any]:
    return {
        "auth_method": "INSTANT_AUTH",
        "available_products": ["auth", "balance", "identity"],
        "billed_products": list(PRODUCTS),
        "consent_expiration_time": None,
        "consented_products": list(PRODUCTS),
        "error": error,
        "institution_id": INSTITUTION_ID,
        "institution_name": INSTITUTION_NAME,
        "item_id": item_id,
        "products": list(PRODUCTS),
        "update_type": "background",
        "webhook": webhook,
    }


def institution(optional: bool) -> dict[str, Any]:
    body = {
        "connection_availability": "SUPPORTED",
        "country_codes": ["US"],
        "dtc_numbers": [],
        "institution_id": INSTITUTION_ID,
        "name": INSTITUTION_NAME,
        "oauth": False,
        "products": ["auth", "balance", "identity", "transactions"],
        "routing_numbers": [],
    }
    return {**body, "url": "https://rho.example.org", "primary_color": "#101820", "logo": None} if optional else body
