"""The books of one company only: what another one's reads leave behind is refused wherever it would be planned from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.chunks import Unstageable
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Extraction, Kind, Page, Record, Request
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days, day_of
from finance_os.readiness.gate import Gate
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.planning import plan_reads
from finance_os.sources.quickbooks import QUICKBOOKS
from finance_os.sources.quickbooks.objects import company_path
from finance_os.sources.sealing import EncryptionKeys, new_key
from finance_os.stripe_qbo import books as qbo_books
from finance_os.stripe_qbo import completeness, drift, links, realms
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo.books import OBJECT_TYPES, BooksNotRead, BooksOfSeveralCompanies
from finance_os.stripe_qbo.completeness import CHANGING, WHOLE
from finance_os.stripe_qbo.export import NotExported
from finance_os_tests.evidence.staged import NOON, read_of
from finance_os_tests.sandbox.test_quickbooks import world
from finance_os_tests.stripe_qbo.books import Books, books, customer
from finance_os_tests.stripe_qbo.staged import RULES

OURS, OTHER = "9130000000000001", "9130000000000002"
MADE = "2026-03-02T18:30:00-08:00"
FIRST = date(2026, 3, 2)
TYPES = list(OBJECT_TYPES.values())


@dataclass
class Side:
    """A connection that reads whichever company it is set to; each read a minute after the one before."""

    database: Database
    connection: Connection
    realm: str = OURS
    minutes: Iterator[int] = field(default_factory=lambda: iter(range(10_000)))

    @property
    def today(self) -> Days:
        today = day_of(datetime.now(UTC), self.connection.zone)
        return Days(today, today)

    def put(
        self,
        object_type: str,
        *records: tuple[str, dict[str, Any] | None],
        days: Days | None = None,
        kind: Kind = Kind.WINDOW,
        tells: bool = True,
    ) -> None:
        """Stage what the company shows. `tells`: the run bears the name of its company, as runs have not always."""
        days = days or self.today
        moment = NOON + timedelta(minutes=next(self.minutes))
        rows = [
            Record(source_id, body, days.first, None if body is None else int(body.get("SyncToken", 0)))
            for source_id, body in records
        ]
        read = read_of(self.connection, [], object_type=object_type, kind=kind, days=days)

        @contextmanager
        def extract(_: Request) -> Iterator[Extraction]:
            yield Extraction([Page(rows, moment)], query_name=company_path(self.realm) if tells else None)

        perform(self.database, replace(read, extract=extract), Origin(Trigger.MANUAL), chunk_rows=100)

    def info(self, *, tells: bool = True) -> None:
        body = {"Id": "1", "SyncToken": "0", "CompanyName": self.realm, "MetaData": {"CreateTime": MADE}}
        self.put("quickbooks_company_info", (self.realm, body), kind=Kind.SNAPSHOT, tells=tells)

    def account(self, number: str, token: int = 0, *, tells: bool = True) -> None:
        body = {"Id": number, "SyncToken": str(token), "Name": f"{self.realm} {number}"}
        self.put("quickbooks_account", (number, body), tells=tells)

    def some(self, *, tells: bool = True) -> None:
        """Read the company and two of its accounts."""
        self.info(tells=tells)
        self.account("1", tells=tells)
        self.account("2", 3, tells=tells)

    def whole(self, *, tells: bool = True) -> None:
        """Read everything from the company's first day on."""
        self.some(tells=tells)
        for object_type in WHOLE:
            self.put(object_type, tells=tells)
        for object_type in CHANGING:
            self.put(object_type, days=Days(FIRST, self.today.last), tells=tells)


def side_of(database: Database, account: str = "default", realm: str = OURS) -> Side:
    return Side(database, ensure_connection(database, "acme", "quickbooks", account), realm)


@pytest.fixture
def side(database: Database, acme: Connection) -> Side:
    assert acme
    return side_of(database)


def codes(database: Database, realm: str = OURS, business_id: str = "acme") -> list[str]:
    return [each.code for each in completeness.unproven(database, business_id, realm)]


def load(database: Database, realm: str = OURS) -> qbo_books.Books:
    with database.transaction() as connection:
        return qbo_books.load(connection, "acme", realm)


def remedy(database: Database, realm: str = OURS) -> str:
    with database.transaction() as connection:
        found = realms.several(connection, "acme", realm, TYPES)
    assert found is not None
    assert (found.code, found.subject, found.day) == (realms.SEVERAL, "quickbooks/quickbooks_company_info", None)
    return found.remedy


def assert_refused(database: Database, realm: str = OURS) -> None:
    with pytest.raises(BooksOfSeveralCompanies):
        load(database, realm)
    assert codes(database, realm) == ["books_of_several_companies"]
    assert exporting.held_from(completeness.unproven(database, "acme", realm)) == date.min


@pytest.mark.parametrize("tells", [True, False], ids=["runs tell", "runs of before"])
def test_one_company_read_by_one_connection_is_loaded(database: Database, side: Side, *, tells: bool) -> None:
    side.whole(tells=tells)
    assert [each.name for each in load(database).all("Account")] == [f"{OURS} 1", f"{OURS} 2"]
    assert (codes(database), completeness.of_every_realm(database, "acme")) == ([], [])


# --- one connection, switched


@pytest.mark.parametrize("tells", [True, False], ids=["runs tell", "runs of before"])
def test_a_connection_that_is_switched_mixes_both_and_neither_is_loaded_ever_again(
    database: Database, side: Side, *, tells: bool
) -> None:
    """The other one's account 1 takes the place of ours, and its account 2 is kept out by a higher version of ours."""
    side.some(tells=tells)
    side.realm = OTHER
    side.info(tells=tells)
    side.account("1", 1, tells=tells)
    side.account("2", tells=tells)
    for realm in (OURS, OTHER):
        assert_refused(database, realm)
    assert [each.code for each in completeness.of_every_realm(database, "acme")] == ["books_of_several_companies"]
    assert remedy(database, OTHER) == (
        f"The QuickBooks connection default has read company {OTHER}, and also {OURS}: their objects have the same "
        "IDs, and nobody can tell any more which is whose. Nothing is planned or written. Let a connection read one "
        f"company only: make a business of its own for company {OTHER}, with connections of its own to Stripe and "
        "QuickBooks, and read both from their first day on. What the export has made in that company is known there by "
        "its marks, and not made again."
    )
    side.realm = OURS
    side.some(tells=tells)
    assert_refused(database)


def test_what_was_read_while_it_was_switched_is_told_without_its_company_info(database: Database, side: Side) -> None:
    side.some()
    side.realm = OTHER
    side.account("7")
    side.realm = OURS
    side.info()
    assert_refused(database)
    assert OTHER in remedy(database)


def test_a_removal_that_another_company_told_of_counts(database: Database, side: Side) -> None:
    """A webhook's object is asked for by ID: the other company does not have it, and so ours is taken for deleted."""
    side.some()
    side.realm = OTHER
    side.put("quickbooks_account", ("2", None), kind=Kind.TARGETED)
    side.realm = OURS
    assert_refused(database)


def test_a_webhooks_company_info_of_another_company_does_not_pass_for_ours(database: Database, side: Side) -> None:
    side.some()
    side.realm = OTHER
    body = {"Id": "1", "SyncToken": "9", "CompanyName": OTHER}
    side.put("quickbooks_company_info", (OURS, body), kind=Kind.TARGETED)
    side.realm = OURS
    assert_refused(database)


def test_a_read_of_another_company_that_came_to_nothing_proves_nothing_of_ours(database: Database, side: Side) -> None:
    side.whole()
    for object_type in CHANGING:
        side.put(object_type, days=Days(FIRST - timedelta(days=9), FIRST))
    assert codes(database) == []
    hole = Days(FIRST - timedelta(days=30), FIRST - timedelta(days=10))
    side.account("3")
    older = {"Id": "3", "SyncToken": "1", "Name": "older", "MetaData": {"CreateTime": "2026-02-01T12:00:00Z"}}
    record = Record("3", older, side.today.first, 1, datetime(2026, 2, 1, 12, tzinfo=UTC))
    read = read_of(side.connection, [Page([record], NOON + timedelta(days=9))], object_type="quickbooks_account")
    perform(database, replace(read, days=side.today), Origin(Trigger.MANUAL), chunk_rows=10)
    side.realm = OTHER
    for object_type in CHANGING:
        side.put(object_type, days=hole)
    side.realm = OURS
    assert set(codes(database)) == {"books_not_read_from_first_day"}
    assert len(load(database).held["Account"]) == 3
    for object_type in CHANGING:
        side.put(object_type, days=hole)
    side.put("quickbooks_account", days=side.today)
    assert "books_of_several_companies" not in codes(database)
    assert "books_not_read_from_first_day" not in codes(database)


def test_what_is_only_ever_asked_of_another_company_was_never_read(database: Database, side: Side) -> None:
    side.whole()
    fresh = side_of(database, "fresh", OTHER)
    fresh.info()
    fresh.realm = "77"
    for object_type in (*CHANGING, *WHOLE):
        fresh.put(object_type, days=Days(FIRST, fresh.today.last))
    fresh.realm = OTHER
    assert set(codes(database, OTHER)) == {"books_not_read_from_first_day", "books_never_read"}


def test_before_the_other_company_is_read_the_way_back_is_told(database: Database, side: Side) -> None:
    """The setting was changed and nothing was read yet: running the assets would mix both."""
    side.whole()
    assert_refused(database, OTHER)
    assert remedy(database, OTHER).startswith(
        f"The QuickBooks connection default is set to company {OTHER}, and has read {OURS}: the books of both would be "
        f"mixed. Read nothing more through it. Set FINANCE_OS_QUICKBOOKS_REALM_ID back to {OURS}, with that company's "
        "tokens; "
    )
    assert codes(database) == []
    with pytest.raises(BooksNotRead, match="No evidence"), database.transaction() as connection:
        qbo_books.load(connection, "globex", OTHER)


# --- several connections


def test_of_two_connections_that_share_no_id_only_the_companys_own_is_loaded(database: Database, side: Side) -> None:
    side.whole()
    second = side_of(database, "second", OTHER)
    second.info()
    second.account("8")
    assert [each.id for each in load(database).all("Account")] == ["1", "2"]
    assert [each.id for each in load(database, OTHER).all("Account")] == ["8"]
    assert codes(database) == []


def test_what_another_connection_holds_in_its_place_is_not_left_out_in_silence(
    database: Database, side: Side, owner: Database
) -> None:
    """The first one is out of use, and a higher version of its account 2 stays: that of the second is not seen."""
    side.some()
    with owner.transaction() as connection:
        connection.execute("UPDATE finance_os.connections SET active = false WHERE business_id = 'acme'")
    second = Side(database, ensure_connection(database, "acme", "quickbooks", "second"), OTHER, side.minutes)
    second.info()
    second.account("1")
    second.account("2")
    for realm in (OURS, OTHER):
        assert_refused(database, realm)
    assert "(quickbooks_account 2)" in remedy(database, OTHER)
    assert "(quickbooks_account 1)" in remedy(database, OURS)


def test_a_removal_by_another_connection_takes_nothing_out_in_silence(database: Database, side: Side) -> None:
    side.whole()
    second = Side(database, ensure_connection(database, "acme", "quickbooks", "second"), OTHER, side.minutes)
    second.info()
    with pytest.raises(Unstageable):
        second.account("1")
    assert codes(database) == []
    second.put("quickbooks_account", ("2", None), kind=Kind.TARGETED)
    assert_refused(database)


def test_a_new_connection_to_the_same_company_takes_its_books_over(
    database: Database, side: Side, owner: Database
) -> None:
    side.whole()
    with owner.transaction() as connection:
        connection.execute("UPDATE finance_os.connections SET active = false WHERE business_id = 'acme'")
    again = Side(database, ensure_connection(database, "acme", "quickbooks", "again"), OURS, side.minutes)
    again.whole()
    assert [each.id for each in load(database).all("Account")] == ["1", "2"]
    assert codes(database) == []


def test_businesses_are_kept_apart(database: Database, side: Side, globex: Connection) -> None:
    side.whole()
    elsewhere = Side(database, ensure_connection(database, "globex", "quickbooks"), OTHER)
    elsewhere.whole()
    assert (codes(database), codes(database, OTHER, "globex")) == ([], [])
    assert [each.name for each in load(database).all("Account")] == [f"{OURS} 1", f"{OURS} 2"]


# --- what rests on it


def test_a_read_of_another_company_says_of_no_link_that_its_object_is_gone(database: Database, side: Side) -> None:
    side.whole()
    owner = customer("cus_1")
    links.adopt(database, "acme", OURS, owner.key, "Customer", "55", "0")
    with database.transaction() as connection:
        connection.execute("UPDATE finance_os.links SET verified_at = now() - interval '1 day'")
        connection.execute("SET LOCAL ROLE NONE")
        connection.execute("UPDATE finance_os.source_sync_runs SET started_at = started_at - interval '2 days'")
    assert drift.moved(database, "acme", OURS) == []
    side.realm = OTHER
    side.put("quickbooks_customer")
    assert drift.moved(database, "acme", OURS) == []
    side.realm = OURS
    side.put("quickbooks_customer")
    assert drift.moved(database, "acme", OURS) == [owner.key]
    assert drift.moved(database, "acme", OTHER) == []


@pytest.fixture
def two() -> Iterator[tuple[Books, Books]]:
    """Two companies, as small as they come."""
    with books() as first, books(world(days=3, size=1, seed=10)) as second:
        assert first.realm != second.realm
        yield first, second


def test_by_the_settings_of_a_connection_read_as_it_is_read_every_day(
    database: Database, acme: Connection, two: tuple[Books, Books], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the variables to the refusal, over a socket; and back, where nothing of the other company was staged."""
    key = new_key()
    connection = ensure_connection(database, "acme", "quickbooks")

    def kept(connection: Connection) -> ConnectionSecrets:
        return ConnectionSecrets(database, connection, lambda: EncryptionKeys(key))

    def use(company: Books) -> None:
        for name, value in {**company.room.env(company.base), "FINANCE_OS_QUICKBOOKS_RATE_LIMIT": "100000"}.items():
            monkeypatch.setenv(name, value)

    def read(*object_types: str) -> None:
        now = datetime.now(UTC)
        days = Days(day_of(now, connection.zone), day_of(now, connection.zone))
        for object_type in object_types:
            for each in plan_reads(QUICKBOOKS, QUICKBOOKS.object(object_type), connection, days, now, kept=kept):
                done = perform(database, each, Origin(Trigger.SCHEDULE), chunk_rows=1_000)
                assert done["status"] == "succeeded", done["error_message"]

    def export() -> exporting.Export:
        found = exporting.export_of(database, "acme", {"acme": RULES})
        assert found is not None
        return found

    def refusals(plan: Callable[[], Any]) -> set[str]:
        with pytest.raises(NotExported) as refused:
            plan()
        return {each.code for each in refused.value.blockers}

    def plan() -> exporting.Planned:
        return exporting.plan_and_keep(
            database, export(), run="test", gate_of=lambda _, business_id, __: Gate(business_id, ())
        )

    first, second = two
    use(first)
    read("quickbooks_company_info", "quickbooks_tax_code", "quickbooks_account")
    names = database.fetch("SELECT DISTINCT query_name FROM finance_os.source_sync_runs")
    assert names == [{"query_name": f"/v3/company/{first.realm}"}]
    assert "books_of_several_companies" not in refusals(plan)
    use(second)
    assert export().realm == second.realm
    assert refusals(plan) == {"books_of_several_companies"}
    use(first)
    assert "books_of_several_companies" not in refusals(plan)
    use(second)
    read("quickbooks_tax_code")
    use(first)
    assert refusals(plan) == {"books_of_several_companies"}
    assert database.fetch("SELECT FROM finance_os.intents") == []
