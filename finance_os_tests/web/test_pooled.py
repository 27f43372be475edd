"""The pool: few connections, kept and given back, in the reader's role where that may be."""

import threading
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from finance_os.evidence.database import Database
from finance_os.evidence.snapshot import snapshot
from finance_os.web.pooled import CONNECTIONS, pooled


def test_many_looks_at_once_share_few_connections(database: Database) -> None:
    seen: set[int] = set()

    def look() -> None:
        with snapshot(opened) as looked:
            [row] = looked.fetch("SELECT pg_backend_pid() AS pid, pg_sleep(0.02)::text")
            seen.add(row["pid"])

    with pooled(database) as opened:
        threads = [threading.Thread(target=look) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert 1 <= len(seen) <= CONNECTIONS


def test_a_connection_that_the_server_closed_is_replaced(database: Database) -> None:
    with pooled(database) as opened:
        [row] = opened.fetch("SELECT pg_backend_pid() AS pid")
        with psycopg.connect(database.url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (row["pid"],))
        [again] = opened.fetch("SELECT pg_backend_pid() AS pid")
    assert again["pid"] != row["pid"]


def test_nothing_can_be_written_and_no_role_stays_behind(database: Database) -> None:
    with pooled(database) as opened:
        [row] = opened.fetch("SELECT current_user::text AS role")
        assert row["role"] == "finance_os_reader"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            opened.fetch("DELETE FROM finance_os.businesses RETURNING business_id")
        with snapshot(opened) as looked, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            looked.fetch("CREATE TEMPORARY TABLE x (y int)")
        with opened.connection() as plain:
            state = plain.execute("SELECT current_user = session_user AS own, current_setting('jit') AS jit").fetchone()
    assert state == {"own": True, "jit": "on"}


def test_a_login_that_is_no_reader_looks_in_the_application_s_role(database: Database) -> None:
    login = "finance_os_web_only_application"
    with psycopg.connect(database.url, autocommit=True) as owner:
        owner.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(login)))
        owner.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' IN ROLE finance_os_application").format(sql.Identifier(login))
        )
        try:
            parts = urlsplit(database.url)
            url = urlunsplit(parts._replace(netloc=f"{login}:x@{parts.netloc.rpartition('@')[2]}"))
            with pooled(Database(url)) as opened, snapshot(opened) as looked:
                [row] = looked.fetch("SELECT current_user::text AS role")
                assert row["role"] == "finance_os_application"
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    looked.fetch("UPDATE finance_os.businesses SET name = name RETURNING name")
        finally:
            owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))
