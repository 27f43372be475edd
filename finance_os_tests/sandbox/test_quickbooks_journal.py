"""A QuickBooks company that is kept: whoever opens it again finds what was written, under the same IDs."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from finance_os.sandbox.quickbooks import QuickBooksRoom
from finance_os.sandbox.world import World, build

from .conftest import START, UNTIL
from .test_quickbooks import Client, change, error, served
from .test_quickbooks_books import everything


def made(days: int = 0) -> World:
    return build(seed=5, start=START, until=UNTIL + timedelta(days=days), size=2)


def write_something(room: QuickBooksRoom) -> dict[str, Any]:
    """A customer under a `requestid`, a refused one, one in a batch, and what a user does; the first customer."""
    with served(room) as base:
        client = Client(room, base)
        client.sign_in()
        customer = client.write("Customer", {"DisplayName": "Kept"}, requestid="first")
        error(client.post("customer", {"DisplayName": "Kept"}))
        items = [{"bId": "1", "operation": "create", "Customer": {"DisplayName": "Of a batch"}}]
        assert client.post("batch", {"BatchItemRequest": items}).status_code == 200
        client.http.close()
    change(room, "update", entity="Customer", body={"Id": customer["Id"], "DisplayName": "Renamed"})
    return customer


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    journal = tmp_path / "kept" / "company.jsonl"
    room = QuickBooksRoom(made(), journal=journal)
    customer = write_something(room)
    held = everything(room)
    room.close()
    again = QuickBooksRoom(made(), journal=journal)
    assert everything(again) == held
    with served(again) as base:
        client = Client(again, base)
        client.sign_in()
        answer = client.write("Customer", {"DisplayName": "Kept"}, requestid="first")
        assert answer["Id"] == customer["Id"]  # the memory of requests is kept too
        client.http.close()
    assert everything(again) == held
    again.close()


def test_life_goes_on_between(tmp_path: Path) -> None:
    """Days later, and after more was written, it is what it would be had the sandbox never stopped."""
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    world = made()
    room = QuickBooksRoom(world, journal=one)
    write_something(room)
    other.write_bytes(one.read_bytes())
    world.advance_to(UNTIL + timedelta(days=9))
    room.follow()
    change(room, "create", entity="Customer", body={"DisplayName": "Later"})
    room.close()
    again = QuickBooksRoom(made(days=9), journal=other)
    change(again, "create", entity="Customer", body={"DisplayName": "Later"})
    assert everything(again) == everything(room)
    again.close()


def test_a_change_that_was_being_kept_when_it_was_killed_was_not_made(tmp_path: Path) -> None:
    journal = tmp_path / "company.jsonl"
    room = QuickBooksRoom(made(), journal=journal)
    write_something(room)
    held = everything(room)
    room.close()
    with journal.open("ab") as file:
        file.write(b'{"now":17')
    again = QuickBooksRoom(made(), journal=journal)
    assert everything(again) == held
    change(again, "create", entity="Customer", body={"DisplayName": "After it"})
    again.close()
    assert "After it" in [
        each.fields["DisplayName"] for each in QuickBooksRoom(made(), journal=journal).realm.all("Customer")
    ]


def test_a_clock_before_what_was_kept_is_refused(tmp_path: Path) -> None:
    room = QuickBooksRoom(made(days=2), journal=tmp_path / "company.jsonl")
    write_something(room)
    room.close()
    with pytest.raises(ValueError, match="ahead of the clock"):
        QuickBooksRoom(made(), journal=tmp_path / "company.jsonl")
