"""The plan as an asset: its panels as markdown for the Dagster UI."""

import dagster as dg
import pytest

from finance_os.defs.assets.plan import PLAN, panel_markdown, plan_asset, plan_metadata
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import Connection, ensure_business
from finance_os.evidence.database import Database
from finance_os.readiness.page import panels
from finance_os.readiness.page.panels import Cell, Link, Panel, Table, Tile
from finance_os.readiness.plan import source_sync_plan
from finance_os.sources.registry import SOURCES


def test_every_panel_is_metadata_of_both_businesses(database: Database, acme: Connection, globex: Connection) -> None:
    ensure_business(database, "acme", "Acme", "UTC")
    plans = [source_sync_plan(database, SOURCES, business_id, environment={}) for business_id in ("acme", "globex")]
    metadata = plan_metadata(plans)
    for panel in panels(plans[0]):
        text = str(metadata[panel.title].value)
        assert "#### acme" in text
        assert "#### globex" in text
    assert "phase_7_scheduled_sync_not_succeeded" in str(metadata["Phase 7 scheduled sync readiness"].value)
    assert "Gate shut" in str(metadata["readiness of acme"].value)


def test_words_of_the_evidence_stay_in_their_cell() -> None:
    row = (Cell("a|b", ("c\nd",)), Cell("<b>[x](http://evil.example)*", link=Link("asset", "stripe/stripe_invoice")))
    panel = Panel("key", "Title", "", tiles=(Tile("Label", "5", "note"),), table=Table(("one", "two"), (row,)))
    assert panel_markdown(panel).splitlines()[-3:] == [
        "| one | two |",
        "| --- | --- |",
        "| a\\|b · c d | [\\<b\\>\\[x\\](http://evil.example)\\*](/assets/stripe/stripe_invoice) |",
    ]
    assert "- Label: **5** note" in panel_markdown(panel)


def test_the_asset_shows_the_plan(database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evidence, "database", database)
    result = dg.materialize([plan_asset(SOURCES)], resources={"evidence": Evidence()})
    [event] = result.get_asset_materialization_events()
    assert event.asset_key == PLAN
    assert "Connector readiness" in event.materialization.metadata
    assert "readiness of acme" in event.materialization.metadata
