"""The walk: which events are read for together, how often, and what is made of reads that fail."""

import json
from collections.abc import Iterable, Mapping

import psycopg
import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.webhooks import inbox
from finance_os.webhooks.events import events_in
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.settling import Settled, settle
from finance_os.webhooks.walk import ReadRequest, company_of, open_requests, request_reads
from finance_os_tests.webhooks.senders import cloud_event, stripe_event


def settings(**given: object) -> WebhookSettings:
    return WebhookSettings.model_validate({"retry_seconds": 0, **given})


def come(database: Database, connection: Connection, *bodies: bytes) -> None:
    """Deliver bodies of a connection, as the receiver keeps them."""
    for body in bodies:
        events = [(connection, event) for event in events_in(connection.source_system, body)]
        inbox.store(database, connection, body, events)


def refunds(numbers: Iterable[int]) -> list[bytes]:
    """An event for each number, about the refund of that number."""
    return [
        stripe_event(f"evt_{number}", "refund.updated", {"object": "refund", "id": f"re_{number}"})
        for number in numbers
    ]


def run(database: Database, request: ReadRequest, outcome: Mapping[str, str | None]) -> Settled:
    """Pretend a Dagster run that ended: object type → the error code of its sync run, `None` for one that succeeded."""
    run_id = f"run-{request.request_id}"
    with database.transaction() as opened:
        for object_type, code in outcome.items():
            opened.execute(
                """
                INSERT INTO finance_os.source_sync_runs
                    (business_id, source_system, object_type, connection_id, kind, trigger, status, targets,
                     dagster_run_id, error_code, completed_at, worker, worker_host, worker_process, started_at)
                VALUES (%s, %s, %s, %s, 'targeted', 'webhook', %s, %s, %s, %s, clock_timestamp(),
                        gen_random_uuid(), 'here', 1, clock_timestamp())
                """,
                (
                    request.connection.business_id,
                    request.connection.source_system,
                    object_type,
                    request.connection.connection_id,
                    "succeeded" if code is None else "failed",
                    request.reads[object_type] or [],
                    run_id,
                    code,
                ),
            )
    return settle(database, request, [run_id], settings())


def states(database: Database) -> dict[str, tuple[str, int]]:
    """Event key → state and tries."""
    rows = database.fetch("SELECT event_key, state, tries FROM finance_os.webhook_events")
    return {row["event_key"]: (row["state"], row["tries"]) for row in rows}


def one(requests: list[ReadRequest]) -> ReadRequest:
    [request] = requests
    return request


def test_each_object_is_read_once_for_all_its_events(database: Database, acme: Connection) -> None:
    come(database, acme, *(stripe_event(f"evt_{n}", item={"object": "refund", "id": f"re_{n % 2}"}) for n in range(7)))
    request = one(request_reads(database, settings()))
    assert request.reads == {"stripe_refund": ["re_0", "re_1"]}
    assert open_requests(database) == [request]
    assert request_reads(database, settings()) == []
    assert run(database, request, {"stripe_refund": None}) == Settled(7, 0, 0)
    assert open_requests(database) == []
    assert set(states(database).values()) == {("done", 0)}


def test_what_comes_while_it_is_read_is_read_again(database: Database, acme: Connection) -> None:
    come(database, acme, *refunds([1]))
    first = one(request_reads(database, settings()))
    come(database, acme, stripe_event("evt_later", item={"object": "refund", "id": "re_1"}))
    run(database, first, {"stripe_refund": None})
    assert states(database) == {"evt_1": ("done", 0), "evt_later": ("received", 0)}
    second = one(request_reads(database, settings()))
    assert second.reads == first.reads
    assert second.request_id != first.request_id


def test_a_run_takes_so_many_objects_and_a_connection_so_many_runs(database: Database, acme: Connection) -> None:
    come(database, acme, *refunds(range(10)))
    ours = settings(batch_reads=4, runs_at_once=2)
    first = one(request_reads(database, ours))
    second = one(request_reads(database, ours))
    assert [len(each.reads["stripe_refund"] or ()) for each in (first, second)] == [4, 4]
    assert request_reads(database, ours) == []
    run(database, first, {"stripe_refund": None})
    assert one(request_reads(database, ours)).reads == {"stripe_refund": ["re_8", "re_9"]}


def test_events_that_ask_for_nothing_are_done_and_unreadable_ones_set_aside(
    database: Database, acme: Connection
) -> None:
    come(database, acme, stripe_event("evt_1", item={"object": "payment_method", "id": "pm_1"}), b"{")
    come(database, acme, stripe_event("evt_2", item={"object": "refund", "id": 7}))
    assert request_reads(database, settings()) == []
    found = states(database)
    assert found.pop("evt_1") == ("done", 0)
    assert set(found.values()) == {("poisoned", 1)}
    [event] = database.fetch(
        "SELECT details FROM finance_os.finance_audit_events WHERE event_type = 'webhooks.poisoned'"
    )
    assert event["details"] == {"events": 2}


def test_one_object_that_fails_leaves_the_others_done(database: Database, acme: Connection) -> None:
    charge = {"object": "charge", "id": "ch_1", "balance_transaction": "txn_1"}
    come(database, acme, *refunds([1]), stripe_event("evt_2", "charge.succeeded", charge))
    request = one(request_reads(database, settings()))
    outcome = {"stripe_refund": None, "stripe_charge": None, "stripe_balance_transaction": "forbidden"}
    assert run(database, request, outcome) == Settled(1, 1, 0)
    [event] = [each for each in inbox.listed(database) if each["event_key"] == "evt_2"]
    assert (event["state"], event["tries"]) == ("received", 1)
    assert event["last_error"] == "stripe_balance_transaction: forbidden"
    again = one(request_reads(database, settings()))
    assert again.reads == {"stripe_charge": ["ch_1"], "stripe_balance_transaction": ["txn_1"]}
    assert run(database, again, dict.fromkeys(again.reads)) == Settled(1, 0, 0)


def test_the_company_shrinks_until_the_poison_is_alone(database: Database, acme: Connection) -> None:
    come(database, acme, *refunds(range(120)))
    sizes: list[int] = []
    for _ in range(1_000):
        requests = request_reads(database, settings(batch_events=100))
        if not requests:
            break
        for request in requests:
            targets = request.reads["stripe_refund"] or []
            sizes.append(len(targets))
            run(database, request, {"stripe_refund": "missing" if "re_7" in targets else None})
    found = states(database)
    assert found.pop("evt_7") == ("poisoned", 5)
    assert {state for state, _ in found.values()} == {"done"}
    assert len(sizes) < 75  # 100 together, then by two, then alone: not each by itself
    assert [company_of(tries, settings()) for tries in range(5)] == [5_000, 100, 2, 1, 1]
    assert company_of(2, settings(max_tries=3)) == 1


def test_what_is_the_connections_own_trouble_is_not_counted(database: Database, acme: Connection) -> None:
    come(database, acme, *refunds(range(3)))
    for _ in range(8):
        run(database, one(request_reads(database, settings())), {"stripe_refund": "rate_limited"})
    assert set(states(database).values()) == {("received", 0)}
    held = settings(retry_seconds=600)
    assert request_reads(database, held) == []
    run(database, one(request_reads(database, settings())), {"stripe_refund": None})
    assert one(request_reads(database, held)).reads  # it works again: nothing is held up


def test_what_may_be_either_counts_once_the_connection_has_worked(database: Database, acme: Connection) -> None:
    come(database, acme, *refunds([1]))
    for _ in range(3):
        run(database, one(request_reads(database, settings())), {"stripe_refund": "vendor_error"})
    assert states(database) == {"evt_1": ("received", 0)}
    come(database, acme, stripe_event("evt_2", "customer.updated", {"object": "customer", "id": "cus_1"}))
    for _ in range(10):
        for request in request_reads(database, settings()):
            run(
                database,
                request,
                {name: "vendor_error" if name == "stripe_refund" else None for name in request.reads},
            )
    assert states(database)["evt_2"] == ("done", 0)
    assert states(database)["evt_1"][1] >= 1


def test_a_run_that_left_no_sync_run_is_tried_again(database: Database, acme: Connection) -> None:
    come(database, acme, *refunds([1]))
    request = one(request_reads(database, settings()))
    assert run(database, request, {}) == Settled(0, 1, 0)
    [event] = inbox.listed(database)
    assert (event["state"], event["last_error"]) == ("received", "stripe_refund: run_failed")


def test_connections_do_not_wait_for_each_other(database: Database, acme: Connection, globex: Connection) -> None:
    come(database, acme, *refunds([1]))
    come(database, globex, *refunds([1]))
    requests = request_reads(database, settings())
    assert [request.connection for request in requests] == [acme, globex]
    run(database, requests[0], {"stripe_refund": "unauthorized"})
    run(database, requests[1], {"stripe_refund": None})
    rows = database.fetch("SELECT business_id, state FROM finance_os.webhook_events ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [("acme", "received"), ("globex", "done")]
    ensure_connection(database, "acme", "stripe", active=False)
    assert request_reads(database, settings()) == []


def test_events_of_one_body_go_their_own_ways(database: Database, acme: Connection) -> None:
    books = ensure_connection(database, "acme", "quickbooks")
    come(
        database,
        books,
        json.dumps([cloud_event(f"e{n}", "1", str(n)) for n in range(30)]).encode(),
    )
    request = one(request_reads(database, settings(batch_events=20)))
    assert request.reads == {"quickbooks_invoice": [str(n) for n in range(20)]}
    run(database, request, {"quickbooks_invoice": None})
    assert one(request_reads(database, settings())).reads == {"quickbooks_invoice": [str(n) for n in range(20, 30)]}


def test_replaying_puts_back_what_is_not_being_read(database: Database, acme: Connection) -> None:
    come(database, acme, *refunds([1, 2]))
    request = one(request_reads(database, settings(batch_events=1)))
    run(database, request, {"stripe_refund": None})
    one(request_reads(database, settings(batch_events=1)))
    numbers = inbox.numbers_between(database, None, None)
    assert inbox.replay(database, numbers, "jane") == numbers[:1]
    assert states(database) == {"evt_1": ("received", 0), "evt_2": ("requested", 0)}
    shown = inbox.shown(database, numbers[0])
    assert (shown["replays"], shown["sync_run_ids"], shown["settled_at"]) == (1, [], None)
    [event] = database.fetch("SELECT actor, details FROM finance_os.finance_audit_events WHERE event_type ~ 'replayed'")
    assert event == {"actor": "jane", "details": {"events": 1}}


def test_two_walkers_at_once_do_not_ask_twice(database: Database, acme: Connection) -> None:
    come(database, acme, *refunds([1]))
    with database.transaction() as first:
        inbox.lock(first)
        with (
            psycopg.connect(database.url, options="-c lock_timeout=200") as other,
            pytest.raises(psycopg.errors.LockNotAvailable),
        ):
            inbox.lock(other)  # pyright: ignore[reportArgumentType]
