"""The panels of what somebody has to look at: policies, alerts and finance exceptions."""

from finance_os.readiness.page.checkpoints import policy_sentence
from finance_os.readiness.page.panels import (
    Cell,
    Link,
    Panel,
    Table,
    Tone,
    none_of,
    number,
    status_cell,
    time,
)
from finance_os.readiness.plan import Plan

LISTED = 50
"""How many open exceptions are listed; all are counted."""


def policies_panel(plan: Plan) -> Panel:
    states = plan.assessment.policies.values()
    unexplained = sum(state.unexplained_count for state in states)
    return Panel(
        "policies",
        "Policies",
        "What stays shut until another login than the one that asked approves it.",
        badge=f"{number(unexplained)} unexplained" if unexplained else "All explained",
        tone=none_of(unexplained),
        table=Table(
            ("Policy", "Status", "In force", "Waiting", "Unexplained"),
            tuple(
                (
                    Cell(state.policy.title, (state.policy.key, policy_sentence(state))),
                    Cell(state.status, tone=Tone.WAIT if state.approved else Tone.GOOD, code=True),
                    Cell(
                        "None" if not state.approvals else f"{len(state.approvals)} approved",
                        tuple(
                            f"{each.scope} until {time(plan, each.expires_at)}, asked by {each.requested_by}, "
                            f"approved by {each.approved_by}"
                            for each in state.approvals
                        ),
                    ),
                    Cell(
                        "None" if not state.requests else f"{len(state.requests)} requested",
                        tuple(
                            f"request {each.request_id} by {each.requested_by} for {each.scope}, until "
                            f"{time(plan, each.expires_at)}"
                            for each in state.requests
                        ),
                    ),
                    Cell(
                        number(state.unexplained_count),
                        (state.remedy,) if state.remedy else (),
                        Tone.BAD if state.unexplained_count else Tone.PLAIN,
                    ),
                )
                for state in states
            ),
        ),
    )


def alerts_panel(plan: Plan) -> Panel:
    more = plan.alert_count - len(plan.alerts)
    return Panel(
        "alerts",
        "Open alerts",
        "What failed and has not recovered: checks, runs, freshness and grave exceptions.",
        badge=f"{number(plan.alert_count)} open",
        tone=none_of(plan.alert_count),
        table=Table(
            ("Severity", "What", "Code", "Seen", "Evidence hash"),
            tuple(
                (
                    status_cell(each.severity),
                    Cell(
                        each.message,
                        (f"{each.kind}: {each.subject}",),
                        link=Link("asset", f"{each.source_system}/{each.object_type}")
                        if each.source_system and each.object_type
                        else None,
                    ),
                    Cell(each.code, code=True),
                    Cell(
                        time(plan, each.last_seen),
                        (f"since {time(plan, each.first_seen)}", f"{number(each.count)} times"),
                        at=each.last_seen,
                    ),
                    Cell(each.evidence_hash, code=True),
                )
                for each in plan.alerts
            ),
            f"and {number(more)} more: `finance-os alerts list`" if more else "",
        ),
    )


def exceptions_panel(plan: Plan) -> Panel:
    more = len(plan.exceptions) - LISTED
    return Panel(
        "exceptions",
        "Open finance exceptions",
        "What sources and checks found to be wrong. Mend it at its source; the next read resolves it.",
        badge=f"{number(len(plan.exceptions))} open",
        tone=none_of(len(plan.assessment.grave_exceptions)),
        table=Table(
            ("Severity", "Code", "Object", "Subject", "Day", "Evidence hash"),
            tuple(
                (
                    status_cell(each.severity),
                    Cell(each.code, (each.detail,), code=True),
                    Cell(each.object_type, code=True, link=Link("asset", f"{each.source_system}/{each.object_type}")),
                    Cell(each.subject, code=True),
                    Cell(str(each.partition_day)),
                    Cell(each.evidence_hash, code=True),
                )
                for each in plan.exceptions[:LISTED]
            ),
            f"and {number(more)} more" if more > 0 else "",
        ),
    )
