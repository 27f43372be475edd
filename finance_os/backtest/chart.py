"""A result as a picture: what events say of each publisher beside what the baseline says."""

import base64
import io

from finance_os.backtest.compare import COLUMNS, Row
from finance_os.backtest.result import Result
from finance_os.backtest.rules import Class

MOST = 20
"""Publishers in a picture: those whose accrual is off the most."""

_LONGEST = 40
"""Characters of a publisher's name beside its bars."""

_COLOURS = {
    Class.MATCH: "#2e7d32",
    Class.WITHIN_TOLERANCE: "#7cb342",
    Class.OVER: "#ef6c00",
    Class.UNDER: "#c62828",
    Class.NO_BASELINE: "#6a1b9a",
    Class.NO_EVENTS: "#ad1457",
    Class.DUPLICATE_BASELINE_KEY: "#000000",
    Class.UNRESOLVED_PUBLISHER: "#757575",
}


def as_png(result: Result) -> bytes:
    """A PNG with a pair of bars a publisher, coloured by its class. Drawn without a display, and without state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    column = COLUMNS[0]
    rows = sorted(result.rows, key=lambda row: (-_off_by(row), row.publisher))[:MOST]
    rows.sort(key=lambda row: row.publisher, reverse=True)
    figure = Figure(figsize=(8, max(2.2, 0.42 * len(rows) + 1.4)), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = range(len(rows))
    # Bars are lengths on a screen: the only place where an amount becomes a float.
    events = [(row.expected or 0) / 1_000_000 for row in rows]
    baseline = [sum(each.amounts[column] or 0 for each in row.baseline) / 1_000_000 for row in rows]
    colours = [_COLOURS[row.verdict] for row in rows]
    axes.barh([place + 0.2 for place in places], events, height=0.38, color=colours)
    axes.barh([place - 0.2 for place in places], baseline, height=0.38, color="#b0bec5")
    # A publisher is called whatever somebody typed: dollar signs would otherwise be read as formulas, and may fail.
    axes.set_yticks(list(places), [_label(row.publisher) for row in rows], parse_math=False)
    axes.set_xlabel("US dollars")
    left_out = f", the {MOST} that are off the most of {len(result.rows)}" if len(result.rows) > MOST else ""
    axes.set_title(
        f"{result.business_id}, {result.month}: events and baseline {column}{left_out}", fontsize=10, parse_math=False
    )
    shown = dict.fromkeys(row.verdict for row in reversed(rows))
    legend = [Patch(color=_COLOURS[each], label=f"events: {each.value}") for each in shown]
    axes.legend(handles=[*legend, Patch(color="#b0bec5", label=f"baseline {column}")], fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _off_by(row: Row) -> int:
    """Microdollars; where the two cannot be compared, all that is expected."""
    absolute = row.variances[COLUMNS[0]].absolute
    return abs((row.expected or 0) if absolute is None else absolute)


def _label(publisher: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in publisher)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def as_markdown(result: Result) -> str:
    """The picture as Dagster shows it: markdown with the PNG in it."""
    return f"![{result.month}](data:image/png;base64,{base64.b64encode(as_png(result)).decode()})"
