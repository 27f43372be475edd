"""Readiness over a long history: the plan, all checkpoints and the gate, beside a database with next to none.

The history is planted by SQL, as years of daily syncs, webhooks and checks would have left it. The small database has
the same of everything that is looked at (the latest sync, 90 days of bank lines, what is open), and less of the rest.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os.readiness.assessment import TITLES, assess
from finance_os.readiness.deploy import CodeLocation, Daemons, DeployFacts, deploy_facts_now
from finance_os.readiness.gate import Input, explain, gate
from finance_os.readiness.plan import source_sync_plan
from finance_os.readiness.recording import record_checkpoints
from finance_os.readiness.scheduled_sync import scheduled_connectors
from finance_os.sources.guard import READ_ONLY_SESSION, Get, Query, Take
from finance_os.sources.registry import SOURCES
from finance_os.sources.source import Source
from finance_os_tests.benchmarks.figures import Figure, seconds, side_by_side

BUSINESS = "bench"
QUIET = "quiet"
"""A business with little history of its own, in the database of one with much."""

BANK = ("rho_cash_transaction", "plaid_transaction")
BANK_LINES = 20
"""A day, on each side."""

FEW = ("plaid_item", "plaid_account", "plaid_institution")
"""Object types of which a company has a handful; here one each."""

PADDING = "x" * 260
"""Brings a payload to about 600 bytes of JSON."""


@dataclass(frozen=True)
class History:
    """How much there is: raw rows in all, days of daily syncs and checks, and webhooks of the last month."""

    rows: int
    days: int
    webhooks: int


SMALL = History(15_000, 95, 50)


def readiness_over_history(large: Database, small: Database, rows: int, rounds: int) -> list[Figure]:
    """The plan, the checkpoints and the gate over `rows` raw rows, and the plan beside that of a small database."""
    history = History(rows, 365, 20_000 if rows >= 1_000_000 else 2_000)
    planting = seconds(lambda: (plant(large, QUIET, SMALL), plant(large, BUSINESS, history)))
    plant(small, BUSINESS, SMALL)
    for database, business_id in ((large, QUIET), (large, BUSINESS), (small, BUSINESS)):
        settle(database, business_id)

    def plan(database: Database, business_id: str) -> Callable[[], float]:
        return lambda: seconds(lambda: source_sync_plan(database, SOURCES, business_id))

    plans = side_by_side(rounds, plan(large, BUSINESS), plan(large, QUIET), plan(small, BUSINESS))
    evaluated, alone = side_by_side(
        rounds, *(lambda each=each: seconds(lambda: assess(each, SOURCES, BUSINESS)) for each in (large, small))
    )
    gated, gated_alone = side_by_side(
        rounds, *(lambda each=each: seconds(lambda: gate_of_a_month(each)) for each in (large, small))
    )
    size = f"{rows:,} raw rows"
    return [
        Figure(f"planting {size}", planting, "s"),
        Figure(f"source sync plan, {size}", plans[0] * 1000, "ms", at_most=300),
        Figure(f"all checkpoints, {size}", evaluated * 1000, "ms", at_most=2_000),
        Figure(f"gate with a month of daily inputs, {size}", gated * 1000, "ms", at_most=2_000),
        Figure(f"source sync plan, {size} / {SMALL.rows:,}", plans[0] / plans[2], "×", at_most=2),
        Figure(f"all checkpoints, {size} / {SMALL.rows:,}", evaluated / alone, "×", at_most=2),
        Figure(f"gate, {size} / {SMALL.rows:,}", gated / gated_alone, "×", at_most=2),
        Figure(f"source sync plan of a small business beside {size} / alone", plans[1] / plans[2], "×", at_most=1.5),
    ]


def gate_of_a_month(database: Database) -> None:
    """Ask the gate for a month of both inputs of the backtest; it is open, or what is measured is not what is meant."""
    today = datetime.now(UTC).date()
    month = Days(today - timedelta(days=31), today - timedelta(days=1))
    inputs = [
        Input("redshift", "publisher_spend_daily", month),
        Input("xlsx", "publisher_month_baseline", month),
    ]
    found = gate(database, BUSINESS, inputs, assessment=assess(database, SOURCES, BUSINESS))
    if not found.open:
        raise AssertionError(explain(found.blockers))


def settle(database: Database, business_id: str) -> None:
    """Record every checkpoint; all of them are ready, or what is measured is not what is meant."""
    daemons = Daemons({"SchedulerDaemon": True, "SensorDaemon": True})
    deployed = DeployFacts(deploy_facts_now(database), CodeLocation(True, 60, 9), daemons)
    for recording in record_checkpoints(database, SOURCES, business_id, TITLES, deployed):
        if recording.evaluation.blocked:
            raise AssertionError("; ".join(f"{line.key}: {line.remedy}" for line in recording.evaluation.blocked))


def plant(database: Database, business_id: str, history: History) -> None:
    """Put the history of a business into `database`, and analyze it."""
    ensure_business(database, business_id, business_id, "UTC")
    objects = [(source, obj.object_type) for source in SOURCES for obj in source]
    bank = BANK_LINES * history.days * len(BANK)
    others = len(objects) - len(BANK) - len(FEW)
    a_day = max(1, round((history.rows - bank) / (others * history.days)))
    connections = {
        source.system: ensure_connection(database, business_id, source.system).connection_id for source in SOURCES
    }
    scheduled = {source.system for source in scheduled_connectors(SOURCES)}
    values: dict[str, Any] = {
        "business": business_id,
        "days": history.days,
        "webhooks": history.webhooks,
        "filler": PADDING,
        "connectors": sorted(scheduled),
        "stripe": connections["stripe"],
        "at": datetime.fromtimestamp(int(time.time()) - 300, UTC),
    }
    with psycopg.connect(database.url, autocommit=True) as owner:
        owner.execute(
            """
            CREATE TEMP TABLE planted (place int, source_system text COLLATE "C", object_type text COLLATE "C",
                                       connection_id bigint, scheduled boolean, a_day int, requested jsonb)
            """
        )
        with owner.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO planted VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [
                    (
                        place,
                        source.system,
                        name,
                        connections[source.system],
                        source.system in scheduled,
                        BANK_LINES if name in BANK else 0 if name in FEW else a_day,
                        Jsonb(dict.fromkeys(_requests(source), 3)),
                    )
                    for place, (source, name) in enumerate(objects)
                ],
            )
        for statement in (*SYNCS, *RECORDS, *VERDICTS, *EVENTS):
            owner.execute(statement, values)
        owner.execute("DROP TABLE planted")
        owner.execute("VACUUM ANALYZE")
        owner.execute("CHECKPOINT")


def _requests(source: Source) -> list[str]:
    """What a read of the source counts as sent."""
    kinds = {type(read) for read in source.reads}
    if Query in kinds:
        return ["SELECT host.example", f"{READ_ONLY_SESSION} host.example"]
    return ["READ drops"] if Take in kinds else ["GET host.example"] if Get in kinds else ["POST host.example"]


# Every day had its scheduled sync, at the same time of the day; `back` counts days from today.
SYNCS: tuple[LiteralString, ...] = (
    """
    INSERT INTO finance_os.scheduled_syncs
        (scheduled_sync_id, business_id, requested_for, requested_at, expected_connectors)
    SELECT 'daily-' || back, %(business)s, (%(at)s - make_interval(days => back))::date,
           %(at)s - make_interval(days => back, mins => 10), %(connectors)s
    FROM generate_series(0, %(days)s - 1) AS back
    """,
    """
    INSERT INTO finance_os.source_sync_runs
        (business_id, source_system, object_type, connection_id, kind, trigger, status, first_day, last_day,
         scheduled_sync_id, dagster_run_id, rows_extracted, rows_new, requested, worker, worker_host, worker_process,
         started_at, completed_at, reaches_to)
    SELECT %(business)s, source_system, object_type, connection_id, 'window',
           CASE WHEN scheduled THEN 'schedule' ELSE 'drop' END, 'succeeded', ended::date, ended::date,
           CASE WHEN scheduled THEN 'daily-' || back END, source_system || '-' || back, rows, rows, requested,
           '00000000-0000-0000-0000-000000000000', 'host', 1, ended - interval '1 minute', ended, ended
    FROM generate_series(0, %(days)s - 1) AS back
    CROSS JOIN LATERAL (SELECT %(at)s::timestamptz - make_interval(days => back) AS ended) AS at
    CROSS JOIN planted
    CROSS JOIN LATERAL (SELECT CASE WHEN a_day = 0 AND back = %(days)s - 1 THEN 1 ELSE a_day END AS rows) AS found
    ORDER BY back DESC, place
    """,
    """
    INSERT INTO finance_os.source_sync_partitions
        (business_id, source_system, object_type, partition_day, sync_run_id, connection_id, kind, state,
         rows_extracted, rows_new, rows_changed, rows_unchanged, rows_stale, rows_removed, batch_hash, completed_at)
    SELECT business_id, source_system, object_type, first_day, sync_run_id, connection_id, kind,
           CASE WHEN first_day = (%(at)s::timestamptz)::date THEN 'partial' ELSE 'whole' END,
           rows_extracted, rows_extracted, 0, 0, 0, 0, '\\x00', completed_at
    FROM finance_os.source_sync_runs WHERE business_id = %(business)s
    """,
    # Webhooks come all the time, and each is a run of its own.
    """
    INSERT INTO finance_os.source_sync_runs
        (business_id, source_system, object_type, connection_id, kind, trigger, status, first_day, last_day,
         dagster_run_id, requested, worker, worker_host, worker_process, started_at, completed_at)
    SELECT %(business)s, 'stripe', (ARRAY['stripe_invoice', 'stripe_charge', 'stripe_customer'])[1 + n %% 3],
           %(stripe)s, 'targeted', 'webhook', 'succeeded', at::date, at::date, 'webhook-' || n,
           '{"GET host.example": 1}', '00000000-0000-0000-0000-000000000000', 'host', 1, at, at
    FROM generate_series(1, %(webhooks)s) AS n
    CROSS JOIN LATERAL (
        SELECT %(at)s::timestamptz - interval '30 days' * (%(webhooks)s - n) / %(webhooks)s AS at) AS come
    """,
    """
    INSERT INTO finance_os.source_sync_partitions
        (business_id, source_system, object_type, partition_day, sync_run_id, connection_id, kind, state,
         rows_extracted, rows_new, rows_changed, rows_unchanged, rows_stale, rows_removed, batch_hash, completed_at)
    SELECT business_id, source_system, object_type, first_day, sync_run_id, connection_id, kind, 'partial',
           0, 0, 0, 0, 0, 0, '\\x00', completed_at
    FROM finance_os.source_sync_runs WHERE business_id = %(business)s AND kind = 'targeted'
    """,
)

# A record's ID tells its run and its place in it. Both banks show the same lines: each amount is there once.
RECORDS: tuple[LiteralString, ...] = (
    """
    INSERT INTO finance_os.raw_source_records
        (record_id, business_id, source_system, object_type, source_id, payload_hash, payload, first_sync_run_id,
         first_seen_at)
    SELECT sync_run_id * 100000 + n, %(business)s, source_system, object_type, source_id,
           sha256(convert_to(source_id || sync_run_id, 'UTF8')),
           CASE object_type
               WHEN 'rho_cash_transaction' THEN jsonb_build_object(
                   'transaction_id', source_id, 'posted_on', first_day, 'transacted_on', first_day,
                   'amount_minor', -cents, 'currency', 'USD', 'status', 'posted', 'reference', NULL,
                   'description', 'FEE', 'account', 'Operating ****4821')
               WHEN 'plaid_transaction' THEN jsonb_build_object(
                   'transaction_id', source_id, 'account_id', 'acc_1', 'date', first_day, 'amount', cents / 100.0,
                   'iso_currency_code', 'USD', 'pending', false, 'name', 'FEE',
                   'payment_meta', '{"reference_number": null}'::jsonb)
               WHEN 'plaid_account' THEN jsonb_build_object('account_id', 'acc_1', 'mask', '4821')
               ELSE jsonb_build_object(
                   'id', source_id, 'object', object_type, 'amount', cents, 'currency', 'usd',
                   'created', extract(epoch FROM completed_at)::bigint, 'day', first_day,
                   'customer', 'cus_' || n %% 1000, 'livemode', false, 'status', 'paid', 'tax', NULL,
                   'metadata', '{"campaign": "cmp_77"}'::jsonb, 'text', %(filler)s::text,
                   'lines', '[{"id": "il_1", "amount": 100}, {"id": "il_2", "amount": 200}]'::jsonb) END,
           sync_run_id, completed_at
    FROM (SELECT * FROM finance_os.source_sync_runs
          WHERE business_id = %(business)s AND rows_extracted > 0
          ORDER BY source_system, object_type, sync_run_id) AS run
    CROSS JOIN LATERAL generate_series(1, rows_extracted) AS n
    CROSS JOIN LATERAL (
        SELECT CASE WHEN object_type = 'plaid_account' THEN 'acc_1'
                    ELSE object_type || '_' || to_char(first_day, 'YYYYMMDD') || lpad(n::text, 6, '0') END AS source_id,
               100 + (first_day - date '2000-01-01') * 100 + n AS cents) AS made
    """,
    """
    INSERT INTO finance_os.raw_record_heads
        (business_id, source_system, object_type, source_id, record_id, payload_hash, connection_id, requested_at,
         sync_run_id)
    SELECT business_id, source_system, object_type, source_id, record_id, payload_hash, planted.connection_id,
           first_seen_at, first_sync_run_id
    FROM finance_os.raw_source_records JOIN planted USING (source_system, object_type)
    WHERE business_id = %(business)s
    """,
    """
    INSERT INTO finance_os.source_sync_sightings
        (sync_run_id, chunk, ordinal, business_id, source_system, object_type, partition_day, requested_at,
         record_ids, rows_new, rows_changed, rows_unchanged, rows_stale, digest)
    SELECT sync_run_id, 0, 0, business_id, source_system, object_type, first_day, completed_at,
           ARRAY(SELECT sync_run_id * 100000 + n FROM generate_series(1, rows_extracted) AS n),
           rows_extracted, 0, 0, 0, '\\x00'
    FROM finance_os.source_sync_runs WHERE business_id = %(business)s AND rows_extracted > 0
    """,
    """
    INSERT INTO finance_os.raw_record_counts (business_id, source_system, object_type, versions, current)
    SELECT %(business)s, source_system, object_type, greatest(1, a_day * %(days)s), greatest(1, a_day * %(days)s)
    FROM planted
    """,
)

# Each day was checked; every twentieth was blocked first, and mended.
VERDICTS: tuple[LiteralString, ...] = (
    """
    INSERT INTO finance_os.check_results
        (business_id, source_system, object_type, check_name, partition_day, status, blocker, evidence_hash, details,
         basis, dagster_run_id, recorded_at)
    SELECT %(business)s, source_system, object_type, check_name,
           CASE WHEN check_name <> 'freshness' THEN (%(at)s - make_interval(days => back))::date END,
           status, CASE WHEN status = 'blocked' THEN check_name || '_broken' END, '0123456789ab', '{"rows": 1}',
           CASE WHEN check_name <> 'freshness' THEN
               (SELECT count(*) FROM finance_os.source_sync_partitions AS part
                WHERE part.business_id = %(business)s AND part.source_system = planted.source_system
                  AND part.object_type = planted.object_type AND part.kind <> 'targeted'
                  AND part.partition_day = (%(at)s - make_interval(days => back))::date)
               || ' reads, accounts ' ||
               (SELECT array_agg(connection_id ORDER BY connection_id)::text FROM finance_os.connections AS account
                WHERE account.business_id = %(business)s AND account.source_system = planted.source_system
                  AND account.active) END,
           source_system || '-' || back, %(at)s - make_interval(days => back) + interval '1 minute'
    FROM generate_series(0, %(days)s - 1) AS back
    CROSS JOIN planted
    CROSS JOIN unnest(ARRAY['freshness', 'trace', 'idempotency', 'completeness']) AS of_day (check_name)
    CROSS JOIN unnest(ARRAY['blocked', 'ready']) AS came (status)
    WHERE status = 'ready' OR back %% 20 = 0 ORDER BY back DESC, place, check_name, status
    """,
    """
    INSERT INTO finance_os.checkpoints (business_id, name, status, evidence_hash, lines, recorded_at)
    SELECT %(business)s, name, 'ready', '0123456789ab', '[]', %(at)s - make_interval(days => back)
    FROM generate_series(0, %(days)s - 1) AS back
    CROSS JOIN unnest(ARRAY['deploy_verification', 'scheduled_sync_readiness', 'source_failure_monitoring',
                            'csv_fallback_validation', 'phase_7_completion', 'production_hardening']) AS kept (name)
    ORDER BY back DESC
    """,
)

# What is open is the same in every history: 20 exceptions and 40 alerts.
EVENTS: tuple[LiteralString, ...] = (
    """
    INSERT INTO finance_os.finance_exceptions
        (business_id, source_system, object_type, connection_id, code, severity, subject, partition_day, detail,
         status, evidence_hash, opened_at, resolved_at)
    SELECT %(business)s, 'stripe', 'stripe_invoice', %(stripe)s, 'late_change',
           CASE WHEN back = 0 THEN 'low' ELSE 'high' END, 'in_' || back || '_' || n,
           (%(at)s - make_interval(days => back))::date, 'Changed late.',
           CASE WHEN back = 0 THEN 'open' ELSE 'resolved' END, '0123456789ab', %(at)s - make_interval(days => back),
           CASE WHEN back > 0 THEN %(at)s::timestamptz END
    FROM generate_series(0, %(days)s - 1) AS back CROSS JOIN generate_series(1, 20) AS n
    """,
    """
    INSERT INTO finance_os.alerts
        (business_id, alert_key, kind, severity, subject, code, message, evidence_hash, failing, count, first_seen,
         last_seen, resolved_at)
    SELECT %(business)s, 'check/' || n, 'check', 'medium', 'stripe/' || n, 'trace_broken', 'Look at it.',
           '0123456789ab', '[]', 3, %(at)s - make_interval(days => back), %(at)s - make_interval(days => back),
           CASE WHEN back > 0 THEN %(at)s::timestamptz END
    FROM generate_series(0, %(days)s - 1) AS back CROSS JOIN generate_series(1, 40) AS n
    """,
    """
    INSERT INTO finance_os.finance_audit_events
        (business_id, sequence, event_type, subject, actor, details, occurred_at, canonical, previous_hash, event_hash)
    WITH RECURSIVE chain (sequence, previous_hash, canonical) AS (
        SELECT 1::bigint, decode(repeat('00', 32), 'hex'), convert_to(%(business)s || 1, 'UTF8')
        UNION ALL
        SELECT sequence + 1, sha256(canonical), convert_to(%(business)s || (sequence + 1), 'UTF8')
        FROM chain WHERE sequence < %(days)s * 150
    )
    SELECT %(business)s, sequence, 'sync_run.succeeded', 'sync_run:' || sequence, 'bench', '{}', %(at)s, canonical,
           previous_hash, sha256(canonical)
    FROM chain
    """,
)
