"""Which objects are read again: those that moved, once for each time, and no other's, by what is staged alone."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.evidence.extraction import Kind, Record
from finance_os.evidence.windows import Days
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.stripe_qbo import drift, links, verify
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.books import OBJECT_TYPES
from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os.stripe_qbo.store import put_plan
from finance_os.stripe_qbo.verify import Verified
from finance_os_tests.evidence.staged import page, stage
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books, books, customer, intent, invoice, story

TODAY = Days(date(2026, 3, 2), date(2026, 3, 2))


@pytest.fixture(scope="module")
def company() -> Iterator[Books]:
    with books() as served:
        yield served


@dataclass
class Side:
    """One business's export to the company, and what is staged of it."""

    database: Database
    books: Books
    connection: Connection
    minutes: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def scope(self) -> tuple[Database, str, str]:
        return self.database, self.connection.business_id, self.books.realm

    def moved(self) -> list[LinkKey]:
        return drift.moved(*self.scope)

    def write(self, *intents: Intent) -> None:
        put_plan(*self.scope, list(intents))
        with self.books.writer() as writer:
            assert apply(self.database, writer, self.connection.business_id, self.books.realm).finished

    def put(self, object_type: str, *records: Record, kind: Kind = Kind.TARGETED) -> None:
        minute = next(self.minutes)
        given = page(*records, minute=minute)
        stage(self.database, self.connection, given, object_type=object_type, kind=kind, days=TODAY)

    def know(self) -> None:
        self.put("quickbooks_company_info", Record(self.books.realm, {"Id": "1"}, TODAY.first))

    def show(self, of: Intent, **says: Any) -> None:
        """Stage the object of an intent as QuickBooks holds it."""
        held = {**self.books.one(of), **says}
        self.put(OBJECT_TYPES[of.entity], Record(held["Id"], held, TODAY.first))

    def gone(self, of: Intent) -> None:
        """Stage that QuickBooks has the object of an intent no more."""
        self.put(OBJECT_TYPES[of.entity], Record(self.link(of).qbo_id, None, TODAY.first))

    def link(self, of: Intent) -> links.Link:
        return links.links(*self.scope)[of.key]

    def look(self) -> Verified:
        with self.books.writer() as writer:
            return verify.verify(self.database, writer, *self.scope[1:], self.moved())

    def codes(self) -> list[str]:
        return [each.code for each in open_exceptions(self.database, self.connection.business_id)]


def side_of(database: Database, company: Books, business_id: str) -> Side:
    approve_policy(database, business_id, QBO_EXPORT.key, scope=company.realm)
    side = Side(database, company, ensure_connection(database, business_id, "quickbooks"))
    side.know()
    return side


@pytest.fixture
def side(database: Database, company: Books, acme: Connection) -> Side:
    assert acme
    return side_of(database, company, "acme")


def test_what_quickbooks_itself_changed_is_read_once(side: Side, company: Books) -> None:
    """A payment raises the version of the invoice that it settles, and of the customer who owes less: both are read,
    found as planned, and not read again."""
    written = story(company, 2, "drift")
    side.write(*written)
    assert side.moved() == []  # nothing is staged of them yet
    for each in written:
        side.show(each)
    raised = sorted(str(each.key) for each in written if each.entity in ("Customer", "Invoice"))
    assert list(map(str, side.moved())) == raised
    found = side.look()
    assert (found.as_planned, found.findings, side.moved()) == (4, [], [])
    reads = company.before.reads
    assert side.look() == Verified()
    assert company.before.reads == reads


def test_a_change_by_hand_is_read_when_it_comes_and_when_it_goes(side: Side, company: Books) -> None:
    owner, billed = customer("cus_hand"), invoice("in_hand", "cus_hand")
    due = intent(billed.key, "Invoice", {"DueDate": "2026-08-10"}, Operation.UPDATE)
    side.write(owner, billed)
    side.show(billed)
    side.write(due)  # the plan's own: what is staged is older than the link
    assert side.moved() == []
    side.show(billed)
    assert side.moved() == []
    company.change("update", entity="Invoice", body={"Id": side.link(billed).qbo_id, "DueDate": "2026-09-01"})
    assert side.moved() == []  # nobody has read it
    side.show(billed)
    assert side.moved() == [billed.key]
    side.look()
    assert (side.moved(), side.codes()) == ([], ["qbo_object_changed"])
    assert [each.code for each in drift.open_still(side.database, "acme", [])] == ["qbo_object_changed"]
    assert drift.open_still(side.database, "acme", drift.open_still(side.database, "acme", [])) == []
    assert drift.open_still(side.database, "globex", []) == []
    company.change("update", entity="Invoice", body={"Id": side.link(billed).qbo_id, "DueDate": "2026-08-10"})
    side.show(billed)
    assert side.moved() == [billed.key]
    assert (side.look().as_planned, side.codes(), side.moved()) == (1, [], [])


def test_what_is_staged_as_removed_is_asked_for_until_it_is_told(side: Side, company: Books) -> None:
    owner, billed = customer("cus_gone"), invoice("in_gone", "cus_gone")
    side.write(owner, billed)
    side.show(billed)
    side.gone(billed)
    assert side.moved() == [billed.key]
    assert side.look().as_planned == 1  # it is there: somebody was faster, and the next read of QuickBooks will tell
    assert side.moved() == [billed.key]
    company.change("delete", entity="Invoice", body={"Id": side.link(billed).qbo_id})
    side.look()
    assert (side.codes(), side.moved()) == (["qbo_object_missing"], [])
    # Staged as being there once more: whether it is, is asked until one of both is right.
    held = {"Id": side.link(billed).qbo_id, "SyncToken": "0"}
    side.put("quickbooks_invoice", Record(held["Id"], held, TODAY.first))
    assert side.moved() == [billed.key]
    side.look()
    assert side.codes() == ["qbo_object_missing"]
    side.gone(billed)
    assert side.moved() == []


def test_what_was_deleted_before_anybody_staged_it_is_found_by_the_next_read_of_its_days(
    side: Side, company: Books
) -> None:
    """A removal of what is not staged leaves nothing behind: that it is not there though its days were read tells."""
    owner, other, billed = customer("cus_short"), customer("cus_stays"), invoice("in_short", "cus_short")
    side.write(owner, other, billed)
    side.show(owner)
    side.look()
    company.change("delete", entity="Invoice", body={"Id": side.link(billed).qbo_id})
    side.gone(billed)
    assert side.moved() == []  # a read of single objects says nothing of the others
    side.put("quickbooks_invoice", kind=Kind.WINDOW)
    side.put("quickbooks_customer", kind=Kind.WINDOW)
    assert side.moved() == []  # nor does one of days before it was written
    with side.database.transaction() as connection:
        connection.execute("SET LOCAL ROLE NONE")
        connection.execute("UPDATE finance_os.source_sync_runs SET window_end = started_at WHERE kind = 'window'")
    assert side.moved() == [other.key, billed.key]
    found = side.look()
    assert (found.as_planned, side.codes(), side.moved()) == (1, ["qbo_object_missing"], [])


def test_what_is_being_sent_is_told_once_it_is_settled(side: Side, company: Books) -> None:
    owner, billed = customer("cus_sent"), invoice("in_sent", "cus_sent")
    side.write(owner, billed)
    side.show(billed)
    put_plan(*side.scope, [intent(billed.key, "Invoice", {"DueDate": "2026-08-10"}, Operation.UPDATE)])
    with side.database.transaction() as connection:
        connection.execute(
            "UPDATE finance_os.intents SET state = 'sending', requestid = 'r', resolved = payload"
            " WHERE operation = 'update'"
        )
    company.change("update", entity="Invoice", body={"Id": side.link(billed).qbo_id, "TxnDate": "2026-09-01"})
    side.show(billed)
    assert side.look().unsettled == 1
    assert side.moved() == [billed.key]
    company.change("delete", entity="Invoice", body={"Id": side.link(billed).qbo_id})
    side.gone(billed)
    assert side.look().unsettled == 1
    assert side.moved() == [billed.key]


def test_businesses_and_connections_are_kept_apart(
    side: Side, database: Database, company: Books, globex: Connection
) -> None:
    """The same IDs everywhere: what one connection has staged says nothing of another one's objects."""
    assert globex
    owner, billed = customer("cus_apart"), invoice("in_apart", "cus_apart")
    side.write(owner, billed)
    side.show(owner)
    side.look()
    held = side.link(owner)
    changed = Record(held.qbo_id, {"Id": held.qbo_id, "SyncToken": "7"}, TODAY.first)
    other = side_of(database, company, "globex")
    links.adopt(*other.scope, owner.key, "Customer", held.qbo_id, "0")
    assert (side.moved(), other.moved()) == ([], [])
    other.put("quickbooks_customer", changed)
    assert (side.moved(), other.moved()) == ([], [owner.key])
    # Of the same business: another company, whose objects have the same numbers.
    second = Side(database, company, ensure_connection(database, "acme", "quickbooks", "second"), side.minutes)
    number = side.link(billed).qbo_id
    second.put("quickbooks_invoice", Record(number, {"Id": number, "SyncToken": "7"}, TODAY.first))
    assert side.moved() == []
    second.gone(billed)
    assert side.moved() == []
    assert drift.moved(database, "acme", "1") == []
