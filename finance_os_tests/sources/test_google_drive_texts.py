"""Text out of documents: what is taken, what is said of those without any, and that hostile ones are held in bounds."""

import io
import json
import time
import zipfile
import zlib
from pathlib import Path

import docx
import pypdf
import pytest

from finance_os.evidence.extraction import SourceError
from finance_os.sandbox.google_drive import documents
from finance_os.sources.google_drive import extraction
from finance_os.sources.google_drive.extraction import Extracted, extract_text
from finance_os.sources.google_drive.objects import DOCUMENT_MIME, PDF_MIME, TEXT_MIME, WORD_MIME
from finance_os.sources.google_drive.settings import Limits

LIMITS = Limits()


def pdf_with(content: bytes) -> bytes:
    """A PDF of one page with a packed content stream."""
    packed = zlib.compress(content, 9)
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F1 3 0 R>>>>/Contents 4 0 R>>"
    stream = b"<</Filter/FlateDecode/Length %d>>\nstream\n%b\nendstream" % (len(packed), packed)
    return documents._pdf_file([b"", b"", font, stream, page], [5])


def locked(content: bytes, user: str, owner: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    writer.encrypt(user, owner, algorithm="AES-256")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def word_with(parts: dict[str, bytes]) -> bytes:
    """A Word document of which some parts are others."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(documents.docx(["x"]))) as source, zipfile.ZipFile(written, "w") as target:
        for name in source.namelist():
            target.writestr(name, parts.get(name, source.read(name)), zipfile.ZIP_DEFLATED)
    return written.getvalue()


def taken(mime: str, content: bytes, limits: Limits = LIMITS) -> tuple[str, str]:
    extracted = extract_text(mime, content, limits)
    return extracted.status, extracted.text


def test_a_pdf_gives_the_text_of_all_its_pages() -> None:
    lines = [f"Clause {number}: (see \\ above) é" for number in range(120)]
    extracted = extract_text(PDF_MIME, documents.pdf(lines), LIMITS)
    assert extracted.status == "extracted"
    assert [line.strip() for line in extracted.text.split("\n") if line.strip()] == lines
    assert extracted.payload() == {"status": "extracted", "library": "pypdf", "version": pypdf.__version__}


def test_a_word_document_gives_headers_paragraphs_tables_and_footers_in_order() -> None:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Head"
    document.sections[0].footer.paragraphs[0].text = "Foot"
    document.add_paragraph("Before")
    table = document.add_table(rows=2, cols=3)
    for row, cells in enumerate((("a", "b", "c"), ("d", "e", "f"))):
        for column, text in enumerate(cells):
            table.rows[row].cells[column].text = text
    table.rows[1].cells[0].merge(table.rows[1].cells[1])
    document.add_paragraph("After")
    written = io.BytesIO()
    document.save(written)
    extracted = extract_text(WORD_MIME, written.getvalue(), LIMITS)
    assert extracted.text == "Head\nBefore\na\tb\tc\nd\ne\tf\nAfter\nFoot"
    assert extracted.library == "python-docx"


@pytest.mark.parametrize(
    ("content", "text", "charset"),
    [
        ("Café €".encode(), "Café €", "utf-8"),
        (b"\xef\xbb\xbf" + "Café".encode(), "Café", "utf-8-sig"),
        ("Café".encode("utf-16"), "Café", "utf-16"),
        (b"\xfe\xff" + "Café".encode("utf-16-be"), "Café", "utf-16"),
        ("Café €".encode("cp1252"), "Café €", "windows-1252"),
        (b"Caf\xe9 \x81", "Café \x81", "latin-1"),
        (b"one\r\ntwo\rthree\n", "one\ntwo\nthree\n", "utf-8"),
    ],
)
def test_plain_text_is_read_by_its_own_charset(content: bytes, text: str, charset: str) -> None:
    extracted = extract_text(TEXT_MIME, content, LIMITS)
    assert (extracted.status, extracted.text) == ("extracted", text)
    assert extracted.payload()["charset"] == charset


def test_an_export_loses_its_byte_order_mark_and_carriage_returns() -> None:
    extracted = extract_text(DOCUMENT_MIME, b"\xef\xbb\xbfone\r\ntwo", LIMITS)
    assert extracted == Extracted("extracted", "one\ntwo", "drive-export", "v3")


def test_what_postgresql_cannot_hold_is_replaced() -> None:
    assert taken(DOCUMENT_MIME, b"a\0b") == ("extracted", "a\ufffdb")
    lone = extraction._judged(PDF_MIME, "a\ud800b \U0001f600", LIMITS)
    assert lone.text == "a\ufffdb \U0001f600"


@pytest.mark.parametrize(
    ("mime", "content", "status"),
    [
        (PDF_MIME, documents.scan(), "no_text"),
        (PDF_MIME, locked(documents.pdf(["secret"]), "user", "owner"), "encrypted"),
        (PDF_MIME, documents.pdf(["x"])[:80], "unreadable"),
        (PDF_MIME, b"", "unreadable"),
        (PDF_MIME, b"this is no PDF", "unreadable"),
        (WORD_MIME, documents.docx([" "]), "no_text"),
        (WORD_MIME, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "encrypted"),
        (WORD_MIME, b"this is no archive", "unreadable"),
        (WORD_MIME, word_with({"word/document.xml": b"<no"}), "unreadable"),
        (WORD_MIME, word_with({"word/document.xml": bytes(200_000_000)}), "too_large"),
        (TEXT_MIME, b"", "no_text"),
        (TEXT_MIME, b" \r\n\t", "no_text"),
        (TEXT_MIME, b"GIF89a\0\0", "unreadable"),
        (DOCUMENT_MIME, b"\xef\xbb\xbf", "no_text"),
    ],
)
def test_a_document_without_a_text_says_why(mime: str, content: bytes, status: str) -> None:
    assert taken(mime, content) == (status, "")


def test_an_owners_password_does_not_hide_a_text() -> None:
    assert taken(PDF_MIME, locked(documents.pdf(["open to read"]), "", "owner"))[0] == "extracted"


def test_entities_do_not_read_files_or_grow() -> None:
    hostile = b"""<?xml version="1.0"?><!DOCTYPE w [<!ENTITY f SYSTEM "file:///etc/passwd">]>
    <w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">
    <w:body><w:p><w:r><w:t>secret: &f;</w:t></w:r></w:p></w:body></w:document>"""
    assert "root:" not in extract_text(WORD_MIME, word_with({"word/document.xml": hostile}), LIMITS).text


def test_texts_are_bounded_in_length() -> None:
    limits = Limits(max_text_characters=10)
    for mime, make in (
        (PDF_MIME, lambda text: documents.pdf([text])),
        (WORD_MIME, lambda text: documents.docx([text])),
        (TEXT_MIME, str.encode),
        (DOCUMENT_MIME, str.encode),
    ):
        assert taken(mime, make("0123456789"), limits) == ("extracted", "0123456789")
        assert taken(mime, make("0123456789a"), limits) == ("too_large", "")


def test_a_document_that_keeps_the_library_busy_is_given_up_in_time() -> None:
    endless = pdf_with(b"BT /F1 9 Tf " + b"(a) Tj 1 0 0 1 3 3 Tm " * 1_500_000 + b" ET")
    assert len(endless) < 200_000
    began = time.monotonic()
    assert taken(PDF_MIME, endless, Limits(extraction_seconds=1)) == ("timed_out", "")
    assert time.monotonic() - began < 5


def test_a_child_that_only_waits_is_given_up_by_the_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extraction, "_CHILD", write(tmp_path, "import time; time.sleep(60)"))
    monkeypatch.setattr(extraction, "_CLOCK_TIMES", 0.3)
    assert taken(PDF_MIME, b"", Limits(extraction_seconds=1)) == ("timed_out", "")


def test_a_document_that_eats_memory_is_given_up() -> None:
    bomb = pdf_with(b"BT /F1 9 Tf " + b"(aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa) Tj " * 700_000 + b" ET")
    assert len(bomb) < 200_000
    limits = Limits(extraction_memory_mb=256, max_text_characters=1_000_000_000)
    assert taken(PDF_MIME, bomb, limits) == ("too_large", "")


def test_a_crash_of_the_library_is_the_documents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crash = "import os, signal; signal.signal(signal.SIGSEGV, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(extraction, "_CHILD", write(tmp_path, crash))
    extracted = extract_text(PDF_MIME, b"", LIMITS)
    assert extracted.payload() == {
        "status": "unreadable",
        "library": "pypdf",
        "version": pypdf.__version__,
        "error": "SIGSEGV",
    }


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_what_is_not_the_documents_fault_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    monkeypatch.setattr(extraction, "_CHILD", write(tmp_path, program))
    with pytest.raises(SourceError, match="extraction_failed"):
        extract_text(WORD_MIME, b"", LIMITS)


def test_the_child_inherits_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = (
        "import json, os, sys; json.dump({'status': 'extracted', 'text': json.dumps(dict(os.environ))}, sys.stdout)"
    )
    monkeypatch.setattr(extraction, "_CHILD", write(tmp_path, program))
    monkeypatch.setenv("FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT", "canary")
    seen = json.loads(extract_text(PDF_MIME, b"", LIMITS).text)
    assert not [name for name in seen if name.startswith("FINANCE_OS")]
    assert "canary" not in str(seen)


def write(folder: Path, program: str) -> Path:
    path = folder / "child.py"
    path.write_text(program)
    return path
