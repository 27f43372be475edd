"""A whole small company as evidence: what Stripe says of a world, and what a served QuickBooks company holds."""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Kind, Page, Record
from finance_os.evidence.windows import Days, day_of
from finance_os.stripe_qbo.books import OBJECT_TYPES
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.evidence.staged import page, stage
from finance_os_tests.sandbox.test_quickbooks import Client
from finance_os_tests.stripe_qbo.books import Books, books
from finance_os_tests.stripe_qbo.mapping.worlds import KINDS, START, Company, balance_of, bodies, living, shown

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
        # Payouts may be on their way as the balance date begins: those of the time before are read too.
        of_kind = Days(START - timedelta(days=14), until) if kind == "payout" else days
        stage(database, stripe, page(*stripe_records(of, kind)), object_type=f"stripe_{kind}", days=of_kind)
    stage_balance(database, stripe, balance_of(of.room.world), of.room.world.when)
    reference = stripe.secret_reference
    quickbooks = ensure_connection(database, stripe.business_id, "quickbooks", secret_reference=reference)
    stage_books(database, of, quickbooks)
    return quickbooks


def stage_balance(database: Database, stripe: Connection, body: dict[str, Any], moment: datetime) -> None:
    """Stage what Stripe said that the account held when it was asked at a moment."""
    shown = Page([Record("balance", body, moment.date())], moment)
    days = Days(moment.date(), moment.date())
    stage(database, stripe, shown, object_type="stripe_balance", kind=Kind.SNAPSHOT, days=days)


def stripe_records(of: Books, kind: str) -> list[Record]:
    """What Stripe says of one kind of object, each on the day on which it was created."""
    return [Record(source_id, each, _day(each)) for source_id, each in shown(of.room.world, kind)]


def stage_books(database: Database, of: Books, quickbooks: Connection, days: Days | None = None) -> None:
    """Stage what a served company holds now, as one read of `days`: from its first day to today if not given."""
    client = Client(of.room, of.base)
    client.sign_in()
    realm = Company(client)
    info = client.get(f"companyinfo/{of.realm}")["CompanyInfo"]
    made = datetime.fromisoformat(info["MetaData"]["CreateTime"])
    days = days or Days(day_of(made, quickbooks.zone), day_of(datetime.now(UTC), quickbooks.zone))

    def put(object_type: str, rows: list[tuple[str, Mapping[str, Any]]]) -> None:
        records = [Record(source_id, dict(payload), days.first) for source_id, payload in rows]
        stage(database, quickbooks, page(*records), object_type=object_type, days=days)

    put("quickbooks_company_info", [(of.realm, info)])
    for entity, object_type in OBJECT_TYPES.items():
        if entity == "Preferences":
            put(object_type, [("1", client.get("preferences")[entity])])
        elif entity != "ExchangeRate":
            put(object_type, [(each["Id"], each) for each in realm.all(entity)])
    client.http.close()


def fall_due_later(database: Database, of: Books) -> tuple[str, date]:
    """An invoice of `acme` whose create is without an answer falls due ten days later at Stripe, and that is staged:
    its Stripe ID, and the new date."""
    [sent] = database.fetch(
        """
        SELECT stripe_id, payload ->> 'DueDate' AS due FROM finance_os.intents
        WHERE business_id = 'acme' AND entity = 'Invoice' AND state = 'sending' AND payload ? 'DueDate'
        ORDER BY intent_id LIMIT 1
        """
    )
    later = timedelta(days=10)
    body = next(each for each in bodies(of.room.world, "invoice") if each["id"] == sent["stripe_id"])
    body["due_date"] += int(later.total_seconds())
    stripe = ensure_connection(database, "acme", "stripe")
    row = Record(body["id"], body, _day(body))
    days = Days(_day(body), _day(body))
    stage(database, stripe, page(row, minute=1), object_type="stripe_invoice", kind=Kind.TARGETED, days=days)
    return sent["stripe_id"], date.fromisoformat(sent["due"]) + later


def invoice_of(database: Database, of: Books, stripe_id: str) -> dict[str, Any]:
    """The object that is linked with an invoice of `acme`, as its company holds it."""
    [link] = database.fetch(
        "SELECT qbo_id FROM finance_os.links WHERE business_id = 'acme' AND entity = 'Invoice' AND stripe_id = %s",
        (stripe_id,),
    )
    return of.room.realm.one("Invoice", link["qbo_id"]).body()


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
