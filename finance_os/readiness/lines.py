"""The lines of a checkpoint: each a question with its answer, the hash of the evidence for it, and a blocker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finance_os.evidence.canonical import evidence_hash
from finance_os.readiness.verdicts import Status


@dataclass(frozen=True)
class Line:
    """One check of a checkpoint, as it is now.

    `status` is ready or blocked. `evidence_hash` is `None` where there was nothing that could be looked at (a
    checkpoint that was never recorded). A blocked line has a `blocker` and says in `remedy` what to do.
    """

    key: str
    title: str
    status: Status
    evidence_hash: str | None
    blocker: str | None = None
    remedy: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether nothing stands in the way."""
        return self.status is Status.READY


@dataclass(frozen=True)
class LineDeclaration:
    """A line as it is declared: its key and blocker are machine-readable, its title is for people."""

    key: str
    title: str
    blocker: str

    def judge(
        self,
        ready: bool,
        evidence: Any,
        remedy: str,
        details: Mapping[str, Any] | None = None,
    ) -> Line:
        """The line, ready or blocked; `evidence` is any JSON value, or `None` where there is none to hash."""
        return Line(
            self.key,
            self.title,
            Status.READY if ready else Status.BLOCKED,
            None if evidence is None else evidence_hash(evidence),
            None if ready else self.blocker,
            None if ready else remedy,
            details or {},
        )


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint is now: its lines, and the hash over what decided them."""

    business_id: str
    checkpoint: str
    lines: tuple[Line, ...]

    @property
    def status(self) -> Status:
        """Ready if every line is."""
        return Status.READY if all(line.ready for line in self.lines) else Status.BLOCKED

    @property
    def evidence_hash(self) -> str:
        """First 12 hex digits of the SHA-256 over each line's key, status and evidence hash."""
        return evidence_hash([[line.key, line.status.value, line.evidence_hash] for line in self.lines])

    @property
    def blocked(self) -> tuple[Line, ...]:
        """The lines that stand in the way."""
        return tuple(line for line in self.lines if not line.ready)

    @property
    def ready_count(self) -> int:
        """How many lines are ready."""
        return len(self.lines) - len(self.blocked)
