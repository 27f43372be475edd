"""The alert sensor: what Dagster's runs and our tables say becomes alerts, at little cost and with no call outside."""

import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from finance_os import settings as settings_module
from finance_os.alerts.ledger import open_alerts
from finance_os.alerts.raising import dagster_position
from finance_os.defs import alerts as alerts_module
from finance_os.defs.alerts import ALERTS, alerts_asset, alerts_sensor, ended_runs
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.local.stack import checkout
from finance_os.sources.stripe import STRIPE
from finance_os_tests.alerts.raised import blocked, open_keys, read, ready
from finance_os_tests.alerts.receivers import Webhook, webhook
from finance_os_tests.conftest import create_database, drop_database

INVOICES = dg.AssetKey(["stripe", "stripe_invoice"])
CHARGES = dg.AssetKey(["stripe", "stripe_charge"])


@dataclass
class Ticking:
    """The sensor as the daemon evaluates it, and runs of a location whose assets fail as they are told."""

    instance: dg.DagsterInstance
    cursor: str | None = None
    failing: set[dg.AssetKey] = field(default_factory=set)

    def tick(self) -> dg.SensorResult:
        """One evaluation."""
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"evidence": Evidence()}
        ) as context:
            result = alerts_sensor([STRIPE])(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return result

    def events_after(self, storage_id: int) -> list[str]:
        """The runs whose failure Dagster numbered higher."""
        return [
            record.run_id
            for record in self.instance.fetch_run_status_changes(
                dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=storage_id), limit=100
            ).records
        ]

    def run(
        self, keys: Sequence[dg.AssetKey] = (INVOICES, CHARGES), *, tags: Any = None, connections: Any = None
    ) -> dg.ExecuteInProcessResult:
        """A run that materializes `keys`."""

        def asset(key: dg.AssetKey) -> dg.AssetsDefinition:
            @dg.asset(key=key, config_schema=dg.Permissive())
            def made() -> None:
                if key in self.failing:
                    raise dg.Failure("told to")

            return made

        definitions = dg.Definitions([asset(INVOICES), asset(CHARGES)], jobs=[dg.define_asset_job("stripe_sync")])
        ops = {key.to_python_identifier(): {"config": {"connections": connections}} for key in keys}
        return definitions.resolve_job_def("stripe_sync").execute_in_process(
            instance=self.instance,
            asset_selection=list(keys),
            raise_on_error=False,
            tags=tags,
            run_config={"ops": ops} if connections else None,
        )


@pytest.fixture
def ticking(
    database: Database, acme: Connection, globex: Connection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ticking]:
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.delenv("FINANCE_OS_ALERT_SLACK_WEBHOOK", raising=False)
    monkeypatch.delenv("FINANCE_OS_ALERT_SMTP", raising=False)
    settings_module.settings.cache_clear()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Ticking(instance)
    settings_module.settings.cache_clear()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch, ticking: Ticking) -> Iterator[Webhook]:
    with webhook() as found:
        monkeypatch.setenv("FINANCE_OS_ALERT_SLACK_WEBHOOK", found.url)
        settings_module.settings.cache_clear()
        yield found


@pytest.fixture
def dagster_url(server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Dagster's own database, and its configuration in `tmp_path`."""
    name = f"dagster_alerts_{os.getpid()}"
    url = create_database(server_url, name)
    monkeypatch.setenv("FINANCE_OS_DAGSTER_DATABASE_URL", url)
    shutil.copy(checkout() / "dagster.yaml", tmp_path)
    yield url
    drop_database(server_url, name)


def shown(result: dg.SensorResult) -> list[dict[str, Any]]:
    """Metadata of the asset's materializations by a tick."""
    return [
        {name: value.value for name, value in event.metadata.items()}
        for event in result.asset_events
        if isinstance(event, dg.AssetMaterialization)
    ]


def test_a_run_that_fails_is_an_alert_until_one_succeeds(database: Database, ticking: Ticking) -> None:
    ticking.tick()
    ticking.failing = {INVOICES}
    failed = ticking.run()
    assert not failed.success
    raised = ticking.tick()
    assert open_keys(database) == [("acme", "run:stripe_sync", 1), ("globex", "run:stripe_sync", 1)]
    assert failed.run_id[:8] in open_alerts(database)[0].message
    assert raised.skip_reason is not None
    assert "2 alert(s) raised, 0 resolved" in str(raised.skip_reason.skip_message)
    ticking.failing = set()
    ticking.run([CHARGES])
    ticking.tick()
    assert len(open_alerts(database)) == 2, "another asset's success recovers nothing"
    ticking.run()
    ticking.tick()
    assert open_alerts(database) == []


def test_a_run_for_one_connection_is_its_business_s(database: Database, ticking: Ticking, globex: Connection) -> None:
    ticking.failing = {INVOICES}
    ticking.run([INVOICES], connections=[globex.connection_id])
    ticking.tick()
    assert open_keys(database) == [("globex", "run:stripe_sync", 1)]


def test_a_failed_read_speaks_for_its_run(database: Database, ticking: Ticking, acme: Connection) -> None:
    ticking.failing = {INVOICES}
    failed = ticking.run()
    read(database, acme, error="rate_limited", run_id=failed.run_id)
    ticking.tick()
    assert [alert.code for alert in open_alerts(database)] == ["rate_limited"]


def test_a_run_that_is_started_again_is_no_failure(database: Database, ticking: Ticking) -> None:
    ticking.failing = {INVOICES}
    ticking.run(tags={"dagster/will_retry": "true"})
    ticking.tick()
    assert open_alerts(database) == []


def test_a_failure_is_counted_once_though_it_is_read_again(
    database: Database, ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking.failing = {INVOICES}
    ticking.run()
    for _ in range(3):
        ticking.tick()
    assert {alert.count for alert in open_alerts(database)} == {1}
    assert dagster_position(database) == 0, "events of earlier IDs may still be committed"
    monkeypatch.setattr(alerts_module, "LATE_BY", timedelta(0))
    ticking.tick()
    ticking.tick()
    assert {alert.count for alert in open_alerts(database)} == {1}
    assert dagster_position(database) > 0


def test_an_event_that_dagster_commits_late_is_not_left_out(
    database: Database, ticking: Ticking, dagster_url: str, tmp_path: Path
) -> None:
    """In Dagster's real storage: an event turns up below the number of one that was read before."""
    with dg.DagsterInstance.from_config(str(tmp_path)) as ticking.instance:
        ticking.tick()
        ticking.failing = {INVOICES}
        late = ticking.run([INVOICES], tags={"dagster/will_retry": "false"}).run_id
        ticking.run([CHARGES])
        with psycopg.Connection[DictRow].connect(dagster_url, autocommit=True, row_factory=dict_row) as connection:
            [row] = connection.execute(
                "DELETE FROM event_logs WHERE dagster_event_type = 'PIPELINE_FAILURE' RETURNING *"
            ).fetchall()
            ticking.tick()
            assert open_alerts(database) == []
            connection.execute(
                sql.SQL("INSERT INTO event_logs ({}) VALUES ({})").format(
                    sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(map(sql.Placeholder, row))
                ),
                row,
            )
        ticking.tick()
        assert late[:8] in open_alerts(database, "acme")[0].message
        ticking.failing = set()
        ticking.run()
        ticking.tick()
        assert open_alerts(database) == []


def test_a_failure_waits_until_it_is_said_whether_its_run_starts_again(
    ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking.failing = {INVOICES}
    run_id = ticking.run().run_id
    monkeypatch.setattr(dg.DagsterInstance, "run_retries_enabled", property(lambda _: True))
    sources = {"stripe": STRIPE}
    now = datetime.now(UTC)
    assert ended_runs(ticking.instance, 0, sources, now) == ([], 0)
    with monkeypatch.context() as patch:
        patch.setattr(alerts_module, "EVENTS_A_TICK", 1)
        outcomes, settled = ended_runs(ticking.instance, 0, sources, now)
        assert (outcomes, ticking.events_after(settled)) == ([], [run_id]), "it is asked for again, full page or not"
    later = now + timedelta(minutes=2)
    assert [each.run_id for each in ended_runs(ticking.instance, 0, sources, later)[0]] == [run_id], "nothing was said"
    ticking.instance.add_run_tags(run_id, {"dagster/will_retry": "false"})
    outcomes, _ = ended_runs(ticking.instance, 0, sources, now)
    assert [(each.run_id, each.succeeded) for each in outcomes] == [(run_id, False)]
    ticking.instance.add_run_tags(run_id, {"dagster/will_retry": "true"})
    assert ended_runs(ticking.instance, 0, sources, now + timedelta(hours=1))[0] == []


def test_pages_of_both_kinds_are_read_in_one_order(
    database: Database, ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full page of failures must not let a success overtake the failures behind it."""
    monkeypatch.setattr(alerts_module, "EVENTS_A_TICK", 2)
    ticking.failing = {INVOICES}
    for _ in range(5):
        ticking.run()
    ticking.failing = set()
    ticking.run()
    for expected in (2, 4, 0):
        ticking.tick()
        assert sum(alert.count for alert in open_alerts(database, "acme")) == expected
    assert database.fetch("SELECT count FROM finance_os.alerts WHERE business_id = 'acme'") == [{"count": 5}]


def test_the_asset_shows_what_is_open_once(database: Database, ticking: Ticking) -> None:
    assert [each["open alerts"] for each in shown(ticking.tick())] == [0]
    assert shown(ticking.tick()) == []
    blocked(database)
    before = ticking.cursor
    [first] = shown(ticking.tick())
    assert (first["open alerts"], first["critical or high"]) == (1, 1)
    assert "| acme | high | check | trace of stripe/stripe_invoice is blocked on 2026-03-02" in first["alerts"]
    ticking.cursor = before  # the daemon died before it kept what the tick gave
    assert shown(ticking.tick()) == [first]
    assert shown(ticking.tick()) == []
    ready(database)
    [last] = shown(ticking.tick())
    assert last["alerts"] == "Nothing is open."
    assert alerts_asset().key == ALERTS


def test_freshness_is_judged_every_few_minutes(ticking: Ticking, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    monkeypatch.setattr(alerts_module, "judge_changed_freshness", lambda _, subjects: judged.append(len(subjects)))
    ticking.tick()
    ticking.tick()
    assert judged == [len(list(STRIPE))]
    monkeypatch.setattr(alerts_module, "FRESHNESS_EVERY", timedelta(0))
    ticking.tick()
    assert len(judged) == 2


def test_a_tick_depends_on_nothing_but_postgresql(
    database: Database, ticking: Ticking, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a channel configured, while nobody has approved it."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a call outside")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    blocked(database)
    result = ticking.tick()
    assert result.skip_reason is not None
    assert "acme, slack: policy_gated_no_delivery" in str(result.skip_reason.skip_message)
    assert open_keys(database, "acme")
    assert hook.bodies == []


def test_an_idle_tick_asks_few_questions_however_long_the_history(
    database: Database, ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking.tick()
    transactions: list[int] = []
    original = Database.connect
    monkeypatch.setattr(Database, "connect", lambda self: transactions.append(1) or original(self))
    ticking.tick()
    few = len(transactions)
    assert few < 15
    for _ in range(30):
        blocked(database)
    ticking.tick()
    transactions.clear()
    ticking.tick()
    assert len(transactions) <= few
