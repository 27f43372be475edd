"""What became of a held intent, put on record at once: outcome, link, state, attempt and finding."""

import logging
from collections.abc import Mapping
from typing import Any

from finance_os.evidence.extraction import Finding, Severity
from finance_os.readiness.external_actions import Outcome, end_action
from finance_os.sources.quickbooks.faults import QuickBooksFailure
from finance_os.stripe_qbo import findings, links, states, verify
from finance_os.stripe_qbo.answers import Refused, Written
from finance_os.stripe_qbo.holding import Hold
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.links import LinkConflict
from finance_os.stripe_qbo.lookup import MarkedTwice

TAKEN = {"6140": ("qbo_number_taken", "number"), "6240": ("qbo_name_taken", "name")}
"""The faults that say that another object has a create's number or name."""

log = logging.getLogger(__name__)


class Conflict(Exception):
    """Something else stands in an intent's place. `was_delivered` says that it was written all the same."""

    def __init__(self, finding: Finding, *, was_delivered: bool = False) -> None:
        self.finding = finding
        self.was_delivered = was_delivered
        super().__init__(finding.code)


# --- what stands in an intent's place


def taken(hold: Hold, fault: str) -> Conflict:
    """Its number or name belongs to another object."""
    intent = hold.kept.intent
    code, what = TAKEN[fault]
    detail = (
        f"the {what} of {intent.entity} {intent.key} belongs to another object in QuickBooks (fault {fault}): have "
        "that one adopted, or rename it there, and retry."
    )
    return Conflict(_finding(hold, code, Severity.HIGH, detail))


def gone_again(hold: Hold) -> Conflict:
    """It was made, and its object is not there any more."""
    detail = (
        f"{hold.entity.name} of {hold.kept.intent.key} was written, its answer was lost, and it is not in QuickBooks "
        "any more. It is not made again: restore it there and retry, or only retry."
    )
    return Conflict(_finding(hold, "qbo_object_missing", Severity.CRITICAL, detail))


def doubled(hold: Hold, twice: MarkedTwice) -> Conflict:
    """Several objects bear its marker."""
    finding = _finding(hold, "qbo_object_doubled", Severity.CRITICAL, f"{twice}: void the others, and retry.")
    return Conflict(finding, was_delivered=True)


def linked_otherwise(hold: Hold, conflict: LinkConflict) -> Conflict:
    """Its key, or its object, is linked with another one."""
    finding = _finding(hold, "qbo_link_conflict", Severity.CRITICAL, f"{conflict}.")
    return Conflict(finding, was_delivered=True)


# --- records


def note(hold: Hold, step: str, *, code: str = "", intuit_tid: str = "", sync_token: str = "") -> None:
    """Append a step of an attempt."""
    with hold.side.transaction() as connection:
        states.note(connection, hold.kept, step, code=code, intuit_tid=intuit_tid, sync_token=sync_token)


def differences(hold: Hold, held: Mapping[str, Any]) -> list[verify.Difference]:
    """Where an object is not as the intent would have it."""
    is_void = hold.kept.intent.operation is Operation.VOID
    return verify.differs(states.Expected({} if is_void else hold.sent, is_void), held)


def applied(hold: Hold, written: Written, step: str) -> bool:
    """It is written, and linked: whether as it was to be. `step` is `answered` or `found`."""
    kept, intent = hold.kept, hold.kept.intent
    qbo_id, sync_token = str(written.held["Id"]), str(written.held["SyncToken"])
    found = differences(hold, written.held)
    told: list[Finding] = []
    if found:
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
    return not found


def failed(hold: Hold, refused: Refused) -> None:
    """It was refused: nothing was written."""
    end_action(hold.side, hold.action, Outcome.FAILED, f"fault {refused.fault or 'without a code'}")
    told = _finding(hold, "qbo_refused", Severity.HIGH, f"{refused.message}. Nothing was written.")
    hold.holder.require()
    with hold.side.transaction() as connection:
        states.settle(connection, hold.kept, "failed", f"refused_{refused.fault}")
        findings.settle(connection, hold.kept.business_id, findings.APPLY, [told], [told.subject])


def conflicted(hold: Hold, conflict: Conflict) -> None:
    """Something else stands in its place."""
    finding = conflict.finding
    outcome = Outcome.DELIVERED if conflict.was_delivered else Outcome.FAILED
    end_action(hold.side, hold.action, outcome, finding.code)
    hold.holder.require()
    with hold.side.transaction() as connection:
        states.note(connection, hold.kept, "conflicted", code=finding.code)
        states.settle(connection, hold.kept, "conflicted", finding.code)
        findings.settle(connection, hold.kept.business_id, findings.APPLY, [finding], [finding.subject])


def unknown(hold: Hold, code: str) -> None:
    """Its answer stays unknown, until the next run looks it up."""
    end_action(hold.side, hold.action, Outcome.UNKNOWN, code)


def not_looked_up(hold: Hold, failure: QuickBooksFailure) -> None:
    """QuickBooks refuses to look it up: its answer stays unknown."""
    told = _finding(hold, "qbo_lookup_refused", Severity.HIGH, f"{failure.message}. It cannot be looked up.")
    with hold.side.transaction() as connection:
        findings.settle(connection, hold.kept.business_id, findings.APPLY, [told], [told.subject])


def _finding(hold: Hold, code: str, severity: Severity, detail: str) -> Finding:
    return Finding(code, severity, str(hold.kept.intent.key), hold.kept.intent.dated, detail)
