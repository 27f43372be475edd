"""`finance-os backtest`: a month's result, where each figure comes from, its files, and its sign-off."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from finance_os.commands.opened import console, errors, opened_database, require_business
from finance_os.settings import Settings

app = typer.Typer(help="Phase 5: publisher spend against the baseline, by month.", no_args_is_help=True)

_Month = Annotated[str, typer.Argument(help="The month, as 2026-03.")]
_Business = Annotated[str | None, typer.Option(help="The business; the installation's own if not given.")]


@app.command()
def show(month: _Month, business: _Business = None) -> None:
    """Show a month as the evidence gives it now, and how its sign-off stands. Nothing is kept."""
    from finance_os.backtest import shown
    from finance_os.backtest.compare import COLUMNS
    from finance_os.backtest.sign_off import standing_of

    with opened_database() as database:
        result = _current(database, month, business)
        result_hash = result.result_hash
        standing = standing_of(database, result.business_id, result.month, result_hash)
    table = Table(title=f"{result.business_id}, {result.days}")
    table.add_column("publisher")
    table.add_column("class", no_wrap=True)
    for name in ("spend", "expected", *(text for column in COLUMNS for text in (column, "off by"))):
        table.add_column(name, justify="right")
    for row in result.rows:
        table.add_row(
            row.publisher,
            row.verdict.value,
            shown.money(row.spend),
            shown.money(row.expected),
            *(
                text
                for column in COLUMNS
                for text in (shown.money(row.variances[column].baseline), shown.off_by(row.variances[column]))
            ),
        )
    console.print(table)
    console.print(shown.classes_text(result), markup=False)
    for name, amount in result.totals.items():
        console.print(f"  {name:34} {amount:>24,}", markup=False, highlight=False)
    console.print(f"  result hash  {result_hash}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"  sign-off     {shown.sign_off_text(standing, result.sign_off_blockers)}", markup=False)


@app.command()
def trace(
    month: _Month,
    publisher: Annotated[str, typer.Argument(help="The publisher, as the result has it.")],
    business: _Business = None,
) -> None:
    """Print each raw record behind a publisher's figures, tab by tab, with the sync run that made it current."""
    from finance_os.backtest.trace import trace as records_of

    with opened_database() as database:
        result = _current(database, month, business)
        row = result.row(publisher)
        lines = ["source\tobject type\tsource ID\trecord ID\tpayload hash\tsync run\tmicrodollars"]
        for each in records_of(database, result, row):
            amounts = " ".join(f"{name}={'' if amount is None else amount}" for name, amount in each.amounts.items())
            lines.append(
                f"{each.source_system}\t{each.object_type}\t{each.source_id}\t{each.record_id}\t{each.payload_hash}"
                f"\t{each.sync_run_id}\t{amounts}"
            )
    sys.stdout.write("\n".join(lines) + "\n")
    errors.print(
        f"{result.month} of {publisher}: spend {row.spend} microdollars of {row.records} records; "
        f"result {result.result_hash[:12]}. `finance-os runs show RUN` prints what a sync run saw.",
        markup=False,
        highlight=False,
    )


@app.command()
def sign(
    month: _Month,
    reason: Annotated[str, typer.Option(help="Why it is signed; no personal data.")],
    business: _Business = None,
) -> None:
    """Sign a month's latest result, as the login of FINANCE_OS_APPROVER_DATABASE_URL."""
    from finance_os.backtest import sign_off
    from finance_os.backtest.month import Month
    from finance_os.backtest.results import rules_of
    from finance_os.evidence.database import Database
    from finance_os.readiness.approvals import APPROVER_ROLE

    settings = Settings()
    url = settings.approver_database_url
    if url is None:
        raise LookupError(
            "FINANCE_OS_APPROVER_DATABASE_URL is not set: it is the login of whoever signs, a member of "
            "finance_os_approver that the application does not have"
        )
    asked = Month.parse(month)
    with opened_database() as database:
        business_id = _business(database, business)
        signed = sign_off.sign(
            database,
            Database(url.get_secret_value(), APPROVER_ROLE),
            business_id,
            asked,
            reason,
            rules_of(settings),
            settings.start_date,
        )
    console.print(f"{signed.month} of {business_id} is signed: {signed.result_hash}", soft_wrap=True, highlight=False)


@app.command()
def export(
    month: _Month,
    to: Annotated[Path, typer.Option(help="Folder for the CSV and the XLSX.")],
    business: _Business = None,
) -> None:
    """Write a month as the evidence gives it now as CSV and XLSX."""
    from finance_os.backtest.exports import export as write

    with opened_database() as database:
        result = _current(database, month, business)
    written = write(result, to)
    console.print(f"{written.csv}\n{written.xlsx}", markup=False, highlight=False, soft_wrap=True)


def _current(database: Any, month: str, business: str | None) -> Any:
    """What the evidence gives of a month now. LookupError where it is refused."""
    from finance_os.backtest.evidence import Refused
    from finance_os.backtest.month import Month
    from finance_os.backtest.results import current_result, rules_of

    settings = Settings()
    asked = Month.parse(month)
    try:
        return current_result(database, _business(database, business), asked, rules_of(settings), settings.start_date)
    except Refused as refused:
        raise LookupError(f"{refused.code}: {refused.message}") from refused


def _business(database: Any, business: str | None) -> str:
    """The business that is meant: the one given, else the installation's own, else the only one there is."""
    known = require_business(database, business)
    if business is not None:
        return business
    own = Settings().business
    if own in known:
        return own
    if len(known) == 1:
        return known[0]
    raise LookupError(f"say which business: --business {' or '.join(known) or '(none is recorded yet)'}")
