"""Which headers the fields of an export are read from, and the setting that says so."""

from datetime import date, datetime

import msgspec

from finance_os.evidence.extraction import SourceError
from finance_os.evidence.money import currency_code

COLUMNS_SETTING = "FINANCE_OS_RHO_COLUMNS"
Headers = str | tuple[str, ...]


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which headers a field is read from, the first that a file has; an empty list turns a field off.

    The defaults are ASSUMED: see the package. Headers are compared without case, blanks, `_` and `-`. `date_format`
    is a `strptime` format for every date that is not ISO 8601 with a time; without it only dates that have one
    meaning are read. `default_currency` is that of files without a currency column.
    """

    transaction_id: Headers = ("Transaction ID", "ID")
    transacted_on: Headers = ("Date", "Transaction Date", "Created", "Created Date", "Created At")
    posted_on: Headers = (
        "Settlement Date", "Settled Date", "Posted Date", "Posting Date", "Date Posted", "Closed On", "Posted",
    )  # fmt: skip
    amount: Headers = ("Amount", "Transaction Amount", "Net Amount")
    debit: Headers = ("Debit", "Debit Amount", "Money Out", "Withdrawal", "Withdrawals")
    credit: Headers = ("Credit", "Credit Amount", "Money In", "Deposit", "Deposits")
    direction: Headers = ("Direction", "Debit/Credit", "Credit/Debit", "DR/CR", "CR/DR")
    currency: Headers = ("Currency", "Currency Code")
    status: Headers = ("Status", "Transaction Status")
    description: Headers = ("Description", "Memo", "Details", "Note")
    counterparty: Headers = ("Counterparty", "Counterparty Name", "Merchant", "Payee", "Name")
    type: Headers = ("Type", "Transaction Type", "Payment Type")
    reference: Headers = ("Reference", "Reference ID", "Reference Number", "Ref")
    account: Headers = ("Account", "Account Name", "Account Number")
    date_format: str | None = None
    default_currency: str = "USD"

    @classmethod
    def read(cls, text: str | None) -> "Columns":
        """The column map in the setting; `SourceError` (`setting_invalid`) if it is not one."""
        try:
            columns = msgspec.json.decode(text, type=cls) if text else cls()
            currency_code(columns.default_currency)
            if columns.date_format and not _is_date_format(columns.date_format):
                raise ValueError("date_format does not have the year, the month and the day")
        except (msgspec.MsgspecError, ValueError) as error:
            message = f"{COLUMNS_SETTING} is not a column map: {error}"
            raise SourceError("setting_invalid", message, permanent=True) from None
        return columns

    def headers(self, name: str) -> tuple[str, ...]:
        """The headers that field `name` is read from, the best first."""
        headers = getattr(self, name)
        return (headers,) if isinstance(headers, str) else headers


FIELDS = tuple(name for name in Columns.__struct_fields__ if name not in ("date_format", "default_currency"))


def _is_date_format(date_format: str) -> bool:
    example = date(2026, 8, 31)
    return datetime.strptime(example.strftime(date_format), date_format).date() == example
