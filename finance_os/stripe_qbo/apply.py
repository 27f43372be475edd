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
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.readiness.policies import PolicyGated
from finance_os.stripe_qbo import states
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.sending import Ended, Sender
from finance_os.stripe_qbo.states import Kept

BUSY_WAIT = 0.1
BUSY_LOOKS = 20
"""Seconds between two looks at what another applier holds, and how often a run looks before it ends without it: one
that died lets go as soon as the database has noticed."""

_AT_A_TIME = 200

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

    @property
    def finished(self) -> bool:
        """Whether everything that was planned is written."""
        left = (Ended.FAILED, Ended.CONFLICTED, Ended.UNKNOWN, Ended.BUSY, Ended.WAITING)
        return not (self.gated or self.stopped or any(self.ended[each] for each in left))


def apply(
    database: Database,
    client: QuickBooksWriter,
    business_id: str,
    realm: str,
    *,
    limit: int | None = None,
    workers: int = 1,
) -> Applied:
    """Write the planned intents of a business to `realm`, in the order of their plan.

    What cannot be written (yet) is passed over, and what refers to it waits. At most `limit` intents are tried, if
    given. Several `workers` write at once; the plan's order then holds for what refers to one another only, and for a
    change of an object. Two appliers may run at once. Refusals, conflicts and answers that are not as planned become
    finance exceptions. Raises what the database does; what the vendor does is in the result.
    """
    if client.realm != realm:
        raise ValueError(f"the client is that of realm {client.realm}, not of {realm}")
    result = Applied()
    sender = Sender(database, client)
    before = Counter(client.sent())

    def one(kept: Kept) -> Ended | None:
        """How an intent ended; `None` where the run has ended before it."""
        if result.gated or result.stopped:
            return None
        started = time.monotonic()
        try:
            ended = sender.settle(kept)
        except PolicyGated as gated:
            result.gated = gated.blocker
            return None
        except SourceError as error:
            result.stopped = error
            return None
        _log(kept, ended, time.monotonic() - started)
        return ended

    def over() -> bool:
        return bool(result.gated or result.stopped) or (limit is not None and result.ended.total() >= limit)

    def pass_over_all(skip: list[int]) -> Counter[Ended]:
        """One pass in the plan's order; `skip` grows by what is not to be tried again in this run."""
        passed: Counter[Ended] = Counter()
        after: Kept | None = None
        while not over():
            room = _AT_A_TIME if limit is None else min(_AT_A_TIME, limit - result.ended.total())
            with database.transaction() as connection:
                batch = states.pending(connection, business_id, realm, after, skip, room)
            if not batch:
                break
            after = batch[-1]
            for kept, ended in zip(batch, pool.map(one, batch) if workers > 1 else map(one, batch), strict=True):
                if ended is None:
                    continue
                passed[ended] += 1
                if ended not in (Ended.BUSY, Ended.WAITING):
                    result.ended[ended] += 1
                if ended is Ended.UNKNOWN:
                    skip.append(kept.intent_id)
        return passed

    with ThreadPoolExecutor(workers) as pool:
        skip: list[int] = []
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
    result.ended += Counter({each: passed[each] for each in (Ended.BUSY, Ended.WAITING)})
    with database.transaction() as connection:
        # Left out of the passes: what waits for something that nobody is going to make.
        result.ended += Counter({Ended.WAITING: states.count_stranded(connection, business_id, realm)})
    result.not_as_planned = sender.not_as_planned
    result.requests = dict(Counter(client.sent()) - before)
    return result


def _log(kept: Kept, ended: Ended, seconds: float) -> None:
    log.info(
        "intent %s",
        ended.value,
        extra={
            "business_id": kept.business_id,
            "realm": kept.realm,
            "key": str(kept.intent.key),
            "operation": kept.intent.operation.value,
            "entity": kept.intent.entity,
            "intent_id": kept.intent_id,
            "seconds": round(seconds, 3),
        },
    )
