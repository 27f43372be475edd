"""What a command shows while it writes to QuickBooks: how far it is, and for how long it waits."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from finance_os.commands.opened import console

if TYPE_CHECKING:
    from rich.progress import Progress

    from finance_os.stripe_qbo.waiting import Waiting

EVERY = 50
"""Where there is no terminal, a line is printed whenever so many intents have been tried."""

_WAITS_FOR = "for what may still be carried out: its answer was lost"


@dataclass
class Shown:
    """What is shown of one run. `tried` and `waits` are told by those who write, also from several threads."""

    progress: "Progress"
    total: int
    count: int = 0
    waits_until: float = 0
    """By the monotonic clock; in the past where nothing is waited for."""

    def tried(self, _: Any, ended: Any) -> None:
        """An intent was tried, and so it ended."""
        from finance_os.stripe_qbo.holding import Ended

        if ended in (Ended.WAITING, Ended.BUSY):
            return
        self.count += 1
        self.progress.advance(self.progress.task_ids[0])
        if not console.is_terminal and (self.count % EVERY == 0 or self.count == self.total):
            console.print(f"{self.count:,} of {self.total:,}")

    def waits(self, seconds: float) -> None:
        """The run may wait for so many seconds more; 0: it goes on."""
        self.waits_until = time.monotonic() + seconds
        if seconds and not console.is_terminal:
            console.print(f"waiting up to {seconds:.0f} s {_WAITS_FOR}")

    def waiting(self) -> "Waiting":
        """How the run waits: as always, and shown."""
        from finance_os.stripe_qbo.waiting import Waiting

        return Waiting(told=self.waits)

    def wait_left(self) -> str:
        """What is said of the wait now; empty where there is none."""
        left = self.waits_until - time.monotonic()
        return f"waiting up to {left:.0f} s more {_WAITS_FOR}" if left > 0 else ""


@contextmanager
def shown(title: str, total: int) -> Iterator[Shown]:
    """Show a run that tries `total` intents, to its end: a bar in a terminal, which counts a wait down; else lines."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.text import Text

    class WaitColumn(ProgressColumn):
        @override
        def render(self, task: Task) -> Text:
            return Text(found.wait_left(), style="yellow")

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft(), WaitColumn()
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    found = Shown(progress, total)
    progress.add_task(title, total=total)
    with progress:
        yield found
