"""Tokens of QuickBooks: kept, renewed by one process at a time, committed before they are used."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from finance_os.evidence.businesses import Connection, active_connections, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.evidence.windows import Days
from finance_os.sandbox.faults import Rule
from finance_os.sources.credentials import Credentials, KeptSecrets
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.quickbooks.client import connect
from finance_os.sources.quickbooks.tokens import MARGIN, Granted, Tokens
from finance_os.sources.sealing import EncryptionKeys, new_key
from finance_os_tests.sources.kept import MemorySecret, MemorySecrets
from finance_os_tests.sources.test_quickbooks import QUICK, UNTIL, Company, company

TODAY = Days(UNTIL.date(), UNTIL.date())


@pytest.fixture
def own() -> Iterator[Company]:
    with company(size=1) as served:
        yield served


def read(served: Company) -> str:
    """Read something; the source ID of the company."""
    (record,) = served.records("quickbooks_company_info", TODAY)
    return record.source_id


def renewals(served: Company) -> int:
    return served.faults.requests["POST", f"{served.prefix}/oauth2/v1/tokens/bearer"]


def kept_tokens(kept: KeptSecrets) -> dict[str, Any]:
    return msgspec.json.decode(kept.read("tokens") or "null")


# --- with the sandbox


def test_tokens_are_asked_for_once_and_kept(own: Company) -> None:
    given = own.refresh_token
    assert read(own) == own.room.realm_id
    assert renewals(own) == 1
    kept = kept_tokens(own.kept)
    assert kept.keys() == {"refresh_token", "access_token", "expires_at", "from"}
    assert kept["refresh_token"] == own.room.connection.refresh_token != given
    assert given not in (own.kept.read("tokens") or "")
    assert abs(kept["expires_at"] - datetime.now(UTC).timestamp() - 3_600) < 60
    for _ in range(3):
        read(own)
    assert renewals(own) == 1
    assert len(own.kept.stored) == 1
    assert own.sent == {"GET 127.0.0.1": 1}


def test_the_newest_refresh_token_is_used_when_the_access_token_is_over(own: Company) -> None:
    for number in range(1, 4):
        read(own)
        assert renewals(own) == number
        kept = kept_tokens(own.kept)
        assert kept["refresh_token"] == own.room.connection.refresh_token
        with own.kept.exclusive("tokens") as secret:
            secret.store(msgspec.json.encode({**kept, "expires_at": 0}).decode())


def test_an_access_token_that_is_refused_before_its_time_is_replaced_once(own: Company) -> None:
    read(own)
    own.change("expire_access_tokens")
    own.asked.clear()
    assert read(own) == own.room.realm_id
    assert renewals(own) == 2
    assert len(own.asked) == 2
    read(own)
    assert renewals(own) == 2


def test_a_revoked_connection_says_what_to_do(own: Company) -> None:
    read(own)
    own.change("revoke")
    with pytest.raises(SourceError) as failed:
        read(own)
    assert (failed.value.code, failed.value.permanent) == ("authorization_expired", True)
    assert "connect the app to the company again" in failed.value.message
    assert "FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN" in failed.value.message
    assert renewals(own) == 2, "it is not tried again"
    # The operator sets a new one, which wins over what is kept.
    own.refresh_token = own.change("reconnect")["refresh_token"]
    assert read(own) == own.room.realm_id
    assert kept_tokens(own.kept)["refresh_token"] == own.room.connection.refresh_token
    read(own)
    assert renewals(own) == 3


def test_a_new_refresh_token_of_the_operator_wins_though_what_is_kept_is_good(own: Company) -> None:
    read(own)
    own.refresh_token = own.change("reconnect")["refresh_token"]
    own.asked.clear()
    read(own)
    assert own.asked == [own.room.realm_id], "the old access token was not tried"
    assert renewals(own) == 2


def test_a_wrong_secret_is_told_from_an_expired_authorization(own: Company) -> None:
    own.options["FINANCE_OS_QUICKBOOKS_CLIENT_SECRET"] = "wrong"
    with pytest.raises(SourceError, match="CLIENT_SECRET is wrong") as failed:
        read(own)
    assert (failed.value.code, failed.value.permanent) == ("unauthorized", True)


@pytest.mark.parametrize("kind", ["429", "500", "timeout", "truncated", "drop_connection"])
@pytest.mark.parametrize("path", ["*/.well-known/*", "*/tokens/bearer"])
def test_a_fault_on_the_way_to_a_token_changes_nothing(own: Company, kind: Any, path: str) -> None:
    own.script(Rule(path, kind))
    assert read(own) == own.room.realm_id
    assert kept_tokens(own.kept)["refresh_token"] == own.room.connection.refresh_token
    own.change("expire_access_tokens")
    assert read(own) == own.room.realm_id


def test_a_lost_answer_to_a_renewal_is_asked_for_again_with_the_kept_token(own: Company) -> None:
    read(own)
    kept = kept_tokens(own.kept)
    own.change("expire_access_tokens")
    own.script(Rule("*/tokens/bearer", "truncated", times=QUICK.attempts))
    with pytest.raises(SourceError, match="unreadable_answer"):
        read(own)
    assert own.room.connection.refresh_token != kept["refresh_token"], "Intuit did grant it"
    assert kept_tokens(own.kept) == kept
    own.faults.clear()
    assert read(own) == own.room.realm_id


def test_a_process_that_dies_before_the_commit_loses_nothing(own: Company) -> None:
    read(own)
    kept = kept_tokens(own.kept)
    own.change("expire_access_tokens")

    class Dying(MemorySecrets):
        @contextmanager
        def exclusive(self, name: str) -> Iterator[MemorySecret]:
            with super().exclusive(name) as secret:
                yield secret
                if secret.stored is not None:
                    raise KeyboardInterrupt

    healthy, own.kept = own.kept, Dying({"tokens": own.kept.read("tokens") or ""})
    own.asked.clear()
    with pytest.raises(KeyboardInterrupt):
        read(own)
    assert len(own.asked) == 1, "the new token was not used"
    assert own.room.connection.refresh_token != kept["refresh_token"]
    own.kept = healthy
    assert read(own) == own.room.realm_id


# --- several at once


def test_two_clients_at_once_renew_once(own: Company) -> None:
    for _ in range(5):
        before = renewals(own)
        together = threading.Barrier(4)

        def one(together: threading.Barrier = together) -> int:
            together.wait()
            with own.reader() as reader:
                return reader.get("preferences", {}, "Preferences", lambda: UNTIL, len).value

        with ThreadPoolExecutor(4) as threads:
            assert {future.result() for future in [threads.submit(one) for _ in range(4)]} == {2}
        assert renewals(own) == before + 1
        assert kept_tokens(own.kept)["refresh_token"] == own.room.connection.refresh_token
        own.change("expire_access_tokens")


WORKER = """
import sys
from finance_os.evidence.businesses import active_connections
from finance_os.evidence.database import Database
from finance_os.sources.credentials import Credentials
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.quickbooks.client import connect
from finance_os.sources.sealing import EncryptionKeys
import msgspec
from datetime import UTC, datetime

url, key, values = sys.argv[1], sys.argv[2], msgspec.json.decode(sys.argv[3])
database = Database(url)
(connection,) = active_connections(database, "quickbooks")
kept = ConnectionSecrets(database, connection, lambda: EncryptionKeys(key))
print("ready", flush=True)
sys.stdin.readline()
with connect(Credentials(values, kept)) as reader:
    for _ in range(3):
        reader.get("preferences", {}, "Preferences", lambda: datetime.now(UTC), len)
print(reader.sent())
"""


def test_processes_at_once_renew_once_through_the_database(own: Company, database: Database, acme: Connection) -> None:
    del acme  # of another source system
    ensure_connection(database, "acme", "quickbooks")
    key = new_key()
    values = own.room.env(own.base) | {"FINANCE_OS_QUICKBOOKS_RATE_LIMIT": "100000"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, database.url, key, msgspec.json.encode(values).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    sent = [worker.communicate(timeout=60)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    # One of them asked for the discovery document and renewed; the other one found what it had kept.
    assert sorted(sent) == ["{'GET 127.0.0.1': 3}", "{'GET 127.0.0.1': 4, 'POST 127.0.0.1': 1}"]
    assert renewals(own) == 1
    (connection,) = active_connections(database, "quickbooks")
    kept = kept_tokens(ConnectionSecrets(database, connection, lambda: EncryptionKeys(key)))
    assert kept["refresh_token"] == own.room.connection.refresh_token


# --- the rule itself, by a clock that a test moves


class Intuit:
    """Grants tokens for the newest refresh token."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def renew(self, refresh_token: str) -> Granted:
        self.asked.append(refresh_token)
        number = len(self.asked)
        return Granted(f"refresh-{number}", f"access-{number}", 3_600)


def test_an_access_token_is_used_until_shortly_before_its_end() -> None:
    intuit, kept, moment = Intuit(), MemorySecrets(), [1_000.0]

    def tokens(given: str = "given") -> Tokens:
        return Tokens(kept, given, intuit.renew, lambda: moment[0])

    first = tokens()
    assert first.access() == "access-1"
    moment[0] += 3_600 - MARGIN - 1
    assert first.access() == tokens().access() == "access-1"
    moment[0] += 1
    assert tokens().access() == "access-2"
    assert first.access() == "access-2", "another one has renewed it"
    assert intuit.asked == ["given", "refresh-1"]
    assert tokens().access(refused="access-1") == "access-2"
    assert tokens().access(refused="access-2") == "access-3"
    assert tokens("other").access() == "access-4"
    assert intuit.asked == ["given", "refresh-1", "refresh-2", "other"]
    assert tokens("other").access() == "access-4"
    assert tokens().access() == "access-5", "back to the first one: it wins again"


def test_a_new_token_is_committed_before_it_is_given_out() -> None:
    intuit, seen = Intuit(), list[str | None]()

    class Watching(MemorySecrets):
        @contextmanager
        def exclusive(self, name: str) -> Iterator[MemorySecret]:
            seen.append("in")
            with super().exclusive(name) as secret:
                yield secret
            seen.append("committed")

    kept = Watching()
    seen.append(Tokens(kept, "given", intuit.renew).access())
    assert seen == ["in", "committed", "access-1"]
    assert kept_tokens(kept)["access_token"] == "access-1"


@pytest.mark.parametrize("value", ["", "{}", "nonsense", '{"refresh_token": 1}', "[]"])
def test_what_was_kept_in_another_form_is_begun_anew(value: str) -> None:
    intuit = Intuit()
    assert Tokens(MemorySecrets({"tokens": value}), "given", intuit.renew).access() == "access-1"
    assert intuit.asked == ["given"]


def test_a_failed_renewal_keeps_what_was_kept() -> None:
    def renew(refresh_token: str) -> Granted:
        raise SourceError("vendor_error", "no")

    kept = MemorySecrets()
    Tokens(kept, "given", Intuit().renew).access()
    before = kept.read("tokens")
    with pytest.raises(SourceError, match="vendor_error"):
        Tokens(kept, "given", renew).access(refused="access-1")
    assert kept.read("tokens") == before


def test_nothing_is_sent_by_connecting(own: Company) -> None:
    with connect(own.credentials, QUICK) as reader:
        assert reader.sent() == {}
    assert not own.faults.requests
    with connect(Credentials(own.room.env(own.base), own.kept)) as reader:
        assert reader.sent() == {}
