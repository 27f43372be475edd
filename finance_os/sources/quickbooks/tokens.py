"""Access tokens: taken from what Finance OS keeps, and renewed by one process at a time.

Intuit replaces the refresh token while it is used, so the one in the environment serves only once, to begin with.
From then on the newest one is kept. A new pair of tokens is committed before the first request is sent with it.

What a crash leaves behind: where the process died between Intuit's answer and the commit, the old refresh token is
still what is kept, and the new one is lost. Intuit accepts the old one for 24 hours after it gave a new one
(https://developer.intuit.com/app/developer/qbo/docs/develop/authentication-and-authorization/faq), as long as the
new one was not used; it never was, because it is not used before it is committed. So the next process renews with
the old one and loses nothing. If none comes within 24 hours, `authorization_expired` asks for a new connection.
"""

import hashlib
import time
from collections.abc import Callable

import msgspec

from finance_os.sources.credentials import KeptSecrets

KEPT_AS = "tokens"

MARGIN = 120
"""Seconds before its end at which an access token is not used any more: machines' clocks may differ."""


class Granted(msgspec.Struct, frozen=True):
    """What Intuit grants for a refresh token; `expires_in` is the access token's life in seconds."""

    refresh_token: str
    access_token: str
    expires_in: int


class _Held(msgspec.Struct, frozen=True, rename={"given": "from"}):
    """What is kept. `given` is the SHA-256 of the environment's refresh token that it all began with."""

    refresh_token: str
    access_token: str
    expires_at: int
    given: str


class Tokens:
    """The access token of one connection.

    `given` is the environment's refresh token. When an operator has set another one, it wins over what is kept.
    `renew` asks Intuit for new tokens; `clock` gives Unix seconds.
    """

    def __init__(
        self,
        kept: KeptSecrets,
        given: str,
        renew: Callable[[str], Granted],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kept = kept
        self._given = given
        self._origin = hashlib.sha256(given.encode()).hexdigest()
        self._renew = renew
        self._clock = clock
        self._held: _Held | None = None

    def access(self, refused: str | None = None) -> str:
        """An access token that is good for a while yet, other than `refused`, which QuickBooks did not accept.

        Raises `SourceError` where none can be had: what `renew` raises, or what the kept secrets do.
        """
        if not self._is_good(self._held, refused):
            with self._kept.exclusive(KEPT_AS) as secret:
                held = self._read(secret.value)
                if not self._is_good(held, refused):
                    granted = self._renew(held.refresh_token if held else self._given)
                    held = _Held(
                        granted.refresh_token,
                        granted.access_token,
                        int(self._clock()) + granted.expires_in,
                        self._origin,
                    )
                    secret.store(msgspec.json.encode(held).decode())
            # Out here it is committed. Used before, the new token would end the life of the one that is kept.
            self._held = held
        assert self._held is not None
        return self._held.access_token

    def _is_good(self, held: _Held | None, refused: str | None) -> bool:
        return held is not None and held.access_token != refused and self._clock() < held.expires_at - MARGIN

    def _read(self, value: str | None) -> _Held | None:
        """What is kept, unless it began with another refresh token than the environment's."""
        try:
            held = msgspec.json.decode(value or "", type=_Held)
        except msgspec.DecodeError:
            return None
        return held if held.given == self._origin else None
