"""A sandbox with two companies for the session, and for each test an installation of two businesses that use it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest
import stamina
from psycopg import sql

from finance_os import settings as settings_module
from finance_os.defs.assets import sources as source_assets_module
from finance_os.defs.location import build_defs
from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days, day_of
from finance_os.sandbox.process import Running, running_sandbox
from finance_os_tests.conftest import drop_database

ZONES = {"acme": "America/New_York", "globex": "Asia/Tokyo"}
REFERENCES = {"acme": "env", "globex": "env:GLOBEX_"}


@pytest.fixture(scope="session")
def companies(server_url: str) -> Iterator[Running]:
    """Two companies with the same external IDs. Who scripts faults takes them back; nobody moves the clock."""
    name = f"defs_{os.getpid()}"
    with running_sandbox(
        seed=11, days=45, size=6, accounts=2, gravity_admin_url=server_url, gravity_database=name
    ) as running:
        yield running
    for number in ("", "_2"):
        drop_database(server_url, name + number)
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(f"{name}{number}_reader")))


@dataclass
class Installation:
    """Two businesses, each connected to the three sources, and the definitions that read them."""

    database: Database
    connections: Mapping[tuple[str, str], Connection]
    drops: Path
    sandbox: Running
    defs: dg.Definitions
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    def run(
        self,
        system: str,
        object_types: Sequence[str],
        days: Days,
        *,
        tags: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize objects of a source over `days`, with their checks, as one run."""
        keys = [dg.AssetKey([system, name]) for name in object_types]
        ops = {key.to_python_identifier(): {"config": dict(config)} for key in keys} if config else {}
        return self.defs.resolve_job_def(f"{system}_sync").execute_in_process(
            instance=self.instance,
            asset_selection=keys,
            run_config={"ops": ops},
            tags={**range_tags(days), **(tags or {})},
            raise_on_error=False,
        )


def schedule_tick(defs: dg.Definitions, instance: dg.DagsterInstance, due: datetime) -> list[dg.RunRequest]:
    """What the daily schedule asks for, evaluated for `due`."""
    evidence = (defs.resources or {})["evidence"]
    schedule = defs.get_repository_def().get_schedule_def("daily_sync")
    with dg.build_schedule_context(instance, due, resources={"evidence": evidence}) as context:
        return list(schedule.evaluate_tick(context).run_requests or ())


def range_tags(days: Days) -> dict[str, str]:
    """The tags by which Dagster knows a run over a range of partitions."""
    return {
        "dagster/asset_partition_range_start": str(days.first),
        "dagster/asset_partition_range_end": str(days.last),
    }


def days_ago(first: int, last: int | None = None, business: str = "acme") -> Days:
    """Days that lie `first` to `last` days before the business's present one."""
    today = today_of(business)
    return Days(today - timedelta(days=first), today - timedelta(days=first if last is None else last))


def today_of(business: str) -> date:
    """The present day of a business."""
    return day_of(datetime.now(UTC), ZoneInfo(ZONES[business]))


@pytest.fixture
def installation(
    database: Database, companies: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    """A fresh installation of businesses `acme` (New York) and `globex` (Tokyo). Failed steps are not tried again."""
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FINANCE_OS_DROP_SETTLE_SECONDS", "0")
    monkeypatch.delenv("FINANCE_OS_DROPS", raising=False)
    for name, value in companies.env.items():
        monkeypatch.setenv(name, value)
    for name, value in companies.others[0].items():
        monkeypatch.setenv(f"GLOBEX_{name}", value)
    settings_module.settings.cache_clear()
    monkeypatch.setattr(source_assets_module, "RETRIES", dg.RetryPolicy(max_retries=0))
    stamina.set_testing(True, attempts=2)
    connections: dict[tuple[str, str], Connection] = {}
    for business, zone in ZONES.items():
        ensure_business(database, business, business.title(), zone)
        for system in ("stripe", "gravity", "rho"):
            connections[business, system] = ensure_connection(
                database, business, system, secret_reference=REFERENCES[business]
            )
    yield Installation(database, connections, tmp_path / "home" / "drops", companies, build_defs())
    companies.clear_faults()
    stamina.set_testing(False)
    settings_module.settings.cache_clear()
