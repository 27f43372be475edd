"""Checkpoint deploy verification: the schema is at its head, the code loads, the daemon lives, versions are known.

Whether the code loads, the daemon lives and which Python they run on is seen by whoever records the checkpoint. What
any process can see, the schema and the other versions, is looked at again each time, so that a verification of another
deployment does not count.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

from finance_os.evidence.database import Database, schema_state
from finance_os.readiness.lines import Evaluation, Line, LineDeclaration

DEPLOY_VERIFICATION = "deploy_verification"

SCHEMA_AT_HEAD = LineDeclaration("deploy_schema_at_head", "Database schema is at its head", "deploy_schema_not_at_head")
CODE_LOCATION_LOADS = LineDeclaration(
    "deploy_code_location_loads", "Dagster code location loads", "deploy_code_location_does_not_load"
)
DAEMON_ALIVE = LineDeclaration("deploy_daemon_alive", "Dagster daemon is alive", "deploy_daemon_not_alive")
VERSIONS_RECORDED = LineDeclaration(
    "deploy_versions_recorded", "Deployed versions are recorded", "deploy_versions_not_recorded"
)
LINES = (SCHEMA_AT_HEAD, CODE_LOCATION_LOADS, DAEMON_ALIVE, VERSIONS_RECORDED)

VERSIONS = ("finance_os", "dagster", "python", "postgresql", "schema")
"""What has to have a version."""

START_THE_DAEMON = "Start the daemon with `make dev` or `dagster-daemon run`, then run `finance-os deploy verify`."


@dataclass(frozen=True)
class Deployed:
    """What any process can see of a deployment, in the database and the package that it runs.

    `missing` are the migrations that this package has and the database lacks. `versions` are by the names in
    `VERSIONS`; one that is unknown is absent.
    """

    missing: tuple[str, ...]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class CodeLocation:
    """What came of loading the code location; `error` is the class of what was raised, where it does not load."""

    loads: bool
    assets: int = 0
    jobs: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Daemons:
    """Which of Dagster's required daemons are alive, by type; `error` is why nobody could be asked."""

    alive: Mapping[str, bool] = field(default_factory=dict)
    error: str | None = None

    @property
    def all_alive(self) -> bool:
        """Whether there are required daemons, and each sent its heartbeat lately."""
        return self.error is None and bool(self.alive) and all(self.alive.values())


@dataclass(frozen=True)
class DeployFacts:
    """What the recording process gathered. What it could not look at is `None`."""

    deployed: Deployed
    code_location: CodeLocation | None
    daemons: Daemons | None

    def as_json(self) -> dict[str, Any]:
        """The facts as they are stored with the checkpoint."""
        return {
            "missing": list(self.deployed.missing),
            "versions": dict(sorted(self.deployed.versions.items())),
            "code_location": self.code_location
            and {
                "loads": self.code_location.loads,
                "assets": self.code_location.assets,
                "jobs": self.code_location.jobs,
                "error": self.code_location.error,
            },
            "daemons": self.daemons
            and {"alive": dict(sorted(self.daemons.alive.items())), "error": self.daemons.error},
        }


def deploy_facts_now(database: Database) -> Deployed:
    """The schema and the versions as this process sees them; asks the database, and neither Dagster nor a network.

    PostgreSQL's is the server's version number, such as `150018`.
    """
    applied, missing = schema_state(database)
    with database.connection() as connection:
        server = connection.info.server_version
    versions = {
        "finance_os": _installed("finance-os"),
        "dagster": _installed("dagster"),
        "python": platform.python_version(),
        "postgresql": str(server) if server else None,
        "schema": applied[-1] if applied else None,
    }
    return Deployed(tuple(missing), {name: version for name, version in versions.items() if version})


def evaluate_deploy(business_id: str, facts: DeployFacts) -> Evaluation:
    """The checkpoint on these facts. Its hash is over the schema, the versions and whether code and daemon are well."""
    return Evaluation(
        business_id,
        DEPLOY_VERIFICATION,
        (
            _schema(facts.deployed),
            _code_location(facts.code_location),
            _daemon(facts.daemons),
            _versions(facts.deployed),
        ),
    )


def evaluate_recorded(database: Database, business_id: str, recorded: Mapping[str, Any] | None) -> Evaluation:
    """The checkpoint as any process can judge it: what was recorded of code, daemon and Python, the rest as it is now.

    `recorded` are the facts stored with the latest recording (`DeployFacts.as_json`), `None` where there is none. The
    hash equals the recorded one while the recording still speaks of this deployment, from whichever machine one looks.
    """
    code, daemons = (recorded or {}).get("code_location"), (recorded or {}).get("daemons")
    now = deploy_facts_now(database)
    if python := (recorded or {}).get("versions", {}).get("python"):
        now = replace(now, versions={**now.versions, "python": python})
    return evaluate_deploy(
        business_id,
        DeployFacts(
            now,
            None if code is None else CodeLocation(**code),
            None if daemons is None else Daemons(**daemons),
        ),
    )


def _schema(deployed: Deployed) -> Line:
    head = deployed.versions.get("schema")
    return SCHEMA_AT_HEAD.judge(
        head is not None and not deployed.missing,
        {"head": head, "missing": list(deployed.missing)},
        "Run `finance-os db migrate`.",
        {"head": head, "missing": list(deployed.missing)},
    )


def _code_location(code: CodeLocation | None) -> Line:
    if code is None:
        return CODE_LOCATION_LOADS.judge(False, None, "Run `finance-os deploy verify`: nobody loaded the code yet.")
    return CODE_LOCATION_LOADS.judge(
        code.loads,
        {"loads": code.loads},
        f"Loading finance_os.definitions raised {code.error}: `dagster definitions validate` shows where.",
        {"assets": code.assets, "jobs": code.jobs, "error": code.error},
    )


def _daemon(daemons: Daemons | None) -> Line:
    if daemons is None:
        return DAEMON_ALIVE.judge(False, None, START_THE_DAEMON)
    silent = sorted(name for name, alive in daemons.alive.items() if not alive)
    why = f"Not heard lately: {', '.join(silent)}. " if silent else ""
    if daemons.error is not None:
        why = f"Dagster's instance could not be asked ({daemons.error}): set DAGSTER_HOME to the daemon's. "
    return DAEMON_ALIVE.judge(
        daemons.all_alive,
        {"alive": daemons.all_alive},
        why + START_THE_DAEMON,
        {"alive": sorted(set(daemons.alive) - set(silent)), "silent": silent, "error": daemons.error},
    )


def _versions(deployed: Deployed) -> Line:
    unknown = [name for name in VERSIONS if name not in deployed.versions]
    return VERSIONS_RECORDED.judge(
        not unknown,
        dict(deployed.versions),
        f"No version is known of {', '.join(unknown)}: install Finance OS as a package, and migrate its database.",
        dict(sorted(deployed.versions.items())),
    )


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
