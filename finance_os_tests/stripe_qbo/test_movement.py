"""How often evidence has moved: counted exactly, whatever commits when, and from any mark the same."""

from datetime import timedelta
from itertools import count

import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Item, Page, Request, SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.stripe_qbo import movement
from finance_os.stripe_qbo.movement import Mark, moved
from finance_os_tests.evidence.staged import page, read_of, record, stage


def total(database: Database, business_id: str = "acme") -> int:
    return moved(database, business_id, Mark())[0]


def test_it_grows_when_heads_move_and_at_no_other_time(database: Database, acme: Connection) -> None:
    assert total(database) == 0
    stage(database, acme, page(record("a"), record("b")))
    assert total(database) == 2
    stage(database, acme, page(record("a"), record("b"), minute=1))
    assert total(database) == 2
    stage(database, acme, page(record("a", "changed"), minute=2))
    assert total(database) == 3
    stage(database, acme, page(record("a"), minute=3))  # back to what it was
    assert total(database) == 4
    stage(database, acme, page(record("a", "stale"), minute=2))  # kept as a version, and no head moved
    assert total(database) == 4
    stage(database, acme, page(record("b", None), minute=4))
    assert total(database) == 5
    stage(database, acme, page(record("b"), minute=5))
    assert total(database) == 6


def test_a_read_that_failed_has_moved_what_it_committed(database: Database, acme: Connection) -> None:
    def breaks(request: Request) -> list[Item]:
        def items():
            yield Page([record("a")], request.now(), {"page": 1})
            raise SourceError("vendor_error", "It broke.", permanent=True)

        return items()  # pyright: ignore[reportReturnType]

    with pytest.raises(SourceError):
        perform(database, read_of(acme, breaks), Origin(Trigger.MANUAL), chunk_rows=1)
    assert total(database) == 1


def test_only_what_a_plan_reads_and_only_this_business(
    database: Database, acme: Connection, globex: Connection
) -> None:
    stage(database, globex, page(record("a")))
    stage(database, ensure_connection(database, "acme", "gravity"), page(record("a")), object_type="gravity_x")
    assert total(database) == 0
    stage(database, ensure_connection(database, "acme", "quickbooks"), page(record("a")), object_type="quickbooks_item")
    assert (total(database), total(database, "globex")) == (1, 1)


def test_a_mark_never_misses_what_commits_late(
    database: Database, owner: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs end in another order than they began in; a mark that any look gave gives the same sum later."""
    monkeypatch.setattr(movement, "_MAY_BE_UNSEEN", timedelta(0))
    marks = [Mark()]
    numbers = count()

    def look() -> None:
        sums = {moved(database, "acme", mark)[0] for mark in marks}
        assert sums == {total(database)}
        marks.append(moved(database, "acme", marks[-1])[1])

    def slow(request: Request) -> list[Item]:
        def items():
            yield Page([record(f"slow_{next(numbers)}")], request.now())
            stage(database, acme, page(record("quick")), object_type="stripe_charge")
            look()
            yield Page([record(f"slow_{next(numbers)}")], request.now())

        return items()  # pyright: ignore[reportReturnType]

    for minute in range(3):
        stage(database, acme, page(record("a", str(minute)), minute=minute))
        look()
        perform(database, read_of(acme, slow), Origin(Trigger.MANUAL), chunk_rows=1)
        look()
    assert marks[-1].sync_run_id == max(
        row["id"] for row in database.fetch("SELECT sync_run_id AS id FROM finance_os.source_sync_runs")
    )
    assert marks[-1].moved == total(database) == 3 + 1 + 6
    # While runs are young one with a lower number may be committed yet: the mark stays before them.
    monkeypatch.setattr(movement, "_MAY_BE_UNSEEN", timedelta(minutes=15))
    assert moved(database, "acme", Mark())[1] == Mark()
    assert owner != database
