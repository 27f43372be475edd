"""What is due: nothing that only people can get written counts as such, however far it is from what they look at."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.stripe_qbo import due, links, states
from finance_os.stripe_qbo.company import Company
from finance_os.stripe_qbo.export import Export, due_now
from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os.stripe_qbo.parts import WHOLE, Part
from finance_os.stripe_qbo.rules import rules_of
from finance_os.stripe_qbo.store import put_plan
from finance_os_tests.stripe_qbo.books import DAY, customer, intent, invoice, payment
from finance_os_tests.stripe_qbo.staged import RULES

pytestmark = pytest.mark.usefixtures("acme")

REALM = "9130357"


def settled(database: Database, of: Intent, state: str, code: str = "") -> None:
    """Bring an intent into a state, as applying it would."""
    with database.transaction() as connection:
        connection.execute(
            """
            UPDATE finance_os.intents SET state = %s, code = %s, requestid = 'r', resolved = payload
            WHERE key = %s AND operation = %s
            """,
            (state, code, str(of.key), of.operation.value),
        )


def linked(database: Database, *keys: LinkKey) -> None:
    for number, key in enumerate(keys, 100):
        links.adopt(database, "acme", REALM, key, "Invoice", str(number), "0")


def stranded(database: Database, part: Part = WHOLE) -> list[str]:
    with database.transaction() as connection:
        found = due.stranded(connection, "acme", REALM, part)
        rows = connection.execute(
            "SELECT operation || ' ' || stripe_id AS name FROM finance_os.intents WHERE intent_id = ANY (%s) "
            "ORDER BY intent_id",
            (list(found),),
        )
        return [row["name"] for row in rows]


def chain() -> Sequence[Intent]:
    """A customer, an invoice that refers to it, a payment that refers to the invoice alone, and an update of that."""
    owner, billed = customer("cus_1"), invoice("in_1", "cus_1")
    paid = payment("py_1", "cus_1", "in_1", "35")
    alone = intent(paid.key, "Payment", {**paid.payload, "CustomerRef": {"value": "1"}})
    later = intent(paid.key, "Payment", {"PaymentRefNum": "ch_1"}, Operation.UPDATE)
    return owner, billed, alone, later


def test_an_export_is_not_asked_for_again_because_of_a_chain_that_waits_for_people(
    database: Database, acme: Connection
) -> None:
    export = Export(Company("acme", acme, REALM), rules_of(RULES))
    owner, billed, paid, later = chain()
    put_plan(database, "acme", REALM, [owner, billed, paid, later])
    assert due_now(database, export, DAY) == 4
    settled(database, owner, "failed", "refused_6000")
    assert due_now(database, export, DAY) == 0
    put_plan(database, "acme", REALM, [customer("cus_2")])
    assert (due_now(database, export, DAY), due_now(database, export, DAY - timedelta(days=1))) == (1, 0)


@pytest.mark.parametrize("state", ["failed", "conflicted"])
def test_a_chain_behind_something_refused_is_stranded_to_its_end(database: Database, state: str) -> None:
    owner, billed, paid, later = chain()
    put_plan(database, "acme", REALM, [owner, billed, paid, later, customer("cus_2"), invoice("in_2", "cus_2")])
    assert stranded(database) == []
    settled(database, owner, state, "qbo_name_taken")
    assert stranded(database) == ["create in_1", "create py_1", "update py_1"]
    assert stranded(database, Part(objects=("payment:py_1",))) == ["create py_1", "update py_1"]
    assert stranded(database, Part(last=DAY - timedelta(days=1))) == []
    states.retry(database, "acme", REALM)
    assert stranded(database) == []


def test_what_refers_to_nothing_that_is_to_be_made_strands_what_refers_to_it(database: Database) -> None:
    owner, billed, paid, later = chain()
    put_plan(database, "acme", REALM, [billed, paid, later])
    assert stranded(database) == ["create in_1", "create py_1", "update py_1"]
    linked(database, owner.key)
    assert stranded(database) == []


def test_what_is_linked_strands_nobody(database: Database) -> None:
    """In conflict, or refused: whatever refers to it finds its object."""
    owner, billed, paid, later = chain()
    put_plan(database, "acme", REALM, [owner, billed, paid, later])
    settled(database, billed, "conflicted", "qbo_link_conflict")
    assert stranded(database) == ["create py_1", "update py_1"]
    linked(database, billed.key)
    assert stranded(database) == []


def test_a_change_waits_with_what_needs_its_object_as_it_is(database: Database) -> None:
    """A void behind a payment that is stranded, and not one before it; and behind an update that was refused."""
    owner, billed, paid, _ = chain()
    void = intent(billed.key, "Invoice", {}, Operation.VOID)
    put_plan(database, "acme", REALM, [void, paid])
    linked(database, billed.key)
    settled(database, paid, "failed", "refused_6000")
    assert stranded(database) == []
    put_plan(database, "acme", REALM, [paid, void], whole=True)
    assert stranded(database) == ["void in_1"]
    update = intent(billed.key, "Invoice", {"DueDate": "2026-08-10"}, Operation.UPDATE)
    settled(database, paid, "applied")
    put_plan(database, "acme", REALM, [paid, void, update], whole=True)
    assert stranded(database) == []
    settled(database, update, "failed", "refused_6000")
    assert stranded(database) == ["void in_1"]
    assert owner.key not in links.links(database, "acme", REALM)


def test_businesses_do_not_strand_one_another(database: Database, globex: Connection) -> None:
    owner, billed, paid, later = chain()
    for business_id in ("acme", "globex"):
        put_plan(database, business_id, REALM, [owner, billed, paid, later])
    with database.transaction() as connection:
        connection.execute(
            "UPDATE finance_os.intents SET state = 'failed' WHERE business_id = 'globex' AND entity = 'Customer'"
        )
    assert stranded(database) == []
    with database.transaction() as connection:
        assert len(due.stranded(connection, "globex", REALM)) == 3
