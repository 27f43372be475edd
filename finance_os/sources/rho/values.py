"""Amounts and dates as banks write them, where they have one meaning only."""

import re
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from finance_os.evidence.money import exponent
from finance_os.evidence.windows import day_of
from finance_os.sources.rho.columns import COLUMNS_SETTING
from finance_os.sources.rho.problems import Unreadable

_AMOUNT = re.compile(
    r"(?P<open>\()?(?P<before>[+-])?(?P<dollar>\$)?(?P<after>[+-])?"
    r"(?P<whole>[0-9]{1,15}|[0-9]{1,3}(?:,[0-9]{3}){1,4})(?P<fraction>\.[0-9]{1,8})?(?P<trailing>-)?(?P<close>\))?"
)
_DOLLARS = frozenset({"USD", "CAD", "AUD", "NZD", "SGD", "HKD", "MXN"})
_ISO_TIME = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})[T ](?P<time>\d{2}:\d{2}(:\d{2}([.]\d{1,6})?)?)\s?(?P<offset>Z|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_SLASHED = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})", re.ASCII)
_UNAMBIGUOUS_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y")


def parse_amount(text: str | None, currency: str, *, commas_group: bool = True) -> Decimal:
    """An amount as banks write it: `1,234.50`, `$12`, `-$12`, `(12.00)` and `12.00-` for what is negative.

    `Unreadable` for anything else, a decimal comma among it, and for more decimals than `currency` has. Unless
    `commas_group`, a comma without a decimal point behind it (1,234) has two meanings and is refused.
    """
    if text is None:
        raise Unreadable("bad_amount", "has no amount: a transaction has one")
    match = _AMOUNT.fullmatch(text.replace("\u2212", "-").replace("\u00a0", ""))
    if match is None or bool(match["open"]) != bool(match["close"]):
        raise Unreadable("bad_amount", "is not an amount such as 1234.50, 1,234.50, -12.00, (12.00) or 12.00-")
    signs = [match["before"], match["after"], match["trailing"], match["open"]]
    if len([sign for sign in signs if sign]) > 1:
        raise Unreadable("bad_amount", "has more than one sign")
    if match["dollar"] and currency not in _DOLLARS:
        raise Unreadable("bad_amount", f"is in dollars, and its currency is {currency}")
    fraction = match["fraction"] or ""
    if "," in match["whole"] and not fraction and not commas_group:
        raise Unreadable("ambiguous_amount", "has a comma that could be a decimal point: write 1234.00")
    if len(fraction) - 1 > exponent(currency):
        raise Unreadable("amount_too_fine", f"has more decimals than {currency} has ({exponent(currency)})")
    amount = Decimal(match["whole"].replace(",", "") + fraction)
    return -amount if any(sign in ("-", "(") for sign in signs) else amount


def parse_date(text: str, zone: ZoneInfo, date_format: str | None = None) -> date:
    """A date that has one meaning only; a moment with an offset is the business day that it falls on in `zone`.

    With `date_format` (as `strptime` takes it) dates have that format, and no other is tried. `Unreadable` for
    anything else: 01/02/2026 is two days, and two digits are no year.
    """
    if iso := _ISO_TIME.fullmatch(text):
        try:
            moment = datetime.fromisoformat(f"{iso['date']}T{iso['time']}{iso['offset'] or ''}")
            return day_of(moment, zone) if moment.tzinfo else moment.date()
        except (ValueError, OverflowError):
            raise Unreadable("bad_date", "is no date that exists") from None
    formats = (date_format,) if date_format else _UNAMBIGUOUS_DATES
    for candidate in formats:
        try:
            return datetime.strptime(text, candidate).date()
        except ValueError:
            continue
    if date_format:
        raise Unreadable("bad_date", f"is not a date in the format {date_format}, as {COLUMNS_SETTING} says")
    if slashed := _SLASHED.fullmatch(text):
        first, second, year = map(int, slashed.groups())
        readings: set[date] = set()
        for month, day in ((first, second), (second, first)):
            try:
                readings.add(date(year, month, day))
            except ValueError:
                continue
        if len(readings) == 1:
            return readings.pop()
        if readings:
            message = f'could be either of two days: write 2026-08-31, or set "date_format" in {COLUMNS_SETTING}'
            raise Unreadable("ambiguous_date", message)
    raise Unreadable("bad_date", "is no date: write it as 2026-08-31")
