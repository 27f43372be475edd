"""Logins of their own for tests of what needs somebody's approval: real ones, on the test's server."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from finance_os.evidence.database import Database
from finance_os.readiness import approvals
from finance_os.readiness.approvals import APPROVER_ROLE
from finance_os.readiness.policies import Approval

_numbers = itertools.count(1)


@contextmanager
def login(database: Database, *groups: str, name: str | None = None) -> Iterator[Database]:
    """The database as a new login that is a member of `groups` works in it, in the role of the first."""
    name = name or f"login_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(name)))
        for group in groups:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(name)))
    parts = urlsplit(database.url)
    quoted = name.replace("@", "%40")
    try:
        url = urlunsplit(parts._replace(netloc=f"{quoted}:secret@{parts.netloc.rpartition('@')[2]}"))
        yield Database(url, groups[0])
    finally:
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def login_name(database: Database) -> str:
    """Whom `database` logs in as."""
    with database.connection() as connection:
        return connection.info.user


def approve_policy(
    database: Database,
    business_id: str,
    policy: str,
    *,
    scope: str | None = None,
    lasting: timedelta = timedelta(days=30),
) -> Approval:
    """Have `policy` asked for by the test's own login and approved by another; the approval is in force."""
    until = datetime.now(UTC) + lasting
    asked = approvals.request(database, business_id, policy, reason="a test", expires_at=until, scope=scope)
    with login(database, APPROVER_ROLE) as approver:
        return approvals.approve(approver, business_id, policy, reason="a test", request_id=asked.request_id)
