"""From a plan of a company's weeks to its books: kept, applied through losses, verified, and planned again."""

import random
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.evidence.extraction import Finding, Severity
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.stripe_qbo import links, states
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.holding import Ended
from finance_os.stripe_qbo.keeping import keep
from finance_os.stripe_qbo.mapping.drafts import Adopted
from finance_os.stripe_qbo.planning import Plan, plan_of
from finance_os.stripe_qbo.store import PayloadConflict, What
from finance_os.stripe_qbo.verify import verify
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.sandbox.test_quickbooks import Client
from finance_os_tests.stripe_qbo.books import DAY, Books, Loss, books, customer, invoice
from finance_os_tests.stripe_qbo.mapping.worlds import START, Company, evidence, living, rules


@pytest.fixture(scope="module")
def company() -> Iterator[Books]:
    """Weeks of a company with several currencies, of which nobody has mirrored anything."""
    with books(living(45, 4, 7), books_until=START - timedelta(days=1)) as served:
        yield served


@pytest.fixture(scope="module")
def read(company: Books) -> Company:
    """The reading side of the same company."""
    client = Client(company.room, company.base)
    client.sign_in()
    return Company(client)


def planned(company: Books, read: Company, database: Database) -> Plan:
    booked = states.booked(database, "acme", company.realm)
    return plan_of(evidence(company.room.world), read.books(), rules(), booked)


def told(database: Database) -> set[str]:
    return {each.code for each in open_exceptions(database, "acme")}


def test_a_companys_weeks_end_in_its_books(company: Books, read: Company, database: Database, acme: Connection) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    plan = planned(company, read, database)
    assert len(plan.intents) > 80
    first = keep(database, "acme", company.realm, plan, run="first")
    assert first.count(What.NEW) == len(plan.intents)
    assert keep(database, "acme", company.realm, plan).changes == ()

    dice = random.Random(3)
    losses = [Loss.BEFORE, Loss.AFTER, Loss.HALF, Loss.ERROR]
    company.before.losses = deque(dice.choice(losses) if dice.random() < 0.15 else None for _ in plan.intents)
    company.before.watch = lambda _, __: company.room._quickbooks._answered.clear()
    with company.writer() as writer:
        result = apply(database, writer, "acme", company.realm, together=1)
    assert result.ended.keys() <= {Ended.APPLIED, Ended.FOUND, Ended.UNKNOWN, Ended.WAITING}
    assert result.ended[Ended.FOUND] > 5
    company.before.losses.clear()
    with company.writer() as writer:
        assert apply(database, writer, "acme", company.realm).finished
        found = verify(database, writer, "acme", company.realm)

    made = {each.key for each in plan.intents}
    linked = links.links(database, "acme", company.realm)
    assert linked.keys() == made | plan.adoptions.keys()
    for intent in plan.intents:
        company.one(intent)
    assert (found.as_planned, found.unsettled, found.findings) == (len(made), 0, [])
    assert not told(database) - {each.code for each in plan.findings}
    assert read.trial_balance() == 0

    # Planned again, from books that show it all: nothing changes, and nothing is sent.
    writes = company.before.writes
    again = planned(company, read, database)
    put = keep(database, "acme", company.realm, again, run="second")
    assert [str(each) for each in put.changes] == []
    with company.writer() as writer:
        result = apply(database, writer, "acme", company.realm)
    assert (result.ended, result.finished, company.before.writes) == ({}, True, writes)


def test_a_conflict_is_told_beside_the_plans_findings(company: Books, database: Database, acme: Connection) -> None:
    """The rest of the plan is kept, and the finding goes once the plan is the one that was written."""
    first, other = customer("cus_1"), customer("cus_1", CompanyName="Other")
    realm = company.realm
    own = Finding("invoice_uncollectible", Severity.MEDIUM, "in_9", DAY, "Given up.")
    keep(database, "acme", realm, Plan((first,), (own,)))
    with database.transaction() as connection:
        connection.execute("UPDATE finance_os.intents SET state = 'sending', requestid = 'r', resolved = payload")
    links.adopt(database, "acme", realm, customer("cus_2").key, "Customer", "77", "0")
    adoptions = {
        customer("cus_2").key: Adopted("Customer", "78", "0"),
        customer("cus_3").key: Adopted("Customer", "79", "0"),
    }
    with pytest.raises(PayloadConflict):
        keep(database, "acme", realm, Plan((other, invoice("in_1", "cus_3", Decimal(5))), (own,), adoptions))
    assert told(database) == {"invoice_uncollectible", "intent_conflict", "adoption_conflict"}
    details = " ".join(each.detail for each in open_exceptions(database, "acme"))
    assert first.input_hash in details
    assert other.input_hash in details
    linked = links.links(database, "acme", realm)
    assert {each.stripe_id: link.qbo_id for each, link in linked.items()} == {"cus_2": "77", "cus_3": "79"}
    put = keep(database, "acme", realm, Plan((first,)))
    assert [(each.what, each.key.stripe_id) for each in put.changes] == [(What.WITHDRAWN, "in_1")]
    assert told(database) == set()


def test_what_is_adopted_is_not_made(company: Books, database: Database, acme: Connection) -> None:
    wanted = customer("cus_1")
    adopted = {wanted.key: Adopted("Customer", "77", "0")}
    put = keep(database, "acme", company.realm, Plan((wanted,), (), adopted))
    assert (put.changes, put.unchanged) == ((), 1)
