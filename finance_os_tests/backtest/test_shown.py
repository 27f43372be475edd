"""A result as people read it: exact amounts, disagreements first, and nothing that breaks out of its table."""

from datetime import UTC, datetime

from finance_os.backtest import shown
from finance_os.backtest.sign_off import SignOff, Standing
from finance_os_tests.backtest.test_exports import result_of

MICROS = 10**6


def test_rows_that_disagree_come_first() -> None:
    result = result_of(
        {"a": 10 * MICROS, "b": 10 * MICROS}, {"a": 7 * MICROS, "b": 5 * MICROS}, {"a": "Acorn", "b": "Birch"}
    )
    [_, _, first, second] = shown.rows_table(result).splitlines()
    assert first == "| b Birch | over | 10.000000 | 7.000000 | 5.000000 | +2.000000 (+40.0000 %) | – | – | – | – |"
    assert second.startswith("| a Acorn | match | 10.000000 | 7.000000 | 7.000000 | +0.000000 (+0.0000 %) |")


def test_a_long_table_says_how_much_is_left_out() -> None:
    text = shown.rows_table(result_of({f"p{number}": number for number in range(1_234)}))
    assert text.count("\n| p") == shown.MOST_ROWS
    assert text.endswith("1,134 more rows are in the files.")
    assert shown.rows_table(result_of({})) == "*Neither events nor baseline rows.*"


def test_totals_and_classes() -> None:
    result = result_of({"a": 1_234_567_890_123, "b": 1}, {"a": 5})
    assert "| spend | 1,234,567.890124 |" in shown.totals_table(result)
    assert shown.classes_text(result) == "1 over, 1 no_baseline"
    assert shown.classes_text(result_of({})) == "no rows"


def test_a_publisher_stays_in_its_cell() -> None:
    hostile = "a | b\n| c | ![x](http://evil.example) <b> `d`"
    table = shown.rows_table(result_of({hostile: 5, "other": 6}))
    assert len(table.splitlines()) == 4
    [line] = [line for line in table.splitlines() if "evil" in line]
    assert line.replace("\\|", "").count("|") == 11
    assert "<b>" not in line.replace("\\<", "")
    assert shown.in_table("x" * 200) == "x" * 99 + "…"


def test_how_a_month_stands() -> None:
    at = datetime(2026, 4, 2, 8, 30, tzinfo=UTC)
    signed = SignOff(Standing.SIGNED, "a" * 64, "a" * 64, "bob", at, "looked")
    assert shown.sign_off_text(SignOff(Standing.UNSIGNED, "a" * 64)) == "unsigned"
    assert shown.sign_off_text(SignOff(Standing.UNSIGNED, "a" * 64), ("month_not_whole",)) == (
        "unsigned, and cannot be signed: month_not_whole"
    )
    assert shown.sign_off_text(signed) == "signed: bob signed aaaaaaaaaaaa at 2026-04-02 08:30"
    voided = SignOff(Standing.VOIDED, "b" * 64, "a" * 64, "bob", at, "looked")
    assert shown.sign_off_text(voided).endswith("; the evidence gives bbbbbbbbbbbb now")
    lost = SignOff(Standing.VOIDED, None, "a" * 64, "bob", at, "looked", "unsound_heads: look")
    assert shown.sign_off_text(lost).endswith("; unsound_heads: look")
