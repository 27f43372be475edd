"""A sandbox process with two companies for the session, and clients of its Stripe side."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import httpx
import pytest
import stripe

from finance_os.sandbox.process import Running, running_sandbox
from finance_os.sandbox.stripe_form import API_VERSION
from finance_os.sandbox.world import World, build

UNTIL = datetime(2026, 10, 7, 12, 30, tzinfo=UTC)
DAYS = 120
START = datetime(2026, 6, 9, tzinfo=UTC).date()

stripe.enable_telemetry = False


@pytest.fixture(scope="session")
def world() -> World:
    """The first company, in this process: the same world as the one that is served. Only to be looked at."""
    return build(seed=7, start=START, until=UNTIL, size=20)


@pytest.fixture(scope="session")
def sandbox(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A served sandbox that no test moves or changes; faults and limits are put back by who sets them."""
    with running_sandbox(
        seed=7,
        days=DAYS,
        size=20,
        until=UNTIL,
        accounts=2,
        gravity_admin_url=server_url,
        gravity_database="sandbox_session",
        drops=tmp_path_factory.mktemp("drops"),
    ) as running:
        yield running


@pytest.fixture
def own_sandbox() -> Iterator[Running]:
    """A small sandbox of the test's own, to be moved and changed."""
    with running_sandbox(seed=3, days=45, size=6, until=UNTIL) as running:
        yield running


def connect(env: Mapping[str, str], retries: int = 0) -> stripe.StripeClient:
    """The real SDK, pointed at one company."""
    base = env["FINANCE_OS_STRIPE_API_BASE"]
    return stripe.StripeClient(
        env["FINANCE_OS_STRIPE_API_KEY"],
        stripe_version=API_VERSION,
        base_addresses={"api": base, "files": base, "connect": base, "meter_events": base},
        max_network_retries=retries,
    )


def http(running: Running, key: str | None = None) -> httpx.Client:
    """Plain HTTP with the first company's key."""
    secret = key or running.env["FINANCE_OS_STRIPE_API_KEY"]
    return httpx.Client(
        base_url=running.base, headers={"authorization": f"Bearer {secret}"}, trust_env=False, timeout=10
    )


@pytest.fixture
def client(sandbox: Running) -> stripe.StripeClient:
    return connect(sandbox.env)


@pytest.fixture
def raw(sandbox: Running) -> Iterator[httpx.Client]:
    with http(sandbox) as client:
        yield client
