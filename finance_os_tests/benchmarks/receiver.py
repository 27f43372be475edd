"""The receiver: how long a delivery waits for its answer at a steady rate, and that no answered one is lost.

One process of `finance-os web` over a database with every durability setting as it comes; deliveries from a process of
their own, each of 2 kB.
"""

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os_tests.benchmarks.deliveries import Orders, Sent, delivering
from finance_os_tests.benchmarks.figures import Figure

RATE = 200
SECRET = "whsec_bench"
_WARM = 400


def at_a_steady_rate(database: Database, seconds: int, rate: float = RATE) -> list[Figure]:
    """Latency of deliveries at `rate` a second for `seconds`, and how many a second one process takes at most."""
    connection = _connection(database)
    with receiver(database) as (address, _):
        place = f"{address}/webhooks/bench/stripe/{connection.connection_id}"
        _send(Orders(place, SECRET, "evt_warm_", _WARM, rate))
        sent = _send(Orders(place, SECRET, "evt_rate_", int(rate * seconds), rate))
        begun = time.perf_counter()
        burst = _send(Orders(place, SECRET, "evt_most_", int(rate * seconds), 100_000))
        most = len(burst) / (time.perf_counter() - begun)
    _require_kept(database, [*sent, *burst])
    took = sorted(each.seconds * 1_000 for each in sent)
    cuts = statistics.quantiles(took, n=100)
    return [
        Figure(f"receiver, {rate:g} events/s: p50", cuts[49], "ms"),
        Figure(f"receiver, {rate:g} events/s: p95", cuts[94], "ms", at_most=50),
        Figure(f"receiver, {rate:g} events/s: p99", cuts[98], "ms"),
        Figure("receiver: deliveries at most", most, "1/s", at_least=RATE),
    ]


def killed(database: Database, rounds: int) -> list[Figure]:
    """How many answered deliveries are lost when the receiver is killed (SIGKILL) in the middle of a burst."""
    connection = _connection(database)
    lost = answered = 0
    for number in range(rounds):
        sent: list[Sent] = []
        with receiver(database) as (address, process):
            place = f"{address}/webhooks/bench/stripe/{connection.connection_id}"
            with delivering(Orders(place, SECRET, f"evt_kill{number}_", 4_000, 2_000)) as results:
                for each in results:
                    sent.append(each)
                    if len(sent) == 150 + 97 * number:
                        os.kill(process.pid, signal.SIGKILL)
        taken = [each.key for each in sent if 200 <= each.status < 300]
        if len(taken) == len(sent):
            raise RuntimeError("the receiver was killed after the last delivery: nothing was tested")
        answered += len(taken)
        lost += len(taken) - _kept(database, taken)
    return [
        Figure(f"receiver killed {rounds} times: deliveries answered", answered, ""),
        Figure("receiver killed: answered deliveries lost", lost, "", at_most=0),
    ]


@contextmanager
def receiver(database: Database, port: int = 0, secret: str = SECRET) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A receiver in a process of its own: its address, and the process."""
    settings = {"FINANCE_OS_DATABASE_URL": database.url, "FINANCE_OS_STRIPE_WEBHOOK_SECRET": secret}
    process = subprocess.Popen(
        [sys.executable, "-m", "finance_os.commands.web", "--port", str(port)],
        env={**os.environ, **settings, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://[0-9.:]+", process.stdout.readline())
        if found is None:
            raise RuntimeError("the receiver did not start")
        yield found.group(), process
    finally:
        process.terminate()
        try:
            process.wait(40)
        finally:
            process.kill()
            process.stdout.close()


def _connection(database: Database) -> Connection:
    ensure_business(database, "bench", "Bench", "UTC")
    return ensure_connection(database, "bench", "stripe")


def _send(orders: Orders) -> list[Sent]:
    with delivering(orders) as results:
        sent = list(results)
    refused = Counter(each.status for each in sent if each.status != 200)
    if refused or len(sent) != orders.count:
        raise RuntimeError(f"{len(sent)} of {orders.count} were sent, and not taken: {dict(refused)}")
    return sent


def _require_kept(database: Database, sent: Sequence[Sent]) -> None:
    found = _kept(database, [each.key for each in sent])
    if found != len(sent):
        raise RuntimeError(f"{len(sent)} deliveries were answered, and {found} are in the inbox")


def _kept(database: Database, keys: Sequence[str]) -> int:
    """How many of the events are in the inbox with their bodies."""
    with psycopg.connect(database.url) as connection:
        row = connection.execute(
            """
            SELECT count(*) FROM finance_os.webhook_events JOIN finance_os.webhook_bodies USING (body_id)
            WHERE event_key = ANY (%s)
            """,
            (list(keys),),
        ).fetchone()
    assert row is not None
    return row[0]
