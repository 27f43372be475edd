"""What shuts the gate for a moment only: days that were read again, which whoever reads them also checks."""

from collections.abc import Sequence

from finance_os.readiness.gate import DAY_CHECKS, Blocker

CODES = frozenset(f"{check}_outdated" for check in DAY_CHECKS)


def passes(blockers: Sequence[Blocker]) -> bool:
    """Whether all that is in the way is that days were read again since they were checked."""
    return bool(blockers) and all(each.code in CODES for each in blockers)
