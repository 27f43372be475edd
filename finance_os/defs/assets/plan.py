"""The source sync plan as an asset: the page that `finance-os plan` prints, readable in the Dagster UI."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import dagster as dg

from finance_os.defs.assets.sources import OWNERS
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import every_business
from finance_os.readiness.page import panels, summary
from finance_os.readiness.page.panels import Cell, Panel, Table, Tile
from finance_os.readiness.plan import Plan, source_sync_plan
from finance_os.settings import settings
from finance_os.sources.source import Source

PLAN = dg.AssetKey(["readiness", "source_sync_plan"])


def plan_asset(sources: Sequence[Source]) -> dg.AssetsDefinition:
    """The asset whose latest materialization is the plan as it then was."""

    @dg.asset(
        key=PLAN,
        group_name="readiness",
        kinds={"postgres"},
        owners=list(OWNERS),
        description="Which connectors can be read, what each must keep, what is staged, what was found to be wrong.",
    )
    def source_sync_plan_page(evidence: Evidence) -> dg.MaterializeResult:
        plans = [
            source_sync_plan(
                evidence.database,
                sources,
                business_id,
                excluded=settings().excluded,
                valid_for=timedelta(hours=settings().checkpoint_valid_hours),
            )
            for business_id in every_business(evidence.database)
        ]
        url = settings().web_url
        page = {"page": dg.MetadataValue.url(url)} if url else {}
        return dg.MaterializeResult(metadata={**page, **plan_metadata(plans)})

    return source_sync_plan_page


def plan_schedule(asset: dg.AssetsDefinition) -> dg.ScheduleDefinition:
    """Keeps the page fresh: every hour."""
    return dg.ScheduleDefinition(
        name="source_sync_plan",
        target=asset,
        cron_schedule="5 * * * *",
        execution_timezone=settings().timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Brings the source sync plan up to date every hour.",
    )


def plan_metadata(plans: Sequence[Plan]) -> Mapping[str, dg.MetadataValue]:
    """The page for the Dagster UI: its head of each business, then each panel with what it says of every business."""
    found: dict[str, list[str]] = {}
    for plan in plans:
        for panel in panels(plan):
            found.setdefault(panel.title, []).append(f"#### {_text(plan.business_id)}\n\n{panel_markdown(panel)}")
    return {
        **{f"readiness of {plan.business_id}": dg.MetadataValue.text(_head(plan)) for plan in plans},
        **{title: dg.MetadataValue.md("\n\n".join(texts)) for title, texts in found.items()},
    }


def panel_markdown(panel: Panel) -> str:
    """A panel as markdown; links are paths of the Dagster UI."""
    title = f"[{panel.title}]({panel.link.path})" if panel.link else panel.title
    parts = [f"**{title}**" + (f": {panel.badge}" if panel.badge else "")]
    parts += [_text(panel.sentence)] if panel.sentence else []
    parts += ["\n".join(_tile(tile) for tile in panel.tiles)] if panel.tiles else []
    parts += [_text(note) for note in panel.notes]
    parts += [_table(panel.table)] if panel.table else []
    return "\n\n".join(parts)


def _head(plan: Plan) -> str:
    figures = "; ".join(f"{each.label.lower()} {each.value}" for each in summary(plan))
    return f"{plan.headline} {figures[:1].upper()}{figures[1:]}."


def _tile(tile: Tile) -> str:
    value = f" **{_text(tile.value)}**" if tile.value else ""
    return f"- {_text(tile.label)}:{value} {' · '.join(_text(line) for line in (tile.note, *tile.more) if line)}"


def _table(table: Table) -> str:
    if not table.rows:
        return "Nothing."
    lines = [f"| {' | '.join(table.headings)} |", f"| {' | '.join('---' for _ in table.headings)} |"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    return "\n".join(lines) + (f"\n\n{_text(table.more)}" if table.more else "")


def _cell(cell: Cell) -> str:
    text = _text(cell.text)
    shown = f"[{text}]({cell.link.path})" if cell.link else text
    return " · ".join((shown, *(_text(line) for line in cell.below)))


def _text(words: str) -> str:
    """Words of the evidence as markdown that shows them and does nothing else."""
    for sign in "\\|*[]<>":
        words = words.replace(sign, f"\\{sign}")
    return words.replace("\n", " ")
