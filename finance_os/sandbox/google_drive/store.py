"""What lies in the Drive: folders, files with their revisions, shortcuts, shared drives, and the log of changes.

Times are milliseconds since the epoch. Every change of a file raises its version by one and is logged.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..ids import letters

APPS = "application/vnd.google-apps."
FOLDER = APPS + "folder"
SHORTCUT = APPS + "shortcut"
DOC = APPS + "document"
SHEET = APPS + "spreadsheet"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
TEXT = "text/plain"


@dataclass(slots=True, eq=False)
class Revision:
    """One state of a file's content; a Google document's is text, any other file's is bytes."""

    id: str
    moment: int
    content: bytes

    @property
    def md5(self) -> str:
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest()


@dataclass(slots=True, eq=False)
class Node:
    """A file, folder or shortcut. `parent` is its only folder; `drive` the shared drive that it lies in.

    `shared` says that it is shared with the service account by itself (not by its folder); `locked` that the
    account may see but not download it.
    """

    id: str
    name: str
    mime: str
    parent: str | None
    drive: str | None
    created: int
    modified: int
    version: int = 1
    binned: int | None = None
    shared: bool = False
    locked: bool = False
    target: str | None = None
    revisions: list[Revision] = field(default_factory=list)

    @property
    def content(self) -> bytes:
        """The latest content; nothing for folders and shortcuts."""
        return self.revisions[-1].content if self.revisions else b""

    @property
    def native(self) -> bool:
        """Whether it is Google's own kind: without bytes that could be downloaded."""
        return self.mime.startswith(APPS)


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the log: which file changed when; `gone`: so that the service account can no longer read it."""

    file_id: str
    drive: str | None
    moment: int
    gone: bool


@dataclass(slots=True, eq=False)
class SharedDrive:
    """A shared drive; its root folder is a node with the same ID. `member`: the service account is one."""

    id: str
    name: str
    created: int
    member: bool


class Store:
    """All files by ID. `clock` tells the present in seconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.nodes: dict[str, Node] = {}
        self.drives: dict[str, SharedDrive] = {}
        self.changes: list[Change] = []
        self._clock = clock
        self._children: dict[str, dict[str, None]] = {}
        self._last = 0
        self._numbers: dict[str, int] = {}

    # --- looking

    def children(self, folder: str) -> Iterator[Node]:
        return (self.nodes[child] for child in self._children.get(folder, ()))

    def trashed(self, node: Node) -> bool:
        """Whether it, or a folder above it, lies in the bin."""
        return any(each.binned is not None for each in self._upwards(node))

    def readable(self, node: Node) -> bool:
        """Whether the service account may see it: shared with it, below something shared, or in a drive of its."""
        return any(
            each.shared or (each.drive is not None and self.drives[each.drive].member) for each in self._upwards(node)
        )

    def _upwards(self, node: Node) -> Iterator[Node]:
        above: Node | None = node
        while above is not None:
            yield above
            above = self.nodes.get(above.parent) if above.parent else None

    # --- changing

    def add_drive(self, name: str, *, member: bool = True) -> SharedDrive:
        number = self._number("drive")
        drive = SharedDrive("0A" + letters(f"drive:{number}", 11) + "Uk9PVA", name, self.moment(), member)
        self.drives[drive.id] = drive
        self.nodes[drive.id] = Node(drive.id, "Drive", FOLDER, None, drive.id, drive.created, drive.created)
        return drive

    def add(
        self,
        name: str,
        mime: str,
        parent: str | None,
        *,
        content: bytes | None = None,
        target: str | None = None,
        shared: bool = False,
    ) -> Node:
        """A new file, folder (`FOLDER`) or shortcut (`SHORTCUT` with `target`)."""
        folder = self.nodes[parent] if parent else None
        if folder is not None and folder.mime != FOLDER:
            raise ValueError(f"{parent} is not a folder")
        number = self._number("file")
        native = mime.startswith(APPS) and mime not in (FOLDER, SHORTCUT)
        key = "1" + (letters(f"doc:{number}", 42) + "w" if native else letters(f"file:{number}", 32))
        now = self.moment()
        node = Node(key, name, mime, parent, folder.drive if folder else None, now, now, shared=shared, target=target)
        if content is not None:
            node.revisions.append(self._revision(now, content))
        self.nodes[key] = node
        if parent:
            self._children.setdefault(parent, {})[key] = None
        self._log(node, now)
        return node

    def write(self, node: Node, content: bytes) -> None:
        """Replace a file's content: a new revision."""
        if node.mime in (FOLDER, SHORTCUT):
            raise ValueError(f"{node.id} has no content")
        node.modified = self.moment()
        node.revisions.append(self._revision(node.modified, content))
        self._touch(node, node.modified)

    def rename(self, node: Node, name: str) -> None:
        node.name = name
        node.modified = self.moment()
        self._touch(node, node.modified)

    def move(self, node: Node, parent: str) -> None:
        """To another folder. Its modified time stays, as with Drive."""
        folder = self.nodes[parent]
        if folder.mime != FOLDER or any(each is node for each in self._upwards(folder)):
            raise ValueError(f"{parent} is not a folder that {node.id} could be moved into")
        before = self.readable(node)
        if node.parent:
            self._children[node.parent].pop(node.id)
        node.parent = parent
        self._children.setdefault(parent, {})[node.id] = None
        for each in self.below(node):
            each.drive = folder.drive
        node.version += 1
        self._log(node, self.moment(), gone=before and not self.readable(node))

    def trash(self, node: Node) -> None:
        """Into the bin, with all that lies in it; modified times stay."""
        now = self.moment()
        node.binned = now
        for each in self.below(node):
            self._touch(each, now)

    def untrash(self, node: Node) -> None:
        now = self.moment()
        node.binned = None
        for each in self.below(node):
            self._touch(each, now)

    def delete(self, node: Node) -> None:
        """For ever, with all that lies in it."""
        now = self.moment()
        for each in reversed(list(self.below(node))):
            gone = self.readable(each)
            self._children.pop(each.id, None)
            if each.parent:
                self._children[each.parent].pop(each.id, None)
            del self.nodes[each.id]
            self._log(each, now, gone=gone)

    def share(self, node: Node, shared: bool) -> None:
        """Share with the service account, or take that back."""
        now = self.moment()
        before = [(each, self.readable(each)) for each in self.below(node)]
        node.shared = shared
        for each, could in before:
            each.version += 1
            self._log(each, now, gone=could and not self.readable(each))

    def lock(self, node: Node, locked: bool) -> None:
        """Forbid viewers to download or export it, or allow it again."""
        node.locked = locked
        self._touch(node, self.moment())

    def below(self, node: Node) -> Iterator[Node]:
        """It and everything in it, folders first."""
        yield node
        for child in list(self.children(node.id)):
            yield from self.below(child)

    def moment(self) -> int:
        """Now in milliseconds; later than at the call before, so that what changed later has a later time."""
        self._last = max(self._clock() * 1000, self._last + 1)
        return self._last

    def _touch(self, node: Node, moment: int) -> None:
        node.version += 1
        self._log(node, moment)

    def _log(self, node: Node, moment: int, *, gone: bool = False) -> None:
        self.changes.append(Change(node.id, node.drive, moment, gone))

    def _revision(self, moment: int, content: bytes) -> Revision:
        return Revision("0B" + letters(f"revision:{self._number('revision')}", 32), moment, content)

    def _number(self, kind: str) -> int:
        self._numbers[kind] = self._numbers.get(kind, 0) + 1
        return self._numbers[kind]
