"""The daily schedule: which days it asks for, of which sources, and what it writes down before it does."""

from datetime import UTC, date, datetime

import dagster as dg
import pytest

from finance_os import settings as settings_module
from finance_os.defs.location import build_defs
from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.windows import Days
from finance_os.readiness.scheduled_sync import Outcome, latest_scheduled_sync
from finance_os.sources.registry import SOURCES
from finance_os.sources.source import Cadence
from finance_os_tests.defs.conftest import Installation, days_ago, schedule_tick

DAILY = tuple(source.system for source in SOURCES if source.cadence is Cadence.DAILY)
DUE = datetime(2026, 11, 20, 1, 15, tzinfo=UTC)


def tick(installation: Installation, due: datetime = DUE) -> list[dg.RunRequest]:
    """What one evaluation asks for."""
    return schedule_tick(installation.defs, installation.instance, due)


def by_system(installation: Installation, due: datetime = DUE) -> dict[str, dg.RunRequest]:
    """What one evaluation asks for, by source system."""
    return {request.tags["finance_os/source_system"]: request for request in tick(installation, due)}


def days_of(request: dg.RunRequest) -> tuple[str, str]:
    """First and last partition of a request."""
    return (
        request.tags["dagster/asset_partition_range_start"],
        request.tags["dagster/asset_partition_range_end"],
    )


def test_one_run_a_daily_source_and_a_row_a_business(installation: Installation) -> None:
    requests = tick(installation)
    assert [request.run_key for request in requests] == [f"daily-2026-11-20/{system}" for system in DAILY]
    for request, system in zip(requests, DAILY, strict=True):
        assert request.tags["finance_os/scheduled_sync"] == "daily-2026-11-20"
        assert request.tags["finance_os/source_system"] == system
        assert request.tags["finance_os/bulk"] == system
        declared = {
            key for key in installation.defs.resolve_asset_graph().get_all_asset_keys() if key.path[0] == system
        }
        assert set(request.asset_selection or ()) == declared
    rows = installation.database.fetch("SELECT * FROM finance_os.scheduled_syncs ORDER BY business_id")
    assert [
        (row["business_id"], row["scheduled_sync_id"], row["requested_for"], row["expected_connectors"]) for row in rows
    ] == [(name, "daily-2026-11-20", date(2026, 11, 20), list(DAILY)) for name in ("acme", "globex")]


def test_a_second_evaluation_changes_nothing(installation: Installation) -> None:
    first = tick(installation)
    before = installation.database.fetch("SELECT * FROM finance_os.scheduled_syncs ORDER BY 1, 2")
    assert tick(installation) == first  # the run keys are the same, so Dagster launches nothing
    assert installation.database.fetch("SELECT * FROM finance_os.scheduled_syncs ORDER BY 1, 2") == before


def test_each_days_yesterday_is_read_once_it_is_over_wherever_the_business_is(installation: Installation) -> None:
    # At 01:15 UTC it is still the 19th in New York: the last day that is over there is the 18th.
    asked = by_system(installation)
    assert days_of(asked["stripe"]) == days_of(asked["gravity"]) == ("2026-11-18", "2026-11-20")
    for business in ("acme", "globex"):
        ensure_connection(installation.database, business, "gravity", active=business == "globex")
    asked = by_system(installation)
    assert days_of(asked["stripe"]) == ("2026-11-18", "2026-11-20")
    assert days_of(asked["gravity"]) == ("2026-11-19", "2026-11-20")
    ensure_business(installation.database, "far", "Far", "Pacific/Kiritimati")
    ensure_connection(installation.database, "far", "gravity")
    asked = by_system(installation, datetime(2026, 11, 20, 12, tzinfo=UTC))  # there it is the 21st: no partition yet
    assert days_of(asked["gravity"]) == ("2026-11-19", "2026-11-20")


def test_a_source_that_still_changes_its_past_is_read_further_back(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert days_of(by_system(installation)["redshift"]) == ("2026-11-13", "2026-11-20")
    monkeypatch.setenv("FINANCE_OS_TRAILING_DAYS", '{"redshift": 14}')
    settings_module.settings.cache_clear()
    assert days_of(by_system(installation)["redshift"]) == ("2026-11-06", "2026-11-20")
    settings_module.settings.cache_clear()


def test_a_source_that_a_setting_takes_out_is_not_read(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINANCE_OS_EXCLUDED_CONNECTORS", "gravity, redshift")
    settings_module.settings.cache_clear()
    defs = build_defs()
    requests = schedule_tick(defs, installation.instance, DUE)
    settings_module.settings.cache_clear()
    asked = [request.tags["finance_os/source_system"] for request in requests]
    assert asked == [system for system in DAILY if system not in ("gravity", "redshift")]
    [row] = installation.database.fetch(
        "SELECT expected_connectors FROM finance_os.scheduled_syncs WHERE business_id = 'acme'"
    )
    assert row["expected_connectors"] == asked


def test_the_outcome_of_a_scheduled_sync_is_seen_where_a_run_never_started(installation: Installation) -> None:
    requests = {request.tags["finance_os/source_system"]: request for request in tick(installation, datetime.now(UTC))}
    stripe = requests["stripe"]
    first, last = map(date.fromisoformat, days_of(stripe))
    result = installation.run("stripe", ["stripe_payout"], Days(first, last), tags=stripe.tags)
    assert result.success
    scheduled = stripe.tags["finance_os/scheduled_sync"]
    found = latest_scheduled_sync(installation.database, SOURCES, "acme")
    assert found.scheduled_sync_id == scheduled
    became = {each.source_system: each.outcome for each in found.connectors}
    assert became.pop("stripe") is Outcome.MISSING  # one of its object types was read, and the others were not begun
    assert set(became.values()) == {Outcome.MISSING}
    runs = installation.database.fetch(
        "SELECT trigger, scheduled_sync_id, dagster_run_id FROM finance_os.source_sync_runs"
    )
    assert {(row["trigger"], row["scheduled_sync_id"], row["dagster_run_id"]) for row in runs} == {
        ("schedule", scheduled, result.run_id)
    }
    # Every business's yesterday was over, and is read whole.
    for business in ("acme", "globex"):
        rows = installation.database.fetch(
            "SELECT state FROM finance_os.source_sync_partitions WHERE business_id = %s AND partition_day = %s",
            (business, days_ago(1, business=business).first),
        )
        assert {row["state"] for row in rows} == {"whole"}


@pytest.mark.parametrize(
    ("tags", "trigger"),
    [({}, "manual"), ({"dagster/backfill": "abc"}, "backfill"), ({"finance_os/trigger": "probe"}, "probe")],
)
def test_what_asked_for_a_run_is_recorded(installation: Installation, tags: dict[str, str], trigger: str) -> None:
    installation.run("stripe", ["stripe_dispute"], days_ago(4), tags=tags)
    runs = installation.database.fetch("SELECT DISTINCT trigger FROM finance_os.source_sync_runs")
    assert [row["trigger"] for row in runs] == [trigger]
