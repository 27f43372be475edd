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

APPEND_ONLY = (
    "backtest_results",
    "backtest_sign_offs",
    "check_results",
    "checkpoints",
    "external_action_outcomes",
    "external_actions",
    "finance_audit_events",
    "intent_attempts",
    "policy_approvals",
    "policy_records",
    "policy_requests",
    "policy_revocations",
    "raw_record_changes",
    "raw_source_records",
    "source_sync_partitions",
    "source_sync_sightings",
    "webhook_bodies",
)
"""The tables of which nothing is ever updated or deleted: each has the trigger of that name.

Of `webhook_bodies`, bodies are pruned, by a function of the database's alone: the application may not update it."""


@dataclass(frozen=True)
class Boundary:
    """Whether everything stayed inside the finance database: what did not, in words."""

    violations: tuple[str, ...]

    @property
    def evidence(self) -> list[str]:
        """What decides a line about the boundary; what was read, and where, moves all day and does not."""
        return list(self.violations)

    @property
    def held(self) -> bool:
        """Whether nothing was found outside."""
        return not self.violations


def boundary_facts(database: Database, business_id: str, sources: Iterable[Source]) -> Boundary:
    """What was sent for `sources` lately, and what our roles may write."""
    allowed = {source.system: _methods(source) for source in sources}
    sent = _sent(database, business_id, list(allowed))
    violations = sorted(
        {
            f"{row['source_system']} sent {row['method']} to {row['host']}, which is not one of its reads"
            for row in sent
            if row["method"] not in allowed[row["source_system"]]
        }
    )
    # Within the runs that sent the same: one that was confirmed does not speak for another.
    asked = {(row["source_system"], row["host"], row["kinds"], row["method"]) for row in sent}
    violations += sorted(
        {
            f"{system} sent queries to {host} in a session that was not confirmed to be read-only"
            for system, host, kinds, method in asked
            if method == "SELECT" and (system, host, kinds, READ_ONLY_SESSION) not in asked
        }
    )
    violations += _writable_elsewhere(database)
    return Boundary(tuple(violations))


def _sent(database: Database, business_id: str, source_systems: list[str]) -> list[dict[str, Any]]:
    """Source system, method and host of what was sent lately, and by which kind of run, each once.

    Of the runs that sent the same kinds of requests, however many they are, only the latest is opened.
    """
    return database.fetch(
        """
        WITH RECURSIVE sending AS (
            SELECT given.source_system, first.kinds
            FROM unnest(%(systems)s::text[]) AS given (source_system)
            CROSS JOIN LATERAL (
                SELECT finance_os.request_kinds(requested) COLLATE "C" AS kinds
                FROM finance_os.source_sync_runs AS run
                WHERE run.business_id = %(business_id)s AND run.source_system = given.source_system
                ORDER BY finance_os.request_kinds(requested) COLLATE "C" LIMIT 1
            ) AS first
            UNION ALL
            SELECT sending.source_system, following.kinds
            FROM sending
            CROSS JOIN LATERAL (
                SELECT finance_os.request_kinds(requested) COLLATE "C" AS kinds
                FROM finance_os.source_sync_runs AS run
                WHERE run.business_id = %(business_id)s AND run.source_system = sending.source_system
                  AND finance_os.request_kinds(requested) COLLATE "C" > sending.kinds
                ORDER BY finance_os.request_kinds(requested) COLLATE "C" LIMIT 1
            ) AS following
        )
        SELECT DISTINCT sending.source_system, sending.kinds, split_part(sent.target, ' ', 1) AS method,
               split_part(sent.target, ' ', 2) AS host
        FROM sending
        CROSS JOIN LATERAL (
            SELECT requested FROM finance_os.source_sync_runs AS run
            WHERE run.business_id = %(business_id)s AND run.source_system = sending.source_system
              AND finance_os.request_kinds(requested) COLLATE "C" = sending.kinds
              AND run.started_at > now() - make_interval(days => %(days)s)
            ORDER BY run.started_at DESC LIMIT 1
        ) AS run
        CROSS JOIN LATERAL jsonb_object_keys(run.requested) AS sent (target)
        """,
        {"business_id": business_id, "systems": source_systems, "days": LOOKS_BACK_DAYS},
    )


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
        SELECT given.name, guard.tgname IS NULL AS unguarded,
               has_any_column_privilege(%(application)s, format('finance_os.%%I', given.name), 'UPDATE') AS writable
        FROM unnest(%(tables)s::text[]) AS given (name)
        LEFT JOIN pg_trigger AS guard
          ON guard.tgrelid = format('finance_os.%%I', given.name)::regclass AND guard.tgname = 'append_only'
         AND guard.tgenabled = 'O'
        ORDER BY given.name
        """,
        {"application": APPLICATION_ROLE, "tables": list(APPEND_ONLY)},
    )
    return [
        *(f"role {row['role']} may write {row['relation']}" for row in rows),
        *(
            f"finance_os.{row['name']} is not guarded against rewriting: its trigger is off or gone"
            for row in unguarded
            if row["unguarded"]
        ),
        *(f"role {APPLICATION_ROLE} may rewrite finance_os.{row['name']}" for row in unguarded if row["writable"]),
    ]
