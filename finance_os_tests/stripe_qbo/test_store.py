"""The store of intents: the same again changes nothing, and another payload never slips in for one that was written."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from finance_os.evidence.businesses import Connection
from finance_os.evidence.canonical import payload_hash
from finance_os.evidence.database import Database
from finance_os.stripe_qbo import due, states, store
from finance_os.stripe_qbo.bodies import resolve
from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os.stripe_qbo.kept import Kept, reread
from finance_os.stripe_qbo.lookup import Unfit
from finance_os.stripe_qbo.states import counts, retry
from finance_os.stripe_qbo.store import PayloadConflict, What, compare_plan, put_plan
from finance_os.stripe_qbo.written import written
from finance_os_tests.stripe_qbo.books import DAY, customer, intent, invoice, key, payment

pytestmark = pytest.mark.usefixtures("acme", "globex")

REALM = "9130357"


def rows(database: Database, columns: str = "key, operation, version, state, input_hash") -> list[dict[str, Any]]:
    return database.fetch(f"SELECT {columns} FROM finance_os.intents ORDER BY intent_id")  # pyright: ignore[reportArgumentType]


def force(database: Database, state: str, stripe_id: str, code: str = "") -> None:
    """Bring an intent into a state, as applying it would."""
    with database.transaction() as connection:
        connection.execute(
            """
            UPDATE finance_os.intents SET state = %s, code = %s, requestid = 'r', resolved = payload
            WHERE stripe_id = %s AND state <> 'superseded'
            """,
            (state, code, stripe_id),
        )


def whats(put: store.Put) -> list[What]:
    return [each.what for each in put.changes]


def test_the_same_plan_again_changes_nothing(database: Database) -> None:
    intents = [customer("cus_1"), invoice("in_1", "cus_1")]
    first = put_plan(database, "acme", REALM, intents, run="run-1")
    assert (whats(first), first.unchanged) == ([What.NEW, What.NEW], 0)
    before = rows(database, "*")
    again = put_plan(database, "acme", REALM, intents, run="run-2")
    assert (again.changes, again.unchanged, again.count(What.UNCHANGED)) == ((), 2, 2)
    assert rows(database, "*") == before
    (kept,) = [row for row in before if row["stripe_id"] == "in_1"]
    assert (kept["depends_on"], kept["plan_run"], kept["state"]) == (["customer:cus_1:customer"], "run-1", "planned")


def test_a_kept_intent_is_the_planned_one_exactly(database: Database) -> None:
    wanted = invoice("in_1", "cus_1", Decimal("0.10"))
    wanted = replace(wanted, evidence={"invoice:in_1": "ab" * 32})
    put_plan(database, "acme", REALM, [customer("cus_1"), wanted])
    with database.transaction() as connection:
        kept = reread(connection, rows(database, "intent_id")[1]["intent_id"])
    assert (kept.intent, kept.input_hash) == (wanted, wanted.input_hash)
    assert kept.intent.input_hash == wanted.input_hash
    assert str(kept.intent.payload["Line"][0]["Amount"]) == "0.10"


def test_two_plans_one_after_the_other_come_to_what_both_changed(database: Database) -> None:
    first = put_plan(database, "acme", REALM, [customer("cus_1"), customer("cus_2")])
    same = put_plan(database, "acme", REALM, [customer("cus_1"), customer("cus_2")])
    assert first.then(same) == first
    more = put_plan(database, "acme", REALM, [customer(f"cus_{number}") for number in (1, 2, 3)])
    assert whats(first.then(more)) == [What.NEW] * 3
    assert (same.then(more).count(What.NEW), same.then(more).unchanged) == (1, 2)
    # What is refused is told once, as the later one says it.
    force(database, "sending", "cus_1")
    other = customer("cus_1", CompanyName="Other")
    with pytest.raises(PayloadConflict) as refused:
        put_plan(database, "acme", REALM, [other, customer("cus_2")])
    assert len(refused.value.put.then(refused.value.put).conflicts) == 1
    assert refused.value.put.then(same).conflicts == ()
    assert first.then(refused.value.put).unchanged == 0


@pytest.mark.parametrize(
    ("state", "code"),
    [("planned", ""), ("failed", "refused_6000"), ("conflicted", "qbo_number_taken")],
    ids=["planned", "failed", "conflicted"],
)
def test_another_payload_takes_the_place_of_one_that_was_never_written(
    database: Database, state: str, code: str
) -> None:
    put_plan(database, "acme", REALM, [customer("cus_1")])
    force(database, state, "cus_1", code)
    other = customer("cus_1", CompanyName="Other")
    put = put_plan(database, "acme", REALM, [other])
    assert whats(put) == [What.SUPERSEDED]
    assert [(row["version"], row["state"]) for row in rows(database)] == [(1, "superseded"), (2, "planned")]
    # And back again: what was superseded is not what is kept.
    assert whats(put_plan(database, "acme", REALM, [customer("cus_1")])) == [What.SUPERSEDED]
    assert [(row["version"], row["state"]) for row in rows(database)][-1] == (3, "planned")


@pytest.mark.parametrize("state", ["applied", "sending"])
def test_another_payload_for_what_was_written_is_an_error_that_names_both(database: Database, state: str) -> None:
    first, other = customer("cus_1"), customer("cus_1", CompanyName="Other")
    put_plan(database, "acme", REALM, [first])
    force(database, state, "cus_1")
    with pytest.raises(PayloadConflict) as raised:
        put_plan(database, "acme", REALM, [other, customer("cus_2")])
    for text in (first.input_hash, other.input_hash, "customer:cus_1:customer", state):
        assert text in str(raised.value)
    assert whats(raised.value.put) == [What.CONFLICT, What.NEW]
    # The rest of the plan is kept, and what was written is as it was.
    assert [(row["key"], row["state"]) for row in rows(database)] == [
        ("customer:cus_1:customer", state),
        ("customer:cus_2:customer", "planned"),
    ]


WRITTEN_CODES = ["qbo_object_doubled", "qbo_object_missing", "qbo_link_conflict"]


@pytest.mark.parametrize("code", WRITTEN_CODES)
def test_what_was_written_and_is_in_conflict_gives_its_place_to_nothing(database: Database, code: str) -> None:
    """Its object is there, or was: another version would be sent under another requestid, and nobody would look."""
    first, other = customer("cus_1"), customer("cus_1", CompanyName="Other")
    put_plan(database, "acme", REALM, [first, customer("cus_2")])
    force(database, "conflicted", "cus_1", code)
    assert whats(compare_plan(database, "acme", REALM, [other])) == [What.CONFLICT]
    with pytest.raises(PayloadConflict, match="is conflicted"):
        put_plan(database, "acme", REALM, [other])
    assert put_plan(database, "acme", REALM, [first]).changes == ()
    put = put_plan(database, "acme", REALM, [], whole=True)
    assert [(each.what, each.key.stripe_id) for each in put.changes] == [(What.WITHDRAWN, "cus_2")]
    assert [row["state"] for row in rows(database)] == ["conflicted", "superseded"]
    # Its date stays, and what it makes is known to the plan, but not as settled.
    assert states.booked(database, "acme", REALM) == {first.key: DAY}
    with database.transaction() as connection:
        (held,) = written(connection, "acme", REALM).values()
    assert (held.made, held.is_settled) == (first.payload, False)
    assert retry(database, "acme", REALM) == 1
    assert rows(database)[0]["state"] == "sending"


def test_what_an_applier_wrote_just_now_is_not_superseded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was planned when it was compared, and in conflict over what it wrote before it could be replaced."""
    put_plan(database, "acme", REALM, [customer("cus_1")])
    supersede = store._supersede

    def late(*how: Any) -> set[int]:
        force(database, "conflicted", "cus_1", "qbo_object_doubled")
        return supersede(*how)

    monkeypatch.setattr(store, "_supersede", late)
    with pytest.raises(PayloadConflict):
        put_plan(database, "acme", REALM, [customer("cus_1", CompanyName="Other")])
    assert [row["state"] for row in rows(database)] == ["conflicted"]


def test_a_change_in_conflict_gives_its_place_to_another(database: Database) -> None:
    """The object that it changes is gone: the change itself never was."""
    update = intent(key("customer", "cus_1"), "Customer", {"CompanyName": "A"}, Operation.UPDATE)
    put_plan(database, "acme", REALM, [update])
    force(database, "conflicted", "cus_1", "qbo_object_missing")
    other = intent(key("customer", "cus_1"), "Customer", {"CompanyName": "B"}, Operation.UPDATE)
    assert whats(put_plan(database, "acme", REALM, [other])) == [What.SUPERSEDED]


def test_an_update_follows_what_was_applied(database: Database) -> None:
    put_plan(database, "acme", REALM, [customer("cus_1")])
    force(database, "applied", "cus_1")
    update = intent(key("customer", "cus_1"), "Customer", {"CompanyName": "A"}, Operation.UPDATE)
    other = intent(key("customer", "cus_1"), "Customer", {"CompanyName": "B"}, Operation.UPDATE)
    assert whats(put_plan(database, "acme", REALM, [customer("cus_1"), update])) == [What.NEW]
    force(database, "applied", "cus_1")
    assert whats(put_plan(database, "acme", REALM, [other])) == [What.NEW]
    force(database, "applied", "cus_1")
    assert whats(put_plan(database, "acme", REALM, [update])) == [What.NEW]  # A, B and A again
    assert [(row["operation"], row["version"]) for row in rows(database)] == [
        ("create", 1),
        ("update", 1),
        ("update", 2),
        ("update", 3),
    ]
    assert rows(database, "depends_on")[1]["depends_on"] == ["customer:cus_1:customer"]


def test_a_whole_plan_withdraws_what_it_has_no_longer(database: Database) -> None:
    put_plan(database, "acme", REALM, [customer(f"cus_{each}") for each in range(4)])
    force(database, "applied", "cus_0")
    force(database, "sending", "cus_1")
    part = put_plan(database, "acme", REALM, [customer("cus_3")])
    assert part.changes == ()
    put = put_plan(database, "acme", REALM, [customer("cus_3")], whole=True)
    assert [(each.what, each.key.stripe_id) for each in put.changes] == [(What.WITHDRAWN, "cus_2")]
    assert put.unchanged == 1
    assert [row["state"] for row in rows(database)] == ["applied", "sending", "superseded", "planned"]
    # It may come back.
    assert whats(put_plan(database, "acme", REALM, [customer("cus_2"), customer("cus_3")])) == [What.NEW]
    assert rows(database)[-1]["version"] == 2


def test_a_comparison_keeps_nothing(database: Database) -> None:
    put_plan(database, "acme", REALM, [customer("cus_1"), customer("cus_2"), customer("cus_3")])
    force(database, "applied", "cus_1")
    before = rows(database, "*")
    intents = [customer("cus_1", CompanyName="X"), customer("cus_2", CompanyName="X"), customer("cus_4")]
    put = compare_plan(database, "acme", REALM, intents, whole=True)
    assert [(each.what, each.key.stripe_id) for each in put.changes] == [
        (What.CONFLICT, "cus_1"),
        (What.SUPERSEDED, "cus_2"),
        (What.NEW, "cus_4"),
        (What.WITHDRAWN, "cus_3"),
    ]
    assert rows(database, "*") == before
    assert str(put.changes[2]).startswith("new: create Customer customer:cus_4:customer of 2026-07-10 (")


def test_an_intent_that_could_not_be_found_again_is_not_kept(database: Database) -> None:
    good = customer("cus_1")
    unmarked = replace(good, payload={"DisplayName": "Someone"})
    almost = replace(good, payload={"DisplayName": "Someone", "Notes": f"{good.marker}2"})
    nameless = replace(good, payload={"Notes": good.marker})
    unknown = replace(good, entity="Estimate")
    void = replace(good, operation=Operation.VOID)
    blank = replace(good, marker="two words")
    for bad in (unmarked, almost, nameless, unknown, void, blank):
        with pytest.raises(Unfit, match="customer:cus_1:customer"):
            put_plan(database, "acme", REALM, [customer("cus_2"), bad])
    with pytest.raises(ValueError, match="twice"):
        put_plan(database, "acme", REALM, [good, customer("cus_1", CompanyName="X")])
    with pytest.raises(ValueError, match="float"):
        put_plan(database, "acme", REALM, [customer("cus_3", Balance=0.1)])
    assert rows(database) == []


def test_businesses_and_realms_keep_their_own(database: Database) -> None:
    for business_id, realm in (("acme", REALM), ("acme", "77"), ("globex", REALM)):
        assert whats(put_plan(database, business_id, realm, [customer("cus_1")])) == [What.NEW]
    put_plan(database, "globex", REALM, [], whole=True)
    assert [row["state"] for row in rows(database)] == ["planned", "planned", "superseded"]
    assert counts(database, "acme") == [
        {"realm": realm, "state": "planned", "entity": "Customer", "operation": "create", "count": 1}
        for realm in ("77", REALM)
    ]


def test_two_plans_at_once_keep_each_intent_once(database: Database) -> None:
    intents = [customer(f"cus_{each}") for each in range(50)]
    failures: list[Exception] = []

    def work() -> None:
        try:
            put_plan(database, "acme", REALM, intents, whole=True)
        except Exception as error:  # told by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    assert [(row["version"], row["state"]) for row in rows(database)] == [(1, "planned")] * 50


def test_what_is_pending_comes_in_the_plans_order(database: Database) -> None:
    late = replace(customer("cus_late"), dated=DAY + timedelta(days=1))
    stranded = invoice("in_2", "cus_2")
    put_plan(database, "acme", REALM, [late, invoice("in_1", "cus_1"), stranded, customer("cus_1"), customer("cus_0")])
    force(database, "sending", "cus_0")

    def pending(skip: Sequence[int] = (), after: Kept | None = None) -> list[Kept]:
        with database.transaction() as connection:
            assert len(due.stranded(connection, "acme", REALM)) == 1
            return due.pending(connection, "acme", REALM, after, skip, 10)

    found = pending()
    assert [each.intent.key.stripe_id for each in found] == ["cus_late", "in_1", "cus_1", "cus_0"]
    assert pending(after=found[1]) == found[2:]
    assert pending(skip=[found[0].intent_id]) == found[1:]


def test_a_change_waits_for_what_stands_before_it(database: Database) -> None:
    update = intent(key("invoice", "in_1"), "Invoice", {"DueDate": "2026-08-10"}, Operation.UPDATE)
    void = intent(key("invoice", "in_1"), "Invoice", {}, Operation.VOID)
    paid = payment("py_1", "cus_1", "in_1", "7")
    put_plan(database, "acme", REALM, [paid, update, void, payment("py_2", "cus_1", "in_1", "7")])

    def waiting() -> list[bool]:
        with database.transaction() as connection:
            return [
                due.waits_for_others(connection, reread(connection, row["intent_id"]))
                for row in rows(database, "intent_id")
            ]

    assert waiting() == [False, True, True, False]
    force(database, "applied", "py_1")
    assert waiting() == [False, False, True, False]
    with database.transaction() as connection:
        connection.execute(
            """
            UPDATE finance_os.intents SET state = 'applied', requestid = 'r', resolved = payload
            WHERE operation = 'update'
            """
        )
    assert waiting() == [False, False, False, False]


def test_the_dates_of_what_was_sent_are_told(database: Database) -> None:
    put_plan(database, "acme", REALM, [customer(f"cus_{each}") for each in range(3)])
    force(database, "sending", "cus_0")
    force(database, "applied", "cus_1")
    assert states.booked(database, "acme", REALM) == {key("customer", "cus_0"): DAY, key("customer", "cus_1"): DAY}
    assert states.booked(database, "globex", REALM) == {}


def test_a_refusal_gives_the_next_try_another_requestid(database: Database) -> None:
    put_plan(database, "acme", REALM, [customer("cus_1")])
    with database.transaction() as connection:
        (kept,) = due.pending(connection, "acme", REALM, None, [], 1)
        sent = {"DisplayName": "A"}
        first = states.begin_sending(connection, kept, sent)
        assert first is not None
        again = states.begin_sending(connection, first, sent)
        assert again is not None
        assert first.requestid == again.requestid == kept.request_id(sent)
        assert first.requestid is not None
        assert len(first.requestid) == 36
        assert kept.request_id({"DisplayName": "B"}) != first.requestid
        states.settle(connection, again, "failed", "refused_6000")
    assert retry(database, "acme", REALM) == 1
    with database.transaction() as connection:
        (kept,) = due.pending(connection, "acme", REALM, None, [], 1)
        second = states.begin_sending(connection, kept, sent)
    assert second is not None
    assert second.requestid != first.requestid


# --- what the database itself keeps to


def test_what_is_planned_cannot_be_rewritten(database: Database) -> None:
    put_plan(database, "acme", REALM, [customer("cus_1")])
    for change in ("payload = '{}'", "input_hash = repeat('a', 64)", "dated = now()", "business_id = 'globex'"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), database.transaction() as connection:
            connection.execute(f"UPDATE finance_os.intents SET {change}")  # pyright: ignore[reportArgumentType]
    with pytest.raises(psycopg.errors.InsufficientPrivilege), database.transaction() as connection:
        connection.execute("DELETE FROM finance_os.intents")


def test_a_second_object_of_a_key_cannot_even_be_stored(database: Database) -> None:
    put_plan(database, "acme", REALM, [customer("cus_1")])
    force(database, "applied", "cus_1")
    with pytest.raises(psycopg.errors.UniqueViolation), database.transaction() as connection:
        connection.execute(
            """
            INSERT INTO finance_os.intents
                (business_id, rail, realm, stripe_object, stripe_id, role, operation, version, entity, payload,
                 input_hash, marker, dated, depends_on, evidence, plan_run, due, place, state, requestid, resolved)
            SELECT business_id, rail, realm, stripe_object, stripe_id, role, operation, 2, entity, payload,
                   input_hash, marker, dated, depends_on, evidence, plan_run, due, place, 'sending', 'x', payload
            FROM finance_os.intents
            """
        )


def test_a_reader_sees_no_payload(database: Database) -> None:
    put_plan(database, "acme", REALM, [customer("cus_1")])
    reader = database.as_reader()
    assert reader.fetch("SELECT key, state FROM finance_os.intents") == [
        {"key": "customer:cus_1:customer", "state": "planned"}
    ]
    for column in ("payload", "resolved", "*"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.fetch(f"SELECT {column} FROM finance_os.intents")  # pyright: ignore[reportArgumentType]
    assert reader.fetch("SELECT * FROM finance_os.links") == []
    assert reader.fetch("SELECT * FROM finance_os.intent_attempts") == []


# --- references


def test_a_reference_that_is_not_linked_is_an_error() -> None:
    with pytest.raises(KeyError):
        resolve({"value": {"$link": "customer:cus_1:customer"}}, {})


payloads = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@hypothesis_settings(max_examples=50)
@given(payload=payloads)
def test_only_references_are_replaced(payload: Any) -> None:
    assert resolve(payload, {}) == payload
    wrapped = {"a": [payload, {"$link": "customer:cus_1:customer"}]}
    assert resolve(wrapped, {"customer:cus_1:customer": "7"}) == {"a": [payload, "7"]}
    assert LinkKey.parse("customer:cus_1:customer").as_reference() == {"$link": "customer:cus_1:customer"}


def test_the_hash_is_over_what_would_be_written() -> None:
    one = customer("cus_1")
    assert replace(one, evidence={"a": "b"}).input_hash == one.input_hash
    others: list[Intent] = [
        replace(one, operation=Operation.UPDATE),
        replace(one, entity="Item"),
        replace(one, payload={**one.payload, "CompanyName": "X"}),
    ]
    assert len({one.input_hash, *(each.input_hash for each in others)}) == 4
    assert len(payload_hash(one.payload)) == 32


def test_a_business_that_is_not_there_keeps_nothing(database: Database, acme: Connection) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        put_plan(database, "nobody", REALM, [customer("cus_1")])


def test_what_an_update_corrects_is_kept_with_it_and_not_sent(database: Database) -> None:
    put_plan(database, "acme", REALM, [customer("cus_1")])
    force(database, "applied", "cus_1")
    update = intent(key("customer", "cus_1"), "Customer", {"CompanyName": "B"}, Operation.UPDATE)
    named = replace(update, corrects={"CompanyName": "A", "Notes": None})
    assert named.input_hash != update.input_hash
    put = put_plan(database, "acme", REALM, [customer("cus_1"), named])
    assert [each.corrects for each in put.changes] == [("CompanyName", "Notes")]
    assert "corrects CompanyName, Notes" in str(put.changes[0])
    with database.transaction() as connection:
        kept = reread(connection, rows(database, "intent_id")[-1]["intent_id"])
    assert (kept.intent, kept.input_hash) == (named, named.input_hash)
    assert kept.intent.payload == {"CompanyName": "B"}
    # The same again is the same; without what it corrects it would be another one.
    assert put_plan(database, "acme", REALM, [customer("cus_1"), named]).changes == ()
