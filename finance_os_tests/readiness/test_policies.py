"""Policies: gated until another login approves, and only for as long, and blocked by what it covers not."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from finance_os.evidence import audit
from finance_os.evidence.businesses import Connection
from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.database import APPLICATION_ROLE, Database
from finance_os.readiness.approvals import APPROVER_ROLE, PolicyRefused, approve, request, revoke
from finance_os.readiness.external_actions import Action, IntentConflict, Outcome, begin_action, end_action
from finance_os.readiness.policies import (
    POLICIES,
    PolicyGated,
    PolicyState,
    UnknownPolicy,
    ensure_policies,
    policy_state,
    policy_states,
)
from finance_os_tests.evidence.test_database import privileges
from finance_os_tests.readiness.approvers import approve_policy, login, login_name

pytestmark = pytest.mark.usefixtures("acme", "globex")

QBO = "qbo_export"
ALERTS = "outbound_alert_delivery"
PLAID = "plaid_production"
REALM = "9130357"
HASH = "ab" * 32
MONTH = timedelta(days=30)


@pytest.fixture
def approver(database: Database) -> Iterator[Database]:
    """A login that can approve and nothing else."""
    with login(database, APPROVER_ROLE) as found:
        yield found


def later(delta: timedelta = MONTH) -> datetime:
    return datetime.now(UTC) + delta


def ask(database: Database, policy: str = QBO, *, business: str = "acme", scope: str = REALM, **more: Any) -> int:
    asked = request(
        database,
        business,
        policy,
        reason=more.pop("reason", "go live"),
        expires_at=more.pop("until", later()),
        scope=scope,
    )
    return asked.request_id


def act(database: Database, key: str = "one", *, business: str = "acme", policy: str = QBO, **more: str) -> Action:
    return begin_action(database, business, policy, key, more.get("target", REALM), more.get("payload_hash", HASH))


def count(database: Database, table: str) -> int:
    with database.transaction() as connection:
        row = connection.execute(f"SELECT count(*) AS n FROM finance_os.{table}".encode()).fetchone()
    assert row is not None
    return row["n"]


def words(states: tuple[PolicyState, ...]) -> dict[str, str]:
    return {state.policy.key: state.status for state in states}


def force(
    owner: Database, *, business: str = "acme", policy: str = QBO, key: str = "forced", target: str = REALM
) -> int:
    """An action by force, without an approval; its ID."""
    with owner.transaction() as connection:
        row = connection.execute(
            "INSERT INTO finance_os.external_actions (business_id, policy, intent_key, target, payload_hash) "
            "VALUES (%s, %s, %s, %s, %s) RETURNING action_id",
            (business, policy, key, target, HASH),
        ).fetchone()
    assert row is not None
    return row["action_id"]


# What holds while nobody has asked


def test_policies_are_gated_and_ready_at_first(database: Database) -> None:
    states = policy_states(database, "acme")
    assert words(states) == {
        "outbound_alert_delivery": "policy_gated_no_delivery",
        "plaid_production": "policy_gated_sandbox_only",
        "qbo_export": "policy_gated_read_only_ingestion_only",
        "runtime_regression_execution": "policy_gated_no_execution",
    }
    assert all(state.ready and not state.recorded and not state.approved for state in states)
    assert states[0].policy.sentence == "No outbound notifications without channel approval."
    with pytest.raises(UnknownPolicy, match="no policy 'qbo'; there are outbound_alert_delivery"):
        policy_state(database, "acme", "qbo")


def test_policies_are_put_in_force_once(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        recorded = list(pool.map(lambda _: ensure_policies(database, "acme"), range(4)))
    assert sorted(map(len, recorded)) == [0, 0, 0, 4]
    assert [state.recorded for state in policy_states(database, "acme")] == [True] * 4
    assert [state.recorded for state in policy_states(database, "globex")] == [False] * 4
    events = database.fetch(
        "SELECT event_type, subject, actor FROM finance_os.finance_audit_events "
        "WHERE business_id = 'acme' AND event_type LIKE 'policy.%%' ORDER BY sequence"
    )
    assert [(row["event_type"], row["subject"]) for row in events] == [
        ("policy.recorded", f"policy:{policy.key}") for policy in POLICIES
    ]
    assert {row["actor"] for row in events} == {login_name(database)}
    assert ensure_policies(database, "globex") == [policy.key for policy in POLICIES]


# Asking and approving


def test_an_approval_is_by_another_login_for_one_business(database: Database, approver: Database) -> None:
    until = later()
    asked = request(database, "acme", QBO, reason="go live", expires_at=until, scope=REALM)
    assert asked.requested_by == login_name(database)
    waiting = policy_state(database, "acme", QBO)
    assert (waiting.status, [each.request_id for each in waiting.requests]) == (
        "policy_gated_read_only_ingestion_only",
        [asked.request_id],
    )
    given = approve(approver, "acme", QBO, reason="books are ready")
    assert (given.requested_by, given.approved_by) == (login_name(database), login_name(approver))
    state = policy_state(database, "acme", QBO)
    assert (state.status, state.ready, state.requests) == ("approved", True, ())
    assert state.approvals == (given,)
    assert (given.scope, given.expires_at) == (REALM, until)
    assert policy_state(database, "globex", QBO).status == "policy_gated_read_only_ingestion_only"
    assert policy_state(database, "acme", PLAID).status == "policy_gated_sandbox_only"

    assert revoke(database, "acme", QBO, reason="wrong realm") == [asked.request_id]
    assert policy_state(database, "acme", QBO).status == "policy_gated_read_only_ingestion_only"
    events = database.fetch(
        "SELECT event_type, actor, details FROM finance_os.finance_audit_events "
        "WHERE business_id = 'acme' AND event_type LIKE 'policy.%%' ORDER BY sequence"
    )
    assert [(row["event_type"], row["actor"]) for row in events] == [
        ("policy.requested", login_name(database)),
        ("policy.approved", login_name(approver)),
        ("policy.revoked", login_name(database)),
    ]
    assert events[1]["details"] == {
        "request_id": asked.request_id,
        "reason": "books are ready",
        "scope": REALM,
        "expires_at": until.isoformat(),
    }
    assert audit.verify(database, "acme").sound


def test_who_and_when_are_the_sessions(database: Database) -> None:
    with database.transaction() as connection:
        event = audit.append(connection, "acme", "policy.requested", f"policy:{QBO}", {}, actor="the-chief")
        row = connection.execute(
            """
            INSERT INTO finance_os.policy_requests
                (business_id, policy, reason, scope, expires_at, actor, at, audit_sequence)
            VALUES ('acme', %s, 'x', '*', now() + interval '1 day', 'the-chief', '2001-01-01Z', %s)
            RETURNING actor, clock_timestamp() - at < interval '1 minute' AS just_now
            """,
            (QBO, event.sequence),
        ).fetchone()
    assert row == {"actor": login_name(database), "just_now": True}


def test_nothing_changes_without_its_audit_event(database: Database) -> None:
    with database.transaction() as connection:
        other = audit.append(connection, "acme", "policy.requested", f"policy:{PLAID}", {})
        there = audit.append(connection, "globex", "policy.requested", f"policy:{QBO}", {})
    for sequence in (other.sequence, there.sequence, 99):
        with (
            pytest.raises(psycopg.errors.CheckViolation, match=r"needs its audit event, policy\.requested"),
            database.transaction() as connection,
        ):
            connection.execute(
                "INSERT INTO finance_os.policy_requests (business_id, policy, reason, scope, expires_at, "
                "audit_sequence) VALUES ('acme', %s, 'x', '*', now() + interval '1 day', %s)",
                (QBO, sequence),
            )


def test_roles_may_do_their_part_only(database: Database) -> None:
    may = {"policy_requests": {"SELECT"}, "policy_revocations": {"SELECT"}, "businesses": {"SELECT"}}
    may |= {"policy_approvals": {"SELECT", "INSERT"}, "finance_audit_events": {"SELECT", "INSERT"}}
    may |= {"backtest_results": {"SELECT"}, "backtest_sign_offs": {"SELECT", "INSERT"}}  # a sign-off is an approval
    assert privileges(database, APPROVER_ROLE) == may
    assert privileges(database, APPLICATION_ROLE)["policy_approvals"] == {"SELECT"}
    with psycopg.connect(database.url) as connection:
        rows = connection.execute(
            "SELECT 1 FROM pg_auth_members WHERE roleid = %s::regrole AND member = "
            "(SELECT relowner FROM pg_class WHERE oid = 'finance_os.policy_approvals'::regclass)",
            (APPROVER_ROLE,),
        ).fetchall()
    assert rows == []  # the migration's login was not made a member


def test_the_application_cannot_approve(database: Database) -> None:
    ask(database)
    with login(database, APPLICATION_ROLE) as application:
        with pytest.raises(PolicyRefused, match=r"permission denied for table policy_approvals.*finance_os_approver"):
            approve(application, "acme", QBO, reason="me")
        with pytest.raises(PolicyRefused, match="permission denied to set role"):
            approve(replace(application, role=APPROVER_ROLE), "acme", QBO, reason="me")
    assert count(database, "policy_approvals") == 0


def test_an_approver_cannot_ask_or_act(database: Database, approver: Database) -> None:
    with pytest.raises(PolicyRefused, match="permission denied for table policy_requests"):
        ask(approver)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        force(approver)


def test_nobody_approves_what_they_asked_for(database: Database) -> None:
    with login(database, APPLICATION_ROLE, APPROVER_ROLE) as alice, login(database, APPROVER_ROLE) as bob:
        asked = ask(alice)
        as_approver = replace(alice, role=APPROVER_ROLE)
        with pytest.raises(PolicyRefused, match=rf"request {asked} was made by .*, who cannot approve it\. Another"):
            approve(as_approver, "acme", QBO, reason="me")
        assert count(database, "policy_approvals") == 0
        events = "SELECT count(*) AS n FROM finance_os.finance_audit_events WHERE event_type = 'policy.approved'"
        assert database.fetch(events) == [{"n": 0}]
        approve(bob, "acme", QBO, reason="fine")
        theirs = ask(database, scope="another")
        assert approve(as_approver, "acme", QBO, reason="fine", request_id=theirs).scope == "another"


def test_the_owner_approves_nothing(database: Database, owner: Database) -> None:
    with login(database, APPLICATION_ROLE) as alice:
        ask(alice)
    for role in (owner.role, APPROVER_ROLE):
        with pytest.raises(PolicyRefused, match=r"may act as its owner, and approves nothing.*CREATE ROLE bob LOGIN"):
            approve(replace(owner, role=role), "acme", QBO, reason="me")


def test_what_was_answered_cannot_be_approved(database: Database, approver: Database) -> None:
    first = ask(database)
    approve(approver, "acme", QBO, reason="fine")
    with pytest.raises(PolicyRefused, match=rf"request {first} was approved by {login_name(approver)}\. It takes"):
        approve(approver, "acme", QBO, reason="again", request_id=first)
    with pytest.raises(PolicyRefused, match="has no open request: somebody else has to run"):
        approve(approver, "acme", QBO, reason="again")

    second = ask(database, scope="another")
    revoke(database, "acme", QBO, reason="no", request_id=second)
    with pytest.raises(PolicyRefused, match=rf"request {second} was revoked by {login_name(database)}"):
        approve(approver, "acme", QBO, reason="late", request_id=second)
    assert policy_state(database, "acme", QBO).approved  # the other scope's

    third, fourth, other = ask(database, scope="x"), ask(database, scope="x"), ask(database, scope="y")
    with pytest.raises(PolicyRefused, match=f"request {third} was superseded by request {fourth}"):
        approve(approver, "acme", QBO, reason="late", request_id=third)
    with pytest.raises(PolicyRefused, match=f"Several requests .*{fourth} for x, {other} for y.*--request"):
        approve(approver, "acme", QBO, reason="which")
    with pytest.raises(PolicyRefused, match=f"qbo_export of globex has no request {other}"):
        approve(approver, "globex", QBO, reason="not theirs", request_id=other)
    with pytest.raises(PolicyRefused, match=f"plaid_production of acme has no request {other}"):
        approve(approver, "acme", PLAID, reason="not of it", request_id=other)


def test_an_approval_cannot_outlive_its_request(database: Database, approver: Database) -> None:
    asked = ask(database, until=later(timedelta(days=2)))
    for until in (later(timedelta(days=3)), later(timedelta(seconds=-1))):
        with pytest.raises(PolicyRefused, match=f"an approval of request {asked} expires between now and"):
            approve(approver, "acme", QBO, reason="fine", expires_at=until)
    sooner = later(timedelta(days=1))
    assert approve(approver, "acme", QBO, reason="fine", expires_at=sooner).expires_at == sooner


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"until": datetime(2020, 1, 1, tzinfo=UTC)}, "would expire at 2020-01-01 .* which is past"),
        ({"reason": "  "}, "A reason is needed"),
        ({"scope": " "}, "The scope is empty: name the realm"),
        ({"reason": "asked by jane@acme.example"}, "looks like an e-mail address"),
    ],
)
def test_a_bad_request_is_refused(database: Database, change: dict[str, Any], match: str) -> None:
    with pytest.raises(PolicyRefused, match=match):
        ask(database, **change)
    assert count(database, "policy_requests") == 0


def test_a_channel_is_asked_for_by_name(database: Database) -> None:
    with pytest.raises(PolicyRefused, match="name the channel's fingerprint with --scope"):
        request(database, "acme", ALERTS, reason="x", expires_at=later())
    assert request(database, "acme", QBO, reason="x", expires_at=later()).scope == "*"


def test_there_has_to_be_something_to_revoke(database: Database, approver: Database) -> None:
    for named in (None, 7):
        with pytest.raises(PolicyRefused, match="There is nothing to revoke"):
            revoke(database, "acme", QBO, reason="x", request_id=named)
    one, two = ask(database), ask(database, scope="other")
    approve(approver, "acme", QBO, reason="x", request_id=one)
    with pytest.raises(PolicyRefused, match="There is nothing to revoke"):
        revoke(database, "globex", QBO, reason="x")
    assert revoke(database, "acme", QBO, reason="x") == [one, two]
    with pytest.raises(PolicyRefused, match="nothing to revoke"):
        revoke(database, "acme", QBO, reason="x", request_id=one)


def test_a_login_that_is_an_address_stays_out_of_the_chain(database: Database) -> None:
    with login(database, APPLICATION_ROLE, name="jane@acme.example") as jane:
        assert request(jane, "acme", QBO, reason="x", expires_at=later()).requested_by == "jane@acme.example"
    (event,) = database.fetch("SELECT actor FROM finance_os.finance_audit_events WHERE event_type = 'policy.requested'")
    assert event["actor"].startswith("login:")
    assert audit.verify(database, "acme").sound


# Acting


def test_nothing_is_done_or_recorded_while_gated(database: Database) -> None:
    with pytest.raises(PolicyGated, match="not approved for 9130357 of acme") as refused:
        act(database)
    assert refused.value.blocker == "policy_gated_read_only_ingestion_only"
    assert "finance-os policy request qbo_export --business acme --scope '9130357'" in refused.value.remedy
    assert count(database, "external_actions") == 0


@pytest.mark.parametrize(
    ("scope", "target", "covered"),
    [
        ("*", "anything", True),
        ("913", "913", True),
        ("913", "913/Invoice/7", True),
        ("913", "9130", False),
        ("913/Invoice", "913", False),
        ("action:1", "action:1", False),
    ],
)
def test_an_approval_covers_its_scope(database: Database, scope: str, target: str, covered: bool) -> None:
    given = approve_policy(database, "acme", QBO, scope=scope)
    if covered:
        assert act(database, target=target).approval_id == given.approval_id
    else:
        with pytest.raises(PolicyGated):
            act(database, target=target)
    with pytest.raises(PolicyGated):
        act(database, business="globex", target=target)
    with pytest.raises(PolicyGated):
        act(database, policy=PLAID, target=target)


def test_an_intent_is_begun_once(database: Database) -> None:
    approve_policy(database, "acme", QBO, scope=REALM)
    approve_policy(database, "globex", QBO, scope=REALM)
    with ThreadPoolExecutor(4) as pool:
        actions = list(pool.map(lambda _: act(database), range(4)))
    assert len({action.action_id for action in actions}) == 1
    assert sorted(action.begun_before for action in actions) == [False, True, True, True]
    for change in ({"payload_hash": "cd" * 32}, {"target": f"{REALM}/Invoice"}):
        with pytest.raises(IntentConflict, match="intent 'one' of policy qbo_export was begun for 9130357"):
            act(database, **change)
    assert act(database, business="globex").action_id != actions[0].action_id
    assert act(database, "two").begun_before is False
    assert policy_state(database, "acme", QBO).ready


def test_how_it_ended_is_remembered(database: Database) -> None:
    approve_policy(database, "acme", QBO, scope=REALM)
    action = act(database)
    assert action.outcome is None
    for outcome in (Outcome.UNKNOWN, "delivered"):
        end_action(database, action, outcome, "HTTP 200")
        assert act(database).outcome == outcome
    with pytest.raises(ValueError, match="lost"):
        end_action(database, action, "lost")
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="globex has no external action"):
        end_action(database, replace(action, business_id="globex"), "failed")

    undone = act(database, "two")
    end_action(database, undone, "failed", "HTTP 500")
    revoke(database, "acme", QBO, reason="stop")
    assert act(database).outcome is Outcome.DELIVERED  # nothing will be sent for it
    with pytest.raises(PolicyGated):
        act(database, "two")
    assert policy_state(database, "acme", QBO).ready


def test_a_revocation_that_has_begun_comes_first(database: Database) -> None:
    given = approve_policy(database, "acme", QBO, scope=REALM)
    with ThreadPoolExecutor(1) as pool, database.connection() as holder:
        with database.transaction(holder) as connection:
            event = audit.append(connection, "acme", "policy.revoked", f"policy:{QBO}", {})
            connection.execute(
                "INSERT INTO finance_os.policy_revocations (request_id, business_id, policy, reason, audit_sequence) "
                "VALUES (%s, 'acme', %s, 'stop', %s)",
                (given.request_id, QBO, event.sequence),
            )
            begun = pool.submit(act, database)
            waiting = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            deadline = time.monotonic() + 20
            while database.fetch(waiting) == [{"n": 0}] and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not begun.done()
        with pytest.raises(PolicyGated):
            begun.result(20)
    assert count(database, "external_actions") == 0


def test_what_expires_is_gated_again_and_stays_explained(database: Database) -> None:
    before = policy_state(database, "acme", QBO).evidence
    approve_policy(database, "acme", QBO, scope=REALM, lasting=timedelta(seconds=2))
    act(database)
    assert policy_state(database, "acme", QBO).approved
    deadline = time.monotonic() + 20
    while policy_state(database, "acme", QBO).approved and time.monotonic() < deadline:
        time.sleep(0.1)
    state = policy_state(database, "acme", QBO)
    assert (state.status, state.ready) == ("policy_gated_read_only_ingestion_only", True)
    assert state.evidence == before
    with pytest.raises(PolicyGated):
        act(database, "two")


def test_an_action_names_an_approval_in_force_or_none(database: Database, owner: Database) -> None:
    given = approve_policy(database, "acme", QBO, scope=REALM)
    for business, policy, target, approval in (
        ("globex", QBO, REALM, given.approval_id),
        ("acme", PLAID, REALM, given.approval_id),
        ("acme", QBO, "another", given.approval_id),
        ("acme", QBO, REALM, given.approval_id + 1),
    ):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="is not in force for"),
            owner.transaction() as connection,
        ):
            connection.execute(
                "INSERT INTO finance_os.external_actions (business_id, policy, intent_key, target, payload_hash, "
                "approval_id) VALUES (%s, %s, 'k', %s, %s, %s)",
                (business, policy, target, HASH, approval),
            )


@pytest.mark.parametrize("approved", [False, True])
def test_what_no_approval_covers_blocks(database: Database, owner: Database, approved: bool) -> None:
    if approved:
        approve_policy(database, "acme", QBO, scope=REALM)
        act(database)
    ready = policy_state(database, "acme", QBO)
    assert ready.ready
    assert ready.remedy is None
    action = force(owner)
    state = policy_state(database, "acme", QBO)
    assert not state.ready
    assert state.approved == approved
    assert [each.action_id for each in state.unexplained] == [action]
    assert state.evidence == ready.evidence | {"unexplained": 1}
    assert state.remedy is not None
    assert f"--scope action:{action}" in state.remedy
    assert policy_state(database, "globex", QBO).ready
    assert policy_state(database, "acme", ALERTS).ready

    # It is worked off by an approval of that one action, which allows nothing else.
    given = approve_policy(database, "acme", QBO, scope=f"action:{action}")
    state = policy_state(database, "acme", QBO)
    assert state.ready
    assert state.approved == approved
    assert state.evidence == ready.evidence
    revoke(database, "acme", QBO, reason="it was not that", request_id=given.request_id)
    assert not policy_state(database, "acme", QBO).ready


def test_all_that_is_unexplained_is_counted_and_some_named(database: Database, owner: Database) -> None:
    for number in range(23):
        force(owner, key=f"k{number}")
    force(owner, policy=ALERTS)
    states = {state.policy.key: state for state in policy_states(database, "acme")}
    assert (states[QBO].unexplained_count, len(states[QBO].unexplained)) == (23, 20)
    assert (states[ALERTS].unexplained_count, len(states[ALERTS].unexplained)) == (1, 1)
    assert states[QBO].details["unexplained"] == 23


def test_evidence_holds_no_moving_time(database: Database) -> None:
    until = later()
    for scope in ("b", "a"):
        ask(database, scope=scope, until=until)
        with login(database, APPROVER_ROLE) as one:
            approve(one, "acme", QBO, reason="x")
    approve_policy(database, "acme", QBO, scope="a", lasting=timedelta(days=1))  # ends before the other one
    state = policy_state(database, "acme", QBO)
    assert state.evidence == {"policy": QBO, "unexplained": 0}, "so that an approval does not shut the gate"
    assert state.details["status"] == "approved"
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET timezone = 'Asia/Kathmandu'".encode())
    again = policy_state(database, "acme", QBO)
    assert evidence_hash(again.evidence) == evidence_hash(state.evidence)


def test_explained_history_is_not_walked_through(database: Database, owner: Database) -> None:
    given = approve_policy(database, "acme", QBO, scope=REALM)
    with owner.transaction() as connection:
        # Nobody else reads the table meanwhile.
        connection.execute("ALTER TABLE finance_os.external_actions SET (autovacuum_enabled = false)")
        connection.execute(
            "INSERT INTO finance_os.external_actions (business_id, policy, intent_key, target, payload_hash, "
            "approval_id) SELECT 'acme', %s, 'k' || n, %s, %s, %s FROM generate_series(1, 5000) AS n",
            (QBO, REALM, HASH, given.approval_id),
        )
        connection.execute("ANALYZE finance_os.external_actions")
    with psycopg.connect(database.url) as connection:
        before = _buffers(connection)
        assert policy_state(database, "acme", QBO).ready
        time.sleep(1.1)  # a backend reports what it read when it ends, at most once a second
        after = _buffers(connection)
    assert after - before < 20


def _buffers(connection: psycopg.Connection) -> int:
    """Blocks of the actions' table that were read, from disk or memory, so far."""
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT heap_blks_read + heap_blks_hit FROM pg_statio_all_tables WHERE relid = "
        "'finance_os.external_actions'::regclass"
    ).fetchone()
    assert row is not None
    return row[0]


# Plaid's live hosts


def plaid_run(database: Database, connection: Connection, host: str, *, ago: timedelta = timedelta()) -> int:
    """A sync run of Plaid that asked `host`, begun `ago` before now; its ID."""
    with database.transaction() as one:
        row = one.execute(
            """
            INSERT INTO finance_os.source_sync_runs
                (business_id, source_system, object_type, connection_id, kind, trigger, worker, worker_host,
                 worker_process, started_at)
            VALUES (%s, 'plaid', 'plaid_transaction', %s, 'window', 'manual', gen_random_uuid(), 'here', 1,
                    clock_timestamp() - %s)
            RETURNING sync_run_id
            """,
            (connection.business_id, connection.connection_id, ago),
        ).fetchone()
        assert row is not None
    ended(database, row["sync_run_id"], host)
    return row["sync_run_id"]


def ended(database: Database, sync_run_id: int, host: str) -> None:
    with database.transaction() as one:
        one.execute(
            "UPDATE finance_os.source_sync_runs SET status = 'succeeded', completed_at = clock_timestamp(), "
            "requested = jsonb_build_object('POST ' || %s, 12) WHERE sync_run_id = %s",
            (host, sync_run_id),
        )


def test_a_read_of_plaids_live_hosts_is_an_action(database: Database, acme: Connection, globex: Connection) -> None:
    plaid_run(database, acme, "sandbox.plaid.com")
    plaid_run(database, acme, "127.0.0.1")
    assert policy_state(database, "acme", PLAID).ready
    first = plaid_run(database, acme, "production.plaid.com")
    plaid_run(database, acme, "development.plaid.com")
    state = policy_state(database, "acme", PLAID)
    assert not state.ready
    assert [(each.target, each.intent_key) for each in state.unexplained] == [
        ("production.plaid.com", f"sync_run:{first}/1/production.plaid.com"),
        ("development.plaid.com", f"sync_run:{first + 1}/1/development.plaid.com"),
    ]
    ended(database, first, "production.plaid.com")  # the same attempt, written down once more
    assert policy_state(database, "acme", PLAID).unexplained_count == 2
    assert policy_state(database, "globex", PLAID).ready


def test_an_approved_read_of_plaids_live_host_is_explained(
    database: Database, acme: Connection, globex: Connection
) -> None:
    given = approve_policy(database, "acme", PLAID, scope="production.plaid.com")
    plaid_run(database, acme, "production.plaid.com")
    state = policy_state(database, "acme", PLAID)
    assert (state.status, state.ready) == ("approved", True)
    assert database.fetch("SELECT policy, approval_id FROM finance_os.external_actions") == [
        {"policy": PLAID, "approval_id": given.approval_id}
    ]
    plaid_run(database, globex, "production.plaid.com")
    assert not policy_state(database, "globex", PLAID).ready
    plaid_run(database, acme, "development.plaid.com")
    assert policy_state(database, "acme", PLAID).unexplained_count == 1
    plaid_run(database, acme, "production.plaid.com", ago=timedelta(hours=1))  # it began before it was approved
    assert policy_state(database, "acme", PLAID).unexplained_count == 2
    revoke(database, "acme", PLAID, reason="stop")
    plaid_run(database, acme, "production.plaid.com")
    assert policy_state(database, "acme", PLAID).unexplained_count == 3
