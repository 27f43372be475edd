"""The drop sensor: which files it takes, which runs it asks for, and that nothing is lost or doubled in between."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from finance_os import settings as settings_module
from finance_os.defs import sensors
from finance_os.evidence.businesses import Connection
from finance_os.evidence.extraction import SourceError
from finance_os.evidence.windows import Days
from finance_os.sources import drops
from finance_os.sources.credentials import CredentialsMissing
from finance_os_tests.defs.conftest import Installation, today_of
from finance_os_tests.readiness.recorded import latest_verdicts

HEADER = "Transaction ID,Date,Posted Date,Description,Amount,Currency,Status,Reference"
DAY = date(2026, 8, 3)


def bank_file(*amounts: str, day: date = DAY, first_id: int = 1) -> str:
    """A bank export, a line a day from `day` on."""
    lines = [
        f"txn_{number},{day + timedelta(days=position)},{day + timedelta(days=position)},Hosting,{amount},USD,Posted,"
        for position, (number, amount) in enumerate(zip(range(first_id, first_id + len(amounts)), amounts, strict=True))
    ]
    return "\n".join([HEADER, *lines]) + "\n"


@dataclass
class Bank:
    """The sensor of an installation, with the cursor that Dagster would keep for it."""

    installation: Installation
    cursor: str | None = None

    def drop(self, text: str, name: str = "august.csv", business: str = "acme") -> Path:
        inbox = self.installation.drops / business / "rho"
        inbox.mkdir(parents=True, exist_ok=True)
        path = inbox / name
        path.write_text(text)
        return path

    def tick(self, *, keep_cursor: bool = True) -> tuple[list[dg.RunRequest], str]:
        """What one evaluation asks for, and why not more. The cursor is lost where the daemon dies after it."""
        defs = self.installation.defs
        sensor = defs.get_repository_def().get_sensor_def("rho_drops")
        with dg.build_sensor_context(
            self.installation.instance,
            cursor=self.cursor,
            resources={"evidence": (defs.resources or {})["evidence"]},
            repository_def=defs.get_repository_def(),
        ) as context:
            found = sensor.evaluate_tick(context)
        if keep_cursor:
            self.cursor = found.cursor
        return list(found.run_requests or ()), found.skip_message or ""

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """What the daemon makes of a request."""
        return self.installation.defs.resolve_job_def("rho_sync").execute_in_process(
            instance=self.installation.instance,
            run_config=request.run_config,
            tags=dict(request.tags),
            raise_on_error=False,
        )

    def staged(self) -> dict[str, list[str]]:
        """Business → IDs of its current bank transactions."""
        found: dict[str, list[str]] = {}
        for row in self.installation.database.fetch(
            "SELECT business_id, payload ->> 'transaction_id' AS id FROM finance_os.raw_record_heads"
            " JOIN finance_os.raw_source_records USING (record_id, business_id)"
            " WHERE raw_record_heads.source_system = 'rho' AND NOT removed ORDER BY 1, 2"
        ):
            found.setdefault(row["business_id"], []).append(row["id"])
        return found

    def statuses(self, check: str, days: Days) -> dict[tuple[str, date], tuple[str, str | None]]:
        rows = latest_verdicts(self.installation.database, "rho", "rho_cash_transaction", check, days)
        return {(row["business_id"], row["partition_day"]): (row["status"], row["blocker"]) for row in rows}


@pytest.fixture
def bank(installation: Installation) -> Bank:
    return Bank(installation)


def settle_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setenv("FINANCE_OS_DROP_SETTLE_SECONDS", str(seconds))
    settings_module.settings.cache_clear()


def keys(requests: Sequence[dg.RunRequest]) -> list[str | None]:
    return [request.run_key for request in requests]


def test_nothing_to_do_makes_the_inboxes_and_says_so(bank: Bank) -> None:
    requests, said = bank.tick()
    assert requests == []
    assert "Nothing waits" in said
    assert all((bank.installation.drops / business / "rho").is_dir() for business in ("acme", "globex"))


def test_an_accepted_file_asks_for_one_run_that_stages_it(bank: Bank) -> None:
    path = bank.drop(bank_file("-12.50", "100.00", "7.25"))
    [request], _ = bank.tick()
    assert not path.exists()
    assert request.run_key is not None
    assert request.run_key.startswith("acme/rho/")
    assert request.tags["finance_os/trigger"] == "drop"
    assert request.tags["dagster/asset_partition_range_start"] == "2026-08-03"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-08-05"
    result = bank.run(request)
    assert result.success
    assert bank.staged() == {"acme": ["txn_1", "txn_2", "txn_3"]}
    days = Days(DAY, DAY + timedelta(days=2))
    ready = {("acme", day): ("ready", None) for day in days}
    never = {("globex", day): ("pending", "completeness_no_sync_run") for day in days}
    assert bank.statuses("completeness", days) == ready | never
    [run] = bank.installation.database.fetch("SELECT * FROM finance_os.source_sync_runs")
    assert (run["kind"], run["trigger"], run["dagster_run_id"]) == ("drop", "drop", result.run_id)
    shown = {str(e.partition): e.materialization.metadata for e in result.get_asset_materialization_events()}
    assert {day: metadata["dagster/row_count"].value for day, metadata in shown.items()} == {str(d): 1 for d in days}


def test_a_file_that_grows_waits(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_for(monkeypatch, 0.6)
    path = bank.drop(bank_file("-12.50"))
    long_ago = time.time() - 3_600  # as a copy that keeps the file's time would bear
    os.utime(path, (long_ago, long_ago))
    requests, said = bank.tick()
    assert requests == []
    assert "may still be growing" in said
    time.sleep(0.4)
    path.write_text(bank_file("-12.50", "1.00"))
    os.utime(path, (long_ago, long_ago))
    assert bank.tick()[0] == []
    time.sleep(0.4)
    assert bank.tick()[0] == []  # not the same for long enough
    time.sleep(0.3)
    [request], _ = bank.tick()
    assert bank.run(request).success
    assert bank.staged() == {"acme": ["txn_1", "txn_2"]}


def test_the_same_bytes_twice_are_one_run(bank: Bank) -> None:
    bank.drop(bank_file("-12.50"), "one.csv")
    bank.drop(bank_file("-12.50"), "two.csv")
    requests, _ = bank.tick()
    assert len(requests) == 1
    bank.drop(bank_file("-12.50"), "three.csv")
    again, said = bank.tick()
    assert "duplicate" in said or set(keys(again)) == set(keys(requests))
    assert set(keys(again)) <= set(keys(requests)), "another run key would be another run"
    assert list((bank.installation.drops / "acme" / "rho").glob("*.csv")) == []


def test_a_refused_file_asks_for_nothing_and_is_explained(bank: Bank) -> None:
    bank.drop(bank_file("-12.50", "12.3O"), "broken.csv")
    requests, said = bank.tick()
    assert requests == []
    assert "quarantined" in said
    folder = bank.installation.drops / "acme" / "rho" / "quarantined"
    assert (folder / "broken.csv").exists()
    report = (folder / "broken.csv.report.txt").read_text()
    assert "row 3" in report
    assert '"Amount"' in report
    assert bank.staged() == {}
    assert bank.tick()[0] == []


def test_a_crash_between_taking_a_file_and_asking_for_its_run_loses_nothing(bank: Bank) -> None:
    bank.drop(bank_file("-12.50"), "one.csv")
    bank.tick()
    bank.drop(bank_file("5.00", day=DAY + timedelta(days=9), first_id=9), "two.csv")
    lost, _ = bank.tick(keep_cursor=False)  # the file is taken; its request never reaches Dagster
    assert list((bank.installation.drops / "acme" / "rho").glob("*.csv")) == []
    requests, _ = bank.tick()
    assert set(keys(lost)) <= set(keys(requests))
    for request in requests:
        assert bank.run(request).success
    assert bank.staged() == {"acme": ["txn_1", "txn_9"]}


def test_a_lost_cursor_asks_again_under_the_same_keys(bank: Bank) -> None:
    bank.drop(bank_file("-12.50"))
    requests, _ = bank.tick()
    bank.cursor = None
    assert keys(bank.tick()[0]) == keys(requests)


def test_an_old_drop_is_not_asked_for_again_and_again(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    bank.drop(bank_file("-12.50"), "one.csv")
    [first], _ = bank.tick()
    assert keys(bank.tick()[0]) == [first.run_key]  # it may have committed before another that bears an earlier time
    monkeypatch.setattr(sensors, "OVERLAP", timedelta(0))
    requests, said = bank.tick()
    assert requests == []
    assert "Nothing waits" in said
    bank.drop(bank_file("7.00", first_id=7), "two.csv")
    [second], _ = bank.tick()
    assert second.run_key != first.run_key
    assert bank.tick()[0] == []


def test_a_line_that_is_dated_tomorrow_is_staged(bank: Bank) -> None:
    """It is tomorrow in Tokyo while the installation's last partition is today."""
    bank.drop(bank_file("1.00", "2.00", day=datetime.now(UTC).date()), business="globex")
    [request], _ = bank.tick()
    assert bank.run(request).success
    assert bank.staged() == {"globex": ["txn_1", "txn_2"]}


def test_two_businesses_with_the_same_file_are_two_drops(bank: Bank) -> None:
    for business in ("acme", "globex"):
        bank.drop(bank_file("-12.50", "3.00"), business=business)
    requests, _ = bank.tick()
    assert [key and key.split("/")[0] for key in keys(requests)] == ["acme", "globex"]
    assert bank.run(requests[1]).success
    assert bank.staged() == {"globex": ["txn_1", "txn_2"]}
    assert bank.run(requests[0]).success
    assert bank.staged() == {"acme": ["txn_1", "txn_2"], "globex": ["txn_1", "txn_2"]}


def test_one_businesss_trouble_does_not_hold_up_the_others(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    real = drops.look

    def look(location: str, connection: Connection, *rest: object, **more: object) -> drops.Inbox:
        if connection.business_id == "acme":
            raise SourceError("drops_unreachable", "S3 answered AccessDenied")
        return real(location, connection, *rest, **more)  # pyright: ignore[reportArgumentType]

    bank.drop(bank_file("-12.50"))
    bank.drop(bank_file("4.00", first_id=4), business="globex")
    monkeypatch.setattr(drops, "look", look)
    [request], _ = bank.tick()
    assert request.run_key is not None
    assert request.run_key.startswith("globex/")
    assert "AccessDenied" in bank.tick()[1] or bank.tick()[0]
    monkeypatch.setattr(drops, "look", real)
    found = [key for key in keys(bank.tick()[0]) if key and key.startswith("acme/")]
    assert len(found) == 1


def test_a_business_without_its_setting_waits_alone(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sensors.find_credentials

    def find(reference: str, *rest: object) -> object:
        if reference == "env":
            raise CredentialsMissing(["FINANCE_OS_RHO_SETTING"])
        return real(reference, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(sensors, "find_credentials", find)
    bank.drop(bank_file("-12.50"))
    path = bank.drop(bank_file("4.00", first_id=4), business="globex")
    assert len(bank.tick()[0]) == 1
    assert not path.exists()


# --- what a day of files holds


def test_days_that_no_file_speaks_of_are_not_complete(bank: Bank) -> None:
    bank.drop(bank_file("-12.50", "3.00"))
    bank.tick()
    days = Days(DAY - timedelta(days=1), DAY + timedelta(days=3))
    assert bank.installation.run("rho", ["rho_cash_transaction"], days).success
    unobservable = ("pending", "completeness_day_unobservable")
    found = bank.statuses("completeness", days)
    assert {day: found["acme", day] for day in days} == {
        day: ("ready", None) if day in (DAY, DAY + timedelta(days=1)) else unobservable for day in days
    }
    assert {found["globex", day] for day in days} == {unobservable}


def test_a_day_that_was_not_over_when_its_file_came_waits_for_another(bank: Bank) -> None:
    today = today_of("acme")
    yesterday = today - timedelta(days=1)
    bank.drop(bank_file("1.00", "2.00", day=yesterday))
    [request], _ = bank.tick()
    assert bank.run(request).success
    found = bank.statuses("completeness", Days(yesterday, today))
    assert found["acme", yesterday] == ("ready", None)
    assert found["acme", today] == ("pending", "completeness_day_not_over")


def test_a_later_file_adds_to_a_day(bank: Bank) -> None:
    for name, text in {"one.csv": bank_file("-12.50"), "two.csv": bank_file("3.00", first_id=2)}.items():
        bank.drop(text, name)
    for request in bank.tick()[0]:
        assert bank.run(request).success
    assert bank.staged() == {"acme": ["txn_1", "txn_2"]}
    assert bank.statuses("idempotency", Days(DAY, DAY))["acme", DAY] == ("ready", None)


def test_a_drop_of_one_business_is_never_staged_for_another(bank: Bank) -> None:
    """Kept files are named by their bytes alone, so a run's config could name anybody's."""
    bank.drop(bank_file("-12.50"))
    [request], _ = bank.tick()
    [op] = request.run_config["ops"].values()
    other = bank.installation.connections["globex", "rho"].connection_id
    for connections in ([other], None):
        result = bank.installation.run(
            "rho", ["rho_cash_transaction"], Days(DAY, DAY), config={**op["config"], "connections": connections}
        )
        assert result.success is (connections is None)
    assert bank.staged() == {"acme": ["txn_1"]}
    rows = bank.installation.database.fetch("SELECT DISTINCT business_id FROM finance_os.source_sync_runs")
    assert [row["business_id"] for row in rows] == ["acme"]


def test_the_cursor_is_plain_and_small(bank: Bank) -> None:
    bank.drop(bank_file("-12.50"))
    bank.tick()
    bank.tick()
    assert bank.cursor is not None
    cursor = json.loads(bank.cursor)
    assert set(cursor) == {"seen", "requested_until"}
    assert datetime.fromisoformat(cursor["requested_until"]) <= datetime.now(UTC)
    assert cursor["seen"] == {"acme/rho/default": {}, "globex/rho/default": {}}
