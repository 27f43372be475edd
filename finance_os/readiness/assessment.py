"""Everything that readiness knows of a business now: one look at the evidence, from which pages, checks and gates read.

Checkpoints are judged in the order in which they depend on one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import FinanceException, open_exceptions
from finance_os.evidence.extraction import Severity
from finance_os.evidence.snapshot import snapshot
from finance_os.readiness import completion, failure_monitoring, hardening, scheduled_sync_readiness
from finance_os.readiness.boundary import Boundary, boundary_facts
from finance_os.readiness.checkpoints import VALID_FOR, Recorded, Standing, latest_recordings
from finance_os.readiness.csv_fallback import CSV_FALLBACK_VALIDATION, CsvFallback, evaluate_csv_fallback
from finance_os.readiness.deploy import DEPLOY_VERIFICATION, evaluate_recorded
from finance_os.readiness.evidence_sources import SourceEvidence, source_evidence
from finance_os.readiness.lines import Evaluation
from finance_os.readiness.policies import PolicyState, policy_states
from finance_os.readiness.scheduled_sync import ScheduledSync, latest_scheduled_sync
from finance_os.readiness.verdicts import Status
from finance_os.settings import settings
from finance_os.sources.registry import SOURCES
from finance_os.sources.source import Source

TITLES: Mapping[str, str] = {
    DEPLOY_VERIFICATION: "Deploy verification",
    scheduled_sync_readiness.SCHEDULED_SYNC_READINESS: scheduled_sync_readiness.TITLE,
    failure_monitoring.SOURCE_FAILURE_MONITORING: failure_monitoring.TITLE,
    CSV_FALLBACK_VALIDATION: "CSV fallback validation",
    completion.PHASE_7_COMPLETION: completion.TITLE,
    hardening.PRODUCTION_HARDENING: hardening.TITLE,
}
"""Every checkpoint by its name, each after those that it depends on."""


@dataclass(frozen=True)
class Assessment:
    """What is known of a business now. `standings` are by checkpoint name, in the order of `TITLES`."""

    business_id: str
    evidence: tuple[SourceEvidence, ...]
    sync: ScheduledSync
    exceptions: tuple[FinanceException, ...]
    policies: Mapping[str, PolicyState]
    boundary: Boundary
    csv_fallback: CsvFallback
    standings: Mapping[str, Standing]

    @property
    def evidence_ready(self) -> int:
        """How many sources' evidence is ready."""
        return sum(each.status is Status.READY for each in self.evidence)

    @property
    def scheduleable(self) -> tuple[SourceEvidence, ...]:
        """The evidence that the daily schedule brings."""
        return tuple(each for each in self.evidence if each.scheduleable)

    @property
    def grave_exceptions(self) -> tuple[FinanceException, ...]:
        """The open exceptions of high and critical severity."""
        return tuple(each for each in self.exceptions if each.severity in (Severity.HIGH, Severity.CRITICAL))


def assess(
    database: Database,
    sources: Sequence[Source],
    business_id: str,
    *,
    excluded: frozenset[str] = frozenset(),
    valid_for: timedelta = VALID_FOR,
) -> Assessment:
    """Look at everything once, as of one moment. `excluded` source systems are left out, and the counts follow."""
    with snapshot(database) as seen:
        return _assess(seen, sources, business_id, excluded, valid_for)


def _assess(
    database: Database, sources: Sequence[Source], business_id: str, excluded: frozenset[str], valid_for: timedelta
) -> Assessment:
    planned = [source for source in sources if source.system not in excluded]
    systems = {source.system for source in planned}
    recordings = latest_recordings(database, business_id)
    evidence = source_evidence(database, planned, business_id)
    sync = latest_scheduled_sync(database, planned, business_id)
    exceptions = tuple(each for each in open_exceptions(database, business_id) if each.source_system in systems)
    policies = {state.policy.key: state for state in policy_states(database, business_id)}
    boundary = boundary_facts(database, business_id, sources)  # of excluded ones too: they have no leave to write
    fallback = evaluate_csv_fallback(database, business_id, boundary, excluded=excluded)
    standings: dict[str, Standing] = {}

    def stand(evaluation: Evaluation) -> Standing:
        name = evaluation.checkpoint
        standings[name] = Standing(TITLES[name], evaluation, recordings.get(name), valid_for)
        return standings[name]

    deploy = stand(evaluate_recorded(database, business_id, _facts(recordings.get(DEPLOY_VERIFICATION))))
    readiness = stand(scheduled_sync_readiness.evaluate(business_id, sync, evidence, deploy, boundary))
    grave = [each for each in exceptions if each.severity in (Severity.HIGH, Severity.CRITICAL)]
    monitoring = stand(failure_monitoring.evaluate(business_id, readiness, sync, evidence, grave, boundary))
    bank = stand(fallback.evaluation)
    complete = stand(completion.evaluate(business_id, readiness, monitoring, bank, tuple(policies.values())))
    stand(hardening.evaluate(business_id, readiness, monitoring, bank, complete, policies, boundary))
    return Assessment(business_id, tuple(evidence), sync, exceptions, policies, boundary, fallback, standings)


def assess_now(database: Database, business_id: str) -> Assessment:
    """The assessment with the installation's sources and settings."""
    return assess(
        database,
        SOURCES,
        business_id,
        excluded=settings().excluded,
        valid_for=timedelta(hours=settings().checkpoint_valid_hours),
    )


def _facts(recorded: Recorded | None) -> Mapping[str, object] | None:
    return None if recorded is None else recorded.facts
