"""Amounts in cells: what people saw, exact to the microdollar, or refused."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finance_os.sources.xlsx.amounts import LARGEST, Amount, Unit, read_amount
from finance_os.sources.xlsx.cells import Cell
from finance_os.sources.xlsx.problems import Unreadable


def numeric(text: str, unit: Unit = Unit.DOLLARS, code: str = "General") -> Amount | None:
    return read_amount(Cell("n", text, 0, False), unit, code)


def written(text: str, unit: Unit = Unit.DOLLARS) -> Amount | None:
    return read_amount(Cell("s", text, 0, False), unit, "General")


def refused(cell: Cell, unit: Unit = Unit.DOLLARS, code: str = "General") -> str:
    """The code with which a cell is refused; its message says what to do."""
    with pytest.raises(Unreadable) as caught:
        read_amount(cell, unit, code)
    assert ": " in caught.value.message
    return caught.value.code


# Numbers


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0", 0),
        ("1234.5", 1_234_500_000),
        ("-0.000001", -1),
        ("1E-6", 1),
        ("1.5E3", 1_500_000_000),
        ("0.30000000000000004", 300_000),  # 0.1+0.2, as Excel saves it
        ("68.400000000000006", 68_400_000),
        ("1234.5599999999999", 1_234_560_000),
        ("81.569999999999993", 81_570_000),
        ("999999999.99999999", 1_000_000_000_000_000),
        ("-1234.5599999999999", -1_234_560_000),
    ],
)
def test_a_number_is_what_people_saw(text: str, micros: int) -> None:
    assert numeric(text) == Amount(micros, False)


@pytest.mark.parametrize(
    ("text", "micros"),
    [("0.3333333333333333", 333_333), ("0.0000005", 0), ("0.0000015", 2), ("0.00000051", 1), ("1E-300", 0)],
)
def test_what_a_formula_left_is_rounded_to_the_microdollar_and_told(text: str, micros: int) -> None:
    assert numeric(text) == Amount(micros, True)
    assert numeric(f"-{text}") == Amount(-micros, True)


@given(st.integers(-(10**15) + 1, 10**15 - 1))
def test_an_amount_of_fifteen_digits_survives_binary(micros: int) -> None:
    dollars = float(Decimal(micros).scaleb(-6))
    for text in (f"{dollars:.17g}", f"{dollars:.16g}", repr(dollars), str(Decimal(micros).scaleb(-6))):
        assert numeric(text) == Amount(micros, False), text
    assert numeric(str(micros), Unit.MICRODOLLARS) == Amount(micros, False)
    assert numeric(f"{float(micros):.17g}", Unit.MICRODOLLARS) == Amount(micros, False)


@example(Decimal("9762804.196697495"))
@given(st.decimals(-(10**11), 10**11, places=9))
def test_nothing_is_off_by_more_than_half_a_microdollar(amount: Decimal) -> None:
    read = numeric(f"{amount:f}")
    assert read is not None
    # Rounding to fifteen digits first moves an amount by half of its fifteenth, at most.
    moved = abs(Decimal(read.micros).scaleb(-6) - amount)
    assert moved <= Decimal("0.0000005") + Decimal(5).scaleb(amount.adjusted() - 15)
    assert read.is_rounded or moved <= Decimal("0.00005")


def test_more_digits_than_a_cell_can_hold() -> None:
    assert refused(Cell("n", "1234567890123456", 0, False), Unit.MICRODOLLARS) == "amount_too_long"
    assert numeric("1234567890123450", Unit.MICRODOLLARS) == Amount(1_234_567_890_123_450, False)
    assert numeric("123456789012345", Unit.MICRODOLLARS) == Amount(123_456_789_012_345, False)


def test_the_unit_is_not_mistaken() -> None:
    for text in ("1234.5", "0.1"):
        assert refused(Cell("n", text, 0, False), Unit.MICRODOLLARS) == "amount_too_fine"
        assert refused(Cell("s", text, 0, False), Unit.MICRODOLLARS) == "amount_too_fine"
    assert refused(Cell("s", "$12", 0, False), Unit.MICRODOLLARS) == "bad_amount"
    assert refused(Cell("n", "1000000000000", 0, False)) == "amount_too_large"
    assert numeric("999999999999") == Amount(LARGEST - 10**6, False)
    for text in ("1E18", "-1E18", "1E999", "9E400"):
        assert refused(Cell("n", text, 0, False), Unit.MICRODOLLARS) == "amount_too_large"


def test_a_number_that_is_shown_as_something_else() -> None:
    for code in ("yyyy-mm-dd", "[$-409]mmm-yy", "h:mm"):
        assert refused(Cell("n", "46082", 0, False), code=code) == "bad_amount"
    assert refused(Cell("n", "0.5", 0, False), code="0.00%") == "bad_amount"
    for code in ("€#,##0.00", "[$€-407]#,##0.00", '"£"#,##0', "#,##0.00 [$EUR]", "#,##0.00\\ ¥", "[$CA$-1009]#,##0"):
        assert refused(Cell("n", "5", 0, False), code=code) == "bad_currency"
    for code in (
        "$#,##0.00", '"$"#,##0.00_);[Red]("$"#,##0.00)', "[$$-409]#,##0.00", "[$USD] #,##0", "#,##0,", "@", "0.00E+00",
        '_("$"* #,##0.00_);_("$"* \\(#,##0.00\\);_("$"* "-"??_);_(@_)', '#,##0 "days"', '0.0"%"', "0\\%",
    ):  # fmt: skip
        assert numeric("5", code=code) == Amount(5_000_000, False)


# Texts


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("$1,234.50", 1_234_500_000),
        ("(1,234.50)", -1_234_500_000),
        ("$(1,234.50)", -1_234_500_000),
        ("($1,234.50)", -1_234_500_000),
        ("-$12", -12_000_000),
        ("$-12", -12_000_000),
        ("12.50-", -12_500_000),
        ("+5", 5_000_000),
        ("−5", -5_000_000),
        (" 1\u00a0234.5 USD ", 1_234_500_000),
        ("US$ 7", 7_000_000),
        ("1,234", 1_234_000_000),
        ("0.125", 125_000),
        ("0.000001", 1),
        ("1234567.8901", 1_234_567_890_100),
    ],
)
def test_amounts_that_are_text(text: str, micros: int) -> None:
    assert written(text) == Amount(micros, False)


@pytest.mark.parametrize("text", ["", "-", " – ", "—", "$ -", "$-", "−", "\u00a0"])
def test_a_dash_is_no_amount(text: str) -> None:
    assert written(text) is None
    assert read_amount(None, Unit.DOLLARS, "General") is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *((text, "ambiguous_amount") for text in ("1.234,50", "12,5", "1.234", "1.234.567", "-1.234,5", "$1,23")),
        *((text, "bad_currency") for text in ("€5", "5 £", "¥1,000")),
        *((text, "bad_amount") for text in (
            "x", "12,34.5O", "1,2345", "--5", "-(5)", "(5", "5)", "5.", ".5", "1e3", "1_000", "NaN", "٣", "n/a", "tbd",
            "#REF!", "5%", "5k", "EUR 5", "()", "$", "9" * 30,
        )),
        ("1.2345678", "amount_too_fine"),
    ],
)  # fmt: skip
def test_texts_that_are_no_amount(text: str, code: str) -> None:
    assert refused(Cell("s", text, 0, False)) == code


@given(st.integers(-(10**14) + 1, 10**14 - 1))
def test_texts_survive_thousands_separators(cents: int) -> None:
    dollars = Decimal(cents).scaleb(-2)
    expected = Amount(cents * 10_000, False)
    assert written(f"{dollars:,.2f}") == expected
    assert written(f"${dollars:,.2f}".replace("$-", "-$")) == expected
    assert written(f"({-dollars:,.2f})" if cents < 0 else f"{dollars:.2f}") == expected


@given(st.text(max_size=30) | st.from_regex(r"[-$(]{0,2}[0-9.,]{1,12}[)-]?", fullmatch=True))
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    for unit in Unit:
        for kind in ("s", "n", "str", "b", "d"):
            try:
                amount = read_amount(Cell(kind, text, 0, False), unit, "General")
            except Unreadable:
                continue
            assert amount is None or abs(amount.micros) < LARGEST


# What is not a number at all


def test_cells_without_an_amount() -> None:
    assert refused(Cell("n", None, 0, True)) == "formula_without_value"
    assert refused(Cell("e", "#REF!", 0, True)) == "error_value"
    assert refused(Cell("b", "1", 0, False)) == "bad_amount"
    assert refused(Cell("d", "2026-03-01", 0, False)) == "bad_amount"
    assert numeric("5") == read_amount(Cell("n", "5", 0, True), Unit.DOLLARS, "General")
