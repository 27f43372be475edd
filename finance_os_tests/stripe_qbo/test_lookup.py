"""Looking up: each entity is found again by its marker alone, as documented, and nothing else is taken for it."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from finance_os.stripe_qbo import client, lookup
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.lookup import ENTITIES, Entity, MarkedTwice, find, is_marked
from finance_os_tests.stripe_qbo.books import DAY, Books, books

MARK = "stripe:x_1"
NOTE = f"Mirrored {MARK}"


@pytest.fixture(scope="module")
def company() -> Iterator[Books]:
    with books() as served:
        yield served


@pytest.fixture
def writer(company: Books) -> Iterator[QuickBooksWriter]:
    with company.writer() as writer:
        yield writer


def bodies(company: Books) -> dict[str, dict[str, Any]]:
    """One object of each entity, marked."""
    clearing, bank = company.account("Stripe Clearing")["Id"], company.account("Rho Checking")["Id"]
    income = company.room.realm.one("Item", "1").fields["IncomeAccountRef"]["value"]
    owner = company.change("create", entity="Customer", body={"DisplayName": "Somebody"})["Id"]
    day = {"TxnDate": DAY.isoformat(), "PrivateNote": NOTE}
    line = {"Amount": 5, "DetailType": "SalesItemLineDetail", "SalesItemLineDetail": {"ItemRef": {"value": "1"}}}
    sale = {**day, "CustomerRef": {"value": owner}, "Line": [line]}

    def posting(kind: str, account: str) -> dict[str, Any]:
        detail = {"PostingType": kind, "AccountRef": {"value": account}}
        return {"Amount": 5, "DetailType": "JournalEntryLineDetail", "JournalEntryLineDetail": detail}

    expense = {"Amount": 5, "DetailType": "AccountBasedExpenseLineDetail"}
    deposit = {"Amount": 5, "DetailType": "DepositLineDetail", "DepositLineDetail": {"AccountRef": {"value": clearing}}}
    return {
        "Customer": {"DisplayName": "Ann's \\ Co", "Notes": NOTE},
        "Item": {"Name": "Clicks' item", "Type": "Service", "Sku": NOTE, "IncomeAccountRef": {"value": income}},
        "Account": {"Name": "Stripe's fees", "AccountType": "Expense", "Description": NOTE},
        "Invoice": {**sale, "DocNumber": "L-1"},
        "CreditMemo": {**sale, "DocNumber": "L-2"},
        "RefundReceipt": {**sale, "DocNumber": "L-3", "DepositToAccountRef": {"value": clearing}},
        "Payment": {**day, "CustomerRef": {"value": owner}, "TotalAmt": 5, "DepositToAccountRef": {"value": clearing}},
        "JournalEntry": {**day, "DocNumber": "L-4", "Line": [posting("Debit", clearing), posting("Credit", bank)]},
        "Purchase": {
            **day,
            "PaymentType": "Cash",
            "AccountRef": {"value": bank},
            "Line": [{**expense, "AccountBasedExpenseLineDetail": {"AccountRef": {"value": income}}}],
        },
        "Deposit": {**day, "DepositToAccountRef": {"value": bank}, "Line": [deposit]},
        "Transfer": {
            **day,
            "FromAccountRef": {"value": clearing},
            "ToAccountRef": {"value": bank},
            "Amount": 5,
        },
    }


def test_every_entity_is_found_again(company: Books, writer: QuickBooksWriter) -> None:
    made = bodies(company)
    assert made.keys() == ENTITIES.keys()
    for name, body in made.items():
        entity = ENTITIES[name]
        assert find(writer, entity, body, MARK) is None, name
        written = writer.write(entity, Operation.CREATE, body, f"made-{name}")
        assert written.intuit_tid, name
        found = find(writer, entity, body, MARK)
        assert found is not None, name
        assert found["Id"] == written.held["Id"], name
        assert find(writer, entity, body, "stripe:x_11") is None, name
        assert find(writer, entity, body, "stripe:x_") is None, name


def test_an_inactive_customer_is_found(company: Books, writer: QuickBooksWriter) -> None:
    body = {"DisplayName": "Gone Inc", "Notes": "stripe:gone"}
    held = company.change("create", entity="Customer", body=body)
    company.change("update", entity="Customer", body={"Id": held["Id"], "Active": False, "DisplayName": "Gone Inc"})
    entity = ENTITIES["Customer"]
    renamed = company.room.realm.one("Customer", held["Id"]).fields["DisplayName"]
    found = find(writer, entity, {"DisplayName": renamed}, "stripe:gone")
    assert found is not None
    assert found["Id"] == held["Id"]


def test_another_number_or_date_by_hand_hides_nothing(company: Books, writer: QuickBooksWriter) -> None:
    owner = company.change("create", entity="Customer", body={"DisplayName": "Renumbered"})["Id"]
    line = {"Amount": 5, "DetailType": "SalesItemLineDetail", "SalesItemLineDetail": {"ItemRef": {"value": "1"}}}
    body = {
        "CustomerRef": {"value": owner},
        "TxnDate": DAY.isoformat(),
        "DocNumber": "R-1",
        "PrivateNote": "stripe:r",
        "Line": [line],
    }
    held = company.change("create", entity="Invoice", body=body)
    company.change("update", entity="Invoice", body={"Id": held["Id"], "DocNumber": "R-2"})
    found = find(writer, ENTITIES["Invoice"], body, "stripe:r")
    assert found is not None
    assert found["Id"] == held["Id"]
    company.change("update", entity="Invoice", body={"Id": held["Id"], "DocNumber": "R-1", "TxnDate": "2026-07-02"})
    assert find(writer, ENTITIES["Invoice"], body, "stripe:r") is not None
    company.change("void", entity="Invoice", body={"Id": held["Id"]})
    assert find(writer, ENTITIES["Invoice"], body, "stripe:r") is not None


def test_every_page_is_looked_through(
    company: Books, writer: QuickBooksWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = company.change("create", entity="Customer", body={"DisplayName": "Pages"})["Id"]
    body: dict[str, Any] = {"CustomerRef": {"value": owner}, "TotalAmt": 1, "TxnDate": "2026-07-03"}
    for number in range(7):
        company.change("create", entity="Payment", body={**body, "PrivateNote": f"stripe:page_{number}"})
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    found = find(writer, ENTITIES["Payment"], body, "stripe:page_6")
    assert found is not None
    assert found["PrivateNote"] == "stripe:page_6"
    assert writer.sent()["GET query"] == 4
    assert find(writer, ENTITIES["Payment"], body, "stripe:page_7") is None
    assert writer.sent()["GET query"] == 8


class Told:
    """Searches that are answered with what a test says, and what was searched for."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.asked: list[Mapping[str, str]] = []

    def query(self, entity: Entity, equals: Mapping[str, str]) -> list[dict[str, Any]]:
        assert entity is ENTITIES["Invoice"]
        self.asked.append(equals)
        return self.answers.pop(0)


def test_the_best_search_comes_first_and_two_are_too_many() -> None:
    sent = {"DocNumber": "1", "TxnDate": "2026-07-10", "CustomerRef": {"value": "7"}}
    one, other = {"Id": "1", "PrivateNote": MARK}, {"Id": "2", "PrivateNote": f"Voided - {MARK}"}
    told = Told([one])
    assert find(told, ENTITIES["Invoice"], sent, MARK) == one
    assert told.asked == [{"DocNumber": "1"}]
    told = Told([{"Id": "3"}], [other])
    assert find(told, ENTITIES["Invoice"], sent, MARK) == other
    assert told.asked == [{"DocNumber": "1"}, {"TxnDate": "2026-07-10", "CustomerRef": "7"}]
    with pytest.raises(MarkedTwice) as raised:
        find(Told([one, other]), ENTITIES["Invoice"], sent, MARK)
    assert raised.value.ids == ["1", "2"]
    assert find(Told([]), ENTITIES["Invoice"], {"DocNumber": "1"}, MARK) is None


def test_a_marker_is_a_word() -> None:
    entity = ENTITIES["Invoice"]
    for note, marked in (
        (MARK, True),
        (f"Voided - {MARK}", True),
        (f"a\n{MARK}\nb", True),
        (f"{MARK}2", False),
        (f"x{MARK}", False),
        ("", False),
        (None, False),
    ):
        assert is_marked(entity, {"PrivateNote": note}, MARK) is marked, note
    assert not is_marked(entity, {"DocNumber": MARK}, MARK)


def test_the_docstring_tells_every_entity() -> None:
    """What is declared is what is documented."""
    text = lookup.__doc__ or ""
    table = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| ")][1:]
    told = {
        name.strip(): (marked.strip(), searched.strip())
        for names, marked, searched in table
        for name in names.split(",")
    }
    assert told.keys() == ENTITIES.keys()
    for name, (marked, searched) in told.items():
        entity = ENTITIES[name]
        assert marked == entity.marked_at
        ways = [" and ".join(names) for names in entity.searched_by]
        assert searched == "; then ".join(ways) + (", among the inactive too" if entity.has_inactive else "")


def test_every_entity_is_one_of_quickbooks(company: Books) -> None:
    """Every property that is searched by can be searched by, and the marker's is one."""
    from finance_os.sandbox.quickbooks.entities import KINDS

    for name, entity in ENTITIES.items():
        kind = KINDS[name]
        assert kind.path == entity.path
        assert entity.marked_at in kind.fields
        assert {each for names in entity.searched_by for each in names} <= kind.filters.keys()
        assert {each.value for each in entity.operations} <= kind.operations
        assert entity.has_inactive == ("Active" in kind.fields)
