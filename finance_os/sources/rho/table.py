"""An export as a table: its text, its delimiter, its header, and its lines of cells."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from finance_os.sources.rho.columns import COLUMNS_SETTING, FIELDS, Columns
from finance_os.sources.rho.problems import Problems

_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Header:
    """A file's headers as they stand there, the position of each field, and the delimiter."""

    names: tuple[str, ...]
    positions: Mapping[str, int]
    delimiter: str

    def known_name(self, position: int) -> str | None:
        """The header at `position`, if a field is read from it. Other headers may be anything, and are not shown."""
        return self.names[position] if position in self.positions.values() else None


def decoded(data: bytes, problems: Problems) -> str | None:
    """The text of a file in UTF-8, without its byte order mark."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.add("not_utf8", "is UTF-16 from its first byte on: save it as CSV in UTF-8", 1)
        return None
    nul = data.find(b"\0")
    if nul >= 0:
        message = f"byte {nul + 1:,} of the file is NUL, which no text has: save it as CSV in UTF-8"
        problems.add("not_text", message, _line_of(data, nul))
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        message = f"byte {start + 1:,} of the file (0x{data[start]:02x}) is not UTF-8: save it as CSV in UTF-8"
        problems.add("not_utf8", message, _line_of(data, start))
        return None


def _line_of(data: bytes, position: int) -> int:
    before = data[:position]
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


def lines_of(text: str, delimiter: str, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """Records with the line that each begins on, empty ones left out; ends at the first that is no CSV."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:  # its message names characters and limits, never contents
        message = f"cannot be read as CSV ({error}): a quote is probably missing or too many; nothing after it was read"
        problems.add("broken_csv", message, line)


def find_delimiter(text: str, columns: Columns) -> str:
    """The delimiter that gives the first line the most headers that are known; a comma if none is."""
    known = {_plain(header) for name in FIELDS for header in columns.headers(name)}

    def recognized(delimiter: str) -> int:
        cells = next(lines_of(text, delimiter, Problems()), (1, []))[1]
        return len(known.intersection(map(_plain, cells)))

    return max(_DELIMITERS, key=recognized)


def _plain(header: str) -> str:
    return re.sub(r"[\s_-]+", " ", header).strip().casefold()


def read_header(cells: list[str], line: int, delimiter: str, columns: Columns, problems: Problems) -> Header | None:
    names = tuple(cell.strip() for cell in cells)
    before = problems.count
    plain: dict[str, int] = {}
    for position, name in enumerate(names):
        if not name:
            problems.add("unnamed_column", f"column {position + 1} has no header: name it, or take it out", line)
        elif (first := plain.setdefault(_plain(name), position)) != position:
            message = f"columns {first + 1} and {position + 1} have the same header: rename one, or take it out"
            problems.add("duplicate_column", message, line)
    positions: dict[str, int] = {}
    for name in FIELDS:
        found = next((plain[_plain(item)] for item in columns.headers(name) if _plain(item) in plain), None)
        if found is not None:
            positions[name] = found
    if "transacted_on" not in positions and "posted_on" not in positions:
        _missing("a date", columns.headers("posted_on") + columns.headers("transacted_on"), line, problems)
    if "amount" not in positions and not {"debit", "credit"} <= set(positions):
        _missing("an amount (or both debit and credit)", columns.headers("amount"), line, problems)
    return Header(names, positions, delimiter) if problems.count == before else None


def _missing(what: str, headers: Sequence[str], line: int, problems: Problems) -> None:
    known = f", or {' or '.join(headers[1:])}" if headers[1:] else ""
    message = f"is missing{known}: {what} is needed; put the header in the first row, or name it in {COLUMNS_SETTING}"
    problems.add("missing_column", message, line, headers[0] if headers else None)
