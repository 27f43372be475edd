"""Amounts of US dollars and of microdollars as cells hold them, exact to the microdollar, or refused.

Excel calculates in binary and shows 15 significant digits; the file has up to 17 of them, so that 0.1+0.2 is saved as
0.30000000000000004. What people saw is taken: numbers are rounded, half to even, to 15 significant digits, and what a
formula left behind the sixth decimal of a dollar to the microdollar. The file's own text is kept beside the amount.
https://learn.microsoft.com/en-us/answers/questions/4966476/excel-xml-worksheet-export-has-unprecise-numbers
"""

import re
import unicodedata
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from finance_os.evidence.money import MICRODOLLARS, NotMoney, microdollars
from finance_os.sources.xlsx.cells import Cell
from finance_os.sources.xlsx.problems import Unreadable
from finance_os.sources.xlsx.workbook import is_date_format

SIGNIFICANT_DIGITS = 15
"""Digits of a number that Excel shows. https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3"""

LONGEST = 60

LARGEST = 10**18
"""Amounts are smaller than this many microdollars, which are a trillion dollars and fit a 64-bit integer."""

_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]+", re.ASCII)
_WRITTEN = re.compile(
    r"\$?(?P<open>\()?(?P<before>[+-])?(?:US\$|USD|\$)?(?P<after>[+-])?"
    r"(?P<whole>[0-9]{1,15}|[0-9]{1,3}(?:,[0-9]{3}){1,5})(?P<fraction>\.[0-9]{1,12})?(?:USD)?(?P<trailing>-)?"
    r"(?P<close>\))?",
    re.ASCII | re.IGNORECASE,
)
_DECIMAL_COMMA = re.compile(r"[^0-9]*(?:[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]*)?|[0-9]+,[0-9]{1,2})[^0-9]*", re.ASCII)
_NOTHING = re.compile(r"(?:\$?[-\u2013\u2014])?")
_FORMAT_LITERAL = re.compile(r'"([^"]*)"|\[\$([^\]-]*)[^\]]*\]|\[[^\]]*\]|\\(.)|_.|\*.')
_DOLLAR_SIGNS = frozenset({"", "$", "USD", "US$"})
_FRACTION = "has a fraction of a microdollar: is the column in dollars? Name it so, or correct the amount"
_OTHER_CURRENCY = "is shown in another currency: baselines are in US dollars, convert it or correct its format"
_SCALE = Decimal(1).scaleb(-MICRODOLLARS)
_EXACTLY = Context(prec=120, rounding=ROUND_HALF_EVEN)


class Unit(Enum):
    """What a column's numbers count."""

    DOLLARS = "dollars"
    MICRODOLLARS = "microdollars"


class Amount(NamedTuple):
    """Microdollars, and whether the cell held a finer amount than that."""

    micros: int
    is_rounded: bool


def read_amount(cell: Cell | None, unit: Unit, format_code: str) -> Amount | None:
    """The amount in a cell; `None` where it is blank or a dash. Raises `Unreadable`."""
    if cell is None:
        return None
    if cell.text is None:
        raise Unreadable(
            "formula_without_value",
            "has a formula whose value was not saved: open the workbook in Excel, and save it again",
        )
    if cell.kind == "e":
        raise Unreadable("error_value", "has an error for a value: correct the formula, or leave the cell empty")
    if cell.kind == "s":
        return _written(cell.text, unit)
    if cell.kind != "n":
        raise Unreadable("bad_amount", "is a date or a truth value, not an amount: make it a number")
    _check_format(format_code)
    return _number(cell.text.strip(), unit)


def _number(text: str, unit: Unit) -> Amount:
    if not _NUMBER.fullmatch(text):
        raise Unreadable("bad_amount", "is not a number: type it again")
    exact = Decimal(text)
    if exact.adjusted() >= len(str(LARGEST)):
        raise _too_large()
    if _WHOLE.fullmatch(text) and len(text.lstrip("-0").rstrip("0")) > SIGNIFICANT_DIGITS:
        message = f"has more than the {SIGNIFICANT_DIGITS} digits that a cell can hold: its last ones are not known"
        raise Unreadable("amount_too_long", message)
    amount = exact
    if len(exact.as_tuple().digits) > SIGNIFICANT_DIGITS:
        step = Decimal(1).scaleb(exact.adjusted() - SIGNIFICANT_DIGITS + 1)
        amount = exact.quantize(step, context=_EXACTLY)
    if unit is Unit.MICRODOLLARS:
        if amount != amount.to_integral_value():
            raise Unreadable("amount_too_fine", _FRACTION)
        return Amount(_bounded(int(amount)), False)
    rounded = amount.quantize(_SCALE, context=_EXACTLY)
    return Amount(_bounded(microdollars(rounded)), rounded != amount)


def _written(text: str, unit: Unit) -> Amount | None:
    """An amount that is text: typed exactly, so it is never rounded."""
    plain = "".join(text.split()).replace("\u2212", "-")
    if _NOTHING.fullmatch(plain):
        return None
    if len(plain) > LONGEST:
        raise _not_written()
    if any(unicodedata.category(character) == "Sc" and character != "$" for character in plain):
        raise Unreadable("bad_currency", "is in another currency: baselines are in US dollars, convert it")
    if _DECIMAL_COMMA.fullmatch(plain):
        raise Unreadable("ambiguous_amount", "may have a comma for its decimal point: make it a number, such as 1234.5")
    match = _WRITTEN.fullmatch(plain)
    if match is None or bool(match["open"]) != bool(match["close"]):
        raise _not_written()
    signs = [sign for sign in (match["open"], match["before"], match["after"], match["trailing"]) if sign]
    if len(signs) > 1:
        raise Unreadable("bad_amount", "has more than one sign: make it a number")
    amount = Decimal(match["whole"].replace(",", "") + (match["fraction"] or ""))
    amount = amount if signs in ([], ["+"]) else -amount
    if unit is Unit.MICRODOLLARS:
        if "$" in plain or "USD" in plain.upper():
            raise Unreadable(
                "bad_amount", "is in dollars, and its column in microdollars: rename the column, or correct it"
            )
        if amount != amount.to_integral_value():
            raise Unreadable("amount_too_fine", _FRACTION)
        return Amount(_bounded(int(amount)), False)
    try:
        return Amount(_bounded(microdollars(amount)), False)
    except NotMoney:
        message = f"has more than {MICRODOLLARS} decimals, and dollars have that many microdollars: round it"
        raise Unreadable("amount_too_fine", message) from None


@lru_cache(1_024)
def _check_format(code: str) -> None:
    """Refuse a number that is shown as something else than dollars: a date, another currency, a percentage."""
    if is_date_format(code):
        raise Unreadable("bad_amount", "is shown as a date: make it a number")
    shown = ""
    for match in _FORMAT_LITERAL.finditer(code):
        literal = match[1] or match[2] or match[3] or ""
        shown += literal
        if match[2] is not None and match[2].strip().upper() not in _DOLLAR_SIGNS:
            raise Unreadable("bad_currency", _OTHER_CURRENCY)
    plain = _FORMAT_LITERAL.sub("", code)
    if any(unicodedata.category(character) == "Sc" and character != "$" for character in shown + plain):
        raise Unreadable("bad_currency", _OTHER_CURRENCY)
    if "%" in plain:
        raise Unreadable("bad_amount", "is shown as a percentage: correct its format, or the amount")


def _bounded(micros: int) -> int:
    if abs(micros) >= LARGEST:
        raise _too_large()
    return micros


def _not_written() -> Unreadable:
    message = "is not an amount such as 1234.50, $1,234.50 or (12.00): make it a number, or leave it empty"
    return Unreadable("bad_amount", message)


def _too_large() -> Unreadable:
    return Unreadable("amount_too_large", "is a trillion dollars or more: is the column in microdollars? Name it so")
