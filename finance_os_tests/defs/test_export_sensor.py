"""When the export is asked for: whenever something moved that no run has exported, once each, and never in vain."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from psycopg.types.json import Jsonb

from finance_os import settings as settings_module
from finance_os.defs import export_sensor as sensing
from finance_os.defs.assets.stripe_qbo import JOB, export_job, stripe_qbo_assets
from finance_os.defs.export_outcomes import INTENTS, OBJECTS, VERIFICATION
from finance_os.defs.export_sensor import BUSINESS_TAG, export_sensor
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Kind
from finance_os.evidence.reading import perform
from finance_os.evidence.scheduled_syncs import request_scheduled_sync
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.readiness.gate import Blocker, Gate, Input
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sources.sealing import new_key
from finance_os.stripe_qbo.store import put_plan
from finance_os_tests.evidence.staged import page, read_of, record, stage
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books, customer
from finance_os_tests.stripe_qbo.staged import RULES, company, environment
from finance_os_tests.webhooks.senders import stripe_event
from finance_os_tests.webhooks.test_walk import come

SHUT = Blocker("deploy_not_verified", "scheduled_sync_readiness/deploy", None, None, "Verify it.")
READ_AGAIN = Blocker("trace_outdated", "stripe/stripe_invoice", date(2026, 6, 1), "e1", "Run its checks.")


@dataclass
class Door:
    """A gate that is open or shut, for some businesses."""

    shut: set[str] = field(default_factory=set)
    blockers: tuple[Blocker, ...] = (SHUT,)
    asked: int = 0

    def __call__(self, _: Database, business_id: str, __: Any) -> Gate:
        self.asked += 1
        return Gate(business_id, self.blockers if business_id in self.shut else ())


@dataclass
class Office:
    """An installation whose sensor is asked tick by tick, and whose runs are executed here."""

    database: Database
    gate: Door
    defs: dg.Definitions
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)
    cursor: str | None = None

    def tick(self, *, keep_cursor: bool = True) -> tuple[list[dg.RunRequest], str]:
        """What one evaluation asks for, and what it says if that is nothing. A crashed tick keeps no cursor."""
        repository = self.defs.get_repository_def()
        sensor = repository.get_sensor_def("stripe_qbo_export_wanted")
        with dg.build_sensor_context(
            self.instance,
            cursor=self.cursor,
            resources={"evidence": (self.defs.resources or {})["evidence"]},
            repository_def=repository,
        ) as context:
            found = sensor.evaluate_tick(context)
        if keep_cursor:
            self.cursor = found.cursor
        return list(found.run_requests or ()), found.skip_message or ""

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """What the daemon makes of a request."""
        return self.defs.resolve_job_def(JOB).execute_in_process(
            instance=self.instance,
            run_config=request.run_config,
            asset_selection=request.asset_selection,
            tags=dict(request.tags),
            raise_on_error=False,
        )

    def business_of(self, requests: list[dg.RunRequest]) -> list[str]:
        return [request.tags[BUSINESS_TAG] for request in requests]


@pytest.fixture
def database(staged: Database) -> Database:
    return staged


@pytest.fixture
def office(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path))
    monkeypatch.setenv("FINANCE_OS_BUSINESS", "acme")
    monkeypatch.setenv("FINANCE_OS_ENCRYPTION_KEY", new_key())
    monkeypatch.setenv("FINANCE_OS_QBO_RULES", json.dumps({"acme": RULES}))
    # The first run is for every day since then: half a year of days would take the tests a minute.
    monkeypatch.setenv("FINANCE_OS_START_DATE", str(datetime.now(UTC).date() - timedelta(days=3)))
    monkeypatch.setattr(sensing, "LOOK_AGAIN_SECONDS", 0)
    settings_module.settings.cache_clear()
    gate, job = Door(), export_job()
    defs = dg.Definitions(
        assets=[stripe_qbo_assets(gate)],
        jobs=[job],
        sensors=[export_sensor(job, gate)],
        resources={"evidence": Evidence()},
    )
    yield Office(database, gate, defs)
    settings_module.settings.cache_clear()


@pytest.fixture
def acmes(office: Office, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    """The first business, staged, with rules."""
    assert office
    with company() as served:
        for name, value in environment(served).items():
            monkeypatch.setenv(name, value)
        yield served


def rules(monkeypatch: pytest.MonkeyPatch, **of: Any) -> None:
    monkeypatch.setenv("FINANCE_OS_QBO_RULES", json.dumps(of))
    settings_module.settings.cache_clear()


def ask_for(database: Database, connection: Connection, **reads: list[str]) -> None:
    """What the inbox does of events that wait: a request of reads, which have not begun."""
    with database.transaction() as opened:
        opened.execute(
            """
            INSERT INTO finance_os.webhook_requests (business_id, source_system, connection_id, reads, events)
            VALUES (%s, %s, %s, %s, 1)
            """,
            (connection.business_id, connection.source_system, connection.connection_id, Jsonb(reads)),
        )


def read_for(database: Database, connection: Connection, object_type: str) -> None:
    """What the run of a request does: everything of an object type that was asked for is read."""
    day = Days(date(2026, 6, 2), date(2026, 6, 2))
    read = read_of(connection, [page()], object_type=object_type, kind=Kind.TARGETED, days=day)
    perform(database, read, Origin(Trigger.WEBHOOK), chunk_rows=10)


def test_without_rules_nothing_is_asked_for(office: Office, acmes: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    rules(monkeypatch)
    assert office.tick() == ([], "No business has rules: FINANCE_OS_QBO_RULES is not set.")
    rules(monkeypatch, nobody=RULES)
    assert office.tick() == ([], "nobody: there is no such business")
    rules(monkeypatch, acme={"balance_date": "2026-06-01"})
    assert office.tick() == ([], "acme: qbo_rules_unreadable")


def test_what_moved_is_exported_once(office: Office, acmes: Books, acme: Connection) -> None:
    """The plan alone while the policy is not approved; and again when evidence or the policy moves."""
    [request], _ = office.tick(keep_cursor=False)
    assert request.asset_selection == [INTENTS]
    [again], _ = office.tick()  # the tick died before its run began: the same one is asked for
    assert again.run_key == request.run_key
    assert office.run(request).success
    assert office.tick() == ([], "acme: nothing has moved since the last export")
    assert office.tick(keep_cursor=False)[0] == []

    changed = {"id": "cus_new", "object": "customer", "created": 1_780_300_000}
    row = record("cus_new", "a")
    stage(
        office.database,
        acme,
        page(type(row)("cus_new", changed, date(2026, 6, 2)), minute=5),
        object_type="stripe_customer",
        kind=Kind.TARGETED,
        days=Days(date(2026, 6, 2), date(2026, 6, 2)),
    )
    [moved], _ = office.tick()
    assert moved.run_key != request.run_key
    assert moved.asset_selection == [INTENTS]
    approve_policy(office.database, "acme", QBO_EXPORT.key, scope=acmes.realm)
    [approved], _ = office.tick()
    assert approved.asset_selection == [INTENTS, OBJECTS, VERIFICATION]
    assert office.run(approved).success
    states = {row["state"] for row in office.database.fetch("SELECT state FROM finance_os.intents")}
    assert states == {"applied"}
    assert office.tick()[0] == []
    # A read that changes nothing asks for nothing.
    stage(
        office.database,
        acme,
        page(type(row)("cus_new", changed, date(2026, 6, 2)), minute=6),
        object_type="stripe_customer",
        kind=Kind.TARGETED,
        days=Days(date(2026, 6, 2), date(2026, 6, 2)),
    )
    assert office.tick() == ([], "acme: nothing has moved since the last export")


def test_the_first_run_of_an_asset_is_for_every_day_since_the_balance_date(office: Office, acmes: Books) -> None:
    """Of those that Dagster has, so that what was exported is shown to be there; later ones are for the present day."""
    today = datetime.now(UTC).date()
    start = max(RULES["balance_date"], str(today - timedelta(days=3)))

    def exported() -> dg.RunRequest:
        [request], _ = office.tick()
        assert office.run(request).success
        return request

    def days_of(request: dg.RunRequest) -> tuple[str, str]:
        ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        first, last = (request.tags[end] for end in ends)
        return first, last

    assert days_of(exported()) == (start, today.isoformat())
    count = (today - date.fromisoformat(start)).days + 1
    assert len(office.instance.get_materialized_partitions(INTENTS)) == count
    approve_policy(office.database, "acme", QBO_EXPORT.key, scope=acmes.realm)
    assert days_of(exported()) == (start, today.isoformat())
    assert len(office.instance.get_materialized_partitions(OBJECTS)) == count
    assert len(office.instance.get_materialized_partitions(VERIFICATION)) == count
    assert office.tick()[0] == []


def test_what_another_applier_left_is_asked_for_again(
    office: Office, acmes: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one held an intent, so the run passed it over, and then that one died: no wakeup is lost."""
    approve_policy(office.database, "acme", QBO_EXPORT.key, scope=acmes.realm)
    office.run(office.tick()[0][0])
    put_plan(office.database, "acme", acmes.realm, [customer("cus_held")])
    [held] = office.database.fetch("SELECT stripe_id, key FROM finance_os.intents WHERE state = 'planned'")
    assert held["stripe_id"] == "cus_held"
    assert "acme: its last export left something to be written" in office.tick()[1]
    monkeypatch.setattr(sensing, "FIRST_WAIT", 0)
    [latest] = office.instance.get_run_records(limit=1)
    [again], _ = office.tick(keep_cursor=False)
    assert str(again.run_key).endswith(f"/{latest.dagster_run.run_id}")
    [lost], _ = office.tick()
    assert lost.run_key == again.run_key
    assert office.run(again).success  # the plan does not have it: it is withdrawn
    assert office.tick() == ([], "acme: nothing has moved since the last export")


def test_a_state_that_fails_ever_again_is_asked_for_ever_again(
    office: Office, acmes: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster skips a run key that it knows: each has to be another one, however many runs there were."""
    monkeypatch.setattr(sensing, "FIRST_WAIT", 0)
    job, keys = office.defs.resolve_job_def(JOB), list[str | None]()
    for _ in range(13):
        [request], _ = office.tick()
        keys.append(request.run_key)
        failing = office.instance.create_run_for_job(job, tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED)
        office.instance.report_run_failed(failing)
    [request], _ = office.tick()
    keys.append(request.run_key)
    assert len(set(keys)) == 14
    assert str(keys[0]).endswith("/first")


def test_a_shut_gate_is_waited_for(office: Office, acmes: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    office.gate.shut.add("acme")
    assert office.tick() == ([], "acme: deploy_not_verified")
    monkeypatch.setattr(sensing, "LOOK_AGAIN_SECONDS", 3_600)
    asked = office.gate.asked
    assert office.tick() == ([], "acme: the gate was shut a moment ago")
    assert office.gate.asked == asked
    office.gate.shut.clear()
    monkeypatch.setattr(sensing, "LOOK_AGAIN_SECONDS", 0)
    assert len(office.tick()[0]) == 1


def test_days_that_are_read_again_are_looked_at_sooner(
    office: Office, acmes: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads them checks them too; not so what else is in the way."""
    monkeypatch.setattr(sensing, "LOOK_AGAIN_SECONDS", 3_600)
    monkeypatch.setattr(sensing, "LOOK_SOON_SECONDS", 0)
    monkeypatch.setattr(sensing, "LOOK_SHARE", 1e9)
    office.gate.shut.add("acme")
    office.gate.blockers = (READ_AGAIN,)
    for _ in range(2):
        assert office.tick() == ([], "acme: trace_outdated")
    office.gate.blockers = (READ_AGAIN, SHUT)
    assert "deploy_not_verified" in office.tick()[1]
    assert office.tick() == ([], "acme: the gate was shut a moment ago")


def test_a_look_that_takes_long_is_not_taken_so_often(
    office: Office, acmes: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensing, "LOOK_AGAIN_SECONDS", 3_600)
    monkeypatch.setattr(sensing, "LOOK_SOON_SECONDS", 0)
    monkeypatch.setattr(sensing, "LOOK_SHARE", 1e-9)
    office.gate.shut.add("acme")
    office.gate.blockers = (READ_AGAIN,)
    assert office.tick() == ([], "acme: trace_outdated")
    assert office.tick() == ([], "acme: the gate was shut a moment ago")


def test_a_run_that_came_too_late_for_the_gate_is_not_waited_for(office: Office, acmes: Books) -> None:
    """Days were read again after it was asked for: the next one is asked for once they are checked."""
    [request], _ = office.tick()
    office.gate.shut.add("acme")
    office.gate.blockers = (READ_AGAIN,)
    assert not office.run(request).success
    assert office.tick() == ([], "acme: trace_outdated")
    office.gate.shut.clear()
    [again], _ = office.tick()
    assert again.run_key != request.run_key
    # What else makes a run fail is waited for.
    office.gate.shut.add("acme")
    office.gate.blockers = (READ_AGAIN, SHUT)
    assert not office.run(again).success
    office.gate.shut.clear()
    requests, said = office.tick()
    assert (requests, "acme: its last export failed" in said) == ([], True)


def test_after_the_daily_sync_it_is_exported_though_nothing_moved(
    office: Office, acmes: Books, owner: Database
) -> None:
    """The last closed day is another one; the gate sees to it that the sync has ended and is recorded."""
    today = datetime.now(UTC).date()
    request_scheduled_sync(office.database, "daily-before", today - timedelta(days=1), ["stripe"])
    with owner.transaction() as connection:
        connection.execute("UPDATE finance_os.scheduled_syncs SET requested_at = requested_at - interval '2 days'")
    [before], _ = office.tick()
    assert office.run(before).success
    assert office.tick()[0] == []
    request_scheduled_sync(office.database, "daily-now", today, ["stripe"])
    [after], _ = office.tick()
    assert after.run_key != before.run_key


def test_one_at_a_time_of_each_business(office: Office, acmes: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    with company() as globexes:
        for name, value in environment(globexes, "GLOBEX_").items():
            monkeypatch.setenv(name, value)
        rules(monkeypatch, acme=RULES, globex=RULES)
        requests, _ = office.tick()
        assert office.business_of(requests) == ["acme", "globex"]
        unfinished = office.instance.create_run_for_job(
            office.defs.resolve_job_def(JOB), tags=dict(requests[0].tags), status=dg.DagsterRunStatus.STARTED
        )
        requests, _ = office.tick()
        assert office.business_of(requests) == ["globex"]
        assert office.run(requests[0]).success
        assert office.tick()[1] == ("acme: an export is under way; globex: nothing has moved since the last export")
        # Its process died: it is asked for again, after a while, under another key.
        office.instance.report_run_failed(unfinished)
        assert "acme: its last export failed: the next one is asked for in " in office.tick()[1]
        monkeypatch.setattr(sensing, "FIRST_WAIT", 0)
        [again], _ = office.tick()
        assert str(again.run_key).endswith(f"/{unfinished.run_id}")
        # What is wrong with one is not the other's.
        office.gate.shut.add("acme")
        assert office.tick()[1].startswith("acme: deploy_not_verified; globex: nothing")


def test_a_burst_of_webhooks_is_waited_for_but_not_for_long(
    office: Office, acmes: Books, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_for(office.database, acme, stripe_customer=["cus_1"], stripe_invoice=["in_1"])
    waits = ([], "acme: objects that webhooks speak of are being read")
    assert office.tick() == waits
    for object_type in ("stripe_customer", "stripe_invoice"):
        assert office.tick() == waits
        read_for(office.database, acme, object_type)
    assert len(office.tick()[0]) == 1  # all of it is read, though nobody has settled it yet
    ask_for(office.database, acme, stripe_customer=["cus_2"], stripe_invoice=["in_2"])
    ask_for(office.database, acme, stripe_charge=["ch_2"])
    for object_type in ("stripe_customer", "stripe_invoice"):
        read_for(office.database, acme, object_type)
        assert office.tick() == waits
    monkeypatch.setattr(sensing, "GATHER_SECONDS", 0)
    assert len(office.tick()[0]) == 1


def test_what_is_asked_for_after_the_evidence_has_come_is_not_waited_for(
    office: Office, acmes: Books, acme: Connection
) -> None:
    """While events keep coming, some are always being read for."""
    ask_for(office.database, acme, stripe_customer=["cus_1"])
    read_for(office.database, acme, "stripe_customer")
    ask_for(office.database, acme, stripe_invoice=["in_1"])
    assert len(office.tick()[0]) == 1


@pytest.fixture
def pauses(office: Office, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens in each pause of a tick that would stay for an hour; one more pause than these is an error."""
    staying(office, 3_600)
    left: list[Callable[[], object]] = []
    monkeypatch.setattr(sensing, "_pause", lambda _: left.pop(0)())
    return left


def staying(office: Office, seconds: float) -> None:
    """Make the office's ticks those of the daemon, which go on while something is on its way."""
    job = export_job()
    office.defs = dg.Definitions(
        assets=[stripe_qbo_assets(office.gate)],
        jobs=[job],
        sensors=[export_sensor(job, office.gate, stays=seconds)],
        resources={"evidence": Evidence()},
    )


def test_a_tick_stays_for_reads_that_are_under_way(
    office: Office, acmes: Books, acme: Connection, pauses: list[Callable[[], object]]
) -> None:
    ask_for(office.database, acme, stripe_customer=["cus_1"])
    pauses += [lambda: None, lambda: read_for(office.database, acme, "stripe_customer")]
    assert len(office.tick()[0]) == 1
    assert pauses == []


def test_a_tick_stays_for_an_export_that_is_under_way(
    office: Office, acmes: Books, pauses: list[Callable[[], object]]
) -> None:
    [first], _ = office.tick()
    under_way = office.instance.create_run_for_job(
        office.defs.resolve_job_def(JOB), tags=dict(first.tags), status=dg.DagsterRunStatus.STARTED
    )
    pauses.append(lambda: office.instance.report_run_failed(under_way))
    assert "acme: its last export failed" in office.tick()[1]
    assert pauses == []


def test_a_tick_stays_for_events_that_have_come_but_not_for_their_retries(
    office: Office, acmes: Books, acme: Connection, pauses: list[Callable[[], object]]
) -> None:
    assert office.run(office.tick()[0][0]).success
    nothing = ([], "acme: nothing has moved since the last export")
    assert office.tick() == nothing
    come(office.database, acme, stripe_event("evt_1"))

    def becomes(what: str) -> None:
        with office.database.transaction() as connection:
            connection.execute(f"UPDATE finance_os.webhook_events SET {what}".encode())

    becomes("wait_until = clock_timestamp() + interval '1 day'")
    assert office.tick() == nothing
    becomes("wait_until = clock_timestamp()")
    pauses.append(lambda: becomes("state = 'done', settled_at = clock_timestamp()"))
    assert office.tick() == nothing
    assert pauses == []


def test_a_tick_stays_no_longer_than_it_may(
    office: Office, acmes: Books, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        assert len(pauses) < 100
        time.sleep(seconds)

    staying(office, 0.2)
    monkeypatch.setattr(sensing, "LOOK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(sensing, "_pause", pause)
    ask_for(office.database, acme, stripe_customer=["cus_1"])
    assert office.tick() == ([], "acme: objects that webhooks speak of are being read")
    assert set(pauses) <= {0.01}


def test_the_gate_is_asked_for_every_closed_day(office: Office, acmes: Books) -> None:
    asked: list[Input] = []

    def remember(_: Database, business_id: str, inputs: Any) -> Gate:
        asked.extend(inputs)
        return Gate(business_id, ())

    job = export_job()
    defs = dg.Definitions(
        assets=[stripe_qbo_assets(remember)],
        jobs=[job],
        sensors=[export_sensor(job, remember)],
        resources={"evidence": Evidence()},
    )
    assert len(Office(office.database, office.gate, defs).tick()[0]) == 1
    last = {given.days.last for given in asked if given.days}
    assert {given.days.first for given in asked if given.days} == {date.fromisoformat(RULES["balance_date"])}
    assert last <= {datetime.now(UTC).date() - timedelta(days=n) for n in (1, 2)}
