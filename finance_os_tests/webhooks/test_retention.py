"""Bodies that are pruned: which, and what becomes of their events and of those that come again."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from finance_os.evidence import audit
from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.webhooks import gaps, inbox, retention
from finance_os.webhooks.events import events_in, signed_at
from finance_os.webhooks.retention import Batch, due, go_on, prune_some
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.walk import request_reads
from finance_os_tests.web.conftest import Browse
from finance_os_tests.webhooks.aging import PLAID, age, attempt, kept, old, read
from finance_os_tests.webhooks.senders import (
    STRIPE_HEADER,
    STRIPE_SECRET,
    cloud_event,
    entity,
    notifications,
    stripe_event,
    stripe_header,
)
from finance_os_tests.webhooks.test_gaps import HOUR, log, now
from finance_os_tests.webhooks.test_walk import come, one, refunds, run, settings, states

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)


def test_only_what_was_done_long_ago_is_pruned(database: Database, acme: Connection) -> None:
    come(database, acme, *refunds([1, 2]), b"{")
    for request in request_reads(database, settings()):
        run(database, request, {"stripe_refund": None})
    come(database, acme, *refunds([3, 4]))
    age(database, 31)
    age(database, -2, "evt_2", bodies=False)
    one(request_reads(database, settings(batch_events=1)))
    with database.transaction() as opened:  # of which no event came to be
        inbox.keep_body(opened, acme, b"nobody's")
    assert due(database, 30) == [{"business_id": "acme", "source_system": "stripe", "due": 1, "held": 3}]
    assert prune_some(database, 30) == Batch({("acme", "stripe"): 1}, None)
    there = {key: kept for (_, key), kept in kept(database).items()}
    assert there.pop("evt_1") is False
    assert set(there.values()) == {True}
    assert prune_some(database, 30) == Batch({}, None)
    assert due(database, 30) == [{"business_id": "acme", "source_system": "stripe", "due": 0, "held": 3}]
    assert prune_some(database, 28) == Batch({("acme", "stripe"): 1}, None)
    [first, second] = database.fetch(
        """
        SELECT subject, details FROM finance_os.finance_audit_events
        WHERE event_type = 'webhooks.pruned' ORDER BY sequence
        """
    )
    assert first == {"subject": "webhook_bodies:1-1", "details": {"bodies": 1, "older_than_days": 30}}
    assert second == {"subject": "webhook_bodies:2-2", "details": {"bodies": 1, "older_than_days": 28}}
    read(database)
    assert {key: state for key, (state, _) in states(database).items()}["evt_4"] == "done"


def test_a_body_without_an_event_is_pruned_too(database: Database, acme: Connection) -> None:
    with database.transaction() as opened:
        inbox.keep_body(opened, acme, b"nobody's")
    assert prune_some(database, 1).count == 0
    with psycopg.connect(database.url) as owner:
        owner.execute("SET session_replication_role = replica")
        owner.execute("UPDATE finance_os.webhook_bodies SET received_at = received_at - interval '2 days'")
    assert prune_some(database, 1).count == 1


def test_businesses_are_kept_apart(database: Database, acme: Connection, globex: Connection) -> None:
    for connection in (acme, globex):
        come(database, connection, *refunds([1, 2]))
    acme_requests = [each for each in request_reads(database, settings()) if each.connection == acme]
    run(database, one(acme_requests), {"stripe_refund": None})
    age(database, 31)
    assert prune_some(database, 30).pruned == {("acme", "stripe"): 2}
    assert {name[0] for name, there in kept(database).items() if there} == {"globex"}
    rows = database.fetch("SELECT business_id FROM finance_os.finance_audit_events WHERE event_type ~ 'pruned'")
    assert [row["business_id"] for row in rows] == ["acme"]


def test_a_body_that_speaks_of_two_businesses_waits_for_both(
    database: Database, acme: Connection, globex: Connection
) -> None:
    ours, theirs = (ensure_connection(database, name, "quickbooks") for name in ("acme", "globex"))
    body = json.dumps([cloud_event("a", "1", "10"), cloud_event("b", "2", "20")]).encode()
    first, second = events_in("quickbooks", body)
    inbox.store(database, ours, body, [(ours, first), (theirs, second)])
    requests = {request.connection: request for request in request_reads(database, settings())}
    run(database, requests[ours], {"quickbooks_invoice": None})
    age(database, 31)
    assert prune_some(database, 30).count == 0
    assert due(database, 30) == [{"business_id": "acme", "source_system": "quickbooks", "due": 0, "held": 1}]
    run(database, requests[theirs], {"quickbooks_invoice": None})
    assert prune_some(database, 30).count == 0, "the other's was done just now"
    age(database, 31, "b")
    assert prune_some(database, 30).pruned == {("acme", "quickbooks"): 1}


def test_what_is_interrupted_is_repeated(
    database: Database, acme: Connection, globex: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    come(database, acme, *refunds(range(3)))
    come(database, globex, *refunds(range(3)))
    read(database)
    age(database, 31)
    append = audit.append

    def stopped(opened: Any, business_id: str, *more: Any, **given: Any) -> Any:
        if business_id == "globex":
            raise KeyboardInterrupt
        return append(opened, business_id, *more, **given)

    with monkeypatch.context() as patched:
        patched.setattr(audit, "append", stopped)
        with pytest.raises(KeyboardInterrupt):
            prune_some(database, 30)
    assert set(kept(database).values()) == {True}, "nothing without its event in the audit chain"
    assert prune_some(database, 30).pruned == {("acme", "stripe"): 3, ("globex", "stripe"): 3}
    assert prune_some(database, 30).count == 0
    assert all(audit.verify(database.as_reader(), name).sound for name in ("acme", "globex"))


# --- what comes again, and what is said of it


def test_a_redelivery_is_known(
    database: Database, acme: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINANCE_OS_STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
    client, body = browse(database), stripe_event("evt_1", "refund.updated", {"object": "refund", "id": "re_1"})
    place = f"/webhooks/acme/stripe/{acme.connection_id}"

    def send() -> dict[str, int]:
        return client.post(place, content=body, headers={STRIPE_HEADER: stripe_header(body)}).json()

    assert send() == {"stored": 1, "known": 0, "unknown_realm": 0}
    read(database)
    age(database, 31)
    assert prune_some(database, 30).count == 1
    assert send() == {"stored": 0, "known": 1, "unknown_realm": 0}
    assert states(database) == {"evt_1": ("done", 0)}
    [row] = database.fetch("SELECT deliveries, (SELECT count(*) FROM finance_os.webhook_bodies) AS bodies"
                           " FROM finance_os.webhook_events")  # fmt: skip
    assert row == {"deliveries": 2, "bodies": 1}


def test_an_event_that_is_known_by_its_hash_is_known_still(database: Database, acme: Connection) -> None:
    books, bank = ensure_connection(database, "acme", "quickbooks"), ensure_connection(database, "acme", "plaid")
    said = notifications(("1", [entity("Invoice", "10"), entity("Customer", "11")]))
    entities = [(books, event) for event in events_in("quickbooks", said)]
    [sync] = events_in("plaid", PLAID)
    assert inbox.store(database, books, said, entities).new == 2
    assert inbox.store(database, bank, PLAID, [(bank, signed_at(sync, 100))]).new == 1
    read(database)
    age(database, 31)
    assert prune_some(database, 30).pruned == {("acme", "quickbooks"): 1, ("acme", "plaid"): 1}
    assert inbox.store(database, books, said, entities).known == 2
    assert inbox.store(database, bank, PLAID, [(bank, signed_at(sync, 100))]).known == 1
    assert len(database.fetch("SELECT FROM finance_os.webhook_bodies")) == 2


def test_the_same_said_anew_is_kept_anew_and_read(database: Database, acme: Connection) -> None:
    bank = ensure_connection(database, "acme", "plaid")
    [sync] = events_in("plaid", PLAID)
    inbox.store(database, bank, PLAID, [(bank, signed_at(sync, 100))])
    read(database)
    age(database, 31)
    inbox.store(database, bank, PLAID, [(bank, signed_at(sync, 200))])
    assert prune_some(database, 30).count == 0, "it is said in the same body, which waits"
    read(database)
    age(database, 31)
    assert prune_some(database, 30).count == 1
    assert inbox.store(database, bank, PLAID, [(bank, signed_at(sync, 300))]).new == 1
    request = one(request_reads(database, settings()))
    assert request.reads["plaid_transaction"] is None
    with database.transaction() as opened:
        body_id = inbox.keep_body(opened, bank, PLAID)
    rows = database.fetch("SELECT body_id, body FROM finance_os.webhook_bodies ORDER BY 1")
    assert [(row["body_id"], row["body"] and bytes(row["body"])) for row in rows] == [(1, None), (body_id, PLAID)]
    run(database, request, dict.fromkeys(request.reads))
    assert {state for state, _ in states(database).values()} == {"done"}


def test_the_gap_check_knows_an_event_whose_body_was_pruned(database: Database, acme: Connection) -> None:
    ours = WebhookSettings()
    assert gaps.check(database, acme, ours) is None
    with database.connection() as owner:
        owner.execute("UPDATE finance_os.webhook_gap_checks SET since = since - interval '1 day'")
    old(database, acme, *refunds([1]))
    assert prune_some(database, 30).count == 1
    log(database, acme, ("evt_1", now() - HOUR, "refund"), ("evt_2", now() - HOUR, "refund"))
    assert gaps.check(database, acme, ours) == 1
    assert {key: state for key, (state, _) in states(database).items()} == {"evt_1": "done", "evt_2": "received"}


def test_replay_leaves_what_was_pruned(database: Database, acme: Connection) -> None:
    old(database, acme, *refunds([1]))
    assert prune_some(database, 30).count == 1
    come(database, acme, *refunds([2]))
    read(database)
    assert inbox.replay(database, [1, 2], "jane") == [2]
    assert {key: state for key, (state, _) in states(database).items()} == {"evt_1": "done", "evt_2": "received"}
    [pruned] = retention.pruned_events(database, [1, 2, 3])
    assert (pruned["event_number"], pruned["reads"]) == (1, {"stripe_refund": ["re_1"]})
    shown = inbox.shown(database, 1)
    assert (shown["body_bytes"], shown["body_pruned_at"]) == (None, pruned["pruned_at"])


def test_an_event_that_lost_its_body_nevertheless_holds_nobody_up(database: Database, acme: Connection) -> None:
    come(database, acme, *refunds([1, 2]))
    with psycopg.connect(database.url) as owner:
        owner.execute("SET session_replication_role = replica")
        owner.execute("UPDATE finance_os.webhook_bodies SET body = NULL, pruned_at = now() WHERE body_id = 1")
    assert one(request_reads(database, settings())).reads == {"stripe_refund": ["re_2"]}
    assert states(database)["evt_1"] == ("poisoned", 1)


# --- in small batches


def test_a_pass_goes_on_where_it_was_and_then_rests(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 4)
    ours = WebhookSettings()
    come(database, acme, *refunds(range(13)))
    [request] = request_reads(database, settings(batch_events=10))  # 10, 11 and 12 wait
    run(database, request, {"stripe_refund": None})
    age(database, 31)
    age(database, -31, *(f"evt_{number}" for number in range(1, 6)), bodies=False)  # done today
    come(database, acme, *refunds([13]))
    cursor, counts = None, []
    while (went_on := go_on(database, ours, cursor, NOW)) is not None:
        cursor, batch = went_on
        counts.append(batch.count)
        assert len(counts) < 10
    assert counts == [1, 2, 2, 0], "of four at a time, over those that stay"
    assert go_on(database, ours, cursor, NOW + timedelta(minutes=59)) is None
    age(database, 31, "evt_1", "evt_2", bodies=False)
    went_on = go_on(database, ours, cursor, NOW + timedelta(hours=1))
    assert went_on is not None
    assert went_on[1].count == 2
    assert go_on(database, ours, cursor, NOW - timedelta(days=9)) is not None, "a clock that was put back"


@pytest.mark.parametrize("cursor", ["nonsense", "[]", '{"after": "x"}', '{"rests_until": "2030-01-01T00:00:00"}'])
def test_a_cursor_that_is_not_ours_begins_a_pass(database: Database, acme: Connection, cursor: str) -> None:
    old(database, acme, *refunds([1]))
    went_on = go_on(database, WebhookSettings(), cursor, NOW)
    assert went_on is not None
    assert went_on[1].count == 1


def test_zero_days_keep_bodies_for_ever(database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    old(database, acme, *refunds([1]))
    monkeypatch.setenv("FINANCE_OS_WEBHOOK_BODY_DAYS", "0")
    assert go_on(database, WebhookSettings(), None, NOW) is None
    monkeypatch.setenv("FINANCE_OS_WEBHOOK_BODY_DAYS", "32")
    assert go_on(database, WebhookSettings(), None, NOW) == (retention.rested(NOW), Batch({}, None))
    monkeypatch.delenv("FINANCE_OS_WEBHOOK_BODY_DAYS")
    assert WebhookSettings().body_days == 30


def test_neither_the_pass_nor_a_body_s_events_are_found_by_scanning(
    database: Database, owner: Database, acme: Connection
) -> None:
    attempt(
        owner,
        """
        INSERT INTO finance_os.webhook_bodies (business_id, connection_id, body_hash, body)
        SELECT 'acme', %s, sha256(n::text::bytea), 'x' FROM generate_series(1, 5000) AS n
        """,
        [acme.connection_id],
    )
    attempt(
        owner,
        """
        INSERT INTO finance_os.webhook_events
            (business_id, source_system, connection_id, event_key, event_type, body_id, state, settled_at)
        SELECT business_id, 'stripe', connection_id, body_id, 'x', body_id, 'done', now() FROM finance_os.webhook_bodies
        """,
    )
    with owner.connection() as opened:
        opened.execute("UPDATE finance_os.webhook_bodies SET body = NULL WHERE body_id <= 4000")
        opened.execute("ANALYZE finance_os.webhook_bodies, finance_os.webhook_events")
        plan = str(opened.execute(f"EXPLAIN {retention._NEXT}", {"after": 0, "most": 10, "days": 30}).fetchall())
        assert "webhook_bodies_kept" in plan
        assert "webhook_events_of_body" in plan
        assert "Seq Scan on webhook_bodies" not in plan
        assert "Seq Scan on webhook_events" not in plan
