"""A whole small company as evidence: what Stripe says of a world, and what a served QuickBooks company holds."""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Record
from finance_os.evidence.windows import Days
from finance_os.stripe_qbo.books import OBJECT_TYPES
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.evidence.staged import page, stage
from finance_os_tests.sandbox.test_quickbooks import Client
from finance_os_tests.stripe_qbo.books import Books, books
from finance_os_tests.stripe_qbo.mapping.worlds import KINDS, START, Company, bodies, living

DAYS = 20
LAST = START + timedelta(days=DAYS)
"""The last day of a company: of the hours before it only its evidence begins."""

RULES = {"balance_date": START.isoformat(), "time_zone": "UTC"}


@contextmanager
def company(seed: int = 7, size: int = 3, days: int = DAYS) -> Iterator[Books]:
    """A served company in which nobody has mirrored Stripe."""
    with books(living(days, size, seed), books_until=START - timedelta(days=1)) as served:
        yield served


_names = itertools.count(1)


@contextmanager
def staged_database(server_url: str, template: str) -> Iterator[str]:
    """The name of a database in which the same company is staged for `acme` and `globex`, that others are copied from.

    Whoever serves a company anew serves that one: the same seed gives the same IDs.
    """
    name = f"finance_os_staged_{os.getpid()}_{next(_names)}"
    database = Database(create_database(server_url, name, template))
    ensure_business(database, "acme", "Acme", "America/New_York")
    ensure_business(database, "globex", "Globex", "Asia/Tokyo")
    with company() as served:
        stage_company(database, served, ensure_connection(database, "acme", "stripe"))
        stage_company(database, served, ensure_connection(database, "globex", "stripe", secret_reference="env:GLOBEX_"))
    yield name
    drop_database(server_url, name)


@contextmanager
def copy_of(server_url: str, template: str) -> Iterator[Database]:
    """A copy of a database, in the application's role, for one test."""
    name = f"{template}_{next(_names)}"
    yield Database(create_database(server_url, name, template))
    drop_database(server_url, name)


def stage_company(database: Database, of: Books, stripe: Connection, until: date = LAST) -> Connection:
    """Stage everything that Stripe says of the company's world, and its books as they are now; their connection."""
    days = Days(START, until)
    for kind in KINDS:
        stage(database, stripe, page(*stripe_records(of, kind)), object_type=f"stripe_{kind}", days=days)
    reference = stripe.secret_reference
    quickbooks = ensure_connection(database, stripe.business_id, "quickbooks", secret_reference=reference)
    stage_books(database, of, quickbooks, days)
    return quickbooks


def stripe_records(of: Books, kind: str) -> list[Record]:
    """What Stripe says of one kind of object, each on the day on which it was created."""
    return [Record(each["id"], each, _day(each)) for each in bodies(of.room.world, kind)]


def stage_books(database: Database, of: Books, quickbooks: Connection, days: Days) -> None:
    """Stage what a served company holds now."""
    client = Client(of.room, of.base)
    client.sign_in()
    realm = Company(client)

    def put(object_type: str, rows: list[tuple[str, Mapping[str, Any]]]) -> None:
        records = [Record(source_id, dict(payload), days.first) for source_id, payload in rows]
        stage(database, quickbooks, page(*records), object_type=object_type, days=days)

    put("quickbooks_company_info", [(of.realm, {"Id": of.realm})])
    for entity, object_type in OBJECT_TYPES.items():
        if entity == "Preferences":
            put(object_type, [("1", client.get("preferences")[entity])])
        elif entity != "ExchangeRate":
            put(object_type, [(each["Id"], each) for each in realm.all(entity)])
    client.http.close()


def environment(of: Books, prefix: str = "") -> dict[str, str]:
    """The variables of a business's connections: those that write, and the realm."""
    values = {
        **of.values,
        "FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN": of.change("connect_writer")["refresh_token"],
        "FINANCE_OS_QUICKBOOKS_REALM_ID": of.realm,
    }
    return {f"{prefix}{name}": value for name, value in values.items()}


def _day(body: Mapping[str, Any]) -> date:
    return datetime.fromtimestamp(body["created"], UTC).date()
