"""Batches: many creates in one request, each of them committed before, answered and settled by itself."""

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.readiness.policies import QBO_EXPORT, policy_state
from finance_os.sandbox.faults import Faults, Rule
from finance_os.sandbox.quickbooks.app import Throttle
from finance_os.sources.guard import ForbiddenRequest
from finance_os.stripe_qbo import links
from finance_os.stripe_qbo.answers import Refused, UnknownAnswer, Written
from finance_os.stripe_qbo.apply import Applied, apply
from finance_os.stripe_qbo.due import pending
from finance_os.stripe_qbo.grouping import waves
from finance_os.stripe_qbo.guard import WriteGuard
from finance_os.stripe_qbo.holding import Ended
from finance_os.stripe_qbo.intent import Intent, Operation
from finance_os.stripe_qbo.lookup import ENTITIES
from finance_os.stripe_qbo.states import retry
from finance_os.stripe_qbo.store import put_plan
from finance_os.stripe_qbo.waiting import Waiting
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import QUICK, Books, Loss, books, customer, intent, invoice, payment, story

pytestmark = pytest.mark.usefixtures("acme")

CUSTOMER = ENTITIES["Customer"]
BATCH = "https://quickbooks.example/v3/company/77/batch"


@dataclass
class Edited:
    """Changes what a batch answers before it is sent; `edit` is given the answer and gives another."""

    app: ASGIApp
    edit: Callable[[dict[str, Any]], Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        edit = self.edit if scope["path"].endswith("/batch") else None
        if edit is None:
            await self.app(scope, receive, send)
            return
        answered: list[Message] = []

        async def keep(message: Message) -> None:
            answered.append(message)

        await self.app(scope, receive, keep)
        body = json.loads(b"".join(message.get("body", b"") for message in answered))
        content = json.dumps(edit(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": answered[0]["status"], "headers": headers})
        await send({"type": "http.response.body", "body": content})


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Books, Edited]]:
    with books() as company:
        edited = Edited(company.before.app)
        company.before.app = edited
        yield company, edited


@pytest.fixture
def company(served: tuple[Books, Edited], database: Database, acme: Connection) -> Books:
    """The company, whose export another login has approved."""
    company, edited = served
    approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
    company.before.losses.clear()
    company.before.watch = None
    edited.edit = None
    return company


def run(database: Database, company: Books, longest: float | None = None, read: float = 5, **how: Any) -> Applied:
    """Apply, without waiting for anything unless a test says how."""
    with company.writer(replace(QUICK, read=read)) as writer:
        if longest is not None:
            writer.longest_request = longest
        return apply(database, writer, "acme", company.realm, **{"waiting": Waiting(at_most=0), **how})


def customers(prefix: str, count: int) -> list[Intent]:
    return [customer(f"cus_{prefix}{at:03d}") for at in range(count)]


def codes(database: Database) -> list[str]:
    return sorted(each.code for each in open_exceptions(database, "acme"))


def assert_one_each(company: Books, database: Database, intents: list[Intent]) -> None:
    linked = links.links(database, "acme", company.realm)
    for each in intents:
        assert company.one(each)["Id"] == linked[each.key].qbo_id
    assert policy_state(database, "acme", QBO_EXPORT.key).unexplained_count == 0


@contextmanager
def refusing_batches(edited: Edited, meanwhile: Callable[[], None] = lambda: None) -> Iterator[Counter[str]]:
    """A company that takes no batch; how many it was sent. `meanwhile` is done as the first of them is refused."""
    usual, refusals = edited.app, Counter[str]()

    async def small(scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].endswith("/batch"):
            await usual(scope, receive, send)
            return
        refusals["batch"] += 1
        if refusals["batch"] == 1:
            meanwhile()
        content = b'{"Fault":{"Error":[{"code":"1040","Message":"Batch size"}],"type":"ValidationFault"}}'
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": content})

    edited.app = small
    try:
        yield refusals
    finally:
        edited.app = usual


# --- what shares a batch


def test_a_batch_holds_thirty_that_do_not_refer_to_one_another(company: Books, database: Database) -> None:
    wanted = customers("many", 61)
    billed = [invoice(f"in_many{at}", f"cus_many{at:03d}") for at in range(31)]
    put_plan(database, "acme", company.realm, [*wanted, *billed])
    with database.transaction() as connection:
        window = pending(connection, "acme", company.realm, None, [], 1_000)
    planned = list(waves(window, 30))
    assert [[len(group) for group in wave] for wave in planned] == [[30, 30, 1], [30, 1]]
    for wave in planned:
        keys = {kept.intent.key for group in wave for kept in group}
        assert not any(keys.intersection(kept.intent.depends_on) for group in wave for kept in group)
    result = run(database, company, workers=2)
    assert (result.ended, result.finished) == ({Ended.APPLIED: 92}, True)
    assert result.requests == {"POST batch": 3, "POST customer": 1, "POST invoice": 1}
    assert_one_each(company, database, [*wanted, *billed])


def test_a_change_stands_alone_and_in_its_place(company: Books, database: Database) -> None:
    owner, billed = customer("cus_alone"), invoice("in_alone", "cus_alone")
    put_plan(database, "acme", company.realm, [owner, billed])
    assert run(database, company).ended == {Ended.APPLIED: 2}
    update = intent(billed.key, "Invoice", {"DueDate": "2026-08-10"}, Operation.UPDATE)
    put_plan(database, "acme", company.realm, [*customers("before", 2), update, *customers("after", 2)])
    with database.transaction() as connection:
        window = pending(connection, "acme", company.realm, None, [], 1_000)
    told = [[[str(kept.intent.operation) for kept in group] for group in wave] for wave in waves(window, 30)]
    assert told == [[["create", "create"]], [["update"]], [["create", "create"]]]
    assert run(database, company).ended == {Ended.APPLIED: 5}


def test_what_stands_in_a_circle_waits(company: Books, database: Database) -> None:
    first = invoice("in_circle1", "cus_x", number="C-1")
    second = payment("py_circle2", "cus_y", "circle1", "1")
    round_about = replace(first, payload={**first.payload, "CustomerRef": {"value": second.key.as_reference()}})
    back = replace(second, payload={**second.payload, "CustomerRef": {"value": round_about.key.as_reference()}})
    put_plan(database, "acme", company.realm, [round_about, replace(back, payload={**back.payload, "Line": []})])
    result = run(database, company)
    assert (result.ended, result.finished, result.requests) == ({Ended.WAITING: 2}, False, {})


# --- before it goes out, and its answers


def test_everything_is_committed_before_it_goes_out(company: Books, database: Database) -> None:
    wanted = customers("committed", 5)
    seen: list[Any] = []

    def look(_: int, when: str) -> None:
        seen.append((when, database.fetch("SELECT state, count(*) AS count FROM finance_os.intents GROUP BY 1")))
        seen.append((when, database.fetch("SELECT count(*) AS count FROM finance_os.external_actions")))

    company.before.watch = look
    put_plan(database, "acme", company.realm, wanted)
    assert run(database, company).ended == {Ended.APPLIED: 5}
    assert seen[:2] == [("before", [{"state": "sending", "count": 5}]), ("before", [{"count": 5}])]
    ids = {row["requestid"] for row in database.fetch("SELECT requestid FROM finance_os.intents")}
    assert len(ids) == 5
    assert len({each.partition("-")[0] for each in ids}) == 1
    assert max(map(len, ids)) <= 50
    outcomes = database.fetch("SELECT outcome, count(*) AS count FROM finance_os.external_action_outcomes GROUP BY 1")
    assert outcomes == [{"outcome": "delivered", "count": 5}]


def test_the_fault_of_one_does_not_fail_the_others(company: Books, database: Database) -> None:
    wanted = customers("fault", 6)
    bad = replace(wanted[2], payload={**wanted[2].payload, "DisplayName": "a:b"})
    company.change("create", entity="Vendor", body={"DisplayName": wanted[4].payload["DisplayName"]})
    put_plan(database, "acme", company.realm, [*wanted[:2], bad, *wanted[3:]])
    result = run(database, company)
    assert result.ended == {Ended.APPLIED: 4, Ended.FAILED: 1, Ended.CONFLICTED: 1}
    assert codes(database) == ["qbo_name_taken", "qbo_refused"]
    assert_one_each(company, database, [*wanted[:2], wanted[3], wanted[5]])
    refused = next(each for each in open_exceptions(database, "acme") if each.code == "qbo_refused")
    assert "fault 2040" in refused.detail
    assert "a:b" not in refused.detail


def test_answers_are_told_apart_by_their_ids_and_what_is_missing_is_looked_up(
    served: tuple[Books, Edited], company: Books, database: Database
) -> None:
    """In any order; one answer lacks, one says that the system failed, one is there twice: all were carried out."""

    def edit(body: dict[str, Any]) -> dict[str, Any]:
        items = {each["bId"]: each for each in body["BatchItemResponse"]}
        failed = {"Fault": {"Error": [{"code": "10000"}], "type": "SystemFault"}, "bId": "2"}
        return {"BatchItemResponse": [items["4"], items["4"], items["3"], failed, items["0"]]}

    served[1].edit = edit
    wanted = customers("missing", 5)
    put_plan(database, "acme", company.realm, wanted)
    result = run(database, company)
    assert (result.ended, result.finished) == ({Ended.APPLIED: 2, Ended.FOUND: 3}, True)
    assert_one_each(company, database, wanted)


def test_what_a_batch_did_not_do_after_all_is_sent_alone(
    served: tuple[Books, Edited], company: Books, database: Database
) -> None:
    """The batch was answered, so it is over: what is not there is sent at once."""
    wanted = customers("undone", 3)

    def edit(body: dict[str, Any]) -> dict[str, Any]:
        lost = next(each["Customer"] for each in body["BatchItemResponse"] if each["bId"] == "1")
        company.room.realm.entries["Customer"].pop(lost["Id"])
        company.room.realm._names = {
            name: owner for name, owner in company.room.realm._names.items() if owner != ("Customer", lost["Id"])
        }
        return {"BatchItemResponse": [each for each in body["BatchItemResponse"] if each["bId"] != "1"]}

    served[1].edit = edit
    put_plan(database, "acme", company.realm, wanted)
    result = run(database, company)
    assert (result.ended, result.finished) == ({Ended.APPLIED: 3}, True)
    assert result.requests == {"POST batch": 1, "GET query": 1, "POST customer": 1}
    assert_one_each(company, database, wanted)


def test_what_was_written_counts_though_the_run_ends_in_the_midst_of_a_batch(
    served: tuple[Books, Edited], company: Books, database: Database
) -> None:
    wanted = customers("midst", 4)

    def edit(body: dict[str, Any]) -> dict[str, Any]:
        company.room._quickbooks.throttle = Throttle(per_minute=0)
        return {"BatchItemResponse": [each for each in body["BatchItemResponse"] if each["bId"] != "2"]}

    served[1].edit = edit
    put_plan(database, "acme", company.realm, wanted)
    try:
        result = run(database, company)
    finally:
        company.change("rate_limits")
    assert result.stopped is not None
    assert (result.stopped.code, result.ended, result.finished) == ("rate_limited", {Ended.APPLIED: 3}, False)
    served[1].edit = None
    assert run(database, company).ended == {Ended.FOUND: 1}
    assert_one_each(company, database, wanted)


@pytest.mark.parametrize("answer", [{}, {"BatchItemResponse": None}, []], ids=["empty", "none", "list"])
def test_an_answer_that_tells_nothing_is_no_answer(
    served: tuple[Books, Edited], company: Books, database: Database, answer: Any
) -> None:
    served[1].edit = lambda _: answer
    wanted = customers(f"nothing{type(answer).__name__}{len(answer)}", 3)
    put_plan(database, "acme", company.realm, wanted)
    result = run(database, company)
    assert (result.ended, result.finished) == ({Ended.FOUND: 3}, True)
    assert_one_each(company, database, wanted)


def test_a_batch_that_is_refused_as_a_whole_is_sent_one_by_one(
    served: tuple[Books, Edited], company: Books, database: Database
) -> None:
    """As where Intuit takes fewer payloads than it said."""
    wanted = customers("whole", 3)
    put_plan(database, "acme", company.realm, wanted)
    with refusing_batches(served[1]) as refusals:
        result = run(database, company)
    assert (result.ended, result.finished, refusals["batch"]) == ({Ended.APPLIED: 3}, True, 1)
    assert_one_each(company, database, wanted)


def test_a_lost_batch_that_is_refused_the_second_time_is_looked_up_first(
    served: tuple[Books, Edited], company: Books, database: Database
) -> None:
    """The first one is carried out late: beside it nothing is sent alone, which would be under another requestid."""
    wanted = customers("late", 3)
    company.before.losses = deque([Loss.BEFORE])
    put_plan(database, "acme", company.realm, wanted)

    def carried_out() -> None:
        company.room.realm.create("Customer", dict(wanted[1].payload), free=True)

    with refusing_batches(served[1], carried_out):
        result = run(database, company)
    assert (result.ended, result.finished) == ({Ended.FOUND: 1, Ended.UNKNOWN: 2}, False)
    assert "POST customer" not in result.requests
    assert run(database, company, longest=0).ended == {Ended.APPLIED: 2}
    assert_one_each(company, database, wanted)


def test_what_a_later_run_is_refused_as_a_whole_is_looked_up_too(
    served: tuple[Books, Edited], company: Books, database: Database
) -> None:
    """It is sent alone once the lost batch must be over; batches that were refused since do not put that off."""
    wanted = customers("later", 3)
    company.before.losses = deque([Loss.BEFORE] * 3)
    put_plan(database, "acme", company.realm, wanted)
    assert run(database, company).ended == {Ended.UNKNOWN: 3}
    with refusing_batches(served[1]) as refusals:
        again = run(database, company)
        assert (again.ended, refusals["batch"]) == ({Ended.UNKNOWN: 3}, 1)
        assert again.requests == {"GET query": 6, "POST batch": 1}
        time.sleep(1)
        over = run(database, company, longest=1)
    assert (over.ended, refusals["batch"]) == ({Ended.APPLIED: 3}, 2)
    assert_one_each(company, database, wanted)


def test_a_refusal_after_a_lost_batch_is_no_proof_that_nothing_was_written(
    served: tuple[Books, Edited], company: Books, database: Database
) -> None:
    def edit(body: dict[str, Any]) -> dict[str, Any]:
        fault = {"Fault": {"Error": [{"code": "2040"}], "type": "ValidationFault"}, "bId": "1"}
        return {"BatchItemResponse": [fault if each["bId"] == "1" else each for each in body["BatchItemResponse"]]}

    served[1].edit = edit
    wanted = customers("proof", 3)
    company.before.losses = deque([Loss.BEFORE])
    put_plan(database, "acme", company.realm, wanted)
    result = run(database, company)
    assert (result.ended, result.finished) == ({Ended.APPLIED: 2, Ended.FOUND: 1}, True)
    assert codes(database) == []
    assert_one_each(company, database, wanted)


# --- lost answers


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("forgotten", [False, True], ids=["remembered", "forgotten"])
def test_a_lost_batch_makes_one_object_each(company: Books, database: Database, loss: Loss, forgotten: bool) -> None:
    """Each of the batches loses its first answer; the vendor's memory of requests may be gone by then."""
    intents = story(company, 3, f"b{loss}{forgotten}")
    company.before.losses = deque([loss, None] * 3 if loss is Loss.BEFORE else [loss] * 3)
    if forgotten:
        company.before.watch = lambda _, __: company.room._quickbooks._answered.clear()
    put_plan(database, "acme", company.realm, intents)
    result = run(database, company, read=0.4 if loss is Loss.LATE else 5)
    assert (result.ended, result.finished) == ({Ended.APPLIED if loss is Loss.BEFORE else Ended.FOUND: 12}, True)
    assert_one_each(company, database, intents)
    assert codes(database) == []


def test_a_batch_that_was_only_slow_makes_no_second_objects(database: Database, acme: Connection) -> None:
    """It is carried out after all of it was looked up in vain: the repetition gets its answer, by the requestid."""
    from finance_os_tests.sandbox.test_quickbooks import world

    with books(world(days=3, size=1, seed=9)) as slow:
        approve_policy(database, "acme", QBO_EXPORT.key, scope=slow.realm)
        faults = Faults(slow.before.app, slow.room.fault)
        faults.script([Rule(path="*/batch", kind="slow", on=1, delay=1.2)])
        slow.before.app = faults
        wanted = customers("slow", 4)
        put_plan(database, "acme", slow.realm, wanted)
        result = run(database, slow, read=0.8)
        assert result.ended == {Ended.APPLIED: 4}
        assert_one_each(slow, database, wanted)


def test_half_a_batch_is_left_until_it_must_be_over(company: Books, database: Database) -> None:
    """Its answer was lost, and some of it is there: the rest may be on its way, and is not sent beside that."""
    wanted = customers("half", 4)
    company.change("create", entity="Customer", body=dict(wanted[1].payload))
    company.before.losses = deque([Loss.BEFORE])
    put_plan(database, "acme", company.realm, wanted)
    result = run(database, company)
    assert (result.ended, result.finished) == ({Ended.FOUND: 1, Ended.UNKNOWN: 3}, False)
    again = run(database, company)
    assert (again.ended, again.requests) == ({Ended.UNKNOWN: 3}, {"GET query": 3})
    over = run(database, company, longest=0)
    assert (over.ended, over.finished) == ({Ended.APPLIED: 3}, True)
    assert over.requests == {"GET query": 3, "POST customer": 3}
    assert_one_each(company, database, wanted)
    outcomes = database.fetch("SELECT outcome, count(*) AS count FROM finance_os.external_action_outcomes GROUP BY 1")
    assert {row["outcome"]: row["count"] for row in outcomes}["delivered"] == 4


def test_a_batch_that_stays_away_is_gone_on_with_later(company: Books, database: Database) -> None:
    """Nothing of it is there: the same batch again, under the same requestid, is safe at any time."""
    wanted = customers("away", 3)
    company.before.losses = deque([Loss.BEFORE] * 3)
    put_plan(database, "acme", company.realm, wanted)
    assert run(database, company).ended == {Ended.UNKNOWN: 3}
    again = run(database, company)
    assert (again.ended, again.requests) == ({Ended.APPLIED: 3}, {"GET query": 3, "POST batch": 1})
    assert len({row["requestid"] for row in database.fetch("SELECT requestid FROM finance_os.intent_attempts")}) == 3
    assert_one_each(company, database, wanted)


def test_what_is_left_of_a_batch_is_never_sent_under_its_requestid(company: Books, database: Database) -> None:
    wanted = customers("left", 3)
    company.before.losses = deque([Loss.BEFORE] * 3)
    put_plan(database, "acme", company.realm, wanted)
    assert run(database, company).ended == {Ended.UNKNOWN: 3}
    with database.connection() as owner:  # as if one of them had been settled before the process died
        owner.execute("UPDATE finance_os.intents SET state = 'conflicted' WHERE stripe_id = 'cus_left000'")
    assert run(database, company).ended == {Ended.UNKNOWN: 2}
    over = run(database, company, longest=0)
    assert (over.ended, over.requests) == ({Ended.APPLIED: 2}, {"GET query": 2, "POST customer": 2})
    assert_one_each(company, database, wanted[1:])


@pytest.mark.parametrize(
    ("is_open", "longest", "ended", "alone"),
    [
        (True, 0, {Ended.APPLIED: 2}, {"POST invoice": 2}),
        (False, 0, {Ended.FAILED: 2}, {"POST invoice": 2}),
        (True, None, {Ended.FAILED: 2}, {}),
    ],
    ids=["opened since", "closed still", "perhaps under way"],
)
def test_a_refusal_whose_answer_was_lost_is_not_the_last_word(
    company: Books,
    database: Database,
    longest: float | None,
    ended: dict[Ended, int],
    alone: dict[str, int],
    *,
    is_open: bool,
) -> None:
    """QuickBooks answers the same batch as it did before, whatever was in the way then: alone they are answered as of
    now, once nothing can be on its way any more."""
    prefix = f"shut{is_open:d}{longest is None:d}"
    billed = [invoice(f"in_{prefix}{at}", f"cus_{prefix}") for at in range(2)]
    put_plan(database, "acme", company.realm, [customer(f"cus_{prefix}")])
    assert run(database, company).ended == {Ended.APPLIED: 1}
    put_plan(database, "acme", company.realm, billed)
    company.change("close_books", date="2026-07-31")
    try:
        company.before.losses = deque([Loss.AFTER] * 3)
        assert run(database, company).ended == {Ended.UNKNOWN: 2}
        if is_open:
            company.change("close_books", date=None)
        result = run(database, company, longest)
        assert result.ended == ended
        assert {name: count for name, count in result.requests.items() if name.startswith("POST")} == {
            "POST batch": 1,
            **alone,
        }
        company.change("close_books", date=None)
        assert retry(database, "acme", company.realm) == ended.get(Ended.FAILED, 0)
        assert run(database, company).finished
    finally:
        company.change("close_books", date=None)
    assert codes(database) == []
    assert_one_each(company, database, billed)


def test_a_throttled_batch_was_not_done(company: Books, database: Database) -> None:
    """Nothing of it is on its way, so the next run need not wait for it to end."""
    company.change("rate_limits", batches_per_minute=0)
    wanted = customers("throttled", 3)
    put_plan(database, "acme", company.realm, wanted)
    try:
        result = run(database, company)
        assert result.stopped is not None
        assert (result.stopped.code, result.ended) == ("rate_limited", {})
    finally:
        company.change("rate_limits")
    assert run(database, company).ended == {Ended.APPLIED: 3}
    assert_one_each(company, database, wanted)


def test_a_batch_waits_as_it_is_told(database: Database, acme: Connection) -> None:
    """A 429 with Retry-After: the same batch again, not before that time is over."""
    from finance_os_tests.sandbox.test_quickbooks import world

    with books(world(days=3, size=1, seed=10)) as busy:
        approve_policy(database, "acme", QBO_EXPORT.key, scope=busy.realm)
        faults = Faults(busy.before.app, busy.room.fault)
        faults.script([Rule(path="*/batch", kind="429", headers={"retry-after": "1"})])
        busy.before.app = faults
        moments: list[float] = []
        busy.before.watch = lambda _, when: moments.append(time.monotonic()) if when == "before" else None
        wanted = customers("busy", 3)
        put_plan(database, "acme", busy.realm, wanted)
        with busy.writer(replace(QUICK, longest_wait=5)) as writer:
            result = apply(database, writer, "acme", busy.realm)
        assert (result.ended, result.requests) == ({Ended.APPLIED: 3}, {"POST batch": 2})
        assert moments[1] - moments[0] >= 1
        assert_one_each(busy, database, wanted)


def test_two_that_bear_one_marker_are_told_and_the_other_one_voided(company: Books, database: Database) -> None:
    """A person copied what a lost batch made. Once the copy is void, retrying links what is left, and makes nothing."""
    owner = customer("cus_copied")
    billed = [invoice(f"in_copied{at}", "cus_copied") for at in range(2)]
    put_plan(database, "acme", company.realm, [owner])
    assert run(database, company).ended == {Ended.APPLIED: 1}
    held: dict[str, Any] = {}

    def copy(_: int, when: str) -> None:
        if when == "after" and not held:
            made = company.one(billed[0])
            fields = {name: made[name] for name in ("CustomerRef", "TxnDate", "PrivateNote", "Line")}
            made_too = company.room.realm.create("Invoice", {**fields, "DocNumber": "COPY-9"}, free=True)
            renumbered = {"Id": made["Id"], "SyncToken": "0", "sparse": True, "DocNumber": "X-9"}
            company.room.realm.update("Invoice", renumbered)
            held.update(made_too.body())

    company.before.watch = copy
    company.before.losses = deque([Loss.AFTER])
    put_plan(database, "acme", company.realm, billed)
    assert run(database, company).ended == {Ended.FOUND: 1, Ended.CONFLICTED: 1}
    assert codes(database) == ["qbo_object_doubled"]
    company.before.watch = None
    company.change("void", entity="Invoice", body={"Id": held["Id"]})
    writes = company.before.writes
    assert retry(database, "acme", company.realm) == 1
    assert run(database, company).ended == {Ended.FOUND: 1}
    assert company.before.writes == writes
    linked = links.links(database, "acme", company.realm)[billed[0].key]
    assert linked.qbo_id != held["Id"]


# --- the client and its guard


def test_a_batch_answers_for_each(company: Books) -> None:
    with company.writer() as writer:
        asked = [(CUSTOMER, {"DisplayName": name}) for name in ("Batch A", "a:b", "Batch C")]
        answers = writer.create_together(asked, "batch-1")
        assert [type(each) for each in answers] == [Written, Refused, Written]
        assert isinstance(answers[1], Refused)
        assert (answers[1].fault, answers[1].intuit_tid[:2]) == ("2040", "1-")
        again = writer.create_together(asked, "batch-1")
        assert [each.held["Id"] for each in again if isinstance(each, Written)] == [
            each.held["Id"] for each in answers if isinstance(each, Written)
        ]
        company.before.losses = deque([Loss.ERROR])
        with pytest.raises(UnknownAnswer):
            writer.create_together(asked, "batch-2")
        with pytest.raises(ForbiddenRequest):
            writer.create_together([(CUSTOMER, {"DisplayName": f"Batch {at}"}) for at in range(31)], "batch-3")
        assert writer.sent() == {"POST batch": 3}


CREATE = {"bId": "0", "operation": "create", "Customer": {"DisplayName": "A"}}


@pytest.mark.parametrize(
    ("query", "items"),
    [
        ("requestid=1", [CREATE, {**CREATE, "bId": "0"}]),
        ("requestid=1", [{**CREATE, "operation": "delete"}]),
        ("requestid=1", [{**CREATE, "operation": "update"}]),
        ("requestid=1", [{**CREATE, "optionsData": "void"}]),
        ("requestid=1", [CREATE, {"bId": "1", "Query": "select * from Customer"}]),
        ("requestid=1", [{"bId": "0", "operation": "create", "Vendor": {}}]),
        ("requestid=1", [{"bId": "0", "operation": "create", "Customer": {"Id": "1"}}]),
        ("requestid=1", [{"bId": "0", "operation": "create", "Customer": {}, "Invoice": {}}]),
        ("requestid=1", [{"bId": "0", "operation": "create", "Customer": []}]),
        ("requestid=1", [{"bId": "12345678901", "operation": "create", "Customer": {}}]),
        ("requestid=1", [{"bId": 1, "operation": "create", "Customer": {}}]),
        ("requestid=1", [{"operation": "create", "Customer": {}}]),
        ("requestid=1", []),
        ("requestid=1", "x"),
        ("requestid=1", ["x"]),
        (f"requestid={'1' * 37}", [CREATE]),
        ("requestid=1&operation=void", [CREATE]),
        ("minorversion=75", [CREATE]),
    ],
    ids=map(str, range(18)),
)
def test_nothing_but_creates_hides_in_a_batch(query: str, items: Any) -> None:
    guard = WriteGuard("https://quickbooks.example", "77")
    with pytest.raises(ForbiddenRequest):
        guard.admit("POST", f"{BATCH}?{query}", json.dumps({"BatchItemRequest": items}).encode())
    for content in (b"", b"x", b"[]", json.dumps({"BatchItemRequest": [CREATE], "more": 1}).encode()):
        with pytest.raises(ForbiddenRequest):
            guard.admit("POST", f"{BATCH}?requestid=1", content)
    assert guard.sent() == {}
    guard.admit("POST", f"{BATCH}?requestid=1&minorversion=75", json.dumps({"BatchItemRequest": [CREATE]}).encode())
    assert guard.sent() == {"POST batch": 1}
