"""`finance-os replay`: days or objects of the export, planned anew from evidence, written if they are not, verified."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from finance_os.commands.opened import console, errors, opened_database, require_business
from finance_os.commands.progress import shown
from finance_os.settings import Settings

_FORMATS = ["%Y-%m-%d"]
_SHOWN = 20


def replay(
    first: Annotated[
        datetime | None, typer.Option("--from", formats=_FORMATS, help="First day, in the accounting time zone.")
    ] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=_FORMATS, help="Last day.")] = None,
    objects: Annotated[
        list[str] | None, typer.Option("--object", help="Only what stands for this Stripe object, as invoice:in_1.")
    ] = None,
    business: Annotated[str | None, typer.Option(help="The business; the installation's own if not given.")] = None,
    read: Annotated[bool, typer.Option("--read", help="Read the days, or the objects, from Stripe first.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; keep and send nothing.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what was refused or in conflict.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=8, help="How many write at once.")] = 1,
) -> None:
    """Plan anew from evidence, write what is dated in --from … --to and is not written yet, and verify it.

    In this order: with --read, the days (or objects) are read from Stripe again and checked; the gate is asked, and on
    the same evidence everything is planned and kept; what is dated in the window (or stands for the object) is written
    to QuickBooks under an approved policy, each intent once, in the order of the plan, after whatever it depends on;
    then it is read back and compared, with the payouts of these days and the clearing account. What is written already
    is never written again. Interrupted, it goes on where it was when it is run again. Exit code 1 where anything is
    left or differs.
    """
    from finance_os.stripe_qbo import export as exporting
    from finance_os.stripe_qbo import states
    from finance_os.stripe_qbo.parts import Part

    begin, end = first and first.date(), last and last.date()
    named = _named(objects, begin, end)
    with _exported(business) as (database, export):
        if read and not dry_run:
            _read(database, export, begin, end, named)
        now = datetime.now(UTC)
        asked = end if end is not None and end < export.today(now) else None

        def plan() -> exporting.Planned:
            return exporting.plan_and_keep(
                database, export, run="finance-os replay", first=begin, last=asked, dry_run=dry_run
            )

        planned = plan()
        part = exporting.admitted(planned, Part(begin, end, named))
        _show_plan(planned, part, dry_run=dry_run)
        if dry_run:
            return
        if not exporting.approved(database, export):
            raise _Left(
                f"{exporting.GATED}: nothing was sent. `finance-os policy request qbo_export --business "
                f"{export.business_id} --scope {export.realm} --reason … --expires 30d`, and another login has to "
                "approve it."
            )
        if retry:
            again = states.retry(database, export.business_id, export.realm, part)
            console.print(f"{again:,} intents are planned again.")
        with exporting.writer(database, export) as client:
            planned, unsaid = _write(database, client, planned, part, plan, workers)
            unsaid = [*_refused(planned), *unsaid, *_verify(database, client, planned, part)]
    if unsaid:
        raise _Left(" ".join(unsaid))


class _Left(SystemExit):
    """Something is left, or differs: status 1, and why."""

    def __init__(self, why: str) -> None:
        errors.print(why, style="red", markup=False, soft_wrap=True)
        super().__init__(1)


def _named(objects: list[str] | None, begin: date | None, end: date | None) -> tuple[str, ...] | None:
    """The objects that are meant. `LookupError` where nobody can know what is."""
    for each in objects or ():
        kind, _, source_id = each.partition(":")
        if not kind or not source_id or ":" in source_id:
            raise LookupError(f"{each} names no object: write it as invoice:in_1")
    if (begin is None) != (end is None) or (begin is None and not objects):
        raise LookupError("say which days with --from and --to, or which object with --object")
    if begin is not None and end is not None and end < begin:
        raise LookupError(f"--to {end} lies before --from {begin}")
    return tuple(objects) if objects else None


@contextmanager
def _exported(business: str | None) -> Iterator[tuple[Any, Any]]:
    """The finance database and the business's export; an expected failure is a `LookupError`."""
    from finance_os.evidence.extraction import SourceError
    from finance_os.sources.credentials import CredentialsMissing
    from finance_os.stripe_qbo.export import export_of

    settings = Settings()
    with opened_database() as database:
        known = require_business(database, business)
        business_id = business or (settings.business if settings.business in known else "")
        if not business_id:
            raise LookupError(f"name a business with --business; there are {', '.join(known) or 'none yet'}")
        try:
            export = export_of(database, business_id, settings.qbo_rules)
            if export is None:
                raise LookupError(f"{business_id} has no rules, so it is not exported: set FINANCE_OS_QBO_RULES")
            yield database, export
        except CredentialsMissing as missing:
            raise LookupError(str(missing)) from None
        except SourceError as error:
            raise LookupError(f"{error.code}: {error.message}") from None
        except KeyboardInterrupt:
            raise _Left("Stopped. What is written is written: the same command goes on.") from None


def _read(database: Any, export: Any, begin: date | None, end: date | None, named: tuple[str, ...] | None) -> None:
    from finance_os.evidence.windows import Days
    from finance_os.stripe_qbo.rereading import read_days, read_objects

    rows = Settings().chunk_rows
    if named is not None:
        done = read_objects(database, export.business_id, named, rows)
    else:
        assert begin is not None
        assert end is not None
        done = read_days(database, export.business_id, Days(begin, end), rows)
    for line in done:
        console.print(f"read {line}", markup=False, soft_wrap=True)


def _show_plan(planned: Any, part: Any, *, dry_run: bool) -> None:
    changes = [each for each in planned.put.changes if _is_in(part, each)]
    for change in changes[:_SHOWN]:
        console.print(str(change), markup=False, soft_wrap=True)
    if len(changes) > _SHOWN:
        console.print(f"… and {len(changes) - _SHOWN:,} more")
    counts = Counter(each.what.value for each in changes)
    told = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())) or "nothing changed"
    intents = sum(_is_in(part, each) for each in planned.plan.intents)
    console.print(
        f"{planned.export.business_id}, realm {planned.export.realm}: {intents:,} intents, {told}"
        + (" (nothing kept, nothing sent)" if dry_run else ""),
        markup=False,
        soft_wrap=True,
    )


def _is_in(part: Any, each: Any) -> bool:
    """Whether an intent, or a change of one, is in a part by itself."""
    return (
        (part.first is None or each.dated >= part.first)
        and (part.last is None or each.dated <= part.last)
        and (part.objects is None or f"{each.key.stripe_object}:{each.key.stripe_id}" in part.objects)
    )


def _refused(planned: Any) -> list[str]:
    """What the gate holds back of the window, and what the plan would write otherwise than it is written."""
    from finance_os.readiness.gate import explain
    from finance_os.stripe_qbo.export import told_once

    said = []
    if planned.held_back:
        said.append(f"Nothing after {planned.through} is written:\n{explain(told_once(planned.held_back))}\n")
    if planned.put.conflicts:
        said.append(f"{len(planned.put.conflicts):,} intents are in conflict with what is written.")
    return said


def _write(
    database: Any, client: Any, planned: Any, part: Any, plan: Callable[[], Any], workers: int
) -> tuple[Any, list[str]]:
    """Write the part, showing how far it is; the plan as it was kept last, and what is left of the part."""
    from finance_os.stripe_qbo import catching_up
    from finance_os.stripe_qbo import export as exporting

    total = sum(exporting.left_of(database, planned.export, part).values())
    with shown(f"{planned.export.business_id} → {planned.export.realm}", total) as run:
        planned, applied = catching_up.write(
            database, client, planned, part, plan, workers=workers, told=run.tried, waiting=run.waiting()
        )
    counts = ", ".join(f"{count:,} {each.value}" for each, count in sorted(applied.ended.items())) or "nothing to write"
    console.print(f"{counts}; {sum(applied.requests.values()):,} requests.", markup=False, soft_wrap=True)
    said = []
    if applied.gated:
        said.append(f"{applied.gated}: the approval does not hold any more.")
    if applied.stopped:
        said.append(f"{applied.stopped.code}: {applied.stopped.message}")
    if applied.not_as_planned:
        said.append(f"{applied.not_as_planned:,} objects are not as they were written.")
    if left := sum(exporting.left_of(database, planned.export, part).values()):
        said.append(f"{left:,} intents are left: `finance-os qbo status` says why.")
    return planned, said


def _verify(database: Any, client: Any, planned: Any, part: Any) -> list[str]:
    """Verify the part; what differs."""
    from finance_os.stripe_qbo import export as exporting

    found = exporting.verify_part(database, client, planned, part)
    console.print(
        f"{found.links.as_planned:,} objects are as planned, {found.links.adopted:,} adopted ones are there; "
        f"{found.money.payouts:,} payouts equal their deposits.",
        soft_wrap=True,
    )
    for each in found.money.clearing:
        shown = f"not compared: {each.why}" if each.in_books is None else f"{each.in_books} in QuickBooks"
        shown += f", {each.unwritten} in {each.writes:,} writes that are not written yet" if each.writes else ""
        console.print(f"clearing {each.currency}: {each.at_stripe} at Stripe, {shown}", markup=False, soft_wrap=True)
    for finding in found.findings:
        errors.print(f"{finding.code}: {finding.subject}: {finding.detail}", style="red", markup=False, soft_wrap=True)
    return [f"{len(found.findings):,} things differ."] if found.findings else []
