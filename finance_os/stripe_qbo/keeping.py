"""A plan is kept: what QuickBooks already holds is linked, the intents are stored, the findings settled."""

from datetime import date

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, Severity
from finance_os.stripe_qbo import findings, links
from finance_os.stripe_qbo.intent import Intent, LinkKey
from finance_os.stripe_qbo.kept import kept_for_later
from finance_os.stripe_qbo.mapping.drafts import Adopted
from finance_os.stripe_qbo.planning import Plan
from finance_os.stripe_qbo.store import PayloadConflict, Put, put_plan


def keep(
    database: Database, business_id: str, realm: str, plan: Plan, *, run: str = "", through: date | None = None
) -> Put:
    """Keep the plan of a business for a realm; nothing is sent. `run` names who planned.

    The whole of it; or what is due up to the day `through`, and what is due later is left as it was kept before.

    Adoptions are linked first, so that nothing is made that is there already. What the plan does not have any more is
    withdrawn, if it was never written. An adoption or intent that contradicts what is linked or written becomes a
    finding beside the plan's own; `PayloadConflict` is raised for the intents, after everything else is committed.
    """
    told = list(plan.findings)
    intents, adoptions = up_to(database, business_id, realm, plan, through)
    known = links.links(database, business_id, realm)
    with database.transaction() as connection:
        for key, adopted in adoptions.items():
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
        put = put_plan(database, business_id, realm, intents, run=run, whole=True)
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


def up_to(
    database: Database, business_id: str, realm: str, plan: Plan, through: date | None
) -> tuple[tuple[Intent, ...], dict[LinkKey, Adopted]]:
    """The intents of a plan that are due up to `through`, before those that were kept and are due later; and the
    adoptions that these refer to. All of them where `through` is `None`.

    An intent is due on the latest date up to it in its plan, so that nothing is due before what it depends on.
    """
    if through is None:
        return plan.intents, dict(plan.adoptions)
    admitted: list[Intent] = []
    for intent in plan.intents:
        if intent.dated > through:
            break
        admitted.append(intent)
    taken = {(each.key, each.operation) for each in admitted}
    later = kept_for_later(database, business_id, realm, through)
    needed = {key for each in admitted for key in each.depends_on}
    adoptions = {key: adopted for key, adopted in plan.adoptions.items() if key in needed}
    return (*admitted, *(each for each in later if (each.key, each.operation) not in taken)), adoptions
