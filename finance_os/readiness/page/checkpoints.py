"""The panels of the checkpoints: their figures, and their lines."""

from finance_os.evidence.money import dollars
from finance_os.readiness import completion, failure_monitoring, hardening, scheduled_sync_readiness
from finance_os.readiness.assessment import Assessment
from finance_os.readiness.checkpoints import Standing
from finance_os.readiness.csv_fallback import CSV_FALLBACK_VALIDATION
from finance_os.readiness.deploy import DEPLOY_VERIFICATION
from finance_os.readiness.page.panels import (
    Link,
    Panel,
    Tile,
    Tone,
    all_of,
    capital,
    lines_table,
    none_of,
    number,
    time,
)
from finance_os.readiness.plan import Plan
from finance_os.readiness.policies import OUTBOUND_ALERT_DELIVERY, PLAID_PRODUCTION, QBO_EXPORT, PolicyState
from finance_os.readiness.scheduled_sync import Outcome
from finance_os.readiness.verdicts import Status


def hardening_panel(assessment: Assessment) -> Panel:
    standing = assessment.standings[hardening.PRODUCTION_HARDENING]
    evaluation = standing.evaluation
    delivery, plaid, export = (
        assessment.policies[policy.key] for policy in (OUTBOUND_ALERT_DELIVERY, PLAID_PRODUCTION, QBO_EXPORT)
    )
    gated = not plaid.approved and not export.approved
    return _checkpoint_panel(
        standing,
        "Phase 7 production hardening checkpoint",
        "Read-only bundle for deployed cadence evidence, alert policy gating, Plaid/QBO policy gates, and future "
        "runtime-regression approval boundaries.",
        (
            Tile(
                "Hardening checks",
                f"{evaluation.ready_count}/{len(evaluation.lines)}",
                f"{len(evaluation.blocked)} blocked",
                tone=all_of(evaluation.ready_count, len(evaluation.lines)),
            ),
            Tile("Alert delivery", delivery.status, policy_sentence(delivery), code=True),
            Tile(
                "Production policies",
                "Plaid/QBO gated" if gated else f"Plaid {_word(plaid)}, QBO {_word(export)}",
                f"{plaid.status} · {export.status}",
            ),
            _hash("Hardening hash", standing),
        ),
    )


def csv_fallback_panel(assessment: Assessment) -> Panel:
    found, standing = assessment.csv_fallback, assessment.standings[CSV_FALLBACK_VALIDATION]
    off = f" ({dollars(found.variance_micros)})" if found.variance_micros else ""
    return _checkpoint_panel(
        standing,
        "Phase 7 CSV fallback validation",
        "Read-only checkpoint comparing Rho CSV cash rows with Plaid transaction samples before future bank-source "
        "fallback automation.",
        (
            Tile("Rho CSV rows", number(found.rho_rows), f"Hash {found.rho_hash}"),
            Tile("Plaid rows", number(found.plaid_rows), f"Hash {found.plaid_hash}"),
            Tile(
                "Matched sample",
                number(found.matched),
                f"{number(found.rho_unmatched)} unmatched Rho · {number(found.plaid_unmatched)} unmatched Plaid",
                (f"{number(found.ambiguous)} ambiguous",) if found.ambiguous else (),
            ),
            Tile(
                "Validation hash",
                found.validation_hash,
                f"Variance {number(found.variance_micros)}µ{off} · latest {standing.currency}",
                code=True,
            ),
        ),
        f"{found.summary}.",
    )


def failure_monitoring_panel(assessment: Assessment) -> Panel:
    standing = assessment.standings[failure_monitoring.SOURCE_FAILURE_MONITORING]
    failed, skipped = (assessment.sync.count(each) for each in (Outcome.FAILED, Outcome.SKIPPED))
    stale, pending = (
        sum(each.status is status for each in assessment.scheduleable) for status in (Status.STALE, Status.PENDING)
    )
    grave = len(assessment.grave_exceptions)
    return _checkpoint_panel(
        standing,
        "Phase 7 source failure monitoring",
        "Read-only checkpoint for scheduled sync failures, stale scheduleable evidence, and open high-severity Finance "
        "exceptions.",
        (
            Tile("Scheduled failures", str(failed), f"{skipped} skipped steps", tone=none_of(failed + skipped)),
            Tile("Stale evidence", str(stale), f"{pending} pending sources", tone=none_of(stale + pending)),
            Tile(
                "High-severity exceptions",
                number(grave),
                f"{number(grave)} open high/critical exceptions" if grave else "No open high/critical exceptions",
                tone=none_of(grave),
            ),
            _hash("Monitoring hash", standing),
        ),
    )


def scheduled_sync_panel(plan: Plan) -> Panel:
    assessment = plan.assessment
    sync, standing = assessment.sync, assessment.standings[scheduled_sync_readiness.SCHEDULED_SYNC_READINESS]
    succeeded = sync.count(Outcome.SUCCEEDED)
    others = tuple(f"{sync.count(each)} {each}" for each in (Outcome.RUNNING, Outcome.MISSING) if sync.count(each))
    fresh, stale, pending = (
        sum(each.freshness is status for each in assessment.scheduleable)
        for status in (Status.READY, Status.STALE, Status.PENDING)
    )
    return _checkpoint_panel(
        standing,
        "Phase 7 scheduled sync readiness",
        "Read-only checkpoint proving daily unattended Phase 1 syncs are current before production automation "
        "hardening.",
        (
            Tile(
                "Scheduled sync",
                sync.status,
                time(plan, sync.requested_at) if sync.requested_at else "Not recorded",
                tone={"succeeded": Tone.GOOD, "running": Tone.WAIT}.get(sync.status, Tone.BAD),
                at=sync.requested_at,
            ),
            Tile(
                "Scheduled connectors",
                f"{succeeded}/{len(sync.connectors)}",
                f"{sync.count(Outcome.FAILED)} failed / {sync.count(Outcome.SKIPPED)} skipped",
                others,
                all_of(succeeded, len(sync.connectors)),
            ),
            Tile(
                "Fresh source evidence",
                f"{fresh}/{len(assessment.scheduleable)}",
                f"{stale} stale / {pending} pending",
                tone=all_of(fresh, len(assessment.scheduleable)),
            ),
            _hash("Checkpoint hash", standing),
        ),
    )


def completion_panel(assessment: Assessment) -> Panel:
    standing = assessment.standings[completion.PHASE_7_COMPLETION]
    return _checkpoint_panel(
        standing,
        "Phase 7 completion checkpoint",
        "Recorded once the three checkpoints before it are current and every policy has a recorded state.",
        (_hash("Completion hash", standing),),
    )


def deploy_panel(assessment: Assessment) -> Panel:
    standing = assessment.standings[DEPLOY_VERIFICATION]
    return _checkpoint_panel(
        standing,
        "Deploy verification checkpoint",
        "What `finance-os deploy verify` saw of this deployment: schema, code location, daemon and versions.",
        (_hash("Deploy hash", standing),),
    )


def _hash(label: str, standing: Standing) -> Tile:
    return Tile(label, standing.evaluation.evidence_hash, f"Latest: {standing.currency}", code=True)


def policy_sentence(state: PolicyState) -> str:
    return state.policy.allows if state.approved else state.policy.sentence


def _word(state: PolicyState) -> str:
    return "approved" if state.approved else "gated"


def _checkpoint_panel(standing: Standing, title: str, sentence: str, tiles: tuple[Tile, ...], note: str = "") -> Panel:
    """The panel of a checkpoint. One that is ready and not current says how to make it so."""
    evaluation = standing.evaluation
    advice = standing.reason if not evaluation.blocked and standing.reason else ""
    return Panel(
        key=standing.name,
        title=title,
        sentence=sentence,
        badge=capital(evaluation.status),
        tone=Tone.BAD if evaluation.blocked else Tone.GOOD if standing.current else Tone.WAIT,
        tiles=tiles,
        notes=tuple(text for text in (note, advice) if text),
        table=lines_table(evaluation.lines),
        link=Link("asset", f"readiness/{standing.name}"),
    )
