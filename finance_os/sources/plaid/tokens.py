"""The access token: taken from the environment once, and from then on out of what Finance OS keeps encrypted.

It is kept with the hash of the value that the environment had, so that another value there takes its place.
"""

import hashlib

import msgspec

from finance_os.sources.credentials import KeptSecrets

KEPT_AS = "access_token"


class _Held(msgspec.Struct, frozen=True, rename={"given": "from"}):
    """What is kept. `given` is the SHA-256 of the environment's value."""

    access_token: str
    given: str


def access_token(kept: KeptSecrets, given: str) -> str:
    """The token to use; `given` is the environment's, which is kept where it is not yet.

    Raises `SourceError` where it cannot be kept.
    """
    origin = hashlib.sha256(given.encode()).hexdigest()
    held = _read(kept.read(KEPT_AS), origin)
    if held is None:
        with kept.exclusive(KEPT_AS) as secret:
            held = _read(secret.value, origin)  # another process may have been here meanwhile
            if held is None:
                held = _Held(given, origin)
                secret.store(msgspec.json.encode(held).decode())
    return held.access_token


def _read(value: str | None, origin: str) -> _Held | None:
    """What is kept, unless it came from another value than the environment's."""
    try:
        held = msgspec.json.decode(value or "", type=_Held)
    except msgspec.DecodeError:
        return None
    return held if held.given == origin else None
