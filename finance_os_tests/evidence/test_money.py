"""Money is exact in both directions, or refused."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from finance_os.evidence.money import (
    ISO_EXPONENTS,
    STRIPE_EXPONENTS,
    NotMoney,
    as_decimal,
    dollars,
    exponent,
    formatted,
    microdollars,
    minor_units,
)

currencies = st.sampled_from(["USD", "eur", "JPY", "BHD", "CLF", "ISK"])
whole_numbers = st.integers(min_value=-(10**40), max_value=10**40)


@given(whole_numbers, currencies)
def test_minor_units_survive_the_way_there_and_back(minor: int, currency: str) -> None:
    amount = as_decimal(minor, currency)
    assert minor_units(amount, currency) == minor
    assert minor_units(format(amount, "f"), currency) == minor
    assert amount.as_tuple().exponent == -exponent(currency)


@given(whole_numbers)
def test_microdollars_survive_the_way_there_and_back(micros: int) -> None:
    assert microdollars(dollars(micros)) == micros


@given(whole_numbers, st.integers(min_value=1, max_value=9), currencies)
def test_one_digit_too_many_is_refused(minor: int, digit: int, currency: str) -> None:
    assume(minor)
    too_fine = f"{as_decimal(minor, currency):f}" + ("" if exponent(currency) else ".") + str(digit)
    with pytest.raises(NotMoney, match="more decimals"):
        minor_units(too_fine, currency)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2), currencies)
def test_the_decimal_context_never_matters(amount: Decimal, currency: str) -> None:
    with localcontext() as context:
        context.prec = 3
        if exponent(currency) >= 2:
            assert as_decimal(minor_units(amount, currency), currency) == amount


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("12.30", "USD", 1230),
        ("-0.01", "usd", -1),
        ("-0", "USD", 0),
        ("500", "JPY", 500),
        ("1.234", "KWD", 1234),
        ("1.2345", "CLF", 12345),
        (Decimal("1E+3"), "USD", 100_000),
        (Decimal("12.3000"), "USD", 1230),
        (Decimal("100.00"), "JPY", 100),
    ],
)
def test_minor_units(amount: Decimal | str, currency: str, minor: int) -> None:
    assert minor_units(amount, currency) == minor


def test_a_vendor_counts_in_its_own_way() -> None:
    assert exponent("ISK") == 0
    assert exponent("ISK", STRIPE_EXPONENTS) == 2
    assert exponent("UGX", STRIPE_EXPONENTS) == 2
    assert exponent("MGA") == 2
    assert exponent("MGA", STRIPE_EXPONENTS) == 0
    assert minor_units("5", "ISK", STRIPE_EXPONENTS) == 500
    assert {code for code in STRIPE_EXPONENTS if STRIPE_EXPONENTS[code] != ISO_EXPONENTS.get(code, 2)} == {
        "ISK",
        "UGX",
        "MGA",
    }


@pytest.mark.parametrize("amount", ["", "1,000", "1_000", " 1", "1e3", "NaN", "inf", ".5", "5.", "१२", "$1"])
def test_a_text_that_is_no_number_is_refused(amount: str) -> None:
    with pytest.raises(NotMoney):
        minor_units(amount, "USD")


@pytest.mark.parametrize("amount", [Decimal("NaN"), Decimal("-Infinity"), Decimal("sNaN")])
def test_no_number_is_refused(amount: Decimal) -> None:
    with pytest.raises(NotMoney):
        minor_units(amount, "USD")


@pytest.mark.parametrize("currency", ["", "US", "USDT", "U$D", "XAU", "xxx", "ÄÖÜ"])
def test_a_currency_without_minor_units_is_refused(currency: str) -> None:
    with pytest.raises(NotMoney):
        minor_units("1", currency)


def test_a_float_is_refused() -> None:
    with pytest.raises(TypeError, match="not exact"):
        minor_units(1.5, "USD")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="not exact"):
        microdollars(0.1)  # pyright: ignore[reportArgumentType]


def test_microdollars() -> None:
    assert microdollars(Decimal("0.0125")) == 12_500
    with pytest.raises(NotMoney, match="more decimals"):
        microdollars("0.0000001")


def test_formatting() -> None:
    assert formatted(123_450, "usd") == "1,234.50 USD"
    assert formatted(-5, "BHD") == "-0.005 BHD"
    assert formatted(1_000, "JPY") == "1,000 JPY"
