"""The export as assets: days of one run that the gate refuses or lets pass, what is written, and what Dagster shows."""

import json
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from finance_os import settings as settings_module
from finance_os.defs.assets.stripe_qbo import JOB, OP, export_job, stripe_qbo_assets
from finance_os.defs.export_outcomes import AGREES, INTENTS, OBJECTS, VERIFICATION
from finance_os.defs.location import build_defs
from finance_os.defs.partitions import DAILY
from finance_os.defs.resources import Evidence
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.evidence.windows import Days
from finance_os.readiness.gate import Blocker, Gate, Input
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sources.sealing import new_key
from finance_os.stripe_qbo import states
from finance_os.stripe_qbo.export import GATED, GateOf
from finance_os.stripe_qbo.stripe_evidence import OBJECT_TYPES
from finance_os_tests.defs.conftest import range_tags
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books, Loss
from finance_os_tests.stripe_qbo.mapping.worlds import START
from finance_os_tests.stripe_qbo.staged import LAST, RULES, company, environment, fall_due_later, invoice_of

WHOLE = Days(START, LAST)
"""All days of the company."""

BAD_DAY = START + timedelta(days=9)
COMPLETENESS = Blocker(
    "completeness_remote_count_differs", "stripe/stripe_charge", BAD_DAY, "abcdef012345", "Materialize it again."
)
NOW = Blocker("deploy_not_verified", "scheduled_sync_readiness/deploy", None, None, "Run finance-os deploy verify.")


@dataclass
class Asking:
    """A gate that is shut by those of `blockers` that lie in the days that it is asked for, and those of now."""

    blockers: Sequence[Blocker] = ()
    business: str | None = None
    asked: list[tuple[str, Sequence[Input]]] = field(default_factory=list)

    def __call__(self, _: Database, business_id: str, inputs: Sequence[Input]) -> Gate:
        self.asked.append((business_id, inputs))
        found = [
            each
            for each in self.blockers
            if self.business in (None, business_id)
            and (each.day is None or any(given.days and each.day in given.days for given in inputs))
        ]
        return Gate(business_id, tuple(found))


@dataclass(frozen=True)
class Run:
    """A run of the assets and what is left of it."""

    result: dg.ExecuteInProcessResult
    instance: dg.DagsterInstance

    def shown(self, key: dg.AssetKey) -> dict[date, Mapping[str, Any]]:
        """Day → metadata of the materialization in this run."""
        logged = self.instance.all_logs(self.result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        found = [each.asset_materialization for each in logged]
        return {
            date.fromisoformat(str(each.partition)): {name: value.value for name, value in each.metadata.items()}
            for each in found
            if each is not None and each.asset_key == key
        }

    @property
    def days(self) -> tuple[int, int, int]:
        """How many days each asset was materialized for in this run."""
        return len(self.shown(INTENTS)), len(self.shown(OBJECTS)), len(self.shown(VERIFICATION))

    @property
    def failure(self) -> tuple[str, str]:
        """What the failed step says, and its table."""
        [event] = [event for event in self.result.all_events if event.event_type_value == "STEP_FAILURE"]
        told = event.step_failure_data.user_failure_data
        assert told is not None, event.step_failure_data.error_display_string
        return str(told.description), str(told.metadata["blockers"].value) if told.metadata else ""

    @property
    def checks(self) -> list[bool]:
        return [each.passed for each in self.result.get_asset_check_evaluations()]


@pytest.fixture
def database(staged: Database) -> Database:
    return staged


@pytest.fixture
def acmes() -> Iterator[Books]:
    with company() as served:
        yield served


@pytest.fixture
def home(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An installation's settings, with rules of its first business."""
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path))
    monkeypatch.setenv("FINANCE_OS_BUSINESS", "acme")
    monkeypatch.setenv("FINANCE_OS_ENCRYPTION_KEY", new_key())
    monkeypatch.setenv("FINANCE_OS_QBO_RULES", json.dumps({"acme": RULES}))
    settings_module.settings.cache_clear()
    yield monkeypatch
    settings_module.settings.cache_clear()


@pytest.fixture
def acme_is_staged(acmes: Books, home: pytest.MonkeyPatch) -> Books:
    """The first business, connected to its books."""
    for name, value in environment(acmes).items():
        home.setenv(name, value)
    return acmes


Materialize = Callable[..., Run]


@pytest.fixture
def materialize(home: pytest.MonkeyPatch) -> Materialize:
    """Materialize days of the assets as one run."""
    assert home
    instance = dg.DagsterInstance.ephemeral()

    def run(
        gate_of: GateOf | None,
        days: Days = WHOLE,
        *keys: dg.AssetKey,
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        defs = dg.Definitions(
            assets=[stripe_qbo_assets(gate_of)], jobs=[export_job()], resources={"evidence": Evidence()}
        )
        result = defs.resolve_job_def(JOB).execute_in_process(
            instance=instance,
            tags={**range_tags(days), **(tags or {})},
            asset_selection=list(keys) or None,
            run_config={"ops": {OP: {"config": dict(config)}}} if config else {},
            raise_on_error=False,
        )
        return Run(result, instance)

    return run


def kept(database: Database, business_id: str = "acme") -> Counter[str]:
    rows = database.fetch("SELECT state FROM finance_os.intents WHERE business_id = %s", (business_id,))
    return Counter(row["state"] for row in rows)


def dated_until(database: Database, state: str) -> date | None:
    [row] = database.fetch("SELECT max(dated) AS last FROM finance_os.intents WHERE state = %s", (state,))
    return row["last"]


def test_without_an_approval_everything_is_planned_and_nothing_else(
    acme_is_staged: Books, database: Database, materialize: Materialize
) -> None:
    writes = acme_is_staged.before.writes
    run = materialize(Asking())
    assert run.result.success
    assert run.days == (len(WHOLE), 0, 0)
    assert (acme_is_staged.before.writes, set(kept(database))) == (writes, {"planned"})
    shown = run.shown(INTENTS)
    assert {each["status"] for each in shown.values()} == {GATED}
    assert sum(each["dagster/row_count"] for each in shown.values()) == kept(database)["planned"]
    busy = max(shown, key=lambda day: shown[day]["dagster/row_count"])
    assert "new | create" in shown[busy]["diff"]
    for name in ("plan by day and entity", "findings", "opening"):
        assert name in shown[LAST]
    assert "| usd | 0 | 0 | 0 | 0 |" in shown[LAST]["opening"]
    assert run.checks == []
    observed = run.instance.all_logs(run.result.run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION)
    policies = [each.asset_observation.metadata["policy"].value for each in observed if each.asset_observation]
    assert policies == [GATED, GATED]
    plans = {row["plan_run"] for row in database.fetch("SELECT DISTINCT plan_run FROM finance_os.intents")}
    assert plans == {run.result.run_id}
    # It is approved: each of the others can be launched alone, and claims nothing for the rest.
    approve_policy(database, "acme", QBO_EXPORT.key, scope=acme_is_staged.realm)
    assert materialize(Asking(), WHOLE, OBJECTS).days == (0, len(WHOLE), 0)
    assert set(kept(database)) == {"applied"}
    alone = materialize(Asking(), WHOLE, VERIFICATION)
    assert (alone.days, alone.checks) == ((0, 0, len(WHOLE)), [True])


def test_from_the_evidence_to_verified_books(
    acme_is_staged: Books, database: Database, materialize: Materialize
) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=acme_is_staged.realm)
    asking = Asking()
    run = materialize(asking)
    assert run.result.success
    assert run.days == (len(WHOLE),) * 3
    assert set(kept(database)) == {"applied"}
    assert run.checks == [True]
    last = run.shown(VERIFICATION)[LAST]
    assert last["status"] == "acme: approved"
    assert "| usd | Stripe Clearing |" in last["clearing"]
    assert "| agrees |" in last["clearing"]
    assert last["payouts that equal their deposits"] > 1
    assert "Nothing was found to be wrong." in last["findings of the day"]
    [(business, inputs)] = asking.asked
    assert (business, {given.object_type for given in inputs}) == ("acme", set(OBJECT_TYPES))
    assert {given.days for given in inputs} == {WHOLE}
    # The same again: nothing is sent, and what was there is there.
    writes = acme_is_staged.before.writes
    again = materialize(asking)
    assert (again.result.success, again.days, acme_is_staged.before.writes) == (True, (len(WHOLE),) * 3, writes)
    assert again.shown(INTENTS)[START]["diff"] == "Nothing changed."


# --- the gate


def test_a_shut_gate_refuses_however_it_is_launched(
    acme_is_staged: Books, database: Database, materialize: Materialize
) -> None:
    """Each asset alone as from the launchpad, all of them, and as a backfill: nothing is kept, and nothing sent."""
    approve_policy(database, "acme", QBO_EXPORT.key, scope=acme_is_staged.realm)
    writes = acme_is_staged.before.writes
    present = Days(LAST, LAST)
    launched = [
        materialize(Asking([NOW]), present, INTENTS),
        materialize(Asking([NOW]), present, OBJECTS),
        materialize(Asking([NOW]), present, VERIFICATION),
        materialize(Asking([NOW]), WHOLE),
        materialize(Asking([NOW]), WHOLE, tags={"dagster/backfill": "b"}),
        materialize(Asking([COMPLETENESS]), present),
        materialize(None, WHOLE),
    ]
    for run in launched:
        assert not run.result.success
        assert run.days == (0, 0, 0)
        assert run.checks == []
    assert (kept(database), acme_is_staged.before.writes) == (Counter(), writes)
    text, table = launched[0].failure
    assert text == (
        f"1 refused (acme {LAST}). acme {LAST}: deploy_not_verified of scheduled_sync_readiness/deploy (evidence "
        "none): Run finance-os deploy verify."
    )
    assert "| now | – | Run finance-os deploy verify. |" in table
    # The real gate names each object type once, and how many more days of it there are.
    text, table = launched[-1].failure
    assert "trace\\_not\\_checked | stripe/stripe\\_charge | 2026-06-01" in table
    assert f"And {len(WHOLE) - 1} more up to {LAST}." in table
    assert "production\\_hardening" in table
    assert len(table.splitlines()) < 100


def test_a_bad_day_holds_back_itself_and_what_comes_after(
    acme_is_staged: Books, database: Database, materialize: Materialize
) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=acme_is_staged.realm)
    run = materialize(Asking([COMPLETENESS]))
    assert not run.result.success
    before = {START + timedelta(days=n) for n in range(9)}
    assert set(run.shown(INTENTS)) == set(run.shown(OBJECTS)) == set(run.shown(VERIFICATION)) == before
    text, _ = run.failure
    assert text == (
        f"1 refused (acme {BAD_DAY} to {LAST}). acme {BAD_DAY} to {LAST}: completeness_remote_count_differs of "
        f"stripe/stripe_charge on {BAD_DAY} (evidence abcdef012345): Materialize it again."
    )
    assert set(kept(database)) == {"applied"}
    last = dated_until(database, "applied")
    assert last is not None
    assert last < BAD_DAY
    # It is mended: the rest is planned and written, and what was written stays.
    written = kept(database)["applied"]
    again = materialize(Asking(), Days(BAD_DAY, LAST))
    assert again.result.success
    assert set(kept(database)) == {"applied"}
    assert kept(database)["applied"] > written


def test_a_window_does_not_ask_for_what_comes_after_it(
    acme_is_staged: Books, database: Database, materialize: Materialize
) -> None:
    """A day that is bad later on does not hold it back, and what is due later is neither kept nor written."""
    approve_policy(database, "acme", QBO_EXPORT.key, scope=acme_is_staged.realm)
    window = Days(START + timedelta(days=3), BAD_DAY - timedelta(days=1))
    asking = Asking([COMPLETENESS])
    run = materialize(asking, window, tags={"dagster/backfill": "b"})
    assert run.result.success
    assert run.days == (len(window),) * 3
    [(_, inputs)] = asking.asked
    assert {given.days for given in inputs} == {Days(START, window.last)}
    last = dated_until(database, "applied")
    assert last is not None
    assert last <= window.last
    later = dated_until(database, "planned")
    assert later is None or later < window.first  # of what came before, that which the window does not need
    days = {row["dated"] for row in database.fetch("SELECT dated FROM finance_os.intents WHERE state = 'applied'")}
    assert any(day in window for day in days)


def test_what_was_kept_for_later_stays_as_it_is(
    acme_is_staged: Books, database: Database, materialize: Materialize
) -> None:
    materialize(Asking())
    everything = _hashes(database)
    run = materialize(Asking(), Days(START, BAD_DAY))
    assert run.result.success
    assert _hashes(database) == everything
    assert {each["diff"] for each in run.shown(INTENTS).values()} == {"Nothing changed."}


def _hashes(database: Database) -> list[tuple[str, str, date, str]]:
    rows = database.fetch("SELECT key, input_hash, due, state FROM finance_os.intents ORDER BY due, place, intent_id")
    return [(row["key"], row["input_hash"], row["due"], row["state"]) for row in rows]


# --- what goes wrong


def test_what_is_refused_is_told_and_the_rest_is_written(
    acme_is_staged: Books, database: Database, materialize: Materialize
) -> None:
    """QuickBooks has closed its books since it was read: what is dated before is refused, and a rerun goes on."""
    approve_policy(database, "acme", QBO_EXPORT.key, scope=acme_is_staged.realm)
    acme_is_staged.change("close_books", date=str(START + timedelta(days=8)))
    run = materialize(Asking())
    assert not run.result.success
    text, _ = run.failure
    assert "intents_left of stripe_qbo" in text
    assert "`finance-os qbo status` says why" in text
    assert kept(database)["applied"] > 0
    assert kept(database)["failed"] > 0
    left = {row["dated"] for row in database.fetch("SELECT dated FROM finance_os.intents WHERE state <> 'applied'")}
    assert set(run.shown(OBJECTS)) == set(WHOLE) - left
    assert set(run.shown(INTENTS)) == set(WHOLE)
    assert "qbo_refused" in {each.code for each in open_exceptions(database, "acme")}
    # What is not written is known to the cent: of the rest, clearing is what it should be.
    clearing = run.shown(VERIFICATION)[LAST]["clearing"]
    assert re.search(r"\| agrees, with -?[0-9,.]+ of [0-9]+ writes that are not written yet \|", clearing)
    assert "clearing_differs" not in {each.code for each in open_exceptions(database, "acme")}
    # What people have to put right is an open finding: no run fails for it again, and its days are not there.
    again = materialize(Asking())
    assert again.result.success
    assert set(again.shown(OBJECTS)) == set(WHOLE) - left
    acme_is_staged.change("close_books", date=None)
    assert states.retry(database, "acme", acme_is_staged.realm) > 0
    assert materialize(Asking()).days == (len(WHOLE),) * 3
    assert set(kept(database)) == {"applied"}


def test_a_change_that_waits_for_an_answer_is_written_by_the_run_that_learns_it(
    acme_is_staged: Books, database: Database, materialize: Materialize
) -> None:
    """The answer to a create was lost, and what has changed since waits for it: one run brings both to their end."""
    approve_policy(database, "acme", QBO_EXPORT.key, scope=acme_is_staged.realm)
    acme_is_staged.before.losses = deque([None, *[Loss.BEFORE] * 3])
    assert not materialize(Asking(), config={"workers": 1}).result.success
    stripe_id, due = fall_due_later(database, acme_is_staged)
    planned = materialize(Asking(), WHOLE, INTENTS)
    assert "update_waits" in planned.shown(INTENTS)[LAST]["findings"]
    assert database.fetch("SELECT FROM finance_os.intents WHERE operation = 'update'") == []
    run = materialize(Asking(), config={"workers": 1})
    assert (run.result.success, run.checks, run.days) == (True, [True], (len(WHOLE),) * 3)
    assert set(kept(database)) == {"applied"}
    rows = database.fetch("SELECT stripe_id, dated, plan_run FROM finance_os.intents WHERE operation = 'update'")
    assert [(row["stripe_id"], row["plan_run"]) for row in rows] == [(stripe_id, run.result.run_id)]
    assert invoice_of(database, acme_is_staged, stripe_id)["DueDate"] == str(due)
    shown = run.shown(INTENTS)
    assert "update_waits" not in shown[LAST]["findings"]
    assert "new | update" in shown[rows[0]["dated"]]["diff"]
    [told] = {each["this run"] for each in run.shown(OBJECTS).values()}
    assert "applied" in told
    assert "waiting" not in told


def test_what_people_changed_fails_the_blocking_check(
    acme_is_staged: Books, database: Database, materialize: Materialize
) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=acme_is_staged.realm)
    assert materialize(Asking()).result.success
    [paid] = database.fetch("SELECT qbo_id, key FROM finance_os.links WHERE stripe_object = 'invoice_payment' LIMIT 1")
    acme_is_staged.change("delete", entity="Payment", body={"Id": paid["qbo_id"]})
    run = materialize(Asking(), WHOLE, VERIFICATION)
    assert run.checks == [False]
    assert run.days == (0, 0, len(WHOLE))
    findings = " ".join(each["findings of the day"] for each in run.shown(VERIFICATION).values())
    assert f"qbo_object_missing | {paid['key']}" in findings
    assert "clearing_differs | clearing:usd" in findings
    assert {"clearing_differs", "qbo_object_missing"} <= {each.code for each in open_exceptions(database, "acme")}


# --- several businesses


@pytest.fixture
def both_are_staged(acme_is_staged: Books, home: pytest.MonkeyPatch) -> Iterator[tuple[Books, Books]]:
    """A second business whose external IDs are all the same, with books of its own."""
    with company() as globexes:
        assert globexes.realm == acme_is_staged.realm
        for name, value in environment(globexes, "GLOBEX_").items():
            home.setenv(name, value)
        home.setenv("FINANCE_OS_QBO_RULES", json.dumps({"acme": RULES, "globex": RULES}))
        settings_module.settings.cache_clear()
        yield acme_is_staged, globexes


def test_two_businesses_with_the_same_ids_never_meet(
    both_are_staged: tuple[Books, Books], database: Database, materialize: Materialize
) -> None:
    acmes, globexes = both_are_staged
    for business_id in ("acme", "globex"):
        approve_policy(database, business_id, QBO_EXPORT.key, scope=acmes.realm)
    run = materialize(Asking())
    assert run.result.success
    assert run.days == (len(WHOLE),) * 3
    assert kept(database, "acme") == kept(database, "globex")
    assert acmes.before.writes == globexes.before.writes > 0
    shown = run.shown(OBJECTS)[LAST]
    assert shown["status"] == "acme: approved, globex: approved"
    assert {"acme: requests", "globex: requests"} <= set(shown)


def test_a_business_that_fails_holds_back_no_other(
    both_are_staged: tuple[Books, Books], database: Database, materialize: Materialize, home: pytest.MonkeyPatch
) -> None:
    acmes, globexes = both_are_staged
    for business_id in ("acme", "globex"):
        approve_policy(database, business_id, QBO_EXPORT.key, scope=acmes.realm)
    run = materialize(Asking([NOW], "acme"))
    assert run.failure[0].startswith(f"1 refused (acme {WHOLE}). ")
    assert (kept(database), set(kept(database, "globex"))) == (Counter(), {"applied"})
    assert (acmes.before.writes, run.days) == (0, (0, 0, 0))  # a day is there when it is there of everyone
    written = globexes.before.writes
    # Rules that cannot be read, and then no credentials to write with.
    home.setenv("FINANCE_OS_QBO_RULES", json.dumps({"acme": {**RULES, "time_zone": "Mars"}, "globex": RULES}))
    settings_module.settings.cache_clear()
    text, _ = materialize(Asking()).failure
    assert "qbo_rules_unreadable of stripe_qbo" in text
    assert "mend FINANCE_OS_QBO_RULES" in text
    home.setenv("FINANCE_OS_QBO_RULES", json.dumps({"acme": RULES, "globex": RULES}))
    settings_module.settings.cache_clear()
    home.delenv("FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_SECRET")
    text, _ = materialize(Asking()).failure
    assert "credentials_missing of stripe_qbo" in text
    assert globexes.before.writes == written


def test_an_approval_of_one_business_allows_nothing_for_the_other(
    both_are_staged: tuple[Books, Books], database: Database, materialize: Materialize
) -> None:
    acmes, globexes = both_are_staged
    approve_policy(database, "globex", QBO_EXPORT.key, scope=acmes.realm)
    run = materialize(Asking())
    assert run.result.success
    assert run.days == (len(WHOLE),) * 3
    assert (set(kept(database)), acmes.before.writes) == ({"planned"}, 0)
    assert set(kept(database, "globex")) == {"applied"}
    assert run.shown(OBJECTS)[LAST]["status"] == f"acme: {GATED}, globex: approved"
    assert not any(name.startswith("acme: ") for name in run.shown(OBJECTS)[LAST])
    assert globexes.before.writes > 0


def test_a_business_without_rules_is_left_out(
    both_are_staged: tuple[Books, Books], database: Database, materialize: Materialize, home: pytest.MonkeyPatch
) -> None:
    home.setenv("FINANCE_OS_QBO_RULES", json.dumps({"globex": RULES}))
    settings_module.settings.cache_clear()
    run = materialize(Asking())
    assert run.result.success
    assert (kept(database), set(kept(database, "globex"))) == (Counter(), {"planned"})
    assert "no rules" in materialize(Asking(), config={"businesses": ["acme"]}).failure[0]
    home.delenv("FINANCE_OS_QBO_RULES")
    settings_module.settings.cache_clear()
    nothing = materialize(Asking())
    assert (nothing.result.success, nothing.days) == (True, (0, 0, 0))


def test_they_are_daily_and_a_backfill_is_one_run() -> None:
    """In the code location, with everything that the UI shows of an asset."""
    defs = build_defs()
    graph = defs.resolve_asset_graph()
    for key, table in ((INTENTS, "intents"), (OBJECTS, "links"), (VERIFICATION, "finance_exceptions")):
        node = graph.get(key)
        assert (node.group_name, node.owners) == ("stripe_qbo", ["team:finance-data"])
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
        assert node.partitions_def == DAILY
        assert "quickbooks" in node.kinds
        assert node.metadata["dagster/table_name"] == f"finance_os.{table}"
        columns = node.metadata["dagster/column_schema"]
        assert all(column.description for column in getattr(columns, "schema", columns).columns)
        assert node.description
    assert {dg.AssetKey(["stripe", each]) for each in OBJECT_TYPES} < graph.get(INTENTS).parent_keys
    assert dg.AssetKey(["readiness", "production_hardening"]) in graph.get(INTENTS).parent_keys
    assert (graph.get(OBJECTS).parent_keys, graph.get(VERIFICATION).parent_keys) == ({INTENTS}, {OBJECTS})
    [check] = stripe_qbo_assets().check_specs
    assert (check.key, check.blocking) == (AGREES, True)
    repository = defs.get_repository_def()
    assert set(repository.get_job(JOB).asset_layer.executable_asset_keys) == {INTENTS, OBJECTS, VERIFICATION}
    assert repository.get_sensor_def("stripe_qbo_export_wanted").default_status is dg.DefaultSensorStatus.RUNNING
