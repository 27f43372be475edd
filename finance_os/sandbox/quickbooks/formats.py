"""How QuickBooks Online writes money, dates and moments.

A sandbox company sits in California: moments carry its offset, such as `2026-07-24T10:35:08-07:00`.
Money is counted in hundredths of the currency's major unit, whatever the currency, as QuickBooks shows two decimals.
"""

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from ..currency import EXPONENTS, RATES_PPM

ZONE = ZoneInfo("America/Los_Angeles")
HOME = "USD"
CURRENCIES = {
    "USD": "United States Dollar",
    "EUR": "Euro",
    "JPY": "Japanese Yen",
    "BHD": "Bahraini Dinar",
    "GBP": "British Pound Sterling",
    "CAD": "Canadian Dollar",
}


def stamp(seconds: int) -> str:
    """A moment as in MetaData."""
    return datetime.fromtimestamp(seconds, UTC).astimezone(ZONE).isoformat()


def answer_time(seconds: int) -> str:
    """A moment as in the `time` of an answer, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).astimezone(ZONE).isoformat(timespec="milliseconds")


def moment(text: str) -> float:
    """Seconds of a date or a date-time; without an offset it is meant in the company's zone. ValueError otherwise."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = datetime.combine(date.fromisoformat(text), datetime.min.time())
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=ZONE)).timestamp()


def local_day(seconds: int) -> date:
    """The company's calendar day."""
    return datetime.fromtimestamp(seconds, UTC).astimezone(ZONE).date()


def number(cents: int) -> int | Decimal:
    """Hundredths as a JSON number: 36207 is 362.07, 10000 is 100."""
    return cents // 100 if cents % 100 == 0 else Decimal(cents) / 100


def cents_of(value: int | Decimal) -> int:
    """A JSON number as hundredths; ValueError where it has more than two decimals or is no number."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError(f"{value} is not a number")
    exact = Decimal(value) * 100
    if exact != exact.to_integral_value():
        raise ValueError(f"{value} has more than two decimals")
    return int(exact)


def product(quantity: int | Decimal, price: int | Decimal) -> int:
    """Quantity times price in hundredths, rounded half up, as QuickBooks checks a line."""
    return int((Decimal(quantity) * Decimal(price) * 100).quantize(Decimal(1), ROUND_HALF_UP))


def at_rate(cents: int, rate: Decimal) -> int:
    """Hundredths of a currency in hundredths of the home currency (half even, so that Stripe's figures agree)."""
    return int((cents * rate).quantize(Decimal(1), ROUND_HALF_EVEN))


def from_minor(minor: int, currency: str) -> int:
    """Stripe's minor units as hundredths: 1500 bhd (1.500 dinar) is 150. ValueError where it would be rounded."""
    cents, rest = divmod(minor * 100, 10 ** EXPONENTS[currency.lower()])
    if rest:
        raise ValueError(f"{minor} minor units of {currency} have no exact hundredths")
    return cents


def rate_of(currency: str) -> Decimal | int:
    """US dollars for one unit, as the company's settlement rate has it."""
    if currency == HOME:
        return 1
    return (Decimal(RATES_PPM[currency.lower()]) / 1_000_000).normalize()


def currency_ref(code: str) -> dict[str, Any]:
    return {"value": code, "name": CURRENCIES[code]}
