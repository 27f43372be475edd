"""What others build against, as files that are checked in: schemas, table definitions, and pages.

Each is made of the declarations that the product itself works by; a test fails where a file is not what would be made
now, and `finance-os artifacts write` makes them anew.
"""

from collections.abc import Mapping
from pathlib import Path

from finance_os.artifacts import bigquery, schemas
from finance_os.artifacts.discovery import discovery_page
from finance_os.observability.page import metrics_page
from finance_os.web.openapi import openapi_text


def artifacts() -> Mapping[str, str]:
    """Every artifact: its path below the checkout, and its text."""
    found = {"finance_os/web/openapi.json": openapi_text()}
    found |= {f"docs/schemas/{name}.schema.json": schemas.schema_text(name) for name in schemas.NAMES}
    found |= {f"sql/bigquery/{table.name}.sql": bigquery.ddl(table) for table in bigquery.EXPORTED}
    return found | {"docs/api.md": discovery_page(), "docs/metrics.md": metrics_page()}


def stale(checkout: Path) -> list[str]:
    """Paths of the artifacts that are missing, or not what would be made now."""
    return [path for path, text in artifacts().items() if not _is(checkout / path, text)]


def write(checkout: Path) -> list[str]:
    """Write the artifacts that are stale; their paths."""
    made = artifacts()
    written = stale(checkout)
    for path in written:
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text(made[path], encoding="utf-8")
    return written


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
