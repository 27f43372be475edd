"""Real files with given lines of text: PDF, PDF of a scan, DOCX, PNG. The same lines give the same bytes."""

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

_LINES_A_PAGE = 50


def pdf(lines: Sequence[str]) -> bytes:
    """A PDF with a text layer: Helvetica, 50 lines a page. ISO 32000-1, 9.6.2.2 (standard fonts)."""
    pages = [lines[start : start + _LINES_A_PAGE] for start in range(0, len(lines), _LINES_A_PAGE)] or [[]]
    objects: list[bytes] = [b"", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"]
    kids: list[int] = []
    for page in pages:
        shown = b" T*\n".join(b"(" + _escaped(line) + b") Tj" for line in page)
        objects.append(_stream(b"BT /F1 11 Tf 14 TL 56 790 Td\n" + shown + b"\nET"))
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
            % len(objects)
        )
        kids.append(len(objects))
    return _pdf_file(objects, kids)


def scan(width: int = 64, height: int = 90) -> bytes:
    """A PDF that holds a picture and no text, as scanners write it."""
    rows = b"".join(bytes((x * y) % 251 for x in range(width)) for y in range(height))
    image = _stream(
        rows,
        b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 8" % (width, height),
    )
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</XObject<</Im1 3 0 R>>>>/Contents 4 0 R>>"
    return _pdf_file([b"", b"", image, _stream(b"q 595 0 0 842 0 0 cm /Im1 Do Q"), page], [5])


def docx(lines: Sequence[str], table: Sequence[tuple[str, str]] = ()) -> bytes:
    """A Word document with a paragraph a line, and a table of two columns after them."""
    import docx as library

    document = library.Document()
    for line in lines:
        document.add_paragraph(line)
    if table:
        grid = document.add_table(rows=0, cols=2)
        for left, right in table:
            cells = grid.add_row().cells
            cells[0].text, cells[1].text = left, right
    written = io.BytesIO()
    document.save(written)
    # The library stamps the parts with the present time; the same lines shall give the same bytes.
    stamped = io.BytesIO()
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(stamped, "w", zipfile.ZIP_DEFLATED) as target:
        for part in sorted(source.namelist()):
            target.writestr(zipfile.ZipInfo(part, (1980, 1, 1, 0, 0, 0)), source.read(part), zipfile.ZIP_DEFLATED)
    return stamped.getvalue()


def png() -> bytes:
    """A picture of one grey pixel."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\x00\x80")
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", pixels) + part(b"IEND", b"")


def _escaped(line: str) -> bytes:
    text = line.encode("cp1252", "replace")
    return text.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _stream(body: bytes, entries: bytes = b"") -> bytes:
    return b"<<%b/Length %d>>\nstream\n%b\nendstream" % (entries, len(body), body)


def _pdf_file(objects: list[bytes], kids: list[int]) -> bytes:
    """Number the objects and write the cross-reference table; the first two are the catalogue and the page tree."""
    objects[0] = b"<</Type/Catalog/Pages 2 0 R>>"
    objects[1] = b"<</Type/Pages/Kids[%b]/Count %d>>" % (b" ".join(b"%d 0 R" % kid for kid in kids), len(kids))
    written = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
    places: list[int] = []
    for number, body in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return written + (
        b"xref\n0 %d\n%btrailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
        % (len(objects) + 1, table, len(objects) + 1, len(written))
    )
