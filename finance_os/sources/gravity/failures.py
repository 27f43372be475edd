"""What PostgreSQL and the way to it report, as codes to act on and without their texts."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from finance_os.evidence.extraction import SourceError
from finance_os.sources.gravity.reader import URL, GravityReader
from finance_os.sources.sql_queries import SqlQuery

_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba.conf entry|role .* does not exist|not permitted to log in"
)

_NO_DATABASE = re.compile(r"database .* does not exist")
_RELATION = re.compile(r"permission denied for (?:\w+ )+?\"?([\w.]+)\"?$")


@contextmanager
def explained(gravity: GravityReader, query: SqlQuery) -> Iterator[None]:
    """Raise what PostgreSQL or the way to it reports as a `SourceError`, without its text."""
    try:
        yield
    except psycopg.Error as error:
        raise _explanation(error, gravity, query) from None


def _explanation(error: psycopg.Error, gravity: GravityReader, query: SqlQuery) -> SourceError:
    """https://www.postgresql.org/docs/current/errcodes-appendix.html"""
    state, what = error.sqlstate or "", f"{query.name} version {query.version}"
    # libpq gives no SQLSTATE for a connection that was refused, only the server's text.
    if state.startswith("28") or (not state and _REFUSED.search(str(error))):
        return SourceError("unauthorized", f"Gravity at {gravity.host} refused the login of {URL}", permanent=True)
    if state == "3D000" or (not state and _NO_DATABASE.search(str(error))):
        return SourceError("unknown_database", f"{gravity.host} has no database of the name in {URL}", permanent=True)
    if state == "42501":
        relation = _RELATION.search(error.diag.message_primary or "")
        place = relation[1] if relation else "a relation"
        return SourceError("permission_denied", f"{what}: the login of {URL} may not read {place}", permanent=True)
    if state in ("57014", "55P03", "25P03", "25P04"):
        return SourceError("timeout", f"{what} took too long at {gravity.host} (SQLSTATE {state})")
    if state[:2] in ("08", "53", "57") or (not state and isinstance(error, psycopg.OperationalError)):
        return SourceError("unreachable", f"Gravity at {gravity.host} did not answer {what}")
    if isinstance(error, psycopg.DataError) and not state:
        return SourceError(
            "unreadable_value", f"{what}: a time is infinite or beyond the years 1 to 9999", permanent=True
        )
    return SourceError("query_failed", f"{what} failed (SQLSTATE {state or 'none'})", permanent=state.startswith("42"))
