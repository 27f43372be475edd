"""The rows of a sheet: what each says of a publisher in a month, or why it cannot be read."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from finance_os.sources.xlsx.amounts import Amount, read_amount
from finance_os.sources.xlsx.cells import Cell, Merge, Row
from finance_os.sources.xlsx.columns import AmountColumn, Columns, Table
from finance_os.sources.xlsx.months import FORMS, month_of_date, parse_month
from finance_os.sources.xlsx.problems import Place, Problems, Unreadable
from finance_os.sources.xlsx.publishers import publisher_key, read_publisher
from finance_os.sources.xlsx.totals import Difference, Sums, is_total, is_total_of_month, total_of
from finance_os.sources.xlsx.workbook import Sheet, Workbook, is_date_format

_COMPACT = re.compile(r"[0-9]{6}")

MAX_ROWS = 100_000
"""Most rows of a workbook that are staged."""


@dataclass(slots=True)
class BaselineRow:
    """What one row says of a publisher in a month.

    `amounts` are microdollars by name (`columns.AMOUNTS`), `None` where the row has none or the sheet no such column;
    `raw` is the text of the amount cells by header. `off` is the total over it that is not the sum, if there is one.
    """

    sheet: Sheet
    row: int
    period: str
    key: str
    publisher_id: str | None
    publisher: str | None
    amounts: dict[str, int | None]
    raw: dict[str, str | None]
    off: Difference | None = None


@dataclass
class SheetRows:
    """The rows of one sheet, and what people should know who think that they know the sheet."""

    rows: list[BaselineRow] = field(default_factory=list)
    hidden: int = 0
    remarks: list[int] = field(default_factory=list)
    rounded: int = 0


class RowReader:
    """Reads the rows of one sheet; each cell that cannot be read is a problem, so that a report names them all.

    `limits` are the first days of the first and the last month that a row may be of.
    """

    def __init__(
        self,
        workbook: Workbook,
        sheet: Sheet,
        table: Table,
        merges: Sequence[Merge],
        month: date | None,
        columns: Columns,
        limits: tuple[date, date] | None,
        problems: Problems,
    ) -> None:
        self._workbook = workbook
        self._sheet = sheet
        self._table = table
        self._month = month
        self._columns = columns
        self._limits = limits
        self._problems = problems
        below = [merge for merge in merges if merge.first_row > table.header_row]
        self._labels = {
            column: _Filled(column, below)
            for column in (table.period, table.publisher_id, table.publisher)
            if column is not None
        }
        self._merged_amounts = {amount.column: _Filled(amount.column, below) for amount in table.amounts}
        self._sums = Sums()
        self._section: list[BaselineRow] = []
        self._keys: set[str] = set()

    def read(self, found: SheetRows, already: int) -> None:
        """Read all rows into `found`. `already` is how many rows of the workbook were read before."""
        for row in self._workbook.rows(self._sheet):
            if row.number <= self._table.header_row:
                continue
            before = len(found.rows)
            self._read_row(row, found)
            if row.is_hidden and len(found.rows) > before:
                found.hidden += 1
            if already + len(found.rows) > MAX_ROWS:
                message = f"has the workbook's row number {MAX_ROWS + 1:,}: split it into several workbooks"
                self._problems.add("too_many_rows", message, self._place(row, None))
                return

    def _read_row(self, row: Row, found: SheetRows) -> None:
        labels = {column: filled.cell(row) for column, filled in self._labels.items()}
        amounts = [cell for each in self._table.amounts if (cell := _with_content(row.cells.get(each.column)))]
        if not amounts and not any(_with_content(row.cells.get(column)) for column in labels):
            return
        if self._repeats_header(row):
            return
        before = self._problems.count
        period = _with_content(labels[self._table.period]) if self._table.period is not None else None
        if self._is_totals_row(row, period, labels):
            self._check_total(row, found)
            return
        publisher_id = self._publisher(row, self._table.publisher_id, labels)
        publisher = self._publisher(row, self._table.publisher, labels)
        has_publisher = publisher_id is not None or publisher is not None
        is_known = self._problems.count == before
        if is_known and not amounts and self._is_remark(period is not None, has_publisher):
            found.remarks.append(row.number)
            return
        month = self._period(row, period)
        if self._problems.count == before and not has_publisher:
            message = "has amounts and no publisher: fill it in on every row, and call a sum Total"
            self._refuse(row, "missing_publisher", message, self._table.publisher_id or self._table.publisher)
        elif is_known and has_publisher and publisher_id is None and self._table.publisher_id is not None:
            message = "has no publisher ID, and a name alone would be another publisher: fill it in"
            self._refuse(row, "missing_publisher_id", message, self._table.publisher_id)
        read = {each.name: self._amount(row, each) for each in self._table.amounts}
        if self._month is not None and not amounts:
            message = "names a publisher and no amount: write - where there is none, or take the row out"
            self._refuse(row, "missing_amount", message, self._table.amounts[0].column)
        if self._problems.count > before or month is None:
            return
        key = publisher_key(publisher_id, publisher)
        self._keep(row, month, key, publisher_id, publisher, read, found)

    def _keep(
        self,
        row: Row,
        month: date,
        key: str,
        publisher_id: str | None,
        publisher: str | None,
        read: dict[str, Amount | None],
        found: SheetRows,
    ) -> None:
        baseline = BaselineRow(
            self._sheet,
            row.number,
            f"{month:%Y-%m}",
            key,
            publisher_id,
            publisher,
            {name: None if amount is None else amount.micros for name, amount in read.items()},
            {
                self._table.headers[each.column]: cell.text if (cell := row.cells.get(each.column)) else None
                for each in self._table.amounts
            },
        )
        found.rows.append(baseline)
        found.rounded += sum(amount is not None and amount.is_rounded for amount in read.values())
        self._keys.add(key)
        self._section.append(baseline)
        self._sums.add(baseline.amounts)

    def _place(self, row: Row, column: int | None) -> Place:
        return self._table.place(self._sheet.name, row.number, column)

    def _refuse(self, row: Row, code: str, message: str, column: int | None, value: str | None = None) -> None:
        self._problems.add(code, message, self._place(row, column), value)

    def _repeats_header(self, row: Row) -> bool:
        """Whether the header is there again, as on every printed page."""
        texts = {
            column: " ".join((cell.text or "").split()).casefold()
            for column in self._table.headers
            if (cell := row.cells.get(column)) is not None and cell.kind == "s"
        }
        return len(texts) > 1 and all(
            self._table.headers[column].casefold().endswith(text) and text for column, text in texts.items()
        )

    def _is_totals_row(self, row: Row, period: Cell | None, labels: dict[int, Cell | None]) -> bool:
        """Whether a row is a total: by its label in the month's or the publisher's column, or else in any other."""
        texts = {
            column: cell.text for column, cell in labels.items() if cell is not None and cell.kind == "s" and cell.text
        }
        if any(is_total(text) for text in texts.values()):
            return True
        if self._table.period in texts and total_of(texts[self._table.period]) is not None:
            return True
        for column, text in texts.items():
            what = total_of(text)
            if column == self._table.period or what is None:
                continue
            # "Acorn Total" may be a publisher's name: it is a total if there is no month, or Acorn is a publisher.
            if (self._table.period is not None and period is None) or is_total_of_month(text):
                return True
            if {publisher_key(what, None), publisher_key(None, what)} & self._keys:
                return True
        if any(_with_content(cell) is not None for cell in labels.values()):
            return False
        others = [cell.text for cell in row.cells.values() if cell.kind == "s" and cell.text]
        return any(is_total(text) or total_of(text) is not None for text in others)

    def _is_remark(self, has_period: bool, has_publisher: bool) -> bool:
        """Whether a row without amounts is a heading or a note: it lacks its month or its publisher, too."""
        return self._table.period is not None and not (has_period and has_publisher)

    def _check_total(self, row: Row, found: SheetRows) -> None:
        totals = {each.name: self._amount(row, each) for each in self._table.amounts}
        covered = self._section or [kept for kept in found.rows if kept.sheet is self._sheet]
        differences = self._sums.compare(row.number, {name: each and each.micros for name, each in totals.items()})
        for kept in covered if differences else ():
            kept.off = kept.off or differences[0]
        self._section = []

    def _period(self, row: Row, cell: Cell | None) -> date | None:
        column = self._table.period
        if column is None:
            return self._month
        if cell is None:
            self._refuse(row, "missing_month", "has no month: fill it in on every row, and call a sum Total", column)
            return None
        try:
            month = self._month_in(cell)
        except Unreadable as error:
            self._refuse(row, error.code, error.message, column, cell.text)
            return None
        if self._limits is not None and not self._limits[0] <= month <= self._limits[1]:
            first, last = self._limits
            message = f"does not lie between {first:%Y-%m} and {last:%Y-%m}: correct it"
            self._refuse(row, "month_out_of_range", message, column, cell.text)
            return None
        return month

    def _month_in(self, cell: Cell) -> date:
        if cell.text is None:
            raise Unreadable("formula_without_value", "has a formula whose value was not saved: save it again in Excel")
        if cell.kind == "e":
            raise Unreadable("error_value", "has an error for a value: correct the formula")
        if cell.kind in ("s", "d"):
            return parse_month(cell.text, self._columns.month_format if cell.kind == "s" else None)
        if cell.kind != "n":
            raise Unreadable("bad_month", f"is a truth value, not a month: {FORMS}")
        code = self._workbook.format_of(cell.style)
        if is_date_format(code):
            return month_of_date(self._workbook.day_of(cell.text), code)
        if not _COMPACT.fullmatch(cell.text):
            raise Unreadable("bad_month", f"is a number, not a month: {FORMS}")
        return parse_month(cell.text)

    def _publisher(self, row: Row, column: int | None, labels: dict[int, Cell | None]) -> str | None:
        cell = labels[column] if column is not None else None
        if cell is None:
            return None
        code = self._workbook.format_of(cell.style)
        try:
            return read_publisher(cell, code, cell.kind == "n" and is_date_format(code))
        except Unreadable as error:
            self._refuse(row, error.code, error.message, column)
            return None

    def _amount(self, row: Row, amount: AmountColumn) -> Amount | None:
        cell = row.cells.get(amount.column)
        try:
            if self._merged_amounts[amount.column].covers(row):
                raise Unreadable("merged_amount", "is merged with other cells: unmerge them, and say what each holds")
            code = self._workbook.format_of(cell.style) if cell is not None else "General"
            return read_amount(cell, amount.unit, code)
        except Unreadable as error:
            self._refuse(row, error.code, error.message, amount.column, cell.text if cell is not None else None)
            return None


def _with_content(cell: Cell | None) -> Cell | None:
    """`cell`, unless it holds nothing but blanks."""
    return None if cell is not None and cell.kind == "s" and not (cell.text or "").strip() else cell


class _Filled:
    """A column whose merged cells show their first cell's value on all of their rows. Rows come in order."""

    def __init__(self, column: int, merges: Sequence[Merge]) -> None:
        self._column = column
        self._merges = sorted(merge for merge in merges if merge.first_column <= column <= merge.last_column)
        self._starts = [merge.first_row for merge in self._merges]
        self._shown: tuple[Merge, Cell | None] | None = None

    def covers(self, row: Row) -> bool:
        return self._merge(row) is not None

    def cell(self, row: Row) -> Cell | None:
        """What the column shows in a row."""
        own = row.cells.get(self._column)
        merge = self._merge(row)
        if merge is None or merge.first_column != self._column:
            return own
        if row.number == merge.first_row:
            self._shown = (merge, own)
        return self._shown[1] if self._shown is not None and self._shown[0] == merge else own

    def _merge(self, row: Row) -> Merge | None:
        position = bisect_right(self._starts, row.number) - 1
        if position < 0:
            return None
        merge = self._merges[position]
        return merge if merge.covers(row.number, self._column) else None
