"""Months as people write them, read only where they mean one month."""

import re
from calendar import monthrange
from datetime import date, datetime

from finance_os.sources.xlsx.problems import Unreadable

_NAMES = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_NUMBERS = {name[:length]: number for number, name in enumerate(_NAMES, start=1) for length in (3, len(name))}
_NUMBERS["sept"] = 9

_SEPARATOR = r"[\s./,_-]+"
_YEAR_FIRST = re.compile(r"(\d{4})\s*[-/._]\s*(\d{1,2})", re.ASCII)
_MONTH_FIRST = re.compile(r"(\d{1,2})\s*[-/._]\s*(\d{4})", re.ASCII)
_COMPACT = re.compile(r"(\d{4})(\d{2})", re.ASCII)
_NAME_FIRST = re.compile(rf"([a-z]{{3,9}})(?:{_SEPARATOR})?(\d{{4}}|'?\d{{2}})", re.ASCII)
_NAME_LAST = re.compile(rf"(\d{{4}})(?:{_SEPARATOR})?([a-z]{{3,9}})\.?", re.ASCII)
_ISO_DAY = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[t ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?", re.ASCII)
_SLASHED_DAY = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})", re.ASCII)
_NAMED_DAYS = ("%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y")
_NO_YEAR = re.compile(r"\d{1,2}[/.-]\d{1,2}|(?:\d{1,2}[\s./-]*)?(?P<name>[a-z]{3,9})", re.ASCII)

LONGEST = 60

FORMS = "write it as 2026-03, or as a date"


def parse_month(text: str, month_format: str | None = None) -> date:
    """The first day of the month that a text means: `2026-03`, `Mar 2026`, `March 2026`, `03/2026`, `Mar-26`, `202603`.

    A day means its month. Two digits after a month's name are a year of this century. With `month_format` (as
    `strptime` takes it) months have that form, and no other is tried. `Unreadable` for everything else: `03/26` is
    a month or a day, and 02/03/2026 is in one month or another.
    """
    text = " ".join(text.split())
    if len(text) > LONGEST:
        raise Unreadable("bad_month", f"is no month: {FORMS}")
    if month_format is not None:
        try:
            return datetime.strptime(text, month_format).date().replace(day=1)
        except ValueError:
            message = f"is not a month in the format {month_format}, as the column map says: correct either"
            raise Unreadable("bad_month", message) from None
    plain = text.casefold()
    for form, year_at, month_at in ((_YEAR_FIRST, 1, 2), (_MONTH_FIRST, 2, 1), (_COMPACT, 1, 2)):
        if match := form.fullmatch(plain):
            return _month(int(match[year_at]), int(match[month_at]))
    if (match := _NAME_FIRST.fullmatch(plain)) and match[1] in _NUMBERS:
        year = match[2].lstrip("'")
        return _month(int(year) if len(year) == 4 else 2000 + int(year), _NUMBERS[match[1]])
    if (match := _NAME_LAST.fullmatch(plain)) and match[2] in _NUMBERS:
        return _month(int(match[1]), _NUMBERS[match[2]])
    if match := _ISO_DAY.fullmatch(plain):
        return _month_of_day(int(match[1]), int(match[2]), int(match[3]))
    if match := _SLASHED_DAY.fullmatch(plain):
        return _month_of_either(int(match[1]), int(match[2]), int(match[3]))
    for form in _NAMED_DAYS:
        try:
            return datetime.strptime(text, form).date().replace(day=1)
        except ValueError:
            continue
    if (match := _NO_YEAR.fullmatch(plain)) and (match["name"] is None or match["name"] in _NUMBERS):
        raise Unreadable("ambiguous_month", f"has no year that is certain: {FORMS}")
    raise Unreadable("bad_month", f"is no month: {FORMS}")


def month_of_date(day: date, format_code: str) -> date:
    """The month of a date cell, which shows by `format_code`. `Unreadable` where it may show another than it holds.

    Excel takes `Mar-26` for the 26th of March of the year in which it is typed, and shows no year then.
    """
    shows_year = "y" in re.sub(r'"[^"]*"|\[[^\]]*\]|\\.', "", format_code).lower()
    if not shows_year and day.day not in (1, monthrange(day.year, day.month)[1]):
        raise Unreadable("ambiguous_month", f"is the date {day}, and its format shows no year: {FORMS}")
    return day.replace(day=1)


def is_month(text: str) -> bool:
    """Whether a text means one month."""
    try:
        parse_month(text)
    except Unreadable:
        return False
    return True


def _month(year: int, month: int) -> date:
    return _month_of_day(year, month, 1)


def _month_of_day(year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day).replace(day=1)
    except ValueError:
        raise Unreadable("bad_month", f"is no date that exists: {FORMS}") from None


def _month_of_either(first: int, second: int, year: int) -> date:
    """Of a day that is written in one of two orders."""
    readings: set[date] = set()
    for month, day in ((first, second), (second, first)):
        try:
            readings.add(date(year, month, day).replace(day=1))
        except ValueError:
            continue
    if len(readings) > 1:
        raise Unreadable("ambiguous_month", f"could be in either of two months: {FORMS}")
    if not readings:
        raise Unreadable("bad_month", f"is no date that exists: {FORMS}")
    return readings.pop()
