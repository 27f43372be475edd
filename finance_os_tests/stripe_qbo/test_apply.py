"""Applying: in order, once, only under a policy, whatever is lost on the way, and never against people's changes."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.readiness import approvals
from finance_os.readiness.policies import QBO_EXPORT, policy_state
from finance_os.sandbox.faults import Faults, Rule
from finance_os.stripe_qbo import links
from finance_os.stripe_qbo.apply import Applied, apply
from finance_os.stripe_qbo.holding import Ended
from finance_os.stripe_qbo.intent import Intent, Operation
from finance_os.stripe_qbo.states import retry
from finance_os.stripe_qbo.store import put_plan
from finance_os.stripe_qbo.verify import verify
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import (
    DAY,
    QUICK,
    Books,
    Loss,
    books,
    customer,
    intent,
    invoice,
    key,
    marker_of,
    payment,
    story,
)

pytestmark = pytest.mark.usefixtures("acme", "globex")


@pytest.fixture(scope="module")
def company() -> Iterator[Books]:
    with books() as served:
        yield served


@pytest.fixture
def realm(company: Books, database: Database, acme: Connection) -> str:
    """The company's realm, whose export another login has approved."""
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    company.before.losses.clear()
    company.before.watch = None
    company.change("rate_limits")
    return company.realm


def run(database: Database, company: Books, business_id: str = "acme", **how: Any) -> Applied:
    with company.writer() as writer:
        return apply(database, writer, business_id, company.realm, **how)


def planned_and_run(database: Database, company: Books, intents: list[Intent], **how: Any) -> Applied:
    put_plan(database, "acme", company.realm, intents)
    return run(database, company, **how)


def states(database: Database) -> Counter[str]:
    rows = database.fetch("SELECT state FROM finance_os.intents WHERE business_id = 'acme'")
    return Counter(row["state"] for row in rows)


def codes(database: Database) -> list[str]:
    return sorted(each.code for each in open_exceptions(database, "acme"))


def steps(database: Database) -> list[str]:
    return [row["step"] for row in database.fetch("SELECT step FROM finance_os.intent_attempts ORDER BY attempt_id")]


ALONE = {"POST customer": 2, "POST invoice": 2, "POST payment": 2, "POST deposit": 2}


@pytest.mark.parametrize(("together", "requests"), [(1, ALONE), (30, {"POST batch": 3})], ids=["alone", "together"])
def test_what_is_planned_is_written_in_order_and_linked(
    company: Books, database: Database, realm: str, together: int, requests: dict[str, int]
) -> None:
    intents = story(company, 2, f"order{together}")
    result = planned_and_run(database, company, intents, together=together)
    assert (result.ended, result.finished, result.not_as_planned) == ({Ended.APPLIED: 8}, True, 0)
    assert result.requests == requests
    linked = links.links(database, "acme", realm)
    for each in intents:
        held, link = company.one(each), linked[each.key]
        assert (link.entity, link.qbo_id, link.origin) == (each.entity, held["Id"], links.CREATED)
        assert (link.input_hash, link.verified_at is not None) == (each.input_hash, True)
    paid = company.one(intents[2])
    assert paid["Balance"] == 0
    assert paid["CustomerRef"]["value"] == company.one(intents[3])["Id"]
    assert states(database) == {"applied": 8}
    assert codes(database) == []

    writes = company.before.writes
    again = planned_and_run(database, company, intents)
    assert (again.ended, again.finished, company.before.writes) == ({}, True, writes)


def test_nothing_is_sent_without_an_approval(company: Books, database: Database) -> None:
    put_plan(database, "acme", company.realm, story(company, 1, "gated"))
    before = company.before.writes, company.before.reads
    gated = run(database, company)
    assert (gated.gated, gated.finished) == ("policy_gated_read_only_ingestion_only", False)
    assert gated.requests == {}
    assert (company.before.writes, company.before.reads) == before
    assert states(database) == {"planned": 4}
    approve_policy(database, "acme", QBO_EXPORT.key, scope="1234567")
    assert run(database, company).gated == "policy_gated_read_only_ingestion_only"
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    assert run(database, company).ended == {Ended.APPLIED: 4}
    assert policy_state(database, "acme", QBO_EXPORT.key).unexplained_count == 0


def test_every_write_is_an_external_action_that_was_delivered(company: Books, database: Database, realm: str) -> None:
    intents = story(company, 1, "action")
    planned_and_run(database, company, intents)
    rows = database.fetch(
        """
        SELECT action.target, action.payload_hash, outcome.outcome, action.approval_id IS NOT NULL AS approved
        FROM finance_os.external_actions AS action JOIN finance_os.external_action_outcomes AS outcome USING (action_id)
        """
    )
    assert {row["payload_hash"] for row in rows} == {each.input_hash for each in intents}
    assert {(row["target"], row["outcome"], row["approved"]) for row in rows} == {(realm, "delivered", True)}
    assert len(rows) == 4


def test_what_it_refers_to_must_be_linked_first(company: Books, database: Database, realm: str) -> None:
    result = planned_and_run(database, company, [invoice("in_early", "cus_early")])
    assert (result.ended, result.finished) == ({Ended.WAITING: 1}, False)
    result = planned_and_run(database, company, [customer("cus_early")])
    assert (result.ended, result.finished) == ({Ended.APPLIED: 2}, True)


def test_a_change_waits_for_what_needs_its_object_before(company: Books, database: Database, realm: str) -> None:
    """The void of an invoice stands behind its payment in the plan: it is ready first, and must not be sent first."""
    _, paid, billed, owner = story(company, 1, "before")
    void = intent(billed.key, "Invoice", {}, Operation.VOID)
    put_plan(database, "acme", realm, [owner, billed, paid, void])
    company.before.losses = deque([None, None, *[Loss.BEFORE] * 3])
    result = run(database, company, workers=2)
    assert result.ended == {Ended.APPLIED: 2, Ended.UNKNOWN: 1, Ended.WAITING: 1}
    assert company.one(billed)["TotalAmt"] == Decimal("120.5")
    assert run(database, company).ended == {Ended.APPLIED: 2}
    assert company.one(billed)["TotalAmt"] == 0
    assert company.one(paid)["UnappliedAmt"] == Decimal("120.5")


def test_the_plans_order_is_kept(company: Books, database: Database, realm: str) -> None:
    """Whatever the dates and the order of dependencies; what was planned before gets its place in the new plan."""
    names = ["e", "b", "d", "a", "c"]
    days = [DAY + timedelta(days=at % 2) for at in range(5)]
    intents = {name: replace(customer(f"cus_order_{name}"), dated=day) for name, day in zip(names, days, strict=True)}
    put_plan(database, "acme", realm, [intents[name] for name in sorted(names)])
    put_plan(database, "acme", realm, [intents[name] for name in names])
    assert run(database, company).ended == {Ended.APPLIED: 5}
    made = [int(company.one(intents[name])["Id"]) for name in names]
    assert made == sorted(made)


# --- lost answers


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("forgotten", [False, True], ids=["remembered", "forgotten"])
def test_a_lost_answer_makes_one_object(
    company: Books, database: Database, realm: str, loss: Loss, forgotten: bool
) -> None:
    """Each of the four entities loses its first answer; the vendor's memory of requests may be gone by then."""
    intents = story(company, 1, f"lost{loss}{forgotten}")
    company.before.losses = deque([loss, None] * 4 if loss is Loss.BEFORE else [loss] * 4)
    if forgotten:
        company.before.watch = lambda _, __: company.room._quickbooks._answered.clear()
    put_plan(database, "acme", realm, intents)
    with company.writer(replace(QUICK, read=0.3 if loss is Loss.LATE else 5)) as writer:
        result = apply(database, writer, "acme", realm)
    expected = Ended.APPLIED if loss is Loss.BEFORE else Ended.FOUND
    assert (result.ended, result.finished) == ({expected: 4}, True)
    for each in intents:
        assert company.one(each)["Id"] == links.links(database, "acme", realm)[each.key].qbo_id
    assert Counter(steps(database))["unknown"] == 4
    assert codes(database) == []


def test_an_answer_that_stays_away_is_gone_on_with_later(company: Books, database: Database, realm: str) -> None:
    company.before.losses = deque([Loss.BEFORE] * 3)
    result = planned_and_run(database, company, [customer("cus_away")])
    assert (result.ended, result.finished) == ({Ended.UNKNOWN: 1}, False)
    assert states(database) == {"sending": 1}
    assert steps(database) == ["sending", "unknown", "absent"] * 2 + ["sending", "unknown"]
    requested = {row["requestid"] for row in database.fetch("SELECT requestid FROM finance_os.intent_attempts")}
    assert len(requested) == 1
    assert run(database, company).ended == {Ended.APPLIED: 1}
    company.one(customer("cus_away"))


def test_a_request_that_was_only_slow_makes_no_second_object(company: Books, database: Database, realm: str) -> None:
    """It is carried out after it was looked up in vain: the repetition gets its answer, by the requestid."""
    from finance_os_tests.sandbox.test_quickbooks import world

    with books(world(days=3, size=1, seed=9)) as slow:
        approve_policy(database, "acme", QBO_EXPORT.key, scope=slow.realm)
        faults = Faults(slow.before.app, slow.room.fault)
        faults.script([Rule(path="*/customer", kind="slow", on=1, delay=0.6)])
        slow.before.app = faults
        put_plan(database, "acme", slow.realm, [customer("cus_slow")])
        with slow.writer(replace(QUICK, read=0.3)) as writer:
            result = apply(database, writer, "acme", slow.realm)
        assert result.ended == {Ended.APPLIED: 1}
        time.sleep(0.5)
        slow.one(customer("cus_slow"))


def test_a_lost_link_is_not_written_again(company: Books, database: Database, realm: str) -> None:
    """The outcome was committed, and the process died before the link was."""
    intents = [customer("cus_unlinked")]
    planned_and_run(database, company, intents)
    with database.connection() as owner:
        owner.execute("DELETE FROM finance_os.links WHERE stripe_id = 'cus_unlinked'")
        owner.execute("UPDATE finance_os.intents SET state = 'sending'")
    writes = company.before.writes
    assert run(database, company).ended == {Ended.FOUND: 1}
    assert company.before.writes == writes

    with database.connection() as owner:
        owner.execute("DELETE FROM finance_os.links WHERE stripe_id = 'cus_unlinked'")
        owner.execute("UPDATE finance_os.intents SET state = 'sending'")
    held = company.one(intents[0])
    company.change("update", entity="Customer", body={"Id": held["Id"], "Notes": "Mine"})
    assert run(database, company).ended == {Ended.CONFLICTED: 1}
    assert (company.before.writes, codes(database)) == (writes, ["qbo_object_missing"])


# --- refusals and conflicts


def test_a_refusal_is_told_and_tried_again_when_asked(company: Books, database: Database, realm: str) -> None:
    company.change("close_books", date="2026-07-15")
    try:
        result = planned_and_run(database, company, [customer("cus_closed"), invoice("in_closed", "cus_closed")])
        assert result.ended == {Ended.APPLIED: 1, Ended.FAILED: 1}
        (finding,) = open_exceptions(database, "acme")
        assert (finding.code, finding.subject) == ("qbo_refused", "invoice:in_closed:invoice")
        assert "6210" in finding.detail
        assert run(database, company).ended == {}
    finally:
        company.change("close_books", date=None)
    assert retry(database, "acme", realm) == 1
    assert run(database, company).ended == {Ended.APPLIED: 1}
    assert codes(database) == []
    company.one(invoice("in_closed", "cus_closed"))


def test_a_number_that_another_object_has_is_a_conflict(company: Books, database: Database, realm: str) -> None:
    planned_and_run(database, company, [customer("cus_taken")])
    owner = company.one(customer("cus_taken"))["Id"]
    line = {"Amount": 5, "DetailType": "SalesItemLineDetail", "SalesItemLineDetail": {"ItemRef": {"value": "1"}}}
    body = {"CustomerRef": {"value": owner}, "DocNumber": "TAKEN-1", "Line": [line]}
    company.change("create", entity="Invoice", body=body)
    result = planned_and_run(database, company, [invoice("in_taken", "cus_taken", number="TAKEN-1")])
    assert (result.ended, codes(database)) == ({Ended.CONFLICTED: 1}, ["qbo_number_taken"])
    assert company.all("Invoice", "stripe:in_taken") == []
    # The plan gives it another number, and that takes the place of what was never written.
    result = planned_and_run(database, company, [invoice("in_taken", "cus_taken", number="TAKEN-2")])
    assert (result.ended, codes(database)) == ({Ended.APPLIED: 1}, [])


def test_a_number_that_is_taken_by_its_own_object_is_adopted(company: Books, database: Database, realm: str) -> None:
    planned_and_run(database, company, [customer("cus_own"), invoice("in_own", "cus_own")])
    first = company.one(invoice("in_own", "cus_own"))
    company.change("forget_requests")
    with database.connection() as owner:  # a finance database from before it was written
        owner.execute("DELETE FROM finance_os.links WHERE stripe_id = 'in_own'")
        owner.execute("UPDATE finance_os.intents SET state = 'planned' WHERE stripe_id = 'in_own'")
    assert run(database, company).ended == {Ended.FOUND: 1}
    assert company.one(invoice("in_own", "cus_own"))["Id"] == first["Id"]


def test_a_name_that_is_taken_is_a_conflict(company: Books, database: Database, realm: str) -> None:
    wanted = customer("cus_name")
    company.change("create", entity="Vendor", body={"DisplayName": wanted.payload["DisplayName"]})
    result = planned_and_run(database, company, [wanted])
    assert (result.ended, codes(database)) == ({Ended.CONFLICTED: 1}, ["qbo_name_taken"])


def test_what_stands_there_twice_is_told(company: Books, database: Database, realm: str) -> None:
    planned_and_run(database, company, [customer("cus_twice"), invoice("in_twice", "cus_twice")])
    held = company.one(invoice("in_twice", "cus_twice"))
    copy = {name: held[name] for name in ("CustomerRef", "TxnDate", "PrivateNote", "Line")}
    company.change("create", entity="Invoice", body={**copy, "DocNumber": "COPY-1"})
    company.change("update", entity="Invoice", body={"Id": held["Id"], "DocNumber": "COPY-2"})
    with database.connection() as owner:
        owner.execute("DELETE FROM finance_os.links WHERE stripe_id = 'in_twice'")
        owner.execute("UPDATE finance_os.intents SET state = 'sending' WHERE stripe_id = 'in_twice'")
    assert run(database, company).ended == {Ended.CONFLICTED: 1}
    assert codes(database) == ["qbo_object_doubled"]


# --- updates and voids


def updated(of: Intent, **fields: Any) -> Intent:
    return intent(of.key, of.entity, fields, Operation.UPDATE)


def test_an_update_is_for_the_version_that_is_there_now(company: Books, database: Database, realm: str) -> None:
    """The payment of an invoice gives the invoice another SyncToken; nobody changed what was written."""
    intents = story(company, 1, "stale")
    planned_and_run(database, company, intents)
    billed = intents[2]
    result = planned_and_run(database, company, [updated(billed, DueDate="2026-08-10")])
    assert result.ended == {Ended.APPLIED: 1}
    held = company.one(billed)
    assert (held["DueDate"], held["Balance"], held["DocNumber"]) == ("2026-08-10", 0, billed.payload["DocNumber"])
    assert "refused" in steps(database)  # 5010, and then with the present one
    # Another update of the same key follows the first; the first again changes nothing.
    assert planned_and_run(database, company, [updated(billed, DueDate="2026-08-10")]).ended == {}
    assert planned_and_run(database, company, [updated(billed, DueDate="2026-08-11")]).ended == {Ended.APPLIED: 1}
    link = links.links(database, "acme", realm)[billed.key]
    assert (link.sync_token, link.input_hash) == (
        company.one(billed)["SyncToken"],
        updated(billed, DueDate="2026-08-11").input_hash,
    )


@pytest.mark.parametrize("loss", [Loss.BEFORE, Loss.AFTER, Loss.HALF])
def test_a_lost_answer_to_a_change_is_looked_up(company: Books, database: Database, realm: str, loss: Loss) -> None:
    billed = invoice(f"in_change{loss}", f"cus_change{loss}")
    planned_and_run(database, company, [customer(f"cus_change{loss}"), billed])
    expected = {Ended.APPLIED if loss is Loss.BEFORE else Ended.FOUND: 1}
    company.before.losses = deque([loss])
    assert planned_and_run(database, company, [updated(billed, DueDate="2026-08-10")]).ended == expected
    assert (company.one(billed)["DueDate"], company.one(billed)["SyncToken"]) == ("2026-08-10", "1")
    company.before.losses = deque([loss])
    void = intent(billed.key, billed.entity, {}, Operation.VOID)
    assert planned_and_run(database, company, [void]).ended == expected
    held = company.one(billed)
    assert (held["TotalAmt"], held["SyncToken"]) == (0, "2")
    assert links.links(database, "acme", realm)[billed.key].verified_at is not None


@pytest.mark.parametrize("operation", [Operation.UPDATE, Operation.VOID])
def test_a_change_that_arrived_is_not_sent_again_over_what_people_made_of_it(
    company: Books, database: Database, realm: str, operation: Operation
) -> None:
    """The outcome was committed, the process died before the link was, and somebody took the change back."""
    billed = invoice(f"in_back{operation}", f"cus_back{operation}")
    planned_and_run(database, company, [customer(f"cus_back{operation}"), billed])
    entry = company.room.realm.one("Invoice", company.one(billed)["Id"])
    before = entry.fields, entry.total
    change = intent(
        billed.key, "Invoice", {"DueDate": "2026-08-10"} if operation is Operation.UPDATE else {}, operation
    )
    assert planned_and_run(database, company, [change]).ended == {Ended.APPLIED: 1}
    with database.connection() as owner:
        owner.execute("UPDATE finance_os.intents SET state = 'sending' WHERE operation <> 'create'")
    arrived = entry.fields, entry.total
    (entry.fields, entry.total), entry.sync = before, entry.sync + 1
    (approval,) = policy_state(database, "acme", QBO_EXPORT.key).approvals
    approvals.revoke(database, "acme", QBO_EXPORT.key, reason="a test", request_id=approval.request_id)
    writes = company.before.writes
    result = run(database, company)
    assert (result.ended, codes(database)) == ({Ended.CONFLICTED: 1}, ["qbo_object_changed"])
    assert run(database, company).ended == {}
    # Not by retrying either, under an approval or not: it is as it should be once somebody has put it right.
    approve_policy(database, "acme", QBO_EXPORT.key, scope=realm)
    assert retry(database, "acme", realm) == 1
    assert run(database, company).ended == {Ended.CONFLICTED: 1}
    (entry.fields, entry.total), entry.sync = arrived, entry.sync + 1
    assert retry(database, "acme", realm) == 1
    assert (run(database, company).ended, codes(database)) == ({Ended.FOUND: 1}, [])
    assert company.before.writes == writes


def test_a_payment_is_voided(company: Books, database: Database, realm: str) -> None:
    intents = story(company, 1, "void")[1:]
    planned_and_run(database, company, intents)
    void = intent(intents[0].key, "Payment", {}, Operation.VOID)
    assert planned_and_run(database, company, [void]).ended == {Ended.APPLIED: 1}
    assert company.one(intents[1])["Balance"] == Decimal("120.5")


def test_what_people_changed_is_not_written_over(company: Books, database: Database, realm: str) -> None:
    billed = invoice("in_hand", "cus_hand")
    planned_and_run(database, company, [customer("cus_hand"), billed])
    held = company.one(billed)
    company.change("update", entity="Invoice", body={"Id": held["Id"], "TxnDate": "2026-07-01"})
    writes = company.before.writes
    result = planned_and_run(database, company, [updated(billed, DueDate="2026-08-10")])
    assert (result.ended, codes(database)) == ({Ended.CONFLICTED: 1}, ["qbo_object_changed"])
    (finding,) = open_exceptions(database, "acme")
    assert "TxnDate is 2026-07-01, not 2026-07-10" in finding.detail
    assert company.before.writes == writes + 1  # refused, as stale
    assert company.one(billed)["TxnDate"] == "2026-07-01"
    company.change("update", entity="Invoice", body={"Id": held["Id"], "TxnDate": "2026-07-10"})
    assert retry(database, "acme", realm) == 1
    assert (run(database, company).ended, codes(database)) == ({Ended.APPLIED: 1}, [])


def test_what_people_changed_and_verifying_saw_is_not_written_over(
    company: Books, database: Database, realm: str
) -> None:
    """Whoever verifies sees the newest version; that version is not Finance OS's to be changed."""
    billed = invoice("in_seen", "cus_seen")
    planned_and_run(database, company, [customer("cus_seen"), billed])
    held = company.one(billed)
    company.change("update", entity="Invoice", body={"Id": held["Id"], "TxnDate": "2026-07-01"})
    with company.writer() as writer:
        assert [each.code for each in verify(database, writer, "acme", realm).findings] == ["qbo_object_changed"]
    writes = company.before.writes
    assert planned_and_run(database, company, [updated(billed, TxnDate="2026-07-12")]).ended == {Ended.CONFLICTED: 1}
    assert (company.one(billed)["TxnDate"], company.before.writes) == ("2026-07-01", writes)
    void = intent(billed.key, "Invoice", {}, Operation.VOID)
    assert planned_and_run(database, company, [void]).ended == {Ended.WAITING: 1}  # behind the update
    company.change("update", entity="Invoice", body={"Id": held["Id"], "TxnDate": held["TxnDate"]})
    assert retry(database, "acme", realm) == 1
    assert run(database, company).ended == {Ended.APPLIED: 2}
    with company.writer() as writer:
        assert verify(database, writer, "acme", realm).findings == []


@pytest.mark.parametrize("together", [1, 30])
def test_an_approval_that_ends_meanwhile_ends_the_sending(
    company: Books, database: Database, realm: str, together: int
) -> None:
    """The answer is lost, and before the request is sent again the approval is revoked."""
    wanted = [customer(f"cus_revoked{together}{at}") for at in range(2)]
    company.before.losses = deque([Loss.BEFORE])
    (approval,) = policy_state(database, "acme", QBO_EXPORT.key).approvals

    def revoke(_: int, when: str) -> None:
        if when == "before" and policy_state(database, "acme", QBO_EXPORT.key).approved:
            approvals.revoke(database, "acme", QBO_EXPORT.key, reason="a test", request_id=approval.request_id)

    company.before.watch = revoke
    writes = company.before.writes
    put_plan(database, "acme", realm, wanted)
    result = run(database, company, together=together)
    assert (result.gated, result.ended) == ("policy_gated_read_only_ingestion_only", {})
    assert company.before.writes == writes + 1
    assert policy_state(database, "acme", QBO_EXPORT.key).unexplained_count == 0
    company.before.watch = None
    approve_policy(database, "acme", QBO_EXPORT.key, scope=realm)
    assert run(database, company).finished
    for each in wanted:
        company.one(each)


def test_what_people_deleted_is_not_made_again(company: Books, database: Database, realm: str) -> None:
    billed = invoice("in_deleted", "cus_deleted")
    planned_and_run(database, company, [customer("cus_deleted"), billed])
    company.change("delete", entity="Invoice", body={"Id": company.one(billed)["Id"]})
    result = planned_and_run(database, company, [updated(billed, DueDate="2026-08-10"), billed])
    assert (result.ended, codes(database)) == ({Ended.CONFLICTED: 1}, ["qbo_object_missing"])
    assert company.all("Invoice", "stripe:in_deleted") == []


# --- the vendor's moods


def test_a_throttled_write_waits_as_told(company: Books, database: Database, realm: str) -> None:
    company.change("rate_limits", per_second=2)
    put_plan(database, "acme", realm, story(company, 1, "throttled"))
    with company.writer(replace(QUICK, attempts=20, throttled=0.3, longest_wait=1)) as writer:
        result = apply(database, writer, "acme", realm)
    assert (result.ended, result.finished) == ({Ended.APPLIED: 4}, True)
    assert sum(result.requests.values()) > 4
    assert "unknown" not in steps(database)


def test_a_limit_that_stays_ends_the_run(company: Books, database: Database, realm: str) -> None:
    company.change("rate_limits", per_minute=1)
    put_plan(database, "acme", realm, [customer("cus_limit1"), customer("cus_limit2")])
    result = run(database, company, together=1)
    assert result.ended == {Ended.APPLIED: 1}
    assert result.stopped is not None
    assert (result.stopped.code, result.finished) == ("rate_limited", False)
    company.change("rate_limits")
    assert run(database, company).finished
    company.one(customer("cus_limit2"))


def test_an_expired_access_token_is_renewed(company: Books, database: Database, realm: str) -> None:
    put_plan(database, "acme", realm, [customer("cus_401a"), customer("cus_401b")])

    def expire(_: int, when: str) -> None:
        if when == "after":
            company.room.connection.expire_access_tokens()

    company.before.watch = expire
    with company.writer() as writer:
        result = apply(database, writer, "acme", realm)
    assert (result.ended, result.finished) == ({Ended.APPLIED: 2}, True)
    company.before.watch = None
    company.one(customer("cus_401b"))
    assert planned_and_run(database, company, [customer("cus_401c")]).requests == {"POST customer": 2}


def test_a_vendor_that_is_down_ends_the_run(database: Database, acme: Connection) -> None:
    with books() as gone:
        approve_policy(database, "acme", QBO_EXPORT.key, scope=gone.realm)
        put_plan(database, "acme", gone.realm, [customer("cus_a"), customer("cus_b")])
    with gone.writer() as writer:
        result = apply(database, writer, "acme", gone.realm)
    assert result.stopped is not None
    assert (result.stopped.code, result.ended, result.finished) == ("unreachable", {}, False)


# --- side by side


@pytest.mark.parametrize("together", [1, 3])
def test_two_appliers_at_once_write_each_intent_once(
    company: Books, database: Database, realm: str, together: int
) -> None:
    intents = story(company, 8, f"both{together}")
    put_plan(database, "acme", realm, intents)
    writes = company.before.writes
    results: list[Applied] = []

    def work() -> None:
        results.append(run(database, company, workers=2, together=together))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(results) == 2
    rest = run(database, company)
    assert rest.finished
    total = sum(each.ended[Ended.APPLIED] for each in [*results, rest])
    assert total == 32
    assert together > 1 or company.before.writes - writes == 32
    for each in intents:
        company.one(each)


def test_two_businesses_do_not_meet(company: Books, database: Database, realm: str) -> None:
    from finance_os_tests.sandbox.test_quickbooks import world

    with books(world(days=3, size=1, seed=8)) as other:
        assert other.realm != realm
        mine, theirs = story(company, 1, "same"), story(other, 1, "same")
        assert [each.key for each in mine] == [each.key for each in theirs]
        put_plan(database, "acme", realm, mine)
        put_plan(database, "globex", other.realm, theirs)
        assert run(database, company).ended == {Ended.APPLIED: 4}
        gated = run(database, other, "globex")
        assert (gated.gated, gated.ended) == ("policy_gated_read_only_ingestion_only", {})
        assert other.all("Customer", marker_of(key("customer", "cus_same0"))) == []
        approve_policy(database, "globex", QBO_EXPORT.key, scope=other.realm, lasting=timedelta(hours=1))
        assert run(database, other, "globex").ended == {Ended.APPLIED: 4}
        with company.writer() as writer, pytest.raises(ValueError, match="realm"):
            apply(database, writer, "globex", other.realm)
        ours, others = links.links(database, "acme", realm), links.links(database, "globex", other.realm)
        assert ours.keys() == others.keys()
        assert links.links(database, "acme", other.realm) == {}


def test_a_limit_is_kept(company: Books, database: Database, realm: str) -> None:
    put_plan(database, "acme", realm, story(company, 1, "limit"))
    assert run(database, company, limit=2).ended[Ended.APPLIED] == 2
    assert run(database, company, limit=0).requests == {}
    assert run(database, company).ended == {Ended.APPLIED: 2}


def test_an_object_that_was_adopted_meanwhile_is_not_made(company: Books, database: Database, realm: str) -> None:
    wanted = customer("cus_adopted")
    put_plan(database, "acme", realm, [wanted])
    held = company.change("create", entity="Customer", body={"DisplayName": "A customer of old"})
    assert links.adopt(database, "acme", realm, wanted.key, "Customer", held["Id"], held["SyncToken"])
    assert not links.adopt(database, "acme", realm, wanted.key, "Customer", held["Id"], held["SyncToken"])
    with pytest.raises(links.LinkConflict):
        links.adopt(database, "acme", realm, wanted.key, "Customer", "999", "0")
    assert run(database, company).ended == {Ended.WITHDRAWN: 1}
    assert company.all("Customer", wanted.marker) == []
    assert planned_and_run(database, company, [wanted]).ended == {}
    # It is billed under the ID that it has.
    billed = invoice("in_adopted", "cus_adopted")
    assert planned_and_run(database, company, [billed]).ended == {Ended.APPLIED: 1}
    assert company.one(billed)["CustomerRef"]["value"] == held["Id"]


def test_a_reference_in_a_payment_is_the_id(company: Books, database: Database, realm: str) -> None:
    intents = story(company, 1, "ref")[1:]
    planned_and_run(database, company, intents)
    paid, billed = company.one(intents[0]), company.one(intents[1])
    assert paid["Line"][0]["LinkedTxn"] == [{"TxnId": billed["Id"], "TxnType": "Invoice"}]
    assert payment("x", "y", "z", "1").depends_on == (key("customer", "y"), key("invoice", "z"))
