"""Apply: what is planned is written to QuickBooks, each intent once, however often this is interrupted.

For each intent, in this order, each step committed before the next:
1. its external action is begun under the policy `qbo_export` for the realm: without an approval in force nothing is
   sent and nothing is looked up;
2. the state `sending`, with the payload as it will be sent and its `requestid`;
3. the call;
4. the action's outcome; then, in one transaction, the link, the state and the attempt.

Whoever finds an intent in the state `sending` knows that a call may have been made. It is looked up (`lookup`) and
linked if it is there; only if it is not, the same request is sent again. A dead process leaves nothing else behind:
who works on an intent holds an advisory lock for one transaction, which ends with the process.

How fast: QuickBooks lets an app send 500 requests a minute for a company, 10 a second, and among them 40 batches a
minute, of which each should hold 30 payloads at most
(https://developer.intuit.com/app/developer/qbo/docs/learn/limits-and-throttles). So it takes 1,200 objects a minute in
batches, and 500 one by one: what does not refer to one another goes in batches (`grouping`, `sending`), and the rate
that the limits allow is 40 full batches a minute. Changes go alone, for each needs the version that is there then: of
those the limits allow 500 a minute. The 460 requests that batches leave are for lookups, and for whoever else uses the
company. It takes several `workers` to get there, as QuickBooks carries out a batch one payload after the other.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.observability import happened
from finance_os.readiness.policies import PolicyGated
from finance_os.stripe_qbo import due, parts
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.grouping import waves
from finance_os.stripe_qbo.guard import BATCH_SIZE
from finance_os.stripe_qbo.holding import Ended
from finance_os.stripe_qbo.kept import Kept
from finance_os.stripe_qbo.parts import WHOLE, Part
from finance_os.stripe_qbo.sending import Sender
from finance_os.stripe_qbo.waiting import Waiting

BUSY_WAIT = 0.1
BUSY_LOOKS = 20
"""Seconds between two looks at what another applier holds, and how often a run looks before it ends without it: one
that died lets go as soon as the database has noticed."""

_LEFT = (Ended.UNKNOWN, Ended.BUSY, Ended.WAITING)
"""How a run leaves what a later one tries again."""

_AT_A_TIME = 3_000
"""How many intents are looked at together: of more, more can share a batch."""

log = logging.getLogger(__name__)


@dataclass
class Applied:
    """What a run came to: how many intents ended how. `ended` counts those that wait for others once, at its end.

    `gated` is `policy_gated_read_only_ingestion_only` where no approval covers the realm: nothing was sent. `stopped`
    says why the run ended before everything was tried. `not_as_planned` objects were answered otherwise than they were
    written. `requests` are those of the writing client, by `"METHOD entity"`.
    """

    ended: Counter[Ended] = field(default_factory=Counter)
    not_as_planned: int = 0
    gated: str | None = None
    stopped: SourceError | None = None
    requests: Mapping[str, int] = field(default_factory=dict)

    def then(self, later: "Applied") -> "Applied":
        """What this run and a later one over the same intents came to: what this one left, as the later one left it."""
        settled = Counter({each: count for each, count in self.ended.items() if each not in _LEFT})
        return Applied(
            settled + later.ended,
            self.not_as_planned + later.not_as_planned,
            later.gated,
            later.stopped,
            dict(Counter(self.requests) + Counter(later.requests)),
        )

    @property
    def finished(self) -> bool:
        """Whether everything that was planned is written."""
        return not (
            self.gated or self.stopped or any(self.ended[each] for each in (Ended.FAILED, Ended.CONFLICTED, *_LEFT))
        )


def apply(
    database: Database,
    client: QuickBooksWriter,
    business_id: str,
    realm: str,
    *,
    limit: int | None = None,
    workers: int = 1,
    together: int = BATCH_SIZE,
    part: Part = WHOLE,
    told: Callable[[Kept, Ended], None] | None = None,
    waiting: Waiting | None = None,
) -> Applied:
    """Write the planned intents of a business to `realm`, in the order of their plan.

    Those of `part`, and whatever has to be written before them. What cannot be written (yet) is passed over, and what
    refers to it waits. At most `limit` intents are tried, if given; `told` hears how each try ended. Creates go in
    batches of at most `together` (1: each alone), and several `workers` send at once; the plan's order then holds for
    what refers to one another only, and for a change of an object. `waiting` is how the run waits for lost batches that
    may still be carried out: two minutes and a half at most if not given. Two appliers may run at once. Refusals,
    conflicts and answers that are not as planned become finance exceptions. Raises what the database does; what the
    vendor does is in the result.
    """
    if client.realm != realm:
        raise ValueError(f"the client is that of realm {client.realm}, not of {realm}")
    result = Applied()
    sender = Sender(database, client, waiting or Waiting())
    before = Counter(client.sent())
    with database.transaction() as connection:
        part = parts.with_needed(connection, business_id, realm, part)

    def settle(group: list[Kept]) -> list[Ended | None]:
        """How the intents of a group ended; `None` where the run has ended before them."""
        if result.gated or result.stopped:
            return [None] * len(group)
        started = time.monotonic()
        ended: dict[int, Ended] = {}
        try:
            sender.settle(group, ended)
        except PolicyGated as gated:
            result.gated = gated.blocker
        except SourceError as error:
            result.stopped = error
        for kept in group:
            if kept.intent_id in ended:
                _log(kept, ended[kept.intent_id], time.monotonic() - started)
        return [ended.get(kept.intent_id) for kept in group]

    def settle_all(window: list[Kept]) -> Iterator[tuple[Kept, Ended]]:
        for wave in waves(window, together):
            settled = pool.map(settle, wave) if workers > 1 else map(settle, wave)
            for group, ended in zip(wave, settled, strict=True):
                yield from ((kept, each) for kept, each in zip(group, ended, strict=True) if each is not None)

    def over() -> bool:
        return bool(result.gated or result.stopped) or (limit is not None and result.ended.total() >= limit)

    def pass_over_all(skip: list[int]) -> Counter[Ended]:
        """One pass in the plan's order; `skip` grows by what is not to be tried again in this run."""
        passed: Counter[Ended] = Counter()
        left.clear()
        after: Kept | None = None
        while not over():
            room = _AT_A_TIME if limit is None else min(_AT_A_TIME, limit - result.ended.total())
            with database.transaction() as connection:
                window = due.pending(connection, business_id, realm, after, skip, room, part)
            if not window:
                break
            after = window[-1]
            for kept, ended in settle_all(window):
                passed[ended] += 1
                if told is not None:
                    told(kept, ended)
                if ended not in (Ended.BUSY, Ended.WAITING):
                    result.ended[ended] += 1
                if ended is Ended.UNKNOWN:
                    skip.append(kept.intent_id)
                elif ended is Ended.WAITING:
                    left.add(kept.intent_id)
        return passed

    with ThreadPoolExecutor(workers) as pool:
        skip, left = list[int](), set[int]()
        looks = BUSY_LOOKS
        while True:
            passed = pass_over_all(skip)
            if over() or not (passed[Ended.BUSY] or passed[Ended.WAITING]):
                break
            if not (passed[Ended.APPLIED] or passed[Ended.FOUND]):
                if not passed[Ended.BUSY] or not looks:
                    break
                looks -= 1
                time.sleep(BUSY_WAIT)
    with database.transaction() as connection:
        # Left out of the passes: what waits for something that nobody is going to make.
        left |= due.stranded(connection, business_id, realm, part)
    result.ended += Counter({Ended.BUSY: passed[Ended.BUSY], Ended.WAITING: len(left)})
    result.not_as_planned = sender.not_as_planned
    result.requests = dict(Counter(client.sent()) - before)
    happened.requests_sent(business_id, result.requests)
    return result


def _log(kept: Kept, ended: Ended, seconds: float) -> None:
    intent = kept.intent
    happened.intent_tried(kept.business_id, intent.entity, intent.operation.value, ended.value, seconds)
    log.info(
        "intent %s",
        ended.value,
        extra={
            "business_id": kept.business_id,
            "realm": kept.realm,
            "correlation_id": f"stripe:{kept.intent.key.stripe_id}",
            "key": str(kept.intent.key),
            "operation": kept.intent.operation.value,
            "entity": kept.intent.entity,
            "intent_id": kept.intent_id,
            "seconds": round(seconds, 3),
        },
    )
