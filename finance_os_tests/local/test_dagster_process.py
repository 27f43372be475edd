"""The processes of a local Dagster: who answers has to be one of them."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from finance_os.local.dagster_process import DagsterDidNotStart, free_port, running_dagster, stop_tree

_ANSWERS = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": {"repositoriesOrError": {"__typename": "RepositoryConnection"}}}')
http.server.HTTPServer(("127.0.0.1", int(__import__("sys").argv[1])), Answer).serve_forever()
"""


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which another Dagster answers."""
    port = free_port(0)
    other = subprocess.Popen([sys.executable, "-c", _ANSWERS, str(port)], start_new_session=True)
    for _ in range(200):
        try:
            httpx.post(f"http://127.0.0.1:{port}/graphql", trust_env=False)
            break
        except httpx.HTTPError:
            time.sleep(0.05)
    yield port
    stop_tree(other)


def test_another_dagster_on_the_port_is_not_taken_for_ours(
    taken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that were started at once may choose the same port; only one of them gets it."""
    monkeypatch.setattr("finance_os.local.dagster_process.STARTS_WITHIN", 3.0)
    stand_in = tmp_path / "dagster.py"
    stand_in.write_text("import time; time.sleep(60)")
    environment = {"PYTHONPATH": str(tmp_path)}
    with (
        pytest.raises(DagsterDidNotStart),
        running_dagster(environment, tmp_path / "workspace.yaml", tmp_path / "dagster.log", port=taken),
    ):
        pass


def test_a_preferred_port_that_is_taken_is_left_to_its_owner(taken: int) -> None:
    assert free_port(taken) != taken
