"""What an alert says, in one sentence or two, of external IDs, codes and counts."""

from collections.abc import Mapping
from typing import Any

NAMED = 5
"""How many of the things that fail an alert names."""


def describe(kind: str, subject: str, code: str, failing: Mapping[str, Mapping[str, Any]]) -> str:
    """The message of an alert of `kind`; `failing` maps what fails under it to what is known of each."""
    remedy = next((f" {known['remedy']}" for known in failing.values() if known.get("remedy")), "")
    match kind:
        case "check":
            return f"{subject} is blocked{_days(failing)}: {code}.{remedy}"
        case "freshness":
            return f"{subject} is stale: {code}.{remedy}"
        case "run":
            return f"{subject} failed: {_named(failing)}."
        case "exception":
            details = [str(known["detail"]) for known in failing.values()]
            more = f" (and {len(details) - 1} more of the same)" if len(details) > 1 else ""
            return f"{subject}: {code}. {details[-1]}{more}"
        case _:
            raise ValueError(f"there are no alerts of the kind {kind!r}")


def _days(failing: Mapping[str, Any]) -> str:
    days = sorted(day for day in failing if day != "now")
    if not days:
        return ""
    return f" on {days[0]}" if len(days) == 1 else f" on {len(days)} days from {days[0]} to {days[-1]}"


def _named(failing: Mapping[str, Mapping[str, Any]]) -> str:
    names = [f"{name} ({known['code']})" for name, known in failing.items()]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
