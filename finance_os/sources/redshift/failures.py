"""What Redshift or the way to it reports, as codes and sentences without a word of its text.

https://www.postgresql.org/docs/8.0/errcodes-appendix.html for the wire protocol. The Data API gives the message alone:
https://docs.aws.amazon.com/redshift-data/latest/APIReference/API_DescribeStatement.html
"""

import re

from finance_os.evidence.extraction import SourceError
from finance_os.sources.redshift.address import URL

_RELATION = re.compile(r"permission denied for (?:\w+ )+?\"?([\w.]+)\"?(?:\s|$)")

# What a message without a SQLSTATE says, as the SQLSTATE that it would have had.
_MESSAGES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"permission denied", re.I), "42501"),
    (re.compile(r"(transaction is|in a) read-only", re.I), "25006"),
    (re.compile(r"cancel{1,2}ed on|canceling statement|statement timeout|timed out", re.I), "57014"),
    (re.compile(r"serializable isolation|could not serialize", re.I), "40001"),
    (re.compile(r"(authentication failed|user .* does not exist)", re.I), "28000"),
    (re.compile(r"database .* does not exist", re.I), "3D000"),
    (re.compile(r"relation .* does not exist", re.I), "42P01"),
    (re.compile(r"column .* does not exist", re.I), "42703"),
    (re.compile(r"syntax error", re.I), "42601"),
)


def state_of(message: str) -> str:
    """The SQLSTATE that goes with a message; empty where it tells nothing."""
    return next((state for pattern, state in _MESSAGES if pattern.search(message)), "")


def server_failure(state: str, message: str, host: str, what: str) -> SourceError:
    """What an error of the server, by its SQLSTATE, means. Of its message only a relation's name is repeated."""
    if state.startswith("28"):
        return SourceError("unauthorized", f"Redshift at {host} refused the login of {URL}", permanent=True)
    if state == "3D000":
        return SourceError("unknown_database", f"{host} has no database of the name in {URL}", permanent=True)
    if state == "42501":
        relation = _RELATION.search(message)
        place = relation[1] if relation else "a relation"
        return SourceError("permission_denied", f"{what}: the login of {URL} may not read {place}", permanent=True)
    if state == "25006":
        return SourceError(
            "write_refused",
            f"{what} was refused by the read-only transaction at {host} (SQLSTATE 25006)",
            permanent=True,
        )
    if state in ("57014", "55P03", "25P03"):
        return SourceError("timeout", f"{what} took too long at {host} (SQLSTATE {state})")
    if state == "40001":
        return SourceError("conflict", f"{what} conflicted with a write at {host} (SQLSTATE 40001)")
    if state[:2] in ("08", "53", "57"):
        return unreachable(host, what)
    return SourceError("query_failed", f"{what} failed (SQLSTATE {state or 'none'})", permanent=state.startswith("42"))


def unreachable(host: str, what: str) -> SourceError:
    """The way to Redshift is broken, for now."""
    return SourceError("unreachable", f"Redshift at {host} did not answer {what}")
