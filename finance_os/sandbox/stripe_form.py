"""What all of Stripe's JSON has in common: the API version, nested lists, and links that change on every read."""

from collections.abc import Sequence
from typing import Any, Protocol

API_VERSION = "2026-10-28.endive"
NESTED = 10

# Stands where Stripe writes a fresh signed link on every read; replaced by as many characters when served.
VOLATILE = "~~~~~~volatile~~~~~~"


class Account(Protocol):
    """What a renderer may look at besides its own record."""

    account: str
    company: str
    now: int

    def one(self, kind: str, key: str) -> Any: ...


def nested_list(items: Sequence[dict[str, Any]], total: int, url: str) -> dict[str, Any]:
    """A list inside an object: its first entries, and whether there are more at `url`."""
    return {
        "object": "list",
        "data": list(items),
        "has_more": total > len(items),
        "total_count": total,
        "url": url,
    }
