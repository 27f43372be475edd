"""Sensors: what comes in from outside and asks for a run."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from finance_os.defs.assets.sources import TRIGGER_TAG, asset_key
from finance_os.defs.jobs import job_name
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import Connection, active_connections
from finance_os.evidence.extraction import SourceError
from finance_os.evidence.sync_runs import Trigger
from finance_os.settings import settings
from finance_os.sources import drops
from finance_os.sources.credentials import CredentialsMissing, find_credentials
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.source import Reads, Source

OVERLAP = timedelta(minutes=10)
"""For this long, drops accepted around the last one that was seen are requested again: their run key makes it harmless.

A verdict bears the time when its transaction began, so one that committed late may bear an earlier time.
"""

FILES_A_TICK = 20
"""How many files a tick takes at most: the next tick goes on."""


def drop_sensors(sources: Sequence[Source]) -> list[dg.SensorDefinition]:
    """One sensor for each source that takes files."""
    return [_drop_sensor(source) for source in sources if source.judge is not None]


class _Cursor(msgspec.Struct):
    """What a tick leaves for the next: how each waiting file looked, and up to when drops have been requested."""

    seen: dict[str, drops.Observations] = {}
    requested_until: datetime | None = None


def _drop_sensor(source: Source) -> dg.SensorDefinition:
    objects = [obj for obj in source if obj.reads is Reads.DROP]

    @dg.sensor(
        name=f"{source.system}_drops",
        job_name=job_name(source),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Takes {source.title} files out of the drop folder: accepted ones are staged, others quarantined.",
    )
    def take_drops(context: dg.SensorEvaluationContext, evidence: Evidence) -> Iterator[dg.RunRequest | dg.SkipReason]:
        cursor = msgspec.json.decode(context.cursor, type=_Cursor) if context.cursor else _Cursor()
        following = _Cursor(requested_until=cursor.requested_until)
        said: list[str] = []
        requests: list[dg.RunRequest] = []
        for connection in active_connections(evidence.database, source.system):
            place = str(connection)
            try:
                following.seen[place], words = _take_settled(source, evidence, connection, cursor.seen.get(place))
            except (
                SourceError,
                CredentialsMissing,
                ValueError,
                OSError,
            ) as error:  # of this connection: the others go on
                context.log.error(f"{connection}: its files wait: {error}")
                following.seen[place] = cursor.seen.get(place, {})
                words = [f"{connection}: {error}"]
            said += words
            since = _not_requested_since(cursor.requested_until)
            for drop in drops.accepted_drops(evidence.database, connection, judged_since=since):
                following.requested_until = max(following.requested_until or drop.judged_at, drop.judged_at)
                requests += _requests([asset_key(source, obj) for obj in objects], drop)
        context.update_cursor(msgspec.json.encode(following).decode())
        for line in said:
            context.log.info(line)
        yield from requests
        if not requests:
            yield dg.SkipReason("; ".join(said) or f"Nothing waits in {settings().drops_location}.")

    return take_drops


def _not_requested_since(requested_until: datetime | None) -> datetime | None:
    """From when on accepted drops may not have been requested yet. `None`: all of them."""
    if requested_until is None:
        return None
    if datetime.now(UTC) - requested_until < 2 * OVERLAP:
        return requested_until - OVERLAP
    return requested_until + timedelta(microseconds=1)


def _take_settled(
    source: Source, evidence: Evidence, connection: Connection, seen: drops.Observations | None
) -> tuple[drops.Observations, list[str]]:
    """Take the files of one connection's inbox that have settled; how the others look, and what to say of it all."""
    assert source.judge is not None
    location = settings().drops_location
    drops.prepare_inbox(location, connection)
    inbox = drops.look(location, connection, source.reads, max_bytes=settings().drop_max_bytes)
    now = datetime.now(UTC)
    observations = drops.observe(inbox.waiting, now, seen)
    said = [f"{connection}: {ignored.name} is left alone: {ignored.reason}" for ignored in inbox.ignored]
    settled = [
        file for file in inbox.waiting if drops.is_settled(file, now, settings().drop_settle_seconds, observations)
    ]
    credentials = find_credentials(
        connection.secret_reference,
        source.credentials,
        source.options,
        ConnectionSecrets(evidence.database, connection),
    )
    for file in settled[:FILES_A_TICK]:
        taken = drops.take(
            evidence.database,
            connection,
            source.judge,
            file,
            location=location,
            credentials=credentials,
            max_bytes=settings().drop_max_bytes,
        )
        where = f", see {taken.report}" if taken.report else ""
        said.append(f"{connection}: {file.name} is {taken.outcome}{where}")
    if waiting := len(inbox.waiting) - len(settled):
        said.append(f"{connection}: {waiting} file(s) may still be growing")
    return observations, said


def _requests(keys: Sequence[dg.AssetKey], drop: drops.Drop) -> list[dg.RunRequest]:
    """The run that stages an accepted drop; none for a file without rows."""
    if drop.first_day is None or drop.last_day is None:
        return []
    config = {"connections": [drop.connection_id], "drops": [drop.target]}
    return [
        dg.RunRequest(
            run_key=f"{drop.business_id}/{drop.source_system}/{drop.content_hash}",
            run_config={"ops": {key.to_python_identifier(): {"config": config} for key in keys}},
            tags={
                TRIGGER_TAG: Trigger.DROP.value,
                "finance_os/drop": drop.content_hash[:12],
                "dagster/asset_partition_range_start": drop.first_day.isoformat(),
                "dagster/asset_partition_range_end": drop.last_day.isoformat(),
            },
        )
    ]
