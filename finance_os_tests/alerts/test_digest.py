"""The message: the gravest first, bounded, and of external IDs and links only."""

from dataclasses import replace
from datetime import UTC, datetime

from finance_os.alerts.digest import LINE_LENGTH, LINES, compose
from finance_os.alerts.ledger import Alert, AlertKind
from finance_os.evidence.extraction import Severity

NOW = datetime(2026, 3, 2, tzinfo=UTC)
ALERT = Alert(
    1,
    "acme",
    "check:a",
    AlertKind.CHECK,
    Severity.HIGH,
    "trace of stripe/stripe_invoice",
    "trace_counts_disagree",
    "trace of stripe/stripe_invoice is blocked: trace_counts_disagree.",
    "bbbbbbbbbbbb",
    3,
    NOW,
    NOW,
    None,
    "stripe",
    "stripe_invoice",
)


def several(count: int) -> list[Alert]:
    return [replace(ALERT, alert_id=number, key=f"check:{number:04}") for number in range(count)]


def test_what_is_new_and_what_recovered() -> None:
    stale = replace(ALERT, severity=Severity.MEDIUM, kind=AlertKind.FRESHNESS, code="stale", message="It is stale.")
    gone = replace(ALERT, kind=AlertKind.RUN, subject="stripe_sync", code="run_failed", resolved_at=NOW)
    message = compose("acme", [stale, ALERT], [gone], dagster_url="https://dagster.acme.test/")
    assert message.subject == "Finance OS, acme: 2 new alerts, 1 recovered"
    assert message.lines == (
        "",
        "high · check · trace_counts_disagree · 1",
        "- trace of stripe/stripe_invoice is blocked: trace_counts_disagree. "
        "https://dagster.acme.test/assets/stripe/stripe_invoice",
        "",
        "medium · freshness · stale · 1",
        "- It is stale. https://dagster.acme.test/assets/stripe/stripe_invoice",
        "",
        "recovered · 1",
        "- run · stripe_sync · run_failed",
        "",
        "https://dagster.acme.test/assets/readiness/alerts",
    )
    assert len(message.payload_hash) == 64
    assert message.payload_hash != compose("acme", [ALERT], []).payload_hash


def test_a_flood_is_counted() -> None:
    long = [replace(alert, message="a\nb " + "x" * 1_000) for alert in several(500)]
    critical = replace(ALERT, severity=Severity.CRITICAL, code="gravest", message="This one first.")
    message = compose("acme", [*long, critical], several(300), uncertain=2)
    assert message.subject == "Finance OS, acme: 501 new alerts, 300 recovered"
    assert message.lines[1:3] == ("critical · check · gravest · 1", "- This one first.")
    listed = [line for line in message.lines if line.startswith("- ")]
    assert len(listed) == 2 * LINES
    assert max(map(len, listed)) <= LINE_LENGTH + 2
    assert "and 481 more" in message.lines
    assert "and 280 more" in message.lines
    assert "2 earlier message(s) may not have arrived: see `finance-os alerts list`." in message.lines
    assert len(message.text) < 40_000, "Slack takes no more"


def test_one_is_one() -> None:
    assert compose("acme", [ALERT], []).subject == "Finance OS, acme: 1 new alert"
    assert compose("acme", [], [ALERT]).subject == "Finance OS, acme: 1 recovered"
