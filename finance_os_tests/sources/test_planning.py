"""Planning: which kind of read each day needs, and what of it can still be seen."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import DayState, Kind
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.tables import current_table
from finance_os.evidence.windows import Days
from finance_os.sources.gravity import GRAVITY
from finance_os.sources.planning import plan_reads
from finance_os.sources.stripe import STRIPE
from finance_os_tests.evidence.staged import DAY, OBJECT, page, read_of, record

TODAY = date(2026, 6, 30)
NOW = datetime(2026, 6, 30, 18, tzinfo=UTC)
DAYS = Days(TODAY - timedelta(days=60), TODAY)


def test_days_beyond_the_sources_memory_hold_what_was_created_only(acme: Connection) -> None:
    (read,) = plan_reads(STRIPE, STRIPE.object("stripe_invoice"), acme, DAYS, NOW)
    assert (read.kind, read.days) == (Kind.WINDOW, DAYS)
    assert read.states[TODAY] is DayState.PARTIAL
    assert {read.states[TODAY - timedelta(days=n)] for n in range(1, 30)} == {DayState.WHOLE}
    assert {read.states[TODAY - timedelta(days=n)] for n in range(30, 61)} == {DayState.CREATED}


def test_events_that_are_gone_cannot_be_observed(acme: Connection) -> None:
    (read,) = plan_reads(STRIPE, STRIPE.object("stripe_event"), acme, DAYS, NOW)
    assert read.states[TODAY - timedelta(days=29)] is DayState.WHOLE
    assert read.states[TODAY - timedelta(days=30)] is DayState.UNOBSERVABLE


def test_what_settles_without_events_is_always_whole(acme: Connection) -> None:
    (read,) = plan_reads(STRIPE, STRIPE.object("stripe_balance_transaction"), acme, DAYS, NOW)
    assert set(read.states.values()) == {DayState.WHOLE, DayState.PARTIAL}


def test_a_product_database_is_read_by_updated_time_and_as_a_snapshot_today(acme: Connection) -> None:
    held = TODAY - timedelta(days=3)
    obj = GRAVITY.objects[0]
    reads = plan_reads(GRAVITY, obj, acme, Days(TODAY - timedelta(days=4), TODAY), NOW, snapshot_days=[held])
    assert [(read.kind, len(read.days)) for read in reads] == [(Kind.WINDOW, 1), (Kind.WINDOW, 2), (Kind.SNAPSHOT, 1)]
    assert all(held not in read.days for read in reads)


def test_a_poorer_read_of_an_old_day_does_not_hide_a_richer_one(database: Database, acme: Connection) -> None:
    def perform_as(state: DayState, minute: int, *source_ids: str) -> None:
        read = read_of(acme, [page(*(record(source_id) for source_id in source_ids), minute=minute)])
        perform(database, replace(read, states={DAY: state}), Origin(Trigger.MANUAL), chunk_rows=100)

    def held() -> list[str]:
        return current_table(database, "stripe", OBJECT, Days(DAY, DAY)).column("source_id").to_pylist()

    perform_as(DayState.WHOLE, 1, "in_created", "in_changed")
    perform_as(DayState.CREATED, 2, "in_created", "in_late")
    assert held() == ["in_changed", "in_created", "in_late"]
    perform_as(DayState.WHOLE, 3, "in_created")
    assert held() == ["in_created"]
