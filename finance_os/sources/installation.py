"""The plain installation: one business, whose connections come from the environment."""

from collections.abc import Iterable

from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.settings import Settings


def ensure_installation(database: Database, settings: Settings, source_systems: Iterable[str]) -> None:
    """Record the settings' business, and a connection for each source system that it has none for.

    Does nothing where other businesses are recorded and none is set by name: such an installation keeps its own
    list.
    """
    businesses = {row["business_id"] for row in database.fetch("SELECT business_id FROM finance_os.businesses")}
    if businesses and settings.business not in businesses and "business" not in settings.model_fields_set:
        return
    ensure_business(database, settings.business, settings.business_name, settings.timezone)
    connected = {
        row["source_system"]
        for row in database.fetch(
            "SELECT source_system FROM finance_os.connections WHERE business_id = %s", (settings.business,)
        )
    }
    for source_system in source_systems:
        if source_system not in connected:
            ensure_connection(database, settings.business, source_system)
