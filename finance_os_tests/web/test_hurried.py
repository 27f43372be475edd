"""Connections on which no head of a request arrives are closed; those on which something happens are not."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from finance_os.web import hurried
from finance_os.web.hurried import Hurried

SECONDS = 0.4


async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers some time after it was asked."""
    await asyncio.sleep(2 * SECONDS)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(hurried, "HEAD_SECONDS", SECONDS)
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="off", http=Hurried)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


HEAD = b"GET / HTTP/1.1\r\nhost: localhost\r\n"


@pytest.mark.parametrize("said", [b"", b"G", HEAD], ids=["nothing", "a-letter", "no-end"])
def test_a_head_that_does_not_arrive_is_not_waited_for(port: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
        begun = time.monotonic()
        opened.sendall(said)
        assert opened.recv(100) == b""
        assert SECONDS * 0.5 < time.monotonic() - begun < 8


def test_a_head_that_drips_is_not_waited_for(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < 8:
                opened.sendall(b"x-a: b\r\n" if time.monotonic() - begun > 0.1 else HEAD)
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - begun < 8


def test_an_answer_may_take_longer_and_the_connection_is_used_again(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
        for _ in range(2):
            opened.sendall(HEAD + b"\r\n")
            answer = b""
            while not answer.endswith(b"ok"):
                piece = opened.recv(1_000)
                assert piece, answer
                answer += piece
        opened.sendall(HEAD)
        assert opened.recv(100) == b"", "and the head of a later request is not waited for either"
