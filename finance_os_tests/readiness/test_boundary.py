"""The write boundary is read off facts, and each of them can break it."""

from datetime import UTC, datetime, timedelta

import pytest

from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.readiness.boundary import Boundary, boundary_facts
from finance_os.sources.guard import Get, Post, Query, Take
from finance_os.sources.registry import SOURCES
from finance_os_tests.readiness.seed_state import plant_run


@pytest.fixture(autouse=True)
def businesses(database: Database) -> None:
    for business_id in ("acme", "globex"):
        ensure_business(database, business_id, business_id, "UTC")


def facts(database: Database, business_id: str = "acme") -> Boundary:
    return boundary_facts(database, business_id, SOURCES)


def sent(database: Database, system: str, *targets: str, business_id: str = "acme", days_ago: int = 0) -> None:
    """A sync run that sent each of `targets` once."""
    connection = ensure_connection(database, business_id, system)
    object_type = next(source for source in SOURCES if source.system == system).objects[0].object_type
    when = datetime.now(UTC) - timedelta(days=days_ago)
    plant_run(database, connection, object_type, when, f"{system}-{when}", requested=dict.fromkeys(targets, 1))


def test_it_holds_where_nothing_was_sent(database: Database) -> None:
    assert facts(database) == Boundary(())
    assert facts(database).evidence == []


def test_it_holds_for_everything_that_sources_declare(database: Database) -> None:
    for source in SOURCES:
        kinds = {type(read) for read in source.reads}
        targets = [f"{word} host" for kind, word in ((Get, "GET"), (Post, "POST"), (Take, "READ")) if kind in kinds]
        if Query in kinds:
            targets += ["SELECT host", "READ-ONLY-SESSION host"]
        sent(database, source.system, *targets)
    found = facts(database)
    assert found.held, found.violations
    assert found.evidence == [], "what is read, and where, moves all day"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_request_that_is_no_read_breaks_it(database: Database, method: str) -> None:
    before = facts(database).evidence
    sent(database, "stripe", "GET api.stripe.com", f"{method} api.stripe.com")
    found = facts(database)
    assert found.violations == (f"stripe sent {method} to api.stripe.com, which is not one of its reads",)
    assert found.evidence != before
    assert facts(database, "globex").held


def test_queries_need_a_session_that_the_server_called_read_only(database: Database) -> None:
    sent(database, "gravity", "SELECT db.internal")
    assert facts(database).violations == (
        "gravity sent queries to db.internal in a session that was not confirmed to be read-only",
    )
    sent(database, "gravity", "SELECT db.internal", "READ-ONLY-SESSION db.internal")
    assert not facts(database).held, "one session that was confirmed does not speak for another"


def test_a_session_that_was_confirmed_holds(database: Database) -> None:
    sent(database, "gravity", "SELECT db.internal", "READ-ONLY-SESSION db.internal")
    assert facts(database).held


def test_what_lies_far_back_is_not_looked_at(database: Database) -> None:
    sent(database, "stripe", "DELETE api.stripe.com", days_ago=40)
    assert facts(database).held


@pytest.mark.parametrize(
    ("statement", "violation"),
    [
        (
            "CREATE TABLE public.payouts (); GRANT INSERT ON public.payouts TO finance_os_application",
            "role finance_os_application may write payouts",
        ),
        (
            "GRANT DELETE ON finance_os.raw_source_records TO finance_os_application",
            "role finance_os_application may write finance_os.raw_source_records",
        ),
        (
            "GRANT INSERT ON finance_os.businesses TO finance_os_reader",
            "role finance_os_reader may write finance_os.businesses",
        ),
        (
            "ALTER TABLE finance_os.check_results DISABLE TRIGGER append_only",
            "finance_os.check_results is not guarded against rewriting: its trigger is off or gone",
        ),
        (
            "DROP TRIGGER append_only ON finance_os.finance_audit_events",
            "finance_os.finance_audit_events is not guarded against rewriting: its trigger is off or gone",
        ),
        (
            "GRANT UPDATE (payload) ON finance_os.raw_source_records TO finance_os_application",
            "role finance_os_application may rewrite finance_os.raw_source_records",
        ),
    ],
)
def test_a_grant_too_many_breaks_it(database: Database, owner: Database, statement: str, violation: str) -> None:
    with owner.transaction() as connection:
        for each in statement.split("; "):
            connection.execute(each)  # pyright: ignore[reportArgumentType, reportCallIssue]
    found = facts(database)
    assert found.violations == (violation,)
    assert violation in found.evidence
