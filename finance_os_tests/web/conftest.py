"""The app over the test's database, served as it is served to a browser on this machine."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from finance_os.evidence.database import Database
from finance_os.settings import Settings
from finance_os.web.app import create_app

DAGSTER = "https://dagster.example"

Browse = Callable[..., httpx.Client]


@pytest.fixture
def browse() -> Iterator[Browse]:
    """Serves the app over a database; settings may be given by name."""
    with ExitStack() as started:

        def start(database: Database, **given: object) -> httpx.Client:
            settings = Settings.model_validate({"dagster_url": DAGSTER, **given})
            address = started.enter_context(served(create_app(database, settings)))
            return started.enter_context(httpx.Client(base_url=address, timeout=30))

        yield start


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app on a port of this machine; its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical")
    listening = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
