"""`finance-os web` as a process of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database


def test_it_says_where_it_is_serves_and_stops(database: Database, acme: Connection, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FINANCE_OS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "finance_os.commands.web", "--port", "0"],
        env={
            **environment,
            "FINANCE_OS_DATABASE_URL": database.url,
            "FINANCE_OS_HOME": str(tmp_path),
            "COLUMNS": "200",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address, said + process.stdout.read()
        response = httpx.get(f"{address[0]}/", follow_redirects=True, timeout=30)
        assert response.status_code == 200
        assert "Source sync plan" in response.text
        assert "server" not in response.headers
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert process.returncode in (0, 130, -signal.SIGINT)
