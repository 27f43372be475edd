"""Fixtures that every folder shares: one PostgreSQL for the session, and a fresh migrated database for each test."""

import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from finance_os.evidence import embedded
from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database, migrate

settings.register_profile("finance_os", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("finance_os")

_numbers = itertools.count(1)

_MEMORY = Path("/dev/shm")
"""A file system in memory, where there is one. Thousands of databases of hundreds of files each are made and dropped,
and a journaling file system looks at every one of the files that have just gone before it makes a new one."""
_MEMORY_WANTED = 4 * 2**30


def pytest_collection_finish() -> None:
    """The collector passes over what is imported and collected: it is there to the end."""
    gc.collect()
    gc.freeze()


def _server_folder() -> Path:
    """A folder for a server. Not in pytest's own temporary folder: other sessions clear that out while this one runs.

    On disk where memory is short, as in a container, which has 64 MB by default.
    """
    has_memory = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_WANTED
    return Path(tempfile.mkdtemp(prefix="finance-os-test-", dir=_MEMORY if has_memory else None))


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Superuser URL of a PostgreSQL: the one in FINANCE_OS_TEST_SERVER_URL, or an embedded one for this session."""
    if url := os.environ.get("FINANCE_OS_TEST_SERVER_URL"):
        yield url
        return
    # Small, as each of the thousands of databases that are dropped is looked for in all of the buffers.
    server = embedded.start(_server_folder(), shared_buffers=128)
    server.cleanup_mode = "delete"
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):  # nothing here has to survive the machine
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()


@pytest.fixture(scope="session")
def template_name(server_url: str) -> Iterator[str]:
    """A migrated database that others are copied from."""
    name = f"finance_os_template_{os.getpid()}"
    migrate(create_database(server_url, name))
    yield name
    drop_database(server_url, name)


@pytest.fixture
def database(server_url: str, template_name: str) -> Iterator[Database]:
    """A fresh finance database in the application's role."""
    name = f"finance_os_{os.getpid()}_{next(_numbers)}"
    yield Database(create_database(server_url, name, template_name))
    drop_database(server_url, name)


@pytest.fixture
def owner(database: Database) -> Database:
    """The same database as `database`, with the rights of its owner."""
    with psycopg.connect(database.url) as connection:
        return Database(database.url, connection.info.user)


@pytest.fixture
def acme(database: Database) -> Connection:
    """A connection of the first business, New York."""
    ensure_business(database, "acme", "Acme", "America/New_York")
    return ensure_connection(database, "acme", "stripe")


@pytest.fixture
def globex(database: Database) -> Connection:
    """A connection of the second business, Tokyo, whose external IDs are the same as the first one's."""
    ensure_business(database, "globex", "Globex", "Asia/Tokyo")
    return ensure_connection(database, "globex", "stripe", secret_reference="env:GLOBEX_")


@pytest.fixture(scope="session")
def staged_name(server_url: str, template_name: str) -> Iterator[str]:
    """A database in which a whole small company is staged for two businesses, that others are copied from."""
    from finance_os_tests.stripe_qbo.staged import staged_database

    with staged_database(server_url, template_name) as name:
        yield name


@pytest.fixture
def staged(server_url: str, staged_name: str) -> Iterator[Database]:
    """A fresh database in which a whole small company is staged for `acme` and `globex`."""
    from finance_os_tests.stripe_qbo.staged import copy_of

    with copy_of(server_url, staged_name) as found:
        yield found


def create_database(server_url: str, name: str, template: str = "template0") -> str:
    """A new database, copied from `template`; its URL."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def drop_database(server_url: str, name: str) -> None:
    """Drop a database, whoever is still connected to it."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
