"""The page of interfaces names everything that a guard lets through, and what a credential needs for it."""

import re
from collections.abc import Mapping

import pytest

from finance_os.artifacts.discovery import ACCESS, STRIPE_PERMISSIONS, discovery_page, place_of, written
from finance_os.local.stack import checkout
from finance_os.sandbox.ledger import Ledger
from finance_os.sandbox.stripe import PERMISSIONS, Key, StripeApp, StripeError
from finance_os.sandbox.world import World
from finance_os.sources.guard import ForbiddenRequest, Get, Post, Query, ReadOnlyGuard
from finance_os.sources.registry import SOURCES, source_named
from finance_os.stripe_qbo.guard import WriteGuard
from finance_os.stripe_qbo.lookup import ENTITIES
from finance_os_tests.sandbox.test_quickbooks import world

PAGE = discovery_page()


def test_every_source_says_what_it_needs() -> None:
    assert list(ACCESS) == [
        source.system for source in sorted(SOURCES, key=lambda each: list(ACCESS).index(each.system))
    ]
    for source in SOURCES:
        assert f"(`{source.system}`)" in PAGE
        for name in (*source.credentials, *source.options):
            assert f"`{name}`" in PAGE
        for obj in source:
            assert f"| `{obj.object_type}` | {place_of(source, obj)} |" in PAGE


@pytest.mark.parametrize("system", [source.system for source in SOURCES])
def test_every_read_is_on_the_page_with_the_place_that_it_goes_to(system: str) -> None:
    source = source_named(system)
    for read in source.reads:
        if isinstance(read, Query):
            assert (checkout() / read.folder).is_dir()
            assert f"({'../' + read.folder})" in PAGE
        elif isinstance(read, Get | Post):
            method = "GET" if isinstance(read, Get) else "POST"
            assert f"`{method} {read.path}`" in PAGE
            assert read.at in ACCESS[system].origins
    if ACCESS[system].origins:
        ReadOnlyGuard(source.reads, ACCESS[system].origins)  # every origin is an address


def test_the_places_of_objects_are_let_through() -> None:
    for system in ("stripe", "quickbooks", "plaid", "google_drive"):
        source, origins = source_named(system), ACCESS[system].origins
        for obj in source:
            for method, path in re.findall(r"`(GET|POST) (/[^`?]*)", place_of(source, obj)):
                ReadOnlyGuard(source.reads, origins).admit(method, origins["api"] + re.sub(r"\{\w+\}", "1", path))


# --- Stripe's permissions, as a strict Stripe asks for them


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    found: World = world(days=20, size=2)
    return found.stripe


def asked(ledger: Ledger, permissions: frozenset[str], path: str) -> int:
    """The status of a request with a restricted key."""
    app = StripeApp([Key("rk_test_1", ledger, permissions)], None)
    headers: Mapping[bytes, bytes] = {b"authorization": b"Bearer rk_test_1"}
    try:
        return app._answer("GET", path, b"", headers).status  # pyright: ignore[reportPrivateUsage]
    except StripeError as error:
        return error.status


def test_the_permissions_are_enough_and_none_is_too_many(ledger: Ledger) -> None:
    customer = ledger.rows("customer")[0].id
    for obj in source_named("stripe"):
        path = obj.detail.path.format(customer=customer)
        needed = STRIPE_PERMISSIONS[obj.object_type]
        assert asked(ledger, frozenset([needed]), path) == 200, obj.object_type
        assert asked(ledger, PERMISSIONS - {needed}, path) == 403, obj.object_type


# --- what is written


CREATES = b'{"BatchItemRequest": [{"bId": "1", "operation": "create", "Invoice": {}}]}'


def test_the_guard_lets_every_listed_request_through_and_no_other() -> None:
    base, realm = "https://quickbooks.example", "42"
    guard = WriteGuard(base, realm)
    listed = [text.strip("`") for text, _ in written()]
    for each in listed:
        method, _, path = each.replace("{realm}", realm).replace("{id}", "7").replace("…", "x").partition(" ")
        guard.admit(method, base + path, CREATES if "/batch?" in path else b"")
    assert sum(guard.sent().values()) == len(listed)
    for name in ENTITIES:
        with pytest.raises(ForbiddenRequest):
            guard.admit("POST", f"{base}/v3/company/{realm}/{name.lower()}?requestid=x&operation=delete")
        voided = f"/v3/company/{{realm}}/{name.lower()}?requestid=…&"
        if not any(voided in each for each in listed):
            with pytest.raises(ForbiddenRequest):
                guard.admit("POST", f"{base}/v3/company/{realm}/{name.lower()}?requestid=x&operation=void")
    with pytest.raises(ForbiddenRequest):
        guard.admit("POST", f"{base}/v3/company/{realm}/bill?requestid=x")
