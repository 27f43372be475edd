"""Files that were handed in, kept by the SHA-256 of their bytes below the drop location."""

import hashlib
import re
from contextlib import suppress

from finance_os.evidence.extraction import SourceError
from finance_os.sources.drops.stores import Store, open_store

_CONTENT_HASH = re.compile(r"[0-9a-f]{64}")


def is_content_hash(text: str) -> bool:
    """Whether a text is a SHA-256 in hex, as drops are named by it."""
    return _CONTENT_HASH.fullmatch(text) is not None


def kept_as(content_hash: str) -> str:
    """Where the file with this SHA-256 (hex) is kept, below the drop location."""
    return f".kept/{content_hash[:2]}/{content_hash}"


def read_kept(location: str, content_hash: str) -> bytes:
    """The bytes of a kept file, proved by their SHA-256 (`content_hash`, in hex).

    Raises `SourceError`: `kept_drop_missing`, `kept_drop_altered`, or `drops_unreachable`.
    """
    if not is_content_hash(content_hash):
        raise ValueError("a drop is named by the 64 hex digits of its SHA-256")
    store = open_store(location)
    try:
        data, _ = store.read(kept_as(content_hash), None)
    except FileNotFoundError:
        message = f"drop {content_hash[:12]} is not among the kept files: drop the file again, or restore .kept"
        raise SourceError("kept_drop_missing", message, permanent=True) from None
    if hashlib.sha256(data).hexdigest() != content_hash:
        message = f"the kept file of drop {content_hash[:12]} is not what was dropped: drop the file again"
        raise SourceError("kept_drop_altered", message, permanent=True)
    return data


def keep(store: Store, content_hash: str, data: bytes) -> None:
    """Keep `data` by its hash; a copy that was cut off or altered is replaced."""
    key = kept_as(content_hash)
    with suppress(FileNotFoundError):
        kept, _ = store.read(key, None)
        if kept == data:
            return
    store.write(key, data)
