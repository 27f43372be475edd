"""Current tables: what the partitions of days and businesses hold, in its current version, with every number exact."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from finance_os.evidence import sync_runs
from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.canonical import decode
from finance_os.evidence.completion import complete
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import DayState, Extraction, Item, Kind, Page, Record, Request, SourceError
from finance_os.evidence.partitions import runs_of_days
from finance_os.evidence.reading import perform
from finance_os.evidence.staging import Tally
from finance_os.evidence.staging import stage as stage_chunks
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.tables import CURRENT_SCHEMA, current_records, current_table
from finance_os.evidence.windows import Days
from finance_os_tests.evidence.staged import DAY, NOON, OBJECT, page, read_of, record, stage

ORIGIN = Origin(Trigger.MANUAL)
NEXT = DAY + timedelta(days=1)
LAST = DAY + timedelta(days=2)


def table(database: Database, first: date = DAY, last: date | None = None, business_id: str | None = None) -> pa.Table:
    return current_table(database, "stripe", OBJECT, Days(first, last or first), business_id)


def contents(found: pa.Table) -> dict[str, Any]:
    """Source ID → content; fails where one is there twice."""
    rows = found.to_pylist()
    assert len({(row["business_id"], row["source_id"]) for row in rows}) == len(rows)
    return {row["source_id"]: decode(row["payload"])["content"] for row in rows}


def unobservable(database: Database, connection: Connection, days: Days) -> int:
    """Record that `days` cannot be observed any more, as a past day of a snapshot source."""
    states = dict.fromkeys(days, DayState.UNOBSERVABLE)
    read = replace(read_of(connection, [], days=days), extract=None, states=states)
    return perform(database, read, ORIGIN, chunk_rows=1)["sync_run_id"]


def test_one_day_a_range_and_all_of_it(database: Database, acme: Connection) -> None:
    records = [record("in_1", 1), record("in_2", 2, day=NEXT), record("in_3", 3, day=LAST), record("in_1", 1, day=LAST)]
    stage(database, acme, page(*records), days=Days(DAY, LAST))
    assert contents(table(database)) == {"in_1": 1}
    assert contents(table(database, NEXT)) == {"in_2": 2}
    assert contents(table(database, DAY, NEXT)) == {"in_1": 1, "in_2": 2}
    found = table(database, DAY, LAST)
    assert contents(found) == {"in_1": 1, "in_2": 2, "in_3": 3}
    days = dict(zip(found["source_id"].to_pylist(), found["partition_day"].to_pylist(), strict=True))
    assert days == {"in_1": LAST, "in_2": NEXT, "in_3": LAST}, "the last of the asked days that it was seen on"
    assert table(database, DAY, NEXT)["partition_day"].to_pylist() == [DAY, NEXT]


def test_of_one_business_or_of_all(database: Database, acme: Connection, globex: Connection) -> None:
    stage(database, acme, page(record("in_1", "ours"), record("in_2", "ours")))
    stage(database, globex, page(record("in_1", "theirs"), record("in_3", "theirs")))
    assert contents(table(database, business_id="acme")) == {"in_1": "ours", "in_2": "ours"}
    assert contents(table(database, business_id="globex")) == {"in_1": "theirs", "in_3": "theirs"}
    assert table(database, business_id="initech").num_rows == 0
    both = table(database)
    assert list(zip(both["business_id"].to_pylist(), both["source_id"].to_pylist(), strict=True)) == [
        ("acme", "in_1"),
        ("acme", "in_2"),
        ("globex", "in_1"),
        ("globex", "in_3"),
    ]


def test_nothing_read_and_nothing_found_are_empty_tables_of_the_same_schema(
    database: Database, acme: Connection
) -> None:
    never = table(database)
    stage(database, acme)
    for found in (never, table(database), table(database, date(1970, 1, 1), date(2100, 1, 1))):
        assert found.num_rows == 0
        assert found.schema == CURRENT_SCHEMA
        assert found.to_pandas().empty


def test_the_current_version_is_given_whenever_it_was_read(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1", "a")))
    later = stage(database, acme, page(record("in_1", "b", day=LAST), minute=9), days=Days(LAST, LAST))
    stage(database, acme, page(record("in_1", "stale", day=NEXT), minute=5), days=Days(NEXT, NEXT))
    for day in (DAY, NEXT, LAST):
        assert contents(table(database, day)) == {"in_1": "b"}
    assert table(database)["first_sync_run_id"].to_pylist() == [later["sync_run_id"]]


def test_removed_and_restored(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1"), record("in_2")))
    stage(database, acme, page(record("in_1", None), minute=1), kind=Kind.TARGETED)
    assert contents(table(database)) == {"in_2": "a"}
    stage(database, acme, page(record("in_1", "back", day=NEXT), minute=2), days=Days(NEXT, NEXT))
    assert contents(table(database)) == {"in_1": "back", "in_2": "a"}
    stage(database, acme, page(record("in_1", day=LAST), minute=3), days=Days(LAST, LAST), kind=Kind.SNAPSHOT)
    assert contents(table(database)) == {"in_1": "a"}, "the snapshot did not show the other one"


def test_every_number_and_time_is_exact(database: Database, acme: Connection) -> None:
    text = '{"amount":-0.10,"big":98765432109876543210987654321,"content":1.000000000000000000001,"one":1.00}'
    times = datetime(1999, 12, 31, 23, 59, 59, 999_999, UTC), datetime(2026, 3, 2, 1, 2, 3, 4, UTC)
    stage(database, acme, Page([Record("in_1", decode(text), DAY, None, *times)], NOON))
    (row,) = table(database).to_pylist()
    payload = decode(row["payload"])
    assert payload == decode(text)
    assert [str(payload[name]) for name in ("amount", "content", "one")] == ["-0.10", "1.000000000000000000001", "1.00"]
    assert isinstance(payload["content"], Decimal)
    assert (row["source_created_at"], row["source_updated_at"]) == times
    assert len(row["payload_hash"]) == 64
    assert row["record_id"] > 0


def test_batches_are_bounded_and_ordered(database: Database, acme: Connection) -> None:
    stage(database, acme, page(*(record(f"in_{number:03}", number) for number in range(100))))
    batches = list(current_records(database, "stripe", OBJECT, Days(DAY, DAY), batch_rows=30))
    assert [batch.num_rows for batch in batches] == [30, 30, 30, 10]
    ids = [each for batch in batches for each in batch.column("source_id").to_pylist()]
    assert ids == sorted(ids)
    assert len(set(ids)) == 100


def test_a_day_is_its_last_complete_read_and_everything_added_since(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_old")), kind=Kind.TARGETED)
    stage(database, acme, page(record("in_drop")), kind=Kind.DROP)
    stage(database, acme, page(record("in_1"), record("in_2"), minute=1))
    assert set(contents(table(database))) == {"in_1", "in_2"}, "what was added before is part of what was read, or not"
    stage(database, acme, page(record("in_3"), minute=2), kind=Kind.TARGETED)
    stage(database, acme, page(record("in_4"), minute=3), kind=Kind.DROP)
    stage(database, acme, page(record("in_5"), minute=4), kind=Kind.DROP)
    assert set(contents(table(database))) == {"in_1", "in_2", "in_3", "in_4", "in_5"}
    stage(database, acme, page(record("in_2"), record("in_5"), minute=5))
    assert set(contents(table(database))) == {"in_2", "in_5"}
    stage(database, acme, page(minute=6))
    assert contents(table(database)) == {}, "the day was read again and found empty"


def test_drops_alone_add_up_and_a_drop_for_another_day_changes_nothing(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("t_1", 1), record("t_2", 2)), kind=Kind.DROP)
    stage(database, acme, page(record("t_2", 2), record("t_3", 3), minute=1), kind=Kind.DROP)
    stage(database, acme, page(record("t_9", day=NEXT), minute=2), kind=Kind.DROP, days=Days(NEXT, NEXT))
    assert contents(table(database)) == {"t_1": 1, "t_2": 2, "t_3": 3}
    assert contents(table(database, NEXT)) == {"t_9": "a"}


@pytest.mark.parametrize("kind", [Kind.WINDOW, Kind.SNAPSHOT])
def test_an_unobservable_day_hides_nothing(database: Database, acme: Connection, kind: Kind) -> None:
    run = stage(database, acme, page(record("in_1")), kind=kind)
    added = stage(database, acme, page(record("in_2"), minute=1), kind=Kind.TARGETED)
    silent = unobservable(database, acme, Days(DAY, NEXT))
    assert set(contents(table(database, DAY, NEXT))) == {"in_1", "in_2"}
    found = runs_of_days(database, "stripe", OBJECT, Days(DAY, NEXT))
    assert found["acme", DAY] == [run["sync_run_id"], added["sync_run_id"], silent]
    assert found["acme", NEXT] == [silent]
    again = stage(database, acme, page(record("in_3"), minute=2))
    assert runs_of_days(database, "stripe", OBJECT, Days(DAY, DAY))["acme", DAY] == [again["sync_run_id"]]


def test_a_failed_read_and_a_running_one_are_not_part_of_a_day(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1")))
    with suppress(SourceError):
        stage(database, acme, page(record("in_2"), minute=1), page(record("in_3", 0.5), minute=1), chunk_rows=1)
    inside: list[dict[str, Any]] = []

    def items(request: Request) -> Iterator[Item]:
        yield page(record("in_4"), minute=2)
        yield page(record("in_5"), minute=2)
        yield page(record("in_6"), minute=2)
        inside.append(contents(table(database)))

    perform(database, read_of(acme, items), ORIGIN, chunk_rows=1)
    assert inside == [{"in_1": "a"}]
    assert set(contents(table(database))) == {"in_4", "in_5", "in_6"}


def test_a_day_read_whole_is_later_than_one_that_was_not_over(database: Database, acme: Connection) -> None:
    """A backfill crashed; another read came, while the day lasted; then the backfill went on, after its end."""
    days = Days(DAY - timedelta(days=1), DAY)
    with database.connection() as opened:
        run = sync_runs.begin(database, opened, read_of(acme, [], days=days), ORIGIN)
        first = page(record("in_1"), resume={"page": 1})
        stage_chunks(database, opened, run, Extraction([first]), chunk_rows=1)
        sync_runs.leave(run)
    partial = replace(read_of(acme, [page(record("in_1"), record("in_2"), minute=1)]), states={DAY: DayState.PARTIAL})
    other = perform(database, partial, ORIGIN, chunk_rows=1)
    assert set(contents(table(database))) == {"in_1", "in_2"}
    rest = [page(record("in_2"), record("in_3"), minute=9)]
    row = perform(database, read_of(acme, rest, days=days), ORIGIN, chunk_rows=1)
    assert row["sync_run_id"] == run.sync_run_id < other["sync_run_id"]
    assert set(contents(table(database))) == {"in_1", "in_2", "in_3"}
    assert runs_of_days(database, "stripe", OBJECT, Days(DAY, DAY)) == {("acme", DAY): [run.sync_run_id]}
    again = perform(database, partial, ORIGIN, chunk_rows=1)
    assert runs_of_days(database, "stripe", OBJECT, Days(DAY, DAY)) == {("acme", DAY): [run.sync_run_id]}
    assert again["status"] == "succeeded"


def test_a_day_that_is_not_over_is_read_again_and_again(database: Database, acme: Connection) -> None:
    for minute in range(3):
        items = [page(*(record(f"in_{number}") for number in range(minute + 1)), minute=minute)]
        perform(database, replace(read_of(acme, items), states={DAY: DayState.PARTIAL}), ORIGIN, chunk_rows=1)
        assert len(contents(table(database))) == minute + 1
    stage(database, acme, page(record("in_0"), minute=9))
    assert set(contents(table(database))) == {"in_0"}


def test_a_targeted_read_that_began_after_a_long_read_is_kept(database: Database, acme: Connection) -> None:
    """A webhook comes while the day is being read: the read may not have seen what it told of."""
    with database.connection() as opened:
        long = sync_runs.begin(database, opened, read_of(acme, []), ORIGIN)
        stage(database, acme, page(record("in_webhook"), minute=5), kind=Kind.TARGETED)
        stage_chunks(database, opened, long, Extraction([page(record("in_1"), minute=1)]), chunk_rows=1)
        complete(database, opened, long, Tally(), {})
        sync_runs.leave(long)
    assert set(contents(table(database))) == {"in_1", "in_webhook"}


def test_each_account_of_a_business_has_its_own_last_read(database: Database, acme: Connection) -> None:
    other = ensure_connection(database, "acme", "stripe", "second")
    stage(database, acme, page(record("in_1")))
    stage(database, other, page(record("in_2"), minute=1))
    assert set(contents(table(database))) == {"in_1", "in_2"}
    stage(database, other, page(record("in_3"), minute=2))
    assert set(contents(table(database))) == {"in_1", "in_3"}


def test_objects_and_source_systems_do_not_mix(database: Database, acme: Connection) -> None:
    gravity = ensure_connection(database, "acme", "gravity")
    stage(database, acme, page(record("in_1", "invoice")))
    stage(database, acme, page(record("in_1", "charge")), object_type="stripe_charge")
    stage(database, gravity, page(record("in_1", "gravity")))
    assert contents(table(database)) == {"in_1": "invoice"}
    assert contents(current_table(database, "stripe", "stripe_charge", Days(DAY, DAY))) == {"in_1": "charge"}
    assert contents(current_table(database, "gravity", OBJECT, Days(DAY, DAY))) == {"in_1": "gravity"}


def test_a_reader_may_load_it(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1")))
    assert current_table(database.as_reader(), "stripe", OBJECT, Days(DAY, DAY)).num_rows == 1
