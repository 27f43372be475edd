"""Waiting for a lost batch that may still be carried out: a look from time to time, and bounded for a whole run."""

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

AT_MOST = 150.0
"""Seconds after its first wait began within which every wait of a run ends: longer than Intuit works on a request."""

FIRST_LOOK = 5.0
"""Seconds until the first look; from each to the next it takes twice as long."""


@dataclass
class Waiting:
    """How one run waits; several threads may at once. With `at_most` of 0 it does not wait at all.

    `clock` gives seconds that never go back, `sleep` lets some of them pass. `told` hears for how many seconds more
    the run may wait, whenever that has become another span: as a wait begins, and as one ends; 0 says that it goes on.
    It is called by the threads that wait, one at a time.
    """

    at_most: float = AT_MOST
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    told: Callable[[float], None] = lambda _: None
    _began: float | None = None
    _ends: list[float] = field(default_factory=list)
    _beginning: threading.Lock = field(default_factory=threading.Lock)

    def again(self) -> "Waiting":
        """How a later run waits in the same way: with all of its time."""
        return Waiting(self.at_most, self.clock, self.sleep, self.told)

    def has_time(self, seconds: float) -> bool:
        """Whether the run can wait so long from now on."""
        now = self.clock()
        with self._beginning:
            began = now if self._began is None else self._began
        return now + seconds <= began + self.at_most

    def looks(self, seconds: float) -> Generator[None]:
        """From time to time until `seconds` are over, and once when they are."""
        began = self.clock()
        with self._beginning:
            self._began = began if self._began is None else self._began
        pause, left = FIRST_LOOK, seconds
        self._tell(began + seconds, self._ends.append)
        try:
            while left > 0:
                self.sleep(min(pause, left))
                pause *= 2
                left = began + seconds - self.clock()
                yield
        finally:
            self._tell(began + seconds, self._ends.remove)

    def _tell(self, end: float, change: Callable[[float], None]) -> None:
        """Tell until when the run waits, where a wait that begins or is over makes that another moment."""
        with self._beginning:
            before = max(self._ends, default=None)
            change(end)
            now = max(self._ends, default=None)
            if now != before:
                self.told(0 if now is None else max(now - self.clock(), 0))
