"""Sync runs: begun visibly, ended with a reason, gone on with after a crash by one worker, in any order of ends."""

import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import psutil
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import conninfo

from finance_os.evidence import audit, commit, staging, sync_runs
from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.completion import complete
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import (
    DayState,
    Extraction,
    Item,
    Kind,
    Notice,
    Page,
    Record,
    RemoteCount,
    Request,
    SourceError,
)
from finance_os.evidence.partitions import days_of_run
from finance_os.evidence.reading import CannotTry, perform
from finance_os.evidence.replay import run_records
from finance_os.evidence.staging import Tally
from finance_os.evidence.sync_runs import Origin, Read, SyncRun, TakenOver, Trigger
from finance_os.evidence.windows import Days, Window
from finance_os_tests.evidence.staged import (
    DAY,
    NOON,
    changes,
    evidence_state,
    heads,
    page,
    read_of,
    record,
    stage,
)

ORIGIN = Origin(Trigger.MANUAL)
NEXT = DAY + timedelta(days=1)
TWO_DAYS = Days(DAY, NEXT)
PAGES = 6


class Vendor:
    """A source of `PAGES` pages that can go on behind each of them; it remembers what it was asked."""

    def __init__(self, stop: Callable[[int], None] = lambda _page: None) -> None:
        self.stop = stop
        self.requests: list[Request] = []
        self.asked = 0
        self.closed = 0

    def __call__(self, request: Request) -> Iterator[Item]:
        self.requests.append(request)
        try:
            for number in range((request.resume or {}).get("page", 0), PAGES):
                self.stop(number)
                self.asked += 1
                yield page(
                    record(f"in_{number}", number),
                    record(f"in_{number}", number, day=NEXT),
                    record(f"in_{number}x", {"again": number % 2}, day=NEXT),
                    record("in_0", "changed" if number >= 3 else 0),
                    minute=number,
                    resume={"page": number + 1},
                )
        finally:
            self.closed += 1

    def read(self, connection: Connection, **of_read: Any) -> Read:
        """A read of this vendor that counts one GET for each page."""
        read = read_of(connection, [], days=TWO_DAYS, **of_read)

        @contextmanager
        def extract(request: Request) -> Iterator[Extraction]:
            before = self.asked
            yield Extraction(self(request), requested=lambda: {"GET vendor": self.asked - before})

        return replace(read, extract=extract)


def failing_at(number: int, error: BaseException) -> Callable[[int], None]:
    """Raise `error` before the page `number` is asked for, once."""
    errors = [error]

    def stop(at: int) -> None:
        if at == number and errors:
            raise errors.pop()

    return stop


def crash(database: Database, connection: Connection, *, after: int = 2, **of_read: Any) -> int:
    """Leave a run as a killed process leaves it: `after` pages committed, still running; its ID."""
    read = Vendor().read(connection, **of_read)
    with database.connection() as opened:
        run = sync_runs.begin(database, opened, read, ORIGIN)
        pages = Vendor()
        items = [item for item, _ in zip(pages(_request(read)), range(after), strict=False)]
        if items:
            staging.stage(database, opened, run, Extraction(items, lambda: {"GET vendor": after}), chunk_rows=1)
        sync_runs.leave(run)
    update_run(database, run.sync_run_id, worker_process=dead_process())
    return run.sync_run_id


def _request(read: Read) -> Request:
    return Request(read.kind, read.days, read.window, read.connection.zone, lambda: NOON, held=None)  # pyright: ignore


def update_run(database: Database, sync_run_id: int, **columns: Any) -> None:
    """Set columns of a run; a `timedelta` moves `progressed_at` into the past by it."""
    with database.transaction() as connection:
        for name, value in columns.items():
            assignment = f"{name} = clock_timestamp() - %s" if isinstance(value, timedelta) else f"{name} = %s"
            connection.execute(
                f"UPDATE finance_os.source_sync_runs SET {assignment} WHERE sync_run_id = %s",  # pyright: ignore
                (value, sync_run_id),
            )


def runs(database: Database) -> list[dict[str, Any]]:
    return database.fetch("SELECT * FROM finance_os.source_sync_runs ORDER BY sync_run_id")


def run_status(database: Database, sync_run_id: int) -> tuple[str, str | None]:
    row = sync_runs.sync_run(database, sync_run_id)
    return row["status"], row["error_code"]


def events(database: Database, sync_run_id: int) -> list[str]:
    """What the audit chain says of a run."""
    return [
        row["event_type"]
        for row in database.fetch(
            "SELECT event_type FROM finance_os.finance_audit_events WHERE subject = %s ORDER BY business_id, sequence",
            (f"sync_run:{sync_run_id}",),
        )
    ]


def dead_process() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@contextmanager
def living_process() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def outcome(database: Database, row: dict[str, Any]) -> dict[str, Any]:
    """All that a finished run says, without what differs between two equal runs."""
    run = row["sync_run_id"]
    return {
        "counts": {name: value for name, value in row.items() if name.startswith("rows_")},
        "batch hash": row["batch_hash"],
        "status": (row["status"], row["error_code"], row["error_message"], row["checkpoint"], row["notices"]),
        "days": [replace(day, business_id="", sync_run_id=0) for day in days_of_run(database, run)],
        "seen": [
            (seen.partition_day, seen.requested_at, seen.source_id, seen.payload, seen.provenance)
            for seen in run_records(database, run)
        ],
    }


def undisturbed(database: Database, connection: Connection, chunk_rows: int = 1) -> dict[str, Any]:
    row = perform(database, Vendor().read(connection), ORIGIN, chunk_rows=chunk_rows)
    return outcome(database, row)


def same_as_undisturbed(database: Database, row: dict[str, Any], reference: Connection) -> None:
    """Whether a run, and the evidence of its business, are what an undisturbed run of `reference`'s makes of it."""
    assert outcome(database, row) == undisturbed(database, reference)
    state = evidence_state(database)
    for name, rows in state.items():
        ours = [each[1:] for each in rows if each[0] == row["business_id"]]
        theirs = [each[1:] for each in rows if each[0] == reference.business_id]
        assert ours == theirs, name


# --- a run's beginning and end


def test_a_run_is_visible_from_its_beginning(database: Database, acme: Connection) -> None:
    seen: list[dict[str, Any]] = []
    stop = lambda number: seen.append(runs(database)[0]) if number in (0, 5) else None  # noqa: E731
    perform(database, Vendor(stop).read(acme), Origin(Trigger.BACKFILL, "dagster-1", "sync-1"), chunk_rows=1)
    first = seen[0]
    assert (first["status"], first["trigger"], first["rows_extracted"]) == ("running", "backfill", 0)
    assert (first["dagster_run_id"], first["scheduled_sync_id"]) == ("dagster-1", "sync-1")
    assert (first["first_day"], first["last_day"]) == (DAY, NEXT)
    assert (first["worker_host"], first["worker_process"]) == (socket.gethostname(), os.getpid())
    assert seen[1]["status"] == "running"
    assert seen[1]["rows_extracted"] >= 4 * 3, "a chunk's counts and its checkpoint are there once it is committed"
    assert seen[1]["checkpoint"]["page"] == seen[1]["chunks"]


def test_a_run_that_ends_says_what_it_counted_and_requested(database: Database, acme: Connection) -> None:
    row = perform(database, Vendor().read(acme), ORIGIN, chunk_rows=1)
    assert (row["status"], row["attempts"], row["checkpoint"]) == ("succeeded", 1, None)
    assert row["requested"] == {"GET vendor": PAGES}
    assert row["rows_extracted"] == 4 * PAGES
    assert events(database, row["sync_run_id"]) == ["sync_run.succeeded"]


def test_requests_behind_the_last_page_are_counted(database: Database, acme: Connection) -> None:
    """A window in which nothing happened has no page, and was asked for all the same."""
    read = read_of(acme, [])

    @contextmanager
    def extract(request: Request) -> Iterator[Extraction]:
        yield Extraction([], requested=lambda: {"GET vendor": 3})

    row = perform(database, replace(read, extract=extract), ORIGIN, chunk_rows=1)
    assert row["requested"] == {"GET vendor": 3}
    event = database.fetch("SELECT details FROM finance_os.finance_audit_events")[0]
    assert event["details"]["requested"] == {"GET vendor": 3}


def test_a_failure_is_recorded_with_its_code_and_what_was_requested(database: Database, acme: Connection) -> None:
    vendor = Vendor(failing_at(3, SourceError("rate_limited", "too many requests")))
    with pytest.raises(SourceError, match="rate_limited"):
        perform(database, vendor.read(acme), ORIGIN, chunk_rows=1)
    row = runs(database)[0]
    assert (row["status"], row["error_code"], row["error_message"]) == ("failed", "rate_limited", "too many requests")
    assert row["completed_at"] is not None
    assert row["rows_extracted"] == 3 * 4
    assert row["requested"] == {"GET vendor": 3}
    assert row["checkpoint"] == {"page": 3}
    assert events(database, row["sync_run_id"]) == ["sync_run.failed"]
    assert not database.fetch("SELECT FROM finance_os.source_sync_partitions")


def test_a_read_that_could_not_be_tried_is_skipped(database: Database, acme: Connection) -> None:
    @contextmanager
    def extract(request: Request) -> Iterator[Extraction]:
        raise CannotTry("credentials_missing", "set FINANCE_OS_STRIPE_API_KEY", permanent=True)
        yield

    with pytest.raises(CannotTry):
        perform(database, replace(read_of(acme, []), extract=extract), ORIGIN, chunk_rows=1)
    row = runs(database)[0]
    assert (row["status"], row["error_code"]) == ("skipped", "credentials_missing")
    assert events(database, row["sync_run_id"]) == ["sync_run.skipped"]


def test_days_that_cannot_be_observed_are_recorded_without_reading(database: Database, acme: Connection) -> None:
    states = dict.fromkeys(TWO_DAYS, DayState.UNOBSERVABLE)
    read = replace(read_of(acme, [], days=TWO_DAYS), extract=None, states=states, notices=("No longer known.",))
    row = perform(database, read, ORIGIN, chunk_rows=1)
    assert (row["status"], row["notices"]) == ("succeeded", ["No longer known."])
    assert [day.state for day in days_of_run(database, row["sync_run_id"])] == ["unobservable"] * 2


# --- going on with a crashed run


@contextmanager
def _dead(database: Database, run: int) -> Iterator[None]:
    update_run(database, run, worker_process=dead_process())
    yield


@contextmanager
def _zombie(database: Database, run: int) -> Iterator[None]:
    with subprocess.Popen(["true"]) as process:
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        update_run(database, run, worker_process=process.pid)
        yield


@contextmanager
def _process_id_given_to_another(database: Database, run: int) -> Iterator[None]:
    with living_process() as other:
        update_run(database, run, worker_process=other, progressed_at=timedelta(hours=1))
        yield


@contextmanager
def _process_id_given_to_this_one(database: Database, run: int) -> Iterator[None]:
    """A container that is started again gives its processes the same IDs."""
    update_run(database, run, worker_process=os.getpid())
    yield


@contextmanager
def _silent_on_another_host(database: Database, run: int) -> Iterator[None]:
    update_run(database, run, worker_host="elsewhere", progressed_at=timedelta(minutes=10, seconds=5))
    yield


@contextmanager
def _failed(database: Database, run: int) -> Iterator[None]:
    with database.transaction() as connection:
        connection.execute(
            "UPDATE finance_os.source_sync_runs SET status = 'failed', completed_at = now(), error_code = 'timeout'"
            " WHERE sync_run_id = %s",
            (run,),
        )
    yield


@contextmanager
def _almost_too_old(database: Database, run: int) -> Iterator[None]:
    update_run(database, run, progressed_at=timedelta(hours=23, minutes=59))
    yield


@pytest.mark.parametrize(
    "end",
    [
        _dead,
        _zombie,
        _process_id_given_to_another,
        _process_id_given_to_this_one,
        _silent_on_another_host,
        _failed,
        _almost_too_old,
    ],
)
def test_a_crashed_run_is_gone_on_with_under_its_own_id(
    database: Database, acme: Connection, globex: Connection, end: Any
) -> None:
    crashed = crash(database, acme, after=2)
    vendor = Vendor()
    with end(database, crashed):
        row = perform(database, vendor.read(acme), Origin(Trigger.BACKFILL, "dagster-2"), chunk_rows=1)
    assert (row["sync_run_id"], row["attempts"]) == (crashed, 2)
    assert (row["trigger"], row["dagster_run_id"]) == ("backfill", "dagster-2")
    assert [request.resume for request in vendor.requests] == [{"page": 2}]
    assert vendor.asked == PAGES - 2, "what was committed is not asked for again"
    assert row["requested"] == {"GET vendor": PAGES}, "both attempts, added up"
    same_as_undisturbed(database, row, globex)


@pytest.mark.parametrize("after", range(1, PAGES + 1))
@pytest.mark.parametrize("chunk_rows", [1, 9])
def test_wherever_it_crashed_the_end_is_the_same(
    database: Database, acme: Connection, globex: Connection, after: int, chunk_rows: int
) -> None:
    crash(database, acme, after=after)
    row = perform(database, Vendor().read(acme), ORIGIN, chunk_rows=chunk_rows)
    same_as_undisturbed(database, row, globex)


def test_a_run_may_crash_many_times(database: Database, acme: Connection, globex: Connection) -> None:
    for number in range(PAGES):
        with pytest.raises(SourceError):
            perform(database, Vendor(failing_at(number, SourceError("timeout", "t"))).read(acme), ORIGIN, chunk_rows=1)
    row = perform(database, Vendor().read(acme), ORIGIN, chunk_rows=1)
    assert (len(runs(database)), row["attempts"]) == (2, PAGES), "the first attempt left no checkpoint to go on from"
    same_as_undisturbed(database, row, globex)


def test_a_run_that_goes_on_later_reaches_to_the_later_end(database: Database, acme: Connection) -> None:
    """The day was not over when it crashed, and is now."""
    read = Vendor().read(acme)
    early = replace(read, window=read.window.until(NOON), states=dict.fromkeys(TWO_DAYS, DayState.PARTIAL))
    with pytest.raises(SourceError):
        perform(
            database,
            replace(early, extract=Vendor(failing_at(2, SourceError("timeout", "t"))).read(acme).extract),
            ORIGIN,
            chunk_rows=1,
        )
    assert runs(database)[0]["window_end"] == NOON
    vendor = Vendor()
    row = perform(database, vendor.read(acme), ORIGIN, chunk_rows=1)
    assert vendor.requests[0].window == read.window
    assert row["window_end"] == read.window.end, "freshness is judged by it"
    assert {day.state for day in days_of_run(database, row["sync_run_id"])} == {"whole"}


def test_what_the_last_attempt_says_of_remote_counts_and_notices_stands(database: Database, acme: Connection) -> None:
    crashed = crash(database, acme, after=1)

    def rest(request: Request) -> Iterator[Item]:
        yield RemoteCount({DAY: 2, NEXT: 2})
        yield Notice("Not all is known.")
        yield from Vendor()(request)

    row = perform(database, read_of(acme, rest, days=TWO_DAYS), ORIGIN, chunk_rows=1)
    assert row["sync_run_id"] == crashed
    assert (row["remote_count"], row["notices"]) == (4, ["Not all is known."])
    assert [day.remote_count for day in days_of_run(database, crashed)] == [2, 2]


def test_without_a_checkpoint_it_is_marked_and_begun_anew(
    database: Database, acme: Connection, globex: Connection
) -> None:
    crashed = crash(database, acme, after=0)
    vendor = Vendor()
    row = perform(database, vendor.read(acme), ORIGIN, chunk_rows=1)
    assert row["sync_run_id"] != crashed
    assert vendor.requests[0].resume is None
    assert run_status(database, crashed) == ("failed", "interrupted")
    assert events(database, crashed) == ["sync_run.failed"]
    same_as_undisturbed(database, row, globex)


def test_a_page_that_cannot_be_resumed_takes_the_checkpoint_back(database: Database, acme: Connection) -> None:
    def items(request: Request) -> Iterator[Item]:
        assert request.resume is None
        yield page(record("in_1"), resume={"page": 1})
        yield page(record("in_2"))
        if len(runs(database)) == 1:
            raise SourceError("timeout", "t")

    with pytest.raises(SourceError):
        perform(database, read_of(acme, items), ORIGIN, chunk_rows=1)
    perform(database, read_of(acme, items), ORIGIN, chunk_rows=1)
    assert [row["rows_extracted"] for row in runs(database)] == [2, 2]


@pytest.mark.parametrize("other", [("orders", "2"), ("accounts", "1")], ids=["another version", "another query"])
def test_it_is_not_gone_on_with_by_another_query(database: Database, acme: Connection, other: tuple[str, str]) -> None:
    def asking(vendor: Vendor, name: str, version: str) -> Read:
        @contextmanager
        def extract(request: Request) -> Iterator[Extraction]:
            yield Extraction(vendor(request), query_name=name, query_version=version)

        return replace(vendor.read(acme), extract=extract)

    with pytest.raises(SourceError, match="timeout"):
        perform(
            database, asking(Vendor(failing_at(2, SourceError("timeout", "t"))), "orders", "1"), ORIGIN, chunk_rows=1
        )
    with pytest.raises(sync_runs.AnotherQuery, match="began with orders, version 1") as refused:
        perform(database, asking(Vendor(), *other), ORIGIN, chunk_rows=1)
    assert not refused.value.permanent
    vendor = Vendor()
    anew = perform(database, asking(vendor, *other), ORIGIN, chunk_rows=1)
    assert vendor.requests[0].resume is None
    first, second = runs(database)
    assert (first["status"], first["error_code"], first["query_name"]) == ("failed", "another_query", "orders")
    assert (second["sync_run_id"], second["query_name"]) == (anew["sync_run_id"], other[0])
    # The same query goes on where it was.
    with pytest.raises(SourceError, match="timeout"):
        perform(database, asking(Vendor(failing_at(2, SourceError("timeout", "t"))), *other), ORIGIN, chunk_rows=1)
    vendor = Vendor()
    perform(database, asking(vendor, *other), ORIGIN, chunk_rows=1)
    assert vendor.requests[0].resume == {"page": 2}


def test_after_a_day_it_is_begun_anew(database: Database, acme: Connection) -> None:
    crashed = crash(database, acme, after=2)
    update_run(database, crashed, progressed_at=timedelta(hours=24, seconds=1))
    vendor = Vendor()
    row = perform(database, vendor.read(acme), ORIGIN, chunk_rows=1)
    assert row["sync_run_id"] != crashed
    assert vendor.requests[0].resume is None
    assert run_status(database, crashed) == ("failed", "interrupted")


def test_a_dead_run_does_not_stay_running_behind_a_later_one(database: Database, acme: Connection) -> None:
    """It was taken for living when the later one began."""
    crashed = crash(database, acme, after=2)
    update_run(database, crashed, worker_host="elsewhere")
    later = perform(database, Vendor().read(acme), ORIGIN, chunk_rows=1)
    assert run_status(database, crashed) == ("running", None)
    update_run(database, crashed, progressed_at=timedelta(minutes=11))
    last = perform(database, Vendor().read(acme), ORIGIN, chunk_rows=1)
    assert len({crashed, later["sync_run_id"], last["sync_run_id"]}) == 3
    assert run_status(database, crashed) == ("failed", "interrupted")


def test_runs_without_a_process_are_ended_and_can_still_be_gone_on_with(database: Database, acme: Connection) -> None:
    crashed = crash(database, acme, after=2)
    with database.connection() as opened:
        living = sync_runs.begin(database, opened, read_of(acme, []), ORIGIN)
        assert sync_runs.end_abandoned(database) == [crashed]
        sync_runs.leave(living)
    assert run_status(database, crashed) == ("failed", "interrupted")
    assert run_status(database, living.sync_run_id) == ("running", None)
    assert events(database, crashed) == ["sync_run.failed"]
    assert perform(database, Vendor().read(acme), ORIGIN, chunk_rows=1)["sync_run_id"] == crashed


@contextmanager
def _of_this_process(database: Database, run: SyncRun) -> Iterator[None]:
    yield


@contextmanager
def _of_another_process(database: Database, run: SyncRun) -> Iterator[None]:
    sync_runs.leave(run)
    with living_process() as other:
        time.sleep(0.05)
        update_run(database, run.sync_run_id, worker_process=other, progressed_at=timedelta())
        yield


@contextmanager
def _that_has_been_busy_for_long(database: Database, run: SyncRun) -> Iterator[None]:
    """This process is older than an hour would have it be; the process that began the run still lives."""
    sync_runs.leave(run)
    update_run(database, run.sync_run_id, worker_process=os.getppid(), progressed_at=timedelta(seconds=0.5))
    yield


@contextmanager
def _of_another_host(database: Database, run: SyncRun) -> Iterator[None]:
    sync_runs.leave(run)
    update_run(database, run.sync_run_id, worker_host="elsewhere", progressed_at=timedelta(minutes=9, seconds=50))
    yield


@pytest.mark.parametrize(
    "living", [_of_this_process, _of_another_process, _that_has_been_busy_for_long, _of_another_host]
)
def test_a_living_run_is_left_alone(database: Database, acme: Connection, living: Any) -> None:
    vendor = Vendor()
    with database.connection() as opened:
        run = sync_runs.begin(database, opened, Vendor().read(acme), ORIGIN)
        staging.stage(database, opened, run, Extraction([page(record("in_0", 0), resume={"page": 1})]), chunk_rows=1)
        with living(database, run):
            row = perform(database, vendor.read(acme), ORIGIN, chunk_rows=1)
        assert row["sync_run_id"] != run.sync_run_id
        assert vendor.requests[0].resume is None
        assert run_status(database, run.sync_run_id) == ("running", None)
        more = Extraction([page(record("in_9"), minute=9)])
        staging.stage(database, opened, replace(run, chunks=1), more, chunk_rows=1)
        complete(database, opened, run, Tally(), {})
        sync_runs.leave(run)


def test_clocks_that_disagree_kill_nobody(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's clock runs ahead of the database's by an hour: processes seem to have started in its future."""
    with database.connection() as opened, living_process() as other:
        run = sync_runs.begin(database, opened, Vendor().read(acme), ORIGIN)
        staging.stage(database, opened, run, Extraction([page(record("in_0", 0), resume={"page": 1})]), chunk_rows=1)
        sync_runs.leave(run)
        update_run(database, run.sync_run_id, worker_process=other)
        started, now = psutil.Process.create_time, time.time
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: started(process) + 3600)
        monkeypatch.setattr("finance_os.evidence.sync_runs.time.time", lambda: now() + 3600)
        row = perform(database, Vendor().read(acme), ORIGIN, chunk_rows=1)
    assert row["sync_run_id"] != run.sync_run_id
    assert run_status(database, run.sync_run_id) == ("running", None)


def _another_window(read: Read) -> Read:
    days = Days(DAY - timedelta(days=1), NEXT)
    return replace(read, days=days)


def _a_shorter_window(read: Read) -> Read:
    return replace(read, days=Days(DAY, DAY), extract=read_of(read.connection, []).extract)


@pytest.mark.parametrize(
    "other",
    [
        _another_window,
        _a_shorter_window,
        lambda read: replace(read, targets=("in_1",)),
        lambda read: replace(read, object_type="stripe_charge"),
        lambda read: replace(read, kind=Kind.SNAPSHOT),
    ],
)
def test_another_read_never_takes_it_over(database: Database, acme: Connection, other: Any) -> None:
    crashed = crash(database, acme)
    row = perform(database, other(Vendor().read(acme)), ORIGIN, chunk_rows=1)
    assert row["sync_run_id"] != crashed
    assert run_status(database, crashed) == ("running", None)


def test_another_connection_never_takes_it_over(database: Database, acme: Connection, globex: Connection) -> None:
    crashed = crash(database, acme)
    second = ensure_connection(database, "acme", "stripe", "second")
    for connection in (globex, second):
        vendor = Vendor()
        with suppress(SourceError):  # two accounts of one business may not disagree
            perform(database, vendor.read(connection), ORIGIN, chunk_rows=1)
        assert vendor.requests[0].resume is None
    assert run_status(database, crashed) == ("running", None)
    assert {row["sync_run_id"] for row in runs(database)} == {crashed, crashed + 1, crashed + 2}


def test_of_two_that_come_at_once_one_goes_on(database: Database, acme: Connection) -> None:
    crashed = crash(database, acme)
    gate = threading.Barrier(4)
    begun: list[SyncRun] = []

    def begin() -> None:
        with database.connection() as opened:
            gate.wait()
            begun.append(sync_runs.begin(database, opened, Vendor().read(acme), ORIGIN))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in begun:
        sync_runs.leave(run)
    assert len(begun) == 4
    assert sorted(run.sync_run_id == crashed for run in begun) == [False, False, False, True]
    assert [run.resume for run in begun if run.sync_run_id == crashed] == [{"page": 2}]


# --- the worker that was only thought dead


@pytest.mark.parametrize("the_other_has_ended", [False, True])
def test_the_old_worker_is_stopped_at_its_next_commit(
    database: Database, acme: Connection, globex: Connection, the_other_has_ended: bool
) -> None:
    vendor = Vendor()
    read = vendor.read(acme)
    with database.connection() as opened, database.connection() as others:
        run = sync_runs.begin(database, opened, read, ORIGIN)
        first = next(vendor(_request(read)))
        staging.stage(database, opened, run, Extraction([first]), chunk_rows=1)
        update_run(database, run.sync_run_id, worker_process=dead_process())
        other = sync_runs.begin(database, others, read, ORIGIN)
        assert (other.sync_run_id, other.resume) == (run.sync_run_id, {"page": 1})
        rest = list(vendor(replace(_request(read), resume=other.resume)))
        staging.stage(database, others, other, Extraction(rest[:2]), chunk_rows=1)
        if the_other_has_ended:
            staging.stage(database, others, replace(other, chunks=3), Extraction(rest[2:]), chunk_rows=1)
            complete(database, others, other, Tally(), {})
        before = evidence_state(database), runs(database)
        more = [page(record(f"in_old_{number}"), minute=number, resume={"page": 2}) for number in range(20, 25)]
        with pytest.raises(TakenOver) as stopped:
            staging.stage(database, opened, replace(run, chunks=1), Extraction(more), chunk_rows=1)
        assert stopped.value.permanent
        with pytest.raises(TakenOver):
            complete(database, opened, run, Tally(), {})
        sync_runs.fail(database, opened, run, "taken_over", "this must not end the other's run")
        assert (evidence_state(database), runs(database)) == before
        assert "sync_run.failed" not in events(database, run.sync_run_id)
        assert audit.verify(database, "acme").sound
        sync_runs.leave(run)
        if not the_other_has_ended:
            staging.stage(database, others, replace(other, chunks=3), Extraction(rest[2:]), chunk_rows=1)
            complete(database, others, other, Tally(), {})
        sync_runs.leave(other)
    same_as_undisturbed(database, sync_runs.sync_run(database, run.sync_run_id), globex)


def test_a_read_that_is_taken_over_midway_says_so_and_ends_nothing(database: Database, acme: Connection) -> None:
    def taken(number: int) -> None:
        if number == 4:
            with database.transaction() as connection:
                connection.execute("UPDATE finance_os.source_sync_runs SET worker = gen_random_uuid()")

    with pytest.raises(TakenOver):
        perform(database, Vendor(taken).read(acme), ORIGIN, chunk_rows=1)
    row = runs(database)[0]
    assert (row["status"], row["error_code"]) == ("running", None)
    assert row["checkpoint"]["page"] <= 4
    assert not events(database, row["sync_run_id"])


def test_a_worker_that_is_replaced_within_a_chunk_commits_nothing_of_it(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes a run over does not wait for the chunk: its counts and checkpoint are what is fenced off."""
    asked = commit.require_worker

    def replaced_just_after(connection: Any, run: SyncRun) -> None:
        asked(connection, run)
        with database.transaction() as another:
            another.execute("UPDATE finance_os.source_sync_runs SET worker = gen_random_uuid()")

    monkeypatch.setattr(commit, "require_worker", replaced_just_after)
    with pytest.raises(TakenOver):
        perform(database, Vendor().read(acme), ORIGIN, chunk_rows=1)
    assert not any(evidence_state(database).values())
    assert run_status(database, runs(database)[0]["sync_run_id"]) == ("running", None)


# --- whatever is raised, the next read goes on


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SourceError("timeout", "no answer"), "timeout"),
        (SourceError("unauthorized", "the key is wrong", permanent=True), "unauthorized"),
        (ValueError("a defect"), "internal_error"),
        (KeyError("id"), "internal_error"),
        (RecursionError("deep"), "internal_error"),
        (MemoryError(), "internal_error"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(1), "interrupted"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("at", [0, 3])
def test_whatever_the_source_raises_the_next_read_goes_on(
    database: Database, acme: Connection, globex: Connection, error: BaseException, code: str, at: int
) -> None:
    vendor = Vendor(failing_at(at, error))
    with pytest.raises(type(error)):
        perform(database, vendor.read(acme), ORIGIN, chunk_rows=1)
    failed = runs(database)[0]
    assert (failed["status"], failed["error_code"], failed["chunks"]) == ("failed", code, at)
    assert failed["error_message"] is not None
    assert vendor.closed == 1
    row = perform(database, vendor.read(acme), ORIGIN, chunk_rows=1)
    assert (row["sync_run_id"] == failed["sync_run_id"]) == bool(at)
    same_as_undisturbed(database, row, globex)


@pytest.mark.parametrize("error", [SourceError("unreachable", "u"), OSError("down"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("entering", [True, False])
def test_whatever_opening_and_closing_raises_the_next_read_goes_on(
    database: Database, acme: Connection, globex: Connection, error: BaseException, entering: bool
) -> None:
    read = Vendor().read(acme)

    @contextmanager
    def extract(request: Request) -> Iterator[Extraction]:
        if entering:
            raise error
        assert read.extract is not None
        with read.extract(request) as extraction:
            yield extraction
        raise error

    with pytest.raises(type(error)):
        perform(database, replace(read, extract=extract), ORIGIN, chunk_rows=1)
    assert runs(database)[0]["status"] == "failed"
    row = perform(database, read, ORIGIN, chunk_rows=1)
    same_as_undisturbed(database, row, globex)


@pytest.mark.parametrize("error", [RuntimeError("a defect of the caller"), KeyboardInterrupt()], ids=repr)
def test_whatever_the_caller_raises_the_next_read_goes_on(
    database: Database, acme: Connection, globex: Connection, error: BaseException
) -> None:
    def progress(rows: int, chunks: int) -> None:
        if chunks == 2:
            raise error

    with pytest.raises(type(error)):
        perform(database, Vendor().read(acme), ORIGIN, chunk_rows=1, progress=progress)
    vendor = Vendor()
    row = perform(database, vendor.read(acme), ORIGIN, chunk_rows=1)
    assert vendor.requests[0].resume == {"page": 2}
    same_as_undisturbed(database, row, globex)


def test_a_checkpoint_that_the_source_stumbles_over_is_given_up(
    database: Database, acme: Connection, globex: Connection
) -> None:
    """As after a release that writes checkpoints of another form: otherwise every attempt fails at the same place."""
    crashed = crash(database, acme, after=2)

    def stumble(request: Request) -> Iterator[Item]:
        yield from Vendor()(request) if request.resume is None else [page(record(request.resume["place"]))]

    with pytest.raises(KeyError):
        perform(database, read_of(acme, stumble, days=TWO_DAYS), ORIGIN, chunk_rows=1)
    assert run_status(database, crashed) == ("failed", "internal_error")
    read = replace(Vendor().read(acme), extract=read_of(acme, stumble, days=TWO_DAYS).extract)
    row = perform(database, read, ORIGIN, chunk_rows=1)
    assert row["sync_run_id"] != crashed
    assert row["rows_extracted"] == 4 * PAGES


def test_a_vendor_that_is_down_costs_no_checkpoint(database: Database, acme: Connection) -> None:
    crashed = crash(database, acme, after=2)
    for error in (SourceError("unreachable", "u"), SourceError("unauthorized", "u", permanent=True), SystemExit(1)):
        with pytest.raises(type(error)):
            perform(database, Vendor(failing_at(2, error)).read(acme), ORIGIN, chunk_rows=1)
    vendor = Vendor()
    row = perform(database, vendor.read(acme), ORIGIN, chunk_rows=1)
    assert (row["sync_run_id"], row["attempts"]) == (crashed, 5)
    assert vendor.requests[0].resume == {"page": 2}


def test_a_key_that_is_missing_for_once_costs_no_checkpoint(database: Database, acme: Connection) -> None:
    crashed = crash(database, acme, after=2)

    @contextmanager
    def extract(request: Request) -> Iterator[Extraction]:
        raise CannotTry("credentials_missing", "set it")
        yield

    with pytest.raises(CannotTry):
        perform(database, replace(Vendor().read(acme), extract=extract), ORIGIN, chunk_rows=1)
    assert run_status(database, crashed) == ("skipped", "credentials_missing")
    vendor = Vendor()
    row = perform(database, vendor.read(acme), ORIGIN, chunk_rows=1)
    assert (row["sync_run_id"], vendor.requests[0].resume) == (crashed, {"page": 2})


# --- a database connection that is lost


def lose_connections(owner: Database) -> None:
    """End every connection to this database but the one that says so."""
    with owner.connection() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize("at", [0, 3])
def test_a_lost_connection_is_recorded_through_another_one(
    database: Database, owner: Database, acme: Connection, globex: Connection, at: int
) -> None:
    stop = lambda number: lose_connections(owner) if number == at else None  # noqa: E731
    with pytest.raises(psycopg.OperationalError):
        perform(database, Vendor(stop).read(acme), ORIGIN, chunk_rows=1)
    failed = runs(database)[0]
    assert (failed["status"], failed["error_code"]) == ("failed", "internal_error")
    row = perform(database, Vendor().read(acme), ORIGIN, chunk_rows=1)
    assert (row["sync_run_id"] == failed["sync_run_id"]) == (failed["checkpoint"] is not None)
    same_as_undisturbed(database, row, globex)


def test_a_run_that_could_not_be_ended_is_gone_on_with_by_the_same_process(
    database: Database, acme: Connection, globex: Connection
) -> None:
    """Dagster tries a step again in the process that it failed in."""
    name = str(conninfo.conninfo_to_dict(database.url)["dbname"])
    administrator = conninfo.make_conninfo(database.url, dbname="postgres")

    def stop(number: int) -> None:
        if number == 3:
            with psycopg.connect(administrator, autocommit=True) as admin:
                admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")  # pyright: ignore
                admin.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
                )

    with pytest.raises(psycopg.OperationalError) as lost:
        perform(database, Vendor(stop).read(acme), ORIGIN, chunk_rows=1)
    assert any("could not be marked as failed" in note for note in lost.value.__notes__)
    with psycopg.connect(administrator, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")  # pyright: ignore
    left = runs(database)[0]
    assert (left["status"], left["worker_process"]) == ("running", os.getpid())
    row = perform(database, Vendor().read(acme), ORIGIN, chunk_rows=1)
    assert (row["sync_run_id"], row["attempts"]) == (left["sync_run_id"], 2)
    same_as_undisturbed(database, row, globex)


# --- the thread in which a source is drawn


def extraction_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "extraction"]


@pytest.mark.parametrize(
    "fault",
    [
        page(record("in_bad", 1.5), minute=9),
        page(record("in_bad", day=DAY - timedelta(days=9)), minute=9),
        page(Record("in_bad", {"id": "in_bad"}, DAY, 10**30), minute=9),
    ],
    ids=["refused", "another day", "refused by the database"],
)
def test_the_source_is_closed_before_a_failure_is_told(database: Database, acme: Connection, fault: Page) -> None:
    """What a source holds open (a transaction, a connection) must not wait for the garbage collector."""
    closed_in: list[str] = []
    kept: list[Any] = []

    def endless(request: Request) -> Iterator[Item]:
        try:
            yield page(record("in_1"))
            yield fault
            while True:
                yield page(record("in_2"), minute=10)
        finally:
            closed_in.append(threading.current_thread().name)

    def items(request: Request) -> Iterator[Item]:
        kept.append(endless(request))
        return kept[0]

    with pytest.raises((SourceError, psycopg.Error)):
        perform(database, read_of(acme, items), ORIGIN, chunk_rows=1)
    assert closed_in == ["extraction"]
    assert not extraction_threads()
    assert heads(database) == {"in_1": "a"}


def test_a_source_that_hangs_does_not_hold_up_a_failure(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_LEAVE_SECONDS", 0.2)
    answer = threading.Event()

    def items(request: Request) -> Iterator[Item]:
        yield page(record("in_1"))
        answer.wait(30)
        yield page(record("in_2"))

    def progress(rows: int, chunks: int) -> None:
        raise RuntimeError("a defect of the caller")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="a defect"):
        perform(database, read_of(acme, items), ORIGIN, chunk_rows=1, progress=progress)
    assert time.monotonic() - began < 5
    assert runs(database)[0]["status"] == "failed"
    left = extraction_threads()
    answer.set()
    for thread in left:
        thread.join(5)
    assert not extraction_threads()
    assert heads(database) == {"in_1": "a"}


def test_at_most_one_chunk_waits(database: Database, acme: Connection) -> None:
    """However slow the database is, a source is not read ahead of it: memory stays flat."""
    ahead: list[int] = []
    drawn = 0

    def items(request: Request) -> Iterator[Item]:
        nonlocal drawn
        for number in range(12):
            drawn += 1
            yield page(record(f"in_{number}"))

    def progress(rows: int, chunks: int) -> None:
        time.sleep(0.02)
        ahead.append(drawn - chunks)

    perform(database, read_of(acme, items), ORIGIN, chunk_rows=1, progress=progress)
    assert max(ahead) <= 3, "one is being committed, one waits, one is being drawn"
    assert len(ahead) == 12


def test_the_interpreter_is_as_before_once_the_last_of_several_ended(
    database: Database, acme: Connection, globex: Connection
) -> None:
    usual, left_alone = sys.getswitchinterval(), gc.get_freeze_count()
    first_ends = threading.Event()

    def items(request: Request) -> Iterator[Item]:
        yield page(record("in_1"))
        first_ends.wait(10)

    thread = threading.Thread(target=perform, args=(database, read_of(acme, items), ORIGIN), kwargs={"chunk_rows": 1})
    thread.start()
    while not heads(database):
        time.sleep(0.01)
    stage(database, globex, page(record("in_1")))
    during, put_aside = sys.getswitchinterval(), gc.get_freeze_count()
    first_ends.set()
    thread.join()
    assert during < usual
    assert put_aside > left_alone
    assert (sys.getswitchinterval(), gc.get_freeze_count()) == (usual, 0)


# --- several reads at once: whatever order they end in, the heads are the same


def test_a_snapshot_that_ended_first_is_not_undone_by_an_older_read(
    database: Database, acme: Connection, globex: Connection
) -> None:
    """The older read began before the object was removed, and its chunk comes after the snapshot has ended."""
    older, snapshot = page(record("in_1"), record("in_2"), minute=5), page(record("in_1"), minute=10)
    stage(database, acme, snapshot, kind=Kind.SNAPSHOT)
    late = stage(database, acme, older)
    assert (late["rows_new"], late["rows_removed"]) == (1, 1)
    assert days_of_run(database, late["sync_run_id"])[0].rows_removed == 1
    stage(database, globex, older)
    stage(database, globex, snapshot, kind=Kind.SNAPSHOT)
    assert heads(database) == heads(database, "globex") == {"in_1": "a", "in_2": None}
    assert changes(database, "in_2") == changes(database, "in_2", "globex") == [("added", "a"), ("removed", "a")]
    stage(database, acme, page(record("in_2"), minute=11))
    assert heads(database) == {"in_1": "a", "in_2": "a"}


def test_a_snapshot_confirms_a_removal(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1"), record("in_2"), minute=1))
    stage(database, acme, page(record("in_2", None), minute=3))
    stage(database, acme, page(record("in_1"), minute=10), kind=Kind.SNAPSHOT)
    stage(database, acme, page(record("in_2"), minute=5))
    assert heads(database) == {"in_1": "a", "in_2": None}


def test_a_removal_that_is_told_twice_holds_until_the_second(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("in_1"), minute=1))
    stage(database, acme, page(record("in_1", None), minute=3))
    again = stage(database, acme, page(record("in_1", None), minute=10))
    assert again["rows_removed"] == 0
    stage(database, acme, page(record("in_1"), minute=5))
    assert heads(database) == {"in_1": None}
    assert changes(database, "in_1") == [("added", "a"), ("removed", "a")]


def test_a_snapshot_of_another_account_or_object_removes_nothing(database: Database, acme: Connection) -> None:
    other = ensure_connection(database, "acme", "stripe", "second")
    stage(database, other, page(record("in_9"), minute=10), kind=Kind.SNAPSHOT)
    stage(database, acme, page(record("in_8"), minute=10), kind=Kind.SNAPSHOT, object_type="stripe_charge")
    stage(database, acme, page(record("in_1"), minute=5))
    assert heads(database) == {"in_1": "a", "in_9": "a"}


def test_the_later_of_two_equal_reads_in_one_chunk_counts(
    database: Database, acme: Connection, globex: Connection
) -> None:
    """The head lies between them: the first is stale, the second is not."""
    for connection, chunk_rows in ((acme, 1), (globex, 1_000)):
        stage(database, connection, page(record("in_1", "b"), minute=5))
        reads = [page(record("in_1", "a"), minute=1), page(record("in_1", "a"), minute=9)]
        run = stage(database, connection, *reads, chunk_rows=chunk_rows)
        assert (run["rows_stale"], run["rows_changed"], run["rows_unchanged"]) == (1, 1, 0)
    assert heads(database) == heads(database, "globex") == {"in_1": "a"}


def test_a_removal_that_is_told_later_in_one_chunk_counts(
    database: Database, acme: Connection, globex: Connection
) -> None:
    for connection, chunk_rows in ((acme, 1), (globex, 1_000)):
        stage(database, connection, page(record("in_1", "b"), minute=5))
        reads = [page(record("in_1", None), minute=1), page(record("in_1", None), minute=9)]
        assert stage(database, connection, *reads, chunk_rows=chunk_rows)["rows_removed"] == 1
    assert heads(database) == heads(database, "globex") == {"in_1": None}


def test_what_a_connection_out_of_use_has_staged_is_removed_by_its_successor(
    database: Database, acme: Connection
) -> None:
    """An account under another name: its first read finds everything unchanged, its snapshots what is removed then."""
    stage(database, acme, page(record("in_1"), record("in_2"), minute=1))
    successor = ensure_connection(database, "acme", "stripe", "acct_1")
    shared = stage(database, successor, page(record("in_1"), record("in_2"), minute=2), kind=Kind.SNAPSHOT)
    assert shared["rows_unchanged"] == 2
    stage(database, acme, page(record("in_1"), minute=3), kind=Kind.SNAPSHOT)
    assert heads(database) == {"in_1": "a", "in_2": None}, "while both are in use, it is the first one's"
    stage(database, acme, page(record("in_2"), minute=4))
    ensure_connection(database, "acme", "stripe", active=False)
    unchanged = stage(database, successor, page(record("in_1"), record("in_2"), minute=5), kind=Kind.SNAPSHOT)
    assert (unchanged["rows_unchanged"], unchanged["rows_removed"]) == (2, 0)
    gone = stage(database, successor, page(record("in_1"), minute=6), kind=Kind.SNAPSHOT)
    assert gone["rows_removed"] == 1
    assert heads(database) == {"in_1": "a", "in_2": None}
    assert changes(database, "in_1") == [("added", "a")]


_IDS = ("in_1", "in_2", "in_3")


@st.composite
def _overlapping_reads(draw: st.DrawFn) -> tuple[dict[str, str | None], list[tuple[str, int, list[tuple[str, Any]]]]]:
    """What the source ends with, and reads at distinct minutes of a source that changes, in the order of their ends."""
    minutes = draw(st.lists(st.integers(2, 30), min_size=1, max_size=6, unique=True))
    known: dict[str, tuple[int, str | None]] = dict.fromkeys(_IDS, (1, "a"))
    reads: list[tuple[str, int, list[tuple[str, Any]]]] = []
    for minute in sorted(minutes):
        state = {source_id: draw(st.sampled_from(["a", "b", None])) for source_id in _IDS}
        kind = draw(st.sampled_from(["window", "targeted", "snapshot"]))
        shown = [item for item in state.items() if item[1] is not None or kind == "targeted"]
        if kind != "snapshot":
            shown = draw(st.lists(st.sampled_from(shown), unique=True)) if shown else []
            known |= {source_id: (minute, content) for source_id, content in shown}
        elif shown:  # an empty one speaks of when its run began, on the database's own clock
            known |= {source_id: (minute, content) for source_id, content in state.items()}
        else:
            continue
        reads.append((kind, minute, shown))
    return {source_id: content for source_id, (_, content) in known.items()}, draw(st.permutations(reads))


_object_numbers = iter(range(1_000_000))


@given(story=_overlapping_reads())
@settings(max_examples=40)
def test_whatever_order_reads_end_in_the_heads_are_what_the_source_ended_with(
    database: Database, acme: Connection, story: Any
) -> None:
    ended_with, reads = story
    object_type = f"object_{next(_object_numbers)}"
    stage(database, acme, page(*(record(each) for each in _IDS), minute=1), object_type=object_type)
    for kind, minute, shown in reads:
        records = [record(source_id, content) for source_id, content in shown]
        stage(database, acme, page(*records, minute=minute), kind=Kind(kind), object_type=object_type)
    assert heads(database, object_type=object_type) == ended_with


def test_many_reads_of_one_object_at_once(database: Database, acme: Connection, globex: Connection) -> None:
    """Windows, a targeted read and a snapshot on eight connections: no deadlock, and the end of one after the other."""
    everything = [f"in_{number}" for number in range(40)]
    stage(database, acme, page(*(record(each) for each in everything)))
    jobs: list[tuple[Kind, list[Page]]] = [
        (Kind.WINDOW, [page(*(record(each, minute) for each in everything[at::4]), minute=minute) for at in range(4)])
        for minute in range(1, 6)
    ]
    jobs.append((Kind.SNAPSHOT, [page(*(record(each, 6) for each in everything[:30]), minute=6)]))
    jobs.append((Kind.TARGETED, [page(record("in_35", 7), record("in_1", None), minute=7)]))
    jobs.append((Kind.WINDOW, [page(*(record(each, 3) for each in reversed(everything)), minute=3)]))
    failures: list[BaseException] = []
    gate = threading.Barrier(len(jobs))

    def work(kind: Kind, pages: list[Page], number: int) -> None:
        try:
            gate.wait()
            days = Days(DAY - timedelta(days=number), DAY)
            stage(database, acme, *pages, kind=kind, chunk_rows=5, days=days)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(*job, number)) for number, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    expected: dict[str, Any] = dict.fromkeys(everything[:30], 6) | dict.fromkeys(everything[30:])
    assert heads(database) == expected | {"in_35": 7, "in_1": None}
    assert audit.verify(database, "acme").sound
    for row in runs(database):
        assert row["status"] == "succeeded"
        assert row["rows_extracted"] == len(list(run_records(database, row["sync_run_id"])))


def test_windows_are_half_open_and_kept(database: Database, acme: Connection) -> None:
    read = read_of(acme, [])
    row = perform(database, replace(read, window=Window(NOON, NOON + timedelta(hours=1))), ORIGIN, chunk_rows=1)
    assert (row["window_start"], row["window_end"]) == (NOON, NOON + timedelta(hours=1))
    assert isinstance(row["started_at"], datetime)
    assert isinstance(row["first_day"], date)
