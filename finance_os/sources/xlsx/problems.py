"""What is wrong with a workbook, told so that its author finds the cell: sheet, row, column, and what to do."""

from dataclasses import dataclass, field

from finance_os.sources.drops import MAX_PROBLEMS, Problem


class Unopenable(Exception):
    """A file that is refused before any of its cells is looked at."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Unreadable(Exception):
    """A cell that has no single meaning."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is: a sheet by its name, and in it a row and a column (`letter` as Excel has it, `header`)."""

    sheet: str | None = None
    row: int | None = None
    letter: str | None = None
    header: str | None = None

    def __str__(self) -> str:
        """`cell C14`; empty for anything larger."""
        return f"cell {self.letter}{self.row}" if self.letter and self.row else ""


@dataclass
class Problems:
    """The first `MAX_PROBLEMS` problems of a workbook, and how many there are."""

    listed: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, code: str, message: str, place: Place = Place(), value: str | None = None) -> None:
        """Note one problem. `message` goes on from "cell Y: "; `value` is a month or an amount only."""
        self.count += 1
        if len(self.listed) < MAX_PROBLEMS:
            where = str(place)
            text = f"{where}: {message}" if where else message
            self.listed.append(Problem(code, text, place.row, place.header or place.letter, value, place.sheet))
