"""`finance-os qbo`: what is to be booked in QuickBooks, written there under an approved policy, and verified."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from finance_os.commands.opened import console, errors, opened_database, require_business
from finance_os.commands.progress import shown
from finance_os.settings import Settings

app = typer.Typer(help="Stripe → QuickBooks: plan, apply, verify.", no_args_is_help=True)

_SHOWN = 20

_Business = Annotated[str | None, typer.Option(help="The business; the installation's own if not given.")]


@app.command()
def plan(
    rules: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="The rules: a TOML or JSON file; FINANCE_OS_QBO_RULES if not given."
        ),
    ] = None,
    business: _Business = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and keep nothing.")] = False,
) -> None:
    """Plan from what is staged and keep the intents; nothing is sent."""
    from finance_os.evidence.snapshot import snapshot
    from finance_os.stripe_qbo import completeness, planning, states, store
    from finance_os.stripe_qbo.books import BooksNotRead
    from finance_os.stripe_qbo.company import company_of
    from finance_os.stripe_qbo.export import planning_alone
    from finance_os.stripe_qbo.keeping import keep
    from finance_os.stripe_qbo.mapping import proved
    from finance_os.stripe_qbo.rules import BadRules

    with _opened(business) as (database, business_id):
        realm = company_of(database, business_id).realm
        conflict = None
        try:
            understood = _rules(rules, business_id)
            with planning_alone(database, business_id, realm):
                with snapshot(database) as seen:
                    unread = completeness.unproven(seen, business_id, realm)
                    if unread and not dry_run:
                        raise LookupError(f"Nothing was kept.\n{completeness.told(unread)}")
                    booked = states.booked(seen, business_id, realm)
                    found = planning.look(seen, business_id, realm)
                    proved.require(found.stripe, understood)
                planned = planning.plan_of(found.stripe, found.books, understood, booked, found.bank, found.written)
                try:
                    put = (
                        store.compare_plan(database, business_id, realm, planned.intents, whole=True)
                        if dry_run
                        else keep(database, business_id, realm, planned, run="finance-os qbo plan")
                    )
                except store.PayloadConflict as raised:
                    conflict, put = raised, raised.put
        except BooksNotRead as error:
            raise LookupError(f"{error.code}: {error}") from error
        except BadRules as error:
            raise LookupError(str(error)) from error
    for change in put.changes[:_SHOWN]:
        console.print(str(change), markup=False, soft_wrap=True)
    if len(put.changes) > _SHOWN:
        console.print(f"… and {len(put.changes) - _SHOWN:,} more")
    told = Counter(finding.code for finding in planned.findings)
    console.print(
        f"{business_id}, realm {realm}: {len(planned.intents):,} intents, "
        + ", ".join(f"{put.count(what):,} {what.value}" for what in store.What)
        + f"; {len(planned.adoptions):,} adopted; {told.total():,} findings"
        + "".join(f", {count:,} {code}" for code, count in sorted(told.items()))
        + (" (nothing kept)" if dry_run else ""),
        markup=False,
        soft_wrap=True,
    )
    if conflict is not None or put.conflicts:
        errors.print(str(conflict or store.PayloadConflict(put)), style="red", markup=False, soft_wrap=True)
    if unread:
        why = f"This cannot be kept or sent.\n{completeness.told(unread)}"
        errors.print(why, style="red", markup=False, soft_wrap=True)
    if conflict is not None or put.conflicts or unread:
        raise SystemExit(1)


@app.command()
def apply(
    business: _Business = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Try at most so many intents.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=8, help="How many write at once.")] = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what was refused or in conflict.")] = False,
) -> None:
    """Write the planned intents to QuickBooks: the gate has to be open, and qbo_export approved for its realm."""
    from finance_os.stripe_qbo import states
    from finance_os.stripe_qbo.apply import apply as applied

    with _writing(business) as (database, business_id, writer):
        _require_open_gate(database, business_id)
        if retry:
            again = states.retry(database, business_id, writer.realm)
            console.print(f"{again:,} intents are planned again.")
        total = states.to_write(database, business_id, writer.realm)
        with shown(f"{business_id} → {writer.realm}", min(total, limit or total)) as seen:
            result = applied(
                database,
                writer,
                business_id,
                writer.realm,
                limit=limit,
                workers=workers,
                told=seen.tried,
                waiting=seen.waiting(),
            )
    sent = sum(result.requests.values())
    ended = ", ".join(f"{count:,} {each.value}" for each, count in sorted(result.ended.items())) or "nothing to do"
    console.print(f"{business_id}, realm {writer.realm}: {ended}; {sent:,} requests.", markup=False, soft_wrap=True)
    if result.gated:
        errors.print(
            f"{result.gated}: nothing was sent. `finance-os policy request qbo_export --business {business_id} "
            f"--scope {writer.realm} --reason … --expires 30d`, and another login has to approve it.",
            style="red",
            markup=False,
            soft_wrap=True,
        )
    if result.stopped:
        errors.print(f"{result.stopped.code}: {result.stopped.message}", style="red", markup=False, soft_wrap=True)
    if result.not_as_planned:
        errors.print(f"{result.not_as_planned:,} objects are not as they were written: see `finance-os qbo status`.")
    if result.gated or result.stopped or result.not_as_planned or not (result.finished or limit):
        raise SystemExit(1)


@app.command()
def verify(business: _Business = None) -> None:
    """Read every linked object and compare it, field by field, with what was written."""
    from finance_os.stripe_qbo.verify import verify as verified

    with _writing(business) as (database, business_id, writer):
        found = verified(database, writer, business_id, writer.realm)
        sent = sum(writer.sent().values())
    console.print(
        f"{business_id}, realm {writer.realm}: {found.as_planned:,} objects are as planned, {found.adopted:,} adopted "
        f"ones are there, {found.unsettled:,} are being written; {sent:,} requests.",
        soft_wrap=True,
    )
    for finding in found.findings:
        errors.print(f"{finding.code}: {finding.subject}: {finding.detail}", style="red", markup=False, soft_wrap=True)
    if found.findings:
        raise SystemExit(1)


@app.command()
def reconcile(business: _Business = None) -> None:
    """Compare QuickBooks as it is now with what Stripe says: open invoices, clearing, and every payout's deposit."""
    from finance_os.evidence.snapshot import snapshot
    from finance_os.stripe_qbo import export as exporting
    from finance_os.stripe_qbo import planning, states
    from finance_os.stripe_qbo import reconcile as money
    from finance_os.stripe_qbo.books import BooksNotRead
    from finance_os.stripe_qbo.parts import WHOLE

    with _writing(business) as (database, business_id, writer):
        export = exporting.export_of(database, business_id, Settings().qbo_rules)
        if export is None:
            raise LookupError(f"{business_id} has no rules, so it is not exported: set FINANCE_OS_QBO_RULES")
        try:
            with snapshot(database) as seen:
                booked = states.booked(seen, business_id, export.realm)
                held = planning.look(seen, business_id, export.realm)
        except BooksNotRead as error:
            raise LookupError(f"{error.code}: {error}") from error
        stripe = held.stripe
        intents = planning.plan_of(stripe, held.books, export.rules, booked, held.bank, held.written).intents
        found = money.reconcile(database, writer, business_id, export.rules, stripe, WHOLE, intents)
        open_now, differing = money.receivables(database, writer, business_id, export.rules, stripe)
    table = Table("what", "currency", title=f"{business_id}, realm {export.realm}", title_justify="left")
    for heading in ("Stripe", "QuickBooks", "difference"):
        table.add_column(heading, justify="right")
    for each in open_now:
        name = f"receivable ({each.invoices:,} invoices)"
        table.add_row(name, each.currency, *_amounts(each.at_stripe, each.in_books))
    uncompared = [each for each in found.clearing if each.in_books is None]
    for each in found.clearing:
        at_stripe, in_books, _ = _amounts(each.at_stripe, each.in_books)
        difference = "–" if each.in_books is None else f"{each.difference:,f}"
        table.add_row(f"clearing ({each.account})", each.currency, at_stripe, in_books, difference)
        apart = {"available": each.available, "pending": each.pending, "on its way to the bank": each.in_transit}
        for name, part in apart.items():
            if part is not None:
                table.add_row(f"  of it {name}", "", f"{part:,f}", "", "")
        if each.writes:
            table.add_row(f"  {each.writes:,} writes that are not written yet", "", "", f"{each.unwritten:,f}", "")
    console.print(table)
    for each in uncompared:
        console.print(f"clearing {each.currency} was not compared: {each.why}", markup=False, soft_wrap=True)
    for each in (one for one in found.clearing if one.why_whole):
        console.print(f"available and pending {each.currency} {each.why_whole}.", markup=False, soft_wrap=True)
    console.print(f"{found.payouts:,} payouts equal their deposits.")
    wrong = [*found.findings, *differing]
    for finding in wrong[:_SHOWN]:
        errors.print(f"{finding.code}: {finding.subject}: {finding.detail}", style="red", markup=False, soft_wrap=True)
    if len(wrong) > _SHOWN:
        errors.print(f"… and {len(wrong) - _SHOWN:,} more")
    if wrong or uncompared:
        raise SystemExit(1)
    console.print("Nothing differs.")


def _amounts(at_stripe: Any, in_books: Any) -> tuple[str, str, str]:
    """Both amounts and how far the books lie above Stripe, as a table has them."""
    if in_books is None:
        return f"{at_stripe:,f}", "–", "–"
    return f"{at_stripe:,f}", f"{in_books:,f}", f"{in_books - at_stripe:,f}"


@app.command()
def status(business: _Business = None) -> None:
    """Show how far the export is: intents by state, links, the policy, every reason why no more is planned or written,
    and what was found to be wrong."""
    from finance_os.evidence.exceptions import open_exceptions
    from finance_os.readiness.gate import explain
    from finance_os.readiness.policies import QBO_EXPORT, policy_state
    from finance_os.stripe_qbo import findings, states
    from finance_os.stripe_qbo.export import told_once
    from finance_os.stripe_qbo.reasons import reasons

    with _opened(business) as (database, business_id):
        why = reasons(database, business_id, Settings().qbo_rules)
        counts = states.counts(database, business_id)
        links = database.fetch(
            """
            SELECT realm, origin, count(*) AS count, count(verified_at) AS verified FROM finance_os.links
            WHERE business_id = %s GROUP BY 1, 2 ORDER BY 1, 2
            """,
            (business_id,),
        )
        policy = policy_state(database, business_id, QBO_EXPORT.key)
        wrong = [each for each in open_exceptions(database, business_id) if each.source_system == findings.SYSTEM]
    table = Table("realm", "state", "entity", "operation", title=f"Intents of {business_id}", title_justify="left")
    table.add_column("count", justify="right")
    for row in counts:
        table.add_row(row["realm"], row["state"], row["entity"], row["operation"], f"{row['count']:,}")
    console.print(table)
    for row in links:
        console.print(f"realm {row['realm']}: {row['count']:,} links {row['origin']}, {row['verified']:,} verified")
    console.print(f"policy {QBO_EXPORT.key}: {policy.status}", markup=False)
    until = f"after {why.planned_through} " if why.planned_through else ""
    for blockers, what in ((why.plan, f"Nothing {until}is planned"), (why.writes, "Not everything is written")):
        if blockers:
            console.print(f"{what}:\n{explain(told_once(blockers))}", markup=False, soft_wrap=True)
    for each in wrong[:_SHOWN]:
        console.print(
            f"{each.severity.value}: {each.code}: {each.subject}: {each.detail}", markup=False, soft_wrap=True
        )
    if len(wrong) > _SHOWN:
        console.print(f"… and {len(wrong) - _SHOWN:,} more open findings")


@contextmanager
def _opened(business: str | None) -> Iterator[tuple[Any, str]]:
    """The finance database and the business that is meant."""
    with opened_database() as database:
        known = require_business(database, business)
        own = Settings().business
        if business is None and own not in known and len(known) != 1:
            raise LookupError(f"name a business with --business; there are {', '.join(known) or 'none yet'}")
        yield database, business or (own if own in known else known[0])


@contextmanager
def _writing(business: str | None) -> Iterator[tuple[Any, str, Any]]:
    """The same with a client that writes to the company of the business."""
    from finance_os.evidence.extraction import SourceError
    from finance_os.sources.credentials import CredentialsMissing
    from finance_os.stripe_qbo.company import company_of, writing_credentials
    from finance_os.stripe_qbo.connecting import connect

    with _opened(business) as (database, business_id):
        try:
            company = company_of(database, business_id)
            with connect(writing_credentials(database, company), company.realm) as writer:
                yield database, business_id, writer
        except CredentialsMissing as missing:
            raise LookupError(str(missing)) from None
        except SourceError as error:
            raise LookupError(f"{error.code}: {error.message}") from None


def _require_open_gate(database: Any, business_id: str) -> None:
    """Nothing is written while a checkpoint is not current or something that QuickBooks holds may be unknown, nor, of a
    business with rules, while something keeps it from being planned anew. `LookupError` with the blockers."""
    from finance_os.evidence.snapshot import snapshot
    from finance_os.readiness.gate import explain
    from finance_os.stripe_qbo import reasons
    from finance_os.stripe_qbo.export import told_once

    with snapshot(database) as seen:
        blockers = reasons.of_plan(seen, business_id, Settings().qbo_rules)
    if blockers:
        told = explain(told_once(blockers))
        raise LookupError(f"The gate is shut, and nothing was sent:\n{told}")


def _rules(path: Path | None, business_id: str) -> Any:
    """The rules in a file, or those that the settings have of the business. `LookupError` where there are none that
    can be read."""
    import tomllib

    import msgspec

    from finance_os.stripe_qbo.rules import rules_of

    if path is None:
        of_business = Settings().qbo_rules.get(business_id)
        if of_business is None:
            raise LookupError(f"{business_id} has no rules: give a file with --rules, or set FINANCE_OS_QBO_RULES")
        return rules_of(of_business)
    try:
        given = msgspec.json.decode(path.read_bytes()) if path.suffix == ".json" else tomllib.loads(path.read_text())
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LookupError(f"{path} cannot be read: {error}") from None
    return rules_of(given if isinstance(given, dict) else {})
