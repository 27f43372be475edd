"""A realm in which nothing of Stripe has been booked, over its HTTP API."""

from collections.abc import Iterator

import pytest

from finance_os.sandbox.world import World

from .worlds import Company, company, living


@pytest.fixture(scope="session")
def quiet() -> World:
    """A world of one advertiser that has not been billed yet."""
    return living(29, 1, 1)


@pytest.fixture
def realm(quiet: World) -> Iterator[Company]:
    with company(quiet) as served:
        yield served
