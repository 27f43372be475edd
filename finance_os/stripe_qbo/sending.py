"""Intents that are held: sent once, looked up where nobody knows whether they arrived, and settled, each by itself.

Creates that do not refer to one another go together, in a batch: one request, one answer for each of them. What is
special about that:
- The external action and the state `sending` of all are committed before it goes out, each with its place in the batch
  (`grouping.Place`).
- Each answer is settled by itself, in transactions of its own; the fault of one says nothing of the others.
- Where no answer came, or the process died before, each is looked up. If none is there, the same batch is sent again
  under its `requestid`, so that a first one which is still on its way makes no second object. If some are there, the
  batch was carried out, or is being: those are linked, and what is not there goes alone, but not before the batch must
  have ended, `QuickBooksWriter.longest_request` after it was sent, and it was looked up once more. Until then the run
  waits, and still holds them (`waiting`); where it may not wait so long, their answer stays unknown, for the next run.
- Where the batch itself is refused, each goes alone. If it was perhaps sent before, that refusal tells nothing of the
  earlier request: each is looked up first, and waits for that one's end.
- Where one of a batch that is sent again is refused, that may be the answer of then, which QuickBooks remembers by the
  `requestid`. Once the lost request must be over, it goes alone, and is answered as of now.
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
from finance_os.readiness.external_actions import Outcome
from finance_os.sources.quickbooks.faults import QuickBooksFailure
from finance_os.stripe_qbo import lookup, settling, states, verify
from finance_os.stripe_qbo.answers import Refused, UnknownAnswer, Written
from finance_os.stripe_qbo.bodies import body_of
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.grouping import Place, is_whole
from finance_os.stripe_qbo.holding import Ended, Hold, holding, require_approval, take
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.kept import Kept
from finance_os.stripe_qbo.links import LinkConflict
from finance_os.stripe_qbo.lookup import MarkedTwice
from finance_os.stripe_qbo.settling import Conflict
from finance_os.stripe_qbo.waiting import Waiting

UNKNOWN_TRIES = 3
"""How often an intent is sent in one run without an answer before the next run goes on with it."""

STALE_TRIES = 3
"""How often an update is read and sent again because others changed its object meanwhile."""

_STALE = "5010"
_MISSING = "610"

log = logging.getLogger(__name__)


@dataclass
class Sender:
    """Sends intents to one company in one run, from several threads if need be; counts answers that are not as planned.

    `waiting` is for batches whose answer was lost and that may still be carried out.
    """

    database: Database
    client: QuickBooksWriter
    waiting: Waiting = field(default_factory=Waiting)
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
        return self._send(hold, body_of(hold))

    def _guarded(self, hold: Hold, work: Callable[[], Ended | None]) -> Ended | None:
        """What `work` comes to, which is told; what stands in its way becomes a finding. `None` is not the end."""
        ended = self._ended(hold, work)
        if ended is not None:
            hold.holder.ended[hold.kept.intent_id] = ended
        return ended

    def _ended(self, hold: Hold, work: Callable[[], Ended | None]) -> Ended | None:
        try:
            return work()
        except Conflict as found:
            conflict = found
        except MarkedTwice as twice:
            conflict = settling.doubled(hold, twice)
        except LinkConflict as otherwise:
            conflict = settling.linked_otherwise(hold, otherwise)
        except QuickBooksFailure as failure:
            if failure.code != "invalid_request":
                raise
            # Of this lookup alone: the others need not wait for it.
            settling.not_looked_up(hold, failure)
            return Ended.UNKNOWN
        settling.conflicted(hold, conflict)
        return Ended.CONFLICTED

    # --- sending

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
            settling.note(hold, "unknown", code=unknown.code)
            if lost + 1 >= UNKNOWN_TRIES:
                settling.unknown(hold, unknown.code)
                return Ended.UNKNOWN
            self._pause(lost)
            return self._look_up(replace(hold, perhaps_sent=True), lost=lost + 1)
        except Refused as refused:
            return self._refused(hold, refused, stale)
        return self._applied(hold, written, "answered")

    def _send_together(self, fresh: list[Hold]) -> None:
        """Commit what is sent, send it as one batch, and settle each answer."""
        resolved = [body_of(hold) for hold in fresh]
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
                settling.note(hold, "unknown", code=unknown.code)
            self._pause(lost)
            self._look_up_together([replace(hold, perhaps_sent=True) for hold in sent], lost + 1)
        except Refused as refused:
            # The batch itself, and so this request did nothing of it: each alone, to learn what was wrong with which.
            for hold in sent:
                settling.note(hold, "refused", code=refused.fault, intuit_tid=refused.intuit_tid)
            for hold in sent:
                # An earlier one may have done it, or be about to: alone it would have another `requestid`.
                alone = (
                    partial(self._look_up, hold, lost) if hold.perhaps_sent else partial(self._send, hold, hold.sent)
                )
                self._guarded(hold, alone)
        except QuickBooksFailure as failure:
            for hold in sent:
                settling.note(hold, "refused", code=failure.code)
            raise
        else:
            # First what is certain: looking up the others may come to an end before its time.
            pairs = sorted(zip(sent, answers, strict=True), key=lambda pair: not isinstance(pair[1], Written))
            for hold, answer in pairs:
                self._guarded(hold, partial(self._answered, hold, answer))

    def _look_up_together(self, sent: list[Hold], lost: int = 0) -> None:
        """Look up each of a batch whose answer is not known; send the same again if nothing of it is there."""
        absent = self._absent(sent)
        if lost < UNKNOWN_TRIES and len(absent) == len(sent) and is_whole([hold.kept for hold in sent]):
            for hold in sent:
                settling.note(hold, "sending")
            self._post_together(sent, lost)
            return
        is_over = False
        if absent and lost < UNKNOWN_TRIES:
            absent, is_over = self._wait_for(absent)
        for hold in absent:
            self._guarded(hold, partial(self._send_absent, hold, lost, is_over=is_over))

    def _answered(self, hold: Hold, answer: Written | Refused | UnknownAnswer) -> Ended:
        """Settle what a batch answered for one of its creates."""
        if isinstance(answer, Written):
            return self._applied(hold, answer, "answered")
        if isinstance(answer, Refused):
            return self._refused(hold, answer, stale=0)
        settling.note(hold, "unknown", code=answer.code)
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
        ended = self._found(hold)
        if ended is None and not is_over and lost < UNKNOWN_TRIES:
            absent, is_over = self._wait_for([hold])
            ended = None if absent else hold.holder.ended[hold.kept.intent_id]
        return ended or self._send_absent(hold, lost, is_over=is_over)

    def _absent(self, sent: list[Hold]) -> list[Hold]:
        """Those of `sent` that are not there; the others are settled."""
        return [hold for hold in sent if self._guarded(hold, partial(self._found, hold)) is None]

    def _found(self, hold: Hold) -> Ended | None:
        """Link what a create made, if it is there."""
        held = lookup.find(self.client, hold.entity, hold.sent, hold.kept.intent.marker)
        if held is not None:
            return self._applied(hold, Written(held, ""), "found")
        settling.note(hold, "absent")
        if hold.action.outcome is Outcome.DELIVERED:
            raise settling.gone_again(hold)
        return None

    def _wait_for(self, absent: list[Hold]) -> tuple[list[Hold], bool]:
        """Wait until the batch of what is `absent` must be over, looking for it meanwhile and when that is so.

        What is absent still, and whether the batch is over: it may not be where this run has no time to wait for it.
        """
        seconds = max(map(self._under_way_for, absent))
        if not seconds or not self.waiting.has_time(seconds):
            return absent, not seconds
        kept = absent[0].kept
        what = {"business_id": kept.business_id, "realm": kept.realm, "intents": len(absent), "seconds": round(seconds)}
        log.info("a batch may still be carried out: waiting for it", extra=what)
        for _ in self.waiting.looks(seconds):
            absent[0].holder.require()
            absent = self._absent(absent)
            if not absent:
                break
        else:
            require_approval(absent[0])  # what is sent after so long is sent under an approval of now
        return absent, True

    def _send_absent(self, hold: Hold, lost: int, *, is_over: bool) -> Ended:
        """Send alone what is not there; of a batch, not before it must be over."""
        if lost >= UNKNOWN_TRIES or (not is_over and self._under_way_for(hold)):
            settling.unknown(hold, "unknown_answer")
            return Ended.UNKNOWN
        return self._send(hold, hold.sent, lost=lost)

    def _under_way_for(self, hold: Hold) -> float:
        """For how many seconds a batch with this intent may still be carried out: alone, it would have another
        `requestid`."""
        if Place.of(hold.kept) is None:
            return 0
        with hold.side.transaction() as connection:
            seconds = states.sent_seconds_ago(connection, hold.kept)
        return 0 if seconds is None else max(self.client.longest_request - seconds, 0)

    def _look_up_change(self, hold: Hold, stale: int = 0, lost: int = 0) -> Ended:
        """The same of an update or a void, by the link: its object shows whether it arrived.

        It is sent for the version that the object has now, unless somebody changed in it what Finance OS wrote, or took
        back what had arrived.
        """
        kept, intent, link = hold.kept, hold.kept.intent, hold.own_link
        had_arrived = hold.action.outcome is Outcome.DELIVERED
        held = self.client.read(hold.entity, link.qbo_id)
        if held is None:
            raise Conflict(verify.gone(link, intent.dated), was_delivered=had_arrived)
        if kept.resolved is not None:
            lacking = settling.differences(hold, held)
            if not lacking:
                return self._applied(hold, Written(held, ""), "found")
            if had_arrived:
                # The outcome stays: so retrying does not send it either, but finds it once it was put right there.
                raise Conflict(verify.changed_by_hand(link, intent.dated, lacking), was_delivered=True)
        with hold.side.transaction() as connection:
            known = states.expected(connection, kept.business_id, kept.realm, [str(intent.key)])
        before = known.get(str(intent.key))
        if before is not None and (changed := verify.differs(before, held)):
            raise Conflict(verify.changed_by_hand(link, intent.dated, changed))
        if kept.resolved is not None:
            settling.note(hold, "absent", sync_token=str(held["SyncToken"]))
        return self._send(hold, body_of(hold, str(held["SyncToken"])), stale=stale, lost=lost)

    # --- answers

    def _applied(self, hold: Hold, written: Written, step: str) -> Ended:
        """Record the answer and the link."""
        if not settling.applied(hold, written, step):
            with self._counting:
                self.not_as_planned += 1
        return Ended.APPLIED if step == "answered" else Ended.FOUND

    def _refused(self, hold: Hold, refused: Refused, stale: int) -> Ended:
        """Settle a refusal: this request wrote nothing."""
        settling.note(hold, "refused", code=refused.fault, intuit_tid=refused.intuit_tid)
        is_create = hold.kept.intent.operation is Operation.CREATE
        if not is_create and refused.fault in (_STALE, _MISSING) and stale < STALE_TRIES:
            return self._look_up_change(hold, stale=stale + 1)
        if is_create and (hold.perhaps_sent or refused.fault in settling.TAKEN):
            # An earlier request may have made it; that is one reason why its number or name is taken.
            held = lookup.find(self.client, hold.entity, hold.sent, hold.kept.intent.marker)
            if held is not None:
                return self._applied(hold, Written(held, refused.intuit_tid), "found")
        if is_create and hold.perhaps_sent and Place.of(hold.kept) is not None and not self._under_way_for(hold):
            return self._send(replace(hold, perhaps_sent=False), hold.sent)
        if is_create and refused.fault in settling.TAKEN:
            raise settling.taken(hold, refused.fault)
        settling.failed(hold, refused)
        return Ended.FAILED
