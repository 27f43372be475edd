"""A whole workbook as a baseline: its sheets in their order, their rows, and what is odd about them."""

from dataclasses import dataclass
from datetime import date

from finance_os.sources.xlsx.cells import Merge, Row
from finance_os.sources.xlsx.columns import COLUMNS_SETTING, HEADER_ROWS, Columns, Table, find_table, has_fields
from finance_os.sources.xlsx.months import parse_month
from finance_os.sources.xlsx.problems import Place, Problems, Unopenable, Unreadable
from finance_os.sources.xlsx.rows import BaselineRow, RowReader, SheetRows
from finance_os.sources.xlsx.workbook import Sheet, Workbook, open_workbook


@dataclass(frozen=True)
class Baseline:
    """The rows of a workbook in the order of its sheets, and what people should know who think that they know it.

    `notices` are sentences that name sheets by their number: their names may be personal data.
    """

    rows: list[BaselineRow]
    notices: list[str]


def read_baseline(
    data: bytes, columns: Columns, problems: Problems, limits: tuple[date, date] | None = None
) -> Baseline:
    """All rows of a workbook's visible sheets; what cannot be read becomes a problem instead.

    `limits` are the first days of the first and the last month that a row may be of.
    """
    baseline = Baseline([], [])
    try:
        workbook = open_workbook(data)
        if workbook.has_macros:
            baseline.notices.append("The workbook has macros; they were neither read nor run.")
        if hidden := [sheet for sheet in workbook.sheets if sheet.is_hidden]:
            baseline.notices.append(f"{_sheets(hidden)} hidden and not read.")
        _read_sheets(workbook, columns, baseline, problems, limits)
    except Unopenable as error:
        problems.add(error.code, error.message)
    return baseline


def _read_sheets(
    workbook: Workbook, columns: Columns, baseline: Baseline, problems: Problems, limits: tuple[date, date] | None
) -> None:
    before = problems.count
    others: list[Sheet] = []
    tables = 0
    for sheet in workbook.sheets:
        if sheet.is_hidden:
            continue
        first_rows, merges, hidden_columns = _outline(workbook, sheet)
        sheet_problems = problems.count
        table = find_table(first_rows, merges, columns, sheet.name, problems)
        if table is None:
            if problems.count == sheet_problems and has_fields(first_rows, columns):
                _missing(columns, sheet, problems, "accrual", "cash", "deposit")
            elif problems.count == sheet_problems and first_rows:
                others.append(sheet)
            continue
        tables += 1
        month = None
        if table.period is None:
            month = _month_of_name(sheet, columns, problems, limits, table.header_row)
            if month is None:
                continue
        found = SheetRows()
        RowReader(workbook, sheet, table, merges, month, columns, limits, problems).read(found, len(baseline.rows))
        baseline.rows.extend(found.rows)
        baseline.notices.extend(_said_of(sheet, found, table, hidden_columns))
    if others:
        baseline.notices.append(f"{_sheets(others)} without baseline columns and not read.")
    if problems.count == before and not tables:
        message = (
            "has no visible sheet with a baseline: a header with a publisher, a month and an amount is needed; "
            f"name unusual headers in {COLUMNS_SETTING}"
        )
        problems.add("no_baseline", message)
    elif problems.count == before and not baseline.rows:
        problems.add("no_rows", "has a header and no row below it: export it again")


def _outline(workbook: Workbook, sheet: Sheet) -> tuple[list[Row], list[Merge], list[tuple[int, int]]]:
    """The first rows of a sheet, its merged ranges (which the file has after the rows), and its hidden columns."""
    first: list[Row] = []
    reader = workbook.reader()
    for row in workbook.rows(sheet, reader):
        if len(first) < HEADER_ROWS:
            first.append(row)
    return first, reader.merges, reader.hidden_columns


def _month_of_name(
    sheet: Sheet, columns: Columns, problems: Problems, limits: tuple[date, date] | None, header_row: int
) -> date | None:
    """The month that a sheet is named after."""
    headers = columns.headers("period")
    place = Place(sheet.name, header_row, None, headers[0] if headers else None)
    try:
        month = parse_month(sheet.name)
    except Unreadable:
        message = (
            f"has no column for the month ({' or '.join(headers)}), and the sheet's name is none: add the column, name "
            f"it in {COLUMNS_SETTING}, or name the sheet after its month, such as Mar 2026"
        )
        problems.add("missing_column", message, place)
        return None
    if limits is not None and not limits[0] <= month <= limits[1]:
        message = f"is named after a month that does not lie between {limits[0]:%Y-%m} and {limits[1]:%Y-%m}"
        problems.add("month_out_of_range", message, Place(sheet.name))
        return None
    return month


def _missing(columns: Columns, sheet: Sheet, problems: Problems, *names: str) -> None:
    expected = [header for name in names for header in columns.headers(name)[:1]]
    message = (
        f"has publishers and months and no amounts ({' or '.join(expected)}, or in microdollars): add them, or name "
        f"them in {COLUMNS_SETTING}; hide the sheet if it is not to be read"
    )
    problems.add("missing_column", message, Place(sheet.name, None, None, expected[0] if expected else None))


def _said_of(sheet: Sheet, found: SheetRows, table: Table, hidden_columns: list[tuple[int, int]]) -> list[str]:
    said: list[str] = []
    if found.hidden:
        said.append(
            f"Sheet {sheet.number} has {found.hidden} hidden row(s) with a baseline; they were read like others."
        )
    if any(first <= column <= last for column in table.headers for first, last in hidden_columns):
        said.append(f"Sheet {sheet.number} has hidden columns with a baseline; they were read like others.")
    if found.remarks:
        said.append(
            f"Sheet {sheet.number} has {len(found.remarks)} row(s) without month or publisher and without amounts, "
            f"not read: {_numbers(found.remarks)}."
        )
    if found.rounded:
        said.append(
            f"Sheet {sheet.number} has {found.rounded} amount(s) finer than a microdollar; they were rounded to it."
        )
    return said


def _sheets(sheets: list[Sheet]) -> str:
    numbers = [sheet.number for sheet in sheets]
    return f"Sheet {numbers[0]} is" if len(numbers) == 1 else f"Sheets {_numbers(numbers)} are"


def _numbers(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10} more"
