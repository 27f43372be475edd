"""Plaid from the plan to the finance database: staged, proved complete, gone on with, and kept apart."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any

import pytest

from finance_os.evidence import staging
from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.canonical import decode
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import DayState, SourceError
from finance_os.evidence.partitions import runs_of_days
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days
from finance_os.readiness.approvals import revoke
from finance_os.sandbox.faults import Rule
from finance_os.sources.approvals import ConnectionApprovals
from finance_os.sources.connectors import ConnectorStatus, readiness_of
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.plaid import PLAID, client
from finance_os.sources.planning import plan_reads
from finance_os.sources.sealing import EncryptionKeys, new_key
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.sandbox.test_plaid import small_world
from finance_os_tests.sources.test_plaid import (
    PAST,
    QUICK,
    TODAY,
    TRANSACTION,
    WHOLE,
    Bank,
    by_date,
    posted_on,
    serving,
    some_days,
)

KEY = new_key()
SIZE = 9


@pytest.fixture(scope="module")
def shared() -> Iterator[Bank]:
    with serving(small_world()) as bank:
        yield bank


@pytest.fixture
def bank(shared: Bank, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bank]:
    """A room that no test changes."""
    point(monkeypatch, shared)
    yield shared
    shared.calm()


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bank]:
    """A room of the test's own, to be moved and changed."""
    with serving(small_world()) as bank:
        point(monkeypatch, bank)
        yield bank


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = client.connect
    monkeypatch.setattr(
        client, "connect", lambda settings, kept, approved: usual(settings, kept, QUICK, approved=approved)
    )
    monkeypatch.setattr(client, "PAGE_SIZE", SIZE)
    monkeypatch.setenv("FINANCE_OS_PLAID_RATE_LIMIT", "1000000")


def point(monkeypatch: pytest.MonkeyPatch, bank: Bank, prefix: str = "") -> None:
    """Let this process's environment lead to a room."""
    for name, value in bank.env.items():
        monkeypatch.setenv(prefix + name, value)


@dataclass
class Staged:
    """A connection in the finance database, read as it is planned at the room's clock."""

    database: Database
    connection: Connection
    bank: Bank

    def plan(self, days: Days, object_type: str = TRANSACTION) -> list[Read]:
        def kept(connection: Connection) -> ConnectionSecrets:
            return ConnectionSecrets(self.database, connection, lambda: EncryptionKeys(KEY))

        obj = PLAID.object(object_type)
        approvals = partial(ConnectionApprovals, self.database)
        return plan_reads(PLAID, obj, self.connection, days, self.bank.world.when, kept=kept, approvals=approvals)

    def read(self, days: Days, object_type: str = TRANSACTION) -> dict[str, Any]:
        """Perform what is planned for some days; the row of the last run."""
        rows = [
            perform(self.database, read, Origin(Trigger.MANUAL), chunk_rows=1) for read in self.plan(days, object_type)
        ]
        return rows[-1]

    def heads(self, object_type: str = TRANSACTION) -> dict[str, Mapping[str, Any]]:
        """Source ID → payload of what is current."""
        return {row["source_id"]: decode(row["payload"]) for row in self._heads(object_type) if not row["removed"]}

    def removed(self) -> set[str]:
        return {row["source_id"] for row in self._heads(TRANSACTION) if row["removed"]}

    def _heads(self, object_type: str) -> list[dict[str, Any]]:
        return self.database.fetch(
            """
            SELECT head.source_id, head.removed, record.payload::text AS payload
            FROM finance_os.raw_record_heads AS head
            JOIN finance_os.raw_source_records AS record USING (record_id)
            WHERE head.business_id = %s AND head.object_type = %s
            """,
            (self.connection.business_id, object_type),
        )

    def partitions(self, days: Days) -> dict[date, set[str]]:
        """Day → source IDs in it."""
        found: dict[date, set[str]] = {day: set() for day in days}
        for (_, day), runs in runs_of_days(
            self.database, "plaid", TRANSACTION, days, self.connection.business_id
        ).items():
            rows = self.database.fetch(
                """
                SELECT record.source_id FROM finance_os.source_sync_sightings AS sighting
                CROSS JOIN LATERAL unnest(sighting.record_ids) AS shown (record_id)
                JOIN finance_os.raw_source_records AS record USING (record_id)
                WHERE sighting.sync_run_id = ANY(%s) AND sighting.partition_day = %s
                """,
                (runs, day),
            )
            found[day] = {row["source_id"] for row in rows}
        return found

    def changes(self) -> list[tuple[str, str, date]]:
        rows = self.database.fetch(
            """
            SELECT source_id, change, partition_day FROM finance_os.raw_record_changes
            WHERE business_id = %s AND object_type = %s
            """,
            (self.connection.business_id, TRANSACTION),
        )
        return sorted((row["source_id"], row["change"], row["partition_day"]) for row in rows)

    def cursor(self) -> Mapping[str, Any] | None:
        rows = self.database.fetch(
            "SELECT cursor FROM finance_os.source_cursors WHERE connection_id = %s AND object_type = %s",
            (self.connection.connection_id, TRANSACTION),
        )
        return rows[0]["cursor"] if rows else None

    def assert_complete(self) -> None:
        """Heads are what the room holds, and no day has another count than Plaid's."""
        assert self.heads() == self.bank.truth()
        assert self.differing() == []

    def differing(self) -> list[dict[str, Any]]:
        """Days for which Plaid's count is not what was staged."""
        return self.database.fetch(
            """
            SELECT partition_day, rows_extracted, remote_count FROM finance_os.source_sync_partitions
            WHERE remote_count IS DISTINCT FROM rows_extracted AND object_type = %s
            """,
            (TRANSACTION,),
        )


def only(day: date) -> Days:
    return Days(day, day)


def connected(database: Database, bank: Bank, business_id: str = "acme", prefix: str = "") -> Staged:
    ensure_business(database, business_id, business_id, "America/New_York")
    connection = ensure_connection(database, business_id, "plaid", secret_reference=f"env:{prefix}")
    return Staged(database, connection, bank)


def test_everything_is_staged_once_with_counts_that_agree(database: Database, bank: Bank) -> None:
    staged = connected(database, bank)
    first = staged.read(WHOLE)
    assert first["status"] == "succeeded"
    assert first["rows_new"] == len(bank.truth())
    assert first["rows_extracted"] == first["remote_count"] == 2 * len(bank.truth()) - len(bank.truth(only(TODAY)))
    assert first["api_version"] == "2020-09-14"
    assert first["requested"] == {"POST 127.0.0.1": len(bank.asked)}
    staged.assert_complete()
    again = staged.read(WHOLE)
    assert (again["rows_new"], again["rows_changed"], again["rows_removed"]) == (0, 0, 0)
    assert again["rows_extracted"] == again["remote_count"] == len(bank.truth())
    assert staged.read(WHOLE)["batch_hash"] == again["batch_hash"]
    counts = by_date(bank.truth())
    assert {day: len(ids) for day, ids in staged.partitions(WHOLE).items()} == {day: counts[day] for day in WHOLE}
    states = database.fetch("SELECT DISTINCT partition_day, state FROM finance_os.source_sync_partitions")
    assert {row["state"] for row in states if row["partition_day"] < TODAY} == {DayState.WHOLE}
    assert {row["state"] for row in states if row["partition_day"] == TODAY} == {DayState.PARTIAL}
    for object_type in ("plaid_item", "plaid_account", "plaid_institution"):
        row = staged.read(Days(TODAY, TODAY), object_type)
        assert (row["rows_new"], len(staged.heads(object_type))) == (1, 1)
        assert staged.read(Days(TODAY, TODAY), object_type)["rows_new"] == 0


def test_an_empty_window_is_complete_and_empty(database: Database, bank: Bank) -> None:
    staged = connected(database, bank)
    row = staged.read(Days(date(2020, 1, 1), date(2020, 1, 9)))
    assert (row["status"], row["rows_extracted"], row["remote_count"]) == ("succeeded", 0, 0)
    assert staged.cursor() is None


def test_changes_move_heads(database: Database, own: Bank) -> None:
    staged = connected(database, own)
    staged.read(WHOLE)
    first, second, third = (posted_on(own, day) for day in some_days(own, 3))
    own.change("remove_transaction", id=first)
    own.change("modify_transaction", id=second, amount="12.34")
    late = own.change("add_transaction", date="2026-10-03", amount="3.21", name="LATE")["id"]
    row = staged.read(Days(TODAY, TODAY))
    assert (row["rows_new"], row["rows_changed"], row["rows_removed"]) == (1, 1, 1)
    staged.assert_complete()
    assert staged.removed() == {first}
    assert late in staged.heads()
    own.change("remove_transaction", id=third)
    row = staged.read(WHOLE)
    assert (row["rows_new"], row["rows_changed"], row["rows_removed"]) == (0, 0, 1), "by its day and by the update"
    staged.assert_complete()
    assert staged.partitions(WHOLE)[date(2026, 10, 3)] >= {late}
    assert staged.read(WHOLE)["rows_removed"] == 0


def test_a_pending_transaction_posts(database: Database, own: Bank) -> None:
    staged = connected(database, own)
    staged.read(WHOLE)
    (pending,) = [key for key, payload in staged.heads().items() if payload["pending"]]
    own.advance(hours=3)
    before = staged.heads().keys()
    row = staged.read(WHOLE)
    assert (row["rows_new"], row["rows_removed"]) == (len(staged.heads().keys() - before), 1)
    staged.assert_complete()
    assert staged.removed() == {pending}
    assert [payload["pending_transaction_id"] for payload in staged.heads().values()].count(pending) == 1


def test_the_day_it_posts_on_removes_the_pending_one_of_the_day_before(database: Database, own: Bank) -> None:
    staged = connected(database, own)
    key = own.change("add_transaction", date="2026-11-04", amount="8.00", name="CARD")["id"]
    pending = own.room.feed.present[key]
    own.room.feed.present[key] = own.room.feed.present[key].__class__(**{**fields(pending), "pending": True})
    staged.read(PAST)
    assert staged.heads()[key]["pending"] is True
    own.change("remove_transaction", id=key)
    posted = own.change("add_transaction", date="2026-11-05", amount="8.00", name="CARD")["id"]
    own.room.feed.present[posted] = pending.__class__(**{**fields(own.room.feed.present[posted]), "pending_id": key})
    own.advance(days=2)
    row = staged.read(Days(TODAY, TODAY))
    assert staged.removed() == {key}
    assert row["rows_removed"] == 1
    assert posted in staged.heads()


def fields(transaction: Any) -> dict[str, Any]:
    return {name: getattr(transaction, name) for name in transaction.__dataclass_fields__}


def test_a_window_and_its_days_one_by_one_end_in_the_same_tables(
    database: Database, own: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no saved cursor at first, then with one and after changes, and on a day later than that."""
    point(monkeypatch, own, "GLOBEX_")
    whole, singly = connected(database, own), connected(database, own, "globex", "GLOBEX_")
    first_day = TODAY - timedelta(days=10)
    for last in (TODAY, TODAY, TODAY + timedelta(days=1)):
        days = Days(first_day, last)
        whole.read(days)
        for day in days:
            singly.read(Days(day, day))
        whole.assert_complete()
        assert whole.heads() == singly.heads()
        assert whole.removed() == singly.removed()
        assert whole.changes() == singly.changes()
        assert whole.partitions(days) == singly.partitions(days)
        assert singly.differing() == []
        first, second = (posted_on(own, day) for day in some_days(own, 2))
        own.change("remove_transaction", id=first)
        own.change("modify_transaction", id=second, amount="12.34")
        own.change("add_transaction", date="2026-10-03", amount="3.21", name="LATE")
        own.advance(hours=12)
    assert len(whole.removed()) > 2


@pytest.mark.parametrize("first", ["past", "present"])
def test_a_first_update_is_right_beside_a_backfill_before_or_after(database: Database, own: Bank, first: str) -> None:
    staged = connected(database, own)
    order = [PAST, Days(TODAY, TODAY)]
    for days in order if first == "past" else reversed(order):
        staged.read(days)
        staged_now = staged.heads().keys()
        gone = next(key for day in some_days(own, 9) if (key := posted_on(own, day)) in staged_now)
        own.change("remove_transaction", id=gone)
        own.change("add_transaction", date="2026-10-07", amount="1.00", name=f"AFTER {days}")
    staged.read(Days(TODAY, TODAY))
    staged.assert_complete()
    assert len(staged.removed()) == 2


def test_the_cursor_is_saved_with_what_it_stands_behind(
    database: Database, own: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = connected(database, own)
    staged.read(WHOLE)
    before = staged.cursor()
    assert before
    late = own.change("add_transaction", date="2026-08-03", amount="3.21", name="LATE")["id"]
    gone = posted_on(own, some_days(own, 1)[0])
    own.change("remove_transaction", id=gone)
    usual = staging.save_cursor

    def crash(connection: Any, run: Any, cursor: Any) -> None:
        usual(connection, run, cursor)
        if cursor is not None:
            raise RuntimeError("the process dies before the commit")

    with monkeypatch.context() as patched:
        patched.setattr(staging, "save_cursor", crash)
        with pytest.raises(RuntimeError):
            staged.read(Days(TODAY, TODAY))
    assert staged.cursor() == before
    assert late not in staged.heads()
    assert gone in staged.heads()
    staged.read(Days(TODAY, TODAY))
    assert staged.cursor() != before
    staged.assert_complete()


def test_a_read_that_fails_at_any_request_is_made_good_by_the_next(database: Database, own: Bank) -> None:
    staged = connected(database, own)
    staged.read(WHOLE)
    failed = 0
    for position in itertools.count(1):
        own.change("add_transaction", date="2026-10-09", amount_cents=position, name="ONE MORE")
        own.change("add_transaction", date="2026-08-09", amount_cents=position, name="ONE MORE BEFORE")
        gone = posted_on(own, date(2026, 8, 9))
        own.change("remove_transaction", id=gone)
        before, heads = staged.cursor(), staged.heads().keys()
        own.faults.script([Rule("*/plaid/*", "500", on=position, times=QUICK.attempts)])
        with suppress(SourceError):
            staged.read(WHOLE)
            break
        failed += 1
        assert staged.cursor() == before
        assert heads <= staged.heads().keys() | {gone}
        own.faults.clear()
        assert staged.read(WHOLE)["status"] == "succeeded"
        staged.assert_complete()
    staged.assert_complete()
    assert failed > 4
    rows = database.fetch("SELECT error_code FROM finance_os.source_sync_runs WHERE status = 'failed'")
    assert [row["error_code"] for row in rows] == ["vendor_error"] * failed


def test_an_update_that_keeps_changing_leaves_the_old_cursor(database: Database, own: Bank) -> None:
    staged = connected(database, own)
    staged.read(WHOLE)
    before = staged.cursor()
    for number in range(SIZE + 1):
        own.change("add_transaction", date="2026-08-03", amount_cents=number + 1, name="LATE")
    own.change("mutate_during_pagination", times=1_000)
    with pytest.raises(SourceError, match="incomplete"):
        staged.read(WHOLE)
    assert staged.cursor() == before
    own.change("mutate_during_pagination", times=2)
    assert staged.read(WHOLE)["rows_new"] == SIZE + 1
    staged.assert_complete()


def test_a_new_item_takes_the_place_of_the_old_one(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = connected(database, bank)
    staged.read(WHOLE)
    before, old = staged.cursor(), staged.heads().keys()
    (sealed,) = kept(database)
    with serving(small_world(seed=6)) as other:
        point(monkeypatch, other)
        staged.bank = other
        row = staged.read(WHOLE)
        assert "another item's" in row["notices"][0]
        staged.assert_complete()
        assert staged.removed() == old
        assert staged.cursor() != before
        assert staged.read(WHOLE)["notices"] == []
    (replaced,) = kept(database)
    assert replaced["version"] == sealed["version"] + 1, "another token in the environment replaces the kept one"


def kept(database: Database) -> list[dict[str, Any]]:
    return database.fetch("SELECT business_id, name, version, ciphertext FROM finance_os.connection_secrets ORDER BY 1")


def test_the_token_is_kept_encrypted_on_first_use(database: Database, bank: Bank) -> None:
    staged = connected(database, bank)
    staged.read(Days(TODAY, TODAY), "plaid_account")
    staged.read(Days(TODAY, TODAY), "plaid_item")
    (row,) = kept(database)
    assert (row["business_id"], row["name"], row["version"]) == ("acme", "access_token", 1)
    assert bank.token.encode() not in bytes(row["ciphertext"])


def test_two_businesses_keep_their_banks_apart(database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their items have the same IDs, as have their transactions; what the transactions say differs."""
    with serving(small_world()) as other:
        point(monkeypatch, other, "GLOBEX_")
        assert bank.truth() == other.truth()
        changed, removed = (posted_on(other, day) for day in some_days(other, 2))
        other.change("modify_transaction", id=changed, amount="12.34")
        other.change("remove_transaction", id=removed)
        acme, globex = connected(database, bank), connected(database, other, "globex", "GLOBEX_")
        for staged in (acme, globex, acme, globex):
            staged.read(WHOLE)
        acme.assert_complete()
        globex.assert_complete()
        assert acme.heads().keys() - globex.heads().keys() == {removed}
        assert acme.removed() == globex.removed() == set()
        assert [(row["business_id"], row["name"]) for row in kept(database)] == [
            ("acme", "access_token"),
            ("globex", "access_token"),
        ]


def test_the_flag_skips_and_production_fails_without_a_request(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = connected(database, bank)
    bank.asked.clear()
    for value in ("0", "false"):
        monkeypatch.setenv("FINANCE_OS_PLAID_ENABLED", value)
        with pytest.raises(SourceError, match="feature_flag_off"):
            staged.read(WHOLE)
    monkeypatch.delenv("FINANCE_OS_PLAID_ENABLED")
    with pytest.raises(SourceError, match="feature_flag_off"):
        staged.read(WHOLE)
    monkeypatch.setenv("FINANCE_OS_PLAID_ENABLED", "1")
    monkeypatch.setenv("FINANCE_OS_PLAID_API_BASE", "https://production.plaid.com")
    with pytest.raises(SourceError, match="production_policy_not_approved"):
        staged.read(Days(TODAY - timedelta(days=1), TODAY))
    rows = database.fetch("SELECT status, error_code FROM finance_os.source_sync_runs ORDER BY sync_run_id")
    assert [tuple(row.values()) for row in rows] == [
        *[("skipped", "feature_flag_off")] * 3,
        ("failed", "production_policy_not_approved"),
    ]
    assert bank.asked == []
    assert kept(database) == []


def test_an_approval_opens_a_live_host_for_its_business_as_long_as_it_is_in_force(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is opened is looked at where a client would be made; nothing here sends anything to Plaid."""
    acme, globex = connected(database, bank), connected(database, bank, "globex")
    opened: list[str] = []

    def connect(settings: Any, kept: Any, approved: Any) -> Any:
        opened.append(settings.api_base)
        raise SourceError("unreachable", "as far as this test goes")

    monkeypatch.setattr(client, "connect", connect)
    monkeypatch.setenv("FINANCE_OS_PLAID_API_BASE", "https://production.plaid.com")
    monkeypatch.setenv("FINANCE_OS_PLAID_ACCESS_TOKEN", "access-production-canary")

    def code(staged: Staged) -> str:
        with pytest.raises(SourceError) as failed:
            staged.read(Days(TODAY, TODAY))
        return failed.value.code

    closed = "production_policy_not_approved"
    assert (code(acme), code(globex)) == (closed, closed)
    approve_policy(database, "acme", "qbo_export", scope="production.plaid.com")
    approve_policy(database, "acme", "plaid_production", scope="development.plaid.com")
    assert code(acme) == closed
    given = approve_policy(database, "acme", "plaid_production", scope="production.plaid.com")
    assert (code(acme), code(globex)) == ("unreachable", closed)
    monkeypatch.setenv("FINANCE_OS_PLAID_API_BASE", "http://production.plaid.com")
    assert code(acme) == closed, "never without TLS"
    monkeypatch.setenv("FINANCE_OS_PLAID_API_BASE", bank.base)
    assert code(acme) == closed, "a token of real accounts goes to its own host only"
    monkeypatch.setenv("FINANCE_OS_PLAID_API_BASE", "https://production.plaid.com")
    revoke(database, "acme", "plaid_production", reason="over", request_id=given.request_id)
    assert code(acme) == closed
    assert opened == ["https://production.plaid.com"]


@pytest.mark.parametrize(
    ("flag", "blocker"),
    [("1", None), ("0", "feature_flag_off"), ("", "feature_flag_off"), ("maybe", "invalid_setting")],
)
def test_a_connector_that_is_switched_off_is_blocked(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch, flag: str, blocker: str | None
) -> None:
    connection = connected(database, bank).connection
    monkeypatch.setenv("FINANCE_OS_PLAID_ENABLED", flag)
    found = readiness_of(PLAID, connection)
    assert (found.status, found.blocker) == (
        ConnectorStatus.BLOCKED if blocker else ConnectorStatus.READY,
        blocker,
    )
    assert blocker is None or "FINANCE_OS_PLAID_ENABLED" in (found.remedy or "")
    monkeypatch.delenv("FINANCE_OS_PLAID_SECRET")
    assert readiness_of(PLAID, connection).blocker == "credentials_missing"
