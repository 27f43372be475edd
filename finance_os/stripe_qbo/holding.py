"""Holding an intent: one process at a time works on it, for as long as that process lives."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from typing_extensions import override

from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.readiness.external_actions import Action, begin_action
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.stripe_qbo import due, links, states
from finance_os.stripe_qbo.intent import RAIL, LinkKey, Operation
from finance_os.stripe_qbo.kept import Kept, reread
from finance_os.stripe_qbo.links import Link
from finance_os.stripe_qbo.lookup import ENTITIES, Entity

PATIENCE = "30min"
"""How long the database waits for a process that works on an intent and says nothing; then it is another one's turn."""


class Ended(StrEnum):
    """How a run left an intent.

    applied: written and linked; found: it was there from an attempt whose answer was lost, and is linked now; failed:
    refused, nothing was written; conflicted: something else stands in its place, and nothing more is written; unknown:
    the next run looks it up; busy: another applier is at it; waiting: something that it refers to is not linked, or its
    object is still needed as it is; withdrawn: there was nothing to do any more.
    """

    APPLIED = "applied"
    FOUND = "found"
    FAILED = "failed"
    CONFLICTED = "conflicted"
    UNKNOWN = "unknown"
    BUSY = "busy"
    WAITING = "waiting"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class _Side(Database):
    """The same database, worked with on one connection that is open already, one transaction after the other."""

    opened: DatabaseConnection | None = None

    @override
    @contextmanager
    def connection(self) -> Iterator[DatabaseConnection]:
        assert self.opened is not None
        yield self.opened


@dataclass(frozen=True)
class Holder:
    """A transaction that holds intents, and `side`, where everything about them is committed at once.

    `ended` is how those of them ended that were brought to an end, by `intent_id`.
    """

    lock: DatabaseConnection
    side: Database
    ended: dict[int, Ended]

    def require(self) -> None:
        """Raise what the database does where the transaction is over, so that others may hold the intents by now."""
        self.lock.execute("SELECT")


@dataclass(frozen=True)
class Hold:
    """An intent that this process alone works on.

    `links` are those of its key and of what it refers to. `perhaps_sent` says that a request without a known answer
    went before.
    """

    holder: Holder
    kept: Kept
    action: Action
    links: Mapping[LinkKey, Link]
    perhaps_sent: bool

    @property
    def side(self) -> Database:
        return self.holder.side

    @property
    def entity(self) -> Entity:
        return ENTITIES[self.kept.intent.entity]

    @property
    def own_link(self) -> Link:
        """The link of what is to be changed; an update or void is not sent before it is there."""
        return self.links[self.kept.intent.key]

    @property
    def sent(self) -> Mapping[str, Any]:
        """What was, or is about to be, sent."""
        assert self.kept.resolved is not None
        return self.kept.resolved


@contextmanager
def holding(database: Database, ended: dict[int, Ended]) -> Iterator[Holder]:
    """A transaction to hold intents in; at its end, or the process's, they are let go. `ended` is filled meanwhile."""
    with database.connection() as connection, database.connection() as side, database.transaction(connection) as lock:
        lock.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", (PATIENCE,))
        yield Holder(lock, _Side(database.url, database.role, side), ended)


def take(holder: Holder, kept: Kept) -> Hold | Ended:
    """Hold an intent and begin its external action; how it ends where there is nothing to be done.

    Raises `PolicyGated` unless an approval in force covers its realm.
    """
    lock, side = holder.lock, holder.side
    row = lock.execute(
        "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0)) AS is_mine",
        (f"finance_os/intent/{kept.business_id}/{RAIL}/{kept.realm}/{kept.intent.key}",),
    ).fetchone()
    if row is None or not row["is_mine"]:
        return Ended.BUSY
    kept = reread(lock, kept.intent_id)  # as the last who held it left it
    if kept.state not in ("planned", "sending"):
        return Ended.WITHDRAWN
    keys = {kept.intent.key, *kept.intent.depends_on}
    known = {each.key: each for each in links.read(lock, kept.business_id, kept.realm, map(str, keys))}
    if not known.keys() >= set(kept.intent.depends_on) or due.waits_for_others(lock, kept):
        return Ended.WAITING
    action = begin_action(side, kept.business_id, QBO_EXPORT.key, kept.action_key, kept.realm, kept.input_hash)
    if kept.state == "planned" and kept.intent.operation is Operation.CREATE and kept.intent.key in known:
        with side.transaction() as connection:
            states.settle(connection, kept, "superseded", "adopted")  # found in QuickBooks since it was planned
        return Ended.WITHDRAWN
    return Hold(holder, kept, action, known, perhaps_sent=kept.state == "sending")


def require_approval(hold: Hold) -> None:
    """Raise `PolicyGated` unless the approval under which an intent was sent is still there, or another one."""
    kept = hold.kept
    begin_action(hold.side, kept.business_id, QBO_EXPORT.key, kept.action_key, kept.realm, kept.input_hash)
