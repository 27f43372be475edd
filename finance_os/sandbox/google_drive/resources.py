"""How the Drive's things look on the wire: files, revisions, changes, shared drives, the account.

Fields as in the discovery document's schemas; 64-bit integers are text, times RFC 3339 with milliseconds.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any

from .store import APPS, DOC, DOCX, FOLDER, PDF, SHEET, SHORTCUT, Change, Node, Revision, SharedDrive, Store

EXPORTS: dict[str, tuple[str, ...]] = {DOC: ("text/plain", PDF, DOCX), SHEET: ("text/csv",)}
"""What the sandbox can export a Google document as."""

_OWNER = {
    "kind": "drive#user",
    "displayName": "Finance Operations",
    "me": False,
    "permissionId": "01234567890123456789",
    "emailAddress": "finance.operations@sandbox-ads.example.com",
}
_BYTES_A_CHARACTER = 2  # what a Google document counts for its size is not documented


def rfc3339(moment: int) -> str:
    """Milliseconds since the epoch as `2026-01-31T09:00:00.000Z`."""
    text = datetime.fromtimestamp(moment // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{moment % 1000:03d}Z"


def file(store: Store, node: Node) -> dict[str, Any]:
    """A file as its reader sees it: its folder is named only if that can be read too."""
    body: dict[str, Any] = {
        "kind": "drive#file",
        "id": node.id,
        "name": node.name,
        "mimeType": node.mime,
        "starred": False,
        "trashed": store.trashed(node),
        "explicitlyTrashed": node.binned is not None,
        "spaces": ["drive"],
        "version": str(node.version),
        "webViewLink": f"https://drive.google.com/file/d/{node.id}/view",
        "createdTime": rfc3339(node.created),
        "modifiedTime": rfc3339(node.modified),
        "modifiedByMe": False,
        "viewedByMe": False,
        "ownedByMe": False,
        "shared": True,
        "viewersCanCopyContent": not node.locked,
        "copyRequiresWriterPermission": node.locked,
        "writersCanShare": False,
        "lastModifyingUser": _OWNER,
        "capabilities": {
            "canEdit": False,
            "canDelete": False,
            "canTrash": False,
            "canShare": False,
            "canCopy": not node.locked and node.mime != FOLDER,
            "canDownload": not node.locked and node.mime != FOLDER,
            "canListChildren": node.mime == FOLDER,
            "canReadRevisions": node.mime not in (FOLDER, SHORTCUT),
        },
    }
    if node.parent and store.readable(store.nodes[node.parent]):
        body["parents"] = [node.parent]
    if node.binned is not None:
        body["trashedTime"] = rfc3339(node.binned)
    if node.drive is not None:
        body |= {"driveId": node.drive, "teamDriveId": node.drive}
    else:
        body["owners"] = [_OWNER]
        if node.shared:
            body |= {"sharedWithMeTime": rfc3339(node.created), "sharingUser": _OWNER}
    if node.target is not None:
        target = store.nodes.get(node.target)
        body["shortcutDetails"] = {
            "targetId": node.target,
            "targetMimeType": target.mime if target else APPS + "unknown",
        }
    if node.native and node.mime not in (FOLDER, SHORTCUT):
        size = _BYTES_A_CHARACTER * len(node.content)
        body |= {"size": str(size), "quotaBytesUsed": str(size)}
        body["exportLinks"] = {
            kind: f"https://docs.google.com/feeds/download/documents/export/Export?id={node.id}&exportFormat={kind}"
            for kind in EXPORTS.get(node.mime, ())
        }
    elif not node.native:
        body |= _content(node)
    return body


def _content(node: Node) -> dict[str, Any]:
    size = str(len(node.content))
    ending = node.name.rpartition(".")[2] if "." in node.name else ""
    return {
        "size": size,
        "quotaBytesUsed": size,
        "md5Checksum": node.revisions[-1].md5,
        "sha1Checksum": hashlib.sha1(node.content, usedforsecurity=False).hexdigest(),
        "sha256Checksum": hashlib.sha256(node.content).hexdigest(),
        "headRevisionId": node.revisions[-1].id,
        "originalFilename": node.name,
        "fileExtension": ending,
        "fullFileExtension": ending,
    }


def revision(node: Node, each: Revision) -> dict[str, Any]:
    body: dict[str, Any] = {
        "kind": "drive#revision",
        "id": each.id,
        "mimeType": node.mime,
        "modifiedTime": rfc3339(each.moment),
        "lastModifyingUser": _OWNER,
    }
    if node.native:
        return body | {"published": False}
    return body | {
        "keepForever": False,
        "md5Checksum": each.md5,
        "size": str(len(each.content)),
        "originalFilename": node.name,
    }


def change(store: Store, each: Change) -> dict[str, Any]:
    """An entry of the log, with the file as it is now; without it where it can no longer be read."""
    node = store.nodes.get(each.file_id)
    gone = node is None or not store.readable(node)
    body: dict[str, Any] = {
        "kind": "drive#change",
        "type": "file",
        "changeType": "file",
        "time": rfc3339(each.moment),
        "removed": gone,
        "fileId": each.file_id,
    }
    if each.drive is not None:
        body["driveId"] = each.drive
    if node is not None and not gone:
        body["file"] = file(store, node)
    return body


def shared_drive(drive: SharedDrive) -> dict[str, Any]:
    return {
        "kind": "drive#drive",
        "id": drive.id,
        "name": drive.name,
        "createdTime": rfc3339(drive.created),
        "hidden": False,
        "colorRgb": "#0f9d58",
        "capabilities": {"canEdit": False, "canListChildren": True, "canDownload": True, "canReadRevisions": True},
    }


def about(store: Store, email: str) -> dict[str, Any]:
    used = sum(len(each.content) for node in store.nodes.values() for each in node.revisions)
    return {
        "kind": "drive#about",
        "user": {
            **_OWNER,
            "displayName": email,
            "emailAddress": email,
            "me": True,
            "permissionId": "98765432109876543210",
        },
        "storageQuota": {"usage": str(used), "usageInDrive": str(used), "usageInDriveTrash": "0"},
        "exportFormats": {kind: list(formats) for kind, formats in EXPORTS.items()},
        "importFormats": {},
        "maxImportSizes": {DOC: "10485760"},
        "maxUploadSize": "5242880000000",
        "appInstalled": False,
        "canCreateDrives": False,
        "canCreateTeamDrives": False,
        "driveThemes": [],
        "teamDriveThemes": [],
        "folderColorPalette": ["#ac725e"],
    }
