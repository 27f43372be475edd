"""From a document's bytes to its text, or to the reason why it has none, within bounds of size, time and memory.

PDF and Word documents are opened by a child process, which is killed when its time is up.
"""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from finance_os.evidence.extraction import SourceError
from finance_os.sources.google_drive.objects import DOCUMENT_MIME, PDF_MIME, TEXT_MIME, WORD_MIME
from finance_os.sources.google_drive.settings import Limits

Status = Literal["extracted", "no_text", "too_large", "timed_out", "unreadable", "encrypted"]

_CHILD = Path(__file__).with_name("text_child.py")
_KINDS = {PDF_MIME: ("pdf", "pypdf"), WORD_MIME: ("word", "python-docx")}
_CLOCK_TIMES = 4  # by the clock, for each second of processor time: other work may keep the machine busy
_DECODING = "1"  # of `_decoded`: another way of reading bytes as text is another version


@dataclass(frozen=True)
class Extracted:
    """A text with how it was taken. `text` is empty unless `status` is `extracted`."""

    status: Status
    text: str
    library: str
    version: str
    details: tuple[tuple[str, str], ...] = ()

    def payload(self) -> dict[str, Any]:
        return {"status": self.status, "library": self.library, "version": self.version, **dict(self.details)}


def without_text(mime: str, status: Status) -> Extracted:
    """What is recorded of a file whose text was not even tried."""
    return _extracted(mime, status, "")


def extract_text(mime: str, content: bytes, limits: Limits) -> Extracted:
    """The text of a document of kind `mime` (a Google document: of its export as plain text).

    Lines end with LF; characters that PostgreSQL cannot hold (NUL, lone surrogates) become U+FFFD. Raises
    `SourceError`, code `extraction_failed`, where documents cannot be opened at all on this machine.
    """
    if mime in _KINDS:
        return _from_child(mime, content, limits)
    if mime == TEXT_MIME and b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _extracted(mime, "unreadable", "")
    text, charset = _decoded(content)
    details = (("charset", charset),) if mime == TEXT_MIME else ()
    return _judged(mime, text, limits, details)


def _judged(mime: str, text: str, limits: Limits, details: tuple[tuple[str, str], ...] = ()) -> Extracted:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not text.strip():
        return _extracted(mime, "no_text", "", details)
    if len(text) > limits.max_text_characters:
        return _extracted(mime, "too_large", "", details)
    return _extracted(mime, "extracted", text, details)


def _decoded(content: bytes) -> tuple[str, str]:
    """Bytes as text: by their byte order mark, else as UTF-8, else as what Windows wrote before, which fits always."""
    for mark, charset in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return content.decode(charset, "replace"), charset
    for charset in ("utf-8", "windows-1252"):
        try:
            return content.decode(charset), charset
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1"), "latin-1"


def _from_child(mime: str, content: bytes, limits: Limits) -> Extracted:
    bounds = {
        "kind": _KINDS[mime][0],
        "memory": limits.extraction_memory_mb * 1024 * 1024,
        "seconds": limits.extraction_seconds,
        "characters": limits.max_text_characters,
    }
    try:
        child = subprocess.run(  # noqa: S603 (our own program)
            [sys.executable, "-I", str(_CHILD), json.dumps(bounds)],
            input=content,
            capture_output=True,
            timeout=_CLOCK_TIMES * limits.extraction_seconds,
            env={},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _extracted(mime, "timed_out", "")
    if child.returncode:
        return _ended(mime, child.returncode)
    answer = json.loads(child.stdout)
    if answer["status"] == "extracted":
        return _judged(mime, answer["text"], limits)
    details = (("error", answer["error"]),) if "error" in answer else ()
    return _extracted(mime, answer["status"], "", details)


def _ended(mime: str, returncode: int) -> Extracted:
    """What is said of a document that has ended the child itself.

    Raises `SourceError` where it was not the document: the child did not begin (libraries or memory are missing), or
    it was killed from outside.
    """
    if returncode == -signal.SIGXCPU:
        return _extracted(mime, "timed_out", "")
    if returncode in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL):
        return _extracted(mime, "unreadable", "", (("error", signal.Signals(-returncode).name),))
    raise SourceError("extraction_failed", f"the program that takes text from documents ended with {returncode}")


def _extracted(mime: str, status: Status, text: str, details: tuple[tuple[str, str], ...] = ()) -> Extracted:
    if mime == DOCUMENT_MIME:
        return Extracted(status, text, "drive-export", "v3", details)
    if mime == TEXT_MIME:
        return Extracted(status, text, "text", _DECODING, details)
    library = _KINDS[mime][1]
    return Extracted(status, text, library, version(library), details)
