"""Takes text out of one document: a program of its own, because documents from outside may be hostile.

It is started by `extraction` with nothing in its environment, gets the document on its standard input and a JSON of
bounds as its argument, limits its own memory and processor time, and writes one JSON object. It imports nothing of
Finance OS.
"""

import contextlib
import io
import itertools
import json
import resource
import sys
import zipfile
from typing import Any

import docx
import pypdf

_UNZIPPED_TIMES = 200


class _TooLarge(Exception):
    """More than the bounds allow."""


class _Encrypted(Exception):
    """It cannot be opened without a password."""


class _Joined:
    """Lines of text, counted while they are added."""

    def __init__(self, most: int) -> None:
        self.lines: list[str] = []
        self.left = most

    def add(self, line: str) -> None:
        self.left -= len(line) + 1
        if self.left < -1:
            raise _TooLarge
        self.lines.append(line)


def _pdf(content: bytes, joined: _Joined) -> None:
    """Text layers, page by page. An empty password opens what only its owner's password protects."""
    reader = pypdf.PdfReader(io.BytesIO(content), strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        raise _Encrypted
    for page in reader.pages:
        joined.add(page.extract_text())


def _word(content: bytes, joined: _Joined) -> None:
    """Headers, paragraphs and tables in their order, a row a line with tabs, and footers."""
    if content.startswith(b"\xd0\xcf\x11\xe0"):  # what Word makes of a document with a password
        raise _Encrypted
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(part.file_size for part in archive.infolist()) > max(_UNZIPPED_TIMES * len(content), 1_000_000):
            raise _TooLarge
    document = docx.Document(io.BytesIO(content))
    sections = list(document.sections)
    for section in sections:
        if not section.header.is_linked_to_previous:
            _blocks(section.header, joined)
    _blocks(document, joined)
    for section in sections:
        if not section.footer.is_linked_to_previous:
            _blocks(section.footer, joined)


def _blocks(container: Any, joined: _Joined) -> None:
    for block in container.iter_inner_content():
        if hasattr(block, "rows"):
            for row in block.rows:
                # A merged cell is given once for each column that it spans.
                cells = [next(same) for _, same in itertools.groupby(row.cells, key=lambda cell: cell._tc)]
                joined.add("\t".join(cell.text for cell in cells))
        else:
            joined.add(block.text)


def main() -> None:
    """Bound ourselves, read, write."""
    bounds = json.loads(sys.argv[1])
    memory: int = bounds["memory"]
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (bounds["seconds"], bounds["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    joined = _Joined(bounds["characters"])
    try:
        {"pdf": _pdf, "word": _word}[bounds["kind"]](sys.stdin.buffer.read(), joined)
        answer = json.dumps({"status": "extracted", "text": "\n".join(joined.lines)})
    except _Encrypted:
        answer = json.dumps({"status": "encrypted"})
    except (_TooLarge, MemoryError):
        joined.lines.clear()
        answer = json.dumps({"status": "too_large"})
    except Exception as error:
        answer = json.dumps({"status": "unreadable", "error": type(error).__name__})
    sys.stdout.write(answer)


if __name__ == "__main__":
    main()
