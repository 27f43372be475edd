"""What makes the state that the plan was first drawn from ready: today's reads, the bank's two sides, a deployment."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from finance_os.evidence.businesses import ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.scheduled_syncs import request_scheduled_sync
from finance_os.readiness.assessment import TITLES
from finance_os.readiness.deploy import CodeLocation, Daemons, DeployFacts, deploy_facts_now
from finance_os.readiness.recording import record_checkpoints
from finance_os.readiness.scheduled_sync import scheduled_connectors
from finance_os.sources.registry import SOURCES
from finance_os_tests.readiness.bank import Bank, plaid, rho
from finance_os_tests.readiness.seed_state import BUSINESS, plant_rows, plant_run

SYNC = "daily-today"
REQUESTED = {
    "gravity": ("SELECT host", "READ-ONLY-SESSION host"),
    "redshift": ("SELECT host", "READ-ONLY-SESSION host"),
    "plaid": ("POST host",),
}
"""What the sources count that do not read by GET."""

GOOD = {"SchedulerDaemon": True, "SensorDaemon": True}


def read_everything(database: Database, business_id: str = BUSINESS) -> None:
    """Every connector that is read daily answers in a scheduled sync of today."""
    scheduled = scheduled_connectors(SOURCES)
    ended = datetime.now(UTC) - timedelta(minutes=5)
    request_scheduled_sync(database, SYNC, ended.date(), [source.system for source in scheduled])
    for source in scheduled:
        connection = ensure_connection(database, business_id, source.system)
        for obj in source:
            run = plant_run(
                database, connection, obj.object_type, ended, f"{source.system}-today", rows=1, sync=SYNC,
                requested=dict.fromkeys(REQUESTED.get(source.system, ("GET host",)), 1),
            )  # fmt: skip
            plant_rows(database, business_id, source.system, obj.object_type, run, 1)


def hand_in_the_bank(database: Database, business_id: str = BUSINESS) -> None:
    """The same two lines on both sides."""
    bank = Bank(database, business_id)
    bank.rho(rho("r1", 0), rho("r2", 1, 99_900))
    bank.plaid(plaid("p1", 0), plaid("p2", 1, "-999.00"))


def verified(database: Database, alive: Mapping[str, bool] = GOOD) -> DeployFacts:
    """A deployment as a process sees it whose code loads."""
    return DeployFacts(deploy_facts_now(database), CodeLocation(True, 60, 9), Daemons(alive))


def record(database: Database, names: Sequence[str] = tuple(TITLES)) -> None:
    """Record checkpoints, of a deployment that is well."""
    list(record_checkpoints(database, SOURCES, BUSINESS, names, verified(database)))
