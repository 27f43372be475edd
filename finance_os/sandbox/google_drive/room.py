"""The Google Drive room: the company's Drive under one mount, and what tests and demos can do to it."""

import base64
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..company import Planted
from ..world import World
from . import documents, wire
from .api import DriveApi
from .contents import Contents
from .oauth import ServiceAccount
from .store import DOC, DOCX, FOLDER, PDF, SHORTCUT, TEXT, Node
from .wire import DriveError

_FAULTS = {
    "429": DriveError(429, "rateLimitExceeded", "Rate Limit Exceeded", domain="usageLimits"),
    "500": DriveError(500, "backendError", "Backend Error"),
    "403": DriveError(
        403, "insufficientFilePermissions", "The user does not have sufficient permissions for this file."
    ),
}


class GoogleDriveRoom:
    """One company's Google Drive with the service account that reads it.

    `folders` are the IDs of the folders that tests name. Below its mount it answers `/drive/v3/…` and `/token`.
    """

    name = "google_drive"

    def __init__(self, world: World) -> None:
        self.contents = Contents(world)
        self.store = self.contents.store
        self.folders = self.contents.folders
        self.account = ServiceAccount(world.seed)
        self.api = DriveApi(self.store, self.account)
        self.app = Starlette(routes=self._routes())
        self.follow()

    def env(self, base: str) -> dict[str, str]:
        """What points a process at this room, mounted at `base`."""
        return {
            "FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT": self.account.key_json(base),
            "FINANCE_OS_GOOGLE_DRIVE_FOLDERS": ",".join(self.folders.configured),
            "FINANCE_OS_GOOGLE_DRIVE_API_BASE": base,
        }

    def follow(self) -> None:
        """Bring the Drive up to the world's present."""
        self.contents.follow()

    def fault(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        """Google's form of a failure: `429`, `500`, `403`."""
        error = _FAULTS[kind]
        headers = {"content-type": "application/json; charset=UTF-8"}
        return error.status, headers, msgspec.json.encode(error.body)

    def planted(self) -> list[Planted]:
        """Where the Drive disagrees with the other systems, so far."""
        return list(self.contents.planted)

    def close(self) -> None:
        """Nothing is held open."""

    async def change(self, action: str, what: dict[str, Any]) -> Any:
        """Do something to the Drive at the present clock; `ValueError` says what makes no sense.

        `folder`, `upload`, `shortcut` make something (`title`, `folder` or nothing for a top folder, `shared`;
        `mime_type` with `text` or `base64`; `target`), `drive` a shared drive (`title`, `member`). `edit`, `rename`,
        `move`, `trash`, `untrash`, `delete`, `share`, `unshare`, `lock`, `unlock` change the file `id`. `throttle`
        answers the next `count` requests with 403 userRateLimitExceeded, `incomplete` says of searches that they were
        not complete, `page_limit` puts at most `count` items on a page (0: as many as asked for), `restless` lets
        exports raise versions, `expire_tokens` ends the access tokens, `meanwhile` makes the `change` (with its
        `action`) after the next page of a list that is not its last one, as often as `times` says.
        """
        work: Callable[[dict[str, Any]], Any] | None = getattr(self, f"_do_{action}", None)
        if work is None:
            known = sorted(name[4:] for name in dir(self) if name.startswith("_do_"))
            raise ValueError(f"the Drive cannot {action!r}; it can {', '.join(known)}")
        try:
            return work(dict(what))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{action} lacks or does not understand {error}") from None

    # --- making things

    def _do_folder(self, what: dict[str, Any]) -> dict[str, Any]:
        return self._told(
            self.store.add(what["title"], FOLDER, what.get("folder"), shared=what.get("shared", "folder" not in what))
        )

    def _do_upload(self, what: dict[str, Any]) -> dict[str, Any]:
        mime = what["mime_type"]
        node = self.store.add(
            what["title"], mime, what["folder"], content=_content(mime, what), shared=what.get("shared", False)
        )
        return self._told(node)

    def _do_shortcut(self, what: dict[str, Any]) -> dict[str, Any]:
        return self._told(self.store.add(what["title"], SHORTCUT, what["folder"], target=what["target"]))

    def _do_drive(self, what: dict[str, Any]) -> dict[str, Any]:
        drive = self.store.add_drive(what["title"], member=what.get("member", True))
        return {"id": drive.id}

    # --- changing things

    def _do_edit(self, what: dict[str, Any]) -> dict[str, Any]:
        node = self._node(what)
        self.store.write(node, _content(node.mime, what))
        return self._told(node)

    def _do_rename(self, what: dict[str, Any]) -> dict[str, Any]:
        node = self._node(what)
        self.store.rename(node, what["title"])
        return self._told(node)

    def _do_move(self, what: dict[str, Any]) -> dict[str, Any]:
        node = self._node(what)
        self.store.move(node, what["folder"])
        return self._told(node)

    def _do_trash(self, what: dict[str, Any]) -> dict[str, Any]:
        node = self._node(what)
        self.store.trash(node)
        return self._told(node)

    def _do_untrash(self, what: dict[str, Any]) -> dict[str, Any]:
        node = self._node(what)
        self.store.untrash(node)
        return self._told(node)

    def _do_delete(self, what: dict[str, Any]) -> dict[str, Any]:
        node = self._node(what)
        self.store.delete(node)
        return {"id": node.id}

    def _do_share(self, what: dict[str, Any]) -> dict[str, Any]:
        node = self._node(what)
        self.store.share(node, True)
        return self._told(node)

    def _do_unshare(self, what: dict[str, Any]) -> dict[str, Any]:
        node = self._node(what)
        self.store.share(node, False)
        return self._told(node)

    def _do_lock(self, what: dict[str, Any]) -> dict[str, Any]:
        node = self._node(what)
        self.store.lock(node, True)
        return self._told(node)

    def _do_unlock(self, what: dict[str, Any]) -> dict[str, Any]:
        node = self._node(what)
        self.store.lock(node, False)
        return self._told(node)

    # --- how it answers

    def _do_throttle(self, what: dict[str, Any]) -> None:
        self.api.throttled = int(what["count"])

    def _do_incomplete(self, what: dict[str, Any]) -> None:
        self.api.incomplete = bool(what["on"])

    def _do_restless(self, what: dict[str, Any]) -> None:
        self.api.restless = bool(what["on"])

    def _do_page_limit(self, what: dict[str, Any]) -> None:
        self.api.page_limit = int(what["count"]) or None

    def _do_expire_tokens(self, _: dict[str, Any]) -> None:
        self.account.tokens.clear()

    def _do_meanwhile(self, what: dict[str, Any]) -> None:
        change = dict(what["change"])
        action = change.pop("action")
        work: Callable[[dict[str, Any]], Any] | None = getattr(self, f"_do_{action}", None)
        if work is None:
            raise ValueError(f"the Drive cannot {action!r}")
        left = int(what.get("times", 1))

        def strike() -> None:
            nonlocal left
            if left:
                left -= 1
                work(change)

        self.api.after_page = strike

    # --- below

    def _node(self, what: dict[str, Any]) -> Node:
        if what["id"] not in self.store.nodes:
            raise ValueError(f"there is no file {what['id']}")
        return self.store.nodes[what["id"]]

    def _told(self, node: Node) -> dict[str, Any]:
        return {"id": node.id, "name": node.name, "version": node.version}

    def _routes(self) -> list[Route]:
        """Every method of the discovery document; where several share a path, the literal one comes first."""
        routes = [Route("/token", self.account.token, methods=["POST"])]
        declared = sorted(wire.methods(), key=lambda method: ("{" in method[3], method[3].count("{"), method[3]))
        for resource, method, verb, path, scopes in declared:
            make = self.api.read if verb == "GET" else self.api.write
            routes.append(Route(f"/drive/v3/{path}", make(resource, method, scopes), methods=[verb]))
        routes.append(Route("/{rest:path}", _unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]))
        return routes


async def _unknown(_: Request) -> Response:
    return DriveError(404, "notFound", "Not Found").response()


def _content(mime: str, what: dict[str, Any]) -> bytes:
    """A file's bytes from `base64`, or made of `text` for the kinds that can be made of text."""
    if "base64" in what:
        return base64.b64decode(what["base64"])
    lines = str(what["text"]).split("\n")
    if mime == PDF:
        return documents.pdf(lines)
    if mime == DOCX:
        return documents.docx(lines)
    return str(what["text"]).encode("utf-8" if mime in (DOC, TEXT) else "latin-1")
