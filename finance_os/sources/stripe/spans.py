"""The span of time that one part of a read is about, and how a place in it is written down to be resumed at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Span:
    """A half-open span of Unix seconds, and the second from which its events are read."""

    start: int
    end: int
    events_from: int

    def place(self, phase: str, place: Mapping[str, Any]) -> dict[str, Any]:
        """`Page.resume` of a place in a phase of this span."""
        return {"start": self.start, "end": self.end, "events_from": self.events_from, "phase": phase, **place}
