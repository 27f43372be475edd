"""Who is who: publishers of events and of the baseline, brought to the canonical ones that Gravity knows.

Events bear Gravity's ID. A baseline row bears an ID as people typed it, or only a name. An ID is the publisher's if it
is the same but for capitals and blanks; a name, if one publisher alone has it as its name or its legal name. A row's ID
decides where it has one. Nobody is guessed: what fits two publishers fits none.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Publisher:
    """A canonical publisher. `share_bps` is its share of the spend in basis points, `None` where Gravity has none."""

    publisher_id: str
    name: str | None
    legal_name: str | None
    share_bps: int | None


class Publishers:
    """The canonical publishers of a business, found by what others call them."""

    def __init__(self, publishers: Iterable[Publisher]) -> None:
        self._by_id = {each.publisher_id: each for each in publishers}
        self._by_plain_id: defaultdict[str, set[str]] = defaultdict(set)
        self._by_name: defaultdict[str, set[str]] = defaultdict(set)
        for each in self._by_id.values():
            self._by_plain_id[plain(each.publisher_id)].add(each.publisher_id)
            for name in (each.name, each.legal_name):
                if name:
                    self._by_name[plain(name)].add(each.publisher_id)

    def by_exact_id(self, publisher_id: str) -> Publisher | None:
        """The publisher with exactly this ID."""
        return self._by_id.get(publisher_id)

    def by_id(self, publisher_id: str) -> Publisher | None:
        """The publisher with exactly this ID, or the only one whose ID differs by capitals and blanks alone."""
        return self._by_id.get(publisher_id) or self._only(self._by_plain_id, publisher_id)

    def of_row(self, publisher_id: str | None, name: str | None) -> Publisher | None:
        """The publisher that a baseline row is about; `None` where that is not certain."""
        if publisher_id is not None:
            return self.by_id(publisher_id)
        if name is None:
            return None
        return self.by_id(name) or self._only(self._by_name, name)

    def _only(self, index: dict[str, set[str]], text: str) -> Publisher | None:
        found = index.get(plain(text), set())
        return self._by_id[next(iter(found))] if len(found) == 1 else None


def plain(text: str) -> str:
    """A text without what people write in more than one way: capitals, blanks, forms of the same letter."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
