"""What Redshift refuses and PostgreSQL would do, so that a query that is only tried here is not refused there.

https://docs.aws.amazon.com/redshift/latest/dg/c_unsupported-postgresql-features.html and, beside it, functions and data
types; cursors: https://docs.aws.amazon.com/redshift/latest/dg/declare.html
"""

import re

FETCHED_AT_MOST = 1_000
"""On a single-node cluster: https://docs.aws.amazon.com/redshift/latest/dg/fetch.html"""

_QUIET = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|/\*.*?\*/|--[^\n]*", re.S)
_LACKING = {
    "the FILTER clause": r"\bfilter\s*\(",
    "DISTINCT ON": r"\bdistinct\s+on\b",
    "IS DISTINCT FROM": r"\bdistinct\s+from\b",
    "LATERAL": r"\blateral\b",
    "RETURNING": r"\breturning\b",
    "ON CONFLICT": r"\bon\s+conflict\b",
    "array constructors": r"\barray\s*\[",
    "array operators": r"\b(any|all)\s*\(\s*[^s\s]",
    "row constructors": r"\brow\s*\(",
    "the function": r"\b(generate_series|width_bucket|array_agg|string_agg|pg_sleep|clock_timestamp|format|encode|"
    r"transaction_timestamp|regexp_matches|every)\s*\(",
    "the data type": r"(?:::|\bas\s+)\s*(uuid|jsonb?|bytea|money|xml|inet)\b",
}
_PATTERNS = {what: re.compile(pattern, re.I) for what, pattern in _LACKING.items()}
_DECLARE = re.compile(r"\s*declare\s+(\w+)\s+cursor\s+for\b", re.I)
_FETCH = re.compile(r"\s*fetch\s+(?:forward\s+)?(\w+)\s+from\s+\w+", re.I)
_ENDING = re.compile(r"\s*(close|commit|end|rollback|abort)\b", re.I)


class Dialect:
    """One session: it knows which cursor is open."""

    def __init__(self) -> None:
        self._cursor: str | None = None

    def complaint(self, statement: str) -> str | None:
        """Why Redshift would refuse a statement that PostgreSQL might not; None if it would not."""
        text = _QUIET.sub("''", statement)
        for what, pattern in _PATTERNS.items():
            if found := pattern.search(text):
                name = f" {found[1]}" if what.startswith("the ") and found.groups() else ""
                return f"{what}{name} is not supported"
        if re.search(r"\bvalues\b", text, re.I) and not re.match(r"\s*insert\b", text, re.I):
            return "VALUES as a constant table is not supported"
        if _DECLARE.match(text) and self._cursor is not None:
            return f"cursor {self._cursor} is open: only one cursor at a time can be open per session"
        fetched = _FETCH.match(text)
        if fetched and fetched[1].lower() != "next" and not 0 <= _rows(fetched[1]) <= FETCHED_AT_MOST:
            return f"FETCH {fetched[1]} is not supported: on a single node, at most {FETCHED_AT_MOST}"
        return None

    def ran(self, statement: str) -> None:
        """Take note of a statement that is run."""
        if declared := _DECLARE.match(statement):
            self._cursor = declared[1]
        elif _ENDING.match(statement):
            self._cursor = None


def _rows(count: str) -> int:
    return int(count) if count.isdigit() else -1
