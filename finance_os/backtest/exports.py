"""A result as files: a CSV and an XLSX for people with spreadsheets, in which no text becomes a formula.

https://owasp.org/www-community/attacks/CSV_Injection
"""

import csv
import io
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from finance_os.backtest.compare import COLUMNS, Row
from finance_os.backtest.result import Result
from finance_os.evidence.money import dollars

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# What XML 1.0 has no place for (https://www.w3.org/TR/xml/#charsets).
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

_EXACT = 2**53
"""Up to here a spreadsheet's number, which is a double, is the integer that was written."""

_MONEY = "#,##0.000000"
_PERCENT = "0.0000%"


@dataclass(frozen=True)
class Exported:
    """Where a result's files are."""

    csv: Path
    xlsx: Path


def headings() -> list[str]:
    """The columns of both files. Amounts are US dollars with six decimals; `…_microdollars` are whole microdollars."""
    return [
        "month",
        "publisher",
        "name",
        "class",
        "spend",
        "spend_microdollars",
        "impressions",
        "revenue_share_bps",
        "expected",
        *(
            f"{column}_{part}"
            for column in COLUMNS
            for part in ("baseline", "variance", "variance_microdollars", "relative_variance", "class")
        ),
        "baseline_rows",
        "spend_evidence",
    ]


def cells(result: Result, row: Row) -> list[str | int | Decimal | None]:
    """A row in the columns of `headings`, its texts as they are."""
    found: list[str | int | Decimal | None] = [
        str(result.month),
        row.publisher,
        row.name,
        row.verdict.value,
        _dollars(row.spend),
        row.spend,
        row.impressions,
        row.share_bps,
        _dollars(row.expected),
    ]
    for column in COLUMNS:
        each = row.variances[column]
        found += [
            _dollars(each.baseline),
            _dollars(each.absolute),
            each.absolute,
            each.relative,
            each.verdict.value,
        ]
    return [*found, " ".join(one.source_id for one in row.baseline), row.spend_evidence]


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: a text that begins like one gets an apostrophe in front.

    Blanks at its beginning do not hide one: programs that import a CSV may drop them. Numbers stay numbers, negative
    ones too. Control characters, which a workbook cannot hold, become spaces.
    """
    if not isinstance(cell, str):
        return cell
    text = _UNPRINTABLE.sub(" ", cell)
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def as_csv(result: Result) -> bytes:
    """The rows as CSV in UTF-8 with CRLF (RFC 4180)."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(headings())
    for row in result.rows:
        writer.writerow(["" if cell is None else _written(harmless(cell)) for cell in cells(result, row)])
    return text.getvalue().encode()


def as_xlsx(result: Result) -> bytes:
    """The rows as a workbook, with a second sheet that says what they add up to and by which rules."""
    from openpyxl import Workbook
    from openpyxl.styles import Font

    workbook = Workbook()
    sheet: Any = workbook.active
    sheet.title = "Backtest"
    names = headings()
    sheet.append(names)
    for row in result.rows:
        _add(sheet, cells(result, row))
    for number, name in enumerate(names, start=1):
        sheet.cell(1, number).font = Font(bold=True)
        sheet.column_dimensions[sheet.cell(1, number).column_letter].width = max(12, len(name) + 2)
        style = _PERCENT if name.endswith("relative_variance") else _MONEY if name in _DOLLARS else None
        if style is not None:
            for at in range(2, sheet.max_row + 1):
                sheet.cell(at, number).number_format = style
    sheet.freeze_panes = "C2"
    summary: Any = workbook.create_sheet("Summary")
    for line in _summary(result):
        _add(summary, line)
    summary.column_dimensions["A"].width, summary.column_dimensions["B"].width = 36, 70
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def export(result: Result, folder: Path) -> Exported:
    """Write both files below `folder` as `<month>-<result hash>`, each of them whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{result.month}-{result.result_hash}"
    written = Exported(folder / f"{name}.csv", folder / f"{name}.xlsx")
    _write(written.csv, as_csv(result))
    _write(written.xlsx, as_xlsx(result))
    return written


_DOLLARS = frozenset({"spend", "expected", *(f"{c}_{part}" for c in COLUMNS for part in ("baseline", "variance"))})


def _summary(result: Result) -> list[list[Any]]:
    rules = result.rules
    return [
        ["business", result.business_id],
        ["month", str(result.month)],
        ["days", str(result.days)],
        ["result hash", result.result_hash],
        ["compared with the baseline", rules.stated.value],
        ["tolerance, basis points", rules.tolerance_bps],
        ["tolerance, microdollars", rules.tolerance_microdollars],
        *([name, total] for name, total in result.totals.items()),
        *([f"class {name}", count] for name, count in result.classes.items()),
        ["in the way of a sign-off", ", ".join(result.sign_off_blockers) or "nothing"],
    ]


def _add(sheet: Any, line: Sequence[Any]) -> None:
    """Append a row whose texts are texts, whatever they look like. An integer that a double would round is a text."""
    written = [str(cell) if isinstance(cell, int) and abs(cell) > _EXACT else harmless(cell) for cell in line]
    sheet.append(written)
    for at, cell in enumerate(written, start=1):
        if isinstance(cell, str):
            sheet.cell(sheet.max_row, at).data_type = "s"


def _dollars(micros: int | None) -> Decimal | None:
    return None if micros is None else dollars(micros)


def _written(cell: str | int | Decimal) -> str:
    return format(cell, "f") if isinstance(cell, Decimal) else str(cell)


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
