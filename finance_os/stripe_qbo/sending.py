"""One intent: sent once, looked up where nobody knows whether it arrived, and settled."""

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.evidence.extraction import Finding, Severity
from finance_os.readiness.external_actions import Action, Outcome, begin_action, end_action
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sources.quickbooks.faults import QuickBooksFailure
from finance_os.stripe_qbo import findings, links, lookup, states, verify
from finance_os.stripe_qbo.client import QuickBooksWriter, Refused, UnknownAnswer, Written
from finance_os.stripe_qbo.intent import RAIL, REFERENCE, LinkKey, Operation
from finance_os.stripe_qbo.links import Link, LinkConflict
from finance_os.stripe_qbo.lookup import ENTITIES, Entity, MarkedTwice
from finance_os.stripe_qbo.states import Kept

UNKNOWN_TRIES = 3
"""How often an intent is sent in one run without an answer before the next run goes on with it."""

STALE_TRIES = 3
"""How often an update is read and sent again because others changed its object meanwhile."""

HOLD = "30min"
"""How long the database waits for a process that works on an intent and says nothing; then it is another one's turn."""

_STALE = "5010"
_MISSING = "610"
_TAKEN = {"6140": ("qbo_number_taken", "number"), "6240": ("qbo_name_taken", "name")}


class Ended(StrEnum):
    """How a run left an intent.

    applied: written and linked; found: it was there from an attempt whose answer was lost, and is linked now; failed:
    refused, nothing was written; conflicted: something else stands in its place, nothing was written; unknown: the
    next run looks it up; busy: another applier is at it; waiting: something that it refers to is not linked, or its
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


class _Conflict(Exception):
    """Something else stands in an intent's place."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.code)


@dataclass(frozen=True)
class _Hold:
    """An intent that this process alone works on: `lock` is the transaction that holds it, and that links it.

    `links` are those of its key and of what it refers to. `perhaps_sent` says that a request without a known answer
    went before.
    """

    lock: DatabaseConnection
    kept: Kept
    action: Action
    links: Mapping[LinkKey, Link]
    perhaps_sent: bool

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


@dataclass
class Sender:
    """Sends intents to one company, from several threads if need be; counts answers that are not as planned."""

    database: Database
    client: QuickBooksWriter
    not_as_planned: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def settle(self, kept: Kept) -> Ended:
        """Bring an intent as far as it goes, in a transaction that holds it alone for as long as this process lives.

        Raises `PolicyGated` with nothing sent, and `SourceError` where the vendor cannot be worked with now.
        """
        with ExitStack() as stack:
            connection = stack.enter_context(self.database.connection())
            lock = stack.enter_context(self.database.transaction(connection))
            row = lock.execute(
                """
                SELECT set_config('idle_in_transaction_session_timeout', %s, true),
                       pg_try_advisory_xact_lock(hashtextextended(%s, 0)) AS is_mine
                """,
                (
                    HOLD,
                    f"finance_os/intent/{kept.business_id}/{RAIL}/{kept.realm}/{kept.intent.key}",
                ),
            ).fetchone()
            if row is None or not row["is_mine"]:
                return Ended.BUSY
            kept = states.reread(lock, kept.intent_id)  # as the last who held it left it
            if kept.state not in ("planned", "sending"):
                return Ended.WITHDRAWN
            keys = {kept.intent.key, *kept.intent.depends_on}
            known = {each.key: each for each in links.read(lock, kept.business_id, kept.realm, map(str, keys))}
            if not known.keys() >= set(kept.intent.depends_on) or states.waits_for_others(lock, kept):
                return Ended.WAITING
            action = begin_action(
                self.database, kept.business_id, QBO_EXPORT.key, kept.action_key, kept.realm, kept.input_hash
            )
            link = known.get(kept.intent.key)
            if kept.state == "planned" and kept.intent.operation is Operation.CREATE and link is not None:
                states.settle(lock, kept, "superseded", "adopted")  # found in QuickBooks since it was planned
                return Ended.WITHDRAWN
            return self._settle(_Hold(lock, kept, action, known, perhaps_sent=kept.state == "sending"))

    def _settle(self, hold: _Hold) -> Ended:
        try:
            return self._look_up(hold) if hold.perhaps_sent else self._send(hold, self._resolved(hold))
        except _Conflict as conflict:
            finding = conflict.finding
        except MarkedTwice as twice:
            finding = _finding(hold, "qbo_object_doubled", Severity.CRITICAL, f"{twice}: void the others, and retry.")
        except LinkConflict as conflict:
            finding = _finding(hold, "qbo_link_conflict", Severity.CRITICAL, f"{conflict}.")
        except QuickBooksFailure as failure:
            if failure.code != "invalid_request":
                raise
            # Of this lookup alone: the others need not wait for it.
            told = _finding(hold, "qbo_lookup_refused", Severity.HIGH, f"{failure.message}. It cannot be looked up.")
            findings.settle(hold.lock, hold.kept.business_id, findings.APPLY, [told], [told.subject])
            return Ended.UNKNOWN
        end_action(self.database, hold.action, Outcome.FAILED, finding.code)
        states.note(hold.lock, hold.kept, "conflicted", code=finding.code)
        states.settle(hold.lock, hold.kept, "conflicted", finding.code)
        findings.settle(hold.lock, hold.kept.business_id, findings.APPLY, [finding], [finding.subject])
        return Ended.CONFLICTED

    # --- sending

    def _resolved(self, hold: _Hold, sync_token: str | None = None) -> Mapping[str, Any]:
        """What is to be sent: every ID in its place, and of a change, which version of the object it is for."""
        intent = hold.kept.intent
        body = resolve(intent.payload, {str(key): link.qbo_id for key, link in hold.links.items()})
        if intent.operation is Operation.CREATE:
            return body
        own = {"Id": hold.own_link.qbo_id, "SyncToken": sync_token or hold.own_link.sync_token, "sparse": True}
        return own if intent.operation is Operation.VOID else {**body, **own}

    def _send(self, hold: _Hold, resolved: Mapping[str, Any], stale: int = 0, lost: int = 0) -> Ended:
        """Commit what is sent, send it, and settle its answer."""
        with self.database.transaction() as connection:
            kept = states.begin_sending(connection, hold.kept, resolved)
        if kept is None:
            return Ended.WITHDRAWN
        hold = replace(hold, kept=kept)
        assert kept.requestid is not None
        try:
            written = self.client.write(hold.entity, kept.intent.operation, resolved, kept.requestid)
        except UnknownAnswer as unknown:
            self._note(hold, "unknown", code=unknown.code)
            if lost + 1 >= UNKNOWN_TRIES:
                end_action(self.database, hold.action, Outcome.UNKNOWN, unknown.code)
                return Ended.UNKNOWN
            patience = self.client.patience
            time.sleep(min(patience.first_wait * 2**lost, patience.longest_wait))
            return self._look_up(replace(hold, perhaps_sent=True), lost=lost + 1)
        except Refused as refused:
            return self._refused(hold, refused, stale)
        return self._applied(hold, written, "answered")

    # --- looking up

    def _look_up(self, hold: _Hold, lost: int = 0) -> Ended:
        """Find out whether what was sent arrived; send the same again only if it did not."""
        if hold.kept.intent.operation is not Operation.CREATE:
            return self._look_up_change(hold, lost=lost)
        held = lookup.find(self.client, hold.entity, hold.sent, hold.kept.intent.marker)
        if held is not None:
            return self._applied(hold, Written(held, ""), "found")
        self._note(hold, "absent")
        if hold.action.outcome is Outcome.DELIVERED:
            detail = (
                f"{hold.entity.name} of {hold.kept.intent.key} was written, its answer was lost, and it is not in "
                "QuickBooks any more. It is not made again: restore it there and retry, or only retry."
            )
            raise _Conflict(_finding(hold, "qbo_object_missing", Severity.CRITICAL, detail))
        return self._send(hold, hold.sent, lost=lost)

    def _look_up_change(self, hold: _Hold, stale: int = 0, lost: int = 0) -> Ended:
        """The same of an update or a void, by the link: its object shows whether it arrived.

        It is sent for the version that the object has now, unless somebody changed in it what Finance OS wrote.
        """
        kept, intent, link = hold.kept, hold.kept.intent, hold.own_link
        held = self.client.read(hold.entity, link.qbo_id)
        if held is None:
            raise _Conflict(verify.gone(link, intent.dated))
        if not _differences(hold, held):
            return self._applied(hold, Written(held, ""), "found")
        before = states.expected(hold.lock, kept.business_id, kept.realm, [str(intent.key)]).get(str(intent.key))
        if before is not None and (changed := verify.differs(before, held)):
            raise _Conflict(verify.changed_by_hand(link, intent.dated, changed))
        self._note(hold, "absent", sync_token=str(held["SyncToken"]))
        return self._send(hold, self._resolved(hold, str(held["SyncToken"])), stale=stale, lost=lost)

    # --- answers

    def _applied(self, hold: _Hold, written: Written, step: str) -> Ended:
        """Record the answer and the link, in the transaction that holds the intent."""
        kept, intent = hold.kept, hold.kept.intent
        qbo_id, sync_token = str(written.held["Id"]), str(written.held["SyncToken"])
        found = _differences(hold, written.held)
        end_action(self.database, hold.action, Outcome.DELIVERED, f"{intent.entity} {qbo_id}")
        scope = hold.lock, kept.business_id, kept.realm, intent.key
        if intent.operation is Operation.CREATE:
            made = intent.entity, qbo_id, sync_token, links.CREATED, kept.input_hash
            links.record(*scope, *made, as_planned=not found)
        else:
            links.changed(*scope, sync_token, kept.input_hash, as_planned=not found)
        states.note(hold.lock, kept, step, qbo_id=qbo_id, sync_token=sync_token, intuit_tid=written.intuit_tid)
        states.settle(hold.lock, kept, "applied")
        told: list[Finding] = []
        if found:
            with self._counting:
                self.not_as_planned += 1
            detail = f"{intent.entity} {qbo_id} is not as it was written: {verify.listed(found)}."
            told.append(_finding(hold, "qbo_answer_differs", Severity.HIGH, detail))
        findings.settle(hold.lock, kept.business_id, findings.APPLY, told, [str(intent.key)])
        return Ended.APPLIED if step == "answered" else Ended.FOUND

    def _refused(self, hold: _Hold, refused: Refused, stale: int) -> Ended:
        """Settle a refusal: this request wrote nothing."""
        kept, intent = hold.kept, hold.kept.intent
        self._note(hold, "refused", code=refused.fault, intuit_tid=refused.intuit_tid)
        if intent.operation is not Operation.CREATE and refused.fault in (_STALE, _MISSING) and stale < STALE_TRIES:
            return self._look_up_change(hold, stale=stale + 1)
        if intent.operation is Operation.CREATE and (hold.perhaps_sent or refused.fault in _TAKEN):
            # An earlier request may have made it; that is one reason why its number or name is taken.
            held = lookup.find(self.client, hold.entity, hold.sent, intent.marker)
            if held is not None:
                return self._applied(hold, Written(held, refused.intuit_tid), "found")
        if intent.operation is Operation.CREATE and refused.fault in _TAKEN:
            code, what = _TAKEN[refused.fault]
            detail = (
                f"the {what} of {intent.entity} {intent.key} belongs to another object in QuickBooks (fault "
                f"{refused.fault}): have that one adopted, or rename it there, and retry."
            )
            raise _Conflict(_finding(hold, code, Severity.HIGH, detail))
        end_action(self.database, hold.action, Outcome.FAILED, f"fault {refused.fault or 'without a code'}")
        states.settle(hold.lock, kept, "failed", f"refused_{refused.fault}")
        told = _finding(hold, "qbo_refused", Severity.HIGH, f"{refused.message}. Nothing was written.")
        findings.settle(hold.lock, kept.business_id, findings.APPLY, [told], [told.subject])
        return Ended.FAILED

    def _note(self, hold: _Hold, step: str, *, code: str = "", intuit_tid: str = "", sync_token: str = "") -> None:
        """Append a step at once, whatever becomes of the transaction that holds the intent."""
        with self.database.transaction() as connection:
            states.note(connection, hold.kept, step, code=code, intuit_tid=intuit_tid, sync_token=sync_token)


def resolve(payload: Any, ids: Mapping[str, str]) -> Any:
    """A payload with the QuickBooks ID of each link key in the place of its reference; `KeyError` without one."""
    if isinstance(payload, Mapping):
        if set(payload) == {REFERENCE}:
            return ids[payload[REFERENCE]]
        return {name: resolve(value, ids) for name, value in payload.items()}
    return [resolve(value, ids) for value in payload] if isinstance(payload, list | tuple) else payload


def _differences(hold: _Hold, held: Mapping[str, Any]) -> list[verify.Difference]:
    """Where an object is not as the intent would have it."""
    is_void = hold.kept.intent.operation is Operation.VOID
    return verify.differs(states.Expected({} if is_void else hold.sent, is_void), held)


def _finding(hold: _Hold, code: str, severity: Severity, detail: str) -> Finding:
    return Finding(code, severity, str(hold.kept.intent.key), hold.kept.intent.dated, detail)
