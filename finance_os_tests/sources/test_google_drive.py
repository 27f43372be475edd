"""What a read of Google Drive holds, with the real library from the sandbox over a socket, and how it is staged.

What is expected is worked out here anew, from the sandbox's own store.
"""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pypdf
import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.canonical import payload_hash
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Extraction, Item, Kind, Notice, Page, Record, Request, SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days, day_of, window_of
from finance_os.sandbox.google_drive import documents
from finance_os.sandbox.google_drive.store import DOC, DOCX, FOLDER, PDF, SHORTCUT, TEXT, Node
from finance_os.sources.credentials import Credentials
from finance_os.sources.google_drive import GOOGLE_DRIVE, extraction, listing
from finance_os.sources.google_drive.client import Patience, connect
from finance_os.sources.google_drive.extraction import without_text
from finance_os.sources.source import Reads
from finance_os_tests.sandbox.test_google_drive import START, UNTIL, Rule, Served, serving
from finance_os_tests.sources.test_google_drive_client import FAST, IMPATIENT, QUICK

NEW_YORK = ZoneInfo("America/New_York")
TOKYO = ZoneInfo("Asia/Tokyo")
TODAY = Days(UNTIL.date(), UNTIL.date())
EMPTY = hashlib.sha256(b"").hexdigest()
INVENTORY, CANDIDATE, CONTRACT = (obj.object_type for obj in GOOGLE_DRIVE)


@dataclass
class Held:
    """What is staged, by the latest record of each source ID."""

    payloads: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def stage(self, records: Iterable[Record], *, snapshot: bool = False) -> None:
        if snapshot:
            self.payloads.clear()
        for record in records:
            if record.payload is None:
                self.payloads.pop(record.source_id, None)
            else:
                self.payloads[record.source_id] = record.payload

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:
        (name,) = path
        return sorted(source_id for source_id, payload in self.payloads.items() if payload.get(name) == value)

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:
        raise NotImplementedError("Google Drive does not ask for spans")

    def ids_read_since(self, moment: datetime) -> list[str]:
        raise NotImplementedError("Google Drive does not ask what was read lately")

    def requests_since(self, moment: datetime) -> int:
        raise NotImplementedError("Google Drive has no quota of its own to keep")


@dataclass
class Account:
    """A connection to a served Drive, and how it is read."""

    served: Served
    zone: ZoneInfo = NEW_YORK
    held: Held = field(default_factory=Held)
    options: dict[str, str] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    patience: Patience = QUICK
    ticks: int = 0

    def folders(self, *ids: str) -> "Account":
        """The same account, with these folders configured."""
        return Account(
            self.served, self.zone, self.held, {**self.options, "FINANCE_OS_GOOGLE_DRIVE_FOLDERS": ",".join(ids)}
        )

    def now(self) -> datetime:
        """A clock that moves with each look at it."""
        self.ticks += 1
        return UNTIL + timedelta(milliseconds=self.ticks)

    def items(
        self,
        object_type: str,
        days: Days = TODAY,
        *,
        kind: Kind = Kind.SNAPSHOT,
        resume: Mapping[str, Any] | None = None,
        targets: tuple[str, ...] = (),
    ) -> Iterator[Item]:
        window = window_of(days, self.zone).until(UNTIL)
        request = Request(kind, days, window, self.zone, self.now, self.held, resume, targets)
        limits = {"FINANCE_OS_GOOGLE_DRIVE_LIMITS": FAST}
        with connect(Credentials({**self.served.env, **limits, **self.options}), self.patience) as drive:
            drawn = GOOGLE_DRIVE.extract(drive, GOOGLE_DRIVE.object(object_type), request)
            assert drawn.api_version == "v3"
            try:
                yield from drawn
            finally:
                self.sent = drawn.requested()

    def pages(self, object_type: str, days: Days = TODAY, **how: Any) -> list[Page]:
        return [item for item in self.items(object_type, days, **how) if isinstance(item, Page)]

    def records(self, object_type: str, days: Days = TODAY, **how: Any) -> list[Record]:
        return [record for page in self.pages(object_type, days, **how) for record in page.records]

    def notices(self, object_type: str, **how: Any) -> list[str]:
        return [item.text for item in self.items(object_type, **how) if isinstance(item, Notice)]

    def texts(self) -> dict[str, Mapping[str, Any]]:
        """File ID → payload of its text."""
        found = [record.payload for record in self.records(CONTRACT) if record.payload is not None]
        return {payload["file_id"]: payload for payload in found}


def payload_of(record: Record) -> Mapping[str, Any]:
    assert record.payload is not None
    return record.payload


@pytest.fixture(scope="module")
def module_served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def served(module_served: Served) -> Iterator[Served]:
    """A Drive whose standing files no test changes; what tests add lies in folders of their own."""
    yield module_served
    module_served.calm()


@pytest.fixture
def account(served: Served) -> Account:
    return Account(served)


@pytest.fixture(scope="module")
def standing(module_served: Served) -> list[Record]:
    """The texts of the standing files, read once."""
    return Account(module_served).records(CONTRACT)


@pytest.fixture
def own(served: Served) -> Account:
    """An account with one folder of the test's own: two documents, a PDF, and a folder with a text in it."""
    folder = served.change("folder", title="Own")["id"]
    below = served.change("folder", title="Below", folder=folder)["id"]
    for name, mime, where in (
        ("Agreement one", DOC, folder),
        ("Agreement two", DOC, folder),
        ("Agreement three.pdf", PDF, folder),
        ("Agreement four.txt", TEXT, below),
    ):
        served.change("upload", title=name, mime_type=mime, folder=where, text=f"Text of {name}")
    return Account(served).folders(folder)


def own_folder(own: Account) -> str:
    return own.options["FINANCE_OS_GOOGLE_DRIVE_FOLDERS"]


def node_named(served: Served, name: str, folder: str) -> Node:
    (found,) = [node for node in served.room.store.children(folder) if node.name == name]
    return found


def reachable(served: Served, folder: str) -> dict[str, Node]:
    """Everything below a folder, through shortcuts that may be read, too."""
    store, found = served.room.store, {}
    waiting, done = [folder], set()
    while waiting:
        current = waiting.pop()
        if current in done:
            continue
        done.add(current)
        for node in store.children(current):
            found[node.id] = node
            target = store.nodes.get(node.target) if node.target else None
            if target is not None and store.readable(target):
                if target.id != folder:
                    found[target.id] = target
                waiting.append(target.id)
            waiting.append(node.id)
    return found


# --- inventories


def test_an_inventory_shows_all_that_lies_below_a_folder(served: Served, account: Account) -> None:
    (page,) = account.pages(INVENTORY)
    assert [payload_of(record)["folder_id"] for record in page.records] == list(served.room.folders.configured)
    for record in page.records:
        payload = payload_of(record)
        expected = reachable(served, payload["folder_id"])
        assert [file["id"] for file in payload["files"]] == sorted(expected)
        for file in payload["files"]:
            node = expected[file["id"]]
            assert (file["name"], file["mimeType"], file["version"]) == (node.name, node.mime, str(node.version))
            assert file.get("driveId") == node.drive
            assert file["trashed"] is served.room.store.trashed(node)
            if not node.native:
                assert file["sha256Checksum"] == hashlib.sha256(node.content).hexdigest()
                assert file["headRevisionId"] == node.revisions[-1].id
        assert record.source_id == f"drive-query:{payload_hash(payload).hex()}"
        assert record.day == TODAY.first
        live = [node for node in expected.values() if not served.room.store.trashed(node)]
        kinds = Counter({FOLDER: "folders", SHORTCUT: "shortcuts"}.get(node.mime, "files") for node in live)
        for kind, count in payload["counts"].items():
            assert count == (len(expected) - len(live) if kind == "trashed" else kinds[kind])
    assert any(file.get("driveId") for file in payload_of(page.records[1])["files"])


def test_no_owner_user_or_link_is_asked_for(account: Account) -> None:
    text = str(payload_of(account.records(INVENTORY)[0]))
    assert "@" not in text
    assert "http" not in text


def test_shortcuts_are_followed_without_going_around_in_circles(served: Served, account: Account) -> None:
    payload = payload_of(account.records(INVENTORY)[0])
    names = {file["id"]: file["name"] for file in payload["files"]}
    by_name = {names[each["id"]]: each for each in payload["shortcuts"]}
    folders = served.room.folders
    assert by_name["All of it"]["target_id"] == folders.agreements
    assert by_name["Countersigned (Legal)"]["target_id"] == folders.countersigned
    assert by_name["Board papers"] == {**by_name["Board papers"], "target_id": folders.private, "readable": False}
    assert folders.private not in names
    assert "Publisher contract template (scan).pdf" in names.values()
    assert account.notices(INVENTORY) == [
        "1 shortcut(s) lead to files that are gone or not shared with the service account."
    ]


def test_chains_of_shortcuts_end(served: Served, own: Account) -> None:
    folder = own_folder(own)
    one = served.change("shortcut", title="one", folder=folder, target="later")["id"]
    two = served.change("shortcut", title="two", folder=folder, target=one)["id"]
    served.room.store.nodes[one].target = two
    document = node_named(served, "Agreement one", folder)
    served.change("shortcut", title="three", folder=folder, target=document.id)
    payload = payload_of(own.records(INVENTORY)[0])
    assert len(payload["files"]) == 8
    (candidate,) = [each for each in own.records(CANDIDATE) if each.source_id == document.id]
    assert len(payload_of(candidate)["candidate"]["shortcuts"]) == 1


def test_an_empty_folder_has_an_empty_inventory(served: Served, account: Account) -> None:
    empty = account.folders(served.change("folder", title="Nothing")["id"])
    (record,) = empty.records(INVENTORY)
    assert payload_of(record)["files"] == []
    assert payload_of(record)["counts"] == {"files": 0, "folders": 0, "shortcuts": 0, "trashed": 0}
    assert empty.records(CANDIDATE) == []
    assert empty.records(CONTRACT) == []


@pytest.mark.parametrize("size", [1, 2, 5])
def test_pages_of_any_size_give_the_same(served: Served, account: Account, size: int) -> None:
    expected = account.records(INVENTORY)
    once = sum(account.sent.values())
    served.change("page_limit", count=size)
    assert account.records(INVENTORY) == expected
    assert sum(account.sent.values()) > once


def test_what_is_read_again_is_identical(account: Account, standing: list[Record]) -> None:
    assert account.records(CONTRACT) == standing
    for object_type in (INVENTORY, CANDIDATE):
        first, second = account.records(object_type), account.records(object_type)
        assert first == second
        assert first


def test_a_changed_folder_has_another_inventory(served: Served, own: Account) -> None:
    folder = own_folder(own)
    seen = [own.records(INVENTORY)[0].source_id]
    one = node_named(served, "Agreement one", folder)
    for action, what in (
        ("rename", {"title": "Agreement 1"}),
        ("edit", {"text": "other"}),
        ("trash", {}),
        ("untrash", {}),
        ("move", {"folder": node_named(served, "Below", folder).id}),
        ("delete", {}),
    ):
        served.change(action, id=one.id, **what)
        (record,) = own.records(INVENTORY)
        assert record.source_id not in seen
        seen.append(record.source_id)
        entries = {file["id"]: file for file in payload_of(record)["files"]}
        assert (one.id in entries) == (action != "delete")
        if action == "trash":
            assert entries[one.id]["trashed"] is True
            assert payload_of(record)["counts"]["trashed"] == 1
            assert one.id not in [each.source_id for each in own.records(CANDIDATE)]


def test_a_tree_that_is_too_large_is_an_error(served: Served, own: Account) -> None:
    own.options["FINANCE_OS_GOOGLE_DRIVE_LIMITS"] = '{"max_files": 4}'
    with pytest.raises(SourceError, match="folder_too_large"):
        own.records(INVENTORY)


def test_a_folder_that_cannot_be_read_is_an_error_never_empty(served: Served, account: Account) -> None:
    good = served.room.folders.amendments
    binned = served.change("folder", title="Binned")["id"]
    served.change("trash", id=binned)
    unshared = served.change("folder", title="Unshared")["id"]
    account.folders(unshared).records(INVENTORY)
    served.change("unshare", id=unshared)
    document = served.change("upload", title="a", mime_type=DOC, folder=good, text="")["id"]
    for folder, code in (
        (unshared, "folder_missing"),
        ("1doesnotexist", "folder_missing"),
        (served.room.folders.private, "folder_missing"),
        (binned, "folder_trashed"),
        (document, "not_a_folder"),
    ):
        for object_type in (INVENTORY, CANDIDATE, CONTRACT):
            with pytest.raises(SourceError) as failed:
                account.folders(good, folder).records(object_type)
            assert (failed.value.code, failed.value.permanent) == (code, True)
            assert folder in str(failed.value)
    served.change("delete", id=document)


# --- shared drives


def test_a_whole_shared_drive_can_be_configured(served: Served, account: Account) -> None:
    (drive, *_) = served.room.store.drives
    payload = payload_of(account.folders(drive).records(INVENTORY)[0])
    assert {file["name"] for file in payload["files"]} >= {"Countersigned"}
    assert f"driveId={drive}" in "".join(query for _, _, query in served.requests)


def test_a_folder_shared_out_of_a_strangers_drive_is_walked_until_it_holds_still(
    served: Served, account: Account
) -> None:
    """The log of such a drive cannot be read, so only two equal walks prove anything."""
    stranger = served.change("drive", title="Stranger", member=False)["id"]
    folder = served.change("folder", title="Shared", folder=stranger, shared=True)["id"]
    for number in range(3):
        served.change("upload", title=f"Contract {number}", mime_type=DOC, folder=folder, text="x")
    served.requests.clear()
    (record,) = account.folders(folder).records(INVENTORY)
    assert len(payload_of(record)["files"]) == 3
    assert Counter(path for _, path, _ in served.requests)["/c0/google_drive/drive/v3/files"] == 2
    served.change("page_limit", count=2)
    late = {"action": "upload", "title": "Contract 3", "mime_type": DOC, "folder": folder, "text": "x"}
    served.change("meanwhile", change=late)
    (record,) = account.folders(folder).records(INVENTORY)
    assert len(payload_of(record)["files"]) == 4
    assert len(account.folders(folder).texts()) == 4


# --- a list that changes while it is read


def test_what_changes_while_it_is_listed_is_listed_again(served: Served, own: Account) -> None:
    """A file that moves to the front of the list while it is paged would be missed."""
    folder = own_folder(own)
    served.change("page_limit", count=1)
    oldest = node_named(served, "Below", folder)
    last = node_named(served, "Agreement one", folder)
    for change in (
        {"action": "rename", "id": last.id, "title": "Agreement uno"},
        {"action": "move", "id": last.id, "folder": oldest.id},
        {"action": "upload", "title": "Agreement five", "mime_type": DOC, "folder": folder, "text": "x"},
        {"action": "trash", "id": last.id},
        {"action": "delete", "id": last.id},
    ):
        served.change("meanwhile", change=change)
        (record,) = own.records(INVENTORY)
        calm = own.records(INVENTORY)
        assert record == calm[0]
        assert sorted(file["id"] for file in payload_of(record)["files"]) == sorted(reachable(served, folder))


def test_changes_elsewhere_do_not_disturb(served: Served, own: Account) -> None:
    served.change("page_limit", count=2)
    elsewhere = served.change("folder", title="Elsewhere")["id"]
    change = {"action": "upload", "title": "x", "mime_type": TEXT, "folder": elsewhere, "text": "x"}
    own.records(INVENTORY)
    calm = sum(own.sent.values())
    served.change("meanwhile", change=change, times=100)
    own.records(INVENTORY)
    assert sum(own.sent.values()) == calm


def test_folders_that_never_hold_still_are_an_error(served: Served, own: Account) -> None:
    served.change("page_limit", count=2)
    change = {"action": "upload", "title": "x", "mime_type": TEXT, "folder": own_folder(own), "text": "x"}
    served.change("meanwhile", change=change, times=100)
    with pytest.raises(SourceError) as failed:
        own.records(CANDIDATE)
    assert (failed.value.code, failed.value.permanent) == ("listing_unstable", False)
    assert listing.WALKS == 4


# --- candidates


def test_candidates_are_the_live_files_that_the_rules_match(served: Served, account: Account) -> None:
    records = account.records(CANDIDATE)
    found = {file.id: file for folder in served.room.folders.configured for file in reachable(served, folder).values()}
    words = ("agreement", "contract", "amendment")
    expected = {
        node.id
        for node in found.values()
        if node.mime in (DOC, PDF, DOCX, TEXT)
        and any(word in node.name.lower() for word in words)
        and not served.room.store.trashed(node)
    }
    assert {record.source_id for record in records} == expected
    assert [record.source_id for record in records] == sorted(expected)
    for record in records:
        node, payload = found[record.source_id], payload_of(record)
        assert record.version == node.version
        assert record.updated_at == datetime.fromtimestamp(node.modified / 1000, UTC)
        assert record.created_at == datetime.fromtimestamp(node.created / 1000, UTC)
        assert payload["candidate"]["rule"] == "agreement_names"
        assert payload["name"] == node.name
    (page,) = account.pages(CANDIDATE)
    inventories = {payload_of(record)["folder_id"]: record.source_id for record in account.records(INVENTORY)}
    assert page.provenance == {"inventories": inventories}


def test_rules_choose_by_kind_name_and_folder(served: Served, account: Account) -> None:
    folders = served.room.folders
    rules = (
        f'[{{"name": "scans", "mime_types": ["{PDF}"], "folders": ["{folders.countersigned}"]}},'
        f' {{"name": "first", "name_pattern": "^Amendment 1 ", "folders": ["{folders.amendments}"]}},'
        f' {{"name": "notes", "mime_types": ["{DOC}"], "name_pattern": "week [12]$"}}]'
    )
    account.options["FINANCE_OS_GOOGLE_DRIVE_CANDIDATE_RULES"] = rules
    by_rule: dict[str, set[str]] = {"scans": set(), "first": set(), "notes": set()}
    for record in account.records(CANDIDATE):
        payload = payload_of(record)
        by_rule[payload["candidate"]["rule"]].add(payload["name"])
    assert len(by_rule["scans"]) == 2
    assert len(by_rule["first"]) == 2
    assert all(name.startswith("Amendment 1 ") for name in by_rule["first"])
    assert by_rule["notes"] == {"Notes week 1", "Notes week 2"}


@pytest.mark.parametrize(("object_type", "zone"), [(CANDIDATE, NEW_YORK), (CANDIDATE, TOKYO), (CONTRACT, NEW_YORK)])
def test_past_days_hold_what_was_last_modified_on_them(
    served: Served, standing: list[Record], object_type: str, zone: ZoneInfo
) -> None:
    account = Account(served, zone)
    records = standing if object_type == CONTRACT else account.records(object_type)
    whole = {record.source_id: record for record in records}
    days = Days(START - timedelta(days=1), UNTIL.date())
    halves = [Days(days.first, date(2026, 10, 12)), Days(date(2026, 10, 13), days.last)]
    found = [record for half in halves for record in account.records(object_type, half, kind=Kind.WINDOW)]
    assert sorted(record.source_id for record in found) == sorted(whole)
    for record in found:
        assert record.updated_at is not None
        assert record.day == day_of(record.updated_at, zone)
        assert record.payload == whole[record.source_id].payload
    assert GOOGLE_DRIVE.object(object_type).reads is Reads.UPDATED
    assert "last modified" in account.notices(object_type, kind=Kind.WINDOW, days=halves[0])[-1]


# --- texts


def test_every_candidate_has_a_text_or_a_reason(served: Served, account: Account, standing: list[Record]) -> None:
    nodes = served.room.store.nodes
    statuses: Counter[tuple[str, str]] = Counter()
    files = [payload_of(record)["file_id"] for record in standing]
    assert files == [record.source_id for record in account.records(CANDIDATE)]
    for record in standing:
        payload = payload_of(record)
        node, text = nodes[payload["file_id"]], payload["text"]
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert record.source_id == f"{node.id}:text:{digest}"
        assert (payload["text_sha256"], payload["characters"]) == (digest, len(text))
        assert (payload["mime_type"], payload["version"], record.version) == (
            node.mime,
            str(node.version),
            node.version,
        )
        assert payload["sha256"] == (None if node.native else hashlib.sha256(node.content).hexdigest())
        statuses[node.mime, payload["extraction"]["status"]] += 1
        if node.mime == DOC:
            assert text == node.content.decode()
        elif node.mime == TEXT:
            assert text == node.content.decode("latin-1")
            assert payload["extraction"]["charset"] == "windows-1252"
        elif payload["extraction"]["status"] == "extracted":
            assert "publisher agreement" in text.lower()
        else:
            assert (text, digest) == ("", EMPTY)
    assert set(statuses) == {
        (DOC, "extracted"),
        (PDF, "extracted"),
        (PDF, "no_text"),
        (DOCX, "extracted"),
        (TEXT, "extracted"),
    }


def test_the_planted_share_can_be_read_from_the_text(served: Served, standing: list[Record]) -> None:
    (planted,) = [each for each in served.room.planted() if each.kind == "contract_share_differs"]
    texts = [text for text in (payload_of(record)["text"] for record in standing) if planted.id in text]
    shares = [text for text in texts if "basis points" in text]
    assert len(shares) == 1
    assert "7500 basis points" in shares[0]


def test_documents_that_cannot_be_read_are_recorded_with_the_reason(served: Served, own: Account) -> None:
    folder = own_folder(own)
    own.options["FINANCE_OS_GOOGLE_DRIVE_LIMITS"] = (
        '{"extraction_seconds": 1, "max_file_bytes": 300000, "requests_per_second": 10000}'
    )
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(documents.pdf(["secret"])))
    writer.encrypt("user", "owner")
    encrypted = io.BytesIO()
    writer.write(encrypted)
    made = {
        name: served.change("upload", title=f"Contract {name}", folder=folder, mime_type=mime, **content)["id"]
        for name, mime, content in (
            ("encrypted", PDF, {"base64": base64.b64encode(encrypted.getvalue()).decode()}),
            ("unreadable", PDF, {"base64": base64.b64encode(b"%PDF-1.7 broken").decode()}),
            ("unreadable word", DOCX, {"base64": base64.b64encode(b"PK broken").decode()}),
            ("no_text", PDF, {"base64": base64.b64encode(documents.scan()).decode()}),
            ("no_text at all", TEXT, {"text": ""}),
            ("too_large", TEXT, {"text": "x" * 300_001}),
            ("too_large to be exported", DOC, {"text": "x" * (10 * 1024 * 1024)}),
        )
    }
    texts = own.texts()
    for name, file_id in made.items():
        payload = texts[file_id]
        assert payload["extraction"]["status"] == name.split()[0], name
        assert (payload["text"], payload["text_sha256"], payload["characters"]) == ("", EMPTY, 0)
    served.requests.clear()
    own.texts()
    assert not [path for _, path, query in served.requests if made["too_large"] in path and "alt=media" in query]


def test_a_file_that_changes_while_it_is_fetched_is_fetched_again(served: Served, own: Account) -> None:
    """Between its listing and its download: what is recorded is one state of the file, metadata and text."""
    folder = own_folder(own)
    pdf, document = node_named(served, "Agreement three.pdf", folder), node_named(served, "Agreement one", folder)
    items = own.items(CONTRACT)
    seen: list[Record] = []
    for item in items:
        if isinstance(item, Page):
            if not seen:
                served.change("edit", id=pdf.id, text="A later text of three")
                served.change("edit", id=document.id, text="A later text of one")
            seen += item.records
    texts = {payload_of(record)["file_id"]: payload_of(record) for record in seen}
    late = [node for node in (pdf, document) if texts[node.id]["version"] == str(node.version)]
    assert late, "the first one in order is read before the change, the others after it"
    for node in late:
        assert texts[node.id]["text"].startswith("A later text")
        if node is pdf:
            assert texts[node.id]["sha256"] == hashlib.sha256(node.content).hexdigest()
    (page,) = [page for page in own.pages(CONTRACT) if page.records[0].source_id.startswith(pdf.id)]
    assert payload_of(page.records[0])["version"] == str(pdf.version)


def test_a_file_that_goes_away_while_it_is_read_is_left_out(served: Served, own: Account) -> None:
    folder = own_folder(own)
    files = {payload["file_id"] for payload in own.texts().values()}
    own.held.stage(own.records(CONTRACT), snapshot=True)
    items = own.items(CONTRACT)
    pages = [next(item for item in items if isinstance(item, Page))]
    first = payload_of(pages[0].records[0])["file_id"]
    others = sorted(files - {first})
    served.change("delete", id=others[0])
    served.change("trash", id=others[1])
    served.change("move", id=others[2], folder=served.room.folders.private)
    rest = list(items)
    pages += [item for item in rest if isinstance(item, Page)]
    gone = [record.source_id for page in pages for record in page.records if record.payload is None]
    kept = [payload_of(record)["file_id"] for page in pages for record in page.records if record.payload is not None]
    vanished = {file for file in others if any(each.startswith(file) for each in gone)}
    assert vanished >= {others[0], others[2]}
    assert set(kept) == files - vanished
    assert f"{len(vanished)} file(s) went away while they were read." in [
        item.text for item in rest if isinstance(item, Notice)
    ]
    own.held.stage(own.records(CONTRACT), snapshot=True)
    assert {payload["file_id"] for payload in own.held.payloads.values()} == {first}
    assert folder


def test_an_export_that_is_not_known_must_come_twice_the_same(served: Served, own: Account) -> None:
    document = node_named(served, "Agreement one", own_folder(own))
    path = f"/drive/v3/files/{document.id}/export"
    served.rules.append(Rule(path, "truncated"))
    assert own.texts()[document.id]["text"] == "Text of Agreement one"
    exports = Counter(path for _, path, _ in served.requests)[f"/c0/google_drive{path}"]
    assert exports == 3
    own.held.stage(own.records(CONTRACT), snapshot=True)
    served.requests.clear()
    own.texts()
    assert Counter(path for _, path, _ in served.requests)[f"/c0/google_drive{path}"] == 1, "it is known"


def test_versions_that_nobody_sees_do_not_keep_a_text_away(served: Served, own: Account) -> None:
    served.change("restless", on=True)
    assert "Text of Agreement one" in [payload["text"] for payload in own.texts().values()]


def test_a_document_that_is_edited_at_every_look_is_an_error(
    served: Served, own: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = node_named(served, "Agreement one", own_folder(own))
    whole = type(own.served.room.api)._files_export

    def restless(self: Any, request: Any, params: Any) -> Any:
        answer = whole(self, request, params)
        self.store.write(document, document.content + b".")
        return answer

    monkeypatch.setattr(type(own.served.room.api), "_files_export", restless)
    fresh = served.room._routes()
    monkeypatch.setattr(served.room.app.router, "routes", fresh)
    with pytest.raises(SourceError) as failed:
        own.texts()
    assert (failed.value.code, failed.value.permanent) == ("file_unstable", False)


def test_a_download_that_does_not_have_its_checksum_is_not_believed(
    served: Served, own: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    pdf = node_named(served, "Agreement three.pdf", own_folder(own))
    monkeypatch.setattr(type(pdf.revisions[0]), "md5", property(lambda _: "0" * 32))
    with pytest.raises(SourceError) as failed:
        own.texts()
    assert (failed.value.code, failed.value.permanent) == ("file_unstable", False)


def test_a_slow_hour_takes_no_text_away(served: Served, own: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    pdf = node_named(served, "Agreement three.pdf", own_folder(own))
    records = own.records(CONTRACT)
    monkeypatch.setattr(extraction, "_from_child", lambda mime, *_: without_text(mime, "timed_out"))
    assert own.texts()[pdf.id]["extraction"]["status"] == "timed_out"
    own.held.stage(records, snapshot=True)
    with pytest.raises(SourceError) as failed:
        own.texts()
    assert (failed.value.code, failed.value.permanent) == ("extraction_timed_out", False)
    served.change("edit", id=pdf.id, text="another text")
    assert own.texts()[pdf.id]["extraction"]["status"] == "timed_out", "nothing is known of this content"


@pytest.mark.parametrize("kind", [Kind.SNAPSHOT, Kind.WINDOW, Kind.TARGETED])
def test_a_changed_text_takes_the_place_of_the_one_before(served: Served, own: Account, kind: Kind) -> None:
    document = node_named(served, "Agreement one", own_folder(own))
    own.held.stage(own.records(CONTRACT))
    before = own.held.ids_where(("file_id",), document.id)
    served.change("edit", id=document.id, text="Another text")
    how: dict[str, Any] = {"kind": kind, "targets": (document.id,) if kind is Kind.TARGETED else ()}
    records = own.records(CONTRACT, **how)
    assert before == [record.source_id for record in records if record.payload is None]
    own.held.stage(records)
    (after,) = own.held.ids_where(("file_id",), document.id)
    assert after == f"{document.id}:text:{hashlib.sha256(b'Another text').hexdigest()}"
    assert own.records(CONTRACT, **how) == [record for record in records if record.payload is not None]


# --- targets


def test_a_targeted_read_says_what_is_there_and_what_is_not(served: Served, own: Account) -> None:
    folder = own_folder(own)
    one, two = (node_named(served, f"Agreement {name}", folder) for name in ("one", "two"))
    own.held.stage(own.records(CONTRACT))
    texts = {each: own.held.ids_where(("file_id",), each)[0] for each in (one.id, two.id)}
    served.change("trash", id=two.id)
    targets = (texts[one.id], two.id, "1unknown")
    found = {record.source_id: record.payload for record in own.records(CONTRACT, kind=Kind.TARGETED, targets=targets)}
    assert found.keys() == set(texts.values())
    assert found[texts[two.id]] is None
    assert found[texts[one.id]] is not None
    targets = (one.id, two.id)
    found = {record.source_id: record.payload for record in own.records(CANDIDATE, kind=Kind.TARGETED, targets=targets)}
    assert found.keys() == {one.id, two.id}
    assert found[two.id] is None
    own.held.payloads.clear()
    own.held.stage(own.records(INVENTORY))
    (old,) = own.held.payloads
    served.change("untrash", id=two.id)
    new, removed = own.records(INVENTORY, kind=Kind.TARGETED, targets=(folder,))
    assert (removed.source_id, removed.payload) == (old, None)
    assert payload_of(new)["folder_id"] == folder
    with pytest.raises(SourceError, match="not a configured folder"):
        own.records(INVENTORY, kind=Kind.TARGETED, targets=("1other",))


# --- crashed reads


def test_a_crashed_read_goes_on_behind_its_last_file(served: Served, own: Account) -> None:
    pages = own.pages(CONTRACT)
    assert len(pages) == 4
    rest = own.pages(CONTRACT, resume=pages[1].resume)
    assert [page.records for page in rest] == [page.records for page in pages[2:]]
    assert own.pages(CONTRACT, resume=pages[-1].resume) == []
    document = node_named(served, "Agreement one", own_folder(own))
    served.change("edit", id=document.id, text="other")
    assert len(own.pages(CONTRACT, resume=pages[1].resume)) == 4, "other files: all of it anew"


# --- faults at every request


@pytest.fixture
def small(served: Served) -> Account:
    """An account with one folder on two pages: a document, and a text in a folder below."""
    folder = served.change("folder", title="Small")["id"]
    below = served.change("folder", title="Below", folder=folder)["id"]
    served.change("upload", title="Agreement one", mime_type=DOC, folder=folder, text="Text of one")
    served.change("upload", title="Agreement two.txt", mime_type=TEXT, folder=below, text="Text of two")
    served.change("page_limit", count=1)
    return Account(served).folders(folder)


@pytest.mark.parametrize("object_type", [INVENTORY, CONTRACT])
@pytest.mark.parametrize("kind", ["429", "500", "timeout", "truncated", "drop_connection"])
def test_a_fault_at_any_request_changes_nothing(served: Served, small: Account, object_type: str, kind: Any) -> None:
    small.patience = IMPATIENT if kind == "timeout" else QUICK
    expected = small.records(object_type)
    for position in range(1, sum(small.sent.values()) + 1):
        # An error of the token endpoint is google-auth's to repeat, which takes it a second.
        path = "/drive/*" if position == 1 and kind in ("429", "500") else "/*"
        served.rules[:] = [Rule(path, kind, on=position)]
        assert small.records(object_type) == expected, position
        assert served.rules[0].seen > position, "it struck, and something was asked for after it"


def test_a_403_at_any_request_stops_the_read(served: Served, small: Account) -> None:
    small.records(CONTRACT)
    for position in range(1, sum(small.sent.values())):
        served.rules[:] = [Rule("/drive/*", "403", on=position)]
        with pytest.raises(SourceError) as failed:
            small.records(CONTRACT)
        assert failed.value.code == "insufficient_file_permissions"


def test_a_token_endpoint_that_fails_for_a_moment_is_asked_again(served: Served, small: Account) -> None:
    served.rules[:] = [Rule("/token", "500")]
    assert small.records(INVENTORY)


# --- staged


@dataclass
class Staged:
    """A connection in the finance database that reads a served Drive."""

    database: Database
    connection: Connection
    account: Account

    def read(self, object_type: str, days: Days = TODAY, *, kind: Kind = Kind.SNAPSHOT, **how: Any) -> dict[str, Any]:
        obj = GOOGLE_DRIVE.object(object_type)

        @contextmanager
        def opened(request: Request) -> Iterator[Extraction]:
            limits = {"FINANCE_OS_GOOGLE_DRIVE_LIMITS": FAST}
            given = {**self.account.served.env, **limits, **self.account.options}
            with connect(Credentials(given), QUICK) as drive:
                yield GOOGLE_DRIVE.extract(drive, obj, request)

        window = window_of(days, self.connection.zone)
        read = Read(self.connection, object_type, kind, days, window, {}, opened, obj.volatile_paths, **how)
        return perform(self.database, read, Origin(Trigger.MANUAL), chunk_rows=3)

    def heads(self, object_type: str) -> dict[str, dict[str, Any]]:
        """Source ID → payload of what is current."""
        rows = self.database.fetch(
            """
            SELECT source_id, payload FROM finance_os.raw_record_heads AS head
            JOIN finance_os.raw_source_records AS record USING (record_id, business_id, source_id)
            WHERE head.business_id = %s AND head.object_type = %s AND NOT head.removed
            """,
            (self.connection.business_id, object_type),
        )
        return {row["source_id"]: row["payload"] for row in rows}


@pytest.fixture
def staged(database: Database, own: Account) -> Staged:
    ensure_business(database, "acme", "Acme", "America/New_York")
    return Staged(database, ensure_connection(database, "acme", "google_drive"), own)


def test_snapshots_stage_new_changed_and_removed_files(served: Served, staged: Staged) -> None:
    folder = own_folder(staged.account)
    for object_type, rows in ((INVENTORY, 1), (CANDIDATE, 4), (CONTRACT, 4)):
        first = staged.read(object_type)
        assert (first["rows_new"], first["rows_removed"]) == (rows, 0)
        again = staged.read(object_type)
        assert (again["rows_extracted"], again["rows_new"], again["rows_changed"]) == (rows, 0, 0)
        assert again["batch_hash"] == first["batch_hash"]
        assert again["remote_count"] is None
        assert again["requested"].keys() == {"GET 127.0.0.1", "POST 127.0.0.1"}
    one, two, three = (node_named(served, f"Agreement {name}", folder) for name in ("one", "two", "three.pdf"))
    served.change("edit", id=one.id, text="Another text")
    served.change("trash", id=two.id)
    served.change("move", id=three.id, folder=served.room.folders.empty)
    served.change("upload", title="Late agreement", mime_type=DOC, folder=folder, text="Late")
    inventory = staged.read(INVENTORY)
    assert (inventory["rows_new"], inventory["rows_removed"]) == (1, 1)
    candidates = staged.read(CANDIDATE)
    assert (candidates["rows_new"], candidates["rows_changed"], candidates["rows_removed"]) == (1, 1, 2)
    assert {payload["name"] for payload in staged.heads(CANDIDATE).values()} == {
        "Agreement one",
        "Agreement four.txt",
        "Late agreement",
    }
    staged.read(CONTRACT)
    assert {payload["text"] for payload in staged.heads(CONTRACT).values()} == {
        "Another text",
        "Text of Agreement four.txt",
        "Late",
    }
    for source_id, payload in staged.heads(INVENTORY).items():
        assert source_id == f"drive-query:{payload_hash(payload).hex()}"
    served.change("edit", id=one.id, text="Text of Agreement one")
    staged.read(CONTRACT)
    assert f"{one.id}:text:{hashlib.sha256(b'Text of Agreement one').hexdigest()}" in staged.heads(CONTRACT)
    assert len(staged.heads(CONTRACT)) == 3


def test_a_targeted_read_supersedes_in_the_database(served: Served, staged: Staged) -> None:
    one = node_named(served, "Agreement one", own_folder(staged.account))
    staged.read(CONTRACT)
    staged.read(CANDIDATE)
    served.change("edit", id=one.id, text="Another text")
    staged.read(CONTRACT, kind=Kind.TARGETED, targets=(one.id,))
    texts = [payload["text"] for payload in staged.heads(CONTRACT).values() if payload["file_id"] == one.id]
    assert texts == ["Another text"]
    served.change("delete", id=one.id)
    staged.read(CONTRACT, kind=Kind.TARGETED, targets=(one.id, "1unknown"))
    staged.read(CANDIDATE, kind=Kind.TARGETED, targets=(one.id, "1unknown"))
    assert one.id not in {payload["file_id"] for payload in staged.heads(CONTRACT).values()}
    assert one.id not in staged.heads(CANDIDATE)
    assert len(staged.heads(CONTRACT)) == len(staged.heads(CANDIDATE)) == 3


def test_a_failed_snapshot_removes_nothing(served: Served, staged: Staged) -> None:
    staged.read(CANDIDATE)
    served.change("unshare", id=own_folder(staged.account))
    with pytest.raises(SourceError, match="folder_missing"):
        staged.read(CANDIDATE)
    assert len(staged.heads(CANDIDATE)) == 4


def test_two_businesses_with_the_same_ids_do_not_meet(database: Database, served: Served) -> None:
    with serving(seed=4) as other:
        accounts = []
        for business, each in (("acme", served), ("globex", other)):
            ensure_business(database, business, business, "America/New_York")
            connection = ensure_connection(database, business, "google_drive")
            account = Account(each).folders(each.room.folders.amendments)
            accounts.append(Staged(database, connection, account))
        for staged in accounts:
            staged.read(CANDIDATE)
        first, second = (staged.heads(CANDIDATE) for staged in accounts)
        assert first.keys() & second.keys()
        assert first != second
        for staged, before in zip(accounts, (first, second), strict=True):
            staged.read(CANDIDATE)
            assert staged.heads(CANDIDATE) == before


def test_the_declaration_says_what_the_plan_shows() -> None:
    assert (GOOGLE_DRIVE.system, GOOGLE_DRIVE.title, GOOGLE_DRIVE.order) == ("google_drive", "Google Drive", 3)
    assert [obj.label for obj in GOOGLE_DRIVE] == [INVENTORY, CANDIDATE, CONTRACT]
    assert [obj.object_type for obj in GOOGLE_DRIVE] == [
        "folder_inventory",
        "publisher_contract_candidate",
        "contract_text",
    ]
    assert GOOGLE_DRIVE.sla == timedelta(days=2)
    for obj in GOOGLE_DRIVE:
        columns = {column.name for column in obj.columns}
        assert columns >= set(obj.shown)
        assert not {"name", "text", "files", "folder"} & set(obj.shown)
        assert obj.volatile == ()
