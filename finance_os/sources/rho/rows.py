"""The rows of an export as transactions: key and payload, or every reason why a cell cannot be read."""

import hashlib
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from finance_os.evidence.canonical import canonical_json
from finance_os.evidence.money import NotMoney, currency_code, minor_units
from finance_os.sources.rho.columns import Columns
from finance_os.sources.rho.identity import Key
from finance_os.sources.rho.problems import Problems, Unreadable
from finance_os.sources.rho.table import Header, decoded, find_delimiter, lines_of, read_header
from finance_os.sources.rho.values import parse_amount, parse_date

LONGEST_ID = 200
_IDENTIFIER = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:/#-]{{0,{LONGEST_ID - 1}}}")
_DIRECTIONS = {"debit": -1, "dr": -1, "out": -1, "outflow": -1, "credit": 1, "cr": 1, "in": 1, "inflow": 1}
# The single letters are Rho's own: https://help.rho.co/en/articles/4501587-transaction-details
_STATUSES = {
    **dict.fromkeys(("s", "settled", "posted", "completed", "complete", "cleared"), "posted"),
    **dict.fromkeys(("p", "pending", "q", "queued", "a", "awaiting approval", "processing"), "pending"),
    **dict.fromkeys(("c", "cancelled", "canceled", "voided", "declined"), "cancelled"),
}
_TEXTS = ("description", "counterparty", "type", "reference", "account")


def read_rows(
    data: bytes, columns: Columns, zone: ZoneInfo, problems: Problems, limits: tuple[date, date] | None = None
) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Key and payload of a file's transactions, in its order, lazily; what cannot be read becomes a problem instead.

    `limits` are the first and the last day that a transaction may have. Rows are counted in lines from 1, the
    header's; a record is named by the line it begins on. Rows without any content are skipped.
    """
    text = decoded(data, problems)
    if text is None:
        return
    delimiter = find_delimiter(text, columns)
    header: Header | None = None
    for line, cells in lines_of(text, delimiter, problems):
        if header is None:
            header = read_header(cells, line, delimiter, columns, problems)
            if header is None:
                return
        elif len(cells) != len(header.names):
            message = (
                f"has {len(cells)} cells where the header has {len(header.names)}: quote cells that contain the "
                "delimiter, and leave no line cut short"
            )
            problems.add("ragged_line", message, line, header.known_name(len(cells)))
        else:
            row = _RowReader(header, cells, line, columns, zone, problems).read(limits)
            if row is not None:
                yield row
    if header is None and not problems.count:
        problems.add("empty_file", "holds nothing, not even a header: export it again")


class _RowReader:
    """Reads the cells of one row; every cell that cannot be read is a problem, so that a report names them all."""

    def __init__(
        self, header: Header, cells: list[str], line: int, columns: Columns, zone: ZoneInfo, problems: Problems
    ) -> None:
        self._header = header
        self._cells = cells
        self._line = line
        self._columns = columns
        self._zone = zone
        self._problems = problems

    def read(self, limits: tuple[date, date] | None) -> tuple[Key, dict[str, Any]] | None:
        """The row's key and payload; `None` if there is a problem in it."""
        before = self._problems.count
        transaction_id = self._transaction_id()
        posted_on, transacted_on = self._date("posted_on"), self._date("transacted_on")
        day = posted_on or transacted_on
        if day is None and self._problems.count == before:
            self._refuse(
                "missing_date", "has no date: a transaction belongs to the day it was posted", self._date_field()
            )
        elif day is not None and limits is not None:
            self._check_limits(day, limits, "posted_on" if posted_on else "transacted_on")
        currency = self._currency()
        amount = self._amount(currency) if currency is not None else None
        if self._problems.count > before:
            return None
        assert day is not None
        assert amount is not None
        identity = {
            "posted_on": posted_on.isoformat() if posted_on else None,
            "transacted_on": transacted_on.isoformat() if transacted_on else None,
            "amount_minor": amount,
            "currency": currency,
            **{name: self._text(name) for name in _TEXTS},
        }
        raw = dict(zip(self._header.names, self._cells, strict=True))
        status = self._text("status")
        payload = {
            "transaction_id": transaction_id,
            **identity,
            "direction": "in" if amount > 0 else "out" if amount < 0 else "none",
            "status": _STATUSES.get(status.casefold(), "other") if status else None,
            "row": raw,
        }
        reference = identity["reference"]
        # A reference with blanks in it is a remark, which names nothing and may be personal data.
        if reference and _IDENTIFIER.fullmatch(reference):
            basis = f"ref:{reference}@{day}"
        else:
            basis = f"row:{hashlib.sha256(canonical_json(identity)).hexdigest()}"
        digest = hashlib.sha256(canonical_json(raw)).digest()
        return Key(self._line, day, transaction_id, basis, digest), payload

    def _text(self, name: str) -> str | None:
        position = self._header.positions.get(name)
        return (self._cells[position].strip() or None) if position is not None else None

    def _refuse(self, code: str, message: str, name: str, *, show: bool = False) -> None:
        position = self._header.positions.get(name)
        column = self._header.names[position] if position is not None else None
        self._problems.add(code, message, self._line, column, self._text(name) if show else None)

    def _transaction_id(self) -> str | None:
        transaction_id = self._text("transaction_id")
        if transaction_id and (len(transaction_id) > LONGEST_ID or not transaction_id.isprintable()):
            message = f"is no transaction ID: it has line breaks, or more than {LONGEST_ID} characters"
            self._refuse("bad_transaction_id", message, "transaction_id")
        return transaction_id

    def _date_field(self) -> str:
        return "posted_on" if "posted_on" in self._header.positions else "transacted_on"

    def _date(self, name: str) -> date | None:
        text = self._text(name)
        if text is None:
            return None
        try:
            return parse_date(text, self._zone, self._columns.date_format)
        except Unreadable as error:
            self._refuse(error.code, error.message, name, show=True)
            return None

    def _check_limits(self, day: date, limits: tuple[date, date], name: str) -> None:
        first, last = limits
        if day < first:
            message = f"lies before {first}, the first day that is kept: correct it, or set FINANCE_OS_START_DATE"
            self._refuse("day_too_early", message, name, show=True)
        elif day > last:
            self._refuse("day_in_future", f"lies after {last}, which is tomorrow: correct it", name, show=True)

    def _currency(self) -> str | None:
        if "currency" not in self._header.positions:
            return currency_code(self._columns.default_currency)
        try:
            return currency_code(self._text("currency") or "")
        except NotMoney as error:
            self._refuse("bad_currency", f"is no currency ({error}): correct it", "currency")
            return None

    def _amount(self, currency: str) -> int | None:
        """Signed minor units: what came in is positive."""
        name = "amount"
        try:
            if name in self._header.positions:
                return self._signed(self._parsed_amount(name, currency), currency)
            sides = {}
            for name in ("debit", "credit"):
                if self._text(name) is not None:
                    sides[name] = self._parsed_amount(name, currency)
                    if sides[name] < 0:
                        raise Unreadable("bad_amount", "has a sign: debit and credit are amounts without one")
            if len([side for side in sides.values() if side]) > 1 or not sides:
                which = "both a debit and a credit" if sides else "neither a debit nor a credit"
                raise Unreadable("bad_amount", f"has {which}: a transaction has one of them")
            return minor_units(sides.get("credit", Decimal(0)) - sides.get("debit", Decimal(0)), currency)
        except Unreadable as error:
            self._refuse(error.code, error.message, name, show=True)
            return None

    def _parsed_amount(self, name: str, currency: str) -> Decimal:
        # Where lines are cut at semicolons, a comma is the decimal point as often as not.
        return parse_amount(self._text(name), currency, commas_group=self._header.delimiter != ";")

    def _signed(self, amount: Decimal, currency: str) -> int | None:
        minor = minor_units(amount, currency)
        if "direction" not in self._header.positions:
            return minor
        sign = _DIRECTIONS.get((self._text("direction") or "").casefold())
        if sign is None:
            self._refuse("bad_direction", f"is not one of {', '.join(_DIRECTIONS)}: correct it", "direction")
            return None
        if minor < 0 < sign:
            self._refuse("bad_direction", "says that money came in, and the amount is negative", "direction")
            return None
        return abs(minor) * sign
