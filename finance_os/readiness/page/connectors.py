"""The panels of the planned connectors: which can be read, and what each must keep."""

from finance_os.readiness.page.panels import (
    Cell,
    Panel,
    Table,
    all_of,
    capital,
    status_cell,
)
from finance_os.readiness.plan import Connector, Plan


def connectors_panel(plan: Plan) -> Panel:
    return Panel(
        "connectors",
        "Connector readiness",
        plan.headline,
        badge=f"{plan.ready}/{len(plan.connectors)} ready",
        tone=all_of(plan.ready, len(plan.connectors)),
        table=Table(
            ("Order", "Source", "Status", "Objects", "Cursor strategy"),
            tuple(
                (
                    Cell(str(each.order)),
                    Cell(each.title, _advice(each)),
                    status_cell(capital(each.status), (each.blocker,) if each.blocker else ()),
                    Cell(", ".join(each.objects), code=True),
                    Cell(each.cursor_strategy),
                )
                for each in plan.connectors
            ),
        ),
    )


def _advice(each: Connector) -> tuple[str, ...]:
    return (each.sentence, *((each.remedy,) if each.remedy else ()))


def contract_panel(plan: Plan) -> Panel:
    return Panel(
        "contract",
        "Raw-record contract",
        "Every connector must stage evidence before future Finance OS workflows can depend on it.",
        table=Table(
            ("Source", "Evidence policy", "Idempotency key"),
            tuple(
                (Cell(each.title), Cell(each.evidence_policy), Cell(each.idempotency_key, code=True))
                for each in plan.connectors
            ),
        ),
    )
