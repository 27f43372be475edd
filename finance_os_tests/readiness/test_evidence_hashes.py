"""Evidence hashes depend on the evidence alone: not on insert order, time zone, date style or business, nor on what
moves all day; and anything that decides a line changes its hash."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.snapshot import Snapshot
from finance_os.readiness import approvals
from finance_os.readiness.approvals import APPROVER_ROLE
from finance_os.readiness.assessment import TITLES, assess
from finance_os.readiness.gate import gate
from finance_os.readiness.recording import record_checkpoints
from finance_os.readiness.scheduled_sync import scheduled_connectors
from finance_os.sources.registry import SOURCES
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.readiness.approvers import login
from finance_os_tests.readiness.bank import Bank, plaid, rho
from finance_os_tests.readiness.readied import REQUESTED, SYNC, hand_in_the_bank, verified
from finance_os_tests.readiness.seed_state import plant_rows, plant_run

Hashes = dict[str, str | None]
"""Checkpoint, or checkpoint/line → its evidence hash; with its status, for lines that have no evidence."""

Piece = Callable[[Database, str], object]
"""Puts one piece of evidence of a business into a database."""

READY, OTHER = "ready", "other"
UNTIL = datetime(2099, 1, 1, tzinfo=UTC)

_numbers = itertools.count(1)


def hashes(database: Database, business_id: str) -> Hashes:
    """What every checkpoint and every line of it hashes to now."""
    found: Hashes = {}
    for name, standing in assess(database, SOURCES, business_id).standings.items():
        found[name] = standing.evaluation.evidence_hash
        for line in standing.evaluation.lines:
            found[f"{name}/{line.key}"] = f"{line.status} {line.evidence_hash}"
    return found


def connection_of(database: Database, business_id: str, system: str) -> Connection:
    """The first connection of a business to a source system, as it is; made if there is none."""
    rows = database.fetch(
        """
        SELECT connection_id, business_id, source_system, external_account, secret_reference, time_zone
        FROM finance_os.connections WHERE business_id = %s AND source_system = %s ORDER BY connection_id LIMIT 1
        """,
        (business_id, system),
    )
    return Connection(**rows[0]) if rows else ensure_connection(database, business_id, system)


def run_of(system: str, object_type: str, *, rows: int = 1, reading: str | None = None, **how: Any) -> Piece:
    """A run of today's scheduled sync that sent what its source sends."""
    ended = datetime.now(UTC) - timedelta(minutes=5)
    requested = dict.fromkeys(REQUESTED.get(system, ("GET host",)), 1)

    def piece(database: Database, business_id: str) -> None:
        connection = connection_of(database, business_id, system)
        run = plant_run(
            database, connection, object_type, ended, reading or f"{system}-today",
            **{"rows": rows, "sync": SYNC, "requested": requested} | how,
        )  # fmt: skip
        if rows:
            plant_rows(database, business_id, system, object_type, run, rows)

    return piece


def webhook(object_type: str, **how: Any) -> Piece:
    """A targeted read of Stripe."""
    reading = f"webhook-{next(_numbers)}"
    return both(
        run_of("stripe", object_type, reading=reading, sync=None, **how),
        statement(
            """
            UPDATE finance_os.source_sync_runs SET kind = 'targeted', trigger = 'webhook', reaches_to = NULL
            WHERE business_id = %(business)s AND reading = %(reading)s
            """,
            {"reading": reading},
        ),
    )


def statement(query: LiteralString, parameters: Mapping[str, Any] | None = None) -> Piece:
    """One statement, which names its business `%(business)s`."""

    def piece(database: Database, business_id: str) -> None:
        with database.transaction() as connection:
            connection.execute(query, {"business": business_id, "sync": SYNC, **(parameters or {})})

    return piece


def every_run(*but: str) -> list[Piece]:
    """Every object type that is read daily answered today, but for some."""
    return [
        run_of(source.system, obj.object_type)
        for source in scheduled_connectors(SOURCES)
        for obj in source
        if obj.object_type not in but
    ]


def found(code: str, severity: str, subject: str, *, status: str = "open") -> Piece:
    """A finance exception."""
    return statement(
        """
        INSERT INTO finance_os.finance_exceptions
            (business_id, source_system, object_type, code, severity, subject, partition_day, detail, status,
             evidence_hash, resolved_at)
        VALUES (%(business)s, 'stripe', 'stripe_invoice', %(code)s, %(severity)s, %(subject)s, '2026-05-10', 'Look.',
                %(status)s, left(md5(%(code)s || %(severity)s || %(subject)s), 12),
                CASE WHEN %(status)s = 'resolved' THEN now() END)
        """,
        {"code": code, "severity": severity, "subject": subject, "status": status},
    )


def judged(object_type: str, check: str, *statuses: str) -> Piece:
    """Verdicts of one check of one day, one after the other."""

    def piece(database: Database, business_id: str) -> None:
        for status in statuses:
            statement(
                """
                INSERT INTO finance_os.check_results
                    (business_id, source_system, object_type, check_name, partition_day, status, blocker,
                     evidence_hash, details)
                VALUES (%(business)s, 'stripe', %(object_type)s, %(check)s, '2026-05-10', %(status)s,
                        CASE WHEN %(status)s = 'blocked' THEN 'broken' END, '0123456789ab', '{}')
                """,
                {"object_type": object_type, "check": check, "status": status},
            )(database, business_id)

    return piece


def acted(policy: str, key: str) -> Piece:
    """An action outside that no approval covers."""
    return statement(
        """
        INSERT INTO finance_os.external_actions
            (business_id, policy, intent_key, target, payload_hash, actor, requested_at)
        VALUES (%(business)s, %(policy)s, %(key)s, 'somewhere', '0123456789ab', 'somebody', now())
        """,
        {"policy": policy, "key": key},
    )


def synced(sync: str, requested_at: datetime) -> Piece:
    """A scheduled sync that was requested."""
    return statement(
        """
        INSERT INTO finance_os.scheduled_syncs
            (scheduled_sync_id, business_id, requested_for, requested_at, expected_connectors)
        VALUES (%(id)s, %(business)s, '2026-05-10', %(at)s, '{stripe}')
        """,
        {"id": sync, "at": requested_at},
    )


def both(*pieces: Piece) -> Piece:
    """Pieces that come one after the other."""

    def piece(database: Database, business_id: str) -> None:
        for each in pieces:
            each(database, business_id)

    return piece


def settle(database: Database, business_id: str) -> None:
    """Record every checkpoint as it is."""
    list(record_checkpoints(database, SOURCES, business_id, TITLES, verified(database)))


@pytest.fixture(scope="module")
def owner(server_url: str, template_name: str) -> Iterator[Database]:
    """A database for all of this module, with the rights of its owner; every business has a name of its own."""
    name = f"finance_os_{os.getpid()}_hashes"
    url = create_database(server_url, name, template_name)
    with psycopg.connect(url) as connection:
        user = connection.info.user
    yield Database(url, user)
    drop_database(server_url, name)


# --- the same evidence, put in and looked at in different ways

TROUBLE: tuple[Piece, ...] = (
    *every_run(
        "stripe_refund",
        "quickbooks_bill",
        "quickbooks_item",
        "quickbooks_vendor",
        "quickbooks_account",
        "contract_text",
    ),
    # A failed read that was tried again, and connectors that did not do well.
    both(run_of("stripe", "stripe_refund", status="failed", code="timeout"), run_of("stripe", "stripe_refund", rows=0)),
    run_of("quickbooks", "quickbooks_bill", rows=0, status="failed", code="unavailable"),
    run_of("quickbooks", "quickbooks_item", rows=0, status="failed", code="rate_limited"),
    run_of("quickbooks", "quickbooks_vendor", rows=0, status="failed", code="timeout"),
    run_of("quickbooks", "quickbooks_account", rows=0, status="failed", code="interrupted"),
    run_of("google_drive", "contract_text", rows=0, status="skipped", code="feature_disabled"),
    run_of("rho", "rho_cash_transaction", rows=0),
    # What should never have been sent.
    run_of("gravity", "gravity_billing_adjustment", rows=0, requested={"DELETE b.example": 1, "SELECT b.example": 2}),
    run_of("redshift", "ad_clicks", rows=0, requested={"SELECT a.example": 1}, sync=None),
    run_of("google_drive", "folder_inventory", rows=0, requested={"PATCH host": 1, "PUT host": 1}, sync=None),
    found("duplicate_key", "high", "one"),
    found("duplicate_key", "high", "two"),
    found("amount_differs", "critical", "one"),
    found("amount_differs", "low", "two"),
    judged("stripe_invoice", "trace", "ready", "blocked"),
    judged("stripe_charge", "idempotency", "blocked"),
    judged("stripe_payout", "trace", "blocked", "ready"),
    acted("qbo_export", "first"),
    acted("qbo_export", "second"),
    acted("runtime_regression_execution", "first"),
    synced("daily-yesterday", datetime.now(UTC) - timedelta(days=1)),
    synced(SYNC, datetime.now(UTC)),
)

LINES: tuple[Callable[[Bank], None], ...] = (
    lambda bank: bank.rho(rho("r1", 0), rho("r2", 1, 99_900)),
    lambda bank: bank.plaid(plaid("p2", 1, "-999.00"), plaid("p1", 0)),
    # Two that could be paired in two ways, one on each side without another, and one of two amounts.
    lambda bank: bank.rho(rho("r3", 3, -700), rho("r4", 4, -700)),
    lambda bank: bank.plaid(plaid("p3", 3, "7.00"), plaid("p4", 5, "7.00"), plaid("p5", 4, "81.00")),
    lambda bank: bank.rho(rho("r5", 2, -4_400), rho("r6", 3, -120_000, reference="INV-2041")),
    lambda bank: bank.plaid(plaid("p6", 3, "1200.50", payment_meta={"reference_number": "INV-2041"})),
)


def plant(database: Database, business_id: str, pieces: Sequence[int], lines: Sequence[int]) -> None:
    """A business in trouble: its pieces of evidence in this order, then its bank lines in that, all recorded."""
    application = Database(database.url)
    ensure_business(application, business_id, business_id, "UTC")
    with application.transaction() as connection:
        inside = Snapshot(application.url, application.role, opened=connection)
        for number in pieces:
            TROUBLE[number](inside, business_id)
    bank = Bank(application, business_id)
    for number in lines:
        LINES[number](bank)
    settle(application, business_id)


@pytest.fixture(scope="module")
def reference(owner: Database) -> tuple[str, Hashes]:
    """A business in trouble, and what its checkpoints hash to in UTC."""
    plant(owner, "reference", range(len(TROUBLE)), range(len(LINES)))
    found = hashes(Database(owner.url), "reference")
    blocked = {name for name, value in found.items() if (value or "").startswith("blocked")}
    assert {name.partition("/")[0] for name in blocked} == TITLES.keys() - {"deploy_verification"}
    return "reference", found


@contextmanager
def defaults(owner: Database, **values: str) -> Iterator[None]:
    """Settings that every new session of the database begins with."""
    with psycopg.connect(owner.url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        for setting, value in values.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} TO {}").format(name, sql.Identifier(setting), sql.Literal(value))
            )
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))


@settings(max_examples=3)
@example(
    pieces=list(reversed(range(len(TROUBLE)))),
    lines=list(reversed(range(len(LINES)))),
    planted_in="America/St_Johns",
    read_in="Asia/Kathmandu",
    style="SQL, DMY",
)
@given(
    pieces=st.permutations(range(len(TROUBLE))),
    lines=st.permutations(range(len(LINES))),
    planted_in=st.sampled_from(("Pacific/Kiritimati", "America/St_Johns", "Asia/Kathmandu")),
    read_in=st.sampled_from(("Pacific/Pago_Pago", "Europe/London", "Australia/Lord_Howe")),
    style=st.sampled_from(("SQL, DMY", "German, DMY", "ISO, MDY")),
)
def test_the_same_evidence_has_the_same_hash(
    owner: Database,
    reference: tuple[str, Hashes],
    pieces: list[int],
    lines: list[int],
    planted_in: str,
    read_in: str,
    style: str,
) -> None:
    name, expected = reference
    other = f"business-{next(_numbers)}"
    with defaults(owner, timezone=planted_in, datestyle=style):
        plant(owner, other, pieces, lines)
    with defaults(owner, timezone=read_in, datestyle=style):
        assert hashes(Database(owner.url), other) == expected
        assert hashes(Database(owner.url), name) == expected


def test_another_process_in_another_place_finds_the_same_hash(owner: Database, reference: tuple[str, Hashes]) -> None:
    name, expected = reference
    program = (
        "import json, sys\n"
        "from finance_os.evidence.database import Database\n"
        "from finance_os_tests.readiness.test_evidence_hashes import hashes\n"
        "print(json.dumps(hashes(Database(sys.argv[1]), sys.argv[2])))"
    )
    elsewhere = {"PYTHONHASHSEED": "4711", "TZ": "Pacific/Kiritimati", "PGTZ": "America/St_Johns", "LC_ALL": "C"}
    said = subprocess.run(
        [sys.executable, "-c", program, owner.url, name],
        env=os.environ | elsewhere, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(said.stdout) == expected


# --- one change, of what decides and of what only moves


@dataclass(frozen=True)
class Change:
    """Something that is supposed to happen; `lines` are those that hang on it, as checkpoint/line.

    Changes of one `fact` come to the same for some line; all others have to be told apart.
    """

    name: str
    piece: Piece
    lines: tuple[str, ...] = ()
    fact: str = ""


READINESS, MONITORING = "scheduled_sync_readiness", "source_failure_monitoring"
BANK, COMPLETION, HARDENING = "csv_fallback_validation", "phase_7_completion", "production_hardening"
SYNC_LINES = (
    f"{READINESS}/latest_scheduled_sync_succeeded",
    f"{READINESS}/scheduled_connector_coverage_complete",
    f"{MONITORING}/latest_scheduled_sync_has_no_failures",
)
FRESHNESS = f"{READINESS}/scheduled_source_freshness_ready"
NOTHING_STALE = f"{MONITORING}/scheduleable_sources_have_no_stale_evidence"
NO_EXCEPTIONS = f"{MONITORING}/high_severity_exceptions_absent"
BOUNDARIES = (
    f"{READINESS}/finance_supabase_only_write_boundary",
    f"{MONITORING}/failure_monitoring_read_only_boundary",
    f"{HARDENING}/external_writes_blocked",
)
QBO = f"{HARDENING}/qbo_export_policy_gated"
RHO_LINES = (f"{BANK}/rho_csv_transactions_present", f"{BANK}/rho_plaid_match_coverage_ready")
PLAID_LINES = (f"{BANK}/plaid_transactions_present", f"{BANK}/rho_plaid_match_coverage_ready")


def of_charges(assignment: LiteralString) -> Piece:
    """A change of today's scheduled run of one object type."""
    return statement(
        "UPDATE finance_os.source_sync_runs SET "
        + assignment
        + " WHERE business_id = %(business)s AND object_type = 'stripe_charge' AND scheduled_sync_id = %(sync)s"
    )


def of_version(source_id: str, payload: LiteralString) -> Piece:
    """Another payload of a bank line, with the hash that it then has."""
    return both(
        statement(
            "UPDATE finance_os.raw_source_records SET payload = "
            + payload
            + " WHERE business_id = %(business)s AND source_id = %(id)s",
            {"id": source_id},
        ),
        statement(
            """
            UPDATE finance_os.raw_source_records SET payload_hash = sha256(convert_to(payload::text, 'UTF8'))
            WHERE business_id = %(business)s AND source_id = %(id)s
            """,
            {"id": source_id},
        ),
    )


def approved(scope: str, expires: str, policy: str = "qbo_export") -> Piece:
    """An approval, as if two others had asked for it and given it."""
    return statement(
        """
        WITH asked AS (
            INSERT INTO finance_os.policy_requests (business_id, policy, reason, scope, expires_at, actor, at,
                                                    audit_sequence)
            VALUES (%(business)s, %(policy)s, 'a test', %(scope)s, %(expires)s, 'ann', now(), %(event)s)
            RETURNING *)
        INSERT INTO finance_os.policy_approvals (request_id, business_id, policy, reason, scope, expires_at, actor, at,
                                                 audit_sequence)
        SELECT request_id, business_id, policy, reason, scope, expires_at, 'bob', at, audit_sequence FROM asked
        """,
        {"policy": policy, "scope": scope, "expires": expires, "event": -next(_numbers)},
    )


def of_another(piece: Piece) -> Piece:
    """The same, of the other business."""
    return lambda database, _: piece(database, OTHER)


def recorded(name: str, assignment: LiteralString) -> Piece:
    """A change of the recordings of a checkpoint."""
    return statement(
        "UPDATE finance_os.checkpoints SET " + assignment + " WHERE business_id = %(business)s AND name = %(name)s",
        {"name": name},
    )


DECISIVE: tuple[Change, ...] = (
    Change("a run failed", of_charges("status = 'failed', error_code = 'timeout'"), SYNC_LINES),
    Change("it failed otherwise", of_charges("status = 'failed', error_code = 'unavailable'"), SYNC_LINES),
    Change("a run was skipped", of_charges("status = 'skipped', error_code = 'credentials_missing'"), SYNC_LINES),
    Change("a run goes on", of_charges("status = 'running', completed_at = NULL"), SYNC_LINES),
    Change("a run took no part", of_charges("scheduled_sync_id = NULL"), SYNC_LINES, "stripe is missing"),
    Change("another sync was requested", synced("daily-later", datetime.now(UTC) + timedelta(1)), SYNC_LINES),
    Change(
        "a drop took part",
        run_of("rho", "rho_cash_transaction", rows=0),
        (f"{READINESS}/manual_connectors_excluded",),
    ),
    Change(
        "a connector lost its connection",
        statement(
            """
            UPDATE finance_os.connections SET active = false
            WHERE business_id = %(business)s AND source_system = 'stripe'
            """
        ),
        (*SYNC_LINES, FRESHNESS),
        "stripe is missing",
    ),
    Change(
        "a connector has a second account, never read",
        statement(
            """
            INSERT INTO finance_os.connections
                (business_id, source_system, external_account, secret_reference, time_zone)
            VALUES (%(business)s, 'stripe', 'second', 'env', 'UTC')
            """
        ),
        (*SYNC_LINES, FRESHNESS),
        "stripe is missing",
    ),
    Change(
        "evidence is stale",
        of_charges("reaches_to = reaches_to - interval '2 days'"),
        (FRESHNESS, NOTHING_STALE),
        "stripe is missing",
    ),
    Change("a trace is broken", judged("stripe_charge", "trace", "ready", "blocked"), (NOTHING_STALE,)),
    Change("a version has another key", judged("stripe_charge", "idempotency", "blocked"), (NOTHING_STALE,)),
    Change(
        "a payload was changed in its place",
        statement(
            """
            UPDATE finance_os.raw_source_records SET payload = payload || '{"number": 7}'
            WHERE business_id = %(business)s AND object_type = 'gravity_billing_adjustment'
            """
        ),
        (NOTHING_STALE,),
    ),
    Change("an exception is open", found("duplicate_key", "high", "one"), (NO_EXCEPTIONS,)),
    Change("it is another's", found("duplicate_key", "high", "two"), (NO_EXCEPTIONS,)),
    Change("it is graver", found("duplicate_key", "critical", "one"), (NO_EXCEPTIONS,)),
    Change("it is of another kind", found("amount_differs", "high", "one"), (NO_EXCEPTIONS,)),
    Change(
        "a request was counted that is no read",
        of_charges("""requested = requested || '{"DELETE host": 1}'"""),
        BOUNDARIES,
    ),
    Change("a webhook's read sent it", webhook("stripe_charge", rows=0, requested={"POST host": 1}), BOUNDARIES),
    Change(
        "a session was not read-only",
        run_of("gravity", "gravity_billing_adjustment", rows=0, sync=None, requested={"SELECT elsewhere": 1}),
        BOUNDARIES,
    ),
    Change(
        "Plaid was written to",
        run_of("plaid", "plaid_transaction", rows=0, sync=None, requested={"DELETE host": 1}),
        (*BOUNDARIES, f"{BANK}/csv_fallback_read_only_boundary"),
    ),
    Change("a grant is too many", statement("GRANT DELETE ON finance_os.drops TO finance_os_application"), BOUNDARIES),
    Change(
        "a table is not guarded",
        statement("ALTER TABLE finance_os.check_results DISABLE TRIGGER append_only"),
        BOUNDARIES,
    ),
    Change("something was done without approval", acted("qbo_export", "first"), (QBO,)),
    Change("it was done twice", both(acted("qbo_export", "first"), acted("qbo_export", "second")), (QBO,)),
    Change(
        "a policy has no state",
        statement("DELETE FROM finance_os.policy_records WHERE business_id = %(business)s AND policy = 'qbo_export'"),
        (f"{COMPLETION}/policy_states_recorded",),
    ),
    Change(
        "Rho has another amount",
        of_version("r1", """payload || '{"amount_minor": -1501}'"""),
        RHO_LINES,
        "r1 is not p1",
    ),
    Change(
        "Plaid has another amount", of_version("p1", """payload || '{"amount": 15.01}'"""), PLAID_LINES, "r1 is not p1"
    ),
    Change(
        "both have another amount",
        both(
            of_version("r1", """payload || '{"amount_minor": -1502}'"""),
            of_version("p1", """payload || '{"amount": 15.02}'"""),
        ),
        (RHO_LINES[0], PLAID_LINES[0]),
    ),
    Change(
        "a bank line is pending",
        of_version("p1", """payload || '{"pending": true}'"""),
        PLAID_LINES,
        "p1 counts no more",
    ),
    Change(
        "a bank line is of another day", of_version("r1", """payload || '{"posted_on": "2026-03-03"}'"""), RHO_LINES
    ),
    Change(
        "a bank line is gone",
        statement(
            """
            UPDATE finance_os.raw_record_heads SET removed = true
            WHERE business_id = %(business)s AND source_id = 'r1'
            """
        ),
        RHO_LINES,
        "p1 counts no more",
    ),
    Change(
        "the daemon stands still",
        recorded("deploy_verification", """facts = jsonb_set(facts, '{daemons,alive,SensorDaemon}', 'false')"""),
        ("deploy_verification/deploy_daemon_alive", f"{READINESS}/deploy_verification_checkpoint_verified"),
    ),
    Change(
        "a migration is missing",
        statement("DELETE FROM finance_os._yoyo_migration WHERE migration_id = '0010_backtest'"),
        ("deploy_verification/deploy_schema_at_head", f"{READINESS}/deploy_verification_checkpoint_verified"),
    ),
    Change(
        "a recording is too old",
        recorded(READINESS, "recorded_at = recorded_at - interval '25 hours'"),
        tuple(f"{name}/scheduled_sync_readiness_current" for name in (MONITORING, COMPLETION)),
    ),
    Change(
        "a recording is of other evidence",
        recorded(BANK, "evidence_hash = '0123456789ab'"),
        tuple(f"{name}/csv_fallback_validation_current" for name in (COMPLETION, HARDENING)),
    ),
    Change(
        "a checkpoint was never recorded",
        statement(
            "DELETE FROM finance_os.checkpoints WHERE business_id = %(business)s AND name = 'phase_7_completion'"
        ),
        (f"{HARDENING}/phase_7_completion_checkpoint_current",),
    ),
)

MOVES: tuple[Change, ...] = (
    Change("more rows", run_of("stripe", "stripe_invoice", rows=3, sync=None)),
    Change("a webhook's targeted run", webhook("stripe_charge", rows=2)),
    Change("a webhook's run failed", webhook("stripe_payout", rows=0, status="failed", code="timeout")),
    Change(
        "the same ended later",
        of_charges(
            "started_at = started_at + interval '1 minute', completed_at = completed_at + interval '1 minute',"
            " reaches_to = reaches_to + interval '1 minute'"
        ),
    ),
    Change("a read was tried again", run_of("gravity", "gravity_advertiser_billing", rows=0)),
    Change("more of the same requests", of_charges("""requested = requested || '{"GET host": 99, "GET other": 1}'""")),
    Change("other figures of the same run", of_charges("rows_extracted = 900, rows_new = 899, chunks = 9")),
    Change("a slight exception", found("late_change", "medium", "one")),
    Change("a grave exception that is resolved", found("duplicate_key", "critical", "one", status="resolved")),
    Change("a check that was blocked and is mended", judged("stripe_invoice", "trace", "blocked", "ready")),
    Change("a blocked check that no source hangs on", judged("stripe_invoice", "volume", "blocked")),
    Change("an earlier sync", synced("daily-before", datetime.now(UTC) - timedelta(days=3))),
    Change(
        "a new secret",
        statement("UPDATE finance_os.connections SET secret_reference = 'env:NEW_' WHERE business_id = %(business)s"),
    ),
    Change("a policy is approved", approved("realm-1", "2099-01-01 00:00Z")),
    Change("an approval that has expired", approved("realm-1", "2020-01-01 00:00Z")),
    Change(
        "a request that waits",
        statement(
            """
            INSERT INTO finance_os.policy_requests (business_id, policy, reason, scope, expires_at, actor, at,
                                                    audit_sequence)
            VALUES (%(business)s, 'qbo_export', 'a test', '*', '2099-01-01', 'ann', now(), 0)
            """
        ),
    ),
    Change("another business's failure", of_another(of_charges("status = 'failed', error_code = 'timeout'"))),
    Change("another business's write", of_another(of_charges("""requested = '{"DELETE host": 1}'"""))),
    Change("another business's exception", of_another(found("duplicate_key", "high", "one"))),
    Change("another business's approval", of_another(approved("realm-1", "2099-01-01 00:00Z"))),
    Change("another time zone", statement("SET LOCAL timezone TO 'Pacific/Kiritimati'")),
    Change("another date style", statement("SET LOCAL datestyle TO 'ISO, DMY'")),
)


@pytest.fixture(scope="module")
def ready(owner: Database) -> tuple[Database, Hashes]:
    """The owner's database with a business of which everything is ready and recorded, and another; its hashes."""
    application = Database(owner.url)
    for business_id in (READY, OTHER):
        ensure_business(application, business_id, business_id, "UTC")
        with application.transaction() as connection:
            inside = Snapshot(application.url, application.role, opened=connection)
            for piece in (*every_run(), synced(SYNC, datetime.now(UTC))):
                piece(inside, business_id)
    hand_in_the_bank(application, READY)
    with owner.transaction() as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        inside = Snapshot(owner.url, owner.role, opened=connection)
        approved("production.plaid.com", "2099-01-01 00:00Z", "plaid_production")(inside, READY)
    settle(application, READY)
    assert gate(application, READY, [], assessment=assess(application, SOURCES, READY)).open
    return owner, hashes(application, READY)


def supposing(owner: Database, changes: Sequence[Change]) -> Hashes:
    """What the checkpoints would hash to after `changes`: made behind the triggers' back, and taken back again."""
    with owner.connection() as connection, connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL session_replication_role = replica")
        inside = Snapshot(owner.url, owner.role, opened=connection)
        for change in changes:
            change.piece(inside, READY)
        return hashes(inside, READY)


def test_what_decides_a_line_changes_its_hash(ready: tuple[Database, Hashes]) -> None:
    owner, before = ready
    seen: dict[str, dict[str | None, str]] = {line: {value: "nothing"} for line, value in before.items()}
    for change in DECISIVE:
        after = supposing(owner, [change])
        for line in change.lines:
            checkpoint = line.partition("/")[0]
            assert after[checkpoint] != before[checkpoint], f"{change.name} does not change {checkpoint}"
            fact = change.fact or change.name
            same = seen[line].setdefault(after[line], fact)
            assert same == fact, f"{line} is the same after {change.name!r} as after {same!r}"


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.name)
def test_what_only_moves_changes_no_hash(ready: tuple[Database, Hashes], move: Change) -> None:
    owner, before = ready
    assert supposing(owner, [move]) == before


@settings(max_examples=10)
@given(
    change=st.sampled_from(DECISIVE),
    moves=st.lists(st.sampled_from(MOVES), min_size=2, max_size=6, unique_by=lambda move: move.name),
    place=st.integers(0, 6),
)
def test_a_change_hashes_the_same_whatever_moves_around_it(
    ready: tuple[Database, Hashes], change: Change, moves: list[Change], place: int
) -> None:
    owner, before = ready
    assert supposing(owner, moves) == before
    among = [*moves[:place], change, *moves[place:]]
    after = supposing(owner, among)
    assert after != before
    assert after == supposing(owner, [change])


def test_approvals_given_in_another_order_hash_the_same(owner: Database) -> None:
    found: list[Hashes] = []
    with login(Database(owner.url), APPROVER_ROLE) as approver:
        for scopes in (("realm-1", "realm-2"), ("realm-2", "realm-1")):
            business_id = f"business-{next(_numbers)}"
            application = Database(owner.url)
            ensure_business(application, business_id, business_id, "UTC")
            for scope in scopes:
                asked = approvals.request(
                    application, business_id, "qbo_export", reason="a test", expires_at=UNTIL, scope=scope
                )
                approvals.approve(approver, business_id, "qbo_export", reason="a test", request_id=asked.request_id)
            found.append(hashes(application, business_id))
    assert found[0] == found[1]
