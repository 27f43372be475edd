"""The order in which intents can be applied: as things happened, and nothing before what it depends on."""

import heapq
from collections import defaultdict
from collections.abc import Iterable

from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os.stripe_qbo.mapping.drafts import Draft


def ordered(drafts: Iterable[Draft]) -> tuple[Intent, ...]:
    """Intents by their moments, each behind those that it depends on. `ValueError` for a circle."""
    by_place = sorted(drafts, key=lambda each: (each.moment, each.rank, each.intent.key, each.intent.operation))
    creates: dict[LinkKey, int] = {
        each.intent.key: place for place, each in enumerate(by_place) if each.intent.operation is Operation.CREATE
    }
    waits_for = [0] * len(by_place)
    followers: dict[int, list[int]] = defaultdict(list)
    for place, draft in enumerate(by_place):
        for key in draft.intent.depends_on:
            before = creates.get(key)
            if before is not None and before != place:
                followers[before].append(place)
                waits_for[place] += 1
    ready = [place for place, count in enumerate(waits_for) if not count]
    heapq.heapify(ready)
    found: list[Intent] = []
    while ready:
        place = heapq.heappop(ready)
        found.append(by_place[place].intent)
        for follower in followers[place]:
            waits_for[follower] -= 1
            if not waits_for[follower]:
                heapq.heappush(ready, follower)
    if len(found) != len(by_place):
        raise ValueError("intents depend on each other in a circle")
    return tuple(found)
