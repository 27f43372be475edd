"""Resources: the finance database, as the other definitions use it."""

from functools import cached_property

import dagster as dg
from pydantic import Field

from finance_os.evidence.database import Database, require_current_schema
from finance_os.settings import settings
from finance_os.sources.installation import ensure_installation


class Evidence(dg.ConfigurableResource):
    """The finance database in the application's role, checked at first use.

    Its address comes from FINANCE_OS_DATABASE_URL, not from Dagster's configuration: that is shown in the UI.
    `source_systems` are those that the plain installation's business is connected to.
    """

    source_systems: list[str] = Field(default_factory=list)

    @cached_property
    def database(self) -> Database:
        """The database. Raises `SchemaNotCurrent` where migrations are missing."""
        url = settings().database_url
        if url is None:
            raise dg.Failure(
                "FINANCE_OS_DATABASE_URL is not set. `make dev` starts Dagster with an embedded database; to run "
                "`dagster dev` by yourself, set the variable to your own.",
                allow_retries=False,
            )
        database = Database(url.get_secret_value())
        require_current_schema(database)
        ensure_installation(database, settings(), self.source_systems)
        return database
