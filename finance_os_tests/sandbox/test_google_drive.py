"""The Google Drive room: answers by Google's own schemas and client library, strictness, and a life that repeats.

`Served` puts one room behind a real socket; the tests of the source use it too.
"""

import asyncio
import hashlib
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Literal

import httpx
import jsonschema_rs
import pypdf
import pytest
import uvicorn
from docx import Document
from google.auth import crypt, jwt
from google.oauth2 import service_account
from googleapiclient.discovery import build as build_client
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseDownload
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finance_os.sandbox.google_drive import PLANTED, GoogleDriveRoom, wire
from finance_os.sandbox.google_drive.store import DOC, DOCX, FOLDER, PDF, SHORTCUT, TEXT
from finance_os.sandbox.world import World, build

START = date(2026, 10, 1)
UNTIL = datetime(2026, 11, 5, 12, tzinfo=UTC)
PREFIX = "/c0/google_drive"
READONLY = "https://www.googleapis.com/auth/drive.readonly"

_PATTERNS = {
    "int64": r"^-?\d{1,19}$",
    "date-time": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
}

Kind = Literal["429", "500", "403", "timeout", "truncated", "drop_connection"]


@dataclass
class Rule:
    """A fault on the `on`-th request to a path that matches, and on as many after it as `times` says."""

    path: str
    kind: Kind
    on: int = 1
    times: int = 1
    seen: int = 0

    def strikes(self, path: str) -> bool:
        if not fnmatchcase(path, PREFIX + self.path):
            return False
        self.seen += 1
        return self.on <= self.seen < self.on + self.times


@dataclass
class Served:
    """A room behind a real socket, below the prefix that the sandbox would mount it at."""

    room: GoogleDriveRoom
    world: World
    base: str = ""
    rules: list[Rule] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def env(self) -> dict[str, str]:
        return self.room.env(self.base)

    def change(self, action: str, **what: Any) -> Any:
        """A control of the room, on the server's own thread."""
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(self.room.change(action, what), self.loop).result(10)

    def advance(self, **by: float) -> None:
        self.world.advance_to(self.world.when + timedelta(**by))
        self.room.follow()

    def calm(self) -> None:
        """No faults, no counts, no restrictions."""
        self.rules.clear()
        self.requests.clear()
        self.change("page_limit", count=0)
        self.change("incomplete", on=False)
        self.change("restless", on=False)
        self.room.api.throttled = 0
        self.room.api.after_page = lambda: None

    def token(self, scope: str = READONLY) -> str:
        info = json.loads(self.env["FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT"])
        return grant(self.base, info, scope).json()["access_token"]


def grant(base: str, info: dict[str, Any], scope: str = READONLY, **claims: Any) -> httpx.Response:
    """Ask for a token with an assertion of our own making."""
    now = int(time.time())
    signer = crypt.RSASigner.from_service_account_info(info)
    payload = {
        "iat": now,
        "exp": now + 3600,
        "iss": info["client_email"],
        "aud": "https://oauth2.googleapis.com/token",
        "scope": scope,
        **claims,
    }
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": jwt.encode(signer, payload).decode(),
    }
    return httpx.post(f"{base}/token", data=form, trust_env=False)


class _Faulty:
    """Counts requests, and lets rules strike before the app answers."""

    def __init__(self, app: ASGIApp, served: Served) -> None:
        self.app = app
        self.served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.served.loop = asyncio.get_running_loop()
        self.served.requests.append((scope["method"], scope["path"], scope["query_string"].decode()))
        struck = [rule for rule in self.served.rules if rule.strikes(scope["path"])]
        if not struck:
            await self.app(scope, receive, send)
            return
        kind = struck[0].kind
        if kind == "timeout":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif kind == "drop_connection":
            cycle: Any = send.__self__  # type: ignore[attr-defined]
            cycle.transport.abort()
        elif kind == "truncated":
            await self._cut(scope, receive, send)
        else:
            status, headers, body = self.served.room.fault(kind)
            pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": status, "headers": pairs})
            await send({"type": "http.response.body", "body": body})

    async def _cut(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The first half of the answer, with a content length that agrees with it."""
        start: Message = {}
        body = b""

        async def keep(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
            body += message.get("body", b"")

        await self.app(scope, receive, keep)
        half = body[: len(body) // 2]
        headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        await send({**start, "headers": [*headers, (b"content-length", str(len(half)).encode())]})
        await send({"type": "http.response.body", "body": half})


@contextmanager
def serving(*, seed: int = 3, until: datetime = UNTIL, size: int = 5) -> Iterator[Served]:
    """A room of a world from `START` to `until`."""
    world = build(seed=seed, start=START, until=until, size=size)
    served = Served(GoogleDriveRoom(world), world)
    app = Starlette(routes=[Mount(PREFIX, app=served.room.app)])
    config = uvicorn.Config(_Faulty(app, served), port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    served.base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{PREFIX}"
    httpx.get(f"{served.base}/drive/v3/about", trust_env=False)  # now the loop is known
    served.requests.clear()
    try:
        yield served
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(10)
        served.room.close()


@pytest.fixture(scope="module")
def module_served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def served(module_served: Served) -> Iterator[Served]:
    """A room that tests may add to, but whose standing files they leave alone."""
    yield module_served
    module_served.calm()


@pytest.fixture
def raw(served: Served) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {served.token()}"}
    with httpx.Client(base_url=f"{served.base}/drive/v3", headers=headers, trust_env=False, timeout=10) as client:
        yield client


@pytest.fixture
def drive(served: Served) -> Any:
    """The real client library."""
    info = json.loads(served.env["FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT"])
    credentials = service_account.Credentials.from_service_account_info(info, scopes=[READONLY])
    return build_client(
        "drive",
        "v3",
        credentials=credentials,
        static_discovery=True,
        cache_discovery=False,
        client_options={"api_endpoint": f"{served.base}/drive/v3/"},
    )


@cache
def schema(name: str) -> jsonschema_rs.Validator:
    """Google's schema of an answer; what it does not name is not allowed."""

    def strict(declared: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in declared:
            return {"$ref": f"#/$defs/{declared['$ref']}"}
        kept: dict[str, Any] = {} if declared["type"] == "any" else {"type": declared["type"]}
        if declared.get("format") in _PATTERNS:
            kept["pattern"] = _PATTERNS[declared["format"]]
        if "items" in declared:
            kept["items"] = strict(declared["items"])
        if "properties" in declared:
            kept["properties"] = {name: strict(each) for name, each in declared["properties"].items()}
            kept["additionalProperties"] = False
        elif "additionalProperties" in declared:
            kept["additionalProperties"] = strict(declared["additionalProperties"])
        return kept

    definitions = {each: strict(declared) for each, declared in wire.discovery()["schemas"].items()}
    return jsonschema_rs.validator_for({"$ref": f"#/$defs/{name}", "$defs": definitions})


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, reason and place of an error in Google's form."""
    body = answer.json()["error"]
    assert body["code"] == answer.status_code
    assert body["message"]
    (detail,) = body["errors"]
    return answer.status_code, detail["reason"], detail.get("location")


def listed(raw: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    everywhere = {"supportsAllDrives": "true", "includeItemsFromAllDrives": "true"}
    answer = raw.get("/files", params={**everywhere, "pageSize": 1000, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()["files"]


# --- answers by Google's schemas, through Google's client


def test_answers_keep_to_googles_schemas(served: Served, raw: httpx.Client) -> None:
    everywhere = "supportsAllDrives=true&includeItemsFromAllDrives=true"
    some = listed(raw, fields="*")
    document = next(each for each in some if each["mimeType"] == DOC)
    blob = next(each for each in some if each["mimeType"] == PDF)
    answers = {
        f"/files?{everywhere}&fields=*": "FileList",
        "/files?pageSize=1": "FileList",
        f"/files/{blob['id']}?fields=*&supportsAllDrives=true": "File",
        f"/files/{blob['id']}/revisions?fields=*": "RevisionList",
        f"/files/{document['id']}/revisions?fields=*": "RevisionList",
        f"/files/{blob['id']}/revisions/{blob['headRevisionId']}?fields=*": "Revision",
        "/changes/startPageToken": "StartPageToken",
        f"/changes?pageToken=1&{everywhere}&fields=*": "ChangeList",
        "/changes?pageToken=1&pageSize=2": "ChangeList",
        "/drives?fields=*": "DriveList",
        f"/drives/{blob_drive(served)}?fields=*": "Drive",
        "/about?fields=*": "About",
    }
    for path, name in answers.items():
        answer = raw.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert answer.json()["kind"].startswith("drive#")
        schema(name).validate(answer.json())
    with pytest.raises(jsonschema_rs.ValidationError):
        schema("File").validate({"nmae": "mistyped"})


def blob_drive(served: Served) -> str:
    (drive,) = served.room.store.drives
    return drive


def test_googles_client_pages_downloads_and_exports(served: Served, drive: Any) -> None:
    served.change("page_limit", count=2)
    query = f"'{served.room.folders.agreements}' in parents"
    found: list[dict[str, Any]] = []
    request = drive.files().list(q=query, pageSize=3, orderBy="name", fields="nextPageToken,files(id,name,parents)")
    while request is not None:
        answer = request.execute()
        found += answer["files"]
        assert len(answer["files"]) <= 2
        request = drive.files().list_next(request, answer)
    assert [each["id"] for each in found] == [
        node.id
        for node in sorted(
            served.room.store.children(served.room.folders.agreements), key=lambda n: (n.name.casefold(), n.id)
        )
    ]
    assert all(set(each) == {"id", "name", "parents"} for each in found)

    nodes = served.room.store.nodes.values()
    pdf = next(node for node in nodes if node.mime == PDF and "Agreement -" in node.name and node.drive is None)
    buffer = io.BytesIO()
    download = MediaIoBaseDownload(buffer, drive.files().get_media(fileId=pdf.id), chunksize=400)
    steps = 0
    done = False
    while not done:
        _, done = download.next_chunk()
        steps += 1
    assert steps == -(-len(pdf.content) // 400) > 1
    assert buffer.getvalue() == pdf.content
    assert "7500 basis points" in pypdf.PdfReader(buffer).pages[0].extract_text()

    document = next(node for node in nodes if node.mime == DOC and "Agreement -" in node.name)
    exported = drive.files().export(fileId=document.id, mimeType="text/plain").execute()
    assert exported == b"\xef\xbb\xbf" + document.content.replace(b"\n", b"\r\n")
    word = drive.files().export(fileId=document.id, mimeType=DOCX).execute()
    assert "7000 basis points" in "\n".join(each.text for each in Document(io.BytesIO(word)).paragraphs)

    with pytest.raises(HttpError) as refused:
        drive.files().create(body={"name": "new"}).execute()
    assert refused.value.status_code == 403
    with pytest.raises(HttpError):
        drive.files().delete(fileId=document.id).execute()
    assert document.id in served.room.store.nodes


def test_every_write_of_the_api_is_refused(served: Served, raw: httpx.Client) -> None:
    methods = [each for each in wire.methods() if each[2] != "GET"]
    assert len(methods) > 20
    before = len(served.room.store.changes)
    for resource, name, verb, path, scopes in methods:
        answer = raw.request(verb, "/" + path.replace("{", "").replace("}", ""), json={})
        if READONLY in scopes:
            assert answer.status_code in (403, 501), (resource, name)
        else:
            assert error(answer) == (403, "insufficientPermissions", None), (resource, name)
    full = httpx.delete(
        f"{served.base}/drive/v3/files/{served.room.folders.agreements}",
        headers={"authorization": f"Bearer {served.token('https://www.googleapis.com/auth/drive')}"},
        trust_env=False,
    )
    assert error(full) == (403, "insufficientFilePermissions", None)
    assert len(served.room.store.changes) == before


# --- who may ask


def test_tokens_are_given_for_good_assertions_only(served: Served) -> None:
    info = json.loads(served.env["FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT"])
    good = grant(served.base, info)
    assert good.status_code == 200
    assert good.json()["token_type"] == "Bearer"
    now = int(time.time())
    with serving(until=datetime(2026, 10, 1, tzinfo=UTC)) as other:
        stranger = json.loads(other.env["FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT"])
    bad = {
        "Invalid JWT Signature.": grant(served.base, {**stranger, "private_key_id": info["private_key_id"]}),
        "Invalid JWT: Failed audience check.": grant(served.base, info, aud="https://example.com/token"),
        "Invalid grant: account not found": grant(served.base, info, iss="nobody@example.com"),
        "Invalid OAuth scope or ID token audience provided.": grant(served.base, info, "https://example.com/all"),
        "Invalid JWT: Token must be": grant(served.base, info, iat=now - 9000, exp=now - 5400),
    }
    for description, answer in bad.items():
        assert answer.status_code == 400
        assert answer.json()["error"] in ("invalid_grant", "invalid_scope")
        assert answer.json()["error_description"].startswith(description)
    long = grant(served.base, info, exp=now + 90_000)
    assert long.json()["error_description"].startswith("Invalid JWT: Token must be")
    plain = httpx.post(f"{served.base}/token", data={"grant_type": "password"}, trust_env=False)
    assert plain.json()["error"] == "unsupported_grant_type"


def test_requests_need_a_token_that_is_alive_and_of_the_right_scope(served: Served) -> None:
    url = f"{served.base}/drive/v3/files"
    assert error(httpx.get(url, trust_env=False))[0] == 403
    bad = httpx.get(url, headers={"authorization": "Bearer nonsense"}, trust_env=False)
    assert error(bad) == (401, "authError", "Authorization")
    metadata = {"authorization": f"Bearer {served.token('https://www.googleapis.com/auth/drive.metadata.readonly')}"}
    assert httpx.get(url, headers=metadata, trust_env=False).status_code == 200
    export = f"{url}/{served.room.folders.agreements}/export?mimeType=text/plain"
    assert error(httpx.get(export, headers=metadata, trust_env=False)) == (403, "insufficientPermissions", None)
    served.change("expire_tokens")
    assert error(httpx.get(url, headers=metadata, trust_env=False))[0] == 401


# --- strictness


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/files?fields=bogus", (400, "invalidParameter", "fields")),
        ("/files?fields=files(id,nmae)", (400, "invalidParameter", "fields")),
        ("/files?fields=files/shortcutDetails/nothing", (400, "invalidParameter", "fields")),
        ("/files?fields=files(id", (400, "invalidParameter", "fields")),
        ("/files?nonsense=1", (400, "invalidParameter", "nonsense")),
        ("/files?pageSize=0", (400, "invalid", "pageSize")),
        ("/files?pageSize=many", (400, "invalid", "pageSize")),
        ("/files?supportsAllDrives=yes", (400, "invalid", "supportsAllDrives")),
        ("/files?pageToken=BOGUS", (400, "invalid", "pageToken")),
        ("/files?orderBy=size", (400, "invalid", "orderBy")),
        ("/files?orderBy=name descending", (400, "invalid", "orderBy")),
        ("/files?q=id = 'x'", (400, "invalid", "q")),
        ("/files?q=name like 'x'", (400, "invalid", "q")),
        ("/files?q=name = 'x", (400, "invalid", "q")),
        ("/files?q=trashed = 'false'", (400, "invalid", "q")),
        ("/files?q=modifiedTime > 'yesterday'", (400, "invalid", "q")),
        ("/files?q=(name = 'x'", (400, "invalid", "q")),
        ("/files?q=name = 'x' name = 'y'", (400, "invalid", "q")),
        ("/files?q='nowhere' in parents", (404, "notFound", "fileId")),
        ("/files?corpora=everything", (400, "invalid", "corpora")),
        ("/files?corpora=drive&includeItemsFromAllDrives=true", (403, "teamDriveIdRequiresTeamDriveCorpora", None)),
        ("/files?driveId=0AB&includeItemsFromAllDrives=true", (403, "teamDriveIdRequiresTeamDriveCorpora", None)),
        ("/files?corpora=allDrives", (403, "teamDrivesParameterRequired", None)),
        ("/files?includeItemsFromAllDrives=true", (403, "teamDrivesNotSupported", None)),
        (
            "/files?corpora=drive&driveId=0AB&includeItemsFromAllDrives=true&supportsAllDrives=true",
            (404, "notFound", "driveId"),
        ),
        ("/files/nothing", (404, "notFound", "fileId")),
        ("/files/nothing/export", (400, "required", "mimeType")),
        ("/changes", (400, "required", "pageToken")),
        ("/changes?pageToken=x", (400, "invalid", "pageToken")),
        ("/changes?pageToken=999999", (400, "invalid", "pageToken")),
        ("/about", (400, "required", "fields")),
        ("/drives/nothing", (404, "notFound", "driveId")),
        ("/nothing", (404, "notFound", None)),
        ("/files/generateIds", (403, "insufficientPermissions", None)),
    ],
)
def test_what_makes_no_sense_is_refused(raw: httpx.Client, path: str, expected: tuple[int, str, str | None]) -> None:
    assert error(raw.get(path)) == expected


def test_a_page_token_is_good_for_its_own_list_only(raw: httpx.Client) -> None:
    first = raw.get("/files?pageSize=1&orderBy=name").json()
    token = first["nextPageToken"]
    assert raw.get("/files", params={"orderBy": "name", "pageToken": token}).status_code == 200
    again = raw.get("/files", params={"orderBy": "name desc", "pageToken": token})
    assert error(again) == (400, "invalid", "pageToken")


def test_only_what_is_shared_can_be_seen(served: Served, raw: httpx.Client) -> None:
    private, agreements = served.room.folders.private, served.room.folders.agreements
    assert error(raw.get(f"/files/{private}")) == (404, "notFound", "fileId")
    assert error(raw.get("/files", params={"q": f"'{private}' in parents"})) == (404, "notFound", "fileId")
    assert not [each for each in listed(raw) if each["name"] == "Minutes.txt"]
    body = raw.get(f"/files/{agreements}?fields=*").json()
    assert "parents" not in body, "the folder above is not shared"
    countersigned = served.room.folders.countersigned
    assert error(raw.get(f"/files/{countersigned}")) == (404, "notFound", "fileId")
    assert raw.get(f"/files/{countersigned}?supportsAllDrives=true").status_code == 200
    plain = raw.get("/files", params={"pageSize": 1000, "fields": "files(driveId)"}).json()["files"]
    assert plain
    assert not any(plain)
    in_drive = listed(raw, corpora="drive", driveId=blob_drive(served), fields="files(id,driveId,parents)")
    assert {each["driveId"] for each in in_drive} == {blob_drive(served)}


def test_queries_find_what_they_say(served: Served, raw: httpx.Client) -> None:
    store = served.room.store
    mine = [node for node in store.nodes.values() if store.readable(node) and node.id not in store.drives]

    def ids(query: str) -> set[str]:
        return {each["id"] for each in listed(raw, q=query, fields="files(id)")}

    assert ids(f"mimeType = '{FOLDER}'") == {node.id for node in mine if node.mime == FOLDER}
    assert ids(f"not mimeType = '{FOLDER}'") == {node.id for node in mine if node.mime != FOLDER}
    assert ids("mimeType contains 'application/pdf'") == {node.id for node in mine if node.mime == PDF}
    assert ids("name contains 'amendment'") == {node.id for node in mine if "Amendment" in node.name}
    assert ids("name contains 'mendment'") == set()
    bound = datetime(2026, 10, 20, tzinfo=UTC)
    late = {node.id for node in mine if node.modified >= bound.timestamp() * 1000}
    assert ids("modifiedTime >= '2026-10-20T00:00:00'") == late
    assert ids("modifiedTime >= '2026-10-20T02:00:00+02:00'") == late
    assert ids("modifiedTime < '2026-10-20T00:00:00Z'") == {node.id for node in mine} - late
    either = ids(f"(name = 'Signed' or name = 'Drafts') and mimeType = '{FOLDER}' and trashed = false")
    assert len(either) == 2
    leftmost = ids(f"name = 'Signed' or name = 'Notes week 1' and mimeType = '{FOLDER}'")
    assert {store.nodes[each].name for each in leftmost} == {"Signed"}
    served.change("upload", title="Owner's \\ copy", mime_type=TEXT, folder=served.room.folders.empty, text="x")
    assert len(ids(r"name = 'Owner\'s \\ copy'")) == 1


def test_downloads_answer_ranges(served: Served, raw: httpx.Client) -> None:
    made = served.change("upload", title="a.txt", mime_type=TEXT, folder=served.room.folders.empty, text="0123456789")
    url = f"/files/{made['id']}?alt=media"
    whole = raw.get(url)
    assert (whole.status_code, whole.text, whole.headers["content-type"]) == (
        200,
        "0123456789",
        "text/plain; charset=utf-8",
    )
    part = raw.get(url, headers={"range": "bytes=2-4"})
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "234", "bytes 2-4/10")
    rest = raw.get(url, headers={"range": "bytes=8-99"})
    assert (rest.status_code, rest.text, rest.headers["content-range"]) == (206, "89", "bytes 8-9/10")
    beyond = raw.get(url, headers={"range": "bytes=10-11"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */10")


def test_what_cannot_be_downloaded_or_exported_says_why(served: Served, raw: httpx.Client) -> None:
    empty = served.room.folders.empty
    document = served.change("upload", title="long", mime_type=DOC, folder=empty, text="x" * (10 * 1024 * 1024))
    text = served.change("upload", title="a.txt", mime_type=TEXT, folder=empty, text="x")
    assert error(raw.get(f"/files/{document['id']}?alt=media")) == (403, "fileNotDownloadable", "alt")
    export = raw.get(f"/files/{document['id']}/export?mimeType=text/plain")
    assert error(export) == (403, "exportSizeLimitExceeded", None)
    assert error(raw.get(f"/files/{document['id']}/export?mimeType=image/png"))[:2] == (400, "badRequest")
    assert error(raw.get(f"/files/{text['id']}/export?mimeType=text/plain"))[:2] == (403, "fileNotExportable")
    served.change("lock", id=text["id"])
    assert error(raw.get(f"/files/{text['id']}?alt=media"))[:2] == (403, "cannotDownloadFile")
    assert raw.get(f"/files/{text['id']}?fields=capabilities/canDownload").json() == {
        "capabilities": {"canDownload": False}
    }
    served.change("throttle", count=1)
    assert error(raw.get("/files"))[:2] == (403, "userRateLimitExceeded")
    assert raw.get("/files").status_code == 200


# --- how things change


def test_changes_are_logged_and_raise_the_version(served: Served, raw: httpx.Client) -> None:
    folder = served.change("folder", title="New folder", folder=served.room.folders.empty)["id"]
    made = served.change("upload", title="a.txt", mime_type=TEXT, folder=folder, text="one")

    def state() -> dict[str, Any]:
        return raw.get(f"/files/{made['id']}?fields=*").json()

    def since(token: str) -> list[dict[str, Any]]:
        answer = raw.get("/changes", params={"pageToken": token, "fields": "*"}).json()
        assert "newStartPageToken" in answer
        return answer["changes"]

    one = state()
    token = raw.get("/changes/startPageToken").json()["startPageToken"]
    assert since(token) == []
    served.change("edit", id=made["id"], text="two")
    two = state()
    assert int(two["version"]) == int(one["version"]) + 1
    assert two["modifiedTime"] > one["modifiedTime"]
    assert two["headRevisionId"] != one["headRevisionId"]
    assert two["sha256Checksum"] == hashlib.sha256(b"two").hexdigest()
    revisions = raw.get(f"/files/{made['id']}/revisions").json()["revisions"]
    assert [each["id"] for each in revisions] == [one["headRevisionId"], two["headRevisionId"]]
    assert [each["fileId"] for each in since(token)] == [made["id"]]
    served.change("move", id=made["id"], folder=served.room.folders.empty)
    assert state()["parents"] == [served.room.folders.empty]
    assert state()["modifiedTime"] == two["modifiedTime"]
    served.change("move", id=made["id"], folder=folder)
    served.change("trash", id=folder)
    three = state()
    assert (three["trashed"], three["explicitlyTrashed"]) == (True, False)
    served.change("untrash", id=folder)
    assert state()["trashed"] is False
    served.change("move", id=made["id"], folder=served.room.folders.private)
    assert raw.get(f"/files/{made['id']}").status_code == 404
    last = since(token)[-1]
    assert (last["fileId"], last["removed"], "file" in last) == (made["id"], True, False)
    served.change("delete", id=folder)
    assert folder in [each["fileId"] for each in since(token) if each["removed"]]


def test_the_log_of_a_shared_drive_is_its_own(served: Served, raw: httpx.Client) -> None:
    drive = blob_drive(served)
    everywhere = {"supportsAllDrives": "true", "includeItemsFromAllDrives": "true"}
    token = raw.get("/changes/startPageToken", params={"driveId": drive, "supportsAllDrives": "true"}).json()
    start = {"pageToken": token["startPageToken"], "fields": "changes(fileId)"}
    made = served.change("upload", title="b", mime_type=TEXT, folder=served.room.folders.countersigned, text="b")
    mine = served.change("upload", title="c", mime_type=TEXT, folder=served.room.folders.empty, text="c")
    of_drive = raw.get("/changes", params={**start, **everywhere, "driveId": drive}).json()["changes"]
    assert of_drive == [{"fileId": made["id"]}]
    assert raw.get("/changes", params=start).json()["changes"] == [{"fileId": mine["id"]}]
    hidden = served.change("drive", title="Board", member=False)["id"]
    answer = raw.get("/changes/startPageToken", params={"driveId": hidden, "supportsAllDrives": "true"})
    assert error(answer) == (404, "notFound", "driveId")
    assert [each["id"] for each in raw.get("/drives").json()["drives"]] == [drive]


@pytest.mark.parametrize("action", ["fly", "rename", "upload"])
def test_controls_refuse_nonsense(served: Served, action: str) -> None:
    with pytest.raises(ValueError, match=action):
        served.change(action)
    with pytest.raises(ValueError, match="no file"):
        served.change("trash", id="nothing")
    with pytest.raises(ValueError, match="moved into"):
        served.change("move", id=served.room.folders.agreements, folder=served.room.contents.signed)


def test_faults_come_in_googles_form(served: Served) -> None:
    for kind, reason in (("429", "rateLimitExceeded"), ("500", "backendError"), ("403", "insufficientFilePermissions")):
        status, headers, body = served.room.fault(kind)
        assert status == int(kind)
        assert headers["content-type"].startswith("application/json")
        assert json.loads(body)["error"]["errors"][0]["reason"] == reason


# --- the company's life


def snapshot(room: GoogleDriveRoom) -> list[tuple[Any, ...]]:
    return [
        (
            node.id,
            node.name,
            node.mime,
            node.parent,
            node.created,
            node.modified,
            node.version,
            node.binned,
            node.content,
        )
        for node in room.store.nodes.values()
    ]


def test_the_same_seed_gives_the_same_drive_in_whatever_steps() -> None:
    whole = GoogleDriveRoom(build(seed=5, start=START, until=UNTIL, size=5))
    world = build(seed=5, start=START, until=datetime(2026, 10, 1, tzinfo=UTC), size=5)
    stepped = GoogleDriveRoom(world)
    while world.when < UNTIL:
        world.advance_to(min(UNTIL, world.when + timedelta(days=3, hours=7)))
        stepped.follow()
    assert snapshot(stepped) == snapshot(whole)
    assert stepped.planted() == whole.planted()
    other = GoogleDriveRoom(build(seed=6, start=START, until=UNTIL, size=5))
    shared = {node.id for node in whole.store.nodes.values()} & {node.id for node in other.store.nodes.values()}
    assert len(shared) > 20, "two companies have the same IDs"
    assert snapshot(other) != snapshot(whole)


def text_of(room: GoogleDriveRoom, name: str) -> str:
    node = next(node for node in room.store.nodes.values() if node.name == name)
    if node.mime == PDF:
        return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(node.content)).pages)
    if node.mime == DOCX:
        return "\n".join(each.text for each in Document(io.BytesIO(node.content)).paragraphs)
    return node.content.decode("latin-1" if node.mime == TEXT else "utf-8")


def test_contracts_agree_with_gravity_except_where_planted() -> None:
    world = build(seed=8, start=START, until=UNTIL, size=12)
    room = GoogleDriveRoom(world)
    planted = {each.kind: each for each in room.planted()}
    assert set(planted) == set(PLANTED)
    kinds: set[str] = set()
    for publisher in world.publishers:
        row = world.gravity.rows["publishers"][publisher.id]
        names = [
            node.name
            for node in room.store.children(room.contents.signed)
            if node.name.startswith(f"Publisher Agreement - {publisher.name}")
        ]
        if publisher.id == planted["publisher_without_contract"].id:
            assert names == []
            continue
        (name,) = names
        kinds.add(name.rpartition(".")[2] if "." in name else "doc")
        text = text_of(room, name)
        bps = row["revenue_share_bps"]
        if publisher.id == planted["contract_share_differs"].id:
            assert f"{bps} basis points" not in text
            bps += 500
        assert f"{bps} basis points" in text
        assert row["legal_name"] in text
        assert publisher.id in text
    assert kinds == {"doc", "pdf", "docx", "txt"}
    assert {planted_at.system for planted_at in planted.values()} == {"google_drive"}


def test_the_drive_holds_the_awkward_things() -> None:
    room = GoogleDriveRoom(build(seed=3, start=START, until=datetime(2026, 10, 8, 12, tzinfo=UTC), size=5))
    nodes = list(room.store.nodes.values())
    assert [node for node in nodes if node.binned is not None]
    scanned = [node for node in nodes if node.mime == PDF and node.drive is not None]
    assert scanned
    for node in scanned:
        (page,) = pypdf.PdfReader(io.BytesIO(node.content)).pages
        assert page.extract_text() == ""
        assert len(page.images) == 1
    loop = [node for node in nodes if node.mime == SHORTCUT and node.target == room.folders.agreements]
    assert loop
    assert not list(room.store.children(room.folders.empty))
    (latin,) = [node for node in nodes if node.mime == TEXT and b"Caf\xe9" in node.content]
    with pytest.raises(UnicodeDecodeError):
        latin.content.decode()
