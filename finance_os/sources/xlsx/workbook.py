"""A workbook that has been opened: its sheets, their cells, and what a cell's format says.

The parts that say what is where are parsed by defusedxml, which refuses entities, and understood by openpyxl; the
cells are `cells`' affair. Links to other workbooks are never followed, and macros are not even read.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zipfile import ZipFile

from finance_os.sources.xlsx.archive import open_archive
from finance_os.sources.xlsx.cells import Row, SheetReader, entities_refused, read_strings
from finance_os.sources.xlsx.problems import Unopenable, Unreadable

MAX_TREE = 8 * 1024 * 1024
"""Most bytes of a part that is held in memory as a tree. Sheets and shared texts are streamed."""

_MAIN_TYPES = (
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml",
    "application/vnd.ms-excel.sheet.macroEnabled.main+xml",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.template.main+xml",
    "application/vnd.ms-excel.template.macroEnabled.main+xml",
)
_MACROS = "application/vnd.ms-office.vbaProject"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
_STRICT = "http://purl.oclc.org/ooxml/"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A worksheet: its place among the tabs, counted from 1, its name, and whether people see it."""

    number: int
    name: str
    is_hidden: bool
    part: str


@dataclass(frozen=True)
class Workbook:
    """`formats` are number formats by a cell's style; `epoch` is the day 0 of its dates; `has_macros` are unread."""

    sheets: tuple[Sheet, ...]
    formats: tuple[str, ...]
    epoch: datetime
    has_macros: bool
    _archive: ZipFile
    _strings: list[str]

    def rows(self, sheet: Sheet, reader: SheetReader | None = None) -> Iterator[Row]:
        """The rows of a sheet that have something in them; `reader` also keeps its merged ranges. Raises `Unopenable`.

        https://learn.microsoft.com/en-us/office/open-xml/spreadsheet/structure-of-a-spreadsheetml-document
        """
        with self._archive.open(sheet.part) as part:
            yield from (reader or self.reader()).rows(part)

    def reader(self) -> SheetReader:
        return SheetReader(self._strings)

    def format_of(self, style: int) -> str:
        """The number format of a style, such as `#,##0.00`; `General` where it has none."""
        return self.formats[style] if style < len(self.formats) else "General"

    def day_of(self, serial: str) -> date:
        """The day of a date's serial number, in the workbook's date system. Raises `Unreadable`."""
        from openpyxl.utils.datetime import from_excel

        try:
            moment = from_excel(float(serial), self.epoch)
        except (ValueError, OverflowError, TypeError):
            moment = None
        if not isinstance(moment, datetime):
            raise Unreadable("bad_month", "is no date that exists: write it as 2026-03, or as a date")
        return moment.date()


def open_workbook(data: bytes) -> Workbook:
    """The workbook in a file's bytes. Raises `Unopenable`, whatever is wrong with it."""
    archive = open_archive(data)
    try:
        return _understood(archive)
    except (Unopenable, MemoryError):
        raise
    except Exception as error:  # whatever a crafted file does to a library that reads it is the file's fault
        from defusedxml.common import DefusedXmlException

        if isinstance(error, DefusedXmlException):
            raise entities_refused() from None
        message = f"cannot be understood ({type(error).__name__}): open it in Excel, and save it again"
        raise Unopenable("broken_workbook", message) from None


def is_date_format(code: str) -> bool:
    """Whether a number format shows a date."""
    from openpyxl.styles.numbers import is_date_format as shows_a_date
    from openpyxl.styles.numbers import is_timedelta_format

    return shows_a_date(code) and not is_timedelta_format(code)


def _understood(archive: ZipFile) -> Workbook:
    from openpyxl.packaging.manifest import Manifest
    from openpyxl.packaging.relationship import RelationshipList, get_rels_path
    from openpyxl.packaging.workbook import WorkbookPackage
    from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900

    manifest: Any = Manifest.from_tree(_tree(archive, "[Content_Types].xml"))
    types = {override.ContentType: override.PartName.lstrip("/") for override in manifest.Override}
    part = next((types[known] for known in _MAIN_TYPES if known in types), "xl/workbook.xml")
    root = _tree(archive, part)
    if root.tag.startswith(f"{{{_STRICT}"):
        message = 'is a "Strict Open XML Spreadsheet": save it in Excel as "Excel Workbook (*.xlsx)"'
        raise Unopenable("strict_workbook", message)
    package: Any = WorkbookPackage.from_tree(root)
    relations: Any = RelationshipList.from_tree(_tree(archive, get_rels_path(part)))
    targets: dict[str, tuple[str, str]] = {
        relation.Id: (relation.Type, posixpath.normpath(posixpath.join("/", posixpath.dirname(part), relation.Target)))
        for relation in relations
        if relation.TargetMode != "External"
    }
    sheets = tuple(
        Sheet(number, sheet.name, sheet.state not in (None, "visible"), targets[sheet.id][1].lstrip("/"))
        for number, sheet in enumerate(package.sheets, start=1)
        if targets.get(sheet.id, ("", ""))[0] == _RELATIONS + "worksheet"
    )
    names = set(archive.namelist())
    if not sheets or any(sheet.part not in names for sheet in sheets):
        raise Unopenable("broken_workbook", "lacks a worksheet that it names: open it in Excel, and save it again")
    is_1904 = package.workbookPr is not None and package.workbookPr.date1904
    return Workbook(
        sheets,
        _formats(archive, _only(targets, "styles")),
        CALENDAR_MAC_1904 if is_1904 else CALENDAR_WINDOWS_1900,
        _MACROS in types or any(default.ContentType == _MACROS for default in manifest.Default),
        archive,
        _strings(archive, _only(targets, "sharedStrings")),
    )


def _only(targets: dict[str, tuple[str, str]], name: str) -> str | None:
    """The part of a kind of which a workbook has one at most."""
    return next((target.lstrip("/") for kind, target in targets.values() if kind == _RELATIONS + name), None)


def _formats(archive: ZipFile, part: str | None) -> tuple[str, ...]:
    from openpyxl.styles.numbers import BUILTIN_FORMATS
    from openpyxl.styles.stylesheet import Stylesheet

    if part is None:
        return ()
    sheet = Stylesheet.from_tree(_tree(archive, part))
    own = sheet.custom_formats
    return tuple(own.get(xf.numFmtId) or BUILTIN_FORMATS.get(xf.numFmtId, "General") for xf in sheet.cellXfs.xf)


def _strings(archive: ZipFile, part: str | None) -> list[str]:
    if part is None:
        return []
    with archive.open(part) as stream:
        return read_strings(stream)


def _tree(archive: ZipFile, part: str) -> Any:
    from defusedxml.ElementTree import fromstring

    try:
        size = archive.getinfo(part).file_size
    except KeyError:
        raise Unopenable("broken_workbook", "lacks a part that it names: open it in Excel, and save it again") from None
    if size > MAX_TREE:
        message = f"has a part of {size:,} bytes that describes it: copy the sheets into a new workbook"
        raise Unopenable("workbook_too_complex", message)
    return fromstring(archive.read(part), forbid_dtd=True)
