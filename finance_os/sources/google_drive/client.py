"""The guarded Google Drive client: reads through Google's own library, paced, tried again, and proven answer by answer.

Errors carry what was asked for by ID, the status and Google's reason code, and nothing else of what Google wrote.
https://developers.google.com/workspace/drive/api/guides/handle-errors
"""

import http.client
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import google.auth.exceptions
import google_auth_httplib2
import googleapiclient.discovery
import googleapiclient.http
import httplib2
import pyrate_limiter
import stamina
from google.oauth2 import service_account
from googleapiclient.errors import HttpError

from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.google_drive.answers import (
    DriveFailure,
    File,
    Unreadable,
    failure_of,
    read_file,
    read_page,
)
from finance_os.sources.google_drive.objects import FILE_FIELDS, READS, SCOPE, SERVICE_ACCOUNT
from finance_os.sources.google_drive.settings import DriveSettings, read_settings
from finance_os.sources.google_drive.transport import GuardedHttp
from finance_os.sources.guard import ReadOnlyGuard

Answer = TypeVar("Answer")

_FIELDS = ",".join(FILE_FIELDS).replace("shortcutDetails", "shortcutDetails(targetId,targetMimeType)")
_NO_CONNECTION = (
    OSError,
    http.client.HTTPException,
    httplib2.HttpLib2Error,
    google.auth.exceptions.GoogleAuthError,
)
_CHUNK_BYTES = 8 * 1024 * 1024

# The library logs URLs and, of answers that it does not understand, the whole body, which may hold personal data.
for _name in ("googleapiclient.http", "googleapiclient.model"):
    logging.getLogger(_name).addFilter(lambda record: record.levelno >= logging.ERROR)


@dataclass(frozen=True)
class Patience:
    """How long to wait for Google, in seconds, and how often to ask again."""

    timeout: float = 60.0
    attempts: int = 7
    first_wait: float = 0.5
    longest_wait: float = 60.0


class DriveReader:
    """Reads what one service account may see. Made by `connect`; of no use to two threads at a time."""

    def __init__(
        self,
        service: Any,
        guard: ReadOnlyGuard,
        limiter: pyrate_limiter.Limiter,
        patience: Patience,
        settings: DriveSettings,
    ) -> None:
        self.service = service
        self.settings = settings
        self._guard = guard
        self._limiter = limiter
        self._patience = patience

    def sent(self) -> dict[str, int]:
        """How many requests were sent so far, by `"METHOD host"`."""
        return self._guard.sent()

    def file(self, file_id: str) -> File:
        """A file's metadata. `DriveFailure`, code `missing`, for one that is not there or not shared."""

        def ask() -> File:
            answer = self.service.files().get(fileId=file_id, supportsAllDrives=True, fields=_FIELDS).execute()
            return read_file(answer, f"file {file_id}")

        return self._ask(ask, f"file {file_id}")

    def children(self, folder_id: str, drive_id: str | None) -> Iterator[list[File]]:
        """Everything that lies directly in a folder, page by page, what is in the bin too.

        `drive_id` is the shared drive to search; without it the account's own files and those shared with it are.
        Each page proves itself: a complete search of this folder, whose files no page before has shown. The list is
        complete when Drive gives no token for a further page; Drive tells no number of files.
        """
        what = f"files in folder {folder_id}"
        where = {"corpora": "drive", "driveId": drive_id} if drive_id else {"corpora": "user"}
        known: set[str] = set()
        token: str | None = None
        while True:

            def ask(token: str | None = token) -> tuple[list[File], str | None]:
                answer = (
                    self.service.files()
                    .list(
                        q=f"'{folder_id}' in parents",
                        pageSize=self.settings.limits.page_size,
                        pageToken=token,
                        supportsAllDrives=True,
                        includeItemsFromAllDrives=True,
                        fields=f"kind,incompleteSearch,nextPageToken,files({_FIELDS})",
                        **where,
                    )
                    .execute()
                )
                return read_page(answer, what, folder_id, token, known)

            files, token = self._ask(ask, what)
            known.update(file["id"] for file in files)
            yield files
            if token is None:
                return

    def start_token(self, drive_id: str | None) -> str | None:
        """Where the log of changes ends now: the account's own, or that of a shared drive.

        `None` for a drive whose log the account may not read: it is no member, only something in it was shared.
        """
        which = {"driveId": drive_id} if drive_id else {}

        def ask() -> str:
            answer = self.service.changes().getStartPageToken(supportsAllDrives=True, **which).execute()
            token = answer.get("startPageToken") if isinstance(answer, dict) else None
            if not isinstance(token, str):
                raise Unreadable("start page token", "the answer has none")
            return token

        try:
            return self._ask(ask, f"start page token of {drive_id or 'the account'}")
        except DriveFailure as failure:
            if drive_id and failure.code == "missing" and failure.place == "driveId":
                return None
            raise

    def changes(self, token: str, drive_id: str | None) -> Iterator[tuple[str, list[str]]]:
        """ID and folders of each file that has changed since `token`; no folders for what can no longer be read."""
        what = f"changes of {drive_id or 'the account'}"
        which = {"driveId": drive_id} if drive_id else {}
        position: str | None = token
        while position is not None:

            def ask(position: str = position) -> dict[str, Any]:
                answer = (
                    self.service.changes()
                    .list(
                        pageToken=position,
                        pageSize=self.settings.limits.page_size,
                        includeRemoved=True,
                        supportsAllDrives=True,
                        includeItemsFromAllDrives=True,
                        fields="kind,nextPageToken,newStartPageToken,changes(changeType,fileId,file/parents)",
                        **which,
                    )
                    .execute()
                )
                if not isinstance(answer, dict) or answer.get("kind") != "drive#changeList":
                    raise Unreadable(what, "the answer is not a list of changes")
                if not isinstance(answer.get("changes"), list):
                    raise Unreadable(what, "the answer has no changes")
                following = answer.get("nextPageToken")
                if (following is None) == (answer.get("newStartPageToken") is None) or following == position:
                    raise Unreadable(what, "the list neither ends nor goes on")
                return answer

            answer = self._ask(ask, what)
            for change in answer["changes"]:
                if isinstance(change.get("fileId"), str):
                    yield change["fileId"], (change.get("file") or {}).get("parents") or []
            position = answer.get("nextPageToken")

    def download(self, file_id: str, most: int) -> bytes | None:
        """A file's content; `None` where it is more than `most` bytes."""
        what = f"content of file {file_id}"
        content = io.BytesIO()
        request = self.service.files().get_media(fileId=file_id, supportsAllDrives=True)
        download = googleapiclient.http.MediaIoBaseDownload(content, request, chunksize=_CHUNK_BYTES)
        done = False
        while not done:
            status, done = self._ask(download.next_chunk, what)
            if content.tell() > most or (status.total_size or 0) > most:
                return None
        return content.getvalue()

    def export(self, file_id: str) -> bytes | None:
        """A Google document as plain text; `None` where Drive says that it is too large to be exported (10 MB)."""

        def ask() -> bytes:
            answer = self.service.files().export(fileId=file_id, mimeType="text/plain").execute()
            if not isinstance(answer, bytes):
                raise Unreadable(f"export of file {file_id}", "the answer is not text")
            return answer

        try:
            return self._ask(ask, f"export of file {file_id}")
        except DriveFailure as failure:
            if failure.reason == "exportSizeLimitExceeded":
                return None
            raise

    def _ask(self, ask: Callable[[], Answer], what: str) -> Answer:
        """`ask()`, paced, and tried again while that can help. Raises `SourceError`."""
        patience = self._patience
        for attempt in stamina.retry_context(
            on=self._wait_before_next,
            attempts=patience.attempts,
            timeout=None,
            wait_initial=patience.first_wait,
            wait_max=patience.longest_wait,
            wait_jitter=patience.first_wait,
        ):
            with attempt:
                self._limiter.try_acquire("google_drive")
                return _reported(ask, what)
        raise AssertionError("stamina gives up by raising")

    def _wait_before_next(self, error: Exception) -> bool | float:
        if not isinstance(error, DriveFailure) or error.permanent:
            return False
        if error.retry_after is None:
            return True
        return min(error.retry_after, self._patience.longest_wait)


@contextmanager
def connect(credentials: Credentials, patience: Patience | None = None) -> Iterator[DriveReader]:
    """A reader of what the service account may see; closed at the end of the block.

    Raises `SourceError`: `key_refused`, `invalid_setting`.
    """
    patience = patience or Patience()
    settings = read_settings(credentials)
    guard = ReadOnlyGuard(READS, {"api": settings.api_base, "oauth": settings.token_uri.removesuffix("/token")})
    try:
        account = service_account.Credentials.from_service_account_info(settings.key, scopes=[SCOPE])
    except (ValueError, TypeError, KeyError, google.auth.exceptions.GoogleAuthError):
        account = None
    if account is None:
        raise SourceError("key_refused", f"{SERVICE_ACCOUNT}: the key cannot be read", permanent=True)
    rate = pyrate_limiter.Rate(settings.limits.requests_per_second, pyrate_limiter.Duration.SECOND)
    transport = google_auth_httplib2.AuthorizedHttp(account, http=GuardedHttp(guard, patience.timeout))
    with pyrate_limiter.Limiter(rate, buffer_ms=5) as limiter:
        service = googleapiclient.discovery.build(
            "drive",
            "v3",
            http=transport,
            static_discovery=True,
            cache_discovery=False,
            client_options={"api_endpoint": f"{settings.api_base}/drive/v3/"},
        )
        try:
            yield DriveReader(service, guard, limiter, patience, settings)
        finally:
            transport.close()


# --- failures


def _reported(ask: Callable[[], Answer], what: str) -> Answer:
    """`ask()`; what Google's libraries raise becomes a `SourceError` without what Google wrote."""
    try:
        return ask()
    except HttpError as error:
        failure = failure_of(error.status_code, error.content, error.resp, what)
    except google.auth.exceptions.RefreshError as error:
        failure = (
            DriveFailure("vendor_error", "access token: Google's token endpoint failed")
            if error.retryable
            else DriveFailure("unauthorized", "access token: Google refuses the service account's key", permanent=True)
        )
    except TimeoutError:
        failure = DriveFailure("timeout", f"{what}: no answer in time")
    except _NO_CONNECTION as error:
        failure = DriveFailure("unreachable", f"{what}: {type(error).__name__}")
    except (ValueError, LookupError, TypeError, AttributeError):
        failure = Unreadable(what, "the answer is not in Google's form")
    # Raised out here so that the library's exception, which holds what Google wrote, does not travel along.
    raise failure
