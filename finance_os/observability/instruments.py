"""Every metric that there is: its name, kind, unit and attributes, declared once.

Attributes tell businesses, source systems, kinds of objects, states and codes. IDs of anything outside (a Stripe
object, a realm, an event) are never among them, nor anything that a sender may choose.
https://opentelemetry.io/docs/specs/semconv/general/metrics/
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """counter: only grows, counted where it happens; histogram: how long things take; gauge: read from the database
    whenever metrics are exported."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True)
class Instrument:
    """One metric. `unit` is in UCUM: `s`, or what is counted, in braces. `attributes` are all that it may have."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...]
    boundaries: tuple[float, ...] = ()


QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SLOW = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

WEBHOOK_DELIVERIES = Instrument(
    "finance_os.webhook.deliveries",
    Kind.COUNTER,
    "{delivery}",
    "Deliveries by what became of them: `kept`, or why they were refused. Without a business where the address led to "
    "none.",
    ("business_id", "source_system", "outcome"),
)
WEBHOOK_EVENTS = Instrument(
    "finance_os.webhook.events",
    Kind.COUNTER,
    "{event}",
    "Events of deliveries that were kept: `new`, `known` (they came before), `unknown_realm` (of no company here).",
    ("business_id", "source_system", "outcome"),
)
WEBHOOK_DELIVERY_DURATION = Instrument(
    "finance_os.webhook.delivery.duration",
    Kind.HISTOGRAM,
    "s",
    "From a delivery's whole body to its commit, of those that were kept.",
    ("business_id", "source_system"),
    QUICK,
)
WEBHOOK_SETTLED = Instrument(
    "finance_os.webhook.settled",
    Kind.COUNTER,
    "{event}",
    "Events whose reads have ended: `done`, `again` (to be tried again), `poisoned` (set aside).",
    ("business_id", "source_system", "outcome"),
)
WEBHOOK_READ_LATENCY = Instrument(
    "finance_os.webhook.read.latency",
    Kind.HISTOGRAM,
    "s",
    "From an event's arrival to when its objects were read again.",
    ("business_id", "source_system"),
    SLOW,
)
SYNC_RUNS = Instrument(
    "finance_os.sync.runs",
    Kind.COUNTER,
    "{run}",
    "Sync runs by how they ended: `succeeded`, `failed`, `skipped`; `code` is the error's, or none.",
    ("business_id", "source_system", "object_type", "kind", "outcome", "code"),
)
SYNC_ROWS = Instrument(
    "finance_os.sync.rows",
    Kind.COUNTER,
    "{record}",
    "Source records of sync runs that succeeded: `new`, `changed`, `unchanged`, `removed`.",
    ("business_id", "source_system", "object_type", "outcome"),
)
SYNC_DURATION = Instrument(
    "finance_os.sync.duration",
    Kind.HISTOGRAM,
    "s",
    "From the beginning of a sync run that succeeded to its end; of kind `targeted`, the reads for webhooks.",
    ("business_id", "source_system", "object_type", "kind"),
    SLOW,
)
QBO_APPLIED = Instrument(
    "finance_os.qbo.applied",
    Kind.COUNTER,
    "{intent}",
    "Intents that were tried, by how that ended: applied, found, failed, conflicted, unknown, busy, waiting or "
    "withdrawn.",
    ("business_id", "entity", "operation", "outcome"),
)
QBO_APPLY_DURATION = Instrument(
    "finance_os.qbo.apply.duration",
    Kind.HISTOGRAM,
    "s",
    "How long one intent took, from the look at it to its settled answer.",
    ("business_id", "entity", "operation", "outcome"),
    SLOW,
)
QBO_REQUESTS = Instrument(
    "finance_os.qbo.requests",
    Kind.COUNTER,
    "{request}",
    "Requests of the writing client, by method and kind of object.",
    ("business_id", "method", "entity"),
)
QBO_VERIFIED = Instrument(
    "finance_os.qbo.verified",
    Kind.COUNTER,
    "{link}",
    "Links that were compared with QuickBooks: `as_planned`, `adopted`, `unsettled`, `differing`.",
    ("business_id", "outcome"),
)
GATE_DECISIONS = Instrument(
    "finance_os.gate.decisions",
    Kind.COUNTER,
    "{decision}",
    "How often a gate was asked, and whether it was `open` or `shut`.",
    ("business_id", "outcome"),
)
GATE_BLOCKERS = Instrument(
    "finance_os.gate.blockers",
    Kind.COUNTER,
    "{blocker}",
    "What kept a gate shut, by its code, once each time that it was asked.",
    ("business_id", "code"),
)

WEBHOOK_BACKLOG = Instrument(
    "finance_os.webhook.backlog",
    Kind.GAUGE,
    "{event}",
    "Events of the inbox that are not done: received, requested, poisoned.",
    ("business_id", "source_system", "state"),
)
WEBHOOK_OLDEST = Instrument(
    "finance_os.webhook.oldest.age",
    Kind.GAUGE,
    "s",
    "Since when the oldest of them waits.",
    ("business_id", "source_system", "state"),
)
QBO_INTENTS = Instrument(
    "finance_os.qbo.intents",
    Kind.GAUGE,
    "{intent}",
    "Intents that are not written: planned, sending, failed, conflicted.",
    ("business_id", "entity", "state"),
)
QBO_OLDEST = Instrument(
    "finance_os.qbo.oldest.age",
    Kind.GAUGE,
    "s",
    "Since when the oldest of them is planned.",
    ("business_id", "entity", "state"),
)
EXCEPTIONS_OPEN = Instrument(
    "finance_os.exceptions.open",
    Kind.GAUGE,
    "{exception}",
    "Open finance exceptions; those of the export have the source system `stripe_qbo`.",
    ("business_id", "source_system", "code", "severity"),
)
ALERTS_OPEN = Instrument(
    "finance_os.alerts.open",
    Kind.GAUGE,
    "{alert}",
    "Alerts that have not recovered.",
    ("business_id", "kind", "severity"),
)
DATABASE_REACHABLE = Instrument(
    "finance_os.database.reachable",
    Kind.GAUGE,
    "1",
    "1 if the finance database could be read for the other gauges, else 0.",
    (),
)

INSTRUMENTS: tuple[Instrument, ...] = (
    WEBHOOK_DELIVERIES,
    WEBHOOK_EVENTS,
    WEBHOOK_DELIVERY_DURATION,
    WEBHOOK_SETTLED,
    WEBHOOK_READ_LATENCY,
    WEBHOOK_BACKLOG,
    WEBHOOK_OLDEST,
    SYNC_RUNS,
    SYNC_ROWS,
    SYNC_DURATION,
    QBO_INTENTS,
    QBO_OLDEST,
    QBO_APPLIED,
    QBO_APPLY_DURATION,
    QBO_REQUESTS,
    QBO_VERIFIED,
    GATE_DECISIONS,
    GATE_BLOCKERS,
    EXCEPTIONS_OPEN,
    ALERTS_OPEN,
    DATABASE_REACHABLE,
)
"""Every metric, in the order in which they are told of."""
