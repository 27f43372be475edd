"""Drive's REST API version 3, as a service account with read access sees it.

https://developers.google.com/workspace/drive/api/reference/rest/v3
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from . import documents, resources, wire
from .oauth import ServiceAccount, Token
from .pages import Pages
from .query import parse
from .store import DOC, DOCX, FOLDER, PDF, SHORTCUT, Node, Store
from .wire import DriveError, Mask, invalid, json_response, read_mask, read_query

EXPORT_LIMIT = 10 * 1024 * 1024
"""The most that an export may weigh: https://developers.google.com/workspace/drive/api/reference/rest/v3/files/export"""

_FILE_DEFAULT = "kind,id,name,mimeType,resourceKey"
_DEFAULTS = {
    "FileList": f"kind,incompleteSearch,nextPageToken,files({_FILE_DEFAULT})",
    "File": _FILE_DEFAULT,
    "DriveList": "kind,nextPageToken,drives(kind,id,name)",
    "Drive": "kind,id,name",
    "RevisionList": "kind,nextPageToken,revisions(kind,id,mimeType,modifiedTime)",
    "Revision": "kind,id,mimeType,modifiedTime",
    "ChangeList": "kind,nextPageToken,newStartPageToken,"
    f"changes(kind,type,changeType,time,removed,fileId,driveId,file({_FILE_DEFAULT}))",
    "StartPageToken": "kind,startPageToken",
}
_SORTS: Mapping[str, Callable[[Node], Any]] = {
    "createdTime": lambda node: node.created,
    "folder": lambda node: node.mime != FOLDER,
    "modifiedByMeTime": lambda _: 0,
    "modifiedTime": lambda node: node.modified,
    "name": lambda node: node.name.casefold(),
    "name_natural": lambda node: [
        (part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", node.name.casefold())
    ],
    "quotaBytesUsed": lambda node: len(node.content),
    "recency": lambda node: node.modified,
    "sharedWithMeTime": lambda node: node.created if node.shared else 0,
    "starred": lambda _: 0,
    "viewedByMeTime": lambda _: 0,
}


class DriveApi:
    """Answers requests from a store.

    `after_page` is called after each page of a list that is not the last one; `throttled` is how many requests are
    answered with a rate limit; `incomplete` what searches say of themselves; `page_limit` the most items on a page;
    `restless`: an export counts as a change of the file that nobody sees.
    """

    def __init__(self, store: Store, account: ServiceAccount) -> None:
        self.store = store
        self.account = account
        self.incomplete = False
        self.throttled = 0
        self.restless = False
        self.page_limit: int | None = None
        self.after_page: Callable[[], None] = lambda: None
        self._pages = Pages(lambda: self.page_limit)

    def read(self, resource: str, method: str, scopes: Iterable[str]) -> Callable[[Request], Any]:
        """The endpoint of a GET method."""
        work: Callable[[Request, dict[str, Any]], Response] | None = getattr(self, f"_{resource}_{method}", None)

        async def answer(request: Request) -> Response:
            try:
                self._admit(request, scopes)
                if work is None:
                    raise DriveError(501, "notImplemented", f"This sandbox does not offer {resource}.{method}.")
                params = read_query(resource, method, request.scope["query_string"])
                return work(request, params)
            except DriveError as error:
                return error.response()

        return answer

    def write(self, resource: str, method: str, scopes: Iterable[str]) -> Callable[[Request], Any]:
        """The endpoint of a method that changes something: always refused, as a reader would be."""

        async def answer(request: Request) -> Response:
            try:
                self._admit(request, scopes)
                if (resource, method) == ("files", "download"):
                    raise DriveError(501, "notImplemented", "This sandbox does not offer files.download.")
                raise DriveError(
                    403,
                    "insufficientFilePermissions",
                    "The user does not have sufficient permissions for this file.",
                )
            except DriveError as error:
                return error.response()

        return answer

    def _admit(self, request: Request, scopes: Iterable[str]) -> Token:
        token = self.account.authenticate(request.headers.get("authorization"))
        if not token.scopes & set(scopes):
            raise wire.insufficient_scopes()
        if self.throttled:
            self.throttled -= 1
            raise DriveError(403, "userRateLimitExceeded", "User Rate Limit Exceeded", domain="usageLimits")
        return token

    # --- files

    def _files_list(self, _: Request, params: dict[str, Any]) -> Response:
        mask = self._mask("FileList", params)
        self._check_corpora(params)
        query = parse(params["q"], self.store) if params.get("q") else None
        order = self._order(params.get("orderBy"))
        found = [
            node
            for node in self.store.nodes.values()
            if node.id not in self.store.drives
            and self.store.readable(node)
            and self._in_corpora(node, params)
            and (query is None or query(node))
        ]
        for key, backwards in reversed(order):
            found.sort(key=key, reverse=backwards)
        place = ("files", params.get("q"), params.get("orderBy"), params.get("corpora"), params.get("driveId"))
        page, following = self._pages.cut(found, params, place, lambda node: node.id)
        body: dict[str, Any] = {
            "kind": "drive#fileList",
            "incompleteSearch": self.incomplete,
            "files": [resources.file(self.store, node) for node in page],
        }
        return self._listed(body, following, mask)

    def _files_get(self, request: Request, params: dict[str, Any]) -> Response:
        node = self._file(request, params["supportsAllDrives"])
        if params["alt"] == "media":
            return self._media(request, node)
        return json_response(wire.masked(resources.file(self.store, node), self._mask("File", params)))

    def _media(self, request: Request, node: Node) -> Response:
        """A file's bytes, or the range of them that is asked for. RFC 9110, 14.2"""
        if node.native:
            raise DriveError(
                403,
                "fileNotDownloadable",
                "Only files with binary content can be downloaded. Use Export with Docs Editors files.",
                location="alt",
            )
        if node.locked:
            raise DriveError(403, "cannotDownloadFile", "This file cannot be downloaded by the user.")
        content = node.content
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if asked is None:
            return Response(content, 200, media_type=node.mime)
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if first >= len(content) or last < first:
            return Response(b"", 416, {"content-range": f"bytes */{len(content)}"})
        return Response(
            content[first : last + 1],
            206,
            {"content-range": f"bytes {first}-{last}/{len(content)}"},
            media_type=node.mime,
        )

    def _files_export(self, request: Request, params: dict[str, Any]) -> Response:
        """A Google document in another format; as text with a byte order mark and CRLF, as Google writes it."""
        node = self._file(request, True)
        if not node.native or node.mime in (FOLDER, SHORTCUT):
            raise DriveError(403, "fileNotExportable", "Export only supports Docs Editors files.")
        if node.locked:
            raise DriveError(403, "cannotExportFile", "This file cannot be exported by the user.")
        if params["mimeType"] not in resources.EXPORTS.get(node.mime, ()):
            raise DriveError(400, "badRequest", "The requested conversion is not supported.", location="convertTo")
        lines = node.content.decode().split("\n")
        if params["mimeType"] == PDF:
            content = documents.pdf(lines)
        elif params["mimeType"] == DOCX:
            content = documents.docx(lines)
        elif node.mime == DOC:
            content = b"\xef\xbb\xbf" + "\r\n".join(lines).encode()
        else:
            content = node.content
        if self.restless:
            node.version += 1
        if len(content) > EXPORT_LIMIT:
            raise DriveError(403, "exportSizeLimitExceeded", "This file is too large to be exported.")
        return Response(content, 200, media_type=params["mimeType"])

    def _file(self, request: Request, all_drives: bool) -> Node:
        file_id = request.path_params["fileId"]
        node = self.store.nodes.get(file_id)
        if node is None or not self.store.readable(node) or (node.drive is not None and not all_drives):
            raise wire.file_not_found(file_id)
        return node

    def _check_corpora(self, params: dict[str, Any]) -> None:
        corpora, drive = params.get("corpora", "user"), params.get("driveId")
        if corpora not in ("user", "domain", "drive", "allDrives"):
            raise invalid("corpora", f"Invalid value: {corpora}")
        if (corpora == "drive") != (drive is not None):
            raise DriveError(
                403,
                "teamDriveIdRequiresTeamDriveCorpora",
                "The driveId parameter must be specified if and only if corpora is set to drive.",
            )
        if corpora in ("drive", "allDrives") and not params["includeItemsFromAllDrives"]:
            raise DriveError(
                403,
                "teamDrivesParameterRequired",
                "The includeItemsFromAllDrives parameter must be set to true when driveId is specified or corpora "
                "contains drive or allDrives.",
            )
        if params["includeItemsFromAllDrives"] and not params["supportsAllDrives"]:
            raise DriveError(
                403,
                "teamDrivesNotSupported",
                "The supportsAllDrives parameter must be set to true if includeItemsFromAllDrives is true.",
            )
        if drive is not None:
            self._drive(drive)

    def _in_corpora(self, node: Node, params: dict[str, Any]) -> bool:
        if params.get("corpora") == "drive":
            return node.drive == params["driveId"]
        return node.drive is None or params["includeItemsFromAllDrives"]

    def _order(self, text: str | None) -> list[tuple[Callable[[Node], Any], bool]]:
        """The sort keys; without any, the latest first."""
        if not text:
            return [(_SORTS["modifiedTime"], True), (lambda node: node.id, False)]
        keys: list[tuple[Callable[[Node], Any], bool]] = []
        for part in text.split(","):
            name, _, direction = part.strip().partition(" ")
            if name not in _SORTS or direction not in ("", "desc"):
                raise invalid("orderBy", f"Invalid Value: {part}")
            keys.append((_SORTS[name], direction == "desc"))
        return [*keys, (lambda node: node.id, False)]

    # --- revisions, changes, shared drives, the account

    def _revisions_list(self, request: Request, params: dict[str, Any]) -> Response:
        node = self._file(request, True)
        if node.mime in (FOLDER, SHORTCUT):
            raise DriveError(403, "revisionsNotSupported", "The file does not support revisions.")
        mask = self._mask("RevisionList", params)
        page, following = self._pages.cut(node.revisions, params, ("revisions", node.id), lambda each: each.id)
        body = {"kind": "drive#revisionList", "revisions": [resources.revision(node, each) for each in page]}
        return self._listed(body, following, mask)

    def _revisions_get(self, request: Request, params: dict[str, Any]) -> Response:
        node = self._file(request, True)
        key = request.path_params["revisionId"]
        for each in node.revisions:
            if each.id == key:
                return json_response(wire.masked(resources.revision(node, each), self._mask("Revision", params)))
        raise DriveError(404, "notFound", f"Revision not found: {key}.", location="revisionId")

    def _changes_getStartPageToken(self, _: Request, params: dict[str, Any]) -> Response:  # noqa: N802 (Google's name)
        if params.get("driveId"):
            if not params["supportsAllDrives"]:
                raise wire.drive_not_found(params["driveId"])
            self._drive(params["driveId"])
        mask = self._mask("StartPageToken", params)
        body = {"kind": "drive#startPageToken", "startPageToken": str(len(self.store.changes) + 1)}
        return json_response(wire.masked(body, mask))

    def _changes_list(self, _: Request, params: dict[str, Any]) -> Response:
        mask = self._mask("ChangeList", params)
        drive = params.get("driveId")
        if drive:
            self._drive(drive)
        try:
            start = int(params["pageToken"]) - 1
        except ValueError:
            raise invalid("pageToken") from None
        if not 0 <= start <= len(self.store.changes):
            raise invalid("pageToken")
        position = start
        picked: list[dict[str, Any]] = []
        while position < len(self.store.changes) and len(picked) < params["pageSize"]:
            each = self.store.changes[position]
            position += 1
            wanted = each.drive == drive if drive else each.drive is None or params["includeItemsFromAllDrives"]
            node = self.store.nodes.get(each.file_id)
            known = node is not None and self.store.readable(node)
            if wanted and (known or (each.gone and params["includeRemoved"])):
                picked.append(resources.change(self.store, each))
        body: dict[str, Any] = {"kind": "drive#changeList", "changes": picked}
        body["newStartPageToken" if position == len(self.store.changes) else "nextPageToken"] = str(position + 1)
        return json_response(wire.masked(body, mask))

    def _drives_list(self, _: Request, params: dict[str, Any]) -> Response:
        if params.get("q"):
            raise DriveError(501, "notImplemented", "This sandbox does not search for shared drives.")
        mask = self._mask("DriveList", params)
        mine = [drive for drive in self.store.drives.values() if drive.member]
        page, following = self._pages.cut(mine, params, ("drives",), lambda each: each.id)
        body = {"kind": "drive#driveList", "drives": [resources.shared_drive(each) for each in page]}
        return self._listed(body, following, mask)

    def _drives_get(self, request: Request, params: dict[str, Any]) -> Response:
        drive = self._drive(request.path_params["driveId"])
        return json_response(wire.masked(resources.shared_drive(drive), self._mask("Drive", params)))

    def _about_get(self, _: Request, params: dict[str, Any]) -> Response:
        if not params.get("fields"):
            raise DriveError(
                400,
                "required",
                "The 'fields' parameter is required for this method.",
                location="fields",
            )
        return json_response(wire.masked(resources.about(self.store, self.account.email), self._mask("About", params)))

    def _drive(self, drive_id: str) -> Any:
        drive = self.store.drives.get(drive_id)
        if drive is None or not drive.member:
            raise wire.drive_not_found(drive_id)
        return drive

    # --- pages

    def _mask(self, schema: str, params: dict[str, Any]) -> Mask:
        return read_mask(params.get("fields") or _DEFAULTS[schema], schema)

    def _listed(self, body: dict[str, Any], following: str | None, mask: Mask) -> Response:
        if following is not None:
            body["nextPageToken"] = following
        answer = json_response(wire.masked(body, mask))
        if following is not None:
            self.after_page()
        return answer
