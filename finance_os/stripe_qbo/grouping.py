"""Grouping: which planned intents can be sent at the same time, and which of them in one request."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import groupby

from finance_os.stripe_qbo.intent import LinkKey, Operation
from finance_os.stripe_qbo.kept import Kept


@dataclass(frozen=True)
class Place:
    """Where an intent stands in a batch of `count` that is sent under `requestid`; what is kept as its own one."""

    requestid: str
    place: int
    count: int

    def __str__(self) -> str:
        return f"{self.requestid}-{self.place}-{self.count}"

    @classmethod
    def of(cls, kept: Kept) -> "Place | None":
        """The place of an intent that was sent in a batch last; `None` where it was sent alone."""
        requestid, *rest = (kept.requestid or "").split("-")
        return cls(requestid, int(rest[0]), int(rest[1])) if len(rest) == 2 else None


def is_whole(sent: Sequence[Kept]) -> bool:
    """Whether these are all of one batch, in their places."""
    places = [Place.of(kept) for kept in sent]
    return all(each == Place(each.requestid, at, len(sent)) for at, each in enumerate(places) if each) and (
        None not in places and len({each.requestid for each in places if each}) == 1
    )


def waves(window: Sequence[Kept], together: int) -> Iterator[list[list[Kept]]]:
    """Groups that may be sent at the same time, wave after wave, from intents in the plan's order.

    A group of several is one batch: creates that were not sent before and of which none refers to another one, at most
    `together`; or those of one that was sent before, as far as its answers are not settled. What an intent refers to
    stands in an earlier wave. What stands before a change in the plan is sent before it, and what stands behind it
    after it.
    """
    for is_create, part in groupby(window, lambda kept: kept.intent.operation is Operation.CREATE):
        if not is_create:
            yield [[kept] for kept in part]
            continue
        for wave in _by_dependency(list(part)):
            fresh = [kept for kept in wave if kept.state == "planned"]
            before: dict[str, list[Kept]] = {}
            for kept in wave:
                if kept.state != "planned":
                    batch = Place.of(kept)
                    before.setdefault(batch.requestid if batch else str(kept.intent_id), []).append(kept)
            yield [*before.values(), *(fresh[at : at + together] for at in range(0, len(fresh), together))]


def _by_dependency(creates: list[Kept]) -> Iterator[list[Kept]]:
    """Creates in waves, each in the plan's order: none refers to one of its own or of a later wave."""
    places: dict[LinkKey, int] = {kept.intent.key: place for place, kept in enumerate(creates)}
    needed = {
        place: [places[key] for key in kept.intent.depends_on if key in places] for place, kept in enumerate(creates)
    }
    sorter = TopologicalSorter(needed)
    with suppress(CycleError):  # what stands in a circle waits for the rest of it, for ever
        sorter.prepare()
    left = set(needed)
    while sorter.is_active() and (ready := sorter.get_ready()):
        yield [creates[place] for place in sorted(ready)]
        left.difference_update(ready)
        sorter.done(*ready)
    for place in sorted(left):
        yield [creates[place]]
