"""The object types of Plaid: how each is read, and what people look for in it.

Field descriptions follow https://plaid.com/docs/api/products/transactions/ at the pinned version. Amounts are decimals
of the currency that stands beside them, exact as Plaid writes them.
"""

from enum import StrEnum

from finance_os.sources.guard import Post
from finance_os.sources.source import Column, Reads, SourceObject

API_VERSION = "2020-09-14"

CLIENT_ID = "FINANCE_OS_PLAID_CLIENT_ID"
SECRET = "FINANCE_OS_PLAID_SECRET"  # noqa: S105  the name of a setting
ACCESS_TOKEN = "FINANCE_OS_PLAID_ACCESS_TOKEN"  # noqa: S105  the name of a setting
ENABLED_OPTION = "FINANCE_OS_PLAID_ENABLED"
API_BASE_OPTION = "FINANCE_OS_PLAID_API_BASE"
RATE_LIMIT_OPTION = "FINANCE_OS_PLAID_RATE_LIMIT"

READS = (
    Post("/transactions/get"),
    Post("/transactions/sync"),
    Post("/accounts/get"),
    Post("/item/get"),
    Post("/institutions/get_by_id"),
)


class Way(StrEnum):
    """Which endpoints an object type is read from."""

    ITEM = "item"
    ACCOUNTS = "accounts"
    TRANSACTIONS = "transactions"
    INSTITUTION = "institution"


PlaidObject = SourceObject[Way]

_ITEM_ID = Column("item_id", "string", "Plaid's ID of the connection to one login at one institution.")
_INSTITUTION_ID = Column("institution_id", "string", "Plaid's ID of the bank.")
_ACCOUNT_ID = Column("account_id", "string", "Plaid's ID of the account.")

OBJECTS: tuple[PlaidObject, ...] = (
    SourceObject(
        "plaid_item",
        "The connection to the bank: its institution, products, error and the times of its last updates.",
        Way.ITEM,
        reads=Reads.SNAPSHOT,
        columns=(
            _ITEM_ID,
            _INSTITUTION_ID,
            Column("products", "list", "What Plaid reads for this connection."),
            Column("error", "object", "Why the connection does not work, with Plaid's error_code; null if it does."),
            Column("consent_expiration_time", "timestamp", "Until when the bank lets Plaid in."),
            Column("status", "object", "When transactions were last updated, and last failed to be."),
        ),
        shown=("item_id", "institution_id", "products", "consent_expiration_time"),
        volatile=("error.request_id",),
    ),
    SourceObject(
        "plaid_account",
        "Bank accounts with the balances that Plaid saw last; they are not asked for anew at the bank.",
        Way.ACCOUNTS,
        reads=Reads.SNAPSHOT,
        label="accounts",
        columns=(
            _ACCOUNT_ID,
            Column("type", "string", "depository, credit, loan, investment or other."),
            Column("subtype", "string"),
            Column("balances", "object", "Current and available balance, with currency."),
            Column("name", "string"),
            Column("mask", "string", "Last characters of the account number."),
        ),
        shown=("account_id", "type", "subtype"),
    ),
    SourceObject(
        "plaid_transaction",
        "Transactions of the bank accounts, pending and posted. A posted one names the pending one that it was.",
        Way.TRANSACTIONS,
        label="transactions",
        columns=(
            Column("transaction_id", "string", "Plaid's ID; a pending transaction posts under another one."),
            _ACCOUNT_ID,
            Column("date", "date", "When it posted or, while it is pending, when it happened; the bank's calendar."),
            Column("amount", "decimal", "Positive where money leaves the account."),
            Column("iso_currency_code", "string"),
            Column("pending", "boolean", "Whether it has not posted yet."),
            Column("pending_transaction_id", "string", "The pending transaction that it was before it posted."),
            Column("authorized_date", "date"),
            Column("name", "string"),
            Column("original_description", "string", "The bank's own words."),
            Column("payment_meta", "object", "reference_number and what else the bank says of a transfer."),
        ),
        shown=("transaction_id", "account_id", "date", "amount", "iso_currency_code", "pending"),
    ),
    SourceObject(
        "plaid_institution",
        "The bank itself.",
        Way.INSTITUTION,
        reads=Reads.SNAPSHOT,
        label="institutions",
        columns=(
            _INSTITUTION_ID,
            Column("name", "string"),
            Column("country_codes", "list"),
            Column("products", "list", "What Plaid can read there."),
            Column("oauth", "boolean", "Whether people log in at the bank's own site."),
        ),
        shown=("institution_id", "country_codes", "oauth"),
    ),
)
