"""The web app as a child process."""

import os
from pathlib import Path

import httpx
import psutil
import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.local import web_process
from finance_os.local.web_process import WebDidNotStart, running_web


def environment(home: Path, url: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FINANCE_OS_")}
    return {**ours, "FINANCE_OS_DATABASE_URL": url, "FINANCE_OS_HOME": str(home)}


def test_it_answers_leads_to_dagster_and_is_stopped(database: Database, acme: Connection, tmp_path: Path) -> None:
    with running_web(
        environment(tmp_path, database.url), tmp_path / "logs" / "web.log", dagster_url="http://127.0.0.1:3000"
    ) as web:
        page = httpx.get(f"{web.address}/", follow_redirects=True, timeout=30)
        assert "Source sync plan" in page.text
        assert 'href="http://127.0.0.1:3000/' in page.text
        pid = web.process.pid
    assert not psutil.pid_exists(pid)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{web.address}/")


def test_one_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_process, "STARTS_WITHIN", 20.0)
    with (
        pytest.raises(WebDidNotStart, match="begins with postgresql"),
        running_web(environment(tmp_path, "mysql://nowhere"), tmp_path / "web.log"),
    ):
        raise AssertionError("it started")
