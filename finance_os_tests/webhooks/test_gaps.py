"""The gap check: what the staged event log has, and the inbox has not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from finance_os.evidence import sync_runs
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Page, Record
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.webhooks import gaps, inbox
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.walk import request_reads
from finance_os_tests.evidence.staged import read_of, stage
from finance_os_tests.webhooks.senders import stripe_event
from finance_os_tests.webhooks.test_walk import come, one

OURS = WebhookSettings()
HOUR = timedelta(hours=1)


def now() -> datetime:
    """The present: what is young and what is old is told from when a test runs."""
    return datetime.now(UTC)


def log(database: Database, connection: Connection, *events: tuple[str, datetime, str]) -> None:
    """Stage events, each an ID, a time and the kind of its object, as one sync run of the log."""
    today = now().astimezone(connection.zone).date()
    records = [
        Record(
            event_id,
            {
                "id": event_id,
                "object": "event",
                "type": f"{kind}.updated",
                "data": {"object": {"object": kind, "id": f"{kind}_{event_id}"}},
            },
            today,
            None,
            created,
        )
        for event_id, created, kind in events
    ]
    stage(database, connection, Page(records, now()), object_type="stripe_event", days=Days(today, today))


@pytest.fixture
def watched(database: Database, acme: Connection) -> Connection:
    """A connection of which webhooks have been expected for a day."""
    assert gaps.check(database, acme, OURS) is None
    with database.connection() as owner:
        owner.execute("UPDATE finance_os.webhook_gap_checks SET since = %s", (now() - 24 * HOUR,))
    return acme


def keys(database: Database, **of: Any) -> list[str]:
    return sorted(event["event_key"] for event in inbox.listed(database, limit=1_000, **of))


def test_only_what_should_have_come_and_did_not_is_taken_up(database: Database, watched: Connection) -> None:
    assert gaps.check(database, watched, OURS) is None
    come(database, watched, stripe_event("evt_came", "refund.updated", {"object": "refund", "id": "re_1"}))
    log(
        database,
        watched,
        ("evt_missing", now() - HOUR, "refund"),
        ("evt_came", now() - HOUR, "refund"),
        ("evt_before", now() - 25 * HOUR, "refund"),
        ("evt_young", now() - timedelta(minutes=3), "refund"),
        ("evt_nothing", now() - HOUR, "payment_method"),
    )
    assert gaps.check(database, watched, OURS) == 1
    assert keys(database, never_came=True) == ["evt_missing"]
    assert gaps.check(database, watched, OURS) is None
    request = one(request_reads(database, OURS))
    assert request.reads == {"stripe_refund": ["re_1", "refund_evt_missing"]}
    come(database, watched, stripe_event("evt_missing"))
    assert keys(database, never_came=True) == []
    assert keys(database) == ["evt_came", "evt_missing"]


def test_a_run_that_ends_later_is_compared_too(database: Database, watched: Connection) -> None:
    with database.connection() as opened:
        slow = sync_runs.begin(
            database, opened, read_of(watched, [], object_type="stripe_event"), Origin(Trigger.MANUAL)
        )
        log(database, watched, ("evt_1", now() - HOUR, "refund"))
        assert gaps.check(database, watched, OURS) is None
        sync_runs.fail(database, opened, slow, "timeout", "no answer in time")
        sync_runs.leave(slow)
    assert gaps.check(database, watched, OURS) == 1


def test_a_log_longer_than_a_page_is_compared_to_its_end(
    database: Database, watched: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps, "_AT_ONCE", 4)
    log(database, watched, *((f"evt_{n:02}", now() - HOUR, "refund" if n % 3 else "payout_x") for n in range(30)))
    assert gaps.check(database, watched, OURS) == 20
    [row] = database.fetch("SELECT found FROM finance_os.webhook_gap_checks")
    assert row["found"] == 20


def test_another_business_s_log_is_not_ours(database: Database, watched: Connection, globex: Connection) -> None:
    log(database, globex, ("evt_1", now() - HOUR, "refund"))
    assert gaps.check(database, watched, OURS) is None
    log(database, watched, ("evt_2", now() - HOUR, "refund"))
    assert gaps.check(database, watched, OURS) == 1
    assert keys(database) == ["evt_2"]
