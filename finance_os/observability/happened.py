"""What the product tells of itself, one function a kind of happening: which metrics it makes of each.

Whoever calls these knows no metric. They cost next to nothing where nobody collects, and raise nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from finance_os.observability.instruments import (
    GATE_BLOCKERS,
    GATE_DECISIONS,
    QBO_APPLIED,
    QBO_APPLY_DURATION,
    QBO_REQUESTS,
    QBO_VERIFIED,
    SYNC_DURATION,
    SYNC_ROWS,
    SYNC_RUNS,
    WEBHOOK_DELIVERIES,
    WEBHOOK_DELIVERY_DURATION,
    WEBHOOK_EVENTS,
    WEBHOOK_READ_LATENCY,
    WEBHOOK_SETTLED,
)
from finance_os.observability.metrics import count, is_on, record


def delivery_kept(business_id: str, source_system: str, seconds: float, events: Mapping[str, int]) -> None:
    """A webhook was kept `seconds` after it had come; `events` are its events by what they were."""
    count(WEBHOOK_DELIVERIES, business_id=business_id, source_system=source_system, outcome="kept")
    record(WEBHOOK_DELIVERY_DURATION, seconds, business_id=business_id, source_system=source_system)
    for outcome, number in events.items():
        count(WEBHOOK_EVENTS, number, business_id=business_id, source_system=source_system, outcome=outcome)


def delivery_refused(reason: str, business_id: str = "", source_system: str = "") -> None:
    """A webhook was refused; without a business where its address, which anybody may make up, led to none."""
    count(WEBHOOK_DELIVERIES, business_id=business_id, source_system=source_system, outcome=reason)


def events_settled(
    business_id: str, source_system: str, outcomes: Mapping[str, int], latencies: Iterable[float]
) -> None:
    """Reads for events have ended; `latencies` are the seconds from the arrival of each that is done."""
    for outcome, number in outcomes.items():
        count(WEBHOOK_SETTLED, number, business_id=business_id, source_system=source_system, outcome=outcome)
    if is_on():
        for seconds in latencies:
            record(WEBHOOK_READ_LATENCY, seconds, business_id=business_id, source_system=source_system)


def sync_run_succeeded(row: Mapping[str, Any]) -> None:
    """A sync run has succeeded; its row."""
    key = {name: row[name] for name in ("business_id", "source_system", "object_type")}
    count(SYNC_RUNS, **key, kind=row["kind"], outcome="succeeded", code="")
    seconds = (row["completed_at"] - row["started_at"]).total_seconds()
    record(SYNC_DURATION, seconds, **key, kind=row["kind"])
    for outcome in ("new", "changed", "unchanged", "removed"):
        count(SYNC_ROWS, row[f"rows_{outcome}"], **key, outcome=outcome)


def sync_run_ended(key: tuple[str, str, str], kind: str, outcome: str, code: str) -> None:
    """A sync run of a business, source system and object type has failed, or was skipped."""
    business_id, source_system, object_type = key
    count(
        SYNC_RUNS,
        business_id=business_id,
        source_system=source_system,
        object_type=object_type,
        kind=kind,
        outcome=outcome,
        code=code,
    )


def intent_tried(business_id: str, entity: str, operation: str, outcome: str, seconds: float) -> None:
    """An intent was tried."""
    count(QBO_APPLIED, business_id=business_id, entity=entity, operation=operation, outcome=outcome)
    record(QBO_APPLY_DURATION, seconds, business_id=business_id, entity=entity, operation=operation, outcome=outcome)


def requests_sent(business_id: str, requests: Mapping[str, int]) -> None:
    """Requests that the writing client has sent, by `"METHOD entity"`."""
    for request, number in requests.items():
        method, _, entity = request.partition(" ")
        count(QBO_REQUESTS, number, business_id=business_id, method=method, entity=entity)


def links_verified(business_id: str, outcomes: Mapping[str, int]) -> None:
    """Links were compared with QuickBooks."""
    for outcome, number in outcomes.items():
        count(QBO_VERIFIED, number, business_id=business_id, outcome=outcome)


def gate_asked(business_id: str, blockers: Iterable[str]) -> None:
    """A gate was asked; the codes of what keeps it shut."""
    codes = list(blockers)
    count(GATE_DECISIONS, business_id=business_id, outcome="shut" if codes else "open")
    for code in codes:
        count(GATE_BLOCKERS, business_id=business_id, code=code)
