"""QuickBooks is read from its first day, or nothing is sent: the proof, and an invoice that is not booked twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Item, Kind, Record, Request, SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.scheduled_syncs import request_scheduled_sync
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days, day_of
from finance_os.readiness.gate import Gate
from finance_os.sandbox.world import build
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.planning import plan_reads
from finance_os.sources.quickbooks import QUICKBOOKS
from finance_os.sources.sealing import EncryptionKeys, new_key
from finance_os.stripe_qbo import completeness, planning
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo.completeness import CHANGING, WHOLE
from finance_os.stripe_qbo.export import Export, NotExported
from finance_os.stripe_qbo.intent import Operation
from finance_os_tests.evidence.staged import page, read_of, stage
from finance_os_tests.stripe_qbo.books import Books, books
from finance_os_tests.stripe_qbo.mapping.worlds import KINDS, balance_of
from finance_os_tests.stripe_qbo.staged import stage_balance, stripe_records

REALM = "9130000000000001"
MADE = "2026-03-02T18:30:00-08:00"
"""In New York the second of March, in Tokyo the third."""

FIRST = date(2026, 3, 2)
INVOICE = "quickbooks_invoice"


@dataclass
class Company:
    """A company of which only so much is staged as a test stages."""

    database: Database
    connection: Connection

    @property
    def today(self) -> date:
        return day_of(datetime.now(UTC), self.connection.zone)

    def info(self, **says: Any) -> None:
        self.put("quickbooks_company_info", Record(REALM, {"Id": "1", **says}, self.today))

    def put(self, object_type: str, *records: Record, days: Days | None = None) -> None:
        """Stage records by a read of `days`: of today if not given."""
        days = days or Days(self.today, self.today)
        stage(self.database, self.connection, page(*records), object_type=object_type, days=days)

    def read(self, first: date, last: date | None = None, *types: str) -> None:
        """Read days of object types, of all if none are named, up to now if no last one is."""
        for object_type in types or CHANGING:
            self.put(object_type, days=Days(first, last or self.today))

    def told(self) -> dict[str, list[tuple[str, date | None]]]:
        """Code → what it is told of, with the first day."""
        found: dict[str, list[tuple[str, date | None]]] = {}
        for each in completeness.unproven(self.database, self.connection.business_id, REALM):
            found.setdefault(each.code, []).append((each.subject.removeprefix("quickbooks/"), each.day))
        return found


def company_of(database: Database, business_id: str, account: str = "default") -> Company:
    company = Company(database, ensure_connection(database, business_id, "quickbooks", account))
    company.info(MetaData={"CreateTime": MADE})
    for object_type in WHOLE:
        company.put(object_type)
    return company


@pytest.fixture
def company(database: Database, acme: Connection) -> Company:
    return company_of(database, acme.business_id)


def days_from(first: date, last: date) -> int:
    return (last - first).days + 1


# --- the proof


def test_every_entity_that_is_looked_at_is_proved() -> None:
    assert set(CHANGING) == {
        "quickbooks_account",
        "quickbooks_customer",
        "quickbooks_vendor",
        "quickbooks_item",
        "quickbooks_invoice",
        "quickbooks_credit_memo",
        "quickbooks_refund_receipt",
        "quickbooks_payment",
        "quickbooks_deposit",
        "quickbooks_journal_entry",
    }
    assert set(WHOLE) == {"quickbooks_tax_code", "quickbooks_preferences"}


def test_one_backfill_over_all_days_is_enough(company: Company) -> None:
    company.read(FIRST)
    assert company.told() == {}


def test_a_company_of_which_nothing_is_staged_is_left_to_the_plan(database: Database, acme: Connection) -> None:
    assert completeness.unproven(database, "acme", REALM) == []
    assert completeness.of_every_realm(database, "acme") == []


def test_the_last_ninety_days_only(company: Company) -> None:
    since = company.today - timedelta(days=90)
    company.read(since)
    found = completeness.unproven(company.database, "acme", REALM)
    assert [(each.code, each.subject, each.day) for each in found] == [
        ("books_not_read_from_first_day", f"quickbooks/{each}", FIRST) for each in CHANGING
    ]
    assert len({each.evidence_hash for each in found}) == len(CHANGING)
    (invoice,) = [each for each in found if each.subject == f"quickbooks/{INVOICE}"]
    last = since - timedelta(days=1)
    assert invoice.remedy == (
        f"{days_from(FIRST, last):,} days of {FIRST} to {last} were never read to their end, and the company was made "
        f"on {FIRST}: what changed last on one of them would be booked a second time. Set FINANCE_OS_START_DATE to "
        f"{FIRST} or earlier, and read them in one run: `dagster asset materialize -m finance_os.definitions --select "
        f"'group:quickbooks' --partition-range {FIRST}...{company.today}`, or a backfill of these "
        "days in the Dagster UI."
    )
    assert exporting.held_from(found) == date.min  # what changed on such a day may be dated on any
    assert found == completeness.of_every_realm(company.database, "acme")


def test_a_hole_and_what_two_holes_are_told_as(company: Company) -> None:
    company.read(FIRST, None, *(each for each in CHANGING if each != INVOICE))
    company.read(FIRST, date(2026, 4, 9), INVOICE)
    company.read(date(2026, 4, 11), date(2026, 4, 19), INVOICE)
    company.read(date(2026, 4, 22), None, INVOICE)
    assert company.told() == {"books_not_read_from_first_day": [(INVOICE, date(2026, 4, 10))]}
    proof = completeness.proof_of(company.database, "acme", REALM)
    assert proof is not None
    (unread,) = proof.unread
    (alone,) = completeness.unproven(company.database, "acme", REALM)
    assert f"--select 'key:\"quickbooks/{INVOICE}\"' --partition-range 2026-04-10...{company.today}`" in alone.remedy
    assert (unread.days, [str(each) for each in unread.spans]) == (3, ["2026-04-10", "2026-04-20 to 2026-04-21"])


def test_a_day_that_failed_and_one_that_was_only_asked_for_by_id(company: Company) -> None:
    """Neither says what else changed on it; read again, it is proved."""
    bad = date(2026, 4, 10)
    company.read(FIRST, None, *(each for each in CHANGING if each != INVOICE))
    company.read(FIRST, bad - timedelta(days=1), INVOICE)
    company.read(bad + timedelta(days=1), None, INVOICE)

    def broken(_: Request) -> Iterator[Item]:
        yield page()
        raise SourceError("incomplete", "QuickBooks shows other objects than it counts")

    bad_read = read_of(company.connection, broken, object_type=INVOICE, days=Days(bad, bad))
    with pytest.raises(SourceError):
        perform(company.database, bad_read, Origin(Trigger.BACKFILL), chunk_rows=1_000)
    stage(
        company.database,
        company.connection,
        page(Record("7", {"Id": "7"}, bad)),
        object_type=INVOICE,
        days=Days(bad, bad),
        kind=Kind.TARGETED,
    )
    assert company.told() == {"books_not_read_from_first_day": [(INVOICE, bad)]}
    company.read(bad, bad, INVOICE)
    company.read(company.today, None, INVOICE)
    assert company.told() == {}


def test_what_moved_to_the_present_while_old_days_were_read(company: Company) -> None:
    """The present was read in the morning, old days at noon: what somebody changed in between was in neither."""
    company.read(date(2026, 5, 1))
    company.read(FIRST, date(2026, 4, 30))
    assert company.told() == {"books_changed_since_read": [(each, FIRST) for each in CHANGING]}
    remedies = [each.remedy for each in completeness.unproven(company.database, "acme", REALM)]
    assert all(f"--partition {company.today}`, or wait for the daily sync" in each for each in remedies)
    company.read(company.today)
    assert company.told() == {}
    company.read(date(2026, 4, 1), date(2026, 4, 9))  # old days that are read once more take nothing away
    assert company.told() == {}


def test_a_read_that_crashed_and_was_gone_on_with(company: Company, owner: Database) -> None:
    """Nobody knows how long it lay still: what changed meanwhile is seen by the next read."""
    company.read(FIRST)
    with owner.transaction() as connection:
        connection.execute("UPDATE finance_os.source_sync_runs SET reaches_to = started_at - interval '1 second'")
    assert company.told() == {}
    with owner.transaction() as connection:
        connection.execute("UPDATE finance_os.source_sync_runs SET attempts = 2 WHERE object_type = %s", (INVOICE,))
    assert company.told() == {"books_changed_since_read": [(INVOICE, FIRST)]}
    company.read(company.today, None, INVOICE)
    assert company.told() == {}


@pytest.mark.parametrize(("hours", "is_closed"), [(20, False), (26, True)], ids=["before its end", "after its end"])
def test_yesterday_is_due_once_a_daily_sync_was_asked_for_after_it(
    company: Company, owner: Database, hours: int, *, is_closed: bool
) -> None:
    """The day is that of the connection's time zone."""
    day = date(2026, 5, 20)
    company.read(FIRST, day - timedelta(days=1))
    with owner.transaction() as connection:  # as if they had been read on their last day
        connection.execute("UPDATE finance_os.source_sync_runs SET started_at = window_end, completed_at = reaches_to")
    requested_at = datetime.combine(day, datetime.min.time(), company.connection.zone) + timedelta(hours=hours)
    request_scheduled_sync(owner, "daily", day, ["quickbooks"])
    with owner.transaction() as connection:
        connection.execute("UPDATE finance_os.scheduled_syncs SET requested_at = %s", (requested_at,))
    due = {"books_not_read_from_first_day": [(each, day) for each in CHANGING]}
    assert company.told() == (due if is_closed else {})


def test_the_first_day_is_that_of_the_connections_time_zone(
    database: Database, globex: Connection, company: Company
) -> None:
    tokyo = company_of(database, globex.business_id)
    company.read(FIRST + timedelta(days=1))
    tokyo.read(FIRST + timedelta(days=1))
    assert company.told() == {"books_not_read_from_first_day": [(each, FIRST) for each in CHANGING]}
    assert tokyo.told() == {}


def test_reads_of_another_business_or_connection_prove_nothing(
    database: Database, globex: Connection, company: Company
) -> None:
    company_of(database, globex.business_id).read(FIRST - timedelta(days=1))
    other = Company(database, ensure_connection(database, "acme", "quickbooks", "other"))
    other.read(FIRST)
    assert completeness.unproven(database, "globex", REALM) == []
    assert company.told() == {"books_not_read_from_first_day": [(each, FIRST) for each in CHANGING]}


def test_something_older_than_its_company_moves_the_first_day(company: Company) -> None:
    company.read(FIRST)
    made = datetime(2026, 1, 5, 12, tzinfo=UTC)
    company.put(INVOICE, Record("7", {"Id": "7"}, company.today, 0, made, datetime(2026, 5, 1, tzinfo=UTC)))
    assert company.told() == {"books_not_read_from_first_day": [(each, date(2026, 1, 5)) for each in CHANGING]}
    company.read(date(2026, 1, 5))
    assert company.told() == {}


@pytest.mark.parametrize(
    ("says", "first"),
    [
        ({"MetaData": {"CreateTime": MADE}, "CompanyStartDate": "2014-01-01"}, FIRST),
        ({"CompanyStartDate": "2026-02-03"}, date(2026, 2, 3)),
        ({"MetaData": {"CreateTime": "2026-03-02T18:30:00"}, "CompanyStartDate": "2026-02-03"}, date(2026, 2, 3)),
    ],
    ids=["when it was made", "no time", "a time without an offset"],
)
def test_when_the_company_began(company: Company, says: dict[str, Any], first: date) -> None:
    company.info(**says)
    assert company.told() == {"books_not_read_from_first_day": [(each, first) for each in CHANGING]}


def test_a_company_that_does_not_say_since_when_is_not_guessed(company: Company) -> None:
    company.info(MetaData={"CreateTime": "long ago"}, CompanyStartDate="")
    company.read(FIRST, None, INVOICE)
    (blocker,) = completeness.unproven(company.database, "acme", REALM)
    assert (blocker.code, blocker.subject) == ("books_first_day_unknown", "quickbooks/quickbooks_company_info")
    assert exporting.held_from([blocker]) == date.min


def test_what_is_always_read_whole_has_to_be_read_once(database: Database, acme: Connection) -> None:
    company = Company(database, ensure_connection(database, "acme", "quickbooks"))
    company.info(MetaData={"CreateTime": MADE})
    company.put("quickbooks_preferences")
    company.read(FIRST)
    assert company.told() == {"books_never_read": [("quickbooks_tax_code", None)]}


# --- an old invoice

SIZE, DAYS, BY_HAND, BALANCE = 3, 40, 25, 10
"""Days of the company; the one until which somebody kept its books by hand; the one from which on it is exported."""


@pytest.fixture(scope="module")
def served() -> Iterator[Books]:
    """Books of some weeks in which somebody entered Stripe's invoices by hand, up to a day."""
    now = datetime.now(UTC).replace(microsecond=0)
    start = now.date() - timedelta(days=DAYS)
    world = build(seed=7, start=start, until=now, size=SIZE)
    with books(world, books_until=start + timedelta(days=BY_HAND)) as found:
        yield found


@dataclass
class Reading:
    """A business that reads and exports `served`, as the daily sync and a backfill read it."""

    database: Database
    served: Books
    connection: Connection
    export: Export

    def read(self, first: date, *types: str) -> None:
        now = datetime.now(UTC)
        days = Days(first, day_of(now, self.connection.zone))
        for object_type in types or (*CHANGING, *WHOLE, "quickbooks_company_info"):
            obj = QUICKBOOKS.object(object_type)
            for read in plan_reads(QUICKBOOKS, obj, self.connection, days, now, kept=self.kept):
                done = perform(self.database, read, Origin(Trigger.BACKFILL), chunk_rows=1_000)
                assert done["status"] == "succeeded", (object_type, done["error_message"])

    def kept(self, connection: Connection) -> ConnectionSecrets:
        return ConnectionSecrets(self.database, connection, lambda: EncryptionKeys(KEY))


KEY = new_key()


@pytest.fixture
def reading(database: Database, served: Books, monkeypatch: pytest.MonkeyPatch) -> dict[str, Reading]:
    """Two businesses with the same books, of both of which Stripe is staged."""
    start = served.room.world.start
    balance_date = start + timedelta(days=BALANCE)
    rules = {"balance_date": balance_date.isoformat(), "time_zone": "UTC", "opening_account": "Undeposited Funds"}
    found: dict[str, Reading] = {}
    given = {**served.room.env(served.base), "FINANCE_OS_QUICKBOOKS_RATE_LIMIT": "100000"}
    for business_id, zone, prefix in (("acme", "America/New_York", ""), ("globex", "Asia/Tokyo", "GLOBEX_")):
        for name, value in given.items():
            monkeypatch.setenv(prefix + name, value)
        ensure_business(database, business_id, business_id, zone)
        reference = f"env:{prefix}" if prefix else "env"
        stripe, quickbooks = (
            ensure_connection(database, business_id, system, secret_reference=reference)
            for system in ("stripe", "quickbooks")
        )
        days = Days(start - timedelta(days=14), datetime.now(UTC).date())
        for kind in KINDS:
            stage(database, stripe, page(*stripe_records(served, kind)), object_type=f"stripe_{kind}", days=days)
        stage_balance(database, stripe, balance_of(served.room.world), served.room.world.when)
        export = exporting.export_of(database, business_id, {business_id: rules})
        assert export is not None
        found[business_id] = Reading(database, served, quickbooks, export)
    return found


def test_an_old_invoice_is_not_booked_again(database: Database, served: Books, reading: dict[str, Reading]) -> None:
    """Invoices were read of the last days only: what a plan would book again is held back, until they are read."""
    acme, globex = reading["acme"], reading["globex"]
    first = served.room.world.start - timedelta(days=1)
    held = {each["DocNumber"]: each["Id"] for each in (entry.body() for entry in served.room.realm.all("Invoice"))}
    invoices = [each.payload for each in stripe_records(served, "invoice") if each.payload is not None]
    numbers = {str(each["id"]): each["number"] for each in invoices if each["number"] in held}
    for each in reading.values():
        each.read(first, *(name for name in CHANGING if name != INVOICE), *WHOLE, "quickbooks_company_info")
        each.read(served.room.world.start + timedelta(days=DAYS - 4), INVOICE)

    def made(export: Export) -> set[str]:
        """Numbers of invoices that would be made though QuickBooks has them."""
        found = planning.plan(database, export.business_id, export.realm, export.rules)
        intents = [each for each in found.intents if (each.entity, each.operation) == ("Invoice", Operation.CREATE)]
        return {each.payload["DocNumber"] for each in intents} & held.keys()

    assert made(acme.export)
    with pytest.raises(NotExported) as refused:
        plan(database, acme.export)
    day = day_of(datetime.fromtimestamp(served.room.realm.one("CompanyInfo", "1").created, UTC), acme.connection.zone)
    assert [(each.code, each.subject, each.day) for each in refused.value.blockers] == [
        ("books_not_read_from_first_day", "quickbooks/quickbooks_invoice", day)
    ]
    assert database.fetch("SELECT FROM finance_os.intents") == []

    acme.read(first, INVOICE)
    assert made(acme.export) == set()
    planned = plan(database, acme.export).plan
    adopted = {key.stripe_id: each.qbo_id for key, each in planned.adoptions.items() if key.stripe_object == "invoice"}
    taken = {each.subject for each in planned.findings if each.code == "invoice_number_taken"}
    assert adopted
    assert taken  # dated since the balance date: whether it is the same one is for people to say
    assert adopted.keys() | taken == numbers.keys()
    assert all(held[numbers[stripe_id]] == qbo_id for stripe_id, qbo_id in adopted.items())
    with pytest.raises(NotExported, match="books_not_read_from_first_day"):
        plan(database, globex.export)


def plan(database: Database, export: Export) -> exporting.Planned:
    """Plan and keep, behind a gate that lets everything else pass."""
    return exporting.plan_and_keep(
        database, export, run="test", gate_of=lambda _, business_id, __: Gate(business_id, ())
    )
