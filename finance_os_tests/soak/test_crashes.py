"""A backfill that is killed at random moments, and run again, ends in the same tables as an undisturbed one.

Everything is derived from the seed. To look at one: `SOAK_SEEDS=50 pytest -m soak -k '[17]'`.
"""

import os
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from finance_os.evidence import sync_runs
from finance_os.evidence.database import Database
from finance_os_tests.soak.conftest import Scene, finished, started
from finance_os_tests.soak.state import State, contradictions, state_of
from finance_os_tests.soak.worker import Disaster, Orders

STRIPE_PATHS = ("/v1/customers", "/v1/customers/*", "/v1/invoices", "/v1/invoices/*", "/v1/events", "/v1/balance*")
FAULTS = ("429", "500", "truncated", "duplicate_page", "drop_connection", "slow")


def test_a_backfill_ends_the_same_however_it_was_disturbed(
    scene: Scene, copy: Database, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    orders = scene.orders(copy.url, tmp_path, chunk_rows=rng.choice([3, 7, 20, 60]))
    try:
        if rng.random() < 0.4:
            scene.sandbox.script(*_faults(rng))
        for _ in range(rng.randint(1, 4)):
            _disturbed(rng, scene, orders)
    finally:
        scene.sandbox.clear_faults()
    assert finished(started(orders)) == 0, "with nothing in its way it comes to its end"
    sync_runs.end_abandoned(copy)
    assert contradictions(copy) == []
    _compare(state_of(copy), scene.reference)


def _disturbed(rng: random.Random, scene: Scene, orders: Orders) -> None:
    """One attempt, of one worker or two, that meets with a disaster."""
    disaster = rng.choice([*Disaster, Disaster.KILL, Disaster.KILL])
    moments = scene.moments // (12 if disaster is Disaster.COMMIT else 1)
    doomed = replace(orders, disaster=disaster, strike=rng.randint(1, max(2, moments // 2)))
    workers = [started(doomed)]
    if rng.random() < 0.35:
        other = rng.choice([Disaster.NONE, Disaster.KILL, Disaster.LOST])
        workers.append(started(replace(doomed, disaster=other, backwards=rng.random() < 0.5)))
    if disaster is Disaster.NONE:
        time.sleep(rng.uniform(0.05, 1.5))
        _kill(workers[0])
    for worker in workers:
        status = finished(worker)
        assert status in (0, 1, -signal.SIGKILL), f"{doomed.disaster} at {doomed.strike}: status {status}"


def _kill(worker: BaseProcess) -> None:
    """SIGKILL to the worker's whole process group, whatever it is doing."""
    assert worker.pid is not None
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, or has not begun yet
        worker.kill()


def _faults(rng: random.Random) -> list[dict[str, Any]]:
    """Rules for the sandbox. It repeats the last page of a path, whatever was asked: not what a real repetition is
    where one path answers different questions, as `/v1/events` does by type."""
    rules = [
        {
            "path": rng.choice(STRIPE_PATHS),
            "kind": rng.choice(FAULTS),
            "on": rng.randint(1, 12),
            "times": rng.randint(1, 5),
            "delay": 0.05,
        }
        for _ in range(rng.randint(1, 4))
    ]
    return [rule for rule in rules if (rule["path"], rule["kind"]) != ("/v1/events", "duplicate_page")]


def _compare(found: State, expected: State) -> None:
    for name in ("evidence", "sightings", "tables"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.keys() == theirs.keys(), f"{name}: {sorted(ours.keys() ^ theirs.keys(), key=str)}"
        for key, rows in theirs.items():
            if ours[key] != rows:
                lost, more = Counter(rows) - Counter(ours[key]), Counter(ours[key]) - Counter(rows)
                pytest.fail(f"{name} {key}: lost {list(lost)[:3]}, more {list(more)[:3]}, or another order")


def test_the_reference_is_worth_comparing_with(scene: Scene) -> None:
    """Versions change, records are removed, and both businesses have the same IDs with other contents."""
    changes = Counter((row[0], row[3]) for row in scene.reference.evidence["changes"])
    for business in ("acme", "globex"):
        assert changes[business, "added"] > 100
        assert changes[business, "changed"] > 10
        assert changes[business, "removed"] >= 2
    ids = {
        business: {row[3]: row[4] for row in scene.reference.evidence["heads"] if row[0] == business}
        for business in ("acme", "globex")
    }
    assert ids["acme"].keys() & ids["globex"].keys()
    assert scene.moments > 1_000, "there are many places to be killed at"
