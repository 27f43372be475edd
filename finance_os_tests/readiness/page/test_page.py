"""The page as words: what the first plan said, in its order, and what every blocked line has to say."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import FinanceException
from finance_os.evidence.extraction import Severity
from finance_os.readiness.checkpoints import record
from finance_os.readiness.page import INTRODUCTION, KIND, NAME, TITLE, panels, summary
from finance_os.readiness.page.panels import Panel, Tile, Tone
from finance_os.readiness.plan import Plan, source_sync_plan
from finance_os.readiness.policies import PLAID_PRODUCTION, Approval
from finance_os.readiness.verdicts import Status
from finance_os.sources.registry import SOURCES
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.readiness.seed_state import BUSINESS, ENVIRONMENT, plant_run, plant_seed_state

SEED = Path(__file__).with_name("seed_page.txt")
"""The first plan, line by line, without its hashes and the rows that are not planted."""

TITLES = (
    "Phase 7 production hardening checkpoint",
    "Principles",
    "XLSX publisher economics baseline",
    "Phase 7 CSV fallback validation",
    "Phase 7 source failure monitoring",
    "Phase 7 scheduled sync readiness",
    "Phase 1 validation evidence",
    "Raw-record staging",
    "Ingestion probe",
    "Gravity raw ingestion",
    "Rho cash CSV import",
    "Plaid sandbox proof path",
    "Redshift publisher spend ingestion",
    "QuickBooks sandbox accounting ingestion",
    "Stripe billing ingestion",
    "Google Drive agreement ingestion",
    "Connector readiness",
    "Recent staged raw records",
    "Raw-record contract",
)


@pytest.fixture(scope="module")
def plan(server_url: str, template_name: str) -> Iterator[Plan]:
    """The plan of the seed's state."""
    name = f"finance_os_page_{os.getpid()}"
    database = Database(create_database(server_url, name, template_name))
    plant_seed_state(database)
    yield plan_of(database)
    drop_database(server_url, name)


@pytest.fixture
def seeded(database: Database) -> Database:
    plant_seed_state(database)
    return database


def plan_of(database: Database) -> Plan:
    """The plan of the seed's state, looked at in its year."""
    plan = source_sync_plan(database, SOURCES, BUSINESS, environment=ENVIRONMENT)
    return replace(plan, as_of=datetime(2026, 5, 11, tzinfo=UTC))


def words(shown: Sequence[Panel]) -> Iterator[str]:
    """Everything that panels say, in order."""
    for panel in shown:
        yield from (panel.title, panel.sentence, panel.badge)
        for tile in panel.tiles:
            yield from (tile.label, tile.value, tile.note, *tile.more)
        yield from panel.notes
        if panel.table is not None:
            yield from panel.table.headings
            for row in panel.table.rows:
                for cell in row:
                    yield from (cell.text, *cell.below)


def panel_of(plan: Plan, key: str) -> Panel:
    return next(panel for panel in panels(plan) if panel.key == key)


def tile_of(plan: Plan, key: str, label: str) -> Tile:
    return next(tile for tile in panel_of(plan, key).tiles if tile.label == label)


def test_the_page_says_what_the_first_plan_said(plan: Plan) -> None:
    shown = panels(plan)
    said = [NAME, KIND, TITLE, INTRODUCTION, *words(shown)]
    whole = (" ".join(said).replace("`", ""), "".join(said).replace("`", ""))
    missing = [
        line for line in SEED.read_text().splitlines() if not any(line.replace("`", "") in text for text in whole)
    ]
    assert missing == []


def test_the_panels_come_in_the_order_of_the_first_plan(plan: Plan) -> None:
    titles = [panel.title for panel in panels(plan)]
    assert tuple(titles[: len(TITLES)]) == TITLES
    assert len(set(titles)) == len(titles)
    seed = SEED.read_text().splitlines()
    places = [seed.index(title) for title in TITLES if title != "Principles"]
    assert places == sorted(places)


def test_the_figures_of_the_first_plan(plan: Plan) -> None:
    figures = {
        (panel.key, tile.label): (tile.value, tile.note)
        for panel in panels(plan)
        for tile in panel.tiles
        if not tile.label.endswith("hash")
    }
    assert figures["production_hardening", "Hardening checks"] == ("5/9", "4 blocked")
    assert figures["scheduled_sync_readiness", "Scheduled sync"] == ("failed", "May 4, 9:56 PM")
    assert figures["scheduled_sync_readiness", "Scheduled connectors"] == ("2/6", "2 failed / 1 skipped")
    assert figures["scheduled_sync_readiness", "Fresh source evidence"] == ("0/9", "8 stale / 1 pending")
    assert figures["source_failure_monitoring", "Scheduled failures"] == ("2", "1 skipped steps")
    assert figures["source_failure_monitoring", "Stale evidence"] == ("8", "1 pending sources")
    assert figures["csv_fallback_validation", "Matched sample"] == ("0", "0 unmatched Rho · 0 unmatched Plaid")
    assert figures["staging", "Raw records"] == (
        "500",
        "0 Rho / 0 XLSX baseline / 0 Plaid / 488 Gravity / 0 Redshift / 0 QBO / 0 Stripe / 12 Drive rows",
    )
    assert figures["staging", "Latest status"] == ("succeeded", "May 10, 4:23 AM")
    assert figures["ingestion_google_drive", "Object types"][1] == "1 inventories / 6 candidates / 5 text rows"
    assert panel_of(plan, "evidence").badge == "0/11 ready"
    assert panel_of(plan, "connectors").badge == "6/7 ready"
    assert [(each.label, each.value) for each in summary(plan)] == [
        ("Gate", "shut"),
        ("Checkpoints current", "0/6"),
        ("Evidence ready", "0/11"),
        ("Connectors ready", "6/7"),
        ("Open alerts", "0"),
        ("High/critical exceptions", "0"),
    ]


def test_every_blocked_line_has_its_blocker_its_hash_and_what_to_do(plan: Plan) -> None:
    blocked = 0
    for name, standing in plan.assessment.standings.items():
        table = panel_of(plan, name).table
        assert table is not None
        for line, (check, status, evidence, blocker) in zip(standing.evaluation.lines, table.rows, strict=True):
            assert (check.text, check.below) == (line.title, (line.key,))
            assert (status.text, evidence.text) == (line.status, line.evidence_hash or "n/a")
            assert blocker.text == (line.blocker or "None")
            assert blocker.below == ((line.remedy,) if line.remedy else ())
            if not line.ready:
                blocked += 1
                assert blocker.text != "None"
                assert blocker.below[0]
                assert status.tone is Tone.BAD
    assert blocked == sum(len(each.evaluation.blocked) for each in plan.assessment.standings.values()) > 15


def test_a_checkpoint_that_is_ready_and_not_recorded_says_how_to_record_it(plan: Plan) -> None:
    name = "scheduled_sync_readiness"
    standing = plan.assessment.standings[name]
    lines = tuple(replace(line, status=Status.READY, blocker=None, remedy=None) for line in standing.evaluation.lines)
    ready = replace(standing, evaluation=replace(standing.evaluation, lines=lines))
    assessment = replace(plan.assessment, standings={**plan.assessment.standings, name: ready})
    shown = panel_of(replace(plan, assessment=assessment), name)
    assert (shown.badge, shown.tone) == ("Ready", Tone.WAIT)
    assert any("finance-os checkpoint record scheduled_sync_readiness" in note for note in shown.notes)
    assert shown.tiles[-1].note == "Latest: missing"


def test_a_recorded_checkpoint_is_no_longer_missing(seeded: Database) -> None:
    standing = plan_of(seeded).assessment.standings["csv_fallback_validation"]
    record(seeded, standing.evaluation)
    assert tile_of(plan_of(seeded), "csv_fallback_validation", "Validation hash").note.endswith("latest not current")


def test_a_write_at_a_vendor_is_shown_at_its_boundary(seeded: Database) -> None:
    held = tile_of(plan_of(seeded), "ingestion_stripe", "Write boundary")
    assert (held.value, held.note) == ("Finance Supabase only", "No Stripe mutations or invoice writes")
    stripe = ensure_connection(seeded, BUSINESS, "stripe")
    plant_run(seeded, stripe, "stripe_invoice", datetime.now(UTC), "bad", requested={"POST api.stripe.com": 1})
    plan = plan_of(seeded)
    violated = tile_of(plan, "ingestion_stripe", "Write boundary")
    assert (violated.value, violated.tone) == ("violated", Tone.BAD)
    assert "POST" in violated.more[0]
    assert tile_of(plan, "ingestion_gravity", "Write boundary").value == "Finance Supabase only"


def test_an_approval_is_shown_where_its_gate_was(plan: Plan) -> None:
    until = datetime(2026, 6, 1, 12, tzinfo=UTC)
    approval = Approval(1, 1, "production.plaid.com", until, "asker", "approver", "needed")
    state = replace(plan.assessment.policies[PLAID_PRODUCTION.key], approvals=(approval,))
    assessment = replace(plan.assessment, policies={**plan.assessment.policies, PLAID_PRODUCTION.key: state})
    approved = replace(plan, assessment=assessment)
    assert tile_of(approved, "production_hardening", "Production policies").value == "Plaid approved, QBO gated"
    assert tile_of(approved, "ingestion_plaid", "Feature flag").value == "Production approved"
    said = " ".join(words([panel_of(approved, "policies")]))
    assert "production.plaid.com until Jun 1, 12:00 PM, asked by asker, approved by approver" in said


def test_exceptions_are_listed_up_to_a_number_and_all_counted(plan: Plan) -> None:
    found = tuple(
        FinanceException(n, BUSINESS, "rho", "rho_cash_transaction", "duplicate_row", Severity.HIGH, f"row_{n}",
                         date(2026, 5, 1), "Two rows of one ID.", "4f53cda18c2b", "open", plan.as_of, None)
        for n in range(60)
    )  # fmt: skip
    shown = panel_of(replace(plan, assessment=replace(plan.assessment, exceptions=found)), "exceptions")
    assert shown.badge == "60 open"
    assert shown.table is not None
    assert (len(shown.table.rows), shown.table.more) == (50, "and 10 more")


def test_a_business_that_never_read_anything_has_a_page(database: Database) -> None:
    ensure_business(database, "new", "New", "Asia/Tokyo")
    plan = source_sync_plan(database, SOURCES, "new", environment={})
    assert tile_of(plan, "staging", "Latest status").value == "Not recorded"
    assert tile_of(plan, "scheduled_sync_readiness", "Scheduled sync").note == "Not recorded"
    assert panel_of(plan, "connectors").badge.startswith("0/")


def test_a_plan_without_the_baseline_and_with_another_vendor_has_their_panels(database: Database) -> None:
    ensure_business(database, "new", "New", "UTC")
    till = replace(SOURCES[0], system="till", title="Till", description="What the till took.", order=9, evidence=())
    plan = source_sync_plan(database, [*SOURCES, till], "new", excluded=frozenset({"xlsx"}))
    titles = [panel.title for panel in panels(plan)]
    assert "XLSX publisher economics baseline" not in titles
    assert titles[titles.index("Connector readiness") - 1] == "Till ingestion"
    assert tile_of(plan, "ingestion_till", "Source system").value == "till"
    assert "XLSX" not in tile_of(plan, "staging", "Raw records").note
