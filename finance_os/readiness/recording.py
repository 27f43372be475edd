"""Recording checkpoints of a business, each on the evidence as it is after those before it were recorded."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from finance_os.evidence.database import Database
from finance_os.readiness import checkpoints
from finance_os.readiness.assessment import TITLES, assess
from finance_os.readiness.checkpoints import VALID_FOR, Recorded
from finance_os.readiness.deploy import DEPLOY_VERIFICATION, DeployFacts, evaluate_deploy
from finance_os.readiness.lines import Evaluation
from finance_os.readiness.policies import ensure_policies
from finance_os.sources.source import Source


class UnknownCheckpoint(LookupError):
    """There is no checkpoint of that name."""


@dataclass(frozen=True)
class Recording:
    """What a checkpoint was when it was looked at; `recorded` is `None` where that is all that was done."""

    evaluation: Evaluation
    recorded: Recorded | None


def in_order(names: Iterable[str]) -> list[str]:
    """The checkpoints of these names, each after those that it depends on. Raises `UnknownCheckpoint`."""
    asked = set(names)
    if unknown := asked - TITLES.keys():
        raise UnknownCheckpoint(f"There is no checkpoint {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}.")
    return [name for name in TITLES if name in asked]


def record_checkpoints(
    database: Database,
    sources: Sequence[Source],
    business_id: str,
    names: Iterable[str],
    deployed: DeployFacts | None = None,
    *,
    excluded: frozenset[str] = frozenset(),
    valid_for: timedelta = VALID_FOR,
    dagster_run_id: str | None = None,
    only_look: Collection[str] = (),
) -> Iterator[Recording]:
    """Record checkpoints of a business, ready or blocked, in the order in which they depend on one another.

    Those in `only_look` are evaluated, and not recorded. `deployed` is what this process sees of the deployment;
    deploy verification takes it. Policies that have no recorded state yet get theirs, gated.
    """
    ensure_policies(database, business_id)
    for name in in_order(names):
        facts = None
        if name == DEPLOY_VERIFICATION:
            if deployed is None:
                raise ValueError(f"{name} is recorded by a process that looked at the deployment")
            facts = deployed.as_json()
            evaluation = evaluate_deploy(business_id, deployed)
        else:
            found = assess(database, sources, business_id, excluded=excluded, valid_for=valid_for)
            evaluation = found.standings[name].evaluation
        yield Recording(
            evaluation,
            None
            if name in only_look
            else checkpoints.record(database, evaluation, facts=facts, dagster_run_id=dagster_run_id),
        )
