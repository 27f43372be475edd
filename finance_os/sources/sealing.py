"""Encryption of the secrets that Finance OS keeps: where its keys come from, and sealed values.

AES-256-GCM with a random nonce. What a value belongs to is authenticated with it, so that a ciphertext that was
moved to another place does not open there. A sealed value begins with the ID of its key, so that keys can change.
https://cryptography.io/en/latest/hazmat/primitives/aead/
"""

import base64
import binascii
import hashlib
import os
from pathlib import Path

import msgspec
from psycopg.conninfo import conninfo_to_dict

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.settings import Settings
from finance_os.sources.private_files import create_private, read_private

KEY_BYTES = 32
_FORMAT = b"\x01"
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
_HEAD_BYTES = len(_FORMAT) + _KEY_ID_BYTES + _NONCE_BYTES


def new_key() -> str:
    """A key, as FINANCE_OS_ENCRYPTION_KEY takes it: 32 random bytes in URL-safe base64."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


class EncryptionKeys:
    """Keys: the first one seals, each of them opens. Printing them shows their IDs only."""

    def __init__(self, text: str) -> None:
        """`text` is one or more keys, separated by commas. Raises `SourceError` if one of them is none."""
        keys = [_parse_key(part.strip(), position) for position, part in enumerate(text.split(","), start=1)]
        self._keys = {_key_id(key): key for key in keys}
        self._first = _key_id(keys[0])

    def __repr__(self) -> str:
        return f"EncryptionKeys({', '.join(key_id.hex() for key_id in self._keys)})"

    def seal(self, value: str, *belongs_to: str) -> bytes:
        """`value` encrypted with the first key; it opens only with the same `belongs_to`."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        head = _FORMAT + self._first + nonce
        cipher = AESGCM(self._keys[self._first])
        return head + cipher.encrypt(nonce, value.encode(), _associated(head, belongs_to))

    def unseal(self, sealed: bytes, *belongs_to: str) -> str:
        """What was sealed. Raises `SourceError` if none of the keys opens it, or it belongs elsewhere."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        head, ciphertext = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES:]
        key = self._keys.get(_key_id_of(head))
        if head[:1] != _FORMAT or key is None:
            raise SourceError(
                "kept_secret_unreadable",
                f"it was encrypted with key {_key_id_of(head).hex()}, which is not in FINANCE_OS_ENCRYPTION_KEY: "
                "add that key behind the first one",
                permanent=True,
            )
        try:
            return AESGCM(key).decrypt(head[-_NONCE_BYTES:], ciphertext, _associated(head, belongs_to)).decode()
        except InvalidTag:
            message = "its ciphertext was changed or moved here from another place"
            raise SourceError("kept_secret_unreadable", message, permanent=True) from None

    def seals_like(self, sealed: bytes) -> bool:
        """Whether `sealed` was made with the first key."""
        return sealed[: _HEAD_BYTES - _NONCE_BYTES] == _FORMAT + self._first


def encryption_keys(database: Database, settings: Settings) -> EncryptionKeys:
    """The keys for what is kept in `database`.

    They are set by FINANCE_OS_ENCRYPTION_KEY. Where that is unset, the embedded database has a key file beside it,
    which is made when it is first needed; for any other database `SourceError` says how to make a key.
    """
    if settings.encryption_key is not None:
        return EncryptionKeys(settings.encryption_key.get_secret_value())
    if not _is_embedded(database, settings.home):
        raise SourceError(
            "encryption_key_missing",
            "this connection's secrets change while they are used, and Finance OS keeps them encrypted: make a key "
            "with `finance-os keys new`, set FINANCE_OS_ENCRYPTION_KEY to it, and keep a copy outside the database",
            permanent=True,
        )
    path = settings.home.absolute() / "encryption.key"
    if not path.exists():
        create_private(path, f"{new_key()}\n".encode())
    try:
        return EncryptionKeys(read_private(path).decode("ascii").strip())
    except UnicodeDecodeError:
        raise SourceError("encryption_key_invalid", f"{path} does not hold a key", permanent=True) from None


def _is_embedded(database: Database, home: Path) -> bool:
    """Whether `database` is on the server whose data lies under `home`.

    A running server writes down where it listens: port, socket folder and host, on lines 4 to 6.
    https://www.postgresql.org/docs/current/storage-file-layout.html
    """
    try:
        lines = (home / "postgres" / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    port, folder, host = (line.strip() for line in (*lines[3:6], "", "", "")[:3])
    given = conninfo_to_dict(database.url)
    if folder:
        return given.get("host") == folder
    return bool(host) and (given.get("host"), str(given.get("port"))) == (host, port)


def _parse_key(text: str, position: int) -> bytes:
    try:
        bare = text.rstrip("=")  # padding gets lost when people copy
        key = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        message = (
            f"key {position} of FINANCE_OS_ENCRYPTION_KEY is not {KEY_BYTES} bytes in URL-safe base64: "
            "`finance-os keys new` makes one"
        )
        raise SourceError("encryption_key_invalid", message, permanent=True)
    return key


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"finance_os/key_id/" + key).digest()[:_KEY_ID_BYTES]


def _key_id_of(head: bytes) -> bytes:
    return head[len(_FORMAT) : len(_FORMAT) + _KEY_ID_BYTES]


def _associated(head: bytes, belongs_to: tuple[str, ...]) -> bytes:
    return head + msgspec.json.encode(belongs_to)
