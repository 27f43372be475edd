"""Money: integers of minor units with their currency, or integers of microdollars; exact or refused, never rounded.

How many decimals a currency has is ISO 4217's rule, and each vendor's own where it differs: pass the vendor's table.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

# fmt: off
ISO_EXPONENTS: Mapping[str, int] = {
    "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0, "UGX": 0,
    "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
    "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
    "CLF": 4, "UYW": 4,
}
# fmt: on
"""Decimals of the currencies that do not have two: ISO 4217, list one.
https://www.six-group.com/en/products-services/financial-information/data-standards.html
"""

STRIPE_EXPONENTS: Mapping[str, int] = {**ISO_EXPONENTS, "ISK": 2, "UGX": 2, "MGA": 0}
"""As Stripe's API counts: ISK and UGX keep two decimals for backwards compatibility, MGA has none.
https://docs.stripe.com/currencies#zero-decimal and #special-cases
"""

# fmt: off
WITHOUT_MINOR_UNIT = frozenset((
    "XAG", "XAU", "XBA", "XBB", "XBC", "XBD", "XDR", "XPD", "XPT", "XSU", "XTS", "XUA", "XXX",
))
# fmt: on
"""Codes for which ISO 4217 gives no minor unit: metals, baskets, tests and "no currency"."""

MICRODOLLARS = 6
"""Decimals of a dollar in microdollars."""

_CODE = re.compile(r"[A-Z]{3}")
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")


class NotMoney(ValueError):
    """An amount or a currency that has no exact minor units."""


def currency_code(currency: str) -> str:
    """`currency` in capitals; `NotMoney` unless it is three letters and has a minor unit."""
    code = currency.upper()
    if not _CODE.fullmatch(code):
        raise NotMoney("a currency is three letters, as ISO 4217 has them")
    if code in WITHOUT_MINOR_UNIT:
        raise NotMoney(f"{code} has no minor unit in ISO 4217")
    return code


def exponent(currency: str, exponents: Mapping[str, int] = ISO_EXPONENTS) -> int:
    """Decimals of `currency` (any case): 2 unless `exponents` says otherwise. Raises `NotMoney` as `currency_code`."""
    return exponents.get(currency_code(currency), 2)


def minor_units(amount: Decimal | str, currency: str, exponents: Mapping[str, int] = ISO_EXPONENTS) -> int:
    """`amount` in major units as an integer of minor units: `"12.30"` USD is 1230, `"12"` JPY is 12.

    A `str` is digits with an optional sign and point. Raises `NotMoney` where the amount has more decimals than
    the currency (zeros at its end do not count), or is not a finite number.
    """
    decimals = exponent(currency, exponents)
    return _scaled(amount, decimals, f"{currency_code(currency)} has {decimals} decimals")


def as_decimal(minor: int, currency: str, exponents: Mapping[str, int] = ISO_EXPONENTS) -> Decimal:
    """Minor units as an amount in major units, with all decimals of the currency: 1230 USD is `Decimal("12.30")`."""
    return _shifted(minor, exponent(currency, exponents))


def formatted(minor: int, currency: str, exponents: Mapping[str, int] = ISO_EXPONENTS) -> str:
    """Minor units as people read them: 123450 USD is `"1,234.50 USD"`."""
    return f"{as_decimal(minor, currency, exponents):,f} {currency_code(currency)}"


def microdollars(amount: Decimal | str) -> int:
    """Dollars as an integer of microdollars: `Decimal("0.0125")` is 12,500. Raises `NotMoney` unless it is exact."""
    return _scaled(amount, MICRODOLLARS, f"microdollars have {MICRODOLLARS} decimals")


def dollars(micros: int) -> Decimal:
    """Microdollars as dollars with six decimals: 12,500 is `Decimal("0.012500")`."""
    return _shifted(micros, MICRODOLLARS)


def _scaled(amount: Decimal | str, decimals: int, rule: str) -> int:
    """`amount` x 10^`decimals` by its digits: `Decimal`'s own arithmetic rounds at 28 of them."""
    if isinstance(amount, str):
        if not _PLAIN_NUMBER.fullmatch(amount):
            raise NotMoney("an amount is digits with an optional sign and a decimal point")
        amount = Decimal(amount)
    elif not isinstance(amount, Decimal):
        raise TypeError(f"an amount is a Decimal or a str, not {type(amount).__name__}: a float is not exact")
    sign, digits, power = amount.as_tuple()
    if not isinstance(power, int):
        raise NotMoney(f"{amount} is not an amount")
    whole = int("".join(map(str, digits)))
    shift = power + decimals
    if shift >= 0:
        whole *= 10**shift
    else:
        whole, lost = divmod(whole, 10**-shift)
        if lost:
            raise NotMoney(f"the amount has more decimals: {rule}")
    return -whole if sign else whole


def _shifted(units: int, decimals: int) -> Decimal:
    return Decimal((int(units < 0), tuple(map(int, str(abs(units)))), -decimals))
