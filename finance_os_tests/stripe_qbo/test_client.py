"""The writing client: its guard, its credentials, and what each answer means."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from finance_os.evidence.businesses import Connection, active_connections, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import ForbiddenRequest
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.quickbooks.client import connect as connect_reader
from finance_os.sources.quickbooks.faults import QuickBooksFailure
from finance_os.sources.sealing import EncryptionKeys, new_key
from finance_os.stripe_qbo.answers import NotSent, Refused, UnknownAnswer
from finance_os.stripe_qbo.authorization import NEEDED
from finance_os.stripe_qbo.connecting import connect
from finance_os.stripe_qbo.guard import WriteGuard
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.lookup import ENTITIES
from finance_os_tests.sources.kept import MemorySecrets
from finance_os_tests.stripe_qbo.books import QUICK, Books, Loss, books

CUSTOMER = ENTITIES["Customer"]
BASE = "https://quickbooks.example/c0/quickbooks"
HOME = f"{BASE}/v3/company/77"


@pytest.fixture(scope="module")
def company() -> Iterator[Books]:
    with books() as served:
        yield served


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", f"{HOME}/customer?requestid=1&minorversion=75"),
        ("POST", f"{HOME}/invoice?requestid=1"),
        ("POST", f"{HOME}/invoice?requestid=1&operation=void&minorversion=75"),
        ("POST", f"{HOME}/payment?requestid=1&operation=update&include=void"),
        ("GET", f"{HOME}/query?query=select&minorversion=75"),
        ("GET", f"{HOME}/invoice/12?minorversion=75"),
    ],
)
def test_the_declared_writes_are_let_through(method: str, url: str) -> None:
    guard = WriteGuard(BASE, "77")
    guard.admit(method, url)
    assert sum(guard.sent().values()) == 1


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", f"{HOME}/customer"),  # no requestid
        ("POST", f"{HOME}/customer?requestid="),
        ("POST", f"{HOME}/customer?requestid=1&requestid=2"),
        ("POST", f"{HOME}/invoice?requestid=1&operation=delete"),
        ("POST", f"{HOME}/invoice?requestid=1&operation=update&include=void"),
        ("POST", f"{HOME}/customer?requestid=1&operation=void"),
        ("POST", f"{HOME}/deposit?requestid=1&operation=void"),
        ("POST", f"{HOME}/invoice/1?requestid=1"),
        ("POST", f"{HOME}/invoice/1/send?requestid=1"),
        ("POST", f"{HOME}/vendor?requestid=1"),
        ("POST", f"{HOME}/preferences?requestid=1"),
        ("POST", f"{HOME}/batch?requestid=1"),
        ("POST", f"{HOME}/query?requestid=1"),
        ("POST", f"{BASE}/v3/company/78/customer?requestid=1"),
        ("POST", f"{BASE}/v3/company/77/../78/customer?requestid=1"),
        ("POST", "https://other.example/c0/quickbooks/v3/company/77/customer?requestid=1"),
        ("POST", "http://quickbooks.example/c0/quickbooks/v3/company/77/customer?requestid=1"),
        ("POST", "https://quickbooks.example/v3/company/77/customer?requestid=1"),
        ("PUT", f"{HOME}/customer?requestid=1"),
        ("DELETE", f"{HOME}/customer/1"),
        ("GET", f"{HOME}/customer"),
        ("GET", f"{HOME}/vendor/1"),
        ("GET", f"{HOME}/reports/TrialBalance"),
        ("GET", f"{BASE}/v3/company/78/query"),
    ],
)
def test_nothing_else_is_sent(method: str, url: str) -> None:
    guard = WriteGuard(BASE, "77")
    with pytest.raises(ForbiddenRequest):
        guard.admit(method, url)
    assert guard.sent() == {}


def test_the_guard_stands_beneath_the_client(company: Books) -> None:
    with company.writer() as writer:
        before = company.before.writes
        with pytest.raises(ForbiddenRequest):
            writer.http.post(f"/v3/company/{company.realm}/vendor", params={"requestid": "1"})
        assert (company.before.writes, writer.sent()) == (before, {})


def test_an_answer_is_the_object_and_intuits_id(company: Books) -> None:
    with company.writer() as writer:
        body = {"DisplayName": "First"}
        written = writer.write(CUSTOMER, Operation.CREATE, body, "client-1")
        again = writer.write(CUSTOMER, Operation.CREATE, body, "client-1")
        assert again.held["Id"] == written.held["Id"]
        assert written.intuit_tid.startswith("1-")
        assert writer.read(CUSTOMER, written.held["Id"]) == written.held
        assert writer.read(CUSTOMER, "999999") is None
        assert [each["Id"] for each in writer.among(CUSTOMER, [written.held["Id"], "999999"])] == [written.held["Id"]]
        assert writer.sent() == {"POST customer": 2, "GET customer": 2, "GET query": 1}


def test_what_each_answer_means(company: Books) -> None:
    with company.writer(replace(QUICK, read=0.3)) as writer:
        with pytest.raises(Refused) as refused:
            writer.write(CUSTOMER, Operation.CREATE, {"DisplayName": "a:b"}, "client-2")
        assert (refused.value.fault, refused.value.intuit_tid[:2]) == ("2040", "1-")
        assert "a:b" not in str(refused.value)
        for number, loss in enumerate(Loss):
            company.before.losses = deque([loss])
            writes = company.before.writes
            with pytest.raises(UnknownAnswer):
                writer.write(CUSTOMER, Operation.CREATE, {"DisplayName": f"Lost {number}"}, f"client-lost-{number}")
            assert company.before.writes == writes + 1  # never sent again by itself
    with connect(Credentials(company.values, company.kept), "1", QUICK) as writer:
        with pytest.raises(QuickBooksFailure) as raised:
            writer.write(CUSTOMER, Operation.CREATE, {"DisplayName": "Elsewhere"}, "client-3")
        assert (raised.value.code, writer.sent()) == ("forbidden", {"POST customer": 1})


def test_a_read_is_asked_again_until_it_can_be_read(company: Books) -> None:
    from finance_os.sandbox.faults import Faults, Rule

    with books() as shaky:
        faults = Faults(shaky.before.app, shaky.room.fault)
        faults.script([Rule(path="*/query", kind="500"), Rule(path="*/query", kind="truncated", on=2)])
        shaky.before.app = faults
        with shaky.writer() as writer:
            assert writer.query(CUSTOMER, {"DisplayName": "Nobody"}) == []
            assert writer.sent() == {"GET query": 3}
            faults.script([Rule(path="*/query", kind="500", times=9)])
            with pytest.raises(QuickBooksFailure, match="500"):
                writer.query(CUSTOMER, {"DisplayName": "Nobody"})


def test_no_connection_is_nothing_sent() -> None:
    with books() as gone:
        pass
    with gone.writer() as writer, pytest.raises(QuickBooksFailure) as signing_in:
        writer.write(CUSTOMER, Operation.CREATE, {"DisplayName": "Before"}, "client-4")
    assert signing_in.value.code == "unreachable"  # not even a token could be had

    def refuse(*_: object, **__: object) -> None:
        raise httpx.ConnectError("no route")

    with books() as lost, lost.writer() as writer:
        writer.write(CUSTOMER, Operation.CREATE, {"DisplayName": "Before"}, "client-4")
        writer.http.request = refuse  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(NotSent):
            writer.write(CUSTOMER, Operation.CREATE, {"DisplayName": "After"}, "client-5")


def test_settings_that_are_none_are_refused(company: Books) -> None:
    for name, value in (
        ("FINANCE_OS_QUICKBOOKS_API_BASE", "ftp://x"),
        ("FINANCE_OS_QUICKBOOKS_API_BASE", "http://u:p@x"),
        ("FINANCE_OS_QUICKBOOKS_DISCOVERY_URL", "https://x/y"),
        ("FINANCE_OS_QUICKBOOKS_RATE_LIMIT", "0"),
    ):
        credentials = Credentials({**company.values, name: value}, company.kept)
        with pytest.raises(SourceError, match=name), connect(credentials, "77"):
            pass
    with pytest.raises(SourceError, match="realm"), connect(Credentials(company.values, company.kept), "a/b"):
        pass
    intuit = {
        **company.values,
        "FINANCE_OS_QUICKBOOKS_DISCOVERY_URL": "https://developer.api.intuit.com/.well-known/openid_configuration",
    }
    with pytest.raises(SourceError, match="https"), connect(Credentials(intuit, company.kept), "77"):
        pass


def test_reads_and_writes_have_tokens_of_their_own(company: Books, database: Database, acme: Connection) -> None:
    """Both are kept encrypted for the same connection, and neither ends the other's."""
    ensure_connection(database, "acme", "quickbooks")
    (connection,) = active_connections(database, "quickbooks")
    key = new_key()
    kept = ConnectionSecrets(database, connection, lambda: EncryptionKeys(key))
    given = company.change("connect_writer")["refresh_token"]
    values = {
        **company.room.env(company.base),
        **company.values,
        "FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN": given,
        "FINANCE_OS_QUICKBOOKS_RATE_LIMIT": "100000",
    }
    credentials = Credentials(values, kept)
    with connect(credentials, company.realm, QUICK) as writer, connect_reader(credentials, QUICK) as reader:
        for _ in range(2):
            assert writer.query(CUSTOMER, {"DisplayName": "Nobody"}) == []
            reader.get("preferences", {}, "Preferences", lambda: connection, len)  # pyright: ignore[reportArgumentType]
            company.change("expire_access_tokens")
        assert writer.query(CUSTOMER, {"DisplayName": "Nobody"}) == []
    assert kept.names() == ["tokens", "write_tokens"]
    rows = database.fetch("SELECT ciphertext FROM finance_os.connection_secrets")
    assert all(given.encode() not in bytes(row["ciphertext"]) for row in rows)
    writing = company.room.connection.writer
    assert writing is not None
    assert writing.refresh_token != given  # rotated
    assert writing.refresh_token in (kept.read("write_tokens") or "")
    assert writing.refresh_token not in (kept.read("tokens") or "")


def test_a_token_that_is_over_names_the_writing_side(company: Books) -> None:
    values = {**company.values, "FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN": "gone"}
    with connect(Credentials(values, MemorySecrets()), company.realm, QUICK) as writer:
        with pytest.raises(SourceError) as raised:
            writer.write(CUSTOMER, Operation.CREATE, {"DisplayName": "X"}, "client-6")
        assert raised.value.code == "authorization_expired"
        assert NEEDED[2] in str(raised.value)
        assert "FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN" not in str(raised.value)
        assert writer.sent() == {}
