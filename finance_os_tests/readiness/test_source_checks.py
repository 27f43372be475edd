"""The four checks on planted evidence: the right one fails, on the right day of the right business, and no other."""

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString

import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import DayState, Kind, RemoteCount, SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days, day_of
from finance_os.readiness.source_checks import Subject, freshness
from finance_os.readiness.verdicts import Status, Verdict
from finance_os.sources.gravity import GRAVITY
from finance_os.sources.rho import RHO
from finance_os_tests.conftest import create_database, drop_database
from finance_os_tests.evidence.staged import OBJECT, page, read_of, record, stage
from finance_os_tests.readiness.planted import (
    DAY_1,
    DAY_2,
    DAY_3,
    DAYS,
    SUBJECT,
    Found,
    by_day,
    forge,
    not_ready,
    stage_days,
    verdicts_of,
)

BY_DAY = ("trace", "idempotency", "completeness")
NO_EVIDENCE_HASH = "4f53cda18c2b"
_numbers = itertools.count(1)


@pytest.fixture
def other_database(server_url: str, template_name: str) -> Iterator[Database]:
    """A second fresh finance database."""
    name = f"finance_os_other_{os.getpid()}_{next(_numbers)}"
    yield Database(create_database(server_url, name, template_name))
    drop_database(server_url, name)


def test_days_that_were_read_whole_are_ready(database: Database, acme: Connection, globex: Connection) -> None:
    stage_days(database, acme)
    stage_days(database, globex, per_day=0)
    assert by_day(verdicts_of(database)) == {
        (business, check, day): ("ready", None) for business in ("acme", "globex") for check in BY_DAY for day in DAYS
    }


def test_days_that_were_never_read_are_pending(database: Database, acme: Connection, globex: Connection) -> None:
    stage_days(database, acme, days=Days(DAY_1, DAY_2))
    stage_days(database, globex)
    assert not_ready(database) == {("acme", check, DAY_3): ("pending", f"{check}_no_sync_run") for check in BY_DAY}
    unread = [verdict for verdict in verdicts_of(database) if verdict.day == DAY_3 and verdict.business_id == "acme"]
    assert {verdict.evidence_hash for verdict in unread} == {NO_EVIDENCE_HASH}
    assert {verdict.remedy for verdict in unread} == {f"Materialize stripe/{OBJECT} for {DAY_3}."}


TRACE_LOST = ("blocked", "trace_rows_without_sync_run")
TRACE_COUNTS = ("blocked", "trace_counts_disagree")

FORGERIES: Mapping[str, tuple[LiteralString, Mapping[tuple[str, date], tuple[str, str]]]] = {
    "a stored payload is altered": (
        """
        UPDATE finance_os.raw_source_records SET payload = jsonb_set(payload, '{content}', '"forged"')
        WHERE business_id = 'acme' AND source_id = 'in_03_1' AND payload ->> 'content' = 'a'
        """,
        {("idempotency", DAY_2): ("blocked", "idempotency_replay_would_add_rows")},
    ),
    "a stored payload is replaced by that of another version": (
        """
        UPDATE finance_os.raw_source_records SET payload = jsonb_set(payload, '{content}', '"older"')
        WHERE business_id = 'acme' AND source_id = 'in_03_1' AND payload ->> 'content' = 'a'
        """,
        {("idempotency", DAY_2): ("blocked", "idempotency_batch_hash_differs")},
    ),
    "a stored hash is altered": (
        """
        UPDATE finance_os.raw_source_records SET payload_hash = sha256('forged')
        WHERE business_id = 'acme' AND source_id = 'in_03_0'
        """,
        {("idempotency", DAY_2): ("blocked", "idempotency_replay_would_add_rows")},
    ),
    "a sighting names a version that does not exist": (
        """
        UPDATE finance_os.source_sync_sightings SET record_ids[2] = 7
        WHERE business_id = 'acme' AND partition_day = '2026-03-03' AND cardinality(record_ids) = 2
        """,
        {("trace", DAY_2): TRACE_LOST, ("idempotency", DAY_2): ("blocked", "idempotency_rows_lost")},
    ),
    "a sighting names the other business's record of the same ID": (
        """
        UPDATE finance_os.source_sync_sightings
        SET record_ids[2] = (SELECT record_id FROM finance_os.raw_source_records
                             WHERE business_id = 'globex' AND source_id = 'in_03_1')
        WHERE business_id = 'acme' AND partition_day = '2026-03-03' AND cardinality(record_ids) = 2
        """,
        {("trace", DAY_2): TRACE_LOST, ("idempotency", DAY_2): ("blocked", "idempotency_rows_lost")},
    ),
    "a sighting names another record of the same day": (
        """
        UPDATE finance_os.source_sync_sightings SET record_ids[2] = record_ids[1]
        WHERE business_id = 'acme' AND partition_day = '2026-03-03' AND cardinality(record_ids) = 2
        """,
        {("idempotency", DAY_2): ("blocked", "idempotency_batch_hash_differs")},
    ),
    "a sighting is lost": (
        """
        DELETE FROM finance_os.source_sync_sightings
        WHERE business_id = 'acme' AND partition_day = '2026-03-03' AND cardinality(record_ids) = 2
        """,
        # The run's own total disagrees, which speaks against each of its days.
        {
            **{("trace", day): TRACE_COUNTS for day in DAYS},
            ("idempotency", DAY_2): ("blocked", "idempotency_batch_hash_differs"),
        },
    ),
    "a version is deleted": (
        "DELETE FROM finance_os.raw_source_records WHERE business_id = 'acme' AND source_id = 'in_03_0'",
        {("trace", DAY_2): TRACE_LOST, ("idempotency", DAY_2): ("blocked", "idempotency_rows_lost")},
    ),
    "a version leads to a run that does not exist": (
        """
        UPDATE finance_os.raw_source_records SET first_sync_run_id = 999
        WHERE business_id = 'acme' AND source_id = 'in_03_0'
        """,
        {("trace", DAY_2): TRACE_LOST},
    ),
    "a version leads to a run of the other business": (
        """
        UPDATE finance_os.raw_source_records AS record
        SET first_sync_run_id = (SELECT max(first_sync_run_id) FROM finance_os.raw_source_records
                                 WHERE business_id = 'globex')
        WHERE business_id = 'acme' AND source_id = 'in_03_0'
        """,
        {("trace", DAY_2): TRACE_LOST},
    ),
    "the batch hash of a day is altered": (
        """
        UPDATE finance_os.source_sync_partitions SET batch_hash = sha256('forged')
        WHERE business_id = 'acme' AND partition_day = '2026-03-03' AND rows_extracted = 2
        """,
        {("idempotency", DAY_2): ("blocked", "idempotency_batch_hash_differs")},
    ),
    "the count of a day is altered": (
        """
        UPDATE finance_os.source_sync_partitions SET rows_extracted = rows_extracted + 1
        WHERE business_id = 'acme' AND partition_day = '2026-03-03' AND rows_extracted = 2
        """,
        {("trace", DAY_2): TRACE_COUNTS},
    ),
    "the count of a run is altered": (
        """
        UPDATE finance_os.source_sync_runs SET rows_extracted = rows_extracted + 1, rows_new = rows_new + 1
        WHERE business_id = 'acme' AND last_day = '2026-03-04'
        """,
        {("trace", day): TRACE_COUNTS for day in DAYS},
    ),
    "a run did not succeed": (
        """
        UPDATE finance_os.source_sync_runs SET status = 'failed'
        WHERE business_id = 'acme' AND last_day = '2026-03-04'
        """,
        {("trace", day): TRACE_COUNTS for day in DAYS},
    ),
    "the source's own count is another": (
        """
        UPDATE finance_os.source_sync_partitions SET remote_count = 3
        WHERE business_id = 'acme' AND partition_day = '2026-03-03' AND rows_extracted = 2
        """,
        {("completeness", DAY_2): ("blocked", "completeness_remote_count_differs")},
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_found_where_it_is_and_nowhere_else(
    forgery: str, database: Database, owner: Database, acme: Connection, globex: Connection
) -> None:
    # An older version of one record, seen on a day before those that are looked at.
    before = DAY_1 - timedelta(days=1)
    stage(database, acme, page(record("in_03_1", "older", day=before), minute=-60), days=Days(before, before))
    stage_days(database, acme)
    stage_days(database, globex)
    assert not_ready(database) == {}
    before_it = {_place(verdict): verdict.evidence_hash for verdict in verdicts_of(database)}
    query, expected = FORGERIES[forgery]
    forge(owner, query)
    failing = {("acme", check, day): found for (check, day), found in expected.items()}
    assert not_ready(database) == failing
    after_it = {_place(verdict): verdict for verdict in verdicts_of(database)}
    for place in failing:
        assert after_it[place].remedy
        assert after_it[place].details["reads"]
        assert after_it[place].evidence_hash != before_it[place], "another verdict follows from other evidence"
    assert all(after_it[place].evidence_hash == before_it[place] for place in before_it if place[0] == "globex")


def test_a_remote_count_must_hold_on_every_day(database: Database, acme: Connection) -> None:
    stage_days(database, acme, RemoteCount({DAY_1: 2, DAY_2: 3}))
    assert not_ready(database) == {
        ("acme", "completeness", DAY_2): ("blocked", "completeness_remote_count_differs"),
        ("acme", "completeness", DAY_3): ("blocked", "completeness_remote_count_differs"),  # not named: none
    }
    stage_days(database, acme, RemoteCount(dict.fromkeys(DAYS, 2)), minute=10)
    assert not_ready(database) == {}


@pytest.mark.parametrize(
    ("state", "blocker"),
    [(DayState.PARTIAL, "completeness_day_not_over"), (DayState.UNOBSERVABLE, "completeness_day_unobservable")],
)
def test_a_day_that_was_not_seen_whole_is_pending(
    state: DayState, blocker: str, database: Database, acme: Connection, globex: Connection
) -> None:
    stage_days(database, acme, states={DAY_2: state})
    stage_days(database, globex)
    assert not_ready(database) == {("acme", "completeness", DAY_2): ("pending", blocker)}


def test_a_later_whole_read_completes_a_day(database: Database, acme: Connection) -> None:
    stage_days(database, acme, states={DAY_2: DayState.PARTIAL})
    stage_days(database, acme, days=Days(DAY_2, DAY_2), minute=10)
    assert not_ready(database) == {}


def test_an_unobservable_day_does_not_hide_what_was_read_before(database: Database, acme: Connection) -> None:
    stage_days(database, acme)
    stage_days(database, acme, states={DAY_2: DayState.UNOBSERVABLE}, days=Days(DAY_2, DAY_2), per_day=0, minute=10)
    assert not_ready(database) == {}


def test_a_file_with_the_whole_day_makes_up_for_one_with_a_part_of_it(database: Database, acme: Connection) -> None:
    stage_days(database, acme, kind=Kind.DROP, states={DAY_3: DayState.PARTIAL})
    assert not_ready(database) == {("acme", "completeness", DAY_3): ("pending", "completeness_day_not_over")}
    stage_days(database, acme, kind=Kind.DROP, days=Days(DAY_3, DAY_3), minute=10)
    assert not_ready(database) == {}


def test_a_targeted_read_neither_completes_a_day_nor_spoils_it(database: Database, acme: Connection) -> None:
    stage_days(database, acme, kind=Kind.TARGETED, days=Days(DAY_1, DAY_1))
    assert not_ready(database, Days(DAY_1, DAY_1)) == {
        ("acme", "completeness", DAY_1): ("pending", "completeness_no_sync_run")
    }
    stage_days(database, acme, minute=10)
    stage_days(database, acme, kind=Kind.TARGETED, days=Days(DAY_1, DAY_1), per_day=1, minute=20)
    assert not_ready(database) == {}


def test_a_day_is_complete_when_every_account_was_read(database: Database, acme: Connection) -> None:
    europe = ensure_connection(database, "acme", "stripe", "europe")
    stage_days(database, acme)
    expected: Found = {("acme", "completeness", day): ("pending", "completeness_no_sync_run") for day in DAYS}
    assert not_ready(database) == expected
    remedies = {verdict.remedy for verdict in verdicts_of(database) if verdict.check == "completeness"}
    assert all("europe" in (remedy or "") for remedy in remedies)
    stage_days(database, europe, prefix="eu", states={DAY_1: DayState.UNOBSERVABLE})
    assert not_ready(database) == {("acme", "completeness", DAY_1): ("pending", "completeness_day_unobservable")}
    ensure_connection(database, "acme", "stripe", "europe", active=False)
    assert not_ready(database) == {}


def test_a_connection_that_is_not_active_is_not_judged(database: Database, acme: Connection) -> None:
    ensure_connection(database, "acme", "stripe", active=False)
    assert verdicts_of(database) == []


def test_equal_evidence_has_equal_hashes_in_another_database(
    database: Database, other_database: Database, acme: Connection, globex: Connection
) -> None:
    europe = ensure_connection(database, "acme", "stripe", "europe")
    for connection, prefix in ((acme, "in"), (europe, "eu"), (globex, "in")):
        stage_days(database, connection, prefix=prefix)

    ensure_business(other_database, "zzz", "Another", "UTC")
    stage_days(other_database, ensure_connection(other_database, "zzz", "stripe"), prefix="noise", per_day=3)
    ensure_business(other_database, "globex", "Globex", "Asia/Tokyo")
    ensure_business(other_database, "acme", "Acme", "America/New_York")
    for business, account, prefix in (
        ("globex", "default", "in"),
        ("acme", "europe", "eu"),  # before the other account
        ("acme", "default", "in"),
    ):
        stage_days(other_database, ensure_connection(other_database, business, "stripe", account), prefix=prefix)
    ensure_connection(other_database, "zzz", "stripe", active=False)

    here, there = ({_place(v): v.evidence_hash for v in verdicts_of(each)} for each in (database, other_database))
    assert here == there
    assert len({v.evidence_hash for v in verdicts_of(database) if v.check == "idempotency"}) > 1

    stage_days(
        other_database, ensure_connection(other_database, "globex", "stripe"), days=Days(DAY_2, DAY_2), per_day=1
    )
    there = {_place(v): v.evidence_hash for v in verdicts_of(other_database)}
    assert {place for place in here if here[place] != there[place]} == {("globex", check, DAY_2) for check in BY_DAY}


def _place(verdict: Verdict) -> tuple[str, str, date | None]:
    return verdict.business_id, verdict.check, verdict.day


# --- freshness


def fresh(database: Database, subject: Subject = SUBJECT) -> dict[str, tuple[str, str | None]]:
    """Business → status and blocker."""
    return {v.business_id: (v.status.value, v.blocker) for v in freshness(database, subject, DAYS)}


def read_today(database: Database, connection: Connection, **of_read: Any) -> None:
    """A read of the connection's present day, up to now."""
    now = datetime.now(UTC)
    today = day_of(now, connection.zone)
    read = read_of(connection, [], days=Days(today, today), **of_read)
    perform(database, replace(read, window=read.window.until(now)), Origin(Trigger.MANUAL), chunk_rows=100)


READY: tuple[str, None] = ("ready", None)
STALE = ("stale", "freshness_sla_exceeded")
NEVER = ("pending", "freshness_no_sync_run")


def test_freshness_is_of_the_last_read_within_the_sla(database: Database, acme: Connection, globex: Connection) -> None:
    assert fresh(database) == {"acme": NEVER, "globex": NEVER}
    read_today(database, acme)
    assert fresh(database) == {"acme": READY, "globex": NEVER}
    stage_days(database, globex)
    assert fresh(database) == {"acme": READY, "globex": STALE}
    assert fresh(database, replace(SUBJECT, sla=timedelta(days=3_650)))["globex"] == READY
    [verdict, _] = freshness(database, SUBJECT, DAYS)
    assert (verdict.day, verdict.status) == (None, Status.READY)
    assert verdict.details["sla_seconds"] == 86_400


def test_a_backfill_of_old_days_makes_nothing_fresh_and_nothing_stale(database: Database, acme: Connection) -> None:
    stage_days(database, acme)
    stage_days(database, acme, minute=5)
    assert fresh(database) == {"acme": STALE}
    read_today(database, acme)
    stage_days(database, acme, minute=10)
    assert fresh(database) == {"acme": READY}


def test_what_does_not_read_the_present_makes_nothing_fresh(database: Database, acme: Connection) -> None:
    today = Days(*[day_of(datetime.now(UTC), acme.zone)] * 2)
    tomorrow = Days(*[today.last + timedelta(days=1)] * 2)
    # One object, because of a webhook.
    stage(database, acme, kind=Kind.TARGETED, days=today)
    # A day that has not begun where the business is.
    not_begun = read_of(acme, [], days=tomorrow)
    window = not_begun.window.until(datetime.now(UTC))
    perform(
        database,
        replace(not_begun, window=window, extract=None, states=dict.fromkeys(tomorrow, DayState.PARTIAL)),
        Origin(Trigger.MANUAL),
        chunk_rows=1,
    )
    # A day of which the source does not tell.
    unobservable = replace(read_of(acme, [], days=today), states=dict.fromkeys(today, DayState.UNOBSERVABLE))
    perform(database, unobservable, Origin(Trigger.MANUAL), chunk_rows=1)

    def failing(_: Any) -> Any:
        raise SourceError("vendor_error", "the vendor is down")

    with pytest.raises(SourceError):
        perform(database, read_of(acme, failing, days=today), Origin(Trigger.MANUAL), chunk_rows=1)
    assert fresh(database) == {"acme": NEVER}


def test_a_file_is_as_fresh_as_when_it_was_staged(database: Database, acme: Connection) -> None:
    stage_days(database, acme, kind=Kind.DROP)
    assert fresh(database) == {"acme": READY}


def test_reading_an_old_file_again_makes_nothing_fresh(database: Database, acme: Connection) -> None:
    old = '{"drop": "' + "0" * 64 + '", "received_at": "2026-01-05T00:00:00Z"}'
    perform(database, replace(read_of(acme, [], kind=Kind.DROP), targets=(old,)), Origin(Trigger.MANUAL), chunk_rows=1)
    assert fresh(database) == {"acme": STALE}


def test_a_business_is_as_fresh_as_the_account_that_was_read_longest_ago(database: Database, acme: Connection) -> None:
    europe = ensure_connection(database, "acme", "stripe", "europe")
    read_today(database, acme)
    assert fresh(database) == {"acme": NEVER}
    stage_days(database, europe, prefix="eu")
    assert fresh(database) == {"acme": STALE}
    read_today(database, europe)
    assert fresh(database) == {"acme": READY}


def test_what_people_hand_in_has_remedies_of_its_own(database: Database, acme: Connection) -> None:
    subject = Subject.of(RHO, RHO.objects[0])
    ensure_connection(database, "acme", "rho")
    [verdict] = freshness(database, subject, DAYS)
    assert "Hand in" in (verdict.remedy or "")
    assert not Subject.of(GRAVITY, GRAVITY.objects[0]).handed_in


def test_the_evidence_of_freshness_does_not_depend_on_the_sessions_time_zone(
    database: Database, acme: Connection
) -> None:
    stage_days(database, acme)
    elsewhere = Database(f"{database.url}{'&' if '?' in database.url else '?'}options=-c%20TimeZone%3DAsia/Tokyo")
    assert freshness(database, SUBJECT, DAYS) == freshness(elsewhere, SUBJECT, DAYS)
