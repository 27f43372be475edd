"""The text of one candidate: fetched, proven to be what the file's metadata describes, and taken out.

What has bytes is proven by Drive's checksums. A Google document has none: a text that is not held already must come
twice the same, and the file's version must be the same after the export as before. Drive raises a version also for
changes that nobody sees, so the same text with the same modified time in two attempts will do, too.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finance_os.evidence.extraction import Held, SourceError
from finance_os.sources.google_drive.answers import DriveFailure, File
from finance_os.sources.google_drive.client import DriveReader
from finance_os.sources.google_drive.extraction import Extracted, extract_text, without_text
from finance_os.sources.google_drive.objects import DOCUMENT_MIME

READS_OF_A_FILE = 4
"""How often a file that changes while it is fetched is fetched before the read fails with `file_unstable`."""


@dataclass(frozen=True)
class ContractText:
    """A candidate's text. `file` is the metadata that it belongs to, as asked for at `requested_at`."""

    file: File
    requested_at: datetime
    extracted: Extracted

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.extracted.text.encode()).hexdigest()

    @property
    def source_id(self) -> str:
        return f"{self.file['id']}:text:{self.sha256}"

    def payload(self) -> dict[str, Any]:
        file = self.file
        return {
            "file_id": file["id"],
            "mime_type": file["mimeType"],
            "version": file["version"],
            "head_revision_id": file.get("headRevisionId"),
            "md5": file.get("md5Checksum"),
            "sha256": file.get("sha256Checksum"),
            "size": file.get("size"),
            "modified_time": file["modifiedTime"],
            "text": self.extracted.text,
            "text_sha256": self.sha256,
            "characters": len(self.extracted.text),
            "extraction": self.extracted.payload(),
        }


@dataclass(frozen=True)
class _Fetched:
    """A file's content, `None` where it is too large; whether it is proven to be what the metadata describes."""

    proven: bool
    content: bytes | None


def read_text(
    drive: DriveReader, file: File, requested_at: datetime, now: Callable[[], datetime], held: Held
) -> ContractText | None:
    """The text of `file`, whose metadata was asked for at `requested_at`; `None` if the file has gone meanwhile.

    Raises `SourceError`: `file_unstable`, and `extraction_timed_out` where a text of the very same content is held
    already: a slow hour here must not take it away.
    """
    mime = file["mimeType"]
    fetched = _Fetched(False, None)
    for _ in range(READS_OF_A_FILE):
        try:
            fetched = _export(drive, file, held, fetched) if mime == DOCUMENT_MIME else _download(drive, file)
            if fetched.proven:
                return _text_of(drive, file, requested_at, fetched.content, held)
            requested_at = now()
            file = drive.file(file["id"])
        except DriveFailure as failure:
            if failure.code == "missing":
                return None
            raise
        if file["trashed"] or file["mimeType"] != mime:
            return None
    raise SourceError("file_unstable", f"file {file['id']} changed each of {READS_OF_A_FILE} times that it was fetched")


def text_ids_held(held: Held, file_id: str) -> list[str]:
    """Source IDs of the texts that are held of a file."""
    return held.ids_where(("file_id",), file_id)


def _text_of(drive: DriveReader, file: File, requested_at: datetime, content: bytes | None, held: Held) -> ContractText:
    mime, limits = file["mimeType"], drive.settings.limits
    extracted = without_text(mime, "too_large") if content is None else extract_text(mime, content, limits)
    text = ContractText(file, requested_at, extracted)
    if extracted.status == "timed_out":
        same = held.ids_where(("sha256",), file["sha256Checksum"]) if "sha256Checksum" in file else []
        if set(same) & set(text_ids_held(held, file["id"])) - {text.source_id}:
            raise SourceError(
                "extraction_timed_out",
                f"the text of file {file['id']} was not taken within {limits.extraction_seconds} seconds this time",
            )
    return text


def _download(drive: DriveReader, file: File) -> _Fetched:
    """The content that the checksums of `file` describe."""
    most = drive.settings.limits.max_file_bytes
    if int(file.get("size", "0")) > most:
        return _Fetched(True, None)
    content = drive.download(file["id"], most)
    if content is None:
        return _Fetched(False, None)  # larger than its metadata said
    proofs = {
        "sha256Checksum": hashlib.sha256(content).hexdigest(),
        "md5Checksum": hashlib.md5(content, usedforsecurity=False).hexdigest(),
    }
    given = [name for name in proofs if name in file]
    if not given:
        raise SourceError("file_without_checksum", f"file {file['id']} has no checksum that would prove its content")
    return _Fetched(all(file[name] == proofs[name] for name in given), content)


def _export(drive: DriveReader, file: File, held: Held, earlier: _Fetched) -> _Fetched:
    """A Google document as text; `earlier` is the attempt before this one."""
    content = drive.export(file["id"])
    if content is not None and content != earlier.content:
        text = ContractText(file, datetime.min, extract_text(DOCUMENT_MIME, content, drive.settings.limits))
        # Nothing proves that an export is whole: what is not known yet has to come a second time.
        if text.source_id not in text_ids_held(held, file["id"]) and (again := drive.export(file["id"])) != content:
            return _Fetched(False, again)
    after = drive.file(file["id"])
    same = content == earlier.content and after["modifiedTime"] == file["modifiedTime"]
    return _Fetched(same or after["version"] == file["version"], content)
