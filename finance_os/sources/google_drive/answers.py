"""What Google Drive answers: files and lists proven to have their shape, and errors by Google's reason codes.

https://developers.google.com/workspace/drive/api/guides/handle-errors
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec

from finance_os.evidence.extraction import SourceError
from finance_os.sources.google_drive.objects import FILE_FIELDS

File: TypeAlias = dict[str, Any]
"""A file's metadata: those of `FILE_FIELDS` that Drive gave."""

_RATE_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
_REASON = re.compile(r"[A-Za-z]{1,64}")


class DriveFailure(SourceError):
    """What Google, or the way to it, answered instead of data.

    Codes: `rate_limited`, `vendor_error`, `timeout`, `unreachable`, `unreadable_answer`, `incomplete_search`, and those
    for which the same request is not sent again: `unauthorized`, `invalid_request`, `missing` (not there, or not
    shared), `page_repeated`, and for every other 403 Google's own reason, such as `insufficient_file_permissions`.
    `reason` is Google's code as it came, `place` the parameter that it names.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        permanent: bool = False,
        reason: str | None = None,
        place: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, permanent=permanent)
        self.reason = reason
        self.place = place
        self.retry_after = retry_after


class Unreadable(DriveFailure):
    """An answer that is not what was asked for: cut off, repeated, or of another shape."""

    def __init__(self, what: str, fault: str) -> None:
        super().__init__("unreadable_answer", f"{what}: {fault}")


_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _ShortcutDetails(msgspec.Struct):
    targetId: str  # noqa: N815 (Google's name)


class _FileShape(msgspec.Struct):
    """What every file must have, so that it can be listed and compared."""

    id: str
    name: str
    mimeType: str  # noqa: N815 (Google's names)
    version: str
    modifiedTime: _Moment  # noqa: N815
    trashed: bool
    createdTime: _Moment | None = None  # noqa: N815
    parents: list[str] = []
    driveId: str | None = None  # noqa: N815
    size: str | None = None
    md5Checksum: str | None = None  # noqa: N815
    sha256Checksum: str | None = None  # noqa: N815
    headRevisionId: str | None = None  # noqa: N815
    shortcutDetails: _ShortcutDetails | None = None  # noqa: N815


def read_file(answer: Any, what: str) -> File:
    """The fields of a file that were asked for, proven to have their shape."""
    try:
        shape = msgspec.convert(answer, _FileShape)
    except msgspec.ValidationError as error:
        raise Unreadable(what, f"a file is not of Drive's form ({error})") from None
    if not shape.version.isdigit() or (shape.size is not None and not shape.size.isdigit()):
        raise Unreadable(what, "a version or size is not a number")
    return {name: answer[name] for name in FILE_FIELDS if name in answer}


def read_page(
    answer: Any, what: str, folder_id: str, token: str | None, known: set[str]
) -> tuple[list[File], str | None]:
    """The files of one page of a folder's list and the token of the next page, which is the answer to `token`.

    `known` are the IDs on the pages before. Raises `DriveFailure` for a page that proves nothing: of an incomplete
    search, repeated, of another folder or shape.
    """
    if not isinstance(answer, dict) or answer.get("kind") != "drive#fileList":
        raise Unreadable(what, "the answer is not a list of files")
    if answer.get("incompleteSearch") is not False:
        raise DriveFailure("incomplete_search", f"{what}: Drive says that it has not searched everything")
    found, following = answer.get("files"), answer.get("nextPageToken")
    if not isinstance(found, list) or not (following is None or (isinstance(following, str) and following)):
        raise Unreadable(what, "the answer has no files, or no token that could be used")
    files = [read_file(each, what) for each in found]
    ids = {file["id"] for file in files}
    if len(ids) != len(files) or (ids and ids <= known) or (following is not None and following == token):
        # Or everything on it has moved to behind what was shown before: either way the list begins anew.
        raise DriveFailure("page_repeated", f"{what}: a page shows what one before has shown", permanent=True)
    if any(file.get("parents") and folder_id not in file["parents"] for file in files):
        raise Unreadable(what, "a file lies in another folder")
    return files, following


def failure_of(status: int, content: bytes, headers: Mapping[str, str], what: str) -> DriveFailure:
    """What an HTTP answer other than success says of `what`."""
    reason, place = _reason(content)
    said = f"{what}: HTTP {status}" + (f" {reason}" if reason else "")
    if status == 429 or (status == 403 and reason in _RATE_REASONS):
        return DriveFailure("rate_limited", said, reason=reason, retry_after=_seconds(headers.get("retry-after")))
    if status >= 500:
        return DriveFailure("vendor_error", said, reason=reason, retry_after=_seconds(headers.get("retry-after")))
    if status < 400:
        return Unreadable(what, f"HTTP {status} is not an answer")
    code = {401: "unauthorized", 404: "missing"}.get(status, "invalid_request")
    if status == 403:
        code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", reason).lower() if reason else "forbidden"
    return DriveFailure(code, said, permanent=True, reason=reason, place=place)


def _reason(content: bytes) -> tuple[str | None, str | None]:
    """Google's reason code and the parameter that it names, if they look like such."""
    try:
        detail = msgspec.json.decode(content)["error"]["errors"][0]
        found = [detail.get(name) for name in ("reason", "location")]
    except (msgspec.MsgspecError, UnicodeError, LookupError, TypeError, AttributeError):
        return None, None
    reason, place = (each if isinstance(each, str) and _REASON.fullmatch(each) else None for each in found)
    return reason, place


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None
