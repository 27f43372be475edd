"""The steps of an export without Dagster: whose it is, what the gate is asked, what of a plan is kept, and reading."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.scheduled_syncs import request_scheduled_sync
from finance_os.evidence.snapshot import Snapshot
from finance_os.evidence.windows import Days, day_of, start_of_day
from finance_os.readiness.gate import Blocker, Gate, Input
from finance_os.settings import Settings
from finance_os.stripe_qbo import due, parts, states
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo.export import Export, NotExported
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.parts import Part
from finance_os.stripe_qbo.store import put_plan
from finance_os_tests.stripe_qbo.books import DAY, Books, books, customer, intent, invoice, story
from finance_os_tests.stripe_qbo.staged import RULES, company, environment, stage_company

YESTERDAY = Blocker("trace_not_checked", "stripe/stripe_charge", date(2026, 6, 5), None, "Materialize it.")


def opened(seen: Database, business_id: str, inputs: Any) -> Gate:
    """A gate that is open."""
    assert inputs is not None
    assert isinstance(seen, Snapshot)
    return Gate(business_id, ())


@pytest.fixture
def export(database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch) -> Export:
    ensure_connection(database, "acme", "quickbooks")
    monkeypatch.setenv("FINANCE_OS_QUICKBOOKS_REALM_ID", "4620816365000000001")
    found = exporting.export_of(database, "acme", {"acme": RULES})
    assert found is not None
    return found


# --- whose


def test_rules_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCE_OS_QBO_RULES", '{"acme": {"balance_date": "2026-06-01", "time_zone": "UTC"}}')
    assert Settings().qbo_rules == {"acme": RULES}
    monkeypatch.delenv("FINANCE_OS_QBO_RULES")
    assert Settings().qbo_rules == {}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("/etc/rules.toml", "it is no JSON"),
        ("[1]", "it is not by business"),
        ('{"balance_date": "2026-06-01", "time_zone": "UTC"}', "balance_date, time_zone: no rules of a business"),
    ],
    ids=["a path", "a list", "rules of one business"],
)
def test_settings_say_what_to_write_instead(given: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCE_OS_QBO_RULES", given)
    with pytest.raises(ValueError, match=told) as error:
        Settings()
    assert 'write JSON by business, such as {"main":' in str(error.value)


def test_a_business_without_rules_has_no_export(database: Database, acme: Connection) -> None:
    assert exporting.export_of(database, "acme", {"globex": RULES}) is None


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ({**RULES, "time_zone": "Mars"}, "qbo_rules_unreadable"),
        ({**RULES, "balance": 1}, "qbo_rules_unreadable"),
        (RULES, "quickbooks_connection_missing"),
    ],
    ids=["no zone", "unknown name", "no company"],
)
def test_what_it_lacks_is_named(database: Database, acme: Connection, rules: dict[str, Any], code: str) -> None:
    with pytest.raises(NotExported) as error:
        exporting.export_of(database, "acme", {"acme": rules})
    assert [each.code for each in error.value.blockers] == [code]
    assert code in str(error.value)


# --- the gate


def request_at(owner: Database, requested_at: datetime) -> None:
    """A daily sync that was requested at that moment, for the day that it was in UTC."""
    name = f"daily-{requested_at}"
    request_scheduled_sync(owner, name, requested_at.astimezone(UTC).date(), ["stripe"])
    with owner.transaction() as connection:
        connection.execute(
            "UPDATE finance_os.scheduled_syncs SET requested_at = %s WHERE scheduled_sync_id = %s", (requested_at, name)
        )


def test_the_last_closed_day_waits_for_a_daily_sync_after_its_end(
    database: Database, owner: Database, export: Export, acme: Connection
) -> None:
    """One that is requested while the account's day goes on sees it unfinished, though the installation's day is over;
    and nothing makes a day close before it is over."""
    today = day_of(datetime.now(UTC), acme.zone)
    midnight = start_of_day(today, acme.zone)
    assert exporting.last_closed_day(database, export) == today - timedelta(days=1)
    request_at(owner, midnight - timedelta(hours=2))  # of `today` already, by the installation's clock
    assert exporting.last_closed_day(database, export) == today - timedelta(days=2)
    request_at(owner, midnight)
    assert exporting.last_closed_day(database, export) == today - timedelta(days=1)
    request_at(owner, midnight + timedelta(days=2))
    assert exporting.last_closed_day(database, export) == today - timedelta(days=1)


def test_the_last_closed_day_is_over_for_every_account(
    database: Database, owner: Database, export: Export, acme: Connection
) -> None:
    ensure_connection(database, "acme", "stripe", "acct_honolulu", time_zone="Pacific/Honolulu")
    today = day_of(datetime.now(UTC), acme.zone)
    request_at(owner, start_of_day(today, acme.zone))
    assert exporting.last_closed_day(database, export) == today - timedelta(days=2)


def test_the_gate_is_asked_from_the_balance_date_on(database: Database, export: Export) -> None:
    asked: list[Input] = []

    def remember(_: Database, business_id: str, inputs: Any) -> Gate:
        asked.extend(inputs)
        return Gate(business_id, (YESTERDAY,))

    assert exporting.judge(database, export, date(2026, 6, 9), remember) == [YESTERDAY]
    assert {given.days for given in asked} == {Days(date(2026, 6, 1), date(2026, 6, 9))}
    assert "stripe_balance" not in {given.object_type for given in asked}
    assert {"stripe_invoice", "stripe_balance_transaction"} <= {given.object_type for given in asked}
    asked.clear()
    exporting.judge(database, export, date(2026, 5, 31), remember)
    assert asked == []  # nothing before the balance date is booked


def test_blockers_are_told_once_and_hold_back_from_their_first_day() -> None:
    now = Blocker("deploy_not_verified", "deploy", None, None, "Verify.")
    more = [Blocker(YESTERDAY.code, YESTERDAY.subject, date(2026, 6, day), None, "Materialize it.") for day in (9, 7)]
    assert exporting.held_from([]) is None
    assert exporting.held_from([*more, YESTERDAY]) == date(2026, 6, 5)
    assert exporting.held_from([*more, now]) == date.min
    first, second = exporting.told_once([*more, now, YESTERDAY])
    assert first == now
    assert (second.day, second.remedy) == (date(2026, 6, 5), "Materialize it. And 2 more up to 2026-06-09.")
    assert [each.remedy for each in exporting.told_once([now, now])] == ["Verify. And 1 more."]  # of no day


# --- what is kept, and parts of it


@pytest.fixture(scope="module")
def served() -> Iterator[Books]:
    with books() as found:
        yield found


def dated(database: Database, days: dict[str, int]) -> None:
    """Move kept intents to other days, as a plan of other evidence would have them."""
    with database.transaction() as connection:
        for stripe_id, more in days.items():
            connection.execute("SET LOCAL ROLE NONE")
            connection.execute(
                "UPDATE finance_os.intents SET dated = dated + %s WHERE stripe_id = %s", (more, stripe_id)
            )


def test_a_part_has_what_it_depends_on_and_no_more(database: Database, acme: Connection, served: Books) -> None:
    deposit, paid, billed, owner = story(served, 1, "part")
    other = customer("cus_other")
    put_plan(database, "acme", served.realm, [owner, billed, paid, deposit, other])
    dated(database, {owner.key.stripe_id: -9, billed.key.stripe_id: -5, deposit.key.stripe_id: 3})
    assert keys_of(database, served, Part(DAY, DAY)) == [owner.key, billed.key, paid.key, other.key]
    assert keys_of(database, served, Part(DAY + timedelta(days=3), None)) == [deposit.key]
    assert keys_of(database, served, Part(None, DAY - timedelta(days=6))) == [owner.key]
    assert keys_of(database, served, Part(objects=(f"invoice:{billed.key.stripe_id}",))) == [owner.key, billed.key]
    assert keys_of(database, served, Part(DAY, DAY, ("invoice:in_none",))) == []


def test_a_change_takes_along_what_needs_its_object_before(database: Database, acme: Connection, served: Books) -> None:
    _, paid, billed, owner = story(served, 1, "void")
    void = intent(billed.key, "Invoice", {}, Operation.VOID, dated=DAY + timedelta(days=9))
    put_plan(database, "acme", served.realm, [owner, billed, paid, void])
    part = Part(void.dated, void.dated)
    assert keys_of(database, served, part) == [owner.key, billed.key, paid.key, void.key]


def keys_of(database: Database, served: Books, part: Part) -> list[Any]:
    with database.transaction() as connection:
        whole = parts.with_needed(connection, "acme", served.realm, part)
        return [each.intent.key for each in due.pending(connection, "acme", served.realm, None, [], 100, whole)]


def test_only_what_is_asked_for_again_is_planned_again(database: Database, acme: Connection, served: Books) -> None:
    put_plan(database, "acme", served.realm, [customer("cus_1"), invoice("in_1", "cus_1")])
    with database.transaction() as connection:
        connection.execute("UPDATE finance_os.intents SET state = 'failed', settled_at = now()")
    assert states.retry(database, "acme", served.realm, Part(objects=("customer:cus_1",))) == 1
    assert states.retry(database, "acme", served.realm) == 1


# --- the plan


def test_nothing_is_kept_in_a_dry_run_or_behind_a_shut_gate(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with company(size=1, days=9) as served:
        for name, value in environment(served).items():
            monkeypatch.setenv(name, value)
        stage_company(database, served, acme)
        export = exporting.export_of(database, "acme", {"acme": RULES})
        assert export is not None
        tried = exporting.plan_and_keep(database, export, run="dry", gate_of=opened, dry_run=True)
        assert len(tried.put.changes) == len(tried.plan.intents) > 2
        shut = Blocker("deploy_not_verified", "deploy", None, None, "Verify.")
        with pytest.raises(NotExported, match="deploy_not_verified"):
            exporting.plan_and_keep(
                database, export, run="shut", gate_of=lambda _, business_id, __: Gate(business_id, (shut,))
            )
        assert database.fetch("SELECT FROM finance_os.intents") == []
        kept = exporting.plan_and_keep(database, export, run="kept", gate_of=opened)
        assert kept.put.changes == tried.put.changes
        assert kept.through is None
        assert sum(exporting.left_of(database, export, Part()).values()) == len(kept.plan.intents)
