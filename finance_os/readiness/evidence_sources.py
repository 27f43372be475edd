"""Evidence of each source: whether what is staged of it is fresh, traceable and idempotent, from live facts.

A source is fresh only if every one of its object types is, through every connection. Trace and idempotency are what
the checks of its days last said; what was never checked is proved on the spot as long as it is small.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from finance_os.evidence.canonical import canonical_json, decode
from finance_os.evidence.database import Database
from finance_os.readiness.verdicts import Status
from finance_os.sources.source import Cadence, EvidenceSource, Source

PROVED_ON_THE_SPOT = 10_000
"""Up to how many versions of an object type that no check has looked at are proved while somebody waits."""


PROVED = ("trace", "idempotency")
"""The checks of days that a source's evidence hangs on."""


@dataclass(frozen=True)
class SourceEvidence:
    """The evidence of one source of one business.

    `sync_runs` counts readings: what one Dagster run read of the source's object types is one. `latest_rows` is how
    many rows the latest reading saw. `reasons` say why something is not ready, and what to do about it.
    """

    source_system: str
    name: str
    title: str
    object_types: tuple[str, ...]
    scheduleable: bool
    sla: timedelta
    freshness: Status
    trace: Status
    idempotency: Status
    latest_at: datetime | None
    latest_status: str | None
    latest_rows: int | None
    raw_rows: int
    sync_runs: int
    reasons: tuple[str, ...]

    @property
    def status(self) -> Status:
        """Ready, stale or pending: what its freshness says unless that is ready, then the others."""
        if self.freshness is not Status.READY:
            return self.freshness
        return Status.READY if self.trace is self.idempotency is Status.READY else Status.PENDING

    @property
    def sentence(self) -> str:
        """What the evidence is, in a sentence."""
        if self.latest_at is None:
            return f"No {self.name} sync run has been recorded yet."
        ended = "completed" if self.latest_status == "succeeded" else self.latest_status
        return (
            f"{self.raw_rows} raw rows across {', '.join(self.object_types)}; "
            f"latest {self.name} run {ended} {_iso(self.latest_at)}."
        )

    @property
    def facts(self) -> dict[str, str]:
        """What readiness hangs on, for an evidence hash: no counts and no times, which move all day."""
        return {
            "source": self.name,
            "freshness": self.freshness.value,
            "trace": self.trace.value,
            "idempotency": self.idempotency.value,
        }


def source_evidence(
    database: Database, sources: Iterable[Source], business_id: str, excluded: frozenset[str] = frozenset()
) -> list[SourceEvidence]:
    """The evidence of every source that is not excluded, in the order of their places."""
    wanted = [
        (source, evidence)
        for source in sources
        if source.system not in excluded
        for evidence in source.evidence_sources
    ]
    wanted.sort(key=lambda each: each[1].place)
    keys = [(source.system, object_type) for source, evidence in wanted for object_type in evidence.object_types]
    objects = _objects(database, business_id, keys)
    readings = _readings(database, business_id, wanted)
    unproved = {key: of for key, of in objects.items() if of["versions"] and not of["checked"]}
    proofs = {
        key: _prove(database, business_id, *key) if of["versions"] <= PROVED_ON_THE_SPOT else (False, False)
        for key, of in unproved.items()
    }
    return [_evidence(source, evidence, objects, readings, proofs) for source, evidence in wanted]


def _evidence(
    source: Source,
    evidence: EvidenceSource,
    objects: Mapping[tuple[str, str], dict[str, Any]],
    readings: Mapping[tuple[str, str], dict[str, Any]],
    proofs: Mapping[tuple[str, str], tuple[bool, bool]],
) -> SourceEvidence:
    found = {object_type: objects[source.system, object_type] for object_type in evidence.object_types}
    reading = readings[source.system, evidence.name]
    raw_rows = sum(each["versions"] for each in found.values())
    reasons: list[str] = []
    late = [
        name for name, each in found.items() if each["reached"] is None or each["now"] - each["reached"] > source.sla
    ]
    if reading["sync_runs"] == 0:
        freshness = Status.PENDING
        reasons.append(_read_it(source, evidence.object_types))
    elif late:
        freshness = Status.STALE
        reasons.append(f"{', '.join(late)} not read within {source.sla.days} d: {_read_it(source, late)}")
    else:
        freshness = Status.READY
    judged: dict[str, Status] = {}
    for place, check in enumerate(PROVED):
        failing = [name for name, each in found.items() if check in (each["blocked"] or ())]
        unproved = [name for name in found if not proofs.get((source.system, name), (True, True))[place]]
        if reading["sync_runs"] == 0:
            judged[check] = Status.PENDING
        elif not raw_rows:
            # A source that is empty has nothing to trace; one that showed rows of which none is staged is not.
            empty = freshness is Status.READY and not reading["latest_rows"]
            judged[check] = Status.READY if empty else Status.PENDING
            if freshness is Status.READY and not empty:
                reasons.append(f"{check}: the latest reading showed rows and none is staged: materialize it again.")
        elif failing or unproved:
            judged[check] = Status.PENDING
            if failing:
                reasons.append(f"{check} of {', '.join(failing)} is blocked: look at its check in the Dagster UI.")
            if unproved:
                reasons.append(f"{check} of {', '.join(unproved)} was never checked: run the asset's checks.")
        else:
            judged[check] = Status.READY
    return SourceEvidence(
        source_system=source.system,
        name=evidence.name,
        title=evidence.title,
        object_types=evidence.object_types,
        scheduleable=source.cadence is Cadence.DAILY,
        sla=source.sla,
        freshness=freshness,
        trace=judged["trace"],
        idempotency=judged["idempotency"],
        latest_at=reading["latest_at"],
        latest_status=reading["latest_status"],
        latest_rows=reading["latest_rows"],
        raw_rows=raw_rows,
        sync_runs=reading["sync_runs"],
        reasons=tuple(reasons),
    )


def _objects(database: Database, business_id: str, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Any]:
    """For each object type its count of versions, how far it was read, and what its checks last found wrong.

    `reached` is that of the connection that was read longest ago; `None` where one never was, or there is none.
    `blocked` are those of `PROVED` whose latest verdict on some day is blocked; `checked` says whether each of them
    ever found something out: that a day was never read is no finding.
    """
    rows = database.fetch(
        """
        SELECT given.source_system, given.object_type, now() AS now, coalesce(counted.versions, 0) AS versions,
               reach.reached, failing.blocked,
               (SELECT bool_and(EXISTS (
                    SELECT FROM finance_os.check_results AS result
                    WHERE result.business_id = %(business_id)s AND result.source_system = given.source_system
                      AND result.object_type = given.object_type AND result.check_name = required.check_name
                      AND result.status IN ('ready', 'blocked')))
                FROM unnest(%(checks)s::text[]) AS required (check_name)) AS checked
        FROM unnest(%(systems)s::text[], %(objects)s::text[]) AS given (source_system, object_type)
        LEFT JOIN finance_os.raw_record_counts AS counted
          ON counted.business_id = %(business_id)s AND counted.source_system = given.source_system
         AND counted.object_type = given.object_type
        LEFT JOIN LATERAL (
            SELECT CASE WHEN bool_and(last.reaches_to IS NOT NULL) THEN min(last.reaches_to) END AS reached
            FROM finance_os.connections AS connection
            LEFT JOIN LATERAL (
                SELECT reaches_to FROM finance_os.source_sync_runs AS run
                WHERE run.business_id = %(business_id)s AND run.source_system = given.source_system
                  AND run.object_type = given.object_type AND run.connection_id = connection.connection_id
                  AND run.reaches_to IS NOT NULL
                ORDER BY run.reaches_to DESC LIMIT 1
            ) AS last ON true
            WHERE connection.business_id = %(business_id)s AND connection.source_system = given.source_system
              AND connection.active
        ) AS reach ON true
        LEFT JOIN LATERAL (
            SELECT array_agg(DISTINCT was.check_name) AS blocked
            FROM (SELECT check_name, partition_day, max(check_result_id) AS check_result_id
                  FROM finance_os.check_results AS result
                  WHERE result.business_id = %(business_id)s AND result.source_system = given.source_system
                    AND result.object_type = given.object_type AND result.check_name = ANY (%(checks)s)
                    AND result.status = 'blocked'
                  GROUP BY check_name, partition_day) AS was
            LEFT JOIN LATERAL (
                SELECT true AS mended FROM finance_os.check_results AS later
                WHERE later.business_id = %(business_id)s AND later.source_system = given.source_system
                  AND later.object_type = given.object_type AND later.check_name = was.check_name
                  AND later.partition_day = was.partition_day AND later.check_result_id > was.check_result_id
                LIMIT 1
            ) AS later ON true
            WHERE later.mended IS NULL
        ) AS failing ON true
        """,
        {
            "business_id": business_id,
            "systems": [key[0] for key in keys],
            "objects": [key[1] for key in keys],
            "checks": list(PROVED),
        },
    )
    return {(row["source_system"], row["object_type"]): row for row in rows}


def _readings(
    database: Database, business_id: str, wanted: Sequence[tuple[Source, EvidenceSource]]
) -> dict[tuple[str, str], Any]:
    """How often each evidence source was read, and how the latest reading ended.

    A reading is what one Dagster run read of it, or one sync run outside Dagster; skipped and targeted reads are none.
    """
    flat = [
        (source.system, evidence.name, object_type)
        for source, evidence in wanted
        for object_type in evidence.object_types
    ]
    rows = database.fetch(
        """
        WITH given AS (
            SELECT * FROM unnest(%(systems)s::text[], %(names)s::text[], %(objects)s::text[])
                AS given (source_system, name, object_type)
        ), last AS (
            SELECT given.source_system, given.name, run.*
            FROM given
            CROSS JOIN LATERAL (
                SELECT reading, sync_run_id, status, completed_at
                FROM finance_os.source_sync_runs AS run
                WHERE run.business_id = %(business_id)s AND run.source_system = given.source_system
                  AND run.object_type = given.object_type AND run.status IN ('succeeded', 'failed')
                  AND run.kind <> 'targeted'
                ORDER BY sync_run_id DESC LIMIT 1
            ) AS run
        ), latest AS (
            SELECT DISTINCT ON (source_system, name) source_system, name, reading
            FROM last ORDER BY source_system, name, sync_run_id DESC
        ), ended AS (
            SELECT latest.source_system, latest.name, max(run.completed_at) AS latest_at,
                   sum(run.rows_extracted)::bigint AS latest_rows,
                   CASE WHEN bool_or(run.status = 'failed') THEN 'failed' ELSE 'succeeded' END AS latest_status
            FROM latest
            JOIN given USING (source_system, name)
            JOIN finance_os.source_sync_runs AS run
              ON run.business_id = %(business_id)s AND run.source_system = latest.source_system
             AND run.object_type = given.object_type AND run.status IN ('succeeded', 'failed')
             AND run.kind <> 'targeted' AND run.reading = latest.reading
            GROUP BY latest.source_system, latest.name
        ), counted AS (
            SELECT source_system, name, count(*) AS sync_runs
            FROM (SELECT DISTINCT given.source_system, given.name, run.reading
                  FROM given
                  JOIN finance_os.source_sync_runs AS run
                    ON run.business_id = %(business_id)s AND run.source_system = given.source_system
                   AND run.object_type = given.object_type AND run.status IN ('succeeded', 'failed')
                   AND run.kind <> 'targeted') AS reading
            GROUP BY source_system, name
        )
        SELECT DISTINCT given.source_system, given.name, coalesce(counted.sync_runs, 0) AS sync_runs,
               ended.latest_at, ended.latest_rows, ended.latest_status
        FROM given
        LEFT JOIN counted USING (source_system, name)
        LEFT JOIN ended USING (source_system, name)
        """,
        {
            "business_id": business_id,
            "systems": [each[0] for each in flat],
            "names": [each[1] for each in flat],
            "objects": [each[2] for each in flat],
        },
    )
    return {(row["source_system"], row["name"]): row for row in rows}


def _prove(database: Database, business_id: str, source_system: str, object_type: str) -> tuple[bool, bool]:
    """Whether each version leads to the run that first saw it, and whether each still hashes to its key."""
    rows = database.fetch(
        """
        SELECT record.payload::text AS payload, record.payload_hash,
               EXISTS (SELECT FROM finance_os.source_sync_runs AS run
                       WHERE run.sync_run_id = record.first_sync_run_id AND run.business_id = record.business_id
                         AND run.source_system = record.source_system AND run.object_type = record.object_type
               ) AS traced
        FROM finance_os.raw_source_records AS record
        WHERE record.business_id = %s AND record.source_system = %s AND record.object_type = %s
        """,
        (business_id, source_system, object_type),
    )
    hashes = all(
        hashlib.sha256(canonical_json(decode(row["payload"]))).digest() == bytes(row["payload_hash"]) for row in rows
    )
    return all(row["traced"] for row in rows), hashes


def _read_it(source: Source, object_types: Sequence[str]) -> str:
    if source.cadence is Cadence.MANUAL:
        return f"Hand in a recent file of {source.title}."
    return f"Materialize {', '.join(f'{source.system}/{name}' for name in object_types)} for today."


def _iso(moment: datetime) -> str:
    """A time in UTC, without the zeros that end its fraction: `2026-05-10T04:21:37.55+00:00`."""
    whole, _, fraction = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}{'.' + fraction if fraction else ''}+00:00"
