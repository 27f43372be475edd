"""Currencies of the synthetic company: exponents, fixed exchange rates and exact integer conversions.

Amounts are integers: minor units (Stripe's smallest unit) or micros (millionths of the major unit).
Rules: https://docs.stripe.com/currencies#zero-decimal and https://docs.stripe.com/currencies#three-decimal
"""

from decimal import Decimal

EXPONENTS: dict[str, int] = {"usd": 2, "eur": 2, "jpy": 0, "bhd": 3}

# US dollars for one major unit, in millionths: the rate at which the account settles foreign charges.
RATES_PPM: dict[str, int] = {"usd": 1_000_000, "eur": 1_083_400, "jpy": 6_712, "bhd": 2_652_500}


def micros_per_minor(currency: str) -> int:
    """Micros in one minor unit: 10,000 for usd, 1,000,000 for jpy, 1,000 for bhd."""
    return 10 ** (6 - EXPONENTS[currency])


def divide_half_even(numerator: int, denominator: int) -> int:
    """`numerator / denominator` rounded half to even, for a positive denominator."""
    quotient, rest = divmod(numerator, denominator)
    if rest * 2 > denominator or (rest * 2 == denominator and quotient % 2):
        quotient += 1
    return quotient


def to_minor(micros: int, currency: str) -> int:
    """Micros rounded half to even to chargeable minor units (three-decimal amounts end in 0, as Stripe demands)."""
    unit = micros_per_minor(currency)
    if EXPONENTS[currency] == 3:
        return divide_half_even(micros, unit * 10) * 10
    return divide_half_even(micros, unit)


def to_micros(minor: int, currency: str) -> int:
    """Minor units as micros, exactly."""
    return minor * micros_per_minor(currency)


def share(minor: int, numerator: int, denominator: int, currency: str) -> int:
    """A fraction of `minor` that Stripe would accept as an amount of `currency`."""
    return to_minor(to_micros(minor * numerator, currency) // denominator, currency)


def to_usd_cents(minor: int, currency: str) -> int:
    """What `minor` of `currency` settles for in US cents at the fixed rate, rounded half to even."""
    return divide_half_even(minor * RATES_PPM[currency], 10 ** (EXPONENTS[currency] + 4))


def exchange_rate(currency: str) -> Decimal | None:
    """The `exchange_rate` of a balance transaction between minor units; null where nothing was exchanged."""
    if currency == "usd":
        return None
    return (Decimal(RATES_PPM[currency]) / 1_000_000).normalize()
