"""Why nothing happens: what refuses a plan or a write is told, every reason of it, in the words of who refuses."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, LiteralString

import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Record
from finance_os.evidence.snapshot import snapshot
from finance_os.evidence.windows import Days
from finance_os.readiness import gate
from finance_os.readiness.gate import Blocker, Gate
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo import planning
from finance_os.stripe_qbo.authorization import NEEDED
from finance_os.stripe_qbo.export import GATED, NotExported
from finance_os.stripe_qbo.reasons import Reasons, of_plan, reasons
from finance_os.stripe_qbo.store import put_plan
from finance_os_tests.evidence.staged import page, stage
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import customer, invoice
from finance_os_tests.stripe_qbo.mapping.worlds import START
from finance_os_tests.stripe_qbo.staged import RULES

WRITING = {name: f"{name.lower()}-of-the-writer" for name in NEEDED}


@pytest.fixture
def database(staged: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A whole company, staged for two businesses: of `acme` the credentials are set, and its gate is open."""
    [row] = staged.fetch(
        "SELECT source_id FROM finance_os.raw_record_heads "
        "WHERE business_id = 'acme' AND object_type = 'quickbooks_company_info'"
    )
    monkeypatch.setenv("FINANCE_OS_QUICKBOOKS_REALM_ID", row["source_id"])
    monkeypatch.setenv("FINANCE_OS_QUICKBOOKS_CLIENT_ID", "the-reader")
    monkeypatch.delenv("GLOBEX_FINANCE_OS_QUICKBOOKS_REALM_ID", raising=False)
    for name, value in WRITING.items():
        monkeypatch.setenv(name, value)
    shut_by(monkeypatch)
    return staged


def shut_by(monkeypatch: pytest.MonkeyPatch, *blockers: Blocker) -> None:
    monkeypatch.setattr(gate, "gate", lambda _, business_id, __: Gate(business_id, blockers))


def realm_of(database: Database) -> str:
    export = exporting.export_of(database, "acme", {"acme": RULES})
    assert export is not None
    return export.realm


def told(database: Database, rules: dict[str, Any] | None = None) -> Reasons:
    return reasons(database, "acme", {"acme": RULES if rules is None else rules})


def codes(blockers: tuple[Blocker, ...]) -> list[str]:
    return [each.code for each in blockers]


def refusal(act: Callable[[], None]) -> tuple[Blocker, ...]:
    with pytest.raises(NotExported) as refused:
        act()
    return refused.value.blockers


def alter(database: Database, query: LiteralString) -> None:
    with database.transaction() as connection:
        connection.execute("SET LOCAL ROLE NONE")
        connection.execute(query)


def test_where_nothing_is_in_the_way_nothing_is_told(database: Database) -> None:
    approve_policy(database, "acme", QBO_EXPORT.key, scope=realm_of(database))
    assert told(database) == Reasons()
    assert of_plan(database, "acme", {"acme": RULES}) == []


# --- the plan


def _without_balance(database: Database) -> None:
    alter(database, "UPDATE finance_os.source_sync_runs SET status = 'failed' WHERE object_type = 'stripe_balance'")


def _without_payouts(database: Database) -> None:
    alter(
        database,
        "UPDATE finance_os.source_sync_runs SET window_start = window_start + interval '15 days' "
        "WHERE object_type = 'stripe_payout'",
    )


def _without_days(database: Database) -> None:
    alter(
        database,
        "UPDATE finance_os.source_sync_runs SET window_start = window_start + interval '15 days' "
        "WHERE object_type = 'quickbooks_invoice'",
    )


def _without_books(database: Database) -> None:
    alter(database, "UPDATE finance_os.raw_record_heads SET removed = true WHERE source_system = 'quickbooks'")


def _of_another_company(database: Database) -> None:
    connection = ensure_connection(database, "acme", "quickbooks")
    row = page(Record("42", {"Id": "1"}, START))
    stage(database, connection, row, object_type="quickbooks_company_info", days=Days(START, START))


def _without_stripe(database: Database) -> None:
    alter(database, "UPDATE finance_os.connections SET active = false WHERE source_system = 'stripe'")


@pytest.mark.parametrize(
    ("lacking", "rules", "expected"),
    [
        (_without_balance, {}, ["stripe_balance_unproven"]),
        (_without_payouts, {}, ["stripe_payouts_unread"]),
        (_without_days, {}, ["books_not_read_from_first_day"]),
        (_without_books, {}, ["books_not_read"]),
        (_of_another_company, {}, ["books_of_several_companies"]),
        (_without_stripe, {}, ["stripe_connection_missing"]),
        (None, {"time_zone": "Mars"}, ["qbo_rules_unreadable"]),
    ],
    ids=["balance", "payouts", "days", "books", "another company", "no Stripe", "rules"],
)
def test_what_refuses_a_plan_is_told_in_the_same_words(
    database: Database, lacking: Callable[[Database], None] | None, rules: dict[str, Any], expected: list[str]
) -> None:
    if lacking is not None:
        lacking(database)
    given = {"acme": {**RULES, **rules}}

    def plan() -> None:
        export = exporting.export_of(database, "acme", given)
        assert export is not None
        exporting.plan_and_keep(database, export, run="test")

    def may_write() -> None:
        with snapshot(database) as seen:
            raise NotExported("acme", of_plan(seen, "acme", given))

    refused = refusal(plan)
    assert codes(refused) == expected
    found = reasons(database, "acme", given)
    assert (found.plan, found.planned_through) == (refused, None)
    assert refusal(may_write) == refused


def test_all_reasons_are_told_and_not_only_the_first(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = Blocker("phase_7_scheduled_sync_not_succeeded", "scheduled_sync", None, "abcdef012345", "Wait for it.")
    shut_by(monkeypatch, stale)
    _without_days(database)
    _without_balance(database)
    assert codes(told(database).plan) == [stale.code, "books_not_read_from_first_day", "stripe_balance_unproven"]


def test_what_the_rules_name_and_quickbooks_lacks_is_told_though_no_plan_was_kept(database: Database) -> None:
    """Those are findings of the plan, kept once a plan is: told from its own rule, before there is one."""
    rules = {**RULES, "fees": "No Such Account"}
    export = exporting.export_of(database, "acme", {"acme": rules})
    assert export is not None
    found = planning.plan(database, "acme", export.realm, export.rules)
    assert ([each.code for each in found.findings], found.intents) == (["account_missing"], ())
    [reason] = told(database, rules).plan
    assert (reason.code, reason.subject, reason.remedy) == (
        "account_missing",
        "No Such Account",
        found.findings[0].detail,
    )


def test_a_bad_day_holds_back_itself_and_what_is_later(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    day = START + timedelta(days=4)
    bad = Blocker("trace_not_checked", "stripe/stripe_charge", day, None, "Materialize it.")
    shut_by(monkeypatch, bad)
    found = told(database)
    assert (found.plan, found.planned_through) == ((bad,), day - timedelta(days=1))
    shut_by(monkeypatch, Blocker(bad.code, bad.subject, START, None, bad.remedy))
    assert told(database).planned_through is None


def test_without_rules_it_says_so_and_what_holds_back_what_was_planned_by_hand(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert acme
    assert codes(reasons(database, "acme", {}).plan) == ["qbo_rules_missing"]
    assert of_plan(database, "acme", {}) == []
    _of_another_company(database)
    assert set(codes(reasons(database, "acme", {}).plan)) == {"qbo_rules_missing", "books_of_several_companies"}
    # Set to a company that is not staged at all: the one that is, is clean, and the connection must not go on.
    monkeypatch.setenv("FINANCE_OS_QUICKBOOKS_REALM_ID", "77")
    assert any("is set to company 77" in each.remedy for each in of_plan(database, "acme", {}))


# --- the writes


def test_what_refuses_a_write_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    realm = realm_of(database)
    put_plan(database, "acme", realm, [customer("cus_1"), invoice("in_1", "cus_1"), invoice("in_2", "cus_2")])
    alter(database, "UPDATE finance_os.intents SET state = 'failed', code = 'refused_6000' WHERE stripe_id = 'cus_1'")
    found = told(database)
    assert (found.plan, codes(found.writes)) == ((), [GATED, "intents_held_up"])
    assert f"--business acme --scope {realm}" in found.writes[0].remedy
    assert found.writes[1].remedy.startswith("2 intents wait for what is refused, in conflict or missing.")
    approve_policy(database, "acme", QBO_EXPORT.key, scope=realm)
    assert codes(told(database).writes) == ["intents_held_up"]
    monkeypatch.setenv("FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_ID", "the-reader")
    assert codes(told(database).writes) == ["credentials_not_separate", "intents_held_up"]
    monkeypatch.delenv("FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_SECRET")
    [lacking, _] = told(database).writes
    assert lacking.code == "credentials_missing"
    assert "FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_SECRET" in lacking.remedy


def test_nothing_is_written_of_a_business_that_is_connected_to_no_company(database: Database) -> None:
    alter(database, "UPDATE finance_os.connections SET active = false WHERE source_system = 'quickbooks'")
    for business_id in ("acme", "globex"):
        found = reasons(database, business_id, {business_id: RULES})
        assert (codes(found.plan), found.writes) == (["quickbooks_connection_missing"], ())
    by_hand = reasons(database, "acme", {})
    assert codes(by_hand.plan) == ["qbo_rules_missing"]
    assert codes(by_hand.writes) == ["quickbooks_connection_missing"]  # told once, wherever it is found first
