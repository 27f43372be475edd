"""The source sync plan in a terminal."""

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

from finance_os.readiness.page import INTRODUCTION, TITLE, panels, summary
from finance_os.readiness.page.panels import Cell, Panel, Table, Tile, Tone
from finance_os.readiness.plan import Plan

STYLES = {Tone.GOOD: "green", Tone.WAIT: "yellow", Tone.BAD: "bold red", Tone.PLAIN: ""}


def print_plan(plan: Plan, console: Console) -> None:
    """Print the plan of one business: the panels of its page, in their order."""
    console.rule(f"{TITLE}: {escape(plan.business_id)}")
    console.print(INTRODUCTION, style="dim")
    for each in summary(plan):
        console.print(Text.assemble(f"  {each.label}  ", (each.value, STYLES[each.tone])))
    for panel in panels(plan):
        _print_panel(panel, console)


def _print_panel(panel: Panel, console: Console) -> None:
    console.print()
    badge = (f"  [{panel.badge}]", STYLES[panel.tone]) if panel.badge else ""
    console.print(Text.assemble((panel.title, "bold"), badge))
    if panel.sentence:
        console.print(Text(panel.sentence, "dim"))
    for tile in panel.tiles:
        console.print(_tile(tile))
    for note in panel.notes:
        console.print(Text(f"  {note}"))
    if panel.table is not None:
        console.print(_grid(panel.table) if panel.table.rows else Text("  Nothing.", "dim"))
        if panel.table.more:
            console.print(Text(f"  {panel.table.more}", "dim"))


def _tile(tile: Tile) -> Text:
    shown = Text.assemble("  ", tile.label, "  " if tile.value else "", (tile.value, STYLES[tile.tone] or "bold"))
    for line in (tile.note, *tile.more):
        if line:
            shown.append(f"\n      {line}", "dim")
    return shown


def _grid(table: Table) -> Grid:
    grid = Grid(*table.headings, show_lines=any(cell.below for row in table.rows for cell in row))
    for row in table.rows:
        grid.add_row(*(_cell(cell) for cell in row))
    return grid


def _cell(cell: Cell) -> RenderableType:
    """A cell's words; codes and hashes are folded rather than cut, so that they can be copied."""
    first = Text(cell.text, STYLES[cell.tone], overflow="fold")
    return Group(first, *(Text(line, "dim", overflow="fold") for line in cell.below)) if cell.below else first
