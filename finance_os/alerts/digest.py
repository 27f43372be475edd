"""The message: everything that newly fails and everything that recovered since the last one, in a bounded text."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finance_os.alerts.ledger import Alert
from finance_os.evidence.extraction import Severity

LINES = 20
"""How many alerts a message lists in each of its two parts; the rest is counted."""

LINE_LENGTH = 400

_GRAVEST_FIRST = tuple(reversed(Severity))


@dataclass(frozen=True)
class Message:
    """What is sent: a subject of one line, and lines of plain text. External IDs, codes, counts and links only."""

    business_id: str
    subject: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The subject and the lines."""
        return "\n".join((self.subject, *self.lines))

    @property
    def payload_hash(self) -> str:
        """SHA-256 of the text, as 64 hex digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def compose(
    business_id: str,
    opened: Sequence[Alert],
    recovered: Sequence[Alert],
    *,
    uncertain: int = 0,
    dagster_url: str | None = None,
) -> Message:
    """The message of a business about alerts that `opened` and `recovered`.

    `uncertain` is how many earlier messages may not have arrived. `dagster_url` is where the Dagster UI answers.
    """
    parts = [f"{len(opened)} new alert{'s'[: len(opened) != 1]}" if opened else ""]
    parts.append(f"{len(recovered)} recovered" if recovered else "")
    base = dagster_url.rstrip("/") if dagster_url else None
    lines = [*_opened(opened, base), *_recovered(recovered)]
    if uncertain:
        lines += ["", f"{uncertain} earlier message(s) may not have arrived: see `finance-os alerts list`."]
    if base:
        lines += ["", f"{base}/assets/readiness/alerts"]
    return Message(business_id, f"Finance OS, {business_id}: {', '.join(part for part in parts if part)}", tuple(lines))


def test_message(business_id: str) -> Message:
    """What `finance-os alerts test` sends."""
    return Message(
        business_id,
        f"Finance OS, {business_id}: test message",
        ("Alerts of this business arrive here.",),
    )


def _opened(alerts: Sequence[Alert], base: str | None) -> Iterator[str]:
    """The gravest first, under a heading for each code."""
    groups = Counter((alert.severity, alert.kind, alert.code) for alert in alerts)
    order = sorted(groups, key=lambda group: (_GRAVEST_FIRST.index(group[0]), -groups[group], group[1], group[2]))
    left = LINES
    for group in order:
        if left <= 0:
            break
        severity, kind, code = group
        yield ""
        yield f"{severity} · {kind} · {code} · {groups[group]}"
        of_group = [alert for alert in alerts if (alert.severity, alert.kind, alert.code) == group]
        for alert in sorted(of_group, key=lambda alert: alert.key)[:left]:
            yield f"- {_cut(alert.message)}{_link(alert, base)}"
        left -= len(of_group)
    if len(alerts) > LINES:
        yield f"and {len(alerts) - LINES} more"


def _recovered(alerts: Sequence[Alert]) -> Iterator[str]:
    if not alerts:
        return
    yield ""
    yield f"recovered · {len(alerts)}"
    for alert in sorted(alerts, key=lambda alert: alert.key)[:LINES]:
        yield f"- {_cut(f'{alert.kind} · {alert.subject} · {alert.code}')}"
    if len(alerts) > LINES:
        yield f"and {len(alerts) - LINES} more"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LINE_LENGTH else text[: LINE_LENGTH - 1] + "…"


def _link(alert: Alert, base: str | None) -> str:
    if base is None or alert.asset is None:
        return ""
    return f" {base}/assets/{alert.asset}"
