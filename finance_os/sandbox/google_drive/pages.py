"""Pages of a list, and the tokens that lead from one to the next."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from .wire import invalid


class Pages:
    """Cuts lists into pages. `most` tells the most items on a page, whatever is asked for, if there is such a bound."""

    def __init__(self, most: Callable[[], int | None]) -> None:
        self._most = most
        self._secret = secrets.token_bytes(16)

    def cut(
        self, found: list[Any], params: dict[str, Any], place: tuple[Any, ...], key: Callable[[Any], str]
    ) -> tuple[list[Any], str | None]:
        """The items of a page, and the token of the next one. A token is good for the list at `place` only.

        A page goes on behind the last item of the one before; where that has left the list, at its place in it.
        """
        start = 0
        if params.get("pageToken"):
            last, position = self._read(params["pageToken"], place)
            keys = [key(item) for item in found]
            start = keys.index(last) + 1 if last in keys else min(position, len(found))
        size, most = params.get("pageSize") or 100, self._most()
        end = start + (size if most is None else min(size, most))
        page = found[start:end]
        return page, self._token(key(page[-1]), end, place) if end < len(found) else None

    def _token(self, last: str, position: int, place: tuple[Any, ...]) -> str:
        content = msgspec.json.encode([last, position])
        return "~!!~" + base64.urlsafe_b64encode(self._seal(content, place) + content).decode()

    def _read(self, token: str, place: tuple[Any, ...]) -> tuple[str, int]:
        try:
            raw = base64.urlsafe_b64decode(token.removeprefix("~!!~"))
            seal, content = raw[:32], raw[32:]
            if not hmac.compare_digest(seal, self._seal(content, place)):
                raise invalid("pageToken")
            return msgspec.json.decode(content, type=tuple[str, int])
        except (ValueError, msgspec.MsgspecError):
            raise invalid("pageToken") from None

    def _seal(self, content: bytes, place: tuple[Any, ...]) -> bytes:
        return hmac.digest(self._secret, content + repr(place).encode(), hashlib.sha256)
