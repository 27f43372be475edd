"""Dagster as child processes: `dagster dev` with its webserver, daemon and code server, and nothing left behind."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

STARTS_WITHIN = 120.0


@dataclass(frozen=True)
class DagsterProcess:
    """A running `dagster dev`. `address` is its web address, `log` where it writes."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path


class DagsterDidNotStart(RuntimeError):
    """`dagster dev` ended or did not answer in time; the message shows the end of its log."""


@contextmanager
def running_dagster(
    environment: Mapping[str, str], workspace: Path, log: Path, *, port: int | None = None
) -> Iterator[DagsterProcess]:
    """Start `dagster dev` on loopback and wait until it answers; stop every process of it at the end."""
    port = port or free_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            [
                *(sys.executable, "-m", "dagster", "dev", "--workspace", str(workspace)),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        running = DagsterProcess(f"http://127.0.0.1:{port}", process, log)
        try:
            _wait_until_it_answers(running)
            yield running
        finally:
            stop_tree(process)


def free_port(preferred: int = 3000) -> int:
    """`preferred` if nothing listens there, else any free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError("no port is free on 127.0.0.1")


def stop_tree(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Stop a process and all its descendants: its parent's death alone leaves Dagster's children for a while."""
    try:
        # The parent first: it would start a code server again that stops before it does.
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        tree = []
    for member in tree:
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(tree, timeout=patience)
    for member in alive:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(alive, timeout=patience)
    process.wait()


def _wait_until_it_answers(running: DagsterProcess) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            break
        with suppress(httpx.HTTPError):  # nobody listens yet
            query = {"query": "{ repositoriesOrError { __typename } }"}
            answer = httpx.post(f"{running.address}/graphql", json=query, timeout=10)
            if answer.status_code == 200 and "RepositoryConnection" in answer.text:
                return
        time.sleep(0.3)
    tail = running.log.read_text(errors="replace")[-3_000:]
    raise DagsterDidNotStart(f"Dagster did not start. The end of {running.log}:\n{tail}")
