"""Alerts of runs: sync runs that failed, and Dagster runs that failed without leaving one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finance_os.alerts import feeds
from finance_os.alerts.feeds import Cursor
from finance_os.alerts.ledger import AlertKind, Identity, Ledger
from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.database import DatabaseConnection
from finance_os.evidence.extraction import Severity


@dataclass(frozen=True)
class RunOutcome:
    """How a Dagster run ended, by the event with the storage ID `event_id`.

    `assets` are the keys that it was to make, `None` for all of its job. `connections` and `drops` are what its
    configuration narrows it to, `None` where it does not. `source_system` is `None` where it is not about one source
    system alone; it then concerns every business.
    """

    event_id: int
    run_id: str
    job: str
    source_system: str | None
    assets: frozenset[str] | None
    succeeded: bool
    ended_at: datetime
    connections: frozenset[int] | None = None
    drops: frozenset[str] | None = None


def read_sync_runs(connection: DatabaseConnection, ledger: Ledger, business_id: str, batch: int) -> bool:
    """Take the next sync runs of a business that ended; whether there may be more.

    They are read from the audit chain, which has them in the order in which they ended.
    """
    events, more = feeds.read_audit(
        connection,
        business_id,
        batch,
        lambda event: event["event_type"] in ("sync_run.failed", "sync_run.succeeded"),
    )
    rows = connection.execute(
        """
        SELECT run.sync_run_id, run.source_system, run.object_type, run.kind, run.connection_id,
               connection.external_account
        FROM finance_os.source_sync_runs AS run LEFT JOIN finance_os.connections AS connection USING (connection_id)
        WHERE run.sync_run_id = ANY (%s)
        """,
        ([_run_id(event) for event in events],),
    ).fetchall()
    runs = {row["sync_run_id"]: row for row in rows}
    for event in events:
        run = runs.get(_run_id(event))
        if run is None:
            continue
        read = f"{run['object_type']} of {run['external_account'] or 'no account'}"
        targeted = f"{read}, targeted"
        key = f"run:{run['source_system']}_sync"
        if event["event_type"] == "sync_run.failed":
            code = event["details"].get("error_code") or "failed"
            ledger.fail(
                _of_run(business_id, f"{run['source_system']}_sync", code, run["source_system"]),
                targeted if run["kind"] == "targeted" else read,
                event["occurred_at"],
                evidence_hash([run["source_system"], run["object_type"], code]),
                {"code": code, "sync_run": run["sync_run_id"], "connection": run["connection_id"]},
            )
        elif entry := ledger.find(business_id, key):
            # A targeted read says nothing of what another read could not see.
            for member in (targeted,) if run["kind"] == "targeted" else (read, targeted):
                ledger.recover(entry, member, event["occurred_at"])
    return more


def _run_id(event: Mapping[str, Any]) -> int:
    return int(event["subject"].removeprefix("sync_run:"))


def _of_run(business_id: str, job: str, code: str, source_system: str | None) -> Identity:
    return Identity(business_id, f"run:{job}", AlertKind.RUN, Severity.HIGH, job, code, source_system)


def take_outcomes(connection: DatabaseConnection, ledger: Ledger, outcomes: Iterable[RunOutcome], settled: int) -> None:
    """Runs that failed before they left anything in our tables, and the next ones of their jobs.

    Dagster numbers its events before it commits them, so those above `settled` are given again and again: a failure is
    counted once, and is recovered from by a success with a higher number, whichever was read first.
    """
    cursor = feeds.read_cursor(connection, feeds.DAGSTER)
    given = sorted((each for each in outcomes if each.event_id > cursor.position), key=lambda each: each.event_id)
    new = [each for each in given if not each.succeeded and each.event_id not in cursor.taken]
    explained = _explained(connection, [each.run_id for each in new])
    for outcome in given:
        if outcome.succeeded:
            for entry in ledger.open(AlertKind.RUN):
                if entry.identity.key == f"run:{outcome.job}":
                    for member in [name for name, known in entry.failing.items() if _covers(outcome, known)]:
                        ledger.recover(entry, member, outcome.ended_at)
        elif outcome in new and outcome.run_id not in explained:
            for business_id in _concerned(connection, outcome):
                ledger.fail(
                    _of_run(business_id, outcome.job, "run_failed", outcome.source_system),
                    f"run {outcome.run_id[:8]}",
                    outcome.ended_at,
                    evidence_hash([outcome.job, outcome.run_id]),
                    {
                        "code": "run_failed",
                        "dagster_run": outcome.run_id,
                        "event": outcome.event_id,
                        "assets": _listed(outcome.assets),
                        "connections": _listed(outcome.connections),
                        "drops": _listed(outcome.drops),
                    },
                )
    position = max(settled, cursor.position)
    taken = cursor.taken | {each.event_id for each in given}
    following = Cursor(position, taken=frozenset(number for number in taken if number > position))
    if following != cursor:
        feeds.save_cursor(connection, feeds.DAGSTER, following)


def _listed(names: frozenset[Any] | None) -> list[Any] | None:
    return None if names is None else sorted(names)


def _covers(outcome: RunOutcome, known: Mapping[str, Any]) -> bool:
    """Whether a run that succeeded did later what a failed one was to do."""
    if known.get("event", outcome.event_id) >= outcome.event_id:
        return False
    return all(
        did is None or (known[what] is not None and did >= set(known[what]))
        for what, did in (("assets", outcome.assets), ("connections", outcome.connections), ("drops", outcome.drops))
    )


def _concerned(connection: DatabaseConnection, outcome: RunOutcome) -> list[str]:
    """The businesses for which a run was to read."""
    if outcome.connections is None:
        return businesses_of(connection, outcome.source_system)
    rows = connection.execute(
        "SELECT DISTINCT business_id FROM finance_os.connections WHERE connection_id = ANY (%s) ORDER BY 1",
        (sorted(outcome.connections),),
    ).fetchall()
    return [row["business_id"] for row in rows]


def _explained(connection: DatabaseConnection, run_ids: Sequence[str]) -> set[str]:
    """The runs that left a sync run that failed for good, or a blocked verdict."""
    rows = connection.execute(
        """
        SELECT dagster_run_id FROM finance_os.source_sync_runs AS failed
        WHERE dagster_run_id = ANY (%(runs)s) AND status = 'failed' AND NOT EXISTS (
            SELECT FROM finance_os.source_sync_runs AS again
            WHERE again.business_id = failed.business_id AND again.source_system = failed.source_system
              AND again.object_type = failed.object_type AND again.sync_run_id > failed.sync_run_id
              AND again.connection_id = failed.connection_id AND again.dagster_run_id = failed.dagster_run_id
              AND again.status = 'succeeded')
        UNION
        SELECT dagster_run_id FROM finance_os.check_results
        WHERE dagster_run_id = ANY (%(runs)s) AND status = 'blocked'
        """,
        {"runs": list(run_ids)},
    ).fetchall()
    return {row["dagster_run_id"] for row in rows}


def businesses_of(connection: DatabaseConnection, source_system: str | None) -> list[str]:
    """The businesses with an active connection to a source system; all of them if it is `None`."""
    rows = connection.execute(
        """
        SELECT business_id FROM finance_os.businesses AS business
        WHERE %(source_system)s::text IS NULL OR EXISTS (
            SELECT FROM finance_os.connections AS connection
            WHERE connection.business_id = business.business_id AND source_system = %(source_system)s AND active)
        ORDER BY 1
        """,
        {"source_system": source_system},
    ).fetchall()
    return [row["business_id"] for row in rows]
