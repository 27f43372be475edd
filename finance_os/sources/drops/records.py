"""Drops as `finance_os.drops` has them: what was handed in, what was decided about it, and how a read names it."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import msgspec
from psycopg.types.json import Jsonb

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.evidence.windows import Days
from finance_os.sources.drops.inbox import DropFile, printable
from finance_os.sources.drops.kept import is_content_hash, kept_as
from finance_os.sources.drops.verdicts import Accepted, Judged, Problem, Quarantined


class Verdict(StrEnum):
    """What was decided about a drop."""

    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Drop:
    """A row of `finance_os.drops`. `content_hash` is the SHA-256 of the file in hex."""

    business_id: str
    source_system: str
    connection_id: int
    content_hash: str
    file_name: str
    size_bytes: int
    verdict: Verdict
    row_count: int
    first_day: date | None
    last_day: date | None
    received_at: datetime
    judged_at: datetime

    @property
    def target(self) -> str:
        """This drop as one of a request's targets: see `Target`."""
        target = Target(self.content_hash, self.file_name, self.received_at, self.first_day)
        return msgspec.json.encode(target).decode()


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """A drop that is to be read.

    `received_at` orders what several drops say of one record. `first_day` is that of the verdict: where a source dates
    records by their drop, the day on which it was accepted, which may be long after it came.
    """

    drop: str
    file_name: str | None = None
    received_at: datetime | None = None
    first_day: date | None = None

    @classmethod
    def parse(cls, text: str) -> "Target":
        """A target from `Drop.target`, or from a content hash alone; `SourceError` (`bad_target`) for anything else."""
        try:
            target = cls(text) if is_content_hash(text) else msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError:
            target = None
        if target is None or not is_content_hash(target.drop):
            raise SourceError("bad_target", "a drop is named by the 64 hex digits of its SHA-256", permanent=True)
        return target


def accepted_drops(
    database: Database, connection: Connection, *, days: Days | None = None, judged_since: datetime | None = None
) -> list[Drop]:
    """The accepted drops of a connection in the order received: all, those that touch `days`, or the latest ones."""
    drops = find_accepted(database, connection, days=days, judged_since=judged_since)
    return [drop for drop in drops if drop.connection_id == connection.connection_id]


def find_accepted(
    database: Database,
    connection: Connection,
    *,
    content_hash: str | None = None,
    days: Days | None = None,
    judged_since: datetime | None = None,
) -> list[Drop]:
    """Accepted drops of the connection's business at its source, whichever connection they came through."""
    rows = database.fetch(
        """
        SELECT business_id, source_system, connection_id, encode(content_hash, 'hex') AS content_hash, file_name,
               size_bytes, verdict, row_count, first_day, last_day, received_at, judged_at
        FROM finance_os.drops
        WHERE business_id = %(business_id)s AND source_system = %(source_system)s AND verdict = 'accepted'
          AND (%(content_hash)s::bytea IS NULL OR content_hash = %(content_hash)s)
          AND (%(first)s::date IS NULL OR first_day <= %(last)s::date AND last_day >= %(first)s)
          AND (%(judged_since)s::timestamptz IS NULL OR judged_at >= %(judged_since)s)
        ORDER BY received_at, content_hash
        """,
        {
            "business_id": connection.business_id,
            "source_system": connection.source_system,
            "content_hash": bytes.fromhex(content_hash) if content_hash else None,
            "first": days.first if days else None,
            "last": days.last if days else None,
            "judged_since": judged_since,
        },
    )
    return [Drop(**{**row, "verdict": Verdict(row["verdict"])}) for row in rows]


def record_verdict(
    database: Database, connection: Connection, file: DropFile, content_hash: str, judged: Judged
) -> Drop | None:
    """Write the verdict; `None` if the drop was accepted meanwhile, which stands."""
    accepted = judged if isinstance(judged, Accepted) else Accepted(0)
    refused = judged if isinstance(judged, Quarantined) else Quarantined((), 0)
    verdict = Verdict.ACCEPTED if accepted is judged else Verdict.QUARANTINED
    report = {
        "problem_count": refused.count,
        "problems": [_where(item) | {"code": item.code} for item in refused.problems],
    }
    with database.transaction() as transaction:
        row = transaction.execute(
            """
            INSERT INTO finance_os.drops AS known
                (business_id, source_system, content_hash, connection_id, file_name, size_bytes, kept_as, verdict,
                 report, row_count, first_day, last_day)
            VALUES (%(business_id)s, %(source_system)s, %(content_hash)s, %(connection_id)s, %(file_name)s,
                    %(size_bytes)s, %(kept_as)s, %(verdict)s, %(report)s, %(row_count)s, %(first_day)s, %(last_day)s)
            ON CONFLICT (business_id, source_system, content_hash) DO UPDATE
            SET connection_id = excluded.connection_id, file_name = excluded.file_name, verdict = excluded.verdict,
                report = excluded.report, row_count = excluded.row_count, first_day = excluded.first_day,
                last_day = excluded.last_day, judged_at = now()
            WHERE known.verdict = 'quarantined'
            RETURNING received_at, judged_at
            """,
            {
                "business_id": connection.business_id,
                "source_system": connection.source_system,
                "content_hash": bytes.fromhex(content_hash),
                "connection_id": connection.connection_id,
                "file_name": file.name,
                "size_bytes": file.stamp.size,
                "kept_as": kept_as(content_hash),
                "verdict": verdict,
                "report": Jsonb(report),
                "row_count": accepted.rows,
                "first_day": accepted.first_day,
                "last_day": accepted.last_day,
            },
        ).fetchone()
    if row is None:
        return None
    return Drop(
        business_id=connection.business_id,
        source_system=connection.source_system,
        connection_id=connection.connection_id,
        content_hash=content_hash,
        file_name=file.name,
        size_bytes=file.stamp.size,
        verdict=verdict,
        row_count=accepted.rows,
        first_day=accepted.first_day,
        last_day=accepted.last_day,
        received_at=row["received_at"],
        judged_at=row["judged_at"],
    )


def _where(problem: Problem) -> dict[str, str | int | None]:
    sheet = {"sheet": printable(problem.sheet)} if problem.sheet is not None else {}
    return {**sheet, "row": problem.row, "column": problem.column}
