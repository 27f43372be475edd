"""XLSX: which tables are found in a workbook, what their rows say, and how what cannot be read is told."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape, quoteattr
from zoneinfo import ZoneInfo

import openpyxl
import pytest
from openpyxl.chart import BarChart

from finance_os import settings as settings_module
from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import Accepted, Problem, Quarantined
from finance_os.sources.xlsx import XLSX
from finance_os.sources.xlsx import rows as rows_module
from finance_os.sources.xlsx.baseline import Baseline, read_baseline
from finance_os.sources.xlsx.columns import COLUMNS_SETTING, Columns
from finance_os.sources.xlsx.problems import Problems
from finance_os.sources.xlsx.reading import judge

NEW_YORK = ZoneInfo("America/New_York")
HEADER = ("Period", "Publisher ID", "Publisher", "baseline_accrual", "baseline_cash", "baseline_deposit")
FULL = ("2026-03", "pub_00012", "Acorn Media", 1234.5, 1000, 234.5)
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FINANCE_OS_START_DATE", "2024-01-01")
    settings_module.settings.cache_clear()
    yield
    settings_module.settings.cache_clear()


# Workbooks, written by openpyxl where any will do, and by hand where every character counts


def book(*rows: Sequence[Any], header: Sequence[Any] | None = HEADER, title: str = "Baseline") -> bytes:
    """A workbook of one sheet."""
    return books({title: [*([header] if header else []), *rows]})


def books(
    sheets: Mapping[str, Sequence[Sequence[Any]]], change: Callable[[openpyxl.Workbook], None] | None = None
) -> bytes:
    """A workbook of several sheets, after `change` was made to it."""
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.worksheets[0])
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    if change is not None:
        change(workbook)
    return saved(workbook)


def saved(workbook: openpyxl.Workbook) -> bytes:
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class Raw:
    """A cell as its XML: attributes, and what is in it."""

    attributes: str
    content: str


def number(text: str, style: int = 0) -> Raw:
    """A number as the file's own text."""
    return Raw(f's="{style}"', f"<v>{text}</v>")


def sheet_xml(rows: Sequence[Sequence[Any]], after: str = "", before: str = "") -> str:
    """A sheet: `None` is no cell, a `str` a text, an `int` or a `Decimal` its digits."""
    lines: list[str] = []
    for at, row in enumerate(rows, start=1):
        cells = ""
        for column, value in enumerate(row):
            reference = f'r="{chr(65 + column)}{at}"'
            if isinstance(value, Raw):
                cells += f"<c {reference} {value.attributes}>{value.content}</c>"
            elif isinstance(value, str):
                cells += f'<c {reference} t="inlineStr"><is><t>{escape(value)}</t></is></c>'
            elif value is not None:
                cells += f"<c {reference}><v>{value}</v></c>"
        lines.append(f'<row r="{at}">{cells}</row>')
    return f'<worksheet xmlns="{MAIN}">{before}<sheetData>{"".join(lines)}</sheetData>{after}</worksheet>'


def parts(
    *sheets: tuple[str, str],
    formats: Sequence[str] = (),
    properties: str = "",
    strings: str | None = None,
) -> dict[str, bytes]:
    """The parts of a workbook of `sheets` (name and XML); style n has the n-th of `formats`, counted from 1."""
    numbers = range(1, len(sheets) + 1)
    overrides = "".join(
        f'<Override PartName="/xl/{part}" ContentType="{TYPE}.{kind}+xml"/>'
        for part, kind in [
            ("workbook.xml", "sheet.main"),
            ("styles.xml", "styles"),
            *([("sharedStrings.xml", "sharedStrings")] if strings is not None else []),
            *((f"worksheets/sheet{n}.xml", "worksheet") for n in numbers),
        ]
    )
    relations = "".join(
        f'<Relationship Id="rId{n}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for n, (kind, target) in enumerate(
            [
                *(("worksheet", f"worksheets/sheet{n}.xml") for n in numbers),
                ("styles", "styles.xml"),
                *([("sharedStrings", "sharedStrings.xml")] if strings is not None else []),
            ],
            start=1,
        )
    )
    codes = "".join(f'<numFmt numFmtId="{164 + n}" formatCode={quoteattr(c)}/>' for n, c in enumerate(formats))
    styles = "".join(f'<xf numFmtId="{164 + n}"/>' for n in range(len(formats)))
    tabs = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{n}" r:id="rId{n}"/>'
        for n, (name, _) in zip(numbers, sheets, strict=True)
    )
    texts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" '
        f'ContentType="application/xml"/>{overrides}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="rId1" '
        f'Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">{properties}'
        f"<sheets>{tabs}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">{relations}</Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><numFmts>{codes}</numFmts><cellXfs><xf numFmtId="0"/>{styles}'
        "</cellXfs></styleSheet>",
        **({"xl/sharedStrings.xml": strings} if strings is not None else {}),
        **{f"xl/worksheets/sheet{n}.xml": xml for n, (_, xml) in zip(numbers, sheets, strict=True)},
    }
    return {name: text.encode() for name, text in texts.items()}


def archive(contents: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return buffer.getvalue()


def raw_book(*rows: Sequence[Any], header: Sequence[Any] = HEADER, title: str = "Baseline", **more: Any) -> bytes:
    """A workbook of one sheet, by hand."""
    after = more.pop("after", "")
    return archive(parts((title, sheet_xml([header, *rows], after)), **more))


# Reading it


def judged(data: bytes, columns: Mapping[str, object] | None = None) -> Accepted | Quarantined:
    options = {COLUMNS_SETTING: json.dumps(columns)} if columns else {}
    return judge(data, "baseline.xlsx", NEW_YORK, Credentials(options))


def problems(data: bytes, columns: Mapping[str, object] | None = None) -> tuple[Problem, ...]:
    verdict = judged(data, columns)
    assert isinstance(verdict, Quarantined), "the workbook was accepted"
    assert verdict.count >= len(verdict.problems) > 0
    return verdict.problems


def only_problem(data: bytes, columns: Mapping[str, object] | None = None) -> tuple[str, int | None, str | None]:
    """Code, row and column of the one problem; what it says leads to the sheet and tells what to do."""
    found = problems(data, columns)
    assert len(found) == 1, found
    assert (found[0].sheet is not None) or found[0].row is None
    assert ": " in found[0].message.partition(": ")[2] or not found[0].message.startswith("cell ")
    return found[0].code, found[0].row, found[0].column


def baseline(data: bytes, columns: Columns | None = None) -> Baseline:
    found = Problems()
    read = read_baseline(data, columns or Columns(), found)
    assert found.count == 0, found.listed
    return read


def brief(data: bytes, columns: Columns | None = None) -> list[tuple[str, str, dict[str, int | None]]]:
    """Month, publisher and the amounts that are there, of each row."""
    return [(row.period, row.key, row.amounts) for row in baseline(data, columns).rows]


ACORN = ("2026-03", "pub_00012", {"accrual": 1_234_500_000, "cash": 1_000_000_000, "deposit": 234_500_000})


# Tables


def test_a_plain_table() -> None:
    data = book(FULL)
    (row,) = baseline(data).rows
    assert (row.sheet.name, row.sheet.number, row.row) == ("Baseline", 1, 2)
    assert (row.period, row.key, row.publisher_id, row.publisher) == (
        "2026-03", "pub_00012", "pub_00012", "Acorn Media",
    )  # fmt: skip
    assert row.amounts == ACORN[2]
    assert row.raw == {"baseline_accrual": "1234.5", "baseline_cash": "1000", "baseline_deposit": "234.5"}
    today = datetime.now(NEW_YORK).date()
    assert judged(data) == Accepted(1, today, today)


@pytest.mark.parametrize(
    "header",
    [
        ("period", "PUBLISHER_ID", "publisher name", "Baseline Accrual", " BASELINE-CASH ", "baseline deposit"),
        ("Month", "Pub ID", "Publisher", "Baseline accrual ($)", "baseline_cash_usd", "Baseline Deposit (USD)"),
        ("Accounting\nPeriod", "publisher id", "Note", "baseline_accrual", "baseline_cash", "baseline_deposit"),
    ],
)
def test_headers_are_known_by_their_words(header: Sequence[str]) -> None:
    assert brief(book(FULL, header=header)) == [ACORN]


def test_one_amount_is_enough_and_others_are_not_there() -> None:
    data = book(("2026-03", "pub_1", 5), header=("Month", "Publisher", "baseline_cash"))
    assert brief(data) == [("2026-03", "pub_1", {"cash": 5_000_000})]


def test_microdollars() -> None:
    for unit in ("microdollars", "micros", "usd_micros"):
        header = ("Month", "Publisher", f"baseline_accrual_{unit}", "baseline_cash")
        assert brief(book(("2026-03", "pub_1", 1_234_567, 2), header=header)) == [
            ("2026-03", "pub_1", {"accrual": 1_234_567, "cash": 2_000_000})
        ]


def test_a_title_and_a_header_of_merged_cells() -> None:
    def merge(workbook: openpyxl.Workbook) -> None:
        sheet = workbook.worksheets[0]
        for area in ("A1:F1", "A4:A5", "B4:B5", "C4:C5", "D4:F4"):
            sheet.merge_cells(area)

    rows = [
        ["Publisher economics"],
        ["in US dollars"],
        [],
        ["Month", "Publisher ID", "Publisher", "Baseline"],
        [None, None, None, "Accrual", "Cash", "Deposit"],
        FULL,
    ]
    (row,) = baseline(books({"Economics": rows}, merge)).rows
    assert (row.period, row.key, row.amounts, row.row) == (*ACORN, 6)
    assert row.raw == {"Baseline Accrual": "1234.5", "Baseline Cash": "1000", "Baseline Deposit": "234.5"}


def test_a_group_reaches_only_as_far_as_its_merged_cell() -> None:
    rows = [["Month", "Publisher", "Baseline"], [None, None, "Accrual", "Cash"], ["2026-03", "pub_1", 1, 2]]

    def merge(workbook: openpyxl.Workbook) -> None:
        for area in ("A1:A2", "B1:B2"):
            workbook.worksheets[0].merge_cells(area)

    assert brief(books({"x": rows}, merge)) == [("2026-03", "pub_1", {"accrual": 1_000_000})]


def test_a_month_or_a_publisher_that_is_merged_over_its_rows() -> None:
    rows = [HEADER[:4], ["2026-03", "pub_1", "A", 1], [None, "pub_2", "B", 2], ["2026-04", "pub_1", "A", 3]]

    def merge(workbook: openpyxl.Workbook) -> None:
        workbook.worksheets[0].merge_cells("A2:A3")

    assert [row[:2] for row in brief(books({"x": rows}, merge))] == [
        ("2026-03", "pub_1"), ("2026-03", "pub_2"), ("2026-04", "pub_1"),
    ]  # fmt: skip
    assert only_problem(books({"x": rows})) == ("missing_month", 3, "Period")


def test_amounts_that_are_merged_are_nobodys() -> None:
    rows = [HEADER[:4], ["2026-03", "pub_1", "A", 1], ["2026-03", "pub_2", "B", None]]

    def merge(workbook: openpyxl.Workbook) -> None:
        workbook.worksheets[0].merge_cells("D2:D3")

    assert [(p.code, p.row, p.column) for p in problems(books({"x": rows}, merge))] == [
        ("merged_amount", 2, "baseline_accrual"), ("merged_amount", 3, "baseline_accrual"),
    ]  # fmt: skip


def test_a_sheet_a_month() -> None:
    header = HEADER[1:]
    data = books({"Mar 2026": [header, FULL[1:]], "2026-04": [header, FULL[1:]], "May-26": [header, FULL[1:]]})
    assert [row[0] for row in brief(data)] == ["2026-03", "2026-04", "2026-05"]
    (problem,) = problems(books({"First quarter": [header, FULL[1:]]}))
    assert (problem.code, problem.row, problem.column) == ("missing_column", 1, "Period")
    assert (problem.sheet, problem.message[:6]) == ("First quarter", "has no")
    assert "Mar 2026" in problem.message
    assert only_problem(books({"Mar 1926": [header, FULL[1:]]})) == ("month_out_of_range", None, None)


def test_a_column_for_the_month_is_believed_rather_than_the_sheets_name() -> None:
    assert brief(book(FULL, title="Apr 2026")) == [ACORN]


def test_hidden_sheets_are_not_read_and_it_is_said() -> None:
    def hide(workbook: openpyxl.Workbook) -> None:
        workbook["Draft"].sheet_state = "hidden"
        workbook["Old"].sheet_state = "veryHidden"

    broken = ("soon", None, None, "many", None, None)
    read = baseline(books({"Draft": [HEADER, broken], "Now": [HEADER, FULL], "Old": [HEADER, broken]}, hide))
    assert [row.sheet.number for row in read.rows] == [2]
    assert read.notices == ["Sheets 1, 3 are hidden and not read."]
    everything = books({"Draft": [HEADER, FULL], "Old": [], "Empty": []}, hide)
    assert only_problem(everything) == ("no_baseline", None, None)


def test_hidden_rows_and_columns_are_read_and_it_is_said() -> None:
    def hide(workbook: openpyxl.Workbook) -> None:
        sheet = workbook.worksheets[0]
        sheet.row_dimensions[3].hidden = True
        sheet.row_dimensions[4].hidden = True
        sheet.column_dimensions["D"].hidden = True

    rows = [HEADER, FULL, ("2026-04", *FULL[1:]), (), ("2026-05", *FULL[1:])]
    read = baseline(books({"Ann Lee's sheet": rows}, hide))
    assert [row.period for row in read.rows] == ["2026-03", "2026-04", "2026-05"]
    assert read.notices == [
        "Sheet 1 has 1 hidden row(s) with a baseline; they were read like others.",
        "Sheet 1 has hidden columns with a baseline; they were read like others.",
    ]


def test_other_sheets_are_left_alone_and_it_is_said() -> None:
    def add_chart(workbook: openpyxl.Workbook) -> None:
        workbook.create_chartsheet("Chart").add_chart(BarChart())

    read = baseline(books({"Read me": [["How to use this"]], "Data": [HEADER, FULL], "Empty": []}, add_chart))
    assert len(read.rows) == 1
    assert read.notices == ["Sheet 1 is without baseline columns and not read."]


def test_a_sheet_that_lacks_one_column_is_refused_not_left_out() -> None:
    sheets: dict[str, list[Sequence[Any]]] = {"Data": [HEADER, FULL]}
    amounts_only = {**sheets, "Summary": [("Month", "baseline_accrual"), ("2026-03", 5)]}
    (problem,) = problems(books(amounts_only))
    assert (problem.code, problem.row, problem.column) == ("missing_column", 1, "Publisher ID")
    assert problem.sheet == "Summary"
    assert problem.message.startswith("has amounts and no publisher")
    assert "hide the sheet" in problem.message
    no_amounts = {**sheets, "New": [("Month", "Publisher", "Accrued"), ("2026-03", "pub_1", 5)]}
    (problem,) = problems(books(no_amounts))
    assert (problem.code, problem.column) == ("missing_column", "baseline_accrual")
    assert COLUMNS_SETTING in problem.message


def test_nothing_to_read() -> None:
    assert only_problem(book(header=("Name", "Address"))) == ("no_baseline", None, None)
    assert only_problem(books({"x": []})) == ("no_baseline", None, None)
    assert only_problem(book()) == ("no_rows", None, None)


def test_the_same_column_twice() -> None:
    code = ("duplicate_column", 1, "baseline_cash")
    assert only_problem(book(FULL, header=(*HEADER[:4], "baseline_cash", "baseline_cash"))) == code
    header = (*HEADER[:4], "baseline_accrual_micros", "baseline_deposit")
    assert only_problem(book(FULL, header=header)) == ("duplicate_column", 1, "baseline_accrual_micros")


def test_blank_rows_repeated_headers_and_remarks() -> None:
    data = book(
        FULL,
        (None,) * 6,
        ("  ", "", None, None, None, None),
        HEADER,
        ("North America",),
        ("2026-04", *FULL[1:]),
        (None, None, None, None, None, None, "checked by hand"),
        ("Source: finance", None, None, None, None, None),
    )
    read = baseline(data)
    assert [(row.period, row.row) for row in read.rows] == [("2026-03", 2), ("2026-04", 7)]
    assert read.notices == ["Sheet 1 has 2 row(s) without month or publisher and without amounts, not read: 6, 9."]


def test_a_row_without_amounts_withdraws_what_was_said() -> None:
    data = book(("2026-03", "pub_1", "A", None, "-", ""))
    assert brief(data) == [("2026-03", "pub_1", {"accrual": None, "cash": None, "deposit": None})]
    # On a sheet that is named after its month it may as well be a heading.
    header = HEADER[1:4]
    assert brief(book(("pub_1", "A", "-"), header=header, title="Mar 2026")) == [
        ("2026-03", "pub_1", {"accrual": None})
    ]
    assert only_problem(book(("pub_1", "A", None), header=header, title="Mar 2026")) == (
        "missing_amount", 2, "baseline_accrual",
    )  # fmt: skip


def test_what_is_missing_in_a_row() -> None:
    assert only_problem(book((None, *FULL[1:]))) == ("missing_month", 2, "Period")
    assert only_problem(book(("2026-03", None, None, 1))) == ("missing_publisher", 2, "Publisher ID")
    assert only_problem(book(("2026-03", None, "Acorn Media", 1))) == ("missing_publisher_id", 2, "Publisher ID")
    assert only_problem(book((None, None, None, 1))) == ("missing_month", 2, "Period")


def test_every_problem_is_listed_and_the_rest_counted() -> None:
    verdict = judged(book(*[("soon", None, None, "many", "few")] * 60))
    assert isinstance(verdict, Quarantined)
    assert verdict.count == 60 * 3
    assert len(verdict.problems) == 100
    assert [(problem.row, problem.column, problem.code) for problem in verdict.problems[:3]] == [
        (2, "Period", "bad_month"), (2, "baseline_accrual", "bad_amount"), (2, "baseline_cash", "bad_amount"),
    ]  # fmt: skip


def test_too_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MAX_ROWS", 3)
    sheets = {"a": [HEADER, *[FULL] * 2], "b": [HEADER, *[FULL] * 3]}
    assert only_problem(books(sheets)) == ("too_many_rows", 3, None)
    assert isinstance(judged(book(*[FULL] * 3)), Accepted)


def test_only_months_and_amounts_are_shown() -> None:
    secret = "canary@example.com"
    for data in (
        book([secret] * 6),
        book(("2026-03", secret * 20, secret, secret)),
        book(FULL, header=(*HEADER[:2], secret, *HEADER[3:5], "baseline_cash")),
        book((None, secret, secret, secret)),
    ):
        for problem in problems(data):
            assert secret not in problem.message
            assert secret not in (problem.column or "")
            assert problem.value is None or problem.column == "Period" or str(problem.column).startswith("baseline_")
    for data in (book((secret, None, None, None)), books({secret: [[secret]], "x": [HEADER, FULL]})):
        found = Problems()
        assert not [notice for notice in read_baseline(data, Columns(), found).notices if secret in notice]


def test_the_column_map_is_a_setting() -> None:
    data = book(("03/26", "Acorn", 5, 7), header=("Booked", "Site", "Earned", "Micro"))
    assert only_problem(data) == ("no_baseline", None, None)
    columns = {
        "period": "Booked", "publisher": ["Gone", "Site"], "accrual": "Earned", "cash_microdollars": "Micro",
        "month_format": "%m/%y",
    }  # fmt: skip
    assert isinstance(judged(data, columns), Accepted)
    ((period, _, amounts),) = brief(data, Columns.read(json.dumps(columns)))
    assert (period, amounts) == ("2026-03", {"accrual": 5_000_000, "cash": 7})
    assert only_problem(book(("Mar 2026", "x1", 5, 7), header=("Booked", "Site", "Earned", "Micro")), columns) == (
        "bad_month", 2, "Booked",
    )  # fmt: skip


@pytest.mark.parametrize(
    "setting", ["{", '{"acrual": "Amount"}', '{"accrual": 5}', '{"month_format": "%d/%m"}', '{"month_format": "%y"}']
)
def test_a_wrong_setting_is_not_the_files_fault(setting: str) -> None:
    with pytest.raises(SourceError) as caught:
        judge(book(FULL), "a.xlsx", NEW_YORK, Credentials({COLUMNS_SETTING: setting}))
    assert caught.value.code == "setting_invalid"


# Publishers


def test_a_publisher_is_one_however_it_is_typed() -> None:
    data = book(("2026-03", " PUB_00012 ", "A", 1), ("2026-04", "pub_00012", "B", 1))
    assert [(row.key, row.publisher_id) for row in baseline(data).rows] == [
        ("pub_00012", "PUB_00012"), ("pub_00012", "pub_00012"),
    ]  # fmt: skip
    header = ("Month", "Publisher", "baseline_cash")
    names = ["Acorn Media", "ACORN  media", "Acorn\u00a0Media", "Acorn Medias", "pub_7"]
    keys = [
        row.key
        for row in baseline(book(*((f"2026-0{n}", name, 1) for n, name in enumerate(names, 1)), header=header)).rows
    ]
    assert len(set(keys[:3])) == 1
    assert len(set(keys)) == 3
    assert keys[-1] == "pub_7"
    assert "acorn" not in "".join(keys)


def test_a_number_is_the_id_that_it_is_shown_as() -> None:
    row = ["2026-03", number("12", 1), "A", 1]
    assert brief(raw_book(row, formats=["00000"]))[0][1] == "00012"
    assert brief(raw_book(row, formats=["#,##0"]))[0][1] == "12"
    for text in ("12.5", "-3", "1E30"):
        assert only_problem(raw_book(["2026-03", number(text), "A", 1])) == ("bad_publisher", 2, "Publisher ID")
    assert only_problem(book(("2026-03", date(2026, 3, 1), "A", 1))) == ("bad_publisher", 2, "Publisher ID")
    assert only_problem(book(("2026-03", True, "A", 1))) == ("bad_publisher", 2, "Publisher ID")
    assert only_problem(book(("2026-03", "x" * 201, "A", 1))) == ("bad_publisher", 2, "Publisher ID")


# Totals


def totals(*rows: Sequence[Any], **more: Any) -> list[tuple[int, str, int, int] | None]:
    """The total that is off, of each row."""
    read = baseline(book(*rows, **more))
    assert all(row.publisher_id in ("pub_1", "pub_2") for row in read.rows), "a total was staged"
    return [row.off and (row.off.row, row.off.name, row.off.total, row.off.summed) for row in read.rows]


ONE, TWO = ("2026-03", "pub_1", "A", 1.25, 2), ("2026-03", "pub_2", "Total Media", 10, None)


@pytest.mark.parametrize(
    "label",
    [
        ("Total",), ("Grand total:",), (None, "TOTAL"), (None, None, "Sub-total"), ("Total March 2026",), ("Sum",),
        ("Mar 2026 Total",), (None, "pub_2 Total"), ("2026-03", "Total"), (None, "Total for everybody"),
    ],
)  # fmt: skip
def test_totals_are_checked_and_not_staged(label: Sequence[str | None]) -> None:
    cells = (*label, *[None] * (3 - len(label)))
    assert totals(ONE, TWO, (*cells, 11.25, 2)) == [None, None]
    off = (4, "accrual", 12_250_000, 11_250_000)
    assert totals(ONE, TWO, (*cells, 12.25, 2)) == [off, off]


def test_totals_are_compared_to_the_cent() -> None:
    assert totals(ONE, ("Total", None, None, 1.2549)) == [None]
    assert totals(ONE, ("Total", None, None, 1.26)) == [(3, "accrual", 1_260_000, 1_250_000)]
    assert totals(ONE, ("Total", None, None, None, "-")) == [None]


def test_subtotals_and_the_grand_total() -> None:
    april = ("2026-04", "pub_1", "A", 5, 5)
    good = [ONE, TWO, ("Total Mar 2026", None, None, 11.25, 2), april, ("Total Apr 2026", None, None, 5, 5)]
    assert totals(*good, ("Grand total", None, None, 16.25, 7)) == [None] * 3
    wrong = (7, "cash", 8_000_000, 7_000_000)
    assert totals(*good, ("Grand total", None, None, 16.25, 8)) == [wrong] * 3
    good[4] = ("Total Apr 2026", None, None, 50, 5)
    assert totals(*good, ("Grand total", None, None, 16.25, 7)) == [None, None, (6, "accrual", 50_000_000, 5_000_000)]
    # A row is told of the first of its totals that is off, which is the nearest.
    assert totals(*good, ("Grand total", None, None, 99, 7)) == [
        (7, "accrual", 99_000_000, 16_250_000), (7, "accrual", 99_000_000, 16_250_000),
        (6, "accrual", 50_000_000, 5_000_000),
    ]  # fmt: skip


def test_a_publisher_that_is_called_total_is_a_publisher() -> None:
    header = HEADER[1:5]
    rows = [("pub_1", "A", 1, 2), ("pub_2", "Acorn Total", 3, 4), ("Total", None, 4, 6)]
    assert totals(*rows, header=header, title="Mar 2026") == [None, None]
    assert totals(ONE, ("2026-03", "pub_2", "Total Eclipse", 4, 0)) == [None, None]


def test_a_total_may_be_labelled_in_a_column_that_is_not_read() -> None:
    assert totals(ONE, (None, None, None, 9, None, None, "Total")) == [(3, "accrual", 9_000_000, 1_250_000)]
    assert only_problem(book(ONE, (None, None, None, 9, None, None, "what is this"))) == ("missing_month", 3, "Period")


# The source


def test_what_the_source_says_of_itself() -> None:
    assert (XLSX.system, XLSX.title, XLSX.order, XLSX.sla.days) == ("xlsx", "XLSX publisher baseline", None, 30)
    assert [obj.object_type for obj in XLSX] == ["publisher_month_baseline"]
    assert "Spreadsheet rows explain historical variance but do not replace event-level spend." in XLSX.description
    assert XLSX.credentials == ()
    fields = {column.name for column in XLSX.objects[0].columns}
    assert set(XLSX.objects[0].shown) < fields
    assert not {"publisher", "publisher_id", "raw", "sheet"} & set(XLSX.objects[0].shown)


def test_importing_it_brings_no_reader_of_workbooks() -> None:
    code = "import sys, finance_os.sources.xlsx; print({'openpyxl', 'defusedxml', 'lxml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_decimals_are_as_good_as_floats() -> None:
    data = raw_book(["2026-03", "pub_1", "A", Decimal("0.000001"), number("1E-06"), number("1E+2")])
    assert brief(data)[0][2] == {"accrual": 1, "cash": 1, "deposit": 100_000_000}
