"""What stays doubtful of the baselines that are held: keys that a workbook has twice, and months with a wrong total.

A workbook speaks for the keys that it names and for no others, so a doubt about a key stands until a later workbook
names the key without it. Records say as of when they are in doubt, which is how later reads find those that stand.

The second row of a key is a record of its own, `<key>#2`, and goes when a later workbook has one row of the key.

A workbook that is read after a later one, again or for the first time, says nothing of the keys that the later one
names: which those are is asked of what was staged.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from finance_os.evidence.extraction import Finding, Held, Severity
from finance_os.evidence.money import dollars
from finance_os.sources.xlsx.rows import BaselineRow

DUPLICATE = "duplicate_as_of"
TOTAL = "total_off_as_of"

_EVER = ("0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z")


@dataclass(frozen=True)
class Named:
    """A row with its source ID: `<period>:<publisher key>`, and `#2`, `#3` … where a workbook has more than one.

    `occurrence` counts the rows of a key from 1 in the workbook's order, `occurrences` is how many there are.
    """

    source_id: str
    row: BaselineRow
    occurrence: int
    occurrences: int


def key_of(source_id: str) -> str:
    """The period and publisher that a source ID names, without the number of the row."""
    return source_id.partition("#")[0]


def named(rows: list[BaselineRow]) -> list[Named]:
    """The rows of one workbook with their source IDs, in its order."""
    keys = [f"{row.period}:{row.key}" for row in rows]
    counts = Counter(keys)
    seen: Counter[str] = Counter()
    found: list[Named] = []
    for key, row in zip(keys, rows, strict=True):
        seen[key] += 1
        source_id = key if seen[key] == 1 else f"{key}#{seen[key]}"
        found.append(Named(source_id, row, seen[key], counts[key]))
    return found


def as_of(received_at: datetime) -> str:
    """A moment as payloads bear it: texts that sort as moments do."""
    return received_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class Doubts:
    """The doubts that stand while the workbooks of one read are gone through, the oldest first."""

    held: Held
    _duplicates: dict[str, str] = field(default_factory=dict)
    _second_rows: set[str] = field(default_factory=set)
    _totals: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source_id in self.held.ids_between((DUPLICATE,), *_EVER):
            self._duplicates[key_of(source_id)] = (
                "An earlier workbook has more than one row of this month and publisher."
            )
            if key_of(source_id) != source_id:
                self._second_rows.add(source_id)
        for source_id in self.held.ids_between((TOTAL,), *_EVER):
            self._totals[source_id] = "A total over this month in an earlier workbook is not the sum of its rows."

    def payload(self, named_row: Named, received_at: datetime) -> dict[str, Any]:
        """What a record says of its doubts."""
        return {
            "occurrence": named_row.occurrence,
            "occurrences": named_row.occurrences,
            DUPLICATE: as_of(received_at) if named_row.occurrences > 1 else None,
            TOTAL: as_of(received_at) if named_row.row.off is not None else None,
        }

    def pass_over(self, rows: list[Named], drop: str, received_at: datetime) -> list[str]:
        """Note what a workbook doubts and what it settles; the source IDs that are not current any more with it.

        Keys that a workbook names which came later, and was read before, stay as that one has them.
        """
        later = set(self.held.ids_read_since(received_at))
        later_keys = {key_of(source_id) for source_id in later}
        shown = {each.source_id for each in rows}
        own = [each for each in rows if key_of(each.source_id) not in later_keys]
        own_keys = {key_of(each.source_id) for each in own}
        second_rows = {each.source_id for each in own if key_of(each.source_id) != each.source_id}
        settled = {each for each in self._second_rows if key_of(each) in own_keys and each not in shown}
        # A row that the later workbook does not have was never to be current, and is staged as what this one said.
        never = {each for each in shown - later if key_of(each) in later_keys and key_of(each) != each}
        places: defaultdict[str, list[str]] = defaultdict(list)
        for each in own:
            places[key_of(each.source_id)].append(f"row {each.row.row} of sheet {each.row.sheet.number}")
        for key in own_keys:
            self._duplicates.pop(key, None)
            if len(places[key]) > 1:
                listed = ", ".join(places[key][:5]) + (" …" if len(places[key]) > 5 else "")
                self._duplicates[key] = (
                    f"Drop {drop[:12]} has this month and publisher {len(places[key])} times: {listed}."
                )
        for each in own:
            self._totals.pop(each.source_id, None)
            if each.row.off is not None:
                self._totals[each.source_id] = _said_of_total(each.row, drop)
        for source_id in settled:
            self._totals.pop(source_id, None)
        self._second_rows = (self._second_rows | second_rows) - settled
        return sorted(settled | never)

    def findings(self, day: date) -> Iterator[Finding]:
        """What stands after the last workbook, of the whole object."""
        for key, detail in sorted(self._duplicates.items()):
            yield Finding("baseline_duplicate_key", Severity.HIGH, key, day, detail)
        by_month: dict[str, str] = {}
        for source_id, detail in sorted(self._totals.items()):
            by_month.setdefault(source_id.partition(":")[0], detail)
        for month, detail in by_month.items():
            yield Finding("baseline_total_differs", Severity.MEDIUM, month, day, detail)


def _said_of_total(row: BaselineRow, drop: str) -> str:
    assert row.off is not None
    return (
        f"Row {row.off.row} of sheet {row.sheet.number} of drop {drop[:12]} says that baseline_{row.off.name} is "
        f"{dollars(row.off.total):,.2f} in total; its rows add up to {dollars(row.off.summed):,.2f}."
    )
