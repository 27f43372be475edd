"""The inbox: a backlog that drains without growth of memory, and how long a webhook waits to be refetched.

The backlog is walked, read and settled by the product's own functions in a process of its own; what the reads stage is
made where a vendor would be asked, so that the walk is measured and not a network.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Extraction, Page, Record, Request
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.sources.planning import targeted_read
from finance_os.sources.stripe import STRIPE
from finance_os.webhooks.events import events_in
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.settling import settle
from finance_os.webhooks.storing import Delivery, store_all
from finance_os.webhooks.walk import ReadRequest, request_reads
from finance_os_tests.benchmarks.deliveries import event
from finance_os_tests.benchmarks.figures import Figure, seconds

_AT_ONCE = 1_000
_OBJECT = STRIPE.object("stripe_refund")


def backlog(database: Database, count: int) -> list[Figure]:
    """Drain `count` events about as many objects: events a second, and memory from a fifth of the way to the end."""
    connection = _connection(database)
    taken = seconds(lambda: _fill(database, connection, count))
    command = [sys.executable, "-W", "ignore", "-m", __name__, database.url, str(count)]
    drained = msgspec.json.decode(subprocess.run(command, check=True, capture_output=True).stdout)
    return [
        Figure(f"inbox, {count:,} events: kept, 1,000 in a commit", count / taken, "1/s"),
        Figure(f"inbox, {count:,} events: drained", count / drained["seconds"], "1/s"),
        Figure("inbox: memory added between a fifth of the way and its end", drained["grown"], "MB", at_most=25),
    ]


def _connection(database: Database) -> Connection:
    ensure_business(database, "inbox", "Inbox", "UTC")
    return ensure_connection(database, "inbox", "stripe")


def _fill(database: Database, connection: Connection, count: int) -> None:
    for start in range(0, count, _AT_ONCE):
        bodies = [_body(number) for number in range(start, min(start + _AT_ONCE, count))]
        deliveries = [
            Delivery(connection, body, [(connection, each) for each in events_in("stripe", body)]) for body in bodies
        ]
        store_all(database, deliveries)


def _body(number: int) -> bytes:
    """An event about a refund: of those one object is read each."""
    return event(f"evt_{number:08}", 2_000).replace(b'"in_evt_', b'"re_evt_').replace(b'"invoice"', b'"refund"')


@contextmanager
def _made(request: Request) -> Iterator[Extraction]:
    def pages() -> Iterator[Page]:
        for target in request.targets:
            payload: dict[str, Any] = {"id": target, "object": "refund", "status": "succeeded", "note": "x" * 2_000}
            yield Page([Record(target, payload, request.days.last)], request.now())

    yield Extraction(pages())


def _read(database: Database, request: ReadRequest) -> None:
    """The run of a request."""
    run_id = f"run-{request.request_id}"
    for object_type, targets in request.reads.items():
        if object_type != _OBJECT.object_type or targets is None:
            raise RuntimeError(f"{object_type} was not to be read")
        now = datetime.now(UTC)
        read = targeted_read(STRIPE, _OBJECT, request.connection, Days(now.date(), now.date()), now, targets)
        perform(database, replace(read, extract=_made), Origin(Trigger.WEBHOOK, run_id), chunk_rows=5_000)
    settled = settle(database, request, [run_id], WebhookSettings())
    if settled.again or settled.poisoned:
        raise RuntimeError(f"not all were read: {settled}")


def _resident() -> float:
    """Resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096 / 2**20


def main() -> None:
    """Drain the inbox; print how long it took and how much memory grew, as JSON."""
    database, count = Database(sys.argv[1]), int(sys.argv[2])
    sizes: list[tuple[int, float]] = []

    def drain() -> None:
        done = 0
        while requests := request_reads(database, WebhookSettings()):
            for request in requests:
                _read(database, request)
                done += sum(len(targets or ()) for targets in request.reads.values())
            sizes.append((done, _resident()))

    took = seconds(drain)
    if sizes[-1][0] != count:
        raise RuntimeError(f"{sizes[-1][0]:,} of {count:,} objects were read")
    begun = next(size for done, size in sizes if done >= count / 5)
    sys.stdout.buffer.write(msgspec.json.encode({"seconds": took, "grown": max(size for _, size in sizes) - begun}))


if __name__ == "__main__":
    main()
