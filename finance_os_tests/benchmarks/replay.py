"""A server that replays: what a running one answered when it was first asked the same, as ready bytes.

In a process of its own and on connections that stay open, with the headers of the first answer; so of what a client
takes to read, nearly all is the client's own work.
"""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import httpx


@contextmanager
def replaying(upstream: str) -> Iterator[str]:
    """Base URL of a server that answers as `upstream` did when it was first asked the same."""
    command = [sys.executable, "-W", "ignore", "-m", "finance_os_tests.benchmarks.replay", upstream]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def recorded(replayed: str) -> int:
    """How many different requests the server has passed on."""
    return int(httpx.get(f"{replayed}/_recorded", trust_env=False).text)


_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")
_OF_A_CONNECTION = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "accept-encoding"}


class _Replay(asyncio.Protocol):
    """One connection. What was not asked before is passed on, and its answer kept as the bytes that it is sent in."""

    def __init__(self, upstream: httpx.Client, answers: dict[tuple[bytes, bytes], bytes]) -> None:
        self._upstream = upstream
        self._answers = answers
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            asked = head.partition(b"\r\n")[0], body
            answer = self._answers.get(asked)
            if answer is None:
                answer = self._pass_on(head.decode("latin-1"), body)
            self._transport.write(answer)

    def _pass_on(self, head: str, body: bytes) -> bytes:
        line, *fields = head.split("\r\n")
        method, target, _ = line.split(" ")
        if target == "/_recorded":
            return _answer(200, {}, str(len(self._answers)).encode())
        given = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        headers = {name: value for name, value in given.items() if name not in _OF_A_CONNECTION}
        got = self._upstream.request(method, target, headers=headers, content=body)
        # Addresses in an answer lead back here.
        base = str(self._upstream.base_url).rstrip("/")
        content = got.content.replace(base.encode(), f"http://{given['host']}".encode())
        answer = _answer(got.status_code, got.headers, content)
        if got.status_code == 200:
            self._answers[line.encode("latin-1"), body] = answer
        return answer


def _answer(status: int, headers: Mapping[str, str], content: bytes) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in _OF_A_CONNECTION]
    head = "\r\n".join([f"HTTP/1.1 {status} {httpx.codes.get_reason_phrase(status)}", *lines])
    return f"{head}\r\ncontent-length: {len(content)}\r\n\r\n".encode("latin-1") + content


async def _serve(upstream: str) -> None:
    answers: dict[tuple[bytes, bytes], bytes] = {}
    with httpx.Client(
        base_url=upstream, headers={"accept-encoding": "identity"}, timeout=60, trust_env=False
    ) as client:
        server = await asyncio.get_running_loop().create_server(lambda: _Replay(client, answers), "127.0.0.1", 0)
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Replay the server whose base URL is on the command line, until standard input ends."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(sys.argv[1]))


if __name__ == "__main__":
    main()
