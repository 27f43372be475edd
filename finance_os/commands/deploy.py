"""`finance-os deploy`: looks at this deployment, and records whether it is verified."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from finance_os.commands.opened import console, errors, opened_database, require_business
from finance_os.evidence.database import Database
from finance_os.readiness.deploy import DEPLOY_VERIFICATION, Daemons, DeployFacts, deploy_facts_now
from finance_os.settings import Settings

app = typer.Typer(help="Whether this deployment works.", no_args_is_help=True)


@app.callback()
def deploy() -> None:
    """Whether this deployment works."""


@app.command("verify")
def deploy_verify(
    business: Annotated[str | None, typer.Option(help="Only for this business; for every one if not given.")] = None,
) -> None:
    """Look at the schema, the code location, the daemon and the versions, and record what is found."""
    from finance_os.readiness.recording import record_checkpoints
    from finance_os.sources.installation import ensure_installation

    settings = Settings()
    blocked = 0
    with opened_database() as database:
        ensure_installation(database, settings, [])
        known = require_business(database, business)
        facts = gather(database, settings)
        for business_id in known if business is None else [business]:
            (recording,) = record_checkpoints(database, (), business_id, [DEPLOY_VERIFICATION], facts)
            evaluation = recording.evaluation
            console.print(f"{business_id}: deploy verification is {evaluation.status} ({evaluation.evidence_hash})")
            for line in evaluation.lines:
                console.print(f"  {line.status:8} {line.key:27} {line.evidence_hash or 'n/a'}", highlight=False)
                if not line.ready:
                    errors.print(f"[red]{business_id}: {line.blocker}[/]: {line.remedy}", soft_wrap=True)
            blocked += len(evaluation.blocked)
    if blocked:
        raise SystemExit(1)


def gather(database: Database, settings: Settings) -> DeployFacts:
    """What this process sees: the code location loaded here, and the daemons of the settings' Dagster instance."""
    from finance_os.defs.deployment import load_code_location

    return DeployFacts(deploy_facts_now(database), load_code_location(), _daemons_of(settings))


def _daemons_of(settings: Settings) -> Daemons:
    folder = _dagster_home(settings)
    if folder is None:
        return Daemons(error="DagsterHomeNotSet")
    from dagster import DagsterInstance

    from finance_os.defs.deployment import daemons_of

    try:
        with _storage_variable(settings), DagsterInstance.from_config(str(folder)) as instance:
            return daemons_of(instance)
    except Exception as error:
        return Daemons(error=type(error).__name__)


def _dagster_home(settings: Settings) -> Path | None:
    """Where Dagster's instance is configured: DAGSTER_HOME, or where `make dev` puts it; `None` if there is none."""
    given = os.environ.get("DAGSTER_HOME")
    folder = Path(given) if given else (settings.home / "dagster").absolute()
    return folder if (folder / "dagster.yaml").is_file() else None


@contextmanager
def _storage_variable(settings: Settings) -> Iterator[None]:
    """FINANCE_OS_DAGSTER_DATABASE_URL, which dagster.yaml names, as the local stack sets it where nobody did."""
    name = "FINANCE_OS_DAGSTER_DATABASE_URL"
    before = os.environ.get(name)
    if not before:
        if settings.database_url is not None:
            os.environ[name] = settings.database_url.get_secret_value()
        else:
            from finance_os.evidence import embedded
            from finance_os.local.stack import DAGSTER_DATABASE

            server = embedded.start(settings.home / "postgres")
            os.environ[name] = embedded.ensure_database(server, DAGSTER_DATABASE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
