"""What the source sync plan is made of, wherever it is shown: panels of tiles and tables, as plain words.

Whoever shows them decides how: a terminal, Dagster's markdown, or a web page. Text between backticks is code.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from finance_os.readiness.lines import Line
from finance_os.readiness.plan import Plan

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Tone(StrEnum):
    """How something is to be taken: good, waiting for something, bad, or neither."""

    GOOD = "good"
    WAIT = "wait"
    BAD = "bad"
    PLAIN = "plain"


@dataclass(frozen=True)
class Link:
    """Something in the Dagster UI: an `asset` by its key, or a `run` by its ID."""

    kind: str
    name: str

    @property
    def path(self) -> str:
        """Its path in the Dagster UI: `/assets/stripe/stripe_invoice`, `/runs/<ID>`."""
        return f"/{self.kind}s/{self.name}"


@dataclass(frozen=True)
class Tile:
    """A figure with its name. `more` are further lines; `at` is the moment that `note` shows, if it shows one."""

    label: str
    value: str
    note: str = ""
    more: tuple[str, ...] = ()
    tone: Tone = Tone.PLAIN
    code: bool = False
    at: datetime | None = None


@dataclass(frozen=True)
class Cell:
    """A cell of a table: `text`, and smaller lines `below` it. `facts` are names and values that explain it."""

    text: str
    below: tuple[str, ...] = ()
    tone: Tone = Tone.PLAIN
    code: bool = False
    link: Link | None = None
    at: datetime | None = None
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under headings; `more` says what is not listed."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    more: str = ""


@dataclass(frozen=True)
class Panel:
    """A part of the page. `key` is unique on it; `badge` is its state in a word, `notes` follow its tiles."""

    key: str
    title: str
    sentence: str
    badge: str = ""
    tone: Tone = Tone.PLAIN
    tiles: tuple[Tile, ...] = ()
    notes: tuple[str, ...] = ()
    table: Table | None = None
    link: Link | None = None


def capital(word: str) -> str:
    """`ready to plan` → `Ready to plan`."""
    return word[:1].upper() + word[1:]


def number(count: int) -> str:
    """A count as people read it: 1417, 12,345."""
    return str(count) if -10_000 < count < 10_000 else f"{count:,}"


def moment(at: datetime, zone: ZoneInfo, now: datetime) -> str:
    """A time in the business's zone: `May 4, 9:56 PM`; with its year where that is not this one."""
    local, year = at.astimezone(zone), now.astimezone(zone).year
    day = f"{MONTHS[local.month - 1]} {local.day}" + (f", {local.year}" if local.year != year else "")
    return f"{day}, {local.hour % 12 or 12}:{local.minute:02} {'AM' if local.hour < 12 else 'PM'}"


def time(plan: Plan, at: datetime) -> str:
    """A time as the plan's business reads it."""
    return moment(at, ZoneInfo(plan.time_zone), plan.as_of)


def all_of(count: int, of: int) -> Tone:
    """Good if all are, and there are any."""
    return Tone.GOOD if of and count == of else Tone.BAD


def none_of(count: int) -> Tone:
    """Good if there are none."""
    return Tone.BAD if count else Tone.GOOD


def status_cell(word: str, below: tuple[str, ...] = ()) -> Cell:
    """A status word in its tone."""
    tones = {"ready": Tone.GOOD, "ready to plan": Tone.GOOD, "succeeded": Tone.GOOD, "approved": Tone.GOOD}
    waiting = {"stale", "pending", "skipped", "running", "medium", "low"}
    return Cell(word, below, tones.get(word.lower(), Tone.WAIT if word.lower() in waiting else Tone.BAD))


def lines_table(lines: Iterable[Line]) -> Table:
    """The lines of a checkpoint: each blocked one with its blocker, its evidence hash and what to do."""
    return Table(("Check", "Status", "Evidence hash", "Blocker"), tuple(_line(line) for line in lines))


def _line(line: Line) -> tuple[Cell, ...]:
    facts = () if line.ready else tuple((name, _words(value)) for name, value in line.details.items())
    return (
        Cell(line.title, (line.key,)),
        status_cell(line.status),
        Cell(line.evidence_hash or "n/a", code=True),
        Cell(line.blocker or "None", (line.remedy,) if line.remedy else (), code=bool(line.blocker), facts=facts),
    )


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_words(each) for each in value) or "none"
    return "unknown" if value is None else str(value)
