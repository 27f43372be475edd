"""What the Dagster UI shows of an export: markdown tables of external IDs, amounts and hashes."""

from collections import Counter
from collections.abc import Iterable, Sequence

from finance_os.backtest.shown import in_table
from finance_os.evidence.extraction import Finding
from finance_os.stripe_qbo.mapping.opening import Opening
from finance_os.stripe_qbo.reconcile import Clearing
from finance_os.stripe_qbo.store import Change, Put, What

MOST_ROWS = 100
"""Rows in a table; `finance-os qbo status` and the tables of the database have all of them."""

_DETAIL = 400
_CHANGED = (What.NEW, What.SUPERSEDED, What.WITHDRAWN, What.CONFLICT)


def counted(counts: Counter[str]) -> str:
    """`3 new, 1 withdrawn`; `nothing` for none."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count) or "nothing"


def changes_table(changes: Sequence[Change]) -> str:
    """What a plan changed, an intent a row."""
    rows = [
        (
            each.what.value,
            f"{each.operation.value} {each.entity}",
            str(each.key),
            str(each.dated),
            " → ".join(text[:12] for text in (each.stored_hash, each.planned_hash) if text),
        )
        for each in changes
    ]
    return _table(("what", "write", "key", "dated", "input hash"), rows, "Nothing changed.")


def plan_table(put: Put) -> str:
    """How much a plan changed, by day and entity."""
    counts = Counter((each.dated, each.entity, each.what) for each in put.changes)
    places = sorted({(dated, entity) for dated, entity, _ in counts})
    rows = [
        (str(dated), entity, *(f"{counts[dated, entity, what]:,}" for what in _CHANGED)) for dated, entity in places
    ]
    return _table(("day", "entity", *(what.value for what in _CHANGED)), rows, "Nothing changed.")


def findings_table(findings: Iterable[Finding]) -> str:
    """Findings, the latest day first, under how many there are of each code."""
    found = sorted(findings, key=lambda each: (each.day, each.code, each.subject), reverse=True)
    if not found:
        return "Nothing was found to be wrong."
    rows = [
        (each.severity.value, each.code, each.subject, str(each.day), in_table(each.detail, _DETAIL)) for each in found
    ]
    counts = Counter(each.code for each in found)
    return f"{counted(counts)}\n\n{_table(('severity', 'code', 'subject', 'day', 'detail'), rows, '')}"


def opening_table(opening: Iterable[Opening]) -> str:
    """What each currency starts with at the balance date, in minor units."""
    rows = [
        (
            each.currency,
            *(
                f"{amount:,}"
                for amount in (each.receivable, each.receivable_in_books, each.clearing, each.clearing_in_books)
            ),
        )
        for each in opening
    ]
    headings = ("currency", "receivable at Stripe", "in QuickBooks", "clearing at Stripe", "in QuickBooks")
    return _table(headings, rows, "Nothing was there before.")


def clearing_table(clearing: Iterable[Clearing]) -> str:
    """Each clearing account against Stripe's balance, and what of that is available."""
    rows = [
        (
            each.currency,
            in_table(each.account),
            f"{each.at_stripe:,f}",
            "–" if each.in_books is None else f"{each.in_books:,f}",
            _compared(each),
            *("–" if part is None else f"{part:,f}" for part in (each.available, each.pending, each.in_transit)),
        )
        for each in clearing
    ]
    apart = ("of it available", "pending", "on its way to the bank")
    headings = ("currency", "account", "Stripe's balance", "in QuickBooks", "", *apart)
    return _table(headings, rows, "No clearing account.")


def _compared(clearing: Clearing) -> str:
    if clearing.in_books is None:
        return f"not compared: {clearing.why}"
    left = f", with {clearing.unwritten:,f} of {clearing.writes:,} writes that are not written yet"
    whole = f"; available and pending {clearing.why_whole}" if clearing.why_whole else ""
    return ("differs" if clearing.differs else "agrees") + (left if clearing.writes else "") + whole


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> str:
    if not rows:
        return nothing
    lines = [f"| {' | '.join(headings)} |", "|" + " --- |" * len(headings)]
    lines += ["| " + " | ".join(row) + " |" for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines.append(f"\nand {len(rows) - MOST_ROWS:,} more.")
    return "\n".join(lines)
