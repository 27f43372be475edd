"""The write boundary, from facts: what was sent to vendors, which sessions were open, and what the grants allow.

The guard refuses a write before it is sent, and the database refuses one in a read-only session. This looks at what
they recorded, so that a way around them does not stay unseen.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finance_os.evidence.database import APPLICATION_ROLE, READER_ROLE, Database
from finance_os.sources.guard import READ_ONLY_SESSION, Get, Post, Query, Take
from finance_os.sources.source import Source

LOOKS_BACK_DAYS = 31
"""Sync runs that began within this many days are looked at."""


@dataclass(frozen=True)
class Boundary:
    """Whether everything stayed inside the finance database. `evidence` is sorted, and empty if nothing was sent."""

    violations: tuple[str, ...]
    evidence: list[Any]

    @property
    def held(self) -> bool:
        """Whether nothing was found outside."""
        return not self.violations


def boundary_facts(database: Database, business_id: str, sources: Iterable[Source]) -> Boundary:
    """What was sent for `sources` lately, and what our roles may write."""
    allowed = {source.system: _methods(source) for source in sources}
    sent = database.fetch(
        """
        SELECT source_system, split_part(sent.target, ' ', 1) AS method, split_part(sent.target, ' ', 2) AS host
        FROM finance_os.source_sync_runs AS run
        CROSS JOIN LATERAL jsonb_object_keys(run.requested) AS sent (target)
        WHERE run.business_id = %s AND run.started_at > now() - make_interval(days => %s)
          AND run.source_system = ANY (%s)
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """,
        (business_id, LOOKS_BACK_DAYS, list(allowed)),
    )
    violations = [
        f"{row['source_system']} sent {row['method']} to {row['host']}, which is not one of its reads"
        for row in sent
        if row["method"] not in allowed[row["source_system"]]
    ]
    selected = {(row["source_system"], row["host"]) for row in sent if row["method"] == "SELECT"}
    confirmed = {(row["source_system"], row["host"]) for row in sent if row["method"] == READ_ONLY_SESSION}
    violations += [
        f"{system} sent queries to {host} in a session that was not confirmed to be read-only"
        for system, host in sorted(selected - confirmed)
    ]
    violations += _writable_elsewhere(database)
    # Hosts are left out: the same evidence has the same hash behind another address.
    evidence = sorted({f"{row['source_system']} {row['method']}" for row in sent})
    return Boundary(tuple(violations), [*evidence, *violations])


def _methods(source: Source) -> set[str]:
    """What a source's requests may be called in the counts of its sync runs."""
    methods: set[str] = set()
    for read in source.reads:
        if isinstance(read, Get):
            methods.add("GET")
        elif isinstance(read, Post):
            methods.add("POST")
        elif isinstance(read, Query):
            methods |= {"SELECT", READ_ONLY_SESSION}
        elif isinstance(read, Take):
            methods.add("READ")
    return methods


def _writable_elsewhere(database: Database) -> list[str]:
    """Tables that our roles could write though they must not: outside our schema, or append-only ones in it."""
    rows = database.fetch(
        """
        SELECT role.name AS role, relation.oid::regclass::text AS relation
        FROM pg_class AS relation
        JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
        CROSS JOIN unnest(%(roles)s::text[]) AS role (name)
        WHERE relation.relkind IN ('r', 'p', 'f', 'v')
          AND namespace.nspname NOT IN ('pg_catalog', 'information_schema') AND namespace.nspname NOT LIKE 'pg_temp%%'
          AND CASE WHEN namespace.nspname <> 'finance_os' OR role.name = %(reader)s
                   THEN has_table_privilege(role.name, relation.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                   ELSE has_table_privilege(role.name, relation.oid, 'DELETE, TRUNCATE') END
        ORDER BY 1, 2
        """,
        {"roles": [APPLICATION_ROLE, READER_ROLE], "reader": READER_ROLE},
    )
    unguarded = database.fetch(
        """
        SELECT relation.oid::regclass::text AS relation
        FROM pg_trigger AS guard
        JOIN pg_class AS relation ON relation.oid = guard.tgrelid
        WHERE guard.tgname = 'append_only' AND guard.tgenabled <> 'O'
          AND relation.relnamespace = 'finance_os'::regnamespace
        ORDER BY 1
        """
    )
    return [f"role {row['role']} may write {row['relation']}" for row in rows] + [
        f"{row['relation']} is not guarded against rewriting: its trigger is off" for row in unguarded
    ]
