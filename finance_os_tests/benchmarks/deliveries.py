"""Deliveries at a steady rate, whatever the receiver does, from a process of their own.

`python -m finance_os_tests.benchmarks.deliveries`: reads its orders as JSON from standard input, and writes what became
of each event as a JSON line. How long an answer took counts from when the event was due, not from when a connection was
free to send it.
"""

import asyncio
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Orders:
    """`count` events `prefix`0, `prefix`1 …, `rate` of them a second, over at most so many connections at once.

    They are about invoices of their own, or about `objects` in turn.
    """

    url: str
    secret: str
    prefix: str
    count: int
    rate: float
    connections: int = 32
    padding: int = 2_000
    objects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sent:
    """What became of one event: the status of its answer, 0 for none, and seconds from when it was due."""

    key: str
    status: int
    seconds: float


def event(key: str, padding: int, about: str | None = None) -> bytes:
    """An event about an invoice, of `padding` bytes and some more."""
    item = {"id": about or f"in_{key}", "object": "invoice", "status": "open", "description": "x" * padding}
    body = {"id": key, "object": "event", "type": "invoice.updated", "created": 1_790_000_000, "data": {"object": item}}
    return json.dumps(body).encode()


def signature(body: bytes, secret: str) -> str:
    """https://docs.stripe.com/webhooks#verify-manually"""
    at = int(time.time())
    return f"t={at},v1={hmac.digest(secret.encode(), f'{at}.'.encode() + body, hashlib.sha256).hex()}"


@contextmanager
def delivering(orders: Orders) -> Iterator[Iterator[Sent]]:
    """A process that sends; what became of each event as it comes. It is gone at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(orders)))
    process.stdin.close()
    try:
        yield (Sent(**json.loads(line)) for line in process.stdout)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _request(orders: Orders, number: int) -> bytes:
    parts = urlsplit(orders.url)
    about = orders.objects[number % len(orders.objects)] if orders.objects else None
    body = event(f"{orders.prefix}{number}", orders.padding, about)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json; charset=utf-8\r\n"
        f"stripe-signature: {signature(body, orders.secret)}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _deliver(orders: Orders, out: BinaryIO) -> None:
    requests = [_request(orders, number) for number in range(orders.count)]
    parts = urlsplit(orders.url)
    due: asyncio.Queue[tuple[int, float]] = asyncio.Queue()

    async def send() -> None:
        stream: Any = None
        while True:
            number, at = await due.get()
            status = 0
            try:
                if stream is None:
                    stream = await asyncio.open_connection(parts.hostname, parts.port)
                reader, writer = stream
                writer.write(requests[number])
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                status = int(head.split(b" ", 2)[1])
                if b"connection: close" in head:
                    writer.close()
                    stream = None
            except (OSError, EOFError, ValueError):
                stream = None
            took = time.perf_counter() - at
            out.write(json.dumps(asdict(Sent(f"{orders.prefix}{number}", status, took))).encode() + b"\n")
            out.flush()
            due.task_done()

    senders = [asyncio.create_task(send()) for _ in range(orders.connections)]
    begin = time.perf_counter()
    for number in range(orders.count):
        at = begin + number / orders.rate
        if (wait := at - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        due.put_nowait((number, at))
    await due.join()
    for each in senders:
        each.cancel()


if __name__ == "__main__":
    asyncio.run(_deliver(Orders(**json.load(sys.stdin)), sys.stdout.buffer))
