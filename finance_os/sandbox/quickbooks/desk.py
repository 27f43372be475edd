"""The bookkeeper's desk: what is to be entered and when, and which object in QuickBooks stands for what outside.

Everything is due at a moment that lies after it could first be known, so it does not matter in what steps the clock
moves: whenever it stands at a moment, all that was due until then has been done, in the order of its moments.
"""

import heapq
from collections.abc import Callable, Mapping
from typing import Any

from ..books import HOUR, business_days_later
from ..company import Planted
from ..ids import letters
from .entries import Entry
from .faults import Fault
from .realm import Realm


def sitting(known: int, hour: int, key: str, days: int = 1) -> int:
    """A moment in an hour (UTC) of the `days`-th working day after something became known, scattered by its key."""
    scattered = int.from_bytes(letters(key, 8).encode(), "big") % HOUR
    return business_days_later(known, days) + hour * HOUR + scattered


class Desk:
    """`objects` maps names of things outside, such as `in_1…`, to the entity and Id that stand for them."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm
        self.objects: dict[str, tuple[str, str]] = {}
        self.planted: list[Planted] = []
        self.given_up: list[tuple[str, str]] = []
        self._known: set[str] = set()
        self._due: list[tuple[int, str, Callable[..., None], tuple[Any, ...]]] = []

    def plan(self, moment: int, key: str, work: Callable[..., None], *args: Any) -> None:
        """Have something done at a moment, once, however often it is planned."""
        if key not in self._known:
            self._known.add(key)
            heapq.heappush(self._due, (moment, key, work, args))

    def work_until(self, now: int) -> None:
        """Do everything due. What API clients have made impossible is given up, as a person would."""
        while self._due and self._due[0][0] <= now:
            moment, key, work, args = heapq.heappop(self._due)
            self.realm.now = moment
            try:
                work(*args)
            except Fault as fault:
                self.given_up.append((key, str(fault)))

    def enter(self, entity: str, body: Mapping[str, Any], outside: str | None = None) -> Entry:
        entry = self.realm.create(entity, body, free=True)
        if outside is not None:
            self.objects[outside] = entry.key
        return entry

    def amend(self, outside: str, operation: str, values: Mapping[str, Any] | None = None) -> None:
        """`update` (sparsely), `void` or `delete` the object that stands for something outside, where it is there."""
        entry = self.find(outside)
        if entry is not None:
            body = {"Id": entry.id, "SyncToken": str(entry.sync), "sparse": True, **(values or {})}
            getattr(self.realm, operation)(entry.kind.name, body, free=True)

    def find(self, outside: str) -> Entry | None:
        key = self.objects.get(outside)
        return self.realm.find(*key) if key else None

    def ref(self, outside: str) -> dict[str, Any] | None:
        entry = self.find(outside)
        return {"value": entry.id, "name": entry.name} if entry is not None else None

    def plant(self, kind: str, key: str, detail: str) -> None:
        self.planted.append(Planted(kind, "quickbooks", key, detail))
