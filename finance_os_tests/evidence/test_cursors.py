"""Cursors of change feeds: saved with the rows that they stand behind, or not at all."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Item, Page, Request, SourceError
from finance_os.evidence.reading import HeldEvidence, perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os_tests.evidence.staged import NOON, heads, read_of, record, stage


def page(name: str, cursor: dict[str, Any] | None) -> Page:
    return Page([record(name)], NOON, cursor=cursor)


def cursor_seen(database: Database, connection: Connection, **of_read: Any) -> Any:
    """The cursor that the next read is given."""
    seen: list[Any] = []

    def items(request: Request) -> Iterator[Item]:
        seen.append(request.cursor)
        return iter(())

    perform(database, read_of(connection, items, **of_read), Origin(Trigger.MANUAL), chunk_rows=10)
    return seen[0]


def test_the_next_read_goes_on_where_the_last_one_ended(database: Database, acme: Connection) -> None:
    assert cursor_seen(database, acme) is None
    stage(database, acme, page("a", {"next": "1"}), page("b", {"next": "2"}), page("c", None))
    assert cursor_seen(database, acme) == {"next": "2"}
    assert cursor_seen(database, acme) == {"next": "2"}


def test_each_object_and_each_connection_has_its_own(database: Database, acme: Connection, globex: Connection) -> None:
    stage(database, acme, page("a", {"next": "acme"}))
    stage(database, globex, page("a", {"next": "globex"}))
    assert cursor_seen(database, acme, object_type="stripe_charge") is None
    assert cursor_seen(database, ensure_connection(database, "acme", "stripe", "second")) is None
    assert cursor_seen(database, acme) == {"next": "acme"}
    assert cursor_seen(database, globex) == {"next": "globex"}


def test_a_cursor_is_saved_with_its_rows_or_not_at_all(database: Database, acme: Connection) -> None:
    def breaking(_: Request) -> Iterator[Item]:
        yield page("a", {"next": "1"})
        yield page("b", {"next": "2"})
        yield page("c", {"next": "3"})
        raise SourceError("unreachable", "gone")

    with pytest.raises(SourceError):
        perform(database, read_of(acme, breaking), Origin(Trigger.MANUAL), chunk_rows=2)
    # The third page had not filled its chunk: neither its row nor its cursor is there.
    assert set(heads(database)) == {"a", "b"}
    assert cursor_seen(database, acme) == {"next": "2"}


def test_what_is_held_between_two_values(database: Database, acme: Connection, globex: Connection) -> None:
    stage(
        database,
        acme,
        Page([record("a", "2026-03-01"), record("b", "2026-03-02"), record("c", "2026-03-03")], NOON),
        Page([record("c", None)], NOON + timedelta(minutes=1)),
    )
    stage(database, globex, Page([record("z", "2026-03-02")], NOON))
    held = HeldEvidence(database, read_of(acme, []))
    assert held.ids_between(("content",), "2026-03-02", "2026-03-09") == ["b"]
    assert held.ids_between(("content",), "2026-03-01", "2026-03-02") == ["a", "b"]
    assert held.ids_between(("nothing",), "", "zzz") == []


def test_what_was_shown_since_a_moment(database: Database, acme: Connection, globex: Connection) -> None:
    held = HeldEvidence(database, read_of(acme, []))
    assert held.ids_read_since(NOON - timedelta(days=1)) == []
    stage(database, acme, Page([record("b"), record("a"), record("c")], NOON))
    # Shown again without a difference, which moves no head; removed; shown with an older state.
    later = NOON + timedelta(minutes=5)
    stage(database, acme, Page([record("b"), record("d")], later))
    stage(database, acme, Page([record("d", None)], later + timedelta(minutes=1)))
    stage(database, acme, Page([record("b", "older")], NOON - timedelta(minutes=5)))
    stage(database, acme, Page([record("x")], later), object_type="stripe_charge")
    stage(database, globex, Page([record("z")], later))
    stage(database, ensure_connection(database, "acme", "stripe", "second"), Page([record("y")], later))
    assert held.ids_read_since(NOON - timedelta(microseconds=1)) == ["a", "b", "c", "d"]
    assert held.ids_read_since(NOON) == ["b", "d"]
    assert held.ids_read_since(later - timedelta(microseconds=1)) == ["b", "d"]
    assert held.ids_read_since(later) == []


def test_requests_of_all_runs_since_a_moment_are_counted(database: Database, acme: Connection) -> None:
    from finance_os.evidence.extraction import Extraction

    def sending(read: Any, sent: dict[str, int]) -> Any:
        from contextlib import contextmanager
        from dataclasses import replace

        @contextmanager
        def extract(_: Request) -> Iterator[Extraction]:
            yield Extraction([], requested=lambda: sent)

        return replace(read, extract=extract)

    before = database.fetch("SELECT clock_timestamp() AS now")[0]["now"]
    for sent in ({"GET a": 2, "POST a": 1}, {"GET a": 4}):
        perform(database, sending(read_of(acme, []), sent), Origin(Trigger.MANUAL), chunk_rows=1)
    held = HeldEvidence(database, read_of(acme, []))
    assert held.requests_since(before) == 7
    assert held.requests_since(before + timedelta(days=1)) == 0
