"""Which columns of a sheet say what: the column map, and the header that it finds.

A header is a row, or two of which the upper one groups the lower (`Baseline` over `Accrual`, `Cash` and `Deposit`).
Whatever stands above it is a title. FINANCE_OS_XLSX_COLUMNS replaces the known headers, field by field:

    {"accrual": "Accrued $", "publisher": ["Partner", "Site"], "month_format": "%m/%y"}
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import msgspec

from finance_os.evidence.extraction import SourceError
from finance_os.sources.xlsx.amounts import Unit
from finance_os.sources.xlsx.cells import MAX_COLUMNS, Merge, Row, letters
from finance_os.sources.xlsx.problems import Place, Problems

COLUMNS_SETTING = "FINANCE_OS_XLSX_COLUMNS"

HEADER_ROWS = 60
"""How many rows with something in them are searched for the header, from the top of a sheet."""

AMOUNTS = ("accrual", "cash", "deposit")

Headers = str | tuple[str, ...]


def _dollars(name: str) -> Headers:
    return (f"baseline_{name}", f"baseline_{name}_usd", f"baseline_{name} ($)", f"baseline_{name}_dollars")


def _microdollars(name: str) -> Headers:
    units = ("microdollars", "micros", "usd_micros", "micro_usd", "microusd")
    return tuple(f"baseline_{name}_{unit}" for unit in units)


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which headers a field is read from, the first that a sheet has; an empty list turns a field off.

    Headers are compared without case, blanks, `_`, `-` and brackets. `month_format` is a `strptime` format for every
    month that is text; without it only months that have one meaning are read.
    """

    period: Headers = (
        "Period", "Month", "Period Month", "Baseline Period", "Baseline Month", "Accounting Period",
        "Accounting Month", "Report Month",
    )  # fmt: skip
    publisher_id: Headers = ("Publisher ID", "Pub ID", "Publisher Key", "Publisher Code")
    publisher: Headers = ("Publisher", "Publisher Name", "Pub Name")
    accrual: Headers = _dollars("accrual")
    cash: Headers = _dollars("cash")
    deposit: Headers = _dollars("deposit")
    accrual_microdollars: Headers = _microdollars("accrual")
    cash_microdollars: Headers = _microdollars("cash")
    deposit_microdollars: Headers = _microdollars("deposit")
    month_format: str | None = None

    @classmethod
    def read(cls, text: str | None) -> "Columns":
        """The column map in the setting; `SourceError` (`setting_invalid`) if it is not one."""
        try:
            columns = msgspec.json.decode(text, type=cls) if text else cls()
            if columns.month_format and not _is_month_format(columns.month_format):
                raise ValueError("month_format does not have the year and the month")
        except (msgspec.MsgspecError, ValueError) as error:
            message = f"{COLUMNS_SETTING} is not a column map: {error}"
            raise SourceError("setting_invalid", message, permanent=True) from None
        return columns

    def headers(self, name: str) -> tuple[str, ...]:
        """The headers that field `name` is read from, the best first."""
        headers = getattr(self, name)
        return (headers,) if isinstance(headers, str) else headers


FIELDS = tuple(name for name in Columns.__struct_fields__ if name != "month_format")


@dataclass(frozen=True, slots=True)
class AmountColumn:
    """A column of amounts: which of `AMOUNTS` it is, and what its numbers count."""

    name: str
    column: int
    unit: Unit


@dataclass(frozen=True)
class Table:
    """Where the table of a sheet is: below `header_row`, with each field's column, and headers as they stand there.

    Without `period` every row is of the month that the sheet is named after.
    """

    header_row: int
    period: int | None
    publisher_id: int | None
    publisher: int | None
    amounts: tuple[AmountColumn, ...]
    headers: Mapping[int, str]

    def place(self, sheet: str, row: int, column: int | None) -> Place:
        """Where a cell is, for people."""
        return Place(sheet, row, letters(column), self.headers.get(column)) if column else Place(sheet, row)


def find_table(
    rows: Sequence[Row], merges: Sequence[Merge], columns: Columns, sheet: str, problems: Problems
) -> Table | None:
    """The table whose header is among `rows`; `None` where there is none.

    A header has a publisher and an amount. Adds a problem where only one of the two is there, or a field twice.
    """
    wanted = _wanted(columns)
    without_publisher: Row | None = None
    above: dict[int, str] = {}
    above_number = 0
    for row in rows:
        # As many as do not overlap, at most: what a crafted file has more of would only cost time.
        covering = [merge for merge in merges if merge.first_row <= row.number <= merge.last_row][:MAX_COLUMNS]
        own = _spread(row, covering)
        names = _names(row.number, own, above if above_number == row.number - 1 else {}, covering)
        above, above_number = own, row.number
        fields, doubled = _fields(names, wanted, columns)
        if not any(name in fields or f"{name}_microdollars" in fields for name in AMOUNTS):
            continue
        if "publisher" in fields or "publisher_id" in fields:
            return _table(row, fields, doubled, sheet, problems)
        without_publisher = without_publisher or row
    if without_publisher is not None:
        expected = (*columns.headers("publisher_id"), *columns.headers("publisher"))
        message = (
            f"has amounts and no publisher ({' or '.join(expected)}): add it, or name it in {COLUMNS_SETTING}; "
            "hide the sheet if it is not to be read"
        )
        place = Place(sheet, without_publisher.number, None, expected[0] if expected else None)
        problems.add("missing_column", message, place)
    return None


def has_fields(rows: Sequence[Row], columns: Columns) -> bool:
    """Whether some row has both a month and a publisher for headers: a table that only lacks its amounts."""
    wanted = _wanted(columns)
    for row in rows:
        found = {wanted.get(_plain(cell.text)) for cell in row.cells.values() if cell.kind == "s" and cell.text}
        if "period" in found and found & {"publisher", "publisher_id"}:
            return True
    return False


def _table(
    row: Row, fields: Mapping[str, "_Field"], doubled: Sequence[tuple["_Field", int]], sheet: str, problems: Problems
) -> Table | None:
    before = problems.count
    for field, again in doubled:
        message = f"is the header of columns {letters(field.column)} and {letters(again)}: rename one, or take it out"
        problems.add("duplicate_column", message, Place(sheet, row.number, letters(again), field.header))
    amounts: list[AmountColumn] = []
    for name in AMOUNTS:
        in_dollars, in_micros = fields.get(name), fields.get(f"{name}_microdollars")
        if in_dollars is not None and in_micros is not None:
            message = "is there in dollars and in microdollars: keep one of the two columns"
            place = Place(sheet, row.number, letters(in_micros.column), in_micros.header)
            problems.add("duplicate_column", message, place)
        if in_dollars is not None:
            amounts.append(AmountColumn(name, in_dollars.column, Unit.DOLLARS))
        elif in_micros is not None:
            amounts.append(AmountColumn(name, in_micros.column, Unit.MICRODOLLARS))
    if problems.count > before:
        return None
    at = {name: fields[name].column if name in fields else None for name in ("period", "publisher_id", "publisher")}
    headers = {field.column: field.header for field in fields.values()}
    return Table(row.number, at["period"], at["publisher_id"], at["publisher"], tuple(amounts), headers)


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a field is, and the header as it stands there."""

    column: int
    header: str


def _names(
    row: int, own: Mapping[int, str], above: Mapping[int, str], merges: Sequence[Merge]
) -> dict[int, tuple[str, ...]]:
    """What each column of a header row may be called: by its own cell, or by that with its group's above it.

    A cell that is merged with the one above it bears that one's text.
    """
    names: dict[int, tuple[str, ...]] = {}
    for column in {*own, *above}:
        text, group = own.get(column), above.get(column)
        if text is not None:
            names[column] = (text,) if group is None or group == text else (text, f"{group} {text}")
        elif group is not None and any(merge.covers(row, column) for merge in merges):
            names[column] = (group,)
    return names


def _spread(row: Row, merges: Sequence[Merge]) -> dict[int, str]:
    """The texts of a row by column, each merged one in all of its columns."""
    texts: dict[int, str] = {}
    for column, cell in row.cells.items():
        if cell.kind != "s" or not cell.text or not cell.text.strip():
            continue
        text = " ".join(cell.text.split())
        merge = next((merge for merge in merges if merge.covers(row.number, column)), None)
        last = min(merge.last_column, column + 64) if merge is not None else column
        texts |= dict.fromkeys(range(column, last + 1), text)
    return texts


def _fields(
    names: Mapping[int, tuple[str, ...]], wanted: Mapping[str, str], columns: Columns
) -> tuple[dict[str, _Field], list[tuple[_Field, int]]]:
    """Where each field is, and the fields that another column is named for in the same words, with that column."""
    found: dict[str, dict[str, _Field]] = {}
    doubled: list[tuple[_Field, int]] = []
    for column in sorted(names):
        for text in names[column]:
            if (name := wanted.get(_plain(text))) is not None:
                first = found.setdefault(name, {}).setdefault(_plain(text), _Field(column, text))
                if first.column != column:
                    doubled.append((first, column))
                break
    best = {
        name: next(by_header[plain] for plain in map(_plain, columns.headers(name)) if plain in by_header)
        for name, by_header in found.items()
    }
    return best, doubled


def _wanted(columns: Columns) -> dict[str, str]:
    """Headers as they are compared, each with the field that is read from it: the first, where two fields name it."""
    return {_plain(header): name for name in reversed(FIELDS) for header in columns.headers(name)}


def _plain(header: str) -> str:
    return re.sub(r"[\s_()\[\]-]+", " ", header).strip().casefold()


def _is_month_format(month_format: str) -> bool:
    example = date(2026, 8, 1)
    return datetime.strptime(example.strftime(month_format), month_format).date().replace(day=1) == example
