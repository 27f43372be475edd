"""Alerts as they are kept: what fails under a key, since when, how often, and whether it has recovered.

An alert has *members*, the things that fail under its key: the days of a check, the reads of a job. A failure adds
one, a recovery takes one away, and the alert is resolved when none is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb

from finance_os.alerts.wording import describe
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.extraction import Severity


class AlertKind(StrEnum):
    """What an alert speaks of."""

    CHECK = "check"
    RUN = "run"
    FRESHNESS = "freshness"
    EXCEPTION = "exception"


@dataclass(frozen=True)
class Alert:
    """Something that fails, or did until `resolved_at`. `key` is unique among the open alerts of a business.

    `subject` and `message` hold external IDs, codes and counts, no personal data. `count` is how many failures were
    read; `first_seen` and `last_seen` are when the first and the last of them happened. `evidence_hash` is that of
    the last one, `None` where there was no evidence to look at.
    """

    alert_id: int
    business_id: str
    key: str
    kind: AlertKind
    severity: Severity
    subject: str
    code: str
    message: str
    evidence_hash: str | None
    count: int
    first_seen: datetime
    last_seen: datetime
    resolved_at: datetime | None
    source_system: str | None
    object_type: str | None

    @property
    def asset(self) -> str | None:
        """`stripe/stripe_invoice`, where it is about one."""
        return f"{self.source_system}/{self.object_type}" if self.source_system and self.object_type else None

    @property
    def is_open(self) -> bool:
        """Whether it still fails."""
        return self.resolved_at is None


def open_alerts(database: Database, business_id: str | None = None) -> list[Alert]:
    """What fails now, the gravest and then the latest first; of one business if given."""
    return alerts_of(
        database.fetch(
            """
            SELECT * FROM finance_os.alerts
            WHERE resolved_at IS NULL AND (%(business_id)s::text IS NULL OR business_id = %(business_id)s)
            ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], severity), last_seen DESC, alert_id DESC
            """,
            {"business_id": business_id},
        )
    )


def latest_alerts(database: Database, business_id: str | None = None, limit: int = 100) -> list[Alert]:
    """The alerts that were raised last, resolved or not, newest first."""
    return alerts_of(
        database.fetch(
            """
            SELECT * FROM finance_os.alerts
            WHERE %(business_id)s::text IS NULL OR business_id = %(business_id)s
            ORDER BY alert_id DESC LIMIT %(limit)s
            """,
            {"business_id": business_id, "limit": limit},
        )
    )


def alerts_of(rows: Sequence[Mapping[str, Any]]) -> list[Alert]:
    """Rows of `finance_os.alerts` as alerts."""
    return [
        Alert(
            alert_id=row["alert_id"],
            business_id=row["business_id"],
            key=row["alert_key"],
            kind=AlertKind(row["kind"]),
            severity=Severity(row["severity"]),
            subject=row["subject"],
            code=row["code"],
            message=row["message"],
            evidence_hash=row["evidence_hash"],
            count=row["count"],
            first_seen=row["first_seen"],
            last_seen=row["last_seen"],
            resolved_at=row["resolved_at"],
            source_system=row["source_system"],
            object_type=row["object_type"],
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Identity:
    """What an alert is, apart from what fails under it at the moment."""

    business_id: str
    key: str
    kind: AlertKind
    severity: Severity
    subject: str
    code: str
    source_system: str | None = None
    object_type: str | None = None
    check: str | None = None


@dataclass
class Entry:
    """An alert that is being written. `failing` maps members to what is known of each (JSON values)."""

    identity: Identity
    failing: dict[str, dict[str, Any]]
    evidence_hash: str | None
    first_seen: datetime
    last_seen: datetime
    message: str = ""
    count: int = 0
    alert_id: int | None = None
    resolved_at: datetime | None = None
    changed: bool = False


@dataclass
class Ledger:
    """The open alerts of all businesses in one transaction, in which nobody else raises alerts.

    Changes are kept here until `write`.
    """

    entries: dict[tuple[str, str], Entry]
    _closed: list[Entry] = field(default_factory=list)

    @classmethod
    def read(cls, connection: DatabaseConnection) -> "Ledger":
        """The open alerts, locked until the transaction ends."""
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('finance_os/alerts', 0))")
        rows = connection.execute("SELECT * FROM finance_os.alerts WHERE resolved_at IS NULL").fetchall()
        return cls({(row["business_id"], row["alert_key"]): _entry(row) for row in rows})

    def open(self, kind: AlertKind, business_id: str | None = None) -> list[Entry]:
        """The open alerts of a kind."""
        return [
            entry
            for entry in self.entries.values()
            if entry.identity.kind is kind and business_id in (None, entry.identity.business_id)
        ]

    def find(self, business_id: str, key: str) -> Entry | None:
        """The open alert of a key."""
        return self.entries.get((business_id, key))

    def fail(
        self, identity: Identity, member: str, at: datetime, evidence_hash: str | None, known: Mapping[str, Any]
    ) -> None:
        """Count a failure that happened `at`: it opens the alert, or adds to the one that is open."""
        place = identity.business_id, identity.key
        entry = self.entries.get(place)
        if entry is None:
            entry = self.entries[place] = Entry(identity, {}, evidence_hash, at, at)
        entry.identity = identity
        entry.failing[member] = dict(known)
        entry.evidence_hash = evidence_hash
        entry.count += 1
        entry.first_seen = min(entry.first_seen, at)
        entry.last_seen = max(entry.last_seen, at)
        entry.changed = True

    def recover(self, entry: Entry, member: str, at: datetime) -> None:
        """Take away what fails no longer since `at`; an alert without members is resolved."""
        if member not in entry.failing:
            return
        entry.changed = True
        if len(entry.failing) == 1:
            self._say(entry)  # a resolved alert keeps saying what failed last
        del entry.failing[member]
        if entry.failing:
            return
        entry.resolved_at = at
        self._closed.append(self.entries.pop((entry.identity.business_id, entry.identity.key)))

    def write(self, connection: DatabaseConnection) -> list[Alert]:
        """Write what has changed; the alerts that have, in the order in which they were raised."""
        changed = [entry for entry in (*self._closed, *self.entries.values()) if entry.changed]
        for entry in changed:
            if entry.failing:
                self._say(entry)
        rows = [connection.execute(_INSERT if e.alert_id is None else _UPDATE, _row(e)).fetchone() for e in changed]
        for entry, row in zip(changed, rows, strict=True):
            assert row is not None
            entry.alert_id, entry.changed = row["alert_id"], False
        self._closed.clear()
        return sorted(alerts_of([row for row in rows if row is not None]), key=lambda alert: alert.alert_id)

    @staticmethod
    def _say(entry: Entry) -> None:
        entry.message = describe(entry.identity.kind, entry.identity.subject, entry.identity.code, entry.failing)


_INSERT = """
    INSERT INTO finance_os.alerts
        (business_id, alert_key, kind, severity, subject, code, message, evidence_hash, source_system, object_type,
         check_name, failing, count, first_seen, last_seen, resolved_at)
    VALUES (%(business_id)s, %(key)s, %(kind)s, %(severity)s, %(subject)s, %(code)s, %(message)s, %(evidence_hash)s,
            %(source_system)s, %(object_type)s, %(check)s, %(failing)s, %(count)s, %(first_seen)s, %(last_seen)s,
            %(resolved_at)s)
    RETURNING *
    """

_UPDATE = """
    UPDATE finance_os.alerts
    SET severity = %(severity)s, code = %(code)s, message = %(message)s, evidence_hash = %(evidence_hash)s,
        failing = %(failing)s, count = %(count)s, first_seen = %(first_seen)s, last_seen = %(last_seen)s,
        resolved_at = %(resolved_at)s
    WHERE alert_id = %(alert_id)s
    RETURNING *
    """


def _row(entry: Entry) -> dict[str, Any]:
    return {
        **{name: getattr(entry.identity, name) for name in Identity.__dataclass_fields__},
        "alert_id": entry.alert_id,
        "message": entry.message,
        "evidence_hash": entry.evidence_hash,
        "failing": Jsonb(entry.failing),
        "count": entry.count,
        "first_seen": entry.first_seen,
        "last_seen": entry.last_seen,
        "resolved_at": entry.resolved_at,
    }


def _entry(row: Mapping[str, Any]) -> Entry:
    identity = Identity(
        row["business_id"],
        row["alert_key"],
        AlertKind(row["kind"]),
        Severity(row["severity"]),
        row["subject"],
        row["code"],
        row["source_system"],
        row["object_type"],
        row["check_name"],
    )
    return Entry(
        identity,
        row["failing"],
        row["evidence_hash"],
        row["first_seen"],
        row["last_seen"],
        row["message"],
        row["count"],
        row["alert_id"],
    )
