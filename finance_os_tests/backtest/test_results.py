"""Months over real evidence: what is read of them, what is refused, what is kept, who signs and what voids that."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from finance_os.backtest.evidence import OF_HEADS, OF_RUNS, Refused, month_keys
from finance_os.backtest.month import Month
from finance_os.backtest.results import COMPUTED, Stored, compute, days_over, inputs_of, latest_result
from finance_os.backtest.rules import Class, Rules
from finance_os.backtest.sign_off import SIGNED, SignOffRefused, Standing, sign, sign_off
from finance_os.backtest.trace import trace
from finance_os.evidence import audit
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import APPLICATION_ROLE, Database
from finance_os.evidence.windows import Days
from finance_os.readiness.approvals import APPROVER_ROLE
from finance_os_tests.backtest.staged import (
    APRIL,
    DROPPED,
    MARCH,
    START,
    baseline_record,
    connect,
    days_of,
    march,
    result_now,
    stage_baseline,
    stage_publishers,
    stage_spend,
)
from finance_os_tests.readiness.approvers import login, login_name
from finance_os_tests.readiness.planted import forge

MICROS = 1_000_000
DAILY = {**march("pub_1", 10 * MICROS), **march("pub_2", 20 * MICROS)}
ACCRUAL = 217 * MICROS
"""Seventy percent of 31 days of 10 dollars."""


def stage_all(database: Database, connections: dict[str, Connection]) -> None:
    """A March of two publishers that agree with the baseline to the microdollar."""
    stage_publishers(database, connections["gravity"], {"pub_1": 7_000, "pub_2": 7_000})
    stage_spend(database, connections["redshift"], days_of(MARCH), DAILY)
    stage_baseline(
        database,
        connections["xlsx"],
        baseline_record(MARCH, "pub_1", ACCRUAL),
        baseline_record(MARCH, "pub_2", 2 * ACCRUAL),
    )


@pytest.fixture
def connections(database: Database) -> dict[str, Connection]:
    return connect(database)


@pytest.fixture
def approver(database: Database) -> Iterator[Database]:
    """The same database for a login that approves and does nothing else."""
    with login(database, APPROVER_ROLE) as found:
        yield found


def computed(database: Database, business_id: str = "acme", month: Month = MARCH) -> Stored:
    return compute(database, business_id, month, Rules(), START, "run")


def signed(database: Database, approver: Database, reason: str = "looked at it") -> None:
    sign(database, approver, "acme", MARCH, reason, Rules(), START)


def standing(database: Database) -> Standing:
    return sign_off(database, "acme", MARCH, Rules(), START).standing


def test_a_month_that_agrees(database: Database, connections: dict[str, Connection]) -> None:
    stage_all(database, connections)
    found = result_now(database)
    assert {row.publisher: row.verdict for row in found.rows} == {"pub_1": Class.MATCH, "pub_2": Class.MATCH}
    assert found.days == days_of(MARCH)
    assert found.totals == {
        "spend_microdollars": 930 * MICROS,
        "expected_microdollars": 651 * MICROS,
        "baseline_accrual_microdollars": 651 * MICROS,
        "baseline_cash_microdollars": 0,
        "baseline_deposit_microdollars": 0,
        "impressions": 620,
        "records": 62,
        "baseline_rows": 2,
    }


def test_only_the_days_of_the_month_are_in_it(database: Database, connections: dict[str, Connection]) -> None:
    stage_all(database, connections)
    before = result_now(database).result_hash
    around = [MARCH.first - timedelta(days=1), MARCH.last + timedelta(days=1)]
    for number, day in enumerate(around, start=1):
        daily = {(publisher, day): 77 for publisher in ("pub_1", "pub_10", "pub_1!", "a", "zz")}
        stage_spend(database, connections["redshift"], Days(day, day), daily, minute=number)
    stage_baseline(database, connections["xlsx"], baseline_record(APRIL, "pub_1", 5), minute=9)
    assert result_now(database).result_hash == before
    april = result_now(database, month=APRIL)
    assert [row.publisher for row in april.rows] == ["a", "pub_1", "pub_1!", "pub_10", "zz"]
    assert april.totals["spend_microdollars"] == 5 * 77


def test_the_cost_of_a_month_does_not_grow_with_others(database: Database, connections: dict[str, Connection]) -> None:
    days = Days(date(2024, 1, 1), MARCH.last)
    daily = {(publisher, day): 1 for day in days for publisher in ("pub_1", "pub_2", "pub_3")}
    stage_spend(database, connections["redshift"], days, daily)
    keys = {**month_keys("acme", days_of(MARCH)), "first": MARCH.first, "last": MARCH.last, "currency": "usd"}
    named = {"source_system": "redshift", "object_type": "publisher_spend_daily"}
    of_month = 3 * 31
    assert rows_read(database, OF_HEADS, keys, "raw_record_heads") <= of_month + 2 * 3
    assert rows_read(database, OF_HEADS, keys, "raw_source_records") <= of_month
    assert rows_read(database, OF_RUNS, {**keys, **named}, "raw_source_records") <= of_month
    assert rows_read(database, OF_RUNS, {**keys, **named}, "source_sync_sightings") <= 31


def rows_read(database: Database, query: str, parameters: dict[str, Any], table: str) -> int:
    """How many rows of a table a query looks at, those that it passes over too."""
    with database.transaction() as connection:
        explained = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}".encode(), parameters).fetchone()
    assert explained is not None

    def read_by(node: dict[str, Any]) -> int:
        passed_over = sum(count for name, count in node.items() if name.startswith("Rows Removed by"))
        own = node["Actual Loops"] * (node["Actual Rows"] + passed_over) if node.get("Relation Name") == table else 0
        return own + sum(read_by(each) for each in node.get("Plans", []))

    return read_by(explained["QUERY PLAN"][0]["Plan"])


def test_a_month_has_the_result_of_its_evidence_not_of_how_it_was_staged(
    database: Database, connections: dict[str, Connection]
) -> None:
    stage_all(database, connections)
    straight = result_now(database)
    other = connect(database, "globex", "Asia/Tokyo")
    stage_baseline(database, other["xlsx"], baseline_record(MARCH, "pub_2", 2 * ACCRUAL))
    stage_baseline(database, other["xlsx"], baseline_record(MARCH, "pub_1", ACCRUAL), minute=1)
    wrong = {key: micros + 1 for key, micros in DAILY.items()}
    half = Days(date(2026, 3, 16), MARCH.last)
    stage_spend(database, other["redshift"], half, dict(reversed(wrong.items())))
    stage_spend(database, other["redshift"], days_of(MARCH), dict(reversed(DAILY.items())), minute=5)
    stage_publishers(database, other["gravity"], {"pub_2": 7_000, "pub_1": 7_000})
    theirs = result_now(database, "globex")
    assert theirs.as_json() | {"business_id": "acme"} == straight.as_json()
    with psycopg.connect(database.url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'Pacific/Auckland'").format(name))
        connection.execute(sql.SQL("ALTER DATABASE {} SET datestyle = 'SQL, DMY'").format(name))
    assert result_now(database).result_hash == straight.result_hash


def test_two_businesses_never_meet(database: Database, connections: dict[str, Connection]) -> None:
    stage_all(database, connections)
    before = result_now(database).result_hash
    other = connect(database, "globex", "Asia/Tokyo")
    stage_spend(database, other["redshift"], days_of(MARCH), march("pub_1", 3))
    stage_baseline(database, other["xlsx"], baseline_record(MARCH, "pub_1", 65))
    theirs = result_now(database, "globex")
    assert [(row.publisher, row.verdict, row.spend) for row in theirs.rows] == [
        ("pub_1", Class.UNRESOLVED_PUBLISHER, 93)
    ]
    assert result_now(database).result_hash == before
    computed(database, "globex")
    assert latest_result(database, "acme", MARCH) is None


def test_a_later_read_counts_and_what_it_removed_does_not(
    database: Database, connections: dict[str, Connection]
) -> None:
    stage_all(database, connections)
    day = Days(date(2026, 3, 5), date(2026, 3, 5))
    gone = [f"pub_2:{day.first}"]
    stage_spend(database, connections["redshift"], day, {("pub_1", day.first): 4 * MICROS}, minute=5, gone=gone)
    found = result_now(database)
    assert {row.publisher: (row.spend, row.records, row.verdict) for row in found.rows} == {
        "pub_1": (304 * MICROS, 31, Class.UNDER),
        "pub_2": (600 * MICROS, 30, Class.UNDER),
    }


FORGERIES = {
    "another version": """
        UPDATE finance_os.raw_record_heads AS head
        SET record_id = record.record_id, payload_hash = record.payload_hash
        FROM finance_os.raw_source_records AS record
        WHERE head.source_id = 'pub_1:2026-03-05' AND record.source_id = head.source_id
          AND record.record_id <> head.record_id
    """,
    "a removal": "UPDATE finance_os.raw_record_heads SET removed = true WHERE source_id = 'pub_1:2026-03-05'",
    "a head of its own": """
        INSERT INTO finance_os.raw_record_heads
        SELECT business_id, source_system, object_type, 'pub_7:2026-03-05', record_id, payload_hash, connection_id,
               source_version, requested_at, removed, sync_run_id
        FROM finance_os.raw_record_heads WHERE source_id = 'pub_1:2026-03-05'
    """,
    "another's record": """
        UPDATE finance_os.raw_record_heads AS head SET record_id = other.record_id
        FROM finance_os.raw_record_heads AS other
        WHERE head.source_id = 'pub_1:2026-03-05' AND other.source_id = 'pub_2:2026-03-05'
    """,
    "no record": "UPDATE finance_os.raw_record_heads SET record_id = -1 WHERE source_id = 'pub_1:2026-03-05'",
    "another amount": """
        UPDATE finance_os.raw_source_records SET payload = payload || '{"publisher_id": "pub_2"}'
        WHERE record_id = (SELECT record_id FROM finance_os.raw_record_heads WHERE source_id = 'pub_1:2026-03-05')
    """,
    "a fraction": """
        UPDATE finance_os.raw_source_records SET payload = payload || '{"spend_microdollars": 0.5}'
        WHERE record_id = (SELECT record_id FROM finance_os.raw_record_heads WHERE source_id = 'pub_1:2026-03-05')
    """,
    "another currency": """
        UPDATE finance_os.raw_source_records SET payload = payload || '{"currency": "eur"}'
        WHERE record_id = (SELECT record_id FROM finance_os.raw_record_heads WHERE source_id = 'pub_1:2026-03-05')
    """,
    "a baseline row": """
        UPDATE finance_os.raw_record_heads SET record_id = -1 WHERE source_id = '2026-03:pub_1'
    """,
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_evidence_is_refused(
    database: Database, owner: Database, connections: dict[str, Connection], name: str
) -> None:
    wrong = {key: micros + 1 for key, micros in DAILY.items()}
    stage_spend(database, connections["redshift"], days_of(MARCH), wrong)
    stage_spend(database, connections["redshift"], days_of(MARCH), DAILY, minute=5)
    stage_publishers(database, connections["gravity"], {"pub_1": 7_000})
    stage_baseline(database, connections["xlsx"], baseline_record(MARCH, "pub_1", ACCRUAL))
    computed(database)
    forge(owner, FORGERIES[name])  # pyright: ignore[reportArgumentType]
    with pytest.raises(Refused) as refused:
        computed(database)
    assert refused.value.code in ("unsound_heads", "spend_does_not_tie_out")
    assert "pub_" in refused.value.message
    assert result_now(database, month=APRIL).rows == ()


def test_a_read_that_was_left_half_way_is_refused(
    database: Database, owner: Database, connections: dict[str, Connection]
) -> None:
    stage_all(database, connections)
    changed = {**DAILY, ("pub_1", MARCH.first): 1}
    run = stage_spend(database, connections["redshift"], Days(MARCH.first, MARCH.first), changed, minute=5)
    forge(owner, "DELETE FROM finance_os.source_sync_partitions WHERE sync_run_id = %(id)s", {"id": run["sync_run_id"]})
    with pytest.raises(Refused, match=r"920000001 .* 930000000; pub_1 differ: mater") as error:
        computed(database)
    assert error.value.code == "spend_does_not_tie_out"


def test_a_result_is_kept_once(database: Database, connections: dict[str, Connection]) -> None:
    stage_all(database, connections)
    first = computed(database)
    assert computed(database).result_id == first.result_id
    stage_baseline(database, connections["xlsx"], baseline_record(MARCH, "pub_1", ACCRUAL + 1), minute=1)
    second = computed(database)
    assert second.result_id > first.result_id
    stage_baseline(database, connections["xlsx"], baseline_record(MARCH, "pub_1", ACCRUAL), minute=2)
    third = computed(database)
    assert (third.result_id > second.result_id, third.result_hash) == (True, first.result_hash)
    kept = latest_result(database, "acme", MARCH)
    assert kept is not None
    assert kept == third
    assert kept.result.result_hash == kept.result_hash
    events = database.fetch(
        "SELECT details FROM finance_os.finance_audit_events WHERE event_type = 'backtest.computed' ORDER BY sequence"
    )
    assert [event["details"]["result_hash"] for event in events] == [
        each.result_hash for each in (first, second, third)
    ]
    assert audit.verify(database, "acme").sound


def test_what_a_month_rests_on(database: Database, connections: dict[str, Connection]) -> None:
    days = days_over(database, "acme", MARCH, START)
    assert inputs_of(database, "acme", MARCH, days) == [
        ("redshift", "publisher_spend_daily", days),
        ("gravity", "gravity_canonical_entities", Days(MARCH.last, MARCH.last)),
    ]
    stage_all(database, connections)
    dropped = Days(DROPPED, DROPPED)
    assert inputs_of(database, "acme", MARCH, days) == [
        ("redshift", "publisher_spend_daily", days),
        ("xlsx", "publisher_month_baseline", dropped),
        ("gravity", "gravity_canonical_entities", dropped),
    ]


def test_a_month_to_come_is_refused(database: Database, connections: dict[str, Connection]) -> None:
    assert connections
    with pytest.raises(Refused, match="no day that is over"):
        compute(database, "acme", Month(date(2999, 1, 1)), Rules(), START)


def test_every_figure_has_its_records(database: Database, connections: dict[str, Connection]) -> None:
    stage_all(database, connections)
    found = result_now(database)
    row = found.row("pub_1")
    records = trace(database, found, row)
    spent = [each for each in records if each.source_system == "redshift"]
    assert [each.source_id for each in spent] == [f"pub_1:{day}" for day in days_of(MARCH)]
    assert sum(each.amounts["spend"] or 0 for each in spent) == row.spend
    assert [(each.source_id, each.amounts["accrual"]) for each in records if each.source_system == "xlsx"] == [
        ("2026-03:pub_1", ACCRUAL)
    ]
    assert [each.source_id for each in records if each.source_system == "gravity"] == ["pub_1"]
    for each in records:
        [stored] = database.fetch(
            "SELECT record.source_id, encode(record.payload_hash, 'hex') AS hash, run.object_type"
            " FROM finance_os.raw_source_records AS record, finance_os.source_sync_runs AS run"
            " WHERE record_id = %s AND sync_run_id = %s",
            (each.record_id, each.sync_run_id),
        )
        assert (stored["source_id"], stored["hash"], stored["object_type"]) == (
            each.source_id,
            each.payload_hash,
            each.object_type,
        )
    with pytest.raises(LookupError, match="pub_9"):
        found.row("pub_9")


def test_a_sign_off_holds_until_the_evidence_changes(
    database: Database, approver: Database, connections: dict[str, Connection]
) -> None:
    stage_all(database, connections)
    assert standing(database) is Standing.UNSIGNED
    stored = computed(database)
    signed(database, approver)
    found = sign_off(database, "acme", MARCH, Rules(), START)
    assert (found.standing, found.signed_hash, found.reason) == (Standing.SIGNED, stored.result_hash, "looked at it")
    assert found.signed_by == login_name(approver)
    [event] = database.fetch(
        "SELECT actor, details FROM finance_os.finance_audit_events WHERE event_type = %s", (SIGNED,)
    )
    assert (event["actor"], event["details"]["result_hash"]) == (found.signed_by, stored.result_hash)
    stage_spend(database, connections["redshift"], days_of(MARCH), DAILY, minute=1)
    assert standing(database) is Standing.SIGNED  # the same was read once more
    changed = {**DAILY, ("pub_1", MARCH.first): 10 * MICROS + 1}
    stage_spend(database, connections["redshift"], days_of(MARCH), changed, minute=2)
    voided = sign_off(database, "acme", MARCH, Rules(), START)
    assert voided.standing is Standing.VOIDED
    assert voided.signed_hash != voided.current_hash
    with pytest.raises(SignOffRefused, match="its evidence gives"):
        signed(database, approver)
    computed(database)
    signed(database, approver, "and again")
    assert standing(database) is Standing.SIGNED
    assert audit.verify(database, "acme").sound


def test_a_sign_off_is_voided_by_a_change_of_the_share(
    database: Database, approver: Database, connections: dict[str, Connection]
) -> None:
    stage_all(database, connections)
    computed(database)
    signed(database, approver)
    stage_publishers(database, connections["gravity"], {"pub_1": 7_000, "pub_2": 6_999}, minute=3)
    assert standing(database) is Standing.VOIDED


def test_evidence_that_does_not_tie_out_voids_a_sign_off(
    database: Database, owner: Database, approver: Database, connections: dict[str, Connection]
) -> None:
    stage_all(database, connections)
    computed(database)
    signed(database, approver)
    forge(owner, FORGERIES["a removal"])  # pyright: ignore[reportArgumentType]
    found = sign_off(database, "acme", MARCH, Rules(), START)
    assert (found.standing, found.current_hash) == (Standing.VOIDED, None)
    assert found.why is not None
    assert "spend_does_not_tie_out" in found.why


def test_duplicate_keys_block_the_sign_off(
    database: Database, approver: Database, connections: dict[str, Connection]
) -> None:
    stage_all(database, connections)
    stage_baseline(
        database, connections["xlsx"], baseline_record(MARCH, "pub_1", ACCRUAL, name=None, number=2), minute=1
    )
    stored = computed(database)
    assert stored.result.row("pub_1").verdict is Class.DUPLICATE_BASELINE_KEY
    with pytest.raises(SignOffRefused, match="duplicate_baseline_key"):
        signed(database, approver)
    with pytest.raises(psycopg.errors.CheckViolation, match="duplicate_baseline_key"):
        insert_sign_off(approver, stored.result_id, stored.result_hash)


def insert_sign_off(
    approver: Database,
    result_id: int,
    result_hash: str,
    *,
    month: date = MARCH.first,
    event: str = SIGNED,
    told: str | None = None,
) -> None:
    """What somebody does who goes around the command; `told` is the hash that the audit event speaks of."""
    with approver.transaction() as connection:
        appended = audit.append(
            connection, "acme", event, f"backtest:{month:%Y-%m}", {"result_hash": told or result_hash}
        )
        connection.execute(
            "INSERT INTO finance_os.backtest_sign_offs"
            " (result_id, business_id, month, result_hash, reason, audit_sequence)"
            " VALUES (%s, 'acme', %s, %s, 'x', %s)",
            (result_id, month, result_hash, appended.sequence),
        )


def test_the_database_takes_a_sign_off_only_of_a_result_and_with_its_event(
    database: Database, approver: Database, connections: dict[str, Connection]
) -> None:
    stage_all(database, connections)
    stored = computed(database)
    other = "0" * 64
    for refused, arguments in {
        "has no result": (stored.result_id, other),
        "has no result ": (stored.result_id + 1, stored.result_hash),
    }.items():
        with pytest.raises(psycopg.errors.CheckViolation, match=refused):
            insert_sign_off(approver, *arguments)
    with pytest.raises(psycopg.errors.CheckViolation, match="2026-04 of acme has no result"):
        insert_sign_off(approver, stored.result_id, stored.result_hash, month=APRIL.first)
    with pytest.raises(psycopg.errors.CheckViolation, match="needs its audit event"):
        insert_sign_off(approver, stored.result_id, stored.result_hash, event="backtest.computed")
    with pytest.raises(psycopg.errors.CheckViolation, match="needs its audit event"):
        insert_sign_off(approver, stored.result_id, stored.result_hash, told=other)
    assert standing(database) is Standing.UNSIGNED
    insert_sign_off(approver, stored.result_id, stored.result_hash)
    assert standing(database) is Standing.SIGNED


def test_a_result_needs_its_event_and_says_who_and_when_itself(
    database: Database, connections: dict[str, Connection]
) -> None:
    stage_all(database, connections)
    first = computed(database)
    given = "'acme', '2026-03-01', %s, '{}', '{}', '{}', '{}', 'somebody', '2020-01-01', %s"
    query = sql.SQL(
        "INSERT INTO finance_os.backtest_results (business_id, month, result_hash, result, totals, classes,"  # pyright: ignore[reportArgumentType]
        f" sign_off_blockers, computed_by, computed_at, audit_sequence) VALUES ({given}) RETURNING *"
    )

    def insert(told: str) -> Any:
        with database.transaction() as connection:
            event = audit.append(connection, "acme", COMPUTED, "backtest:2026-03", {"result_hash": told})
            return connection.execute(query, ("2" * 64, event.sequence)).fetchone()

    with pytest.raises(psycopg.errors.CheckViolation, match="needs its audit event"):
        insert("1" * 64)
    kept = insert("2" * 64)
    assert (kept["computed_by"], kept["computed_at"] > first.computed_at) == (login_name(database), True)


def test_a_login_that_can_compute_too_signs_nothing(database: Database, connections: dict[str, Connection]) -> None:
    stage_all(database, connections)
    computed(database)
    with (
        login(database, APPROVER_ROLE, APPLICATION_ROLE) as both,
        pytest.raises(SignOffRefused, match=r"may act as the application .* signs nothing"),
    ):
        signed(database, both)
    assert standing(database) is Standing.UNSIGNED


def test_who_computed_a_result_cannot_sign_it_later(database: Database, connections: dict[str, Connection]) -> None:
    stage_all(database, connections)
    with login(database, APPLICATION_ROLE) as one:
        assert computed(one).computed_by == login_name(one)
        with psycopg.connect(database.url, autocommit=True) as admin:
            name = sql.Identifier(login_name(one))
            admin.execute(sql.SQL("REVOKE finance_os_application FROM {}").format(name))
            admin.execute(sql.SQL("GRANT finance_os_approver TO {}").format(name))
        with pytest.raises(SignOffRefused, match=r"was computed by .* who cannot sign it"):
            signed(database, Database(one.url, APPROVER_ROLE))


def test_nothing_personal_is_kept_of_a_sign_off(database: Database, connections: dict[str, Connection]) -> None:
    stage_all(database, connections)
    computed(database)
    with login(database, APPROVER_ROLE, name="jane@acme.example") as jane:
        with pytest.raises(SignOffRefused, match=r"cannot be recorded: .* looks like an e-mail address"):
            signed(database, jane, "ask bob@acme.example")
        signed(database, jane)
    found = sign_off(database, "acme", MARCH, Rules(), START)
    assert found.signed_by is not None
    assert found.signed_by.startswith("login:")
    events = database.fetch("SELECT actor FROM finance_os.finance_audit_events WHERE event_type = %s", (SIGNED,))
    assert events == [{"actor": found.signed_by}]


def test_of_two_that_compute_at_once_one_keeps_it(database: Database, connections: dict[str, Connection]) -> None:
    stage_all(database, connections)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: computed(database).result_id, range(4)))
    assert len(set(results)) == 1
    events = database.fetch("SELECT FROM finance_os.finance_audit_events WHERE event_type = %s", (COMPUTED,))
    assert len(events) == 1


def test_who_computes_does_not_sign(
    database: Database, owner: Database, approver: Database, connections: dict[str, Connection]
) -> None:
    stage_all(database, connections)
    with pytest.raises(SignOffRefused, match="never computed"):
        signed(database, approver)
    first = computed(database)
    with pytest.raises(SignOffRefused, match="permission denied"):
        signed(database, database)
    with pytest.raises(SignOffRefused, match="signs nothing"):
        signed(database, owner)
    with pytest.raises(SignOffRefused, match="say why"):
        signed(database, approver, "  ")
    stage_baseline(database, connections["xlsx"], baseline_record(MARCH, "pub_1", ACCRUAL + 1), minute=1)
    computed(database)
    with pytest.raises(psycopg.errors.CheckViolation, match="not the latest"):
        insert_sign_off(approver, first.result_id, first.result_hash)
    assert database.fetch("SELECT * FROM finance_os.backtest_sign_offs") == []


@pytest.mark.parametrize("column", ["signed_by", "signed_at"])
def test_nobody_types_who_signed_or_when(database: Database, approver: Database, column: str) -> None:
    assert database
    query = sql.SQL("INSERT INTO finance_os.backtest_sign_offs ({}) VALUES (NULL)").format(sql.Identifier(column))
    with pytest.raises(psycopg.errors.InsufficientPrivilege), approver.transaction() as connection:
        connection.execute(query)


@pytest.mark.parametrize("table", ["backtest_results", "backtest_sign_offs"])
def test_results_and_sign_offs_are_never_rewritten(
    database: Database, owner: Database, connections: dict[str, Connection], table: str
) -> None:
    stage_all(database, connections)
    computed(database)
    for who in (database, owner):
        for statement in (
            "DELETE FROM finance_os.{}",
            "UPDATE finance_os.{} SET month = month",
            "TRUNCATE finance_os.{} CASCADE",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), who.transaction() as connection:
                connection.execute(sql.SQL(statement).format(sql.Identifier(table)))
