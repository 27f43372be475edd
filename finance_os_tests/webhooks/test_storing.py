"""Deliveries that are kept together: each event once, each body once, and every coming counted."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.webhooks.events import Event
from finance_os.webhooks.storing import Delivery, Stored, count_again, store_all


def delivery(to: Connection, body: bytes, *keys: str) -> Delivery:
    return Delivery(to, body, [(to, Event(key, "invoice.paid")) for key in keys])


def inbox(database: Database) -> dict[tuple[str, str], tuple[int, bytes]]:
    rows = database.fetch(
        """
        SELECT event.business_id, event_key, deliveries, body
        FROM finance_os.webhook_events AS event JOIN finance_os.webhook_bodies USING (body_id)
        """
    )
    return {(row["business_id"], row["event_key"]): (row["deliveries"], bytes(row["body"])) for row in rows}


def bodies(database: Database) -> int:
    [row] = database.fetch("SELECT count(*) AS count FROM finance_os.webhook_bodies")
    return row["count"]


def keep(database: Database, *deliveries: Delivery) -> list[Stored]:
    stored = store_all(database, deliveries)
    count_again(database, stored)
    return stored


def test_each_is_told_what_was_new_of_it(database: Database, acme: Connection, globex: Connection) -> None:
    stored = keep(
        database,
        delivery(acme, b"1", "a", "b"),
        delivery(globex, b"1", "a"),
        delivery(acme, b"1", "a", "b"),
        delivery(acme, b"2", "b", "c"),
        delivery(acme, b"3"),
    )
    assert [(each.new, each.known) for each in stored] == [(2, 0), (1, 0), (0, 2), (1, 1), (0, 0)]
    assert inbox(database) == {
        ("acme", "a"): (2, b"1"),
        ("acme", "b"): (3, b"1"),
        ("acme", "c"): (1, b"2"),
        ("globex", "a"): (1, b"1"),
    }
    assert bodies(database) == 3, "no body without an event that is new"
    again = keep(database, delivery(acme, b"4", "a"), delivery(acme, b"2", "d"), delivery(acme, b"5", "d"))
    assert [(each.new, each.known) for each in again] == [(0, 1), (1, 0), (0, 1)]
    assert inbox(database)["acme", "d"] == (2, b"2"), "a body that is there is taken"
    assert bodies(database) == 3


def test_an_event_that_the_gap_check_found_has_come_after_all(database: Database, acme: Connection) -> None:
    keep(database, delivery(acme, b"1", "a"))
    with database.connection() as owner:
        owner.execute("UPDATE finance_os.webhook_events SET delivered_at = NULL, deliveries = 0")
    keep(database, delivery(acme, b"1", "a"), delivery(acme, b"1", "a"))
    [row] = database.fetch("SELECT deliveries, delivered_at IS NOT NULL AS came FROM finance_os.webhook_events")
    assert (row["deliveries"], row["came"]) == (2, True)


def test_many_at_once_in_any_order_are_each_once(database: Database, acme: Connection, globex: Connection) -> None:
    random = Random(5)
    pairs = [(to, f"evt_{number}") for to in (acme, globex) for number in range(60)]
    sent = [delivery(to, f"{to.business_id} {key}".encode(), key) for to, key in pairs for _ in range(5)]
    random.shuffle(sent)
    batches = [sent[start : start + 12] for start in range(0, len(sent), 12)]
    with ThreadPoolExecutor(6) as pool:
        stored = [each for found in pool.map(lambda batch: keep(database, *batch), batches) for each in found]
    assert sum(each.new for each in stored) == len(pairs)
    assert Counter(deliveries for deliveries, _ in inbox(database).values()) == {5: len(pairs)}
    assert bodies(database) == len(pairs)
