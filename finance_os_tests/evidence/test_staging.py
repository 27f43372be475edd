"""Staging: versions, heads, changes and counts, whatever order and repetition the pages come in."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.canonical import canonical_json, decode
from finance_os.evidence.chunks import batch_hash, digest_of
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Kind, Notice, Page, Record, RemoteCount, SourceError
from finance_os.evidence.partitions import days_of_run
from finance_os.evidence.tables import current_table
from finance_os.evidence.windows import Days
from finance_os_tests.evidence.staged import DAY, NOON, OBJECT, changes, evidence_state, heads, page, record, stage


def counts(run: dict[str, Any]) -> tuple[int, int, int, int, int]:
    """New, changed, unchanged, stale and removed."""
    return tuple(run[f"rows_{name}"] for name in ("new", "changed", "unchanged", "stale", "removed"))  # pyright: ignore


def test_a_first_read_adds_and_a_second_one_adds_nothing(database: Database, acme: Connection) -> None:
    first = stage(database, acme, page(record("in_1"), record("in_2")))
    again = stage(database, acme, page(record("in_1"), record("in_2"), minute=1))
    assert counts(first) == (2, 0, 0, 0, 0)
    assert counts(again) == (0, 0, 2, 0, 0)
    assert first["batch_hash"] == again["batch_hash"]
    assert len(evidence_state(database)["records"]) == 2
    assert changes(database, "in_1") == [("added", "a")]


def test_a_to_b_to_a_is_visible(database: Database, acme: Connection) -> None:
    runs = [stage(database, acme, page(record("in_1", content), minute=n)) for n, content in enumerate("aba")]
    assert [counts(run) for run in runs] == [(1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 1, 0, 0, 0)]
    assert changes(database, "in_1") == [("added", "a"), ("changed", "b"), ("changed", "a")]
    assert heads(database) == {"in_1": "a"}
    assert len(evidence_state(database)["records"]) == 2


def test_a_stale_read_is_kept_as_a_version_and_never_becomes_the_head(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1", "new"), minute=10))
    late = stage(database, acme, page(record("in_1", "old"), minute=5))
    assert counts(late) == (0, 0, 0, 1, 0)
    assert heads(database) == {"in_1": "new"}
    assert len(evidence_state(database)["records"]) == 2
    assert changes(database, "in_1") == [("added", "new")]


def test_a_stale_read_loses_to_a_later_page_that_only_confirmed_the_head(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1", "a"), minute=1))
    stage(database, acme, page(record("in_1", "a"), minute=10))
    late = stage(database, acme, page(record("in_1", "b"), minute=5))
    assert counts(late) == (0, 0, 0, 1, 0)
    assert heads(database) == {"in_1": "a"}


def test_the_sources_own_version_decides_over_the_time_of_reading(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1", "v2", version=2), minute=1))
    stage(database, acme, page(record("in_1", "v1", version=1), minute=9))
    assert heads(database) == {"in_1": "v2"}
    stage(database, acme, page(record("in_1", "v3", version=3), minute=0))
    assert heads(database) == {"in_1": "v3"}


def test_ties_go_by_arrival(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1", "a"), minute=1))
    stage(database, acme, page(record("in_1", "b"), minute=1))
    assert heads(database) == {"in_1": "b"}


def test_a_removal_is_final_until_the_source_shows_the_object_again_later(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1"), minute=1))
    gone = stage(database, acme, page(record("in_1", None), minute=5))
    assert counts(gone) == (0, 0, 0, 0, 1)
    stage(database, acme, page(record("in_1"), minute=4))
    stage(database, acme, page(record("in_1", "b"), minute=5))
    assert heads(database) == {"in_1": None}
    stage(database, acme, page(record("in_1"), minute=6))
    assert heads(database) == {"in_1": "a"}
    assert changes(database, "in_1") == [("added", "a"), ("removed", "a"), ("restored", "a")]


def test_a_removal_that_was_read_earlier_than_the_head_is_no_removal(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1"), minute=5))
    assert counts(stage(database, acme, page(record("in_1", None), record("never_seen", None), minute=4)))[4] == 0
    assert heads(database) == {"in_1": "a"}


def test_a_snapshot_removes_what_it_did_not_show(database: Database, acme: Connection, globex: Connection) -> None:
    stage(database, acme, page(record("in_1"), record("in_2"), record("in_3")))
    stage(database, globex, page(record("in_1"), record("in_2")))
    stage(database, acme, page(record("in_3", "later"), minute=30))
    run = stage(database, acme, page(record("in_1"), minute=10), kind=Kind.SNAPSHOT)
    assert counts(run) == (0, 0, 1, 0, 1)
    assert heads(database) == {"in_1": "a", "in_2": None, "in_3": "later"}
    assert heads(database, "globex") == {"in_1": "a", "in_2": "a"}
    assert days_of_run(database, run["sync_run_id"])[0].rows_removed == 1


def test_an_empty_snapshot_removes_all(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1"), record("in_2")))
    assert counts(stage(database, acme, kind=Kind.SNAPSHOT)) == (0, 0, 0, 0, 2)
    assert heads(database) == {"in_1": None, "in_2": None}


def test_a_later_snapshot_is_believed_though_the_version_went_down(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1", "new", version=2), minute=1))
    run = stage(database, acme, page(record("in_1", "restored", version=1), minute=5), kind=Kind.SNAPSHOT)
    assert counts(run) == (0, 1, 0, 0, 0)
    assert heads(database) == {"in_1": "restored"}


def test_an_earlier_snapshot_neither_moves_nor_removes_what_was_read_later(
    database: Database, acme: Connection
) -> None:
    stage(database, acme, page(record("in_1", "new", version=2), minute=5))
    run = stage(database, acme, page(record("in_1", "old", version=3), minute=1), kind=Kind.SNAPSHOT)
    assert counts(run) == (0, 0, 0, 1, 0)
    assert heads(database) == {"in_1": "new"}


def test_one_object_in_two_states_on_one_page_ends_in_the_last(database: Database, acme: Connection) -> None:
    run = stage(
        database,
        acme,
        page(record("in_1", "a"), record("in_2"), record("in_1", "b"), record("in_1", "a"), record("in_2")),
    )
    assert counts(run) == (2, 2, 1, 0, 0)
    assert changes(database, "in_1") == [("added", "a"), ("changed", "b"), ("changed", "a")]


def test_two_businesses_with_the_same_ids_never_meet(database: Database, acme: Connection, globex: Connection) -> None:
    stage(database, acme, page(record("in_1", "ours")))
    run = stage(database, globex, page(record("in_1", "theirs")))
    assert counts(run) == (1, 0, 0, 0, 0)
    assert heads(database, "acme") == {"in_1": "ours"}
    assert heads(database, "globex") == {"in_1": "theirs"}
    stage(database, globex, kind=Kind.SNAPSHOT)
    assert heads(database, "acme") == {"in_1": "ours"}


def test_two_accounts_of_one_business_may_not_disagree_about_a_source_id(database: Database, acme: Connection) -> None:
    other = ensure_connection(database, "acme", "stripe", "second")
    stage(database, acme, page(record("in_1", "ours")))
    with pytest.raises(SourceError, match="two accounts of one business") as refused:
        stage(database, other, page(record("in_1", "theirs"), minute=1))
    assert refused.value.permanent
    ensure_connection(database, "acme", "stripe", active=False)
    stage(database, other, page(record("in_1", "theirs"), minute=1))
    assert heads(database) == {"in_1": "theirs"}


def test_volatile_fields_make_no_version_and_are_not_kept(database: Database, acme: Connection) -> None:
    def read(url: str, minute: int) -> dict[str, Any]:
        content = {"keep": 1, "url": url, "lines": [{"url": url, "n": 1}]}
        volatile = (("content", "url"), ("content", "lines", "*", "url"))
        return stage(database, acme, page(record("in_1", content), minute=minute), volatile=volatile)

    read("x", 0)
    assert counts(read("y", 1)) == (0, 0, 1, 0, 0)
    assert heads(database) == {"in_1": {"keep": 1, "lines": [{"n": 1}]}}


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (record("in_bad", "\x00"), "NUL"),
        (record("in_bad", "\ud800"), "surrogate"),
        (record("in_bad", 1.5), "float"),
        (record("in_bad", 10**5000), "in_bad"),
        (record("", "a"), "no source ID"),
        (record("in\tbad", "a"), "cannot be printed"),
        (record("i" * 1001, "a"), "more than 1000 bytes"),
        (record("in_bad", "a", day=DAY + timedelta(days=1)), "which is not in 2026-03-02"),
    ],
)
def test_a_refused_record_names_itself_and_leaves_no_half_written_batch(
    database: Database, acme: Connection, refused: Record, reason: str
) -> None:
    before = page(*(record(f"in_{number}") for number in range(5)))
    with pytest.raises(SourceError, match=reason) as error:
        stage(database, acme, before, page(record("in_9"), refused), chunk_rows=5)
    assert refused.source_id[:20].encode("unicode_escape").decode() in error.value.message
    assert sorted(heads(database)) == [f"in_{number}" for number in range(5)]
    run = database.fetch("SELECT status, error_code, rows_new FROM finance_os.source_sync_runs")[0]
    assert (run["status"], run["rows_new"]) == ("failed", 5)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",))), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(contents=st.lists(_json, min_size=1, max_size=5))
@settings(max_examples=60)
def test_the_hash_recomputed_from_what_is_stored_is_the_stored_hash(
    database: Database, acme: Connection, contents: list[Any]
) -> None:
    records = [record(f"in_{number}", [content]) for number, content in enumerate(contents)]
    run = stage(database, acme, page(*records))
    rows = database.fetch(
        "SELECT payload::text AS payload, payload_hash, source_id FROM finance_os.raw_source_records"
        " JOIN finance_os.raw_record_heads USING (record_id, source_id, payload_hash)"
    )
    by_id = {row["source_id"]: row for row in rows}
    for number, content in enumerate(contents):
        stored = by_id[f"in_{number}"]
        written = canonical_json({"id": f"in_{number}", "content": [content]})
        assert canonical_json(decode(stored["payload"])) == written
    digest = digest_of(by_id[f"in_{number}"]["payload_hash"] for number in range(len(contents)))
    assert run["batch_hash"] == batch_hash(len(contents), digest)


_steps = st.lists(
    st.tuples(
        st.sampled_from(["window", "snapshot"]),
        st.integers(0, 9),
        st.lists(st.tuples(st.sampled_from(["in_1", "in_2", "in_3"]), st.sampled_from(["a", "b", None])), max_size=5),
    ),
    max_size=6,
)


def _play(database: Database, connection: Connection, steps: Any, chunk_rows: int) -> None:
    for kind, minute, contents in steps:
        records = [record(source_id, content) for source_id, content in contents]
        pages = [page(item, minute=minute) for item in records]
        stage(database, connection, *pages, kind=Kind(kind), chunk_rows=chunk_rows)


@given(steps=_steps)
@settings(max_examples=40)
def test_how_pages_are_cut_into_chunks_does_not_matter(
    database: Database, acme: Connection, globex: Connection, steps: Any
) -> None:
    emptied = (
        "raw_record_heads",
        "raw_record_changes",
        "raw_source_records",
        "source_sync_sightings",
        "raw_record_counts",
    )
    for table in emptied:
        with Database(database.url, "postgres").transaction() as connection:
            connection.execute(f"ALTER TABLE finance_os.{table} DISABLE TRIGGER USER")  # pyright: ignore
            connection.execute(f"TRUNCATE finance_os.{table}")  # pyright: ignore
    _play(database, acme, steps, chunk_rows=1)
    _play(database, globex, steps, chunk_rows=1_000)
    state = evidence_state(database)
    for name in ("records", "heads", "changes"):
        one, two = ([row[1:] for row in state[name] if row[0] == business] for business in ("acme", "globex"))
        assert one == two


def test_two_sync_runs_at_the_same_moment_end_as_one_after_the_other(
    database: Database, acme: Connection, globex: Connection
) -> None:
    older = [page(*(record(f"in_{n}", "old") for n in range(start, start + 20)), minute=1) for start in (0, 20, 40)]
    newer = [page(*(record(f"in_{n}", "new") for n in range(start, start + 20)), minute=2) for start in (20, 0, 40)]
    gate = threading.Barrier(2)
    failures: list[BaseException] = []

    def run(items: list[Page]) -> None:
        try:
            gate.wait()
            stage(database, acme, *items, chunk_rows=10)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(items,)) for items in (older, newer)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    stage(database, globex, *older)
    stage(database, globex, *newer)
    state = evidence_state(database)
    for name in ("records", "heads"):
        one, two = ([row[1:] for row in state[name] if row[0] == business] for business in ("acme", "globex"))
        assert one == two


def test_remote_counts_and_notices_end_in_the_run_and_its_days(database: Database, acme: Connection) -> None:
    next_day = DAY + timedelta(days=1)
    run = stage(
        database,
        acme,
        RemoteCount({DAY: 2}),
        page(record("in_1"), record("in_2")),
        Notice("Nothing older is known."),
        days=Days(DAY, next_day),
    )
    assert run["remote_count"] == 2
    assert run["notices"] == ["Nothing older is known."]
    days = days_of_run(database, run["sync_run_id"])
    assert [(day.partition_day, day.rows_extracted, day.remote_count) for day in days] == [
        (DAY, 2, 2),
        (next_day, 0, 0),
    ]


def test_current_records_are_the_heads_of_what_the_days_hold(database: Database, acme: Connection) -> None:
    next_day = DAY + timedelta(days=1)
    stage(database, acme, page(record("in_1"), record("in_2"), record("in_3")))
    stage(database, acme, page(record("in_2", "b", day=next_day), minute=1), days=Days(next_day, next_day))
    stage(database, acme, page(record("in_3", None, day=next_day), minute=2), days=Days(next_day, next_day))
    table = current_table(database, "stripe", OBJECT, Days(DAY, DAY))
    assert table.column("source_id").to_pylist() == ["in_1", "in_2"]
    assert [decode(text)["content"] for text in table.column("payload").to_pylist()] == ["a", "b"]
    only_next = current_table(database, "stripe", OBJECT, Days(next_day, next_day))
    assert only_next.num_rows == 0, "the last complete read of that day saw only a removal"


def test_a_day_is_its_last_complete_read_and_what_was_added_since(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1"), record("in_2")))
    stage(database, acme, page(record("in_1"), minute=1))
    stage(database, acme, page(record("in_4"), minute=2), kind=Kind.TARGETED)
    table = current_table(database, "stripe", OBJECT, Days(DAY, DAY), "acme")
    assert table.column("source_id").to_pylist() == ["in_1", "in_4"]


def test_a_failed_read_does_not_become_the_partition(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1"), record("in_2")))
    with pytest.raises(SourceError):
        stage(database, acme, page(record("in_3"), minute=1), page(record("in_4", 1.5), minute=1), chunk_rows=1)
    table = current_table(database, "stripe", OBJECT, Days(DAY, DAY))
    assert table.column("source_id").to_pylist() == ["in_1", "in_2"]


def test_times_and_versions_are_kept(database: Database, acme: Connection) -> None:
    kept = Record("in_1", {"id": "in_1"}, DAY, 7, NOON, NOON + timedelta(hours=1))
    stage(database, acme, Page([kept], NOON))
    row = database.fetch("SELECT * FROM finance_os.raw_source_records")[0]
    assert (row["source_version"], row["source_created_at"], row["source_updated_at"]) == (
        7,
        NOON,
        NOON + timedelta(hours=1),
    )
