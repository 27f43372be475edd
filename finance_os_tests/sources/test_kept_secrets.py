"""Kept secrets: encrypted, one process at a time, and either the old value or the new one; nobody else opens them."""

import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from finance_os import settings as settings_module
from finance_os.evidence import embedded
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.settings import Settings
from finance_os.sources import kept_secrets
from finance_os.sources.credentials import KeptSecrets
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.private_files import create_private
from finance_os.sources.sealing import EncryptionKeys, encryption_keys, new_key
from finance_os_tests.pgbouncer import pgbouncer, pooled_url
from finance_os_tests.sources.kept import MemorySecrets

CANARY = "canary-4242"
KEY = new_key()


def keys() -> EncryptionKeys:
    return EncryptionKeys(KEY)


@pytest.fixture
def secrets(database: Database, acme: Connection) -> ConnectionSecrets:
    return ConnectionSecrets(database, acme, keys)


def rows(database: Database) -> list[tuple[str, str, int]]:
    """What is kept, as (business, name, version)."""
    found = database.fetch("SELECT business_id, name, version FROM finance_os.connection_secrets ORDER BY 1, 2")
    return [(row["business_id"], row["name"], row["version"]) for row in found]


# --- what both kinds of kept secrets promise


@pytest.fixture(params=["postgresql", "memory"])
def kept(request: pytest.FixtureRequest) -> KeptSecrets:
    return MemorySecrets() if request.param == "memory" else request.getfixturevalue("secrets")


def test_what_was_stored_is_there_when_the_block_has_ended(kept: KeptSecrets) -> None:
    assert kept.read("token") is None
    with kept.exclusive("token") as secret:
        assert secret.value is None
        secret.store("first")
        secret.store("second ✓\0")
        assert secret.value == "second ✓\0"
        assert kept.read("token") is None
    assert kept.read("token") == "second ✓\0"
    assert kept.read("other") is None
    with kept.exclusive("token") as secret:
        assert secret.value == "second ✓\0"
    with kept.exclusive("token") as secret:
        secret.store("")
    assert kept.read("token") == ""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_value(kept: KeptSecrets, error: type[BaseException]) -> None:
    with kept.exclusive("token") as secret:
        secret.store("old")
    with pytest.raises(error), kept.exclusive("token") as secret:  # noqa: PT012  what fails is the block
        secret.store("new")
        raise error
    assert kept.read("token") == "old"
    with kept.exclusive("token") as secret:
        assert secret.value == "old"


def count_to(total: int, kept: KeptSecrets) -> None:
    """Count up a kept number from many threads; it comes out right only if one is inside at a time."""
    inside: list[int] = []

    def count(number: int) -> None:
        with kept.exclusive("token") as secret:
            inside.append(number)
            assert len(inside) == 1
            time.sleep(0.005)
            secret.store(str(int(secret.value or 0) + 1))
            inside.remove(number)

    with ThreadPoolExecutor(total) as pool:
        list(pool.map(count, range(total)))
    assert kept.read("token") == str(total)


def test_one_at_a_time_is_inside(kept: KeptSecrets) -> None:
    count_to(12, kept)


def test_other_names_do_not_wait(kept: KeptSecrets) -> None:
    with kept.exclusive("one") as one, kept.exclusive("two") as two:
        one.store("1")
        two.store("2")
    assert (kept.read("one"), kept.read("two")) == ("1", "2")


# --- in PostgreSQL


def test_only_ciphertext_is_in_the_database(database: Database, secrets: ConnectionSecrets) -> None:
    sealed = []
    for _ in range(2):
        with secrets.exclusive("token") as secret:
            secret.store(CANARY)
            assert CANARY not in repr(secret)
        [row] = database.fetch("SELECT * FROM finance_os.connection_secrets")
        assert CANARY.encode() not in bytes(row["ciphertext"])
        assert CANARY not in repr(row)
        sealed.append(bytes(row["ciphertext"]))
    assert sealed[0] != sealed[1]
    assert rows(database) == [("acme", "token", 2)]
    assert KEY not in repr(secrets) + repr(keys()) + repr(vars(keys())["_keys"].keys())
    assert CANARY not in repr(secrets)


def test_connections_keep_the_same_name_apart(database: Database, acme: Connection, globex: Connection) -> None:
    ours, theirs = (ConnectionSecrets(database, connection, keys) for connection in (acme, globex))
    with ours.exclusive("token") as secret, theirs.exclusive("token") as other:
        secret.store("acme's")
        other.store("globex's")
    assert (ours.read("token"), theirs.read("token")) == ("acme's", "globex's")
    assert rows(database) == [("acme", "token", 1), ("globex", "token", 1)]
    stranger = ConnectionSecrets(database, replace(acme, connection_id=globex.connection_id), keys)
    assert stranger.read("token") is None
    with pytest.raises(psycopg.errors.ForeignKeyViolation), stranger.exclusive("another") as secret:
        secret.store("mixed")


def test_a_ciphertext_opens_only_where_it_belongs(
    database: Database, owner: Database, acme: Connection, globex: Connection
) -> None:
    ours, theirs = (ConnectionSecrets(database, connection, keys) for connection in (acme, globex))
    for kept, names in ((ours, ("token", "moved", "changed")), (theirs, ("token",))):
        for name in names:
            with kept.exclusive(name) as secret:
                secret.store(f"{CANARY} {name}")
    with owner.transaction() as connection:
        connection.execute(
            """
            UPDATE finance_os.connection_secrets AS kept SET ciphertext = original.ciphertext
            FROM finance_os.connection_secrets AS original
            WHERE original.name = 'token' AND original.business_id = 'acme'
              AND (kept.name = 'moved' OR kept.business_id = 'globex')
            """
        )
        connection.execute(
            """
            UPDATE finance_os.connection_secrets
            SET ciphertext = set_byte(ciphertext, length(ciphertext) - 1, get_byte(ciphertext, 30) # 1)
            WHERE name = 'changed'
            """
        )
    for kept, name in ((theirs, "token"), (ours, "moved"), (ours, "changed")):
        with pytest.raises(SourceError, match="changed or moved") as caught:
            kept.read(name)
        assert (caught.value.code, caught.value.permanent) == ("kept_secret_unreadable", True)
        assert f"{kept.connection} as {name!r}" in caught.value.message
        with pytest.raises(SourceError), kept.exclusive(name):
            pytest.fail("nobody may go on with what cannot be opened")
    assert ours.read("token") == f"{CANARY} token"


def test_the_reader_cannot_even_see_ciphertext(database: Database, secrets: ConnectionSecrets) -> None:
    with secrets.exclusive("token") as secret:
        secret.store(CANARY)
    for select in ("SELECT name FROM finance_os.connection_secrets", "TABLE finance_os.connection_secrets"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            database.as_reader().fetch(select)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), database.transaction() as connection:
        connection.execute("DELETE FROM finance_os.connection_secrets")


def test_a_process_that_dies_inside_leaves_the_old_value_and_lets_go(
    database: Database, acme: Connection, secrets: ConnectionSecrets
) -> None:
    with secrets.exclusive("token") as secret:
        secret.store("old")
    program = f"""
        import sys
        from finance_os.evidence.businesses import Connection
        from finance_os.evidence.database import Database
        from finance_os.sources.kept_secrets import ConnectionSecrets
        from finance_os.sources.sealing import EncryptionKeys

        kept = ConnectionSecrets(Database({database.url!r}), {acme!r}, lambda: EncryptionKeys({KEY!r}))
        with kept.exclusive("token") as secret:
            secret.store(f"{{secret.value}} and new")
            print("inside", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"inside\n"
        process.kill()
    with secrets.exclusive("token") as secret:
        assert secret.value == "old"


def test_a_database_that_is_lost_meanwhile_keeps_the_old_value(
    database: Database, owner: Database, secrets: ConnectionSecrets
) -> None:
    with secrets.exclusive("token") as secret:
        secret.store("old")
    with pytest.raises(SourceError) as caught, secrets.exclusive("token") as secret:  # noqa: PT012
        secret.store(CANARY)
        owner.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    assert (caught.value.code, caught.value.permanent) == ("kept_secret_not_kept", False)
    assert CANARY not in str(caught.value)
    assert secrets.read("token") == "old"


def test_a_block_s_own_trouble_with_a_database_stays_what_it_is(secrets: ConnectionSecrets) -> None:
    with pytest.raises(psycopg.OperationalError, match="the block's"), secrets.exclusive("token") as secret:  # noqa: PT012
        secret.store("new")
        raise psycopg.OperationalError("the block's")
    assert secrets.read("token") is None


def test_who_waits_too_long_may_try_again(secrets: ConnectionSecrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_secrets, "WAIT_SECONDS", 1)
    with secrets.exclusive("token") as secret:
        with pytest.raises(SourceError, match="acme/stripe/default") as caught, secrets.exclusive("token"):
            pytest.fail("somebody else is inside")
        secret.store("new")
    assert (caught.value.code, caught.value.permanent) == ("kept_secret_busy", False)
    assert secrets.read("token") == "new"


def test_who_hangs_loses_its_turn_and_its_value(secrets: ConnectionSecrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_secrets, "HOLD_SECONDS", 1)
    entered, following = threading.Event(), []

    def wait_for_it() -> None:
        entered.wait()
        with secrets.exclusive("token") as secret:
            following.append(secret.value)
            secret.store("next")

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    with pytest.raises(SourceError, match="kept_secret_not_kept"), secrets.exclusive("token") as secret:  # noqa: PT012
        entered.set()
        secret.store("late")
        thread.join()
    assert following == [None]
    assert secrets.read("token") == "next"


def test_it_all_works_through_a_transaction_pooler(database: Database, acme: Connection, server_url: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'pooled_login'").fetchone():
            connection.execute("CREATE ROLE pooled_login LOGIN PASSWORD 'pooled'")
        connection.execute("GRANT finance_os_application, finance_os_reader TO pooled_login")
    with pgbouncer(database.url, {"pooled_login": "pooled"}) as address:
        pooled = Database(pooled_url(address, database.url, "pooled_login", "pooled"))
        count_to(30, ConnectionSecrets(pooled, acme, keys))
        with pooled.connection() as connection:
            row = connection.execute("SHOW idle_in_transaction_session_timeout").fetchone()
        assert row == {"idle_in_transaction_session_timeout": "0"}


# --- keys


def test_keys_change_without_losing_what_is_kept(database: Database, acme: Connection) -> None:
    old, new = new_key(), new_key()

    def with_keys(*given: str) -> ConnectionSecrets:
        return ConnectionSecrets(database, acme, lambda: EncryptionKeys(" , ".join(given)))

    for name in ("a", "b"):
        with with_keys(old).exclusive(name) as secret:
            secret.store(CANARY + name)
    with with_keys(new, old).exclusive("a") as secret:
        assert secret.value == f"{CANARY}a"
        secret.store("replaced")
    assert with_keys(new).read("a") == "replaced"
    with pytest.raises(SourceError, match="which is not in FINANCE_OS_ENCRYPTION_KEY") as caught:
        with_keys(new).read("b")
    assert caught.value.permanent
    assert CANARY not in str(caught.value)
    assert with_keys(new, old).seal_again() == 1
    assert with_keys(new, old).seal_again() == 0
    assert (with_keys(new).read("a"), with_keys(new).read("b")) == ("replaced", f"{CANARY}b")
    assert with_keys(new).names() == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    ["", "hunter2", f"{KEY},", f"{KEY},{KEY[:-8]}", KEY.replace(KEY[3], "*"), f"{KEY}AAAA"],
    ids=["empty", "a password", "an empty second", "a short second", "another alphabet", "too long"],
)
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SourceError, match=r"key [12] of FINANCE_OS_ENCRYPTION_KEY is not 32 bytes") as caught:
        EncryptionKeys(text)
    assert caught.value.code == "encryption_key_invalid"
    assert not text or text not in str(caught.value)


def test_a_key_without_its_padding_is_the_same_key() -> None:
    sealed = EncryptionKeys(KEY).seal(CANARY, "here")
    assert EncryptionKeys(KEY.rstrip("=")).unseal(sealed, "here") == CANARY
    for elsewhere in (("there",), (), ("here", ""), ("he", "re")):
        with pytest.raises(SourceError):
            EncryptionKeys(KEY).unseal(sealed, *elsewhere)
    for cut in (0, 5, 20, 25):
        with pytest.raises(SourceError):
            EncryptionKeys(KEY).unseal(sealed[:cut], "here")


def test_a_database_of_ones_own_needs_a_key(
    database: Database, acme: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apply(key: str | None) -> ConnectionSecrets:
        monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path))
        monkeypatch.setenv("FINANCE_OS_ENCRYPTION_KEY", key or "")
        settings_module.settings.cache_clear()
        return ConnectionSecrets(database, acme)

    try:
        kept = apply(None)
        assert kept.read("token") is None
        with pytest.raises(SourceError, match="`finance-os keys new`") as caught, kept.exclusive("token"):
            pytest.fail("nothing may be asked for that cannot be kept")
        assert (caught.value.code, caught.value.permanent) == ("encryption_key_missing", True)
        assert list(tmp_path.iterdir()) == []
        with apply(KEY).exclusive("token") as secret:
            secret.store(CANARY)
        assert ConnectionSecrets(database, acme, keys).read("token") == CANARY
        assert KEY not in repr(settings_module.settings())
    finally:
        settings_module.settings.cache_clear()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The home of an installation with an embedded database of its own."""
    # Not beneath pytest's own folder: each session closes that one to other users, such as the server's.
    with tempfile.TemporaryDirectory(prefix="finance-os-home-") as name:
        server = embedded.start(Path(name) / "postgres")
        server.cleanup_mode = "delete"
        yield Path(name)
        server.cleanup()


def test_the_embedded_database_has_a_key_beside_it(home: Path, database: Database) -> None:
    url = embedded.ensure_database(embedded.start(home / "postgres"), "finance_os")
    # Processes begin at once, and each of them finds no key: they must end up with one.
    program = f"""
        import sys
        from finance_os.evidence.database import Database
        from finance_os.settings import Settings
        from finance_os.sources.sealing import encryption_keys

        print("ready", flush=True)
        sys.stdin.readline()
        print(encryption_keys(Database({url!r}), Settings(home={str(home)!r}, encryption_key=None)))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = {process.communicate("go\n")[0] for process in processes}
    here = Settings(home=home, encryption_key=None)
    assert said == {f"{encryption_keys(Database(url), here)!r}\n"}
    path = home / "encryption.key"
    assert path.stat().st_mode & 0o7777 == 0o600
    assert sorted(entry.name for entry in home.iterdir()) == ["encryption.key", "postgres"]

    with pytest.raises(SourceError, match="encryption_key_missing"):
        encryption_keys(database, here)  # on another server, whatever runs here
    path.chmod(0o644)
    with pytest.raises(SourceError, match="secret_file_exposed"):
        encryption_keys(Database(url), here)
    path.chmod(0o600)
    path.write_bytes(b"\xff")
    with pytest.raises(SourceError, match="encryption_key_invalid"):
        encryption_keys(Database(url), here)


def test_a_key_file_that_leads_nowhere_is_not_replaced(home: Path, tmp_path: Path) -> None:
    url = embedded.ensure_database(embedded.start(home / "postgres"), "finance_os")
    elsewhere = tmp_path / "home"
    elsewhere.mkdir()
    (elsewhere / "postgres").symlink_to(home / "postgres")
    (elsewhere / "encryption.key").symlink_to("/proc/there/is/no/such/file")
    with pytest.raises(SourceError, match="secret_not_found"):
        encryption_keys(Database(url), Settings(home=elsewhere, encryption_key=None))
    assert sorted(os.listdir(elsewhere)) == ["encryption.key", "postgres"]


def test_a_private_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match=r"file/encryption\.key could not be made") as caught:
        create_private(tmp_path / "file" / "encryption.key", b"")
    assert (caught.value.code, caught.value.permanent) == ("secret_file_not_made", True)
