"""What a source can say of a file that was handed in: that it can be staged, or every reason why not."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias
from zoneinfo import ZoneInfo

from finance_os.sources.credentials import Credentials

MAX_PROBLEMS = 100
"""Most problems of one file that are listed; the rest is counted."""


@dataclass(frozen=True)
class Problem:
    """One reason to refuse a file: where it is, a code, and in `message` what is wrong and what to do.

    `sheet` is the name of a workbook's sheet, `row` is counted on it.
    `value` is shown in the file's report only, and is set for dates and amounts only: everything else in a
    finance file may be personal data.
    """

    code: str
    message: str
    row: int | None = None
    column: str | None = None
    value: str | None = None
    sheet: str | None = None


@dataclass(frozen=True)
class Accepted:
    """A file that can be staged: how many records it holds, and the first and last of their days."""

    rows: int
    first_day: date | None = None
    last_day: date | None = None


@dataclass(frozen=True)
class Quarantined:
    """A file that is refused as a whole: the first `MAX_PROBLEMS` problems, and how many there are."""

    problems: tuple[Problem, ...]
    count: int


Judged: TypeAlias = Accepted | Quarantined

Judge: TypeAlias = Callable[[bytes, str, ZoneInfo, Credentials], Judged]
"""A source's own verdict on a file: its bytes and name, the connection's time zone and credentials."""
