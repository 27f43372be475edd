"""The four checks of every source object: freshness (of now), and by day trace, idempotency and completeness.

Each is computed from the evidence tables alone and says, for each business, what it looked at. A day that was read
and found empty is ready: its run's counts agree with nothing. A day that was never read is pending.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from finance_os.evidence.canonical import NO_EVIDENCE, canonical_json, evidence_hash
from finance_os.evidence.chunks import batch_hash
from finance_os.evidence.database import Database
from finance_os.evidence.partitions import runs_of_days
from finance_os.evidence.replay import DayReplay, replay
from finance_os.evidence.windows import Days
from finance_os.readiness import verdicts
from finance_os.readiness.basis import bases
from finance_os.readiness.verdicts import Status, Verdict
from finance_os.sources.source import Reads, Source, SourceObject

DAY_NOT_OVER = "completeness_day_not_over"
"""Blocker of a day that was read before it ended. It goes away by itself: the next daily sync reads the day again."""

_FULLEST = ("whole", "created", "partial", "unobservable")

EXAMPLES = 5
"""How many offending records a verdict names."""


@dataclass(frozen=True)
class Subject:
    """What is checked: an object type of every business that has a connection to its source system.

    `handed_in` says that files are its source, so that a remedy can name what people have to do.
    """

    source_system: str
    object_type: str
    sla: timedelta
    handed_in: bool = False

    @classmethod
    def of(cls, source: Source, obj: SourceObject[Any]) -> "Subject":
        """The subject that a source declares."""
        return cls(source.system, obj.object_type, source.sla, obj.reads is Reads.DROP)


@dataclass(frozen=True)
class CheckDeclaration:
    """A check as people read it, and how it is computed."""

    name: str
    description: str
    by_day: bool
    look: Callable[[Database, Subject, Days], list[Verdict]]

    def evaluate(self, database: Database, subject: Subject, days: Days) -> list[Verdict]:
        """What the check finds; a verdict of a day bears what the day consisted of before the check looked."""
        if not self.by_day:
            return self.look(database, subject, days)
        before = bases(database, subject.source_system, subject.object_type, days)
        return [
            replace(verdict, basis=before.get((verdict.business_id, verdict.day)) if verdict.day else None)
            for verdict in self.look(database, subject, days)
        ]


def freshness(database: Database, subject: Subject, days: Days) -> list[Verdict]:  # noqa: ARG001  it speaks of now
    """Ready while the last successful read reaches to within the SLA; stale after that; pending if there is none.

    A read of a window reaches to the window's end, so a backfill of old days makes nothing fresh. A drop reaches to
    when the newest of its files was received: reading an old one again makes nothing fresh. A targeted read says
    nothing of the other objects, and a window that had not begun nothing at all. A business is as fresh as the
    connection that was read longest ago.
    """
    rows = database.fetch(
        """
        SELECT connection.business_id, now() AS now,
               CASE WHEN bool_and(reach.reached IS NOT NULL) THEN min(reach.reached) END AS reached
        FROM finance_os.connections AS connection
        LEFT JOIN LATERAL (
            SELECT reaches_to AS reached FROM finance_os.source_sync_runs AS run
            WHERE run.business_id = connection.business_id AND run.source_system = %(source_system)s
              AND run.object_type = %(object_type)s AND run.connection_id = connection.connection_id
              AND run.reaches_to IS NOT NULL
            ORDER BY run.reaches_to DESC LIMIT 1
        ) AS reach ON true
        WHERE connection.source_system = %(source_system)s AND connection.active
        GROUP BY connection.business_id ORDER BY connection.business_id
        """,
        {"source_system": subject.source_system, "object_type": subject.object_type},
    )
    return [_freshness(subject, row["business_id"], row["reached"], row["now"]) for row in rows]


def _freshness(subject: Subject, business_id: str, reached: datetime | None, now: datetime) -> Verdict:
    if reached is None:
        return _verdict(
            subject,
            business_id,
            "freshness",
            None,
            Status.PENDING,
            NO_EVIDENCE,
            blocker="freshness_no_sync_run",
            remedy=_hand_in(subject)
            or f"Materialize {subject.source_system}/{subject.object_type} for today, through every connection.",
        )
    fresh = now - reached <= subject.sla
    evidence = {
        "reached": reached.astimezone(UTC).isoformat(),
        "sla_seconds": int(subject.sla.total_seconds()),
        "fresh": fresh,
    }
    return _verdict(
        subject,
        business_id,
        "freshness",
        None,
        Status.READY if fresh else Status.STALE,
        [evidence],
        blocker=None if fresh else "freshness_sla_exceeded",
        remedy=None
        if fresh
        else _hand_in(subject) or "Look why the last daily sync did not reach today, then materialize today.",
        details=evidence,
    )


def trace(database: Database, subject: Subject, days: Days) -> list[Verdict]:
    """Every row of the day leads to a recorded sync run whose counts agree.

    Counted anew: sightings against what the run says of the day and in all, sightings against the versions that they
    name, and the run by which each version was first seen.
    """
    rows = database.fetch(
        """
        WITH day AS (
            SELECT business_id, partition_day, sync_run_id, kind, state, rows_extracted
            FROM finance_os.source_sync_partitions
            WHERE source_system = %(source_system)s AND object_type = %(object_type)s
              AND partition_day BETWEEN %(first)s AND %(last)s AND sync_run_id = ANY (%(runs)s)
        ), seen AS (
            SELECT day.business_id, day.partition_day, day.sync_run_id, shown.record_id
            FROM day
            JOIN finance_os.source_sync_sightings AS sighting USING (sync_run_id, partition_day)
            CROSS JOIN LATERAL unnest(sighting.record_ids) AS shown (record_id)
        ), counted AS (
            SELECT seen.partition_day, seen.sync_run_id, count(*) AS sighted, count(record.record_id) AS found,
                   count(first.sync_run_id) AS traced
            FROM seen
            LEFT JOIN finance_os.raw_source_records AS record
              ON record.record_id = seen.record_id AND record.business_id = seen.business_id
             AND record.source_system = %(source_system)s AND record.object_type = %(object_type)s
            LEFT JOIN finance_os.source_sync_runs AS first
              ON first.sync_run_id = record.first_sync_run_id AND first.business_id = record.business_id
             AND first.source_system = record.source_system AND first.object_type = record.object_type
            GROUP BY seen.partition_day, seen.sync_run_id
        ), whole AS (
            SELECT sync_run_id, sum(cardinality(record_ids)) AS sighted
            FROM finance_os.source_sync_sightings WHERE sync_run_id = ANY (%(runs)s) GROUP BY sync_run_id
        )
        SELECT day.business_id, day.partition_day, day.kind, day.rows_extracted AS counted_of_day,
               coalesce(counted.sighted, 0) AS sighted, coalesce(counted.found, 0) AS found,
               coalesce(counted.traced, 0) AS traced,
               coalesce(run.status = 'succeeded', false) AS run_succeeded,
               coalesce(run.rows_extracted = coalesce(whole.sighted, 0), false) AS run_agrees
        FROM day
        LEFT JOIN counted USING (partition_day, sync_run_id)
        LEFT JOIN finance_os.source_sync_runs AS run
          ON run.sync_run_id = day.sync_run_id AND run.business_id = day.business_id
        LEFT JOIN whole ON whole.sync_run_id = day.sync_run_id
        ORDER BY day.partition_day, day.sync_run_id
        """,
        {
            "source_system": subject.source_system,
            "object_type": subject.object_type,
            "first": days.first,
            "last": days.last,
            "runs": _run_ids(database, subject, days),
        },
    )
    found: dict[tuple[str, date], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row.pop("business_id"), row.pop("partition_day")), []).append(row)

    def judge(business_id: str, day: date) -> Verdict:
        evidence = found.get((business_id, day))
        if not evidence:
            return _never_read(subject, business_id, "trace", day)
        rows = sum(row["counted_of_day"] for row in evidence)
        untraced = any(row["traced"] < row["sighted"] or row["found"] < row["sighted"] for row in evidence)
        disagree = any(
            row["counted_of_day"] != row["sighted"] or not row["run_agrees"] or not row["run_succeeded"]
            for row in evidence
        )
        blocker = "trace_rows_without_sync_run" if untraced else "trace_counts_disagree" if disagree else None
        return _verdict(
            subject,
            business_id,
            "trace",
            day,
            Status.BLOCKED if blocker else Status.READY,
            evidence,
            blocker=blocker,
            remedy="The evidence of this day was altered. Materialize the day again and find out by whom."
            if blocker
            else None,
            details={"rows": rows, "reads": evidence},
        )

    return _each_day(database, subject, days, judge)


def idempotency(database: Database, subject: Subject, days: Days) -> list[Verdict]:
    """Staging once more what the day's runs saw would add nothing.

    Every stored payload is hashed anew and its key looked up, as staging does. A unique index would not prove that.
    """
    runs = runs_of_days(database, subject.source_system, subject.object_type, days)
    replays: dict[int, dict[date, DayReplay]] = {
        run: replay(database, run, days) for run in {run for of_day in runs.values() for run in of_day}
    }
    hashes = {
        (row["sync_run_id"], row["partition_day"]): bytes(row["batch_hash"])
        for row in database.fetch(
            """
            SELECT sync_run_id, partition_day, batch_hash FROM finance_os.source_sync_partitions
            WHERE sync_run_id = ANY (%s) AND partition_day BETWEEN %s AND %s
            """,
            (list(replays), days.first, days.last),
        )
    }

    def judge(business_id: str, day: date) -> Verdict:
        of_day = runs.get((business_id, day))
        if not of_day:
            return _never_read(subject, business_id, "idempotency", day)
        results = [(run, replays[run].get(day, DayReplay())) for run in of_day]
        would_add = [source_id for _, result in results for source_id in result.would_add]
        lost = [name for _, result in results for name in result.lost]
        altered = [
            run for run, result in results if batch_hash(result.replayed, result.digest) != hashes.get((run, day))
        ]
        blocker = (
            "idempotency_replay_would_add_rows"
            if would_add
            else "idempotency_rows_lost"
            if lost
            else "idempotency_batch_hash_differs"
            if altered
            else None
        )
        evidence = [
            {
                "replayed": result.replayed,
                "would_add": len(result.would_add),
                "lost": len(result.lost),
                "batch_hash": batch_hash(result.replayed, result.digest).hex(),
                "recorded_hash": hashes.get((run, day), b"").hex(),
            }
            for run, result in results
        ]
        return _verdict(
            subject,
            business_id,
            "idempotency",
            day,
            Status.BLOCKED if blocker else Status.READY,
            evidence,
            blocker=blocker,
            remedy="Stored evidence was altered: it does not hash to its key. Find out by whom, and restore it."
            if blocker
            else None,
            details={
                "rows": sum(result.replayed for _, result in results),
                "examples": (would_add + lost)[:EXAMPLES],
                "reads": evidence,
            },
        )

    return _each_day(database, subject, days, judge)


def completeness(database: Database, subject: Subject, days: Days) -> list[Verdict]:
    """The day was read to its last page after it was over, and the source's own count equals what was staged."""
    rows = database.fetch(
        """
        SELECT day.business_id, day.partition_day, day.kind, day.state, day.rows_extracted, day.remote_count,
               run.status, connection.external_account AS account
        FROM finance_os.source_sync_partitions AS day
        JOIN finance_os.source_sync_runs AS run USING (sync_run_id)
        JOIN finance_os.connections AS connection ON connection.connection_id = day.connection_id
        WHERE day.source_system = %(source_system)s AND day.object_type = %(object_type)s
          AND day.partition_day BETWEEN %(first)s AND %(last)s AND day.sync_run_id = ANY (%(runs)s)
          AND day.kind <> 'targeted'
        ORDER BY day.partition_day, day.sync_run_id
        """,
        {
            "source_system": subject.source_system,
            "object_type": subject.object_type,
            "first": days.first,
            "last": days.last,
            "runs": _run_ids(database, subject, days),
        },
    )
    found: dict[tuple[str, date], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row.pop("business_id"), row.pop("partition_day")), []).append(row)

    accounts = _accounts(database, subject)

    def judge(business_id: str, day: date) -> Verdict:
        evidence = found.get((business_id, day))
        if not evidence:
            return _never_read(subject, business_id, "completeness", day)
        # Of each account the fullest read counts: a file with the whole day makes up for one that had a part of it.
        seen = {
            account: {row["state"] for row in evidence if row["account"] == account}
            for account in accounts[business_id]
        }
        states = {next((state for state in _FULLEST if state in of), None) for of in seen.values()}
        differ = [row for row in evidence if row["remote_count"] not in (None, row["rows_extracted"])]
        blocker, remedy, status = None, None, Status.READY
        if differ:
            status, blocker = Status.BLOCKED, "completeness_remote_count_differs"
            remedy = "The source counts other rows than were staged. Materialize the day again."
        elif None in states:
            status, blocker = Status.PENDING, "completeness_no_sync_run"
            unread = ", ".join(account for account, of in seen.items() if not of)
            remedy = f"Account {unread} was not read. {_materialize(subject, day)}"
        elif "unobservable" in states:
            status, blocker = Status.PENDING, "completeness_day_unobservable"
            remedy = "The source does not tell of this day any more. Hand in what is known of it, or leave it out."
        elif "partial" in states:
            status, blocker = Status.PENDING, DAY_NOT_OVER
            again = "Hand in a file with the whole day" if subject.handed_in else "Materialize it again"
            remedy = f"The day was not over when it was read. {again} once it is."
        return _verdict(
            subject,
            business_id,
            "completeness",
            day,
            status,
            evidence,
            blocker=blocker,
            remedy=remedy,
            details={"rows": sum(row["rows_extracted"] for row in evidence), "reads": evidence},
        )

    return _each_day(database, subject, days, judge)


SOURCE_CHECKS: tuple[CheckDeclaration, ...] = (
    CheckDeclaration("freshness", "The last successful read reaches to within the source's SLA.", False, freshness),
    CheckDeclaration("trace", "Every row of a day leads to a recorded sync run whose counts agree.", True, trace),
    CheckDeclaration("idempotency", "Staging again what a day's runs saw would add nothing.", True, idempotency),
    CheckDeclaration(
        "completeness",
        "A day was read to its last page after it was over, and the source's own count equals what was staged.",
        True,
        completeness,
    ),
)


def judge_and_record(
    database: Database, subject: Subject, days: Days, dagster_run_id: str | None = None
) -> dict[str, list[Verdict]]:
    """Make every check of `subject` and record what it finds: check name → verdicts."""
    found = {check.name: check.evaluate(database, subject, days) for check in SOURCE_CHECKS}
    verdicts.record(database, [verdict for each in found.values() for verdict in each], dagster_run_id)
    return found


def judge_freshness(database: Database, sources: Iterable[Source]) -> None:
    """Check the freshness of every object type now and record it: it goes stale without anybody's doing."""
    today = datetime.now(UTC).date()
    subjects = [Subject.of(source, obj) for source in sources for obj in source]
    found = [verdict for subject in subjects for verdict in freshness(database, subject, Days(today, today))]
    verdicts.record(database, found)


def _run_ids(database: Database, subject: Subject, days: Days) -> list[int]:
    runs = runs_of_days(database, subject.source_system, subject.object_type, days)
    return sorted({run for of_day in runs.values() for run in of_day})


def _each_day(database: Database, subject: Subject, days: Days, judge: Callable[[str, date], Verdict]) -> list[Verdict]:
    return [judge(business_id, day) for business_id in _businesses(database, subject) for day in days]


def _accounts(database: Database, subject: Subject) -> dict[str, list[str]]:
    """Business → external accounts of its active connections to the source system."""
    found: dict[str, list[str]] = {}
    for row in database.fetch(
        "SELECT business_id, external_account FROM finance_os.connections WHERE source_system = %s AND active"
        " ORDER BY business_id, external_account",
        (subject.source_system,),
    ):
        found.setdefault(row["business_id"], []).append(row["external_account"])
    return found


def _hand_in(subject: Subject) -> str | None:
    return f"Hand in a recent file of {subject.source_system}." if subject.handed_in else None


def _materialize(subject: Subject, day: date) -> str:
    return f"Materialize {subject.source_system}/{subject.object_type} for {day}."


def _businesses(database: Database, subject: Subject) -> Iterable[str]:
    rows = database.fetch(
        "SELECT DISTINCT business_id FROM finance_os.connections WHERE source_system = %s AND active ORDER BY 1",
        (subject.source_system,),
    )
    return [row["business_id"] for row in rows]


def _never_read(subject: Subject, business_id: str, check: str, day: date) -> Verdict:
    return _verdict(
        subject,
        business_id,
        check,
        day,
        Status.PENDING,
        NO_EVIDENCE,
        blocker=f"{check}_no_sync_run",
        remedy=_materialize(subject, day),
    )


def _verdict(
    subject: Subject,
    business_id: str,
    check: str,
    day: date | None,
    status: Status,
    evidence: Sequence[dict[str, Any]],
    *,
    blocker: str | None = None,
    remedy: str | None = None,
    details: dict[str, Any] | None = None,
) -> Verdict:
    """A verdict. Its evidence is hashed whatever order its rows are in: equal evidence has an equal hash anywhere."""
    return Verdict(
        business_id=business_id,
        source_system=subject.source_system,
        object_type=subject.object_type,
        check=check,
        day=day,
        status=status,
        blocker=blocker,
        remedy=remedy,
        evidence_hash=evidence_hash(sorted(evidence, key=canonical_json)),
        details=details or {},
    )
