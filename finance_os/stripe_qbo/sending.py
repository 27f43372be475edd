"""Intents that are held: sent once, looked up where nobody knows whether they arrived, and settled, each by itself.

Creates that do not refer to one another go together, in a batch: one request, one answer for each of them. What is
special about that:
- The external action and the state `sending` of all are committed before it goes out, each with its place in the batch
  (`grouping.Place`).
- Each answer is settled by itself, in transactions of its own; the fault of one says nothing of the others.
- Where no answer came, or the process died before, each is looked up. If none is there, the same batch is sent again
  under its `requestid`, so that a first one which is still on its way makes no second object. If some are there, the
  batch was carried out, or is being: those are linked, and what is not there goes alone, but not before the batch must
  have ended, `QuickBooksWriter.longest_request` after it was sent. Until then its answer is unknown.
- Where the batch itself is refused, each goes alone. If it was perhaps sent before, that refusal tells nothing of the
  earlier request: each is looked up first, and waits for that one's end.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from finance_os.evidence.canonical import canonical_json
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, Severity
from finance_os.readiness.external_actions import Outcome, end_action
from finance_os.sources.quickbooks.faults import QuickBooksFailure
from finance_os.stripe_qbo import findings, links, lookup, states, verify
from finance_os.stripe_qbo.client import QuickBooksWriter, Refused, UnknownAnswer, Written
from finance_os.stripe_qbo.grouping import Place
from finance_os.stripe_qbo.holding import Ended, Hold, holding, require_approval, take
from finance_os.stripe_qbo.intent import REFERENCE, Operation
from finance_os.stripe_qbo.links import LinkConflict
from finance_os.stripe_qbo.lookup import MarkedTwice
from finance_os.stripe_qbo.states import Kept

UNKNOWN_TRIES = 3
"""How often an intent is sent in one run without an answer before the next run goes on with it."""

STALE_TRIES = 3
"""How often an update is read and sent again because others changed its object meanwhile."""

_STALE = "5010"
_MISSING = "610"
_TAKEN = {"6140": ("qbo_number_taken", "number"), "6240": ("qbo_name_taken", "name")}

log = logging.getLogger(__name__)


class _Conflict(Exception):
    """Something else stands in an intent's place. `was_delivered` says that it was written all the same."""

    def __init__(self, finding: Finding, *, was_delivered: bool = False) -> None:
        self.finding = finding
        self.was_delivered = was_delivered
        super().__init__(finding.code)


@dataclass
class Sender:
    """Sends intents to one company, from several threads if need be; counts answers that are not as planned."""

    database: Database
    client: QuickBooksWriter
    not_as_planned: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def settle(self, group: Sequence[Kept], ended: dict[int, Ended]) -> None:
        """Bring a group of `grouping.waves` as far as it goes, held alone for as long as this process lives.

        `ended` is told how each of them ended, by `intent_id`; also where `PolicyGated` is raised, with nothing sent
        after the approval's end, or `SourceError`, where the vendor cannot be worked with now.
        """
        with holding(self.database, ended) as holder:
            fresh: list[Hold] = []
            before: list[Hold] = []
            for kept in group:
                taken = take(holder, kept)
                if isinstance(taken, Hold):
                    (before if taken.perhaps_sent else fresh).append(taken)
                else:
                    ended[kept.intent_id] = taken
            for holds, together in ((fresh, self._send_together), (before, self._look_up_together)):
                if len(holds) > 1:
                    together(holds)
                elif holds:
                    self._guarded(holds[0], partial(self._settle, holds[0]))

    def _settle(self, hold: Hold) -> Ended:
        if hold.perhaps_sent:
            return self._look_up(hold)
        is_change = hold.kept.intent.operation is not Operation.CREATE
        if is_change and (hold.own_link.verified_at is None or hold.action.outcome is Outcome.DELIVERED):
            # The version that is known may be somebody else's: it was shown otherwise than planned, or never asked for.
            # What arrived before is not sent again, whatever became of it.
            return self._look_up_change(hold)
        return self._send(hold, self._resolved(hold))

    def _guarded(self, hold: Hold, work: Callable[[], Ended | None]) -> Ended | None:
        """What `work` comes to, which is told; what stands in its way becomes a finding. `None` is not the end."""
        ended = self._ended(hold, work)
        if ended is not None:
            hold.holder.ended[hold.kept.intent_id] = ended
        return ended

    def _ended(self, hold: Hold, work: Callable[[], Ended | None]) -> Ended | None:
        was_written = False
        try:
            return work()
        except _Conflict as conflict:
            was_written = conflict.was_delivered
            finding = conflict.finding
        except MarkedTwice as twice:
            was_written = True
            finding = _finding(hold, "qbo_object_doubled", Severity.CRITICAL, f"{twice}: void the others, and retry.")
        except LinkConflict as conflict:
            was_written = True
            finding = _finding(hold, "qbo_link_conflict", Severity.CRITICAL, f"{conflict}.")
        except QuickBooksFailure as failure:
            if failure.code != "invalid_request":
                raise
            # Of this lookup alone: the others need not wait for it.
            told = _finding(hold, "qbo_lookup_refused", Severity.HIGH, f"{failure.message}. It cannot be looked up.")
            with hold.side.transaction() as connection:
                findings.settle(connection, hold.kept.business_id, findings.APPLY, [told], [told.subject])
            return Ended.UNKNOWN
        end_action(hold.side, hold.action, Outcome.DELIVERED if was_written else Outcome.FAILED, finding.code)
        hold.holder.require()
        with hold.side.transaction() as connection:
            states.note(connection, hold.kept, "conflicted", code=finding.code)
            states.settle(connection, hold.kept, "conflicted", finding.code)
            findings.settle(connection, hold.kept.business_id, findings.APPLY, [finding], [finding.subject])
        return Ended.CONFLICTED

    # --- sending

    def _resolved(self, hold: Hold, sync_token: str | None = None) -> Mapping[str, Any]:
        """What is to be sent: every ID in its place, and of a change, which version of the object it is for."""
        intent = hold.kept.intent
        body = resolve(intent.payload, {str(key): link.qbo_id for key, link in hold.links.items()})
        if intent.operation is Operation.CREATE:
            return body
        own = {"Id": hold.own_link.qbo_id, "SyncToken": sync_token or hold.own_link.sync_token, "sparse": True}
        return own if intent.operation is Operation.VOID else {**body, **own}

    def _send(self, hold: Hold, resolved: Mapping[str, Any], stale: int = 0, lost: int = 0) -> Ended:
        """Commit what is sent, send it, and settle its answer."""
        if stale or lost:
            require_approval(hold)
        with hold.side.transaction() as connection:
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
                end_action(hold.side, hold.action, Outcome.UNKNOWN, unknown.code)
                return Ended.UNKNOWN
            self._pause(lost)
            return self._look_up(replace(hold, perhaps_sent=True), lost=lost + 1)
        except Refused as refused:
            return self._refused(hold, refused, stale)
        return self._applied(hold, written, "answered")

    def _send_together(self, fresh: list[Hold]) -> None:
        """Commit what is sent, send it as one batch, and settle each answer."""
        resolved = [self._resolved(hold) for hold in fresh]
        own = [hold.kept.request_id(body) for hold, body in zip(fresh, resolved, strict=True)]
        batch = hashlib.sha256(canonical_json(own)).hexdigest()[:36]
        sent: list[Hold] = []
        with fresh[0].side.transaction() as connection:
            current = states.unchanged(connection, [hold.kept for hold in fresh])
            pairs = [pair for pair in zip(fresh, resolved, strict=True) if pair[0].kept.intent_id in current]
            for place, (hold, body) in enumerate(pairs):
                kept = states.begin_sending(connection, hold.kept, body, str(Place(batch, place, len(pairs))))
                assert kept is not None
                sent.append(replace(hold, kept=kept))
        fresh[0].holder.ended.update(
            {each.kept.intent_id: Ended.WITHDRAWN for each in fresh if each.kept.intent_id not in current}
        )
        if sent:
            self._post_together(sent)

    def _post_together(self, sent: list[Hold], lost: int = 0) -> None:
        place = Place.of(sent[0].kept)
        assert place is not None
        if lost:
            require_approval(sent[0])
        try:
            answers = self.client.create_together([(hold.entity, hold.sent) for hold in sent], place.requestid)
        except UnknownAnswer as unknown:
            for hold in sent:
                self._note(hold, "unknown", code=unknown.code)
            self._pause(lost)
            self._look_up_together([replace(hold, perhaps_sent=True) for hold in sent], lost + 1)
        except Refused as refused:
            # The batch itself, and so this request did nothing of it: each alone, to learn what was wrong with which.
            for hold in sent:
                self._note(hold, "refused", code=refused.fault, intuit_tid=refused.intuit_tid)
            for hold in sent:
                # An earlier one may have done it, or be about to: alone it would have another `requestid`.
                alone = (
                    partial(self._look_up, hold, lost) if hold.perhaps_sent else partial(self._send, hold, hold.sent)
                )
                self._guarded(hold, alone)
        except QuickBooksFailure as failure:
            for hold in sent:
                self._note(hold, "refused", code=failure.code)
            raise
        else:
            # First what is certain: looking up the others may come to an end before its time.
            pairs = sorted(zip(sent, answers, strict=True), key=lambda pair: not isinstance(pair[1], Written))
            for hold, answer in pairs:
                self._guarded(hold, partial(self._answered, hold, answer))

    def _look_up_together(self, sent: list[Hold], lost: int = 0) -> None:
        """Look up each of a batch whose answer is not known; send the same again if nothing of it is there."""
        absent = [hold for hold in sent if self._guarded(hold, partial(self._found, hold)) is None]
        if lost < UNKNOWN_TRIES and len(absent) == len(sent) and _is_whole(sent):
            for hold in sent:
                self._note(hold, "sending")
            self._post_together(sent, lost)
            return
        for hold in absent:
            self._guarded(hold, partial(self._send_absent, hold, lost))

    def _answered(self, hold: Hold, answer: Written | Refused | UnknownAnswer) -> Ended:
        """Settle what a batch answered for one of its creates."""
        if isinstance(answer, Written):
            return self._applied(hold, answer, "answered")
        if isinstance(answer, Refused):
            return self._refused(hold, answer, stale=0)
        self._note(hold, "unknown", code=answer.code)
        return self._look_up(replace(hold, perhaps_sent=True), lost=1, is_over=True)

    def _pause(self, lost: int) -> None:
        patience = self.client.patience
        time.sleep(min(patience.first_wait * 2**lost, patience.longest_wait))

    # --- looking up

    def _look_up(self, hold: Hold, lost: int = 0, *, is_over: bool = False) -> Ended:
        """Find out whether what was sent arrived; send the same again only if it did not.

        `is_over` says that the batch it was in was answered.
        """
        if hold.kept.intent.operation is not Operation.CREATE:
            return self._look_up_change(hold, lost=lost)
        return self._found(hold) or self._send_absent(hold, lost, is_over=is_over)

    def _found(self, hold: Hold) -> Ended | None:
        """Link what a create made, if it is there."""
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
        return None

    def _send_absent(self, hold: Hold, lost: int, *, is_over: bool = False) -> Ended:
        """Send alone what is not there; of a batch, not before it must be over."""
        if lost >= UNKNOWN_TRIES or (not is_over and self._may_be_under_way(hold)):
            end_action(hold.side, hold.action, Outcome.UNKNOWN, "unknown_answer")
            return Ended.UNKNOWN
        return self._send(hold, hold.sent, lost=lost)

    def _may_be_under_way(self, hold: Hold) -> bool:
        """Whether a batch with this intent may still be carried out: alone, it would have another `requestid`."""
        if Place.of(hold.kept) is None:
            return False
        with hold.side.transaction() as connection:
            seconds = states.sent_seconds_ago(connection, hold.kept)
        return seconds is not None and seconds < self.client.longest_request

    def _look_up_change(self, hold: Hold, stale: int = 0, lost: int = 0) -> Ended:
        """The same of an update or a void, by the link: its object shows whether it arrived.

        It is sent for the version that the object has now, unless somebody changed in it what Finance OS wrote, or took
        back what had arrived.
        """
        kept, intent, link = hold.kept, hold.kept.intent, hold.own_link
        had_arrived = hold.action.outcome is Outcome.DELIVERED
        held = self.client.read(hold.entity, link.qbo_id)
        if held is None:
            raise _Conflict(verify.gone(link, intent.dated), was_delivered=had_arrived)
        if kept.resolved is not None:
            lacking = _differences(hold, held)
            if not lacking:
                return self._applied(hold, Written(held, ""), "found")
            if had_arrived:
                # The outcome stays: so retrying does not send it either, but finds it once it was put right there.
                raise _Conflict(verify.changed_by_hand(link, intent.dated, lacking), was_delivered=True)
        with hold.side.transaction() as connection:
            known = states.expected(connection, kept.business_id, kept.realm, [str(intent.key)])
        before = known.get(str(intent.key))
        if before is not None and (changed := verify.differs(before, held)):
            raise _Conflict(verify.changed_by_hand(link, intent.dated, changed))
        if kept.resolved is not None:
            self._note(hold, "absent", sync_token=str(held["SyncToken"]))
        return self._send(hold, self._resolved(hold, str(held["SyncToken"])), stale=stale, lost=lost)

    # --- answers

    def _applied(self, hold: Hold, written: Written, step: str) -> Ended:
        """Record the answer and the link."""
        kept, intent = hold.kept, hold.kept.intent
        qbo_id, sync_token = str(written.held["Id"]), str(written.held["SyncToken"])
        found = _differences(hold, written.held)
        told: list[Finding] = []
        if found:
            with self._counting:
                self.not_as_planned += 1
            detail = f"{intent.entity} {qbo_id} is not as it was written: {verify.listed(found)}."
            told.append(_finding(hold, "qbo_answer_differs", Severity.HIGH, detail))
        end_action(hold.side, hold.action, Outcome.DELIVERED, f"{intent.entity} {qbo_id}")
        hold.holder.require()
        with hold.side.transaction() as connection:
            scope = connection, kept.business_id, kept.realm, intent.key
            if intent.operation is Operation.CREATE:
                made = intent.entity, qbo_id, sync_token, links.CREATED, kept.input_hash
                links.record(*scope, *made, as_planned=not found)
            else:
                links.changed(*scope, sync_token, kept.input_hash, as_planned=not found)
            states.note(connection, kept, step, qbo_id=qbo_id, sync_token=sync_token, intuit_tid=written.intuit_tid)
            states.settle(connection, kept, "applied")
            findings.settle(connection, kept.business_id, findings.APPLY, told, [str(intent.key)])
        sent = {"intent_id": kept.intent_id, "requestid": kept.requestid, "intuit_tid": written.intuit_tid}
        done = {"correlation_id": f"stripe:{intent.key.stripe_id}", "entity": intent.entity, "qbo_id": qbo_id}
        log.info("intent linked", extra={"business_id": kept.business_id, "realm": kept.realm, **sent, **done})
        return Ended.APPLIED if step == "answered" else Ended.FOUND

    def _refused(self, hold: Hold, refused: Refused, stale: int) -> Ended:
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
        end_action(hold.side, hold.action, Outcome.FAILED, f"fault {refused.fault or 'without a code'}")
        told = _finding(hold, "qbo_refused", Severity.HIGH, f"{refused.message}. Nothing was written.")
        hold.holder.require()
        with hold.side.transaction() as connection:
            states.settle(connection, kept, "failed", f"refused_{refused.fault}")
            findings.settle(connection, kept.business_id, findings.APPLY, [told], [told.subject])
        return Ended.FAILED

    def _note(self, hold: Hold, step: str, *, code: str = "", intuit_tid: str = "", sync_token: str = "") -> None:
        """Append a step at once."""
        with hold.side.transaction() as connection:
            states.note(connection, hold.kept, step, code=code, intuit_tid=intuit_tid, sync_token=sync_token)


def _is_whole(sent: list[Hold]) -> bool:
    """Whether these are all of one batch, in their places."""
    places = [Place.of(hold.kept) for hold in sent]
    return all(each == Place(each.requestid, at, len(sent)) for at, each in enumerate(places) if each) and (
        None not in places and len({each.requestid for each in places if each}) == 1
    )


def resolve(payload: Any, ids: Mapping[str, str]) -> Any:
    """A payload with the QuickBooks ID of each link key in the place of its reference; `KeyError` without one."""
    if isinstance(payload, Mapping):
        if set(payload) == {REFERENCE}:
            return ids[payload[REFERENCE]]
        return {name: resolve(value, ids) for name, value in payload.items()}
    return [resolve(value, ids) for value in payload] if isinstance(payload, list | tuple) else payload


def _differences(hold: Hold, held: Mapping[str, Any]) -> list[verify.Difference]:
    """Where an object is not as the intent would have it."""
    is_void = hold.kept.intent.operation is Operation.VOID
    return verify.differs(states.Expected({} if is_void else hold.sent, is_void), held)


def _finding(hold: Hold, code: str, severity: Severity, detail: str) -> Finding:
    return Finding(code, severity, str(hold.kept.intent.key), hold.kept.intent.dated, detail)
