"""The trail of one thing through the house, from the webhook to the object in QuickBooks and back, out of the tables.

Every station keeps the IDs of the one before it: an event the reads that it asked for and the sync runs that did them,
a version the run that brought it, an intent the payload hashes that it was planned from, an attempt its intent, a link
its key. Logs are for following along; this holds however long ago it was. External IDs only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, Protocol

MOST = 500
"""Most steps of one station."""


class Looked(Protocol):
    """A look at the finance database."""

    def fetch(self, query: LiteralString, parameters: Mapping[str, Any] = ...) -> list[dict[str, Any]]:
        """All rows of one query."""
        ...


@dataclass(frozen=True)
class Step:
    """Something that happened, when, and the IDs that it bears."""

    at: datetime
    business_id: str
    what: str
    ids: Mapping[str, str | int]


_EVENTS: LiteralString = """
    SELECT received_at AS at, business_id, 'webhook received' AS what, event_number, event_key, event_type, deliveries,
           state, request_id, sync_run_ids, reads
    FROM finance_os.webhook_events
    WHERE (%(business_id)s::text IS NULL OR business_id = %(business_id)s)
      AND (event_key = ANY (%(wanted)s)
           OR EXISTS (SELECT FROM jsonb_each(reads) AS read WHERE read.value ?| %(wanted)s))
    ORDER BY event_number DESC LIMIT %(most)s
    """

_RUNS: LiteralString = """
    SELECT coalesce(completed_at, started_at) AS at, business_id, 'sync run ' || status AS what, sync_run_id,
           object_type, kind, dagster_run_id
    FROM finance_os.source_sync_runs WHERE sync_run_id = ANY (%(runs)s) ORDER BY sync_run_id LIMIT %(most)s
    """

_VERSIONS: LiteralString = """
    SELECT first_seen_at AS at, business_id, 'version staged' AS what, record_id, object_type, source_id,
           encode(payload_hash, 'hex') AS payload_hash, first_sync_run_id AS sync_run_id
    FROM finance_os.raw_source_records
    WHERE (%(business_id)s::text IS NULL OR business_id = %(business_id)s)
      AND (business_id, source_system, object_type, source_id) IN (
          SELECT business_id, 'stripe', object_type, wanted.source_id
          FROM finance_os.businesses
          CROSS JOIN unnest(%(wanted)s::text[]) AS wanted (source_id)
          CROSS JOIN unnest(%(object_types)s::text[]) AS known (object_type))
    ORDER BY record_id DESC LIMIT %(most)s
    """

_INTENTS: LiteralString = """
    SELECT planned_at AS at, business_id, 'intent planned' AS what, intent_id, key, operation, version, entity, state,
           input_hash, plan_run
    FROM finance_os.intents AS intent
    WHERE (%(business_id)s::text IS NULL OR business_id = %(business_id)s)
      AND (stripe_id = ANY (%(wanted)s)
           OR EXISTS (SELECT FROM jsonb_object_keys(evidence) AS source (name)
                      WHERE split_part(source.name, ':', 2) = ANY (%(wanted)s)))
    ORDER BY intent_id DESC LIMIT %(most)s
    """

_ATTEMPTS: LiteralString = """
    SELECT at, business_id, 'intent ' || step AS what, intent_id, requestid, qbo_id, sync_token, code, intuit_tid
    FROM finance_os.intent_attempts WHERE intent_id = ANY (%(intents)s) ORDER BY attempt_id LIMIT %(most)s
    """

_LINKS: LiteralString = """
    SELECT linked_at AS at, business_id, 'linked, ' || origin AS what, key, realm, entity, qbo_id, stripe_id,
           verified_at
    FROM finance_os.links
    WHERE (%(business_id)s::text IS NULL OR business_id = %(business_id)s)
      AND (key = ANY (%(keys)s) OR stripe_id = ANY (%(wanted)s) OR (entity, qbo_id) = (%(entity)s, %(qbo_id)s))
    ORDER BY link_id LIMIT %(most)s
    """


def trail(look: Looked, thing: str, object_types: Iterable[str], business_id: str | None = None) -> list[Step]:
    """Everything that is known about `thing`, in the order in which it happened; empty where nothing is.

    `thing` is an event's ID, an object's at Stripe, or one in QuickBooks written as `Invoice:145`. `object_types` are
    those of Stripe. What an event asked to be read is followed too, and what was planned from an object's evidence.
    """
    entity, _, qbo_id = thing.partition(":")
    given: dict[str, Any] = {
        "business_id": business_id,
        "most": MOST,
        "wanted": [thing],
        "object_types": list(object_types),
        "entity": entity,
        "qbo_id": qbo_id,
        "keys": [],
    }
    found_by_link = look.fetch(_LINKS, given)
    wanted = {thing, *(row["stripe_id"] for row in found_by_link)}
    for row in look.fetch(_EVENTS, {**given, "wanted": [thing]}):
        if row["event_key"] == thing:
            wanted.update(source_id for ids in row["reads"].values() for source_id in ids or ())
    given["wanted"] = sorted(wanted)
    events = look.fetch(_EVENTS, given)
    versions = look.fetch(_VERSIONS, given)
    intents = look.fetch(_INTENTS, given)
    runs = {run for row in events for run in row["sync_run_ids"]} | {row["sync_run_id"] for row in versions}
    given |= {
        "runs": sorted(runs),
        "intents": [row["intent_id"] for row in intents],
        "keys": sorted({row["key"] for row in intents}),
    }
    links = look.fetch(_LINKS, given)
    rows = [*events, *look.fetch(_RUNS, given), *versions, *intents, *look.fetch(_ATTEMPTS, given), *links]
    steps = [_step(row) for row in rows]
    steps += [
        Step(row["verified_at"], row["business_id"], "verified", {"key": row["key"], "qbo_id": row["qbo_id"]})
        for row in links
        if row["verified_at"] is not None
    ]
    return sorted(steps, key=lambda step: step.at)


def _step(row: Mapping[str, Any]) -> Step:
    left_out = {"at", "business_id", "what", "reads", "sync_run_ids", "verified_at"}
    ids = {name: value for name, value in row.items() if name not in left_out and value not in (None, "")}
    return Step(row["at"], row["business_id"], row["what"], ids)
