"""The cells of a sheet as the file's XML has them: the text of each value, untouched.

openpyxl gives numbers as binary floats, and in its read-only mode neither merged cells nor hidden rows, nor at once a
formula and its value. So the parts with cells are read here, with expat, in a stream: memory stays flat, and a sheet
that claims a million empty rows costs nothing. A DTD is an error, as the packaging standard demands (ECMA-376 part 2,
M1.18: https://c-rex.net/projects/samples/ooxml/e1/Part2/OOXML_P2_Open_Packaging_Conventions_XML_topic_ID0EPSAG.html).
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import IO, NamedTuple
from xml.parsers import expat

from finance_os.sources.xlsx.problems import Unopenable

MAX_COLUMNS = 256
"""Columns that are looked at, from the first."""

MAX_MERGES = 20_000
"""Most merged ranges of a sheet."""

MAX_TEXT = 32_767
"""Most characters of a cell, which is Excel's own limit."""

LAST_ROW = 1_048_576

_PIECE = 64 * 1024
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main "
_ROW, _CELL, _VALUE, _FORMULA = f"{_MAIN}row", f"{_MAIN}c", f"{_MAIN}v", f"{_MAIN}f"
_TEXT, _SHARED_TEXT, _PHONETIC = f"{_MAIN}t", f"{_MAIN}si", f"{_MAIN}rPh"
_MERGE, _COLUMNS = f"{_MAIN}mergeCell", f"{_MAIN}col"
_REFERENCE = re.compile(r"\$?([A-Z]{1,3})\$?([1-9][0-9]{0,6})", re.ASCII)


class Cell(NamedTuple):
    """A cell with something in it.

    `kind` is `n` number, `s` text, `b` truth value, `e` error or `d` ISO 8601 date. `text` is what the file has for
    the value, `None` for a formula whose value was not saved. `style` is the number of its format.
    """

    kind: str
    text: str | None
    style: int
    is_formula: bool


class Row(NamedTuple):
    """A row with something in it; `cells` by column, counted from 1."""

    number: int
    is_hidden: bool
    cells: dict[int, Cell]


class Merge(NamedTuple):
    """A merged range; what it shows is its first cell's. Rows and columns are counted from 1, both ends included."""

    first_row: int
    last_row: int
    first_column: int
    last_column: int

    def covers(self, row: int, column: int) -> bool:
        return self.first_row <= row <= self.last_row and self.first_column <= column <= self.last_column


@lru_cache(2 * MAX_COLUMNS)
def letters(column: int) -> str:
    """A column as Excel names it: 1 is A, 27 is AA."""
    text = ""
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(65 + rest) + text
    return text


@lru_cache(2 * MAX_COLUMNS)
def _column(name: str) -> int:
    number = 0
    for letter in name:
        number = number * 26 + ord(letter) - 64
    return number


class SheetReader:
    """Reads one sheet once. `merges` and `hidden_columns` (first and last of each range) are whole after `rows`."""

    def __init__(self, strings: list[str]) -> None:
        self.merges: list[Merge] = []
        self.hidden_columns: list[tuple[int, int]] = []
        self._strings = strings
        self._waiting: list[Row] = []
        self._row = 0
        self._column = 0
        self._is_hidden = False
        self._cells: dict[int, Cell] = {}
        self._cell: dict[str, str] | None = None
        self._value: list[str] | None = None
        self._rich: list[str] = []
        self._is_formula = False
        self._into: list[str] | None = None
        self._length = 0
        self._phonetic = 0

    def rows(self, part: IO[bytes]) -> Iterator[Row]:
        """The rows with something in them, in the file's order. Raises `Unopenable` for XML that is none."""
        for _ in _parse(part, self._start, self._end, self._text):
            yield from self._waiting
            self._waiting.clear()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == _CELL:
            self._cell = attributes
            self._value, self._rich, self._is_formula = None, [], False
            reference = attributes.get("r")
            self._column = _split(reference)[1] if reference else self._column + 1
        elif name == _ROW:
            self._row = _row_number(attributes.get("r"), self._row + 1)
            self._column, self._cells = 0, {}
            self._is_hidden = attributes.get("hidden") in ("1", "true")
        elif name == _VALUE:
            self._value = self._into = []
            self._length = 0
        elif name == _FORMULA:
            self._is_formula = True
        elif name == _TEXT and not self._phonetic:
            self._into = self._rich
            self._length = 0
        elif name == _PHONETIC:
            self._phonetic += 1
        elif name == _MERGE:
            self._merge(attributes.get("ref", ""))
        elif name == _COLUMNS and attributes.get("hidden") in ("1", "true"):
            self.hidden_columns.append((_number(attributes.get("min", "")), _number(attributes.get("max", ""))))

    def _end(self, name: str) -> None:
        if name in (_VALUE, _TEXT):
            self._into = None
        elif name == _PHONETIC:
            self._phonetic -= 1
        elif name == _CELL and self._cell is not None:
            if self._column <= MAX_COLUMNS:
                cell = self._finished(self._cell)
                if cell is not None:
                    self._cells[self._column] = cell
            self._cell = None
        elif name == _ROW and self._cells:
            self._waiting.append(Row(self._row, self._is_hidden, self._cells))

    def _text(self, data: str) -> None:
        if self._into is not None:
            self._into.append(data)
            self._length += len(data)
            if self._length > MAX_TEXT:
                raise _broken(f"has a cell of more than {MAX_TEXT:,} characters")

    def _finished(self, attributes: dict[str, str]) -> Cell | None:
        kind = attributes.get("t", "n")
        text = "".join(self._rich) if kind == "inlineStr" else None if self._value is None else "".join(self._value)
        if kind == "s" and text is not None:
            position = _number(text)
            if position >= len(self._strings):
                raise _broken("names a text that it does not have")
            text = self._strings[position]
        if kind in ("s", "str", "inlineStr"):
            kind = "s"  # an empty text is a value, too: the formula ="" was calculated
        elif text is not None and not text.strip():
            text = None
        if text is None and not self._is_formula:
            return None
        return Cell(kind, text, _number(attributes.get("s", "0")), self._is_formula)

    def _merge(self, reference: str) -> None:
        first, _, last = reference.partition(":")
        (first_row, first_column), (last_row, last_column) = _split(first), _split(last or first)
        self.merges.append(Merge(first_row, last_row, first_column, last_column))
        if len(self.merges) > MAX_MERGES:
            raise _broken(f"has more than {MAX_MERGES:,} merged ranges on one sheet")


def read_strings(part: IO[bytes]) -> list[str]:
    """The texts that cells share, without formatting and pronunciation. Raises `Unopenable`."""
    strings: list[str] = []
    pieces: list[str] = []
    collecting = False
    phonetic = 0
    length = 0

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal collecting, phonetic, length
        if name == _SHARED_TEXT:
            pieces.clear()
            length = 0
        elif name == _PHONETIC:
            phonetic += 1
        elif name == _TEXT and not phonetic:
            collecting = True

    def end(name: str) -> None:
        nonlocal collecting, phonetic
        if name == _TEXT:
            collecting = False
        elif name == _PHONETIC:
            phonetic -= 1
        elif name == _SHARED_TEXT:
            strings.append("".join(pieces))

    def text(data: str) -> None:
        nonlocal length
        if collecting:
            pieces.append(data)
            length += len(data)
            if length > MAX_TEXT:
                raise _broken(f"has a text of more than {MAX_TEXT:,} characters")

    for _ in _parse(part, start, end, text):
        pass
    return strings


def _parse(
    part: IO[bytes],
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None],
    text: Callable[[str], None],
) -> Iterator[None]:
    """Parse a part piece by piece; gives control back after each."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = _refuse_dtd
    try:
        while piece := part.read(_PIECE):
            parser.Parse(piece, False)
            yield
        parser.Parse(b"", True)
        yield
    except expat.ExpatError:
        raise _broken("has a part that is not well-formed XML") from None


def _refuse_dtd(*_: object) -> None:
    raise entities_refused()


def entities_refused() -> Unopenable:
    """The refusal of XML with a document type, by which entities are defined."""
    return Unopenable("xml_entities", "defines XML entities, which no Excel workbook does: save it again in Excel")


def _broken(what: str) -> Unopenable:
    return Unopenable("broken_workbook", f"{what}: open it in Excel, and save it again")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise _broken("has a reference that is not a number")
    return int(text)


def _row_number(text: str | None, following: int) -> int:
    number = following if text is None else _number(text)
    if not 1 <= number <= LAST_ROW:
        raise _broken("has a row that no sheet has")
    return number


@lru_cache(1_024)
def _split(reference: str) -> tuple[int, int]:
    """Row and column of a cell reference such as `C14`."""
    match = _REFERENCE.fullmatch(reference)
    if match is None or int(match[2]) > LAST_ROW:
        raise _broken("has a cell reference that is none")
    return int(match[2]), _column(match[1])
