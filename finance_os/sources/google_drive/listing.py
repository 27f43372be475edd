"""What lies in the configured folders: listed recursively, shortcuts followed, and proven to hold still meanwhile.

Drive has no snapshots, and a list that changes while it is paged may leave something out. So the logs of changes (the
account's own and that of each shared drive that is met) are read from where they ended before the walk; where a file
in the walked folders is in them, everything is walked again. A shared drive whose log the account may not read (it is
no member of it) is walked until two walks after each other are equal.
https://developers.google.com/workspace/drive/api/guides/manage-changes
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from finance_os.evidence.canonical import payload_hash
from finance_os.evidence.extraction import SourceError
from finance_os.sources.google_drive.answers import DriveFailure, File
from finance_os.sources.google_drive.client import DriveReader
from finance_os.sources.google_drive.objects import FOLDER_MIME, SHORTCUT_MIME

WALKS = 4
"""How often the folders are walked before the read fails with `listing_unstable`."""


@dataclass
class Tree:
    """A configured folder and everything below it.

    `files` are all files by ID, each once, however many ways lead to it. `within` says what each walked folder shows,
    directly or through a shortcut; `targets` where shortcuts lead to; `reached_by` which shortcuts lead to a file;
    `unreadable` are shortcuts whose target is not there or not shared.
    """

    folder: File
    files: dict[str, File] = field(default_factory=dict)
    within: dict[str, set[str]] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    reached_by: dict[str, set[str]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)

    def below(self, folder_id: str) -> set[str]:
        """IDs of everything that can be reached from a folder of this tree."""
        found: set[str] = set()
        waiting = [folder_id]
        while waiting:
            fresh = self.within.get(waiting.pop(), set()) - found
            found |= fresh
            waiting.extend(fresh)
        return found

    def inventory(self) -> dict[str, Any]:
        """The payload of this folder's inventory: the same tree gives the same payload."""
        files = [self.files[each] for each in sorted(self.files)]
        live = [file for file in files if not file["trashed"]]
        kinds = [file["mimeType"] for file in live]
        return {
            "folder_id": self.folder["id"],
            "folder": self.folder,
            "files": files,
            "shortcuts": [
                {"id": shortcut, "target_id": self.targets[shortcut], "readable": shortcut not in self.unreadable}
                for shortcut in sorted(self.targets)
            ],
            "counts": {
                "files": len(live) - kinds.count(FOLDER_MIME) - kinds.count(SHORTCUT_MIME),
                "folders": kinds.count(FOLDER_MIME),
                "shortcuts": kinds.count(SHORTCUT_MIME),
                "trashed": len(files) - len(live),
            },
        }


@dataclass(frozen=True)
class Listing:
    """The configured folders as they were at one time; `requested_at` is when the walk that saw them began."""

    trees: tuple[Tree, ...]
    requested_at: datetime

    def inventories(self) -> dict[str, str]:
        """Source ID of each folder's inventory, by folder ID."""
        return {tree.folder["id"]: inventory_id(tree.inventory()) for tree in self.trees}


def inventory_id(inventory: dict[str, Any]) -> str:
    """The source ID of an inventory: `drive-query:` and the hash of its payload, which has no volatile fields."""
    return "drive-query:" + payload_hash(inventory).hex()


def read_listing(drive: DriveReader, folders: Iterable[str], now: Callable[[], datetime]) -> Listing:
    """The folders with all that lies in them, at one time.

    Raises `SourceError`: `folder_missing`, `folder_trashed`, `not_a_folder` (nobody can read such a folder as empty),
    `folder_too_large`, and `listing_unstable`, which may pass.
    """
    folders = tuple(folders)
    before: bytes | None = None
    drives: set[str | None] = {None}
    for _ in range(WALKS):
        requested_at = now()
        roots = [_root(drive, folder) for folder in folders]
        drives |= {root.get("driveId") for root in roots}
        tokens = {log: drive.start_token(log) for log in sorted(drives, key=str)}
        try:
            trees = tuple(_walk(drive, root, tokens) for root in roots)
        except _Moved:
            continue
        met: set[str | None] = {file.get("driveId") for tree in trees for file in tree.files.values()}
        drives |= met
        state = payload_hash([tree.inventory() for tree in trees])
        proven = met <= tokens.keys() and None not in tokens.values()
        if (proven or state == before) and not _changed(drive, trees, tokens):
            return Listing(trees, requested_at)
        before = state
    raise SourceError("listing_unstable", f"the folders changed during each of {WALKS} walks through them")


class _Moved(Exception):
    """A list lost its thread: something in it has moved or vanished."""


def _root(drive: DriveReader, folder_id: str) -> File:
    try:
        folder = drive.file(folder_id)
    except DriveFailure as failure:
        if failure.code != "missing":
            raise
        folder = None
    if folder is None:
        raise SourceError(
            "folder_missing", f"folder {folder_id} is not there, or not shared with the service account", permanent=True
        )
    if folder["mimeType"] != FOLDER_MIME:
        raise SourceError("not_a_folder", f"{folder_id} is not a folder", permanent=True)
    if folder["trashed"]:
        raise SourceError("folder_trashed", f"folder {folder_id} lies in the bin", permanent=True)
    return folder


def _walk(drive: DriveReader, root: File, tokens: dict[str | None, str | None]) -> Tree:
    """One walk. Each folder is looked into once, so that neither shortcuts nor diamonds lead around in circles."""
    tree = Tree(root)
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if folder["id"] in tree.within:
            continue
        shown = tree.within[folder["id"]] = set()
        drive_id = folder.get("driveId")
        try:
            pages = drive.children(folder["id"], drive_id if tokens.get(drive_id) else None)
            for file in (file for page in pages for file in page):
                shown.add(file["id"])
                tree.files[file["id"]] = file
                if file["mimeType"] == FOLDER_MIME:
                    waiting.append(file)
                elif file["mimeType"] == SHORTCUT_MIME:
                    waiting.extend(_follow(drive, tree, file, shown))
        except DriveFailure as failure:
            # For a page token that is refused "pagination should be restarted"; likewise for a folder that is gone.
            if failure.code in ("missing", "page_repeated") or failure.place == "pageToken":
                raise _Moved from None
            raise
        if len(tree.files) > drive.settings.limits.max_files:
            raise SourceError(
                "folder_too_large",
                f"folder {root['id']} holds more than {drive.settings.limits.max_files:,} files",
                permanent=True,
            )
    return tree


def _follow(drive: DriveReader, tree: Tree, shortcut: File, shown: set[str]) -> list[File]:
    """Note where a live shortcut leads to; the folders that are to be walked for it."""
    passed: set[str] = set()
    while shortcut["mimeType"] == SHORTCUT_MIME and not shortcut["trashed"] and shortcut["id"] not in passed:
        passed.add(shortcut["id"])
        target_id = (shortcut.get("shortcutDetails") or {}).get("targetId")
        if target_id is None:
            break
        tree.targets[shortcut["id"]] = target_id
        target = tree.folder if target_id == tree.folder["id"] else tree.files.get(target_id)
        if target is None:
            try:
                target = drive.file(target_id)
            except DriveFailure as failure:
                if failure.code != "missing":
                    raise
                tree.unreadable.add(shortcut["id"])
                break
            tree.files[target_id] = target
        tree.reached_by.setdefault(target_id, set()).add(shortcut["id"])
        shown.add(target_id)
        shortcut = target
    return [shortcut] if shortcut["mimeType"] == FOLDER_MIME else []


def _changed(drive: DriveReader, trees: Iterable[Tree], tokens: dict[str | None, str | None]) -> bool:
    """Whether a log tells of something in the walked folders since the walk began."""
    folders = {folder for tree in trees for folder in tree.within}
    files = folders | {file for tree in trees for file in tree.files}
    return any(
        file_id in files or folders.intersection(parents)
        for log, token in tokens.items()
        if token is not None
        for file_id, parents in drive.changes(token, log)
    )
