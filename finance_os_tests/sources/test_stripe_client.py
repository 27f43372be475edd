"""The Stripe client: the guard beneath the SDK, errors, retries, proofs of pages, and what must never leak.

The server here is a fake: it answers what is scripted, because the sandbox does not misbehave in these ways.
"""

import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pytest
import requests
import stripe as sdk

from finance_os.evidence.extraction import Kind, Notice, Page, Request, SourceError
from finance_os.evidence.windows import Days, window_of
from finance_os.sandbox.process import running_sandbox
from finance_os.sources.credentials import Credentials
from finance_os.sources.stripe import STRIPE
from finance_os.sources.stripe.client import Patience, StripeReader, connect

KEY = "rk_test_canarykey0123456789"
EMAIL = "canary.person@example.com"
QUICK = Patience(connect=2, read=0.5, attempts=3, first_wait=0.01, longest_wait=0.05)


class Nothing:
    """Nothing is staged yet."""

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:
        raise NotImplementedError

    def ids_read_since(self, moment: datetime) -> list[str]:
        raise NotImplementedError

    def requests_since(self, moment: datetime) -> int:
        raise NotImplementedError

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:  # noqa: ARG002 (the protocol's)
        return []


def now() -> datetime:
    return datetime(2026, 11, 20, tzinfo=UTC)


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
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def reply(self, body: Any, status: int = 200, **headers: str) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.replies.append(Reply(text, status, {name.replace("_", "-"): value for name, value in headers.items()}))

    def fail(self, status: int, **error: Any) -> None:
        message = f"No such customer: '{EMAIL}' (key {KEY})"
        self.reply({"error": {"message": message, "type": "api_error", **error}}, status, request_id="req_abc123")

    def read(self, **options: str) -> AbstractContextManager[StripeReader]:
        values = {"FINANCE_OS_STRIPE_API_KEY": KEY, "FINANCE_OS_STRIPE_API_BASE": self.base}
        return connect(Credentials({**values, "FINANCE_OS_STRIPE_RATE_LIMIT": "1000", **options}), QUICK)


def _serve() -> Iterator[Fake]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            fake.asked.append((self.command, unquote(self.path), dict(self.headers.items())))
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


def charge(number: int, created: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"ch_{number}", "object": "charge", "created": created, **fields}


def page(*items: dict[str, Any], more: bool = False) -> dict[str, Any]:
    return {"object": "list", "data": list(items), "has_more": more, "url": "/v1/charges"}


def listed(reader: StripeReader) -> list[str]:
    window = {"created": {"gte": 100, "lt": 200}}
    return [item["id"] for page in reader.pages("/v1/charges", window, now, kind="charge") for item in page.items]


# --- the guard


def http_session(reader: StripeReader) -> requests.Session:
    client: Any = reader.client._requestor._get_http_client()
    return client._session


Write: TypeAlias = Callable[[StripeReader], object]
WRITES: dict[str, Write] = {
    "a service of the SDK": lambda reader: reader.client.v1.customers.create({"name": "New"}),
    "a deletion": lambda reader: reader.client.v1.customers.delete("cus_1"),
    "a raw request": lambda reader: reader.client.raw_request("post", "/v1/refunds", charge="ch_1"),
    "version 2": lambda reader: reader.client.raw_request("get", "/v2/core/events"),
    "an upload": lambda reader: reader.client.raw_request("post", "/v1/files", base="files"),
    "out of the folder": lambda reader: reader.client.raw_request("get", "/v1/%2e%2e/v2/core"),
}
BENEATH: dict[str, Callable[[requests.Session, str], object]] = {
    "post": lambda session, base: session.post(f"{base}/v1/customers", data={"name": "New"}),
    "put": lambda session, base: session.put(f"{base}/v1/customers/cus_1"),
    "another host": lambda session, base: session.get(f"{base.replace('127.0.0.1', 'localhost')}/v1/customers"),
    "another port": lambda session, base: session.get(f"{base.rpartition(':')[0]}:1/v1/customers"),
    "another scheme": lambda session, base: session.get(f"{base.replace('http:', 'https:')}/v1/customers"),
}


def test_no_write_reaches_stripe_neither_through_the_sdk_nor_from_beneath() -> None:
    with running_sandbox(until=now(), days=2, size=2) as sandbox, connect(Credentials(sandbox.env), QUICK) as reader:
        for name, write in WRITES.items():
            with pytest.raises(sdk.APIConnectionError) as caught:
                write(reader)
            cause = caught.value.__cause__
            assert isinstance(cause, SourceError), name
            assert (cause.code, cause.permanent) == ("write_refused", True)
        for name, send in BENEATH.items():
            with pytest.raises(SourceError, match="was not sent") as refused:
                send(http_session(reader), sandbox.base)
            assert refused.value.code == "write_refused", name
        counted = sandbox.call("GET", "/requests")
        assert (counted["total"], counted["writes"]) == (0, 0)
        assert reader.sent() == {}
        # The same client does read, so it was the guard that refused.
        assert reader.get("/v1/balance", {}, now).body["object"] == "balance"
        assert reader.sent() == {"GET 127.0.0.1": 1}


def test_a_redirect_to_another_host_is_not_followed(fake: Fake, elsewhere: Fake) -> None:
    elsewhere.reply({"object": "balance"})
    fake.reply(b"", 302, location=f"{elsewhere.base}/v1/balance")
    with fake.read() as reader, pytest.raises(SourceError, match="was not sent") as caught:
        reader.get("/v1/balance", {}, now)
    assert caught.value.permanent
    assert elsewhere.asked == []
    assert len(fake.asked) == 1


def test_a_failure_of_the_guard_is_told_as_its_own(fake: Fake) -> None:
    with fake.read() as reader, pytest.raises(SourceError) as caught:
        reader.get("/v2/core/events", {}, now)
    assert caught.value.code == "write_refused"
    assert fake.asked == []


# --- the connection


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("sk_live_canary0123", "restricted key with read permissions"),
        ("pk_live_canary0123", "holds no restricted key"),
        ("rk_live_can ary", "holds no restricted key"),
        ("rk_test_canary\n", "holds no restricted key"),
        ("", "holds no restricted key"),
    ],
)
def test_a_key_that_could_write_is_refused(key: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught, connect(Credentials({"FINANCE_OS_STRIPE_API_KEY": key})):
        pass
    assert (caught.value.code, caught.value.permanent) == ("key_refused", True)
    assert "ary" not in str(caught.value).replace("FINANCE_OS", "")


@pytest.mark.parametrize("key", ["rk_live_0123abcXYZ", "rk_test_0123", "sk_test_0123"])
def test_restricted_and_test_keys_are_taken(key: str) -> None:
    with connect(Credentials({"FINANCE_OS_STRIPE_API_KEY": key})) as reader:
        assert reader.sent() == {}


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "many", ""])
def test_a_rate_limit_that_is_none_is_refused(fake: Fake, limit: str) -> None:
    with pytest.raises(SourceError, match="RATE_LIMIT"), fake.read(FINANCE_OS_STRIPE_RATE_LIMIT=limit):
        pass


@pytest.mark.parametrize(
    "base", ["api.stripe.com", "ftp://api.stripe.com", "https://key@api.stripe.com", "https://a/b"]
)
def test_a_base_url_that_is_none_is_refused(fake: Fake, base: str) -> None:
    with pytest.raises(SourceError, match="API_BASE"), fake.read(FINANCE_OS_STRIPE_API_BASE=base):
        pass


def test_a_live_key_never_travels_in_the_clear(fake: Fake) -> None:
    with pytest.raises(SourceError, match="https"), fake.read(FINANCE_OS_STRIPE_API_KEY="rk_live_0123"):
        pass


def test_requests_bear_the_pinned_version_and_numbers_stay_exact(fake: Fake) -> None:
    fake.reply(b'{"object": "balance", "rate": 1.10, "many": 123456789012345678901234567890, "none": null}')
    with fake.read() as reader:
        body = reader.get("/v1/balance", {"expand": ["a"], "created": {"gte": 1}}, now).body
        reader.get("/v1/balance", {}, now)
    assert body["rate"] == Decimal("1.10")
    assert str(body["rate"]) == "1.10"
    assert body["many"] == 123456789012345678901234567890
    method, path, headers = fake.asked[0]
    assert (method, path) == ("GET", "/v1/balance?expand[0]=a&created[gte]=1")
    assert headers["Stripe-Version"] == "2026-10-28.endive"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert "X-Stripe-Client-Telemetry" not in fake.asked[1][2]


def test_a_netrc_file_does_not_take_the_place_of_the_key(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fake.reply({"object": "balance"})
    with fake.read() as reader:
        reader.get("/v1/balance", {}, now)
    assert fake.asked[0][2]["Authorization"] == f"Bearer {KEY}"


def test_requests_are_paced(fake: Fake) -> None:
    fake.reply({"object": "balance"})
    with fake.read(FINANCE_OS_STRIPE_RATE_LIMIT="5") as reader:
        began = time.monotonic()
        for _ in range(11):
            reader.get("/v1/balance", {}, now)
        assert time.monotonic() - began >= 1.9


# --- errors and retries


@pytest.mark.parametrize(
    ("status", "error", "code", "permanent"),
    [
        (400, {"code": "parameter_unknown"}, "invalid_request", True),
        (400, {"code": "rate_limit"}, "rate_limited", False),
        (401, {}, "unauthorized", True),
        (402, {}, "invalid_request", True),
        (403, {}, "forbidden", True),
        (404, {"code": "resource_missing"}, "missing", True),
        (404, {}, "invalid_request", True),
        (409, {"code": "lock_timeout"}, "vendor_error", False),
        (429, {"code": "rate_limit"}, "rate_limited", False),
        (500, {}, "vendor_error", False),
        (503, {}, "vendor_error", False),
    ],
)
def test_errors_say_what_to_act_on_and_nothing_of_what_stripe_wrote(
    fake: Fake, caplog: pytest.LogCaptureFixture, status: int, error: dict[str, Any], code: str, permanent: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="stripe")
    fake.fail(status, param=EMAIL, **error)
    with fake.read() as reader, pytest.raises(SourceError) as caught:
        reader.get("/v1/customers/cus_1", {}, now)
    assert (caught.value.code, caught.value.permanent) == (code, permanent)
    assert str(status) in caught.value.message
    assert "/v1/customers/cus_1" in caught.value.message
    assert "req_abc123" in caught.value.message
    assert error.get("code", "") in caught.value.message
    assert len(fake.asked) == (1 if permanent else QUICK.attempts)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert EMAIL not in told
    assert KEY not in told


@pytest.mark.parametrize("code", [f"about {EMAIL}", ["list"], 7])
def test_an_error_code_that_is_none_is_left_out(fake: Fake, code: Any) -> None:
    fake.fail(400, code=code)
    with fake.read() as reader, pytest.raises(SourceError) as caught:
        reader.get("/v1/customers", {}, now)
    assert caught.value.message == "GET /v1/customers: Stripe answered 400, request req_abc123"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(f"<html>{EMAIL}</html>".encode(), 502), "vendor_error"),
        (Reply(b'{"error": "' + EMAIL.encode() + b'"}', 500), "unreadable_answer"),
        (Reply(f'{{"email": "{EMAIL}", '.encode()), "unreadable_answer"),
        (Reply(f'{{"email": "{EMAIL}", "rate": NaN}}'.encode()), "unreadable_answer"),
        (Reply(f'["{EMAIL}"]'.encode()), "unreadable_answer"),
        (Reply(b"\xff\xfe" + EMAIL.encode()), "unreadable_answer"),
        (Reply(f'{{"email": "{EMAIL}"'.encode(), length=5_000), "unreadable_answer"),
        (Reply(b"", 302, {"Location": "/v1/customers"}), "unreachable"),
    ],
    ids=["html", "error as text", "cut off", "not a number", "not an object", "not text", "cut connection", "circle"],
)
def test_unreadable_answers_are_asked_for_again_and_then_given_up(
    fake: Fake, caplog: pytest.LogCaptureFixture, reply: Reply, code: str
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.replies = [reply]
    with fake.read() as reader, pytest.raises(SourceError) as caught:
        reader.get("/v1/customers", {}, now)
    assert (caught.value.code, caught.value.permanent) == (code, False)
    assert len(fake.asked) >= QUICK.attempts
    assert EMAIL not in "".join(traceback.format_exception(caught.value)) + caplog.text
    fake.replies = [reply, Reply(b'{"object": "balance"}')]
    with fake.read() as reader:
        assert reader.get("/v1/balance", {}, now).body == {"object": "balance"}


def test_retry_after_is_honoured_and_bounded(fake: Fake) -> None:
    fake.reply({"error": {"type": "api_error"}}, 429, retry_after="1")
    fake.reply({"error": {"type": "api_error"}}, 500, retry_after="9999")
    fake.reply({"object": "balance"})
    patient = Patience(attempts=3, first_wait=0.01, longest_wait=1.2)
    values = {"FINANCE_OS_STRIPE_API_KEY": KEY, "FINANCE_OS_STRIPE_API_BASE": fake.base}
    began = time.monotonic()
    with connect(Credentials(values), patient) as reader:
        reader.get("/v1/balance", {}, now)
    assert 2.2 <= time.monotonic() - began < 4


def test_each_attempt_is_dated_anew(fake: Fake) -> None:
    fake.fail(500)
    fake.reply({"object": "balance"})
    moments = iter([datetime(2026, 11, 20, hour, tzinfo=UTC) for hour in range(2)])
    with fake.read() as reader:
        assert reader.get("/v1/balance", {}, lambda: next(moments)).requested_at.hour == 1


def test_customers_and_objects_that_are_gone_are_told(fake: Fake) -> None:
    moment, day = int(now().timestamp()) - 90_000, Days(now().date() - timedelta(days=2), now().date())
    customer = {"id": "cus_1", "object": "customer", "created": moment - 9_000_000, "balance": -5}
    changed = {"type": "customer.updated", "data": {"object": customer, "previous_attributes": {"balance": 0}}}
    events = page({"id": "evt_1", "object": "event", "created": moment, **changed})
    request = Request(Kind.WINDOW, day, window_of(day, ZoneInfo("UTC")).until(now()), ZoneInfo("UTC"), now, Nothing())
    fake.reply(events)
    fake.fail(404, code="resource_missing")
    with fake.read() as reader:
        obj = STRIPE.object("stripe_customer_balance_transaction")
        items = list(STRIPE.extract(reader, obj, request))
        assert [item.records for item in items if isinstance(item, Page)] == [[]]
        assert any("1 customer(s) have been deleted" in item.text for item in items if isinstance(item, Notice))
        fake.replies.clear()
        fake.reply(events)
        fake.reply(page())
        fake.fail(404, code="resource_missing")
        items = list(STRIPE.extract(reader, STRIPE.object("stripe_customer"), request))
    (gone,) = [item for item in items if isinstance(item, Page)]
    assert gone.requested_at == now()
    assert [(record.source_id, record.payload) for record in gone.records] == [("cus_1", None)]
    assert any("1 object(s)" in item.text for item in items if isinstance(item, Notice))


# --- pages prove themselves


def test_pages_follow_each_other_to_the_end(fake: Fake) -> None:
    fake.reply(page(charge(3, 150), charge(2, 150), more=True))
    fake.reply(page(charge(1, 150), more=True))
    fake.reply(page())
    with fake.read() as reader:
        assert listed(reader) == ["ch_3", "ch_2", "ch_1"]
    assert [path.partition("?")[2] for _, path, _ in fake.asked] == [
        "created[gte]=100&created[lt]=200&limit=100",
        "created[gte]=100&created[lt]=200&limit=100&starting_after=ch_2",
        "created[gte]=100&created[lt]=200&limit=100&starting_after=ch_1",
    ]


GOOD = page(charge(2, 150), charge(1, 150))
BAD: dict[str, Any] = {
    "not a list": {"object": "charge", "data": [], "has_more": False},
    "no data": {"object": "list", "has_more": False},
    "not said whether there is more": {"object": "list", "data": []},
    "empty, yet more": page(more=True),
    "an object twice": page(charge(1, 150), charge(1, 150)),
    "another kind": page({**charge(1, 150), "object": "refund"}),
    "no ID": page({"object": "charge", "created": 150}),
    "an ID that is no text": page({**charge(1, 150), "id": 7}),
    "no creation time": page({"object": "charge", "id": "ch_1"}),
    "a creation time that is no number": page({**charge(1, 150), "created": "150"}),
    "created before the window": page(charge(1, 99)),
    "created after the window": page(charge(1, 200)),
    "an item that is no object": {**page(), "data": ["ch_1"]},
}


@pytest.mark.parametrize("name", BAD)
def test_a_page_that_does_not_prove_itself_is_asked_for_again_and_never_taken(fake: Fake, name: str) -> None:
    fake.reply(BAD[name])
    with fake.read() as reader:
        with pytest.raises(SourceError) as caught:
            listed(reader)
        assert caught.value.code == "unreadable_answer"
        assert len(fake.asked) == QUICK.attempts
        fake.reply(GOOD)
        assert listed(reader) == ["ch_2", "ch_1"]


@pytest.mark.parametrize(
    "second",
    [page(charge(5, 160), charge(4, 155)), page(charge(3, 150)), page(charge(9, 151))],
    ids=["the page before", "one object of it", "a jump back"],
)
def test_a_page_out_of_turn_is_asked_for_again(fake: Fake, second: dict[str, Any]) -> None:
    fake.reply(page(charge(5, 150), charge(4, 150), charge(3, 150), more=True))
    fake.reply(second)
    fake.reply(page(charge(2, 149)))
    with fake.read() as reader:
        assert listed(reader) == ["ch_5", "ch_4", "ch_3", "ch_2"]


def test_a_list_whose_last_object_was_deleted_is_taken_up_at_its_second(fake: Fake) -> None:
    fake.reply(page(charge(5, 160), charge(4, 150), charge(3, 150), more=True))
    fake.fail(400, code="resource_missing", param="starting_after")
    fake.reply(page(charge(4, 150), charge(2, 150), charge(1, 140)))
    with fake.read() as reader:
        assert listed(reader) == ["ch_5", "ch_4", "ch_3", "ch_2", "ch_1"]
    assert fake.asked[2][1].partition("?")[2] == "created[gte]=100&created[lt]=151&limit=100"


def test_a_list_that_does_not_go_on_is_given_up(fake: Fake) -> None:
    fake.reply(page(charge(2, 150), charge(1, 150), more=True))
    fake.fail(400, code="resource_missing")
    fake.reply(page(charge(2, 150), charge(1, 150), more=True))
    with fake.read() as reader, pytest.raises(SourceError) as caught:
        listed(reader)
    assert caught.value.code == "unreadable_answer"


def test_objects_of_one_second_may_span_pages(fake: Fake) -> None:
    for first in range(9, 0, -3):
        fake.reply(page(*(charge(number, 150) for number in range(first, first - 3, -1)), more=first > 3))
    with fake.read() as reader:
        assert listed(reader) == [f"ch_{number}" for number in range(9, 0, -1)]


def test_nested_lists_are_completed_wherever_they_stand(fake: Fake) -> None:
    def nested(ids: list[str], url: str, more: bool) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": i, "object": "x"} for i in ids], "has_more": more, "url": url}

    fake.reply(
        {"object": "deep", "a": [{"b": nested(["x1"], "/v1/deep/xs", True)}], "c": nested(["y1"], "/v1/y", False)}
    )
    fake.reply(nested(["x2", "x3"], "/v1/deep/xs", True))
    fake.reply(nested(["x4"], "/v1/deep/xs", False))
    with fake.read() as reader:
        answer = reader.get("/v1/deep", {}, now)
        assert answer.unfinished
        assert reader.complete(answer.body, now) == 3
    inner = answer.body["a"][0]["b"]
    assert [item["id"] for item in inner["data"]] == ["x1", "x2", "x3", "x4"]
    assert inner["has_more"] is False
    assert [path for _, path, _ in fake.asked[1:]] == [
        "/v1/deep/xs?limit=100&starting_after=x1",
        "/v1/deep/xs?limit=100&starting_after=x3",
    ]


def test_text_that_looks_like_an_unfinished_list_is_none(fake: Fake) -> None:
    fake.reply({"object": "customer", "description": '"has_more": true', "has_more_of": True})
    with fake.read() as reader:
        assert not reader.get("/v1/customers/cus_1", {}, now).unfinished


def test_a_nested_list_that_leads_out_of_the_api_is_refused(fake: Fake) -> None:
    fake.reply({"object": "x", "xs": {"object": "list", "data": [], "has_more": True, "url": "/v2/xs"}})
    with fake.read() as reader:
        body = reader.get("/v1/x", {}, now).body
        with pytest.raises(SourceError, match="outside the API"):
            reader.complete(body, now)
    assert len(fake.asked) == 1
