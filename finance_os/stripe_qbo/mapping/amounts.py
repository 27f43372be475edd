"""Amounts and rates as QuickBooks takes them: decimals of major units, and rates that reproduce Stripe's own figures.

QuickBooks counts in hundredths, whatever the currency. Stripe's three-decimal currencies are charged in multiples of
ten of their smallest unit (https://docs.stripe.com/currencies#three-decimal), so amounts of charges fit; one that does
not is never rounded, but refused.

A foreign payment reaches clearing in the currency of the Stripe balance. Its `ExchangeRate` is therefore such that
QuickBooks comes to the very amount of the balance transaction: Stripe's rate where it does, else the quotient with the
fewest decimals that does, whichever way halves are rounded.
"""

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext

from finance_os.evidence.money import STRIPE_EXPONENTS, as_decimal, exponent
from finance_os.stripe_qbo.mapping.refusals import NotBooked

_CENT = Decimal("0.01")
_FEWEST, _MOST = 6, 18


def qbo_amount(minor: int, currency: str) -> Decimal:
    """Minor units as an amount of QuickBooks. Raises `NotBooked` where it has parts of a hundredth."""
    if exponent(currency, STRIPE_EXPONENTS) > 2 and minor % 10 ** (exponent(currency, STRIPE_EXPONENTS) - 2):
        raise NotBooked("amount_has_more_than_two_decimals", "QuickBooks keeps two decimals and the amount has more.")
    exact = as_decimal(minor, currency, STRIPE_EXPONENTS)
    return exact.quantize(_CENT) if exponent(currency, STRIPE_EXPONENTS) > 2 else exact


def stripe_minor(amount: Decimal, currency: str) -> int:
    """An amount of QuickBooks in Stripe's minor units; hundredths of a yen, which nobody can pay, are left off."""
    return int(amount.scaleb(exponent(currency, STRIPE_EXPONENTS)))


def at_rate(amount: Decimal, rate: Decimal) -> Decimal | None:
    """`amount` at a rate in hundredths; `None` where it depends on how halves are rounded."""
    with localcontext() as context:
        context.prec = 60
        exact = amount * rate
        even, up = exact.quantize(_CENT, ROUND_HALF_EVEN), exact.quantize(_CENT, ROUND_HALF_UP)
    return even if even == up else None


def rate_between(amount: Decimal, home: Decimal, said: Decimal | None) -> Decimal:
    """The rate at which `amount` is `home` to the cent: `said`, if it is that. Raises `NotBooked` where none is."""
    if said is not None and at_rate(amount, said) == home:
        return said
    if amount <= 0 or home <= 0:
        raise NotBooked("no_exchange_rate", "No exchange rate leads from the amount to that of its movement.")
    with localcontext() as context:
        context.prec = 60
        quotient = home / amount
        for decimals in range(_FEWEST, _MOST + 1):
            rate = quotient.quantize(Decimal(1).scaleb(-decimals))
            if at_rate(amount, rate) == home:
                return rate.normalize()
    raise NotBooked("no_exchange_rate", "No exchange rate leads from the amount to that of its movement.")
