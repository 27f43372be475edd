"""What commands begin with: the finance database of the settings, and the businesses in it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from finance_os.evidence.database import Database, require_current_schema
from finance_os.settings import Settings

console = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True)


@contextmanager
def opened_database(*, require_schema: bool = True) -> Iterator[Database]:
    """The finance database of the settings; the embedded server is started, or joined where it runs."""
    from finance_os.evidence import embedded

    settings = Settings()
    if settings.database_url is not None:
        database = Database(settings.database_url.get_secret_value())
    else:
        database = Database(embedded.ensure_database(embedded.start(settings.home / "postgres"), "finance_os"))
    if require_schema:
        require_current_schema(database)
    yield database


def require_business(database: Database, business: str | None) -> list[str]:
    """The IDs of all businesses; `LookupError` if `business` is given and not one of them."""
    known = [row["business_id"] for row in database.fetch("SELECT business_id FROM finance_os.businesses ORDER BY 1")]
    if business is not None and business not in known:
        raise LookupError(f"there is no business {business!r}; there are {', '.join(known) or 'none yet'}")
    return known
