"""The Plaid client: the guard beneath it, the production gate, settings, refusals, and what must never leak.

The server of most tests is a fake: it answers what is scripted, because the sandbox does not misbehave in these ways.
"""

import hashlib
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
from typing import Any

import pytest
import urllib3
from plaid.model.item_remove_request import ItemRemoveRequest
from plaid.model.sandbox_item_fire_webhook_request import SandboxItemFireWebhookRequest
from plaid.model.transactions_refresh_request import TransactionsRefreshRequest
from plaid.model.transfer_cancel_request import TransferCancelRequest

from finance_os.evidence.extraction import SourceError
from finance_os.evidence.reading import CannotTry
from finance_os.evidence.windows import Days
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import ForbiddenRequest, ReadOnlyGuard
from finance_os.sources.plaid import PLAID, answers
from finance_os.sources.plaid.client import Patience, PlaidReader, connect
from finance_os.sources.plaid.objects import READS
from finance_os.sources.plaid.settings import read_settings
from finance_os.sources.plaid.transport import GuardedPools
from finance_os_tests.sources.kept import MemorySecrets

CLIENT_ID = "canaryclient0123456789"
SECRET = "canarysecret0123456789"
TOKEN = "access-sandbox-canarytoken"
NAME = "Canary Person 4821"
SECRETS = (CLIENT_ID, SECRET, TOKEN, NAME)
QUICK = Patience(connect=2, read=0.5, attempts=3, first_wait=0.01, longest_wait=0.2, throttled=0.02, not_ready=0.02)
DAYS = Days(date(2026, 10, 1), date(2026, 10, 2))


def now() -> datetime:
    return datetime(2026, 10, 3, tzinfo=UTC)


@dataclass
class Reply:
    """One scripted answer. `length` other than the body's own cuts the connection short."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass
class Fake:
    """A server that gives its replies in turn, the last one for ever, and keeps what it was asked."""

    base: str
    replies: list[Reply] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    kept: MemorySecrets = field(default_factory=MemorySecrets)

    def reply(self, body: Any, status: int = 200, length: int | None = None, **headers: str) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.replies.append(
            Reply(text, status, {name.replace("_", "-"): each for name, each in headers.items()}, length)
        )

    def refuse(self, code: str, status: int = 400, kind: str = "ITEM_ERROR", **headers: str) -> None:
        body = {"error_type": kind, "error_code": code, "error_message": NAME, "display_message": NAME}
        self.reply({**body, "request_id": "m8MDnv9okwxFNBV"}, status, None, **headers)

    def read(self, patience: Patience = QUICK, **options: str) -> AbstractContextManager[PlaidReader]:
        return connect(settings(API_BASE=self.base, **options), self.kept, patience)


def settings(**values: str) -> Any:
    given = {
        "CLIENT_ID": CLIENT_ID,
        "SECRET": SECRET,
        "ACCESS_TOKEN": TOKEN,
        "ENABLED": "1",
        "RATE_LIMIT": "100000",
        **values,
    }
    return read_settings(Credentials({f"FINANCE_OS_PLAID_{name}": value for name, value in given.items()}))


def _serve() -> Iterator[Fake]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.asked.append((self.command, self.path, dict(self.headers.items()), json.loads(body or b"null")))
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
    fake = Fake(f"http://127.0.0.1:{server.server_port}/c0/plaid")
    yield fake
    server.shutdown()
    server.server_close()


fake = pytest.fixture(_serve)
elsewhere = pytest.fixture(_serve)


def transaction(key: str = "t1", **changes: Any) -> dict[str, Any]:
    usual = {"transaction_id": key, "account_id": "a1", "date": "2026-10-01", "amount": 1, "pending": False}
    return {**usual, "pending_transaction_id": None, "name": NAME, **changes}


def days(*transactions: Any, total: Any = None, **changes: Any) -> dict[str, Any]:
    count = len(transactions) if total is None else total
    return {"transactions": list(transactions), "total_transactions": count, "item": {"item_id": "i1"}, **changes}


def update(*added: Any, **changes: Any) -> dict[str, Any]:
    usual = {"added": list(added), "modified": [], "removed": [], "next_cursor": "c1", "has_more": False}
    return {**usual, "transactions_update_status": "HISTORICAL_UPDATE_COMPLETE", **changes}


def days_page(reader: PlaidReader) -> answers.DaysPage:
    return answers.days_page(reader, DAYS, 0, now).value


# --- the guard


WRITES: dict[str, Callable[[PlaidReader], Any]] = {
    "item removal": lambda r: r.api.item_remove(ItemRemoveRequest(access_token=TOKEN)),
    "transfer cancelled": lambda r: r.api.transfer_cancel(TransferCancelRequest(transfer_id="t")),
    "refresh": lambda r: r.api.transactions_refresh(TransactionsRefreshRequest(access_token=TOKEN)),
    "webhook": lambda r: r.api.sandbox_item_fire_webhook(
        SandboxItemFireWebhookRequest(access_token=TOKEN, webhook_code="DEFAULT_UPDATE")
    ),
    "transfer made": lambda r: r.api.api_client.call_api(
        "/transfer/create", "POST", header_params={"Content-Type": "application/json"}, body={"amount": "1.00"}
    ),
    "transfer by the pools": lambda r: r.api.api_client.rest_client.pool_manager.request(
        "POST", f"{r.api.api_client.configuration.host}/transfer/create", json={}
    ),
    "transfer by one connection": lambda r: r.api.api_client.rest_client.pool_manager.connection_from_url(
        r.api.api_client.configuration.host
    ).urlopen("POST", "/c0/plaid/transfer/create"),
    "deletion of what is read": lambda r: r.api.api_client.rest_client.pool_manager.request(
        "DELETE", f"{r.api.api_client.configuration.host}/transactions/get"
    ),
    "way around": lambda r: r.api.api_client.rest_client.pool_manager.connection_from_url(
        r.api.api_client.configuration.host
    ).urlopen("POST", "/c0/plaid/transactions/../transfer/create"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_no_write_leaves_through_the_sources_own_client(fake: Fake, write: Callable[[PlaidReader], Any]) -> None:
    fake.reply(days())
    with fake.read() as reader:
        days_page(reader)
        with pytest.raises(ForbiddenRequest):
            write(reader)
        assert reader.sent() == {"POST 127.0.0.1": 1}
    assert [path for _, path, _, _ in fake.asked] == ["/c0/plaid/transactions/get"]


def test_nothing_is_sent_to_another_host(fake: Fake, elsewhere: Fake) -> None:
    pools = GuardedPools(ReadOnlyGuard(READS, fake.base))
    for url in (
        f"{elsewhere.base}/transactions/get",
        fake.base.replace("127.0.0.1", "localhost") + "/transactions/get",
        "https://sandbox.plaid.com/transactions/get",
        fake.base.replace("/c0/plaid", "") + "/transactions/get",
    ):
        with pytest.raises(ForbiddenRequest):
            pools.request("POST", url)
    assert fake.asked == elsewhere.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(fake: Fake, elsewhere: Fake, status: int) -> None:
    fake.reply(b"", status, location=f"{elsewhere.base}/transactions/get")
    with fake.read() as reader, pytest.raises(SourceError) as refused:
        days_page(reader)
    assert (refused.value.code, refused.value.permanent) == ("redirect_refused", True)
    assert elsewhere.asked == []
    fake.replies.clear()
    fake.reply(b"", status, location="https://production.plaid.com/transactions/get")
    with fake.read() as reader, pytest.raises(SourceError, match="production_policy_not_approved"):
        days_page(reader)


def test_requests_are_counted_as_they_are_sent(fake: Fake) -> None:
    fake.reply(b"cut", length=100)
    fake.refuse("INTERNAL_SERVER_ERROR", 500, "API_ERROR")
    fake.reply(days())
    with fake.read() as reader:
        days_page(reader)
        assert reader.sent() == {"POST 127.0.0.1": 3}
    assert len(fake.asked) == 3


# --- production, the flag, and settings


@pytest.mark.parametrize(
    "base",
    [
        "https://production.plaid.com",
        "https://PRODUCTION.plaid.com.",
        "https://development.plaid.com",
        "https://plaid.com",
        "https://api.plaid.com/sandbox.plaid.com",
        "https://sandbox.plaid.com.production.plaid.com",
        "http://sandbox.plaid.com",
        "https://sandbox.plaid.com:8443",
    ],
)
def test_another_plaid_than_the_sandbox_is_refused(base: str) -> None:
    with pytest.raises(SourceError) as refused:
        settings(API_BASE=base)
    assert (refused.value.code, refused.value.permanent) == ("production_policy_not_approved", True)
    assert TOKEN not in str(refused.value)
    assert not isinstance(refused.value, CannotTry), "it is a failure, not a connector that is not set up"


@pytest.mark.parametrize("environment", ["production", "development"])
def test_a_token_of_real_accounts_is_refused_wherever_it_would_go(fake: Fake, environment: str) -> None:
    with pytest.raises(SourceError, match="production_policy_not_approved"):
        settings(API_BASE=fake.base, ACCESS_TOKEN=f"access-{environment}-canary")
    origin = hashlib.sha256(TOKEN.encode()).hexdigest()
    held = json.dumps({"access_token": f"access-{environment}-canary", "from": origin})
    fake.kept = MemorySecrets({"access_token": held})
    with pytest.raises(SourceError, match="production_policy_not_approved"), fake.read():
        pass
    assert fake.asked == []


def test_the_sandbox_and_servers_that_stand_in_for_it_are_admitted() -> None:
    assert settings().api_base == "https://sandbox.plaid.com"
    for base in ("https://sandbox.plaid.com:443/", "http://127.0.0.1:1/c0/plaid", "http://bank-sandbox:8080"):
        assert settings(API_BASE=base).api_base == base.rstrip("/")
    assert settings().requests_a_minute == 100_000
    for secret in SECRETS:
        assert secret not in repr(settings())


@pytest.mark.parametrize("value", ["0", "false", "OFF", "no", ""])
def test_the_flag_is_off_unless_it_is_on(value: str) -> None:
    with pytest.raises(CannotTry, match="feature_flag_off"):
        settings(ENABLED=value, API_BASE="https://production.plaid.com")
    assert settings(ENABLED="True")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENABLED", "perhaps"),
        ("API_BASE", "ftp://example.com"),
        ("API_BASE", "http://user:secret@example.com"),
        ("API_BASE", "http://example.com:port"),
        ("RATE_LIMIT", "0"),
        ("RATE_LIMIT", "1.5"),
        ("ACCESS_TOKEN", "two words"),
        ("SECRET", "line\nbreak"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: str) -> None:
    with pytest.raises(SourceError) as refused:
        settings(**{name: value})
    assert (refused.value.code, refused.value.permanent) == ("invalid_setting", True)
    assert f"FINANCE_OS_PLAID_{name}" in refused.value.message
    assert value not in refused.value.message


def test_the_declaration_opens_no_production() -> None:
    given = {f"FINANCE_OS_PLAID_{name}": "x" for name in ("CLIENT_ID", "SECRET", "ACCESS_TOKEN")}
    base = {"FINANCE_OS_PLAID_ENABLED": "1", "FINANCE_OS_PLAID_API_BASE": "https://production.plaid.com"}
    with (
        pytest.raises(SourceError, match="production_policy_not_approved"),
        PLAID.open(Credentials({**given, **base}, MemorySecrets())),
    ):
        pass


# --- the kept token


def test_the_token_is_kept_on_first_use_and_replaced_with_the_environments(fake: Fake) -> None:
    fake.reply(days())
    for _ in range(2):
        with fake.read() as reader:
            days_page(reader)
    ((name, stored),) = fake.kept.stored
    assert (name, json.loads(stored)["access_token"]) == ("access_token", TOKEN)
    assert fake.asked[-1][3]["access_token"] == TOKEN
    with fake.read(ACCESS_TOKEN="access-sandbox-other") as reader:
        days_page(reader)
    assert fake.asked[-1][3]["access_token"] == "access-sandbox-other"
    assert len(fake.kept.stored) == 2
    origin = json.loads(stored)["from"]
    fake.kept = MemorySecrets({"access_token": json.dumps({"access_token": "access-sandbox-newer", "from": origin})})
    with fake.read() as reader:
        days_page(reader)
    assert fake.asked[-1][3]["access_token"] == "access-sandbox-newer", "what is kept is what is used"
    assert fake.kept.stored == []
    fake.kept = MemorySecrets({"access_token": "nonsense"})
    with fake.read() as reader:
        days_page(reader)
    assert json.loads(fake.kept.read("access_token") or "")["access_token"] == TOKEN


# --- what is sent


def test_requests_say_what_is_wanted_and_keys_go_where_plaid_takes_them(fake: Fake) -> None:
    fake.reply(days())
    fake.reply(update())
    with fake.read() as reader:
        days_page(reader)
        answers.update_page(reader, "", now)
        answers.update_page(reader, "c0", now)
    method, path, headers, body = fake.asked[0]
    assert (method, path) == ("POST", "/c0/plaid/transactions/get")
    shown = {"include_original_description": True, "include_personal_finance_category": True}
    assert body == {
        "access_token": TOKEN,
        "start_date": "2026-10-01",
        "end_date": "2026-10-02",
        "options": {"count": 500, "offset": 0, **shown},
    }
    assert (headers["PLAID-CLIENT-ID"], headers["PLAID-SECRET"]) == (CLIENT_ID, SECRET)
    assert headers["Plaid-Version"] == PLAID.api_version
    assert fake.asked[1][3] == {"access_token": TOKEN, "count": 500, "options": shown}
    assert fake.asked[2][3]["cursor"] == "c0"


def test_numbers_are_exact(fake: Fake) -> None:
    body = json.dumps(days(transaction())).replace('"amount": 1', '"amount": 12345678901234567.10')
    fake.reply(body.encode())
    with fake.read() as reader:
        (row,) = days_page(reader).rows
    assert row.body["amount"] == Decimal("12345678901234567.10")
    assert row.body["amount"].as_tuple().exponent == -2


# --- refusals


@pytest.mark.parametrize(
    ("reason", "status", "kind", "code", "permanent"),
    [
        ("INVALID_ACCESS_TOKEN", 400, "INVALID_INPUT", "unauthorized", True),
        ("INVALID_API_KEYS", 400, "INVALID_INPUT", "unauthorized", True),
        ("ITEM_LOGIN_REQUIRED", 400, "ITEM_ERROR", "authorization_expired", True),
        ("ITEM_NOT_FOUND", 400, "ITEM_ERROR", "authorization_expired", True),
        ("PRODUCT_NOT_READY", 400, "ITEM_ERROR", "not_ready", False),
        ("TRANSACTIONS_LIMIT", 429, "RATE_LIMIT_EXCEEDED", "rate_limited", False),
        ("TRANSACTIONS_LIMIT", 400, "RATE_LIMIT_EXCEEDED", "rate_limited", False),
        ("INTERNAL_SERVER_ERROR", 500, "API_ERROR", "vendor_error", False),
        ("INSTITUTION_DOWN", 400, "INSTITUTION_ERROR", "vendor_error", False),
        ("UNAUTHORIZED_ROUTE_ACCESS", 403, "INVALID_INPUT", "forbidden", True),
        ("NOT_FOUND", 404, "INVALID_REQUEST", "invalid_request", True),
        ("SOMETHING_NEW", 400, "NEW_ERROR", "invalid_request", True),
    ],
)
def test_refusals_have_codes(fake: Fake, reason: str, status: int, kind: str, code: str, permanent: bool) -> None:
    fake.refuse(reason, status, kind)
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        days_page(reader)
    assert (failed.value.code, failed.value.permanent) == (code, permanent)
    assert reason in failed.value.message
    assert len(fake.asked) == (1 if permanent else QUICK.attempts)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe\x00", b"[]", b'{"error_code": 7}'])
@pytest.mark.parametrize(("status", "code"), [(500, "vendor_error"), (502, "vendor_error"), (400, "invalid_request")])
def test_refusals_of_another_form_are_told_by_their_status(fake: Fake, body: bytes, status: int, code: str) -> None:
    fake.reply(body, status)
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        days_page(reader)
    # What is not text at all does not get past Plaid's library with its status.
    assert failed.value.code == ("unreadable_answer" if body.startswith(b"\xff") else code)


def test_what_passes_is_waited_for(fake: Fake) -> None:
    fake.refuse("PRODUCT_NOT_READY")
    fake.refuse("TRANSACTIONS_LIMIT", 429, "RATE_LIMIT_EXCEEDED", retry_after="1")
    fake.reply(days(transaction()))
    started = time.monotonic()
    with fake.read(Patience(read=2, attempts=3, not_ready=0.01, longest_wait=0.3)) as reader:
        assert [row.id for row in days_page(reader).rows] == ["t1"]
    assert 0.3 <= time.monotonic() - started < 1, "as long as it was told, but no longer than its patience"


def test_silence_and_absence_are_errors(fake: Fake) -> None:
    fake.reply(days(), length=1_000)
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        days_page(reader)
    assert failed.value.code == "unreadable_answer"
    fake.base = "http://127.0.0.1:1/c0/plaid"
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        days_page(reader)
    assert (failed.value.code, failed.value.permanent) == ("unreachable", False)
    fake.base = fake.base.replace("http:", "https:")
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        days_page(reader)
    assert failed.value.code == "unreachable"


def test_a_server_without_tls_is_unreachable(fake: Fake) -> None:
    fake.base = fake.base.replace("http:", "https:")
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        days_page(reader)
    assert failed.value.code == "unreachable"


@pytest.mark.parametrize("status", ["NOT_READY", "INITIAL_UPDATE_COMPLETE", "TRANSACTIONS_UPDATE_STATUS_UNKNOWN", None])
def test_a_history_that_is_not_there_yet_is_never_an_empty_success(fake: Fake, status: str | None) -> None:
    fake.reply(update(next_cursor="", transactions_update_status=status))
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        answers.update_page(reader, "", now)
    assert (failed.value.code, failed.value.permanent) == ("not_ready", False)
    assert len(fake.asked) == QUICK.attempts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"transactions": [',
        days(total="1"),
        days(total=-1),
        days(total=True),
        days(transaction(), total=0),
        days(transaction(), transaction()),
        days(item=None),
        days(transactions=None),
        days(transactions=["t1"]),
        days(transaction(transaction_id="")),
        days(transaction(account_id=None)),
        days(transaction(date="2026-10-03")),
        days(transaction(date="20261001")),
        days(transaction(date=None)),
        days(transaction(pending="yes")),
        days(transaction(pending_transaction_id=7)),
        days(transaction(amount="1")),
        days(transaction(amount=True)),
        days(transaction(amount=None)),
    ],
)
def test_days_that_are_not_what_was_asked_for_are_not_believed(fake: Fake, body: Any) -> None:
    fake.reply(body)
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        days_page(reader)
    assert (failed.value.code, failed.value.permanent) == ("unreadable_answer", False)


@pytest.mark.parametrize(
    "changes",
    [
        {"added": None},
        {"modified": [7]},
        {"removed": [{"account_id": "a1"}]},
        {"next_cursor": ""},
        {"next_cursor": None},
        {"has_more": None},
        {"next_cursor": "c0", "has_more": True},
        {"next_cursor": "c0", "added": [transaction()]},
        {"added": [transaction(amount=None)]},
    ],
)
def test_updates_that_make_no_sense_are_not_believed(fake: Fake, changes: dict[str, Any]) -> None:
    fake.reply(update(**changes))
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        answers.update_page(reader, "c0", now)
    assert failed.value.code == "unreadable_answer"


def test_snapshots_that_are_not_what_was_asked_for_are_not_believed(fake: Fake) -> None:
    wrong: list[tuple[Any, Callable[[PlaidReader], Any]]] = [
        ({"item": {}}, lambda reader: answers.item(reader, now)),
        ({"accounts": []}, lambda reader: answers.accounts(reader, now)),
        ({"accounts": [{"account_id": "a"}] * 2}, lambda reader: answers.accounts(reader, now)),
        ({"institution": {"institution_id": "ins_2"}}, lambda reader: answers.institution(reader, "ins_1", now)),
    ]
    for body, ask in wrong:
        fake.replies.clear()
        fake.reply(body)
        with fake.read() as reader, pytest.raises(SourceError) as failed:
            ask(reader)
        assert failed.value.code == "unreadable_answer"


# --- what must not leak


@pytest.mark.parametrize("cut", [None, 10_000])
@pytest.mark.parametrize("status", [200, 400, 403, 429, 500])
def test_errors_and_logs_hold_no_secret_and_no_name(
    fake: Fake, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], status: int, cut: int | None
) -> None:
    caplog.set_level(logging.DEBUG)
    body = {"error_type": NAME, "error_code": f"{NAME}!", "error_message": f"{TOKEN} {SECRET}", "request_id": NAME}
    fake.reply(body, status, length=cut)
    with fake.read() as reader, pytest.raises(SourceError) as failed:
        days_page(reader)
    told = "".join(traceback.format_exception(failed.value)) + caplog.text + repr(reader) + "".join(capsys.readouterr())
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__ or failed.value.__context__ is None
    for secret in SECRETS:
        assert secret not in told


def test_plaids_library_keeps_no_other_transport(fake: Fake) -> None:
    with fake.read() as reader:
        pools = reader.api.api_client.rest_client.pool_manager
        assert isinstance(pools, GuardedPools)
        assert isinstance(pools, urllib3.PoolManager)
        with pytest.raises(TypeError, match="not copied"):
            __import__("copy").deepcopy(pools)
