"""A result as people read it: markdown for the Dagster UI. Publishers are shown by ID and by Gravity's name."""

from finance_os.backtest.compare import COLUMNS, Row
from finance_os.backtest.result import Result
from finance_os.backtest.rules import Class, Variance
from finance_os.backtest.sign_off import SignOff
from finance_os.evidence.money import dollars

MOST_ROWS = 100
"""Rows in a table on a page; the files have all of them."""

_AGREEING = (Class.MATCH, Class.WITHIN_TOLERANCE)


def rows_table(result: Result) -> str:
    """The rows, those that disagree first."""
    rows = sorted(result.rows, key=lambda row: (row.verdict in _AGREEING, row.publisher))
    lines = [
        f"| publisher | class | spend | expected | {' | '.join(f'{name} | off by' for name in COLUMNS)} |",
        f"| --- | --- | {' | '.join(['---:'] * (2 + 2 * len(COLUMNS)))} |",
    ]
    lines += [_line(row) for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines.append(f"\n{len(rows) - MOST_ROWS:,} more rows are in the files.")
    return "\n".join(lines) if rows else "*Neither events nor baseline rows.*"


def totals_table(result: Result) -> str:
    """What the rows add up to."""
    totals = result.totals
    lines = ["| | US dollars |", "| --- | ---: |"]
    for name, amount in totals.items():
        if name.endswith("_microdollars"):
            lines.append(f"| {name.removesuffix('_microdollars')} | {money(amount)} |")
    return "\n".join(lines)


def classes_text(result: Result) -> str:
    """How many rows there are of each class that has any."""
    return ", ".join(f"{count:,} {name}" for name, count in result.classes.items() if count) or "no rows"


def sign_off_text(found: SignOff, blockers: tuple[str, ...] = ()) -> str:
    """How a month stands, in a sentence."""
    if found.signed_hash is None:
        return f"unsigned, and cannot be signed: {', '.join(blockers)}" if blockers else "unsigned"
    said = (
        f"{found.standing.value}: {found.signed_by} signed {found.signed_hash[:12]} at {found.signed_at:%Y-%m-%d %H:%M}"
    )
    if found.standing.value == "voided":
        now = f"the evidence gives {found.current_hash[:12]} now" if found.current_hash else found.why
        return f"{said}; {now}"
    return said


def money(micros: int | None) -> str:
    """Microdollars as dollars with six decimals; a dash for none."""
    return "–" if micros is None else f"{dollars(micros):,f}"


def off_by(each: Variance) -> str:
    """A variance in dollars and percent."""
    if each.absolute is None:
        return "–"
    relative = "" if each.relative is None else f" ({each.relative * 100:+.4f} %)"
    return f"{dollars(each.absolute):+,f}{relative}"


def _line(row: Row) -> str:
    variances = [(money(row.variances[name].baseline), off_by(row.variances[name])) for name in COLUMNS]
    named = f"{row.publisher} {row.name}" if row.name else row.publisher
    cells = [in_table(named), row.verdict.value, money(row.spend), money(row.expected)]
    return "| " + " | ".join([*cells, *(cell for pair in variances for cell in pair)]) + " |"


def in_table(text: str, most: int = 100) -> str:
    """A text as one cell of a markdown table, whatever is in it; what is longer than `most` is cut."""
    plain = " ".join(text.split())
    cut = plain if len(plain) <= most else f"{plain[: most - 1]}…"
    return "".join(f"\\{c}" if c in "\\|[]<>*_`!" else c for c in cut)
