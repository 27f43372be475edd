"""Dagster as child processes: `dagster dev` with its webserver, daemon and code server, and nothing left behind."""

import os
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
    """Start `dagster dev` on loopback and wait until it answers; stop every process of it at the end.

    It listens on `port`; 0 is any free one, and if it is not given, the preferred one if that is free.
    """
    port = free_port() if port is None else port or free_port(0)
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
    """Stop a process that leads a session, its descendants, and whoever else is in the session.

    The leader is stopped first, or Dagster would start a code server again that stops before it does; what it started
    while it was stopping is found by its session.
    """
    try:
        descendants = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        descendants = []
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
    for _ in range(3):
        left = {member for member in [*descendants, *_session_of(process.pid)] if member.is_running()}
        for member in left:
            with suppress(psutil.NoSuchProcess):
                member.terminate()
        _, alive = psutil.wait_procs(left, timeout=patience)
        for member in alive:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(alive, timeout=patience)
        if not left:
            break
    process.wait()


def _session_of(leader: int) -> list[psutil.Process]:
    """The processes in a session, where the system has such a thing, but for the leader."""
    if not hasattr(os, "getsid"):
        return []
    found: list[psutil.Process] = []
    for member in psutil.process_iter():
        with suppress(OSError):
            if member.pid != leader and os.getsid(member.pid) == leader:
                found.append(member)
    return found


def _listens(running: DagsterProcess) -> bool:
    """Whether it is a process of this Dagster that answers, and not of another one that took the port first."""
    port = int(running.address.rpartition(":")[2])
    with suppress(psutil.Error):
        for member in psutil.Process(running.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                for each in member.net_connections("tcp"):
                    if each.status == psutil.CONN_LISTEN and each.laddr.port == port:
                        return True
    return False


def _wait_until_it_answers(running: DagsterProcess) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            break
        with suppress(httpx.HTTPError):  # nobody listens yet
            query = {"query": "{ repositoriesOrError { __typename } }"}
            answer = httpx.post(f"{running.address}/graphql", json=query, timeout=10)
            if answer.status_code == 200 and "RepositoryConnection" in answer.text and _listens(running):
                return
        time.sleep(0.3)
    tail = running.log.read_text(errors="replace")[-3_000:]
    raise DagsterDidNotStart(f"Dagster did not start. The end of {running.log}:\n{tail}")
