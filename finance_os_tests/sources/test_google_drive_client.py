"""The Google Drive client: the guard beneath Google's library, settings, errors, retries, and what must never leak."""

import copy
import json
import logging
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from googleapiclient.http import MediaInMemoryUpload

from finance_os.evidence.extraction import SourceError
from finance_os.sandbox.google_drive.store import DOC, FOLDER, PDF, TEXT
from finance_os.sources.credentials import Credentials
from finance_os.sources.google_drive.answers import DriveFailure, read_page
from finance_os.sources.google_drive.client import DriveReader, Patience, connect
from finance_os.sources.google_drive.settings import DEFAULT_RULES, read_settings
from finance_os.sources.google_drive.transport import GuardedHttp
from finance_os.sources.guard import ForbiddenRequest, Get, ReadOnlyGuard
from finance_os_tests.sandbox.test_google_drive import PREFIX, Rule, Served, serving

QUICK = Patience(timeout=10, attempts=3, first_wait=0.01, longest_wait=0.05)
IMPATIENT = Patience(timeout=0.3, attempts=3, first_wait=0.01, longest_wait=0.05)
FAST = '{"requests_per_second": 10000}'
NAME = "Canary Person agreement"
TEXT_OF_IT = "canary text of the agreement"


def connected(served: Served, patience: Patience = QUICK, **options: str) -> AbstractContextManager[DriveReader]:
    values = {**served.env, "FINANCE_OS_GOOGLE_DRIVE_LIMITS": FAST}
    return connect(
        Credentials(values | {f"FINANCE_OS_GOOGLE_DRIVE_{name}": each for name, each in options.items()}), patience
    )


@pytest.fixture(scope="module")
def module_served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def served(module_served: Served) -> Iterator[Served]:
    yield module_served
    module_served.calm()


@pytest.fixture
def drive(served: Served) -> Iterator[DriveReader]:
    with connected(served) as reader:
        yield reader


@pytest.fixture
def canary(served: Served) -> dict[str, Any]:
    """A folder with one document whose name and text must not come out in errors."""
    folder = served.change("folder", title=NAME)["id"]
    document = served.change("upload", title=NAME, mime_type=DOC, folder=folder, text=TEXT_OF_IT)["id"]
    return {"folder": folder, "document": document}


def listed(drive: DriveReader, folder: str) -> list[dict[str, Any]]:
    return [file for page in drive.children(folder, None) for file in page]


# --- the guard


def test_no_write_leaves_through_the_sources_own_client(served: Served, drive: DriveReader) -> None:
    files, file_id = drive.service.files(), served.room.folders.agreements
    drive.file(file_id)
    served.requests.clear()
    before = drive.sent()
    media = MediaInMemoryUpload(b"x", mimetype="text/plain", resumable=True)
    writes = {
        "create": files.create(body={"name": "new"}),
        "upload": files.create(body={"name": "new"}, media_body=media),
        "copy": files.copy(fileId=file_id, body={}),
        "update": files.update(fileId=file_id, body={"name": "other"}),
        "trash": files.update(fileId=file_id, body={"trashed": True}),
        "delete": files.delete(fileId=file_id),
        "empty the bin": files.emptyTrash(),
        "share": drive.service.permissions().create(fileId=file_id, body={}),
        "comment": drive.service.comments().create(fileId=file_id, body={}),
        "watch": drive.service.changes().watch(pageToken="1", body={}),
        "new drive": drive.service.drives().create(requestId="1", body={}),
        "download": files.download(fileId=file_id),
        "permissions": drive.service.drives().list(),
    }
    for name, request in writes.items():
        with pytest.raises(ForbiddenRequest):
            request.execute()
        assert served.requests == [], name
    batch = drive.service.new_batch_http_request()
    batch.add(files.delete(fileId=file_id))
    with pytest.raises(ForbiddenRequest):
        batch.execute()
    assert served.requests == []
    assert drive.sent() == before


def test_requests_are_counted_as_they_are_sent(served: Served, drive: DriveReader) -> None:
    drive.file(served.room.folders.agreements)
    listed(drive, served.room.folders.agreements)
    assert Counter(f"{method} 127.0.0.1" for method, _, _ in served.requests) == drive.sent()
    assert drive.sent()["POST 127.0.0.1"] == 1
    assert {path for method, path, _ in served.requests if method == "POST"} == {f"{PREFIX}/token"}


def test_what_httplib2_sends_again_by_itself_is_asked_for_again(served: Served, drive: DriveReader) -> None:
    """It repeats a request once when the server has closed a connection that was kept open."""
    drive.file(served.room.folders.agreements)
    served.rules.append(Rule("/drive/v3/files/*", "drop_connection"))
    drive.file(served.room.folders.agreements)
    assert Counter(f"{method} 127.0.0.1" for method, _, _ in served.requests) == drive.sent()


def test_nothing_is_sent_to_another_host_or_path(served: Served) -> None:
    guard = ReadOnlyGuard((Get("/drive/v3/files"),), served.base)
    http = GuardedHttp(guard, 1)
    for url in (
        "https://iamcredentials.googleapis.com/v1/projects",
        f"{served.base}/token",
        f"{served.base}/drive/v3/files/../about",
        served.base.replace("127.0.0.1", "localhost") + "/drive/v3/files",
    ):
        with pytest.raises(ForbiddenRequest):
            http.request(url)
    assert served.requests == []
    assert guard.sent() == {}


def test_a_get_with_a_long_url_is_sent_as_a_get(served: Served, drive: DriveReader) -> None:
    """Google's library would make a POST of it, which cannot be told from a write."""
    token = "~!!~" + "A" * 4_000
    with pytest.raises(DriveFailure) as failed:
        drive._ask(lambda: drive.service.files().list(pageToken=token).execute(), "a long list")
    assert (failed.value.code, failed.value.place) == ("invalid_request", "pageToken")
    method, path, query = served.requests[-1]
    assert (method, path) == ("GET", f"{PREFIX}/drive/v3/files")
    assert len(query) > 4_000


def test_google_auth_cannot_copy_the_transport_for_lookups_of_its_own(served: Served, drive: DriveReader) -> None:
    with pytest.raises(TypeError, match="not copied"):
        copy.deepcopy(GuardedHttp(ReadOnlyGuard((), served.base), 1))
    before = set(threading.enumerate())
    drive.file(served.room.folders.agreements)
    assert set(threading.enumerate()) <= before


# --- settings


def settings(served: Served, **values: str) -> Any:
    given = served.env | {f"FINANCE_OS_GOOGLE_DRIVE_{name}": value for name, value in values.items()}
    return read_settings(Credentials(given))


def test_the_key_may_be_a_file(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(served.env["FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT"])
    with connected(served, SERVICE_ACCOUNT=str(path)) as drive:
        assert drive.file(served.room.folders.agreements)["name"] == "Publisher Agreements"
    with pytest.raises(SourceError, match=r"invalid_setting.*FileNotFoundError"):
        settings(served, SERVICE_ACCOUNT=str(tmp_path / "nothing.json"))


def key_with(served: Served, **changes: Any) -> str:
    key = json.loads(served.env["FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT"])
    return json.dumps({name: value for name, value in {**key, **changes}.items() if value is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "authorized_user"},
        {"private_key": "-----BEGIN PRIVATE KEY-----\nbroken\n-----END PRIVATE KEY-----\n"},
        {"private_key": None},
        {"client_email": None},
        {"token_uri": "http://127.0.0.1/oauth"},
        {"token_uri": 7},
    ],
)
def test_what_is_no_key_of_a_service_account_is_refused(served: Served, changes: dict[str, Any]) -> None:
    with pytest.raises(SourceError) as refused, connected(served, SERVICE_ACCOUNT=key_with(served, **changes)):
        pass
    assert refused.value.code == "key_refused"
    assert refused.value.permanent
    assert "PRIVATE" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SERVICE_ACCOUNT", "{", "key_refused"),
        ("FOLDERS", " , ", "list of folder IDs"),
        ("FOLDERS", "1abcdef,1abc' or name contains 'x", "list of folder IDs"),
        ("API_BASE", "ftp://example.com", "not a URL"),
        ("API_BASE", "http://user:secret@example.com", "not a URL"),
        ("CANDIDATE_RULES", "[]", "at least one rule"),
        ("CANDIDATE_RULES", '[{"name": "a"}, {"name": "a"}]', "another name"),
        ("CANDIDATE_RULES", '[{"name": "a", "name_pattern": "("}]', "not a regular expression"),
        ("CANDIDATE_RULES", '[{"name": "a", "mime_types": ["image/png"]}]', "mime_types are among"),
        ("CANDIDATE_RULES", '[{"name": "a", "pattern": "x"}]', "unknown field"),
        ("LIMITS", '{"page_size": 1001}', "page_size"),
        ("LIMITS", '{"max_file_bytes": 0}', "max_file_bytes"),
        ("LIMITS", '{"speed": 1}', "unknown field"),
    ],
)
def test_settings_that_make_no_sense_are_refused(served: Served, name: str, value: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as refused:
        settings(served, **{name: value})
    assert refused.value.permanent
    assert "secret" not in str(refused.value)


def test_a_key_of_googles_is_used_over_https_only(served: Served) -> None:
    key = key_with(served, token_uri="https://oauth2.googleapis.com/token")
    with pytest.raises(SourceError, match="must be https"):
        settings(served, SERVICE_ACCOUNT=key)
    assert settings(served, SERVICE_ACCOUNT=key, API_BASE="https://www.googleapis.com").folders
    plain = key_with(served, token_uri="http://oauth2.googleapis.com/token")
    with pytest.raises(SourceError, match="must be https"):
        settings(served, SERVICE_ACCOUNT=plain, API_BASE="https://www.googleapis.com")


def test_settings_have_defaults_and_hide_the_key(served: Served) -> None:
    found = settings(served, FOLDERS="1aaaaa, 1bbbbb,1aaaaa,")
    assert found.folders == ("1aaaaa", "1bbbbb")
    assert found.rules == DEFAULT_RULES
    assert "PRIVATE KEY" not in repr(found)


# --- errors and retries


def test_a_key_that_google_does_not_know_is_a_failure(served: Served) -> None:
    with serving(until=served.world.when.replace(month=10, day=1)) as other:
        stranger = json.loads(other.env["FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT"])
    key = key_with(served, private_key=stranger["private_key"])
    with connected(served, SERVICE_ACCOUNT=key) as drive, pytest.raises(DriveFailure) as refused:
        drive.file(served.room.folders.agreements)
    assert (refused.value.code, refused.value.permanent) == ("unauthorized", True)
    assert len(served.requests) == 1, "it is not tried again"
    assert "JWT" not in str(refused.value)


def test_a_token_that_ends_is_renewed(served: Served, drive: DriveReader) -> None:
    drive.file(served.room.folders.agreements)
    served.change("expire_tokens")
    drive.file(served.room.folders.agreements)
    assert drive.sent()["POST 127.0.0.1"] == 2


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("429", "rate_limited"),
        ("500", "vendor_error"),
        ("timeout", "timeout"),
        ("truncated", "unreadable_answer"),
        ("drop_connection", "unreachable"),
    ],
)
def test_what_may_pass_is_tried_again_and_then_told(served: Served, kind: Any, code: str) -> None:
    folder = served.room.folders.agreements
    with connected(served, IMPATIENT if kind == "timeout" else QUICK) as drive:
        expected = listed(drive, folder)
        served.rules[:] = [Rule("/drive/v3/files", kind, times=2)]
        assert listed(drive, folder) == expected
        served.rules[:] = [Rule("/drive/v3/files", kind, times=1000)]
        with pytest.raises(DriveFailure) as failed:
            listed(drive, folder)
    assert (failed.value.code, failed.value.permanent) == (code, False)
    assert folder in str(failed.value)


def test_a_quota_of_drives_is_waited_for(served: Served, drive: DriveReader) -> None:
    served.change("throttle", count=2)
    assert drive.file(served.room.folders.agreements)["mimeType"] == FOLDER
    served.change("throttle", count=3)
    with pytest.raises(DriveFailure, match="userRateLimitExceeded") as limited:
        drive.file(served.room.folders.agreements)
    assert (limited.value.code, limited.value.permanent) == ("rate_limited", False)


def test_every_other_403_is_a_failure_with_googles_reason(served: Served, drive: DriveReader, canary: Any) -> None:
    served.change("lock", id=canary["document"])
    with pytest.raises(DriveFailure) as refused:
        drive.export(canary["document"])
    assert (refused.value.code, refused.value.permanent) == ("cannot_export_file", True)
    made = served.change("upload", title="a.txt", mime_type=TEXT, folder=canary["folder"], text="x")["id"]
    served.change("lock", id=made)
    with pytest.raises(DriveFailure, match="HTTP 403 cannotDownloadFile") as refused:
        drive.download(made, 100)
    assert refused.value.code == "cannot_download_file"
    served.rules.append(Rule("/drive/v3/files", "403"))
    with pytest.raises(DriveFailure) as refused:
        listed(drive, canary["folder"])
    assert (refused.value.code, refused.value.reason) == (
        "insufficient_file_permissions",
        "insufficientFilePermissions",
    )
    with pytest.raises(DriveFailure) as missing:
        drive.file("1doesnotexist")
    assert (missing.value.code, missing.value.permanent) == ("missing", True)


def test_an_export_beyond_drives_limit_is_told_apart(served: Served, drive: DriveReader, canary: Any) -> None:
    assert drive.export(canary["document"]) == b"\xef\xbb\xbf" + TEXT_OF_IT.encode()
    served.change("edit", id=canary["document"], text="x" * (10 * 1024 * 1024))
    assert drive.export(canary["document"]) is None


def test_downloads_come_in_ranges_and_end_at_the_bound(
    served: Served, drive: DriveReader, canary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finance_os.sources.google_drive.client._CHUNK_BYTES", 100)
    made = served.change("upload", title="a.txt", mime_type=TEXT, folder=canary["folder"], text="0123456789" * 35)["id"]
    drive.file(made)
    served.requests.clear()
    assert drive.download(made, 350) == b"0123456789" * 35
    assert len(served.requests) == 4
    served.requests.clear()
    assert drive.download(made, 349) is None
    assert len(served.requests) == 1, "the first range tells the length"
    served.change("edit", id=made, text="")
    assert drive.download(made, 100) == b""
    served.change("edit", id=made, text="0123456789" * 35)
    served.rules.append(Rule("/drive/v3/files/*", "truncated", on=2))
    assert drive.download(made, 350) == b"0123456789" * 35, "what was cut off is asked for again"


def test_a_search_that_was_not_complete_is_a_failure(served: Served, drive: DriveReader) -> None:
    served.change("incomplete", on=True)
    with pytest.raises(DriveFailure) as failed:
        listed(drive, served.room.folders.agreements)
    assert (failed.value.code, failed.value.permanent) == ("incomplete_search", False)


def answer(**changes: Any) -> dict[str, Any]:
    file = {
        "id": "1file",
        "name": "a",
        "mimeType": PDF,
        "version": "1",
        "modifiedTime": "2026-10-01T00:00:00.000Z",
        "trashed": False,
        "parents": ["1folder"],
    }
    return {"kind": "drive#fileList", "incompleteSearch": False, "files": [file], **changes}


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {},
        answer(kind="drive#file"),
        answer(incompleteSearch=None),
        answer(files=None),
        answer(files=[{"id": "1file"}]),
        answer(files=[answer()["files"][0] | {"version": 1}]),
        answer(files=[answer()["files"][0] | {"version": "one"}]),
        answer(files=[answer()["files"][0] | {"modifiedTime": "yesterday"}]),
        answer(files=[answer()["files"][0] | {"createdTime": "2026-10-01T00:00:00"}]),
        answer(files=[answer()["files"][0] | {"trashed": "false"}]),
        answer(files=[answer()["files"][0] | {"size": "-1"}]),
        answer(files=[answer()["files"][0] | {"parents": ["1other"]}]),
        answer(files=answer()["files"] * 2),
        answer(nextPageToken=""),
        answer(nextPageToken=7),
        answer(nextPageToken="token"),
    ],
)
def test_a_page_of_another_shape_is_not_believed(wrong: Any) -> None:
    assert read_page(answer(nextPageToken="next"), "files", "1folder", "token", set())[1] == "next"
    with pytest.raises(DriveFailure):
        read_page(wrong, "files", "1folder", "token", set())


def test_a_page_that_shows_nothing_new_is_not_believed() -> None:
    with pytest.raises(DriveFailure, match="page_repeated"):
        read_page(answer(), "files", "1folder", None, {"1file", "2file"})


def test_a_drive_whose_log_is_closed_has_no_token(served: Served, drive: DriveReader) -> None:
    (member,) = (each.id for each in served.room.store.drives.values() if each.member)
    assert (drive.start_token(member) or "").isdigit()
    assert drive.start_token(served.change("drive", title="Board", member=False)["id"]) is None


# --- what must never leak


def test_no_secret_name_or_text_comes_out(served: Served, canary: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = json.loads(served.env["FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT"])
    said: list[str] = []
    with connected(served) as drive:
        listed(drive, canary["folder"])
        drive.export(canary["document"])
        for kind in ("truncated", "403", "500"):
            for path in ("/drive/v3/files", "/drive/v3/files/*"):
                served.rules[:] = [Rule(path, kind, times=1000)]
                with pytest.raises(SourceError) as failed:
                    listed(drive, canary["folder"]) if path.endswith("files") else drive.file(canary["document"])
                said += traceback.format_exception(failed.value)
        served.rules.clear()
        said.append(repr(drive.settings))
    text = "\n".join([*said, caplog.text])
    secrets = [NAME, TEXT_OF_IT, "ya29.", "BEGIN PRIVATE", key["private_key"][100:140], "Bearer"]
    assert [each for each in secrets if each in text] == []
    assert canary["document"] in text, "errors name what was asked for"
