"""The stack of one machine: what is configured is used as it is, what is not is started here.

An unset FINANCE_OS_DATABASE_URL means the embedded PostgreSQL. A source that has none of its variables set is served
by the sandbox; one that has any is left alone.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from finance_os.evidence import embedded
from finance_os.evidence.database import Database, migrate
from finance_os.local.export_setting import RULES, export_variables
from finance_os.local.sandbox_company import DAYS, FOLDER, sandbox_company
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.settings import Settings
from finance_os.sources.registry import SOURCES

DAGSTER_DATABASE = "dagster"


@dataclass(frozen=True)
class Stack:
    """A running stack. `environment` is what Dagster's processes need; `simulated` are the systems in the sandbox.

    `days` is how far back the sandbox's company goes.
    """

    environment: dict[str, str]
    database: Database
    dagster_home: Path
    simulated: tuple[str, ...]
    sandbox: Running | None
    days: int


class StackRuns(LookupError):
    """Another stack runs over the same folder: two daemons would both take what waits in its one Dagster."""


@contextmanager
def running_stack(
    settings: Settings, *, days: int | None = None, size: int | None = None, seed: int = 7, export: bool = False
) -> Iterator[Stack]:
    """Start what is missing and migrate the database; the sandbox stops at the end of the block.

    The embedded PostgreSQL stops when the last process that uses it exits.

    `days`, `size` (advertisers) and `seed` are those of the sandbox's company; the folder's own ones if not given. With
    `export` the sandbox's Stripe is exported to the sandbox's QuickBooks, unless rules are set. Raises `StackRuns` and
    `OtherCompany`.
    """
    environment = dict(os.environ)
    simulated = tuple(
        source.system
        for source in SOURCES
        if source.credentials and not any(environment.get(name) for name in (*source.credentials, *source.options))
    )
    with ExitStack() as started:
        started.enter_context(_alone(settings.home))
        today = datetime.now(UTC).date()
        company = sandbox_company(settings.home, today, days=days, size=size, seed=seed) if simulated else None
        server = None
        if settings.database_url is None or simulated:
            server = embedded.start(settings.home / "postgres")
        if settings.database_url is not None:
            environment["FINANCE_OS_DATABASE_URL"] = given = settings.database_url.get_secret_value()
            environment.setdefault("FINANCE_OS_DAGSTER_DATABASE_URL", given)
        elif server is not None:
            environment["FINANCE_OS_DATABASE_URL"] = embedded.ensure_database(server, "finance_os")
            dagster_url = embedded.ensure_database(server, DAGSTER_DATABASE)
            environment.setdefault("FINANCE_OS_DAGSTER_DATABASE_URL", dagster_url)
        url = environment["FINANCE_OS_DATABASE_URL"]
        owner = settings.owner_database_url
        migrate(owner.get_secret_value() if owner else url)
        sandbox = None
        if company is not None:
            sandbox = started.enter_context(
                running_sandbox(
                    seed=company.seed,
                    start=company.start,
                    size=company.size,
                    gravity_admin_url=server.get_uri() if server else None,
                    rooms=None,
                    drops=inbox(settings, "rho"),
                    baselines=inbox(settings, "xlsx"),
                    kept=settings.home / FOLDER,
                )
            )
            environment |= _only_of(simulated, sandbox.env)
            if export and {"stripe", "quickbooks"} <= set(simulated) and not environment.get(RULES):
                environment |= export_variables(sandbox, settings.business, settings.timezone)
        environment |= {
            "FINANCE_OS_HOME": str(settings.home.absolute()),
            "FINANCE_OS_DROPS": settings.drops_location,
            "DAGSTER_HOME": str(_dagster_home(settings.home)),
            "DAGSTER_EVENT_BATCH_SIZE": environment.get("DAGSTER_EVENT_BATCH_SIZE", "1000"),
        }
        reach = company.days(today) if company else days or DAYS
        yield Stack(environment, Database(url), Path(environment["DAGSTER_HOME"]), simulated, sandbox, reach)


def inbox(settings: Settings, source_system: str) -> Path | None:
    """Where the plain installation's files for a source are handed in; `None` where that is on S3."""
    location = settings.drops_location
    return None if "://" in location else Path(location) / settings.business / source_system


def checkout() -> Path:
    """The folder that holds dagster.yaml and workspace.yaml."""
    return Path(__file__).parents[2]


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the folder; a process that dies lets go of it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "stack.lock").open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            raise StackRuns(
                f"Another stack runs over {home.absolute()} (process {held.read() or 'unknown'}): stop it, or give "
                "this one another folder with FINANCE_OS_HOME."
            ) from None
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        yield


def _only_of(simulated: Iterable[str], variables: Mapping[str, str]) -> dict[str, str]:
    """Of the sandbox's variables, those of the sources that it stands in for."""
    names = {
        name for source in SOURCES if source.system in simulated for name in (*source.credentials, *source.options)
    }
    return {name: value for name, value in variables.items() if name in names}


def _dagster_home(home: Path) -> Path:
    """Dagster's home, with the checkout's dagster.yaml."""
    folder = (home / "dagster").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(checkout() / "dagster.yaml", folder / "dagster.yaml")
    return folder
