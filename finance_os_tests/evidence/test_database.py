"""The finance database: its migrations, what each role may do in it, and that a transaction pooler is no obstacle."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from finance_os.evidence import audit, database, embedded
from finance_os.evidence.businesses import active_connections, ensure_business, ensure_connection
from finance_os.evidence.database import (
    APPLICATION_ROLE,
    READER_ROLE,
    Database,
    SchemaNotCurrent,
    lock_objects,
    migrate,
    require_current_schema,
    schema_state,
)
from finance_os.readiness.boundary import APPEND_ONLY
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.pgbouncer import pgbouncer, pooled_url

NOT_FOR_THE_APPLICATION = {"backtest_sign_offs", "policy_approvals"}
"""Append-only tables that the application reads, and others write."""


@pytest.fixture
def empty_url(server_url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database without any schema of ours."""
    name = f"empty_{abs(hash(request.node.nodeid)):x}"
    yield create_database(server_url, name)
    drop_database(server_url, name)


def test_migrations_are_applied_once(empty_url: str) -> None:
    here = Database(empty_url)
    applied, missing = schema_state(here)
    assert not applied
    assert missing == sorted(missing)
    with pytest.raises(SchemaNotCurrent, match=r"first 0001_roles: run `finance-os db migrate`"):
        require_current_schema(here)
    assert migrate(empty_url) == missing
    assert migrate(empty_url) == []
    require_current_schema(here)
    assert schema_state(here) == (missing, [])


def test_two_migrations_at_once_are_one(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(migrate, [empty_url] * 4))
    assert sorted(map(bool, results)) == [False, False, False, True]
    require_current_schema(Database(empty_url))


def test_a_migration_that_is_missing_is_named(database: Database) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute("DELETE FROM finance_os._yoyo_migration WHERE migration_id = '0004_grants'")
    with pytest.raises(SchemaNotCurrent, match=r"1 migration\(s\), first 0004_grants"):
        require_current_schema(database)


def test_an_old_server_is_refused(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MINIMUM_SERVER_VERSION", 990_000)
    with pytest.raises(SchemaNotCurrent, match="is too old: 99 or newer is needed"):
        migrate(empty_url)
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT to_regnamespace('finance_os')").fetchone() == (None,)


def privileges(database: Database, role: str) -> dict[str, set[str]]:
    """What `role` may do with each table, or with a column of it."""
    with psycopg.connect(database.url) as connection:
        rows = connection.execute(
            """
            SELECT tables.relname, kinds.kind
            FROM pg_class AS tables,
                 unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS kinds (kind)
            WHERE relnamespace = 'finance_os'::regnamespace AND relkind IN ('r', 'p')
              AND relname NOT LIKE '%%yoyo%%'
              AND (has_table_privilege(%(role)s, tables.oid, kinds.kind)
                   OR CASE WHEN kinds.kind IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                           THEN has_any_column_privilege(%(role)s, tables.oid, kinds.kind) END)
            """,
            {"role": role},
        ).fetchall()
    found: dict[str, set[str]] = {}
    for table, kind in rows:
        found.setdefault(table, set()).add(kind)
    return found


def test_a_reader_selects_and_nothing_else(database: Database) -> None:
    found = privileges(database, READER_ROLE)
    assert set(found) == set(privileges(database, APPLICATION_ROLE)) - {"connection_secrets", "webhook_bodies"}
    assert all(kinds == {"SELECT"} for kinds in found.values())
    with psycopg.connect(database.url) as connection:
        sequences = connection.execute(
            "SELECT sequencename FROM pg_sequences WHERE schemaname = 'finance_os' "
            "AND has_sequence_privilege(%s, format('finance_os.%%I', sequencename), 'USAGE, UPDATE')",
            (READER_ROLE,),
        ).fetchall()
    assert not sequences


def test_the_application_rewrites_no_append_only_table(database: Database) -> None:
    found = privileges(database, APPLICATION_ROLE)
    for table, kinds in found.items():
        assert kinds <= {"SELECT", "INSERT", "UPDATE"}, table
    assert set(APPEND_ONLY) <= set(found)
    for table in APPEND_ONLY:
        assert found[table] == ({"SELECT"} if table in NOT_FOR_THE_APPLICATION else {"SELECT", "INSERT"}), table


def test_append_only_tables_are_guarded_by_triggers_too(database: Database) -> None:
    rows = database.fetch(
        "SELECT tgrelid::regclass::text AS name, tgtype, tgenabled FROM pg_trigger WHERE tgname = 'append_only'"
    )
    # pg_trigger.tgtype: 1 row, 2 before, 8 delete, 16 update, 32 truncate
    assert {row["name"] for row in rows} == {f"finance_os.{table}" for table in APPEND_ONLY}
    assert {(row["tgtype"], row["tgenabled"]) for row in rows} == {(2 | 8 | 16 | 32, "O")}


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("statement", ["UPDATE {} SET business_id = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_nobody_rewrites_evidence(database: Database, owner: Database, table: str, statement: str) -> None:
    change = sql.SQL(statement).format(sql.Identifier("finance_os", table))  # pyright: ignore[reportArgumentType]
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"), database.transaction() as one:
        one.execute(change)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is append-only"), owner.transaction() as one:
        one.execute(change)


def test_the_role_is_taken_for_one_transaction(database: Database, owner: Database) -> None:
    with database.connection() as connection:
        with database.transaction(connection) as inside:
            assert inside.execute("SELECT current_user AS name").fetchone() == {"name": APPLICATION_ROLE}
        assert connection.execute("SELECT current_user AS name").fetchone() == {"name": owner.role}
    assert database.as_reader().fetch("SELECT current_user AS name") == [{"name": READER_ROLE}]


def test_what_fails_is_rolled_back(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO finance_os.businesses VALUES ('acme', 'Acme', 'UTC')")
            connection.execute("INSERT INTO finance_os.businesses VALUES ('No ID', 'Acme', 'UTC')")

    with pytest.raises(psycopg.errors.CheckViolation):
        fail()
    assert database.fetch("SELECT * FROM finance_os.businesses") == []


def test_printing_shows_no_secret() -> None:
    assert repr(Database("postgresql://me:hunter2@db.example/finance")) == (
        "Database(db.example, finance_os_application)"
    )


# A cluster of its own: roles belong to the whole of it.


@pytest.fixture(scope="module")
def fresh_cluster() -> Iterator[str]:
    """Superuser URL of a server on which nobody has made our roles yet."""
    # Not beneath pytest's own folder: each session closes that one to other users, such as the server's.
    with tempfile.TemporaryDirectory(prefix="finance_os_") as folder:
        server = embedded.start(Path(folder) / "postgres")
        yield server.get_uri()
        server.stop()


def make_owner(server_url: str, name: str) -> str:
    """A login with CREATEROLE and a database of its own, as Supabase's `postgres` is; the URL."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'owner'").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))
    return make_conninfo(server_url, user=name, password="owner", dbname=name)


def as_url(conninfo: str) -> str:
    """A connection string as a URL."""
    given = conninfo_to_dict(conninfo)
    host = str(given["host"])
    place = (f"@{host}:{given.get('port') or 5432}", "") if not host.startswith("/") else ("@", f"?host={host}")
    return f"postgresql://{given['user']}:{given['password']}{place[0]}/{given['dbname']}{place[1]}"


def test_an_owner_needs_no_superuser(fresh_cluster: str) -> None:
    url = as_url(make_owner(fresh_cluster, "first_owner"))
    assert migrate(url)
    here = Database(url)
    require_current_schema(here)
    ensure_business(here, "acme", "Acme", "UTC")
    with here.transaction() as connection:
        audit.append(connection, "acme", "thing.happened", "thing:1", {})
    assert audit.verify(here.as_reader(), "acme").events == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege), here.transaction() as connection:
        connection.execute("DELETE FROM finance_os.businesses")

    # Another owner on the same cluster, where the roles are another's.
    other = as_url(make_owner(fresh_cluster, "second_owner"))
    with psycopg.connect(fresh_cluster) as connection:
        strict = connection.info.server_version >= 160_000
    if strict:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not act as it") as refusal:
            migrate(other)
        assert refusal.value.diag.message_hint == (
            "Have its administrator run: GRANT finance_os_application TO second_owner"
        )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("GRANT finance_os_application, finance_os_reader TO second_owner")
    assert migrate(other)
    ensure_business(Database(other), "acme", "Acme", "UTC")


def test_everything_works_through_a_transaction_pooler(database: Database, server_url: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'pooled_login'").fetchone():
            connection.execute("CREATE ROLE pooled_login LOGIN PASSWORD 'pooled'")
        connection.execute("GRANT finance_os_application, finance_os_reader TO pooled_login")
    with pgbouncer(database.url, {"pooled_login": "pooled"}) as address:
        pooled = Database(pooled_url(address, database.url, "pooled_login", "pooled"))
        require_current_schema(pooled)
        for business_id in ("acme", "globex"):
            ensure_business(pooled, business_id, business_id.title(), "Asia/Tokyo")
            ensure_connection(pooled, business_id, "stripe")
        assert [str(connection) for connection in active_connections(pooled, "stripe")] == [
            "acme/stripe/default",
            "globex/stripe/default",
        ]

        def work(worker: int) -> None:
            business_id = ("acme", "globex")[worker % 2]
            with pooled.connection() as connection:
                for _ in range(5):
                    with pooled.transaction(connection):
                        lock_objects(connection, business_id, "stripe", "stripe_charge")
                        audit.append(connection, business_id, "thing.happened", f"thing:{worker}", {})
                    name = connection.execute("SELECT current_user AS name").fetchone()
                    assert name == {"name": "pooled_login"}

        with ThreadPoolExecutor(40) as pool:
            list(pool.map(work, range(40)))
        for business_id in ("acme", "globex"):
            assert audit.verify(pooled.as_reader(), business_id).events == 100
            assert audit.verify(pooled, business_id, [audit.current_anchor(pooled, business_id)]).sound
