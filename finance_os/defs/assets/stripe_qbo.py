"""The export as gated assets: what is planned, what is written, and what QuickBooks shows of it, by day.

A plan is a function of all evidence up to its day. So the gate asks for every day from the balance date on, and a bad
day holds back itself and all later ones: what is dated before it is planned and written, of what comes after it nobody
knows whether it is right. A day that is not over cannot be proved yet; what is known of it is exported all the same,
for the next plan corrects it.

One step does it all, business by business: plan, apply, verify. What fails for a business is told at the end and holds
back no other. A day of an asset is there when it is there of every business that has rules; the businesses that no
approval covers are named with the policy's status word, and nothing is claimed for them.
"""

import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from finance_os.defs.assets.checkpoints import checkpoint_key
from finance_os.defs.assets.sources import OWNERS
from finance_os.defs.export_outcomes import AGREES, GROUP, INTENTS, OBJECTS, VERIFICATION, Outcome, check_result, claim
from finance_os.defs.partitions import DAILY, days_of
from finance_os.defs.refusals import Refusal, failure
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import every_business
from finance_os.evidence.clock import DatabaseClock
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.evidence.windows import Days, day_of
from finance_os.readiness.hardening import PRODUCTION_HARDENING
from finance_os.settings import settings
from finance_os.sources.credentials import CredentialsMissing
from finance_os.stripe_qbo import catching_up, passing
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo.export import GATED, Export, GateOf, NotExported, Planned
from finance_os.stripe_qbo.holding import Ended
from finance_os.stripe_qbo.parts import Part
from finance_os.stripe_qbo.stripe_evidence import OBJECT_TYPES

JOB = "stripe_qbo_export"

OP = "export_stripe_to_qbo"

OVERTAKEN_TAG = "finance_os/qbo_export_overtaken"
"""Run tag of a run that exported nothing because days were being read again by the time it began."""

_SUBJECT = "stripe_qbo"

_ENDED_BADLY = (Ended.FAILED, Ended.CONFLICTED, Ended.UNKNOWN)
"""How this run failed to write something. What an earlier run left refused or in conflict, and what waits for that, is
an open finding, and its day is not there; but no run fails for it again. Nor does one for what another applier has."""

_INTENT_COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("key", "text", "What in Stripe it stands for: object, ID and role."),
        dg.TableColumn("operation", "text", "create, update or void."),
        dg.TableColumn("entity", "text", "QuickBooks' word for the object."),
        dg.TableColumn("dated", "date", "Its date in QuickBooks."),
        dg.TableColumn("input_hash", "text", "SHA-256 of what would be written."),
        dg.TableColumn("depends_on", "array", "The links that must be there before it is sent."),
        dg.TableColumn("evidence", "object", "Payload hashes of the records that it was planned from."),
        dg.TableColumn("state", "text", "planned, sending, applied, failed, conflicted or superseded."),
    ]
)
_LINK_COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("key", "text", "What in Stripe it stands for: object, ID and role."),
        dg.TableColumn("realm", "text", "The QuickBooks company."),
        dg.TableColumn("entity", "text", "QuickBooks' word for the object."),
        dg.TableColumn("qbo_id", "text", "QuickBooks' ID of it."),
        dg.TableColumn("origin", "text", "created by an intent, or adopted: it was there before."),
        dg.TableColumn("input_hash", "text", "Of the intent that was applied to it last."),
        dg.TableColumn("verified_at", "timestamptz", "When QuickBooks last showed it as planned."),
    ]
)
_FINDING_COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("code", "text", "What is wrong, machine-readable."),
        dg.TableColumn("severity", "text", "low, medium, high or critical."),
        dg.TableColumn("subject", "text", "External IDs."),
        dg.TableColumn("partition_day", "date", "The day of the object."),
        dg.TableColumn("detail", "text", "What differs, without personal data."),
    ]
)


class ExportConfig(dg.Config):
    """Narrows or widens what a run exports."""

    businesses: list[str] | None = None
    """IDs of the businesses; all that have rules if not given."""
    overdue: bool = False
    """Also write what is dated before the run's days and was not written yet."""
    workers: int = 8
    """How many writes are under way at once, for each business."""


def stripe_qbo_assets(gate_of: GateOf | None = None) -> dg.AssetsDefinition:
    """The assets. `gate_of` says whether the evidence that a plan rests on may be acted upon; the real gate if not
    given."""

    @dg.multi_asset(
        name=OP,
        specs=[
            dg.AssetSpec(
                INTENTS,
                group_name=GROUP,
                kinds={"stripe", "quickbooks", "postgres"},
                owners=list(OWNERS),
                description="What is to be booked in QuickBooks, planned from the evidence up to the day and kept "
                "before anything is sent. Refused while the gate is shut. Nothing is sent.",
                deps=[
                    *(
                        dg.AssetDep(dg.AssetKey(["stripe", each]), partition_mapping=dg.AllPartitionMapping())
                        for each in OBJECT_TYPES
                    ),
                    checkpoint_key(PRODUCTION_HARDENING),
                ],
                metadata={"dagster/table_name": "finance_os.intents", "dagster/column_schema": _INTENT_COLUMNS},
                skippable=True,
            ),
            dg.AssetSpec(
                OBJECTS,
                group_name=GROUP,
                kinds={"quickbooks"},
                owners=list(OWNERS),
                description="What is written in QuickBooks: each intent once, under an approved policy qbo_export "
                f"only. Without one nothing is sent, and the status word is {GATED}.",
                deps=[INTENTS],
                metadata={"dagster/table_name": "finance_os.links", "dagster/column_schema": _LINK_COLUMNS},
                skippable=True,
            ),
            dg.AssetSpec(
                VERIFICATION,
                group_name=GROUP,
                kinds={"quickbooks"},
                owners=list(OWNERS),
                description="Whether QuickBooks holds what was written, field by field; whether clearing is Stripe's "
                "balance, and each payout its deposit.",
                deps=[OBJECTS],
                metadata={
                    "dagster/table_name": "finance_os.finance_exceptions",
                    "dagster/column_schema": _FINDING_COLUMNS,
                },
                skippable=True,
            ),
        ],
        check_specs=[
            dg.AssetCheckSpec(
                AGREES.name,
                asset=VERIFICATION,
                blocking=True,
                description="QuickBooks holds what was written, clearing is Stripe's balance, each payout its deposit.",
            )
        ],
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
    )
    def export(
        context: dg.AssetExecutionContext, config: ExportConfig, evidence: Evidence
    ) -> Iterator[dg.AssetCheckResult]:
        database = evidence.database
        wanted = set(context.selected_asset_keys)
        if AGREES in context.selected_asset_check_keys:
            wanted.add(VERIFICATION)
        days = days_of(context.partition_keys)
        businesses = _businesses(database, config, context.log)
        outcomes = [
            _export(database, business_id, days, wanted, config, gate_of, context) for business_id in businesses
        ]
        for day in days:
            claim(context, day, outcomes, last=day == days.last)
        if VERIFICATION in wanted and any(each.verified is not None for each in outcomes):
            yield check_result(outcomes)
        if refusals := [refusal for outcome in outcomes for refusal in outcome.refusals]:
            raise failure(refusals, "days")

    return export


def export_job() -> UnresolvedAssetJobDefinition:
    """Plan, apply and verify, in one step."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(INTENTS, OBJECTS, VERIFICATION),
        description="Plan what Stripe says, write it to QuickBooks where the policy allows it, and verify it. Asked "
        "for by stripe_qbo_export_wanted; a backfill of days is one run.",
        executor_def=dg.in_process_executor,
    )


def _businesses(database: Database, config: ExportConfig, log: logging.Logger) -> list[str]:
    """The businesses to export: those with rules. One that is named and has none is an error."""
    rules, known = settings().qbo_rules, every_business(database)
    if config.businesses is not None:
        lacking = [each for each in config.businesses if each not in rules or each not in known]
        if lacking:
            raise dg.Failure(
                f"{', '.join(lacking)}: no rules, or no such business. Set FINANCE_OS_QBO_RULES.", allow_retries=False
            )
        return sorted(set(config.businesses))
    for each in sorted(set(rules) - set(known)):
        log.warning(f"FINANCE_OS_QBO_RULES has rules of {each}, and there is no such business.")
    skipped = [each for each in known if each not in rules]
    if skipped:
        log.info(f"{', '.join(skipped)}: no rules in FINANCE_OS_QBO_RULES, so nothing is exported.")
    return [each for each in known if each in rules]


def _export(
    database: Database,
    business_id: str,
    days: Days,
    wanted: set[dg.AssetKey],
    config: ExportConfig,
    gate_of: GateOf | None,
    context: dg.AssetExecutionContext,
) -> Outcome:
    """One business, as far as it goes; whatever goes wrong is a refusal, for the others go on."""
    outcome = Outcome(business_id)

    def refuse(code: str, remedy: str, day: date | None = None, subject: str = _SUBJECT, seen: str = "") -> None:
        outcome.refusals.append(Refusal(business_id, str(day or days), code, subject, day, seen or None, remedy))

    try:
        _steps(database, outcome, days, wanted, config, gate_of, context.run_id, refuse)
    except NotExported as shut:
        outcome.refusals += [Refusal.of(business_id, str(days), each) for each in exporting.told_once(shut.blockers)]
        if passing.passes(shut.blockers):
            context.instance.add_run_tags(context.run_id, {OVERTAKEN_TAG: business_id})
    except CredentialsMissing as missing:
        refuse("credentials_missing", str(missing))
    except SourceError as error:
        refuse(error.code, error.message)
    except Exception as error:  # of this business: the others are exported all the same
        where = "".join(traceback.format_tb(error.__traceback__))  # its words may quote a payload
        context.log.error(f"{business_id}: a defect: {type(error).__name__} at\n{where}")
        refuse("defect", f"{type(error).__name__}: see the log of this run.")
    for each in outcome.refusals:
        context.log.error(f"{business_id}, {each.partition}: {each.code} of {each.subject}")
    if outcome.left:
        context.log.warning(f"{business_id}: {sum(outcome.left.values()):,} intents are not written.")
    if outcome.gated and outcome.planned is not None and wanted & {OBJECTS, VERIFICATION}:
        context.log.info(f"{business_id}: {GATED}: nothing was sent.")
    return outcome


def _steps(
    database: Database,
    outcome: Outcome,
    days: Days,
    wanted: set[dg.AssetKey],
    config: ExportConfig,
    gate_of: GateOf | None,
    run_id: str,
    refuse: Callable[..., None],
) -> None:
    export = exporting.export_of(database, outcome.business_id, settings().qbo_rules)
    assert export is not None
    with database.connection() as opened:
        began = DatabaseClock.read(opened).now()
    asked, last = _asked(export, days, began)

    def plan() -> Planned:
        return exporting.plan_and_keep(database, export, run=run_id, first=days.first, last=asked, gate_of=gate_of)

    planned = plan()
    outcome.gated = not exporting.approved(database, export)
    _tell_of_plan(planned, outcome, days, refuse)
    if outcome.gated or not wanted & {OBJECTS, VERIFICATION}:
        return
    part = Part(None if config.overdue else days.first, last)
    with exporting.writer(database, export) as client:
        if OBJECTS in wanted:
            planned, outcome.applied = catching_up.write(database, client, planned, part, plan, workers=config.workers)
            if planned is not outcome.planned:
                outcome.refusals.clear()
                _tell_of_plan(planned, outcome, days, refuse)
            if outcome.applied.gated:
                outcome.gated = True  # revoked meanwhile: what was written before is written
                return
            _tell_of_left(database, export, exporting.admitted(planned, part), outcome, refuse)
        if VERIFICATION in wanted:
            looked_at = Part(days.first, exporting.admitted(planned, part).last)
            outcome.verified = exporting.verify_part(database, client, planned, looked_at, since=began)


def _tell_of_plan(planned: Planned, outcome: Outcome, days: Days, refuse: Callable[..., None]) -> None:
    """What the gate holds back of the days, and what the plan would write otherwise than it is written."""
    outcome.planned = planned
    if planned.held_back:
        assert planned.through is not None
        held = Days(planned.through + timedelta(days=1), days.last)
        outcome.refusals += [
            Refusal.of(outcome.business_id, str(held), each) for each in exporting.told_once(planned.held_back)
        ]
    for each in planned.put.conflicts:
        refuse(
            "intent_conflict",
            f"The {each.operation.value} of this {each.entity} is {each.state}, and planned otherwise now: what was "
            "written stays. Look at `finance-os qbo status`.",
            each.dated,
            str(each.key),
            (each.planned_hash or "")[:12],
        )


def _asked(export: Export, days: Days, now: datetime) -> tuple[date | None, date]:
    """Up to which day is planned (`None`: everything that is known), and up to which is written.

    The present day's run plans everything, and writes up to the business's own present day, which may have begun
    before the installation's.
    """
    if days.last < day_of(now, ZoneInfo(settings().timezone)):
        return days.last, days.last
    return None, max(days.last, export.today(now))


def _tell_of_left(
    database: Database, export: Export, part: Part, outcome: Outcome, refuse: Callable[..., None]
) -> None:
    assert outcome.applied is not None
    counts: dict[date, Counter[str]] = {}
    for row in exporting.states.by_day(database, export.business_id, export.realm, part):
        counts.setdefault(row["dated"], Counter())[row["state"]] += row["count"]
    outcome.states = counts
    outcome.left = exporting.left_of(database, export, part)
    stopped, ended = outcome.applied.stopped, outcome.applied.ended
    if stopped is not None:
        refuse(stopped.code, f"{stopped.message} What was written is written; a later run goes on.")
    elif outcome.left and (any(ended[each] for each in _ENDED_BADLY) or not (outcome.is_held_up or ended[Ended.BUSY])):
        days = Days(min(outcome.left), max(outcome.left))
        refuse(
            "intents_left",
            f"{sum(outcome.left.values()):,} intents of {days} are not written: `finance-os qbo status` says why. Once "
            "the cause is put right, `finance-os qbo apply --retry` tries them again.",
            min(outcome.left),
        )
