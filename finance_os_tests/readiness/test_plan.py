"""The source sync plan, counted from what is there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import psycopg
import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database, DatabaseConnection, SchemaNotCurrent
from finance_os.evidence.snapshot import Snapshot, snapshot
from finance_os.local.plan_json import plan_json
from finance_os.readiness.assessment import assess
from finance_os.readiness.plan import LISTED, UnknownBusiness, source_sync_plan, staging_line, unreachable
from finance_os.readiness.verdicts import Status
from finance_os.sources.connectors import ConnectorStatus, planned_connectors
from finance_os.sources.probe import record_probe
from finance_os.sources.registry import SOURCES
from finance_os_tests.evidence.staged import page, record, stage

SECRET = "canary-of-every-credential"


@pytest.fixture(autouse=True)
def every_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """All credentials of all sources, and Plaid switched on; tests take some away."""
    monkeypatch.setenv("FINANCE_OS_PLAID_ENABLED", "1")
    for source in SOURCES:
        for name in source.credentials:
            monkeypatch.setenv(name, SECRET)


@pytest.fixture
def connected(database: Database) -> Database:
    ensure_business(database, "acme", "Acme", "UTC")
    for source in SOURCES:
        ensure_connection(database, "acme", source.system)
    return database


def test_everything_is_ready_where_every_credential_is_present(connected: Database) -> None:
    plan = source_sync_plan(connected, SOURCES, "acme")
    count = len([source for source in SOURCES if source.order is not None])
    assert plan.headline == f"{count} of {count} planned connectors have runtime credentials present."
    assert [each.order for each in plan.connectors] == sorted(each.order for each in plan.connectors)
    assert all(each.sentence.endswith("credential presence is configured at runtime.") for each in plan.connectors)
    assert all(each.objects and each.read_scope and each.cursor_strategy for each in plan.connectors)


def test_one_without_credentials_is_blocked_and_says_what_to_set(
    connected: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINANCE_OS_STRIPE_API_KEY")
    plan = source_sync_plan(connected, SOURCES, "acme")
    [stripe] = [each for each in plan.connectors if each.source_system == "stripe"]
    assert stripe.status is ConnectorStatus.BLOCKED
    assert stripe.sentence == "Stripe credential is missing in this runtime; keep connector blocked."
    assert (stripe.blocker, stripe.remedy) == ("credentials_missing", "Set FINANCE_OS_STRIPE_API_KEY.")
    assert plan.ready == len(plan.connectors) - 1


def test_a_connector_that_a_setting_takes_out_is_not_counted(connected: Database) -> None:
    whole = source_sync_plan(connected, SOURCES, "acme")
    fewer = source_sync_plan(connected, SOURCES, "acme", excluded=frozenset({"stripe"}))
    assert len(fewer.connectors) == len(whole.connectors) - 1
    assert fewer.ready == whole.ready - 1
    assert "stripe" not in {each.source_system for each in fewer.connectors}
    assert planned_connectors(SOURCES)[0].system == "stripe"


def test_another_business_has_a_plan_of_its_own(connected: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_business(connected, "globex", "Globex", "UTC")
    ensure_connection(connected, "globex", "stripe", secret_reference="env:GLOBEX_")
    plan = source_sync_plan(connected, SOURCES, "globex")
    stripe = plan.connectors[0]
    assert stripe.remedy == "Set GLOBEX_FINANCE_OS_STRIPE_API_KEY."
    assert {each.blocker for each in plan.connectors[1:]} == {"connection_missing"}
    monkeypatch.setenv("GLOBEX_FINANCE_OS_STRIPE_API_KEY", SECRET)
    assert source_sync_plan(connected, SOURCES, "globex").ready == 1


def test_what_is_staged_is_counted(connected: Database, acme: Connection, globex: Connection) -> None:
    stage(connected, acme, page(record("a"), record("b")))
    stage(connected, acme, page(record("a", "changed"), record("b", None), minute=1))
    stage(connected, globex, page(record("a")))
    plan = source_sync_plan(connected, SOURCES, "acme")
    [invoices] = [each for each in plan.staged if each.object_type == "stripe_invoice"]
    assert (invoices.raw_rows, invoices.current) == (3, 1)
    assert invoices.last_status == "succeeded"
    assert [each.source_id for each in plan.recent_records] == ["a", "a", "b"]
    assert all(re.fullmatch("[0-9a-f]{12}", each.payload_hash) for each in plan.recent_records)
    assert [each.status for each in plan.recent_runs] == ["succeeded", "succeeded"]
    assert all(each.raw_rows == 0 for each in plan.staged if each.object_type != "stripe_invoice")


def test_the_json_says_the_same_and_holds_no_secret(connected: Database) -> None:
    text = plan_json([source_sync_plan(connected, SOURCES, "acme")])
    [decoded] = msgspec.json.decode(text)
    assert decoded["ready"] == len(decoded["connectors"])
    assert SECRET.encode() not in text


def test_the_page_is_the_one_that_was_asked_for(connected: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connector readiness and the raw-record contract, to the letter, where only Plaid's credentials are missing."""
    monkeypatch.delenv("FINANCE_OS_PLAID_ACCESS_TOKEN")
    plan = source_sync_plan(connected, SOURCES, "acme")
    lines = [
        "Connector readiness",
        plan.headline,
        f"{plan.ready}/{len(plan.connectors)} ready",
        "OrderSourceStatusObjectsCursor strategy",
    ]
    for each in plan.connectors:
        listed = ", ".join(each.objects)
        lines += [str(each.order), each.title, each.sentence, each.status.capitalize(), listed + each.cursor_strategy]
    lines += [
        "Raw-record contract",
        "Every connector must stage evidence before future Finance OS workflows can depend on it.",
        "SourceEvidence policyIdempotency key",
        *(each.title + each.evidence_policy + each.idempotency_key for each in plan.connectors),
    ]
    assert lines == (Path(__file__).parent / "connector_texts.txt").read_text().splitlines()


def test_readiness_is_part_of_the_plan_and_the_reader_may_look(connected: Database) -> None:
    plan = source_sync_plan(connected.as_reader(), SOURCES, "acme")
    said = assess(connected, SOURCES, "acme")
    assert {name: each.evaluation for name, each in plan.assessment.standings.items()} == {
        name: each.evaluation for name, each in said.standings.items()
    }
    assert plan.assessment.evidence == said.evidence
    assert (plan.business_name, plan.time_zone) == ("Acme", "UTC")
    assert plan.staging.ready


def test_a_plan_is_one_connection_one_transaction_and_few_queries(
    connected: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[str] = []
    execute = psycopg.Connection.execute

    def counted(self: psycopg.Connection, query: str, *arguments: object, **options: object) -> object:
        executed.append(query)
        return execute(self, query, *arguments, **options)  # type: ignore[arg-type]

    counting = CountingDatabase(connected.url, connected.role)
    monkeypatch.setattr(psycopg.Connection, "execute", counted)
    source_sync_plan(counting, SOURCES, "acme")
    assert len(counting.opened) == 1
    assert len(executed) <= 45
    assert not [query for query in executed if re.search(r"(?i)\b(insert|update|delete)\s+(into|finance_os)", query)]
    whole_tables = r"(?is)count\(\*\)[^;]*FROM finance_os\.(raw_source_records|raw_record_heads)"
    assert not [query for query in executed if re.search(whole_tables, query)]


@dataclass(frozen=True, repr=False)
class CountingDatabase(Database):
    """A database that keeps count of the connections that are opened to it."""

    opened: list[DatabaseConnection] = field(default_factory=list)

    @contextmanager
    def connection(self) -> Iterator[DatabaseConnection]:
        with super().connection() as opened:
            self.opened.append(opened)
            yield opened


def test_a_plan_does_not_see_what_is_staged_while_it_looks(
    connected: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(connected, acme, page(record("a")))
    with snapshot(connected) as seen:
        before = source_sync_plan(seen, SOURCES, "acme")
        stage(connected, acme, page(record("b"), minute=1))
        during = source_sync_plan(seen, SOURCES, "acme")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            seen.fetch("UPDATE finance_os.businesses SET name = 'x' RETURNING name")
    after = source_sync_plan(connected, SOURCES, "acme")
    assert (during.staged, during.recent_runs) == (before.staged, before.recent_runs)
    assert len(after.recent_runs) == len(before.recent_runs) + 1


def test_a_snapshot_of_a_snapshot_is_the_same_one_and_shows_no_password(database: Database) -> None:
    with snapshot(database) as seen, snapshot(seen) as again:
        assert again is seen
        shown = Snapshot("postgresql://login:s3cret@db.example/finance", opened=seen.opened)
        assert "s3cret" not in repr(shown)


def test_a_probe_is_among_the_recent_records(connected: Database) -> None:
    record_probe(connected, "acme")
    [seen] = source_sync_plan(connected, SOURCES, "acme").recent_records
    assert (seen.source_system, seen.object_type) == ("manual", "ingestion_probe")


def test_recent_records_are_the_latest_of_every_object_type(connected: Database, acme: Connection) -> None:
    """Also where one object type was read more often than the others, and each version once."""
    stage(connected, acme, page(record("old")), object_type="stripe_charge")
    for minute in range(1, 25):
        stage(connected, acme, page(record("same")), page(record(f"new-{minute}"), minute=minute))
    stage(connected, acme, page(*(record(f"many-{n:02}") for n in range(40)), minute=30), object_type="stripe_payout")
    recent = source_sync_plan(connected, SOURCES, "acme", recent=12).recent_records
    assert [each.object_type for each in recent] == ["stripe_payout"] * 12
    recent = source_sync_plan(connected, SOURCES, "acme", recent=50).recent_records
    ids = [each.source_id for each in recent]
    assert len(ids) == len(set(ids)) == 50
    assert ids[40:44] == ["new-24", "new-23", "new-22", "new-21"]
    assert [each.last_seen for each in recent] == sorted((each.last_seen for each in recent), reverse=True)


def test_open_alerts_come_the_gravest_first_and_are_all_counted(connected: Database, owner: Database) -> None:
    with owner.transaction() as connection:
        connection.execute(
            """
            INSERT INTO finance_os.alerts (business_id, alert_key, kind, severity, subject, code, message,
                                           evidence_hash, failing, count, first_seen, last_seen, resolved_at)
            SELECT 'acme', 'key-' || n, 'run', CASE WHEN n = 7 THEN 'critical' ELSE 'low' END, 'subject', 'code',
                   'message ' || n, '4f53cda18c2b', '{}', 3, now() - interval '1 day', now(),
                   CASE WHEN n = 0 THEN now() END
            FROM generate_series(0, 60) AS n
            """
        )
    plan = source_sync_plan(connected, SOURCES, "acme")
    assert (plan.alert_count, len(plan.alerts)) == (60, LISTED)
    assert (plan.alerts[0].message, plan.alerts[0].severity, plan.alerts[0].count) == ("message 7", "critical", 3)
    ensure_business(connected, "globex", "Globex", "UTC")
    assert source_sync_plan(connected, SOURCES, "globex").alert_count == 0


def test_staging_that_may_not_be_written_is_blocked(connected: Database, owner: Database) -> None:
    ready = staging_line(connected)
    assert (ready.status, ready.blocker) == (Status.READY, None)
    with owner.transaction() as connection:
        connection.execute("REVOKE INSERT ON finance_os.raw_source_records FROM finance_os_application")
    blocked = source_sync_plan(connected, SOURCES, "acme").staging
    assert blocked.blocker == "raw_record_staging_not_writable"
    assert "raw_source_records" in (blocked.remedy or "")
    assert blocked.evidence_hash != ready.evidence_hash


def test_a_schema_that_is_behind_is_refused_with_what_to_do(connected: Database, owner: Database) -> None:
    with owner.transaction() as connection:
        connection.execute(
            "DELETE FROM finance_os._yoyo_migration WHERE migration_id = (SELECT max(migration_id) FROM"
            " finance_os._yoyo_migration)"
        )
    with pytest.raises(SchemaNotCurrent, match="finance-os db migrate"):
        source_sync_plan(connected, SOURCES, "acme")
    assert staging_line(connected).blocker == "raw_record_staging_schema_not_at_head"


def test_a_database_that_does_not_answer_is_a_line_too() -> None:
    line = unreachable("OperationalError")
    assert (line.status, line.blocker, line.evidence_hash) == ("blocked", "raw_record_staging_unreachable", None)
    assert "FINANCE_OS_DATABASE_URL" in (line.remedy or "")


def test_an_unknown_business_is_refused(connected: Database) -> None:
    with pytest.raises(UnknownBusiness, match="nobody"):
        source_sync_plan(connected, SOURCES, "nobody")


def test_a_source_of_another_vendor_is_on_the_plan(connected: Database) -> None:
    """What is declared is enough: nothing here knows the sources by name."""
    till = replace(SOURCES[0], system="till", title="Till", order=9, evidence=())
    ensure_connection(connected, "acme", "till")
    plan = source_sync_plan(connected, [*SOURCES, till], "acme")
    assert plan.connectors[-1].title == "Till"
    assert "Till" in {each.title for each in plan.assessment.evidence}
