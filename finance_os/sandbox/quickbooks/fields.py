"""The vocabulary in which the entities of QuickBooks Online are declared: fields of some type, and kinds of objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Field:
    """A property that a request may set.

    `type` is one of text (at most `limit` characters), enum (one of `values`), flag, date, money (two decimals),
    number, ref (to one of `targets`), email, object, custom (a list of objects), lines.
    """

    type: str
    limit: int = 0
    values: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


def text(limit: int) -> Field:
    return Field("text", limit=limit)


def enum(*values: str) -> Field:
    return Field("enum", values=values)


def ref(*targets: str) -> Field:
    return Field("ref", targets=targets)


FLAG = Field("flag")
DATE = Field("date")
MONEY = Field("money")
NUMBER = Field("number")
EMAIL = Field("email")
OBJECT = Field("object")
CUSTOM = Field("custom")
LINES = Field("lines")

# What answers carry and requests may repeat: QuickBooks overwrites it.
READ_ONLY = frozenset(
    (
        "Id",
        "SyncToken",
        "MetaData",
        "domain",
        "sparse",
        "status",
        "TotalAmt",
        "HomeTotalAmt",
        "Balance",
        "HomeBalance",
        "BalanceWithJobs",
        "UnappliedAmt",
        "RemainingCredit",
        "CurrentBalance",
        "CurrentBalanceWithSubAccounts",
        "FullyQualifiedName",
        "Classification",
        "SubAccount",
        "Level",
        "LinkedTxn",
        "TxnTaxDetail",
        "RecurDataRef",
        "InvoiceLink",
        "DeliveryInfo",
        "V4IDPseudonym",
        "time",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One entity.

    `series` names the sequence of its Ids (transactions share one, customers and vendors another); `filters` are the
    properties that a query may name, with how they compare (id, text, date, time, flag, number, ref); `lines` the
    DetailTypes of its lines, `links` the types that a line's LinkedTxn may lead to; `named` the property that bears
    its name; `label` is its name in error texts.
    """

    name: str
    series: str
    fields: Mapping[str, Field] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    lines: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()
    named: str = ""
    label: str = ""
    changes_captured: bool = True
    unique_number: bool = False

    @property
    def path(self) -> str:
        return self.name.lower()

    @property
    def is_transaction(self) -> bool:
        return self.series == "transaction"
