"""A login of the embedded server that can approve policies and do nothing else."""

import re
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from finance_os.evidence.database import Database
from finance_os.readiness.approvals import APPROVER_ROLE, PolicyRefused


def make_approver(database: Database, name: str) -> str:
    """The address that `name` logs in at; the login is made where it does not exist.

    Raises `PolicyRefused` for what is no name, and for a login that can do more.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name) or name.startswith(("pg_", "finance_os")):
        raise PolicyRefused(f"{name!r} is no name for a login: use small letters, digits and underscores.")
    with psycopg.connect(database.url, autocommit=True) as connection:
        role, group = sql.Identifier(name), sql.Identifier(APPROVER_ROLE)
        known = connection.execute(
            "SELECT rolsuper OR pg_has_role(rolname, 'finance_os_application', 'MEMBER') FROM pg_roles "
            "WHERE rolname = %s",
            (name,),
        ).fetchone()
        if known and known[0]:
            raise PolicyRefused(f"{name} is a login that can do more than approve: choose another name.")
        if known:
            connection.execute(sql.SQL("GRANT {} TO {}").format(group, role))
        else:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(role, group))
    parts = urlsplit(database.url)
    return urlunsplit(parts._replace(netloc=f"{name}:@{parts.netloc.rpartition('@')[2]}"))
