"""Databases in the state that the plan was first drawn from, and in the one in which everything is ready: made once."""

import os
from collections.abc import Iterator

import pytest

from finance_os.evidence.database import Database
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.readiness.readied import hand_in_the_bank, read_everything, record
from finance_os_tests.readiness.seed_state import plant_seed_state


@pytest.fixture(scope="session")
def seeded_name(server_url: str, template_name: str) -> Iterator[str]:
    """A database in the first state, that others are copied from."""
    name = f"finance_os_seeded_{os.getpid()}"
    plant_seed_state(Database(create_database(server_url, name, template_name)))
    yield name
    drop_database(server_url, name)


@pytest.fixture(scope="session")
def ready_name(server_url: str, seeded_name: str) -> Iterator[str]:
    """A database in which everything is ready and recorded, that others are copied from."""
    name = f"finance_os_ready_{os.getpid()}"
    database = Database(create_database(server_url, name, seeded_name))
    read_everything(database)
    hand_in_the_bank(database)
    record(database)
    yield name
    drop_database(server_url, name)


def copied(server_url: str, name: str, template: str) -> Iterator[Database]:
    """A copy of a database, in the application's role, for one test."""
    yield Database(create_database(server_url, name, template))
    drop_database(server_url, name)
