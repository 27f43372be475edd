"""The ZIP archive that a workbook is: what it holds is measured before anything in it is read.

A few kilobytes can stand for gigabytes, and the sizes that an archive declares may be lies, so every part is inflated
once, piece by piece, and counted. The limit of the ratio is Apache POI's:
https://poi.apache.org/apidocs/6.0/org/apache/poi/openxml4j/util/ZipSecureFile.html
"""

import io
import zipfile
import zlib
from copy import copy

from finance_os.sources.xlsx.problems import Unopenable

MAX_PARTS = 2_000
"""Most parts of a workbook. Every sheet, picture and chart is one."""

MAX_INFLATED = 64 * 1024 * 1024
"""Most bytes that all parts are together, inflated: some 200,000 rows of eight cells."""

MAX_RATIO = 100
"""How many times larger than its compressed form a part may be, once it is larger than `GRACE`. Sheets reach 20."""

GRACE = 1024 * 1024

_PIECE = 64 * 1024
_DIRECTORY_ENTRY = b"PK\x01\x02"
_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # OLE, which .xls files and encrypted workbooks are
_SAVE_AS = 'save it in Excel as "Excel Workbook (*.xlsx)"'


def open_archive(data: bytes) -> zipfile.ZipFile:
    """The archive, proved to be a workbook of bearable size. Raises `Unopenable`."""
    _refuse_other_formats(data)
    # The directory is read as a whole, so what it may cost is known before it is: no entry is without its signature.
    if data.count(_DIRECTORY_ENTRY) > MAX_PARTS:
        raise _bomb(f"has more than {MAX_PARTS:,} parts")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError):
        raise _broken() from None
    parts = archive.infolist()
    _check_declared(parts, len(data))
    _refuse_other_packages(archive)
    budget = MAX_INFLATED
    for part in parts:
        budget -= _inflated(archive, part, budget)
    return archive


def _refuse_other_formats(data: bytes) -> None:
    if data.startswith(_COMPOUND_FILE):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise Unopenable("encrypted", "is protected by a password: take the password off, and save it again")
        raise Unopenable("old_format", f"is in the format of Excel 97 to 2003 (.xls): {_SAVE_AS}")
    if not data:
        raise Unopenable("empty_file", "holds nothing: export it again")
    if not data.startswith(b"PK"):
        raise Unopenable("not_a_workbook", f"is no Excel workbook, whatever its name says: {_SAVE_AS}")


def _refuse_other_packages(archive: zipfile.ZipFile) -> None:
    names = set(archive.namelist())
    if "xl/workbook.bin" in names:
        raise Unopenable("binary_workbook", f"is an Excel binary workbook (.xlsb): {_SAVE_AS}")
    if "[Content_Types].xml" not in names:
        raise Unopenable("not_a_workbook", f"is an archive, but no Excel workbook: {_SAVE_AS}")


def _check_declared(parts: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse by what the directory says, which costs nothing."""
    if len({part.filename for part in parts}) != len(parts):
        raise Unopenable("broken_archive", "has two parts of one name: save it again in Excel")
    if sum(part.compress_size for part in parts) > size:
        raise _bomb("says that its parts are larger, compressed, than the whole file")
    for part in parts:
        if part.flag_bits & 0x1:
            raise Unopenable("encrypted", "has parts that are protected by a password: take the password off")
        if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unopenable("broken_archive", "is compressed in a way that Excel does not use: save it again in Excel")
        _check_ratio(part.file_size, part.compress_size)
    if sum(part.file_size for part in parts) > MAX_INFLATED:
        raise _too_large()


def _inflated(archive: zipfile.ZipFile, part: zipfile.ZipInfo, budget: int) -> int:
    """How many bytes a part really has; at most `budget` of them are looked at, and none is kept."""
    unbounded = copy(part)
    unbounded.file_size = budget + 2 * _PIECE  # or it would be read to its declared size only, the rest unseen
    size = 0
    try:
        with archive.open(unbounded) as stream:
            while piece := stream.read(_PIECE):
                size += len(piece)
                _check_ratio(size, part.compress_size)
                if size > budget:
                    raise _too_large()
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError):
        raise _broken() from None
    if size != part.file_size:
        raise _bomb(f"has a part that says it is {part.file_size:,} bytes, and is {size:,}")
    return size


def _check_ratio(inflated: int, compressed: int) -> None:
    if inflated > GRACE and inflated > MAX_RATIO * compressed:
        raise _bomb(f"has a part that inflates to more than {MAX_RATIO} times its size")


def _bomb(what: str) -> Unopenable:
    return Unopenable("archive_bomb", f"{what}, as files do that are made to exhaust memory: save it again in Excel")


def _too_large() -> Unopenable:
    message = (
        f"holds more than {MAX_INFLATED:,} bytes once inflated: split it, and delete formatted rows that are empty"
    )
    return Unopenable("archive_too_large", message)


def _broken() -> Unopenable:
    return Unopenable("broken_archive", "is cut off or damaged: export it, or copy it, again")
