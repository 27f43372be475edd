"""Finance exceptions: opened by what finds them, resolved by a later look that does not, and by nothing else."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.evidence.extraction import Extraction, Finding, Item, Kind, Request, Severity, SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days
from finance_os_tests.evidence.staged import DAY, page, read_of, record, stage


def duplicate(subject: str = "2026-03:pub_1", *, severity: Severity = Severity.HIGH, detail: str = "twice") -> Finding:
    return Finding("baseline_duplicate_key", severity, subject, DAY, detail)


def subjects(database: Database, business_id: str = "acme") -> set[str]:
    return {each.subject for each in open_exceptions(database, business_id)}


def test_what_is_found_stays_open_until_it_is_gone(database: Database, acme: Connection) -> None:
    stage(database, acme, page(record("a")), duplicate("one"), duplicate("two"), duplicate("one"))
    [first, second] = sorted(open_exceptions(database), key=lambda each: each.subject)
    assert (first.subject, second.subject) == ("one", "two")
    assert (first.code, first.severity, first.partition_day) == ("baseline_duplicate_key", "high", DAY)
    stage(database, acme, page(record("a")), duplicate("one"))
    assert [each.exception_id for each in open_exceptions(database)] == [first.exception_id]
    stage(database, acme, page(record("a")))
    assert not open_exceptions(database)
    stage(database, acme, page(record("a")), duplicate("one"))
    [again] = open_exceptions(database)
    assert again.exception_id != first.exception_id
    rows = database.fetch("SELECT status, resolved_by_run IS NOT NULL AS by FROM finance_os.finance_exceptions")
    assert sorted((row["status"], row["by"]) for row in rows) == [
        ("open", False),
        ("resolved", True),
        ("resolved", True),
    ]


def test_a_finding_that_says_something_else_is_a_new_one(database: Database, acme: Connection) -> None:
    stage(database, acme, duplicate(detail="twice"))
    stage(database, acme, duplicate(detail="three times", severity=Severity.CRITICAL))
    [only] = open_exceptions(database)
    assert (only.detail, only.severity) == ("three times", "critical")


def test_findings_that_differ_in_their_details_only_are_all_told(database: Database, acme: Connection) -> None:
    both = duplicate(detail="twice in one file", severity=Severity.LOW), duplicate(detail="once in another")
    stage(database, acme, page(record("a")), *both)
    [only] = open_exceptions(database)
    assert (only.detail, only.severity) == ("once in another twice in one file", "high")
    stage(database, acme, page(record("a")), *reversed(both))
    assert [each.exception_id for each in open_exceptions(database)] == [only.exception_id]


def test_other_days_objects_and_businesses_are_left_alone(
    database: Database, acme: Connection, globex: Connection
) -> None:
    stage(database, acme, duplicate())
    stage(database, globex, duplicate())
    other_day = DAY + timedelta(days=1)
    stage(database, acme, page(record("b", day=other_day)), days=Days(other_day, other_day))
    stage(database, acme, page(record("c")), object_type="stripe_charge")
    assert subjects(database) == subjects(database, "globex") == {"2026-03:pub_1"}
    stage(database, acme)
    assert not subjects(database)
    assert subjects(database, "globex")


def test_a_run_that_speaks_of_the_whole_object_resolves_every_day(database: Database, acme: Connection) -> None:
    stage(database, acme, duplicate())
    other_day = DAY + timedelta(days=5)
    read = read_of(acme, [], days=Days(other_day, other_day))

    def whole(request: Request) -> Any:
        assert read.extract is not None
        opened = read.extract(request)

        class Whole:
            def __enter__(self) -> Extraction:
                return Extraction(list(opened.__enter__()), findings_cover="object")

            def __exit__(self, *error: Any) -> None:
                opened.__exit__(None, None, None)

        return Whole()

    perform(
        database,
        Read(acme, read.object_type, read.kind, read.days, read.window, {}, whole),
        Origin(Trigger.MANUAL),
        chunk_rows=10,
    )
    assert not open_exceptions(database)


def test_a_targeted_read_resolves_nothing(database: Database, acme: Connection) -> None:
    stage(database, acme, duplicate())
    stage(database, acme, page(record("a")), kind=Kind.TARGETED)
    assert subjects(database)


def test_a_run_that_fails_says_nothing(database: Database, acme: Connection) -> None:
    stage(database, acme, duplicate())

    def broken(_: Request) -> Any:
        yield duplicate("another")
        raise SourceError("unreachable", "gone")

    with pytest.raises(SourceError):
        perform(database, read_of(acme, broken), Origin(Trigger.MANUAL), chunk_rows=10)
    assert subjects(database) == {"2026-03:pub_1"}


def test_a_finding_of_a_day_that_was_not_read_is_a_defect(database: Database, acme: Connection) -> None:
    found: Item = Finding("x", Severity.LOW, "s", DAY + timedelta(days=1), "d")
    with pytest.raises(SourceError, match="outside_window"):
        stage(database, acme, found)


def test_the_gravest_come_first_and_can_be_asked_for(database: Database, acme: Connection) -> None:
    stage(database, acme, *(duplicate(each.value, severity=each) for each in Severity))
    assert [each.severity for each in open_exceptions(database)] == ["critical", "high", "medium", "low"]
    assert [each.severity for each in open_exceptions(database, at_least=Severity.HIGH)] == ["critical", "high"]


def test_the_audit_chain_tells_of_it(database: Database, acme: Connection) -> None:
    stage(database, acme, duplicate())
    stage(database, acme)
    stage(database, acme)
    rows = database.fetch(
        "SELECT details FROM finance_os.finance_audit_events "
        "WHERE event_type = 'finance_exceptions.settled' ORDER BY sequence"
    )
    assert [(row["details"]["opened"], row["details"]["resolved"]) for row in rows] == [(1, 0), (0, 1)]


def test_nobody_deletes_one(database: Database, acme: Connection) -> None:
    stage(database, acme, duplicate())
    with pytest.raises(psycopg.errors.InsufficientPrivilege), database.transaction() as connection:
        connection.execute("DELETE FROM finance_os.finance_exceptions")
