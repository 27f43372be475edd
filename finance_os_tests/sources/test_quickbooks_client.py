"""The QuickBooks client: the guard beneath it, faults, waits, the call meter, shapes, and what must never leak.

The server here is a fake: it answers what is scripted, because the sandbox does not misbehave in these ways.
"""

import base64
import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import ReadOnlyGuard
from finance_os.sources.quickbooks import QUICKBOOKS, answers, client, oauth
from finance_os.sources.quickbooks.client import Patience, QuickBooksReader, connect
from finance_os.sources.quickbooks.objects import READS
from finance_os.sources.transports import GuardedTransport
from finance_os_tests.sources.kept import MemorySecrets

CLIENT_SECRET = "canarysecret0123456789"
REFRESH = "AB11canaryrefresh"
ACCESS = "canaryaccesstoken"
EMAIL = "canary.person@example.com"
REALM = "9130000000000042"
SECRETS = (CLIENT_SECRET, REFRESH, ACCESS, EMAIL)
QUICK = Patience(connect=2, read=0.5, attempts=3, first_wait=0.01, longest_wait=0.2, throttled=0.02)
INVOICE = QUICKBOOKS.object("quickbooks_invoice").detail


def now() -> datetime:
    return datetime(2026, 7, 1, tzinfo=UTC)


@dataclass
class Reply:
    """One scripted answer. `length` other than the body's own cuts the connection short."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass
class Fake:
    """A server that gives its replies in turn, the last one for ever, and keeps what it was asked.

    The discovery document and the token endpoint work by themselves, unless a reply is scripted for their path.
    """

    base: str
    replies: list[Reply] = field(default_factory=list)
    by_path: dict[str, Reply] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    kept: MemorySecrets = field(default_factory=MemorySecrets)

    def __post_init__(self) -> None:
        self.discover(f"{self.base}/oauth2/v1/tokens/bearer")
        granted = {"refresh_token": REFRESH + "2", "access_token": ACCESS, "expires_in": 3_600, "token_type": "bearer"}
        self.by_path["/oauth2/v1/tokens/bearer"] = Reply(json.dumps(granted).encode())

    def discover(self, token_endpoint: str) -> None:
        names = ("authorization", "token", "revocation", "userinfo")
        document = {f"{name}_endpoint": f"{self.base}/{name}" for name in names}
        document |= {"token_endpoint": token_endpoint, "issuer": "intuit", "jwks_uri": f"{self.base}/jwks"}
        self.by_path["/.well-known/openid_configuration"] = Reply(json.dumps(document).encode())

    def reply(self, body: Any, status: int = 200, **headers: str) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.replies.append(Reply(text, status, {name.replace("_", "-"): value for name, value in headers.items()}))

    def read(self, patience: Patience = QUICK, **options: str) -> AbstractContextManager[QuickBooksReader]:
        values = {
            "FINANCE_OS_QUICKBOOKS_CLIENT_ID": "AB",
            "FINANCE_OS_QUICKBOOKS_CLIENT_SECRET": CLIENT_SECRET,
            "FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN": REFRESH,
            "FINANCE_OS_QUICKBOOKS_REALM_ID": REALM,
            "FINANCE_OS_QUICKBOOKS_API_BASE": self.base,
            "FINANCE_OS_QUICKBOOKS_DISCOVERY_URL": f"{self.base}/.well-known/openid_configuration",
            "FINANCE_OS_QUICKBOOKS_RATE_LIMIT": "100000",
        }
        return connect(Credentials({**values, **options}, self.kept), patience)

    def requests(self, path: str = "/v3/") -> list[tuple[str, str, dict[str, str]]]:
        return [each for each in self.asked if each[1].startswith(path)]


def _serve() -> Iterator[Fake]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if length := int(self.headers.get("Content-Length") or 0):
                self.rfile.read(length)
            fake.asked.append((self.command, self.path, dict(self.headers.items())))
            reply = fake.by_path.get(urlsplit(self.path).path)
            if reply is None:
                reply = fake.replies.pop(0) if len(fake.replies) > 1 else fake.replies[0]
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
            self.end_headers()
            self.wfile.write(reply.body)
            self.close_connection = reply.length is not None

        do_GET = do_POST = do_DELETE = do_PUT = answer  # noqa: N815 (names that http.server looks for)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    fake = Fake(f"http://127.0.0.1:{server.server_port}")
    yield fake
    server.shutdown()
    server.server_close()


fake = pytest.fixture(_serve)
elsewhere = pytest.fixture(_serve)


def counted(reader: QuickBooksReader) -> int:
    return answers.count(reader, INVOICE, (), now)


def invoice(number: int, updated: str = "2026-06-30T10:00:00-07:00", **fields: Any) -> dict[str, Any]:
    times = {"CreateTime": "2026-06-01T10:00:00-07:00", "LastUpdatedTime": updated}
    return {"Id": str(number), "SyncToken": "0", "MetaData": times, **fields}


def page(*items: Any, name: str = "Invoice") -> dict[str, Any]:
    return {"QueryResponse": {name: list(items), "startPosition": 1, "maxResults": len(items)}, "time": "now"}


SPAN = (int(datetime(2026, 6, 30, tzinfo=UTC).timestamp()), int(datetime(2026, 7, 1, tzinfo=UTC).timestamp()))


def selected(reader: QuickBooksReader) -> list[answers.Row]:
    where = answers.within(*SPAN)
    return answers.select(reader, INVOICE, where, now, order=answers.BY_CHANGE, size=10, span=SPAN).value


# --- the guard

Write: TypeAlias = Callable[[QuickBooksReader], object]
WRITES: dict[str, Write] = {
    "an invoice": lambda reader: reader.http.post(f"/v3/company/{REALM}/invoice", json={"Line": []}),
    "a batch": lambda reader: reader.http.post(f"/v3/company/{REALM}/batch", json={}),
    "a query by POST": lambda reader: reader.http.post(f"/v3/company/{REALM}/query", content="select"),
    "a deletion": lambda reader: reader.http.delete(f"/v3/company/{REALM}/invoice/1"),
    "a single invoice": lambda reader: reader.http.get(f"/v3/company/{REALM}/invoice/1"),
    "out of the folder": lambda reader: reader.http.get(f"/v3/company/{REALM}/%2e%2e/query"),
    "another version": lambda reader: reader.http.get(f"/v4/company/{REALM}/query"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
def test_what_is_no_declared_read_is_refused_by_the_client_itself(fake: Fake, write: Write) -> None:
    fake.reply({})
    with fake.read() as reader:
        with pytest.raises(SourceError) as refused:
            write(reader)
        assert (refused.value.code, refused.value.permanent) == ("write_refused", True)
        assert reader.sent() == {}
    assert fake.asked == []


def test_beneath_the_client_nothing_but_reads_passes_either(fake: Fake, elsewhere: Fake) -> None:
    guard = ReadOnlyGuard(READS, {"api": fake.base, "discovery": fake.base, "oauth": fake.base})
    with httpx.Client(transport=GuardedTransport(guard)) as http:
        for method, url in (
            ("POST", f"{fake.base}/v3/company/{REALM}/invoice"),
            ("POST", f"{fake.base}/v3/company/{REALM}/invoice?operation=delete"),
            ("GET", f"{elsewhere.base}/v3/company/{REALM}/query"),
            ("POST", f"{fake.base}/v2/oauth2/tokens/revoke"),
        ):
            with pytest.raises(SourceError, match="write_refused"):
                http.request(method, url)
    assert fake.asked == elsewhere.asked == []
    assert guard.sent() == {}


def test_intuits_client_is_beneath_the_guard_too(fake: Fake, elsewhere: Fake) -> None:
    fake.reply({})
    guard = ReadOnlyGuard(READS, {"api": fake.base, "discovery": fake.base, "oauth": fake.base})
    adapter = oauth._TimedAdapter(guard, (1, 1))
    session = oauth._GuardedClient(adapter, "AB", CLIENT_SECRET, f"{fake.base}/.well-known/openid_configuration")
    assert [path for _, path, _ in fake.asked] == ["/.well-known/openid_configuration"]
    for call in (
        lambda: session.post(f"{fake.base}/v3/company/{REALM}/invoice", json={}),
        lambda: session.revoke(REFRESH),
        lambda: session.get_user_info(ACCESS),
        lambda: session.get(f"{elsewhere.base}/.well-known/openid_configuration"),
    ):
        with pytest.raises(SourceError, match="write_refused"):
            call()
    assert len(fake.asked) == 1
    assert elsewhere.asked == []


def test_a_discovery_document_cannot_lead_the_secret_elsewhere(fake: Fake, elsewhere: Fake) -> None:
    fake.discover(f"{elsewhere.base}/oauth2/v1/tokens/bearer")
    with fake.read() as reader, pytest.raises(SourceError, match="write_refused"):
        counted(reader)
    fake.discover(f"{fake.base}/v2/oauth2/tokens/revoke")
    with fake.read() as reader, pytest.raises(SourceError, match="write_refused"):
        counted(reader)
    assert elsewhere.asked == []


@pytest.mark.parametrize("path", ["/.well-known/openid_configuration", "/oauth2/v1/tokens/bearer"])
def test_a_redirect_is_not_followed_out_of_the_reads(fake: Fake, elsewhere: Fake, path: str) -> None:
    fake.by_path[path] = Reply(b"", 307, {"Location": f"{elsewhere.base}{path}"})
    with fake.read() as reader, pytest.raises(SourceError, match="write_refused"):
        counted(reader)
    assert elsewhere.asked == []


def test_an_id_token_is_not_checked_past_the_guard(fake: Fake) -> None:
    parts = [{"kid": "1"}, {"iss": "intuit", "aud": ["AB"], "exp": 9_999_999_999}]
    encoded = ".".join(base64.b64encode(json.dumps(part).encode()).decode() for part in parts) + ".x"
    granted = json.loads(fake.by_path["/oauth2/v1/tokens/bearer"].body) | {"id_token": encoded}
    fake.by_path["/oauth2/v1/tokens/bearer"] = Reply(json.dumps(granted).encode())
    fake.by_path["/jwks"] = Reply(b'{"keys": []}')
    fake.reply({"QueryResponse": {"totalCount": 3}})
    with fake.read() as reader:
        assert counted(reader) == 3
    assert not fake.requests("/jwks")


def test_intuits_own_tokens_come_from_intuit_only() -> None:
    for host in ("developer.intuit.com", "developer.api.intuit.com"):
        assert oauth.token_origin(f"https://{host}/.well-known/openid_configuration") == oauth.INTUIT
    for host in ("intuit.com.example.org", "notintuit.com"):
        assert oauth.token_origin(f"https://{host}/x/.well-known/openid") == f"https://{host}/x"


# --- requests


def test_each_request_bears_the_token_and_the_minor_version(fake: Fake) -> None:
    fake.reply({"QueryResponse": {"totalCount": 3}})
    with fake.read() as reader:
        assert counted(reader) == 3
        assert reader.sent() == {"GET 127.0.0.1": 2, "POST 127.0.0.1": 1}
    ((method, path, headers),) = fake.requests()
    assert method == "GET"
    asked = urlsplit(path)
    assert asked.path == f"/v3/company/{REALM}/query"
    assert parse_qs(asked.query) == {"query": ["SELECT COUNT(*) FROM Invoice"], "minorversion": ["75"]}
    found = {name.lower(): value for name, value in headers.items()}
    assert (found["authorization"], found["accept"]) == (f"Bearer {ACCESS}", "application/json")
    ((_, _, headers),) = fake.requests("/oauth2")
    assert {name.lower() for name in headers} >= {"authorization"}
    assert headers["Authorization"].startswith("Basic ")


def test_numbers_stay_exact(fake: Fake) -> None:
    body = json.dumps(page(invoice(1))).replace('"SyncToken": "0"', '"SyncToken": "0", "TotalAmt": 0.10, "Rate": 1e2')
    fake.reply(body.encode())
    with fake.read() as reader:
        (row,) = selected(reader)
    assert isinstance(row.body["TotalAmt"], Decimal)
    assert str(row.body["TotalAmt"]) == "0.10"


# --- faults


def fault(code: str, type_: str = "ValidationFault", *, gateway: bool = False) -> dict[str, Any]:
    error = {"code": code, "element": "Line"}
    texts = {"Message": f"{EMAIL} owes", "Detail": f"Duplicate name {EMAIL}"}
    if gateway:
        return {"fault": {"error": [error | {name.lower(): text for name, text in texts.items()}], "type": type_}}
    return {"Fault": {"Error": [error | texts], "type": type_}, "time": "2026"}


@pytest.mark.parametrize(
    ("status", "body", "code", "permanent", "named"),
    [
        (400, fault("4001"), "invalid_request", True, "fault 4001, type ValidationFault"),
        (400, fault("610"), "missing", True, "fault 610"),
        (400, fault("3100"), "forbidden", True, "fault 3100"),
        (400, fault("3001"), "rate_limited", False, "fault 3001"),
        (429, fault("3001", "SERVICE", gateway=True), "rate_limited", False, "answered 429, fault 3001, type SERVICE"),
        (403, fault("3100", "SERVICE", gateway=True), "forbidden", True, "answered 403, fault 3100"),
        (403, b"<html>", "forbidden", True, "answered 403"),
        (401, fault("3200", "AUTHENTICATION", gateway=True), "unauthorized", True, "answered 401, fault 3200"),
        (500, fault("10000", "SystemFault"), "vendor_error", False, "fault 10000, type SystemFault"),
        (503, b"", "vendor_error", False, "answered 503"),
        (302, b"", "invalid_request", True, "answered 302"),
        (200, fault("4001"), "invalid_request", True, "fault 4001"),
        (200, fault("10000", "SystemFault"), "vendor_error", False, "fault 10000"),
        (400, {"Fault": {"Error": [{"code": EMAIL}], "type": EMAIL}}, "invalid_request", True, "answered 400"),
        (400, {"Fault": {"Error": "nonsense"}}, "invalid_request", True, "answered 400"),
    ],
)
def test_faults_become_errors_to_act_on(
    fake: Fake, status: int, body: Any, code: str, permanent: bool, named: str
) -> None:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    fake.replies = [Reply(text, status, {"intuit_tid": "1-abc"})]
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        counted(reader)
    assert (failed.value.code, failed.value.permanent) == (code, permanent)
    assert "count of Invoice: QuickBooks answered" in failed.value.message
    assert named in failed.value.message
    if status != 200:
        assert "intuit_tid 1-abc" in failed.value.message
    tries = 1 if permanent else QUICK.attempts
    assert len(fake.requests()) == (2 if status == 401 else tries), "401 is tried once more, with a new token"


@pytest.mark.parametrize(
    ("body", "code", "permanent"),
    [
        ({"error": "invalid_grant"}, "authorization_expired", True),
        ({"error": "invalid_client"}, "unauthorized", True),
        ({"error": "unsupported_grant_type"}, "invalid_request", True),
        ([], "invalid_request", True),
    ],
)
def test_refused_renewals_become_errors_to_act_on(fake: Fake, body: Any, code: str, permanent: bool) -> None:
    fake.by_path["/oauth2/v1/tokens/bearer"] = Reply(json.dumps(body).encode(), 400)
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        counted(reader)
    assert (failed.value.code, failed.value.permanent) == (code, permanent)
    assert len(fake.requests("/oauth2")) == 1
    assert fake.requests() == []


@pytest.mark.parametrize(
    "granted",
    [
        {},
        {"refresh_token": REFRESH, "access_token": ACCESS},
        {"refresh_token": REFRESH, "access_token": "a b", "expires_in": 1},
        {"access_token": ACCESS, "expires_in": 3_600},
        {"refresh_token": 7, "access_token": ACCESS, "expires_in": 3_600},
        [],
        "nonsense",
    ],
)
def test_tokens_of_another_form_are_not_kept(fake: Fake, granted: Any) -> None:
    fake.by_path["/oauth2/v1/tokens/bearer"] = Reply(json.dumps(granted).encode())
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        counted(reader)
    assert failed.value.code == "unreadable_answer"
    assert fake.kept.stored == []
    assert fake.requests() == []


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(b"{", 200), "unreadable_answer"),
        (Reply(b"[]", 200), "unreadable_answer"),
        (Reply(b"null", 200), "unreadable_answer"),
        (Reply(b'{"a": 1}', 200, length=100), "unreadable_answer"),
        (Reply(b"\x1f\x8b", 200, {"Content-Encoding": "gzip"}), "unreadable_answer"),
    ],
)
def test_broken_answers_are_asked_for_again_and_then_given_up(fake: Fake, reply: Reply, code: str) -> None:
    fake.replies = [reply]
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        counted(reader)
    assert (failed.value.code, failed.value.permanent) == (code, False)
    assert len(fake.requests()) == QUICK.attempts
    fake.replies = [reply, Reply(b'{"QueryResponse": {"totalCount": 3}}')]
    with fake.read() as reader:
        assert counted(reader) == 3


def test_a_server_that_is_not_there_is_unreachable(fake: Fake) -> None:
    fake.reply({})
    with fake.read(FINANCE_OS_QUICKBOOKS_API_BASE="http://127.0.0.1:9") as reader, pytest.raises(SourceError) as failed:
        counted(reader)
    assert (failed.value.code, failed.value.permanent) == ("unreachable", False)
    fake.kept = MemorySecrets()
    nowhere = "http://127.0.0.1:9/.well-known/openid_configuration"
    with fake.read(FINANCE_OS_QUICKBOOKS_DISCOVERY_URL=nowhere) as reader, pytest.raises(SourceError) as failed:
        counted(reader)
    assert (failed.value.code, failed.value.permanent) == ("unreachable", False)
    assert "OAuth" in failed.value.message


SHAPES: dict[str, Any] = {
    "no response": {},
    "another kind": page(invoice(1), name="Bill"),
    "no object": page(1),
    "no list": {"QueryResponse": {"Invoice": invoice(1)}},
    "no ID": page({**invoice(1), "Id": ""}),
    "no SyncToken": page({**invoice(1), "SyncToken": "x"}),
    "no time": page({**invoice(1), "MetaData": {}}),
    "a time without an offset": page(invoice(1, "2026-06-30T10:00:00")),
    "an unreadable time": page(invoice(1, "yesterday")),
    "the same object twice": page(invoice(1), invoice(1)),
    "out of order": page(invoice(1, "2026-06-30T11:00:00-07:00"), invoice(2, "2026-06-30T10:00:00-07:00")),
    "before the window": page(invoice(1, "2026-06-29T16:59:59-07:00")),
    "at the end of the window": page(invoice(1, "2026-06-30T17:00:00-07:00")),
}


@pytest.mark.parametrize("body", SHAPES.values(), ids=list(SHAPES))
def test_what_was_not_asked_for_is_not_believed(fake: Fake, body: Any) -> None:
    fake.reply(body)
    with fake.read() as reader:
        with pytest.raises(SourceError, match="unreadable_answer: query of Invoice: "):
            selected(reader)
        assert len(fake.requests()) == QUICK.attempts
        fake.replies = []
        fake.reply(page(invoice(1, "2026-06-29T17:00:00-07:00"), invoice(2, "2026-06-30T16:59:59-07:00")))
        assert [row.id for row in selected(reader)] == ["1", "2"]


@pytest.mark.parametrize("counted_as", [None, "3", -1, True, 1.0])
def test_a_count_is_a_whole_number(fake: Fake, counted_as: Any) -> None:
    fake.reply({"QueryResponse": {"totalCount": counted_as}})
    with fake.read() as reader, pytest.raises(SourceError, match="the answer is not a count"):
        counted(reader)


def test_change_data_capture_is_read_by_name_and_a_fault_in_it_is_none_of_its_objects(fake: Fake) -> None:
    gone = {"domain": "QBO", "status": "Deleted", "Id": "9", "MetaData": {"LastUpdatedTime": "2026-06-30T17:00:00Z"}}
    shapes: list[dict[str, Any]] = [
        {},
        {"Invoice": [invoice(1), gone], "startPosition": 1, "maxResults": 2, "totalCount": 2},
        {"Invoice": [{"domain": "QBO", "status": "Deleted", "Id": "10"}]},
    ]
    fake.reply({"CDCResponse": [{"QueryResponse": shapes}], "time": "x"})
    with fake.read() as reader:
        changes = answers.changes(reader, INVOICE, SPAN[0], now).value
        assert changes.objects == 3
        second = int(datetime(2026, 6, 30, 17, tzinfo=UTC).timestamp())
        assert changes.deleted == (answers.Deleted("9", second), answers.Deleted("10", None))
        asked = parse_qs(urlsplit(fake.requests()[0][1]).query)
        assert asked["changedSince"] == ["2026-06-30T00:00:00+00:00"]
        for wrong in (
            {"CDCResponse": [{"QueryResponse": [fault("4001")]}]},
            {"CDCResponse": [{"QueryResponse": [{"Bill": [gone]}]}]},
            {"CDCResponse": [{"QueryResponse": [{"Invoice": [{"status": "Deleted"}]}]}]},
            {"CDCResponse": [{}]},
            {"CDCResponse": []},
            {},
        ):
            fake.replies = []
            fake.reply(wrong)
            with pytest.raises(SourceError):
                answers.changes(reader, INVOICE, SPAN[0], now)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ExchangeRate": []},
        {"ExchangeRate": {"SourceCurrencyCode": "GBP", "Rate": 1}},
        {"ExchangeRate": {"SourceCurrencyCode": "EUR"}},
    ],
)
def test_a_rate_is_that_of_the_currency_that_was_asked_for(fake: Fake, body: Any) -> None:
    fake.reply(body)
    with fake.read() as reader, pytest.raises(SourceError, match="exchange rate of EUR"):
        answers.rate(reader, "EUR", date(2026, 7, 1), now)


# --- waits and limits


def test_a_throttled_request_waits_as_told(fake: Fake) -> None:
    good = Reply(b'{"QueryResponse": {"totalCount": 3}}')
    patience = Patience(connect=2, read=1, attempts=3, first_wait=0.01, longest_wait=0.3, throttled=0.5)
    for headers, least, most in (({}, 0.5, 1.5), ({"Retry-After": "0"}, 0.0, 0.3), ({"Retry-After": "9"}, 0.3, 0.5)):
        fake.replies = [Reply(b"", 429, headers), good]
        with fake.read(patience) as reader:
            began = time.monotonic()
            assert counted(reader) == 3
            assert least <= time.monotonic() - began < most, headers
    assert Patience().throttled == 60


def test_requests_are_paced_for_a_company_whatever_client_sends_them(fake: Fake) -> None:
    fake.reply({"QueryResponse": {"totalCount": 3}})
    began = time.monotonic()
    for _ in range(2):
        with fake.read(FINANCE_OS_QUICKBOOKS_RATE_LIMIT="250") as reader:
            for _ in range(3):
                counted(reader)  # five a second are allowed
    assert time.monotonic() - began >= 0.9
    assert (client.REQUESTS_A_MINUTE, client.REQUESTS_A_MINUTE // 50) == (500, 10)


def test_the_call_meter_stops_before_it_sends(fake: Fake) -> None:
    fake.reply({"QueryResponse": {"totalCount": 3}})
    with fake.read(FINANCE_OS_QUICKBOOKS_MONTHLY_CALLS="100") as reader:
        reader.meter(95)
        assert counted(reader) == 3  # with the two for the token
        assert counted(reader) == 3
        assert counted(reader) == 3
        assert reader.calls() == 100
        asked = len(fake.asked)
        with pytest.raises(SourceError) as failed:
            counted(reader)
        assert (failed.value.code, failed.value.permanent) == ("call_budget_exhausted", True)
        assert "FINANCE_OS_QUICKBOOKS_MONTHLY_CALLS" in failed.value.message
        assert len(fake.asked) == asked
    fresh = Fake(fake.base)
    with fresh.read(FINANCE_OS_QUICKBOOKS_MONTHLY_CALLS="100") as reader:
        reader.meter(100)
        with pytest.raises(SourceError, match="call_budget_exhausted"):
            counted(reader)
        assert reader.sent() == {}, "not even for a token"
    assert client.MONTHLY_CALLS == 400_000


# --- settings


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("API_BASE", "quickbooks.api.intuit.com"),
        ("API_BASE", "https://user@example.com"),
        ("DISCOVERY_URL", "https://example.com/openid"),
        ("REALM_ID", "12/../34"),
        ("REALM_ID", ""),
        ("RATE_LIMIT", "0"),
        ("RATE_LIMIT", "fast"),
        ("MONTHLY_CALLS", "-1"),
        ("DISCOVERY_URL", client.DISCOVERY_URL),  # Intuit's own tokens, to a server without TLS
    ],
)
def test_settings_that_make_no_sense_are_refused(fake: Fake, option: str, value: str) -> None:
    with pytest.raises(SourceError) as failed, fake.read(QUICK, **{f"FINANCE_OS_QUICKBOOKS_{option}": value}):
        pass
    assert (failed.value.code, failed.value.permanent) == ("invalid_setting", True)
    assert value not in failed.value.message or not value


def test_the_defaults_are_intuits_sandbox() -> None:
    names = ("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN")
    values = {f"FINANCE_OS_QUICKBOOKS_{name}": "x" for name in names} | {"FINANCE_OS_QUICKBOOKS_REALM_ID": REALM}
    with connect(Credentials(values, MemorySecrets())) as reader:
        assert str(reader.http.base_url) == "https://sandbox-quickbooks.api.intuit.com"
        with pytest.raises(SourceError, match="write_refused"):
            reader.http.post(f"/v3/company/{REALM}/invoice", json={})
    assert client.DISCOVERY_URL == "https://developer.api.intuit.com/.well-known/openid_sandbox_configuration"


# --- what must not leak


def test_no_secret_and_no_personal_data_in_errors_and_logs(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    leak = {"error": "odd", "error_description": f"{EMAIL} {REFRESH}"}
    scripts: list[tuple[str, Reply]] = [
        ("", Reply(json.dumps(fault("6240")).encode(), 400)),
        ("", Reply(f"{EMAIL} {ACCESS}".encode(), 200)),
        ("", Reply(json.dumps(page({**invoice(1), "Id": ""}, EMAIL)).encode(), 200)),
        ("", Reply(EMAIL.encode(), 500, length=200)),
        ("/oauth2/v1/tokens/bearer", Reply(json.dumps(leak).encode(), 400)),
        ("/oauth2/v1/tokens/bearer", Reply(json.dumps({**leak, "error": "invalid_grant"}).encode(), 400)),
        ("/oauth2/v1/tokens/bearer", Reply(EMAIL.encode(), 200)),
        ("/.well-known/openid_configuration", Reply(EMAIL.encode(), 500)),
    ]
    for path, reply in scripts:
        usual = dict(fake.by_path)
        fake.kept = MemorySecrets()
        if path:
            fake.by_path[path] = reply
        else:
            fake.replies = [reply]
        with fake.read() as reader, pytest.raises(SourceError) as failed:
            selected(reader)
        fake.by_path = usual
        told = "".join(traceback.format_exception(failed.value)) + caplog.text + repr(reader) + repr(failed.value)
        for secret in SECRETS:
            assert secret not in told, path
        assert failed.value.__cause__ is None
    assert "credentials" not in caplog.text.lower()
