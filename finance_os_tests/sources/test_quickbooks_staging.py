"""QuickBooks from the plan to the finance database: staged, proved complete, gone on with, and kept apart."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days, day_of
from finance_os.sandbox.faults import Rule
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.planning import plan_reads
from finance_os.sources.quickbooks import QUICKBOOKS, client
from finance_os.sources.quickbooks.objects import Way
from finance_os.sources.sealing import EncryptionKeys, new_key
from finance_os_tests.sources.test_quickbooks import QUICK, Company, company

KEY = new_key()
STARTED = datetime.now(UTC).replace(microsecond=0)
START = STARTED.date() - timedelta(days=40)


@pytest.fixture(scope="module")
def acme_books() -> Iterator[Company]:
    """Books up to the present, for the database has a clock of its own."""
    with company(size=3, start=START, until=STARTED) as served:
        yield served


@pytest.fixture(scope="module")
def globex_books() -> Iterator[Company]:
    with company(size=2, seed=8, start=START, until=STARTED) as served:
        yield served


@pytest.fixture(autouse=True)
def environment(acme_books: Company, globex_books: Company, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    acme_books.faults.requests.clear()
    for prefix, served in (("", acme_books), ("GLOBEX_", globex_books)):
        served.refresh_token = served.change("reconnect")["refresh_token"]
        for name, value in served.room.env(served.base).items():
            monkeypatch.setenv(prefix + name, value)
        monkeypatch.setenv(f"{prefix}FINANCE_OS_QUICKBOOKS_RATE_LIMIT", "100000")
    usual = client.connect
    monkeypatch.setattr(client, "connect", lambda credentials: usual(credentials, QUICK))
    monkeypatch.setattr(client, "PAGE_SIZE", 3)
    yield
    acme_books.faults.clear()


@pytest.fixture
def acme(database: Database) -> Connection:
    ensure_business(database, "acme", "Acme", "America/New_York")
    return ensure_connection(database, "acme", "quickbooks")


@pytest.fixture
def globex(database: Database) -> Connection:
    ensure_business(database, "globex", "Globex", "Asia/Tokyo")
    return ensure_connection(database, "globex", "quickbooks", secret_reference="env:GLOBEX_")


def planned(database: Database, connection: Connection, object_type: str, days: int = 45) -> Read:
    """The last read that a backfill up to today plans for an object."""
    now = datetime.now(UTC)
    today = day_of(now, connection.zone)

    def kept(connection: Connection) -> ConnectionSecrets:
        return ConnectionSecrets(database, connection, lambda: EncryptionKeys(KEY))

    window = Days(today - timedelta(days=days), today)
    return plan_reads(QUICKBOOKS, QUICKBOOKS.object(object_type), connection, window, now, kept=kept)[-1]


def run(database: Database, read: Read) -> dict[str, Any]:
    return perform(database, read, Origin(Trigger.MANUAL), chunk_rows=1)


def heads(database: Database, business_id: str, object_type: str) -> dict[str, tuple[int, bool]]:
    rows = database.fetch(
        """
        SELECT source_id, source_version, removed FROM finance_os.raw_record_heads
        WHERE business_id = %s AND object_type = %s
        """,
        (business_id, object_type),
    )
    return {row["source_id"]: (row["source_version"], row["removed"]) for row in rows}


def differing_days(database: Database) -> list[dict[str, Any]]:
    """Days for which QuickBooks' count is not what was staged."""
    return database.fetch(
        """
        SELECT object_type, partition_day, rows_extracted, remote_count FROM finance_os.source_sync_partitions
        WHERE remote_count IS DISTINCT FROM rows_extracted
          AND object_type NOT IN ('quickbooks_company_info', 'quickbooks_preferences')
        """
    )


def versions(served: Company, entity: str) -> dict[str, tuple[int, bool]]:
    return {entry.id: (entry.sync, False) for entry in served.room.realm.all(entity)}


def test_everything_is_staged_once_with_counts_that_agree(
    database: Database, acme: Connection, acme_books: Company
) -> None:
    for obj in QUICKBOOKS:
        first = run(database, planned(database, acme, obj.object_type))
        assert first["status"] == "succeeded"
        assert first["rows_new"] == first["rows_extracted"], obj.object_type
        if obj.detail.way is not Way.RATES:
            assert first["rows_extracted"] == len(acme_books.ids(obj.detail.name))
        assert first["api_version"] == "75"
        again = run(database, planned(database, acme, obj.object_type))
        assert (again["rows_new"], again["rows_changed"], again["rows_removed"]) == (0, 0, 0), obj.object_type
        assert again["batch_hash"] == first["batch_hash"]
    assert differing_days(database) == []
    for object_type, entity in (("quickbooks_invoice", "Invoice"), ("quickbooks_account", "Account")):
        assert heads(database, "acme", object_type) == versions(acme_books, entity)
    (sent,) = database.fetch(
        "SELECT sum(sent.value::int) AS n FROM finance_os.source_sync_runs, jsonb_each_text(requested) AS sent"
    )
    assert sent["n"] == sum(acme_books.faults.requests.values())


def test_changes_and_deletions_move_heads(database: Database, acme: Connection, acme_books: Company) -> None:
    customer = next(iter(acme_books.room.realm.all("Payment"))).fields["CustomerRef"]
    body = {"CustomerRef": customer, "TotalAmt": 10}
    made = acme_books.change("create", entity="Payment", body=body)["Id"]
    run(database, planned(database, acme, "quickbooks_payment"))
    assert heads(database, "acme", "quickbooks_payment")[made] == (0, False)
    acme_books.edit("Payment", {"Id": made, "PrivateNote": "changed"})
    changed = run(database, planned(database, acme, "quickbooks_payment"))
    assert (changed["rows_new"], changed["rows_changed"]) == (0, 1)
    assert heads(database, "acme", "quickbooks_payment")[made] == (1, False)
    acme_books.change("delete", entity="Payment", body={"Id": made})
    removed = run(database, planned(database, acme, "quickbooks_payment"))
    assert (removed["rows_changed"], removed["rows_removed"]) == (0, 1)
    assert heads(database, "acme", "quickbooks_payment")[made] == (1, True)
    again = run(database, planned(database, acme, "quickbooks_payment"))
    assert again["rows_removed"] == 0
    assert differing_days(database) == []


def test_a_failed_read_goes_on_where_it_was(database: Database, acme: Connection, acme_books: Company) -> None:
    run(database, planned(database, acme, "quickbooks_company_info"))  # for the tokens
    before = sum(acme_books.faults.requests.values())
    run(database, planned(database, acme, "quickbooks_invoice", days=43))
    requests = sum(acme_books.faults.requests.values()) - before
    attempts: list[int] = []
    for number in range(2, requests + 1):
        read = planned(database, acme, "quickbooks_invoice")
        database_rows = len(heads(database, "acme", "quickbooks_invoice"))
        acme_books.script(Rule("*/v3/company/*", "500", on=number, times=QUICK.attempts))
        with pytest.raises(SourceError, match="vendor_error"):
            run(database, read)
        acme_books.faults.clear()
        row = run(database, read)
        assert row["status"] == "succeeded"
        attempts.append(row["attempts"])
        assert row["rows_extracted"] == database_rows == row["remote_count"]
    # Before the first page nothing is there to go on with; behind it, every place is.
    assert attempts == [1, 1, *[2] * (len(attempts) - 2)]
    assert 2 in attempts
    assert differing_days(database) == []
    assert heads(database, "acme", "quickbooks_invoice") == versions(acme_books, "Invoice")


def test_the_months_calls_are_counted_over_all_runs(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [run(database, planned(database, acme, "quickbooks_company_info")) for _ in range(3)]
    sent = sum(sum(row["requested"].values()) for row in rows)
    monkeypatch.setenv("FINANCE_OS_QUICKBOOKS_MONTHLY_CALLS", str(sent + 1))
    last = run(database, planned(database, acme, "quickbooks_company_info"))
    assert f"{sent + 1} requests were sent to QuickBooks this month" in last["notices"][0]
    with pytest.raises(SourceError, match="call_budget_exhausted"):
        run(database, planned(database, acme, "quickbooks_company_info"))


def test_two_businesses_keep_their_books_and_tokens_apart(
    database: Database, acme: Connection, globex: Connection, acme_books: Company, globex_books: Company
) -> None:
    for connection in (acme, globex, acme, globex):
        run(database, planned(database, connection, "quickbooks_customer"))
    assert heads(database, "acme", "quickbooks_customer") == versions(acme_books, "Customer")
    assert heads(database, "globex", "quickbooks_customer") == versions(globex_books, "Customer")
    assert set(versions(acme_books, "Customer")) & set(versions(globex_books, "Customer")), "the IDs are the same"
    kept = database.fetch("SELECT business_id, name, version FROM finance_os.connection_secrets ORDER BY 1")
    assert [(row["business_id"], row["name"]) for row in kept] == [("acme", "tokens"), ("globex", "tokens")]
    assert differing_days(database) == []


def test_a_day_that_is_not_whole_is_read_again(database: Database, acme: Connection, acme_books: Company) -> None:
    run(database, planned(database, acme, "quickbooks_vendor", days=1))
    vendor = acme_books.ids("Vendor")[0]
    acme_books.edit("Vendor", {"Id": vendor, "AcctNum": "late"})
    run(database, planned(database, acme, "quickbooks_vendor", days=1))
    sync = acme_books.room.realm.one("Vendor", vendor).sync
    assert heads(database, "acme", "quickbooks_vendor")[vendor] == (sync, False)
