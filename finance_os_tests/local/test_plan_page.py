"""The plan in a terminal and as JSON: the same figures as on the page."""

import io

import msgspec
import pytest
from rich.console import Console

from finance_os.evidence.businesses import ensure_business
from finance_os.evidence.database import Database
from finance_os.local.plan_json import plan_json
from finance_os.local.plan_page import print_plan
from finance_os.readiness.page import panels
from finance_os.readiness.plan import Plan, source_sync_plan
from finance_os.sources.registry import SOURCES
from finance_os_tests.readiness.seed_state import BUSINESS, ENVIRONMENT, plant_seed_state


@pytest.fixture
def plan(database: Database) -> Plan:
    plant_seed_state(database)
    return source_sync_plan(database, SOURCES, BUSINESS, environment=ENVIRONMENT)


def printed(plan: Plan, width: int) -> str:
    output = io.StringIO()
    print_plan(plan, Console(file=output, width=width, color_system=None))
    return output.getvalue()


def test_every_panel_is_printed_with_its_figures(plan: Plan) -> None:
    text = printed(plan, 400)
    at = 0
    for panel in panels(plan):
        at = text.index(panel.title, at)
        for tile in panel.tiles:
            assert text.index(tile.value, at) >= at
            assert tile.note in text
    for standing in plan.assessment.standings.values():
        for line in standing.evaluation.blocked:
            assert line.blocker
            assert line.blocker in text
            assert line.remedy
            assert line.remedy[:100] in text


def test_a_narrow_terminal_cuts_no_code_and_no_hash(plan: Plan) -> None:
    lines = printed(plan, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]


def test_words_of_the_evidence_are_no_markup(database: Database) -> None:
    ensure_business(database, "new", "[bold]New[/]", "UTC")
    database.fetch(
        """
        INSERT INTO finance_os.finance_exceptions
            (business_id, source_system, object_type, code, severity, subject, partition_day, detail, evidence_hash)
        VALUES ('new', 'rho', 'rho_cash_transaction', 'odd', 'high', '[/]row[red]', '2026-05-01', '[link=x]', 'abc')
        RETURNING exception_id
        """
    )
    text = printed(source_sync_plan(database, SOURCES, "new", environment={}), 200)
    assert "[/]row[red]" in text
    assert "[link=x]" in text


def test_the_json_says_what_the_page_says(plan: Plan) -> None:
    [decoded] = msgspec.json.decode(plan_json([plan]))
    assert decoded["headline"] == "6 of 7 planned connectors have runtime credentials present."
    assert (decoded["evidence_ready"], len(decoded["evidence"])) == (0, 11)
    assert decoded["staging"]["status"] == "ready"
    checkpoints = {each["name"]: each for each in decoded["checkpoints"]}
    assert (checkpoints["production_hardening"]["ready"], checkpoints["production_hardening"]["of"]) == (5, 9)
    for name, standing in plan.assessment.standings.items():
        said = checkpoints[name]
        assert (said["status"], said["latest"]) == (standing.evaluation.status, standing.currency)
        assert said["evidence_hash"] == standing.evaluation.evidence_hash
        assert [(line["key"], line["blocker"], line["remedy"]) for line in said["lines"]] == [
            (line.key, line.blocker, line.remedy) for line in standing.evaluation.lines
        ]
    assert decoded["scheduled_sync"]["status"] == "failed"
    assert decoded["csv_fallback"]["rho_hash"] == "4f53cda18c2b"
    assert decoded["policies"]["plaid_production"]["status"] == "policy_gated_sandbox_only"
    assert decoded["boundary"]["held"] is True
    assert decoded["alerts"] == {"open": 0, "listed": []}
