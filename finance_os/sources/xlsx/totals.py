"""Totals rows: known by their label, never staged, and checked against the rows that they sum up."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from finance_os.sources.xlsx.months import is_month

TOLERANCE = 10_000
"""Microdollars (a cent) that a total is off by, at least: totals are shown and typed in cents."""

LONGEST_LABEL = 200

_ALWAYS = re.compile(r"(?:(?:grand|sub|overall)[ _-]*)?totals?|sum", re.IGNORECASE)
_OF_SOMETHING = re.compile(
    r"(?:(?:grand|sub|overall)[ _-]*)?totals?[ :]+(?:for |of )?(?P<after>.+)"
    r"|(?P<before>.+?)[ :]+(?:(?:grand|sub|overall)[ _-]*)?totals?",
    re.IGNORECASE,
)


def is_total(label: str) -> bool:
    """Whether a label is that of a total, such as `Grand total`, whatever else the row says."""
    return _ALWAYS.fullmatch(_plain(label)) is not None


def total_of(label: str) -> str | None:
    """What a label such as `Total Mar 2026` or `pub_00012 Total` is the total of; `None` for any other label."""
    plain = _plain(label)
    match = _OF_SOMETHING.fullmatch(plain) if len(plain) <= LONGEST_LABEL else None
    return (match["after"] or match["before"]) if match else None


def is_total_of_month(label: str) -> bool:
    """Whether a label is that of a month's total."""
    what = total_of(label)
    return what is not None and is_month(what)


def _plain(label: str) -> str:
    return " ".join(label.split()).rstrip(": ").strip()


@dataclass(frozen=True)
class Difference:
    """A total that is not the sum of its rows: the column (one of `AMOUNTS`), and both in microdollars."""

    row: int
    name: str
    total: int
    summed: int


@dataclass
class Sums:
    """The sums of a sheet's rows, all of them and those since the last totals row."""

    every: dict[str, int] = field(default_factory=dict)
    section: dict[str, int] = field(default_factory=dict)
    rows_in_section: int = 0

    def add(self, amounts: Mapping[str, int | None]) -> None:
        """Count one row in."""
        self.rows_in_section += 1
        for name, micros in amounts.items():
            for sums in (self.every, self.section):
                sums[name] = sums.get(name, 0) + (micros or 0)

    def compare(self, row: int, totals: Mapping[str, int | None]) -> list[Difference]:
        """Where a totals row is neither the sum of the rows since the last one nor of all, and begin a new section."""
        differences = [
            Difference(row, name, total, self.section.get(name, 0) if self.rows_in_section else self.every.get(name, 0))
            for name, total in totals.items()
            if total is not None
            and all(abs(total - sums.get(name, 0)) >= TOLERANCE for sums in (self.section, self.every))
        ]
        self.section, self.rows_in_section = {}, 0
        return differences
