"""A plan is kept: what QuickBooks already holds is linked, the intents are stored, the findings settled."""

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, Severity
from finance_os.stripe_qbo import findings, links
from finance_os.stripe_qbo.planning import Plan
from finance_os.stripe_qbo.store import PayloadConflict, Put, put_plan


def keep(database: Database, business_id: str, realm: str, plan: Plan, *, run: str = "") -> Put:
    """Keep the whole plan of a business for a realm; nothing is sent. `run` names who planned.

    Adoptions are linked first, so that nothing is made that is there already. What the plan does not have any more is
    withdrawn, if it was never written. An adoption or intent that contradicts what is linked or written becomes a
    finding beside the plan's own; `PayloadConflict` is raised for the intents, after everything else is committed.
    """
    told = list(plan.findings)
    known = links.links(database, business_id, realm)
    with database.transaction() as connection:
        for key, adopted in plan.adoptions.items():
            link = known.get(key)
            if link is not None and (link.entity, link.qbo_id) != (adopted.entity, adopted.qbo_id):
                detail = (
                    f"{link.entity} {link.qbo_id} is linked, and the plan would adopt {adopted.entity} "
                    f"{adopted.qbo_id}: the link stays."
                )
                told.append(Finding("adoption_conflict", Severity.HIGH, str(key), link.linked_at.date(), detail))
            elif link is None:
                links.record(
                    connection,
                    business_id,
                    realm,
                    key,
                    adopted.entity,
                    adopted.qbo_id,
                    adopted.sync_token,
                    links.ADOPTED,
                    None,
                )
    conflict = None
    try:
        put = put_plan(database, business_id, realm, plan.intents, run=run, whole=True)
    except PayloadConflict as raised:
        conflict, put = raised, raised.put
    told += [
        Finding(
            "intent_conflict",
            Severity.HIGH,
            str(each.key),
            each.dated,
            f"The {each.operation.value} of this {each.entity} is {each.state} with input hash {each.stored_hash}, and "
            f"now planned with {each.planned_hash}. What was written stays: an update has to be planned as one.",
        )
        for each in put.conflicts
    ]
    with database.transaction() as connection:
        findings.settle(connection, business_id, findings.PLAN, told)
    if conflict is not None:
        raise conflict
    return put
