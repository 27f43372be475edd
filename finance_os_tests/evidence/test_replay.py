"""Replay: exactly what any past run saw, in its order, and the proof that fails when stored evidence was altered."""

import itertools
import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finance_os.evidence.businesses import Connection
from finance_os.evidence.canonical import canonical_json, decode, payload_hash
from finance_os.evidence.chunks import batch_hash
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Item, Kind, Page, Record, Request, SourceError
from finance_os.evidence.partitions import days_of_run
from finance_os.evidence.reading import perform
from finance_os.evidence.replay import replay, run_records
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os_tests.evidence.staged import DAY, NOON, page, read_of, record, stage

NEXT = DAY + timedelta(days=1)
THREE_DAYS = Days(DAY, DAY + timedelta(days=2))


def seen_of(database: Database, run: dict[str, Any], days: Days | None = None) -> list[tuple[date, str, Any]]:
    """Day, source ID and content of what a run saw, in order."""
    found: list[tuple[date, str, Any]] = []
    for seen in run_records(database, run["sync_run_id"], days):
        assert seen.payload is not None
        assert seen.source_id is not None
        assert seen.belongs
        assert seen.payload_hash == payload_hash(decode(seen.payload))
        found.append((seen.partition_day, seen.source_id, decode(seen.payload)["content"]))
    return found


def damage(database: Database, statement: str, *parameters: Any) -> int:
    """Alter append-only evidence as only the database's owner could, with the triggers off; rows altered."""
    with psycopg.connect(database.url) as connection:
        connection.execute("SET session_replication_role = replica")
        return connection.execute(statement.encode(), parameters).rowcount


# --- what a run saw


def test_repeats_and_interleaved_days_come_back_in_the_order_seen(database: Database, acme: Connection) -> None:
    pages = [
        page(record("in_2"), record("in_1", day=NEXT), record("in_2", day=NEXT), record("in_1"), record("in_2")),
        page(record("in_3", "x", day=NEXT), record("in_3", "y"), record("in_3", "x", day=NEXT), minute=1),
        page(record("in_1", day=NEXT), minute=2),
    ]
    expected = [(each.day, each.source_id, each.payload["content"]) for one in pages for each in one.records]  # pyright: ignore
    for chunk_rows in (1, 4, 1_000):
        run = stage(database, acme, *pages, days=THREE_DAYS, chunk_rows=chunk_rows)
        assert seen_of(database, run) == expected
        assert run["rows_extracted"] == len(expected)
    times = [seen.requested_at for seen in run_records(database, run["sync_run_id"])]
    assert times == [NOON] * 5 + [NOON + timedelta(minutes=1)] * 3 + [NOON + timedelta(minutes=2)]


def test_only_the_asked_days(database: Database, acme: Connection) -> None:
    records = [record(f"in_{number}", day=DAY + timedelta(days=number % 3)) for number in range(9)]
    run = stage(database, acme, page(*records), days=THREE_DAYS)
    for days in (Days(DAY, DAY), Days(DAY, NEXT), Days(NEXT, THREE_DAYS.last), THREE_DAYS):
        expected = [(each.day, each.source_id, "a") for each in records if each.day in days]
        assert seen_of(database, run, days) == expected
        assert list(replay(database, run["sync_run_id"], days)) == list(days)
    assert seen_of(database, run, Days(DAY - timedelta(days=3), DAY - timedelta(days=1))) == []
    assert replay(database, run["sync_run_id"], Days(date(2020, 1, 1), date(2020, 1, 1))) == {}


def test_each_run_of_a_history_keeps_what_it_saw(database: Database, acme: Connection) -> None:
    """A → B → removed → A: the versions are two, and every run still shows its own."""
    history: list[str | None] = ["a", "b", "a", "b", None, "a"]
    runs = [
        stage(database, acme, page(record("in_1", content), record("in_2"), minute=minute))
        for minute, content in enumerate(history)
    ]
    stage(database, acme, page(record("in_1", "stale"), minute=0), kind=Kind.TARGETED)
    for content, run in zip(history, runs, strict=True):
        shown = [] if content is None else [(DAY, "in_1", content)]
        assert seen_of(database, run) == [*shown, (DAY, "in_2", "a")]
        assert all(not day.would_add and not day.lost for day in replay(database, run["sync_run_id"]).values())
    assert len({seen.record_id for run in runs for seen in run_records(database, run["sync_run_id"])}) == 3


def test_provenance_comes_back_row_by_row(database: Database, acme: Connection) -> None:
    def row(source_id: str, line: int | str | None, day: date = DAY) -> Record:
        return replace_provenance(record(source_id, day=day), line)

    first = Page([row("in_1", 2), row("in_2", 3, NEXT), row("in_1", "4a")], NOON, provenance={"drop": "4f53", "é": [1]})
    second = Page([row("in_3", None), row("in_4", 7)], NOON, provenance={"drop": "back\\slash\t\n\"'"})
    bare = Page([row("in_5", 9), row("in_6", None)], NOON)
    none = Page([row("in_7", None)], NOON)
    run = stage(database, acme, first, second, bare, none, days=THREE_DAYS, kind=Kind.DROP)
    odd = second.provenance
    assert [seen.provenance for seen in run_records(database, run["sync_run_id"])] == [
        {"drop": "4f53", "é": [1], "row": 2},
        {"drop": "4f53", "é": [1], "row": 3},
        {"drop": "4f53", "é": [1], "row": "4a"},
        odd,
        {**(odd or {}), "row": 7},
        {"row": 9},
        None,
        None,
    ]


def replace_provenance(given: Record, line: int | str | None) -> Record:
    return Record(given.source_id, given.payload, given.day, provenance=line)


def test_volatile_fields_are_left_out_and_numbers_are_exact(database: Database, acme: Connection) -> None:
    payload = decode('{"id":"in_1","url":"https://x","big":123456789012345678901234567890.10,"small":0.1,"n":1.00}')
    run = stage(database, acme, Page([Record("in_1", payload, DAY)], NOON), volatile=(("url",), ("not", "there")))
    (seen,) = run_records(database, run["sync_run_id"])
    assert seen.payload is not None
    kept = {name: value for name, value in payload.items() if name != "url"}
    assert canonical_json(decode(seen.payload)) == canonical_json(kept)
    line = decode(seen.as_json_line(3))
    assert line["position"] == 3
    assert canonical_json(line["payload"]) == canonical_json(kept)
    assert b"123456789012345678901234567890.10" in seen.as_json_line(3)
    assert not any(day.would_add for day in replay(database, run["sync_run_id"]).values())


def test_a_failed_run_shows_what_it_committed(database: Database, acme: Connection) -> None:
    with pytest.raises(SourceError):
        stage(database, acme, page(record("in_1")), page(record("in_2"), record("in_3", 1.5)), chunk_rows=1)
    run = database.fetch("SELECT * FROM finance_os.source_sync_runs")[0]
    assert seen_of(database, run) == [(DAY, "in_1", "a")]


def test_two_businesses_and_many_runs_do_not_mix(database: Database, acme: Connection, globex: Connection) -> None:
    ours = stage(database, acme, page(record("in_1", "ours"), record("in_2", "same")))
    theirs = stage(database, globex, page(record("in_1", "theirs"), record("in_2", "same")))
    assert seen_of(database, ours) == [(DAY, "in_1", "ours"), (DAY, "in_2", "same")]
    assert seen_of(database, theirs) == [(DAY, "in_1", "theirs"), (DAY, "in_2", "same")]
    ids = [{seen.record_id for seen in run_records(database, run["sync_run_id"])} for run in (ours, theirs)]
    assert not ids[0] & ids[1]


def test_a_run_that_is_not_there_saw_nothing(database: Database, acme: Connection) -> None:
    assert list(run_records(database, 4711)) == []
    assert replay(database, 4711) == {}


_contents = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(st.characters(exclude_characters="\x00",
    exclude_categories=("Cs",)), max_size=8) | st.decimals(allow_nan=False, allow_infinity=False, places=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
_record = st.builds(
    lambda number, content, day: record(f"in_{number}", [content], day=DAY + timedelta(days=day)),
    st.integers(0, 5),
    _contents,
    st.integers(0, 2),
)


@given(pages=st.lists(st.lists(_record, max_size=6), max_size=5), chunk_rows=st.sampled_from([1, 3, 1_000]))
@settings(max_examples=50)
def test_an_honest_run_replays_as_it_was_seen(
    database: Database, acme: Connection, pages: list[list[Record]], chunk_rows: int
) -> None:
    items = [page(*records, minute=minute) for minute, records in enumerate(pages)]
    run = stage(database, acme, *items, days=THREE_DAYS, chunk_rows=chunk_rows)
    seen = list(run_records(database, run["sync_run_id"]))
    given = [each for records in pages for each in records]
    assert [(each.partition_day, each.source_id) for each in seen] == [(each.day, each.source_id) for each in given]
    assert [canonical_json(decode(each.payload or "")) for each in seen] == [
        canonical_json(each.payload) for each in given
    ]
    found = replay(database, run["sync_run_id"])
    for day in days_of_run(database, run["sync_run_id"]):
        of_day = found.pop(day.partition_day, None)
        if of_day is None:
            assert day.rows_extracted == 0
            continue
        assert (of_day.replayed, of_day.would_add, of_day.lost) == (day.rows_extracted, [], [])
        assert batch_hash(of_day.replayed, of_day.digest) == day.batch_hash
    assert not found


# --- planted damage


@pytest.fixture
def staged(database: Database, acme: Connection, globex: Connection) -> int:
    """A run of three records on two days, beside the same of another business."""
    pages = [page(record("in_1", 1), record("in_2", 2), record("in_3", 3, day=NEXT), record("in_1", 1, day=NEXT))]
    stage(database, globex, *pages, days=THREE_DAYS)
    return stage(database, acme, *pages, days=THREE_DAYS)["sync_run_id"]


def verdicts(database: Database, run: int) -> dict[date, tuple[int, list[str], list[str]]]:
    return {day: (each.replayed, each.would_add, each.lost) for day, each in replay(database, run).items()}


def record_id(database: Database, source_id: str, business_id: str = "acme") -> int:
    return database.fetch(
        "SELECT record_id FROM finance_os.raw_source_records WHERE source_id = %s AND business_id = %s",
        (source_id, business_id),
    )[0]["record_id"]


def test_an_honest_run_is_clean(database: Database, staged: int) -> None:
    assert verdicts(database, staged) == {DAY: (2, [], []), NEXT: (2, [], [])}


def test_an_edited_payload_would_add_a_row(database: Database, staged: int) -> None:
    statement = "UPDATE finance_os.raw_source_records SET payload = payload || '{\"content\": 99}' WHERE record_id = %s"
    assert damage(database, statement, record_id(database, "in_1")) == 1
    assert verdicts(database, staged) == {DAY: (2, ["in_1"], []), NEXT: (2, ["in_1"], [])}


@pytest.mark.parametrize("number", ["1.0", "1e0", '"1"', "true"])
def test_a_number_written_otherwise_is_another_payload(database: Database, staged: int, number: str) -> None:
    statement = "UPDATE finance_os.raw_source_records SET payload = payload || %s::jsonb WHERE record_id = %s"
    damage(database, statement, f'{{"content": {number}}}', record_id(database, "in_1"))
    changed = number != "1e0"  # jsonb itself writes 1e0 as 1
    assert verdicts(database, staged)[DAY] == (2, ["in_1"] if changed else [], [])


def test_an_edited_payload_with_its_hash_made_to_fit_is_found_by_the_batch_hash(
    database: Database, staged: int
) -> None:
    forged = {"id": "in_1", "content": 99}
    damage(
        database,
        "UPDATE finance_os.raw_source_records SET payload = %s::jsonb, payload_hash = %s WHERE record_id = %s",
        canonical_json(forged).decode(),
        payload_hash(forged),
        record_id(database, "in_1"),
    )
    found = replay(database, staged)
    assert not found[DAY].would_add, "it does hash to its key"
    recorded = {day.partition_day: day.batch_hash for day in days_of_run(database, staged)}
    assert batch_hash(found[DAY].replayed, found[DAY].digest) != recorded[DAY]


def test_an_edited_payload_that_is_another_known_version_adds_nothing_and_differs(
    database: Database, acme: Connection, staged: int
) -> None:
    stage(database, acme, page(record("in_1", "known"), minute=5))
    statement = (
        'UPDATE finance_os.raw_source_records SET payload = payload || \'{"content": "known"}\' WHERE record_id = %s'
    )
    first = next(iter(run_records(database, staged))).record_id
    damage(database, statement, first)
    found = replay(database, staged)
    assert found[DAY].would_add == []
    recorded = {day.partition_day: day.batch_hash for day in days_of_run(database, staged)}
    assert batch_hash(found[DAY].replayed, found[DAY].digest) != recorded[DAY]


def test_a_payload_that_is_no_record_any_more_would_add_a_row(database: Database, staged: int) -> None:
    deep = "[" * 250 + "]" * 250
    statement = "UPDATE finance_os.raw_source_records SET payload = %s::jsonb WHERE record_id = %s"
    damage(database, statement, deep, record_id(database, "in_2"))
    assert verdicts(database, staged)[DAY] == (2, ["in_2"], [])


def test_a_version_that_is_gone_is_lost(database: Database, staged: int) -> None:
    gone = record_id(database, "in_3")
    damage(database, "DELETE FROM finance_os.raw_source_records WHERE record_id = %s", gone)
    assert verdicts(database, staged) == {DAY: (2, [], []), NEXT: (2, [], [f"record {gone}"])}
    shown = [seen for seen in run_records(database, staged) if seen.record_id == gone]
    assert [(seen.source_id, seen.payload) for seen in shown] == [(None, None)]
    assert decode(shown[0].as_json_line(1))["payload"] is None


@pytest.mark.parametrize("column", ["business_id", "source_system", "object_type"])
def test_a_version_of_another_business_or_object_is_lost(database: Database, staged: int, column: str) -> None:
    moved = record_id(database, "in_2")
    damage(database, f"UPDATE finance_os.raw_source_records SET {column} = 'other' WHERE record_id = %s", moved)
    assert verdicts(database, staged)[DAY] == (2, [], [f"record {moved}"])


def test_a_sighting_that_names_another_business_s_version_is_lost(database: Database, staged: int) -> None:
    ours, theirs = record_id(database, "in_2"), record_id(database, "in_2", "globex")
    statement = "UPDATE finance_os.source_sync_sightings SET record_ids = array_replace(record_ids, %s, %s)"
    damage(database, f"{statement} WHERE sync_run_id = %s", ours, theirs, staged)
    assert verdicts(database, staged)[DAY] == (2, [], [f"record {theirs}"])


@pytest.mark.parametrize(
    "change",
    [
        "record_ids[1:1]",
        "array_append(record_ids, record_ids[1])",
        "record_ids[1:1] || record_ids[1:1]",
    ],
)
def test_a_sighting_cut_off_or_made_longer_is_found_by_the_batch_hash(
    database: Database, staged: int, change: str
) -> None:
    statement = f"UPDATE finance_os.source_sync_sightings SET record_ids = {change}"
    damage(database, f"{statement} WHERE sync_run_id = %s AND partition_day = %s", staged, DAY)
    found, recorded = replay(database, staged), days_of_run(database, staged)[0]
    assert batch_hash(found[DAY].replayed, found[DAY].digest) != recorded.batch_hash
    assert (found[NEXT].would_add, found[NEXT].lost) == ([], [])


# --- size


def test_a_long_run_is_replayed_in_flat_memory(database: Database, acme: Connection) -> None:
    """200,000 records of 300 bytes: 60 MB of payloads, of which a few thousand are held at a time."""
    per_page, pages = 1_000, 200

    def items(request: Request) -> Iterator[Item]:
        for number in range(pages):
            yield Page(
                [
                    Record(f"in_{each}", {"id": f"in_{each}", "n": each, "pad": "x" * 260}, DAY)
                    for each in range(number * per_page, (number + 1) * per_page)
                ],
                NOON,
            )

    run = perform(database, read_of(acme, items), Origin(Trigger.MANUAL), chunk_rows=20_000)
    assert run["rows_new"] == per_page * pages
    tracemalloc.start()
    try:
        first = [seen.source_id for seen in itertools.islice(run_records(database, run["sync_run_id"]), 20_000)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()  # it slows everything down fourfold: the rest is held to the same bound by its resident size
    assert first == [f"in_{number}" for number in range(20_000)]
    assert peak < 20e6, f"{peak:,} bytes"
    before = _resident()
    found = replay(database, run["sync_run_id"])[DAY]
    assert _resident() - before < 20e6, "memory does not grow with the run"
    assert (found.replayed, found.would_add, found.lost) == (per_page * pages, [], [])
    assert batch_hash(found.replayed, found.digest) == run["batch_hash"]


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_page_of_many_records_is_not_held_as_a_whole(database: Database, acme: Connection) -> None:
    """One sighting of 20,000 records: its payloads come in pieces."""
    records = [Record(f"in_{each}", {"id": f"in_{each}", "pad": "x" * 2_000}, DAY) for each in range(20_000)]
    run = stage(database, acme, Page(records, NOON))
    records.clear()
    tracemalloc.start()
    try:
        count = sum(1 for _ in run_records(database, run["sync_run_id"]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 20e6, f"{peak:,} bytes for 40 MB of payloads"


def test_replay_reads_only(database: Database, acme: Connection) -> None:
    run = stage(database, acme, page(record("in_1")))
    reader = database.as_reader()
    assert replay(reader, run["sync_run_id"])[DAY].replayed == 1
    assert replace(reader).role != database.role
