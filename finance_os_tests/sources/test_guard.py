"""The read-only guard, beneath `requests` and beneath `httpx`, against a real server that counts."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from finance_os.sources.guard import (
    ForbiddenRequest,
    Get,
    Query,
    ReadOnlyGuard,
    Take,
)
from finance_os.sources.transports import GuardedAdapter, GuardedTransport

READS = (Get("/v1/*"), Query("gravity"), Take("*.csv"))


@dataclass
class Server:
    base: str
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            seen.asked.append(f"{self.command} {self.path}")
            self.send_response(302 if self.path == "/v1/away" else 200)
            self.send_header("Location", "http://localhost:1/v1/x")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    seen = Server(f"http://127.0.0.1:{http.server_port}")
    yield seen
    http.shutdown()
    http.server_close()


def requests_sender(guard: ReadOnlyGuard) -> Callable[[str, str], object]:
    session = requests.Session()
    session.mount("http://", GuardedAdapter(guard))
    session.mount("https://", GuardedAdapter(guard))
    return session.request


def httpx_sender(guard: ReadOnlyGuard) -> Callable[[str, str], object]:
    return httpx.Client(transport=GuardedTransport(guard), follow_redirects=True).request


@pytest.mark.parametrize("sender", [requests_sender, httpx_sender])
def test_only_what_is_on_the_list_is_sent_and_counted(
    server: Server, sender: Callable[[ReadOnlyGuard], Callable[[str, str], object]]
) -> None:
    guard = ReadOnlyGuard(READS, server.base)
    send = sender(guard)
    send("GET", f"{server.base}/v1/customers?limit=1")
    send("get", f"{server.base}/v1/customers/cus_1")
    assert len(server.asked) == 2
    assert guard.sent() == {"GET 127.0.0.1": 2}
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "post"):
        with pytest.raises(ForbiddenRequest, match="was not sent") as caught:
            send(method, f"{server.base}/v1/customers")
        assert (caught.value.code, caught.value.permanent) == ("write_refused", True)
    for url in (
        f"{server.base}/v2/customers",
        f"{server.base}/",
        server.base.replace("http:", "https:") + "/v1/customers",
        server.base.replace("127.0.0.1", "localhost") + "/v1/customers",
        "http://127.0.0.1:1/v1/customers",
        f"{server.base}@localhost:1/v1/customers",
        f"{server.base}/v1/%2e%2e/v2/customers",
        f"{server.base}/v1/..%2Fv2/customers",
    ):
        with pytest.raises(ForbiddenRequest):
            send("GET", url)
    assert len(server.asked) == 2
    with pytest.raises(ForbiddenRequest):
        send("GET", f"{server.base}/v1/away")
    assert server.asked[2:] == ["GET /v1/away"]
    assert guard.sent() == {"GET 127.0.0.1": 3}


def test_the_message_holds_no_parameters() -> None:
    guard = ReadOnlyGuard(READS, "https://api.stripe.com")
    with pytest.raises(ForbiddenRequest) as caught:
        guard.admit("POST", "https://user:secret@api.stripe.com/v1/customers?email=canary@example.com")
    assert "POST /v1/customers at api.stripe.com" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_ports_that_go_without_saying_are_the_same_origin() -> None:
    guard = ReadOnlyGuard(READS, "https://api.stripe.com")
    guard.admit("GET", "https://API.stripe.com:443/v1/charges")
    with pytest.raises(ForbiddenRequest):
        guard.admit("GET", "https://api.stripe.com:8443/v1/charges")


@given(method=st.text(max_size=8), path=st.text(max_size=20))
def test_nothing_else_is_ever_admitted(method: str, path: str) -> None:
    guard = ReadOnlyGuard(READS, "https://api.stripe.com")
    try:
        guard.admit(method, f"https://api.stripe.com/{path}")
    except ForbiddenRequest:
        assert guard.sent() == {}
    else:
        assert method.upper() == "GET"
        assert path.startswith("v1/")


def test_what_needs_no_permission_is_counted() -> None:
    guard = ReadOnlyGuard(READS, "https://api.stripe.com")
    guard.count("SELECT", "gravity.example.com")
    sent = guard.sent()
    assert sent == {"SELECT gravity.example.com": 1}
    sent.clear()
    assert guard.sent() == {"SELECT gravity.example.com": 1}
