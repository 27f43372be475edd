"""Dagster's storage as dagster.yaml configures it, held against dagster-postgres' own: the same rows, the same answers.

Both are those of the installed version: where its internals change, these tests fail.
"""

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import dagster as dg
import psycopg
import pytest
import sqlalchemy
from dagster import DagsterEvent, DagsterEventType
from dagster._core.events import AssetMaterializationPlannedData, AssetObservationData
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster_postgres import PostgresEventLogStorage
from dagster_postgres.auth import PgTokenProvider
from psycopg.rows import DictRow, dict_row
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from finance_os.defs.storage import KEPT_CONNECTIONS, BulkEventLogStorage, BulkPostgresStorage
from finance_os.local.stack import checkout
from finance_os_tests.conftest import create_database, drop_database

STOCK = "storage: {postgres: {postgres_url: {env: FINANCE_OS_DAGSTER_DATABASE_URL}}}\n"
STEADY, BROKEN, WHOLE = dg.AssetKey("steady"), dg.AssetKey(["some", "broken"]), dg.AssetKey("whole")
FIRST = date(2026, 1, 1)
DAYS = 40

_daily = dg.DailyPartitionsDefinition(FIRST.isoformat(), end_date="2026-12-31")
_single_run = dg.BackfillPolicy.single_run()
_numbers = itertools.count(1)
_in_progress: list[set[str]] = []
"""What each run of `broken` saw that the UI shows as in progress."""


@dg.asset(key=STEADY, partitions_def=_daily, backfill_policy=_single_run, code_version="1")
def steady(context: dg.AssetExecutionContext) -> None:
    """Materializes every day of its run, each with metadata of its own."""
    for number, key in enumerate(context.partition_keys):
        context.add_asset_metadata({"rows": number}, partition_key=key)


@dg.asset(key=BROKEN, partitions_def=_daily, backfill_policy=_single_run)
def broken(context: dg.AssetExecutionContext) -> None:
    """Fails, and materializes nothing."""
    _in_progress.append(_shown(context.instance, BROKEN)["in progress"])
    raise dg.Failure("it is broken", allow_retries=False)


@dg.asset(key=WHOLE)
def whole() -> None:
    """Has no partitions."""


@dg.multi_asset_check(specs=[dg.AssetCheckSpec("sound", asset=STEADY), dg.AssetCheckSpec("complete", asset=STEADY)])
def checks() -> Iterator[dg.AssetCheckResult]:
    """Unpartitioned checks of a partitioned asset, as those of sources are."""
    yield dg.AssetCheckResult(asset_key=STEADY, check_name="sound", passed=True)
    yield dg.AssetCheckResult(
        asset_key=STEADY, check_name="complete", passed=False, severity=dg.AssetCheckSeverity.WARN
    )


DEFS = dg.Definitions(
    assets=[steady, broken, whole],
    asset_checks=[checks],
    jobs=[
        dg.define_asset_job("failing", dg.AssetSelection.assets(STEADY, BROKEN)),
        dg.define_asset_job("passing", dg.AssetSelection.assets(STEADY)),
        dg.define_asset_job("mixed", dg.AssetSelection.assets(STEADY, WHOLE)),
    ],
    executor=dg.in_process_executor,
)


@dataclass(frozen=True)
class Instances:
    """Opens instances, each on its own database unless one is given."""

    server_url: str
    folder: Path
    opened: ExitStack
    names: list[str]

    def database(self) -> str:
        """URL of a new, empty database."""
        self.names.append(f"dagster_{os.getpid()}_{next(_numbers)}")
        return create_database(self.server_url, self.names[-1])

    def open(self, url: str, configuration: str | None = None) -> dg.DagsterInstance:
        """An instance as a process finds it that has dagster.yaml (or `configuration`) in its Dagster home."""
        home = self.folder / str(next(_numbers))
        home.mkdir()
        (home / "dagster.yaml").write_text(configuration or (checkout() / "dagster.yaml").read_text())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FINANCE_OS_DAGSTER_DATABASE_URL", url)
            return self.opened.enter_context(dg.DagsterInstance.from_config(str(home)))


@pytest.fixture(scope="module")
def instances(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instances]:
    """Instances that batch events, as the stack's processes do."""
    names: list[str] = []
    with ExitStack() as opened, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
        yield Instances(server_url, tmp_path_factory.mktemp("dagster"), opened, names)
    for name in names:
        drop_database(server_url, name)


@dataclass(frozen=True)
class Pair:
    """The same two runs through our storage and through dagster-postgres', each in a database of its own.

    `stored` is what our event log was asked to store: single events and batches, in order.
    """

    ours: dg.DagsterInstance
    ours_url: str
    stock: dg.DagsterInstance
    stored: list[list[EventLogEntry]]
    runs: tuple[str, str]


@pytest.fixture(scope="module")
def pair(instances: Instances) -> Pair:
    url = instances.database()
    ours, stock = instances.open(url), instances.open(instances.database(), STOCK)
    runs = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002")
    stored: list[list[EventLogEntry]] = []
    _in_progress.clear()
    for instance in (ours, stock):
        with _recording(ours, stored):
            assert not _run(instance, "failing", DAYS, runs[0]).success
            assert _run(instance, "mixed", 3, runs[1]).success
    return Pair(ours, url, stock, stored, runs)


@pytest.fixture
def instance(instances: Instances) -> dg.DagsterInstance:
    return instances.open(instances.database())


def test_dagster_yaml_asks_for_this_storage(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.event_log_storage, BulkEventLogStorage)


def test_what_is_written_is_what_dagster_postgres_writes_of_the_same_events(pair: Pair, instances: Instances) -> None:
    url = instances.database()
    stock = PostgresEventLogStorage(url)
    for events in pair.stored:
        if len(events) > 1:
            stock.store_event_batch(events)
        else:
            stock.store_event(events[0])
    written, expected = _rows(pair.ours_url), _rows(url)
    assert written == expected
    planned = [row for row in written["event_logs"] if row["dagster_event_type"] == "ASSET_MATERIALIZATION_PLANNED"]
    assert len(planned) == 2 * DAYS + 3 + 1
    assert len(written["asset_check_executions"]) == 2 * (DAYS + 1) + 2
    assert len(written["asset_event_tags"]) > DAYS + 3


def test_what_is_asked_of_it_is_answered_as_dagster_postgres_does(pair: Pair) -> None:
    days = set(_keys(DAYS))
    assert _in_progress == [days, days]
    assert _answers(pair.ours, pair.runs) == _answers(pair.stock, pair.runs)
    assert _shown(pair.ours, BROKEN) == {"materialized": set(), "failed": days, "in progress": set()}
    assert _shown(pair.ours, STEADY) == {"materialized": days, "failed": set(), "in progress": set()}


def test_more_days_take_no_more_statements(instance: dg.DagsterInstance) -> None:
    _run(instance, "passing", 2)
    few, many = (_statements(instance, lambda days=days: _run(instance, "passing", days)) for days in (5, 200))
    assert few.count("INSERT INTO event_logs") > 2
    assert len(many) == len(few)


def test_more_events_than_a_statement_holds_keep_their_order(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "100000")
    events = [_planned(f"{number:05}") for number in range(2_500)]
    instance.event_log_storage.store_event_batch(events)
    records = instance.get_records_for_run("a run").records
    assert [record.event_log_entry for record in records] == events
    attempts = instance.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations
    assert {key: at for key, (_, at) in attempts(STEADY).items()} == {
        record.event_log_entry.get_dagster_event().partition: record.storage_id for record in records
    }


def test_a_batch_of_other_events_is_left_to_dagster_postgres(instance: dg.DagsterInstance) -> None:
    events = [
        _entry(DagsterEventType.ASSET_OBSERVATION, AssetObservationData(dg.AssetObservation(STEADY, partition=key)))
        for key in _keys(3)
    ]
    instance.event_log_storage.store_event_batch(events)
    instance.event_log_storage.store_event_batch([])
    observed = instance.fetch_observations(STEADY, limit=10, ascending=True).records
    assert [record.event_log_entry for record in observed] == events


def test_should_a_batch_not_be_stored_its_events_are_stored_one_by_one(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def as_it_will_be(_self: object, events: Sequence[EventLogEntry]) -> None:
        raise AttributeError(f"Dagster has changed: {len(events)} events")

    monkeypatch.setattr(BulkEventLogStorage, "store_event_batch", as_it_will_be)
    assert _run(instance, "passing", 5).success
    assert "Dagster has changed: 7 events" in capsys.readouterr().err
    assert _shown(instance, STEADY)["materialized"] == set(_keys(5))


def test_many_can_create_runs_of_the_same_assets_at_once(
    instances: Instances, capsys: pytest.CaptureFixture[str]
) -> None:
    url = instances.database()
    opened = [instances.open(url) for _ in range(4)]
    with ThreadPoolExecutor(len(opened)) as threads:
        runs = list(threads.map(lambda instance: _create_run(instance, "failing", DAYS), opened * 3))
    assert "Falling back" not in capsys.readouterr().err
    for run in runs:
        planned = opened[0].get_asset_partitions_for_run(run, DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        assert planned == {STEADY: set(_keys(DAYS)), BROKEN: set(_keys(DAYS))}


def test_a_log_that_is_watched_shows_what_was_stored_in_bulk(instance: dg.DagsterInstance) -> None:
    run = _create_run(instance, "passing", 1)
    seen: list[EventLogEntry] = []
    whole = Event()

    def take(event: EventLogEntry, _cursor: str) -> None:
        seen.append(event)
        if len(seen) == before + 20:
            whole.set()

    before = len(instance.all_logs(run))
    instance.watch_event_logs(run, None, take)
    instance.event_log_storage.store_event_batch([_planned(str(number), run) for number in range(20)])
    assert whole.wait(30)
    instance.end_watch_event_logs(run, take)
    assert [event.get_dagster_event().partition for event in seen[before:]] == [str(number) for number in range(20)]


def test_a_process_keeps_a_few_connections_whatever_instances_it_opens(instances: Instances) -> None:
    url = instances.database()
    opened = [instances.open(url) for _ in range(5)]
    for instance in opened:
        _run(instance, "passing", 2)
    first = _settled_backends(url)
    assert 1 <= len(first) <= KEPT_CONNECTIONS
    opened[0].get_runs()
    assert _settled_backends(url) == first


def test_nobody_waits_for_a_connection(instance: dg.DagsterInstance) -> None:
    together = Barrier(12)

    def hold(_: int) -> None:
        with _log_of(instance).index_connection() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))
            together.wait(20)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(hold, range(12)))
    assert len(_backends(_log_of(instance).postgres_url)) <= KEPT_CONNECTIONS


def test_lost_connections_are_replaced(instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture) -> None:
    _run(instance, "passing", 2)
    url = _log_of(instance).postgres_url
    lost = _backends(url)
    with psycopg.connect(url, autocommit=True) as connection:
        for backend in lost:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))
    assert _run(instance, "passing", 2).success
    assert lost.isdisjoint(_backends(url))
    assert "Retrying failed database" not in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_uses_connections_of_its_own(instance: dg.DagsterInstance) -> None:
    run = _create_run(instance, "passing", 2)
    url = _log_of(instance).postgres_url
    of_parent = _backends(url)
    child = os.fork()
    if child == 0:
        failed = 1
        with suppress(BaseException):
            with _log_of(instance).index_connection() as connection:
                backend = connection.scalar(sqlalchemy.text("SELECT pg_backend_pid()"))
            failed = int(backend in of_parent or instance.get_run_by_id(run) is None)
        os._exit(failed)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert instance.get_run_by_id(run)
    assert _backends(url) == of_parent


def test_the_webserver_may_have_its_own_connections(instance: dg.DagsterInstance) -> None:
    instance.optimize_for_webserver(statement_timeout=4_000, pool_recycle=60, max_overflow=5)
    with _log_of(instance).index_connection() as connection:
        assert connection.scalar(sqlalchemy.text("SHOW statement_timeout")) == "4s"
    assert _run(instance, "passing", 2).success


def test_an_old_schema_is_migrated(instance: dg.DagsterInstance) -> None:
    url = _log_of(instance).postgres_url
    _run(instance, "passing", 2)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE concurrency_limits DROP COLUMN using_default_limit")
        connection.execute("UPDATE alembic_version SET version_num = '6b7fb194ff9c'")
    current, head = _log_of(instance).alembic_version()
    assert current != head
    instance.upgrade()
    instance.reindex()
    assert _log_of(instance).alembic_version() == (head, head)
    assert _run(instance, "passing", 2).success


def test_another_default_of_the_pools_holds_for_those_that_there_are(instances: Instances) -> None:
    """PostgreSQL gives a transaction up in which a row is inserted twice, which dagster-postgres goes on with."""
    url, configuration = instances.database(), (checkout() / "dagster.yaml").read_text()

    def claims(limit: int, first: int) -> list[bool]:
        """Whether each of five more steps has its turn at once."""
        log = instances.open(url, re.sub(r"(default_limit:) \d+", rf"\1 {limit}", configuration)).event_log_storage
        assert log.initialize_concurrency_limit_to_default("till")
        return [log.claim_concurrency_slot("till", "run", f"step {first + each}").is_claimed for each in range(5)]

    assert claims(2, 0) == [True, True, False, False, False]
    with instances.open(url) as instance:
        instance.event_log_storage.free_concurrency_slots_for_run("run")
    assert claims(4, 5) == [True] * 4 + [False]
    with instances.open(url) as instance:
        instance.event_log_storage.free_concurrency_slots_for_run("run")
    assert claims(1, 10) == [True] + [False] * 4


def test_connections_that_a_token_opens_are_not_shared(instances: Instances) -> None:
    class Tokens(PgTokenProvider):
        def _fetch_token(self) -> tuple[str, float]:
            return "of a minute", 60.0

    storage = BulkPostgresStorage(instances.database(), token_provider=Tokens())
    for each in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
        assert isinstance(each._engine.pool, NullPool)  # pyright: ignore[reportAttributeAccessIssue]


def _keys(count: int) -> list[str]:
    return [str(FIRST + timedelta(days=number)) for number in range(count)]


def _tags(days: int) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": _keys(days)[0],
        "dagster/asset_partition_range_end": _keys(days)[-1],
    }


def _run(instance: dg.DagsterInstance, job: str, days: int, run_id: str | None = None) -> dg.ExecuteInProcessResult:
    return DEFS.resolve_job_def(job).execute_in_process(
        instance=instance, tags=_tags(days), run_id=run_id, raise_on_error=False
    )


def _create_run(instance: dg.DagsterInstance, job: str, days: int) -> str:
    """A run that is created and not started; its ID."""
    return instance.create_run_for_job(DEFS.resolve_job_def(job), tags=_tags(days)).run_id


def _entry(kind: DagsterEventType, data: Any, run_id: str = "a run") -> EventLogEntry:
    event = DagsterEvent(kind.value, "a job", event_specific_data=data)
    return EventLogEntry(None, "debug", "", run_id, time.time(), None, "a job", event)


def _planned(partition: str, run_id: str = "a run") -> EventLogEntry:
    data = AssetMaterializationPlannedData(STEADY, partition=partition)
    return _entry(DagsterEventType.ASSET_MATERIALIZATION_PLANNED, data, run_id)


def _log_of(instance: dg.DagsterInstance) -> BulkEventLogStorage:
    log = instance.event_log_storage
    assert isinstance(log, BulkEventLogStorage)
    return log


@contextmanager
def _recording(instance: dg.DagsterInstance, stored: list[list[EventLogEntry]]) -> Iterator[None]:
    """Note what the instance's event log is asked to store."""
    log = _log_of(instance)
    one, many = log.store_event, log.store_event_batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "store_event", lambda event: (stored.append([event]), one(event)))
        patch.setattr(log, "store_event_batch", lambda events: (stored.append(list(events)), many(events)))
        yield


def _rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """All that an event log keeps, but for numbers and times that the database gives and what the UI caches."""
    given = {
        "event_logs": (),
        "asset_keys": ("id", "create_timestamp", "cached_status_data"),
        "asset_event_tags": ("id",),
        "asset_check_executions": ("create_timestamp",),
    }
    found: dict[str, list[dict[str, Any]]] = {}
    with psycopg.Connection[DictRow].connect(url, row_factory=dict_row) as connection:
        for table, columns in given.items():
            order = "asset_key" if table == "asset_keys" else "id"
            rows = connection.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()  # pyright: ignore
            found[table] = [{name: row[name] for name in row if name not in columns} for row in rows]
    return found


def _shown(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, set[str]]:
    """The partitions of an asset by the status that the UI shows."""
    status = get_and_update_asset_status_cache_value(instance, key, _daily)
    assert status
    subsets = {
        "materialized": status.deserialize_materialized_partition_subsets(_daily),
        "failed": status.deserialize_failed_partition_subsets(_daily),
        "in progress": status.deserialize_in_progress_partition_subsets(_daily),
    }
    return {name: set(subset.get_partition_keys()) for name, subset in subsets.items()}


def _answers(instance: dg.DagsterInstance, runs: Sequence[str]) -> dict[str, Any]:
    """What the webserver and the daemon ask of an event log, without what differs between any two executions."""
    log = instance.event_log_storage
    keys = (STEADY, BROKEN, WHOLE)
    attempts = {
        key: log.get_latest_asset_partition_materialization_attempts_without_materializations(key) for key in keys
    }
    return {
        "materialized": {key: log.get_materialized_partitions(key) for key in keys},
        "attempts": {key: {part: run for part, (run, _) in found.items()} for key, found in attempts.items()},
        "planned": {
            (key, part): info and info.run_id
            for key in keys
            for part in (None, *_keys(DAYS))
            for info in [log.get_latest_planned_materialization_info(key, part)]
        },
        "of runs": [log.get_asset_partitions_for_run(run) for run in runs],
        "shown": {key: _shown(instance, key) for key in (STEADY, BROKEN)},
        "last runs": {
            record.asset_entry.asset_key: record.asset_entry.last_run_id for record in instance.get_asset_records(keys)
        },
        "checks": {
            name: [
                (record.status, record.run_id, record.partition)
                for record in log.get_asset_check_execution_history(dg.AssetCheckKey(STEADY, name), limit=1_000)
            ]
            for name in ("sound", "complete")
        },
        "stats": [
            (stats.steps_succeeded, stats.steps_failed, stats.materializations)
            for stats in map(instance.get_run_stats, runs)
        ],
        "logs": [
            [
                (entry.dagster_event_type, entry.step_key, entry.get_dagster_event().partition)
                for entry in instance.all_logs(run)
                if entry.is_dagster_event
            ]
            for run in runs
        ],
    }


def _statements(instance: dg.DagsterInstance, work: Callable[[], object]) -> list[str]:
    """The table that each INSERT which `work` leads to is into."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT"):
            found.append(" ".join(statement.split()[:3]))

    engine = _log_of(instance)._engine
    event.listen(engine, "before_cursor_execute", note)
    work()
    event.remove(engine, "before_cursor_execute", note)
    return found


def _settled_backends(url: str) -> set[int]:
    """The backends once those that were told to end have done so: the server takes its time."""
    deadline = time.monotonic() + 10
    while len(found := _backends(url)) > KEPT_CONNECTIONS and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _backends(url: str) -> set[int]:
    """Processes of PostgreSQL that serve this database, but for the one that is asked."""
    with psycopg.connect(url) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return {row[0] for row in connection.execute(query)}
