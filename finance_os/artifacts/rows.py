"""The rows that others take over from the finance database, as types: what is known outside, and in what form.

One declaration a table: its JSON Schema and its BigQuery table follow from it, and tests hold it against PostgreSQL's
own catalogue (columns, types, what may be null, comments, allowed values).
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.lookup import ENTITIES
from finance_os.webhooks.events import SYSTEMS

Business = Annotated[str, Meta(min_length=1, description="The business (tenant) that it belongs to.")]
Rail = Annotated[
    str, Meta(pattern="^[a-z][a-z0-9_]*$", description="What it is written through: `qbo` is QuickBooks Online.")
]
Realm = Annotated[str, Meta(min_length=1, description="The QuickBooks company.")]
StripeObject = Annotated[str, Meta(min_length=1, description="Stripe's word for the object, such as invoice.")]
StripeId = Annotated[str, Meta(min_length=1, description="Stripe's ID of the object.")]
Role = Annotated[str, Meta(min_length=1, description="Tells apart the QuickBooks objects that one Stripe object has.")]
Key = Annotated[
    str, Meta(pattern="^[^:]+:.+:[^:]+$", description="stripe_object, stripe_id and role, joined by colons.")
]
EntityName = Annotated[
    str, Meta(extra_json_schema={"enum": sorted(ENTITIES)}, description="QuickBooks' word for the kind of object.")
]
Number = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Moment = Annotated[datetime, Meta(tz=True)]

_HASH = "^[0-9a-f]{64}$"


class IntentRow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Planned writes. What is planned never changes; another payload is another version. Only the state moves."""

    intent_id: Annotated[Number, Meta(description="Its number.")]
    business_id: Business
    rail: Rail
    realm: Realm
    stripe_object: StripeObject
    stripe_id: StripeId
    role: Role
    key: Key
    operation: Annotated[Operation, Meta(description="What it does to its QuickBooks object; nothing is deleted.")]
    version: Annotated[Number, Meta(description="Counts the versions of one operation on one key.")]
    entity: EntityName
    payload: Annotated[
        dict[str, Any],
        Meta(
            description="QuickBooks' JSON with references in place of IDs that were not known. It may name a customer: "
            "not for readers.",
            extra_json_schema={"$ref": "#/$defs/Payload"},
        ),
    ]
    input_hash: Annotated[str, Meta(pattern=_HASH, description="SHA-256 in hex over what is to be written.")]
    marker: Annotated[
        str, Meta(pattern="^\\S+$", description="The word that its object is found by after an unknown answer.")
    ]
    dated: Annotated[date, Meta(description="The accounting date of what is written.")]
    depends_on: Annotated[list[Key], Meta(description="The keys of the links that must be there before it is sent.")]
    evidence: Annotated[
        dict[str, Annotated[str, Meta(pattern=_HASH)]],
        Meta(description="Payload hashes of the source records that it was planned from, by object and ID."),
    ]
    plan_run: Annotated[str, Meta(description="Who planned it: a Dagster run, or the command line.")]
    due: Annotated[
        date,
        Meta(
            description="The latest date in its plan up to it: by due and then by place, the intents of one plan are "
            "in the plan's order."
        ),
    ]
    place: Annotated[Count, Meta(description="Where it stands in the last plan that had it.")]
    state: Annotated[
        Literal["planned", "sending", "applied", "failed", "superseded", "conflicted"],
        Meta(
            description="planned: not sent; sending: committed before the call, its answer unknown; applied: the "
            "object is linked; failed: refused, nothing was written; conflicted: something else stands in its place, "
            "nothing more is written, and its code says over what: a create with qbo_object_doubled, "
            "qbo_object_missing or qbo_link_conflict was written; superseded: another version, or the plan's silence, "
            "took its place before it was sent."
        ),
    ]
    requestid: Annotated[
        Annotated[str, Meta(min_length=1, max_length=50)] | None,
        Meta(description="What QuickBooks knows a repetition of the request by."),
    ]
    resolved: Annotated[
        dict[str, Any] | None,
        Meta(description="What is sent, with every ID in its place; the same as long as its requestid."),
    ]
    refusals: Annotated[
        Count,
        Meta(description="How often it was refused for good; each gives the next try another requestid."),
    ]
    code: Annotated[str, Meta(description="Why it ended as it did; empty where there is nothing to say.")]
    planned_at: Annotated[Moment, Meta(description="When it was kept.")]
    sent_at: Annotated[Moment | None, Meta(description="When it was first about to be sent.")]
    settled_at: Annotated[Moment | None, Meta(description="When its state was last settled.")]


class AttemptRow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Each step of each attempt at an intent, as it happened. Append-only."""

    attempt_id: Annotated[Number, Meta(description="Its number.")]
    business_id: Business
    intent_id: Annotated[Number, Meta(description="The intent.")]
    step: Annotated[
        Literal["sending", "answered", "refused", "unknown", "found", "absent", "conflicted"],
        Meta(
            description="sending: committed before the call; answered: written; refused: not written; unknown: no "
            "answer that can be read; found, absent: what looking it up gave; conflicted: something else stands in its "
            "place."
        ),
    ]
    requestid: Annotated[str, Meta(description="The requestid that was sent; empty before there was one.")]
    qbo_id: Annotated[str, Meta(description="QuickBooks' ID of the object; empty where none was shown.")]
    sync_token: Annotated[str, Meta(description="The version of the object; empty where none was shown.")]
    code: Annotated[str, Meta(description="QuickBooks' fault, or a code of the export's; empty where all was well.")]
    intuit_tid: Annotated[str, Meta(description="Intuit's own ID of the exchange, for their support.")]
    at: Annotated[Moment, Meta(description="When it happened.")]


class LinkRow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which object in QuickBooks stands for which object of Stripe, in which role. Committed with the answer to its
    write."""

    link_id: Annotated[Number, Meta(description="Its number.")]
    business_id: Business
    rail: Rail
    stripe_object: StripeObject
    stripe_id: StripeId
    role: Role
    key: Key
    realm: Realm
    entity: EntityName
    qbo_id: Annotated[str, Meta(min_length=1, description="QuickBooks' ID of the object.")]
    sync_token: Annotated[
        str, Meta(pattern="^[0-9]{1,18}$", description="The version of the object that was seen last.")
    ]
    origin: Annotated[
        Literal["created", "adopted"],
        Meta(description="created: by an intent; adopted: it was in QuickBooks before."),
    ]
    input_hash: Annotated[
        Annotated[str, Meta(pattern=_HASH)] | None,
        Meta(description="Of the intent that was applied to it last; none while it is only adopted."),
    ]
    linked_at: Annotated[Moment, Meta(description="When the link was made.")]
    updated_at: Annotated[Moment, Meta(description="When an intent was last applied to it.")]
    verified_at: Annotated[
        Moment | None,
        Meta(description="When QuickBooks last showed it as planned; none since it showed it otherwise."),
    ]


class EventRow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The inbox: every event once, however often it came. received → requested (its objects are being read) → done,
    back to received where a read failed, or poisoned: set aside after too many tries."""

    event_number: Annotated[Number, Meta(description="Its number, in the order of arrival.")]
    business_id: Business
    source_system: Annotated[str, Meta(extra_json_schema={"enum": sorted(SYSTEMS)}, description="Who sent it.")]
    connection_id: Annotated[Number, Meta(description="The connection that it belongs to.")]
    event_key: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=400,
            description="The vendor's event ID; where it gives none, the SHA-256 of the signed body, and the entity "
            "that it speaks of.",
        ),
    ]
    event_type: Annotated[str, Meta(min_length=1, max_length=200, description="The vendor's word for what happened.")]
    body_id: Annotated[Number, Meta(description="The body that it came in.")]
    received_at: Annotated[Moment, Meta(description="When it came, or was found to be missing.")]
    delivered_at: Annotated[
        Moment | None,
        Meta(
            description="When it first came as a webhook; null for one that the gap check found in the evidence, and "
            "that never came."
        ),
    ]
    deliveries: Annotated[Count, Meta(description="How often it came.")]
    state: Annotated[
        Literal["received", "requested", "done", "poisoned"],
        Meta(description="Where it stands; the table's description says how states follow."),
    ]
    tries: Annotated[
        Count,
        Meta(
            description="Reads that failed and may have failed because of this event; what is the connection's own "
            "trouble is not counted."
        ),
    ]
    wait_until: Annotated[Moment | None, Meta(description="It is not read for before this time.")]
    failed_at: Annotated[Moment | None, Meta(description="When a read for it failed last.")]
    last_error: Annotated[str | None, Meta(description="Codes of what failed last, by object type.")]
    reads: Annotated[
        dict[str, list[str] | None],
        Meta(
            description="Object type → source IDs, or null for its present day: what the event asks to be read. "
            "Empty: nothing."
        ),
    ]
    request_id: Annotated[Number | None, Meta(description="The request that reads for it, or did so last.")]
    sync_run_ids: Annotated[list[Number], Meta(description="The sync runs that read what it asks for.")]
    replays: Annotated[Count, Meta(description="How often somebody had it walked again.")]
    settled_at: Annotated[Moment | None, Meta(description="When it was done or set aside.")]


@dataclass(frozen=True)
class Table:
    """A table that rows are taken from, in schema `finance_os`.

    `identity` is its primary key, `refers` its foreign keys among the tables that go to BigQuery. `partition` is the
    date or time that a BigQuery table of it is partitioned by, `cluster` what it is clustered by; a table without is
    not taken there.
    """

    name: str
    row: type[msgspec.Struct]
    identity: str
    partition: str = ""
    cluster: tuple[str, ...] = ()
    refers: tuple[tuple[str, str, str], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns, in order."""
        return self.row.__struct_fields__

    @property
    def description(self) -> str:
        """What it holds."""
        return " ".join((self.row.__doc__ or "").split())


TABLES: tuple[Table, ...] = (
    Table("intents", IntentRow, "intent_id", "dated", ("business_id", "realm", "key")),
    Table(
        "intent_attempts",
        AttemptRow,
        "attempt_id",
        "at",
        ("business_id", "intent_id"),
        (("intent_id", "intents", "intent_id"),),
    ),
    Table("links", LinkRow, "link_id", "linked_at", ("business_id", "realm", "key")),
    Table("webhook_events", EventRow, "event_number"),
)
"""Every table that rows are taken from."""


def table_named(name: str) -> Table:
    """A table by its name; `LookupError` with the known ones if there is none."""
    for table in TABLES:
        if table.name == name:
            return table
    raise LookupError(f"there is no table {name!r} to take rows from; there are {', '.join(t.name for t in TABLES)}")
