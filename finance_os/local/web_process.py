"""The web app as a child process, and nothing left behind."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from finance_os.local.dagster_process import free_port, stop_tree

STARTS_WITHIN = 60.0


@dataclass(frozen=True)
class WebProcess:
    """A running `finance-os web`. `address` is its web address, `log` where it writes."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path


class WebDidNotStart(RuntimeError):
    """`finance-os web` ended or did not answer in time; the message shows the end of its log."""


@contextmanager
def running_web(
    environment: Mapping[str, str], log: Path, *, dagster_url: str | None = None, port: int = 3001
) -> Iterator[WebProcess]:
    """Start the web app on loopback, on `port` if it is free, and wait until it answers; stop it at the end.

    Its pages lead to the Dagster UI at `dagster_url`, unless the environment names another.
    """
    port = free_port(port)
    ours = {"FINANCE_OS_DAGSTER_URL": dagster_url, **environment} if dagster_url else dict(environment)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            [sys.executable, "-m", "finance_os.commands.web", "--port", str(port)],
            env=ours,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        running = WebProcess(f"http://127.0.0.1:{port}", process, log)
        try:
            _wait_until_it_answers(running)
            yield running
        finally:
            stop_tree(process)


def _wait_until_it_answers(running: WebProcess) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and running.process.poll() is None:
        with suppress(httpx.HTTPError):  # nobody listens yet
            if httpx.get(f"{running.address}/healthz", timeout=10).status_code == 200:
                return
        time.sleep(0.2)
    tail = running.log.read_text(errors="replace")[-3_000:]
    raise WebDidNotStart(f"The web app did not start. The end of {running.log}:\n{tail}")
