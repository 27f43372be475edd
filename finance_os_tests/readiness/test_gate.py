"""The gate's first layer: which days of an input are proved, from recorded verdicts and nothing else."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Kind
from finance_os.evidence.windows import Days
from finance_os.readiness import verdicts
from finance_os.readiness.gate import DAY_CHECKS, Blocker, Input, explain, gate, input_blockers
from finance_os_tests.evidence.staged import OBJECT, page, record, stage
from finance_os_tests.readiness.planted import DAY_1, DAY_2, DAY_3, DAYS, forge, stage_days, verdicts_of

INPUT = Input("stripe", OBJECT, DAYS)


@pytest.fixture
def checked(database: Database, acme: Connection) -> Database:
    """Three days that were read and checked."""
    stage_days(database, acme)
    verdicts.record(database, verdicts_of(database))
    return database


def found(database: Database, given: Input = INPUT, business_id: str = "acme") -> list[tuple[str, date | None]]:
    return [(each.code, each.day) for each in input_blockers(database, business_id, given)]


def test_days_that_were_read_and_checked_are_open(checked: Database) -> None:
    assert found(checked) == []
    assert found(checked, replace(INPUT, days=None)) == []


def test_a_bad_day_holds_back_itself_alone(checked: Database, owner: Database) -> None:
    forge(
        owner,
        "UPDATE finance_os.source_sync_partitions SET remote_count = rows_extracted + 1 WHERE partition_day = %(day)s",
        {"day": DAY_2},
    )
    verdicts.record(checked, verdicts_of(checked))
    blockers = input_blockers(checked, "acme", INPUT)
    assert {each.day for each in blockers} == {DAY_2}
    assert all(each.evidence_hash and each.remedy and each.subject == f"stripe/{OBJECT}" for each in blockers)
    assert found(checked, Input("stripe", OBJECT, Days(DAY_1, DAY_1))) == []
    assert found(checked, Input("stripe", OBJECT, Days(DAY_3, DAY_3))) == []


def test_a_day_that_was_never_read_is_not_checked(checked: Database) -> None:
    later = DAY_3 + timedelta(days=1)
    assert found(checked, Input("stripe", OBJECT, Days(DAY_3, later))) == [
        (f"{check}_not_checked", later) for check in sorted(DAY_CHECKS)
    ]


def test_a_day_that_was_read_again_must_be_checked_again(checked: Database, acme: Connection) -> None:
    stage_days(checked, acme, days=Days(DAY_2, DAY_2), minute=9)
    assert found(checked) == [(f"{check}_outdated", DAY_2) for check in sorted(DAY_CHECKS)]
    verdicts.record(checked, verdicts_of(checked))
    assert found(checked) == []


def test_a_read_that_was_committed_while_a_check_looked_is_not_covered(checked: Database, acme: Connection) -> None:
    looked = verdicts_of(checked)
    stage_days(checked, acme, days=Days(DAY_2, DAY_2), minute=9)
    verdicts.record(checked, looked)
    assert found(checked) == [(f"{check}_outdated", DAY_2) for check in sorted(DAY_CHECKS)]


def test_an_account_that_was_added_since_must_be_checked(checked: Database) -> None:
    second = ensure_connection(checked, "acme", "stripe", external_account="second")
    assert {code for code, _ in found(checked)} == {f"{check}_outdated" for check in DAY_CHECKS}
    verdicts.record(checked, verdicts_of(checked))
    assert "completeness_no_sync_run" in {code for code, _ in found(checked)}
    for day in DAYS:
        stage_days(checked, second, days=Days(day, day), prefix="second")
    verdicts.record(checked, verdicts_of(checked))
    assert found(checked) == []


def test_a_webhook_does_not_void_what_was_checked(checked: Database, acme: Connection) -> None:
    stage(checked, acme, page(record("in_02_0", "changed"), minute=9), kind=Kind.TARGETED, days=Days(DAY_1, DAY_1))
    assert found(checked) == []


def test_what_was_never_read_at_all_says_so(database: Database, acme: Connection) -> None:
    assert found(database, Input("stripe", OBJECT)) == [("input_never_read", None)]
    assert len(found(database)) == len(DAY_CHECKS) * len(DAYS)


def test_another_business_has_verdicts_of_its_own(checked: Database, globex: Connection) -> None:
    assert found(checked, INPUT, globex.business_id) != []
    assert found(checked) == []


def test_both_layers_are_read(checked: Database) -> None:
    both = gate(checked, "acme", [INPUT, Input("stripe", "stripe_charge", DAYS)])
    assert not both.open
    assert {each.subject.partition("/")[0] for each in both.blockers} >= {"production_hardening", "stripe"}


def test_an_explanation_names_code_subject_day_evidence_and_remedy() -> None:
    many = [
        Blocker("code", "stripe/x", DAY_1, "0123456789ab", "Do this."),
        Blocker("other", "line", None, None, "That."),
    ]
    assert explain(many).splitlines() == [
        "- code (stripe/x on 2026-03-02; evidence 0123456789ab): Do this.",
        "- other (line; evidence n/a): That.",
    ]
    assert explain(many * 3, most=2).splitlines()[-1] == "- and 4 more"
