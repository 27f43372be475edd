"""Runs of source assets: what they stage, what they show, what they judge, and what is left of them when they fail."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString

import dagster as dg
import pytest

from finance_os import settings as settings_module
from finance_os.defs.assets import sources as source_assets_module
from finance_os.defs.location import build_defs
from finance_os.evidence import anchors
from finance_os.evidence.audit import verify
from finance_os.evidence.businesses import ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os_tests.defs.conftest import Installation, days_ago, today_of
from finance_os_tests.readiness.recorded import latest_verdicts

BUSINESSES = ("acme", "globex")
BY_DAY = ("trace", "idempotency", "completeness")


def sync_runs(database: Database, business_id: str) -> list[dict[str, Any]]:
    """The sync runs of a business, oldest first."""
    return database.fetch(
        "SELECT * FROM finance_os.source_sync_runs WHERE business_id = %s ORDER BY sync_run_id", (business_id,)
    )


def count(database: Database, query: LiteralString, *parameters: Any) -> int:
    """The one number that a query gives."""
    [row] = database.fetch(query, parameters)
    return next(iter(row.values()))


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Partition → metadata of its materialization."""
    return {
        str(event.partition): {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
    }


def statuses(database: Database, object_type: str, check: str, days: Days, system: str = "stripe") -> dict[Any, str]:
    """Business and day → status of the last recorded verdict."""
    rows = latest_verdicts(database, system, object_type, check, days)
    return {(row["business_id"], row["partition_day"]): row["status"] for row in rows}


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step says."""
    [event] = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    error = event.step_failure_data.error
    assert error is not None
    return f"{event.step_failure_data.user_failure_data} {error.to_string()}"


def event_types(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.event_type_value for event in result.all_events}


def test_one_day_of_two_businesses(installation: Installation) -> None:
    database = installation.database
    days = days_ago(10)
    result = installation.run("stripe", ["stripe_event"], days)
    assert result.success
    [(day, shown)] = metadata_of(result).items()
    assert day == str(days.first)
    staged = {
        business: count(
            database,
            "SELECT coalesce(sum(cardinality(record_ids)), 0) FROM finance_os.source_sync_sightings"
            " WHERE business_id = %s",
            business,
        )
        for business in ("acme", "globex")
    }
    assert all(staged.values())
    assert shown["dagster/row_count"] == sum(staged.values()) == shown["new"]
    assert (shown["changed"], shown["unchanged"], shown["removed"], shown["state"]) == (0, 0, 0, "whole")
    runs = [*sync_runs(database, "acme"), *sync_runs(database, "globex")]
    assert shown["sync runs"] == ", ".join(str(run["sync_run_id"]) for run in runs)
    assert shown["batch hash"] == ", ".join(run["batch_hash"].hex()[:12] for run in runs)
    assert shown["examples"].count("\n") == 6  # a header, a rule, five records
    assert "evt_" in shown["examples"]
    assert {run["dagster_run_id"] for run in runs} == {result.run_id}
    for check in BY_DAY:
        assert statuses(database, "stripe_event", check, days) == {
            ("acme", days.first): "ready",
            ("globex", days.first): "ready",
        }
    again = metadata_of(installation.run("stripe", ["stripe_event"], days))[day]
    assert (again["new"], again["unchanged"]) == (0, sum(staged.values()))
    assert again["batch hash"] == shown["batch hash"]


def test_the_same_external_ids_of_two_businesses_never_meet(installation: Installation) -> None:
    database = installation.database
    assert installation.run("stripe", ["stripe_customer"], days_ago(46, 0)).success
    shared = count(
        database,
        """
        SELECT count(*) FROM finance_os.raw_record_heads AS one
        JOIN finance_os.raw_record_heads AS other USING (source_system, object_type, source_id)
        WHERE one.business_id = 'acme' AND other.business_id = 'globex' AND one.payload_hash <> other.payload_hash
        """,
    )
    assert shared > 0
    changes = {
        row["business_id"]: row["changes"]
        for row in database.fetch(
            "SELECT business_id, count(DISTINCT change) AS changes FROM finance_os.raw_record_changes GROUP BY 1"
        )
    }
    assert changes == {"acme": 1, "globex": 1}  # only ever added: nobody overwrote the other's


def test_metadata_shows_no_personal_data(installation: Installation) -> None:
    database = installation.database
    days = days_ago(46, 0)
    results = [
        installation.run("stripe", ["stripe_customer", "stripe_invoice"], days),
        installation.run("gravity", ["gravity_canonical_entities", "gravity_campaign_advertiser"], days),
    ]
    private = {
        str(row["text"])
        for row in database.fetch(
            """
            SELECT DISTINCT value #>> '{}' AS text
            FROM finance_os.raw_source_records, jsonb_each(payload)
            WHERE key IN ('name', 'legal_name', 'contact_email', 'email', 'customer_email', 'customer_name',
                          'advertiser_name', 'phone') AND value <> 'null'
            """
        )
    }
    assert len(private) > 20
    shown = "\n".join(str(event) for result in results for event in result.all_events)
    assert "examples" in shown
    assert not {text for text in private if text in shown}


def test_a_range_has_metadata_and_verdicts_of_each_day(installation: Installation) -> None:
    database = installation.database
    days = days_ago(9, 6)
    result = installation.run("stripe", ["stripe_charge", "stripe_payment_intent"], days)
    assert result.success
    for name in ("stripe_charge", "stripe_payment_intent"):
        shown = {
            str(event.partition): event.materialization.metadata
            for event in result.get_asset_materialization_events()
            if event.asset_key == dg.AssetKey(["stripe", name])
        }
        assert set(shown) == {str(day) for day in days}
        for day, metadata in shown.items():
            recorded = count(
                database,
                "SELECT sum(rows_extracted)::int FROM finance_os.source_sync_partitions"
                " WHERE object_type = %s AND partition_day = %s",
                name,
                day,
            )
            assert metadata["dagster/row_count"].value == recorded
        for check in BY_DAY:
            assert set(statuses(database, name, check, days).values()) == {"ready"}
            assert len(statuses(database, name, check, days)) == 2 * len(days)
    # One sync run a connection and object, however many days.
    assert count(database, "SELECT count(*) FROM finance_os.source_sync_runs") == 4


def test_one_bad_day_in_a_range_is_the_only_blocked_one_and_fails_the_run(
    installation: Installation, owner: Database
) -> None:
    database = installation.database
    days = days_ago(9, 6)
    assert installation.run("stripe", ["stripe_event"], days).success
    bad = days.first + timedelta(days=2)
    with owner.transaction() as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            """
            UPDATE finance_os.raw_source_records SET payload = payload || '{"livemode": "forged"}'
            WHERE record_id = (SELECT record_ids[1] FROM finance_os.source_sync_sightings
                               WHERE business_id = 'globex' AND partition_day = %s LIMIT 1)
            """,
            (bad,),
        )
    result = installation.run("stripe", ["stripe_event"], days)
    assert not result.success
    for check in BY_DAY:
        found = statuses(database, "stripe_event", check, days)
        assert {place for place, status in found.items() if status != "ready"} == (
            {("globex", bad)} if check == "idempotency" else set()
        )
    shown = {event.check_name: event for event in result.get_asset_check_evaluations()}
    assert {name for name, evaluation in shown.items() if not evaluation.passed} == {"idempotency", "freshness"}
    assert shown["idempotency"].severity is dg.AssetCheckSeverity.ERROR
    assert shown["freshness"].severity is dg.AssetCheckSeverity.WARN
    assert f"| globex | {bad} | blocked |" in str(shown["idempotency"].metadata["not ready"].value)
    assert shown["idempotency"].metadata["blocker"].value == "idempotency_replay_would_add_rows"
    [recorded] = [
        row
        for row in latest_verdicts(database, "stripe", "stripe_event", "idempotency", Days(bad, bad))
        if row["business_id"] == "globex"
    ]
    assert shown["idempotency"].metadata["evidence hash"].value == recorded["evidence_hash"]
    assert recorded["dagster_run_id"] == result.run_id


def test_checks_that_are_run_by_themselves_judge_yesterday_and_today(installation: Installation) -> None:
    database = installation.database
    alone = dg.define_asset_job(
        "alone", selection=dg.AssetSelection.checks_for_assets(dg.AssetKey(["stripe", "stripe_event"]))
    )
    defs = dg.Definitions.merge(installation.defs, dg.Definitions(jobs=[alone]))
    result = defs.resolve_job_def("alone").execute_in_process(instance=installation.instance, raise_on_error=False)
    assert result.success
    today = datetime.now(UTC).date()
    days = Days(today - timedelta(days=1), today)
    for check in BY_DAY:
        assert statuses(database, "stripe_event", check, days_around(days)) == {
            (business, day): "pending" for business in BUSINESSES for day in days
        }
    assert {evaluation.check_name for evaluation in result.get_asset_check_evaluations()} == {*BY_DAY, "freshness"}


def days_around(days: Days) -> Days:
    return Days(days.first - timedelta(days=2), days.last + timedelta(days=2))


@pytest.fixture
def page_by_page(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page is committed by itself."""
    monkeypatch.setenv("FINANCE_OS_CHUNK_ROWS", "1")
    settings_module.settings.cache_clear()


@pytest.mark.usefixtures("page_by_page")
def test_a_range_goes_on_from_its_checkpoint_after_a_failure_in_the_middle(installation: Installation) -> None:
    database, days = installation.database, days_ago(28, 1)
    installation.sandbox.call("DELETE", "/requests")
    installation.sandbox.script({"path": "/v1/events", "kind": "403", "on": 3})  # the third page of acme, who is first
    result = installation.run("stripe", ["stripe_event"], days)
    installation.sandbox.clear_faults()
    assert not result.success
    [broken] = sync_runs(database, "acme")
    assert (broken["status"], broken["error_code"], broken["rows_extracted"]) == ("failed", "forbidden", 200)
    assert broken["checkpoint"] is not None
    [other] = sync_runs(database, "globex")
    assert other["status"] == "succeeded"
    assert statuses(database, "stripe_event", "completeness", days) == {
        **{("acme", day): "pending" for day in days},
        **{("globex", day): "ready" for day in days},
    }

    asked = installation.sandbox.call("DELETE", "/requests")
    assert installation.run("stripe", ["stripe_event"], days).success
    [resumed] = sync_runs(database, "acme")
    assert (resumed["sync_run_id"], resumed["attempts"]) == (broken["sync_run_id"], 2)
    assert resumed["rows_extracted"] == resumed["rows_new"] > 200
    again = {each["path"]: each["count"] for each in installation.sandbox.call("GET", "/requests")["requests"]}
    before = {each["path"]: each["count"] for each in asked["requests"]}
    assert again["/v1/events"] == before["/v1/events"] - 2  # without the two pages that were committed

    # An undisturbed read of the same days sees the same and adds nothing.
    assert installation.run("stripe", ["stripe_event"], days).success
    undisturbed = sync_runs(database, "acme")[-1]
    assert undisturbed["sync_run_id"] != resumed["sync_run_id"]
    assert (undisturbed["rows_new"], undisturbed["rows_changed"], undisturbed["rows_removed"]) == (0, 0, 0)
    assert undisturbed["rows_unchanged"] == resumed["rows_extracted"]
    assert undisturbed["batch_hash"] == resumed["batch_hash"]
    assert set(statuses(database, "stripe_event", "idempotency", days).values()) == {"ready"}


def test_one_connections_failure_leaves_the_others_evidence_and_fails_the_step_with_the_list(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, days = installation.database, days_ago(5, 4)
    monkeypatch.setenv("FINANCE_OS_STRIPE_API_KEY", "rk_test_revokedCanary")  # acme's, who is read first
    monkeypatch.setattr(source_assets_module, "RETRIES", dg.RetryPolicy(max_retries=2))
    installation.defs = build_defs()
    result = installation.run("stripe", ["stripe_event"], days)
    assert not result.success
    said = failure_of(result)
    assert "1 of 2 reads failed" in said
    assert "acme/stripe/default" in said
    assert "unauthorized" in said
    assert "globex/stripe" not in said
    assert "Canary" not in "\n".join(str(event) for event in result.all_events)
    assert "STEP_UP_FOR_RETRY" not in event_types(result), "a wrong key is not tried again"
    assert [run["status"] for run in sync_runs(database, "acme")] == ["failed"]
    assert [run["status"] for run in sync_runs(database, "globex")] == ["succeeded"]
    assert count(database, "SELECT count(*) FROM finance_os.raw_record_heads WHERE business_id = 'globex'") > 0
    # The step of the checks never runs; what was staged is judged all the same.
    for check in BY_DAY:
        assert statuses(database, "stripe_event", check, days) == {
            **{("acme", day): "pending" for day in days},
            **{("globex", day): "ready" for day in days},
        }
    assert all(verify(database, business).sound for business in ("acme", "globex"))


def test_a_failure_that_may_pass_is_tried_again(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_assets_module, "RETRIES", dg.RetryPolicy(max_retries=1))
    installation.defs = build_defs()
    # Both attempts of the client that the test allows.
    installation.sandbox.script({"path": "/v1/payouts", "kind": "500", "on": 1, "times": 2})
    result = installation.run("stripe", ["stripe_payout"], days_ago(8, 5))
    assert result.success
    assert "STEP_UP_FOR_RETRY" in event_types(result)
    assert [run["status"] for run in sync_runs(installation.database, "acme")] == ["failed", "succeeded"]


def test_missing_credentials_are_skipped_and_the_others_go_on(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, days = installation.database, days_ago(3)
    monkeypatch.delenv("FINANCE_OS_STRIPE_API_KEY")
    result = installation.run("stripe", ["stripe_event"], days)
    assert result.success
    assert "set FINANCE_OS_STRIPE_API_KEY" in sync_runs(database, "acme")[0]["error_message"]
    [skipped] = sync_runs(database, "acme")
    assert (skipped["status"], skipped["error_code"]) == ("skipped", "credentials_missing")
    assert [run["status"] for run in sync_runs(database, "globex")] == ["succeeded"]
    assert statuses(database, "stripe_event", "trace", days) == {
        ("acme", days.first): "pending",
        ("globex", days.first): "ready",
    }


def test_a_connector_without_any_credentials_is_skipped_and_nothing_is_materialized(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINANCE_OS_STRIPE_API_KEY")
    monkeypatch.delenv("GLOBEX_FINANCE_OS_STRIPE_API_KEY")
    result = installation.run("stripe", ["stripe_event"], days_ago(3))
    assert result.success
    assert not result.get_asset_materialization_events()
    assert "STEP_SKIPPED" in event_types(result)
    for business in BUSINESSES:
        [skipped] = sync_runs(installation.database, business)
        assert (skipped["status"], skipped["error_code"]) == ("skipped", "credentials_missing")


def test_an_unreachable_database_is_named_without_its_password(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = installation.database
    monkeypatch.setenv("FINANCE_OS_GRAVITY_URL", "postgresql://reader:canaryPassword@127.0.0.1:1/gravity")
    result = installation.run("gravity", ["gravity_canonical_entities"], days_ago(3))
    assert not result.success
    [failed] = sync_runs(database, "acme")
    assert (failed["status"], failed["error_code"]) == ("failed", "unreachable")
    assert "127.0.0.1" in failure_of(result)
    told = [str(event) for event in result.all_events]
    told += [str(row) for row in database.fetch("SELECT * FROM finance_os.source_sync_runs")]
    told += [str(row) for row in database.fetch("SELECT * FROM finance_os.finance_audit_events")]
    assert "canaryPassword" not in "\n".join(told)


def test_a_run_can_be_narrowed_to_connections(installation: Installation) -> None:
    database = installation.database
    only = installation.connections["globex", "stripe"].connection_id
    assert installation.run("stripe", ["stripe_payout"], days_ago(3), config={"connections": [only]}).success
    assert {row["business_id"] for row in database.fetch("SELECT business_id FROM finance_os.source_sync_runs")} == {
        "globex"
    }
    result = installation.run("stripe", ["stripe_payout"], days_ago(3), config={"connections": [only + 10_000]})
    assert not result.success
    assert "No active connection to Stripe" in failure_of(result)


def test_an_inactive_connection_is_not_read(installation: Installation) -> None:
    database = installation.database
    ensure_connection(database, "acme", "stripe", active=False)
    assert installation.run("stripe", ["stripe_payout"], days_ago(3)).success
    assert sync_runs(database, "acme") == []


def test_audit_chains_are_anchored_outside_their_table(installation: Installation) -> None:
    result = installation.run("stripe", ["stripe_payout"], days_ago(3))
    [event] = result.get_asset_materialization_events()
    shown = event.materialization.metadata["audit chain"].value
    assert isinstance(shown, dict)
    for business in ("acme", "globex"):
        kept = anchors.read(settings_module.settings().anchors_location, business)
        verification = verify(installation.database, business, kept.anchors)
        assert verification.sound
        assert shown[business] == {"events": verification.events, "head": verification.head}


# --- sources that only know the present


def move_to(owner: Database, object_type: str, day: date) -> None:
    """Pretend that what was just staged was staged on `day`."""
    with owner.transaction() as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        for table in ("source_sync_partitions", "source_sync_sightings"):
            connection.execute(
                f"UPDATE finance_os.{table} SET partition_day = %s WHERE object_type = %s",  # pyright: ignore
                (day, object_type),
            )
        connection.execute(
            "UPDATE finance_os.source_sync_runs SET first_day = %s, last_day = %s WHERE object_type = %s",
            (day, day, object_type),
        )


@pytest.mark.parametrize(
    ("system", "object_type"), [("stripe", "stripe_balance"), ("gravity", "gravity_canonical_entities")]
)
def test_a_snapshot_that_was_taken_is_kept_when_its_day_is_read_again(
    system: str, object_type: str, installation: Installation, owner: Database
) -> None:
    database = installation.database
    days = Days(today_of("acme"), today_of("globex"))
    first = installation.run(system, [object_type], days)
    assert first.success
    taken = [
        run for business in ("acme", "globex") for run in sync_runs(database, business) if run["kind"] == "snapshot"
    ]
    assert len(taken) == 2
    assert all(run["rows_extracted"] > 0 for run in taken)
    past = days_ago(6).first
    move_to(owner, object_type, past)
    rows = sum(run["rows_extracted"] for run in taken)
    again = installation.run(system, [object_type], Days(past - timedelta(days=1), past + timedelta(days=1)))
    assert again.success
    shown = metadata_of(again)
    assert shown[str(past)]["dagster/row_count"] == rows
    assert "left as it was" in shown[str(past)]["state"]
    held = statuses(database, object_type, "completeness", Days(past, past), system)
    assert held == {(business, past): "ready" for business in BUSINESSES}
    later = Days(past + timedelta(days=1), past + timedelta(days=1))
    expected = "pending" if system == "stripe" else "ready"  # Gravity's rows bear the time they were changed
    assert set(statuses(database, object_type, "completeness", later, system).values()) == {expected}
