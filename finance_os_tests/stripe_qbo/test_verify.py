"""Verifying: what QuickBooks holds is what was sent, exactly; what people did to it is told and left alone."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.stripe_qbo import links, verify
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.intent import Intent, Operation
from finance_os.stripe_qbo.lookup import is_void
from finance_os.stripe_qbo.store import put_plan
from finance_os.stripe_qbo.verify import Verified, differences
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books, books, customer, intent, invoice, key, story

pytestmark = pytest.mark.usefixtures("acme", "globex")


@pytest.fixture(scope="module")
def company() -> Iterator[Books]:
    with books() as served:
        yield served


@pytest.fixture
def realm(company: Books, database: Database, acme: Connection) -> str:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    return company.realm


def write(database: Database, company: Books, intents: list[Intent]) -> None:
    put_plan(database, "acme", company.realm, intents)
    with company.writer() as writer:
        assert apply(database, writer, "acme", company.realm).finished


def look(database: Database, company: Books, business_id: str = "acme") -> Verified:
    with company.writer() as writer:
        return verify.verify(database, writer, business_id, company.realm)


def codes(database: Database) -> list[tuple[str, str]]:
    return sorted((each.code, each.subject) for each in open_exceptions(database, "acme"))


def test_everything_is_as_planned(company: Books, database: Database, realm: str) -> None:
    write(database, company, story(company, 3, "fine"))
    writes = company.before.writes
    found = look(database, company)
    assert (found.as_planned, found.adopted, found.unsettled, found.findings) == (12, 0, 0, [])
    assert company.before.writes == writes
    # What the payment of an invoice did to its version is known now.
    for link in links.links(database, "acme", realm).values():
        held = company.room.realm.one(link.entity, link.qbo_id)
        assert (link.sync_token, link.verified_at is not None) == (str(held.sync), True)
    assert look(database, company, "globex").as_planned == 0


def test_what_people_did_is_told_until_it_is_put_right(company: Books, database: Database, realm: str) -> None:
    billed, owner = invoice("in_told", "cus_told"), customer("cus_told")
    other = invoice("in_void", "cus_told")
    removed = invoice("in_removed", "cus_told")
    write(database, company, [billed, owner, other, removed])
    held = {each.key: company.one(each) for each in (billed, owner, other, removed)}
    line = {**held[billed.key]["Line"][0], "Amount": 99, "Description": "Secret words"}
    line["SalesItemLineDetail"] = {"ItemRef": {"value": "1"}}
    company.change("update", entity="Invoice", body={"Id": held[billed.key]["Id"], "Line": [line]})
    company.change("update", entity="Customer", body={"Id": held[owner.key]["Id"], "DisplayName": "Other Name"})
    company.change("void", entity="Invoice", body={"Id": held[other.key]["Id"]})
    company.change("delete", entity="Invoice", body={"Id": held[removed.key]["Id"]})
    writes = company.before.writes
    found = look(database, company)
    assert found.as_planned == 0
    assert codes(database) == [
        ("qbo_object_changed", "customer:cus_told:customer"),
        ("qbo_object_changed", "invoice:in_told:invoice"),
        ("qbo_object_changed", "invoice:in_void:invoice"),
        ("qbo_object_missing", "invoice:in_removed:invoice"),
    ]
    told = " ".join(each.detail for each in open_exceptions(database, "acme"))
    assert "Line.0.Amount is 99, not 120.50" in told
    assert "DisplayName is another text, not another text" in told
    for secret in ("Other Name", "O'Hara", "Secret", "Clicks"):
        assert secret not in told
    assert [each.verified_at for each in links.links(database, "acme", realm).values()] == [None] * 4
    # The same again opens nothing anew, and nothing is written over.
    opened = [each.exception_id for each in open_exceptions(database, "acme")]
    look(database, company)
    assert [each.exception_id for each in open_exceptions(database, "acme")] == opened
    assert company.before.writes == writes

    company.change("update", entity="Customer", body={"Id": held[owner.key]["Id"], **owner.payload})
    assert look(database, company).as_planned == 1
    assert ("qbo_object_changed", "customer:cus_told:customer") not in codes(database)


def test_what_people_added_is_theirs(company: Books, database: Database, realm: str) -> None:
    owner = customer("cus_added")
    write(database, company, [owner])
    body = {"Id": company.one(owner)["Id"], "CompanyName": "Added by hand", "PrimaryPhone": {"FreeFormNumber": "1"}}
    company.change("update", entity="Customer", body=body)
    assert (look(database, company).as_planned, codes(database)) == (1, [])


def test_updates_and_voids_are_what_is_expected_then(company: Books, database: Database, realm: str) -> None:
    billed = invoice("in_then", "cus_then")
    write(database, company, [customer("cus_then"), billed])
    write(database, company, [intent(billed.key, "Invoice", {"DueDate": "2026-08-10"}, Operation.UPDATE)])
    assert look(database, company).as_planned == 2
    company.change("update", entity="Invoice", body={"Id": company.one(billed)["Id"], "DueDate": "2026-08-11"})
    look(database, company)
    assert codes(database) == [("qbo_object_changed", "invoice:in_then:invoice")]
    company.change("update", entity="Invoice", body={"Id": company.one(billed)["Id"], "DueDate": "2026-08-10"})
    look(database, company)
    write(database, company, [intent(billed.key, "Invoice", {}, Operation.VOID)])
    assert (look(database, company).as_planned, codes(database)) == (2, [])


def test_what_was_adopted_only_has_to_be_there(company: Books, database: Database, realm: str) -> None:
    held = company.change("create", entity="Customer", body={"DisplayName": "Of old"})
    of = key("customer", "cus_old")
    links.adopt(database, "acme", realm, of, "Customer", held["Id"], held["SyncToken"])
    company.change("update", entity="Customer", body={"Id": held["Id"], "DisplayName": "Of old, renamed"})
    found = look(database, company)
    assert (found.adopted, found.as_planned, found.findings) == (1, 0, [])
    assert links.links(database, "acme", realm)[of].sync_token == "1"


def test_what_is_being_sent_is_not_judged(company: Books, database: Database, realm: str) -> None:
    billed = invoice("in_busy", "cus_busy")
    write(database, company, [customer("cus_busy"), billed])
    put_plan(database, "acme", realm, [intent(billed.key, "Invoice", {"DueDate": "2026-08-10"}, Operation.UPDATE)])
    with database.transaction() as connection:
        connection.execute(
            """
            UPDATE finance_os.intents SET state = 'sending', requestid = 'r', resolved = payload
            WHERE operation = 'update'
            """
        )
    company.change("delete", entity="Invoice", body={"Id": company.one(billed)["Id"]})
    found = look(database, company)
    assert (found.as_planned, found.unsettled, found.findings) == (1, 1, [])


def test_a_wrong_realm_is_not_looked_at(company: Books, database: Database) -> None:
    with company.writer() as writer, pytest.raises(ValueError, match="realm"):
        verify.verify(database, writer, "acme", "1")


# --- the comparison itself


@pytest.mark.parametrize(
    ("planned", "held", "told"),
    [
        ({"TotalAmt": Decimal("5.00")}, {"TotalAmt": 5}, []),
        ({"TotalAmt": Decimal("5.01")}, {"TotalAmt": 5}, ["TotalAmt is 5, not 5.01"]),
        ({"TotalAmt": 5}, {}, ["TotalAmt is missing, not 5"]),
        ({"TotalAmt": 1}, {"TotalAmt": True}, ["TotalAmt is True, not 1"]),
        ({"A": {"value": "1"}}, {"A": {"value": "1", "name": "N"}}, []),
        ({"A": {"value": "1", "name": "M"}}, {"A": {"value": "1", "name": "N"}}, []),
        ({"A": {"value": "1"}}, {"A": {"value": "2"}}, ["A is ID 2, not ID 1"]),
        ({"A": {"value": "1"}}, {}, ["A is ID none, not ID 1"]),
        ({"TxnDate": "2026-01-01"}, {"TxnDate": "2026-01-02"}, ["TxnDate is 2026-01-02, not 2026-01-01"]),
        ({"Note": "Ann"}, {"Note": "Bob"}, ["Note is another text, not another text"]),
        ({"Note": None}, {}, []),
        ({"Note": None}, {"Note": "x"}, ["Note is another text, not missing"]),
        ({"Id": "1", "SyncToken": "1", "sparse": True}, {"Id": "1", "SyncToken": "2", "sparse": False}, []),
        ({"Line": [{"Amount": 1}]}, {"Line": [{"Amount": 1, "Id": "1"}, {"DetailType": "SubTotalLineDetail"}]}, []),
        ({"Line": [{"Amount": 1}]}, {"Line": []}, ["Line is 0 of them, not 1 of them"]),
        ({"Line": [{"Amount": 1}]}, {"Line": [{"Amount": 2}]}, ["Line.0.Amount is 2, not 1"]),
        (
            {"Line": [{"LinkedTxn": [{"TxnId": "1", "TxnType": "Invoice"}]}]},
            {"Line": [{"LinkedTxn": [{"TxnId": "2", "TxnType": "Invoice"}]}]},
            ["Line.0.LinkedTxn.0.TxnId is 2, not 1"],
        ),
        ({"BillEmail": {"Address": "a@b.c"}}, {"BillEmail": {"Address": "a@b.c"}}, []),
    ],
)
def test_differences(planned: dict[str, Any], held: dict[str, Any], told: list[str]) -> None:
    assert list(map(str, differences(planned, held))) == told


def test_a_void_says_so() -> None:
    assert is_void({"TotalAmt": 0, "PrivateNote": "Voided - x"})
    assert is_void({"TotalAmt": Decimal("0.00"), "PrivateNote": "Voided"})
    assert not is_void({"TotalAmt": 0, "PrivateNote": "x"})
    assert not is_void({"TotalAmt": 1, "PrivateNote": "Voided"})
    assert not is_void({})
