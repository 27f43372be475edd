"""What is wrong with an export, told so that its author finds the cell."""

from dataclasses import dataclass, field

from finance_os.sources.drops import MAX_PROBLEMS, Problem


@dataclass
class Problems:
    """What is wrong with a file: the first `MAX_PROBLEMS`, and how many."""

    listed: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(
        self, code: str, message: str, row: int | None = None, column: str | None = None, value: str | None = None
    ) -> None:
        """Note one problem; its fields are those of `Problem`."""
        self.count += 1
        if len(self.listed) < MAX_PROBLEMS:
            self.listed.append(Problem(code, message, row, column, value))


class Unreadable(Exception):
    """A cell that has no single meaning."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
