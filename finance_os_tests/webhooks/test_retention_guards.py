"""What the database lets nobody do to the body of a webhook, also not two at the same time."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Thread
from typing import Any, LiteralString

import psycopg
import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.webhooks import inbox
from finance_os.webhooks.events import events_in, signed_at
from finance_os.webhooks.retention import prune_some
from finance_os.webhooks.walk import request_reads
from finance_os_tests.webhooks.aging import PLAID, age, attempt, kept, old, read
from finance_os_tests.webhooks.test_walk import come, one, refunds, settings, states


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE finance_os.webhook_bodies SET body = NULL",
        "UPDATE finance_os.webhook_bodies SET body = NULL, pruned_at = clock_timestamp()",
        "UPDATE finance_os.webhook_bodies SET pruned_at = clock_timestamp()",
        "UPDATE finance_os.webhook_bodies SET body = 'other'",
        "UPDATE finance_os.webhook_bodies SET body_hash = sha256('other')",
        "DELETE FROM finance_os.webhook_bodies",
        "INSERT INTO finance_os.webhook_bodies (business_id, connection_id, body_hash, pruned_at)"
        " SELECT business_id, connection_id, sha256('x'), clock_timestamp() FROM finance_os.connections",
        "SELECT FROM finance_os.webhook_bodies FOR UPDATE",
    ],
)
def test_the_application_itself_changes_no_body(database: Database, acme: Connection, statement: LiteralString) -> None:
    old(database, acme, *refunds([1]))
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        attempt(database, statement)
    assert kept(database) == {("acme", "evt_1"): True}


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("UPDATE finance_os.webhook_bodies SET body = 'other'", "append-only"),
        ("UPDATE finance_os.webhook_bodies SET pruned_at = clock_timestamp()", "append-only"),
        ("UPDATE finance_os.webhook_bodies SET body = NULL, received_at = now()", "append-only"),
        ("DELETE FROM finance_os.webhook_bodies WHERE pruned_at IS NOT NULL", "append-only"),
        ("UPDATE finance_os.webhook_bodies SET body = NULL", "of an event that is not done"),
        (
            "INSERT INTO finance_os.webhook_bodies (business_id, connection_id, body_hash)"
            " SELECT business_id, connection_id, sha256('x') FROM finance_os.connections",
            "check constraint",
        ),
    ],
)
def test_nor_does_its_owner(
    database: Database, owner: Database, acme: Connection, statement: LiteralString, refusal: str
) -> None:
    come(database, acme, *refunds([1]))
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation), match=refusal):
        attempt(owner, statement)
    assert kept(database) == {("acme", "evt_1"): True}


def test_what_was_pruned_does_not_come_back(database: Database, owner: Database, acme: Connection) -> None:
    [body] = refunds([1])
    old(database, acme, body)
    assert prune_some(database, 30).count == 1
    for statement in (
        "UPDATE finance_os.webhook_bodies SET body = %s, pruned_at = NULL",
        "UPDATE finance_os.webhook_bodies SET body = %s",
        "UPDATE finance_os.webhook_bodies SET pruned_at = pruned_at + octet_length(%s) * interval '1 day'",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="pruned, once, and never changed"):
            attempt(owner, statement, [body])
    with pytest.raises(psycopg.errors.CheckViolation, match="event 1 is not walked again: body 1 was pruned"):
        attempt(database, "UPDATE finance_os.webhook_events SET state = 'received', settled_at = NULL")
    with pytest.raises(psycopg.errors.CheckViolation, match="body 1 was pruned: no event is put to it"):
        attempt(
            database,
            """
            INSERT INTO finance_os.webhook_events
                (business_id, source_system, connection_id, event_key, event_type, body_id)
            SELECT business_id, source_system, connection_id, 'evt_x', 'refund.updated', body_id
            FROM finance_os.webhook_events
            """,
        )
    assert kept(database) == {("acme", "evt_1"): False}
    [row] = database.fetch("SELECT body_hash = sha256(%s) AS same, pruned_at FROM finance_os.webhook_bodies", (body,))
    assert row["same"]


def test_the_function_prunes_nothing_that_is_not_done(database: Database, acme: Connection, globex: Connection) -> None:
    come(database, acme, *refunds([1]), b"{")
    read(database)
    come(database, acme, *refunds([2]))
    one(request_reads(database, settings()))
    come(database, acme, *refunds([3]))
    assert {state for state, _ in states(database).values()} == {"received", "requested", "done", "poisoned"}
    rows = database.fetch(
        """
        SELECT finance_os.prune_webhook_bodies(array_agg(body_id), now() + interval '1 day')
        FROM finance_os.webhook_bodies
        """
    )
    assert len(rows) == 1
    assert sorted(name[1] for name, there in kept(database).items() if not there) == ["evt_1"]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.as_reader().fetch("SELECT finance_os.prune_webhook_bodies('{1}', now())")


# --- at the same time


@pytest.fixture
def hurried(database: Database) -> Callable[..., AbstractContextManager[Any]]:
    """Opens a transaction that waits a moment for locks, and no longer."""

    def opened(role: str = database.role) -> AbstractContextManager[Any]:
        separator = "&" if "?" in database.url else "?"
        return Database(f"{database.url}{separator}options=-c%20lock_timeout%3D200", role).transaction()

    return opened


_NEW: LiteralString = """
    INSERT INTO finance_os.webhook_events
        (business_id, source_system, connection_id, event_key, event_type, body_id)
    SELECT business_id, source_system, connection_id, %s, event_type, body_id
    FROM finance_os.webhook_events WHERE event_number = 1
    """
_AGAIN: LiteralString = "UPDATE finance_os.webhook_events SET state = 'received', settled_at = NULL"
_PRUNE: LiteralString = "SELECT finance_os.prune_webhook_bodies('{1}', now())"


@pytest.mark.parametrize("change", [pytest.param(_NEW, id="new"), pytest.param(_AGAIN, id="again")])
def test_a_body_is_not_pruned_while_an_event_is_put_to_it(
    database: Database, owner: Database, acme: Connection, hurried: Callable[..., Any], change: LiteralString
) -> None:
    old(database, acme, *refunds([1]))
    with database.transaction() as putting:
        putting.execute(change, ("evt_new",) if change is _NEW else ())
        with hurried() as pruning:
            assert pruning.execute(_PRUNE).fetchall() == [], "it waits for nobody"
        with pytest.raises(psycopg.errors.LockNotAvailable), hurried(owner.role) as pruning:
            pruning.execute("UPDATE finance_os.webhook_bodies SET body = NULL")
    assert database.fetch(_PRUNE) == []
    assert set(kept(database).values()) == {True}


@pytest.mark.parametrize("change", [pytest.param(_NEW, id="new"), pytest.param(_AGAIN, id="again")])
def test_no_event_is_put_to_a_body_while_it_is_pruned(
    database: Database, acme: Connection, hurried: Callable[..., Any], change: LiteralString
) -> None:
    old(database, acme, *refunds([1]))
    given = ("evt_new",) if change is _NEW else ()
    with database.transaction() as pruning:
        assert len(pruning.execute(_PRUNE).fetchall()) == 1
        with pytest.raises(psycopg.errors.LockNotAvailable), hurried() as putting:
            putting.execute(change, given)
    with pytest.raises(psycopg.errors.CheckViolation, match="was pruned"):
        attempt(database, change, given)


def test_what_comes_while_its_body_is_pruned_is_kept_anew(database: Database, acme: Connection) -> None:
    bank = ensure_connection(database, "acme", "plaid")
    [sync] = events_in("plaid", PLAID)
    inbox.store(database, bank, PLAID, [(bank, signed_at(sync, 100))])
    read(database)
    age(database, 31)
    new: list[int] = []
    with database.transaction() as pruning:
        assert len(pruning.execute(_PRUNE).fetchall()) == 1
        coming = Thread(
            target=lambda: new.append(inbox.store(database, bank, PLAID, [(bank, signed_at(sync, 200))]).new)
        )
        coming.start()
        coming.join(0.3)
        assert coming.is_alive(), "it waits to see whether the body stays"
    coming.join(10)
    assert new == [1]
    assert sorted(kept(database).values()) == [False, True]
    assert one(request_reads(database, settings())).reads["plaid_transaction"] is None


def test_it_is_pruned_at_the_level_that_shows_every_event(database: Database, acme: Connection) -> None:
    old(database, acme, *refunds([1]))
    with database.connection() as opened:
        opened.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(psycopg.errors.InvalidTransactionState), database.transaction(opened) as pruning:
            pruning.execute(_PRUNE)
